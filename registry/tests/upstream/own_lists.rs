//! Registries' own lists of tags, against their lists of the distribution protocol, from the same contents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use samovar_registry::credentials::CredentialChain;
use samovar_registry::upstream::{
    HintSource, HostOptions, HttpOptions, ListState, Listing, ListingChoice, TagHint, Upstream,
    UpstreamFactory as _, Urgency,
};
use samovar_registry::{Digest, Tag};
use samovar_testing::Image;
use samovar_testing::fake::{Action, Dialect, FakeRegistry, Fault, Login, OwnList, RequestKind, dialects};

#[cfg(feature = "aws")]
mod ecr;

use crate::setup::{REPOSITORY, SetClock, Setup, options, tag};

const MINUTE: Duration = Duration::from_mins(1);

/// Every registry with a list of its own.
fn registries() -> [(HintSource, Dialect); 4] {
    [
        (HintSource::DockerHub, dialects::docker_hub::dialect()),
        (HintSource::Quay, dialects::quay::dialect()),
        (HintSource::Acr, dialects::acr::dialect()),
        (HintSource::Harbor, dialects::harbor::dialect()),
    ]
}

/// Those, and Amazon's, which is in no order.
#[cfg(feature = "aws")]
fn all_registries() -> Vec<(HintSource, Dialect)> {
    registries().into_iter().chain([(HintSource::Ecr, dialects::ecr::dialect())]).collect()
}

#[cfg(not(feature = "aws"))]
use registries as all_registries;

/// A registry, a client that reads its own list, and what a warmer would remember.
struct Own {
    setup: Setup,
    clock: Arc<SetClock>,
    upstream: Arc<dyn Upstream>,
    known: Option<ListState>,
    /// What the lists so far have told.
    tags: BTreeSet<Tag>,
}

impl Own {
    async fn new(source: HintSource, dialect: Dialect) -> Self {
        let registry = FakeRegistry::start().await;
        registry.speak(&dialect);
        let host = HostOptions {
            listing: ListingChoice::Own(source),
            own_list_host: Some(registry.host()),
            ..HostOptions::default()
        };
        let options = HttpOptions {
            insecure_hosts: [registry.host()].into(),
            hosts: [(registry.host(), host)].into(),
            ..options()
        };
        let clock = Arc::new(SetClock::default());
        let setup = Setup::at(registry, options, clock.clone());
        #[cfg(feature = "aws")]
        let setup = ecr::signing(setup, "AKIATEST");
        let upstream = setup.upstream();
        Self { setup, clock, upstream, known: None, tags: BTreeSet::new() }
    }

    /// Those of a dialect that anyone may ask.
    async fn open(source: HintSource, dialect: Dialect) -> Self {
        Self::new(source, Dialect { login: Login::Nobody, pulls: None, ..dialect }).await
    }

    fn push(&self, tag: &str, seed: &str) -> Digest {
        self.setup.registry.push(REPOSITORY, tag, &Image::new(seed)).parse().unwrap()
    }

    /// Lists a minute later, and keeps what a warmer would.
    async fn list(&mut self) -> Listing {
        self.clock.advance(MINUTE);
        let listing = self.upstream.list(self.known.as_ref(), Urgency::Background).await.unwrap();
        let state = match &listing {
            Listing::Unchanged(state) => state.clone(),
            Listing::Whole(list, state) => {
                self.tags = list.tags.iter().cloned().collect();
                state.clone()
            }
            Listing::Newer(list, state) => {
                self.tags.extend(list.tags.iter().cloned());
                state.clone().grown(&self.tags, 0)
            }
        };
        assert!(state.is_of(&self.tags, 0));
        self.known = Some(state);
        listing
    }

    /// The same, where only what is newer was told.
    async fn newer(&mut self) -> BTreeMap<Tag, TagHint> {
        match self.list().await {
            Listing::Newer(list, _) => {
                assert!(list.tags.iter().eq(list.hints.keys()));
                list.hints
            }
            Listing::Unchanged(_) => BTreeMap::new(),
            whole @ Listing::Whole(..) => panic!("{whole:?}"),
        }
    }

    /// How many requests asked for the list of the protocol, and for the registry's own, since the last call.
    fn asked(&self) -> (usize, usize) {
        let asked =
            (self.setup.registry.count(RequestKind::Tags), self.setup.registry.count(RequestKind::Other));
        self.setup.registry.clear_requests();
        asked
    }
}

fn told(hints: &BTreeMap<Tag, TagHint>) -> Vec<&str> {
    hints.keys().map(Tag::as_str).collect()
}

