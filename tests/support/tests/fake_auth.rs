//! The fake registry's authentication: who is let in, and what the others are told.

use http::StatusCode;
use samovar_testing::Image;
use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, RequestKind};
use serde_json::Value;

const MANIFEST: &str = "/v2/app/manifests/v1";

async fn registry() -> FakeRegistry {
    let registry = FakeRegistry::start().await;
    registry.push("app", "v1", &Image::new("a"));
    registry.push("secret", "v1", &Image::new("b"));
    registry
}

/// GET with an `Authorization` header: the status, and the challenge where there is one.
async fn get(registry: &FakeRegistry, path: &str, authorization: Option<&str>) -> (u16, Option<String>) {
    let mut request = reqwest::Client::new().get(format!("{}{path}", registry.url()));
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let response = request.send().await.expect("an answer");
    let challenge = response.headers().get("www-authenticate");
    (
        response.status().as_u16(),
        challenge.map(|value| value.to_str().expect("a challenge is text").to_owned()),
    )
}

/// Asks a token endpoint; the whole answer.
async fn ask_for_token(
    realm: &FakeRegistry,
    scope: &str,
    credentials: Option<(&str, &str)>,
) -> reqwest::Response {
    let url = format!("{}/token", realm.url());
    let mut request =
        reqwest::Client::new().get(url).query(&[("service", "fake-registry"), ("scope", scope)]);
    if let Some((user, password)) = credentials {
        request = request.basic_auth(user, Some(password));
    }
    request.send().await.expect("an answer")
}

async fn token(realm: &FakeRegistry, scope: &str) -> String {
    let answer: Value = ask_for_token(realm, scope, None).await.json().await.expect("the answer is JSON");
    format!("Bearer {}", answer["token"].as_str().expect("the answer has a token"))
}

#[tokio::test]
async fn basic_lets_in_the_one_who_knows_the_password() {
    let registry = registry().await;
    registry.require_basic("user", "pass:word");
    let (status, challenge) = get(&registry, "/v2/", None).await;
    assert_eq!((status, challenge.as_deref()), (401, Some("Basic realm=\"fake registry\"")));
    assert_eq!(get(&registry, MANIFEST, Some("Basic dXNlcjp3cm9uZw==")).await.0, 401);
    assert_eq!(get(&registry, MANIFEST, Some("Basic dXNlcjpwYXNzOndvcmQ=")).await.0, 200);
    registry.require_nothing();
    assert_eq!(get(&registry, MANIFEST, None).await.0, 200);
}

#[tokio::test]
async fn tokens_open_what_they_were_asked_for_until_they_expire() {
    let registry = registry().await;
    registry.require_bearer(Bearer::new());
    let url = registry.url();
    let (status, challenge) = get(&registry, MANIFEST, None).await;
    let expected =
        format!("Bearer realm=\"{url}/token\",service=\"fake-registry\",scope=\"repository:app:pull\"");
    assert_eq!((status, challenge), (401, Some(expected.clone())));

    let token = token(&registry, "repository:app:pull,push").await;
    assert_eq!(get(&registry, MANIFEST, Some(&token)).await.0, 200);
    assert_eq!(get(&registry, "/v2/", Some(&token)).await.0, 200);
    let (status, challenge) = get(&registry, "/v2/secret/tags/list", Some(&token)).await;
    assert_eq!(status, 401);
    assert!(challenge.is_some_and(|challenge| challenge.ends_with(",error=\"insufficient_scope\"")));
    assert_eq!(get(&registry, MANIFEST, Some("Bearer made-up")).await.0, 401);

    let issued = registry.tokens();
    assert_eq!(issued.len(), 1);
    assert_eq!(issued[0].uses, 2);
    assert_eq!(issued[0].scopes, ["repository:app:pull,push"]);
    assert_eq!(issued[0].user, None);
    assert_eq!(registry.count(RequestKind::Token), 1);

    registry.expire_tokens();
    let (status, challenge) = get(&registry, MANIFEST, Some(&token)).await;
    assert_eq!((status, challenge), (401, Some(format!("{expected},error=\"invalid_token\""))));
}

#[tokio::test(start_paused = true)]
async fn tokens_last_as_long_as_was_said() {
    let registry = registry().await;
    registry.require_bearer(Bearer::new().expires_in(Some(300)));
    let token = token(&registry, "repository:app:pull").await;
    tokio::time::advance(std::time::Duration::from_secs(299)).await;
    assert_eq!(get(&registry, MANIFEST, Some(&token)).await.0, 200);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert_eq!(get(&registry, MANIFEST, Some(&token)).await.0, 401);
}

#[tokio::test]
async fn a_token_endpoint_asks_for_credentials_and_shapes_its_answer() {
    let registry = registry().await;
    let bearer = Bearer::new().credentials("user", "password").token_field("access_token").expires_in(None);
    registry.require_bearer(bearer);
    let refused = ask_for_token(&registry, "repository:app:pull", None).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let answer = ask_for_token(&registry, "repository:app:pull", Some(("user", "password"))).await;
    let answer: Value = answer.json().await.expect("the answer is JSON");
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(1));
    let token = format!("Bearer {}", answer["access_token"].as_str().expect("a token"));
    assert_eq!(get(&registry, MANIFEST, Some(&token)).await.0, 200);
    assert_eq!(registry.tokens()[0].user.as_deref(), Some("user"));
}

#[tokio::test]
async fn another_host_can_hand_out_the_tokens() {
    let (registry, realm) = (registry().await, FakeRegistry::start().await);
    registry.require_bearer(Bearer::new().realm_of(&realm));
    let (_, challenge) = get(&registry, MANIFEST, None).await;
    assert!(
        challenge.is_some_and(|challenge| challenge.contains(&format!("realm=\"{}/token\"", realm.url())))
    );
    let token = token(&realm, "repository:app:pull").await;
    assert_eq!(get(&registry, MANIFEST, Some(&token)).await.0, 200);
    assert_eq!((registry.tokens().len(), realm.tokens().len()), (0, 1));
}

#[tokio::test]
async fn challenges_can_be_wrong_and_token_endpoints_can_fail() {
    let registry = registry().await;
    registry.require_bearer(Bearer::new().realm_url("http://token.example/"));
    let (_, challenge) = get(&registry, MANIFEST, None).await;
    assert!(challenge.is_some_and(|challenge| challenge.contains("realm=\"http://token.example/\"")));
    registry.wrong_challenge("Bearer realm=, Basic");
    assert_eq!(get(&registry, MANIFEST, None).await.1.as_deref(), Some("Bearer realm=, Basic"));

    registry.fault(Fault::on(RequestKind::Token).times(1), Action::status(503));
    let statuses = [
        ask_for_token(&registry, "x", None).await.status().as_u16(),
        ask_for_token(&registry, "x", None).await.status().as_u16(),
    ];
    assert_eq!(statuses, [503, 200]);
}

#[tokio::test]
async fn who_is_refused_uses_no_fault_up() {
    let registry = registry().await;
    registry.require_bearer(Bearer::new());
    registry.fault(Fault::on(RequestKind::ManifestGet).times(1), Action::status(500));
    assert_eq!(get(&registry, MANIFEST, None).await.0, 401);
    let token = token(&registry, "repository:app:pull").await;
    assert_eq!(get(&registry, MANIFEST, Some(&token)).await.0, 500);
    assert_eq!(get(&registry, MANIFEST, Some(&token)).await.0, 200);
}
