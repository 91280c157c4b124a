//! Writing a whole store into a file.

mod completion;
mod file;
mod output;

use std::path::Path;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;

use self::completion::{Contents, complete};
use self::output::Output;
use super::progress::{Progress, Unit};
use super::transfer::{MOST_BATCH_BYTES, MOST_BATCH_ENTRIES, TransferError};
use crate::store::{Client, Entry, Key, StoreError};

/// What an export wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Entries.
    pub entries: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Entries that are larger than anything that samovar stores, and were left out.
    pub left_out: u64,
    /// Repositories of which not all is in the file: the store has lost part of them, or they kept changing.
    pub torn: u64,
    /// Repositories of which it was not looked whether all is in the file: there are too many to remember.
    pub unchecked: u64,
}

/// Writes everything in `store` into the file `to`. The file appears under its name when it is whole and on the disk;
/// whatever ends this before leaves nothing behind, unless it kills the process. An existing file is replaced only
/// with `overwrite`, and nothing that is not a plain file ever.
///
/// Where somebody writes to the store meanwhile, what was written to repositories is looked for afterwards and appended,
/// so that each is in the file as it was at some moment; the few that keep changing are counted as torn. An entry may be
/// in the file several times, the latest last: an import copes with that.
pub async fn export(
    store: &dyn Client,
    to: &Path,
    overwrite: bool,
    progress: &Progress,
) -> Result<Exported, TransferError> {
    match to.symlink_metadata() {
        Ok(_) if !overwrite => return Err(TransferError::Exists { path: to.to_owned() }),
        // A device, a directory, a link: what is put in its place would not be what was meant.
        Ok(found) if !found.is_file() => return Err(TransferError::NoFile { path: to.to_owned() }),
        Ok(_) | Err(_) => {}
    }
    progress.begin("exporting", Unit::Entries, store.statistics().await?.entries);
    let mut output = Output::create(to).await?;
    let mut contents = Contents::default();
    let mut entries = store.scan();
    loop {
        let batch = next_batch(&mut entries).await?;
        if batch.is_empty() {
            break;
        }
        for (key, entry) in &batch {
            contents.note(key, entry);
        }
        let count = batch.len() as u64;
        output.append(batch).await?;
        progress.advance(count);
    }
    drop(entries);
    complete(store, contents, &mut output, progress).await?;
    output.finish(overwrite).await
}

async fn next_batch(
    entries: &mut BoxStream<'_, Result<(Key, Entry), StoreError>>,
) -> Result<Vec<(Key, Entry)>, StoreError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < MOST_BATCH_ENTRIES && bytes < MOST_BATCH_BYTES {
        let Some((key, entry)) = entries.try_next().await? else { break };
        if key.is_coordination() {
            continue;
        }
        bytes += entry.value.len();
        batch.push((key, entry));
    }
    Ok(batch)
}
