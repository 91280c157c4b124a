//! Debian's `docker-registry`: a real server, to warm from.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::content::Content;
use crate::pusher::{Pusher, USER_AGENT, http_client};
use crate::server::{Launch, Server};

/// How often the access log is looked at for a request that is on its way there.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a port that was ours may take to become free, and a log line to be written.
const PATIENCE: Duration = Duration::from_secs(30);

/// [`DockerRegistry::PASSWORD`] by bcrypt with the lowest cost, as `htpasswd -B` writes it.
const PASSWORD_HASH: &str = "$2b$04$3dmUEQLZGzrtYtIwh8wJoui2NWZFVcDajERXNUg5GMAEow8Goo2ku";

/// A running `docker-registry` on a free loopback port, with its contents in its own directory. It lists tags in no
/// particular order and knows no pages, and takes manifests of schema 1 as well. Ends when dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    host: String,
    server: Server,
    directory: Arc<TempDir>,
    options: DockerRegistryBuilder,
    pusher: Pusher,
    http: reqwest::Client,
    marks: AtomicUsize,
    /// Lines of the access log that [`DockerRegistry::clear_requests`] has put behind us.
    forgotten_lines: AtomicUsize,
}

/// How a [`DockerRegistry`] is to be started.
#[derive(Debug, Clone, Default)]
pub struct DockerRegistryBuilder {
    htpasswd: bool,
    notified: Option<Notified>,
}

/// Who is told of what happens.
#[derive(Debug, Clone)]
struct Notified {
    url: String,
    authorization: String,
}

/// A request in the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// The HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// What the client calls itself.
    pub user_agent: String,
}

impl LoggedRequest {
    /// Whether it is a GET of a manifest or an index.
    pub fn is_manifest_get(&self) -> bool {
        self.method == "GET" && self.path.contains("/manifests/")
    }

    /// Whether it is a HEAD of a manifest or an index.
    pub fn is_manifest_head(&self) -> bool {
        self.method == "HEAD" && self.path.contains("/manifests/")
    }

    /// Whether it is a GET of a blob.
    pub fn is_blob_get(&self) -> bool {
        self.method == "GET" && self.path.contains("/blobs/")
    }

    /// Whether it lists tags.
    pub fn is_tags_list(&self) -> bool {
        self.method == "GET" && self.path.split('?').next().is_some_and(|path| path.ends_with("/tags/list"))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut quoted = line.split('"');
        let _client_and_time = quoted.next()?;
        let mut request = quoted.next()?.split(' ');
        let status = quoted.next()?.split_whitespace().next()?.parse().ok()?;
        let _referrer = quoted.next()?;
        let _blank = quoted.next()?;
        let user_agent = quoted.next()?.to_owned();
        Some(Self {
            method: request.next()?.to_owned(),
            path: request.next()?.to_owned(),
            status,
            user_agent,
        })
    }
}

impl DockerRegistryBuilder {
    /// Asks everyone for [`DockerRegistry::USER`] and [`DockerRegistry::PASSWORD`].
    #[must_use]
    pub fn htpasswd(mut self) -> Self {
        self.htpasswd = true;
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> DockerRegistry {
        let directory =
            Arc::new(TempDir::with_prefix("docker-registry-").expect("a temporary directory can be made"));
        let (server, host) = start_server(&directory, "127.0.0.1:0", &self).await.unwrap_or_else(|output| {
            panic!("docker-registry ended at its start:\n{output}");
        });
        let credentials =
            self.htpasswd.then(|| (DockerRegistry::USER.to_owned(), DockerRegistry::PASSWORD.to_owned()));
        let registry = DockerRegistry {
            pusher: Pusher::new(&host, credentials),
            host,
            server,
            directory,
            options: self,
            http: http_client(),
            marks: AtomicUsize::new(0),
            forgotten_lines: AtomicUsize::new(0),
        };
        registry.ping("ready").await;
        registry
    }
}

impl DockerRegistry {
    /// The user of the `htpasswd` variant.
    pub const USER: &str = "samovar";
    /// The password of the `htpasswd` variant.
    pub const PASSWORD: &str = "let-it-steep";

