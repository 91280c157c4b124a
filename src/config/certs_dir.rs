//! Directories in which containerd and docker keep what they know of single registries: `certs.d` with one directory for
//! each host.
//!
//! In a host's directory, `hosts.toml` says where the registry is and which mirrors it has; where there is none, `*.crt`
//! are authorities and `*.cert` with `*.key` is a client's certificate. Keys of `hosts.toml` that are not known here are
//! passed over: the format is not ours, and grows. It is read once, when samovar starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use samovar_registry::canonical_host;

use super::connection::{ConnectionSettings, MirrorSettings};
use super::document::{Document, Section, Value};
use super::error::{Origin, Problems};
use super::file::read_bounded;
use super::settings::Setting;

/// How many hosts a directory may describe.
const MOST_HOST_DIRECTORIES: usize = 1_024;

/// What holds for hosts that have no directory of their own.
const DEFAULT: &str = "_default";

/// What a directory says of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostDirectory {
    /// How the registry itself is connected to.
    pub(super) connection: ConnectionSettings,
    pub(super) mirrors: Vec<MirrorSettings>,
    /// What is asked last, in place of the registry itself.
    pub(super) server: Option<MirrorSettings>,
}

/// What a directory says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CertsDirectory {
    /// By canonical host.
    pub(super) hosts: BTreeMap<String, HostDirectory>,
    pub(super) others: Option<HostDirectory>,
}

/// Reads all directories below the one that the setting names.
pub(super) fn read(setting: &Setting, problems: &mut Problems) -> CertsDirectory {
    let Some(directories) = problems.keep(&setting.origin, directories(Path::new(&setting.value))) else {
        return CertsDirectory::default();
    };
    let mut read = CertsDirectory::default();
    for (name, path) in directories {
        if name == DEFAULT {
            read.others = Some(host_directory(&path, None, problems));
        } else if let Some(host) = host_of(&name) {
            let directory = host_directory(&path, Some(&host), problems);
            // Sorted by name: of two spellings the one with the port between underscores comes later and counts.
            read.hosts.insert(host, directory);
        }
    }
    read
}

/// The directories, by name.
fn directories(path: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let failed = |error: std::io::Error| format!("cannot read the directory {}: {error}", path.display());
    let mut directories = BTreeMap::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // What Kubernetes mounts has links, and directories of its own that begin with a dot.
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| !name.starts_with('.') && path.is_dir()) {
            directories.insert(name.to_owned(), path.clone());
        }
        if directories.len() > MOST_HOST_DIRECTORIES {
            return Err(format!("more than {MOST_HOST_DIRECTORIES} hosts in {}", path.display()));
        }
    }
    Ok(directories)
}

/// The canonical host that a directory is for: `host`, `host:port` or `host_port_`.
fn host_of(name: &str) -> Option<String> {
    let with_colon = name.strip_suffix('_').and_then(|name| name.rsplit_once('_'));
    match with_colon {
        Some((host, port)) => canonical_host(&format!("{host}:{port}")).ok(),
        None => canonical_host(name).ok(),
    }
}

fn host_directory(path: &Path, host: Option<&str>, problems: &mut Problems) -> HostDirectory {
    let file = path.join("hosts.toml");
    if !file.exists() {
        let connection = certificates_in(path);
        return HostDirectory { connection, ..HostDirectory::default() };
    }
    match read_bounded(&file) {
        Ok(text) => {
            let document = Document::new(&file, &text);
            let read = document.root().map(|root| hosts_file(root, path, host)).unwrap_or_default();
            problems.append(document.into_problems());
            read
        }
        Err(error) => {
            let origin = Origin::File { path: file.as_path().into(), line: None, key: String::new() };
            problems.add(&origin, format!("cannot be read: {error}"));
            HostDirectory::default()
        }
    }
}

/// What docker reads: authorities, and a certificate with the key of the same name.
fn certificates_in(path: &Path) -> ConnectionSettings {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    let with_extension = |wanted: &'static str| {
        let has = move |file: &&PathBuf| file.extension().is_some_and(|extension| extension == wanted);
        files.iter().filter(has)
    };
    let client = with_extension("cert").map(|file| (file, file.with_extension("key")));
    let client = client.into_iter().find(|(_, key)| key.exists());
    ConnectionSettings {
        ca_files: with_extension("crt").map(|file| file_setting(file)).collect(),
        client_cert_file: client.as_ref().map(|(certificate, _)| file_setting(certificate)),
        client_key_file: client.as_ref().map(|(_, key)| file_setting(key)),
        ..ConnectionSettings::default()
    }
}

