//! The task that keeps locally what was read from the remote store, so that nobody who reads waits for a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::local::{Local, Removals};
use crate::store::{Entry, Key};

/// What may wait to be kept. More is not kept: it is offered again when it is read again.
const MOST_QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// Entries kept in one go.
const MOST_AT_ONCE: usize = 256;
/// What an entry costs beyond its value, about.
const OVERHEAD_BYTES: usize = 200;

/// What the remote store has answered, to be kept.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) key: Key,
    pub(super) entry: Entry,
    /// How many removals there had been before the remote store was asked.
    pub(super) removals: Removals,
}

/// The task's queue. The task ends when this is dropped, after what is queued.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Bounded by the bytes in it.
    queue: mpsc::UnboundedSender<Offer>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Keeper {
    pub(super) fn start(local: Arc<Local>) -> Self {
        let (queue, offers) = mpsc::unbounded_channel();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        tokio::spawn(keep_all(local, offers, Arc::clone(&queued_bytes)));
        Self { queue, queued_bytes }
    }

    /// Keeps the entry soon, unless too much waits already.
    pub(super) fn offer(&self, offer: Offer) {
        let bytes = bytes_of(&offer);
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > MOST_QUEUED_BYTES
            || self.queue.send(offer).is_err()
        {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

fn bytes_of(offer: &Offer) -> usize {
    offer.entry.value.len() + OVERHEAD_BYTES
}

async fn keep_all(
    local: Arc<Local>,
    mut offers: mpsc::UnboundedReceiver<Offer>,
    queued_bytes: Arc<AtomicUsize>,
) {
    let mut batch = Vec::with_capacity(MOST_AT_ONCE);
    while offers.recv_many(&mut batch, MOST_AT_ONCE).await > 0 {
        let bytes: usize = batch.iter().map(bytes_of).sum();
        let (immutable, shadows): (Vec<Offer>, Vec<Offer>) =
            batch.drain(..).partition(|offer| offer.key.is_immutable());
        local.keep(immutable).await;
        for shadow in shadows {
            local.follow(shadow).await;
        }
        queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
