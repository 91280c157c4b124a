//! Whatever is sent to the doors is answered: by what was asked for, or by a problem that is named. Never with a 500, by half an
//! answer, or not at all.

mod common;

use std::time::Duration;

use common::{and, samovar, wait_until_complete, watch};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Image, SamovarServer};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A server that has not answered by then hangs.
const LIMIT: Duration = Duration::from_secs(20);
const CASES: u32 = 600;

async fn serve_one() -> (FakeRegistry, SamovarServer) {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "v1", &Image::new("one"));
    let name = format!("{}/team/app", registry.host());
    let alias = format!("up={}", registry.host());
    let server = samovar().serve(and(watch([&name]), ["--alias", &alias])).await;
    wait_until_complete(&server, &name).await;
    (registry, server)
}

/// Runs one test of many inputs against one server.
fn with_server<S: Strategy>(inputs: &S, test: impl Fn(&tokio::runtime::Runtime, &str, S::Value)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_registry, server) = runtime.block_on(serve_one());
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(inputs, |input| {
        test(&runtime, server.host(), input);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}\nlog:\n{}", server.log());
    }
    runtime.block_on(async { assert_eq!(server.get("/healthz").await.status, 200) });
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Every byte percent-encoded.
fn encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"))
}

fn path() -> impl Strategy<Value = String> {
    let known = select(vec![
        "api",
        "v1",
        "v2",
        "repositories",
        "images",
        "latest",
        "history",
        "refresh",
        "query",
        "status",
        "openapi.json",
        "hooks",
        "flux",
        "v11",
        "notify",
        "metrics",
        "healthz",
        "readyz",
        "up",
        "team",
        "app",
        "app:v1",
        "app@sha256:0",
        "tags",
        "list",
        "manifests",
        "blobs",
        "uploads",
        "referrers",
        "_catalog",
        "v1.0",
        "sha256:",
        "docker.io",
        "127.0.0.1:1",
        "[::1]:5000",
        "..",
        ".",
        "",
        "%2F",
        "%2f..%2F",
        "%00",
        "%ff",
        "%C3%A9",
        "%",
        "%zz",
        "a%20b",
        "*",
        "+",
        "~",
        ";x=1",
        "UPPER",
    ])
    .prop_map(str::to_owned);
    let any = proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| encoded(&bytes));
    let long = (1..3000usize).prop_map(|length| "a".repeat(length));
    let segment = prop_oneof![12 => known, 2 => any, 2 => "[!-\"$-.0-9:-~]{0,12}".prop_map(|text| text.replace('?', "")), 1 => long];
    let deep = proptest::collection::vec(segment.clone(), 0..8);
    let prefix = select(vec![
        "",
        "/api/v1/repositories",
        "/api/v1/images",
        "/api/v1/latest",
        "/api/v1/history",
        "/api/v1/refresh",
        "/api/v1/query",
        "/v2",
        "/up/v2",
        "/hooks",
        "/v2/up/team/app/manifests",
        "/v2/up/team/app/blobs",
        "/v2/up/team/app/tags",
    ]);
    (prefix, deep).prop_map(|(prefix, segments)| {
        let path = segments.into_iter().fold(prefix.to_owned(), |path, segment| format!("{path}/{segment}"));
        if path.is_empty() { "/".to_owned() } else { path }
    })
}

fn query() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        8 => select(vec![
            "prefix", "limit", "after", "fields", "tag", "since", "semver", "alphabetical", "numerical", "newest", "filter", "exclude",
            "extract", "platform", "label", "min_age", "min_age_by", "require_complete", "prerelease", "partial", "strict", "n",
            "last", "ns", "artifactType", "name", "type",
        ]).prop_map(str::to_owned),
        1 => "[ -~&&[^# ?&=]]{0,10}",
    ];
    let value = prop_oneof![
        4 => select(vec![
            "", "asc", "desc", "tags", "tags,images", "^1", "*", "created", "0", "-1", "1", "99999999999999999999", "true", "yes",
            "(", "[a-z]+", "(?P<n>.*)", "$n", "$1", "%00", "%ff", "%", "%2", "1d", "1h", "linux/amd64", "a=b", "!a", "up", "docker.io",
            "sha256:0", "2026-01-01T00:00:00Z", "1.1", "..",
        ]).prop_map(str::to_owned),
        2 => "[!-~&&[^#&]]{0,30}",
        1 => proptest::collection::vec(any::<u8>(), 0..10)
            .prop_map(|bytes| encoded(&bytes)),
    ];
    let pair = (key, value).prop_map(|(key, value)| format!("{key}={value}"));
    let some = proptest::collection::vec(pair, 1..5).prop_map(|pairs| format!("?{}", pairs.join("&")));
    prop_oneof![2 => Just(String::new()), 5 => some, 1 => "[!-~&&[^#]]{0,40}".prop_map(|text| format!("?{text}"))]
}

fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = select(vec![
        "accept-encoding",
        "if-none-match",
        "accept",
        "range",
        "origin",
        "content-type",
        "content-encoding",
        "last-event-id",
        "authorization",
        "x-forwarded-for",
        "cookie",
        "x-any",
        "x-github-event",
        "x-hub-signature-256",
        "ce-type",
        "if-modified-since",
        "oci-namespace",
    ])
    .prop_map(str::to_owned);
    let value = prop_oneof![
        4 => select(vec![
            "gzip", "zstd;q=1, gzip;q=0.5", "gzip;q=x", "*", "identity;q=0", "W/\"1\"", "\"", "*, W/\"", "application/json",
            "text/plain", "bytes=0-", "bytes=9-1", "http://evil.example", "null", "Bearer", "Bearer x", "Basic !!", "",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(prop_oneof![Just(b'\t'), 32..127u8, 128..=255u8], 0..60),
    ];
    proptest::collection::vec((name, value), 0..5)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let text = select(vec![
        "",
        "{}",
        "[]",
        "null",
        "{\"image\":\"up/team/app\"}",
        "{\"image\":1}",
        "{\"image\":\"up/team/app:nope\"}",
        "{\"image\":",
        "{\"queries\":[]}",
        "{\"queries\":[{\"name\":\"up/team/app\"}]}",
        "{\"queries\":[{\"name\":\"up/team/app\",\"semver\":{}}]}",
        "{\"queries\":[{}, 1]}",
        "{\"queries\":[{\"name\":\"up/team/app\",\"filter\":[\"(\",\"a\"]}]}",
        "{\"a\":1e999}",
        "\"\\ud800\"",
    ]);
    prop_oneof![
        4 => text.prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => (1..200usize).prop_map(|depth| [vec![b'['; depth * 100], vec![b']'; depth * 100]].concat()),
        1 => (0..40_000usize).prop_map(|length| vec![b' '; length]),
    ]
}

#[derive(Debug)]
struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

fn request() -> impl Strategy<Value = Request> {
    let method = select(vec![
        "GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW",
    ]);
    (method, path(), query(), headers(), body()).prop_map(|(method, path, query, headers, body)| {
        let body = if method == "POST" { body } else { Vec::new() };
        Request { method, target: format!("{path}{query}"), headers, body }
    })
}

impl Request {
    fn bytes(&self, host: &str) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", self.method, self.target)
                .into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if !self.body.is_empty() {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// All that the server says to this until it closes the connection.
async fn exchange(host: &str, bytes: &[u8], closes: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(host).await.unwrap();
    let mut answer = Vec::new();
    // A server that refuses what is too large need not read it to its end.
    let _ = stream.write_all(bytes).await;
    if !closes {
        let _ = stream.shutdown().await;
    }
    let read = tokio::time::timeout(LIMIT, async {
        let mut part = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut part).await {
            answer.extend_from_slice(&part[..length]);
        }
    });
    assert!(read.await.is_ok(), "no end of the answer: {}", String::from_utf8_lossy(&answer));
    answer
}

fn check(request: &Request, answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    let about = || format!("{request:?}\n{text}");
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {}", about()));
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let body = &answer[end + 4..];
    let status: u16 =
        head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{}", about()));
    assert!(status < 500 || status == 503, "{}", about());
    let header = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    if request.method != "HEAD"
        && let Some(length) = header("content-length")
    {
        assert_eq!(length.parse(), Ok(body.len()), "half an answer: {}", about());
    }
    if request.target.parse::<http::Uri>().is_err() {
        // That is no request: it does not come as far as to anything that could name a problem.
        assert_eq!(status, 400, "{}", about());
        return;
    }
    let is_api = request.target.starts_with("/api/");
    if status >= 400 && is_api && request.method != "HEAD" && header("content-encoding").is_none() {
        assert_eq!(header("content-type").as_deref(), Some("application/problem+json"), "{}", about());
        let problem: Value =
            serde_json::from_slice(body).unwrap_or_else(|_| panic!("no problem: {}", about()));
        assert_eq!(problem["status"], status, "{}", about());
        for named in ["type", "title", "detail"] {
            assert!(problem[named].as_str().is_some_and(|text| !text.is_empty()), "{}", about());
        }
    }
}

#[test]
fn any_request_is_answered() {
    with_server(&request(), |runtime, host, request| {
        let answer = runtime.block_on(exchange(host, &request.bytes(host), true));
        check(&request, &answer);
    });
}

/// What is no request at all ends the connection, with or without an answer.
#[test]
fn any_bytes_leave_the_server_as_it_was() {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400),
        (request(), 0..400usize).prop_map(|(request, length)| {
            let mut bytes = request.bytes("localhost");
            bytes.truncate(length);
            bytes
        }),
        (request(), 0..400usize, any::<u8>()).prop_map(|(request, place, byte)| {
            let mut bytes = request.bytes("localhost");
            let place = place % bytes.len();
            bytes[place] = byte;
            bytes
        }),
    ];
    with_server(&bytes, |runtime, host, bytes| {
        let answer = runtime.block_on(exchange(host, &bytes, false));
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.starts_with("HTTP/1.1 500"), "{text}");
    });
}
