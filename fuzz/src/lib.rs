//! What the fuzz targets share: reading their input, and a bound on the memory that an input may take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What any input may take, in bytes: tables, error messages, formatting.
const FREE_BYTES: usize = 256 * 1024;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST_IN_USE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

/// The system's allocator, with a look at how much is in use.
struct Counting;

// SAFETY: everything is left to the system's allocator; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST_IN_USE.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Does something with an input of `length` bytes and panics if that takes more than `times` as many, besides what
/// everything may take.
pub fn within<T>(times: usize, length: usize, work: impl FnOnce() -> T) -> T {
    let before = IN_USE.load(Ordering::Relaxed);
    MOST_IN_USE.store(before, Ordering::Relaxed);
    let result = work();
    let taken = MOST_IN_USE.load(Ordering::Relaxed).saturating_sub(before);
    let bound = FREE_BYTES + times * length;
    assert!(taken <= bound, "{taken} bytes taken for an input of {length}, more than {bound}");
    result
}

/// The input up to the first line's end, and the rest.
pub fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

/// Panics unless a message from outside is fit to be shown: short, in one line, without control characters.
pub fn assert_presentable(message: &str) {
    assert!(message.chars().count() <= 4_000, "{} characters: {message}", message.chars().count());
    assert!(!message.chars().any(char::is_control), "control characters in {message:?}");
}
