//! Metrics of the OCI door.

use prometheus::{IntCounterVec, Registry};

use super::counters;

/// How it went when a client waited for something to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// It has come.
    Ok,
    /// The registry has no such thing.
    NotThere,
    /// It could not be fetched.
    Failed,
    /// It has not come in time.
    Late,
    /// Too much was being asked for.
    Refused,
}

impl Waited {
    const ALL: [Self; 5] = [Self::Ok, Self::NotThere, Self::Failed, Self::Late, Self::Refused];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotThere => "not_there",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug)]
pub(super) struct OciMetrics {
    waited: IntCounterVec,
}

impl OciMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let waited = counters(
            registry,
            "samovar_oci_waits_total",
            "Requests to the OCI door that waited for something to be fetched, by how that went.",
            &["outcome"],
        );
        for outcome in Waited::ALL {
            waited.with_label_values(&[outcome.as_str()]);
        }
        Self { waited }
    }

    pub(super) fn waited(&self, outcome: Waited) {
        self.waited.with_label_values(&[outcome.as_str()]).inc();
    }
}
