//! Secrets stay home: they are planted in every place where one can be configured, samovar talks about everything that
//! it does, registries quote them back at it, and then all that came out is searched for them.

mod common;

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{and, image_path, repository_path, samovar, wait_until_complete, watch};
use samovar_testing::fake::{Action, Bearer, FakeRegistry, Fault, Recorded, RequestKind};
use samovar_testing::{Answer, ForwardProxy, Image, Planted, RedisServer, Samovar, SamovarServer};
use serde_json::{Value, json};

const USER: &str = "alice";
/// Nothing else looks like it, and in a URL, in JSON and in base64 it looks like something else each.
const PASSWORD: &str = "pl4nted/pass+word=\"1\"";
const WRONG_PASSWORD: &str = "pl4nted/wrong+word=\"2\"";

/// What an answer starts with that is compressed.
const COMPRESSED: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A samovar that tells everything that it does.
fn talkative() -> Samovar {
    samovar().variable("SAMOVAR_LOG", "trace")
}

fn basic(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

/// Everything that a server answers whoever asks.
async fn everything_answered(server: &SamovarServer, name: &str) -> Vec<(String, Answer)> {
    let mut answers = Vec::new();
    for path in [
        "/",
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/v1/status",
        "/api/v1/repositories",
        "/api/v1/openapi.json",
        "/debug/pprof/profile?seconds=0",
        "/debug/pprof/heap",
        "/v2/",
    ] {
        answers.push((path.to_owned(), server.get(path).await));
    }
    for path in [
        repository_path(name),
        image_path(&format!("{name}:v1")),
        format!("/api/v1/history/{name}"),
        format!("/api/v1/latest/{name}?newest=created"),
        format!("/v2/{name}/tags/list"),
        format!("/v2/{name}/manifests/v1"),
    ] {
        answers.push((path.clone(), server.get(&path).await));
    }
    for image in [name.to_owned(), format!("{name}:v1")] {
        let path = "/api/v1/refresh?wait=5s";
        answers.push((path.to_owned(), server.post_json(path, &json!({"image": image})).await));
    }
    answers
}

/// Looks through a directory: what the files are called and hold, also where it is compressed.
fn search_files(planted: &Planted, directory: &Path, is_ours: impl Fn(&Path) -> bool + Copy) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let shown = path.display().to_string();
        planted.assert_absent("the name of a file", &shown);
        if path.is_dir() {
            search_files(planted, &path, is_ours);
        } else if is_ours(&path) {
            let bytes = std::fs::read(&path).unwrap();
            planted.assert_absent(&shown, &bytes);
            for decompressed in decompressed_parts(&bytes) {
                planted.assert_absent(&shown, decompressed);
            }
        }
    }
}

/// Whatever in these bytes looks compressed and is.
fn decompressed_parts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let starts = (0..bytes.len()).filter(|start| bytes[*start..].starts_with(&COMPRESSED));
    starts
        .map(|start| {
            let mut part = Vec::new();
            let decoder = zstd::stream::read::Decoder::new(&bytes[start..]).unwrap();
            // It ends in something else.
            let _ = decoder.single_frame().take(16 * 1024 * 1024).read_to_end(&mut part);
            part
        })
        .collect()
}

/// A server with everything that it was given to keep to itself.
struct Watched {
    samovar: Samovar,
    server: SamovarServer,
    name: String,
    planted: Planted,
}

