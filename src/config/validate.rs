//! From settings to the validated [`Config`]: every rule that a setting has to keep.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use samovar_registry::credentials::cloud::{Cloud, HostIdentity};
use samovar_registry::{Aliases, Glob, Globs, ParseError, Platform, Platforms, canonical_host};

use super::credentials::repository_credentials;
use super::error::{ConfigError, Origin, Problems, quoted};
use super::flags::{Environment, variable};
use super::intervals::{self, PollInterval, TagInterval};
use super::proxies::environment_proxies;
use super::settings::{Setting, Settings, UpstreamSettings};
use super::tag_filter::TagPattern;
use super::watch::{Usual, watch_list};
use super::{Config, StoreUrl, UpstreamConfig, values};
use super::{auth, limits, tls};
use super::{connection, hooks, hosts, notify, oci, on_demand, policy};

/// How long what is stored of a repository outlives the last one who watches it.
const GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(30 * 24);

/// How often a registry is asked for its repositories.
const CATALOG_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(7 * 24);

/// For each of the timeouts of a request.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(1);

/// How long a registry may refuse us before what was known is no longer served.
const STALE_DENIED: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(365 * 24);

/// What a store may take up on disk. Below the least, an engine's own structures leave no room for content.
const STORE_LIMITS: RangeInclusive<u64> = 16 << 20..=64 << 40;

/// Memory for recently read repositories; 0 keeps none.
const HOT_SETS: RangeInclusive<u64> = 0..=1 << 40;

/// Changes that are remembered of a repository. Their pages are named in its head, which is to stay small.
const HISTORY_ENTRIES: RangeInclusive<usize> = 1..=10_000;

/// How long they are remembered.
const HISTORY_AGES: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(3650 * 24);

const BURSTS: RangeInclusive<u32> = 1..=100_000;

/// For the number of newest-looking tags: up to as many as a list may have.
const NEWEST: RangeInclusive<usize> = 1..=1_000_000;

const CONCURRENCIES: RangeInclusive<usize> = 1..=1_000;

/// Validates all settings. What stands in for an invalid one is never used: the problem refuses the whole.
pub(super) fn config(
    settings: &Settings,
    environment: Environment<'_>,
    mut problems: Problems,
) -> Result<Config, ConfigError> {
    let config = collect(settings, environment, &mut problems);
    problems.none_or(config)
}

/// The same for what listens: whoever does where other machines reach it has said who may ask.
pub(super) fn serving(
    settings: &Settings,
    environment: Environment<'_>,
    mut problems: Problems,
) -> Result<Config, ConfigError> {
    let config = collect(settings, environment, &mut problems);
    auth::check_decided(settings, config.listen, config.auth.as_ref(), &mut problems);
    problems.none_or(config)
}

fn collect(settings: &Settings, environment: Environment<'_>, problems: &mut Problems) -> Config {
    let aliases = aliases(listed(settings.alias.as_ref()), problems);
    let poll_interval = intervals::poll_interval(&settings.intervals, PollInterval::default(), problems);
    let tag_interval = intervals::tag_interval(&settings.intervals, TagInterval::default(), problems);
    let listen = checked(settings.listen.as_ref(), problems, values::socket_address);
    let auth = auth::auth(settings, problems);
    let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
    let host_policy = policy::host_policy(settings, problems);
    policy::check_watched(&host_policy, listed(settings.watch.as_ref()), &aliases, problems);
    let (hosts, other_hosts) = hosts::host_configs(settings, &host_policy, &aliases, problems);
    let insecure_hosts = host_set(listed(settings.insecure_host.as_ref()), &aliases, problems);
    let store = store(settings.store.as_ref(), environment, problems);
    let platforms = platforms(listed(settings.platform.as_ref()), problems).unwrap_or_default();
    let usual = Usual { poll_interval, tag_interval, platforms: &platforms };
    let watched = watch_list(listed(settings.watch.as_ref()), &aliases, &usual, problems);
    let catalog_interval = checked(settings.catalog_interval.as_ref(), problems, |text| {
        values::parse_duration(text, CATALOG_INTERVALS)
    });
    Config {
        watch: watched.repositories,
        watch_patterns: watched.patterns,
        catalog_interval: catalog_interval.unwrap_or(Duration::from_mins(10)),
        on_demand: on_demand::on_demand(settings.on_demand.as_ref(), &host_policy, &aliases, problems),
        store_local_tier: local_tier(settings.store_local_tier.as_ref(), store.as_ref(), problems),
        store: store.unwrap_or(StoreUrl::Memory),
        store_limit_bytes: size(settings.store_limit.as_ref(), STORE_LIMITS, problems).unwrap_or(8 << 30),
        hot_set_bytes: hot_set(settings.hot_set.as_ref(), problems),
        unleased_share: checked(settings.unleased_share.as_ref(), problems, values::share).unwrap_or(0.5),
        history_entries: checked(settings.history_entries.as_ref(), problems, |text| {
            values::whole(text, HISTORY_ENTRIES)
        })
        .unwrap_or(1000),
        history_age: checked(settings.history_age.as_ref(), problems, |text| {
            values::parse_duration(text, HISTORY_AGES)
        })
        .unwrap_or(Duration::from_hours(90 * 24)),
        listen,
        auth,
        tls: tls::tls(settings.tls.as_ref(), problems),
        limits: limits::limits(&settings.limits, problems),
        external_hosts: external_hosts(listed(settings.external_hosts.as_ref()), problems),
        oci: oci::oci(settings, &hosts, &insecure_hosts, &aliases, problems),
        insecure_hosts,
        timestamp_labels: globs(listed(settings.timestamp_labels.as_ref()), problems),
        platforms,
        poll_interval,
        tag_interval,
        forget_after: checked(settings.forget_after.as_ref(), problems, |text| {
            values::parse_duration(text, GRACES)
        })
        .unwrap_or(Duration::from_hours(24)),
        rate: checked(settings.rps.as_ref(), problems, values::rate).unwrap_or(50.0),
        burst: burst(settings.burst.as_ref(), problems).unwrap_or(10),
        upstream: upstream(&settings.upstream, problems),
        hosts,
        other_hosts,
        host_policy,
        credentials: repository_credentials(&settings.credentials, environment, problems),
        hooks: hooks::hooks(&settings.hooks, &aliases, environment, problems),
        notify: notify::receivers(&settings.notify, environment, problems),
        kubernetes_secrets: existing_paths(listed(settings.kubernetes_secrets.as_ref()), problems),
        program_path: program_path(environment),
        proxies: environment_proxies(environment, problems),
        docker_config: docker_config(settings.docker_config.as_ref(), environment, problems),
        clouds: clouds(settings.cloud_identity.as_ref(), problems),
        aliases,
    }
}

