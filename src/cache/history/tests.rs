use jiff::Timestamp;
use samovar_registry::{Digest, Tag};

use super::*;
use crate::store::{Client, ContentHash, Entry, Key, Memory, seal};

fn event(number: u64) -> Event {
    Event {
        id: ChangeId { generation: 1_795_000_000_000 + number, number },
        kind: ChangeKind::TagMoved,
        tag: Some(format!("1.{number}").parse().unwrap()),
        old: Some(Digest::sha256(&number.to_le_bytes())),
        new: Some(Digest::sha256(&(number + 1_000_000).to_le_bytes())),
        at: Timestamp::from_millisecond(1_795_000_000_000 + i64::try_from(number).unwrap()).unwrap(),
        cause: Cause::Poll,
    }
}

/// The page of the changes with these numbers.
fn page(numbers: std::ops::Range<u64>) -> (HistoryPage, Entry) {
    let events: Vec<Event> = numbers.map(event).collect();
    let (hash, entry) = seal_page(&events);
    let last = events.last().unwrap().id;
    (HistoryPage { hash, count: events.len(), last: last.number, generation: last.generation }, entry)
}

#[test]
fn ids_are_read_back_grow_and_look_like_no_date() {
    let id = |text: &str| text.parse::<ChangeId>();
    let first = ChangeId { generation: 17, number: 9 };
    assert_eq!(id(&first.to_string()), Ok(first));
    assert!(
        first < ChangeId { generation: 17, number: 10 } && first < ChangeId { generation: 18, number: 0 }
    );
    for wrong in ["", "17", "17.", ".9", "17.09", "+17.9", "17.9.1", "2026-11", "17-9"] {
        assert_eq!(id(wrong), Err(NoChangeId), "{wrong}");
    }
}

#[test]
fn a_history_is_asked_for_from_a_time_or_from_a_change_on() {
    let (time, change) = (event(5).at.to_string(), event(5).id.to_string());
    let told = |since: &str| -> Vec<u64> {
        let since: Since = since.parse().unwrap();
        (3..8).map(event).filter(|event| since.includes(event)).map(|event| event.id.number).collect()
    };
    assert_eq!(told(&time), [5, 6, 7], "what was seen then or later");
    assert_eq!(told(&change), [6, 7], "what came after it");
    for wrong in ["", "yesterday", "2026-11", "2026-11-20", "2026-11-20T06:51:00", "5"] {
        assert_eq!(wrong.parse::<Since>(), Err(NoSince), "{wrong}");
    }
}

#[test]
fn a_change_is_told_in_the_same_words_everywhere() {
    let text =
        r#"{"id":"17.9","type":"image.excluded","tag":"1.0","at":"2026-11-20T06:51:00Z","cause":"webhook"}"#;
    let told: Event = serde_json::from_str(text).unwrap();
    assert_eq!((told.kind, told.cause, &told.new), (ChangeKind::ImageExcluded, Cause::Webhook, &None));
    assert_eq!(serde_json::to_string(&told).unwrap(), text);
    for kind in ChangeKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    let change = Change { repository: "registry.example/team/app".parse().unwrap(), event: told };
    let whole = serde_json::to_string(&change).unwrap();
    assert!(whole.starts_with(r#"{"repository":"registry.example/team/app","id":"17.9""#), "{whole}");
}

#[test]
fn a_page_is_what_its_name_promises_and_changes_of_tomorrow_are_left_out() {
    let (page, entry) = page(0..3);
    assert_eq!(open_page(&entry, page.hash), Some((0..3).map(event).collect()));
    assert_eq!(open_page(&entry, ContentHash::of(b"another")), None);
    let mut events = serde_json::to_value([event(0), event(1)]).unwrap();
    events[0]["type"] = "tag.signed".into();
    assert_eq!(decode_page(events.to_string().as_bytes()), Some(vec![event(1)]));
    assert_eq!(decode_page(b"{}"), None);
}

#[test]
fn the_largest_page_fits_an_entry() {
    let longest: Tag = "x".repeat(128).parse().unwrap();
    let digest = |number: usize| Some(Digest::sha512(&number.to_le_bytes()));
    let events: Vec<Event> = (0..MOST_CHANGES_IN_PAGE)
        .map(|number| Event {
            id: ChangeId { generation: u64::MAX, number: u64::MAX },
            tag: Some(longest.clone()),
            old: digest(number),
            new: digest(number + 1),
            at: Timestamp::MAX,
            cause: Cause::Request,
            kind: ChangeKind::RepositoryRecovered,
        })
        .collect();
    let (hash, entry) = seal_page(&events);
    assert_eq!(open_page(&entry, hash), Some(events), "it fits, or sealing would have panicked");
}

/// What a change costs in the store; `docs/architecture.md` has the figure.
#[test]
fn a_change_takes_less_than_a_hundred_bytes() {
    let (_, entry) = page(0..MOST_CHANGES_IN_PAGE as u64);
    let each = entry.value.len() / MOST_CHANGES_IN_PAGE;
    assert!((30..100).contains(&each), "{each} bytes");
}

#[tokio::test]
async fn what_is_missing_shortens_a_history() {
    let name: samovar_registry::Name = "registry.example/team/app".parse().unwrap();
    let store = Memory::default();
    let mut history = History { first: 2, pages: Vec::new() };
    for numbers in [0..4, 4..8, 8..12, 12..14] {
        let (page, entry) = page(numbers.clone());
        let entry = if numbers.start == 8 { Entry::immutable(seal(b"[]")) } else { entry };
        if numbers.start != 4 {
            store.set(Key::History(name.clone(), page.hash), entry).await.unwrap();
        }
        history.pages.push(page);
    }
    let numbers =
        |read: ReadHistory| -> Vec<u64> { read.events.iter().map(|event| event.id.number).collect() };
    let whole = read_after(&store, &name, &history, 0).await.unwrap();
    assert_eq!(whole.missing_pages, 2);
    assert_eq!(numbers(whole), [2, 3, 12, 13], "what is forgotten does not count");
    let latest = read_after(&store, &name, &history, event(12).id.generation).await.unwrap();
    assert_eq!((latest.missing_pages, numbers(latest)), (0, vec![13]), "older pages are not even read");
    assert_eq!(history.next(), 14);
}
