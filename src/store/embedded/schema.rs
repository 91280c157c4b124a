//! What is in the database file: its tables, its format, and how a file of the format before is brought to this one.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tracing::info;

use super::content::Content;

/// Entries: the key's text, then the refresh deadline (8 bytes) and the value, see [`Entry::encode`](crate::store::Entry).
pub(super) const ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");

/// Every document that is stored: its digest's bytes, then the hour in which it was last read and in how many entries
/// it lies.
pub(super) const DOCUMENTS: TableDefinition<'static, &[u8], (u32, u32)> = TableDefinition::new("documents");

/// The same documents by the hour in which they were last read: the first are the next to go.
pub(super) const DOCUMENTS_BY_AGE: TableDefinition<'static, (u32, &[u8]), ()> =
    TableDefinition::new("documents_by_age");

/// Entries, bytes and footprint of documents and of everything else, see [`Totals`](super::totals::Totals).
pub(super) const TOTALS: TableDefinition<'static, &str, (u64, u64, u64)> = TableDefinition::new("totals");

const META: TableDefinition<'static, &str, u32> = TableDefinition::new("meta");
const FORMAT_ROW: &str = "format";

/// Version of what is in the file. A file of a version that is neither this one nor the one before is moved aside.
pub(super) const FORMAT: u32 = 2;
/// It had no totals, and did not know when documents were read.
const FORMAT_WITHOUT_TOTALS: u32 = 1;

/// Why the content of a file cannot be used.
pub(super) enum Unreadable {
    /// It has a format that this version does not know; 0 for a database of something else.
    Format(u32),
    /// The engine failed.
    Engine(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Unreadable {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

/// Makes the tables in a file just made, and brings one of the format before to this one. `hour`: when documents whose
/// last reading is not known count as read.
pub(super) fn prepare(database: &Database, hour: u32) -> Result<(), Unreadable> {
    match read_format(database)? {
        Some(FORMAT) => Ok(()),
        None => {
            let transaction = database.begin_write()?;
            create(&transaction, hour)?;
            Ok(transaction.commit()?)
        }
        Some(FORMAT_WITHOUT_TOTALS) => Ok(upgrade(database, hour)?),
        Some(other) => Err(Unreadable::Format(other)),
    }
}

/// The file's format; `None` for a file just made.
fn read_format(database: &Database) -> Result<Option<u32>, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(META) {
        Ok(meta) => Ok(Some(meta.get(FORMAT_ROW)?.map_or(0, |format| format.value()))),
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let empty = transaction.list_tables()?.next().is_none();
            Ok(if empty { None } else { Some(0) })
        }
        Err(error) => Err(error.into()),
    }
}

fn create(transaction: &WriteTransaction, hour: u32) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(FORMAT_ROW, FORMAT)?;
    Content::open(transaction, hour)?.close()
}

/// Counts what is there, once, in one transaction: a crash half way leaves the file as it was. The memory that it takes
/// is bounded by the engine's cache.
fn upgrade(database: &Database, hour: u32) -> Result<(), redb::Error> {
    info!("the store has an earlier format: what is in it is counted once");
    let snapshot = database.begin_read()?;
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(FORMAT_ROW, FORMAT)?;
    let mut content = Content::open(&transaction, hour)?;
    for row in snapshot.open_table(ENTRIES)?.iter()? {
        let (key, stored) = row?;
        content.count_in(key.value(), stored.value().len())?;
    }
    content.close()?;
    Ok(transaction.commit()?)
}
