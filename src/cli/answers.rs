//! The server's answers as far as the commands read them. Lenient: what is not needed may be absent, what is not
//! known here is skipped, so that an older program understands a newer server.

use std::collections::BTreeMap;

use jiff::Timestamp;
use samovar_registry::{Digest, ImageInfo};
use serde::Deserialize;

/// `GET /api/v1/repositories/{name}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct RepositoryAnswer {
    pub(super) name: String,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) images: BTreeMap<String, ImageInfo>,
    #[serde(default)]
    pub(super) unavailable: BTreeMap<String, UnavailableTag>,
    #[serde(default)]
    pub(super) complete: bool,
    #[serde(default)]
    pub(super) last_update: Option<Timestamp>,
    #[serde(default)]
    pub(super) last_error: Option<LastError>,
}

/// A tag that is listed and has no image to show.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct UnavailableTag {
    pub(super) state: String,
    #[serde(default)]
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) attempts: Option<u64>,
    #[serde(default)]
    pub(super) next_attempt: Option<Timestamp>,
}

/// `GET /api/v1/latest/{name}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct LatestAnswer {
    pub(super) name: String,
    #[serde(default)]
    pub(super) complete: bool,
    #[serde(default)]
    pub(super) tags: Vec<LatestTag>,
    #[serde(default)]
    pub(super) left_out: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) left_out_more: usize,
}

/// A tag that a policy chose.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct LatestTag {
    pub(super) tag: String,
    #[serde(default)]
    pub(super) digest: Option<Digest>,
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) platforms: Vec<String>,
    #[serde(default)]
    pub(super) unavailable: Option<UnavailableTag>,
}

/// `GET /api/v1/history/{name}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct HistoryAnswer {
    #[serde(default)]
    pub(super) events: Vec<EventAnswer>,
}

/// What happened to a repository.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct EventAnswer {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) tag: Option<String>,
    #[serde(default)]
    pub(super) old: Option<Digest>,
    #[serde(default)]
    pub(super) new: Option<Digest>,
    pub(super) at: Timestamp,
    #[serde(default)]
    pub(super) cause: String,
}

/// Why the list of tags could not be read again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct LastError {
    pub(super) message: String,
    pub(super) at: Timestamp,
}

/// `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct StatusAnswer {
    pub(super) version: String,
    #[serde(default)]
    pub(super) started_at: Option<Timestamp>,
    pub(super) ready: bool,
    pub(super) store: StoreStatus,
    pub(super) warmer: WarmerStatus,
    #[serde(default)]
    pub(super) queue: QueueStatus,
    #[serde(default)]
    pub(super) sources: Vec<SourceStatus>,
    #[serde(default)]
    pub(super) lanes: Vec<LaneStatus>,
    #[serde(default)]
    pub(super) hooks: Vec<ReceiverStatus>,
    #[serde(default)]
    pub(super) hosts: Vec<HostStatus>,
    #[serde(default)]
    pub(super) unverified_hosts: Vec<String>,
}

/// Repositories that wait for their turn.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct QueueStatus {
    pub(super) asked: u64,
    pub(super) new: u64,
    pub(super) due: u64,
    pub(super) background: u64,
    #[serde(default)]
    pub(super) longest_wait_seconds: Option<f64>,
}

/// Who asks a registry host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct LaneStatus {
    pub(super) standing: String,
}

/// A receiver of webhooks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct ReceiverStatus {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) unauthenticated: bool,
    #[serde(default)]
    pub(super) last_received: Option<Timestamp>,
    #[serde(default)]
    pub(super) last_refused: Option<RefusalStatus>,
    #[serde(default)]
    pub(super) problem: Option<String>,
}

/// A delivery that was refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct RefusalStatus {
    pub(super) at: Timestamp,
    pub(super) outcome: String,
}

/// The store behind the server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct StoreStatus {
    pub(super) kind: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) error: Option<String>,
    #[serde(flatten)]
    pub(super) holds: Holds,
    #[serde(default)]
    pub(super) local_tier: Option<LocalTierStatus>,
    #[serde(default)]
    pub(super) set_aside: Option<SetAsideStatus>,
}

/// Store files that the server could not use and keeps.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct SetAsideStatus {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// The part of the store that lies on the server's own machine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct LocalTierStatus {
    pub(super) path: String,
    #[serde(flatten)]
    pub(super) holds: Holds,
}

/// What a store says that it holds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Holds {
    #[serde(default)]
    pub(super) entries: Option<u64>,
    #[serde(default)]
    pub(super) used_bytes: Option<u64>,
    #[serde(default)]
    pub(super) limit_bytes: Option<u64>,
    #[serde(default)]
    pub(super) evicted: Option<u64>,
    #[serde(default)]
    pub(super) full: bool,
}

/// How far the warmer is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct WarmerStatus {
    pub(super) repositories: u64,
    pub(super) complete: u64,
    pub(super) queued: u64,
    pub(super) running: u64,
    #[serde(default)]
    pub(super) unsaved: u64,
    #[serde(default)]
    pub(super) unwatched: u64,
}

/// Where the watch list comes from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct SourceStatus {
    pub(super) name: String,
    pub(super) repositories: u64,
    #[serde(default)]
    pub(super) problems: Vec<String>,
}

/// What may still be asked of a registry host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct HostStatus {
    pub(super) host: String,
    pub(super) rate: f64,
    pub(super) burst: f64,
    pub(super) in_flight: u64,
    pub(super) waiting: u64,
    #[serde(default)]
    pub(super) blocked_for_seconds: Option<f64>,
    #[serde(default)]
    pub(super) blocked_by: Option<String>,
    #[serde(default)]
    pub(super) configured_rate: Option<f64>,
    #[serde(default)]
    pub(super) quota: Option<QuotaStatus>,
    #[serde(default)]
    pub(super) quotas: Vec<IdentityQuotaStatus>,
}

/// What is left to one identity at a registry host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct IdentityQuotaStatus {
    pub(super) identity: String,
    #[serde(flatten)]
    pub(super) quota: QuotaStatus,
    #[serde(default)]
    pub(super) source: Option<String>,
    #[serde(default)]
    pub(super) resets_in_seconds: Option<u64>,
}

/// What the registry says of its own limit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct QuotaStatus {
    #[serde(default)]
    pub(super) limit: Option<u64>,
    #[serde(default)]
    pub(super) remaining: Option<u64>,
    #[serde(default)]
    pub(super) window_seconds: Option<u64>,
}

/// An error by RFC 9457.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct ProblemAnswer {
    #[serde(rename = "type", default)]
    pub(super) problem_type: Option<String>,
    #[serde(default)]
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) detail: Option<String>,
}

impl ProblemAnswer {
    /// The last part of the type: `not-watched` for `https://…/not-watched` and for `not-watched`.
    pub(super) fn kind(&self) -> &str {
        let problem_type = self.problem_type.as_deref().unwrap_or_default();
        problem_type.rsplit(['/', ':', '#']).next().unwrap_or_default()
    }
}
