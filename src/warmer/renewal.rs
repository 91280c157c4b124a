//! Keeping what is watched from running out of its time to live, where the store has one.
//!
//! Every so often everything that a repository needs is given its whole time again: its head, pages, directory and side
//! records, and the documents behind its images, found by following them from index to manifest to configuration.
//! This asks nothing of a registry, so that an outage of weeks loses nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use samovar_registry::Digest;
use samovar_registry::upstream::{Document, Manifest};
use tracing::warn;

use super::fetch::MAX_INDEX_DEPTH;
use super::publish::{WorkingCopy, stored_keys};
use crate::store::{Client, Documents, Key, StoreError};

/// An entry is renewed when this part of its time to live has gone, or at the next pass thereafter, which is a week later at
/// most: before the half that is promised.
const RENEW_AFTER_PARTS: u32 = 4;
/// What could not be renewed is tried again after this long.
const AGAIN_AFTER: Duration = Duration::from_hours(1);
/// Keys renewed in one call.
const MOST_KEYS_AT_ONCE: usize = 500;
/// Documents read at once to find what they refer to.
const READS_AT_ONCE: usize = 16;
/// From an index, and those in it, to the images to their configurations.
const LONGEST_CHAIN: usize = MAX_INDEX_DEPTH + 2;

/// The first renewal comes this long after the first pass: documents that other repositories brought may be old.
const FIRST_AFTER: Duration = Duration::from_hours(24);

/// Whether [`renew_if_due`] has something to do for what was renewed then.
pub(super) fn is_due(time_to_live: Option<Duration>, renewed_at: Option<Timestamp>, now: Timestamp) -> bool {
    time_to_live.is_some_and(|time_to_live| {
        renewed_at.is_none_or(|renewed_at| now >= renewed_at + time_to_live / RENEW_AFTER_PARTS)
    })
}

/// Renews what the repository needs, if it is time; where that fails, again in an hour. `random`, from 0 to 1, spreads the
/// first renewals of repositories that began together.
///
/// A future that is dropped has renewed some; the rest is for the next pass.
pub(super) async fn renew_if_due(store: &dyn Client, copy: &WorkingCopy, now: Timestamp, random: f64) {
    let Some(time_to_live) = store.time_to_live() else { return };
    let renew_after = time_to_live / RENEW_AFTER_PARTS;
    let due_in = |pause: Duration| {
        let mut state = copy.state();
        state.side.renewed_at = Some(now - renew_after.saturating_sub(pause));
        state.side_header_changed = true;
    };
    let renewed_at = copy.state().side.renewed_at;
    match renewed_at {
        None => due_in(FIRST_AFTER + (renew_after / 2).mul_f64(random)),
        Some(renewed_at) if now < renewed_at + renew_after => {}
        Some(_) => match renew_all(store, copy).await {
            Ok(()) => due_in(renew_after),
            Err(error) => {
                let name = copy.state().name.clone();
                warn!(image.name = %name, %error, "what is stored of the repository could not be renewed; it is tried again");
                due_in(AGAIN_AFTER);
            }
        },
    }
}

async fn renew_all(store: &dyn Client, copy: &WorkingCopy) -> Result<(), StoreError> {
    let (keys, documents) = {
        let state = copy.state();
        let records = state.tags.values().map(|kept| &kept.record);
        let documents: BTreeSet<Digest> = records
            .flat_map(|record| record.state.digest().into_iter().chain(&record.moved_to))
            .cloned()
            .collect();
        (stored_keys(&state.name, state.head.as_ref()), documents)
    };
    renew(store, keys).await?;
    renew_documents(store, documents).await
}

/// Renews all but the documents, which puts back what one of two tiers has lost.
pub(super) async fn put_back(store: &dyn Client, copy: &WorkingCopy) -> Result<(), StoreError> {
    let keys = {
        let mut state = copy.state();
        state.side_header_changed = true;
        stored_keys(&state.name, state.head.as_ref())
    };
    renew(store, keys).await
}

async fn renew(store: &dyn Client, keys: Vec<Key>) -> Result<(), StoreError> {
    for part in keys.chunks(MOST_KEYS_AT_ONCE) {
        store.renew(part.to_vec()).await?;
    }
    Ok(())
}

/// Renews the documents, and those that they refer to.
async fn renew_documents(store: &dyn Client, images: BTreeSet<Digest>) -> Result<(), StoreError> {
    let mut seen = images.clone();
    let mut found = images;
    for _ in 0..LONGEST_CHAIN {
        let mut next = BTreeSet::new();
        let mut looked_at =
            stream::iter(found).map(|digest| renew_document(store, digest)).buffer_unordered(READS_AT_ONCE);
        while let Some(referred) = looked_at.try_next().await? {
            next.extend(referred.into_iter().filter(|digest| seen.insert(digest.clone())));
        }
        found = next;
    }
    Ok(())
}

/// Renews one document with its parts. Returns what it refers to; nothing where it is not there.
async fn renew_document(store: &dyn Client, digest: Digest) -> Result<Vec<Digest>, StoreError> {
    let Some(document) = Documents(store).get(&digest).await? else { return Ok(Vec::new()) };
    store.renew(document.keys(&digest)).await?;
    let document = Document { digest, media_type: document.media_type, bytes: document.bytes };
    // A configuration is no manifest and refers to nothing.
    Ok(match Manifest::decode(&document) {
        Ok(Manifest::Image(manifest)) => vec![manifest.config.digest],
        Ok(Manifest::Index(index)) => {
            index.children.into_iter().map(|child| child.descriptor.digest).collect()
        }
        _ => Vec::new(),
    })
}