fn listed<T>(list: Option<&Vec<T>>) -> &[T] {
    list.map_or(&[], Vec::as_slice)
}

/// All globs; one that is invalid is a problem, never one that matches everything.
pub(super) fn globs(patterns: &[Setting], problems: &mut Problems) -> Globs {
    let valid = |pattern: &Setting| problems.keep(&pattern.origin, Glob::new(&pattern.value));
    patterns.iter().filter_map(valid).collect()
}

/// Globs and regular expressions for tags; one that is invalid is a problem, never one that matches everything.
pub(super) fn tag_patterns(patterns: &[Setting], problems: &mut Problems) -> Vec<TagPattern> {
    let valid = |pattern: &Setting| problems.keep(&pattern.origin, pattern.value.parse());
    patterns.iter().filter_map(valid).collect()
}

/// How many tags are wanted of what a watch selects.
pub(super) fn newest(setting: Option<&Setting>, problems: &mut Problems) -> Option<usize> {
    checked(setting, problems, |text| values::whole(text, NEWEST))
}

/// The setting, checked.
pub(super) fn checked<T>(
    setting: Option<&Setting>,
    problems: &mut Problems,
    check: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let setting = setting?;
    problems.keep(&setting.origin, check(&setting.value))
}

/// Names by which clients ask for samovar, in lower case.
fn external_hosts(settings: &[Setting], problems: &mut Problems) -> BTreeSet<String> {
    let valid = |setting: &Setting| problems.keep(&setting.origin, values::host_name(&setting.value));
    settings.iter().filter_map(valid).collect()
}

fn aliases(written: &[Setting], problems: &mut Problems) -> Aliases {
    let mut accepted: Vec<&str> = Vec::new();
    let mut aliases = Aliases::default();
    for setting in written {
        // Parsed together with those before it: what is given twice is found where it is given again.
        accepted.push(&setting.value);
        match Aliases::parse(&accepted) {
            Ok(valid) => aliases = valid,
            Err(error) => {
                accepted.pop();
                problems.add(&setting.origin, error.to_string());
            }
        }
    }
    aliases
}

/// A registry host in canonical form; an alias stands for its host here too.
pub(super) fn host(text: &str, aliases: &Aliases) -> Result<String, ParseError> {
    aliases.host_of(text).map_or_else(|| canonical_host(text), |host| Ok(host.to_owned()))
}

pub(super) fn host_set(settings: &[Setting], aliases: &Aliases, problems: &mut Problems) -> BTreeSet<String> {
    let valid = |setting: &Setting| problems.keep(&setting.origin, host(&setting.value, aliases));
    settings.iter().filter_map(valid).collect()
}

/// The platforms; `None` where there are none.
pub(super) fn platforms(settings: &[Setting], problems: &mut Problems) -> Option<Platforms> {
    let valid = |setting: &Setting| problems.keep(&setting.origin, setting.value.parse::<Platform>());
    Platforms::new(settings.iter().filter_map(valid).collect())
}

