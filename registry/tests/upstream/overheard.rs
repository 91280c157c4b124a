//! Every test here runs with everything logged, down to the HTTP library's own words, and fails where a secret is among it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use samovar_registry::Secret;
use samovar_registry::credentials::Credentials;
use samovar_registry::upstream::Urgency;
use samovar_testing::fake::{Bearer, dialects};
use samovar_testing::{Image, Planted};
use tracing::level_filters::LevelFilter;

use crate::setup::{PASSWORD, REPOSITORY, Setup, alice};

/// What everyone who logs in anywhere here keeps to himself.
static SECRETS: LazyLock<Planted> = LazyLock::new(|| Planted::new([PASSWORD, dialects::ecr::PASSWORD]));
/// How much was heard at all.
static EVENTS: AtomicUsize = AtomicUsize::new(0);
/// What was heard that should not have been said, by whichever test of this process.
static OVERHEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Listens to the whole process. Panics when dropped where a secret has been logged until then, by this test or another.
pub(crate) struct Listening;

impl Listening {
    pub(crate) fn start() -> Self {
        static EAR: LazyLock<()> = LazyLock::new(|| {
            let ear = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(|| Ear);
            ear.with_ansi(false).init();
            tracing::trace!("everything is heard");
        });
        LazyLock::force(&EAR);
        Self
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        assert!(EVENTS.load(Ordering::Relaxed) > 0, "nothing is heard");
        let overheard = OVERHEARD.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(overheard.is_empty(), "a secret is logged: {overheard:?}");
    }
}

fn secret_in(text: &str) -> Option<String> {
    SECRETS
        .found_in(text.as_bytes())
        .or_else(|| token_in(text).map(|token| format!("a token: {token}: {text}")))
}

/// The token of a fake registry: `token-1-for-…`.
fn token_in(text: &str) -> Option<&str> {
    let mut candidates = text.match_indices("token-").map(|(at, _)| &text[at..]);
    candidates.find(|candidate| {
        let number = candidate["token-".len()..].trim_start_matches(|c: char| c.is_ascii_digit());
        number.starts_with("-for-") && number.len() < candidate.len() - "token-".len()
    })
}

/// Takes one event at a time, whole, and keeps nothing of it.
struct Ear;

impl io::Write for Ear {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        EVENTS.fetch_add(1, Ordering::Relaxed);
        if let Some(found) = secret_in(&String::from_utf8_lossy(event)) {
            OVERHEARD.lock().unwrap_or_else(PoisonError::into_inner).push(found);
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_said_is_heard() {
    assert_eq!(token_in("a token-12-for-fake-registry b"), Some("token-12-for-fake-registry b"));
    for harmless in ["token-", "token--for-x", "token-1 for-x", "a token for you"] {
        assert_eq!(token_in(harmless), None, "{harmless}");
    }
    assert!(secret_in(&format!("Basic {PASSWORD}")).is_some());
    assert_eq!(secret_in("Basic …"), None);
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let identity_token =
        || Credentials::IdentityToken { token: Secret::new(PASSWORD), provenance: "the test".into() };
    for (credentials, bearer) in [
        (alice(), None),
        (alice(), Some(Bearer::new().credentials("alice", PASSWORD))),
        (identity_token(), Some(Bearer::new().identity_token(PASSWORD, "alice"))),
    ] {
        let setup = Setup::new().await;
        setup.registry.push(REPOSITORY, "v1", &Image::new("seed"));
        match bearer {
            Some(bearer) => setup.registry.require_bearer(bearer),
            None => setup.registry.require_basic("alice", PASSWORD),
        }
        let upstream = setup.upstream_as(&credentials);
        upstream.tags(Urgency::Background).await.unwrap();
        let shown = format!("{:?} {upstream:?} {credentials:?}", setup.factory);
        assert_eq!(secret_in(&shown), None);
    }
}
