use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::cache::history::open_page;
use crate::warmer::change::{Cause, ChangeKind};

const DAY: i64 = 24 * 3600;

/// Seen at this second, and told then.
fn event(number: u64, second: i64) -> Event {
    let at = Timestamp::from_second(second).unwrap();
    let generation = u64::try_from(second).unwrap() * 1000;
    let seen = Seen { kind: ChangeKind::TagMoved, tag: None, old: None, new: None, at, cause: Cause::Poll };
    seen.with_id(ChangeId { generation, number })
}

/// A history and the pages that were written for it.
#[derive(Default)]
struct Book {
    history: History,
    tail: Tail,
    pages: HashMap<ContentHash, Entry>,
    written: usize,
}

impl Book {
    fn append(&mut self, count: u64, second: i64, bounds: HistoryBounds) {
        let next = self.history.next();
        let events = (next..next + count).map(|number| event(number, second)).collect();
        let now = Timestamp::from_second(second).unwrap();
        let appended = append(&self.history, &self.tail, events, bounds, now);
        self.written += appended.pages.len();
        self.pages.extend(appended.pages);
        (self.history, self.tail) = (appended.history, appended.tail);
    }

    /// The numbers of the changes that readers are told.
    fn told(&self) -> Vec<u64> {
        let events = self.history.pages.iter().flat_map(|page| {
            let events = open_page(&self.pages[&page.hash], page.hash).unwrap();
            let last = events.last().unwrap().id;
            assert_eq!(
                (events.len(), last.number, last.generation),
                (page.count, page.last, page.generation)
            );
            events
        });
        events.map(|event| event.id.number).filter(|number| *number >= self.history.first).collect()
    }
}

proptest! {
    /// Whatever is appended in whatever portions, the latest are told, each once and in order.
    #[test]
    fn the_latest_changes_are_told_in_order(
        portions in proptest::collection::vec(1..400_u64, 1..12),
        entries in 1..600_usize,
        forgets in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let bounds = HistoryBounds { entries, ..HistoryBounds::default() };
        let mut book = Book::default();
        let mut total = 0;
        for (turn, count) in portions.into_iter().enumerate() {
            if forgets[turn] && let Some(page) = book.history.unfinished() {
                // Another replica reads the last page first.
                book.tail = Tail::new(page, book.pages.get(&page.hash));
            }
            book.append(count, i64::try_from(turn).unwrap() + 1, bounds);
            total += count;
            let kept = total.min(entries as u64);
            prop_assert_eq!(book.told(), (total - kept..total).collect::<Vec<_>>());
            prop_assert!(book.history.pages.len() <= entries.div_ceil(MOST_CHANGES_IN_PAGE) + 1);
        }
    }
}

#[test]
fn a_change_rewrites_one_page_and_a_thousand_are_not_written_one_by_one() {
    let mut book = Book::default();
    book.append(1000, 1, HistoryBounds::default());
    assert_eq!(book.written, 8);
    for second in 2..30 {
        book.append(1, second, HistoryBounds::default());
    }
    assert_eq!(book.written, 8 + 28);
    assert_eq!(book.told(), (28..1028).collect::<Vec<_>>());
    // What would be forgotten at once is not even written.
    let before = book.written;
    book.append(100_000, 30, HistoryBounds::default());
    assert!(book.written - before <= 9);
    assert_eq!(book.told(), (100_028..101_028).collect::<Vec<_>>());
}

#[test]
fn what_is_too_old_is_forgotten_when_something_is_added() {
    let bounds = HistoryBounds::default();
    let mut book = Book::default();
    for day in 0..100 {
        book.append(1, 1 + day * DAY, bounds);
    }
    assert_eq!(book.told(), (9..100).collect::<Vec<_>>(), "90 days and the one that counts from");
    book.append(200, 100 * DAY, bounds);
    book.append(1, 200 * DAY, bounds);
    assert_eq!(book.told(), [300], "a page goes when its last is too old");
}

#[test]
fn a_last_page_that_cannot_be_appended_to_is_followed_by_another() {
    let bounds = HistoryBounds::default();
    for (is_there, told) in [(true, vec![0, 1, 2, 3]), (false, vec![3])] {
        let mut book = Book::default();
        book.append(3, 1, bounds);
        let page = book.history.unfinished().unwrap().clone();
        // Of another length than the head says: something in it is of a later version.
        let shorter = HistoryPage { count: 2, ..page.clone() };
        book.tail = Tail::new(&shorter, book.pages.get(&page.hash).filter(|_| is_there));
        book.append(1, 2, bounds);
        assert_eq!(book.told(), told, "there: {is_there}");
    }
}
