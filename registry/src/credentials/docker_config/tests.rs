use proptest::prelude::*;

use super::*;
use crate::credentials::PullSecret;
use crate::credentials::entry::BASE64;
use base64::Engine;

fn config(text: &str) -> DockerConfig {
    DockerConfig::parse(text.as_bytes(), "config.json").unwrap()
}

fn auth(credentials: &str) -> String {
    BASE64.encode(credentials)
}

/// What is found for a repository: kind, user, secret, in order.
fn found(config: &DockerConfig, name: &str) -> Vec<String> {
    let shown = |credentials: Credentials| match credentials {
        Credentials::Anonymous => panic!("anonymous access is not in the file"),
        Credentials::Basic { username, password, .. } => format!("{username}:{}", password.reveal()),
        Credentials::IdentityToken { token, .. } => format!("identity {}", token.reveal()),
        Credentials::RegistryToken { token, .. } => format!("registry {}", token.reveal()),
    };
    config.credentials_for(&name.parse().unwrap()).into_iter().map(shown).collect()
}

fn users(config: &DockerConfig, name: &str) -> Vec<String> {
    found(config, name).iter().map(|login| login.split(':').next().unwrap().to_owned()).collect()
}

fn problems(config: &DockerConfig) -> Vec<String> {
    config.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn docker_hub_by_all_its_names() {
    for key in [
        "https://index.docker.io/v1/",
        "index.docker.io",
        "docker.io",
        "https://registry-1.docker.io/v2/",
        "registry.hub.docker.com",
    ] {
        let text =
            format!(r#"{{"auths":{{"{key}":{{"auth":"{}"}}}},"credsStore":"desktop"}}"#, auth("alice:a:b"));
        assert_eq!(found(&config(&text), "alpine"), ["alice:a:b"], "{key}");
        let credentials = config(&text).credentials_for(&"alpine".parse().unwrap());
        assert_eq!(credentials[0].to_string(), format!("user \"alice\" from config.json (entry {key:?})"));
        assert!(found(&config(&text), "quay.io/a/b").is_empty());
    }
}

#[test]
fn the_longest_path_comes_first_then_the_host() {
    let config = config(
        r#"{"auths":{
            "quay.io":{"username":"host","password":"p"},
            "quay.io/team":{"username":"team","password":"p"},
            "https://quay.io/team/app/":{"username":"app","password":"p"},
            "Registry.Example:5000":{"username":"port","password":"p"},
            "https://[::1]:5000":{"username":"six","password":"p"},
            "https://tls.example:443/v2/":{"username":"tls","password":"p"}}}"#,
    );
    assert!(config.problems().is_empty());
    for (name, expected) in [
        ("quay.io/other/app", &["host"][..]),
        ("quay.io/team/other", &["team", "host"]),
        ("quay.io/team", &["team", "host"]),
        ("quay.io/teamwork/app", &["host"]),
        ("quay.io/team/app", &["app", "team", "host"]),
        ("quay.io/team/app/sub", &["app", "team", "host"]),
        ("registry.example:5000/a", &["port"]),
        ("registry.example/a", &[]),
        ("[::1]:5000/a", &["six"]),
        ("tls.example/a", &["tls"]),
    ] {
        assert_eq!(users(&config, name), expected, "{name}");
    }
}

