use samovar_registry::Secret;
use samovar_registry::credentials::SecretSource;

use super::*;
use crate::config::ProofConfig;

fn hint(tag: Option<&str>, deleted: bool) -> Hint {
    let name = "a.example/team/app".parse().unwrap();
    Hint { name, tag: tag.map(|tag| tag.parse().unwrap()), deleted }
}

#[test]
fn what_is_told_says_what_is_looked_at() {
    let looked_at = |hints: Vec<Hint>| -> Vec<LookAt> {
        wanted(hints).into_iter().map(|wanted| wanted.look_at).collect()
    };
    let tag = |tag: &str| LookAt::Tag(tag.parse().unwrap());
    assert_eq!(looked_at(vec![hint(Some("v1"), false)]), [tag("v1")]);
    assert_eq!(looked_at(vec![hint(None, false)]), [LookAt::Everything]);
    assert_eq!(looked_at(vec![hint(None, true)]), [LookAt::List]);
    let several = vec![hint(Some("v1"), true), hint(Some("v2"), true), hint(None, true)];
    assert_eq!(looked_at(several), [tag("v1"), tag("v2"), LookAt::List], "one list for all");
    assert_eq!(looked_at(Vec::new()), []);
}

fn config(name: &str, kind: HookType, proof: Option<ProofConfig>) -> HookConfig {
    HookConfig { name: name.to_owned(), kind, proof, registry: None, prefix: None }
}

#[test]
fn receivers_are_found_by_name_and_show_no_secret() {
    let secret = |text: &str| {
        let source = SecretSource::Given(Secret::new(text));
        Some(ProofConfig::Secret { source, header: None })
    };
    let configs = vec![
        config("ci", HookType::Hmac, secret("open sesame")),
        config("fluxd", HookType::Flux, None),
        config("hub", HookType::DockerHub, secret("open sesame")),
    ];
    let hooks = Hooks::new(configs, &Aliases::default()).unwrap();
    assert_eq!((hooks.by_name["hub"], hooks.flux), (2, Some(1)));
    let status = serde_json::to_value(hooks.status()).unwrap();
    let expected = json!([
        {"name": "ci", "type": "hmac"},
        {"name": "fluxd", "type": "flux", "unauthenticated": true},
        {"name": "hub", "type": "docker-hub"},
    ]);
    assert_eq!(status, expected);
    assert!(!format!("{hooks:?}").contains("sesame"));
    hooks.receivers[0].note(DeliveryOutcome::Taken, "2026-11-20T20:00:00Z".parse().unwrap());
    hooks.receivers[0].note(DeliveryOutcome::Malformed, "2026-11-20T21:00:00Z".parse().unwrap());
    let status = serde_json::to_value(&hooks.status()[0]).unwrap();
    assert_eq!(status["last_received"], "2026-11-20T20:00:00Z");
    assert_eq!(status["last_refused"], json!({"at": "2026-11-20T21:00:00Z", "outcome": "malformed"}));

    let refused = Hooks::new(vec![config("ci", HookType::Hmac, secret(" \n"))], &Aliases::default());
    assert_eq!(refused.map(drop), Err("the secrets of hooks.ci: there is no secret in it".to_owned()));
}
