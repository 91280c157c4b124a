//! What the configuration says to log in with for single repositories.

use std::sync::Arc;

use samovar_registry::Secret;
use samovar_registry::credentials::{Login, RepositoryCredentials, SecretSource};

use super::error::{Origin, Problems, quoted};
use super::flags::{Environment, variable};
use super::settings::{CredentialSetting, SecretSettings, Setting};
use super::{validate, values};

/// What begins the names of samovar's own variables, none of which is somebody's password.
const OWN_VARIABLES: &str = "SAMOVAR_";

/// The entries of `credentials`, in the order of the file.
pub(super) fn repository_credentials(
    settings: &[CredentialSetting],
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Vec<RepositoryCredentials> {
    settings.iter().filter_map(|setting| entry(setting, environment, problems)).collect()
}

fn entry(
    setting: &CredentialSetting,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<RepositoryCredentials> {
    let repositories = setting.repositories.as_ref()?;
    if repositories.is_empty() {
        problems.add(&setting.origin, "repositories is an empty list, so that no repository would be meant");
    }
    let repositories = validate::globs(repositories, problems);
    let login = login(setting, environment, problems)?;
    Some(RepositoryCredentials {
        repositories,
        login,
        only: setting.only,
        provenance: provenance(&setting.origin),
    })
}

/// Exactly one way to log in has to be written.
fn login(
    setting: &CredentialSetting,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<Login> {
    let ways = [
        (setting.username.is_some() || setting.password.is_some(), "a user with a password"),
        (setting.identity_token.is_some(), "an identity token"),
        (setting.registry_token.is_some(), "a registry token"),
        (setting.helper.is_some(), "a helper"),
        (setting.anonymous, "anonymous"),
    ];
    let written: Vec<&str> =
        ways.into_iter().filter_map(|(is_written, way)| is_written.then_some(way)).collect();
    if written.len() != 1 {
        let found = if written.is_empty() { "nothing".to_owned() } else { written.join(", ") };
        let reason = format!(
            "one thing to log in with is needed (username and a password, identity_token_file, identity_token_env, \
             registry_token_file, registry_token_env, helper, or anonymous = true), found {found}"
        );
        problems.add(&setting.origin, reason);
        return None;
    }
    let mut secret = |settings, keys| secret_source(settings, keys, &setting.origin, environment, problems);
    if setting.identity_token.is_some() {
        return secret(&setting.identity_token, "identity_token_file and identity_token_env")
            .map(Login::IdentityToken);
    }
    if setting.registry_token.is_some() {
        return secret(&setting.registry_token, "registry_token_file and registry_token_env")
            .map(Login::RegistryToken);
    }
    if let Some(helper) = &setting.helper {
        return problems.keep(&helper.origin, helper.value.parse()).map(Login::Helper);
    }
    if setting.anonymous {
        return Some(Login::Anonymous);
    }
    let password = secret(&setting.password, "password, password_file and password_env");
    let username = username(setting.username.as_ref(), &setting.origin, problems)?;
    Some(Login::Basic { username, password: password? })
}

fn username(setting: Option<&Setting>, entry: &Origin, problems: &mut Problems) -> Option<String> {
    let Some(setting) = setting else {
        problems.add(entry, "a password needs a username");
        return None;
    };
    let name = &setting.value;
    if name.is_empty() || name.contains(|character: char| character == ':' || character.is_control()) {
        let reason =
            format!("{} is no user name: it is empty, or holds a colon or a line break", quoted(name));
        problems.add(&setting.origin, reason);
        return None;
    }
    Some(name.clone())
}

/// Exactly one place where the secret is, of the places that these keys name. No message shows it.
pub(super) fn secret_source(
    settings: &SecretSettings,
    keys: &str,
    entry: &Origin,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<SecretSource> {
    match (&settings.given, &settings.file, &settings.variable) {
        (Some(given), None, None) if given.value.reveal().is_empty() => {
            problems.add(&given.origin, "it is empty");
            None
        }
        (Some(given), None, None) => Some(SecretSource::Given(given.value.clone())),
        (None, Some(file), None) => {
            problems.keep(&file.origin, values::existing_file(&file.value)).map(SecretSource::File)
        }
        (None, None, Some(name)) => {
            problems.keep(&name.origin, secret_in(&name.value, environment)).map(SecretSource::Given)
        }
        _ => {
            problems.add(entry, format!("one of {keys} is needed"));
            None
        }
    }
}

fn secret_in(name: &str, environment: Environment<'_>) -> Result<Secret, String> {
    if name.starts_with(OWN_VARIABLES) {
        return Err(format!(
            "{}: variables that begin with {OWN_VARIABLES} are samovar's own settings",
            quoted(name)
        ));
    }
    let value = variable(environment, name).map(|setting| setting.value).unwrap_or_default();
    match value.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("the variable {} is not set, or empty", quoted(name))),
        secret => Ok(Secret::new(secret)),
    }
}

/// Where an entry is written, as it is told when it does not work.
fn provenance(origin: &Origin) -> Arc<str> {
    match origin {
        Origin::File { path, key, .. } => format!("{} ({key})", path.display()).into(),
        other => other.to_string().into(),
    }
}
