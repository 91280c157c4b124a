//! Amazon: `GetAuthorizationToken` of the Elastic Container Registry, asked with the identity that Amazon's own library
//! finds: environment, profile, web identity, container, instance role (IMDS version 2), in the order of its default chain.
//!
//! The library reads its usual variables itself, those that replace endpoints included (`AWS_ENDPOINT_URL_ECR`,
//! `AWS_ENDPOINT_URL_STS`, `AWS_EC2_METADATA_SERVICE_ENDPOINT`, `AWS_CONTAINER_CREDENTIALS_FULL_URI`). It is set up anew for each
//! login, so that a rotated key or another profile is used without a restart; that is twice a day.
//!
//! Deliberately absent: single sign-on and credential processes, which are for people at terminals, and the public gallery,
//! whose anonymous access needs no account.

use std::error::Error;
use std::iter;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_ecr::types::AuthorizationData;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

pub(crate) use api::{EcrApis, EcrFailure, EcrTag};

use super::failure::{MAX_CAUSES, shown, without_secrets};
use super::keeper::{Grant, Login, NoGrant};
use crate::credentials::Credentials;
use crate::{Clock, Secret};

mod api;

/// For one attempt at the instance's metadata service, and how many are made: outside of Amazon's cloud nobody answers there.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
const METADATA_ATTEMPTS: u32 = 2;

/// For one attempt at the registry's service or the token service, and how many are made.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 2;

/// Logs in to the private registries of a region.
#[derive(Debug)]
pub(super) struct EcrLogin {
    region: Option<String>,
    is_fips: bool,
    clock: Arc<dyn Clock>,
}

impl EcrLogin {
    /// For a region; `None` for the one that environment, profile or instance name.
    pub(super) fn new(region: Option<String>, is_fips: bool, clock: Arc<dyn Clock>) -> Self {
        Self { region, is_fips, clock }
    }
}

#[async_trait]
impl Login for EcrLogin {
    async fn log_in(&self) -> Result<Grant, NoGrant> {
        let found = Found::default();
        let config = configuration(self.region.as_deref(), self.is_fips, &found).await;
        let client = aws_sdk_ecr::Client::new(&config.map_err(|message| NoGrant { message, is_none: true })?);
        let answer = client.get_authorization_token().send().await;
        let answer = answer.map_err(|error| match error.as_service_error() {
            Some(error) => {
                let (code, message) = (error.meta().code(), error.meta().message());
                let said = [code.unwrap_or("failed"), message.unwrap_or_default()].join(": ");
                NoGrant::from(format!("{}: {}", found.source(), without_secrets(&said)))
            }
            None => NoGrant { message: shown(&error), is_none: has_no_identity(&error) },
        })?;
        let [data, ..] = answer.authorization_data() else {
            return Err("an answer without a token".into());
        };
        Ok(grant(data, found.source(), self.clock.now())?)
    }
}

/// How the services of a region are asked with the identity of this process; where no region is said, of the one that
/// environment, profile or instance name.
async fn configuration(region: Option<&str>, is_fips: bool, found: &Found) -> Result<SdkConfig, String> {
    let metadata = aws_config::imds::Client::builder()
        .max_attempts(METADATA_ATTEMPTS)
        .connect_timeout(METADATA_TIMEOUT)
        .read_timeout(METADATA_TIMEOUT)
        .build();
    let region = match region {
        Some(region) => Some(Region::new(region.to_owned())),
        None => own_region(metadata.clone()).await,
    };
    let Some(region) = region else {
        return Err("neither the registry's host nor the environment names a region".to_owned());
    };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(region.clone())
        .credentials_provider(identities(&region, metadata, found))
        .timeout_config(timeouts())
        .retry_config(retries());
    if is_fips {
        loader = loader.use_fips(true);
    }
    Ok(loader.load().await)
}

/// The region that environment, profile or instance name.
async fn own_region(metadata: aws_config::imds::Client) -> Option<Region> {
    let instance = ImdsRegionProvider::builder().imds_client(metadata).build();
    RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(instance)
        .region()
        .await
}

fn timeouts() -> TimeoutConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
    timeouts.operation_attempt_timeout(ATTEMPT_TIMEOUT).build()
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS)
}

/// Where an identity can come from, in the order of the library's default chain; the one that gives it is noted.
fn identities(
    region: &Region,
    metadata: aws_config::imds::Client,
    found: &Found,
) -> CredentialsProviderChain {
    let config = ProviderConfig::without_region()
        .with_region(Some(region.clone()))
        .with_timeout_config(timeouts())
        .with_retry_config(retries());
    let profile = ProfileFileCredentialsProvider::builder().configure(&config).build();
    let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(&config).build();
    let container = EcsCredentialsProvider::builder().configure(&config).build();
    let instance = ImdsCredentialsProvider::builder().configure(&config).imds_client(metadata).build();
    CredentialsProviderChain::first_try(
        "Environment",
        found.noting("environment", EnvironmentVariableCredentialsProvider::new()),
    )
    .or_else("Profile", found.noting("profile", profile))
    .or_else("WebIdentityToken", found.noting("web identity", web_identity))
    .or_else("EcsContainer", found.noting("container", container))
    .or_else("Ec2InstanceMetadata", found.noting("instance role", instance))
}

