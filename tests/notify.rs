//! Telling receivers of changes, over the real binary: receivers that fail, hang, refuse and are restarted, crashes of ours,
//! and two replicas.

mod common;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use common::{PATIENCE, and, refresh, samovar, wait_until_complete, watch};
use http::{HeaderMap, StatusCode};
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Image, RedisServer, Samovar, SamovarServer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const SECRET: &str = "a secret between us";

/// How a receiver answers a request.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Answer(u16),
    Later(u64),
    Hang,
}

#[derive(Debug, Clone)]
struct Received {
    headers: HeaderMap,
    body: Bytes,
    taken: bool,
}

/// A server that is told of changes.
#[derive(Debug)]
struct Receiver {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    manners: Arc<Mutex<VecDeque<Manner>>>,
    serving: JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Self {
        Self::again(0, Arc::default(), Arc::default()).await
    }

    async fn again(
        port: u16,
        received: Arc<Mutex<Vec<Received>>>,
        manners: Arc<Mutex<VecDeque<Manner>>>,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (all, next) = (Arc::clone(&received), Arc::clone(&manners));
        let take = move |headers: HeaderMap, body: Bytes| async move {
            let manner = next.lock().unwrap().pop_front().unwrap_or(Manner::Answer(204));
            let taken = matches!(manner, Manner::Answer(200..300));
            all.lock().unwrap().push(Received { headers, body, taken });
            match manner {
                Manner::Answer(status) => StatusCode::from_u16(status).unwrap().into_response(),
                Manner::Later(seconds) => {
                    (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response()
                }
                Manner::Hang => std::future::pending::<Response>().await,
            }
        };
        let router = Router::new().fallback(take);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, received, manners, serving }
    }

    /// It goes down; connections to it are refused.
    async fn stop(self) -> Stopped {
        self.serving.abort();
        let _ = (&mut { self.serving }).await;
        Stopped { port: self.port, received: self.received, manners: self.manners }
    }

