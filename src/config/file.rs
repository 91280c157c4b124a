//! The configuration file: which keys there are, and of what type.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::auth;
use super::connection;
use super::document::{Document, Section, Value};
use super::error::{Origin, Problems};
use super::hooks;
use super::intervals;
use super::limits;
use super::notify;
use super::oci;
use super::on_demand;
use super::settings::{
    CredentialSetting, HostSettings, SecretSettings, Setting, Settings, UpstreamSettings, WatchSetting,
};
use super::tls;

/// A larger file is not a configuration. Bytes.
const MAX_FILE_SIZE: u64 = 4 * 1024 * 1024;

/// What the file says; what is wrong with it is added to `problems`.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Settings {
    match read_bounded(path) {
        Ok(text) => parse(path, &text, problems),
        Err(error) => {
            let origin = Origin::File { path: path.into(), line: None, key: String::new() };
            problems.add(&origin, format!("cannot read the configuration file: {error}"));
            Settings::default()
        }
    }
}

/// The text of a file of configuration, which must not be larger than any of them is.
pub(super) fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_SIZE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_SIZE {
        return Err(io::Error::other(format!("larger than {MAX_FILE_SIZE} bytes")));
    }
    Ok(text)
}

/// What the text of a file says.
pub(super) fn parse(path: &Path, text: &str, problems: &mut Problems) -> Settings {
    let document = Document::new(path, text);
    let settings = document.root().map(root).unwrap_or_default();
    problems.append(document.into_problems());
    settings
}

fn root(mut root: Section<'_>) -> Settings {
    let auth = root.take("auth").map(auth::read);
    let settings = Settings {
        watch: root.take("watch").and_then(watch_list),
        store: root.text("store"),
        store_local_tier: root.text("store_local_tier"),
        store_limit: root.size("store_limit"),
        hot_set: root.size("hot_set"),
        unleased_share: root.number("unleased_share"),
        history_entries: root.number("history_entries"),
        history_age: root.text("history_age"),
        listen: root.text("listen"),
        auth: auth.as_ref().and_then(|auth| auth.mode.clone()),
        tokens: auth.as_ref().and_then(|auth| auth.tokens.clone()),
        auth_table: auth,
        tls: root.section("tls").map(tls::read),
        limits: root.section("limits").map(limits::read).unwrap_or_default(),
        external_hosts: root.texts("external_hosts"),
        insecure_host: root.texts("insecure_host"),
        allow_hosts: root.texts("allow_hosts"),
        deny_hosts: root.texts("deny_hosts"),
        certs_dir: root.text("certs_dir"),
        alias: root.texts("alias"),
        timestamp_labels: root.texts("timestamp_labels"),
        platform: root.texts("platform"),
        intervals: intervals::read(&mut root),
        forget_after: root.text("forget_after"),
        catalog_interval: root.text("catalog_interval"),
        rps: root.number("rps"),
        burst: root.number("burst"),
        docker_config: root.text("docker_config"),
        cloud_identity: root.texts("cloud_identity"),
        kubernetes_secrets: root.texts("kubernetes_secrets"),
        credentials: root.take("credentials").and_then(credentials).unwrap_or_default(),
        notify: root.take("notify").and_then(notify::read).unwrap_or_default(),
        on_demand: root.section("on_demand").map(on_demand::read),
        oci: root.section("oci").map(oci::read),
        hooks: root.section("hooks").map(hooks::read).unwrap_or_default(),
        upstream: root.section("upstream").map(upstream).unwrap_or_default(),
        hosts: root.section("hosts").map(hosts).unwrap_or_default(),
    };
    root.finish();
    settings
}

fn watch_list(value: Value<'_>) -> Option<Vec<WatchSetting>> {
    Some(value.into_list()?.into_iter().filter_map(watch_entry).collect())
}

fn watch_entry(value: Value<'_>) -> Option<WatchSetting> {
    if !value.is_section() {
        return value.into_text().map(WatchSetting::image);
    }
    let mut section = value.into_section()?;
    let image = section.required_text("image");
    let tags = section.texts("tags");
    let ignore_tags = section.texts("ignore_tags").unwrap_or_default();
    let newest = section.number("newest");
    let intervals = intervals::read(&mut section);
    let platforms = section.texts("platforms");
    section.finish();
    Some(WatchSetting { image: image?, tags, ignore_tags, newest, intervals, platforms })
}

fn credentials(value: Value<'_>) -> Option<Vec<CredentialSetting>> {
    Some(value.into_list()?.into_iter().filter_map(credential).collect())
}

fn credential(value: Value<'_>) -> Option<CredentialSetting> {
    let mut section = value.into_section()?;
    let setting = CredentialSetting {
        origin: section.origin().clone(),
        repositories: section.required_text_or_texts("repositories"),
        username: section.text("username"),
        password: SecretSettings {
            given: section.secret("password"),
            file: section.text("password_file"),
            variable: section.text("password_env"),
        },
        identity_token: SecretSettings {
            given: None,
            file: section.text("identity_token_file"),
            variable: section.text("identity_token_env"),
        },
        registry_token: SecretSettings {
            given: None,
            file: section.text("registry_token_file"),
            variable: section.text("registry_token_env"),
        },
        helper: section.text("helper"),
        anonymous: section.truth("anonymous").unwrap_or_default(),
        only: section.truth("only").unwrap_or_default(),
    };
    section.finish();
    Some(setting)
}

fn upstream(mut section: Section<'_>) -> UpstreamSettings {
    let settings = UpstreamSettings {
        ca_file: section.text("ca_file"),
        connect_timeout: section.text("connect_timeout"),
        header_timeout: section.text("header_timeout"),
        body_timeout: section.text("body_timeout"),
        total_timeout: section.text("total_timeout"),
        list_timeout: section.text("list_timeout"),
        concurrency: section.number("concurrency"),
        quota_reserve: section.number("quota_reserve"),
        max_stale_denied: section.text("max_stale_denied"),
    };
    section.finish();
    settings
}

fn hosts(section: Section<'_>) -> Vec<HostSettings> {
    let host = |(host, value): (Setting, Value<'_>)| {
        let mut section = value.into_section()?;
        let settings = HostSettings {
            host,
            rps: section.number("rps"),
            burst: section.number("burst"),
            concurrency: section.number("concurrency"),
            quota_reserve: section.number("quota_reserve"),
            token_hosts: section.texts("token_hosts").unwrap_or_default(),
            cloud_identity: section.text("cloud_identity"),
            connection: connection::read(&mut section),
            mirrors: connection::read_mirrors(&mut section),
            shared_anonymous_token: section.truth("shared_anonymous_token"),
            listing: section.text("listing"),
        };
        section.finish();
        Some(settings)
    };
    section.into_named_values().into_iter().filter_map(host).collect()
}
