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

/// Entries, and the last key that was looked at; `None` when nothing follows.
type Piece = (Vec<(Key, Entry)>, Option<String>);

/// Every entry whose key is one of ours and is not for coordination.
pub(super) fn scan(engine: Arc<Engine>) -> BoxStream<'static, Result<(Key, Entry), StoreError>> {
    let pieces = stream::try_unfold(Some(String::new()), move |after| {
        let engine = Arc::clone(&engine);
        async move {
            let Some(after) = after else { return Ok(None) };
            let read = move || engine.read(|database| read_piece(database, &after));
            let (entries, last) = tokio::task::spawn_blocking(read).await.map_err(unavailable)??;
            Ok::<_, StoreError>(Some((stream::iter(entries.into_iter().map(Ok)), last)))
        }
    });
    pieces.try_flatten().boxed()
}

fn read_piece(database: &Database, after: &str) -> Result<Piece, redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for row in table.range::<&str>((Bound::Excluded(after), Bound::Unbounded))? {
        let (key, stored) = row?;
        bytes += stored.value().len();
        if let Ok(parsed) = key.value().parse::<Key>()
            && !parsed.is_coordination()
            && let Some(entry) = Entry::decode(&stored.value().to_vec().into())
        {
            entries.push((parsed, entry));
        }
        if bytes >= MOST_BYTES_SCANNED_AT_ONCE || entries.len() >= MOST_ENTRIES_SCANNED_AT_ONCE {
            return Ok((entries, Some(key.value().to_owned())));
        }
    }
    Ok((entries, None))
}
