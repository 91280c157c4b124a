//! Which hosts may be asked, and whether the rest of the configuration keeps to it.

use samovar_registry::upstream::{HostPolicy, MirrorUrl};
use samovar_registry::{Aliases, Name, Reference};

use super::connection::MirrorSettings;
use super::error::Problems;
use super::repository_pattern::RepositoryPattern;
use super::settings::{Settings, WatchSetting};
use super::validate::globs;

/// The hosts that `allow_hosts` and `deny_hosts` name.
pub(super) fn host_policy(settings: &Settings, problems: &mut Problems) -> HostPolicy {
    let mut listed = |list: &Option<Vec<_>>| globs(list.as_deref().unwrap_or_default(), problems);
    HostPolicy { allow: listed(&settings.allow_hosts), deny: listed(&settings.deny_hosts) }
}

/// Refuses to watch what may not be asked.
pub(super) fn check_watched(
    policy: &HostPolicy,
    watch: &[WatchSetting],
    aliases: &Aliases,
    problems: &mut Problems,
) {
    for entry in watch {
        // What cannot be read is a problem already.
        let Some(name) = name(&entry.image.value, aliases) else { continue };
        let host = name.host();
        if policy.denies(host) {
            problems.add(&entry.image.origin, format!("its host {host} is denied by deny_hosts"));
        } else if !policy.allows(host) {
            problems.add(&entry.image.origin, format!("its host {host} is not among allow_hosts"));
        }
    }
}

/// The repository, or one that the pattern would match.
fn name(image: &str, aliases: &Aliases) -> Option<Name> {
    if RepositoryPattern::is_meant_by(image) {
        let (pattern, _) = RepositoryPattern::parse(image, aliases).ok()?;
        return Some(pattern.example().clone());
    }
    Some(Reference::parse(image, aliases).ok()?.name().clone())
}

/// Refuses mirrors that may not be asked.
pub(super) fn check_mirrors(policy: &HostPolicy, mirrors: &[MirrorSettings], problems: &mut Problems) {
    for mirror in mirrors {
        let Ok(url) = mirror.url.value.parse::<MirrorUrl>() else { continue };
        if policy.denies(url.host()) {
            problems.add(&mirror.url.origin, format!("its host {} is denied by deny_hosts", url.host()));
        }
    }
}
