//! Writing a head: after everything that it names, and never over what the store knows better.

use std::collections::HashSet;

use samovar_registry::Name;

use super::repositories::Claims;
use super::{Outcome, Precedence};
use crate::cache::stored::{self, Head, PageRef, Side};
use crate::store::{Client, ContentHash, Entry, Key, StoreError};
use crate::upkeep::judgement::Judgement;
use crate::upkeep::pages::{MOST_PAGES_READ, is_sound, pages_of};

/// A server may get in between; after this many tries it is an error.
const MOST_HEAD_TRIES: usize = 5;

/// Makes `entry`, from an export that says `claims` of the repository, the head of `name`, unless what the store has is
/// newer, or part of what it names is missing. What only the replaced head named is removed.
pub(super) async fn write_head(
    store: &dyn Client,
    name: &Name,
    entry: Entry,
    claims: &Claims,
    precedence: Precedence,
) -> Result<Outcome, StoreError> {
    let key = Key::Head(name.clone());
    let (true, Some(head)) = (is_sound(&key, &entry), stored::decode::<Head>(Some(&entry))) else {
        return Ok(Outcome::NotUnderstood);
    };
    for _ in 0..MOST_HEAD_TRIES {
        let (there, side) = read_front(store, name).await?;
        if there.as_ref() == Some(&entry) {
            return Ok(Outcome::Unchanged);
        }
        if there.as_ref().is_some_and(|there| Judgement::of(&key, there) == Judgement::Newer) {
            return Ok(Outcome::Kept);
        }
        let before: Option<Head> = stored::decode(there.as_ref());
        let replacement = match over(before.as_ref(), side.as_ref(), &head, claims, precedence) {
            Replacement::Of(outcome) => return Ok(outcome),
            Replacement::AsItIs => entry.clone(),
            Replacement::WithGeneration(generation) => {
                let head = Head { generation, ..head.clone() };
                Entry { value: stored::encode(&head), refresh_at: entry.refresh_at }
            }
        };
        let Some(pages) = pages_of(store, name, &head).await? else {
            return Ok(Outcome::Torn);
        };
        if !are_whole(store, name, &pages).await? {
            return Ok(Outcome::Torn);
        }
        if store.compare_and_set(key.clone(), there, replacement).await? {
            if let Some(before) = before {
                remove_what_only_it_named(store, name, before, &head, &pages).await?;
            }
            return Ok(Outcome::Written);
        }
    }
    Err(StoreError::Unavailable { message: format!("the head of {name} keeps changing under us") })
}

/// The head and the side record that the store has.
async fn read_front(store: &dyn Client, name: &Name) -> Result<(Option<Entry>, Option<Side>), StoreError> {
    let mut front = store.get_many(&[Key::Head(name.clone()), Key::Side(name.clone())]).await?.into_iter();
    let head = front.next().flatten();
    Ok((head, stored::decode(front.next().flatten().as_ref())))
}

/// What is to be put in the place of a head.
enum Replacement {
    /// Nothing.
    Of(Outcome),
    /// The file's head.
    AsItIs,
    /// The file's head, with this generation.
    WithGeneration(u64),
}

/// What is to become of `before`, the head that the store has with this side record, when `head` comes from the file.
fn over(
    before: Option<&Head>,
    side: Option<&Side>,
    head: &Head,
    claims: &Claims,
    precedence: Precedence,
) -> Replacement {
    let Some(before) = before else {
        // The store may have lost a head that knew more: its side records would confirm what the file's head says.
        let is_outdated = side.is_some_and(|side| claims.list_is_older_than_that_of(side));
        return match precedence {
            Precedence::Newer if is_outdated => Replacement::Of(Outcome::Kept),
            _ => Replacement::AsItIs,
        };
    };
    let is_later = before.generation < head.generation;
    match precedence {
        Precedence::Newer if !is_later || side.is_some_and(|side| claims.are_outdated_by(side)) => {
            Replacement::Of(Outcome::Kept)
        }
        Precedence::File
            if *before == (Head { generation: before.generation, ..head.clone() }) && !is_later =>
        {
            Replacement::Of(Outcome::Unchanged)
        }
        // A generation only grows, so that whoever waits for the next one hears of it.
        Precedence::File if !is_later => Replacement::WithGeneration(before.generation.saturating_add(1)),
        Precedence::Newer | Precedence::File => Replacement::AsItIs,
    }
}

async fn are_whole(store: &dyn Client, name: &Name, pages: &[PageRef]) -> Result<bool, StoreError> {
    for pages in pages.chunks(MOST_PAGES_READ) {
        let keys: Vec<Key> = pages.iter().map(|page| Key::Page(name.clone(), page.hash)).collect();
        let found = store.get_many(&keys).await?;
        let is_whole =
            |(key, page): (&Key, &Option<Entry>)| page.as_ref().is_some_and(|page| is_sound(key, page));
        if !keys.iter().zip(&found).all(is_whole) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes pages, side pages, and parts of the directory and of the history that no head names any more. Readers who hold the old head find
/// a page missing and read the head again.
async fn remove_what_only_it_named(
    store: &dyn Client,
    name: &Name,
    before: Head,
    head: &Head,
    pages: &[PageRef],
) -> Result<(), StoreError> {
    // Where its directory is torn it is not known which pages there were.
    let pages_before = pages_of(store, name, &before).await?.unwrap_or_default();
    let named: HashSet<ContentHash> = pages
        .iter()
        .map(|page| page.hash)
        .chain(head.directory.iter().copied())
        .chain(history(head))
        .collect();
    let gone = |hash: &ContentHash| !named.contains(hash);
    let pages_gone =
        pages_before.iter().map(|page| page.hash).filter(gone).map(|hash| Key::Page(name.clone(), hash));
    let history_gone = history(&before).filter(gone).map(|hash| Key::History(name.clone(), hash));
    let history_gone: Vec<Key> = history_gone.collect();
    let directory_gone =
        before.directory.into_iter().filter(gone).map(|hash| Key::Directory(name.clone(), hash));
    let side_pages_gone = (pages.len()..pages_before.len())
        .filter_map(|position| Some(Key::SidePage(name.clone(), u32::try_from(position).ok()?)));
    let obsolete: Vec<Key> =
        pages_gone.chain(directory_gone).chain(side_pages_gone).chain(history_gone).collect();
    if obsolete.is_empty() { Ok(()) } else { store.delete(obsolete).await }
}

fn history(head: &Head) -> impl Iterator<Item = ContentHash> {
    head.history.pages.iter().map(|page| page.hash)
}
