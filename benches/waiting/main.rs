//! What it costs to have clients wait for changes: memory for each, and the time until a change has come to all of them.
//!
//! `cargo bench --bench waiting` prints the table of the README: ten thousand event streams, then as many long polls; with
//! `-- COUNT` so many. samovar and the clients are processes of their own, each with as many descriptors as it has clients
//! (`ulimit -n`). One repository of ten tags; a change is a tag that is pushed and found by a refresh.

#![allow(clippy::print_stdout)]

mod clients;

use std::process::Stdio;
use std::time::Duration;

use clients::Waiting;
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Image, Samovar, SamovarServer};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const REPOSITORY: &str = "team/app";
const USUAL_COUNT: usize = 10_000;
/// For all clients to connect, or to hear of a change.
const PATIENCE: Duration = Duration::from_mins(5);
/// Changes that are timed.
const ROUNDS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let [flag, kind, address, path, count] = arguments.as_slice()
        && flag == "--clients"
    {
        let count = count.parse().expect("a number of clients");
        return runtime.block_on(clients::wait(Waiting::of(kind), address, path, count));
    }
    let count = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(USUAL_COUNT);
    println!("| clients | memory for each | until the first has heard | until all have |\n|---|---|---|---|");
    for waiting in [Waiting::Stream, Waiting::Poll] {
        runtime.block_on(measure(waiting, count));
    }
}

/// A process of clients that wait.
struct Clients {
    lines: Lines<BufReader<ChildStdout>>,
    /// Ends with this value.
    _process: Child,
}

impl Clients {
    fn start(waiting: Waiting, address: &str, path: &str, count: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("the path of this program"))
            .args(["--clients", waiting.as_str(), address, path, &count.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program can be started once more");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { lines, _process: process }
    }

    /// What they say next: numbers.
    async fn next(&mut self) -> Vec<f64> {
        let line =
            timeout(PATIENCE, self.lines.next_line()).await.expect("clients get on").expect("readable");
        let line = line.expect("the clients have not ended");
        line.split(' ').map(|number| number.parse().expect("a number")).collect()
    }
}

async fn measure(waiting: Waiting, count: usize) {
    let registry = FakeRegistry::start().await;
    let name = format!("{}/{REPOSITORY}", registry.host());
    for tag in 0..10 {
        registry.push(REPOSITORY, &format!("v{tag}"), &Image::new(format!("{tag}")));
    }
    let samovar = Samovar::new(env!("CARGO_BIN_EXE_samovar"));
    let limits = ["--rps", "10000", "--burst", "1000", "--poll-interval", "1h", "--store", "memory:"];
    let server =
        samovar.serve([&limits[..], &["--watch", &name, "--insecure-host", &registry.host()]].concat()).await;
    let path = format!("/api/v1/repositories/{name}");
    server.wait_until(&path, |answer| answer.text.contains("\"complete\":true"), PATIENCE).await;
    let path = if waiting == Waiting::Stream { "/api/v1/events" } else { &path };

    // The first client costs what is there for all.
    server.follow("/api/v1/events", None).await.begun().await;
    let before = resident(server.pid());
    let mut clients = Clients::start(waiting, server.host(), path, count);
    clients.next().await;
    let each = (resident(server.pid()) - before) / count as f64;
    let (mut first, mut all) = (0.0_f64, 0.0_f64);
    for round in 0..ROUNDS {
        push(&registry, &server, &name, round).await;
        let heard = clients.next().await;
        (first, all) = (first.max(heard[0]), all.max(heard[1]));
    }
    println!("| {count} {} | {each:.1} KiB | {first:.0} ms | {all:.0} ms |", waiting.plural());
}

async fn push(registry: &FakeRegistry, server: &SamovarServer, name: &str, round: usize) {
    registry.push(REPOSITORY, &format!("w{round}"), &Image::new(format!("w{round}")));
    let answer = server.post_json("/api/v1/refresh?wait=10s", &json!({ "image": name })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The memory of a process, in KiB.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux tells of processes");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
