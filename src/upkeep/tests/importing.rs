//! What an import writes, in which order, and what it leaves alone.

use tempfile::TempDir;

use super::*;
use crate::cache::stored::{self, Head};
use crate::store::{ArchiveWriter, Client};

/// A file with these entries, in this order.
async fn archive(entries: impl IntoIterator<Item = (Key, Entry)>) -> (TempDir, WholeArchive) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("export");
    let mut writer = ArchiveWriter::new(Vec::new()).unwrap();
    for (key, entry) in entries {
        writer.append(&key, &entry).unwrap();
    }
    std::fs::write(&file, writer.finish().unwrap()).unwrap();
    let archive = WholeArchive::open(&file, &Arc::new(Progress::default())).await.unwrap();
    (directory, archive)
}

/// Imports, and checks that every entry was counted once.
async fn imported(store: &dyn Client, archive: &WholeArchive) -> Imported {
    imported_with(store, archive, Precedence::Newer).await
}

async fn imported_with(store: &dyn Client, archive: &WholeArchive, precedence: Precedence) -> Imported {
    let progress = Progress::default();
    let done = import(store, archive, precedence, &progress).await.unwrap();
    let Imported { written, unchanged, kept, not_understood, torn, repositories } = done;
    assert_eq!(written + unchanged + kept + not_understood + torn, archive.summary().entries, "{done:?}");
    assert!(repositories <= written);
    assert_eq!(progress.snapshot().done, archive.summary().bytes);
    done
}

fn generation(store: &Shelf, path: &str) -> Option<u64> {
    let head: Head = stored::decode(store.entries().get(&Key::Head(name(path))))?;
    Some(head.generation)
}

#[tokio::test]
async fn everything_arrives_as_it_left_and_twice_changes_nothing() {
    let source = full_shelf().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("export");
    export(&source, &file, false, &Progress::default()).await.unwrap();
    let archive = WholeArchive::open(&file, &Arc::new(Progress::default())).await.unwrap();
    let target = Shelf::default();
    let first = imported(&target, &archive).await;
    assert_eq!((first.written, first.repositories), (source.entries().len() as u64, 2));
    assert_holds(&target, &source.entries());
    let second = imported(&target, &archive).await;
    assert_eq!(second, Imported { unchanged: first.written, ..Imported::default() });
    assert_holds(&target, &source.entries());
}

#[tokio::test]
async fn an_import_that_fails_anywhere_leaves_nothing_half_and_can_be_repeated() {
    let source = full_shelf().await;
    source.put(Key::Side(name("never-listed")), samples::side_of_nothing());
    // Heads and side records first: the order of the file does not matter.
    let (_directory, archive) = archive(source.entries()).await;
    let older =
        [repository("app", 4, &["0", "1", "2", "3", "4"]), repository("large", 6, &["0001"])].concat();
    let mut failures = 0;
    loop {
        let target = Shelf::holding(older.clone());
        target.fail_after_writes(Some(failures));
        let outcome = import(&target, &archive, Precedence::Newer, &Progress::default()).await;
        target.fail_after_writes(None);
        let verification = verified(&target).await;
        assert!(verification.is_sound(), "after {failures} writes: {verification:?}");
        assert_no_side_is_ahead(&target, failures);
        imported(&target, &archive).await;
        // Pages that only the older head named stay where it ended between writing the new one and removing them.
        for (key, entry) in older.iter().filter(|(key, _)| !source.entries().contains_key(key)) {
            if target.entries().get(key) == Some(entry) {
                target.remove(key);
            }
        }
        assert_holds(&target, &source.entries());
        if outcome.is_ok() {
            break;
        }
        failures += 1;
    }
    assert!(failures > 8, "it failed at {failures} places only");
}

/// What is known of confirmations belongs to the head that is there, or to one before it.
fn assert_no_side_is_ahead(target: &Shelf, writes: usize) {
    for (key, entry) in target.entries() {
        let (Key::Side(name), Some(side)) = (&key, stored::decode::<stored::Side>(Some(&entry))) else {
            continue;
        };
        let Some(head) = generation(target, name.path()) else { continue };
        assert!(side.last_update <= Some(samples::learnt_at(head)), "{name} after {writes} writes");
    }
}

#[tokio::test]
async fn an_older_repository_is_replaced_with_all_that_only_it_named() {
    let target =
        Shelf::holding([repository("app", 4, &["0", "1", "2", "3"]), large_repository("large", 4)].concat());
    let newer = [repository("app", 5, &["1", "9"]), repository("large", 5, &["0001"])].concat();
    let (_directory, archive) = archive(newer.clone()).await;
    let done = imported(&target, &archive).await;
    assert_eq!(done.repositories, 2);
    assert_holds(&target, &newer.into_iter().collect());
}

