//! One receiver: who may tell it something, in whose words, and what became of that.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use samovar_registry::Aliases;
use serde::Serialize;

use super::hint::Place;
use super::proof::Proof;
use crate::config::{HookConfig, HookType};

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliveryOutcome {
    /// Something that it told of is being looked at.
    Taken,
    /// Nothing that it told of is watched.
    Unwatched,
    /// It told of nothing that is to be looked at.
    Ignored,
    /// It cannot be understood.
    Malformed,
    /// Its sender did not prove who it is.
    Unauthorized,
    /// There was no room for it, or no way to find out whom it comes from.
    Busy,
}

impl DeliveryOutcome {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Taken, Self::Unwatched, Self::Ignored, Self::Malformed, Self::Unauthorized, Self::Busy];

    /// As a label, and in the status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Unwatched => "unwatched",
            Self::Ignored => "ignored",
            Self::Malformed => "malformed",
            Self::Unauthorized => "unauthorized",
            Self::Busy => "busy",
        }
    }
}

/// One receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) name: String,
    pub(super) kind: HookType,
    pub(super) place: Place,
    pub(super) proof: Proof,
    last: Mutex<Last>,
}

/// When something last came.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    /// From whom it should, and could be understood.
    good: Option<Timestamp>,
    bad: Option<(Timestamp, DeliveryOutcome)>,
}

/// A receiver in the status.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct ReceiverStatus {
    name: String,
    r#type: &'static str,
    /// Nobody has to prove anything.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    unauthenticated: bool,
    /// When a delivery was last accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_received: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_refused: Option<RefusalStatus>,
    /// What is wrong with its secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// A delivery that was refused.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct RefusalStatus {
    at: Timestamp,
    outcome: &'static str,
}

impl Receiver {
    /// As configured. An error says what is wrong with its secrets.
    pub(super) fn new(config: HookConfig, aliases: &Aliases) -> Result<Self, String> {
        let HookConfig { name, kind, proof, registry, prefix } = config;
        let proof =
            Proof::new(kind, proof).map_err(|reason| format!("the secrets of hooks.{name}: {reason}"))?;
        let place = Place { aliases: aliases.clone(), registry, prefix };
        Ok(Self { name, kind, place, proof, last: Mutex::default() })
    }

    /// Takes note of what became of a delivery.
    pub(super) fn note(&self, outcome: DeliveryOutcome, now: Timestamp) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            DeliveryOutcome::Taken | DeliveryOutcome::Unwatched | DeliveryOutcome::Ignored => {
                last.good = Some(now);
            }
            refused => last.bad = Some((now, refused)),
        }
    }

    pub(super) fn status(&self) -> ReceiverStatus {
        let Last { good, bad } = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        ReceiverStatus {
            name: self.name.clone(),
            r#type: self.kind.as_str(),
            unauthenticated: matches!(self.proof, Proof::None),
            last_received: good,
            last_refused: bad.map(|(at, outcome)| RefusalStatus { at, outcome: outcome.as_str() }),
            problem: self.proof.secrets().and_then(super::secrets::Secrets::problem),
        }
    }
}
