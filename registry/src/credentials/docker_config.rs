//! Credentials from docker's `config.json`: the `auths` section. Credential helper programs are not run.
//!
//! One entry that cannot be used never spoils the others: it is reported by its key.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::Credentials;
use crate::json;
use crate::{Name, Secret, canonical_host};

/// Bound of the file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Padding may be missing: hand-made files exist.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The credentials of one `config.json`.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {
    entries: Vec<Entry>,
    problems: Vec<DockerConfigProblem>,
}

/// An entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfigProblem {
    /// Its key in `auths`.
    pub key: String,
    /// Why.
    pub reason: &'static str,
}

/// The file as a whole cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a docker configuration.
    #[error("{file} is not a docker configuration: at line {line}, column {column}")]
    Malformed {
        /// The file.
        file: String,
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// It is larger than a docker configuration can sensibly be.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Credentials, and for which repositories they are.
#[derive(Debug, Clone)]
struct Entry {
    host: String,
    /// Empty for the whole host.
    path: String,
    credentials: Credentials,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    auths: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct RawEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl DockerConfig {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, DockerConfigError> {
        let io_error = |source| DockerConfigError::Io { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(io_error)?;
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(io_error)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(DockerConfigError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads the text of a file; `file` names it in messages.
    pub fn parse(text: &[u8], file: &str) -> Result<Self, DockerConfigError> {
        // The decoder's own message could quote a secret.
        let raw: RawFile = json::object(text).map_err(|error| DockerConfigError::Malformed {
            file: file.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
        let mut config = Self::default();
        for (key, value) in raw.auths.unwrap_or_default() {
            let provenance = format!("{file} (entry {key:?})");
            match config.entry(&key, value, &provenance) {
                Ok(entry) => config.entries.push(entry),
                Err(reason) => config.problems.push(DockerConfigProblem { key, reason }),
            }
        }
        Ok(config)
    }

    /// The entries that cannot be used.
    pub fn problems(&self) -> &[DockerConfigProblem] {
        &self.problems
    }

    /// The credentials for a repository: of the entry with the longest path that the repository's path starts
    /// with, component by component, else of the host; [`Credentials::Anonymous`] where there is none.
    pub fn credentials_for(&self, name: &Name) -> Credentials {
        self.entries
            .iter()
            .filter(|entry| entry.host == name.host() && is_path_prefix(&entry.path, name.path()))
            .max_by_key(|entry| entry.path.len())
            .map_or(Credentials::Anonymous, |entry| entry.credentials.clone())
    }

    fn entry(&self, key: &str, value: serde_json::Value, provenance: &str) -> Result<Entry, &'static str> {
        let (host, path) = host_and_path(key).ok_or("the key is not a registry")?;
        if self.entries.iter().any(|entry| entry.host == host && entry.path == path) {
            return Err("another entry is for the same registry");
        }
        let raw: RawEntry =
            serde_json::from_value(value).map_err(|_| "the entry is not an object of strings")?;
        let (username, password) = user_and_password(raw)?;
        let credentials =
            Credentials::Basic { username, password: Secret::new(password), provenance: provenance.into() };
        Ok(Entry { host, path, credentials })
    }
}

/// Reads a key: a host, a host with a path, or a URL; `https://index.docker.io/v1/` is Docker Hub's usual one.
fn host_and_path(key: &str) -> Option<(String, String)> {
    let key = key.trim();
    let (scheme, rest) = key.split_once("://").map_or((None, key), |(scheme, rest)| (Some(scheme), rest));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if scheme.is_some_and(|scheme| scheme != "https" && scheme != "http") {
        return None;
    }
    let host = canonical_host(host).ok()?;
    let path = path.trim_matches('/');
    // The version of the registry protocol, from the time when keys were the URLs of its root.
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    Some((host, path.to_owned()))
}

fn is_path_prefix(prefix: &str, path: &str) -> bool {
    prefix.is_empty()
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `auth` wins over `username` and `password`, as in docker.
fn user_and_password(raw: RawEntry) -> Result<(String, String), &'static str> {
    let (username, password) = if let Some(auth) = raw.auth.filter(|auth| !auth.is_empty()) {
        let decoded = BASE64.decode(auth.trim()).map_err(|_| "auth is not base64")?;
        let decoded = String::from_utf8(decoded).map_err(|_| "auth is not text")?;
        let (username, password) = decoded.split_once(':').ok_or("auth is not user:password")?;
        // Old versions of docker padded with zero bytes.
        (username.to_owned(), password.trim_end_matches('\0').to_owned())
    } else {
        (raw.username.unwrap_or_default(), raw.password.unwrap_or_default())
    };
    // Beside an identity token, which takes the password's place, stands a user name that is none.
    if password.is_empty() && raw.identitytoken.is_some_and(|token| !token.is_empty()) {
        return Err("identity tokens are not supported");
    }
    match (username.as_str(), password.as_str()) {
        ("", "") => Err("there are no credentials in it; credential helper programs are not run"),
        ("", _) => Err("the user name is empty"),
        _ => Ok((username, password)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DockerConfig {
        DockerConfig::parse(text.as_bytes(), "config.json").unwrap()
    }

    fn auth(credentials: &str) -> String {
        BASE64.encode(credentials)
    }

    /// User, password and provenance of the credentials for a repository.
    fn found(config: &DockerConfig, name: &str) -> Option<(String, String, String)> {
        match config.credentials_for(&name.parse().unwrap()) {
            Credentials::IdentityToken { .. } | Credentials::RegistryToken { .. } => panic!("{name}"),
            Credentials::Anonymous => None,
            Credentials::Basic { username, password, provenance } => {
                Some((username, password.reveal().to_owned(), provenance.to_string()))
            }
        }
    }

    fn user(config: &DockerConfig, name: &str) -> Option<String> {
        found(config, name).map(|(user, ..)| user)
    }

    #[test]
    fn docker_hub_by_all_its_names() {
        for key in [
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "https://registry-1.docker.io/v2/",
            "registry.hub.docker.com",
        ] {
            let text = format!(
                r#"{{"auths":{{"{key}":{{"auth":"{}"}}}},"credsStore":"desktop"}}"#,
                auth("alice:a:b")
            );
            let provenance = format!("config.json (entry {key:?})");
            assert_eq!(
                found(&config(&text), "alpine"),
                Some(("alice".to_owned(), "a:b".to_owned(), provenance)),
                "{key}"
            );
            assert_eq!(found(&config(&text), "quay.io/a/b"), None);
        }
    }

    #[test]
    fn the_longest_path_wins_then_the_host() {
        let config = config(
            r#"{"auths":{
                "quay.io":{"username":"host","password":"p"},
                "quay.io/team":{"username":"team","password":"p"},
                "https://quay.io/team/app/":{"username":"app","password":"p"},
                "Registry.Example:5000":{"username":"port","password":"p"},
                "https://[::1]:5000":{"username":"six","password":"p"},
                "https://tls.example:443/v2/":{"username":"tls","password":"p"}}}"#,
        );
        assert_eq!(config.problems(), []);
        for (name, expected) in [
            ("quay.io/other/app", Some("host")),
            ("quay.io/team/other", Some("team")),
            ("quay.io/team", Some("team")),
            ("quay.io/teamwork/app", Some("host")),
            ("quay.io/team/app", Some("app")),
            ("quay.io/team/app/sub", Some("app")),
            ("registry.example:5000/a", Some("port")),
            ("registry.example/a", None),
            ("[::1]:5000/a", Some("six")),
            ("tls.example/a", Some("tls")),
        ] {
            assert_eq!(user(&config, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn one_bad_entry_does_not_spoil_the_others() {
        let text = format!(
            r#"{{"auths":{{
                "a.example":{{"auth":"!"}},
                "b.example":{{"auth":"{}"}},
                "c.example":{{}},
                "d.example":7,
                "e.example":{{"identitytoken":"t"}},
                "f.example":{{"auth":"{}"}},
                "ftp://g.example":{{"username":"u","password":"p"}},
                "h.example":{{"auth":"{}"}},
                "https://h.example/":{{"auth":"{}"}},
                "i.example":{{"auth":"{}","username":"ignored","password":"ignored"}},
                "j.example":{{"username":null,"password":null,"auth":""}}}}}}"#,
            auth("no colon"),
            auth(":empty user"),
            auth("h:1"),
            auth("h:2"),
            auth("i:secret\0\0").trim_end_matches('='),
        );
        let config = config(&text);
        let problems: Vec<_> =
            config.problems().iter().map(|problem| (problem.key.as_str(), problem.reason)).collect();
        let none = "there are no credentials in it; credential helper programs are not run";
        assert_eq!(
            problems,
            [
                ("a.example", "auth is not base64"),
                ("b.example", "auth is not user:password"),
                ("c.example", none),
                ("d.example", "the entry is not an object of strings"),
                ("e.example", "identity tokens are not supported"),
                ("f.example", "the user name is empty"),
                ("ftp://g.example", "the key is not a registry"),
                ("https://h.example/", "another entry is for the same registry"),
                ("j.example", none),
            ]
        );
        assert_eq!(found(&config, "h.example/x").unwrap().1, "1");
        assert_eq!(found(&config, "i.example/x").unwrap().1, "secret");
    }

    #[test]
    fn an_identity_token_is_no_password() {
        let azure = auth("00000000-0000-0000-0000-000000000000:");
        let config = config(&format!(
            r#"{{"auths":{{
                "a.azurecr.example":{{"auth":"{azure}","identitytoken":"t"}},
                "b.example":{{"username":"u","identitytoken":"t"}},
                "c.example":{{"auth":"{}","identitytoken":"t"}}}}}}"#,
            auth("user:password"),
        ));
        let reason = "identity tokens are not supported";
        let problem = |key: &str| DockerConfigProblem { key: key.to_owned(), reason };
        assert_eq!(config.problems(), [problem("a.azurecr.example"), problem("b.example")]);
        assert_eq!(user(&config, "a.azurecr.example/x"), None);
        assert_eq!(user(&config, "c.example/x").as_deref(), Some("user"));
    }

    #[test]
    fn hosts_are_canonical_as_in_names() {
        let config = config(
            r#"{"auths":{
                "[0:0:0:0:0:0:0:1]:5000":{"username":"six","password":"p"},
                "Docker.IO:443":{"username":"hub","password":"p"},
                "https://up:443/v2/":{"username":"port","password":"p"},
                "https://":{"username":"u","password":"p"},
                "no host.example":{"username":"u","password":"p"},
                "nodot":{"username":"u","password":"p"},
                "a.example:0":{"username":"u","password":"p"}}}"#,
        );
        assert_eq!(user(&config, "[::1]:5000/a").as_deref(), Some("six"));
        assert_eq!(user(&config, "alpine").as_deref(), Some("hub"));
        assert_eq!(user(&config, "up:443/a").as_deref(), Some("port"));
        let keys: Vec<_> = config.problems().iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["a.example:0", "https://", "no host.example", "nodot"]);
        assert!(config.problems().iter().all(|problem| problem.reason == "the key is not a registry"));
    }

    #[test]
    fn files_without_credentials_and_files_that_are_none() {
        for text in ["{}", r#"{"auths":null}"#, r#"{"auths":{},"HttpHeaders":{}}"#] {
            assert_eq!(found(&config(text), "alpine"), None);
        }
        for text in ["", "[]", "{", r#"{"auths":["topsecret"]}"#] {
            let error = DockerConfig::parse(text.as_bytes(), "config.json").unwrap_err().to_string();
            assert!(
                error.starts_with("config.json is not a docker configuration")
                    && !error.contains("topsecret")
            );
        }
    }

    #[test]
    fn secrets_do_not_print_themselves() {
        let config =
            config(&format!(r#"{{"auths":{{"a.example":{{"auth":"{}"}}}}}}"#, auth("alice:topsecret")));
        assert!(!format!("{config:?}").contains("topsecret"));
    }

    #[test]
    fn reads_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let error = DockerConfig::read(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
        std::fs::write(&path, r#"{"auths":{"a.example":{"username":"u","password":"p"}}}"#).unwrap();
        assert_eq!(user(&DockerConfig::read(&path).unwrap(), "a.example/x").as_deref(), Some("u"));
        std::fs::write(&path, vec![b' '; 1024 * 1024 + 1]).unwrap();
        assert!(matches!(DockerConfig::read(&path), Err(DockerConfigError::TooLarge { .. })));
    }
}
