//! Who may: tokens, certificates and limits, before every door.

mod common;

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{PATIENCE, and, image_path, repository_path, samovar, wait_for_log, watch};
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Answer, Certificates, Image, Samovar, SamovarServer};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A new token, and the entry for it.
async fn token(samovar: &Samovar, arguments: &[&str]) -> (String, String) {
    let output = samovar.run(["token", "--output", "json"].iter().chain(arguments)).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let made = output.json();
    (made["token"].as_str().unwrap().to_owned(), made["entry"].as_str().unwrap().to_owned())
}

fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("authorization", format!("Bearer {token}"))]
}

async fn ask(server: &SamovarServer, method: &str, path: &str, authorization: Option<&str>) -> Answer {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.map(|value| ("authorization", value)));
    match method {
        "GET" => server.get_with(path, &headers).await,
        _ => server.post_with(path, &headers, method).await,
    }
}

/// A server that watches `team/app` and `other/app`, with a token for all, one for `team` alone, and one that may only
/// look at how samovar does.
struct Guarded {
    server: SamovarServer,
    samovar: Samovar,
    registry: FakeRegistry,
    all: String,
    team: String,
    operator: String,
}

impl Guarded {
    async fn start() -> Self {
        let registry = FakeRegistry::start().await;
        let host = registry.host();
        registry.push("team/app", "v1", &Image::new("1"));
        registry.push("other/app", "v1", &Image::new("2"));
        let samovar = samovar();
        let (all, first) = token(&samovar, &["all", "--refresh"]).await;
        let (team, second) = token(&samovar, &["team", "--read", &format!("{host}/team/*")]).await;
        let (operator, third) =
            token(&samovar, &["operator", "--read", "nothing.invalid/*", "--operate"]).await;
        let file = samovar.write_file("tokens", &[first, second, third].concat());
        let watched = watch([format!("{host}/team/app"), format!("{host}/other/app")]);
        let server = samovar.serve(and(watched, ["--tokens", file.to_str().unwrap()])).await;
        let guarded = Self { server, samovar, registry, all, team, operator };
        for name in ["team/app", "other/app"] {
            let path = repository_path(&format!("{}/{name}", guarded.registry.host()));
            let asked = tokio::time::timeout(PATIENCE, async {
                while guarded.get(&path, &guarded.all).await.json()["complete"] != true {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            asked.await.expect("it is listed in time");
        }
        guarded
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        let [(name, value)] = bearer(token);
        self.server.get_with(path, &[(name, &value)]).await
    }
}

#[tokio::test]
async fn every_door_asks_who_asks_and_shows_what_they_may_see() {
    let guarded = Guarded::start().await;
    let (server, host) = (&guarded.server, guarded.registry.host());
    let (ours, theirs, nowhere) =
        (format!("{host}/team/app"), format!("{host}/other/app"), format!("{host}/other/none"));
    let of = |name: &str| {
        vec![
            ("GET".to_owned(), repository_path(name)),
            ("GET".to_owned(), image_path(&format!("{name}:v1"))),
            ("GET".to_owned(), format!("/api/v1/history/{name}")),
            ("GET".to_owned(), format!("/api/v1/latest/{name}?alphabetical=asc")),
            ("GET".to_owned(), format!("/v2/{name}/tags/list")),
            ("GET".to_owned(), format!("/v2/{name}/manifests/v1")),
            (json!({"image": name}).to_string(), "/api/v1/refresh?wait=5s".to_owned()),
        ]
    };
    let (all, team) = (format!("Bearer {}", guarded.all), format!("bearer {}", guarded.team));
    let as_password = format!("Basic {}", STANDARD.encode(format!("anybody:{}", guarded.team)));
    for (method, path) in of(&ours) {
        for bad in [None, Some("Bearer wrong"), Some("Basic bm86"), Some("Negotiate x")] {
            let answer = ask(server, &method, &path, bad).await;
            assert_eq!(answer.status, 401, "{path} {bad:?}: {answer:?}");
            let (kind, challenge) = if path.starts_with("/v2/") {
                ("application/json", "Basic realm=\"samovar\"")
            } else {
                ("application/problem+json", "Bearer realm=\"samovar\"")
            };
            assert_eq!(answer.header("content-type"), Some(kind), "{path}");
            assert_eq!(answer.header("www-authenticate"), Some(challenge), "{path}");
        }
        assert_eq!(ask(server, &method, &path, Some(&all)).await.status, 200, "{path}");
        // Refreshing is not reading.
        let expected = if method == "GET" { 200 } else { 404 };
        for authorization in [&team, &as_password] {
            assert_eq!(ask(server, &method, &path, Some(authorization)).await.status, expected, "{path}");
        }
    }
    let asked_before = guarded.registry.requests().len();
    for ((method, path), (_, unknown)) in of(&theirs).into_iter().zip(of(&nowhere)) {
        assert_eq!(ask(server, &method, &path, Some(&all)).await.status, 200, "{path}");
        let hidden = ask(server, &method, &path, Some(&team)).await;
        let method = method.replace(&theirs, &nowhere);
        let missing = ask(server, &method, &unknown, Some(&team)).await;
        assert_eq!((hidden.status, missing.status), (404, 404), "{path}: {hidden:?}");
        assert_eq!(hidden.text.replace(&theirs, &nowhere), missing.text, "{path}: as what does not exist");
        let headers = |answer: &Answer| {
            let mut headers: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
            headers.sort();
            headers
        };
        assert_eq!(headers(&hidden), headers(&missing), "{path}");
    }
    // One for the refresh by who may.
    let asked = guarded.registry.requests().len() - asked_before;
    assert!(asked <= 4, "what is refused asks nobody: {asked}");
}

#[tokio::test]
async fn lists_batches_and_the_status_name_only_what_may_be_seen() {
    let guarded = Guarded::start().await;
    let host = guarded.registry.host();
    let names = |answer: Answer| -> Vec<String> {
        let repositories = answer.json()["repositories"].as_array().unwrap().clone();
        repositories.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    let ours = format!("{host}/team/app");
    let path = "/api/v1/repositories?limit=1";
    assert_eq!(names(guarded.get(path, &guarded.team).await), std::slice::from_ref(&ours));
    assert!(guarded.get(path, &guarded.team).await.json().get("next").is_none(), "no page of the hidden");
    assert_eq!(names(guarded.get("/api/v1/repositories", &guarded.all).await).len(), 2);
    let catalog = guarded.get("/v2/_catalog", &guarded.team).await;
    assert_eq!(catalog.json(), json!({"repositories": [ours]}));

    let body = json!({"queries": [{"name": ours}, {"name": format!("{host}/other/app")}]}).to_string();
    let team = format!("Bearer {}", guarded.team);
    let batch = ask(&guarded.server, &body, "/api/v1/query", Some(&team)).await.json();
    let statuses: Vec<_> = (0..2).map(|index| batch["answers"][index]["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 404]);

    let status = guarded.get("/api/v1/status", &guarded.team).await.json();
    assert_eq!(status["warmer"]["repositories"], 1);
    assert_eq!((&status["sources"], status["store"].get("url")), (&json!([]), None));
    let status = guarded.get("/api/v1/status", &guarded.operator).await.json();
    assert_eq!((&status["warmer"]["repositories"], &status["access"]["tokens"]), (&json!(2), &json!(3)));

    for (token, expected) in [(&guarded.team, 404), (&guarded.operator, 200), (&guarded.all, 200)] {
        assert_eq!(guarded.get("/metrics", token).await.status, expected);
    }
    assert_eq!(guarded.server.get("/metrics").await.status, 401);
    let metrics = guarded.get("/metrics", &guarded.all).await.text;
    assert!(metrics.contains("samovar_refused_callers_total{reason=\"missing\"} 1"), "{metrics}");
    for open in ["/healthz", "/readyz"] {
        assert_eq!(guarded.server.get(open).await.status, 200, "{open} is open");
    }
    assert_eq!(guarded.server.get("/nothing").await.status, 401, "not even that there is nothing");
}

#[tokio::test]
async fn tokens_are_exchanged_while_it_runs_and_a_bad_file_changes_nothing() {
    let guarded = Guarded::start().await;
    let file = guarded.samovar.home().join("tokens");
    std::fs::write(&file, "nonsense").unwrap();
    wait_for_log(&guarded.server, "the last good one holds").await;
    let status = guarded.get("/api/v1/status", &guarded.all).await.json();
    assert!(status["access"]["problems"][0].as_str().unwrap().contains("tokens:1"), "{status}");

    let (new, entry) = token(&guarded.samovar, &["all"]).await;
    std::fs::write(&file, entry).unwrap();
    wait_for_log(&guarded.server, "the file of tokens has changed").await;
    assert_eq!(guarded.get("/api/v1/repositories", &guarded.all).await.status, 401, "the old one is gone");
    let status = guarded.get("/api/v1/status", &new).await.json();
    assert!(status["access"].get("problems").is_none(), "{status}");
}

#[tokio::test]
async fn what_is_not_said_refuses_the_start() {
    let samovar = samovar();
    for arguments in [
        &["serve", "--store", "memory:", "--listen", "0.0.0.0:0"][..],
        &["serve", "--store", "memory:", "--listen", "127.0.0.1:0", "--tokens", "none.toml"],
        &["serve", "--store", "memory:", "--listen", "127.0.0.1:0", "--auth", "required"],
    ] {
        let output = samovar.run(arguments).await;
        assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
    }
    let config = samovar.write_file("x.toml", "[auth.kubernetes]");
    let output = samovar.run(["serve", "--store", "memory:", "--config", config.to_str().unwrap()]).await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("does not run in a cluster"), "{output:?}");
}

/// Starts a server with TLS by these tables of its file.
async fn serve_tls(samovar: &Samovar, certificates: &Certificates, more: &str) -> SamovarServer {
    for name in ["server.pem", "server.key"] {
        std::fs::copy(certificates.file(name), samovar.home().join(name)).unwrap();
    }
    let home = samovar.home().display();
    let text = format!("[tls]\ncertificate = '{home}/server.pem'\nkey = '{home}/server.key'\n{more}");
    let config = samovar.write_file("samovar.toml", &text);
    samovar.serve(["--store", "memory:", "--config", config.to_str().unwrap()]).await
}

fn client(authority: &Path, identity: Option<&Certificates>) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(&std::fs::read(authority).unwrap()).unwrap();
    let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
    if let Some(certificates) = identity {
        let pem = ["client.pem", "client.key"].map(|name| std::fs::read(certificates.file(name)).unwrap());
        builder = builder.identity(reqwest::Identity::from_pem(&pem.concat()).unwrap());
    }
    builder.build().unwrap()
}

fn https(server: &SamovarServer, path: &str) -> String {
    format!("https://{}{path}", server.host().replace("127.0.0.1", "localhost"))
}

#[tokio::test]
async fn certificates_are_shown_exchanged_and_spoken_http2_over() {
    let (samovar, certificates) = (samovar(), Certificates::make());
    let server = serve_tls(&samovar, &certificates, "").await;
    let ours = client(&certificates.authority(), None);
    let answer = ours.get(https(&server, "/healthz")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    let authority = certificates.authority().display().to_string();
    let output = samovar.run(["status", "--server", &https(&server, ""), "--ca-file", &authority]).await;
    assert_eq!(output.code, Some(0), "{output:?}");

    std::fs::write(samovar.home().join("server.key"), "nonsense").unwrap();
    wait_for_log(&server, "the last good ones are shown").await;
    assert!(client(&certificates.authority(), None).get(https(&server, "/healthz")).send().await.is_ok());
    let others = Certificates::make();
    for name in ["server.pem", "server.key"] {
        std::fs::copy(others.file(name), samovar.home().join(name)).unwrap();
    }
    wait_for_log(&server, "the certificates have changed").await;
    assert!(client(&others.authority(), None).get(https(&server, "/healthz")).send().await.is_ok());
    assert!(client(&certificates.authority(), None).get(https(&server, "/healthz")).send().await.is_err());
    assert!(ours.get(https(&server, "/healthz")).send().await.is_ok(), "what is connected stays so");
}

#[tokio::test]
async fn a_clients_certificate_says_who_they_are() {
    let certificates = Certificates::make();
    let authority = certificates.authority();
    for (names, auth, with, without) in [
        ("client.example", "optional", Some(200), Some(401)),
        ("other.example", "optional", Some(401), Some(401)),
        ("client.example", "required", Some(200), None),
    ] {
        let more = format!(
            "client_ca = '{}'\nclient_auth = '{auth}'\n[[auth.certificates]]\nnames = ['{names}']\nread = '*'\n",
            authority.display()
        );
        let server = serve_tls(&samovar(), &certificates, &more).await;
        for (identity, expected) in [(Some(&certificates), with), (None, without)] {
            let asked = client(&authority, identity).get(https(&server, "/api/v1/status")).send().await;
            let status = asked.ok().map(|answer| answer.status().as_u16());
            assert_eq!(status, expected, "{names} {auth} {}", identity.is_some());
        }
    }
}

#[tokio::test]
async fn one_caller_has_a_rate_and_is_told_when_to_come_back() {
    let samovar = samovar();
    let config = samovar.write_file("x.toml", "[limits]\nrate = 0.01\nburst = 2");
    let server = samovar.serve(["--store", "memory:", "--config", config.to_str().unwrap()]).await;
    for path in ["/api/v1/status", "/v2/"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let limited = server.get("/api/v1/status").await;
    assert_eq!((limited.status, &limited.json()["type"]), (429, &json!("too-many-requests")));
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((90..=100).contains(&wait), "{wait}");
    let limited = server.get("/v2/").await;
    assert_eq!((limited.status, &limited.json()["errors"][0]["code"]), (429, &json!("TOOMANYREQUESTS")));
    assert_eq!(server.get("/healthz").await.status, 200, "whether it lives can always be asked");
}

/// One request on a connection of its own, and everything that comes back until the end of it.
async fn alone(server: &SamovarServer, path: &str) -> String {
    let mut stream = TcpStream::connect(server.host()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_full_house_says_so_and_still_says_that_it_lives() {
    let samovar = samovar();
    let config = samovar.write_file("x.toml", "[limits]\nconnections = 10");
    let server = samovar.serve(["--store", "memory:", "--config", config.to_str().unwrap()]).await;
    // They hold their places by saying nothing, or half of something.
    let mut guests = Vec::new();
    for number in 0..10 {
        let mut guest = TcpStream::connect(server.host()).await.unwrap();
        if number % 2 == 0 {
            guest.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
        }
        guests.push(guest);
    }
    let full = alone(&server, "/api/v1/status").await;
    assert!(full.starts_with("HTTP/1.1 503 "), "{full}");
    assert!(full.contains("retry-after: ") && full.contains("\"type\":\"busy\""), "{full}");
    assert!(alone(&server, "/v2/").await.contains("\"code\":\"UNAVAILABLE\""));
    assert!(alone(&server, "/healthz").await.starts_with("HTTP/1.1 200 "));
    drop(guests);
    let answered = tokio::time::timeout(PATIENCE, async {
        while !alone(&server, "/api/v1/status").await.starts_with("HTTP/1.1 200 ") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    answered.await.expect("places come back");
}

#[tokio::test]
async fn hosts_are_checked_where_it_is_said_which_there_are() {
    let samovar = samovar();
    let config = samovar.write_file("x.toml", "external_hosts = ['samovar.example']");
    let arguments = ["--store", "memory:", "--auth", "none", "--config", config.to_str().unwrap()];
    let server = samovar.serve(arguments).await;
    let asked = async |host: &str| server.get_with("/api/v1/status", &[("host", host)]).await.status;
    for host in ["samovar.example", "Samovar.Example:8080", "localhost"] {
        assert_eq!(asked(host).await, 200, "{host}");
    }
    for host in ["rebound.example", "samovar.example.com", "10.0.0.1"] {
        assert_eq!(asked(host).await, 403, "{host}");
    }
    let headers = [("origin", "https://evil.example"), ("content-type", "text/plain")];
    let body = json!({"image": "alpine"}).to_string();
    assert_eq!(server.post_with("/api/v1/refresh", &headers, &body).await.status, 403);
    assert_eq!(server.post_with("/api/v1/refresh", &headers[1..], &body).await.status, 415);
    assert_eq!(server.get_with("/api/v1/status", &[("origin", "null")]).await.status, 403);
}
