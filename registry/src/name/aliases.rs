//! Short names that stand for upstream hosts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{check_component, host};
use crate::parse::{Fault, ParseError};

/// Words that mean something else where an alias would stand.
const RESERVED_WORDS: [&str; 4] = ["localhost", "library", "v2", "_catalog"];

/// Longest alias, in bytes.
const MAX_ALIAS_LENGTH: usize = 63;

/// Which short names stand for which hosts. None by default; cheap to clone.
///
/// An alias is read as its host where it is the first of at least two components of a name, and wins over a
/// Docker Hub organisation of that name. Clients that cannot write a port into a path need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases(Arc<BTreeMap<Box<str>, Box<str>>>);

impl Aliases {
    /// Reads aliases written `NAME=HOST[:PORT]`.
    ///
    /// A name is one path component of at most 63 bytes without dots, none of the words `localhost`, `library`,
    /// `v2` and `_catalog`, and stands for one host only.
    pub fn parse<S: AsRef<str>>(written: impl IntoIterator<Item = S>) -> Result<Self, ParseError> {
        let mut hosts = BTreeMap::new();
        for entry in written {
            let entry = entry.as_ref();
            let (alias, host) = parse_entry(entry).map_err(|fault| fault.in_input("alias", entry))?;
            if hosts.insert(alias.into(), host.into_boxed_str()).is_some() {
                return Err(Fault::new(0, "the alias is given twice").in_input("alias", entry));
            }
        }
        Ok(Self(Arc::new(hosts)))
    }

    /// The canonical host that the alias stands for.
    pub fn host_of(&self, alias: &str) -> Option<&str> {
        self.0.get(alias).map(AsRef::as_ref)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse_entry(entry: &str) -> Result<(&str, String), Fault> {
    let Some((alias, host)) = entry.split_once('=') else {
        return Err(Fault::new(entry.len(), "an alias is written NAME=HOST"));
    };
    if alias.is_empty() {
        return Err(Fault::new(0, "the name before the '=' is empty"));
    }
    if RESERVED_WORDS.contains(&alias) {
        return Err(Fault::new(0, format!("{alias} is a reserved word")));
    }
    if let Some(offset) = alias.find(['.', ':']) {
        return Err(Fault::new(offset, "an alias must not hold a dot or a colon"));
    }
    check_component(alias)?;
    if alias.len() > MAX_ALIAS_LENGTH {
        return Err(Fault::new(MAX_ALIAS_LENGTH, "an alias must not be longer than 63 bytes"));
    }
    let host = host::canonical(host).map_err(|fault| fault.shifted(alias.len() + 1))?;
    Ok((alias, host))
}