fn store(
    setting: Option<&Setting>,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<StoreUrl> {
    match setting {
        Some(setting) => problems.keep(&setting.origin, setting.value.parse()),
        None => problems.keep(&Origin::Default { key: "store" }, StoreUrl::default_in(environment)),
    }
}

/// The local tier, which only a store that is known to be remote can have.
fn local_tier(
    setting: Option<&Setting>,
    store: Option<&StoreUrl>,
    problems: &mut Problems,
) -> Option<PathBuf> {
    let path = checked(setting, problems, values::new_directory)?;
    if let (Some(setting), Some(store)) = (setting, store.filter(|store| !store.is_remote())) {
        let reason =
            format!("{store} is local itself: a local tier stands before a memcached or Redis store");
        problems.add(&setting.origin, reason);
    }
    Some(path)
}

fn size(setting: Option<&Setting>, bounds: RangeInclusive<u64>, problems: &mut Problems) -> Option<u64> {
    checked(setting, problems, |text| values::size(text, bounds))
}

fn hot_set(setting: Option<&Setting>, problems: &mut Problems) -> usize {
    let bytes = size(setting, HOT_SETS, problems).unwrap_or(64 << 20);
    // Only where addresses are shorter than the bound.
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

pub(super) fn burst(setting: Option<&Setting>, problems: &mut Problems) -> Option<u32> {
    checked(setting, problems, |text| values::whole(text, BURSTS))
}

pub(super) fn concurrency(setting: Option<&Setting>, problems: &mut Problems) -> Option<usize> {
    checked(setting, problems, |text| values::whole(text, CONCURRENCIES))
}

pub(super) fn quota_reserve(setting: Option<&Setting>, problems: &mut Problems) -> Option<f64> {
    checked(setting, problems, values::reserve)
}

/// One of the timeouts of a request.
pub(super) fn timeout(setting: Option<&Setting>, problems: &mut Problems) -> Option<Duration> {
    checked(setting, problems, |text| values::parse_duration(text, TIMEOUTS))
}

fn upstream(settings: &UpstreamSettings, problems: &mut Problems) -> UpstreamConfig {
    let ca_file = connection::ca_file(settings.ca_file.as_ref(), problems);
    let mut timeout =
        |setting: &Option<Setting>, default| timeout(setting.as_ref(), problems).unwrap_or(default);
    UpstreamConfig {
        ca_file,
        connect_timeout: timeout(&settings.connect_timeout, Duration::from_secs(5)),
        header_timeout: timeout(&settings.header_timeout, Duration::from_secs(30)),
        body_timeout: timeout(&settings.body_timeout, Duration::from_secs(30)),
        total_timeout: timeout(&settings.total_timeout, Duration::from_mins(2)),
        list_timeout: timeout(&settings.list_timeout, Duration::from_mins(15)),
        concurrency: concurrency(settings.concurrency.as_ref(), problems).unwrap_or(10),
        quota_reserve: quota_reserve(settings.quota_reserve.as_ref(), problems).unwrap_or(0.1),
        max_stale_denied: checked(settings.max_stale_denied.as_ref(), problems, |text| {
            values::parse_duration(text, STALE_DENIED)
        })
        .unwrap_or(Duration::from_hours(24)),
    }
}

fn existing_paths(settings: &[Setting], problems: &mut Problems) -> Vec<PathBuf> {
    let existing = |setting: &Setting| problems.keep(&setting.origin, values::existing_path(&setting.value));
    settings.iter().filter_map(existing).collect()
}

fn program_path(environment: Environment<'_>) -> Vec<PathBuf> {
    let path = variable(environment, "PATH").map(|setting| setting.value).unwrap_or_default();
    std::env::split_paths(&path).collect()
}

/// The clouds that are named, all if none are mentioned.
fn clouds(settings: Option<&Vec<Setting>>, problems: &mut Problems) -> BTreeSet<Cloud> {
    let Some(settings) = settings else { return Cloud::compiled_in().collect() };
    let valid = |setting: &Setting| problems.keep(&setting.origin, cloud(&setting.value));
    settings.iter().filter_map(valid).collect()
}

fn cloud(text: &str) -> Result<Cloud, String> {
    let cloud = text.parse().map_err(|error| format!("{} is no cloud: {error}", quoted(text)))?;
    values::compiled_in(cloud)
}

pub(super) fn host_identity(text: &str) -> Result<HostIdentity, String> {
    let identity = text.parse();
    match identity.map_err(|error| format!("{} is no cloud: {error}, or none", quoted(text)))? {
        HostIdentity::Of(cloud) => values::compiled_in(cloud).map(HostIdentity::Of),
        HostIdentity::None => Ok(HostIdentity::None),
    }
}

/// The credentials file that is named, which must exist; else docker's own, which may come later.
fn docker_config(
    setting: Option<&Setting>,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<PathBuf> {
    if let Some(setting) = setting {
        return checked(Some(setting), problems, values::existing_file);
    }
    let directory = match variable(environment, "DOCKER_CONFIG") {
        Some(directory) => PathBuf::from(directory.value),
        None => Path::new(&variable(environment, "HOME")?.value).join(".docker"),
    };
    Some(directory.join("config.json"))
}
