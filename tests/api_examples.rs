//! The examples of `docs/api.md`: every call is made as it stands there, every answer is JSON of the same shape.

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::{and, keys, samovar, wait_until_complete, watch};
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Image, SamovarServer};
use serde_json::Value;
use tokio::process::Command;

const PAGE: &str = include_str!("../docs/api.md");
const LIMIT: Duration = Duration::from_secs(30);

/// The blocks of the page that are marked so, each with what follows it.
fn blocks<'a>(mark: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let start = format!("\n```{mark}\n");
    let parts: Vec<&str> = PAGE.split(&*start).skip(1).collect();
    parts.into_iter().map(|part| part.split_once("```").expect("a block ends"))
}

async fn serve() -> (FakeRegistry, SamovarServer) {
    let registry = FakeRegistry::start().await;
    for tag in ["3.21", "3.22", "edge"] {
        registry.push(
            "library/alpine",
            tag,
            &Image::new(tag).created("2024-01-02T03:04:05Z").label("a", "b"),
        );
    }
    let name = format!("{}/library/alpine", registry.host());
    let alias = format!("corp={}", registry.host());
    let server = samovar().serve(and(watch([&name]), ["--alias", &alias])).await;
    wait_until_complete(&server, &name).await;
    (registry, server)
}

/// What a command of the page prints when it is run against this server.
async fn run(server: &SamovarServer, command: &str) -> String {
    let command = command.replace("127.0.0.1:8080", server.host());
    let mut shell = Command::new("bash");
    shell.args(["-euc", &command]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, shell.output()).await.expect("it ends").expect("bash runs");
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn every_answer_on_the_page_is_json() {
    let mut any = 0;
    for (block, _) in blocks("json") {
        any += 1;
        if let Err(error) = serde_json::from_str::<Value>(block) {
            panic!("{error}:\n{block}");
        }
    }
    assert!(any > 5);
}

#[tokio::test]
async fn every_call_on_the_page_is_answered_as_it_is_there() {
    let (_registry, server) = serve().await;
    let mut any = 0;
    for (command, after) in blocks("sh") {
        // Streams of events have no end; what senders of webhooks and other clients do is tried elsewhere.
        let is_ours = command.starts_with("curl ")
            && command.contains("/api/v1/")
            && !command.contains("/api/v1/events");
        if !is_ours {
            continue;
        }
        any += 1;
        let printed = run(&server, command).await;
        let shown =
            after.trim_start().strip_prefix("```json\n").and_then(|rest| Some(rest.split_once("```")?.0));
        if let Some(text) = printed.strip_prefix("HTTP/1.1 ") {
            assert!(
                text.starts_with("200") || text.starts_with("304") || text.contains("no-such-image"),
                "{command}: {printed}"
            );
            continue;
        }
        let answer: Value =
            serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{command}: {error}: {printed}"));
        assert!(answer.get("type").is_none(), "a problem: {command}: {printed}");
        if let Some(shown) = shown {
            let shown: Value = serde_json::from_str(shown).expect("see above");
            let missing: Vec<_> = keys(&answer).into_iter().filter(|key| shown.get(key).is_none()).collect();
            assert!(missing.is_empty(), "{command}: the page does not show {missing:?}");
        }
    }
    assert!(any > 8, "{any}");
}
