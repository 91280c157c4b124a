//! `auth` and `[auth]`: who may ask, and what they may.
//!
//! Invariant: whoever listens where other machines reach it has said who may ask, be it that anybody may.

use std::net::SocketAddr;
use std::path::PathBuf;

use samovar_registry::{Globs, Name};

use super::document::{Section, Value};
use super::error::{Origin, Problems, quoted};
use super::settings::{Setting, Settings};
use super::{validate, values};

mod kubernetes;
mod tokens;

pub use kubernetes::KubernetesAuthConfig;
pub use tokens::{Token, TokenFile};

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// The file of tokens.
    pub tokens: Option<PathBuf>,
    /// Those who have a certificate by `tls.client_ca` with one of these names.
    pub certificates: Vec<NamedGrant>,
    /// Service accounts of the cluster that samovar runs in.
    pub kubernetes: Option<KubernetesAuthConfig>,
    /// Whether anybody may read the metrics.
    pub metrics_open: bool,
}

/// What somebody may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// The repositories that they may read.
    pub read: Globs,
    /// Whether they may have these refreshed.
    pub refresh: bool,
    /// Whether they see how samovar itself is doing: metrics, and the whole of the status.
    pub operate: bool,
}

impl Grant {
    /// Whether a repository is one of theirs.
    pub fn covers(&self, name: &Name) -> bool {
        self.read.matches_name(name)
    }

    /// Whether they may see everything there is.
    pub fn is_whole(&self) -> bool {
        self.read.iter().any(|glob| glob.as_str() == "*")
    }
}

/// What somebody may who is known by one of these names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedGrant {
    /// The names.
    pub names: Globs,
    /// What they may.
    pub grant: Grant,
}

/// What is written of somebody's rights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GrantSettings {
    read: Vec<Setting>,
    refresh: bool,
    operate: bool,
}

impl GrantSettings {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            read: section.required_text_or_texts("read").unwrap_or_default(),
            refresh: section.truth("refresh").unwrap_or_default(),
            operate: section.truth("operate").unwrap_or_default(),
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) -> Grant {
        Grant { read: validate::globs(&self.read, problems), refresh: self.refresh, operate: self.operate }
    }
}

/// What is written of those who are known by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedGrantSettings {
    names: Vec<Setting>,
    grant: GrantSettings,
}

impl NamedGrantSettings {
    pub(super) fn read_list(value: Value<'_>) -> Vec<Self> {
        value.into_list().into_iter().flatten().filter_map(Self::read).collect()
    }

    fn read(value: Value<'_>) -> Option<Self> {
        let mut section = value.into_section()?;
        let names = section.required_text_or_texts("names").unwrap_or_default();
        let grant = GrantSettings::read(&mut section);
        section.finish();
        Some(Self { names, grant })
    }

    pub(super) fn check(&self, problems: &mut Problems) -> NamedGrant {
        NamedGrant { names: validate::globs(&self.names, problems), grant: self.grant.check(problems) }
    }
}

/// What the file says: a word, or a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AuthSettings {
    pub(super) mode: Option<Setting>,
    pub(super) tokens: Option<Setting>,
    certificates: Option<(Origin, Vec<NamedGrantSettings>)>,
    kubernetes: Option<kubernetes::KubernetesSettings>,
    metrics_open: bool,
}

pub(super) fn read(value: Value<'_>) -> AuthSettings {
    if !value.is_section() {
        return AuthSettings { mode: value.into_text(), ..AuthSettings::default() };
    }
    let Some(mut section) = value.into_section() else { return AuthSettings::default() };
    let certificates = section.take("certificates");
    let settings = AuthSettings {
        mode: None,
        tokens: section.text("tokens"),
        certificates: certificates.map(|value| (value.origin.clone(), NamedGrantSettings::read_list(value))),
        kubernetes: section.section("kubernetes").map(kubernetes::read),
        metrics_open: section.truth("metrics_open").unwrap_or_default(),
    };
    section.finish();
    settings
}

/// Who may ask, checked; `None` where nobody is asked who they are.
pub(super) fn auth(settings: &Settings, problems: &mut Problems) -> Option<AuthConfig> {
    let usual = AuthSettings::default();
    let written = settings.auth_table.as_ref().unwrap_or(&usual);
    let mode = validate::checked(settings.auth.as_ref(), problems, mode).unwrap_or_default();
    let tokens = validate::checked(settings.tokens.as_ref(), problems, values::existing_file);
    if let (Some(path), Some(setting)) = (&tokens, &settings.tokens)
        && let Err(error) = TokenFile::read(path)
    {
        let shown = error.problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        problems.add(&setting.origin, shown);
    }
    let certificates: Vec<NamedGrant> = written
        .certificates
        .iter()
        .flat_map(|(_, certificates)| certificates)
        .map(|certificate| certificate.check(problems))
        .collect();
    if let Some((origin, _)) = written.certificates.as_ref().filter(|(_, listed)| !listed.is_empty())
        && !settings.tls.as_ref().is_some_and(super::tls::TlsSettings::has_client_ca)
    {
        problems.add(origin, "certificates are only asked for where tls.client_ca says by whom they are");
    }
    let kubernetes = written.kubernetes.as_ref().map(|settings| kubernetes::check(settings, problems));
    let config = AuthConfig { tokens, certificates, kubernetes, metrics_open: written.metrics_open };
    let is_said = config.tokens.is_some() || !config.certificates.is_empty() || config.kubernetes.is_some();
    match (mode, &settings.auth) {
        (Mode::None, _) => None,
        (Mode::Required, Some(setting)) if !is_said => {
            problems.add(&setting.origin, format!("nobody could ask: {WAYS}"));
            None
        }
        _ => is_said.then_some(config),
    }
}

/// How callers can be told apart.
const WAYS: &str = "give a file of tokens (--tokens), or auth.certificates or auth.kubernetes in the file";

/// Refuses to listen where other machines reach it without a word on who may ask.
pub(super) fn check_decided(
    settings: &Settings,
    listen: SocketAddr,
    auth: Option<&AuthConfig>,
    problems: &mut Problems,
) {
    if listen.ip().is_loopback() || auth.is_some() || settings.auth.is_some() {
        return;
    }
    let unsaid = Origin::Default { key: "auth" };
    let origin = settings.listen.as_ref().map_or(&unsaid, |setting| &setting.origin);
    problems.add(
        origin,
        format!("other machines can reach {listen}, and nothing says who may ask: {WAYS}, or say --auth none to let anybody ask"),
    );
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    /// Whatever is configured.
    #[default]
    AsConfigured,
    None,
    Required,
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "none" => Ok(Mode::None),
        "required" => Ok(Mode::Required),
        other => Err(format!("{} is neither \"none\" nor \"required\"", quoted(other))),
    }
}
