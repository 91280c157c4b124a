//! Repositories and documents as the warmer would store them.

use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::{Digest, Name, Tag};

use crate::cache::demand::Demand;
use crate::cache::history::{Cause, ChangeId, ChangeKind, Event, History, HistoryPage, seal_page};
use crate::cache::page;
use crate::cache::records::{TagRecord, TagSide};
use crate::cache::stored::{self, Head, PageRef, Side, TagCounts};
use crate::store::{ContentHash, Entry, Key, seal};

pub(super) fn name(path: &str) -> Name {
    format!("registry.example/{path}").parse().unwrap()
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_795_159_018).unwrap()
}

/// A repository with these tags, all pending, one a page.
pub(super) fn repository(path: &str, generation: u64, tags: &[&str]) -> Vec<(Key, Entry)> {
    let name = name(path);
    let mut entries = Vec::new();
    let mut pages = Vec::new();
    for (position, text) in tags.iter().enumerate() {
        let (tag, record) = (text.parse::<Tag>().unwrap(), TagRecord::pending(now(), None));
        let page = page::seal(std::iter::once((&tag, &record)));
        entries.push((Key::Page(name.clone(), page.hash), page.entry));
        let side = TagSide { last_fetched: Some(learnt_at(generation)), ..TagSide::default() };
        let value = stored::encode_side_page(std::iter::once((&tag, &side)));
        let side_page = Key::SidePage(name.clone(), u32::try_from(position).unwrap());
        entries.push((side_page, Entry { value, refresh_at: Some(now()) }));
        pages.push(PageRef { first: tag, hash: page.hash });
    }
    let (told, page) = history(generation);
    entries.push((Key::History(name.clone(), told.hash), page));
    let counts = TagCounts { pending: tags.len(), ..TagCounts::default() };
    let mut head = Head {
        generation,
        complete: false,
        held_back: false,
        failed: false,
        invalid_tags: 0,
        counts,
        platforms: "linux/amd64".into(),
        pages,
        directory: Vec::new(),
        history: History { first: 0, pages: vec![told] },
    };
    let sealed = head.seal();
    let directory = sealed.directory.into_iter();
    entries.extend(directory.map(|(hash, part)| (Key::Directory(name.clone(), hash), part)));
    entries.push((Key::Head(name.clone()), sealed.entry));
    entries.push((Key::Side(name), side(generation)));
    entries
}

/// The page of a history that tells of one change.
fn history(generation: u64) -> (HistoryPage, Entry) {
    let (id, kind, at) =
        (ChangeId { generation, number: 0 }, ChangeKind::RepositoryFailed, learnt_at(generation));
    let (hash, entry) =
        seal_page(&[Event { id, kind, tag: None, old: None, new: None, at, cause: Cause::Poll }]);
    (HistoryPage { hash, count: 1, last: 0, generation }, entry)
}

/// A side record that tells generations apart.
pub(super) fn side(generation: u64) -> Entry {
    side_entry(&Side { last_update: Some(learnt_at(generation)), ..Side::default() })
}

/// The same, where other tags are wanted.
pub(super) fn side_of_other_tags(generation: u64) -> Entry {
    let filter = Some(ContentHash::of(b"other tags"));
    side_entry(&Side { last_update: Some(learnt_at(generation)), filter, ..Side::default() })
}

/// The side record of a repository whose list could never be read.
pub(super) fn side_of_nothing() -> Entry {
    side_entry(&Side { attempts: 3, ..Side::default() })
}

fn side_entry(side: &Side) -> Entry {
    Entry { value: stored::encode(side), refresh_at: Some(now()) }
}

/// When what a generation says was learnt.
pub(super) fn learnt_at(generation: u64) -> Timestamp {
    now() + Duration::from_secs(generation)
}

/// An entry that this version should understand, and cannot.
pub(super) fn garbage() -> Entry {
    Entry::immutable("\u{1}\u{1}garbage")
}

/// A repository of so many tags that it has a directory.
pub(super) fn large_repository(path: &str, generation: u64) -> Vec<(Key, Entry)> {
    let tags: Vec<String> = (0..1_001).map(|number| format!("{number:04}")).collect();
    repository(path, generation, &tags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The entry of a document of one part.
pub(super) fn document(text: &str) -> (Key, Entry) {
    let media_type = "text/plain";
    let mut plain = 0_u32.to_le_bytes().to_vec();
    plain.push(u8::try_from(media_type.len()).unwrap());
    plain.extend_from_slice(media_type.as_bytes());
    plain.extend_from_slice(text.as_bytes());
    (Key::Document(Digest::sha256(text.as_bytes())), Entry::immutable(seal(&plain)))
}

/// What says that somebody has read the repository.
pub(super) fn demand(path: &str) -> (Key, Entry) {
    let demand = Demand { read_at: Some(now()), ..Demand::default() };
    (Key::Demand(name(path)), Entry::immutable(stored::encode(&demand)))
}

/// As a samovar of a later version would write it.
pub(super) fn from_the_future(entry: &Entry) -> Entry {
    let mut value = entry.value.to_vec();
    value[0] = 200;
    Entry { value: value.into(), refresh_at: entry.refresh_at }
}