impl Watched {
    /// Looks through everything that the server says while it runs, and that it and its store hold after its end.
    async fn search(mut self) {
        let Self { samovar, server, name, planted } = &mut self;
        for (path, answer) in everything_answered(server, name).await {
            planted.assert_absent(&path, format!("{answer:?}"));
        }
        for arguments in [
            &["status"][..],
            &["status", "--output", "json"],
            &["tags", name],
            &["image", &format!("{name}:v1")],
            &["refresh", name],
        ] {
            let at = ["--server".to_owned(), server.url("")];
            let output = samovar.run(arguments.iter().map(|&argument| argument.to_owned()).chain(at)).await;
            planted.assert_absent(&format!("samovar {arguments:?}"), format!("{output:?}"));
        }
        server.terminate().await;
        let log = server.log();
        assert!(log.contains("\"TRACE\""), "it tells everything");
        planted.assert_absent("the log", &log);
        // Made for this run, and found by their names: the tokens of the fake.
        assert!(!log.contains("-for-fake-registry"), "a token is logged");
        let exported = samovar.run(["store", "export", "exported"]).await;
        planted.assert_absent("samovar store export", format!("{exported:?}"));
        // What the test wrote is not what samovar wrote.
        let own = samovar.home().join("docker");
        search_files(planted, samovar.home(), |path| {
            !path.starts_with(&own) && path.extension().is_none_or(|extension| extension != "toml")
        });
    }
}

/// A registry with one image.
async fn registry() -> (FakeRegistry, String) {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "v1", &Image::new("1").label("a", "b"));
    let name = format!("{}/team/app", registry.host());
    (registry, name)
}

/// Serves with these credentials for the host of `name`.
async fn serve_with(name: &str, auth: &Value, secrets: &[&str]) -> Watched {
    let samovar = talkative();
    let host = name.split_once('/').unwrap().0;
    samovar.write_docker_config(&json!({"auths": {host: auth}}).to_string());
    let server = samovar.serve(watch([name])).await;
    Watched { samovar, server, name: name.to_owned(), planted: Planted::new(secrets) }
}

async fn wait_until_failed(watched: &Watched) {
    let failed = |answer: &Answer| answer.json()["last_error"].is_object();
    watched.server.wait_until(&repository_path(&watched.name), failed, common::PATIENCE).await;
}

#[tokio::test]
async fn what_is_planted_is_found() {
    let planted = Planted::new([PASSWORD]);
    let samovar = samovar();
    let compressed = zstd::encode_all(format!("a{PASSWORD}b").as_bytes(), 3).unwrap();
    samovar.write_docker_config("{}");
    std::fs::write(samovar.home().join("file"), [b"something else".as_slice(), &compressed, b"x"].concat())
        .unwrap();
    let found = std::panic::catch_unwind(|| search_files(&planted, samovar.home(), |_| true));
    assert!(found.is_err());
}

/// Ways to log in with what `docker/config.json` says about the host, and what the registry wants.
fn logins_of_docker() -> Vec<(Value, Bearer)> {
    let by_password = || Bearer::new().credentials(USER, PASSWORD);
    let password = json!({"username": USER, "password": PASSWORD});
    let identity_token = json!({"auth": basic(USER, ""), "identitytoken": PASSWORD});
    vec![
        (password.clone(), by_password()),
        (json!({"auth": basic(USER, PASSWORD)}), by_password()),
        (password, by_password().without("GET", 405)),
        (identity_token.clone(), Bearer::new().identity_token(PASSWORD, USER)),
        (identity_token, Bearer::new().identity_token(PASSWORD, USER).rotating_identity_tokens()),
    ]
}

