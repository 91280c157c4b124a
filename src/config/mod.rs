//! One validated [`Config`] from defaults, the TOML file, the environment and the flags, each over the one before.
//!
//! Invariants:
//! - what counts and is invalid refuses the start: an unknown key, a broken glob, a number out of bounds. No mistake
//!   ever means "everything". All problems are shown at once, each with its place;
//! - a value or a list that a higher layer gives replaces the one below it, which is then not looked at further
//!   than its type;
//! - the process's environment is read through a lookup function that is passed in, and nowhere else.
//!
//! Deliberately absent: reloading while the process runs, and a file that is looked for where none was named.

mod auth;
mod certs_dir;
mod connection;
mod credentials;
mod document;
mod error;
mod file;
mod flags;
mod hooks;
mod hosts;
mod intervals;
mod limits;
mod notify;
mod oci;
mod on_demand;
mod policy;
mod proxies;
mod repository_pattern;
mod settings;
mod store_url;
mod tag_filter;
#[cfg(test)]
mod tests;
mod tls;
mod validate;
mod values;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use samovar_registry::credentials::RepositoryCredentials;
use samovar_registry::credentials::cloud::{Cloud, HostIdentity};
use samovar_registry::upstream::{
    ConnectionOptions, EnvironmentProxies, HostPolicy, ListingChoice, MirrorOptions,
};
use samovar_registry::{Aliases, Globs, Platforms};

pub use auth::{AuthConfig, Grant, KubernetesAuthConfig, NamedGrant, Token, TokenFile};
pub(crate) use error::quoted;
pub use error::{ConfigError, Origin, Problem};
pub use flags::{Environment, ServeArgs, SharedArgs, process_environment};
pub use hooks::{GoogleIdentity, HookConfig, HookProof, HookType, ProofConfig};
pub use intervals::{PollInterval, TagInterval};
pub use limits::LimitsConfig;
pub use notify::{NotifyFormat, ReceiverConfig, ReceiverUrl};
pub use oci::{Layers, OciConfig};
pub use on_demand::OnDemandConfig;
pub use repository_pattern::RepositoryPattern;
pub use store_url::{StoreUrl, StoreUrlError};
pub(crate) use tag_filter::compile as compile_tag_regex;
pub use tag_filter::{Chosen, IgnoredFor, TagFilter, TagPattern, TagRegex, TagSelection, Verdict};
pub use tls::{CertificateFiles, TlsConfig};
pub use values::{parse_duration, shown as shown_duration, shown_size};
pub use watch::WatchEntry;

use error::Problems;
use settings::Settings;

/// Everything that can be configured, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// What to keep warm: each repository once, in the order of names.
    pub watch: Vec<WatchEntry>,
    /// And all repositories that match these patterns, each of them once.
    pub watch_patterns: Vec<WatchEntry<RepositoryPattern>>,
    /// How often a registry is asked which repositories it has, for the patterns: between a second and a week, by default 10
    /// minutes.
    pub catalog_interval: Duration,
    /// What comes to be watched because somebody asks about it; nothing where it is absent.
    pub on_demand: Option<OnDemandConfig>,
    /// How clients of the distribution protocol are answered.
    pub oci: OciConfig,
    /// Who may tell that something was pushed.
    pub hooks: Vec<HookConfig>,
    /// Where to keep it. By default embedded, in the state or data directory.
    pub store: StoreUrl,
    /// A directory for copies of what never changes, where the store is a remote one.
    pub store_local_tier: Option<PathBuf>,
    /// What the embedded store, or the local tier, may take up on disk. At least 16 MiB, by default 8 GiB.
    pub store_limit_bytes: u64,
    /// What recently read repositories may take up in memory, decoded. By default 64 MiB; 0 keeps none.
    pub hot_set_bytes: usize,
    /// At which share of a host's rate a replica goes on while leases cannot be taken. Above 0 and at most 1, by
    /// default 0.5.
    pub unleased_share: f64,
    /// How many changes of a repository are remembered. From 1 to 10,000, by default 1,000.
    pub history_entries: usize,
    /// How long they are remembered. By default 90 days.
    pub history_age: Duration,
    /// Where to answer. By default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Who may ask; absent where nobody is asked who they are.
    pub auth: Option<AuthConfig>,
    /// How connections are secured; absent where they are plain.
    pub tls: Option<TlsConfig>,
    /// How much may be asked.
    pub limits: LimitsConfig,
    /// Names, lower case, by which clients may ask for samovar. None: where other machines reach it, any.
    pub external_hosts: BTreeSet<String>,
    /// Registry hosts, canonical, for which plain http and unverified TLS are allowed.
    pub insecure_hosts: BTreeSet<String>,
    /// Short names of registry hosts.
    pub aliases: Aliases,
    /// The repositories whose images take their creation time from labels.
    pub timestamp_labels: Globs,
    /// The platforms to look at. By default `linux/amd64` and `linux/arm64`.
    pub platforms: Platforms,
    /// How often the tags of a repository are listed.
    pub poll_interval: PollInterval,
    /// How often a tag is confirmed.
    pub tag_interval: TagInterval,
    /// What the store holds of a repository is removed when nobody has watched it for so long: up to 30 days, by default 24 h.
    pub forget_after: Duration,
    /// Requests a second that a host may be asked, unless its own entry says otherwise, or, where it is well known, it lets
    /// us ask less. By default 50.
    pub rate: f64,
    /// Requests that may follow one another at once, unless the host's own entry says otherwise. By default 10.
    pub burst: u32,
    /// How upstream registries are asked.
    pub upstream: UpstreamConfig,
    /// What is different for single hosts, by canonical host.
    pub hosts: BTreeMap<String, HostConfig>,
    /// What to log in with for single repositories, in order.
    pub credentials: Vec<RepositoryCredentials>,
    /// Who is told of changes.
    pub notify: Vec<ReceiverConfig>,
    /// Image pull secrets of Kubernetes: documents, and directories of them.
    pub kubernetes_secrets: Vec<PathBuf>,
    /// Which registry hosts may be asked at all. By default all.
    pub host_policy: HostPolicy,
    /// What holds for hosts that have no entry in `hosts`.
    pub other_hosts: HostConfig,
    /// The proxies that the environment names for all hosts.
    pub proxies: EnvironmentProxies,
    /// Docker's `config.json`, for credentials. Where nobody has named it, it may be missing.
    pub docker_config: Option<PathBuf>,
    /// The clouds whose registries are logged in to as the machine or workload that this process runs on. By default all
    /// that are compiled in.
    pub clouds: BTreeSet<Cloud>,
    /// Where credential helper programs are looked for: the directories of `$PATH`.
    pub program_path: Vec<PathBuf>,
}

