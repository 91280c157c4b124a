//! Docker's `config.json`, and the documents of Kubernetes that hold the like: whatever stands in them, no secret is shown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::within;
use samovar_registry::credentials::{Credentials, DockerConfig, PullSecret};
use serde_json::Value;

/// Names of every kind, to be logged in for.
const NAMES: [&str; 4] =
    ["docker.io/library/alpine", "ghcr.io/a/b", "localhost:5000/a", "registry.example.com/a/b/c"];

/// The values that must not be seen, where they cannot be mistaken for something else in the file.
fn secrets(data: &[u8]) -> Vec<String> {
    let Ok(file) = serde_json::from_slice::<Value>(data) else { return Vec::new() };
    let auths = file["auths"].as_object().into_iter().flatten();
    let older = file.as_object().into_iter().flatten();
    let text = String::from_utf8_lossy(data);
    auths
        .chain(older)
        .flat_map(|(_, entry)| {
            ["auth", "password", "identitytoken", "registrytoken"].map(|field| entry[field].as_str())
        })
        .flatten()
        .filter(|secret| secret.len() >= 8 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .filter(|secret| text.matches(secret).count() == 1)
        .map(str::to_owned)
        .collect()
}

/// What anybody may see of credentials.
fn shown(credentials: &[Credentials]) -> String {
    credentials.iter().map(|one| format!("{one} {one:?} ")).collect()
}

fuzz_target!(|data: &[u8]| {
    let secrets = secrets(data);
    within(256, data.len(), || {
        let names = NAMES.map(|name| name.parse().expect("a name"));
        let mut seen = String::new();
        match DockerConfig::parse(data, "config.json") {
            Ok(config) => {
                seen += &format!("{config:?} {:?}", config.problems());
                names.iter().for_each(|name| seen += &shown(&config.credentials_for(name)));
            }
            Err(error) => seen += &format!("{error} {error:?}"),
        }
        for file in ["pull.json", "pull.dockercfg"] {
            match PullSecret::parse(data, file) {
                Ok(secret) => {
                    seen += &format!("{secret:?} {:?}", secret.problems());
                    names.iter().for_each(|name| seen += &shown(&secret.credentials_for(name)));
                }
                Err(error) => seen += &error,
            }
        }
        for secret in &secrets {
            assert!(!seen.contains(secret.as_str()), "{secret} is shown: {seen}");
        }
    });
});
