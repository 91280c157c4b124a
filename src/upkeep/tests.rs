//! Counting, verifying, exporting and importing, on a store that can be looked into.

mod completing;
mod importing;
mod samples;
mod shelf;

use std::collections::BTreeMap;
use std::sync::Arc;

use samovar_registry::Digest;

use self::samples::{demand, document, from_the_future, garbage, large_repository, name, repository};
use self::shelf::{ListingEnds, Shelf};
use super::*;
use crate::store::{Documents, Entry, Key, Reader as _, StoredDocument};

/// Something of everything: repositories with and without a directory, documents in one part and in several.
async fn full_shelf() -> Shelf {
    let store = Shelf::holding(
        [
            repository("app", 5, &["1", "2", "3"]),
            large_repository("large", 7),
            vec![document("small"), demand("app")],
        ]
        .concat(),
    );
    let bytes = vec![7; 700_000];
    let digest = Digest::sha256(&bytes);
    let large = StoredDocument { media_type: "application/json".into(), bytes: bytes.into() };
    Documents(&store).put(&digest, &large).await.unwrap();
    store
}

fn key_of(store: &Shelf, wanted: impl Fn(&Key) -> bool) -> Key {
    store.entries().into_keys().find(wanted).expect("there is such a key")
}

/// Fails with the keys that differ: whole stores are no reading for people.
#[track_caller]
fn assert_holds(store: &Shelf, expected: &BTreeMap<Key, Entry>) {
    let there = store.entries();
    let differs = |(key, entry): &(&Key, &Entry)| there.get(key) != Some(entry);
    let differing: Vec<_> = expected.iter().filter(differs).map(|(key, _)| key.to_string()).collect();
    let more: Vec<_> = there.keys().filter(|key| !expected.contains_key(key)).map(Key::to_string).collect();
    assert!(
        differing.is_empty() && more.is_empty(),
        "missing or different: {differing:?}; not expected: {more:?}"
    );
}

fn problems(verification: &Verification) -> Vec<(&str, &str)> {
    let findings = verification.findings.iter();
    findings.map(|finding| (finding.key.as_str(), finding.problem.as_str())).collect()
}

async fn verified(store: &Shelf) -> Verification {
    let before = store.entries();
    let progress = Progress::default();
    let verification = verify(store, &progress).await.unwrap();
    assert_holds(store, &before);
    assert_eq!(progress.snapshot().done, before.len() as u64);
    verification
}

#[tokio::test]
async fn what_is_as_it_should_be_is_sound() {
    let store = full_shelf().await;
    let verification = verified(&store).await;
    assert!(verification.is_sound(), "{verification:?}");
    let entries = store.entries().len() as u64;
    assert_eq!(verification.total(), Verdicts { sound: entries, ..Verdicts::default() });
    assert_eq!(verification.kinds[&Kind::Directory].sound, 2);
    assert_eq!(verification.kinds[&Kind::DocumentPart].sound, 2);
}