#[tokio::test]
async fn what_callers_send_is_not_shown() {
    let (_registry, name) = registry().await;
    let samovar = talkative();
    let made = samovar.run(["token", "caller", "--output", "json"]).await.json();
    let token = made["token"].as_str().unwrap().to_owned();
    let file = samovar.write_file("tokens", made["entry"].as_str().unwrap());
    let server = samovar.serve(and(watch([&name]), ["--tokens", file.to_str().unwrap()])).await;
    let wrong = format!("Bearer {WRONG_PASSWORD}");
    for (authorization, expected) in [
        (format!("Bearer {token}"), 200),
        (format!("Basic {}", basic(USER, &token)), 200),
        (wrong, 401),
        (format!("Basic {}", basic(USER, WRONG_PASSWORD)), 401),
        (format!("Unknown {PASSWORD}"), 401),
    ] {
        for path in ["/api/v1/status", "/v2/", "/metrics"] {
            let answer = server.get_with(path, &[("authorization", &authorization)]).await;
            assert_eq!(answer.status, expected, "{path}: {answer:?}");
        }
    }
    let planted = Planted::new([token.as_str(), PASSWORD, WRONG_PASSWORD]);
    // A token where its hash should be is not shown either.
    samovar.write_file("tokens", &format!("[[tokens]]\nname = 'a'\nsha256 = '{token}'\nread = '*'"));
    common::wait_for_log(&server, "the last good one holds").await;
    std::fs::remove_file(&file).unwrap();
    Watched { samovar, server, name, planted }.search().await;
}

#[tokio::test]
async fn a_login_for_tokens_is_not_shown() {
    for (auth, bearer) in logins_of_docker() {
        let (registry, name) = registry().await;
        registry.require_bearer(bearer);
        let watched = serve_with(&name, &auth, &[PASSWORD, "token-1-for-fake-registry"]).await;
        wait_until_complete(&watched.server, &name).await;
        watched.search().await;
    }
}

#[tokio::test]
async fn a_password_that_goes_to_the_registry_is_not_shown() {
    for auth in [json!({"username": USER, "password": PASSWORD}), json!({"auth": basic(USER, PASSWORD)})] {
        let (registry, name) = registry().await;
        registry.require_basic(USER, PASSWORD);
        let watched = serve_with(&name, &auth, &[PASSWORD]).await;
        wait_until_complete(&watched.server, &name).await;
        watched.search().await;
    }
}

#[tokio::test]
async fn a_token_for_the_registry_itself_is_not_shown() {
    let (registry, name) = registry().await;
    registry.require_bearer(Bearer::new().credentials(USER, PASSWORD));
    let token = registry.hand_out_token("team/app", USER);
    let watched = serve_with(&name, &json!({"registrytoken": token}), &[&token]).await;
    wait_until_complete(&watched.server, &name).await;
    watched.search().await;
}

/// Serves with this configuration, which is written before what it names.
async fn serve_configured(samovar: Samovar, name: &str, file: &str) -> Watched {
    let file = samovar.write_file("planted.toml", file).display().to_string();
    let server = samovar.serve(and(watch([name]), ["--config", &file])).await;
    Watched { samovar, server, name: name.to_owned(), planted: Planted::new([PASSWORD]) }
}

