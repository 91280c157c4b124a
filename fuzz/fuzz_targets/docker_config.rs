//! Docker's `config.json`: whatever stands in it, no secret of it is shown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::within;
use samovar_registry::credentials::DockerConfig;
use serde_json::Value;

/// The values that must not be seen, where they cannot be mistaken for something else in the file.
fn secrets(data: &[u8]) -> Vec<String> {
    let Ok(file) = serde_json::from_slice::<Value>(data) else { return Vec::new() };
    let Some(auths) = file["auths"].as_object() else { return Vec::new() };
    let text = String::from_utf8_lossy(data);
    auths
        .values()
        .flat_map(|entry| {
            ["auth", "password", "identitytoken", "registrytoken"].map(|field| entry[field].as_str())
        })
        .flatten()
        .filter(|secret| secret.len() >= 8 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .filter(|secret| text.matches(secret).count() == 1)
        .map(str::to_owned)
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let secrets = secrets(data);
    within(256, data.len(), || {
        let mut shown = String::new();
        match DockerConfig::parse(data, "config.json") {
            Ok(config) => {
                shown += &format!("{config:?} {:?}", config.problems());
                for name in [
                    "docker.io/library/alpine",
                    "ghcr.io/a/b",
                    "localhost:5000/a",
                    "registry.example.com/a/b/c",
                ] {
                    let found = config.credentials_for(&name.parse().expect("a name"));
                    shown += &format!("{found} {found:?}");
                }
            }
            Err(error) => shown += &format!("{error} {error:?}"),
        }
        for secret in &secrets {
            assert!(!shown.contains(secret.as_str()), "{secret} is shown: {shown}");
        }
    });
});
