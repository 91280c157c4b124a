//! TLS towards clients: certificates by the name that is asked for, read again when their files change, and what clients'
//! own certificates say.
//!
//! Invariant: files that cannot be used change nothing: the last good ones are shown, and the status says so. Connections
//! that are there keep what they began with.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ::aws_lc_rs::digest;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::server::{
    ClientHello, ParsedCertificate, ResolvesServerCert, ServerConfig, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, ServerConnection};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::TlsConfig;

/// How often the files are read again.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Protocols above TLS, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Names of one certificate that are looked at.
const MOST_NAMES: usize = 100;

/// What connections are secured with.
pub struct Tls {
    config: TlsConfig,
    current: RwLock<Loaded>,
    problem: Mutex<Option<String>>,
}

struct Loaded {
    files: Vec<Vec<u8>>,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files for the first time, when they have to be good. An error says which is not.
    pub fn new(config: TlsConfig) -> Result<Self, String> {
        let current = RwLock::new(load(&config, read(&config)?)?);
        Ok(Self { config, current, problem: Mutex::default() })
    }

    /// Follows the files until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => return,
            }
            let tls = Arc::clone(&self);
            // A task that panicked has said so.
            _ = tokio::task::spawn_blocking(move || tls.look()).await;
        }
    }

    /// For a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).acceptor.clone()
    }

    /// Why the files cannot be used as they are now.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self) {
        let changed = read(&self.config).and_then(|files| {
            if self.current.read().unwrap_or_else(PoisonError::into_inner).files == files {
                return Ok(None);
            }
            load(&self.config, files).map(Some)
        });
        let problem = match changed {
            Ok(loaded) => {
                if let Some(loaded) = loaded {
                    info!("the certificates have changed: new connections get the new ones");
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
                }
                None
            }
            Err(problem) => Some(problem),
        };
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_ref().filter(|problem| known.as_ref() != Some(problem)) {
            warn!(error = problem, "the certificates cannot be used: the last good ones are shown");
        }
        *known = problem;
    }
}

/// All files, in the order of the configuration: a certificate and its key in turn, and clients' authorities last.
fn read(config: &TlsConfig) -> Result<Vec<Vec<u8>>, String> {
    let pairs = config.certificates.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
    let content = |path: &PathBuf| std::fs::read(path).map_err(|error| shown(path, &error));
    pairs.chain(&config.client_ca).map(content).collect()
}

fn shown(path: &Path, error: &dyn fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn load(config: &TlsConfig, files: Vec<Vec<u8>>) -> Result<Loaded, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let keys = config.certificates.iter().zip(files.chunks(2)).map(|(paths, content)| {
        certified(&content[0], &content[1], &provider).map_err(|error| shown(&paths.certificate, &error))
    });
    let by_name = Arc::new(ByName(keys.collect::<Result<_, _>>()?));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match (&config.client_ca, files.last()) {
        (Some(path), Some(content)) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(content).map_err(|error| shown(path, &error))? {
                roots.add(authority).map_err(|error| shown(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if config.client_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| shown(path, &error))?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(by_name);
    server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Loaded { files, acceptor: TlsAcceptor::from(Arc::new(server)) })
}

fn certified(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    // What is wrong with a key is not said in the words of who read it.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "its key is not a key in PEM".to_owned())?;
    let key = CertifiedKey::from_der(certificates(chain)?, key, provider);
    key.map(Arc::new).map_err(|error| error.to_string())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(certificates) }
}

/// Shows the first certificate that has the name which is asked for, else the first of all.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let has_name = |key: &&Arc<CertifiedKey>| {
            let certificate = key.cert.first().and_then(|der| ParsedCertificate::try_from(der).ok());
            certificate
                .zip(named.as_ref())
                .is_some_and(|(certificate, name)| verify_server_name(&certificate, name).is_ok())
        };
        self.0.iter().find(has_name).or_else(|| self.0.first()).cloned()
    }
}

/// The names in a client's certificate, which was verified before: its DNS names and URIs, and its fingerprint.
pub(super) fn client_names(connection: &ServerConnection) -> Option<Vec<String>> {
    let certificate = connection.peer_certificates()?.first()?;
    let fingerprint = digest::digest(&digest::SHA256, certificate);
    let hex: Vec<String> = fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut names = vec![format!("sha256:{}", hex.concat())];
    if let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) {
        let alternative = parsed.valid_dns_names().chain(parsed.valid_uri_names());
        names.extend(alternative.take(MOST_NAMES).map(str::to_owned));
    }
    Some(names)
}

/// Whether HTTP/2 was agreed on.
pub(super) fn speaks_http2(connection: &ServerConnection) -> bool {
    connection.alpn_protocol() == Some(PROTOCOLS[0])
}