/// Whether none of the sources knows of an identity; what one knows and cannot use is another matter.
fn has_no_identity(error: &(dyn Error + 'static)) -> bool {
    let mut causes = iter::successors(Some(error), |&error| error.source()).take(MAX_CAUSES);
    causes.any(|cause| matches!(cause.downcast_ref(), Some(CredentialsError::CredentialsNotLoaded(_))))
}

/// Which source gave the identity.
#[derive(Debug, Clone, Default)]
struct Found(Arc<Mutex<Option<&'static str>>>);

impl Found {
    fn source(&self) -> &'static str {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or("unknown identity")
    }

    fn noting<P>(&self, source: &'static str, provider: P) -> Noting<P> {
        Noting { source, provider, found: self.clone() }
    }
}

/// Notes that it was this source that gave the identity.
#[derive(Debug)]
struct Noting<P> {
    source: &'static str,
    provider: P,
    found: Found,
}

impl<P: ProvideCredentials> ProvideCredentials for Noting<P> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let keys = self.provider.provide_credentials().await?;
            *self.found.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.source);
            Ok(keys)
        })
    }
}

/// The user and password that the token holds: `AWS:…` in base64.
fn grant(data: &AuthorizationData, source: &str, now: Timestamp) -> Result<Grant, String> {
    let token = data.authorization_token().unwrap_or_default();
    let decoded = STANDARD.decode(token).ok().and_then(|decoded| String::from_utf8(decoded).ok());
    let login = decoded.as_deref().and_then(|login| login.split_once(':'));
    let Some((username, password)) = login.filter(|(_, password)| !password.is_empty()) else {
        return Err("an answer with a token that is not a user and a password".to_owned());
    };
    let end = data.expires_at().and_then(|end| Timestamp::from_second(end.secs()).ok());
    let Some(end) = end else {
        return Err("an answer that does not say how long its token is good".to_owned());
    };
    Ok(Grant {
        credentials: Credentials::Basic {
            username: username.to_owned(),
            password: Secret::new(password),
            provenance: format!("Amazon ECR ({source})").into(),
        },
        lifetime: Duration::try_from(end.duration_since(now)).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::primitives::DateTime;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn data(login: &str, end: i64) -> AuthorizationData {
        let data = AuthorizationData::builder().authorization_token(STANDARD.encode(login));
        data.expires_at(DateTime::from_secs(end)).build()
    }

    #[test]
    fn the_token_is_a_user_and_a_password_until_it_ends() {
        let grant = grant(&data("AWS:pass:word", 43_200), "environment", NOW).unwrap();
        assert_eq!(grant.lifetime, Duration::from_hours(12));
        let Credentials::Basic { username, password, provenance } = grant.credentials else {
            panic!("not Basic")
        };
        assert_eq!(
            (&*username, password.reveal(), &*provenance),
            ("AWS", "pass:word", "Amazon ECR (environment)")
        );
    }

    #[test]
    fn tokens_that_say_nothing_are_refused_without_being_shown() {
        for data in [
            data("AWS", 43_200),
            data("AWS:", 43_200),
            AuthorizationData::builder().build(),
            AuthorizationData::builder().authorization_token("?secret?").build(),
            AuthorizationData::builder().authorization_token(STANDARD.encode("AWS:secret")).build(),
        ] {
            let message = grant(&data, "environment", NOW).unwrap_err();
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_token_that_has_ended_is_good_for_nothing() {
        assert_eq!(grant(&data("AWS:x", -5), "environment", NOW).unwrap().lifetime, Duration::ZERO);
    }

    #[derive(Debug)]
    struct Without(fn() -> CredentialsError);

    impl ProvideCredentials for Without {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(Err((self.0)()))
        }
    }

    #[tokio::test]
    async fn no_identity_is_something_else_than_one_that_cannot_be_used() {
        for (error, expected) in [
            ((|| CredentialsError::not_loaded("none here")) as fn() -> _, true),
            (|| CredentialsError::provider_error("access denied"), false),
            (|| CredentialsError::invalid_configuration("a broken profile"), false),
        ] {
            let chain = CredentialsProviderChain::first_try("Environment", Without(error));
            let config = aws_config::defaults(BehaviorVersion::latest())
                .region(Region::new("eu-west-1"))
                .credentials_provider(chain)
                .retry_config(retries());
            let client = aws_sdk_ecr::Client::new(&config.load().await);
            let failure = client.get_authorization_token().send().await.unwrap_err();
            assert_eq!(has_no_identity(&failure), expected, "{}", shown(&failure));
        }
    }
}
