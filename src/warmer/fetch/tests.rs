use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use samovar_registry::upstream::{ListState, Listing};
use tokio::time::timeout;

use super::*;
use crate::store::Memory;

const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Has one manifest and one configuration, of the same bytes, and keeps the schedule waiting for ever.
#[derive(Debug)]
struct Busy;

impl Busy {
    async fn answer<T>(&self, urgency: Urgency, answer: T) -> Result<T, UpstreamError> {
        if urgency == Urgency::Background {
            std::future::pending::<()>().await;
        }
        Ok(answer)
    }
}

#[async_trait]
impl Upstream for Busy {
    async fn list(&self, _: Option<&ListState>, _: Urgency) -> Result<Listing, UpstreamError> {
        unreachable!("only documents are asked for")
    }

    async fn resolve(&self, _: &Tag, _: Urgency) -> Result<Option<Digest>, UpstreamError> {
        unreachable!("only documents are asked for")
    }

    async fn manifest(&self, _: ManifestSelector<'_>, urgency: Urgency) -> Result<Document, UpstreamError> {
        let (media_type, bytes) = (MEDIA_TYPE.to_owned(), Bytes::from_static(MANIFEST.as_bytes()));
        self.answer(urgency, Document { digest: digest(), media_type, bytes }).await
    }

    async fn config(&self, _: &Digest, urgency: Urgency) -> Result<Bytes, UpstreamError> {
        self.answer(urgency, Bytes::from_static(MANIFEST.as_bytes())).await
    }

    async fn referrers(&self, _: &Digest, _: Option<&str>, _: Urgency) -> Result<Document, UpstreamError> {
        unreachable!("only documents are asked for")
    }

    fn counts_manifest_gets(&self) -> bool {
        false
    }
}

fn digest() -> Digest {
    Digest::sha256(MANIFEST.as_bytes())
}

fn fetcher() -> Fetcher {
    Fetcher::new(Arc::new(Memory::default()), Arc::new(Metrics::new()))
}

fn asking(platforms: &Platforms, urgency: Urgency) -> Asking<'_> {
    Asking { host: "r.example", upstream: &Busy, platforms, urgency }
}

async fn stored_type(fetcher: &Fetcher) -> Option<String> {
    Documents(&*fetcher.store).get(&digest()).await.unwrap().map(|stored| stored.media_type)
}

#[tokio::test(start_paused = true)]
async fn what_somebody_asks_for_does_not_wait_behind_the_schedule() {
    let (fetcher, platforms) = (fetcher(), Platforms::default());
    let (background, asked) = (asking(&platforms, Urgency::Background), asking(&platforms, Urgency::Asked));
    let (digest, other, second) = (digest(), Digest::sha256(b"other"), Duration::from_secs(1));
    tokio::select! {
        biased;
        _ = fetcher.manifest(background, &digest) => panic!("the schedule is kept waiting"),
        _ = fetcher.config(background, &digest) => panic!("the schedule is kept waiting"),
        config = timeout(second, fetcher.config(asked, &digest)) => {
            config.expect("in time").unwrap();
        }
    }
    tokio::select! {
        biased;
        _ = fetcher.manifest(background, &other) => panic!("the schedule is kept waiting"),
        manifest = timeout(second, fetcher.manifest(asked, &other)) => {
            manifest.expect("in time").unwrap();
        }
    }
}

#[tokio::test]
async fn a_configuration_does_not_stand_in_for_a_manifest() {
    let (fetcher, platforms) = (fetcher(), Platforms::default());
    let asked = asking(&platforms, Urgency::Asked);
    fetcher.config(asked, &digest()).await.unwrap();
    assert_eq!(stored_type(&fetcher).await.as_deref(), Some(""));
    assert_eq!(fetcher.manifest(asked, &digest()).await.unwrap().media_type, MEDIA_TYPE);
    fetcher.config(asked, &digest()).await.unwrap();
    assert_eq!(stored_type(&fetcher).await.as_deref(), Some(MEDIA_TYPE), "it stays what it was");
}