/// A file that is found rather than written.
fn file_setting(path: &Path) -> Setting {
    let origin = Origin::File { path: path.into(), line: None, key: String::new() };
    Setting { value: path.to_string_lossy().into_owned(), origin }
}

fn hosts_file(mut root: Section<'_>, directory: &Path, host: Option<&str>) -> HostDirectory {
    let server = root.text("server").map(with_scheme);
    let own = endpoint(&mut root, directory);
    let mut mirrors: Vec<(Setting, Value<'_>)> =
        root.section("host").map(Section::into_named_values).unwrap_or_default();
    // In the order in which they are written.
    mirrors.sort_by(|(one, _), (other, _)| one.origin.cmp(&other.origin));
    let mirrors = mirrors.into_iter().filter_map(|(url, value)| {
        let mut section = value.into_section()?;
        let capabilities = section.texts("capabilities");
        let override_path = section.truth("override_path").unwrap_or(false);
        let connection = endpoint(&mut section, directory);
        Some(MirrorSettings { url: with_scheme(url), capabilities, override_path, connection })
    });
    let mirrors = mirrors.collect();
    match server {
        Some(url) if !is_at(&url.value, host) => {
            let override_path = root.truth("override_path").unwrap_or(false);
            let server = MirrorSettings { url, capabilities: None, override_path, connection: own };
            HostDirectory { connection: ConnectionSettings::default(), mirrors, server: Some(server) }
        }
        server => {
            let scheme = server.and_then(|url| {
                let (scheme, _) = url.value.split_once("://")?;
                Some(Setting { value: scheme.to_owned(), origin: url.origin.clone() })
            });
            HostDirectory { connection: ConnectionSettings { scheme, ..own }, mirrors, server: None }
        }
    }
}

/// Without a scheme, https is meant.
fn with_scheme(url: Setting) -> Setting {
    if url.value.contains("://") {
        return url;
    }
    Setting { value: format!("https://{}", url.value), ..url }
}

/// Whether this URL is just where the host is by its name.
fn is_at(url: &str, host: Option<&str>) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    host.is_some_and(|host| canonical_host(authority).is_ok_and(|named| named == host))
}

/// What the table of a server or of a mirror says about connecting to it.
fn endpoint(section: &mut Section<'_>, directory: &Path) -> ConnectionSettings {
    let below = |setting: Setting| {
        let value = directory.join(&setting.value).to_string_lossy().into_owned();
        Setting { value, ..setting }
    };
    let ca_files = section.take("ca").map(Value::into_text_or_texts).unwrap_or_default();
    let client = section.take("client").and_then(first_pair);
    let (client_cert_file, client_key_file) = client.unzip();
    let headers = section.section("header").map(Section::into_named_values).unwrap_or_default();
    let headers = headers.into_iter().flat_map(|(name, value)| {
        let values = value.into_text_or_texts().into_iter();
        values.map(move |value| (name.clone(), value.value)).collect::<Vec<_>>()
    });
    ConnectionSettings {
        ca_files: ca_files.into_iter().map(below).collect(),
        client_cert_file: client_cert_file.map(below),
        client_key_file: client_key_file.map(below),
        skip_verify: section.truth("skip_verify").unwrap_or(false),
        connect_timeout: section.text("dial_timeout"),
        headers: headers.collect(),
        ..ConnectionSettings::default()
    }
}

/// The first client certificate with its key: one file with both, or a list of such files or of pairs.
fn first_pair(value: Value<'_>) -> Option<(Setting, Setting)> {
    let first = if value.is_list() { value.into_list()?.into_iter().next()? } else { value };
    if first.is_list() {
        let mut pair = first.into_list()?.into_iter().filter_map(Value::into_text);
        let certificate = pair.next()?;
        let key = pair.next().filter(|key| !key.value.is_empty());
        return Some((certificate.clone(), key.unwrap_or(certificate)));
    }
    let both = first.into_text()?;
    Some((both.clone(), both))
}

#[cfg(test)]
mod tests;
