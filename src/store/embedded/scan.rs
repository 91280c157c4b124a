//! Reading everything, in the order of the keys, a piece at a time: each piece in a transaction of its own on a blocking
//! thread, so that memory is bounded and nothing that is replaced meanwhile is kept on the disk for long.

use std::ops::Bound;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use redb::{Database, ReadableDatabase};

use super::engine::Engine;
use super::schema::ENTRIES;
use super::{Entry, Key, StoreError, unavailable};

/// Bytes of one piece, give or take an entry.
const MOST_BYTES_SCANNED_AT_ONCE: usize = 1024 * 1024;
/// Entries of one piece.
const MOST_ENTRIES_SCANNED_AT_ONCE: usize = 512;

/// What was found, and the last key that was looked at; `None` when nothing follows.
type Piece<T> = (Vec<T>, Option<String>);

/// Every entry whose key is one of ours and is not for coordination.
pub(super) fn scan(engine: Arc<Engine>) -> BoxStream<'static, Result<(Key, Entry), StoreError>> {
    scanned(engine, |key, stored| {
        let entry = (!key.is_coordination()).then(|| Entry::decode(&stored.to_vec().into())).flatten();
        Some((key, entry?))
    })
}

/// The keys of all that is kept of repositories.
pub(super) fn scan_repositories(engine: Arc<Engine>) -> BoxStream<'static, Result<Key, StoreError>> {
    scanned(engine, |key, _| key.repository().is_some().then_some(key))
}

/// What `take` makes of the entries whose keys are ours.
fn scanned<T: Send + 'static>(
    engine: Arc<Engine>,
    take: fn(Key, &[u8]) -> Option<T>,
) -> BoxStream<'static, Result<T, StoreError>> {
    let pieces = stream::try_unfold(Some(String::new()), move |after| {
        let engine = Arc::clone(&engine);
        async move {
            let Some(after) = after else { return Ok(None) };
            let read = move || engine.read(|database| read_piece(database, &after, take));
            let (found, last) = tokio::task::spawn_blocking(read).await.map_err(unavailable)??;
            Ok::<_, StoreError>(Some((stream::iter(found.into_iter().map(Ok)), last)))
        }
    });
    pieces.try_flatten().boxed()
}

fn read_piece<T>(
    database: &Database,
    after: &str,
    take: fn(Key, &[u8]) -> Option<T>,
) -> Result<Piece<T>, redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for row in table.range::<&str>((Bound::Excluded(after), Bound::Unbounded))? {
        let (key, stored) = row?;
        bytes += stored.value().len();
        found.extend(key.value().parse::<Key>().ok().and_then(|key| take(key, stored.value())));
        if bytes >= MOST_BYTES_SCANNED_AT_ONCE || found.len() >= MOST_ENTRIES_SCANNED_AT_ONCE {
            return Ok((found, Some(key.value().to_owned())));
        }
    }
    Ok((found, None))
}