    fn answer_next(&self, manners: impl IntoIterator<Item = Manner>) {
        self.manners.lock().unwrap().extend(manners);
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// What it took, as JSON.
    fn taken(&self) -> Vec<Value> {
        let taken = self.received().into_iter().filter(|received| received.taken);
        taken.map(|received| serde_json::from_slice(&received.body).unwrap()).collect()
    }

    /// Waits until it has taken so many.
    async fn has_taken(&self, count: usize) -> Vec<Value> {
        let enough = async {
            while self.taken().len() < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(PATIENCE, enough).await.is_ok(), "{:?}", self.received());
        self.taken()
    }
}

struct Stopped {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    manners: Arc<Mutex<VecDeque<Manner>>>,
}

impl Stopped {
    async fn start(self) -> Receiver {
        Receiver::again(self.port, self.received, self.manners).await
    }
}

/// The table of a receiver.
fn table(name: &str, receiver_port: u16, more: &str) -> String {
    format!("[[notify]]\nname = '{name}'\nurl = 'http://127.0.0.1:{receiver_port}/hook'\n{more}\n")
}

async fn serve(samovar: &Samovar, config: &str, name: &str, more: &[&str]) -> SamovarServer {
    let file = samovar.write_file("samovar.toml", config);
    let config = [
        "--config".to_owned(),
        file.to_str().unwrap().to_owned(),
        "--poll-interval".to_owned(),
        "1s".to_owned(),
    ];
    let more = more.iter().map(|more| (*more).to_owned());
    let server = samovar.serve(and(watch([name]), config.into_iter().chain(more))).await;
    wait_until_complete(&server, name).await;
    server
}

/// Waits until samovar looks after the registry's receivers.
async fn is_noted(server: &SamovarServer) {
    // They are taken over within a second or two, from then on all is told.
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(server.get("/healthz").await.status, 200);
}

async fn push(registry: &FakeRegistry, server: &SamovarServer, name: &str, tag: &str, text: &str) {
    registry.push("team/app", tag, &Image::new(text));
    assert_eq!(refresh(server, name).await.status, 200);
}

fn tags(told: &[Value]) -> Vec<&str> {
    told.iter().map(|told| told["tag"].as_str().unwrap()).collect()
}

async fn status_of(server: &SamovarServer, receiver: &str) -> Value {
    let status: Value = serde_json::from_str(&server.get_text("/api/v1/status").await).unwrap();
    let mut receivers = status["receivers"].as_array().unwrap().iter();
    receivers.find(|one| one["name"] == receiver).cloned().unwrap()
}

#[tokio::test]
async fn failures_are_tried_again_in_order_refusals_are_shown_and_nobody_delays_another() {
    let registry = FakeRegistry::start().await;
    let name = format!("{}/team/app", registry.host());
    registry.push("team/app", "v0", &Image::new("0"));
    let [flaky, slow, well] = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let samovar = samovar();
    let secret = samovar.write_file("secret", &format!("{SECRET}\n"));
    let secret = format!("format = 'flux'\nsecret_file = '{}'", secret.display());
    let config = [
        table("flaky", flaky.port, &secret),
        table("slow", slow.port, "format = 'keel'"),
        table("well", well.port, "types = ['tag.moved']"),
    ];
    let server = serve(&samovar, &config.concat(), &name, &[]).await;
    is_noted(&server).await;
    flaky.answer_next([
        Manner::Answer(503),
        Manner::Answer(500),
        Manner::Later(2),
        Manner::Answer(204),
        Manner::Answer(410),
    ]);
    slow.answer_next([Manner::Hang, Manner::Hang]);
    push(&registry, &server, &name, "v1", "1").await;
    push(&registry, &server, &name, "v2", "2").await;
    push(&registry, &server, &name, "v1", "1 moved").await;
    push(&registry, &server, &name, "v3", "3").await;

    let moved = &well.has_taken(1).await[0];
    assert_eq!(
        (&moved["type"], &moved["subject"]),
        (&json!("io.samovar.tag.moved"), &json!(format!("{name}:v1")))
    );
    assert!(slow.taken().is_empty(), "it hangs, and delays nobody");

    let told = flaky.has_taken(3).await;
    assert_eq!(tags(&told), ["v1", "v1", "v3"], "v2 was refused for good");
    let received = flaky.received();
    let tried = |tag: &str| {
        received
            .iter()
            .filter(|one| String::from_utf8_lossy(&one.body).contains(&format!("\"tag\":\"{tag}\"")))
            .count()
    };
    assert_eq!((tried("v2"), received.len()), (1, 7));
    for Received { headers, body, .. } in &received {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let hex = |tag: hmac::Tag| -> String {
            let digits: Vec<String> = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            digits.concat()
        };
        assert_eq!(headers["x-signature"], format!("sha256={}", hex(hmac::sign(&key, body))));
        let timed = [headers["x-samovar-timestamp"].as_bytes(), b".", body].concat();
        assert_eq!(headers["x-samovar-signature"], format!("sha256={}", hex(hmac::sign(&key, &timed))));
    }
    let standing = status_of(&server, "flaky").await;
    assert_eq!((&standing["sent"], &standing["waiting"]), (&json!(3), &json!(0)), "{standing}");
    let dead = &standing["dead_letters"];
    assert_eq!(
        (&dead[0]["tag"], &dead[0]["reason"]),
        (&json!("v2"), &json!("it answered 410 Gone")),
        "{dead}"
    );
    assert_eq!(standing["url"], format!("http://127.0.0.1:{}", flaky.port), "without what may be secret");

    let told = slow.has_taken(4).await;
    assert_eq!(tags(&told), ["v1", "v2", "v1", "v3"], "in order, when it answers again");
    assert_eq!(told[0].as_object().unwrap().len(), 3);
    let metrics = server.get_text("/metrics").await;
    for line in [
        "samovar_notifications_total{outcome=\"sent\",receiver=\"flaky\"} 3",
        "samovar_notifications_total{outcome=\"retried\",receiver=\"flaky\"} 3",
        "samovar_notifications_total{outcome=\"given_up\",receiver=\"flaky\"} 1",
        "samovar_notifications_waiting{receiver=\"slow\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(!server.log().contains(SECRET));
}

#[tokio::test]
async fn what_waits_survives_crashes_and_restarts_of_both_sides() {
    let registry = FakeRegistry::start().await;
    let name = format!("{}/team/app", registry.host());
    registry.push("team/app", "v0", &Image::new("0"));
    let receiver = Receiver::start().await;
    let samovar = samovar();
    let config = table("one", receiver.port, "format = 'flux'\nsecret = 'x'");
    let mut server = serve(&samovar, &config, &name, &[]).await;
    is_noted(&server).await;
    push(&registry, &server, &name, "v1", "1").await;
    receiver.has_taken(1).await;
    sleep(Duration::from_millis(1500)).await;

    let stopped = receiver.stop().await;
    push(&registry, &server, &name, "v2", "2").await;
    push(&registry, &server, &name, "v3", "3").await;
    assert_eq!(status_of(&server, "one").await["waiting"], 2);
    server.kill();
    let mut server = serve(&samovar, &config, &name, &[]).await;
    push(&registry, &server, &name, "v4", "4").await;
    let receiver = stopped.start().await;
    let told = receiver.has_taken(4).await;
    assert_eq!(tags(&told), ["v1", "v2", "v3", "v4"], "what was delivered and noted is not told again");

    // While samovar is down, too, and after an orderly end.
    assert!(server.terminate().await.success());
    registry.push("team/app", "v5", &Image::new("5"));
    let server = serve(&samovar, &config, &name, &[]).await;
    let told = receiver.has_taken(5).await;
    assert_eq!(tags(&told)[4..], ["v5"]);
    drop(server);
}

#[tokio::test]
async fn of_two_replicas_one_tells_and_the_other_goes_on() {
    let redis = RedisServer::start().await;
    let registry = FakeRegistry::start().await;
    let name = format!("{}/team/app", registry.host());
    registry.push("team/app", "v0", &Image::new("0"));
    let receiver = Receiver::start().await;
    let config = table("one", receiver.port, "format = 'flux'");
    let store = format!("redis://{}", redis.host());
    let samovars = [samovar(), samovar()];
    let mut first = serve(&samovars[0], &config, &name, &["--store", &store]).await;
    is_noted(&first).await;
    let second = serve(&samovars[1], &config, &name, &["--store", &store]).await;
    for tag in ["v1", "v2"] {
        push(&registry, &first, &name, tag, tag).await;
    }
    receiver.has_taken(2).await;
    let stopped = receiver.stop().await;
    push(&registry, &first, &name, "v3", "3").await;
    sleep(Duration::from_millis(1500)).await;
    first.kill();
    let receiver = stopped.start().await;
    registry.push("team/app", "v4", &Image::new("4"));
    let told = receiver.has_taken(4).await;
    assert_eq!(tags(&told), ["v1", "v2", "v3", "v4"], "each once, though both know of all");
    drop(second);
}

#[tokio::test]
async fn what_is_wrong_with_a_receiver_refuses_the_start() {
    let samovar = samovar();
    for (more, reason) in [
        ("format = 'smoke signals'", "there are cloudevents, flux, argocd-image-updater, keel"),
        ("types = ['tag.signed']", "is no type of change"),
        ("names = []", "from 1 to 64 are needed"),
        ("secret_file = '/no/such/file'", "cannot read"),
        ("secret = 'a'\nsecret_env = 'B'", "one of secret, secret_file and secret_env is needed"),
        ("give_up_after = '0s'", "give_up_after"),
        ("colour = 'red'", "known here: "),
    ] {
        let file = samovar.write_file("samovar.toml", &table("one", 1, more));
        let output = samovar.run(["check-config".as_ref(), file.as_os_str()]).await;
        assert_eq!(output.code, Some(2), "{more}: {output:?}");
        assert!(output.stderr.contains(reason), "{more}: {output:?}");
    }
    let twice = table("one", 1, "").repeat(2);
    let file = samovar.write_file("samovar.toml", &twice);
    let output = samovar.run(["check-config".as_ref(), file.as_os_str()]).await;
    assert!(output.stderr.contains("\"one\" is the name of another entry too"), "{output:?}");
    let metadata = "[[notify]]\nname = 'one'\nurl = 'http://169.254.169.254/hunter2'\n";
    let file = samovar.write_file("samovar.toml", metadata);
    let output = samovar.run(["check-config".as_ref(), file.as_os_str()]).await;
    assert!(output.stderr.contains("never connected to") && !output.stderr.contains("hunter2"), "{output:?}");
}
