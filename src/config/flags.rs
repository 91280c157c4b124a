//! The flags of the commands that run a warmer, and the environment variables that stand for them.
//!
//! Flags arrive here as text and are validated together with what the file and the environment say, so that
//! all problems are shown at once and the same rules hold everywhere. The variables are read through a lookup
//! function rather than by the argument parser, so that tests need not change the process's environment.

use std::path::{Path, PathBuf};

use clap::Args;

use super::error::Origin;
use super::intervals::IntervalSettings;
use super::settings::{Setting, Settings, WatchSetting};

/// Looks up an environment variable; `None` where it is not set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment. Bytes that are not UTF-8 are replaced, so that they are refused where they are
/// read rather than passed over.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The flags of `samovar serve`.
#[expect(clippy::doc_markdown, reason = "the text is the help that a terminal shows")]
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Keep this image repository warm; with a tag, only that tag; with `*` in its path, all that match of a registry that lists its repositories [env: SAMOVAR_WATCH, comma separated]
    #[arg(long, value_name = "IMAGE")]
    pub watch: Vec<String>,

    /// Answer on this address and port [default: 127.0.0.1:8080] [env: SAMOVAR_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,

    /// Whether callers must say who they are: none or required [default: required where a way to do so is configured; where other machines reach the address, one or the other must be said] [env: SAMOVAR_AUTH]
    #[arg(long, value_name = "WHETHER")]
    pub auth: Option<String>,

    /// Let in who has one of the tokens in this file, as `samovar token` makes them [env: SAMOVAR_TOKENS]
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,

    /// List the tags of a repository this often, such as 90s, 5m or 1h30m [default: 5m at first, then as often as it changes] [env: SAMOVAR_POLL_INTERVAL]
    #[arg(long, value_name = "DURATION")]
    pub poll_interval: Option<String>,

    /// For patterns in the watch list, ask a registry this often which repositories it has [default: 10m] [env: SAMOVAR_CATALOG_INTERVAL]
    #[arg(long, value_name = "DURATION")]
    pub catalog_interval: Option<String>,

    /// Remove what is stored of a repository that nobody has watched for so long; 0s at once [default: 24h] [env: SAMOVAR_FORGET_AFTER]
    #[arg(long, value_name = "DURATION")]
    pub forget_after: Option<String>,

    /// Keep recently read repositories decoded in at most this much memory; 0 for none [default: 64MiB] [env: SAMOVAR_HOT_SET]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub hot_set: Option<String>,

    /// What `warm` has as well.
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// The flags that `samovar serve` and `samovar warm` share.
#[expect(clippy::doc_markdown, reason = "the text is the help that a terminal shows")]
#[derive(Debug, Clone, Default, Args)]
pub struct SharedArgs {
    /// Read settings from this TOML file; flags and variables come first [env: SAMOVAR_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Keep what is learnt here: embedded:PATH, memory:, memcached://…, memcached+srv://…, redis://…, rediss://…, redis-cluster://… or redis-sentinel://… [default: embedded, in the state or data directory] [env: SAMOVAR_STORE]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,

    /// Keep copies of what never changes in this directory too, before a memcached or Redis store [env: SAMOVAR_STORE_LOCAL_TIER]
    #[arg(long, value_name = "PATH")]
    pub store_local_tier: Option<PathBuf>,

    /// Let the embedded store, or the local tier, take at most this much of the disk [default: 8GiB] [env: SAMOVAR_STORE_LIMIT]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub store_limit: Option<String>,

    /// While replicas cannot agree who asks a registry, go on at this share of its rate [default: 0.5] [env: SAMOVAR_UNLEASED_SHARE]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub unleased_share: Option<String>,

    /// Allow plain http and unverified TLS for this registry host [env: SAMOVAR_INSECURE_HOST, comma separated]
    #[arg(long, value_name = "HOST")]
    pub insecure_host: Vec<String>,

