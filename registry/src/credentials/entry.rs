//! One entry of an `auths` section.

use std::sync::Arc;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::Credentials;
use super::scope::{Scope, Scoped};
use crate::Secret;
use crate::words::printable;

/// How many entries of one document are read.
const MAX_ENTRIES: usize = 4_096;

/// In the place of a user's name: what stands in the password's place is an identity token.
const TOKEN_USER: &str = "<token>";

/// Padding may be missing: hand-made files exist.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The entries of an `auths` section by their keys, whatever they are.
pub(super) type RawAuths = std::collections::BTreeMap<String, serde_json::Value>;

/// An entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{section}[{key:?}]: {reason}")]
pub struct EntryProblem {
    /// The section of the document.
    pub section: &'static str,
    /// Its key there, without a login in it, cut to a bound.
    pub key: String,
    /// Why.
    pub reason: &'static str,
}

impl EntryProblem {
    pub(super) fn new(section: &'static str, key: &str, reason: &'static str) -> Self {
        Self { section, key: shown_key(key), reason }
    }
}

/// A key as it may be shown: one that was made of a URL with a login in it is shown without that. No registry and no path has
/// an `@`.
fn shown_key(key: &str) -> String {
    let Some((login, rest)) = key.rsplit_once('@') else { return printable(key) };
    let scheme = login.split_once("://").map_or("", |(scheme, _)| scheme);
    let scheme = if matches!(scheme, "https" | "http") { format!("{scheme}://") } else { String::new() };
    printable(&format!("{scheme}…@{rest}"))
}

#[derive(Deserialize)]
struct RawEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Reads an `auths` section; `file` names the document in messages. Entries without credentials, which docker leaves where
/// a program keeps them, are problems only where `may_be_empty` does not hold. One bad entry never spoils the others.
pub(super) fn read_auths(
    auths: RawAuths,
    file: &str,
    may_be_empty: bool,
    problems: &mut Vec<EntryProblem>,
) -> Scoped<Credentials> {
    let mut scoped = Scoped::default();
    for (number, (key, value)) in auths.into_iter().enumerate() {
        let read =
            if number < MAX_ENTRIES { entry(&key, value, file) } else { Err("there are too many entries") };
        match read {
            Ok((_, credentials)) if credentials.is_empty() && !may_be_empty => {
                problems.push(EntryProblem::new("auths", &key, "there are no credentials in it"));
            }
            Ok((scope, credentials)) => {
                for credentials in credentials {
                    scoped.insert(scope.clone(), credentials);
                }
            }
            Err(reason) => {
                problems.push(EntryProblem::new("auths", &key, reason));
                if number >= MAX_ENTRIES {
                    break;
                }
            }
        }
    }
    scoped
}

fn entry(key: &str, value: serde_json::Value, file: &str) -> Result<(Scope, Vec<Credentials>), &'static str> {
    let scope = Scope::parse(key).ok_or("the key is not a registry")?;
    let raw: RawEntry = serde_json::from_value(value).map_err(|_| "the entry is not an object of strings")?;
    let provenance = format!("{file} (entry {:?})", shown_key(key)).into();
    Ok((scope, raw.into_credentials(&provenance)?))
}

impl RawEntry {
    /// What there is to try: tokens before the password, as in docker.
    fn into_credentials(self, provenance: &Arc<str>) -> Result<Vec<Credentials>, &'static str> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty()).map(Secret::new);
        let registry_token = given(&self.registrytoken);
        let registry_token = registry_token
            .map(|token| Credentials::RegistryToken { token, provenance: Arc::clone(provenance) });
        let identity_token = given(&self.identitytoken);
        let identity_token = identity_token
            .map(|token| Credentials::IdentityToken { token, provenance: Arc::clone(provenance) });
        let mut found: Vec<Credentials> = registry_token.into_iter().chain(identity_token).collect();
        match self.user_and_password() {
            // Beside a token stands a user name that is none.
            Ok((_, password)) if password.is_empty() && !found.is_empty() => {}
            Ok((username, password)) => found.extend(login(username, password, provenance)?),
            Err(reason) if found.is_empty() => return Err(reason),
            Err(_) => {}
        }
        Ok(found)
    }

    /// `auth` wins over `username` and `password`, as in docker.
    fn user_and_password(self) -> Result<(String, String), &'static str> {
        let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) else {
            return Ok((self.username.unwrap_or_default(), self.password.unwrap_or_default()));
        };
        let decoded = BASE64.decode(auth.trim()).map_err(|_| "auth is not base64")?;
        let decoded = String::from_utf8(decoded).map_err(|_| "auth is not text")?;
        let (username, password) = decoded.split_once(':').ok_or("auth is not user:password")?;
        // Old versions of docker padded with zero bytes.
        Ok((username.to_owned(), password.trim_end_matches('\0').to_owned()))
    }
}

/// The credentials that a user's name and a password, or what stands in their places, are. Nothing where both are empty.
pub(super) fn login(
    username: String,
    password: String,
    provenance: &Arc<str>,
) -> Result<Option<Credentials>, &'static str> {
    let provenance = Arc::clone(provenance);
    match (username.as_str(), password.as_str()) {
        ("", "") => Ok(None),
        ("", _) => Err("the user name is empty"),
        (TOKEN_USER, "") => Err("the token is empty"),
        (TOKEN_USER, _) => Ok(Some(Credentials::IdentityToken { token: Secret::new(password), provenance })),
        _ => Ok(Some(Credentials::Basic { username, password: Secret::new(password), provenance })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_a_key_is_not_shown() {
        for (key, shown) in [
            ("https://ci:topsecret@registry.example/team", "https://…@registry.example/team"),
            ("ci:topsecret@registry.example", "…@registry.example"),
            ("http://ci:top/s@cret@registry.example", "http://…@registry.example"),
            ("topsecret://x@registry.example", "…@registry.example"),
            ("https://registry.example/ci:topsecret@team", "https://…@team"),
            ("registry.example:5000/team", "registry.example:5000/team"),
        ] {
            let entry = serde_json::json!({"username": "u", "password": "p"});
            let auths = RawAuths::from([(key.to_owned(), entry)]);
            let mut problems = Vec::new();
            let credentials = read_auths(auths, "config.json", false, &mut problems);
            assert_eq!(shown_key(key), shown);
            let told = format!("{problems:?} {:?}", credentials.iter().collect::<Vec<_>>());
            assert!(
                told.contains(shown) && !told.contains("ci:top") && !told.contains("topsecret"),
                "{told}"
            );
        }
    }
}