#[tokio::test]
async fn a_newer_repository_stays_with_its_side_records() {
    for generation_there in [5, 6] {
        let there = repository("app", generation_there, &["1", "other"]);
        let target = Shelf::holding(there.clone());
        target.remove(&Key::SidePage(name("app"), 1));
        let (_directory, archive) = archive(repository("app", 5, &["1", "2"])).await;
        let done = imported(&target, &archive).await;
        assert_eq!(generation(&target, "app"), Some(generation_there));
        assert_eq!(
            (done.repositories, done.kept),
            (0, if generation_there == 5 { 2 } else { 4 }),
            "{done:?}"
        );
        let entries = target.entries();
        for (key, entry) in there.iter().filter(|(key, _)| *key != Key::SidePage(name("app"), 1)) {
            assert_eq!(entries.get(key), Some(entry), "{key}");
        }
        assert!(
            !entries.contains_key(&Key::SidePage(name("app"), 1)),
            "no row about tags that are not there"
        );
    }
}

#[tokio::test]
async fn gaps_are_filled_beside_a_head_that_is_the_same() {
    let app = repository("app", 5, &["1", "2"]);
    let target = Shelf::holding(app.clone());
    target.remove(&Key::SidePage(name("app"), 1));
    target.remove(&key_of(&target, |key| matches!(key, Key::Page(..))));
    target.put(Key::Side(name("app")), samples::side(77));
    let (_directory, archive) = archive(app.clone()).await;
    let done = imported(&target, &archive).await;
    assert_eq!((done.written, done.kept, done.repositories), (2, 1, 0));
    assert_eq!(target.entries()[&Key::Side(name("app"))], samples::side(77));
    assert!(verified(&target).await.is_sound());
}

#[tokio::test]
async fn a_head_whose_pages_are_nowhere_is_left_out_with_its_side_records() {
    for missing in [|key: &Key| matches!(key, Key::Page(..)), |key: &Key| matches!(key, Key::Directory(..))] {
        let mut entries = large_repository("large", 5);
        let at = entries.iter().position(|(key, _)| missing(key)).unwrap();
        entries.remove(at);
        let (_directory, archive) = archive(entries).await;
        let target = Shelf::holding(repository("large", 4, &["0001"]));
        let done = imported(&target, &archive).await;
        assert_eq!((generation(&target, "large"), done.repositories), (Some(4), 0));
        assert_eq!(done.torn, 1 + 1 + 1_001, "head, side record and side pages");
        assert!(verified(&target).await.is_sound());
    }
}

#[tokio::test]
async fn pages_that_only_the_store_has_count_as_well() {
    let app = repository("app", 5, &["1", "2"]);
    let (pages, rest): (Vec<_>, Vec<_>) = app.into_iter().partition(|(key, _)| matches!(key, Key::Page(..)));
    let target = Shelf::holding(pages);
    let (_directory, archive) = archive(rest).await;
    assert_eq!(imported(&target, &archive).await.repositories, 1);
    assert!(verified(&target).await.is_sound());
}

#[tokio::test]
async fn what_does_not_decode_is_left_out_and_counted() {
    let future = full_shelf().await.entries().into_iter().map(|(key, entry)| (key, from_the_future(&entry)));
    let damaged = [
        Key::Head(name("bad")),
        Key::Side(name("bad")),
        Key::SidePage(name("bad"), 0),
        Key::Document(Digest::sha256(b"bad")),
    ];
    let damaged = damaged.map(|key| (key, garbage()));
    let lease = (Key::Lane("a.example".into()), Entry::immutable("me"));
    let (_directory, archive) = archive(future.chain(damaged).chain([lease])).await;
    let target = Shelf::default();
    let done = imported(&target, &archive).await;
    assert_eq!(done.not_understood, archive.summary().entries);
    assert_holds(&target, &BTreeMap::new());
}

#[tokio::test]
async fn what_a_newer_version_wrote_into_the_store_stays() {
    let source = full_shelf().await;
    let future = source.entries().into_iter().map(|(key, entry)| (key, from_the_future(&entry)));
    let target = Shelf::holding(future);
    let before = target.entries();
    let (_directory, archive) = archive(source.entries()).await;
    assert_eq!(imported(&target, &archive).await.kept, archive.summary().entries);
    assert_holds(&target, &before);
}

#[tokio::test]
async fn damage_in_the_store_is_mended() {
    let source = full_shelf().await;
    let target = Shelf::holding(source.entries());
    for kind in Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Side | Kind::SidePage)) {
        target.put(key_of(&target, |key| Kind::of(key) == Some(kind)), garbage());
    }
    let (_directory, archive) = archive(source.entries()).await;
    assert_eq!(imported(&target, &archive).await.written, 7);
    assert_holds(&target, &source.entries());
}

