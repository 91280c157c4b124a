//! The warmer with the client over HTTP, and a registry that is not sure of its digests.

use samovar::cache::records::TagStateName;
use samovar::store::Documents;
use samovar_registry::upstream::{HttpOptions, HttpUpstreams};
use samovar_registry::{Digest, SystemClock};
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind};

use super::*;

/// Warms `app` once; what is known of it then, and the store.
async fn warmed(registry: &FakeRegistry) -> (ImageRepository, Arc<dyn Client>) {
    let (store, clock) = (memory(), Arc::new(SystemClock));
    let options_ = HttpOptions { insecure_hosts: [registry.host()].into(), ..HttpOptions::default() };
    let upstreams = HttpUpstreams::new(options_, clock.clone(), Arc::new(())).unwrap();
    let metrics = Arc::new(Metrics::new());
    let warmer = Warmer::new(Arc::clone(&store), Arc::new(upstreams), clock.clone(), metrics, options());
    let name = name(&format!("{}/app", registry.host()));
    warmer.warm_once(watching(&[&name])).await;
    let cache = Cache::new(Arc::clone(&store), clock);
    (cache.repository_state(&name).await.unwrap(), store)
}

#[tokio::test]
async fn a_wrong_digest_is_said_of_the_tag_and_nothing_is_stored() {
    let registry = FakeRegistry::start().await;
    let pushed: Digest = registry.push("app", "v1", &Image::new("1")).parse().unwrap();
    for action in [Action::WrongDigestHeader, Action::WrongBytes] {
        registry.clear_faults();
        registry.fault(Fault::on(RequestKind::ManifestGet), action);
        let (repository, store) = warmed(&registry).await;
        let unavailable = &repository.unavailable[&tag("v1")];
        assert_eq!(unavailable.state, TagStateName::Failed);
        let reason = unavailable.reason.as_deref().unwrap_or_default();
        assert!(reason.contains("digest mismatch: expected sha256:"), "{reason}");
        for digest in [&pushed, &Digest::sha256(b"something else")] {
            assert_eq!(Documents(&*store).get(digest).await.unwrap(), None);
        }
    }
}

#[tokio::test]
async fn a_digest_that_the_registry_does_not_say_is_computed() {
    let registry = FakeRegistry::start().await;
    let pushed: Digest = registry.push("app", "v1", &Image::new("1")).parse().unwrap();
    for kind in [RequestKind::ManifestHead, RequestKind::ManifestGet] {
        registry.fault(Fault::on(kind), Action::NoDigestHeader);
    }
    let (repository, store) = warmed(&registry).await;
    assert_eq!(repository.metadata.images[&tag("v1")].digest, pushed);
    assert!(Documents(&*store).get(&pushed).await.unwrap().is_some());
}
