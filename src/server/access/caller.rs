//! The one who asks.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::FromRequestParts;
use http::request::Parts;
use samovar_registry::Name;

use super::super::limits::Standing;
use crate::config::Grant;

/// Who asks. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::server) struct Caller(Who);

#[derive(Debug, Clone)]
enum Who {
    /// Nobody is asked who they are.
    Anyone,
    /// Not identified: what is open to all is open to them, and nothing else.
    Nobody,
    Known(Arc<Known>),
}

/// Somebody with a name.
#[derive(Debug)]
pub(super) struct Known {
    /// How they are called; it is no secret.
    pub(super) name: String,
    pub(super) grant: Grant,
    standing: Arc<Standing>,
    withdrawn: AtomicBool,
}

impl Known {
    pub(super) fn new(name: String, grant: Grant, standing: Arc<Standing>) -> Arc<Self> {
        Arc::new(Self { name, grant, standing, withdrawn: AtomicBool::new(false) })
    }

    /// What let them in is not good any more.
    pub(super) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Relaxed);
    }
}

impl Caller {
    /// Whoever it is, where nobody is asked.
    pub(in crate::server) fn anyone() -> Self {
        Self(Who::Anyone)
    }

    /// Somebody who may do nothing.
    pub(in crate::server) fn nobody() -> Self {
        Self(Who::Nobody)
    }

    pub(super) fn known(known: Arc<Known>) -> Self {
        Self(Who::Known(known))
    }

    /// Whether they may see a repository.
    pub(in crate::server) fn may_read(&self, name: &Name) -> bool {
        match &self.0 {
            Who::Anyone => true,
            Who::Nobody => false,
            Who::Known(known) => known.grant.covers(name),
        }
    }

    /// Whether they may have a repository refreshed.
    pub(in crate::server) fn may_refresh(&self, name: &Name) -> bool {
        match &self.0 {
            Who::Anyone => true,
            Who::Nobody => false,
            Who::Known(known) => known.grant.refresh && known.grant.covers(name),
        }
    }

    /// Whether they see how samovar itself is doing, whatever that names.
    pub(in crate::server) fn may_operate(&self) -> bool {
        match &self.0 {
            Who::Anyone => true,
            Who::Nobody => false,
            Who::Known(known) => known.grant.operate || known.grant.is_whole(),
        }
    }

    /// Whether what let them in is still good. What lasts, such as a stream of events, asks again from time to time.
    pub(in crate::server) fn is_current(&self) -> bool {
        match &self.0 {
            Who::Known(known) => !known.withdrawn.load(Ordering::Relaxed),
            Who::Anyone | Who::Nobody => true,
        }
    }

    /// What is under way for them, whatever address they ask from.
    pub(super) fn standing(&self) -> Option<&Arc<Standing>> {
        match &self.0 {
            Who::Known(known) => Some(&known.standing),
            Who::Anyone | Who::Nobody => None,
        }
    }
}

/// Who asks, as was found out before. Where it was not, nobody.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(Self::nobody))
    }
}

#[cfg(test)]
mod tests {
    use samovar_registry::Glob;

    use super::*;

    #[test]
    fn nobody_may_do_anything_and_the_known_what_they_were_granted() {
        let name: Name = "ghcr.io/team/app".parse().unwrap();
        let other: Name = "ghcr.io/other/app".parse().unwrap();
        let nobody = Caller::nobody();
        assert!(!nobody.may_read(&name) && !nobody.may_refresh(&name) && !nobody.may_operate());
        let grant = |read: &str, refresh, operate| {
            let grant = Grant { read: [Glob::new(read).unwrap()].into_iter().collect(), refresh, operate };
            Caller::known(Known::new("x".to_owned(), grant, Arc::default()))
        };
        let reader = grant("ghcr.io/team/*", false, false);
        assert!(reader.may_read(&name) && !reader.may_refresh(&name) && !reader.may_operate());
        assert!(!reader.may_read(&other));
        let refresher = grant("ghcr.io/team/*", true, true);
        assert!(refresher.may_refresh(&name) && !refresher.may_refresh(&other) && refresher.may_operate());
        assert!(grant("*", false, false).may_operate(), "who reads everything learns nothing new from it");
    }
}
