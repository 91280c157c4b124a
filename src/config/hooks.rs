//! The `[hooks.NAME]` tables: who may tell that something was pushed, in which words, and how they prove who they are.
//!
//! Invariant: what has no proof is refused, unless the table says aloud that none is wanted.

use std::fmt;

use http::HeaderName;
use reqwest::Url;
use samovar_registry::credentials::SecretSource;
use samovar_registry::{Aliases, Name};

use super::credentials::secret_source;
use super::document::{Section, Value};
use super::error::{Origin, Problems, quoted};
use super::flags::Environment;
use super::settings::{SecretSettings, Setting};
use super::validate;

/// Receivers; their names are labels of metrics.
const MOST_RECEIVERS: usize = 100;
/// A receiver's name is no longer, in bytes.
const LONGEST_RECEIVER_NAME: usize = 63;
/// Where Google publishes the keys that sign the tokens of Pub/Sub (<https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions>).
const GOOGLE_KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// In whose words a receiver is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookType {
    /// Notifications of the distribution project's registry.
    Distribution,
    /// Docker Hub.
    DockerHub,
    /// GitHub's container registry.
    Ghcr,
    /// Harbor, in its own format or as `CloudEvents`.
    Harbor,
    /// Quay.
    Quay,
    /// Azure's registry, directly or by Event Grid.
    Acr,
    /// Google's registries, by a push subscription of Pub/Sub.
    Google,
    /// Amazon's registry, by `EventBridge`, also through SNS.
    Ecr,
    /// GitLab's registry, which is that of the distribution project.
    Gitlab,
    /// Gitea and Forgejo.
    Gitea,
    /// `JFrog` Artifactory.
    Jfrog,
    /// Sonatype Nexus.
    Nexus,
    /// zot.
    Zot,
    /// `CloudEvents` of whoever tells of images.
    CloudEvents,
    /// samovar's own form, signed.
    Hmac,
    /// The call that programs made of fluxd.
    Flux,
}

/// How a sender proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookProof {
    /// The body is signed with the secret.
    Signature,
    /// The secret comes along: in a header, or where the sender can set none, in the path.
    Secret,
    /// A token of Google's, which names the sender.
    Identity,
}

impl HookType {
    /// All types, in the order in which they are documented.
    pub const ALL: [Self; 16] = [
        Self::Distribution,
        Self::DockerHub,
        Self::Ghcr,
        Self::Harbor,
        Self::Quay,
        Self::Acr,
        Self::Google,
        Self::Ecr,
        Self::Gitlab,
        Self::Gitea,
        Self::Jfrog,
        Self::Nexus,
        Self::Zot,
        Self::CloudEvents,
        Self::Hmac,
        Self::Flux,
    ];

    /// The word for it in the configuration and in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Distribution => "distribution",
            Self::DockerHub => "docker-hub",
            Self::Ghcr => "ghcr",
            Self::Harbor => "harbor",
            Self::Quay => "quay",
            Self::Acr => "acr",
            Self::Google => "google",
            Self::Ecr => "ecr",
            Self::Gitlab => "gitlab",
            Self::Gitea => "gitea",
            Self::Jfrog => "jfrog",
            Self::Nexus => "nexus",
            Self::Zot => "zot",
            Self::CloudEvents => "cloudevents",
            Self::Hmac => "hmac",
            Self::Flux => "flux",
        }
    }

    /// How its senders prove who they are.
    pub fn proof(self) -> HookProof {
        match self {
            Self::Ghcr | Self::Gitea | Self::Jfrog | Self::Nexus | Self::Hmac => HookProof::Signature,
            Self::Google => HookProof::Identity,
            Self::Distribution
            | Self::DockerHub
            | Self::Harbor
            | Self::Quay
            | Self::Acr
            | Self::Ecr
            | Self::Gitlab
            | Self::Zot
            | Self::CloudEvents
            | Self::Flux => HookProof::Secret,
        }
    }

    /// Whether its payloads never name the registry.
    fn needs_registry(self) -> bool {
        matches!(self, Self::Nexus | Self::Zot)
    }

    /// Whether its payloads name one registry and no other, or images by their whole names.
    fn names_registry(self) -> bool {
        matches!(self, Self::DockerHub | Self::Google | Self::Ecr | Self::Hmac | Self::Flux)
    }

    /// Whether its payloads name a part of the registry that clients may not have to name.
    fn has_prefix(self) -> bool {
        matches!(self, Self::Jfrog | Self::Nexus)
    }
}

