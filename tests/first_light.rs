//! The main job, against Debian's docker-registry: repositories are warmed, stay warm, and survive restarts.

mod common;

use std::collections::BTreeSet;

use common::{
    and, image_path, length, refresh, repository, samovar, wait_for_repository, wait_until_complete, watch,
    watch_at,
};
use futures_util::stream::{self, StreamExt as _};
use samovar_testing::{Answer, Content, DockerRegistry, Document, Image, Index, Skopeo, media_type};
use serde_json::{Value, json};

const REPOSITORIES: usize = 20;
const TAGS: usize = 50;

/// What was pushed under one tag, and what must therefore be answered.
struct Pushed {
    content: Box<dyn ContentToPush>,
    created: String,
    labels: Value,
    media_type: &'static str,
    platforms: Value,
    image_id: String,
    size: u64,
}

trait ContentToPush: Content + Send {}
impl<C: Content + Send> ContentToPush for C {}

impl Content for Pushed {
    fn manifest(&self) -> Document {
        self.content.manifest()
    }

    fn children(&self) -> Vec<Document> {
        self.content.children()
    }

    fn blobs(&self) -> Vec<Document> {
        self.content.blobs()
    }
}

impl Pushed {
    /// The four kinds of images in turn, each with a time and labels of its own.
    fn new(repository: &str, number: usize) -> Self {
        let created = format!("2024-{:02}-{:02}T10:20:30Z", number % 12 + 1, number % 28 + 1);
        let build = |platform: &str| {
            Image::new(format!("{repository} {number}"))
                .platform(platform)
                .created(created.as_str())
                .label("org.opencontainers.image.title", repository)
                .label("number", number.to_string())
        };
        let amd64 = build("linux/amd64");
        let labels = json!({"org.opencontainers.image.title": repository, "number": number.to_string()});
        let indexed = |docker: bool| {
            let images = [amd64.clone(), build("linux/arm64/v8")];
            let images = images.map(|image| if docker { image.docker() } else { image });
            let index = Index::of(&images);
            (if docker { index.docker() } else { index }, images)
        };
        let (media_type, content, image): (_, Box<dyn ContentToPush>, _) = match number % 4 {
            0 => (media_type::DOCKER_MANIFEST, Box::new(amd64.clone().docker()), amd64.docker()),
            1 => (media_type::OCI_MANIFEST, Box::new(amd64.clone()), amd64),
            2 => {
                let (index, [image, ..]) = indexed(true);
                (media_type::DOCKER_MANIFEST_LIST, Box::new(index), image)
            }
            _ => {
                let (index, [image, ..]) = indexed(false);
                (media_type::OCI_INDEX, Box::new(index), image)
            }
        };
        let platforms =
            if number % 4 < 2 { json!(["linux/amd64"]) } else { json!(["linux/amd64", "linux/arm64/v8"]) };
        Self {
            content,
            created,
            labels,
            media_type,
            platforms,
            image_id: image.config().digest,
            size: image.size(),
        }
    }

    fn assert_answered(&self, image: &Value, reference: &str) {
        assert_eq!(image["id"], reference);
        assert_eq!(image["digest"], self.digest(), "{reference}");
        assert_eq!(image["media_type"], self.media_type, "{reference}");
        assert_eq!(image["image_id"], self.image_id, "{reference}");
        assert_eq!(image["size"], self.size, "{reference}");
        assert_eq!(image["created_at"], self.created, "{reference}");
        assert_eq!(image["labels"], self.labels, "{reference}");
        assert_eq!(image["platforms"], self.platforms, "{reference}");
        assert!(image.get("first_seen").is_none(), "a first listing tells no age: {reference}: {image}");
    }
}

/// Fills a registry, and returns the repositories with what is in them.
async fn fill(registry: &DockerRegistry, repositories: usize) -> Vec<(String, Vec<(String, Pushed)>)> {
    stream::iter(0..repositories)
        .map(|number| async move {
            let path = format!("team{}/app-{number}", number % 3);
            let tags: Vec<_> =
                (0..TAGS).map(|tag| (format!("v1.{tag}.{number}"), Pushed::new(&path, tag))).collect();
            registry.push_all(&path, &tags).await;
            (path, tags)
        })
        .buffered(4)
        .collect()
        .await
}

