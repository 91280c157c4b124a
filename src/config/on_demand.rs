//! The `[on_demand]` table: which repositories come to be watched because somebody asks about them.
//!
//! Invariant: readers never choose a host: every pattern names one, literally.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use samovar_registry::upstream::HostPolicy;
use samovar_registry::{Aliases, Glob, Globs};

use super::document::Section;
use super::error::{Problems, quoted};
use super::settings::Setting;
use super::{validate, values};

/// How long nobody asks until a repository is no longer watched.
const IDLE_TIMES: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(365 * 24);

/// How many repositories are watched on demand: one entry of the store holds their names.
const COUNTS: RangeInclusive<usize> = 1..=2_000;

/// What is allowed where the table does not say: the well-known registries that anybody may ask.
const PUBLIC_REGISTRIES: [&str; 9] = [
    "docker.io/*",
    "ghcr.io/*",
    "quay.io/*",
    "registry.k8s.io/*",
    "gcr.io/*",
    "mcr.microsoft.com/*",
    "public.ecr.aws/*",
    "registry.gitlab.com/*",
    "cgr.dev/*",
];

/// Which repositories come to be watched because somebody asks about them, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDemandConfig {
    /// The repositories that may be. Where the table does not say: those of the well-known public registries.
    pub allow: Globs,
    /// Whether the credentials that samovar has are used for them. Not where the table does not say which repositories are
    /// allowed: what samovar may see, readers would see too.
    pub log_in: bool,
    /// A repository is no longer watched when nobody has asked about it for so long. By default 7 days.
    pub idle: Duration,
    /// How many are watched at once; the least recently asked goes first. By default 1,000.
    pub most: usize,
}

impl OnDemandConfig {
    /// The hosts, canonical, that may come to be asked.
    pub fn hosts(&self) -> BTreeSet<&str> {
        self.allow.iter().filter_map(|glob| glob.as_str().split_once('/')).map(|(host, _)| host).collect()
    }
}

/// What is written in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OnDemandSettings {
    pub(super) allow: Option<Vec<Setting>>,
    pub(super) idle: Option<Setting>,
    pub(super) max: Option<Setting>,
}

pub(super) fn read(mut section: Section<'_>) -> OnDemandSettings {
    let settings = OnDemandSettings {
        allow: section.texts("allow"),
        idle: section.text("idle"),
        max: section.number("max"),
    };
    section.finish();
    settings
}

/// The table, checked; `None` where nothing is to be watched on demand.
pub(super) fn on_demand(
    settings: Option<&OnDemandSettings>,
    policy: &HostPolicy,
    aliases: &Aliases,
    problems: &mut Problems,
) -> Option<OnDemandConfig> {
    let settings = settings?;
    let allow = match &settings.allow {
        Some(written) => allowed(written, policy, aliases, problems),
        None => PUBLIC_REGISTRIES.iter().map(|glob| Glob::new(glob).expect("a valid glob")).collect(),
    };
    let idle =
        validate::checked(settings.idle.as_ref(), problems, |text| values::parse_duration(text, IDLE_TIMES));
    let most = validate::checked(settings.max.as_ref(), problems, |text| values::whole(text, COUNTS));
    let (idle, most) = (idle.unwrap_or(Duration::from_hours(7 * 24)), most.unwrap_or(1_000));
    let log_in = settings.allow.is_some();
    (!allow.is_empty()).then_some(OnDemandConfig { allow, log_in, idle, most })
}

fn allowed(written: &[Setting], policy: &HostPolicy, aliases: &Aliases, problems: &mut Problems) -> Globs {
    let mut globs = Vec::new();
    for setting in written {
        let Some((host, glob)) = problems.keep(&setting.origin, pattern(&setting.value, aliases)) else {
            continue;
        };
        if policy.denies(&host) {
            problems.add(&setting.origin, format!("its host {host} is denied by deny_hosts"));
        } else if !policy.allows(&host) {
            problems.add(&setting.origin, format!("its host {host} is not among allow_hosts"));
        }
        globs.push(glob);
    }
    globs.into_iter().collect()
}

/// The host of a pattern, and the pattern with it in canonical form.
fn pattern(text: &str, aliases: &Aliases) -> Result<(String, Glob), String> {
    let Some((host, path)) = text.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty())
    else {
        return Err(format!("{} has no host: write docker.io/library/* or ghcr.io/team/*", quoted(text)));
    };
    if host.contains('*') {
        return Err(format!(
            "{} leaves the host open, so that readers could have any host asked: name it",
            quoted(text)
        ));
    }
    let host = validate::host(host, aliases).map_err(|error| error.to_string())?;
    let glob = Glob::new(&format!("{host}/{path}")).map_err(|error| error.to_string())?;
    Ok((host, glob))
}
