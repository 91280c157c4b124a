//! The options behind the question mark of a store URL.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::error::quoted;
use crate::config::values::{existing_file, parse_duration, shown};
use crate::percent::{decode, encode};

/// What our keys begin with, where nothing else is chosen.
pub(super) const DEFAULT_PREFIX: &str = "samovar|";
/// For connecting and for one operation, where nothing else is chosen.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// For connecting and for one operation.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(1);
/// Bytes of a prefix: leaves most of the 250 that a memcached key may have to the key itself.
const MAX_PREFIX_LENGTH: usize = 64;

/// The options that every store on other machines has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CommonOptions {
    pub(super) prefix: String,
    pub(super) connect_timeout: Duration,
    pub(super) operation_timeout: Duration,
}

impl CommonOptions {
    /// Those that are not as they are by default, as they are written in a URL.
    pub(super) fn written(&self) -> Vec<String> {
        let mut written = Vec::new();
        if self.prefix != DEFAULT_PREFIX {
            written.push(format!("prefix={}", encode(&self.prefix)));
        }
        if self.operation_timeout != DEFAULT_TIMEOUT {
            written.push(format!("timeout={}", shown(self.operation_timeout)));
        }
        if self.connect_timeout != DEFAULT_TIMEOUT {
            written.push(format!("connect_timeout={}", shown(self.connect_timeout)));
        }
        written
    }
}

/// `?option=value&…`, or nothing.
pub(super) fn query(written: &[String]) -> String {
    if written.is_empty() { String::new() } else { format!("?{}", written.join("&")) }
}

/// Options that are being read: they are taken out, and [`Options::finish`] refuses those that are left.
#[derive(Debug)]
pub(super) struct Options {
    given: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

impl Options {
    /// Reads `option=value&…`, percent-encoded.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut given = BTreeMap::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option
                .split_once('=')
                .ok_or_else(|| format!("the option {} has no value", quoted(option)))?;
            let value = decode(value)
                .ok_or_else(|| format!("the option {} has a broken percent-encoding", quoted(name)))?;
            if given.insert(name.to_owned(), value.into_owned()).is_some() {
                return Err(format!("the option {} is given twice", quoted(name)));
            }
        }
        Ok(Self { given, known: Vec::new() })
    }

    /// The options that every store has.
    pub(super) fn common(&mut self) -> Result<CommonOptions, String> {
        Ok(CommonOptions {
            prefix: self.prefix()?,
            connect_timeout: self.timeout("connect_timeout")?,
            operation_timeout: self.timeout("timeout")?,
        })
    }

    /// An option that is `true` or `false`, by default `false`.
    pub(super) fn truth(&mut self, name: &'static str) -> Result<bool, String> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(format!("{name}: {} is neither true nor false", quoted(other))),
        }
    }

    /// An option that names a file, which must be there.
    pub(super) fn file(&mut self, name: &'static str) -> Result<Option<PathBuf>, String> {
        let Some(path) = self.take(name) else { return Ok(None) };
        existing_file(&path).map(Some).map_err(|reason| format!("{name}: {reason}"))
    }

    /// The text of an option.
    fn take(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.given.remove(name)
    }

    /// Refuses what was not asked for. Its value is not shown: it may be a password.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let Some(name) = self.given.keys().next() else { return Ok(()) };
        self.known.sort_unstable();
        Err(format!("unknown option {}; known here: {}", quoted(name), self.known.join(", ")))
    }

    fn prefix(&mut self) -> Result<String, String> {
        let Some(prefix) = self.take("prefix") else { return Ok(DEFAULT_PREFIX.to_owned()) };
        if prefix.len() > MAX_PREFIX_LENGTH {
            return Err(format!("prefix: longer than {MAX_PREFIX_LENGTH} bytes"));
        }
        if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("prefix: {} has more than printable ASCII without spaces", quoted(&prefix)));
        }
        Ok(prefix)
    }

    fn timeout(&mut self, name: &'static str) -> Result<Duration, String> {
        let Some(text) = self.take(name) else { return Ok(DEFAULT_TIMEOUT) };
        parse_duration(&text, TIMEOUTS).map_err(|reason| format!("{name}: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(query: &str) -> Result<CommonOptions, String> {
        let mut options = Options::parse(query)?;
        let common = options.common()?;
        options.finish().map(|()| common)
    }

    #[test]
    fn options_have_defaults_and_are_written_back() {
        let defaults = common("").unwrap();
        let second = Duration::from_secs(1);
        let expected = CommonOptions {
            prefix: "samovar|".to_owned(),
            connect_timeout: second,
            operation_timeout: second,
        };
        assert_eq!(defaults, expected);
        assert_eq!(query(&defaults.written()), "");
        let chosen = common("connect_timeout=10ms&timeout=1m&prefix=a%26b%25").unwrap();
        assert_eq!(chosen.prefix, "a&b%");
        assert_eq!(common(query(&chosen.written()).trim_start_matches('?')).unwrap(), chosen);
        assert_eq!(common("prefix=").unwrap().prefix, "", "nothing at all is allowed");
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        let long = format!("prefix={}", "x".repeat(65));
        for (query, reason) in [
            ("timeout", "the option \"timeout\" has no value"),
            ("retries=3", "unknown option \"retries\"; known here: connect_timeout, prefix, timeout"),
            ("prefix=a&prefix=b", "the option \"prefix\" is given twice"),
            ("prefix=%4", "the option \"prefix\" has a broken percent-encoding"),
            ("prefix=a%20b", "prefix: \"a b\" has more than printable ASCII without spaces"),
            ("prefix=%C3%A4", "prefix: \"ä\" has more than printable ASCII"),
            (&long, "prefix: longer than 64 bytes"),
            ("timeout=5", "timeout: \"5\" is not a duration such as 90s, 5m or 1h30m"),
            ("timeout=0s", "timeout: \"0s\" is out of bounds: from 10ms to 1m"),
            ("connect_timeout=1h", "connect_timeout: \"1h\" is out of bounds"),
        ] {
            let refused = common(query).unwrap_err();
            assert!(refused.starts_with(reason), "{query}: {refused}");
        }
    }

    #[test]
    fn truths_are_written_out() {
        let truth = |query: &str| Options::parse(query).unwrap().truth("tls");
        assert_eq!((truth(""), truth("tls=true"), truth("tls=false")), (Ok(false), Ok(true), Ok(false)));
        assert_eq!(truth("tls=1").unwrap_err(), "tls: \"1\" is neither true nor false");
    }
}
