//! What sources may know of the warmer's work.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use samovar_registry::Name;

use super::Handle;
use super::lease::Lease;
use crate::sources::{Lanes, RepositoryFacts};

impl RepositoryFacts for Handle {
    fn last_asked(&self, name: &Name) -> Option<Timestamp> {
        self.demand(name).last_asked()
    }

    fn is_listed(&self, name: &Name) -> bool {
        self.context.overview().get(name).is_some_and(|overview| overview.listed)
    }

    fn is_named(&self, name: &Name) -> bool {
        self.is_watched(name) && !self.context.yielding().contains(name)
    }
}

impl Lanes for Handle {
    fn permits(&self, host: &str) -> bool {
        let permits = self.context.leases().get(host).is_some_and(Lease::permits);
        permits && *self.context.at_work(host).borrow()
    }

    fn permitted<'a>(&'a self, host: &'a str) -> BoxFuture<'a, ()> {
        let mut at_work = self.context.at_work(host).subscribe();
        async move {
            loop {
                // The context, which has the sender, outlives the handle.
                let _ = at_work.wait_for(|at_work| *at_work).await;
                if self.permits(host) {
                    return;
                }
                // The lease has just ended, which the lane is about to notice.
                let _ = at_work.changed().await;
            }
        }
        .boxed()
    }

    fn lost<'a>(&'a self, host: &'a str) -> BoxFuture<'a, ()> {
        let lease = self.context.leases().get(host).cloned();
        async move {
            if let Some(lease) = lease {
                lease.lost().await;
            }
        }
        .boxed()
    }
}
