use std::collections::{BTreeMap, BTreeSet};

use super::super::{HostOptions, challenge};
use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn login(header: &str) -> Option<Login> {
    Login::from_challenges(&challenge::parse([header]), &url("https://r.example/v2/a/tags/list?n=1"), "a/b")
}

fn alice() -> Credentials {
    Credentials::Basic {
        username: "alice".to_owned(),
        password: Secret::new("open:sesame"),
        provenance: "config.json".into(),
    }
}

#[test]
fn a_token_is_asked_for_by_service_scope_and_account() {
    let login =
        login(r#"Bearer realm="https://r.example/token?x=1",service="s & t",scope="ignored""#).unwrap();
    let means = login.means("r.example", &alice(), &HttpOptions::default()).unwrap();
    let Means::Token(bearer) = means else { panic!("{means:?}") };
    assert_eq!(
        bearer.token_url("repository:a/b:pull", &alice()).as_str(),
        "https://r.example/token?x=1&service=s+%26+t&scope=repository%3Aa%2Fb%3Apull&account=alice"
    );
    assert_eq!(
        bearer.token_url("repository:a/b:pull", &Credentials::Anonymous).query(),
        Some("x=1&service=s+%26+t&scope=repository%3Aa%2Fb%3Apull")
    );
}

#[test]
fn the_password_is_sent_where_it_is_asked_for() {
    let login = login(r#"Basic realm="not a URL""#).unwrap();
    let options = HttpOptions::default();
    let means = login.means("r.example", &alice(), &options).unwrap();
    let Means::Secret(header) = means else { panic!("{means:?}") };
    assert_eq!(header, format!("Basic {}", BASE64.encode("alice:open:sesame")));
    assert!(!format!("{header:?}").contains("Basic"), "the header does not print itself");
    assert!(matches!(login.means("r.example", &Credentials::Anonymous, &options), Ok(Means::Nothing)));
}

#[test]
fn what_is_posted_for_a_token() {
    let (password, token) = (Secret::new("open & sesame"), Secret::new("r/t+1"));
    let scope = "repository:a/b:pull";
    let by_password = Grant::Password { username: "alice", password: &password };
    assert_eq!(
        by_password.form(Some("s & t"), scope).reveal(),
        "grant_type=password&username=alice&password=open+%26+sesame&service=s+%26+t\
         &scope=repository%3Aa%2Fb%3Apull&client_id=samovar"
    );
    assert_eq!(
        Grant::RefreshToken(&token).form(None, scope).reveal(),
        "grant_type=refresh_token&refresh_token=r%2Ft%2B1&scope=repository%3Aa%2Fb%3Apull&client_id=samovar"
    );
    assert!(!format!("{by_password:?}").contains("sesame"));
}

#[test]
fn a_registry_token_is_presented_as_it_is() {
    let given = |token: &str| Credentials::RegistryToken {
        token: Secret::new(token),
        provenance: "config.json".into(),
    };
    let options = HttpOptions::default();
    for challenge in [r#"Bearer realm="https://evil.test/token""#, "Basic"] {
        let login = login(challenge).unwrap();
        let means = login.means("r.example", &given("t"), &options).unwrap();
        assert!(matches!(means, Means::Secret(header) if header == "Bearer t"), "{challenge}");
        let error = login.means("r.example", &given("sesa\nme"), &options).unwrap_err().to_string();
        assert!(error.contains("config.json") && !error.contains("sesa"), "{error}");
    }
}

#[test]
fn an_identity_token_goes_where_a_password_may_go() {
    let identity = Credentials::IdentityToken { token: Secret::new("t"), provenance: "config.json".into() };
    let means = |challenge: &str| {
        let login = login(challenge).unwrap();
        let means = login.means("r.example", &identity, &HttpOptions::default());
        means.map(|means| matches!(means, Means::Token(_)))
    };
    assert_eq!(means(r#"Bearer realm="/token""#), Ok(true));
    assert_eq!(means("Basic"), Ok(false), "there is nobody to give it to");
    assert!(means(r#"Bearer realm="https://evil.test/token", Basic"#).is_err());
}

#[test]
fn a_realm_outside_the_boundary_gets_no_secret() {
    let options = HttpOptions::default();
    let evil = login(r#"Bearer realm="https://evil.test/token""#).unwrap();
    let refused = evil.means("r.example", &alice(), &options).unwrap_err();
    assert!(
        refused.to_string().starts_with("refused: r.example sends its logins to https://evil.test"),
        "{refused}"
    );
    assert!(matches!(evil.means("r.example", &Credentials::Anonymous, &options), Ok(Means::Token(_))));

    let token_hosts = BTreeSet::from(["evil.test".to_owned()]);
    let own = HostOptions { token_hosts, ..Default::default() };
    let hosts = BTreeMap::from([("r.example".to_owned(), own)]);
    let allowed = HttpOptions { hosts, ..Default::default() };
    assert!(matches!(evil.means("r.example", &alice(), &allowed), Ok(Means::Token(_))));

    let both = login(r#"Bearer realm="https://evil.test/token", Basic realm="x""#).unwrap();
    assert!(matches!(both.means("r.example", &alice(), &options), Ok(Means::Secret(_))));
}

#[test]
fn a_registry_reached_over_tls_sends_nobody_to_plain_http() {
    let insecure_hosts = BTreeSet::from(["r.example".to_owned()]);
    let options = HttpOptions { insecure_hosts, ..Default::default() };
    let challenges = challenge::parse([r#"Bearer realm="http://r.example/token""#]);
    for (challenged_at, is_allowed) in [("https://r.example/v2/", false), ("http://r.example/v2/", true)] {
        let login = Login::from_challenges(&challenges, &url(challenged_at), "a/b").unwrap();
        for credentials in [alice(), Credentials::Anonymous] {
            let means = login.means("r.example", &credentials, &options);
            assert_eq!(means.is_ok(), is_allowed, "{challenged_at}: {means:?}");
        }
    }
}

fn scope(login: &Login) -> String {
    login.bearer.as_ref().unwrap().scope("x/y")
}

#[test]
fn a_token_is_asked_for_what_the_registry_wants_of_this_repository() {
    let long = "x".repeat(MAX_ACTION_LENGTH + 1);
    let many: Vec<_> = (0..20).map(|number| format!("a{number:02}")).collect();
    for (asked, expected) in [
        ("repository:a/b:metadata_read", "metadata_read,pull"),
        ("repository:a/b:pull,metadata_read registry:catalog:all", "metadata_read,pull"),
        ("repository:x/y:all repository:a/b:read", "pull,read"),
        ("repository:a/b:pull,push,delete,*", "pull"),
        ("repository:a/bc:read repository:a/b/c:read repository:a:read *", "pull"),
        (&format!("repository:a/b:{long},é,,a b"), "a,pull"),
        (&format!("repository:a/b:{}", many.join(",")), "a00,a01,a02,a03,a04,a05,a06,pull"),
        ("", "pull"),
    ] {
        let login = login(&format!(r#"Bearer realm="/token",scope="{asked}""#)).unwrap();
        assert_eq!(scope(&login), format!("repository:x/y:{expected}"), "{asked}");
    }
}

#[test]
fn what_is_asked_for_only_grows() {
    let asking = |realm: &str, action: &str| {
        login(&format!(r#"Bearer realm="{realm}",scope="repository:a/b:{action}""#)).unwrap()
    };
    let known = asking("/token", "read");
    let wider = asking("/token", "list").together_with(Some(&known));
    assert_eq!(scope(&wider), "repository:x/y:list,pull,read");
    assert!(wider.asks_for_more_than(&known));
    assert_eq!(asking("/token", "pull").together_with(Some(&wider)), wider);
    let elsewhere = asking("/other", "list").together_with(Some(&known));
    assert_eq!(scope(&elsewhere), "repository:x/y:list,pull");
    assert!(!elsewhere.asks_for_more_than(&known));
}

#[test]
fn challenges_that_we_do_not_speak() {
    for header in ["", "Negotiate", "Bearer", r#"Bearer service="s""#, r#"Bearer realm="ftp://r.example/""#] {
        assert_eq!(login(header), None, "{header}");
    }
    assert_eq!(login(r#"Bearer realm="/token""#).unwrap().bearer.unwrap().realm(), "https://r.example/token");
    assert_eq!(
        login(r#"Negotiate, Bearer realm="https://u:p@r.example/token""#).unwrap().bearer.unwrap().realm(),
        "https://r.example/token"
    );
}

#[test]
fn the_same_challenge_on_another_page_is_the_same_login() {
    let challenges = challenge::parse([r#"Bearer realm="https://r.example/token""#]);
    assert_eq!(
        Login::from_challenges(&challenges, &url("https://r.example/v2/a/tags/list?n=1"), "a/b"),
        Login::from_challenges(&challenges, &url("https://r.example/v2/b/manifests/x"), "b")
    );
}