#[tokio::test]
async fn somebody_who_writes_a_newer_head_meanwhile_wins() {
    let newer = repository("app", 9, &["1", "2"]);
    let newer_head = newer.iter().find(|(key, _)| matches!(key, Key::Head(_))).unwrap().1.clone();
    let target = Shelf::default();
    target.interfere_once_with(newer_head);
    let (_directory, archive) = archive(repository("app", 5, &["1", "2"])).await;
    let done = imported(&target, &archive).await;
    assert_eq!((generation(&target, "app"), done.repositories), (Some(9), 0));

    let older =
        repository("app", 3, &["1"]).into_iter().find(|(key, _)| matches!(key, Key::Head(_))).unwrap().1;
    let target = Shelf::default();
    target.interfere_once_with(older);
    assert_eq!(imported(&target, &archive).await.repositories, 1);
    assert_eq!(generation(&target, "app"), Some(5));
}

#[tokio::test]
async fn a_file_that_is_missing_or_damaged_is_refused_before_anything_is_written() {
    let (directory, _) = archive(repository("app", 5, &["1"])).await;
    let file = directory.path().join("export");
    let whole = std::fs::read(&file).unwrap();
    let open = |path: std::path::PathBuf| async move {
        WholeArchive::open(&path, &Arc::new(Progress::default())).await.unwrap_err().to_string()
    };
    assert!(open(directory.path().join("nothing")).await.contains("nothing: No such file"));
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert!(open(file.clone()).await.ends_with("in the middle of the export"));
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    assert!(open(file.clone()).await.contains("it is damaged"));
    assert!(open(directory.path().to_owned()).await.ends_with("it is no regular file"));
}

/// The entries without the head.
fn headless(entries: Vec<(Key, Entry)>) -> Vec<(Key, Entry)> {
    entries.into_iter().filter(|(key, _)| !matches!(key, Key::Head(_))).collect()
}

#[tokio::test]
async fn side_records_whose_head_is_not_in_the_file_are_left_out() {
    for there in [repository("app", 4, &["1", "2"]), Vec::new()] {
        let target = Shelf::holding(there.clone());
        let (_directory, archive) = archive(headless(repository("app", 5, &["1", "2"]))).await;
        let done = imported(&target, &archive).await;
        assert_eq!((done.torn, done.repositories), (3, 0), "{done:?}");
        let sides: BTreeMap<_, _> = there.into_iter().filter(|(key, _)| is_side(key)).collect();
        let found: BTreeMap<_, _> = target.entries().into_iter().filter(|(key, _)| is_side(key)).collect();
        assert!(found == sides, "nothing is called confirmed that the head here does not say");
    }
}

fn is_side(key: &Key) -> bool {
    matches!(key, Key::Side(_) | Key::SidePage(..))
}

#[tokio::test]
async fn side_records_whose_head_is_not_understood_are_left_out() {
    for head in [garbage, || from_the_future(&samples::side(5))] {
        let target = Shelf::holding(repository("app", 4, &["1", "2"]));
        let mut entries = headless(repository("app", 5, &["1", "2"]));
        entries.push((Key::Head(name("app")), head()));
        let (_directory, archive) = archive(entries).await;
        let done = imported(&target, &archive).await;
        assert_eq!(done.not_understood, 1 + 3, "head, side record and side pages");
        assert_eq!(target.entries()[&Key::Side(name("app"))], samples::side(4));
    }
}

#[tokio::test]
async fn later_side_records_of_the_same_head_are_taken() {
    let target = Shelf::holding(repository("app", 5, &["1", "2"]));
    let mut entries = repository("app", 5, &["1", "2"]);
    entries.push((Key::Side(name("app")), samples::side(77)));
    let (_directory, archive) = archive(entries).await;
    assert_eq!(imported(&target, &archive).await.written, 1);
    assert_eq!(target.entries()[&Key::Side(name("app"))], samples::side(77));
}

#[tokio::test]
async fn a_head_that_was_written_earlier_but_knows_more_stays_unless_the_file_is_to_win() {
    for side_there in [samples::side(77), samples::side_of_other_tags(4)] {
        let there = repository("app", 4, &["1", "other"]);
        let target = Shelf::holding(there.clone());
        target.put(Key::Side(name("app")), side_there.clone());
        let newer = repository("app", 5, &["1", "2"]);
        let (_directory, archive) = archive(newer.clone()).await;
        let done = imported(&target, &archive).await;
        assert_eq!((generation(&target, "app"), done.repositories), (Some(4), 0), "{done:?}");
        assert_eq!(target.entries()[&Key::Side(name("app"))], side_there);
        assert_eq!(done.kept, 1 + 3, "head, side record and side pages");

        let done = imported_with(&target, &archive, Precedence::File).await;
        assert_eq!(done.repositories, 1, "{done:?}");
        assert_holds(&target, &newer.into_iter().collect());
    }
}