/// The `[upstream]` table: how registries are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamConfig {
    /// Certificate authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// For connecting, TLS included. By default 5 s.
    pub connect_timeout: Duration,
    /// For the header of the answer. By default 30 s.
    pub header_timeout: Duration,
    /// For the next bytes of a body. By default 30 s.
    pub body_timeout: Duration,
    /// For the request as a whole, not counting the wait for the budget. By default 120 s.
    pub total_timeout: Duration,
    /// For a whole list of tags, not counting the wait for the budget. By default 15 min.
    pub list_timeout: Duration,
    /// Requests under way at once per host. By default 10.
    pub concurrency: usize,
    /// The part of a registry's quota that is kept for what somebody asks for: from 0 to 0.9, by default 0.1.
    pub quota_reserve: f64,
    /// How long a registry may refuse us before what was known is no longer served. By default 24 h.
    pub max_stale_denied: Duration,
}

/// A `[hosts."…"]` table: what is different for one host. What is `None` is as for all hosts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostConfig {
    /// Requests a second.
    pub rate: Option<f64>,
    /// Requests that may follow one another at once.
    pub burst: Option<u32>,
    /// Requests under way at once.
    pub concurrency: Option<usize>,
    /// The part of its quota that is kept for what somebody asks for.
    pub quota_reserve: Option<f64>,
    /// Hosts, canonical, besides the well-known ones that may be sent this registry's credentials for a token.
    pub token_hosts: BTreeSet<String>,
    /// Whose identity it is given, whatever its name looks like.
    pub cloud_identity: Option<HostIdentity>,
    /// How to connect to it.
    pub connection: ConnectionOptions,
    /// Its mirrors, in the order in which they are asked.
    pub mirrors: Vec<MirrorOptions>,
    /// What is asked in place of the host itself.
    pub server: Option<MirrorOptions>,
    /// Whether one anonymous token is good for all its public repositories.
    pub shared_anonymous_token: Option<bool>,
    /// Which list of tags it is asked for, besides that of the distribution protocol.
    pub listing: ListingChoice,
}

impl Config {
    /// The configuration of `samovar serve`.
    pub fn for_serve(flags: &ServeArgs, environment: Environment<'_>) -> Result<Self, ConfigError> {
        Self::from_layers(flags.settings(), flags.shared.config.as_deref(), environment)
    }

    /// The configuration of `samovar warm`: as for `serve`, but the watch list is what the command was given.
    pub fn for_warm(
        images: &[String],
        flags: &SharedArgs,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let settings = Settings { watch: Some(flags::image_arguments(images)), ..flags.settings() };
        let (settings, mut problems) = layers(settings, flags.config.as_deref(), environment);
        for entry in settings.watch.iter().flatten() {
            if RepositoryPattern::is_meant_by(&entry.image.value) {
                let reason = "patterns are for the watch list of `serve`: name the repositories one by one";
                problems.add(&entry.image.origin, reason);
            }
        }
        validate::config(&settings, environment, problems)
    }

    /// The configuration of `samovar store`: the store itself, without the tier that a server may have before it.
    pub fn for_store(
        store: Option<&str>,
        file: Option<&Path>,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let flags = Settings { store: flags::flag("--store", store), ..Settings::default() };
        let (settings, problems) = layers(flags, file, environment);
        validate::config(&Settings { store_local_tier: None, ..settings }, environment, problems)
    }

    /// What a file alone configures: variables that stand for flags are left out, those that say where
    /// directories are count.
    pub fn from_file(path: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let directories_only = |name: &str| {
            if name.starts_with("SAMOVAR_") { None } else { environment(name) }
        };
        Self::from_layers(Settings::default(), Some(path), &directories_only)
    }

    /// All mirrors of all hosts, and what is asked in place of one.
    pub fn mirrors(&self) -> impl Iterator<Item = &MirrorOptions> {
        let hosts = self.hosts.values().chain([&self.other_hosts]);
        hosts.flat_map(|host| host.mirrors.iter().chain(&host.server))
    }

    fn from_layers(
        flags: Settings,
        file: Option<&Path>,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let (settings, problems) = layers(flags, file, environment);
        validate::serving(&settings, environment, problems)
    }
}

/// What flags, environment and file say together, and what is wrong with the file.
fn layers(flags: Settings, file: Option<&Path>, environment: Environment<'_>) -> (Settings, Problems) {
    let mut problems = Problems::default();
    let variable = flags::variable(environment, "SAMOVAR_CONFIG").map(|setting| PathBuf::from(setting.value));
    let path = file.map(Path::to_path_buf).or(variable);
    let file = path.map(|path| file::read(&path, &mut problems)).unwrap_or_default();
    (flags.over(flags::from_environment(environment)).over(file), problems)
}
