//! How to connect to one host: what the configuration says of it, and whether its files can be used.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderMap;
use reqwest::{Certificate, Identity};

use super::host::Scheme;
use super::proxy::ProxyChoice;

/// A larger file holds no certificates or keys. Bytes.
const MAX_TLS_FILE_BYTES: u64 = 1024 * 1024;

/// How to connect to one host. What is `None` or empty is as for all hosts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectionOptions {
    /// The only scheme that is spoken. Plain http is allowed where it is this.
    pub scheme: Option<Scheme>,
    /// TLS: whom to trust, and who we are.
    pub tls: TlsOptions,
    /// Through which proxy. As the environment says where it is `None`.
    pub proxy: Option<ProxyChoice>,
    /// Sent with every request to the host's own origin, and to no other. Their values are secrets: mark them as
    /// sensitive, so that they do not print themselves.
    pub headers: HeaderMap,
    /// How long things may take.
    pub timeouts: TimeoutOptions,
}

/// TLS of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsOptions {
    /// PEM files of certificate authorities that are trusted besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// With what we identify ourselves where the host asks for a certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// Trusts whoever answers.
    pub skip_verify: bool,
}

/// A certificate (with the chain that leads to its authority) and its key, as PEM files; may be the same file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate_file: PathBuf,
    /// Its private key, not encrypted.
    pub key_file: PathBuf,
}

/// The timeouts that differ from those of [`HttpOptions`](super::HttpOptions), which says what each is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeoutOptions {
    /// For connecting, TLS included.
    pub connect: Option<Duration>,
    /// From sending a request to the header of the answer.
    pub header: Option<Duration>,
    /// How long the body of an answer may bring nothing.
    pub body: Option<Duration>,
    /// For one request.
    pub total: Option<Duration>,
    /// For one list of tags.
    pub list: Option<Duration>,
}

/// A file that TLS needs cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct TlsFileError {
    /// Which setting names the file.
    pub setting: TlsSetting,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// A setting of [`TlsOptions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsSetting {
    /// One of the `ca_files`.
    CaFile,
    /// The certificate of the client.
    ClientCertificate,
    /// The key of the client.
    ClientKey,
}

impl ConnectionOptions {
    /// These, and where they are silent, those below. Authorities and headers add up; of two headers with the same name
    /// the one of these counts.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        let mut ca_files = self.tls.ca_files.clone();
        ca_files.extend(below.tls.ca_files.iter().filter(|file| !self.tls.ca_files.contains(file)).cloned());
        let mut headers = below.headers.clone();
        headers.extend(self.headers.clone());
        let (own, others) = (self.timeouts, below.timeouts);
        Self {
            scheme: self.scheme.or(below.scheme),
            tls: TlsOptions {
                ca_files,
                client_certificate: self
                    .tls
                    .client_certificate
                    .clone()
                    .or_else(|| below.tls.client_certificate.clone()),
                skip_verify: self.tls.skip_verify || below.tls.skip_verify,
            },
            proxy: self.proxy.clone().or_else(|| below.proxy.clone()),
            headers,
            timeouts: TimeoutOptions {
                connect: own.connect.or(others.connect),
                header: own.header.or(others.header),
                body: own.body.or(others.body),
                total: own.total.or(others.total),
                list: own.list.or(others.list),
            },
        }
    }
}

impl TlsOptions {
    /// Whether all files can be used: certificates are read, and the key fits. Reads the files, so it blocks.
    pub fn check(&self) -> Result<(), TlsFileError> {
        for path in &self.ca_files {
            let refused = |reason| TlsFileError { setting: TlsSetting::CaFile, path: path.clone(), reason };
            let certificates = authorities(path).map_err(refused)?;
            let builder = reqwest::Client::builder().tls_certs_only(certificates);
            builder.build().map_err(|error| refused(innermost(&error)))?;
        }
        if let Some(client) = &self.client_certificate {
            let identity = client.identity()?;
            // Whom it is shown to does not matter here, and the system's authorities need not be read.
            let builder = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).identity(identity);
            builder.build().map_err(|error| client.bad_key(innermost(&error)))?;
        }
        Ok(())
    }

    /// Adds what the files hold to a client that is being built.
    pub(super) fn configure(
        &self,
        mut builder: reqwest::ClientBuilder,
    ) -> Result<reqwest::ClientBuilder, TlsFileError> {
        if self.skip_verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        for path in &self.ca_files {
            let refused = |reason| TlsFileError { setting: TlsSetting::CaFile, path: path.clone(), reason };
            builder = builder.tls_certs_merge(authorities(path).map_err(refused)?);
        }
        if let Some(client) = &self.client_certificate {
            builder = builder.identity(client.identity()?);
        }
        Ok(builder)
    }
}

impl ClientCertificate {
    fn identity(&self) -> Result<Identity, TlsFileError> {
        let refused = |reason| TlsFileError {
            setting: TlsSetting::ClientCertificate,
            path: self.certificate_file.clone(),
            reason,
        };
        let mut pem = read(&self.certificate_file).map_err(refused)?;
        match Certificate::from_pem_bundle(&pem) {
            Ok(certificates) if !certificates.is_empty() => {}
            Ok(_) => return Err(refused(NO_CERTIFICATE.to_owned())),
            Err(error) => return Err(refused(innermost(&error))),
        }
        if self.key_file != self.certificate_file {
            pem.push(b'\n');
            pem.extend(read(&self.key_file).map_err(|reason| self.bad_key(reason))?);
        }
        Identity::from_pem(&pem).map_err(|error| self.bad_key(innermost(&error)))
    }

    fn bad_key(&self, reason: String) -> TlsFileError {
        TlsFileError { setting: TlsSetting::ClientKey, path: self.key_file.clone(), reason }
    }
}

const NO_CERTIFICATE: &str = "there is no certificate in it (PEM is read)";

fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let certificates = Certificate::from_pem_bundle(&read(path)?).map_err(|error| innermost(&error))?;
    if certificates.is_empty() { Err(NO_CERTIFICATE.to_owned()) } else { Ok(certificates) }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bounded = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_TLS_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = bounded().map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_TLS_FILE_BYTES {
        return Err(format!("larger than {MAX_TLS_FILE_BYTES} bytes"));
    }
    Ok(bytes)
}

/// What is behind an error that itself says only that a client could not be built.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests;
