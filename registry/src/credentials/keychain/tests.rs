use std::path::Path;

use async_trait::async_trait;

use super::*;
use crate::Glob;
use crate::credentials::{CredentialError, CredentialProvider};

/// An identity in a cloud that is for one host.
#[derive(Debug)]
struct Cloud {
    host: &'static str,
    provider: Arc<dyn CredentialProvider>,
}

#[derive(Debug)]
struct Machine;

#[async_trait]
impl CredentialProvider for Machine {
    fn provenance(&self) -> &'static str {
        "the machine"
    }

    async fn credentials(&self, _: &Name) -> Result<Credentials, CredentialError> {
        Ok(Credentials::Anonymous)
    }

    fn refused(&self, _: &Credentials) {}
}

impl ProviderSource for Cloud {
    fn provider_for(&self, name: &Name) -> Option<Arc<dyn CredentialProvider>> {
        (name.host() == self.host).then(|| Arc::clone(&self.provider))
    }
}

fn cloud(host: &'static str) -> Arc<dyn ProviderSource> {
    Arc::new(Cloud { host, provider: Arc::new(Machine) })
}

fn rule(glob: &str, login: Login) -> RepositoryCredentials {
    let repositories = Globs::from_iter([Glob::new(glob).unwrap()]);
    RepositoryCredentials { repositories, login, only: false, provenance: "samovar.toml".into() }
}

fn basic(user: &str, password: SecretSource) -> Login {
    Login::Basic { username: user.to_owned(), password }
}

fn given(secret: &str) -> SecretSource {
    SecretSource::Given(Secret::new(secret))
}

fn chain(keychain: &Keychain, name: &str) -> CredentialChain {
    keychain.chain_for(&name.parse().unwrap(), &mut Vec::new())
}

/// What is tried for a repository, in order.
fn tried(keychain: &Keychain, name: &str) -> Vec<String> {
    let chain = chain(keychain, name);
    let shown = |candidate: &Candidate| match candidate {
        Candidate::Provided(provider) => provider.provenance().to_owned(),
        Candidate::Fixed(Credentials::Anonymous) => "nobody".to_owned(),
        Candidate::Fixed(Credentials::Basic { username, password, .. }) => {
            format!("{username}:{}", password.reveal())
        }
        Candidate::Fixed(Credentials::IdentityToken { token, .. }) => format!("identity {}", token.reveal()),
        Candidate::Fixed(Credentials::RegistryToken { token, .. }) => format!("registry {}", token.reveal()),
    };
    chain.candidates().iter().map(shown).collect()
}

fn write(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).unwrap();
    path.to_owned()
}

