//! How the store is doing: whether it answers, and what it says of itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::Doors;
use crate::store::{Client, Key, SetAside, Statistics};

/// A store that does not answer within this is not ready.
const READY_LIMIT: Duration = Duration::from_secs(2);
/// A store that does not say within this how it stands is shown without.
const STATISTICS_LIMIT: Duration = Duration::from_millis(500);

/// The part of a store in two parts that lies on this machine.
#[derive(Debug, Clone)]
pub struct LocalTier {
    /// Its directory.
    pub path: PathBuf,
    /// The part by itself.
    pub client: Arc<dyn Client>,
}

/// The store in the answer of `GET /api/v1/status`. What is not known is absent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StoreStatus {
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    url: String,
    /// Why it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(flatten)]
    holds: Statistics,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_tier: Option<LocalTierStatus>,
    /// Files that could not be used and were moved aside, in the directory of the store or of its local tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    set_aside: Option<SetAsideStatus>,
}

impl StoreStatus {
    /// The same for those who are not to know where the store is.
    pub(super) fn without_places(self) -> Self {
        let error = self.error.map(|_| "the store does not answer".to_owned());
        Self { url: String::new(), error, local_tier: None, set_aside: None, ..self }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct SetAsideStatus {
    files: u64,
    bytes: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct LocalTierStatus {
    path: String,
    #[serde(flatten)]
    holds: Statistics,
}

/// Whether the store answers, and if not, why.
pub(super) async fn answers(doors: &Doors) -> Result<(), String> {
    let any_key = Key::Lane("ready".to_owned());
    match tokio::time::timeout(READY_LIMIT, doors.store.get(&any_key)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the store does not answer within {}s", READY_LIMIT.as_secs())),
    }
}

/// What is shown of the store.
pub(super) async fn status(doors: &Doors) -> StoreStatus {
    let (answers, (store, local_tier)) = tokio::join!(answers(doors), statistics(doors));
    let local_tier = doors.local_tier.as_ref().map(|tier| {
        let path = tier.path.display().to_string();
        LocalTierStatus { path, holds: local_tier.unwrap_or_default() }
    });
    StoreStatus {
        kind: doors.store.kind(),
        url: doors.store_url.clone(),
        error: answers.err(),
        holds: store.unwrap_or_default(),
        local_tier,
        set_aside: set_aside(doors),
    }
}

fn set_aside(doors: &Doors) -> Option<SetAsideStatus> {
    let SetAside { files, bytes } = doors.embedded.as_ref()?.set_aside();
    (files > 0).then_some(SetAsideStatus { files, bytes })
}

/// What the store and its local tier say of themselves, as far as they do so in time. The gauges of both follow.
pub(super) async fn statistics(doors: &Doors) -> (Option<Statistics>, Option<Statistics>) {
    let of = async |client: &Arc<dyn Client>| {
        tokio::time::timeout(STATISTICS_LIMIT, client.statistics()).await.ok()?.ok()
    };
    let of_local_tier = async {
        match &doors.local_tier {
            Some(tier) => of(&tier.client).await,
            None => None,
        }
    };
    tokio::join!(of(&doors.store), of_local_tier)
}
