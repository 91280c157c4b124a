//! The `[oci]` table: how existing clients of the distribution protocol are answered under `/v2/`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::Authority;
use samovar_registry::upstream::Scheme;
use samovar_registry::{Aliases, host_spellings};

use super::document::Section;
use super::error::{Problems, quoted};
use super::settings::{Setting, Settings};
use super::{HostConfig, validate, values};

/// How long a client is kept waiting for what has to be fetched first. Clients give up on their own: some after ten seconds.
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(1);
const USUAL_WAIT: Duration = Duration::from_secs(8);

/// How clients of the distribution protocol are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciConfig {
    /// The registry, canonical, whose repositories are meant by names that say none. None by default.
    pub default_upstream: Option<String>,
    /// The registries, canonical, that are meant where a client asks for one of these names (`Host`): lower case, with a
    /// port or for any port. None by default.
    pub virtual_hosts: BTreeMap<String, String>,
    /// What is said of layers, which are not kept.
    pub layers: Layers,
    /// How long a client is kept waiting for what has to be fetched first. By default 8 s.
    pub wait: Duration,
    /// The registries that speak plain http, to which clients may be sent for layers.
    pub plain_http: BTreeSet<String>,
}

/// What is said of layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layers {
    /// That they are not here, so that clients ask the next mirror or the registry.
    #[default]
    NotFound,
    /// That they are at the registry, with its address.
    Redirect,
}

impl OciConfig {
    /// The registry that is meant by a `Host`, with or without a port.
    pub fn virtual_host(&self, host: &str) -> Option<&str> {
        let host = host.to_ascii_lowercase();
        let without_port = || {
            let authority: Authority = host.parse().ok()?;
            self.virtual_hosts.get(authority.host())
        };
        self.virtual_hosts.get(&host).or_else(without_port).map(String::as_str)
    }
}

/// What is written in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OciSettings {
    default_upstream: Option<Setting>,
    /// The name, and the registry.
    virtual_hosts: Vec<(Setting, Setting)>,
    stand_in_for: Vec<Setting>,
    layers: Option<Setting>,
    wait: Option<Setting>,
}

pub(super) fn read(mut section: Section<'_>) -> OciSettings {
    let hosts = section.section("virtual_hosts").map(Section::into_named_values).unwrap_or_default();
    let settings = OciSettings {
        default_upstream: section.text("default_upstream"),
        virtual_hosts: hosts
            .into_iter()
            .filter_map(|(host, upstream)| Some((host, upstream.into_text()?)))
            .collect(),
        stand_in_for: section.texts("stand_in_for").unwrap_or_default(),
        layers: section.text("layers"),
        wait: section.text("wait"),
    };
    section.finish();
    settings
}

/// The table, checked.
pub(super) fn oci(
    settings: &Settings,
    hosts: &BTreeMap<String, HostConfig>,
    insecure_hosts: &BTreeSet<String>,
    aliases: &Aliases,
    problems: &mut Problems,
) -> OciConfig {
    let usual = OciSettings::default();
    let written = settings.oci.as_ref().unwrap_or(&usual);
    let mut upstream =
        |setting: &Setting| problems.keep(&setting.origin, validate::host(&setting.value, aliases));
    let default_upstream = written.default_upstream.as_ref().and_then(&mut upstream);
    let stand_ins: Vec<_> =
        written.stand_in_for.iter().filter_map(|setting| Some((setting, upstream(setting)?))).collect();
    let named: Vec<_> =
        written.virtual_hosts.iter().filter_map(|(name, host)| Some((name, upstream(host)?))).collect();
    let mut virtual_hosts = BTreeMap::new();
    for (setting, registry) in named {
        let Some(name) = problems.keep(&setting.origin, values::host_name(&setting.value)) else { continue };
        if virtual_hosts.insert(name, registry).is_some() {
            problems.add(&setting.origin, format!("{} is given twice", quoted(&setting.value)));
        }
    }
    for (setting, registry) in stand_ins {
        for name in host_spellings(&registry) {
            if virtual_hosts.insert(name.to_owned(), registry.clone()).is_some_and(|other| other != registry)
            {
                problems.add(&setting.origin, format!("{name} is a virtual host for another registry"));
            }
        }
    }
    let speaks_http = |host: &&String| match hosts.get(*host).and_then(|own| own.connection.scheme) {
        Some(scheme) => scheme == Scheme::Http,
        None => insecure_hosts.contains(*host),
    };
    OciConfig {
        default_upstream,
        virtual_hosts,
        layers: validate::checked(written.layers.as_ref(), problems, layers).unwrap_or_default(),
        wait: validate::checked(written.wait.as_ref(), problems, |text| values::parse_duration(text, WAITS))
            .unwrap_or(USUAL_WAIT),
        plain_http: insecure_hosts.iter().chain(hosts.keys()).filter(speaks_http).cloned().collect(),
    }
}

fn layers(text: &str) -> Result<Layers, String> {
    match text {
        "not-found" => Ok(Layers::NotFound),
        "redirect" => Ok(Layers::Redirect),
        other => Err(format!("{} is neither \"not-found\" nor \"redirect\"", quoted(other))),
    }
}
