//! What Amazon's registry says of itself beside the distribution protocol: `DescribeImages`.

use std::collections::HashMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::error::SdkError;
use aws_sdk_ecr::operation::describe_images::DescribeImagesError;
use aws_sdk_ecr::types::{DescribeImagesFilter, TagStatus};
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::failure::{shown, without_secrets};
use super::super::hosts::ecr_place;
use super::{CONNECT_TIMEOUT, Found, configuration};
use crate::words;

/// A client, with the identity that it found, is used for so long: then a rotated key or another profile is found.
const CLIENT_FOR: Duration = Duration::from_hours(1);
/// How many clients are kept, one for each region.
const MOST_CLIENTS: usize = 64;
/// How many images a page is asked for: the most that there are on one.
const PAGE_SIZE: i32 = 1_000;
/// For one page, finding the identity left out.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// For one page with everything.
const LONGEST_PAGE: Duration = Duration::from_secs(30);

/// The services of Amazon's regions.
#[derive(Debug, Default)]
pub(crate) struct EcrApis {
    /// Used in place of what environment, profile or instance say.
    given: Option<SdkConfig>,
    clients: Mutex<HashMap<Place, (Instant, Client)>>,
}

/// The region, where the host names one, and whether its endpoint is one of FIPS 140.
type Place = (Option<String>, bool);

/// A tag of an image.
#[derive(Debug)]
pub(crate) struct EcrTag {
    pub(crate) tag: String,
    pub(crate) digest: Option<String>,
    /// When the image was pushed; the tag may have been given to it later.
    pub(crate) pushed_at: Option<Timestamp>,
}

/// Why there is no page. The messages are bounded and without secrets.
#[derive(Debug)]
pub(crate) enum EcrFailure {
    /// Whoever we are may not.
    Denied(String),
    /// There is no such repository.
    Missing(String),
    /// The service answered otherwise with this status.
    Status(u16, String),
    Timeout(Duration),
    /// There was no answer, or one that cannot be read, or no identity to ask with.
    Other(String),
}

impl EcrApis {
    /// Those that are configured like this, whatever environment, profile or instance say.
    pub(crate) fn given(config: SdkConfig) -> Self {
        Self { given: Some(config), clients: Mutex::default() }
    }

    /// A page of the tags of a repository at a canonical host, in no order, with what asks for the next page.
    pub(crate) async fn tags(
        &self,
        host: &str,
        repository: &str,
        next: Option<&str>,
    ) -> Result<(Vec<EcrTag>, Option<String>), EcrFailure> {
        let page = tokio::time::timeout(LONGEST_PAGE, self.page(host, repository, next));
        page.await.unwrap_or(Err(EcrFailure::Timeout(LONGEST_PAGE)))
    }

    async fn page(
        &self,
        host: &str,
        repository: &str,
        next: Option<&str>,
    ) -> Result<(Vec<EcrTag>, Option<String>), EcrFailure> {
        let client = self.client(host).await.map_err(EcrFailure::Other)?;
        // Behind a name of one's own it is that of the identity.
        let account = ecr_place(host).and_then(|_| host.split_once('.')).map(|(account, _)| account);
        let request = client
            .describe_images()
            .set_registry_id(account.map(str::to_owned))
            .repository_name(repository)
            .filter(DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build())
            .max_results(PAGE_SIZE)
            .set_next_token(next.map(str::to_owned));
        let page = request.send().await.map_err(|error| failure(&error))?;
        let next = page.next_token().filter(|next| !next.is_empty()).map(str::to_owned);
        let mut tags = Vec::new();
        for image in page.image_details.unwrap_or_default() {
            let pushed_at = image.image_pushed_at().and_then(|at| Timestamp::from_second(at.secs()).ok());
            for tag in image.image_tags.unwrap_or_default() {
                tags.push(EcrTag { tag, digest: image.image_digest.clone(), pushed_at });
            }
        }
        Ok((tags, next))
    }

    async fn client(&self, host: &str) -> Result<Client, String> {
        let place = ecr_place(host);
        let (region, is_fips) = (place.map(|place| place.region), place.is_some_and(|place| place.is_fips));
        let place = (region.map(str::to_owned), is_fips);
        let mut clients = self.clients.lock().await;
        clients.retain(|_, (made, _)| made.elapsed() < CLIENT_FOR);
        if let Some((_, client)) = clients.get(&place) {
            return Ok(client.clone());
        }
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        let config = match &self.given {
            Some(config) => config.clone(),
            None => configuration(region, is_fips, &Found::default()).await?,
        };
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
        let config = aws_sdk_ecr::config::Builder::from(&config)
            // Each request draws on the host's budget.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts.operation_attempt_timeout(PAGE_TIMEOUT).build());
        let client = Client::from_conf(config.build());
        clients.insert(place, (Instant::now(), client.clone()));
        Ok(client)
    }
}

fn failure(error: &SdkError<DescribeImagesError>) -> EcrFailure {
    if matches!(error, SdkError::TimeoutError(_)) {
        return EcrFailure::Timeout(PAGE_TIMEOUT);
    }
    let SdkError::ServiceError(answer) = error else {
        return EcrFailure::Other(words::printable(&shown(error)));
    };
    let meta = answer.err().meta();
    let (code, message) = (meta.code().unwrap_or("failed"), meta.message().unwrap_or_default());
    let said = words::printable(&without_secrets(&format!("{code}: {message}")));
    match code {
        "AccessDeniedException" => EcrFailure::Denied(said),
        "RepositoryNotFoundException" => EcrFailure::Missing(said),
        _ => EcrFailure::Status(answer.raw().status().as_u16(), said),
    }
}
