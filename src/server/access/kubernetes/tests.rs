//! Against an API server that says what each test wants.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use samovar_registry::Glob;
use samovar_testing::Certificates;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::config::{CertificateFiles, Grant, NamedGrant, TlsConfig};
use crate::server::access::Access;
use crate::server::limits::tests::{config, unlimited};
use crate::server::listen::{self, Listening};
use crate::server::tls::Tls;

const GOOD: &str = "good.to.me";

/// Answers reviews, and counts them.
struct ApiServer {
    reviews: Reviews,
    limits: Limits,
    asked: Arc<AtomicUsize>,
    ends: Option<DropGuard>,
    _certificates: Certificates,
}

async fn review(State(asked): State<Arc<AtomicUsize>>, headers: http::HeaderMap, body: String) -> String {
    asked.fetch_add(1, Ordering::Relaxed);
    assert_eq!(headers[http::header::AUTHORIZATION], "Bearer own");
    let asked: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&asked["kind"], &asked["apiVersion"]),
        (&json!("TokenReview"), &json!("authentication.k8s.io/v1"))
    );
    let username = match asked["spec"]["token"].as_str().unwrap() {
        GOOD => "system:serviceaccount:flux-system:image-reflector",
        "other.account.x" => "system:serviceaccount:kube-system:x",
        "a.user.x" => "flux-system:somebody",
        "other.audience.x" => return json!({"status": {"authenticated": true, "audiences": ["x"], "user": {"username": "system:serviceaccount:flux-system:x"}}}).to_string(),
        _ => return json!({"status": {"authenticated": false, "error": "no"}}).to_string(),
    };
    let audiences = &asked["spec"]["audiences"];
    json!({"status": {"authenticated": true, "audiences": audiences, "user": {"username": username}}})
        .to_string()
}

impl ApiServer {
    async fn start() -> Self {
        let certificates = Certificates::make();
        let pair = CertificateFiles {
            certificate: certificates.file("server.pem"),
            key: certificates.file("server.key"),
        };
        let tls = TlsConfig { certificates: vec![pair], client_ca: None, client_required: true };
        let listening = Listening {
            connections: 10,
            access: Arc::new(Access::new(None, config()).unwrap()),
            tls: Some(Arc::new(Tls::new(tls).unwrap())),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let asked = Arc::new(AtomicUsize::new(0));
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let router = Router::new().route(path, post(review)).with_state(Arc::clone(&asked));
        let ends = CancellationToken::new();
        tokio::spawn(listen::accept(listener, router, listening, ends.clone()));
        let token_file = certificates.file("own");
        std::fs::write(&token_file, "own\n").unwrap();
        let names = [Glob::new("flux-system:*").unwrap()].into_iter().collect();
        let grant = Grant { read: [Glob::new("*").unwrap()].into_iter().collect(), ..Grant::default() };
        let reviews = Reviews::new(KubernetesAuthConfig {
            server: Some(server.parse().unwrap()),
            token_file,
            ca_file: certificates.authority(),
            audiences: vec!["samovar".to_owned()],
            accounts: vec![NamedGrant { names, grant }],
        })
        .unwrap();
        Self {
            reviews,
            limits: unlimited(),
            asked,
            ends: Some(ends.drop_guard()),
            _certificates: certificates,
        }
    }

    async fn ask(&self, token: &str) -> Result<(), Unidentified> {
        let from = self.limits.named("here");
        self.reviews.caller(&Secret::new(token), &self.limits, &from).await.map(drop)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn accounts_with_a_grant_are_let_in_and_answers_remembered() {
    let server = ApiServer::start().await;
    for _ in 0..3 {
        assert_eq!(server.ask(GOOD).await, Ok(()));
        for bad in ["unknown.to.it", "other.account.x", "a.user.x", "other.audience.x"] {
            assert_eq!(server.ask(bad).await, Err(Unidentified::Bad), "{bad}");
        }
        for no_token in ["", "x", "a.b", "a..b", "a.b.c.d", "samovar_00"] {
            assert_eq!(server.ask(no_token).await, Err(Unidentified::Bad), "{no_token}");
        }
    }
    assert_eq!(server.asked(), 5, "each once, and what is no such token never");
    tokio::time::pause();
    tokio::time::advance(BAD_FOR).await;
    tokio::time::resume();
    assert_eq!((server.ask(GOOD).await, server.asked()), (Ok(()), 5));
    assert_eq!((server.ask("unknown.to.it").await, server.asked()), (Err(Unidentified::Bad), 6));
    tokio::time::pause();
    tokio::time::advance(GOOD_FOR).await;
    tokio::time::resume();
    assert_eq!((server.ask(GOOD).await, server.asked()), (Ok(()), 7));
}

#[tokio::test]
async fn strangers_cannot_have_it_asked_without_end() {
    let server = ApiServer::start().await;
    let mut refused = 0;
    for number in 0..40 {
        refused +=
            usize::from(matches!(server.ask(&format!("a.b.{number}")).await, Err(Unidentified::TooMany(_))));
    }
    assert!(refused >= 10, "{refused}");
    assert!(server.asked() < 40);
}

#[tokio::test]
async fn while_it_does_not_answer_only_the_remembered_are_let_in() {
    let mut server = ApiServer::start().await;
    assert_eq!(server.ask(GOOD).await, Ok(()));
    server.reviews.url.set_port(Some(1)).unwrap();
    server.ends = None;
    assert_eq!(server.ask(GOOD).await, Ok(()));
    let refused = server.ask("new.to.us").await;
    assert!(matches!(refused, Err(Unidentified::Unreachable(_))), "{refused:?}");
}