#[tokio::test]
async fn every_kind_of_damage_is_found() {
    let other = || Entry::immutable(crate::store::seal(b"{\"something\":\"else\"}"));
    for kind in Kind::ALL {
        for damaged in [garbage(), other()] {
            // Further parts have no form of their own: what is wrong shows at their document.
            let at_document = kind == Kind::DocumentPart && damaged != garbage();
            let store = full_shelf().await;
            let key = key_of(&store, |key| Kind::of(key) == Some(kind));
            if matches!(kind, Kind::Side | Kind::Demand) && !at_document && damaged != garbage() {
                // Every field of these may be missing.
                continue;
            }
            store.put(key.clone(), damaged);
            let verification = verified(&store).await;
            assert!(!verification.is_sound(), "{key}");
            let found = problems(&verification);
            assert!(
                at_document || found.iter().any(|(found, _)| *found == key.to_string()),
                "{key}: {found:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_head_without_all_its_pages_is_torn() {
    let store = Shelf::holding(repository("app", 5, &["1", "2", "3"]));
    store.remove(&key_of(&store, |key| matches!(key, Key::Page(..))));
    let verification = verified(&store).await;
    assert_eq!(
        problems(&verification),
        [("s1|head|registry.example/app", "1 of its 3 pages are missing or damaged")]
    );
    assert_eq!(verification.kinds[&Kind::Head].torn, 1);
    assert_eq!(verification.total().damaged, 0);

    let store = Shelf::holding(large_repository("large", 5));
    store.remove(&key_of(&store, |key| matches!(key, Key::Directory(..))));
    assert_eq!(verified(&store).await.kinds[&Kind::Head].torn, 1);
}

#[tokio::test]
async fn a_head_that_says_other_than_its_pages_is_damaged() {
    let store = Shelf::holding(repository("app", 5, &["1", "2"]));
    let key = Key::Head(name("app"));
    let mut head: crate::cache::stored::Head =
        crate::cache::stored::decode(store.get(&key).await.unwrap().as_ref()).unwrap();
    head.complete = true;
    store.put(key.clone(), head.seal().entry);
    let said = verified(&store).await;
    assert_eq!(problems(&said)[0].1, "it says that it is complete, but 2 tags are not settled");
    head.counts.ok = 1;
    store.put(key, head.seal().entry);
    let said = verified(&store).await;
    assert_eq!(problems(&said)[0].1, "it says that there are 3 tags, its pages have 2");
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_not_called_damaged() {
    let store = full_shelf().await;
    for (key, entry) in store.entries() {
        store.put(key, from_the_future(&entry));
    }
    let verification = verified(&store).await;
    assert!(verification.is_sound());
    assert_eq!(verification.total().newer, store.entries().len() as u64);
}

#[tokio::test]
async fn findings_are_listed_within_a_bound_and_counted_beyond() {
    let store = Shelf::holding(large_repository("large", 5));
    for key in store.entries().into_keys().filter(|key| matches!(key, Key::SidePage(..))) {
        store.put(key, garbage());
    }
    let verification = verified(&store).await;
    assert_eq!(verification.kinds[&Kind::SidePage].damaged, 1_001);
    assert_eq!(verification.findings.len() as u64 + verification.findings_left_out, 1_001);
    assert_eq!(verification.findings.len(), 100);
}

#[tokio::test]
async fn a_census_counts_by_kind_and_by_tag() {
    let store = full_shelf().await;
    let census = count(&store, &Progress::default()).await.unwrap();
    let entries = |kind| census.kinds[&kind].entries;
    assert_eq!((census.repositories, census.complete), (2, 0));
    assert_eq!((census.tags, census.images), (1_004, 0));
    assert_eq!((entries(Kind::Head), entries(Kind::Page), entries(Kind::Directory)), (2, 1_004, 2));
    assert_eq!((entries(Kind::Document), entries(Kind::DocumentPart)), (2, 2));
    let all = store.entries();
    let bytes: usize = all.iter().map(|(key, entry)| key.to_string().len() + 8 + entry.value.len()).sum();
    assert_eq!(census.records().bytes + census.documents().bytes, bytes as u64);
    assert_eq!(census.records().entries + census.documents().entries, all.len() as u64);
}

#[tokio::test]
async fn an_export_replaces_nothing_unless_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("export");
    std::fs::write(&file, "something dear").unwrap();
    let store = full_shelf().await;
    let refused = export(&store, &file, false, &Progress::default()).await.unwrap_err();
    assert!(matches!(refused, TransferError::Exists { .. }), "{refused}");
    assert_eq!(std::fs::read(&file).unwrap(), b"something dear");
    let exported = export(&store, &file, true, &Progress::default()).await.unwrap();
    assert_eq!(exported.entries, store.entries().len() as u64);
    assert_eq!(exported.bytes, file.metadata().unwrap().len());
    let archive = WholeArchive::open(&file, &Arc::new(Progress::default())).await.unwrap();
    assert_eq!((archive.summary().entries, archive.summary().bytes), (exported.entries, exported.bytes));
}

#[tokio::test]
async fn an_export_never_takes_the_place_of_what_is_no_plain_file() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let store = full_shelf().await;
    for place in [link.as_path(), directory.path()] {
        let refused = export(&store, place, true, &Progress::default()).await.unwrap_err();
        assert!(matches!(refused, TransferError::NoFile { .. }), "{refused}");
    }
    assert!(link.is_symlink());
}

#[tokio::test]
async fn what_a_killed_export_left_is_not_in_the_way_of_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let left = directory.path().join(format!(".export.{}.unfinished", std::process::id()));
    std::fs::write(&left, "half").unwrap();
    let store = full_shelf().await;
    export(&store, &directory.path().join("export"), false, &Progress::default()).await.unwrap();
}

#[tokio::test]
async fn an_export_that_fails_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("export");
    let store = full_shelf().await;
    store.end_listing_after(700, ListingEnds::Fails);
    let failed = export(&store, &file, false, &Progress::default()).await.unwrap_err();
    assert!(matches!(failed, TransferError::Store(_)), "{failed}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let nowhere = directory.path().join("no such directory/export");
    let failed = export(&store, &nowhere, false, &Progress::default()).await.unwrap_err();
    assert!(matches!(failed, TransferError::Write { .. }), "{failed}");
}

#[tokio::test]
async fn an_export_that_is_dropped_half_way_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let store = full_shelf().await;
    store.end_listing_after(700, ListingEnds::Hangs);
    let (file, progress) = (directory.path().join("export"), Progress::default());
    let written = async {
        while progress.snapshot().done < 512 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = export(&store, &file, false, &progress) => panic!("it hangs: {ended:?}"),
        () = written => {}
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_export_holds_neither_leases_nor_what_is_too_large() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("export");
    let store = Shelf::holding([document("kept"), (Key::Lane("a.example".into()), Entry::immutable("me"))]);
    store.put(Key::Document(Digest::sha256(b"huge")), Entry::immutable(vec![0; 1 << 20]));
    let exported = export(&store, &file, false, &Progress::default()).await.unwrap();
    assert_eq!((exported.entries, exported.left_out), (1, 1));
}
