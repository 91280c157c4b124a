//! How single hosts are connected to: the keys of a `[hosts."…"]` table and of its mirrors that say so.

use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use samovar_registry::upstream::{
    Capabilities, ClientCertificate, ConnectionOptions, MirrorOptions, MirrorUrl, ProxyChoice, Scheme,
    TimeoutOptions, TlsOptions, TlsSetting,
};

use super::document::{Section, Value};
use super::error::{Problems, quoted};
use super::settings::Setting;
use super::validate::{checked, timeout};

/// How many mirrors a host may have, and how many headers are sent along to it.
const MOST_MIRRORS: usize = 16;
const MOST_HEADERS: usize = 32;

/// Headers that are the client's own, or that say how the next bytes are to be read.
const OWN_HEADERS: [HeaderName; 8] = [
    header::ACCEPT,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::RANGE,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What is written of how to connect to one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ConnectionSettings {
    pub(super) scheme: Option<Setting>,
    pub(super) ca_files: Vec<Setting>,
    pub(super) client_cert_file: Option<Setting>,
    pub(super) client_key_file: Option<Setting>,
    pub(super) skip_verify: bool,
    pub(super) proxy: Option<Setting>,
    /// Names, each with the place of its value, and values.
    pub(super) headers: Vec<(Setting, String)>,
    pub(super) connect_timeout: Option<Setting>,
    pub(super) header_timeout: Option<Setting>,
    pub(super) body_timeout: Option<Setting>,
    pub(super) total_timeout: Option<Setting>,
    pub(super) list_timeout: Option<Setting>,
}

/// What is written of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MirrorSettings {
    pub(super) url: Setting,
    pub(super) capabilities: Option<Vec<Setting>>,
    pub(super) override_path: bool,
    pub(super) connection: ConnectionSettings,
}

/// Takes the keys that are about connecting out of the table of a host.
pub(super) fn read(section: &mut Section<'_>) -> ConnectionSettings {
    ConnectionSettings {
        scheme: section.text("scheme"),
        proxy: section.text("proxy"),
        connect_timeout: section.text("connect_timeout"),
        header_timeout: section.text("header_timeout"),
        body_timeout: section.text("body_timeout"),
        total_timeout: section.text("total_timeout"),
        list_timeout: section.text("list_timeout"),
        ..read_trust(section)
    }
}

/// Takes the keys that a host and a mirror have in common.
fn read_trust(section: &mut Section<'_>) -> ConnectionSettings {
    ConnectionSettings {
        ca_files: section.text("ca_file").into_iter().collect(),
        client_cert_file: section.text("client_cert_file"),
        client_key_file: section.text("client_key_file"),
        skip_verify: section.truth("skip_verify").unwrap_or(false),
        headers: section.section("headers").map(read_headers).unwrap_or_default(),
        ..ConnectionSettings::default()
    }
}

