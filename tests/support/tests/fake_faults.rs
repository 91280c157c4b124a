//! The fake registry's faults: each one is what it is said to be, for those requests that it was ordered for.

use std::time::Duration;

use futures_util::StreamExt as _;
use http::StatusCode;
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind};
use samovar_testing::{Content as _, Image, digest_of};
use serde_json::Value;

struct Scene {
    registry: FakeRegistry,
    image: Image,
    client: reqwest::Client,
}

impl Scene {
    async fn new() -> Self {
        let registry = FakeRegistry::start().await;
        let image = Image::new("a");
        registry.push("app", "v1", &image);
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        Self { registry, image, client: client.expect("a client can be built") }
    }

    /// A scene in which every GET of a manifest has this fault.
    async fn with(action: Action) -> Self {
        let scene = Self::new().await;
        scene.registry.fault(Fault::on(RequestKind::ManifestGet), action);
        scene
    }

    async fn get(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        self.client.get(format!("{}/v2/{path}", self.registry.url())).send().await
    }

    async fn get_manifest(&self) -> reqwest::Response {
        self.get("app/manifests/v1").await.expect("an answer")
    }
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("the header is text"))
}

#[tokio::test]
async fn faults_befall_what_fits_in_order_and_so_many_times() {
    let scene = Scene::new().await;
    scene.registry.push("other", "v1", &scene.image);
    let on_manifest = || Fault::on(RequestKind::ManifestGet);
    scene.registry.fault(on_manifest().repository("app").reference("v1").times(1), Action::status(500));
    scene.registry.fault(on_manifest().repository("app").after(1).times(2), Action::status(503));
    scene.registry.fault(Fault::on(RequestKind::Tags).query_containing("last="), Action::status(502));

    let mut statuses = Vec::new();
    for path in [
        "other/manifests/v1",
        "app/manifests/v1",
        "app/manifests/v1",
        "app/manifests/v1",
        "app/manifests/v1",
        "app/manifests/v1",
        "app/tags/list",
        "app/tags/list?last=v0",
    ] {
        statuses.push(scene.get(path).await.expect("an answer").status().as_u16());
    }
    assert_eq!(statuses, [200, 500, 200, 503, 503, 200, 200, 502]);
    let recorded: Vec<_> = scene.registry.requests().iter().filter_map(|request| request.status).collect();
    assert_eq!(recorded, statuses);

    scene.registry.clear_faults();
    assert_eq!(scene.get("app/tags/list?last=v0").await.expect("an answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn statuses_come_with_their_headers() {
    let headers = vec![
        ("www-authenticate".to_owned(), "Basic realm=\"a\"".to_owned()),
        ("www-authenticate".to_owned(), "Basic realm=\"b\"".to_owned()),
    ];
    let scene = Scene::with(Action::Status { code: 403, headers, body: "{}".to_owned() }).await;
    let response = scene.get_manifest().await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers().get_all("www-authenticate").iter().count(), 2);
    assert_eq!(header(&response, "docker-content-digest"), None);

    let scene = Scene::with(Action::too_many_requests(7)).await;
    let response = scene.get_manifest().await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&response, "retry-after"), Some("7"));

    let scene = Scene::with(Action::TooManyRequests { retry_after: None, body: String::new() }).await;
    assert_eq!(header(&scene.get_manifest().await, "retry-after"), None);
}

#[tokio::test]
async fn digests_and_bytes_disagree_on_command() {
    let right = Image::new("a").manifest();

    let response = Scene::with(Action::WrongBytes).await.get_manifest().await;
    assert_eq!(header(&response, "docker-content-digest"), Some(right.digest.as_str()));
    let body = response.bytes().await.expect("a body");
    assert_eq!(body.len(), right.bytes.len());
    assert_ne!(body, right.bytes);

    let response = Scene::with(Action::WrongDigestHeader).await.get_manifest().await;
    assert_ne!(header(&response, "docker-content-digest"), Some(right.digest.as_str()));
    assert_eq!(response.bytes().await.expect("a body"), right.bytes);

    let response = Scene::with(Action::NoDigestHeader).await.get_manifest().await;
    assert_eq!(header(&response, "docker-content-digest"), None);
    assert_eq!(response.bytes().await.expect("a body"), right.bytes);

    let response = Scene::with(Action::body("x/y", "{")).await.get_manifest().await;
    assert_eq!(header(&response, "docker-content-digest"), Some(digest_of(b"{").as_str()));
    assert_eq!(header(&response, "content-type"), Some("x/y"));
    assert_eq!(response.bytes().await.expect("a body"), "{");
}

