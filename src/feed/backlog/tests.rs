use jiff::Timestamp;

use super::*;
use crate::cache::history::{Event, HistoryPage, seal_page};
use crate::store::{Entry, Memory};
use crate::warmer::{Cause, ChangeKind};

fn event(generation: u64, number: u64) -> Event {
    Event {
        id: ChangeId { generation, number },
        kind: ChangeKind::TagAdded,
        tag: Some("v1".parse().unwrap()),
        old: None,
        new: None,
        at: Timestamp::UNIX_EPOCH,
        cause: Cause::Poll,
    }
}

fn happening(name: &str, generation: u64, number: u64) -> Arc<Happening> {
    Happening::of(format!("ghcr.io/{name}").parse().unwrap(), event(generation, number))
}

fn backlog(changes: &[(&str, u64, u64)]) -> Backlog {
    let mut backlog = Backlog { read_since: 100, ..Backlog::default() };
    for (name, generation, number) in changes {
        backlog.add(happening(name, *generation, *number), false);
    }
    backlog
}

fn recalled(backlog: &Backlog, from: &Position) -> Vec<(String, u64)> {
    let happenings = backlog.recall(from).happenings;
    happenings
        .iter()
        .map(|happening| (happening.name.path().to_owned(), happening.event.id.generation))
        .collect()
}

#[test]
fn what_was_missed_comes_in_order_and_what_was_told_does_not() {
    let backlog =
        backlog(&[("b/b", 205, 1), ("a/a", 203, 7), ("a/a", 203, 8), ("b/b", 201, 0), ("a/a", 210, 9)]);
    let all = [("b/b", 201), ("a/a", 203), ("a/a", 203), ("b/b", 205), ("a/a", 210)];
    let named =
        |all: &[(&str, u64)]| all.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect::<Vec<_>>();
    assert_eq!(recalled(&backlog, &Position::at(150)), named(&all));
    assert_eq!(recalled(&backlog, &Position::at(203)), named(&all[3..]));
    let mut from = Position::at(150);
    from.tell(Mark::of(&"ghcr.io/a/a".parse().unwrap()), ChangeId { generation: 203, number: 7 });
    let left = [all[0], all[2], all[3], all[4]];
    assert_eq!(recalled(&backlog, &from), named(&left), "half of a publication was told");
}

#[test]
fn what_others_may_yet_be_told_is_told_nobody_twice() {
    let mut backlog = backlog(&[("a/a", 203, 7), ("b/b", 205, 1)]);
    let mark = |name: &str| Mark::of(&format!("ghcr.io/{name}").parse().unwrap());
    let mut from = Position::at(150);
    from.tell(mark("c/c"), ChangeId { generation: 204, number: 0 });
    let untold = |backlog: &Backlog| {
        let mut untold: Vec<_> =
            backlog.recall(&from).untold.into_iter().map(|(mark, id)| (mark, id.generation)).collect();
        untold.sort_unstable();
        untold
    };
    let mut expected = [(mark("a/a"), 203), (mark("b/b"), 205), (mark("c/c"), 204)];
    expected.sort_unstable();
    assert_eq!(untold(&backlog), expected);
    for (name, generation, number) in [("a/a", 203, 7), ("b/b", 205, 1), ("c/c", 204, 0)] {
        backlog.add(happening(name, generation, number), true);
    }
    assert_eq!(untold(&backlog), [], "all were told");
    assert_eq!(backlog.happenings().count(), 3);
}

#[test]
fn it_reaches_back_to_where_it_was_read_and_no_further_than_it_holds() {
    let mut backlog = backlog(&[("a/a", 203, 7)]);
    assert_eq!([99, 100, 150].map(|since| backlog.reaches(since)), [false, true, true]);
    for number in 0..MOST_REMEMBERED as u64 {
        backlog.add(happening("b/b", 300 + number, number), true);
    }
    assert_eq!(backlog.happenings().count(), MOST_REMEMBERED);
    assert_eq!([150, 202, 203].map(|since| backlog.reaches(since)), [false, false, true]);
    assert!(backlog.was_read_since(150), "reading again would not help");
}

#[test]
fn who_missed_what_is_lost_is_told_of_which_repository() {
    let mut backlog = backlog(&[("a/a", 203, 7)]);
    let name: Name = "ghcr.io/a/a".parse().unwrap();
    backlog.add_gap(name.clone(), 203);
    assert_eq!(backlog.recall(&Position::at(201)).gaps, std::slice::from_ref(&name));
    assert_eq!(backlog.recall(&Position::at(202)).gaps, [] as [Name; 0]);
    let mut ahead = Position::at(150);
    ahead.tell(Mark::of(&name), ChangeId { generation: 203, number: 0 });
    assert_eq!(backlog.recall(&ahead).gaps, [] as [Name; 0]);
}

/// A head whose history has these pages, of changes with one generation each: `1000 + number`.
async fn head(store: &Memory, name: &Name, pages: &[(u64, u64)], first: u64) -> Head {
    let mut history = History { first, pages: Vec::new() };
    for page in pages {
        let events: Vec<Event> = (page.0..page.1).map(|number| event(1000 + number, number)).collect();
        let (hash, entry) = seal_page(&events);
        store.set(Key::History(name.clone(), hash), entry).await.unwrap();
        let last = page.1 - 1;
        history.pages.push(HistoryPage { hash, count: events.len(), last, generation: 1000 + last });
    }
    let generation = history.pages.last().map_or(900, |page| page.generation);
    let (counts, platforms) = (stored::TagCounts::default(), "linux/amd64".to_owned());
    let head = serde_json::json!({
        "generation": generation, "complete": true, "counts": counts, "platforms": platforms, "history": history,
    });
    serde_json::from_value(head).unwrap()
}

#[tokio::test]
async fn a_history_that_was_cut_leaves_a_gap_only_where_something_may_be_missing() {
    let store = Memory::default();
    let name: Name = "ghcr.io/a/a".parse().unwrap();
    for (pages, first, since, numbers, gap) in [
        (vec![(0, 4)], 0, 900, 0..4, None),
        (vec![(0, 4)], 0, 1001, 2..4, None),
        (vec![(0, 4)], 2, 1001, 2..4, Some(1002)),
        (vec![(0, 4)], 2, 1002, 3..4, None),
        (vec![(4, 8), (8, 10)], 0, 1004, 5..10, None),
        (vec![(4, 8), (8, 10)], 0, 1003, 4..10, Some(1004)),
        (vec![(4, 8), (8, 10)], 0, 1008, 9..10, None),
    ] {
        let head = head(&store, &name, &pages, first).await;
        let read = read(&store, &name, Some(head), None, since).await.unwrap();
        let found: Vec<u64> = read.happenings.iter().map(|happening| happening.event.id.number).collect();
        assert_eq!((found, read.gap), (numbers.collect(), gap), "{pages:?} {first} {since}");
    }
}

#[tokio::test]
async fn a_page_that_is_lost_leaves_a_gap() {
    let store = Memory::default();
    let name: Name = "ghcr.io/a/a".parse().unwrap();
    let head = head(&store, &name, &[(0, 4), (4, 6)], 0).await;
    let lost = Key::History(name.clone(), head.history.pages[0].hash);
    store.set(lost, Entry::immutable(crate::store::seal(b"[]"))).await.unwrap();
    let read = read(&store, &name, Some(head), None, 900).await.unwrap();
    assert_eq!((read.happenings.len(), read.gap), (2, Some(1006)));
}
