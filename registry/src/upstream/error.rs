//! What can go wrong with an upstream request: one typed error, never matched by text.

use std::fmt;
use std::time::Duration;

use crate::{Digest, Name};

/// A failed request: where, at what, and how it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} of {repository} failed: {kind}")]
pub struct UpstreamError {
    /// The repository that was asked about; its host is the registry.
    pub repository: Name,
    /// What was being done.
    pub operation: Operation,
    /// What went wrong.
    pub kind: ErrorKind,
}

/// What was being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Listing the repositories of a registry.
    Catalog,
    /// Listing the tags.
    Tags,
    /// HEAD of a manifest.
    Resolve,
    /// GET of a manifest.
    Manifest,
    /// GET of an image configuration.
    Config,
    /// GET of what refers to a manifest, by the API or by the tag scheme.
    Referrers,
    /// Asking for a token.
    Token,
}

impl Operation {
    /// Every operation, for metrics that show all their label values from the start.
    pub const ALL: [Self; 7] = [
        Self::Catalog,
        Self::Tags,
        Self::Resolve,
        Self::Manifest,
        Self::Config,
        Self::Referrers,
        Self::Token,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Tags => "tags",
            Self::Resolve => "resolve",
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Referrers => "referrers",
            Self::Token => "token",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Catalog => "listing repositories",
            Self::Tags => "listing tags",
            Self::Resolve => "resolving a tag",
            Self::Manifest => "fetching a manifest",
            Self::Config => "fetching an image configuration",
            Self::Referrers => "listing referrers",
            Self::Token => "fetching a token",
        })
    }
}

/// Where in a request a timeout struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Connecting, TLS included.
    Connect,
    /// Waiting for the response's header.
    Header,
    /// Reading the body: nothing came for too long.
    Body,
    /// The request as a whole.
    Total,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "while connecting",
            Self::Header => "while waiting for the answer",
            Self::Body => "while reading the answer",
            Self::Total => "over the whole request",
        })
    }
}

/// What went wrong. Messages that come from a registry are cut to a bound and freed of control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// 401, after all that could be tried; or a token was refused.
    #[error("unauthorised with {credentials}{}", said(message.as_deref()))]
    Unauthorized {
        /// Which credentials were used, never the secret.
        credentials: String,
        /// The registry's own words.
        message: Option<String>,
    },
    /// 403.
    #[error("denied with {credentials}{}", said(message.as_deref()))]
    Denied {
        /// Which credentials were used, never the secret.
        credentials: String,
        /// The registry's own words.
        message: Option<String>,
    },
    /// 404: of the repository when listing, else of what was asked for.
    #[error("not found{}", said(message.as_deref()))]
    NotFound {
        /// The registry's own words.
        message: Option<String>,
    },
    /// 429. The host's budget is held back for as long.
    #[error("rate limited for {}s{}", retry_after.as_secs_f64().ceil(), said(message.as_deref()))]
    RateLimited {
        /// How long to wait.
        retry_after: Duration,
        /// The registry's own words.
        message: Option<String>,
    },
    /// The quota on what was asked for is used up, or what is left of it is for later. Everything else may be asked.
    #[error("the quota is short for {}s{}", retry_after.as_secs_f64().ceil(), said(message.as_deref()))]
    QuotaShort {
        /// How long to wait: until there is more, or it is the turn of what was asked for.
        retry_after: Duration,
        /// The registry's own words, or what is left.
        message: Option<String>,
    },
    /// It was not asked: it keeps failing, and is left alone for a while.
    #[error("left alone for {}s after {failures} failures in a row, the last: {last}", retry_after.as_secs_f64().ceil())]
    LeftAlone {
        /// How long to wait.
        retry_after: Duration,
        /// How often it failed.
        failures: u32,
        /// What the last failure was.
        last: String,
    },
    /// 5xx.
    #[error("the registry answered {status}{}", said(message.as_deref()))]
    Unavailable {
        /// The status.
        status: u16,
        /// The registry's own words.
        message: Option<String>,
    },
    /// Any other status that is not a success.
    #[error("the registry answered {status}{}", said(message.as_deref()))]
    Rejected {
        /// The status.
        status: u16,
        /// The registry's own words.
        message: Option<String>,
    },
    /// No answer in time.
    #[error("timed out {stage} after {}s", limit.as_secs_f64())]
    Timeout {
        /// Where.
        stage: Stage,
        /// The limit.
        limit: Duration,
    },
    /// Connecting, TLS or the connection failed.
    #[error("connection failed: {message}")]
    Transport {
        /// What the transport said.
        message: String,
    },
    /// The answer is not what the protocol says.
    #[error("bad answer: {message}")]
    Protocol {
        /// What is wrong with it.
        message: String,
    },
    /// The answer is larger than what is accepted.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The bound, in bytes.
        limit: u64,
    },
    /// The bytes are not those that the digest names.
    #[error("digest mismatch: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was asked for or announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// We would have had to do something that is not allowed, such as sending a secret elsewhere.
    #[error("refused: {message}")]
    Refused {
        /// What and why.
        message: String,
    },
}

