use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

const AUDIENCE: &str = "https://samovar.example/hooks/pubsub";
const ACCOUNT: &str = "push@project.iam.gserviceaccount.com";

/// A publisher of keys, which counts how often it is asked.
struct Publisher {
    url: reqwest::Url,
    asked: Arc<AtomicUsize>,
    key: KeyPair,
    _server: JoinSet<()>,
}

impl Publisher {
    async fn start() -> Self {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        // PKCS #1: a sequence of the modulus, 256 bytes behind a zero, and the exponent.
        let public = key.public_key().as_ref();
        let (modulus, exponent) = (&public[9..265], &public[267..]);
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let document = json!({"keys": [
            {"kid": "other", "kty": "EC", "crv": "P-256"},
            {"kid": "ours", "kty": "RSA", "alg": "RS256", "use": "sig",
                "n": number(modulus),
                "e": number(exponent)},
        ]});
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let answer = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let document = document.clone();
            async move { Json(document) }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/certs", listener.local_addr().unwrap()).parse().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            axum::serve(listener, Router::new().route("/certs", get(answer))).await.unwrap();
        });
        Self { url, asked, key, _server: server }
    }

    fn tokens(&self) -> GoogleTokens {
        let (audience, service_account) = (AUDIENCE.to_owned(), ACCOUNT.to_owned());
        GoogleTokens::new(GoogleIdentity { audience, service_account, keys_url: self.url.clone() }).unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// An `Authorization` with a token of these claims, signed by this key under this name.
    fn signed(&self, header: &Value, claims: &Value) -> HeaderMap {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
        self.key.sign(padding, &random, message.as_bytes(), &mut signature).unwrap();
        let token = format!("Bearer {message}.{}", URL_SAFE_NO_PAD.encode(signature));
        [(header::AUTHORIZATION, token.parse().unwrap())].into_iter().collect()
    }
}

fn now() -> Timestamp {
    "2026-11-20T20:00:00Z".parse().unwrap()
}

fn header_of(key: &str) -> Value {
    json!({"alg": "RS256", "kid": key, "typ": "JWT"})
}

fn claims() -> Value {
    json!({"aud": AUDIENCE, "azp": "113774264463038321964", "email": ACCOUNT, "email_verified": true,
        "exp": now().as_second() + 3600, "iat": now().as_second(), "iss": "https://accounts.google.com", "sub": "113774264463038321964"})
}

#[tokio::test]
async fn a_token_is_good_as_long_as_all_of_it_is() {
    let publisher = Publisher::start().await;
    let tokens = publisher.tokens();
    assert_eq!(tokens.check(&publisher.signed(&header_of("ours"), &claims()), now()).await, Ok(()));
    let mut changed = claims();
    changed["iss"] = "accounts.google.com".into();
    assert_eq!(tokens.check(&publisher.signed(&header_of("ours"), &changed), now()).await, Ok(()));
    for (claim, value) in [
        ("aud", json!("https://other.example")),
        ("email", json!("other@project.iam.gserviceaccount.com")),
        ("email_verified", json!(false)),
        ("iss", json!("https://accounts.example")),
        ("exp", json!(now().as_second() - 61)),
        ("exp", json!(i64::MAX)),
        ("exp", json!("soon")),
        ("aud", Value::Null),
        ("email", Value::Null),
        ("email_verified", Value::Null),
        ("iss", Value::Null),
        ("exp", Value::Null),
    ] {
        let mut changed = claims();
        changed[claim] = value.clone();
        if value.is_null() {
            changed.as_object_mut().unwrap().remove(claim);
        }
        let checked = tokens.check(&publisher.signed(&header_of("ours"), &changed), now()).await;
        assert_eq!(checked, Err(TokenProblem::Refused), "{claim}: {value}");
    }
    // Clocks differ a little.
    let late = now() + Duration::from_secs(3600 + 59);
    assert_eq!(tokens.check(&publisher.signed(&header_of("ours"), &claims()), late).await, Ok(()));
    assert_eq!(publisher.asked(), 1);
}

#[tokio::test]
async fn a_token_that_others_could_make_is_refused() {
    let (publisher, other) = (Publisher::start().await, Publisher::start().await);
    let tokens = publisher.tokens();
    let none = json!({"alg": "none", "kid": "ours"});
    // Signed with what is public.
    let symmetric = json!({"alg": "HS256", "kid": "ours"});
    for headers in [
        other.signed(&header_of("ours"), &claims()),
        publisher.signed(&none, &claims()),
        publisher.signed(&symmetric, &claims()),
        publisher.signed(&json!({"alg": "RS256"}), &claims()),
        publisher.signed(&header_of("other"), &claims()),
        HeaderMap::new(),
        [(header::AUTHORIZATION, "Bearer a.b.c".parse().unwrap())].into_iter().collect(),
        [(header::AUTHORIZATION, "Bearer ".parse().unwrap())].into_iter().collect(),
        [(header::AUTHORIZATION, format!("Bearer {}", "a".repeat(LONGEST_TOKEN + 1)).parse().unwrap())]
            .into_iter()
            .collect(),
    ] {
        assert_eq!(tokens.check(&headers, now()).await, Err(TokenProblem::Refused), "{headers:?}");
    }
    assert_eq!(publisher.asked(), 1, "however many keys nobody has are named");
}

#[tokio::test]
async fn without_keys_nobody_is_let_in_and_nobody_is_to_blame() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let publisher = Publisher::start().await;
    let keys_url = format!("http://{closed}/certs").parse().unwrap();
    let identity = GoogleIdentity { keys_url, ..publisher.tokens().identity };
    let tokens = GoogleTokens::new(identity).unwrap();
    for _ in 0..2 {
        let checked = tokens.check(&publisher.signed(&header_of("ours"), &claims()), now()).await;
        assert!(
            matches!(&checked, Err(TokenProblem::NoKeys(reason)) if reason.starts_with("cannot get")),
            "{checked:?}"
        );
    }
}