    /// Ask only registry hosts that match, and no other whatever is watched; `*` is any text [env: SAMOVAR_ALLOW_HOSTS, comma separated]
    #[arg(long, value_name = "GLOB")]
    pub allow_hosts: Vec<String>,

    /// Never ask hosts that match, whoever names them [env: SAMOVAR_DENY_HOSTS, comma separated]
    #[arg(long, value_name = "GLOB")]
    pub deny_hosts: Vec<String>,

    /// Take authorities, client certificates and mirrors of registries from this directory of containerd's or docker's, such as /etc/containerd/certs.d [env: SAMOVAR_CERTS_DIR]
    #[arg(long, value_name = "PATH")]
    pub certs_dir: Option<PathBuf>,

    /// Read NAME as this registry host wherever it begins an image name [env: SAMOVAR_ALIAS, comma separated]
    #[arg(long, value_name = "NAME=HOST")]
    pub alias: Vec<String>,

    /// Take the creation time of images whose name matches from their labels; `*` is any text [env: SAMOVAR_TIMESTAMP_LABELS, comma separated]
    #[arg(long, value_name = "GLOB")]
    pub timestamp_labels: Vec<String>,

    /// Look at this platform of an image, the first one first [default: linux/amd64 and linux/arm64] [env: SAMOVAR_PLATFORM, comma separated]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Vec<String>,

    /// Ask a registry host at most this many times a second [default: 50] [env: SAMOVAR_RPS]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub rps: Option<String>,

    /// How many requests to a registry host may follow one another at once [default: 10] [env: SAMOVAR_BURST]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub burst: Option<String>,

    /// Take registry credentials from image pull secrets of Kubernetes: this document, or those in this directory [env: SAMOVAR_KUBERNETES_SECRETS, comma separated]
    #[arg(long, value_name = "PATH")]
    pub kubernetes_secret: Vec<PathBuf>,

    /// Take registry credentials from this file [default: config.json in $DOCKER_CONFIG or ~/.docker, if it exists] [env: SAMOVAR_DOCKER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub docker_config: Option<PathBuf>,
}

impl ServeArgs {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            watch: flag_list("--watch", &self.watch).map(watch_images),
            listen: flag("--listen", self.listen.as_deref()),
            auth: flag("--auth", self.auth.as_deref()),
            tokens: flag_path("--tokens", self.tokens.as_deref()),
            intervals: IntervalSettings::poll(flag("--poll-interval", self.poll_interval.as_deref())),
            forget_after: flag("--forget-after", self.forget_after.as_deref()),
            catalog_interval: flag("--catalog-interval", self.catalog_interval.as_deref()),
            hot_set: flag("--hot-set", self.hot_set.as_deref()),
            ..self.shared.settings()
        }
    }
}

impl SharedArgs {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            store: flag("--store", self.store.as_deref()),
            store_local_tier: flag_path("--store-local-tier", self.store_local_tier.as_deref()),
            store_limit: flag("--store-limit", self.store_limit.as_deref()),
            unleased_share: flag("--unleased-share", self.unleased_share.as_deref()),
            insecure_host: flag_list("--insecure-host", &self.insecure_host),
            allow_hosts: flag_list("--allow-hosts", &self.allow_hosts),
            deny_hosts: flag_list("--deny-hosts", &self.deny_hosts),
            certs_dir: flag_path("--certs-dir", self.certs_dir.as_deref()),
            alias: flag_list("--alias", &self.alias),
            timestamp_labels: flag_list("--timestamp-labels", &self.timestamp_labels),
            platform: flag_list("--platform", &self.platform),
            rps: flag("--rps", self.rps.as_deref()),
            burst: flag("--burst", self.burst.as_deref()),
            docker_config: flag_path("--docker-config", self.docker_config.as_deref()),
            kubernetes_secrets: flag_paths("--kubernetes-secret", &self.kubernetes_secret),
            ..Settings::default()
        }
    }
}

