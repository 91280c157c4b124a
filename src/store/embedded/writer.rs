//! The one thread that writes: it commits what has queued up in one transaction, then answers everybody.

use std::sync::Arc;
use std::thread::JoinHandle;

use redb::ReadableTable;
use tokio::sync::{mpsc, oneshot};

use super::engine::Engine;
use super::{ENTRIES, Entry, Key, StoreError, decode, encode, unavailable};

/// Operations that may wait for the thread; more wait at the door.
const QUEUE: usize = 1024;
/// Operations in one transaction: bounds its size and how long the first one waits for the last.
const MOST_IN_ONE_COMMIT: usize = 256;

/// Something to write.
#[derive(Debug)]
pub(super) enum Operation {
    Set(Vec<(Key, Entry)>),
    CompareAndSet { key: Key, expected: Option<Entry>, entry: Entry },
    Delete(Vec<Key>),
}

type Reply = oneshot::Sender<Result<bool, StoreError>>;

#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<(Operation, Reply)>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(engine: Arc<Engine>) -> Self {
        let (queue, operations) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_all(&engine, operations))
            .expect("a thread can be started when the process starts");
        Self { queue: Some(queue), thread: Some(thread) }
    }

    /// Runs one operation; when this returns it is on the disk. `false`: a comparison failed.
    pub(super) async fn run(&self, operation: Operation) -> Result<bool, StoreError> {
        let ended = || unavailable("the store's writer has ended");
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send((operation, reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It only finishes what is queued; if it panicked there is nothing left to do.
            let _ = thread.join();
        }
    }
}

fn write_all(engine: &Engine, mut operations: mpsc::Receiver<(Operation, Reply)>) {
    let mut batch = Vec::new();
    while let Some(first) = operations.blocking_recv() {
        batch.push(first);
        while batch.len() < MOST_IN_ONE_COMMIT
            && let Ok(next) = operations.try_recv()
        {
            batch.push(next);
        }
        let (batch_operations, replies): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        match engine.write(|database| commit(database, batch_operations)) {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}

fn commit(database: &redb::Database, operations: Vec<Operation>) -> Result<Vec<bool>, redb::Error> {
    let transaction = database.begin_write()?;
    let outcomes = {
        let mut table = transaction.open_table(ENTRIES)?;
        operations.into_iter().map(|operation| apply(&mut table, operation)).collect::<Result<_, _>>()?
    };
    transaction.commit()?;
    Ok(outcomes)
}

fn apply(table: &mut redb::Table<'_, &str, &[u8]>, operation: Operation) -> Result<bool, redb::Error> {
    match operation {
        Operation::Set(entries) => {
            for (key, entry) in entries {
                table.insert(key.to_string().as_str(), encode(&entry).as_slice())?;
            }
        }
        Operation::CompareAndSet { key, expected, entry } => {
            let key = key.to_string();
            let current = table.get(key.as_str())?.and_then(|found| decode(found.value()));
            if current != expected {
                return Ok(false);
            }
            table.insert(key.as_str(), encode(&entry).as_slice())?;
        }
        Operation::Delete(keys) => {
            for key in keys {
                table.remove(key.to_string().as_str())?;
            }
        }
    }
    Ok(true)
}
