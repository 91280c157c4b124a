//! Fills a real registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt as _};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use tokio::sync::{OnceCell, Semaphore};

use crate::content::{Content, Document};

/// How requests of the test support call themselves, to be told from those under test.
pub(crate) const USER_AGENT: &str = "samovar-testing";

/// Images pushed at the same time, however many are asked for.
const MOST_AT_ONCE: usize = 16;

/// What each repository has, by repository and digest: a cell that is set when the blob has arrived.
type PushedBlobs = HashMap<(String, String), Arc<OnceCell<()>>>;

/// Pushes to one registry. Blobs go through `oci-client`; manifests go as they are, since its own encoding of them would
/// be another document.
pub(crate) struct Pusher {
    host: String,
    credentials: Option<(String, String)>,
    blobs: oci_client::Client,
    manifests: reqwest::Client,
    pushed: Mutex<PushedBlobs>,
    at_once: Semaphore,
}

impl Pusher {
    pub(crate) fn new(host: &str, credentials: Option<(String, String)>) -> Self {
        let config = ClientConfig {
            protocol: ClientProtocol::Http,
            use_monolithic_push: true,
            user_agent: USER_AGENT,
            ..ClientConfig::default()
        };
        Self {
            host: host.to_owned(),
            credentials,
            blobs: oci_client::Client::try_from(config).expect("an HTTP client can be built"),
            manifests: http_client(),
            pushed: Mutex::default(),
            at_once: Semaphore::new(MOST_AT_ONCE),
        }
    }

    /// Pushes everything that belongs to `content`, the manifest last, and returns its digest.
    pub(crate) async fn push(&self, repository: &str, tag: Option<&str>, content: &dyn Content) -> String {
        let _place = self.at_once.acquire().await.expect("the semaphore is never closed");
        for blob in content.blobs() {
            self.push_blob(repository, blob).await;
        }
        for child in content.children() {
            self.push_manifest(repository, &child.digest, &child).await;
        }
        let manifest = content.manifest();
        self.push_manifest(repository, tag.unwrap_or(&manifest.digest), &manifest).await;
        manifest.digest
    }

    /// Pushes many tags, several at a time, and returns their digests in the same order.
    pub(crate) async fn push_all<C: Content>(&self, repository: &str, images: &[(String, C)]) -> Vec<String> {
        let pushes = images.iter().map(|(tag, content)| self.push(repository, Some(tag), content));
        stream::iter(pushes).buffered(MOST_AT_ONCE).collect().await
    }

    async fn push_blob(&self, repository: &str, blob: Document) {
        let key = (repository.to_owned(), blob.digest.clone());
        let once = Arc::clone(self.pushed.lock().expect("nothing panics here").entry(key).or_default());
        once.get_or_init(|| async {
            let image = oci_client::Reference::with_tag(
                self.host.clone(),
                repository.to_owned(),
                "unused".to_owned(),
            );
            let auth = match &self.credentials {
                Some((user, password)) => RegistryAuth::Basic(user.clone(), password.clone()),
                None => RegistryAuth::Anonymous,
            };
            self.blobs.store_auth_if_needed(&self.host, &auth).await;
            if let Err(error) = self.blobs.push_blob(&image, blob.bytes, &blob.digest).await {
                panic!("pushing blob {} to {}/{repository}: {error}", blob.digest, self.host);
            }
        })
        .await;
    }

    async fn push_manifest(&self, repository: &str, reference: &str, manifest: &Document) {
        let url = format!("http://{}/v2/{repository}/manifests/{reference}", self.host);
        let request = self.manifests.put(&url).header("content-type", &manifest.media_type);
        self.send(request.body(manifest.bytes.clone()), 201).await;
    }

    pub(crate) async fn delete_manifest(&self, repository: &str, digest: &str) {
        let url = format!("http://{}/v2/{repository}/manifests/{digest}", self.host);
        self.send(self.manifests.delete(&url), 202).await;
    }

    /// Sends a request and panics, with the answer, where it is not answered with `wanted`.
    async fn send(&self, mut request: reqwest::RequestBuilder, wanted: u16) {
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, Some(password));
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("asking {}: {error:?}", self.host));
        let (status, url) = (response.status(), response.url().clone());
        if status.as_u16() != wanted {
            let text = response.text().await.unwrap_or_default();
            panic!("{url} was answered with {status} where {wanted} was wanted: {text}");
        }
    }
}

impl std::fmt::Debug for Pusher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pusher").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The client for requests of the test support's own: to loopback hosts only, whatever proxy there is.
pub(crate) fn http_client() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().user_agent(USER_AGENT);
    client.build().expect("an HTTP client can be built")
}