/// The images that `samovar warm` was given, as a watch list.
pub(super) fn image_arguments(images: &[String]) -> Vec<WatchSetting> {
    watch_images(flag_list("argument IMAGE", images).unwrap_or_default())
}

/// What the environment says.
pub(super) fn from_environment(environment: Environment<'_>) -> Settings {
    Settings {
        watch: variable_list(environment, "SAMOVAR_WATCH").map(watch_images),
        store: variable(environment, "SAMOVAR_STORE"),
        store_local_tier: variable(environment, "SAMOVAR_STORE_LOCAL_TIER"),
        store_limit: variable(environment, "SAMOVAR_STORE_LIMIT"),
        hot_set: variable(environment, "SAMOVAR_HOT_SET"),
        unleased_share: variable(environment, "SAMOVAR_UNLEASED_SHARE"),
        listen: variable(environment, "SAMOVAR_LISTEN"),
        auth: variable(environment, "SAMOVAR_AUTH"),
        tokens: variable(environment, "SAMOVAR_TOKENS"),
        insecure_host: variable_list(environment, "SAMOVAR_INSECURE_HOST"),
        allow_hosts: variable_list(environment, "SAMOVAR_ALLOW_HOSTS"),
        deny_hosts: variable_list(environment, "SAMOVAR_DENY_HOSTS"),
        certs_dir: variable(environment, "SAMOVAR_CERTS_DIR"),
        alias: variable_list(environment, "SAMOVAR_ALIAS"),
        timestamp_labels: variable_list(environment, "SAMOVAR_TIMESTAMP_LABELS"),
        platform: variable_list(environment, "SAMOVAR_PLATFORM"),
        intervals: IntervalSettings::poll(variable(environment, "SAMOVAR_POLL_INTERVAL")),
        forget_after: variable(environment, "SAMOVAR_FORGET_AFTER"),
        catalog_interval: variable(environment, "SAMOVAR_CATALOG_INTERVAL"),
        rps: variable(environment, "SAMOVAR_RPS"),
        burst: variable(environment, "SAMOVAR_BURST"),
        docker_config: variable(environment, "SAMOVAR_DOCKER_CONFIG"),
        kubernetes_secrets: variable_list(environment, "SAMOVAR_KUBERNETES_SECRETS"),
        ..Settings::default()
    }
}

/// A variable that is set and not empty: deployment templates write an empty one where nothing is meant.
pub(super) fn variable(environment: Environment<'_>, name: &str) -> Option<Setting> {
    let value = environment(name).filter(|value| !value.is_empty())?;
    Some(Setting { value, origin: Origin::Variable(name.to_owned()) })
}

fn variable_list(environment: Environment<'_>, name: &str) -> Option<Vec<Setting>> {
    let list = variable(environment, name)?;
    let items = list.value.split(',').map(str::trim).filter(|item| !item.is_empty());
    Some(items.map(|item| Setting { value: item.to_owned(), origin: list.origin.clone() }).collect())
}

pub(super) fn flag(name: &'static str, value: Option<&str>) -> Option<Setting> {
    value.map(|value| Setting { value: value.to_owned(), origin: Origin::Flag(name) })
}

fn flag_path(name: &'static str, value: Option<&Path>) -> Option<Setting> {
    value.map(|path| Setting { value: path.to_string_lossy().into_owned(), origin: Origin::Flag(name) })
}

fn flag_paths(name: &'static str, values: &[PathBuf]) -> Option<Vec<Setting>> {
    let items: Vec<Setting> = values.iter().filter_map(|value| flag_path(name, Some(value))).collect();
    if items.is_empty() { None } else { Some(items) }
}

fn flag_list(name: &'static str, values: &[String]) -> Option<Vec<Setting>> {
    let items = values.iter().map(|value| Setting { value: value.clone(), origin: Origin::Flag(name) });
    if values.is_empty() { None } else { Some(items.collect()) }
}

fn watch_images(images: Vec<Setting>) -> Vec<WatchSetting> {
    images.into_iter().map(WatchSetting::image).collect()
}
