//! The one thread that writes: it commits what has queued up in one transaction, then answers everybody. While nobody
//! waits, it keeps house.

use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::compaction::Compaction;
use super::keeper::Keeper;
use super::operation::Operation;
use super::{StoreError, unavailable};

/// Operations that may wait for the thread; more wait at the door.
const QUEUE: usize = 1024;
/// Operations in one transaction: bounds its size and how long the first one waits for the last.
const MOST_IN_ONE_COMMIT: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

#[derive(Debug)]
enum Message {
    Write(Operation, Reply<bool>),
    Compact(Reply<Compaction>),
    /// What may go has changed.
    LookAgain,
    /// Somebody could not read.
    Mend,
}

#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(keeper: Keeper) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_all(keeper, messages))
            .expect("a thread can be started when the process starts");
        Self { queue: Some(queue), thread: Some(thread) }
    }

    /// Runs one operation; when this returns it is on the disk. `false`: a comparison failed.
    pub(super) async fn run(&self, operation: Operation) -> Result<bool, StoreError> {
        self.ask(|reply| Message::Write(operation, reply)).await
    }

    pub(super) async fn compact(&self) -> Result<Compaction, StoreError> {
        self.ask(Message::Compact).await
    }

    /// Tells the thread, if it sleeps, that there may be something to do. One that does not sleep finds out by itself.
    pub(super) fn look_again(&self) {
        self.wake(Message::LookAgain);
    }

    /// Tells the thread, if it sleeps, that the database must be opened again.
    pub(super) fn mend(&self) {
        self.wake(Message::Mend);
    }

    fn wake(&self, message: Message) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(message);
        }
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, StoreError> {
        let ended = || unavailable("the store's writer has ended");
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send(message(reply)).await.map_err(|_| ended())?;
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

fn write_all(mut keeper: Keeper, mut queue: mpsc::Receiver<Message>) {
    while let Some(messages) = next(&mut queue, keeper.has_work()) {
        let mut operations = Vec::with_capacity(messages.len());
        let mut replies = Vec::with_capacity(messages.len());
        for message in messages {
            match message {
                Message::Write(operation, reply) => {
                    operations.push(operation);
                    replies.push(reply);
                }
                Message::Compact(reply) => keeper.ask_for_compaction(reply),
                Message::LookAgain => keeper.look_again(),
                // Whatever wakes it, it looks after that before anything else.
                Message::Mend => {}
            }
        }
        if !operations.is_empty() {
            // Whoever has dropped the other end does not want to know.
            match keeper.commit(operations) {
                Ok(outcomes) => replies.into_iter().zip(outcomes).for_each(|(reply, outcome)| {
                    let _ = reply.send(outcome);
                }),
                Err(error) => replies.into_iter().for_each(|reply| {
                    let _ = reply.send(Err(error.clone()));
                }),
            }
        }
        keeper.work();
    }
    keeper.end();
}

/// What has queued up; waits for something unless there is other work. `None` when nobody is left who could ask.
fn next(queue: &mut mpsc::Receiver<Message>, has_work: bool) -> Option<Vec<Message>> {
    let mut messages = Vec::new();
    if has_work {
        match queue.try_recv() {
            Ok(message) => messages.push(message),
            Err(mpsc::error::TryRecvError::Empty) => {}
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
        }
    } else {
        messages.push(queue.blocking_recv()?);
    }
    while !messages.is_empty()
        && messages.len() < MOST_IN_ONE_COMMIT
        && let Ok(message) = queue.try_recv()
    {
        messages.push(message);
    }
    Some(messages)
}