#[tokio::test]
async fn a_thousand_tags_are_warmed_and_a_restart_answers_at_once() {
    let registry = DockerRegistry::start().await;
    let host = registry.host().to_owned();
    let contents = fill(&registry, REPOSITORIES).await;
    let samovar = samovar();
    let arguments = watch(contents.iter().map(|(path, _)| format!("{host}/{path}")));
    let mut server = samovar.serve(&arguments).await;

    // Asked of the status, which is small: to ask for whole repositories again and again would be work for all.
    let all = |answer: &Answer| answer.json()["warmer"]["complete"] == REPOSITORIES;
    server.wait_until("/api/v1/status", all, common::PATIENCE).await;
    for (path, tags) in &contents {
        let name = format!("{host}/{path}");
        let repository = repository(&server, &name).await;
        assert_eq!(repository["complete"], true);
        let expected: BTreeSet<&str> = tags.iter().map(|(tag, _)| tag.as_str()).collect();
        assert_eq!(repository["name"], name);
        assert_eq!(repository["tags"], json!(expected));
        assert_eq!(repository["unavailable"], json!({}));
        for (tag, pushed) in tags {
            pushed.assert_answered(&repository["images"][tag], &format!("{name}:{tag}"));
        }
    }
    agrees_with_skopeo(&server, &host, &contents).await;

    registry.clear_requests().await;
    assert!(server.terminate().await.success());
    let server = samovar.serve(&arguments).await;
    for (path, tags) in &contents {
        let repository = repository(&server, &format!("{host}/{path}")).await;
        assert_eq!(length(&repository["images"]), TAGS, "right after the start: {path}");
        for (tag, pushed) in tags {
            assert_eq!(repository["images"][tag]["digest"], pushed.digest());
            assert!(repository["images"][tag]["last_fetched"].is_string(), "{path}:{tag}");
        }
        assert_eq!(repository["complete"], true);
    }
    // Listing goes on: with it in the log, what else the restart asks for would be there too.
    let refreshed = refresh(&server, &format!("{host}/{}:v1.0.0", contents[0].0)).await;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    let requests = registry.requests().await;
    let gets: Vec<_> = requests.iter().filter(|request| request.is_manifest_get()).collect();
    assert!(gets.is_empty(), "{gets:?}");
    let heads = requests.iter().filter(|request| request.is_manifest_head()).count();
    assert_eq!(heads, 1, "the one that was asked for: {requests:?}");
    assert!(!requests.iter().any(samovar_testing::LoggedRequest::is_blob_get), "{requests:?}");
}

/// Two tags of every repository, all four kinds among them.
async fn agrees_with_skopeo(
    server: &samovar_testing::SamovarServer,
    host: &str,
    contents: &[(String, Vec<(String, Pushed)>)],
) {
    let skopeo = &Skopeo::new();
    let sample = contents.iter().enumerate().flat_map(|(number, (path, tags))| {
        let places = [number % TAGS, (number + 26) % TAGS];
        places.map(|place| (format!("{host}/{path}:{}", tags[place].0), &tags[place].1))
    });
    let kinds: Vec<_> = stream::iter(sample)
        .map(|(reference, pushed)| async move {
            let theirs = skopeo.inspect(&reference).await;
            let text = server.get_text(&image_path(&reference)).await;
            let ours: Value = serde_json::from_str(&text).expect("an image is answered as JSON");
            assert_eq!(ours["digest"], theirs["Digest"], "{reference}");
            assert_eq!(ours["created_at"], theirs["Created"], "{reference}");
            assert_eq!(ours["labels"], theirs["Labels"], "{reference}");
            pushed.assert_answered(&ours, &reference);
            pushed.media_type
        })
        .buffer_unordered(4)
        .collect()
        .await;
    assert_eq!(kinds.len(), 2 * REPOSITORIES);
    assert_eq!(kinds.into_iter().collect::<BTreeSet<_>>().len(), 4, "all kinds of images were compared");
}

