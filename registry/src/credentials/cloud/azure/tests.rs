use serde_json::{Value, json};

use super::*;

fn environment(variables: &'static [(&'static str, &'static str)]) -> Environment {
    Environment::new(move |wanted| {
        let found = variables.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn the_first_identity_that_is_described_counts() {
    const IDS: [(&str, &str); 2] = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")];
    const SECRET: (&str, &str) = ("AZURE_CLIENT_SECRET", "open sesame");
    const FILE: (&str, &str) = ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token");
    let source = |variables| Identity::of(&environment(variables)).source();
    assert_eq!(source(const { &[IDS[0], IDS[1], SECRET, FILE] }), "service principal");
    assert_eq!(source(const { &[IDS[0], IDS[1], FILE] }), "workload identity");
    assert_eq!(source(&[IDS[1], SECRET, FILE]), "managed identity");
    assert_eq!(source(&[]), "managed identity");
    let identity = Identity::of(&environment(const { &[IDS[0], IDS[1], SECRET] }));
    assert!(!format!("{identity:?}").contains("sesame"));
    assert_eq!(Identity::of(&environment(&[IDS[1]])), Identity::Managed { client: Some("c".to_owned()) });
}

#[test]
fn the_authority_stands_in_the_registrys_part_of_the_world() {
    let nothing = environment(&[]);
    assert_eq!(cloud("team.azurecr.io", &nothing), CloudConfiguration::AzurePublic);
    assert_eq!(cloud("team.azurecr.cn", &nothing), CloudConfiguration::AzureChina);
    assert_eq!(cloud("team.azurecr.us", &nothing), CloudConfiguration::AzureGovernment);
    let own = environment(&[("AZURE_AUTHORITY_HOST", "https://login.example")]);
    let CloudConfiguration::Custom(custom) = cloud("team.azurecr.cn", &own) else {
        panic!("the environment wins")
    };
    assert_eq!(custom.authority_host, "https://login.example");
}

fn token(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[test]
fn a_refresh_token_says_when_it_ends() {
    let now = Timestamp::from_second(1_000).unwrap();
    assert_eq!(lifetime(&token(&json!({ "exp": 11_800 })), now), Duration::from_hours(3));
    assert_eq!(lifetime(&token(&json!({ "exp": 10 })), now), Duration::ZERO);
    for silent in [&token(&json!({})), &token(&json!({ "exp": "soon" })), "opaque", "a.b.c", "", "e30.W10.x"]
    {
        assert_eq!(lifetime(silent, now), USUAL_LIFETIME, "{silent}");
    }
}

#[test]
fn plain_http_is_for_registries_named_insecure() {
    let options =
        CloudOptions { insecure_hosts: ["127.0.0.1:5000".to_owned()].into(), ..CloudOptions::default() };
    let url = |registry| {
        let clock = Arc::new(crate::SystemClock);
        AcrLogin::new(registry, &options, clock).exchange_url().unwrap().to_string()
    };
    assert_eq!(url("127.0.0.1:5000"), "http://127.0.0.1:5000/oauth2/exchange");
    assert_eq!(url("127.0.0.1:5001"), "https://127.0.0.1:5001/oauth2/exchange");
    assert_eq!(url("team.azurecr.io"), "https://team.azurecr.io/oauth2/exchange");
}
