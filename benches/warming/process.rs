//! What the system says of this process.

use std::time::Duration;

/// Ticks of a second in which the system counts CPU time (`getconf CLK_TCK`, which Linux has fixed for programs).
const TICKS: u64 = 100;

/// CPU time used so far, by all threads.
pub(crate) fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    // The program's name comes second, in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u64 =
        [11, 12].map(|field: usize| fields[field].parse::<u64>().expect("a number")).iter().sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Bytes in memory now.
pub(crate) fn resident() -> u64 {
    status("VmRSS")
}

/// Bytes in memory at most since [`forget_peak`].
pub(crate) fn peak_resident() -> u64 {
    status("VmHWM")
}

/// Measures [`peak_resident`] from now on.
pub(crate) fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux takes it");
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    let kibibytes: u64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
    kibibytes * 1024
}