fn read_headers(section: Section<'_>) -> Vec<(Setting, String)> {
    let header = |(name, value): (Setting, Value<'_>)| Some((name, value.into_text()?.value));
    section.into_named_values().into_iter().filter_map(header).collect()
}

/// Takes the mirrors out of the table of a host: URLs, or tables that say more.
pub(super) fn read_mirrors(section: &mut Section<'_>) -> Vec<MirrorSettings> {
    let list = section.take("mirrors").and_then(Value::into_list).unwrap_or_default();
    list.into_iter().filter_map(read_mirror).collect()
}

fn read_mirror(value: Value<'_>) -> Option<MirrorSettings> {
    if !value.is_section() {
        let url = value.into_text()?;
        let connection = ConnectionSettings::default();
        return Some(MirrorSettings { url, capabilities: None, override_path: false, connection });
    }
    let mut section = value.into_section()?;
    let url = section.required_text("url");
    let capabilities = section.texts("capabilities");
    let override_path = section.truth("override_path").unwrap_or(false);
    let connection = read_trust(&mut section);
    section.finish();
    Some(MirrorSettings { url: url?, capabilities, override_path, connection })
}

/// How to connect, with every file read once to see that it can be used.
pub(super) fn connection(settings: &ConnectionSettings, problems: &mut Problems) -> ConnectionOptions {
    let scheme = checked(settings.scheme.as_ref(), problems, |text| match text {
        "https" => Ok(Scheme::Https),
        "http" => Ok(Scheme::Http),
        _ => Err(format!("{} is not a scheme: \"https\" or \"http\"", quoted(text))),
    });
    let proxy = checked(settings.proxy.as_ref(), problems, |text| {
        // It is not quoted: it may hold a password.
        text.parse::<ProxyChoice>().map_err(|error| format!("{error}; \"none\" asks directly"))
    });
    let mut limit = |setting: &Option<Setting>| timeout(setting.as_ref(), problems);
    let timeouts = TimeoutOptions {
        connect: limit(&settings.connect_timeout),
        header: limit(&settings.header_timeout),
        body: limit(&settings.body_timeout),
        total: limit(&settings.total_timeout),
        list: limit(&settings.list_timeout),
    };
    let headers = headers(&settings.headers, problems);
    ConnectionOptions { scheme, tls: tls(settings, problems), proxy, headers, timeouts }
}

fn tls(settings: &ConnectionSettings, problems: &mut Problems) -> TlsOptions {
    let client_certificate = match (&settings.client_cert_file, &settings.client_key_file) {
        (Some(certificate), Some(key)) => Some(ClientCertificate {
            certificate_file: certificate.value.clone().into(),
            key_file: key.value.clone().into(),
        }),
        (Some(alone), None) => {
            problems.add(&alone.origin, "a certificate needs its key: client_key_file is missing");
            None
        }
        (None, Some(alone)) => {
            problems.add(&alone.origin, "a key needs its certificate: client_cert_file is missing");
            None
        }
        (None, None) => None,
    };
    let ca_files =
        |settings: &[Setting]| settings.iter().map(|setting| setting.value.clone().into()).collect();
    for setting in &settings.ca_files {
        let tls = TlsOptions { ca_files: ca_files(std::slice::from_ref(setting)), ..TlsOptions::default() };
        problems.keep(&setting.origin, tls.check());
    }
    let client = TlsOptions { client_certificate: client_certificate.clone(), ..TlsOptions::default() };
    if let Err(error) = client.check() {
        let setting = match error.setting {
            TlsSetting::ClientKey => &settings.client_key_file,
            TlsSetting::ClientCertificate | TlsSetting::CaFile => &settings.client_cert_file,
        };
        if let Some(setting) = setting {
            problems.add(&setting.origin, error.to_string());
        }
    }
    TlsOptions {
        ca_files: ca_files(&settings.ca_files),
        client_certificate,
        skip_verify: settings.skip_verify,
    }
}

/// A file of authorities for all hosts.
pub(super) fn ca_file(setting: Option<&Setting>, problems: &mut Problems) -> Option<PathBuf> {
    let path = PathBuf::from(&setting?.value);
    let tls = TlsOptions { ca_files: vec![path.clone()], ..TlsOptions::default() };
    problems.keep(&setting?.origin, tls.check())?;
    Some(path)
}

fn headers(settings: &[(Setting, String)], problems: &mut Problems) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in settings.iter().take(MOST_HEADERS) {
        let origin = &name.origin;
        let Some(header) = problems.keep(origin, header_name(&name.value)) else { continue };
        // The value is a secret: it is not quoted.
        let value = HeaderValue::from_str(value).map_err(|_| "its value has characters that cannot be sent");
        if let Some(mut value) = problems.keep(origin, value) {
            value.set_sensitive(true);
            headers.append(header, value);
        }
    }
    if let Some((name, _)) = settings.get(MOST_HEADERS) {
        problems.add(&name.origin, format!("more than {MOST_HEADERS} headers"));
    }
    headers
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{} is not the name of a header", quoted(text)))?;
    if OWN_HEADERS.contains(&name) {
        return Err(format!("the header {name} is not to be set: the client does that"));
    }
    Ok(name)
}

/// The mirrors of a host, in order.
pub(super) fn mirrors(settings: &[MirrorSettings], problems: &mut Problems) -> Vec<MirrorOptions> {
    if let Some(mirror) = settings.get(MOST_MIRRORS) {
        problems.add(&mirror.url.origin, format!("more than {MOST_MIRRORS} mirrors"));
    }
    let mut mirrors = Vec::new();
    for setting in settings.iter().take(MOST_MIRRORS) {
        let capabilities = setting
            .capabilities
            .as_ref()
            .map_or(Capabilities::ALL, |written| capabilities(written, problems));
        let connection = connection(&setting.connection, problems);
        let url = problems.keep(&setting.url.origin, setting.url.value.parse::<MirrorUrl>());
        mirrors.extend(url.map(|url| MirrorOptions {
            url,
            capabilities,
            override_path: setting.override_path,
            connection,
        }));
    }
    mirrors
}

/// What a mirror is good for. `push` is known, and nothing that we do.
pub(super) fn capabilities(written: &[Setting], problems: &mut Problems) -> Capabilities {
    let mut capabilities = Capabilities::NONE;
    for setting in written {
        match setting.value.as_str() {
            "pull" => capabilities.pull = true,
            "resolve" => capabilities.resolve = true,
            "push" | "referrers" => {}
            other => {
                let reason = format!("{} is no capability: \"pull\", \"resolve\"", quoted(other));
                problems.add(&setting.origin, reason);
            }
        }
    }
    capabilities
}

#[cfg(test)]
mod tests;
