//! What an export appends of repositories that were rewritten while they were listed.

use tempfile::TempDir;

use super::*;
use crate::cache::stored::{self, Head};

type Entries = Vec<(Key, Entry)>;

/// Exports `store`, and imports the file into an empty one.
async fn carried(store: &Shelf) -> (Exported, Shelf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("export");
    let exported = export(store, &file, false, &Progress::default()).await.unwrap();
    let archive = WholeArchive::open(&file, &Arc::new(Progress::default())).await.unwrap();
    assert_eq!(archive.summary().entries, exported.entries);
    let target = Shelf::default();
    import(&target, &archive, Precedence::Newer, &Progress::default()).await.unwrap();
    (exported, target, directory)
}

fn without(entries: &Entries, unwanted: impl Fn(&Key) -> bool) -> Entries {
    entries.iter().filter(|(key, _)| !unwanted(key)).cloned().collect()
}

fn only(entries: &Entries, wanted: impl Fn(&Key) -> bool) -> Entries {
    entries.iter().filter(|(key, _)| wanted(key)).cloned().collect()
}

fn is_head(key: &Key) -> bool {
    matches!(key, Key::Head(_))
}

fn is_page(key: &Key) -> bool {
    matches!(key, Key::Page(..))
}

fn generation(store: &Shelf, path: &str) -> Option<u64> {
    let head: Head = stored::decode(store.entries().get(&Key::Head(name(path))))?;
    Some(head.generation)
}

#[tokio::test]
async fn what_was_missed_of_a_repository_is_appended() {
    let kinds: [fn(&Key) -> bool; 5] = [
        is_head,
        is_page,
        |key| matches!(key, Key::Directory(..)),
        |key| matches!(key, Key::Side(_)),
        |key| matches!(key, Key::SidePage(..)),
    ];
    for missed in kinds {
        let large = large_repository("large", 5);
        let store = Shelf::holding(large.clone());
        store.list_instead(without(&large, missed));
        let (exported, target, _directory) = carried(&store).await;
        assert_eq!(exported.torn, 0);
        assert_holds(&target, &store.entries());
    }
}

#[tokio::test]
async fn a_repository_that_was_rewritten_while_it_was_listed_is_exported_as_it_is_now() {
    let (old, new) = (repository("app", 5, &["1", "2", "3"]), repository("app", 6, &["1", "9"]));
    let store = Shelf::holding(new.clone());
    // The old head was listed, then its pages went.
    store.list_instead([only(&old, is_head), without(&new, is_head)].concat());
    let (exported, target, _directory) = carried(&store).await;
    assert_eq!(exported.torn, 0);
    assert_holds(&target, &store.entries());

    // All of the old one was listed, but for side records, which know of the new head.
    let is_side = |key: &Key| matches!(key, Key::Side(_) | Key::SidePage(..));
    store.list_instead([without(&old, is_side), only(&new, is_side)].concat());
    let (exported, target, _directory) = carried(&store).await;
    assert_eq!((exported.torn, generation(&target, "app")), (0, Some(6)));
}

#[tokio::test]
async fn a_repository_that_changes_while_it_is_completed_is_begun_again() {
    let versions: Vec<Entries> =
        (5..9).map(|generation| repository("app", generation, &["1", &format!("of-{generation}")])).collect();
    let store = Shelf::holding(versions[0].clone());
    for version in &versions[1..] {
        store.becomes_after_reading_a_head(version.clone());
    }
    store.list_instead(only(&versions[0], is_head));
    let (exported, target, _directory) = carried(&store).await;
    assert_eq!((exported.torn, generation(&target, "app")), (0, Some(8)));
    let verification = verified(&target).await;
    assert!(verification.is_sound(), "{verification:?}");
}

#[tokio::test]
async fn a_repository_that_does_not_rest_is_counted_and_nothing_in_the_file_is_ahead_of_its_head() {
    let versions: Vec<Entries> = (5..40)
        .map(|generation| repository("app", generation, &[&format!("of-{generation}"), "same"]))
        .collect();
    let store = Shelf::holding(versions[0].clone());
    for version in &versions[1..] {
        store.becomes_after_reading_a_head(version.clone());
    }
    store.list_instead(only(&versions[0], |key| !is_page(key)));
    let (exported, target, _directory) = carried(&store).await;
    assert_eq!(exported.torn, 1);
    let is_side = |key: &Key| matches!(key, Key::Side(_) | Key::SidePage(..));
    assert!(!target.entries().keys().any(|key| is_head(key) || is_side(key)));
}

#[tokio::test]
async fn repositories_that_the_store_has_lost_part_of_are_counted() {
    let store = Shelf::holding([repository("app", 5, &["1", "2"]), repository("other", 5, &["1"])].concat());
    store.remove(&key_of(&store, |key| is_page(key) && key.repository() == Some(&name("app"))));
    let (exported, target, _directory) = carried(&store).await;
    assert_eq!(exported.torn, 1);
    assert_eq!(exported.entries, store.entries().len() as u64, "nothing is written twice");
    assert_eq!((generation(&target, "app"), generation(&target, "other")), (None, Some(5)));

    // A damaged page does not count as there.
    let (page, _) = only(&repository("app", 5, &["1", "2"]), is_page).into_iter().next().unwrap();
    let all = repository("app", 5, &["1", "2"]);
    let store = Shelf::holding(all.clone());
    store.put(page, garbage());
    store.list_instead(without(&all, is_page));
    assert_eq!(carried(&store).await.0.torn, 1);
}

#[tokio::test]
async fn a_repository_that_goes_away_while_it_is_listed_is_counted_and_one_that_was_never_listed_is_not() {
    let store = Shelf::default();
    store.list_instead(only(&repository("app", 5, &["1"]), is_head));
    assert_eq!(carried(&store).await.0.torn, 1);

    let store = Shelf::holding([(Key::Side(name("never-listed")), samples::side_of_nothing())]);
    let (exported, target, _directory) = carried(&store).await;
    assert_eq!(exported.torn, 0);
    assert_holds(&target, &store.entries());
}