#[test]
fn one_bad_entry_does_not_spoil_the_others() {
    let text = format!(
        r#"{{"auths":{{
            "a.example":{{"auth":"!"}},
            "b.example":{{"auth":"{}"}},
            "c.example":{{}},
            "d.example":7,
            "f.example":{{"auth":"{}"}},
            "ftp://g.example":{{"username":"u","password":"p"}},
            "h.example":{{"auth":"{}"}},
            "https://h.example/":{{"auth":"{}"}},
            "i.example":{{"auth":"{}","username":"ignored","password":"ignored"}},
            "j.example":{{"username":null,"password":null,"auth":""}},
            "k.example":{{"username":"<token>"}}}}}}"#,
        auth("no colon"),
        auth(":empty user"),
        auth("h:1"),
        auth("h:2"),
        auth("i:secret\0\0").trim_end_matches('='),
    );
    let config = config(&text);
    assert_eq!(
        problems(&config),
        [
            "auths[\"a.example\"]: auth is not base64",
            "auths[\"b.example\"]: auth is not user:password",
            "auths[\"c.example\"]: there are no credentials in it",
            "auths[\"d.example\"]: the entry is not an object of strings",
            "auths[\"f.example\"]: the user name is empty",
            "auths[\"ftp://g.example\"]: the key is not a registry",
            "auths[\"j.example\"]: there are no credentials in it",
            "auths[\"k.example\"]: the token is empty",
        ]
    );
    assert_eq!(found(&config, "h.example/x"), ["h:1", "h:2"], "two for one registry are tried in turn");
    assert_eq!(found(&config, "i.example/x"), ["i:secret"]);
}

#[test]
fn tokens_come_before_the_password() {
    let azure = auth("00000000-0000-0000-0000-000000000000:");
    let config = config(&format!(
        r#"{{"auths":{{
            "a.azurecr.example":{{"auth":"{azure}","identitytoken":"t"}},
            "b.example":{{"username":"u","identitytoken":"t"}},
            "c.example":{{"auth":"{}","identitytoken":"t","registrytoken":"r"}},
            "d.example":{{"auth":"{}"}},
            "e.example":{{"auth":"!","registrytoken":"r"}},
            "f.example":{{"username":"u","password":""}}}}}}"#,
        auth("user:password"),
        auth("<token>:t"),
    ));
    assert!(config.problems().is_empty(), "{:?}", config.problems());
    assert_eq!(found(&config, "a.azurecr.example/x"), ["identity t"]);
    assert_eq!(found(&config, "b.example/x"), ["identity t"]);
    assert_eq!(found(&config, "c.example/x"), ["registry r", "identity t", "user:password"]);
    assert_eq!(found(&config, "d.example/x"), ["identity t"]);
    assert_eq!(found(&config, "e.example/x"), ["registry r"]);
    assert_eq!(found(&config, "f.example/x"), ["u:"]);
}

#[test]
fn hosts_are_canonical_as_in_names() {
    let config = config(
        r#"{"auths":{
            "[0:0:0:0:0:0:0:1]:5000":{"username":"six","password":"p"},
            "Docker.IO:443":{"username":"hub","password":"p"},
            "https://up:443/v2/":{"username":"port","password":"p"},
            "https://":{"username":"u","password":"p"},
            "no host.example":{"username":"u","password":"p"},
            "nodot":{"username":"u","password":"p"},
            "a.example:0":{"username":"u","password":"p"}}}"#,
    );
    assert_eq!(users(&config, "[::1]:5000/a"), ["six"]);
    assert_eq!(users(&config, "alpine"), ["hub"]);
    assert_eq!(users(&config, "up:443/a"), ["port"]);
    let keys: Vec<_> = config.problems().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["a.example:0", "https://", "no host.example", "nodot"]);
    assert!(config.problems().iter().all(|problem| problem.reason == "the key is not a registry"));
}

/// Which programs are asked for what.
fn helpers(config: &DockerConfig, name: &str) -> Vec<String> {
    let helpers = config.helpers_for(&name.parse().unwrap());
    helpers.iter().map(ToString::to_string).collect()
}

#[test]
fn the_helper_of_a_host_comes_before_the_store_of_all() {
    let config = config(
        r#"{"credsStore":"pass","credHelpers":{
            "https://quay.io":"quay","quay.io/team":"team","gcr.io":"","docker.io":"hub",
            "*.example":"x","nodot":"x","bad.example":"a/b","worse.example":7}}"#,
    );
    assert_eq!(helpers(&config, "ghcr.io/a/b"), ["docker-credential-pass for ghcr.io"]);
    assert_eq!(
        helpers(&config, "quay.io/team/app"),
        [
            "docker-credential-team for quay.io/team",
            "docker-credential-quay for quay.io",
            "docker-credential-pass for quay.io"
        ]
    );
    assert!(helpers(&config, "gcr.io/a").is_empty(), "its credentials are in the file");
    assert_eq!(
        helpers(&config, "alpine"),
        [
            "docker-credential-hub for https://index.docker.io/v1/",
            "docker-credential-pass for https://index.docker.io/v1/"
        ]
    );
    assert_eq!(
        problems(&config),
        [
            "credHelpers[\"*.example\"]: a program cannot be asked for a host with wildcards",
            "credHelpers[\"bad.example\"]: it is not the name of a credential helper",
            "credHelpers[\"nodot\"]: the key is not a registry",
            "credHelpers[\"worse.example\"]: it is not the name of a credential helper",
        ]
    );
}

