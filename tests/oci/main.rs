//! The OCI door of the real binary: `/v2/` as clients of the distribution protocol see it.

mod clients;
mod cold;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod naming;
mod replays;

use std::time::Duration;

use common::{samovar, wait_until_complete};
use samovar_testing::{Answer, Content, DockerRegistry, Document, Image, Index, Samovar, SamovarServer};

const MINUTE: Duration = Duration::from_mins(1);

/// A registry with `team/app`, and a server in front of it that is warm.
struct Warm {
    registry: DockerRegistry,
    server: SamovarServer,
    /// The name of `team/app`, with its host.
    name: String,
}

fn index() -> Index {
    let [amd64, arm64] =
        ["linux/amd64", "linux/arm64/v8"].map(|platform| Image::new("app").platform(platform));
    Index::of([&amd64, &arm64])
}

fn image() -> Image {
    Image::new("app").label("a", "b").created("2024-01-02T03:04:05Z")
}

/// Something that is kept beside an image: of another type, with small blobs.
fn signature() -> Image {
    Image::new("signature")
        .config_media_type("application/vnd.oci.empty.v1+json")
        .layer_media_type("application/vnd.dev.cosign.simplesigning.v1+json")
        .layer_bytes(br#"{"critical":{}}"#)
        .artifact_type("application/vnd.example.signature")
}

/// The tag under which clients keep something beside what has this digest.
fn companion(digest: &str, ending: &str) -> String {
    format!("{}{ending}", digest.replace(':', "-"))
}

/// `team/app`: an image, the same as docker has it, an index, and a signature of the index.
async fn filled() -> DockerRegistry {
    let registry = DockerRegistry::start().await;
    registry.push("team/app", "1.0", &image()).await;
    registry.push("team/app", "1.0-docker", &image().docker()).await;
    let digest = registry.push("team/app", "2.0", &index()).await;
    registry.push("team/app", &companion(&digest, ".sig"), &signature()).await;
    registry
}

/// What the configuration says of a registry and of what is watched of it, besides `[oci]`.
fn watching(hosts: &[&str], names: &[String]) -> String {
    let quoted =
        |texts: Vec<&str>| texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "watch = [{}]\ninsecure_host = [{}]\nalias = [\"up={}\"]\nrps = 10000\nburst = 1000\n",
        quoted(names.iter().map(String::as_str).collect()),
        quoted(hosts.to_vec()),
        hosts[0],
    )
}

async fn serve(samovar: &Samovar, configuration: &str) -> SamovarServer {
    let file = samovar.write_file("samovar.toml", configuration);
    samovar.serve(["--config".as_ref(), file.as_os_str()]).await
}

async fn warm_with(oci: &str) -> Warm {
    let registry = filled().await;
    let name = format!("{}/team/app", registry.host());
    let configuration = watching(&[registry.host()], std::slice::from_ref(&name));
    let server = serve(&samovar(), &format!("{configuration}[oci]\n{oci}\n")).await;
    wait_until_complete(&server, &name).await;
    registry.clear_requests().await;
    Warm { registry, server, name }
}

async fn warm() -> Warm {
    warm_with("").await
}

impl Warm {
    /// GET below the repository.
    async fn get(&self, below: &str) -> Answer {
        self.server.get(&self.path(below)).await
    }

    async fn head(&self, below: &str) -> Answer {
        self.server.ask("HEAD", &self.path(below), &[]).await
    }

    fn path(&self, below: &str) -> String {
        format!("/v2/{}/{below}", self.name)
    }

    async fn assert_registry_was_not_asked(&self) {
        assert_eq!(self.registry.requests().await, []);
    }
}

/// The error of an answer that is one, in the shape of the specification.
#[track_caller]
fn assert_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"), "{answer:?}");
    let error = &answer.json()["errors"][0];
    assert_eq!(error["code"], code, "{answer:?}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer:?}");
    let seconds: Option<u64> = answer.header("retry-after").and_then(|value| value.parse().ok());
    assert_eq!(seconds.is_some_and(|seconds| seconds > 0), status == 503, "{answer:?}");
}

/// That an answer is exactly this document.
#[track_caller]
fn assert_document(answer: &Answer, document: &Document) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.text.as_bytes(), document.bytes, "{answer:?}");
    assert_headers(answer, document);
}

/// That an answer, to GET or HEAD, says of a document what has to be said.
#[track_caller]
fn assert_headers(answer: &Answer, document: &Document) {
    assert_eq!(answer.header("content-type"), Some(document.media_type.as_str()), "{answer:?}");
    assert_eq!(
        answer.header("content-length"),
        Some(document.bytes.len().to_string().as_str()),
        "{answer:?}"
    );
    assert_eq!(answer.header("docker-content-digest"), Some(document.digest.as_str()), "{answer:?}");
    assert_eq!(answer.header("etag"), Some(format!("\"{}\"", document.digest).as_str()), "{answer:?}");
    assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
}

/// A blob as it is served: of no type in particular.
fn as_blob(document: Document) -> Document {
    Document { media_type: "application/octet-stream".to_owned(), ..document }
}

fn manifest(content: &dyn Content) -> Document {
    content.manifest()
}
