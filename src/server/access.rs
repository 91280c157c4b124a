//! Who asks, and what they may.
//!
//! Invariants:
//! - every handler that reads or refreshes what has a name asks the [`Caller`] first; a caller that nobody identified may
//!   do nothing;
//! - what a caller may not see is answered as what does not exist.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use samovar_registry::{Globs, Name};

/// Who asks. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Caller(Who);

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
    /// How they are called, for limits; it is no secret.
    pub(super) name: String,
    pub(super) grant: Grant,
    withdrawn: AtomicBool,
}

/// What somebody may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// The repositories that they may read.
    pub read: Globs,
    /// Whether they may have these refreshed.
    pub refresh: bool,
    /// Whether they see how samovar itself is doing: metrics, and the whole of the status.
    pub operate: bool,
}

impl Caller {
    /// Whoever it is, where nobody is asked.
    pub(super) fn anyone() -> Self {
        Self(Who::Anyone)
    }

    /// Somebody who may do nothing.
    pub(super) fn nobody() -> Self {
        Self(Who::Nobody)
    }

    /// Whether they may see a repository.
    pub(super) fn may_read(&self, name: &Name) -> bool {
        match &self.0 {
            Who::Anyone => true,
            Who::Nobody => false,
            Who::Known(known) => known.grant.read.matches_name(name),
        }
    }

    /// Whether they may have a repository refreshed.
    pub(super) fn may_refresh(&self, name: &Name) -> bool {
        match &self.0 {
            Who::Anyone => true,
            Who::Nobody => false,
            Who::Known(known) => known.grant.refresh && known.grant.read.matches_name(name),
        }
    }

    /// Whether they see how samovar itself is doing, whatever that names.
    pub(super) fn may_operate(&self) -> bool {
        match &self.0 {
            Who::Anyone => true,
            Who::Nobody => false,
            Who::Known(known) => {
                known.grant.operate || known.grant.read.iter().any(|glob| glob.as_str() == "*")
            }
        }
    }

    /// Whether what let them in is still good. What lasts, such as a stream of events, asks again from time to time.
    pub(super) fn is_current(&self) -> bool {
        match &self.0 {
            Who::Known(known) => !known.withdrawn.load(Ordering::Relaxed),
            Who::Anyone | Who::Nobody => true,
        }
    }
}

/// Who asks, as [`identify`] found out. Where that was not asked, nobody.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(Self::nobody))
    }
}

/// Finds out who asks.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller::anyone());
    next.run(request).await
}
