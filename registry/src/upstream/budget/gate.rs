//! What a waiter stands before, and what it is told.

use std::time::Duration;

use tokio::time::Instant;

use super::RequestKind;
use super::account::Sent;
use crate::credentials::Identity;
use crate::upstream::Urgency;
use crate::upstream::limits::Quota;

/// A place in a queue: urgency first, then arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) urgency: Urgency,
    pub(super) arrival: u64,
}

/// What a waiter stands before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gate {
    /// What is open to all requests of a kind.
    Kind(RequestKind),
    /// The quota that requests to the registry by this identity count against.
    Quota(Identity),
}

impl Gate {
    pub(super) fn kind(&self) -> RequestKind {
        match self {
            Self::Kind(kind) => *kind,
            Self::Quota(_) => RequestKind::Registry,
        }
    }
}

/// Whether a gate lets its first waiter through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Open,
    At(Instant),
    /// When one that is under way has ended.
    AfterOther,
    /// Only after so long that waiting does not pay.
    NotSoon(Instant),
}

/// What a waiter is to do.
pub(super) enum Turn {
    /// It may go.
    Go(Admission),
    /// Look again then, or when notified.
    At(Instant),
    /// Look again when notified.
    Later,
    /// Give up, and come back after this time.
    ComeBack { after: Duration, quota: Option<Quota> },
}

/// What is remembered of a request that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission {
    pub(super) number: u64,
    pub(super) sent: Sent,
    pub(super) is_probe: bool,
}