fn said(message: Option<&str>) -> String {
    message.map_or_else(String::new, |message| format!(": {message}"))
}

/// The kinds of failure as bounded labels, for metrics, tag states and messages to programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// 401 or 403.
    Unauthorized,
    /// 404.
    NotFound,
    /// 429.
    RateLimited,
    /// 5xx.
    Unavailable,
    /// Another status.
    Rejected,
    /// No answer in time.
    Timeout,
    /// The connection failed.
    Transport,
    /// An answer that breaks the protocol.
    Protocol,
    /// An answer over its bound.
    TooLarge,
    /// Bytes that are not what the digest names.
    DigestMismatch,
    /// Not allowed on our side.
    Refused,
}

impl ErrorClass {
    /// Every class, for metrics that show all their label values from the start.
    pub const ALL: [Self; 11] = [
        Self::Unauthorized,
        Self::NotFound,
        Self::RateLimited,
        Self::Unavailable,
        Self::Rejected,
        Self::Timeout,
        Self::Transport,
        Self::Protocol,
        Self::TooLarge,
        Self::DigestMismatch,
        Self::Refused,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Transport => "transport",
            Self::Protocol => "protocol",
            Self::TooLarge => "too_large",
            Self::DigestMismatch => "digest_mismatch",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ErrorKind {
    /// The status of the answer that was the failure; `None` where there was no answer, or a successful one that was of no
    /// use.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Unauthorized { .. } => Some(401),
            Self::Denied { .. } => Some(403),
            Self::NotFound { .. } => Some(404),
            Self::RateLimited { .. } => Some(429),
            Self::Unavailable { status, .. } | Self::Rejected { status, .. } => Some(*status),
            Self::Timeout { .. }
            | Self::Transport { .. }
            | Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::DigestMismatch { .. }
            | Self::QuotaShort { .. }
            | Self::LeftAlone { .. }
            | Self::Refused { .. } => None,
        }
    }

    /// What the registry said about it in its own words, cut to a bound and without control characters.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Unauthorized { message, .. }
            | Self::Denied { message, .. }
            | Self::NotFound { message }
            | Self::RateLimited { message, .. }
            | Self::QuotaShort { message, .. }
            | Self::Unavailable { message, .. }
            | Self::Rejected { message, .. } => message.as_deref(),
            _ => None,
        }
    }

    /// When to come back, where the registry is to be left alone and nothing is wrong with what was asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. }
            | Self::QuotaShort { retry_after, .. }
            | Self::LeftAlone { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// The bounded label of this failure.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unauthorized { .. } | Self::Denied { .. } => ErrorClass::Unauthorized,
            Self::NotFound { .. } => ErrorClass::NotFound,
            Self::RateLimited { .. } | Self::QuotaShort { .. } => ErrorClass::RateLimited,
            Self::Unavailable { .. } | Self::LeftAlone { .. } => ErrorClass::Unavailable,
            Self::Rejected { .. } => ErrorClass::Rejected,
            Self::Timeout { .. } => ErrorClass::Timeout,
            Self::Transport { .. } => ErrorClass::Transport,
            Self::Protocol { .. } => ErrorClass::Protocol,
            Self::TooLarge { .. } => ErrorClass::TooLarge,
            Self::DigestMismatch { .. } => ErrorClass::DigestMismatch,
            Self::Refused { .. } => ErrorClass::Refused,
        }
    }
}

#[cfg(test)]
mod tests;
