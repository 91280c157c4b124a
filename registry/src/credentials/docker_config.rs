//! Docker's `config.json`: `auths`, `credHelpers` and `credsStore`.
//!
//! One entry that cannot be used never spoils the others: it is reported by its key. Nothing is run here: which programs
//! to ask is told, in docker's order.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Credentials;
use super::entry::{EntryProblem, RawAuths, read_auths};
use super::helper::{HelperName, HelperServer};
use super::scope::{Scope, Scoped};
use crate::Name;
use crate::json;

/// How many entries of `credHelpers` are read.
const MAX_CREDENTIAL_HELPERS: usize = 1_024;

/// The credentials of one `config.json`, and the programs that have more.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {
    auths: Scoped<Credentials>,
    /// No helper: docker keeps the credentials of this registry in the file, whatever the store is.
    helpers: Scoped<Option<HelperServer>>,
    store: Option<HelperName>,
    problems: Vec<EntryProblem>,
}

/// The file as a whole is not a docker configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} is not a docker configuration: at line {line}, column {column}")]
pub struct DockerConfigError {
    /// The file.
    pub file: String,
    /// Where.
    pub line: usize,
    /// Where.
    pub column: usize,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    auths: Option<RawAuths>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default, rename = "credsStore")]
    store: Option<serde_json::Value>,
}

impl DockerConfig {
    /// Reads the text of a file; `file` names it in messages.
    pub fn parse(text: &[u8], file: &str) -> Result<Self, DockerConfigError> {
        // The decoder's own message could quote a secret.
        let raw: RawFile = json::object(text).map_err(|error| DockerConfigError {
            file: file.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
        let mut problems = Vec::new();
        let has_programs =
            raw.store.is_some() || raw.helpers.as_ref().is_some_and(|helpers| !helpers.is_empty());
        let auths = read_auths(raw.auths.unwrap_or_default(), file, has_programs, &mut problems);
        let helpers = read_helpers(raw.helpers.unwrap_or_default(), &mut problems);
        let store = raw.store.and_then(|store| match helper_name(&store) {
            Ok(name) => name,
            Err(reason) => {
                problems.push(EntryProblem::new("credsStore", "", reason));
                None
            }
        });
        Ok(Self { auths, helpers, store, problems })
    }

    /// The entries that cannot be used.
    pub fn problems(&self) -> &[EntryProblem] {
        &self.problems
    }

    /// The credentials in the file that fit a repository: those of the entry with the longest path that the repository's
    /// path starts with, component by component, first; those of the whole host last.
    pub fn credentials_for(&self, name: &Name) -> Vec<Credentials> {
        self.auths.fitting(name).into_iter().map(|(_, credentials)| credentials.clone()).collect()
    }

    /// The programs to ask for a repository's credentials, and what to ask them for, before the file: the host's own, then
    /// the store of all.
    pub(super) fn helpers_for(&self, name: &Name) -> Vec<HelperServer> {
        let own = self.helpers.fitting(name);
        let is_kept_in_file = own.iter().any(|(_, helper)| helper.is_none());
        let mut helpers: Vec<HelperServer> =
            own.into_iter().filter_map(|(_, helper)| helper.clone()).collect();
        if !is_kept_in_file {
            helpers.extend(self.store.iter().map(|store| HelperServer::of(store.clone(), name.host())));
        }
        helpers
    }

    /// The programs that the file names.
    pub(super) fn helper_names(&self) -> impl Iterator<Item = &HelperName> {
        self.helpers.iter().flatten().map(|helper| &helper.helper).chain(&self.store)
    }
}

fn read_helpers(
    raw: BTreeMap<String, serde_json::Value>,
    problems: &mut Vec<EntryProblem>,
) -> Scoped<Option<HelperServer>> {
    let mut helpers = Scoped::default();
    for (number, (key, value)) in raw.into_iter().enumerate() {
        let server = || {
            let scope = Scope::parse(&key).ok_or("the key is not a registry")?;
            let server = scope.canonical().ok_or("a program cannot be asked for a host with wildcards")?;
            if number >= MAX_CREDENTIAL_HELPERS {
                return Err("there are too many entries");
            }
            let helper = helper_name(&value)?;
            Ok((scope, helper.map(|helper| HelperServer::of(helper, &server))))
        };
        match server() {
            Ok((scope, helper)) => helpers.insert(scope, helper),
            Err(reason) => {
                problems.push(EntryProblem::new("credHelpers", &key, reason));
                if number >= MAX_CREDENTIAL_HELPERS {
                    break;
                }
            }
        }
    }
    helpers
}

/// The name of a helper; nothing where it is empty.
fn helper_name(value: &serde_json::Value) -> Result<Option<HelperName>, &'static str> {
    match value.as_str() {
        Some("") => Ok(None),
        Some(name) => name.parse().map(Some).map_err(|_| "it is not the name of a credential helper"),
        None => Err("it is not the name of a credential helper"),
    }
}

#[cfg(test)]
mod tests;
