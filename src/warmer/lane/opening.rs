//! Beginning a pass: with the working copy that others work on, with a fresh one from the store, or with none.

use std::sync::{Arc, Weak};

use samovar_registry::Name;
use tokio_util::sync::CancellationToken;

use super::Repository;
use crate::sources::Watch;
use crate::store::StoreError;
use crate::warmer::change::Cause;
use crate::warmer::context::Context;
use crate::warmer::lease::Lease;
use crate::warmer::light::{Front, Light};
use crate::warmer::pass::{Pass, PassOutcome, Scope};
use crate::warmer::publish::WorkingCopy;
use crate::warmer::queue::SharedQueue;

/// Where the working copy of a repository is found while anybody works on it.
pub(in crate::warmer) type CopySlot = Arc<tokio::sync::Mutex<Weak<WorkingCopy>>>;

/// What every pass of a lane shares.
pub(super) struct Resources {
    pub(super) context: Arc<Context>,
    pub(super) lease: Lease,
    pub(super) queue: SharedQueue,
}

/// A pass over a repository that is about to begin.
pub(super) struct Opening {
    resources: Resources,
    name: Name,
    watch: Watch,
    slot: CopySlot,
    cause: Cause,
    list_again: bool,
    login_changed: bool,
    store_failed: bool,
    interrupt: CancellationToken,
}

impl Opening {
    pub(super) fn new(
        resources: Resources,
        name: &Name,
        repository: &Repository,
        cause: Cause,
        list_again: bool,
        interrupt: CancellationToken,
    ) -> Self {
        Self {
            resources,
            name: name.clone(),
            watch: repository.watch.clone(),
            slot: Arc::clone(&repository.copy),
            cause,
            list_again,
            login_changed: repository.login_changed,
            store_failed: repository.store_failed,
            interrupt,
        }
    }

    /// Runs the pass, as lightly as can be.
    pub(super) async fn run(self, scope: Scope) -> Result<PassOutcome, StoreError> {
        let listed = match self.light(scope).await? {
            Light::Done(outcome) => return Ok(outcome),
            Light::Whole(listed) => listed,
        };
        let pass = self.whole().await?;
        let outcome = pass.run(scope, listed).await;
        pass.context.keep_unsaved(&pass.name, &pass.copy);
        // Where another replica goes on it is worth nothing.
        if outcome.interrupted && pass.lease.permits() {
            pass.context.unfinished.keep(&pass.name, &pass.copy);
        } else {
            pass.context.unfinished.let_go(&pass.name);
        }
        Ok(outcome)
    }

    /// Runs a light pass, where nobody works on the repository and nothing out of the way is wanted.
    async fn light(&self, scope: Scope) -> Result<Light, StoreError> {
        let is_usual = scope == Scope::Due && !self.login_changed && !self.store_failed;
        if !is_usual || self.slot.lock().await.upgrade().is_some() {
            return Ok(Light::Whole(None));
        }
        let Some(front) = Front::read(&self.resources.context, &self.name, &self.watch).await? else {
            return Ok(Light::Whole(None));
        };
        let pass = self.pass(Arc::clone(&front.copy));
        Ok(pass.run_light(&front, &self.slot).await)
    }

    /// The pass over the whole repository.
    pub(super) async fn whole(&self) -> Result<Pass, StoreError> {
        let copy = open(&self.resources.context, &self.name, &self.watch, &self.slot).await?;
        Ok(self.pass(copy))
    }

    fn pass(&self, copy: Arc<WorkingCopy>) -> Pass {
        Pass {
            context: Arc::clone(&self.resources.context),
            name: self.name.clone(),
            watch: self.watch.clone(),
            copy,
            cause: self.cause,
            lease: self.resources.lease.clone(),
            list_again: self.list_again,
            login_changed: self.login_changed,
            store_failed: self.store_failed,
            interrupt: self.interrupt.clone(),
            queue: Some(self.resources.queue.clone()),
        }
    }
}

/// The working copy of a repository: the one that others work on now, or else a fresh one from the store. One that was
/// made for other platforms than are wanted now is given up; what it had not stored is found out again.
async fn open(
    context: &Context,
    name: &Name,
    watch: &Watch,
    slot: &CopySlot,
) -> Result<Arc<WorkingCopy>, StoreError> {
    let mut slot = slot.lock().await;
    let platforms = context.platforms(watch).to_string();
    if let Some(copy) = slot.upgrade().filter(|copy| !copy.is_overtaken()) {
        if copy.is_for(&platforms) {
            return Ok(copy);
        }
        copy.give_up();
    }
    let (bounds, now) = (context.options.history, context.clock.now());
    let copy = WorkingCopy::load(&*context.store, name, &platforms, bounds, now).await?;
    // Also where the store has lost what was told before.
    copy.state().generate_after(context.announcer.heard_of(name));
    let copy = Arc::new(copy);
    *slot = Arc::downgrade(&copy);
    Ok(copy)
}
