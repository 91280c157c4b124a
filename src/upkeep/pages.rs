//! The pages that a head names, looked for in a store.

use samovar_registry::Name;

use super::judgement::Judgement;
use crate::cache::stored::{Head, PageRef};
use crate::store::{Entry, Key, Reader, StoreError, open};

/// Pages read at once: enough to hide the round trips, few enough to hold in memory.
pub(super) const MOST_PAGES_READ: usize = 16;

/// The pages that a head names, itself or through its directory; `None` where part of the directory is missing.
pub(super) async fn pages_of<R: Reader + ?Sized>(
    store: &R,
    name: &Name,
    head: &Head,
) -> Result<Option<Vec<PageRef>>, StoreError> {
    if head.directory.is_empty() {
        return Ok(Some(head.pages.clone()));
    }
    let keys: Vec<Key> = head.directory.iter().map(|hash| Key::Directory(name.clone(), *hash)).collect();
    let mut pages = Vec::new();
    for (key, part) in keys.iter().zip(store.get_many(&keys).await?) {
        let plain = part.filter(|part| is_sound(key, part)).and_then(|part| open(&part.value).ok());
        match plain.and_then(|plain| serde_json::from_slice::<Vec<PageRef>>(&plain).ok()) {
            Some(mut part) => pages.append(&mut part),
            None => return Ok(None),
        }
    }
    Ok(Some(pages))
}

/// Whether an entry says what its key promises.
pub(super) fn is_sound(key: &Key, entry: &Entry) -> bool {
    Judgement::of(key, entry) == Judgement::Sound
}