    /// Starts one that is open to all.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts one as described.
    pub fn builder() -> DockerRegistryBuilder {
        DockerRegistryBuilder::default()
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Pushes an image or an index under a tag, blobs first; blobs that were pushed to the repository before are not
    /// sent again. Returns the digest of the manifest. Pushes may run side by side.
    pub async fn push(&self, repository: &str, tag: &str, content: &dyn Content) -> String {
        self.pusher.push(repository, Some(tag), content).await
    }

    /// Pushes an image or an index without a tag. Returns the digest of the manifest.
    pub async fn push_digest_only(&self, repository: &str, content: &dyn Content) -> String {
        self.pusher.push(repository, None, content).await
    }

    /// Pushes many tags, several at a time. Returns the digests in the same order.
    pub async fn push_all<C: Content>(&self, repository: &str, images: &[(String, C)]) -> Vec<String> {
        self.pusher.push_all(repository, images).await
    }

    /// Deletes a manifest over HTTP; the tags that point at it go with it.
    pub async fn delete_manifest(&self, repository: &str, digest: &str) {
        self.pusher.delete_manifest(repository, digest).await;
    }

    /// Removes a tag from the storage, which the registry has no request for.
    pub fn remove_tag(&self, repository: &str, tag: &str) {
        remove_directory(&self.manifests_directory(repository).join("tags").join(tag));
    }

    /// Removes a manifest from the repository's storage, behind the registry's back: tags that point at it stay
    /// listed, and their manifest is unknown.
    pub fn lose_manifest(&self, repository: &str, digest: &str) {
        let revision = self.manifests_directory(repository).join("revisions").join(digest.replace(':', "/"));
        remove_directory(&revision);
    }

    /// The requests that it has answered since its last start or [`Self::clear_requests`], in the order of their
    /// ends, without those of the test support itself.
    pub async fn requests(&self) -> Vec<LoggedRequest> {
        let lines = self.access_log().await;
        let forgotten = self.forgotten_lines.load(Ordering::Relaxed);
        let requests = lines.iter().skip(forgotten).filter_map(|line| LoggedRequest::parse(line));
        requests.filter(|request| request.user_agent != USER_AGENT).collect()
    }

    /// Forgets the requests so far.
    pub async fn clear_requests(&self) {
        let lines = self.access_log().await.len();
        self.forgotten_lines.store(lines, Ordering::Relaxed);
    }

    /// Stops it; its contents stay.
    pub async fn stop(&mut self) {
        self.server.terminate().await;
    }

    /// Starts it again on the same port with the same contents, stopping it first where it runs.
    pub async fn restart(&mut self) {
        self.server.terminate().await;
        let start = Instant::now();
        self.server = loop {
            match start_server(&self.directory, &self.host, &self.options).await {
                Ok((server, _)) => break server,
                // Another process may have been given the port for a moment.
                Err(output) => {
                    assert!(start.elapsed() < PATIENCE, "docker-registry does not start again:\n{output}");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
        self.forgotten_lines.store(0, Ordering::Relaxed);
        self.ping("ready").await;
    }

    /// From now on tells `url` of what happens, showing this `Authorization`. Starts it again.
    pub async fn notify(&mut self, url: impl Into<String>, authorization: impl Into<String>) {
        let (url, authorization) = (url.into(), authorization.into());
        self.options.notified = Some(Notified { url, authorization });
        self.restart().await;
    }

    /// Where its contents are.
    pub(crate) fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn manifests_directory(&self, repository: &str) -> PathBuf {
        let repositories = self.directory.path().join("data/docker/registry/v2/repositories");
        repositories.join(repository).join("_manifests")
    }

    /// The lines of the access log, complete: a line is written when its request has been answered, which is not
    /// before its client has gone on. So we send a request of our own and wait for that to be there.
    async fn access_log(&self) -> Vec<String> {
        let mark = format!("mark-{}", self.marks.fetch_add(1, Ordering::Relaxed));
        self.ping(&mark).await;
        let end = format!("/v2/?{mark} ");
        let start = Instant::now();
        loop {
            let log = self.server.stdout();
            if log.contains(&end) {
                return log.lines().map(str::to_owned).collect();
            }
            assert!(start.elapsed() < PATIENCE, "the access log lacks {mark}:\n{log}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn ping(&self, query: &str) {
        let url = format!("http://{}/v2/?{query}", self.host);
        let answer = self.http.get(&url).send().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        let wanted = if self.options.htpasswd { 401 } else { 200 };
        assert_eq!(answer.status().as_u16(), wanted, "{url}");
    }
}

/// Starts the process and learns its port. `Err` with its output where it ends instead.
async fn start_server(
    directory: &Arc<TempDir>,
    address: &str,
    options: &DockerRegistryBuilder,
) -> Result<(Server, String), String> {
    let configuration = directory.path().join("config.yml");
    write(&configuration, &configuration_text(directory, address, options));
    write(&directory.path().join("htpasswd"), &format!("{}:{PASSWORD_HASH}\n", DockerRegistry::USER));
    let launch = Launch::of_package("docker-registry", "docker-registry")
        .without_variables("REGISTRY_")
        .without_variables("OTEL_")
        .arguments(["serve".into(), configuration.into_os_string()]);
    let mut server = Server::start(&launch, Arc::clone(directory));
    match server.find_in_stderr(listening_address).await {
        Some(host) => Ok((server, host)),
        None => Err(server.stderr()),
    }
}

/// Finds the address in the line that says that the registry listens.
pub(crate) fn listening_address(log: &str) -> Option<String> {
    let (_, after) = log.split_once("msg=\"listening on ")?;
    let (address, _) = after.split_once('"')?;
    Some(address.trim_end_matches(", tls").to_owned())
}

fn configuration_text(directory: &TempDir, address: &str, options: &DockerRegistryBuilder) -> String {
    let path = directory.path().display();
    let notifications =
        options.notified.as_ref().map_or_else(String::new, |Notified { url, authorization }| {
            format!(
                "notifications:\n  endpoints:\n    - name: notified\n      url: {url}\n      \
             headers:\n        Authorization: [{authorization}]\n      \
             timeout: 5s\n      threshold: 5\n      backoff: 100ms\n"
            )
        });
    let auth = if options.htpasswd {
        format!("auth:\n  htpasswd:\n    realm: test registry\n    path: {path}/htpasswd\n")
    } else {
        String::new()
    };
    format!(
        "version: 0.1\n\
         log:\n  level: info\n  accesslog:\n    disabled: false\n\
         storage:\n  filesystem:\n    rootdirectory: {path}/data\n  delete:\n    enabled: true\n  \
         maintenance:\n    uploadpurging:\n      enabled: false\n\
         compatibility:\n  schema1:\n    enabled: true\n\
         http:\n  addr: {address}\n  secret: only for tests\n{auth}{notifications}"
    )
}

fn write(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}

fn remove_directory(path: &std::path::Path) {
    std::fs::remove_dir_all(path).unwrap_or_else(|error| panic!("removing {}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    #[tokio::test]
    async fn many_images_are_pushed_side_by_side_and_what_they_share_once() {
        let registry = DockerRegistry::start().await;
        let images: Vec<_> =
            (0..200).map(|number| (format!("v{number}"), Image::new(format!("{number}")))).collect();
        let digests = registry.push_all("app", &images).await;
        let expected: Vec<_> = images.iter().map(|(_, image)| image.digest()).collect();
        assert_eq!(digests, expected);

        let log = registry.access_log().await;
        let answered = |beginning: &str, status: u16| {
            let requests = log.iter().filter_map(|line| LoggedRequest::parse(line));
            requests.filter(|request| request.path.starts_with(beginning) && request.status == status).count()
        };
        assert_eq!(answered("/v2/app/manifests/v", 201), 200);
        // Two requests for each of 200 configurations and for the one layer.
        assert_eq!(answered("/v2/app/blobs/uploads/", 202), 201);
        assert_eq!(answered("/v2/app/blobs/uploads/", 201), 201);
    }

    #[test]
    fn access_log_lines_are_understood_or_left_out() {
        let line =
            "127.0.0.1 - - [20/Nov/2026:06:55:53 +0000] \"GET /v2/?a=b HTTP/1.1\" 401 87 \"\" \"c/7 (x)\"";
        let request = LoggedRequest::parse(line).expect("the line is a request");
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/v2/?a=b"));
        assert_eq!((request.status, request.user_agent.as_str()), (401, "c/7 (x)"));
        assert_eq!(LoggedRequest::parse("listening on 127.0.0.1"), None);
    }
}