impl fmt::Display for HookType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One receiver.
#[derive(Debug, Clone)]
pub struct HookConfig {
    /// What it is called in its path, in metrics and in the status: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// In whose words it is told.
    pub kind: HookType,
    /// How senders prove who they are; `None`: anybody may tell.
    pub proof: Option<ProofConfig>,
    /// The registry, canonical, that is meant whatever the payloads say.
    pub registry: Option<String>,
    /// What stands before an image's name in its registry, whatever the payloads say; may be empty.
    pub prefix: Option<String>,
}

/// What a sender has to prove itself by.
#[derive(Debug, Clone)]
pub enum ProofConfig {
    /// A secret that both know.
    Secret {
        /// Where it is.
        source: SecretSource,
        /// The header that it comes in, besides those that are usual.
        header: Option<HeaderName>,
    },
    /// A token of Google's.
    Google(GoogleIdentity),
}

/// Whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoogleIdentity {
    /// For whom they are made out.
    pub audience: String,
    /// The address of the service account that they are made out to.
    pub service_account: String,
    /// Where the keys are published that they are signed with.
    pub keys_url: Url,
}

/// What is written in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HookSettings {
    name: Setting,
    origin: Origin,
    kind: Option<Setting>,
    secret: SecretSettings,
    secret_header: Option<Setting>,
    registry: Option<Setting>,
    prefix: Option<Setting>,
    unauthenticated: bool,
    audience: Option<Setting>,
    service_account: Option<Setting>,
    keys_url: Option<Setting>,
}

pub(super) fn read(section: Section<'_>) -> Vec<HookSettings> {
    let hook = |(name, value): (Setting, Value<'_>)| {
        let mut section = value.into_section()?;
        let settings = HookSettings {
            name,
            origin: section.origin().clone(),
            kind: section.required_text("type"),
            secret: SecretSettings {
                given: None,
                file: section.text("secret_file"),
                variable: section.text("secret_env"),
            },
            secret_header: section.text("secret_header"),
            registry: section.text("registry"),
            prefix: section.text("prefix"),
            unauthenticated: section.truth("unauthenticated").unwrap_or_default(),
            audience: section.text("audience"),
            service_account: section.text("service_account"),
            keys_url: section.text("keys_url"),
        };
        section.finish();
        Some(settings)
    };
    section.into_named_values().into_iter().filter_map(hook).collect()
}

