use std::time::Duration;

use futures_util::future::join_all;

use super::super::{ErrorKind, Operation, TagList};
use super::*;
use crate::Secret;
use crate::credentials::Credentials;

const LATENCY: Duration = Duration::from_secs(1);

/// Answers after a while, and remembers what it was asked.
#[derive(Debug, Default)]
struct Slow {
    asked: Mutex<Vec<String>>,
    fails: bool,
}

impl Slow {
    async fn ask<T>(&self, what: String, answer: T) -> Result<T, UpstreamError> {
        self.asked.lock().unwrap().push(what);
        tokio::time::sleep(LATENCY).await;
        if self.fails {
            let kind = ErrorKind::NotFound { message: None };
            return Err(UpstreamError { repository: name(), operation: Operation::Resolve, kind });
        }
        Ok(answer)
    }
}

#[async_trait]
impl Upstream for Slow {
    async fn list(&self, known: Option<&ListState>, _: Urgency) -> Result<Listing, UpstreamError> {
        let listing = Listing::Whole(TagList::default(), ListState::of(&TagList::default()));
        self.ask(format!("list {}", known.is_some()), listing).await
    }

    async fn resolve(&self, tag: &Tag, urgency: Urgency) -> Result<Option<Digest>, UpstreamError> {
        self.ask(format!("resolve {tag} {urgency:?}"), Some(Digest::sha256(b"x"))).await
    }

    async fn manifest(&self, what: ManifestSelector<'_>, _: Urgency) -> Result<Document, UpstreamError> {
        let (digest, bytes) = (Digest::sha256(b"x"), Bytes::from_static(b"x"));
        self.ask(format!("{what:?}"), Document { digest, media_type: String::new(), bytes }).await
    }

    async fn config(&self, digest: &Digest, _: Urgency) -> Result<Bytes, UpstreamError> {
        self.ask(format!("config {digest}"), Bytes::new()).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        _: Urgency,
    ) -> Result<Document, UpstreamError> {
        let document = Document { digest: subject.clone(), media_type: String::new(), bytes: Bytes::new() };
        self.ask(format!("referrers {subject} {artifact_type:?}"), document).await
    }

    fn counts_manifest_gets(&self) -> bool {
        false
    }
}

fn name() -> Name {
    "r.example/app".parse().unwrap()
}

fn tag() -> Tag {
    "latest".parse().unwrap()
}

#[derive(Default)]
struct Setup {
    slow: Arc<Slow>,
    flights: Arc<Flights>,
}

impl Setup {
    /// A client of its own for whoever asks, as the warmer makes one for every pass.
    fn upstream(&self, credentials: CredentialChain) -> Joined {
        Joined { name: name(), credentials, upstream: self.slow.clone(), flights: self.flights.clone() }
    }

    fn asked(&self) -> Vec<String> {
        self.slow.asked.lock().unwrap().clone()
    }

    async fn resolve(&self, urgency: Urgency) -> Result<Option<Digest>, UpstreamError> {
        self.upstream(CredentialChain::default()).resolve(&tag(), urgency).await
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_the_same_at_the_same_time_shares_one_request() {
    let setup = Setup::default();
    let ask = || async {
        let upstream = setup.upstream(CredentialChain::default());
        let digest = Digest::sha256(b"x");
        upstream.list(None, Urgency::Background).await.unwrap();
        upstream.resolve(&tag(), Urgency::Background).await.unwrap();
        upstream.manifest(ManifestSelector::Tag(&tag()), Urgency::Background).await.unwrap();
        upstream.manifest(ManifestSelector::Digest(&digest), Urgency::Background).await.unwrap();
        upstream.config(&digest, Urgency::Background).await.unwrap();
    };
    join_all((0..20).map(|_| ask())).await;
    assert_eq!(setup.asked().len(), 5, "{:?}", setup.asked());
    // Nothing is kept.
    ask().await;
    assert_eq!(setup.asked().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_and_not_kept() {
    let setup = Setup { slow: Arc::new(Slow { fails: true, ..Slow::default() }), ..Setup::default() };
    for round in 1..3 {
        let results = join_all((0..5).map(|_| setup.resolve(Urgency::Background))).await;
        assert!(results.iter().all(Result::is_err));
        assert_eq!(setup.asked().len(), round);
    }
}

#[tokio::test(start_paused = true)]
async fn who_joins_is_not_stranded_by_who_leaves_and_when_all_have_left_it_ends() {
    let setup = Setup::default();
    let began = tokio::time::Instant::now();
    let leaves = tokio::time::timeout(LATENCY / 2, setup.resolve(Urgency::Background));
    let (left, stayed) = tokio::join!(leaves, setup.resolve(Urgency::Background));
    assert!(left.is_err() && stayed.is_ok());
    assert_eq!(began.elapsed(), LATENCY, "it was not begun anew");
    assert_eq!(setup.asked().len(), 1);

    let gone = tokio::time::timeout(LATENCY / 2, setup.resolve(Urgency::Background)).await;
    assert!(gone.is_err());
    setup.resolve(Urgency::Background).await.unwrap();
    assert_eq!(setup.asked().len(), 3, "what everybody has left is over");
}

#[tokio::test(start_paused = true)]
async fn who_is_in_a_hurry_waits_for_nobody_who_is_not() {
    let setup = Setup::default();
    let background = || setup.resolve(Urgency::Background);
    let asked = || setup.resolve(Urgency::Asked);
    let _ = tokio::join!(background(), asked(), background());
    assert_eq!(setup.asked(), ["resolve latest Background", "resolve latest Asked"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_a_reason_to_ask_about_a_tag_now_does_not_hear_what_was_asked_before() {
    let setup = Setup::default();
    let _ = tokio::join!(setup.resolve(Urgency::Asked), setup.resolve(Urgency::Asked));
    assert_eq!(setup.asked(), ["resolve latest Asked", "resolve latest Asked"]);
}

#[tokio::test(start_paused = true)]
async fn others_log_in_for_themselves() {
    let setup = Setup::default();
    let alice = Credentials::Basic {
        username: "alice".to_owned(),
        password: Secret::new("sesame"),
        provenance: "the test".into(),
    };
    let (hers, anonymous) = (setup.upstream(alice.into()), setup.upstream(CredentialChain::default()));
    let (tag, urgency) = (tag(), Urgency::Background);
    let _ = tokio::join!(hers.resolve(&tag, urgency), anonymous.resolve(&tag, urgency));
    assert_eq!(setup.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn lists_are_shared_by_those_who_know_the_same() {
    let setup = Setup::default();
    let upstream = setup.upstream(CredentialChain::default());
    let state = ListState::of(&TagList::default());
    let list = |known| upstream.list(known, Urgency::Background);
    let _ = tokio::join!(list(None), list(Some(&state)), list(Some(&state)));
    assert_eq!(setup.asked(), ["list false", "list true"]);
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_over_do_not_pile_up() {
    let setup = Setup::default();
    let upstream = setup.upstream(CredentialChain::default());
    for number in 0..3 * CLEAR_REQUESTS_AT {
        let tag: Tag = format!("v{number}").parse().unwrap();
        upstream.resolve(&tag, Urgency::Background).await.unwrap();
    }
    assert!(setup.flights.resolutions.0.lock().unwrap().len() <= CLEAR_REQUESTS_AT);
}