#[tokio::test]
async fn a_file_that_is_to_win_replaces_a_later_head_and_the_generation_grows() {
    for path in ["app", "large"] {
        let of = |generation| match path {
            "app" => repository(path, generation, &["1", "2"]),
            _ => large_repository(path, generation),
        };
        let target = Shelf::holding(repository(path, 9, &["1", "other"]));
        let (_directory, archive) = archive(of(5)).await;
        let done = imported_with(&target, &archive, Precedence::File).await;
        assert_eq!((generation(&target, path), done.repositories), (Some(10), 1), "{done:?}");
        assert!(verified(&target).await.is_sound());
        let head = Key::Head(name(path));
        let (mut found, mut expected): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (target.entries(), of(5).into_iter().collect());
        assert!(found.remove(&head) != expected.remove(&head));
        assert!(found == expected, "{path}: all else is as in the file");

        let again = imported_with(&target, &archive, Precedence::File).await;
        assert_eq!(again.unchanged, archive.summary().entries, "{again:?}");
        assert_eq!(generation(&target, path), Some(10));
    }
}

#[tokio::test]
async fn what_a_newer_version_wrote_stays_even_where_the_file_is_to_win() {
    let source = Shelf::holding(repository("app", 5, &["1", "2"]));
    let future = source.entries().into_iter().map(|(key, entry)| (key, from_the_future(&entry)));
    let target = Shelf::holding(future);
    let before = target.entries();
    let (_directory, archive) = archive(source.entries()).await;
    imported_with(&target, &archive, Precedence::File).await;
    assert_holds(&target, &before);
}

#[tokio::test]
async fn a_store_that_lost_a_head_of_a_later_list_is_not_given_an_earlier_one() {
    let target = Shelf::holding(headless(repository("app", 9, &["1", "2"])));
    let (_directory, archive) = archive(repository("app", 5, &["1", "2"])).await;
    let done = imported(&target, &archive).await;
    assert_eq!((generation(&target, "app"), done.repositories), (None, 0));
    assert_eq!(target.entries()[&Key::Side(name("app"))], samples::side(9));
}

#[tokio::test]
async fn of_several_heads_in_a_file_the_newest_counts() {
    let [older, newer] =
        [repository("app", 5, &["1", "2", "3"]), repository("app", 6, &["1", "4"])].map(Vec::into_iter);
    for precedence in [Precedence::Newer, Precedence::File] {
        for entries in [older.clone().chain(newer.clone()), newer.clone().chain(older.clone())] {
            let target = Shelf::default();
            let (_directory, archive) = archive(entries).await;
            assert_eq!(imported_with(&target, &archive, precedence).await.repositories, 1);
            assert_eq!(generation(&target, "app"), Some(6));
        }
    }
    // Its pages are nowhere: the older one would go with side records that know more.
    let torn = newer.filter(|(key, _)| !matches!(key, Key::Page(..)));
    let target = Shelf::default();
    let (_directory, archive) = archive(older.chain(torn)).await;
    assert_eq!(imported(&target, &archive).await.repositories, 0);
    assert!(!target.entries().keys().any(is_side));
}

#[tokio::test]
async fn a_file_that_is_written_to_after_it_was_checked_is_refused() {
    let (directory, archive) = archive(repository("app", 5, &["1", "2"])).await;
    let file = directory.path().join("export");
    let whole = std::fs::read(&file).unwrap();
    let look = file.metadata().unwrap();
    let other = repository("app", 5, &["1", "3"]);
    let mut writer = ArchiveWriter::new(Vec::new()).unwrap();
    for (key, entry) in &other {
        writer.append(key, entry).unwrap();
    }
    let shorter = &whole[..whole.len() - 1];
    for content in [&writer.finish().unwrap()[..], shorter, b"nonsense"] {
        std::fs::write(&file, content).unwrap();
        // However coarse the times of the file system are.
        let later = look.modified().unwrap() + std::time::Duration::from_secs(1);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        let target = Shelf::default();
        let refused = import(&target, &archive, Precedence::Newer, &Progress::default()).await.unwrap_err();
        assert!(matches!(refused, TransferError::Changed { .. }), "{refused}");
        assert_holds(&target, &BTreeMap::new());
    }
}

#[tokio::test]
async fn a_file_whose_name_is_given_to_another_is_read_all_the_same() {
    let (directory, archive) = archive(repository("app", 5, &["1", "2"])).await;
    let file = directory.path().join("export");
    std::fs::rename(&file, directory.path().join("elsewhere")).unwrap();
    std::fs::write(&file, "nonsense").unwrap();
    let target = Shelf::default();
    assert_eq!(imported(&target, &archive).await.repositories, 1);
}
