//! What is known of a host's limits, kept in the store: whoever takes the lane over, after a restart or from another replica,
//! goes on by it.

use std::time::Duration;

use samovar_registry::upstream::BudgetRecord;
use tokio::time::Instant;
use tracing::debug;

use super::context::Context;
use crate::cache::stored;
use crate::store::{Entry, Key};

/// How often it is looked whether there is something new to keep.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// How far a host's budget is known to the store, and from it.
#[derive(Debug, Default)]
pub(super) struct KeptBudget {
    save_at: Option<Instant>,
    /// What the store has; `None` until it was read.
    stored: Option<BudgetRecord>,
}

impl KeptBudget {
    /// When to look again; `None`: not at all.
    pub(super) fn save_at(&self) -> Option<Instant> {
        self.save_at
    }

    /// The lane was taken over: goes on by what the store knows of the host's limits. What it cannot tell now is asked for
    /// again soon.
    pub(super) async fn take_over(&mut self, context: &Context, host: &str) {
        self.save_at = Some(Instant::now() + SAVE_EVERY);
        self.stored = None;
        match context.store.get(&Key::Budget(host.to_owned())).await {
            Ok(entry) => {
                let record: BudgetRecord = stored::decode(entry.as_ref()).unwrap_or_default();
                context.upstreams.restore_budget(host, &record);
                self.stored = Some(record);
            }
            Err(error) => {
                debug!(registry.host = host, %error, "what is known of the host's limits cannot be read");
            }
        }
    }

    /// The lane is another replica's now.
    pub(super) fn let_go(&mut self) {
        *self = Self::default();
    }

    /// Stores what has changed. What the store does not take now is stored later.
    pub(super) async fn save(&mut self, context: &Context, host: &str) {
        if self.stored.is_none() {
            self.take_over(context, host).await;
        }
        self.save_at = Some(Instant::now() + SAVE_EVERY);
        let (Some(record), Some(stored)) = (context.upstreams.budget_record(host), &self.stored) else {
            return;
        };
        if record == *stored {
            return;
        }
        let entry = Entry::immutable(stored::encode(&record));
        match context.store.set(Key::Budget(host.to_owned()), entry).await {
            Ok(()) => self.stored = Some(record),
            Err(error) => {
                debug!(registry.host = host, %error, "what is known of the host's limits is not stored");
            }
        }
    }
}