#[tokio::test]
async fn what_a_program_says_is_not_shown() {
    use std::os::unix::fs::PermissionsExt as _;

    let (registry, name) = registry().await;
    registry.require_basic(USER, PASSWORD);
    let samovar = talkative();
    let reply = json!({"ServerURL": "x", "Username": USER, "Secret": PASSWORD});
    let script = format!("#!/bin/sh\ncat <<'END'\n{reply}\nEND\n");
    let program = samovar.write_file("docker/docker-credential-planted", &script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    samovar.write_docker_config(&json!({"credHelpers": {registry.host(): "planted"}}).to_string());
    let path = std::env::var("PATH").unwrap();
    let directory = program.parent().unwrap().display().to_string();
    let samovar = samovar.variable("PATH", format!("{directory}:{path}"));
    let watched = serve_configured(samovar, &name, "").await;
    wait_until_complete(&watched.server, &name).await;
    watched.search().await;
}

#[tokio::test]
async fn what_the_configuration_says_of_single_repositories_is_not_shown() {
    let in_toml = PASSWORD.replace('"', "\\\"");
    for (login, bearer) in [
        (format!("username = \"{USER}\"\npassword = \"{in_toml}\""), None),
        (format!("username = \"{USER}\"\npassword_file = \"FILE\""), None),
        (format!("username = \"{USER}\"\npassword_env = \"PLANTED\""), None),
        ("identity_token_file = \"FILE\"".to_owned(), Some(Bearer::new().identity_token(PASSWORD, USER))),
        ("identity_token_env = \"PLANTED\"".to_owned(), Some(Bearer::new().identity_token(PASSWORD, USER))),
    ] {
        let (registry, name) = registry().await;
        match bearer {
            Some(bearer) => registry.require_bearer(bearer),
            None => registry.require_basic(USER, PASSWORD),
        }
        let samovar = talkative().variable("PLANTED", PASSWORD);
        let file = samovar.write_file("docker/planted", &format!("{PASSWORD}\n")).display().to_string();
        let login = login.replace("FILE", &file);
        let watched =
            serve_configured(samovar, &name, &format!("[[credentials]]\nrepositories = \"*\"\n{login}\n"))
                .await;
        wait_until_complete(&watched.server, &name).await;
        let checked = watched.samovar.run(["check-config", "planted.toml"]).await;
        assert_eq!(checked.code, Some(0), "{checked:?}");
        watched.planted.assert_absent("check-config", format!("{checked:?}"));
        watched.search().await;
    }
}

#[tokio::test]
async fn a_pull_secret_is_not_shown() {
    let (registry, name) = registry().await;
    registry.require_basic(USER, PASSWORD);
    let samovar = talkative();
    let document = json!({"auths": {registry.host(): {"username": USER, "password": PASSWORD}}}).to_string();
    let secret = json!({"kind": "Secret", "data": {".dockerconfigjson": STANDARD.encode(&document)}});
    let file = samovar.write_file("docker/pull.json", &secret.to_string()).display().to_string();
    let watched = serve_configured(samovar, &name, &format!("kubernetes_secrets = [\"{file}\"]\n")).await;
    wait_until_complete(&watched.server, &name).await;
    watched.search().await;
}

#[tokio::test]
async fn the_password_of_a_proxy_is_not_shown() {
    for (given, is_right) in [(PASSWORD, true), (WRONG_PASSWORD, false)] {
        let (_registry, name) = registry().await;
        let proxy = ForwardProxy::start_for(USER, PASSWORD, &[]).await;
        let host = name.split_once('/').unwrap().0;
        let url = format!("http://{USER}:{}@{}", url_encoded(given), proxy.host());
        let file = format!("[hosts.\"{host}\"]\nscheme = \"http\"\nproxy = \"{url}\"\n");
        let mut watched = serve_configured(talkative(), &name, &file).await;
        watched.planted = Planted::new([given]);
        if is_right {
            wait_until_complete(&watched.server, &name).await;
            assert!(!proxy.requests().is_empty());
        } else {
            wait_until_failed(&watched).await;
        }
        watched.search().await;
    }
}

#[tokio::test]
async fn configured_headers_are_not_shown() {
    let (registry, name) = registry().await;
    let host = registry.host();
    let in_toml = PASSWORD.replace('"', "\\\"");
    let file = format!("[hosts.\"{host}\"]\nheaders = {{ X-Gate = \"{in_toml}\" }}\n");
    let watched = serve_configured(talkative(), &name, &file).await;
    wait_until_complete(&watched.server, &name).await;
    let gate = |request: &Recorded| request.headers.get("x-gate").is_some_and(|value| value == PASSWORD);
    assert!(registry.requests().iter().all(gate), "{:?}", registry.requests());
    for status in [400, 403, 404, 500] {
        registry.clear_faults();
        registry
            .fault(Fault::on(RequestKind::Tags), Action::error(status, "X", &format!("X-Gate: {PASSWORD}")));
        common::refresh(&watched.server, &name).await;
    }
    let elsewhere = FakeRegistry::start().await;
    registry.clear_faults();
    registry.fault(Fault::on(RequestKind::Tags), Action::RedirectTo(format!("{}/list", elsewhere.url())));
    common::refresh(&watched.server, &name).await;
    watched.planted.assert_absent("what another host was asked", format!("{:?}", elsewhere.requests()));
    let checked = watched.samovar.run(["check-config", "planted.toml"]).await;
    watched.planted.assert_absent("check-config", format!("{checked:?}"));
    watched.search().await;
}

/// Answers that quote what was sent, as broken and as hostile servers do.
fn quoting(sent: &str) -> Vec<Action> {
    let in_url = url_encoded(WRONG_PASSWORD);
    let message = format!("bad request: {sent}; no login {WRONG_PASSWORD} ({in_url}) for {USER}");
    let mut actions = Vec::new();
    for status in [400, 401, 403, 404, 429, 500, 503] {
        actions.push(Action::error(status, "DENIED", &message));
        actions.push(Action::Status {
            code: status,
            headers: vec![
                ("content-type".to_owned(), "text/plain".to_owned()),
                ("x-you-sent".to_owned(), sent.to_owned()),
            ],
            body: message.clone(),
        });
    }
    actions
}

fn url_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

#[tokio::test]
async fn a_login_that_is_refused_and_quoted_is_not_shown() {
    let auth = json!({"username": USER, "password": WRONG_PASSWORD});
    let sent = format!("Basic {}", basic(USER, WRONG_PASSWORD));
    for kind in [RequestKind::Tags, RequestKind::ManifestGet, RequestKind::Token] {
        let (registry, name) = registry().await;
        // The fake lets in whoever it is, and says so in the words of the fault.
        if kind == RequestKind::Token {
            registry.require_bearer(Bearer::new().credentials(USER, WRONG_PASSWORD));
        } else {
            registry.require_basic(USER, WRONG_PASSWORD);
        }
        let watched = serve_with(&name, &auth, &[WRONG_PASSWORD]).await;
        wait_until_complete(&watched.server, &name).await;
        for (number, action) in quoting(&sent).into_iter().enumerate() {
            registry.clear_faults();
            registry.expire_tokens();
            registry.push("team/app", "v1", &Image::new(number.to_string()));
            registry.fault(Fault::on(kind), action);
            common::refresh(&watched.server, &format!("{name}:v1")).await;
            common::refresh(&watched.server, &name).await;
        }
        watched.search().await;
    }
}

#[tokio::test]
async fn a_form_that_is_refused_and_quoted_is_not_shown() {
    let password = json!({"username": USER, "password": WRONG_PASSWORD});
    let identity_token = json!({"identitytoken": WRONG_PASSWORD});
    for (auth, bearer) in [
        (password, Bearer::new().credentials(USER, WRONG_PASSWORD).without("GET", 405)),
        (identity_token, Bearer::new().identity_token(WRONG_PASSWORD, USER)),
    ] {
        let (registry, name) = registry().await;
        registry.require_bearer(bearer);
        let watched = serve_with(&name, &auth, &[WRONG_PASSWORD]).await;
        wait_until_complete(&watched.server, &name).await;
        let sent = format!("grant_type=x&password={}", url_encoded(WRONG_PASSWORD));
        for action in quoting(&sent) {
            registry.clear_faults();
            registry.expire_tokens();
            registry.fault(Fault::on(RequestKind::Token), action);
            common::refresh(&watched.server, &name).await;
        }
        watched.search().await;
    }
}

#[tokio::test]
async fn a_login_that_is_wrong_from_the_start_is_not_shown() {
    for bearer in [None, Some(Bearer::new().credentials(USER, PASSWORD))] {
        let (registry, name) = registry().await;
        match bearer {
            Some(bearer) => registry.require_bearer(bearer),
            None => registry.require_basic(USER, PASSWORD),
        }
        let auth = json!({"username": USER, "password": WRONG_PASSWORD});
        let watched = serve_with(&name, &auth, &[WRONG_PASSWORD]).await;
        wait_until_failed(&watched).await;
        watched.search().await;
    }
}

#[tokio::test]
async fn what_a_redirect_takes_along_is_not_a_secret() {
    let (registry, name) = registry().await;
    registry.require_basic(USER, PASSWORD);
    let elsewhere = FakeRegistry::start().await;
    let target = format!("{}/v2/team/app/tags/list", elsewhere.url());
    registry.fault(Fault::on(RequestKind::Tags), Action::RedirectTo(target));
    let auth = json!({"username": USER, "password": PASSWORD});
    let watched = serve_with(&name, &auth, &[PASSWORD]).await;
    wait_until_failed(&watched).await;
    Planted::new([PASSWORD])
        .assert_absent("what another host was asked", format!("{:?}", elsewhere.requests()));
    watched.search().await;
}

#[tokio::test]
async fn entries_that_cannot_be_used_are_reported_without_what_is_in_them() {
    let (_registry, name) = registry().await;
    let samovar = talkative();
    let config = json!({"auths": {
        "one.example": {"auth": PASSWORD},
        "two.example": {"auth": STANDARD.encode(PASSWORD)},
        "three.example": {"username": USER, "password": [PASSWORD]},
        "four.example": PASSWORD,
        "five.example": {"username": {"x": 1}, "password": PASSWORD},
        "six.example": {"password": PASSWORD},
    }});
    let planted = Planted::new([PASSWORD]);
    samovar.write_docker_config(&config.to_string());
    let server = samovar.serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    Watched { samovar, server, name: name.clone(), planted: planted.clone() }.search().await;

    // Cut off in the middle of a secret, and not JSON at all.
    for text in
        [config.to_string()[..60].to_owned(), format!("password: {PASSWORD}"), format!("\"{PASSWORD}\"")]
    {
        let samovar = talkative();
        samovar.write_docker_config(&text);
        let server = samovar.serve(watch([&name])).await;
        wait_until_complete(&server, &name).await;
        Watched { samovar, server, name: name.clone(), planted: planted.clone() }.search().await;
    }
}

#[tokio::test]
async fn the_password_of_a_store_is_not_shown() {
    // Without what a URL would have to escape.
    const STORE_PASSWORD: &str = "pl4ntedStorePassword";
    let (_registry, name) = registry().await;
    let redis = RedisServer::builder().password(STORE_PASSWORD).start().await;
    let url = format!("redis://:{STORE_PASSWORD}@{}", redis.host());
    let samovar = talkative();
    let server = samovar.serve(and(watch([&name]), ["--store", &url])).await;
    wait_until_complete(&server, &name).await;
    let planted = Planted::new([STORE_PASSWORD]);
    Watched { samovar, server, name, planted }.search().await;
}

#[tokio::test]
async fn a_configuration_that_is_refused_is_not_quoted() {
    let planted = Planted::new(["pl4ntedStorePassword"]);
    for text in [
        "store = \"redis://:pl4ntedStorePassword@[bad\"",
        "store = \"redis://alice:pl4ntedStorePassword@127.0.0.1:1/x?y=z\"",
        "store = \"http://alice:pl4ntedStorePassword@127.0.0.1:1\"",
        "store = [\"redis://alice:pl4ntedStorePassword@127.0.0.1:1\"]",
        "store = \"redis://alice:pl4ntedStorePassword@127.0.0.1:1",
        "store = \"redis://alice:pl4ntedStorePassword@127.0.0.1:1\"\nrps = 0",
        "store = \"redis://alice:pl4ntedStorePassword@127.0.0.1:1\"",
    ] {
        let samovar = talkative();
        let file = samovar.write_file("planted.toml", text).display().to_string();
        for arguments in [vec!["check-config", &file], vec!["check-config", &file, "--output", "json"]] {
            let output = samovar.run(&arguments).await;
            planted.assert_absent(text, format!("{output:?}"));
        }
    }
}