fn auths(entries: &[(&str, &str)]) -> String {
    let entry = |(key, user): &(&str, &str)| format!(r#""{key}":{{"username":"{user}","password":"p"}}"#);
    format!(r#"{{"auths":{{{}}}}}"#, entries.iter().map(entry).collect::<Vec<_>>().join(","))
}

#[test]
fn all_sources_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| write(&directory.path().join(name), text);
    let docker = auths(&[("a.example", "docker-host"), ("a.example/team", "docker-team")]);
    let docker = docker.replacen('{', r#"{"credsStore":"pass","credHelpers":{"a.example":"own"},"#, 1);
    let keychain = Keychain::new(KeychainOptions {
        repositories: vec![
            rule("a.example/*", basic("first", given("1"))),
            rule("a.example/team/*", Login::IdentityToken(given("2"))),
            rule("b.example/*", Login::RegistryToken(given("3"))),
            rule("a.example/team/app", Login::Helper("vault".parse().unwrap())),
        ],
        kubernetes_secrets: vec![
            file("one.json", &auths(&[("a.example", "kube-host"), ("*.example", "kube-glob")])),
            file("two.json", &auths(&[("a.example/team", "kube-team"), ("a.example", "kube-host-2")])),
        ],
        docker_config: Some(file("config.json", &docker)),
        clouds: vec![cloud("a.example"), cloud("c.example")],
        helpers: HelperOptions::default(),
    });
    assert_eq!(
        tried(&keychain, "a.example/team/app"),
        [
            "first:1",
            "identity 2",
            "docker-credential-vault for a.example",
            "kube-team:p",
            "kube-host:p",
            "kube-host-2:p",
            "kube-glob:p",
            "docker-credential-own for a.example",
            "docker-credential-pass for a.example",
            "docker-team:p",
            "docker-host:p",
            "the machine",
            "nobody",
        ]
    );
    assert_eq!(
        tried(&keychain, "b.example/x"),
        ["registry 3", "kube-glob:p", "docker-credential-pass for b.example", "nobody"]
    );
    assert_eq!(tried(&Keychain::new(KeychainOptions::default()), "a.example/x"), ["nobody"]);
}

#[test]
fn a_chain_ends_where_the_configuration_says_so() {
    let only = |rule: RepositoryCredentials| RepositoryCredentials { only: true, ..rule };
    let keychain = Keychain::new(KeychainOptions {
        repositories: vec![
            rule("*/public/*", Login::Anonymous),
            rule("*", basic("all", given("p"))),
            only(rule("*/private/*", basic("private", given("p")))),
            rule("*", basic("never for the private", given("p"))),
        ],
        clouds: vec![cloud("a.example")],
        ..KeychainOptions::default()
    });
    assert_eq!(tried(&keychain, "a.example/public/x"), ["nobody"]);
    assert_eq!(tried(&keychain, "a.example/private/x"), ["all:p", "private:p"]);
    let others = ["all:p", "never for the private:p", "the machine", "nobody"];
    assert_eq!(tried(&keychain, "a.example/x"), others);
    for (name, expected) in
        [("a.example/public/x", true), ("a.example/private/x", true), ("a.example/x", false)]
    {
        assert_eq!(chain(&keychain, name).is_ended(), expected, "{name}");
    }
}

#[test]
fn the_same_login_is_tried_once() {
    let directory = tempfile::tempdir().unwrap();
    let options = KeychainOptions {
        repositories: vec![rule("*", basic("u", given("p"))), rule("*", Login::IdentityToken(given("p")))],
        docker_config: Some(write(&directory.path().join("config.json"), &auths(&[("a.example", "u")]))),
        ..KeychainOptions::default()
    };
    assert_eq!(tried(&Keychain::new(options), "a.example/x"), ["u:p", "identity p", "nobody"]);
}

#[test]
fn a_source_with_many_leaves_the_others_their_places_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, user: &str| {
        write(&directory.path().join(name), &auths(&[("a.example", user), ("b.example", user)]))
    };
    let mut repositories: Vec<_> =
        (0..40).map(|number| rule("*", basic(&format!("rule-{number}"), given("p")))).collect();
    repositories.push(rule("b.example/*", Login::Anonymous));
    let keychain = Keychain::new(KeychainOptions {
        repositories,
        kubernetes_secrets: (0..9)
            .map(|number| file(&format!("{number}.json"), &format!("pull-{number}")))
            .collect(),
        docker_config: Some(file("config.json", "docker")),
        clouds: vec![cloud("a.example")],
        ..KeychainOptions::default()
    });
    let of_rules = ["rule-0:p", "rule-1:p", "rule-2:p", "rule-3:p"].map(str::to_owned);
    let of_secrets: Vec<_> = (0..8).map(|number| format!("pull-{number}:p")).collect();
    let others = ["docker:p", "the machine", "nobody"].map(str::to_owned);
    assert_eq!(tried(&keychain, "a.example/x"), [&of_rules[..], &of_secrets, &others].concat());
    assert_eq!(tried(&keychain, "b.example/x"), [&of_rules[..], &["nobody".to_owned()]].concat(), "ended");

    let mut problems = Vec::new();
    for name in ["a.example/x", "a.example/y", "b.example/x"] {
        keychain.chain_for(&name.parse().unwrap(), &mut problems);
    }
    assert_eq!(
        problems,
        [
            "a.example: more than 4 entries of credentials fit, and the others are not tried",
            "a.example: more than 8 image pull secrets fit, and the others are not tried",
            "b.example: more than 4 entries of credentials fit, and the others are not tried",
        ]
    );
}

#[test]
fn a_chain_stays_equal_until_something_changes() {
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    write(&password, "one\r\n");
    let config = write(&directory.path().join("config.json"), r#"{"credsStore":"pass"}"#);
    let mut keychain = Keychain::new(KeychainOptions {
        repositories: vec![rule("*", basic("u", SecretSource::File(password.clone())))],
        docker_config: Some(config.clone()),
        clouds: vec![cloud("a.example")],
        ..KeychainOptions::default()
    });
    let before = chain(&keychain, "a.example/x");
    assert_eq!(
        tried(&keychain, "a.example/x"),
        ["u:one", "docker-credential-pass for a.example", "the machine", "nobody"]
    );
    write(&config, " {\"credsStore\": \"pass\"}");
    keychain.read_again();
    assert_eq!(chain(&keychain, "a.example/x"), before, "another text that says the same");

    write(&password, "two");
    assert_eq!(chain(&keychain, "a.example/x"), before, "nothing is read unless told");
    keychain.read_again();
    assert_ne!(chain(&keychain, "a.example/x"), before);
    assert_eq!(tried(&keychain, "a.example/x")[0], "u:two");

    write(&password, "");
    keychain.read_again();
    assert_eq!(tried(&keychain, "a.example/x")[0], "u:two", "what it said last stays");
    write(&password, "one");
    keychain.read_again();
    assert_eq!(chain(&keychain, "a.example/x"), before);
}

#[test]
fn everything_that_is_wrong_is_named_and_the_rest_works() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    write(
        &path("config.json"),
        r#"{"auths":{"x":{},"a.example":{"username":"u","password":"p"}},"credHelpers":{"y":"q"}}"#,
    );
    write(&path("pull.json"), "topsecret");
    write(&path("password"), "two\nlines of topsecret");
    let keychain = Keychain::new(KeychainOptions {
        repositories: vec![
            rule("*", basic("v", SecretSource::File(path("password")))),
            rule("*", Login::Helper("vault".parse().unwrap())),
        ],
        kubernetes_secrets: vec![path("pull.json"), path("missing")],
        docker_config: Some(path("config.json")),
        ..KeychainOptions::default()
    });
    assert_eq!(
        tried(&keychain, "a.example/x"),
        ["samovar.toml", "docker-credential-vault for a.example", "u:p", "nobody"]
    );
    let shown = keychain.problems().join("\n").replace(directory.path().to_str().unwrap(), "DIR");
    assert_eq!(
        shown,
        "samovar.toml: DIR/password: it holds more than one line\n\
         DIR/pull.json: it is no document of image pull secrets: at line 1, column 2\n\
         cannot read DIR/missing: No such file or directory (os error 2)\n\
         DIR/config.json: auths[\"x\"]: the key is not a registry\n\
         DIR/config.json: credHelpers[\"y\"]: the key is not a registry\n\
         docker-credential-vault is not found in PATH"
    );
}

#[tokio::test]
async fn nothing_takes_the_place_of_a_secret_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let only = rule("*", Login::RegistryToken(SecretSource::File(file.clone())));
    let options = KeychainOptions {
        repositories: vec![RepositoryCredentials { only: true, ..only }],
        clouds: vec![cloud("a.example")],
        ..KeychainOptions::default()
    };
    let mut keychain = Keychain::new(options);
    let before = chain(&keychain, "a.example/x");
    let [Candidate::Provided(without)] = before.candidates() else { panic!("{before:?}") };
    let error = without.credentials(&"a.example/x".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "samovar.toml: the file of the secret cannot be read, or holds none");
    keychain.read_again();
    assert_eq!(chain(&keychain, "a.example/x"), before);
    write(&file, "t");
    keychain.read_again();
    assert_eq!(tried(&keychain, "a.example/x"), ["registry t"]);
}

#[test]
fn secrets_do_not_print_themselves() {
    let options = KeychainOptions {
        repositories: vec![
            rule("*", basic("u", given("topsecret"))),
            rule("*", Login::RegistryToken(given("topsecret"))),
        ],
        ..KeychainOptions::default()
    };
    assert!(!format!("{options:?}").contains("topsecret"));
    let keychain = Keychain::new(options);
    let chain = chain(&keychain, "a.example/x");
    assert!(!format!("{keychain:?} {chain:?}").contains("topsecret"));
}
