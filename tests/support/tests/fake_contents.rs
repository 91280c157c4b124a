//! The fake registry as long as nothing is wrong: contents, pages, and what it records.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use samovar_testing::fake::{FakeRegistry, Paging, RequestKind, SilentHost, TagsOrder, dialects};
use samovar_testing::{Content as _, Image, Index, media_type};
use serde_json::Value;

/// Follows `Link` by the URL standard alone, as a client without suspicion would.
async fn follow_pages(first: String) -> (Vec<Value>, usize) {
    let mut url = url::Url::parse(&first).expect("the first page has a URL");
    let (mut tags, mut pages) = (Vec::new(), 0);
    loop {
        let response = reqwest::get(url.clone()).await.expect("the page can be asked for");
        assert_eq!(response.status(), StatusCode::OK, "{url}");
        pages += 1;
        let link =
            response.headers().get("link").map(|link| link.to_str().expect("links are text").to_owned());
        let page: Value = response.json().await.expect("a page is JSON");
        tags.extend(page["tags"].as_array().expect("a page has tags").iter().cloned());
        let Some(link) = link else { return (tags, pages) };
        let link = link
            .strip_prefix('<')
            .and_then(|link| link.split_once('>'))
            .expect("a link stands in brackets")
            .0;
        url = url.join(link).expect("a link is a URL reference");
    }
}

async fn registry_with_tags(count: usize) -> FakeRegistry {
    let registry = FakeRegistry::start().await;
    let image = Image::new("a");
    for number in 0..count {
        registry.push("team/app", &format!("v{number:03}"), &image);
    }
    registry
}

