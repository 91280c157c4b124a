//! Making the file small again: what is live is copied into a new one, which then takes its place.
//!
//! The engine reuses what was freed but hardly ever gives it back. A copy is made piece by piece, in the order of the
//! keys, by the thread that writes, between its commits. Nobody who reads notices; whoever writes waits for a piece at
//! most. A key that is written while its place has been copied already is copied once more with the next piece. When
//! the end is reached, the copy is what the file is: it is renamed over it and taken over in the same breath.
//!
//! A crash at any moment leaves a whole store: before the renaming the old file, and a copy that the next start
//! removes; after it the new one, in which every piece is committed.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use redb::{Database, ReadableDatabase};

use super::content::{Content, document_of};
use super::engine::Engine;
use super::schema::{DOCUMENTS, ENTRIES};
use super::totals::Totals;
use super::{StoreError, contain_panic, unavailable};

/// Bytes of one piece, give or take an entry.
const MOST_BYTES_COPIED_AT_ONCE: usize = 2 * 1024 * 1024;
/// Entries of one piece.
const MOST_ENTRIES_COPIED_AT_ONCE: usize = 1024;

/// How far a file shrank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// Bytes that it took up on the disk.
    pub before: u64,
    /// Bytes that it takes up now.
    pub after: u64,
}

/// A copy that is being made. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Replacement {
    engine: Arc<Engine>,
    /// `None` once it has been handed over.
    database: Option<Database>,
    /// The last key that was copied.
    reached: Option<String>,
    /// Keys up to there that have been written since.
    changed: BTreeSet<String>,
    before: u64,
}

/// An entry as it lies in the file, and the hour in which its document was last read.
struct Row {
    key: String,
    stored: Vec<u8>,
    hour: u32,
}

/// What one piece brings.
#[derive(Default)]
struct Piece {
    rows: Vec<Row>,
    gone: Vec<String>,
    /// There is nothing after it.
    is_last: bool,
}

impl Replacement {
    /// Begins an empty copy.
    pub(super) fn begin(engine: Arc<Engine>) -> Result<Self, StoreError> {
        let database = engine.directory().create_replacement()?;
        let before = engine.directory().database_bytes();
        Ok(Self { engine, database: Some(database), reached: None, changed: BTreeSet::new(), before })
    }

    /// Notes keys that have just been committed.
    pub(super) fn note_changed(&mut self, keys: impl IntoIterator<Item = String>) {
        // What lies ahead will be copied as it is then.
        let reached = self.reached.as_deref();
        self.changed.extend(keys.into_iter().filter(|key| reached.is_some_and(|reached| **key <= *reached)));
    }

    /// Copies a piece. Says whether the copy is now like the original, until the next commit.
    pub(super) fn copy_piece(&mut self) -> Result<bool, StoreError> {
        let (reached, changed) = (self.reached.as_deref(), std::mem::take(&mut self.changed));
        let piece = self.engine.read(|database| read_piece(database, reached, changed))?;
        let database = self.database.as_ref().expect("it is handed over only by `finish`, which ends it");
        of_the_copy(|| write_piece(database, &piece))?;
        if let Some(last) = piece.rows.into_iter().map(|row| row.key).max()
            && self.reached.as_deref().is_none_or(|reached| reached < last.as_str())
        {
            self.reached = Some(last);
        }
        Ok(piece.is_last)
    }

    /// Puts the copy, which must be like the original, in its place.
    pub(super) fn finish(mut self) -> Result<(Compaction, Totals), StoreError> {
        // Opened again with all the memory that the store may use.
        self.close();
        let directory = self.engine.directory();
        let (database, totals) = of_the_copy(|| {
            let database = directory.open_replacement()?;
            let totals = Totals::of(&database)?;
            Ok((database, totals))
        })?;
        directory.put_replacement_in_place()?;
        self.engine.adopt(database);
        Ok((Compaction { before: self.before, after: directory.database_bytes() }, totals))
    }
}

impl Replacement {
    fn close(&mut self) {
        let database = self.database.take();
        // What closing cannot write is missed when it is opened again.
        let _ = contain_panic(|| drop(database));
    }
}

/// Runs something on the copy. A panic there says nothing of the original.
fn of_the_copy<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    contain_panic(work).ok_or_else(|| unavailable("the engine panicked over the copy"))?.map_err(unavailable)
}

impl Drop for Replacement {
    fn drop(&mut self) {
        self.close();
        self.engine.directory().remove_replacement();
    }
}

/// What was `changed`, as it is now, and what follows after `reached`.
fn read_piece(
    database: &Database,
    reached: Option<&str>,
    changed: BTreeSet<String>,
) -> Result<Piece, redb::Error> {
    let transaction = database.begin_read()?;
    let (entries, documents) = (transaction.open_table(ENTRIES)?, transaction.open_table(DOCUMENTS)?);
    let row = |key: String, stored: &[u8]| -> Result<Row, redb::Error> {
        let document = document_of(&key);
        let read = document.map(|document| documents.get(document.bytes())).transpose()?.flatten();
        Ok(Row { key, stored: stored.to_vec(), hour: read.map_or(0, |read| read.value().0) })
    };
    let mut piece = Piece::default();
    for key in changed {
        match entries.get(key.as_str())? {
            Some(stored) => piece.rows.push(row(key, stored.value())?),
            None => piece.gone.push(key),
        }
    }
    // However much has changed, it gets on.
    let bound = reached.map_or(Bound::Unbounded, Bound::Excluded);
    let mut ahead = entries.range::<&str>((bound, Bound::Unbounded))?;
    let mut bytes = 0;
    for _ in 0..MOST_ENTRIES_COPIED_AT_ONCE {
        let Some(next) = ahead.next() else {
            piece.is_last = true;
            break;
        };
        let (key, stored) = next?;
        piece.rows.push(row(key.value().to_owned(), stored.value())?);
        bytes += stored.value().len();
        if bytes >= MOST_BYTES_COPIED_AT_ONCE {
            break;
        }
    }
    Ok(piece)
}

fn write_piece(database: &Database, piece: &Piece) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let mut content = Content::open(&transaction, 0)?;
    for key in &piece.gone {
        content.remove(key)?;
    }
    for row in &piece.rows {
        content.insert_stored(&row.key, &row.stored, row.hour)?;
    }
    content.close()?;
    Ok(transaction.commit()?)
}
