//! Further doors to the contents of a `docker-registry`: over TLS, with tokens, at another address.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::docker_registry::{DockerRegistry, listening_address};
use crate::server::{Launch, Server};
use crate::token_server::TokenServer;

/// Another `docker-registry` with the contents of one that runs, which it shows in another way. Ends when dropped.
#[derive(Debug)]
pub struct RegistryDoor {
    host: String,
    _server: Server,
}

/// How a [`RegistryDoor`] is to be opened.
#[derive(Debug, Clone)]
pub struct RegistryDoorBuilder {
    root: PathBuf,
    address: &'static str,
    tls: String,
    auth: String,
}

impl RegistryDoorBuilder {
    /// Listens on `[::1]`.
    #[must_use]
    pub fn ipv6(mut self) -> Self {
        self.address = "[::1]:0";
        self
    }

    /// Speaks TLS only, with the server's certificate of these.
    #[must_use]
    pub fn tls(mut self, certificates: &Certificates) -> Self {
        let file = |name: &str| certificates.file(name).display().to_string();
        self.tls =
            format!("  tls:\n    certificate: {}\n    key: {}\n", file("server.pem"), file("server.key"));
        self
    }

    /// Lets in who has a token of this server.
    #[must_use]
    pub fn tokens_of(mut self, server: &TokenServer) -> Self {
        let (realm, service, issuer) = (server.realm(), TokenServer::SERVICE, TokenServer::ISSUER);
        self.auth = format!(
            "auth:\n  token:\n    realm: {realm}\n    service: {service}\n    issuer: {issuer}\n    rootcertbundle: {}\n",
            server.certificate().display()
        );
        self
    }

    /// Starts it and waits until it listens.
    pub async fn open(self) -> RegistryDoor {
        let directory =
            Arc::new(TempDir::with_prefix("registry-door-").expect("a temporary directory can be made"));
        let file = directory.path().join("config.yml");
        let mut text = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n  maintenance:\n    \
             uploadpurging:\n      enabled: false\n",
            self.root.display()
        );
        let Self { address, tls, auth, .. } = &self;
        write!(text, "http:\n  addr: '{address}'\n  secret: only for tests\n{tls}{auth}")
            .expect("a string takes everything");
        std::fs::write(&file, text).expect("a file can be written");
        let launch = Launch::of_package("docker-registry", "docker-registry")
            .without_variables("REGISTRY_")
            .without_variables("OTEL_")
            .arguments(["serve".into(), file.into_os_string()]);
        let mut server = Server::start(&launch, directory);
        let host = server.find_in_stderr(listening_address).await;
        let host = host.unwrap_or_else(|| panic!("docker-registry ended at its start:\n{}", server.stderr()));
        RegistryDoor { host, _server: server }
    }
}

impl RegistryDoor {
    /// To the contents of this registry.
    pub fn to(registry: &DockerRegistry) -> RegistryDoorBuilder {
        let root = registry.data_directory();
        RegistryDoorBuilder { root, address: "127.0.0.1:0", tls: String::new(), auth: String::new() }
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        &self.host
    }
}