#[tokio::test]
async fn a_cut_body_breaks_off_short_of_its_length() {
    let scene = Scene::with(Action::CutBody { after: 10 }).await;
    let response = scene.get_manifest().await;
    assert_eq!(response.content_length(), Some(scene.image.manifest().bytes.len() as u64));
    let pieces: Vec<_> = response.bytes_stream().collect().await;
    let arrived: usize = pieces.iter().filter_map(|piece| piece.as_ref().ok()).map(bytes::Bytes::len).sum();
    assert_eq!(arrived, 10);
    assert!(pieces.last().is_some_and(Result::is_err));
}

#[tokio::test]
async fn a_closed_connection_gives_no_answer() {
    let scene = Scene::with(Action::CloseConnection).await;
    assert!(scene.get("app/manifests/v1").await.is_err());
    assert!(scene.registry.requests().iter().all(|request| request.status.is_none()));
}

#[tokio::test]
async fn hanging_answers_are_under_way_until_the_client_goes() {
    let scene = Scene::with(Action::HangBeforeHeader).await;
    let hanging: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn(scene.client.get(format!("{}/v2/app/manifests/v1", scene.registry.url())).send())
        })
        .collect();
    scene.registry.wait_for(RequestKind::ManifestGet, 3).await;
    assert!(hanging.iter().all(|request| !request.is_finished()));
    assert_eq!(scene.registry.max_concurrency(), 3);

    scene.registry.clear_faults();
    assert_eq!(scene.get_manifest().await.status(), StatusCode::OK);
    assert_eq!(scene.registry.max_concurrency(), 4);
    for request in hanging {
        request.abort();
    }
}

#[tokio::test]
async fn a_body_hangs_after_its_beginning() {
    let scene = Scene::with(Action::HangInBody { after: 5 }).await;
    let mut body = scene.get_manifest().await.bytes_stream();
    assert_eq!(body.next().await.expect("a piece").expect("bytes").len(), 5);
    assert!(futures_util::poll!(body.next()).is_pending());
}

#[tokio::test]
async fn answers_one_after_the_other_are_never_counted_as_two() {
    let scene = Scene::new().await;
    for _ in 0..50 {
        scene.get_manifest().await.bytes().await.expect("a body");
    }
    assert_eq!(scene.registry.max_concurrency(), 1);
}

#[tokio::test(start_paused = true)]
async fn delays_follow_the_clock_of_the_test() {
    let scene = Scene::with(Action::Delay(Duration::from_hours(1))).await;
    let start = tokio::time::Instant::now();
    assert_eq!(scene.get_manifest().await.status(), StatusCode::OK);
    assert!(start.elapsed() >= Duration::from_hours(1));
}

#[tokio::test]
async fn bodies_and_pages_without_end() {
    let scene = Scene::new().await;
    scene.registry.fault(Fault::on(RequestKind::ManifestGet), Action::EndlessBody);
    let response = scene.get_manifest().await;
    assert_eq!(response.content_length(), None);
    let mut body = response.bytes_stream();
    let mut arrived = 0;
    while arrived < 40 << 20 {
        arrived += body.next().await.expect("there is always more").expect("bytes").len();
    }

    let tags_and_link = async || {
        let response = scene.get("app/tags/list").await.expect("an answer");
        let link = header(&response, "link").expect("there is always a next page").to_owned();
        (response.json::<Value>().await.expect("a page is JSON")["tags"].clone(), link)
    };
    scene.registry.fault(Fault::on(RequestKind::Tags).times(2), Action::EndlessPages);
    assert_ne!(tags_and_link().await, tags_and_link().await);
    scene.registry.fault(Fault::on(RequestKind::Tags), Action::RepeatedPage);
    assert_eq!(tags_and_link().await, tags_and_link().await);
}

#[tokio::test]
async fn links_and_redirects_lead_where_they_were_told() {
    let scene = Scene::with(Action::RedirectTo("http://example.com/x".to_owned())).await;
    let response = scene.get_manifest().await;
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(header(&response, "location"), Some("http://example.com/x"));

    scene.registry.fault(Fault::on(RequestKind::Tags), Action::LinkTo("http://example.com/y".to_owned()));
    let response = scene.get("app/tags/list").await.expect("an answer");
    assert_eq!(header(&response, "link"), Some("<http://example.com/y>; rel=\"next\""));
}

#[tokio::test]
async fn headers_can_be_added_to_every_answer() {
    let scene = Scene::new().await;
    scene.registry.add_header("ratelimit-remaining", "76;w=21600");
    assert_eq!(header(&scene.get_manifest().await, "ratelimit-remaining"), Some("76;w=21600"));
}