/// The receivers, by name.
pub(super) fn hooks(
    settings: &[HookSettings],
    aliases: &Aliases,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Vec<HookConfig> {
    if let Some(first_too_many) = settings.get(MOST_RECEIVERS) {
        problems.add(&first_too_many.origin, format!("there are more than {MOST_RECEIVERS} receivers"));
    }
    let mut hooks: Vec<HookConfig> =
        settings.iter().filter_map(|settings| hook(settings, aliases, environment, problems)).collect();
    hooks.sort_by(|one, other| one.name.cmp(&other.name));
    let of_flux = settings
        .iter()
        .filter(|settings| settings.kind.as_ref().is_some_and(|kind| kind.value == HookType::Flux.as_str()));
    for settings in of_flux.skip(1) {
        let reason = "there is a receiver of type flux already, and one path that such senders know";
        problems.add(&settings.origin, reason);
    }
    hooks
}

fn hook(
    settings: &HookSettings,
    aliases: &Aliases,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<HookConfig> {
    if let Err(reason) = check_name(&settings.name.value) {
        problems.add(&settings.name.origin, reason);
    }
    let kind = validate::checked(settings.kind.as_ref(), problems, hook_type)?;
    let registry = validate::checked(settings.registry.as_ref(), problems, |text| {
        if kind.names_registry() {
            return Err(format!("a receiver of type {kind} is told of which registry it is"));
        }
        validate::host(text, aliases).map_err(|error| error.to_string())
    });
    if kind.needs_registry() && settings.registry.is_none() {
        let reason =
            format!("the key registry is missing: what {kind} sends does not say of which registry it is");
        problems.add(&settings.origin, reason);
    }
    let prefix = validate::checked(settings.prefix.as_ref(), problems, |text| prefix(text, kind));
    let proof = proof(settings, kind, environment, problems);
    if let Some(header) = settings.secret_header.as_ref().filter(|_| kind.proof() != HookProof::Secret) {
        let reason = format!("{kind} signs what it sends, or sends a token: no header has its secret");
        problems.add(&header.origin, reason);
    }
    Some(HookConfig { name: settings.name.value.clone(), kind, proof, registry, prefix })
}

/// How senders prove who they are; `None` where none is wanted, or what is written is refused.
fn proof(
    settings: &HookSettings,
    kind: HookType,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<ProofConfig> {
    let of_google = [&settings.audience, &settings.service_account, &settings.keys_url];
    if kind.proof() != HookProof::Identity {
        for setting in of_google.into_iter().flatten() {
            problems.add(&setting.origin, format!("only a receiver of type {} has it", HookType::Google));
        }
    }
    if settings.unauthenticated {
        if settings.secret.is_some() || of_google.into_iter().any(Option::is_some) {
            let reason = "unauthenticated = true wants no proof, and there is one: leave out one of them";
            problems.add(&settings.origin, reason);
        }
        return None;
    }
    if kind.proof() == HookProof::Identity {
        return google(settings, problems).map(ProofConfig::Google);
    }
    if !settings.secret.is_some() {
        let reason = "anybody could tell it anything: give it secret_file or secret_env, or say unauthenticated = true";
        problems.add(&settings.origin, reason);
        return None;
    }
    let header = validate::checked(settings.secret_header.as_ref(), problems, |text| {
        HeaderName::try_from(text).map_err(|_| format!("{} is no name of a header", quoted(text)))
    });
    let source = secret_source(
        &settings.secret,
        "secret_file and secret_env",
        &settings.origin,
        environment,
        problems,
    )?;
    Some(ProofConfig::Secret { source, header })
}

fn google(settings: &HookSettings, problems: &mut Problems) -> Option<GoogleIdentity> {
    if settings.secret.is_some() {
        let reason = "Google sends no secret but a token: leave out secret_file and secret_env";
        problems.add(&settings.origin, reason);
    }
    let (Some(audience), Some(service_account)) = (&settings.audience, &settings.service_account) else {
        let reason = "audience and service_account are needed, as the subscription has them; or say unauthenticated = true";
        problems.add(&settings.origin, reason);
        return None;
    };
    let given = validate::checked(settings.keys_url.as_ref(), problems, keys_url);
    let keys_url = given.unwrap_or_else(|| Url::parse(GOOGLE_KEYS).expect("a valid URL"));
    Some(GoogleIdentity {
        audience: audience.value.clone(),
        service_account: service_account.value.clone(),
        keys_url,
    })
}

/// Keys that anybody on the way could replace prove nothing; on this machine there is no way.
fn keys_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{} is no URL: {error}", quoted(text)))?;
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if url.scheme() == "https" || (url.scheme() == "http" && is_here) {
        return Ok(url);
    }
    Err(format!("{} is not https", quoted(text)))
}

fn hook_type(text: &str) -> Result<HookType, String> {
    HookType::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
        let words = HookType::ALL.map(HookType::as_str).join(", ");
        format!("{} is none of {words}", quoted(text))
    })
}

/// What may stand before the name of an image: nothing, or a path.
fn prefix(text: &str, kind: HookType) -> Result<String, String> {
    if !kind.has_prefix() {
        let kinds = [HookType::Jfrog, HookType::Nexus].map(HookType::as_str).join(" and ");
        return Err(format!("only receivers of types {kinds} have it"));
    }
    if text.is_empty() {
        return Ok(String::new());
    }
    let image: Result<Name, _> = format!("registry.example/{text}/image").parse();
    image.map(|_| text.to_owned()).map_err(|error| format!("{} is no path: {error}", quoted(text)))
}

fn check_name(name: &str) -> Result<(), String> {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.len() <= LONGEST_RECEIVER_NAME && name.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(format!(
        "{} is no name of a receiver: 1 to {LONGEST_RECEIVER_NAME} lower-case letters, digits, '-' and '_'",
        quoted(name)
    ))
}

#[cfg(test)]
mod tests;
