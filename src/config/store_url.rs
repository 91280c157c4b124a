//! Where the store is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::error::quoted;
use super::flags::Environment;

/// The schemes that name stores of a later version.
const LATER_SCHEMES: [&str; 6] =
    ["memcached", "memcached+srv", "redis", "rediss", "redis-cluster", "redis-sentinel"];

/// The directory of the default embedded store, below the one that the environment names.
const DEFAULT_DIRECTORY: &str = "store";

/// A validated `--store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `embedded:PATH`: a directory of our own; relative to the working directory where the path is relative.
    Embedded(PathBuf),
    /// `memory:`: gone when the process ends.
    Memory,
}

impl StoreUrl {
    /// The kind of store: the URL's scheme.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::Memory => "memory",
        }
    }

    /// The embedded store in the first of these places that the environment names: `$STATE_DIRECTORY` (of several,
    /// separated by colons as systemd does, the first), `$XDG_DATA_HOME/samovar`, `$HOME/.local/share/samovar`.
    pub fn default_in(environment: Environment<'_>) -> Result<Self, StoreUrlError> {
        let state = environment("STATE_DIRECTORY").and_then(|list| list.split(':').next().map(PathBuf::from));
        let data = || environment("XDG_DATA_HOME").map(PathBuf::from);
        let home = || environment("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        // A relative XDG directory is to be ignored (XDG base directory specification); an empty one is relative.
        let usable = |path: &PathBuf| path.is_absolute();
        let directory = state.filter(usable).or_else(|| {
            let data = data().filter(usable).or_else(|| home().filter(usable));
            data.map(|data| data.join("samovar"))
        });
        directory
            .map(|directory| Self::Embedded(directory.join(DEFAULT_DIRECTORY)))
            .ok_or(StoreUrlError::Homeless)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => write!(f, "embedded:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(url: &str) -> Result<Self, StoreUrlError> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(StoreUrlError::Unknown { shown: without_secrets(url) });
        };
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => Err(StoreUrlError::MemoryWithPath),
            "embedded" => embedded(rest),
            later if LATER_SCHEMES.contains(&later) => Err(StoreUrlError::Later { scheme: later.to_owned() }),
            _ => Err(StoreUrlError::Unknown { shown: without_secrets(url) }),
        }
    }
}

fn embedded(path: &str) -> Result<StoreUrl, StoreUrlError> {
    if path.is_empty() {
        return Err(StoreUrlError::NoPath);
    }
    if path.starts_with("//") {
        return Err(StoreUrlError::Slashes);
    }
    if path.starts_with('~') {
        return Err(StoreUrlError::Tilde);
    }
    Ok(StoreUrl::Embedded(PathBuf::from(path)))
}

/// Why a store URL was refused. Passwords in it are not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// A store of the contract that this version does not have.
    #[error("{scheme} stores are not supported in this version; use embedded:PATH or memory:")]
    Later {
        /// The URL's scheme.
        scheme: String,
    },
    /// Not a store URL.
    #[error(
        "{shown} is not a store; known are embedded:PATH and memory: \
         (and memcached://, memcached+srv://, redis://, rediss://, redis-cluster://, redis-sentinel://, \
         not supported in this version)"
    )]
    Unknown {
        /// The value, quoted, without what may be a password.
        shown: String,
    },
    /// `embedded:` alone.
    #[error("embedded: needs the path of a directory, such as embedded:/var/lib/samovar/store")]
    NoPath,
    /// `embedded://…`.
    #[error("the path follows the colon at once, as in embedded:/var/lib/samovar/store")]
    Slashes,
    /// `embedded:~…`, where no shell expands it.
    #[error("~ is not expanded inside a store URL, write the whole path")]
    Tilde,
    /// `memory:` with something behind it.
    #[error("memory: takes no path")]
    MemoryWithPath,
    /// There is no place for the default store.
    #[error(
        "no directory for the embedded store: set --store, or one of $STATE_DIRECTORY, $XDG_DATA_HOME, $HOME"
    )]
    Homeless,
}

/// A URL fit for a message: no user, no password, no query.
fn without_secrets(url: &str) -> String {
    let without_query = url.split('?').next().unwrap_or_default();
    match without_query.rsplit_once('@') {
        Some((_, host)) => quoted(&format!("…@{host}")),
        None => quoted(without_query),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default_with(variables: &[(&str, &str)]) -> Result<String, StoreUrlError> {
        let lookup =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        StoreUrl::default_in(&lookup).map(|url| url.to_string())
    }

    #[test]
    fn what_is_known_survives_display() {
        for url in ["memory:", "embedded:/var/lib/store", "embedded:data/store"] {
            assert_eq!(url.parse::<StoreUrl>().unwrap().to_string(), url);
        }
        assert_eq!("memory:".parse::<StoreUrl>().unwrap().kind(), "memory");
        assert_eq!("embedded:x".parse::<StoreUrl>().unwrap().kind(), "embedded");
    }

    #[test]
    fn stores_of_later_versions_are_recognised() {
        for url in [
            "memcached://a:11211,b:11211",
            "memcached+srv://memcached.default",
            "redis://:secret@h",
            "rediss://h",
            "redis-cluster://h:1,i:2",
            "redis-sentinel://h",
        ] {
            let error = url.parse::<StoreUrl>().unwrap_err().to_string();
            let scheme = url.split(':').next().unwrap();
            assert_eq!(
                error,
                format!("{scheme} stores are not supported in this version; use embedded:PATH or memory:")
            );
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (url, reason) in [
            ("", "\"\" is not a store; known are embedded:PATH and memory:"),
            ("memory", "\"memory\" is not a store; known are"),
            ("sqlite:/tmp/x", "\"sqlite:/tmp/x\" is not a store"),
            ("Memory:", "\"Memory:\" is not a store"),
            ("memory:x", "memory: takes no path"),
            ("embedded:", "embedded: needs the path of a directory"),
            ("embedded:///var/lib", "the path follows the colon at once"),
            ("embedded:~/x", "~ is not expanded"),
        ] {
            let error = url.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.starts_with(reason), "{url}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        for url in ["rediss2://user:hunter2@host/0", "//user:hunter2@host", "etcd://host?password=hunter2"] {
            let error = url.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("host"), "{error}");
        }
    }

    #[test]
    fn the_default_follows_the_environment() {
        let all = [("STATE_DIRECTORY", "/state:/other"), ("XDG_DATA_HOME", "/xdg"), ("HOME", "/home/me")];
        assert_eq!(default_with(&all).unwrap(), "embedded:/state/store");
        assert_eq!(default_with(&all[1..]).unwrap(), "embedded:/xdg/samovar/store");
        assert_eq!(default_with(&all[2..]).unwrap(), "embedded:/home/me/.local/share/samovar/store");
        assert_eq!(default_with(&[]), Err(StoreUrlError::Homeless));
        assert_eq!(
            default_with(&[("STATE_DIRECTORY", ""), ("XDG_DATA_HOME", "relative"), ("HOME", "/h")]).unwrap(),
            "embedded:/h/.local/share/samovar/store"
        );
    }
}
