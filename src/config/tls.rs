//! `[tls]`: the certificates that samovar shows its clients, and whose certificates it takes from them.

use std::path::PathBuf;

use super::document::{Section, Value};
use super::error::{Origin, Problems, quoted};
use super::settings::Setting;
use super::{validate, values};

/// How connections are secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates with their keys, at least one. The first is shown where a client asks for no name, or for one that
    /// none of them has.
    pub certificates: Vec<CertificateFiles>,
    /// By whom clients' certificates are; absent where none are asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are turned away.
    pub client_required: bool,
}

/// A certificate with those that lead to its authority, and its key: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The certificates, the server's own first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What is written in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsSettings {
    origin: Origin,
    first: PairSettings,
    more: Vec<PairSettings>,
    client_ca: Option<Setting>,
    client_auth: Option<Setting>,
}

impl TlsSettings {
    /// Whether clients are asked for certificates.
    pub(super) fn has_client_ca(&self) -> bool {
        self.client_ca.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PairSettings {
    certificate: Option<Setting>,
    key: Option<Setting>,
}

impl PairSettings {
    fn read(section: &mut Section<'_>) -> Self {
        Self { certificate: section.required_text("certificate"), key: section.required_text("key") }
    }

    fn check(&self, problems: &mut Problems) -> Option<CertificateFiles> {
        let certificate = validate::checked(self.certificate.as_ref(), problems, values::existing_file);
        let key = validate::checked(self.key.as_ref(), problems, values::existing_file);
        Some(CertificateFiles { certificate: certificate?, key: key? })
    }
}

pub(super) fn read(mut section: Section<'_>) -> TlsSettings {
    let settings = TlsSettings {
        origin: section.origin().clone(),
        first: PairSettings::read(&mut section),
        more: section
            .take("certificates")
            .and_then(Value::into_list)
            .into_iter()
            .flatten()
            .filter_map(pair)
            .collect(),
        client_ca: section.text("client_ca"),
        client_auth: section.text("client_auth"),
    };
    section.finish();
    settings
}

fn pair(value: Value<'_>) -> Option<PairSettings> {
    let mut section = value.into_section()?;
    let pair = PairSettings::read(&mut section);
    section.finish();
    Some(pair)
}

/// The table, checked; `None` where connections are plain.
pub(super) fn tls(settings: Option<&TlsSettings>, problems: &mut Problems) -> Option<TlsConfig> {
    let settings = settings?;
    let pairs = std::iter::once(&settings.first).chain(&settings.more);
    let certificates: Vec<_> = pairs.filter_map(|pair| pair.check(problems)).collect();
    let client_ca = validate::checked(settings.client_ca.as_ref(), problems, values::existing_file);
    let client_required = validate::checked(settings.client_auth.as_ref(), problems, client_auth);
    if settings.client_auth.is_some() && settings.client_ca.is_none() {
        problems.add(
            &settings.origin,
            "client_auth needs client_ca, which says by whom clients' certificates are",
        );
    }
    Some(TlsConfig { certificates, client_ca, client_required: client_required.unwrap_or(true) })
}

fn client_auth(text: &str) -> Result<bool, String> {
    match text {
        "required" => Ok(true),
        "optional" => Ok(false),
        other => Err(format!("{} is neither \"required\" nor \"optional\"", quoted(other))),
    }
}
