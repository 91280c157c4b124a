//! A registry in a process of its own that takes its time for every answer.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use samovar_registry::Name;
use samovar_testing::Content;

use super::common::labelled_image;

/// What the registry holds: so many repositories of so many tags, each tag an image of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) repositories: usize,
    pub(crate) tags: usize,
}

/// How long every answer takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Latency {
    None,
    Each(Duration),
}

/// The registry, while this value lives.
pub(crate) struct RegistryProcess {
    child: Child,
    host: String,
    repositories: usize,
}

impl RegistryProcess {
    pub(crate) fn start(shape: Shape, latency: Latency) -> Self {
        let latency = match latency {
            Latency::None => Duration::ZERO,
            Latency::Each(latency) => latency,
        };
        let this = std::env::current_exe().expect("it runs");
        let mut child = Command::new(this)
            .arg("--registry")
            .args([shape.repositories, shape.tags].map(|number| number.to_string()))
            .arg(latency.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut host = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut host).expect("it tells");
        Self { child, host: host.trim().to_owned(), repositories: shape.repositories }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn names(&self) -> Vec<Name> {
        let name = |number| format!("{}/{}", self.host, path(number)).parse().expect("a name");
        (0..self.repositories).map(name).collect()
    }
}

impl Drop for RegistryProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn path(repository: usize) -> String {
    format!("team/app{repository}")
}

/// What is served: documents by digest, tags by repository.
struct Served {
    documents: HashMap<String, (String, Bytes)>,
    digests: HashMap<String, HashMap<String, String>>,
    lists: HashMap<String, Bytes>,
    latency: Duration,
}

/// Serves until it is killed. The arguments are those of [`RegistryProcess::start`].
#[allow(clippy::print_stdout, reason = "its address")]
pub(crate) async fn serve(arguments: impl Iterator<Item = String>) {
    let numbers: Vec<usize> = arguments.map(|number| number.parse().expect("a number")).collect();
    let [repositories, tags, latency] = numbers[..] else { panic!("three numbers") };
    let served = Served::new(Shape { repositories, tags }, Duration::from_millis(latency as u64));
    let router = Router::new().route("/v2/{*path}", axum::routing::any(answer)).with_state(Arc::new(served));
    let router = router.route("/v2/", axum::routing::get(|| async { StatusCode::OK }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    axum::serve(listener, router).await.expect("it serves");
}

impl Served {
    fn new(shape: Shape, latency: Duration) -> Self {
        let mut served =
            Self { documents: HashMap::new(), digests: HashMap::new(), lists: HashMap::new(), latency };
        for repository in 0..shape.repositories {
            let mut digests = HashMap::new();
            for number in 0..shape.tags {
                let image = labelled_image(repository * shape.tags + number);
                let manifest = image.manifest();
                digests.insert(format!("1.{}.{}", number / 50, number % 50), manifest.digest.clone());
                for document in image.blobs().into_iter().chain([manifest]) {
                    served.documents.insert(document.digest, (document.media_type, document.bytes));
                }
            }
            let tags: Vec<&String> = digests.keys().collect();
            let list = serde_json::json!({ "name": path(repository), "tags": tags }).to_string();
            served.lists.insert(path(repository), list.into());
            served.digests.insert(path(repository), digests);
        }
        served
    }

    fn find(&self, path: &str) -> Option<(String, &str, Bytes)> {
        let json = "application/json";
        if let Some(name) = path.strip_suffix("/tags/list") {
            return Some((String::new(), json, self.lists.get(name)?.clone()));
        }
        let (rest, last) = path.rsplit_once('/')?;
        let digest = match rest.strip_suffix("/manifests") {
            Some(name) => self.digests.get(name)?.get(last).map_or(last, String::as_str),
            None => last,
        };
        let (media_type, bytes) = self.documents.get(digest)?;
        Some((digest.to_owned(), media_type, bytes.clone()))
    }
}

async fn answer(State(served): State<Arc<Served>>, method: Method, Path(path): Path<String>) -> Response {
    tokio::time::sleep(served.latency).await;
    let Some((digest, media_type, bytes)) = served.find(&path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, media_type)
        .header(header::CONTENT_LENGTH, bytes.len());
    if !digest.is_empty() {
        response = response.header("docker-content-digest", digest);
    }
    let body = if method == Method::HEAD { Bytes::new() } else { bytes };
    response.body(body.into()).expect("it is a response")
}
