//! Where the store is: one URL, whatever the kind of store.
//!
//! `Display` writes a URL back as it was understood, ports filled in, with `…` in the place of a password. No
//! message of a refusal holds anything that may be a part of one.

mod address;
mod error;
mod memcached;
mod options;
mod redis;
mod remote;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use self::error::without_secrets;
use self::remote::Form;
use super::flags::Environment;
use crate::store::{MemcachedOptions, RedisOptions};

pub use error::StoreUrlError;

/// The directory of the default embedded store, below the one that the environment names.
const DEFAULT_DIRECTORY: &str = "store";

/// A validated `--store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `embedded:PATH`: a directory of our own; relative to the working directory where the path is relative.
    Embedded(PathBuf),
    /// `memory:`: gone when the process ends.
    Memory,
    /// `memcached://…`, `memcached+srv://…`: a pool of servers that may forget anything at any time.
    Memcached(MemcachedOptions),
    /// `redis://…`, `rediss://…`, `redis-cluster://…`, `redis-sentinel://…`.
    Redis(RedisOptions),
}

impl StoreUrl {
    /// How a store URL may be written, for whoever wrote something else.
    pub const FORMS: &str = "embedded:PATH, memory:, memcached://HOST[:PORT],…, memcached+srv://NAME, \
        redis://HOST[:PORT], rediss://HOST[:PORT], redis-cluster://HOST[:PORT],…, \
        redis-sentinel://HOST[:PORT],…/SERVICE";

    /// Whether the store is reached over the network, so that a local tier makes sense before it.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Memcached(_) | Self::Redis(_))
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
            Self::Memcached(options) => memcached::write(options, f),
            Self::Redis(options) => redis::write(options, f),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(url: &str) -> Result<Self, StoreUrlError> {
        let unknown = || StoreUrlError::Unknown { shown: without_secrets(url) };
        let (scheme, rest) = url.split_once(':').ok_or_else(unknown)?;
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => Err(StoreUrlError::MemoryWithPath),
            "embedded" => embedded(rest),
            _ => remote(Form::of_scheme(scheme).ok_or_else(unknown)?, rest),
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

fn remote(form: Form, rest: &str) -> Result<StoreUrl, StoreUrlError> {
    let parsed = match form {
        Form::Memcached | Form::MemcachedSrv => memcached::parse(form, rest).map(StoreUrl::Memcached),
        Form::Redis | Form::RedisTls | Form::RedisCluster | Form::RedisSentinel => {
            redis::parse(form, rest).map(StoreUrl::Redis)
        }
    };
    parsed.map_err(|reason| StoreUrlError::Remote { reason, form: form.shown() })
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
        for url in [
            "memory:",
            "embedded:/var/lib/store",
            "embedded:data/store",
            "memcached://a:11211,b:11212",
            "memcached://[2001:db8::1]:11211?prefix=team-a|&timeout=250ms&connect_timeout=2s",
            "memcached+srv://_memcached._tcp.cache.example",
            "redis://h:6379",
            "redis://127.0.0.1:6380/3?prefix=",
            "rediss://h:6379/1",
            "redis-cluster://a:7000,b:7001?tls=true",
            "redis-sentinel://s1:26379,s2:26380/primary/2?timeout=3s&tls=true",
        ] {
            let parsed: StoreUrl = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(parsed.to_string(), url);
        }
    }

    #[test]
    fn stores_elsewhere_are_remote() {
        for (url, is_remote) in [("memory:", false), ("embedded:x", false), ("memcached://h", true)] {
            assert_eq!(url.parse::<StoreUrl>().unwrap().is_remote(), is_remote, "{url}");
        }
    }

    #[test]
    fn passwords_become_an_ellipsis() {
        for (url, shown) in [
            ("redis://:hunter2@h", "redis://:…@h:6379"),
            ("rediss://me:hunter2@h/2", "rediss://me:…@h:6379/2"),
            ("redis-cluster://us%40er:hunter2@h", "redis-cluster://us%40er:…@h:6379"),
            ("redis-sentinel://:hunter2@h/primary", "redis-sentinel://:…@h:26379/primary"),
        ] {
            let parsed: StoreUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert!(!format!("{parsed:?}").contains("hunter2"), "{parsed:?}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (url, reason) in [
            ("", "\"\" is not a store; known are embedded:PATH, memory:, memcached://"),
            ("memory", "\"memory\" is not a store; known are"),
            ("sqlite:/tmp/x", "\"sqlite:/tmp/x\" is not a store"),
            ("Memory:", "\"Memory:\" is not a store"),
            ("REDIS://h", "\"REDIS://h\" is not a store"),
            ("memory:x", "memory: takes no path"),
            ("embedded:", "embedded: needs the path of a directory"),
            ("embedded:///var/lib", "the path follows the colon at once"),
            ("embedded:~/x", "~ is not expanded"),
            ("redis:h", "// must follow the colon; the form is redis://"),
        ] {
            let error = url.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.starts_with(reason), "{url}: {error}");
        }
    }

    /// Wherever a password may have slipped to in a URL that is wrong.
    #[test]
    fn secrets_are_not_shown() {
        for url in [
            "rediss2://user:hunter2@host/0",
            "//user:hunter2@host",
            "etcd://host?password=hunter2",
            "etcd://host?password=hun@hunter2",
            "redis://hunter2@host",
            "redis://:hunter2@host:port",
            "redis://:hunter2@host/database",
            "redis://:hunter2@host?option=1",
            "redis://:hun/hunter2@host",
            "redis://:hun?hunter2=x@host",
            "redis://:hun#hunter2@host",
            "redis://:hun@hunter2/x@host",
            "redis://:hunter2%zz@host",
            "redis://:hunter2%ff@host",
            "redis-cluster://:hunter2@host/3",
            "redis-sentinel://:hunter2@host",
            "memcached://:hunter2@host",
            "memcached+srv://:hunter2@host",
            "redis://host?password=hunter2",
            "redis://host?timeout=hunter2&prefix=a b",
        ] {
            let error = url.parse::<StoreUrl>().unwrap_err().to_string();
            let shown = error.contains("hunter2") && !url.contains("timeout=hunter2");
            assert!(!shown, "{url}: {error}");
        }
        let error = "rediss2://user:hunter2@host/0".parse::<StoreUrl>().unwrap_err().to_string();
        assert!(error.starts_with("\"rediss2://…@host/0\" is not a store"), "{error}");
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
