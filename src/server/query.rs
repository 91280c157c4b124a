//! Query parameters and names, read strictly: what is unknown or invalid is a problem, never ignored.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use jiff::SignedDuration;
use samovar_registry::{Aliases, Name, Reference};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use super::problem::Problem;

/// A long poll lasts no longer.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// The query's parameters as a `T` that denies unknown fields.
pub(super) struct StrictQuery<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(parameters) =
            Query::try_from_uri(&parts.uri).map_err(|error| Problem::bad_request(error.body_text()))?;
        Ok(Self(parameters))
    }
}

/// The query's parameters as they are, in their order: for calls that take some of them several times.
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Pairs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(parameters) =
            Query::try_from_uri(&parts.uri).map_err(|error| Problem::bad_request(error.body_text()))?;
        Ok(Self(parameters))
    }
}

/// For calls that take no parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

/// For calls that can wait.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitParameters {
    /// How long to wait: `30s`, at most 5 minutes.
    #[serde(default, deserialize_with = "wait")]
    #[param(value_type = Option<String>, example = "1s")]
    pub(super) wait: Option<Duration>,
}

/// A duration such as `30s`, no longer than five minutes.
pub(super) fn wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    use serde::de::Error;
    let text = String::deserialize(deserializer)?;
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| D::Error::custom(format!("wait: {text:?} is not a duration such as 30s")))?;
    let duration =
        Duration::try_from(duration).map_err(|_| D::Error::custom("wait: must not be negative"))?;
    if duration > LONGEST_WAIT {
        return Err(D::Error::custom(format!("wait: at most {}s", LONGEST_WAIT.as_secs())));
    }
    Ok(Some(duration))
}

type NamePath = Result<Path<String>, PathRejection>;

/// The repository named at the end of the path.
pub(super) fn name(path: NamePath, aliases: &Aliases) -> Result<Name, Problem> {
    let Path(text) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    Name::parse(&text, aliases).map_err(|error| Problem::bad_request(error.to_string()))
}

/// The image named at the end of the path, by tag or digest.
pub(super) fn image(path: NamePath, aliases: &Aliases) -> Result<Reference, Problem> {
    let Path(text) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let reference =
        Reference::parse(&text, aliases).map_err(|error| Problem::bad_request(error.to_string()))?;
    if reference.tag().is_none() && reference.digest().is_none() {
        return Err(Problem::bad_request(format!("{reference}: an image is named by :tag or @digest")));
    }
    Ok(reference)
}