#[tokio::test]
async fn serves_what_was_pushed_with_exact_headers() {
    let registry = FakeRegistry::start().await;
    let images = [Image::new("a").docker(), Image::new("a").docker().platform("linux/arm64")];
    let index = Index::of(&images).docker();
    let digest = registry.push("team/app", "v1", &index);
    assert_eq!(digest, index.digest());

    let client = reqwest::Client::new();
    for reference in ["v1", &digest] {
        let url = format!("{}/v2/team/app/manifests/{reference}", registry.url());
        for method in [Method::HEAD, Method::GET] {
            let response = client.request(method.clone(), &url).send().await.expect("an answer");
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["content-type"], media_type::DOCKER_MANIFEST_LIST);
            assert_eq!(response.headers()["docker-content-digest"], digest.as_str());
            assert_eq!(response.headers()["docker-distribution-api-version"], "registry/2.0");
            let expected = index.manifest().bytes;
            assert_eq!(response.headers()["content-length"], expected.len().to_string().as_str());
            let body = response.bytes().await.expect("a body");
            assert_eq!(body, if method == Method::HEAD { bytes::Bytes::new() } else { expected });
        }
    }
    let config = images[1].config();
    let blob = format!("{}/v2/team/app/blobs/{}", registry.url(), config.digest);
    assert_eq!(reqwest::get(blob).await.expect("an answer").bytes().await.expect("a body"), config.bytes);
    for child in index.children() {
        let url = format!("{}/v2/team/app/manifests/{}", registry.url(), child.digest);
        assert_eq!(reqwest::get(url).await.expect("an answer").bytes().await.expect("a body"), child.bytes);
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_its_code() {
    let registry = FakeRegistry::start().await;
    let kept = registry.push("app", "kept", &Image::new("kept"));
    let lost = registry.push("app", "lost", &Image::new("lost"));
    registry.remove_manifest("app", &lost);
    registry.push("app", "gone", &Image::new("gone"));
    registry.remove_tag("app", "gone");

    let (tags, _) = follow_pages(format!("{}/v2/app/tags/list", registry.url())).await;
    assert_eq!(tags, ["kept", "lost"]);
    for (path, code) in [
        ("app/manifests/lost", "MANIFEST_UNKNOWN"),
        ("app/manifests/gone", "MANIFEST_UNKNOWN"),
        (&format!("app/blobs/{kept}"), "BLOB_UNKNOWN"),
        ("other/tags/list", "NAME_UNKNOWN"),
    ] {
        let response = reqwest::get(format!("{}/v2/{path}", registry.url())).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        let body: Value = response.json().await.expect("errors are JSON");
        assert_eq!(body["errors"][0]["code"], code, "{path}");
    }
}

#[tokio::test]
async fn every_form_of_paging_that_can_be_followed_leads_to_every_tag_once() {
    for paging in [
        Paging::None,
        Paging::LastParameter,
        Paging::OpaqueToken,
        Paging::AbsoluteLink,
        Paging::RootRelativeLink,
        Paging::RelativeLink,
        Paging::QuayNextPage,
        Paging::AbsoluteLinkWithToken,
    ] {
        for order in [TagsOrder::Sorted, TagsOrder::Registered, TagsOrder::Directory] {
            let registry = registry_with_tags(25).await;
            registry.push("team/app", "a-late-tag", &Image::new("b"));
            registry.list_extra("team/app", Value::Null);
            registry.list_extra("team/app", "not a tag");
            registry.set_tags_order(order);
            registry.paging(paging);
            registry.page_size(10);
            let (tags, pages) = follow_pages(format!("{}/v2/team/app/tags/list?n=7", registry.url())).await;

            assert_eq!(pages, if paging == Paging::None { 1 } else { 4 }, "{paging:?}");
            assert_eq!(tags.len(), 28, "{paging:?}");
            let distinct: BTreeSet<String> = tags.iter().map(Value::to_string).collect();
            assert_eq!(distinct.len(), 28, "{paging:?}");
            let place = tags.iter().position(|tag| tag == "a-late-tag");
            let expected = match order {
                TagsOrder::Sorted => 0,
                TagsOrder::Registered => 25,
                TagsOrder::Directory => 20,
            };
            assert_eq!(place, Some(expected), "{paging:?}");
            assert_eq!(tags[27], "not a tag", "{paging:?}");
        }
    }
}

#[tokio::test]
async fn links_that_need_care_are_what_they_are_said_to_be() {
    let registry = registry_with_tags(2).await;
    let link = async |query: &str| {
        let url = format!("{}/v2/team/app/tags/list?{query}", registry.url());
        let response = reqwest::get(url).await.expect("an answer");
        response.headers().get("link").map(|link| link.to_str().expect("links are text").to_owned())
    };
    registry.paging(Paging::LostPrefix);
    assert_eq!(link("n=1").await.as_deref(), Some("</v2/app/tags/list?n=1&last=v000>; rel=\"next\""));
    registry.paging(Paging::SeveralLinks);
    let several = link("n=1").await.expect("there is a next page");
    assert!(several.starts_with("</v2/team/app/tags/list?n=1>; rel=\"first\""), "{several}");
    assert!(several.contains(", </v2/team/app/tags/list?n=1&last=v000>; rel=\"next\", <"), "{several}");
    assert_eq!(link("n=2").await, None);
    assert_eq!(link("n=0").await, None);
}

#[tokio::test]
async fn ecr_refuses_large_pages_and_others_refuse_nonsense() {
    let registry = registry_with_tags(101).await;
    registry.speak(&dialects::ecr::dialect());
    registry.require_nothing();
    let status = async |query: &str| {
        let url = format!("{}/v2/team/app/tags/list?{query}", registry.url());
        reqwest::get(url).await.expect("an answer").status().as_u16()
    };
    assert_eq!(status("n=1001").await, 405);
    assert_eq!(status("n=1000").await, 200);
    assert_eq!(status("last=nonsense").await, 404);
    assert_eq!(status("n=many").await, 400);
    let (tags, pages) = follow_pages(format!("{}/v2/team/app/tags/list", registry.url())).await;
    assert_eq!((tags.len(), pages), (101, 2));
}

#[tokio::test]
async fn requests_are_recorded_as_they_came() {
    let registry = registry_with_tags(1).await;
    let client = reqwest::Client::new();
    let list = format!("{}/v2/team/app/tags/list?n=5&last=%2B", registry.url());
    client.get(&list).header("accept", "x/y").send().await.expect("an answer");
    let manifest = format!("{}/v2/team/app/manifests/none", registry.url());
    client.head(&manifest).basic_auth("u", Some("p")).send().await.expect("an answer");
    client.post(registry.url()).send().await.expect("an answer");

    let requests = registry.requests();
    let kinds: Vec<_> = requests.iter().map(|request| request.kind).collect();
    assert_eq!(kinds, [RequestKind::Tags, RequestKind::ManifestHead, RequestKind::Other]);
    assert_eq!(requests[0].query, "n=5&last=%2B");
    assert_eq!(requests[0].parameter("last").as_deref(), Some("+"));
    assert_eq!(requests[0].headers["accept"], "x/y");
    assert_eq!(requests[0].authorization, None);
    assert_eq!(requests[0].status, Some(200));
    assert_eq!(requests[1].path, "/v2/team/app/manifests/none");
    assert_eq!(requests[1].repository.as_deref(), Some("team/app"));
    assert_eq!(requests[1].reference.as_deref(), Some("none"));
    assert_eq!(requests[1].authorization.as_deref(), Some("Basic dTpw"));
    assert_eq!(requests[1].status, Some(404));
    assert_eq!(registry.count(RequestKind::ManifestHead), 1);

    registry.clear_requests();
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn a_stopped_registry_refuses_connections_and_closes_those_it_had() {
    let mut registry = registry_with_tags(1).await;
    let client = reqwest::Client::new();
    let url = format!("{}/v2/", registry.url());
    client.get(&url).send().await.expect("an answer");
    registry.stop().await;
    assert!(client.get(&url).send().await.is_err_and(|error| error.is_connect()));
    assert_eq!(registry.count(RequestKind::Ping), 1);
}

#[tokio::test]
async fn a_silent_host_accepts_and_says_nothing() {
    let silent = SilentHost::start().await;
    assert_eq!(silent.connections(), 0);
    let request = tokio::spawn(reqwest::get(format!("http://{}/v2/", silent.host())));
    silent.wait_for_connections(1).await;
    assert_eq!(silent.connections(), 1);
    assert!(!request.is_finished());
    drop(silent);
    assert!(request.await.expect("the request does not panic").is_err());
}