#[tokio::test]
async fn what_has_changed_is_told_with_its_digest_and_costs_one_request() {
    for (source, dialect) in registries() {
        let mut own = Own::open(source, dialect).await;
        for number in 0..250 {
            own.push(&format!("v{number}"), &number.to_string());
        }
        assert!(matches!(own.list().await, Listing::Whole(..)), "{source:?}");
        own.asked();
        // The first time all is told, as far back as it goes.
        assert_eq!(own.newer().await.len(), 250, "{source:?}");
        assert_eq!(own.asked(), (0, 3), "{source:?}");
        assert!(matches!(own.list().await, Listing::Unchanged(_)), "{source:?}");
        assert_eq!(own.asked(), (0, 1), "{source:?}");

        let moved = own.push("v7", "moved");
        own.push("new", "new");
        let hints = own.newer().await;
        assert_eq!(own.asked(), (0, 1), "{source:?}");
        assert!(["new", "v7"].iter().all(|tag| hints.contains_key(*tag)), "{source:?}: {hints:?}");
        assert!(hints.len() <= 4, "what is known is not told again: {hints:?}");
        let hint = &hints["v7"];
        assert_eq!((hint.digest.as_ref(), hint.source), (Some(&moved), source));
        assert!(hint.pushed_at.is_some());
    }
}

/// What happens to a registry.
#[derive(Debug, Clone)]
enum Event {
    Push(u8, u8),
    Remove(u8),
    List,
    /// Time for the list of the protocol comes.
    AnHour,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0_u8..12, 0_u8..6).prop_map(|(tag, image)| Event::Push(tag, image)),
        2 => (0_u8..12).prop_map(Event::Remove),
        4 => Just(Event::List),
        1 => Just(Event::AnHour),
    ];
    proptest::collection::vec(event, 1..40)
}

/// Lists while things happen, and compares what was told with what there is.
async fn compare(source: HintSource, dialect: Dialect, events: &[Event]) {
    let mut own = Own::open(source, dialect).await;
    own.push("always", "always");
    let mut there: BTreeMap<Tag, Digest> = BTreeMap::new();
    let mut changed: BTreeSet<Tag> = BTreeSet::new();
    for event in events {
        match event {
            Event::Push(number, image) => {
                let tag = tag(&format!("t{number}"));
                let digest = own.push(tag.as_str(), &image.to_string());
                if there.insert(tag.clone(), digest.clone()) != Some(digest) {
                    changed.insert(tag);
                }
            }
            Event::Remove(number) => {
                let tag = tag(&format!("t{number}"));
                if there.remove(&tag).is_some() {
                    own.setup.registry.remove_tag(REPOSITORY, tag.as_str());
                    changed.remove(&tag);
                }
            }
            Event::AnHour => own.clock.advance(60 * MINUTE),
            Event::List => {
                let before = own.tags.clone();
                let listing = own.list().await;
                assert!(there.keys().all(|tag| own.tags.contains(tag)), "{source:?}: {listing:?}");
                match listing {
                    Listing::Whole(list, _) => assert_eq!(list.tags.len(), there.len() + 1),
                    Listing::Unchanged(_) => assert_eq!(own.tags, before),
                    Listing::Newer(list, _) => {
                        for (tag, hint) in list.hints.iter().filter(|(tag, _)| tag.as_str() != "always") {
                            assert_eq!(hint.digest.as_ref(), there.get(tag), "{source:?}: {tag}");
                        }
                        assert!(changed.iter().all(|tag| list.hints.contains_key(tag)), "{source:?}");
                    }
                }
                changed.clear();
            }
        }
    }
    // In the end the list of the protocol has the last word.
    own.clock.advance(60 * MINUTE);
    own.list().await;
    let mut expected: BTreeSet<Tag> = there.into_keys().collect();
    expected.insert(tag("always"));
    assert_eq!(own.tags, expected, "{source:?}");
}

#[test]
fn whatever_happens_the_lists_agree() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, ..ProptestConfig::default() });
    let checked = runner.run(&events(), |events| {
        for (source, dialect) in all_registries() {
            runtime.block_on(compare(source, dialect, &events));
        }
        Ok(())
    });
    checked.unwrap();
}

#[tokio::test]
async fn the_list_of_the_protocol_is_read_again_every_hour_and_takes_away_what_is_gone() {
    for (source, dialect) in all_registries() {
        let mut own = Own::open(source, dialect).await;
        own.push("stays", "stays");
        own.push("goes", "goes");
        own.list().await;
        own.list().await;
        own.setup.registry.remove_tag(REPOSITORY, "goes");
        own.newer().await;
        assert!(own.tags.contains("goes"), "{source:?}: this list cannot say so");
        own.asked();
        own.clock.advance(58 * MINUTE);
        assert!(matches!(own.list().await, Listing::Whole(..)), "{source:?}");
        assert_eq!(own.asked(), (1, 0), "{source:?}");
        assert!(!own.tags.contains("goes"), "{source:?}");
        // And it goes on where it was.
        own.push("new", "new");
        assert!(own.newer().await.contains_key("new"));
    }
}

