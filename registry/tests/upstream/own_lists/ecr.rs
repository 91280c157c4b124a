//! Amazon's list of images.

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use samovar_registry::upstream::{ErrorClass, Operation, Outcome};

use super::*;

const SECRET: &str = "ecr-secret-key-that-nobody-sees";

/// A client that signs with this key, and finds Amazon's interface at the registry.
pub(super) fn signing(setup: Setup, key: &str) -> Setup {
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-test-1"))
        .endpoint_url(format!("http://{}", setup.registry.host()))
        // More than once only if retries were not ended.
        .retry_config(RetryConfig::standard())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            key, SECRET, None, None, "test",
        )))
        .build();
    setup.with_factory(|factory| factory.with_amazon(config))
}

async fn open() -> Own {
    Own::open(HintSource::Ecr, dialects::ecr::dialect()).await
}

async fn open_as(key: &str) -> Own {
    let mut own = open().await;
    own.setup = signing(own.setup, key);
    own.upstream = own.setup.upstream();
    own
}

#[tokio::test]
async fn all_images_are_read_a_thousand_at_a_time_and_told_if_anything_has_changed() {
    let mut own = open().await;
    for number in 0..1_100 {
        own.push(&format!("v{number}"), &number.to_string());
    }
    own.list().await;
    let (plain, _) = own.asked();
    assert_eq!(own.newer().await.len(), 1_100);
    assert_eq!(own.asked(), (0, 2));
    assert!(matches!(own.list().await, Listing::Unchanged(_)));
    assert_eq!(own.asked(), (0, 2));
    let told = own.setup.observed.requests();
    assert!(
        told.iter().all(|(operation, outcome, _)| (*operation, *outcome) == (Operation::Tags, Outcome::Ok))
    );
    assert_eq!(told.len(), plain + 4, "all of Amazon's pages are told of, too");

    // To an image that was there before: no time tells of it.
    let moved = own.push("v7", "8");
    let hints = own.newer().await;
    assert_eq!(own.asked(), (0, 2));
    let hint = &hints["v7"];
    assert_eq!((hint.digest.as_ref(), hint.source), (Some(&moved), HintSource::Ecr));
    assert!(hint.pushed_at.is_some());
}

#[tokio::test]
async fn who_may_not_is_asked_for_that_repository_once_a_day() {
    let mut own = open_as("AKIADENIED").await;
    own.push("v1", "v1");
    own.setup.registry.push("team/other", "v1", &Image::new("v1"));
    own.list().await;
    own.asked();
    own.push("v2", "v2");
    assert!(matches!(own.list().await, Listing::Whole(..)));
    assert_eq!(own.asked(), (1, 1));
    let denied = (Operation::Tags, Outcome::Failed(ErrorClass::Unauthorized), 0);
    assert!(own.setup.observed.requests().contains(&denied));
    own.list().await;
    assert_eq!(own.asked(), (1, 0));

    let other = own.setup.factory.upstream(&own.setup.name("team/other"), &CredentialChain::default());
    let Listing::Whole(_, state) = other.list(None, Urgency::Background).await.unwrap() else { panic!() };
    own.asked();
    other.list(Some(&state), Urgency::Background).await.unwrap();
    assert_eq!(own.asked(), (1, 1), "nothing is known of this one");
    own.clock.advance(24 * 60 * MINUTE);
    own.list().await;
    own.asked();
    own.list().await;
    assert_eq!(own.asked(), (1, 1));
}

#[tokio::test]
async fn a_surprise_is_asked_for_once_and_the_host_left_alone_for_a_while() {
    for surprise in [
        Action::status(500),
        Action::status(429),
        Action::CloseConnection,
        Action::body("application/x-amz-json-1.1", "<html>"),
        Action::body("application/x-amz-json-1.1", r#"{"imageDetails":[{"imageTags":["v1"]}]}"#),
        Action::body(
            "application/x-amz-json-1.1",
            r#"{"imageDetails":[{"imageTags":["../x"],"imageDigest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}"#,
        ),
    ] {
        let mut own = open().await;
        own.push("v1", "v1");
        own.list().await;
        own.asked();
        own.push("v2", "v2");
        own.setup.registry.fault(Fault::on(RequestKind::Other), surprise.clone());
        assert!(matches!(own.list().await, Listing::Whole(..)), "{surprise:?}");
        assert_eq!(own.asked(), (1, 1), "{surprise:?}");
        own.list().await;
        assert_eq!(own.asked(), (1, 0), "{surprise:?}");
    }
}