#[test]
fn entries_may_be_empty_where_programs_have_the_credentials() {
    for programs in [r#""credsStore":"pass""#, r#""credHelpers":{"a.example":"x"}"#] {
        let text = format!(r#"{{"auths":{{"a.example":{{}},"b.example":{{"auth":"!"}}}},{programs}}}"#);
        assert_eq!(problems(&config(&text)), ["auths[\"b.example\"]: auth is not base64"]);
    }
    let config = config(r#"{"credsStore":["pass"]}"#);
    assert_eq!(problems(&config), ["credsStore[\"\"]: it is not the name of a credential helper"]);
}

#[test]
fn files_without_credentials_and_files_that_are_none() {
    for text in ["{}", r#"{"auths":null}"#, r#"{"auths":{},"HttpHeaders":{}}"#] {
        assert!(found(&config(text), "alpine").is_empty());
    }
    for text in ["", "[]", "{", r#"{"auths":["topsecret"]}"#, r#"{"credHelpers":["topsecret"]}"#] {
        let error = DockerConfig::parse(text.as_bytes(), "config.json").unwrap_err().to_string();
        assert!(
            error.starts_with("config.json is not a docker configuration") && !error.contains("topsecret")
        );
    }
}

#[test]
fn entries_are_bounded_and_so_is_what_is_said_of_them() {
    let entries: Vec<_> = (0..5_000)
        .map(|number| format!(r#""h{number:04}.example":{{"username":"u","password":"p"}}"#))
        .collect();
    let config = config(&format!(r#"{{"auths":{{{}}}}}"#, entries.join(",")));
    assert_eq!(problems(&config), ["auths[\"h4096.example\"]: there are too many entries"]);
    assert_eq!(users(&config, "h4095.example/a"), ["u"]);
    let key = "k".repeat(10_000);
    let long = DockerConfig::parse(format!(r#"{{"auths":{{"{key}":{{}}}}}}"#).as_bytes(), "f").unwrap();
    assert!(long.problems()[0].to_string().len() < 400);
}

proptest! {
    #[test]
    fn whatever_stands_in_a_file_is_read_or_refused(
        key in "(https://)?[a-z.*:0-9/]{0,12}",
        auth in "[A-Za-z0-9+/=!]{0,12}",
        value in "null|7|\\[\\]|\\{\\}|\"[a-z/.<>]{0,8}\"",
        cut in 0_usize..400,
    ) {
        let text = format!(
            r#"{{"auths":{{"{key}":{{"auth":"{auth}","identitytoken":{value}}},"a.example":{value}}},
                "credHelpers":{{"{key}":{value}}},"credsStore":{value}}}"#
        );
        let name = "a.example/x".parse().unwrap();
        for text in [&text[..], &text[..cut.min(text.len())]] {
            if let Ok(config) = DockerConfig::parse(text.as_bytes(), "file") {
                let _ = (config.credentials_for(&name), config.helpers_for(&name), problems(&config));
            }
            if let Ok(secret) = PullSecret::parse(text.as_bytes(), "file") {
                let _ = (secret.credentials_for(&name), secret.problems().len());
            }
        }
    }
}

#[test]
fn secrets_do_not_print_themselves() {
    let config = config(&format!(
        r#"{{"auths":{{"a.example":{{"auth":"{}","identitytoken":"topsecret"}}}}}}"#,
        auth("alice:topsecret")
    ));
    assert!(!format!("{config:?}").contains("topsecret"));
}