#[tokio::test]
async fn on_any_surprise_the_list_of_the_protocol_is_read_and_the_other_left_alone_for_a_while() {
    let not_in_order = r#"{"page":1,"has_additional":false,"tags":[
        {"name":"a","start_ts":1,"manifest_digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"name":"b","start_ts":2,"manifest_digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}"#;
    for surprise in [
        Action::status(500),
        Action::status(418),
        Action::CloseConnection,
        Action::body("application/json", "{}"),
        Action::body("application/json", r#"{"tags":[{"name":"v1"}],"has_additional":false}"#),
        Action::body("application/json", not_in_order),
        Action::body("text/html", "<html>Sign in</html>"),
        Action::EndlessBody,
    ] {
        let mut own = Own::open(HintSource::Quay, dialects::quay::dialect()).await;
        own.push("v1", "v1");
        own.list().await;
        own.asked();
        own.push("v2", "v2");
        own.setup.registry.fault(Fault::on(RequestKind::Other), surprise.clone());
        assert!(matches!(own.list().await, Listing::Whole(..)), "{surprise:?}");
        let (plain, others) = own.asked();
        assert!(plain == 1 && others >= 1, "{surprise:?}");
        assert!(own.tags.contains("v2"));
        own.list().await;
        assert_eq!(own.asked(), (1, 0), "{surprise:?}: it is not asked for again");
    }
}

#[tokio::test]
async fn a_repository_that_is_not_for_everybody_there_is_asked_for_there_once_a_day_and_others_are_as_ever() {
    for status in [401, 403, 404] {
        let mut own = Own::open(HintSource::Quay, dialects::quay::dialect()).await;
        own.push("v1", "v1");
        own.list().await;
        own.setup.registry.fault(Fault::on(RequestKind::Other).times(1), Action::status(status));
        own.asked();
        own.list().await;
        assert_eq!(own.asked(), (1, 1), "{status}");
        own.list().await;
        assert_eq!(own.asked(), (1, 0), "{status}");

        own.setup.registry.push("team/other", "v1", &Image::new("v1"));
        let other = own.setup.factory.upstream(&own.setup.name("team/other"), &CredentialChain::default());
        let Listing::Whole(_, state) = other.list(None, Urgency::Background).await.unwrap() else { panic!() };
        own.asked();
        other.list(Some(&state), Urgency::Background).await.unwrap();
        assert_eq!(own.asked(), (0, 1), "{status}: nothing is wrong with the host");

        own.clock.advance(24 * 60 * MINUTE);
        own.list().await;
        own.asked();
        own.newer().await;
        assert_eq!(own.asked(), (0, 1), "{status}");
    }
}

#[tokio::test]
async fn azure_is_asked_with_its_login_and_nobody_else_is_told_who_we_are() {
    let mut own = Own::new(HintSource::Acr, dialects::acr::dialect()).await;
    own.push("v1", "v1");
    own.list().await;
    own.push("v2", "v2");
    assert_eq!(told(&own.newer().await), ["v1", "v2"]);
    let requests = own.setup.registry.requests();
    let asked = requests.iter().find(|request| request.kind == RequestKind::Other).unwrap();
    assert!(asked.authorization.as_ref().is_some_and(|login| login.starts_with("Bearer ")));

    let mut own = Own::open(HintSource::Quay, dialects::quay::dialect()).await;
    own.setup.registry.require_basic("alice", crate::setup::PASSWORD);
    own.upstream = own.setup.upstream_as(&crate::setup::alice());
    own.push("v1", "v1");
    own.list().await;
    own.list().await;
    let requests = own.setup.registry.requests();
    let asked = requests.iter().find(|request| request.kind == RequestKind::Other).unwrap();
    assert_eq!((asked.authorization.as_ref(), asked.status), (None, Some(401)));
}

#[tokio::test]
async fn googles_list_tells_digests_and_times_in_the_same_answer() {
    let dialect = dialects::gar::dialect();
    let mut own = Own::open(HintSource::Google, dialect).await;
    let digest = own.push("a", "same");
    own.push("b", "same");
    let Listing::Whole(list, _) = own.list().await else { panic!("it is the first") };
    assert_eq!(told(&list.hints), ["a", "b"]);
    let hint = &list.hints["a"];
    assert_eq!((hint.digest.as_ref(), hint.source), (Some(&digest), HintSource::Google));
    assert!(hint.pushed_at.is_some());
    assert!(matches!(own.list().await, Listing::Unchanged(_)));
    let moved = own.push("b", "moved");
    let Listing::Whole(list, _) = own.list().await else { panic!("it has moved") };
    assert_eq!(list.hints["b"].digest.as_ref(), Some(&moved));
    assert_eq!(own.asked(), (3, 0));
}

#[tokio::test]
async fn where_the_usual_list_is_wanted_no_other_is_read() {
    let own = Own::open(HintSource::Quay, dialects::quay::dialect()).await;
    own.push("v1", "v1");
    let plain = Setup::with(options()).await;
    plain.registry.push(REPOSITORY, "v1", &Image::new("v1"));
    plain.registry.speak(&Dialect { own_list: Some(OwnList::Quay), ..dialects::distribution::dialect() });
    let upstream = plain.upstream();
    let Listing::Whole(_, state) = upstream.list(None, Urgency::Background).await.unwrap() else { panic!() };
    upstream.list(Some(&state), Urgency::Background).await.unwrap();
    assert_eq!(plain.counts(), [2, 0, 0, 0, 0]);
}
