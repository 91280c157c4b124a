//! What is different for single hosts: their tables in the file, over what a directory of certificates says.

use std::collections::BTreeMap;

use samovar_registry::Aliases;
use samovar_registry::upstream::{ConnectionOptions, HostPolicy, MirrorOptions};

use super::certs_dir::{self, HostDirectory};
use super::error::{Problems, quoted};
use super::settings::{HostSettings, Settings};
use super::validate::{burst, checked, concurrency, host, host_identity, host_set, quota_reserve};
use super::{HostConfig, connection, policy, values};

/// The hosts that have settings, and what holds for all others.
pub(super) fn host_configs(
    settings: &Settings,
    host_policy: &HostPolicy,
    aliases: &Aliases,
    problems: &mut Problems,
) -> (BTreeMap<String, HostConfig>, HostConfig) {
    let directory =
        settings.certs_dir.as_ref().map(|setting| certs_dir::read(setting, problems)).unwrap_or_default();
    let mut described = |directory: &HostDirectory| of_directory(directory, host_policy, problems);
    let others = directory.others.as_ref().map(&mut described).unwrap_or_default();
    let found: BTreeMap<_, _> =
        directory.hosts.iter().map(|(host, directory)| (host.clone(), described(directory))).collect();

    let mut configs = BTreeMap::new();
    for setting in &settings.hosts {
        let config = host_config(setting, host_policy, problems);
        let Some(host) = problems.keep(&setting.host.origin, host(&setting.host.value, aliases)) else {
            continue;
        };
        if configs.contains_key(&host) {
            let reason = format!("{} is {host}, which has a table already", quoted(&setting.host.value));
            problems.add(&setting.host.origin, reason);
            continue;
        }
        let below = found.get(&host).unwrap_or(&others);
        configs.insert(host, over(config, below));
    }
    for (host, config) in found {
        configs.entry(host).or_insert(config);
    }
    (configs, others)
}

fn host_config(setting: &HostSettings, host_policy: &HostPolicy, problems: &mut Problems) -> HostConfig {
    policy::check_mirrors(host_policy, &setting.mirrors, problems);
    HostConfig {
        rate: checked(setting.rps.as_ref(), problems, values::rate),
        burst: burst(setting.burst.as_ref(), problems),
        concurrency: concurrency(setting.concurrency.as_ref(), problems),
        quota_reserve: quota_reserve(setting.quota_reserve.as_ref(), problems),
        token_hosts: host_set(&setting.token_hosts, &Aliases::default(), problems),
        shared_anonymous_token: setting.shared_anonymous_token,
        cloud_identity: checked(setting.cloud_identity.as_ref(), problems, host_identity),
        listing: checked(setting.listing.as_ref(), problems, values::listing).unwrap_or_default(),
        connection: connection::connection(&setting.connection, problems),
        mirrors: connection::mirrors(&setting.mirrors, problems),
        server: None,
    }
}

fn of_directory(directory: &HostDirectory, host_policy: &HostPolicy, problems: &mut Problems) -> HostConfig {
    let server = directory.server.as_slice();
    policy::check_mirrors(host_policy, &directory.mirrors, problems);
    policy::check_mirrors(host_policy, server, problems);
    HostConfig {
        connection: connection::connection(&directory.connection, problems),
        mirrors: connection::mirrors(&directory.mirrors, problems),
        server: connection::mirrors(server, problems).into_iter().next(),
        ..HostConfig::default()
    }
}

/// What the file says, and where it is silent, what a directory says.
fn over(own: HostConfig, below: &HostConfig) -> HostConfig {
    let connection: ConnectionOptions = own.connection.over(&below.connection);
    let mirrors: Vec<MirrorOptions> =
        if own.mirrors.is_empty() { below.mirrors.clone() } else { own.mirrors };
    HostConfig { connection, mirrors, server: below.server.clone(), ..own }
}