#[tokio::test]
async fn a_refresh_shows_a_new_tag_and_a_moved_one() {
    let registry = DockerRegistry::start().await;
    registry.push("app", "v1", &Image::new("1")).await;
    let name = format!("{}/app", registry.host());
    let samovar = samovar();
    let server = samovar.serve(watch([&name])).await;
    let first = wait_until_complete(&server, &name).await;
    assert_eq!(first["tags"], json!(["v1"]));

    let v2 = registry.push("app", "v2", &Image::new("2").created("2024-05-06T07:08:09Z")).await;
    assert_eq!(server.get(&image_path(&format!("{name}:v2"))).await.status, 404);
    let output =
        samovar.run(["refresh", &format!("{name}:v2"), "--server", &server.url(""), "--output=json"]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(output.json()["digest"], v2);
    let second = repository(&server, &name).await;
    assert_eq!(second["tags"], json!(["v1", "v2"]));
    assert_eq!(second["images"]["v2"]["created_at"], "2024-05-06T07:08:09Z");
    assert!(second["images"]["v2"]["first_seen"].is_string(), "it came later: {second}");
    assert!(second["generation"].as_u64() > first["generation"].as_u64());

    let moved = registry.push("app", "v1", &Image::new("1 again").label("again", "yes")).await;
    let output = samovar.run(["refresh", &format!("{name}:v1"), "--server", &server.url("")]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains(&moved), "{output:?}");
    let third = repository(&server, &name).await;
    assert_eq!(third["images"]["v1"]["digest"], moved);
    assert_eq!(third["images"]["v1"]["labels"], json!({"again": "yes"}));
    assert_eq!(third["images"]["v2"]["digest"], v2);
    assert!(third["generation"].as_u64() > second["generation"].as_u64());
}

#[tokio::test]
async fn tags_come_and_go_by_themselves() {
    let registry = DockerRegistry::start().await;
    let v1 = registry.push("app", "v1", &Image::new("1")).await;
    registry.push("app", "old", &Image::new("old")).await;
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(and(watch([&name]), ["--poll-interval", "1s"])).await;
    wait_until_complete(&server, &name).await;

    let v2 = registry.push("app", "v2", &Image::new("2")).await;
    let grown = wait_for_repository(&server, &name, |found| found["images"]["v2"]["digest"] == v2).await;
    assert_eq!(grown["tags"], json!(["old", "v1", "v2"]));
    assert!(grown["images"]["v2"]["first_seen"].is_string());

    registry.remove_tag("app", "old");
    let shrunk = wait_for_repository(&server, &name, |found| found["tags"] == json!(["v1", "v2"])).await;
    assert_eq!(shrunk["images"]["v1"]["digest"], v1);
    assert_eq!(length(&shrunk["images"]), 2);
    assert_eq!(shrunk["complete"], true);
    let gone = server.get(&image_path(&format!("{name}:old"))).await;
    assert_eq!(gone.status, 404, "{gone:?}");
}

#[tokio::test]
async fn a_moved_tag_is_found_by_a_refresh_of_its_repository() {
    let registry = DockerRegistry::start().await;
    let tags: Vec<_> = (0..10).map(|tag| (format!("v{tag}"), Image::new(tag.to_string()))).collect();
    registry.push_all("app", &tags).await;
    let name = format!("{}/app", registry.host());
    let server = samovar().serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    let moved = registry.push("app", "v7", &Image::new("7, built again")).await;
    let answer = refresh(&server, &name).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let refreshed = answer.json();
    assert_eq!(refreshed["images"]["v7"]["digest"], moved);
    assert_eq!(refreshed["images"]["v6"]["digest"], tags[6].1.digest());
    assert_eq!(refreshed["complete"], true);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_warming_loses_nothing_that_was_answered() {
    let registry = DockerRegistry::start().await;
    let host = registry.host().to_owned();
    let contents = fill(&registry, 2).await;
    let samovar = samovar();
    let names: Vec<String> = contents.iter().map(|(path, _)| format!("{host}/{path}")).collect();
    // Slow enough to be caught in the middle.
    let mut server = samovar.serve(watch_at(50, &names)).await;
    let some = |found: &Value| length(&found["images"]) >= 10;
    let answered = wait_for_repository(&server, &names[0], some).await;
    server.kill();
    assert_eq!(answered["complete"], false, "the crash came too late");

    registry.clear_requests().await;
    let server = samovar.serve(watch(&names)).await;
    let after = repository(&server, &names[0]).await;
    for (tag, image) in answered["images"].as_object().expect("an object") {
        for key in ["digest", "image_id", "created_at", "labels"] {
            assert_eq!(after["images"][tag][key], image[key], "{tag} was answered before the crash");
        }
    }
    for ((_, tags), name) in contents.iter().zip(&names) {
        let repository = wait_until_complete(&server, name).await;
        for (tag, pushed) in tags {
            pushed.assert_answered(&repository["images"][tag], &format!("{name}:{tag}"));
        }
    }
    let requests = registry.requests().await;
    for tag in answered["images"].as_object().expect("an object").keys() {
        let path = format!("/v2/{}/manifests/{tag}", contents[0].0);
        let asked = requests.iter().find(|request| request.method == "GET" && request.path == path);
        assert_eq!(asked, None, "it goes on where it was");
    }
}
