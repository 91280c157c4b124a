//! Metrics of who is let in.

use prometheus::{IntCounterVec, Registry};

use super::counters;

/// Why somebody was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No credentials.
    Missing,
    /// Credentials that nobody knows.
    Bad,
    /// Too many of them.
    TooMany,
    /// Those who know could not be asked.
    Unreachable,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Missing, Self::Bad, Self::TooMany, Self::Unreachable];

    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Bad => "bad",
            Self::TooMany => "too_many",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Which limit somebody met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitedBy {
    Rate,
    Concurrency,
    Connections,
}

impl LimitedBy {
    const ALL: [Self; 3] = [Self::Rate, Self::Concurrency, Self::Connections];

    fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Concurrency => "concurrency",
            Self::Connections => "connections",
        }
    }
}

#[derive(Debug)]
pub(super) struct AccessMetrics {
    refused: IntCounterVec,
    limited: IntCounterVec,
}

impl AccessMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let refused = counters(
            registry,
            "samovar_refused_callers_total",
            "Requests of callers that could not be identified, by why.",
            &["reason"],
        );
        for reason in Refusal::ALL {
            refused.with_label_values(&[reason.as_str()]);
        }
        let limited = counters(
            registry,
            "samovar_limited_requests_total",
            "Requests that were refused by a limit, by which one.",
            &["by"],
        );
        for by in LimitedBy::ALL {
            limited.with_label_values(&[by.as_str()]);
        }
        Self { refused, limited }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused.with_label_values(&[refusal.as_str()]).inc();
    }

    pub(super) fn limited(&self, by: LimitedBy) {
        self.limited.with_label_values(&[by.as_str()]).inc();
    }
}
