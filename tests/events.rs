//! The change feed: server-sent events over the real binary and Debian's docker-registry, resumed after breaks, crashes and
//! at another replica.

mod common;

use std::time::Duration;

use common::{PATIENCE, and, refresh, samovar, wait_until_complete, watch};
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Answer, DockerRegistry, EventStream, Image, RedisServer, Samovar, SamovarServer};
use serde_json::{Value, json};

const EVENTS: &str = "/api/v1/events";

async fn serve(samovar: &Samovar, names: &[String]) -> SamovarServer {
    samovar.serve(and(watch(names), ["--poll-interval", "1s"])).await
}

/// The next events, as `[type, name, tag]`, each also as it is.
async fn next(stream: &mut EventStream, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        let event = stream.next().await.expect("the stream goes on");
        assert_eq!(event.data.get("type").unwrap_or(&json!("reset")), &event.kind);
        assert!(event.id.is_some());
        events.push(event.data);
    }
    events
}

/// What the history tells of a repository, as the feed does.
async fn history(server: &SamovarServer, name: &str) -> Vec<Value> {
    let history: Value =
        serde_json::from_str(&server.get_text(&format!("/api/v1/history/{name}")).await).unwrap();
    let named = |mut event: Value| {
        event["name"] = name.into();
        event
    };
    history["events"].as_array().unwrap().iter().cloned().map(named).collect()
}

fn of(events: &[Value], name: &str) -> Vec<Value> {
    events.iter().filter(|event| event["name"] == name).cloned().collect()
}

#[tokio::test]
async fn every_change_comes_once_and_in_order_over_breaks_and_crashes() {
    let registry = DockerRegistry::start().await;
    let names = ["team/app", "team/web"].map(|path| format!("{}/{path}", registry.host()));
    let push = async |path: &str, tag: &str, text: &str| registry.push(path, tag, &Image::new(text)).await;
    for path in ["team/app", "team/web"] {
        push(path, "v1", path).await;
    }
    let samovar = samovar();
    let mut server = serve(&samovar, &names).await;
    for name in &names {
        wait_until_complete(&server, name).await;
    }
    let mut told = Vec::new();
    let mut stream = server.follow(EVENTS, None).await.begun().await;

    push("team/app", "v2", "2").await;
    push("team/web", "v2", "2w").await;
    told.extend(next(&mut stream, 2).await);
    push("team/app", "v1", "moved").await;
    assert_eq!(refresh(&server, &format!("{}:v1", names[0])).await.status, 200);
    told.extend(next(&mut stream, 1).await);
    assert_eq!(told[2]["type"], "tag.moved");

    // The connection breaks; something happens; it is resumed.
    let id = stream.last_id.clone().unwrap();
    drop(stream);
    push("team/app", "v3", "3").await;
    push("team/web", "v3", "3w").await;
    for name in &names {
        let wanted = |answer: &Answer| answer.text.contains("\"v3\"");
        server.wait_until(&format!("/api/v1/history/{name}"), wanted, PATIENCE).await;
    }
    let mut stream = server.follow(EVENTS, Some(&id)).await;
    told.extend(next(&mut stream, 2).await);

    // samovar crashes, and while it is down more happens.
    server.kill();
    while stream.next().await.is_some() {}
    let id = stream.last_id.clone().unwrap();
    push("team/app", "v4", "4").await;
    push("team/web", "v4", "4w").await;
    server = serve(&samovar, &names).await;
    let mut stream = server.follow(&format!("{EVENTS}?last_event_id={id}"), None).await;
    told.extend(next(&mut stream, 2).await);

    // It crashes once more, after they were told.
    server.kill();
    let id = stream.last_id.clone().unwrap();
    server = serve(&samovar, &names).await;
    let mut stream = server.follow(EVENTS, Some(&id)).await;
    push("team/app", "v5", "5").await;
    told.extend(next(&mut stream, 1).await);
    for name in &names {
        assert_eq!(of(&told, name), history(&server, name).await, "{name}");
    }
    assert_eq!(told.len(), 8);

    // Whoever comes again from the beginning hears of everything since.
    let first = server.follow(EVENTS, Some(&id)).await.next().await.unwrap();
    assert_eq!(first.data, told[7]);
}

#[tokio::test]
async fn what_is_chosen_is_told_what_cannot_be_resumed_begins_anew_and_the_end_is_at_once() {
    let registry = FakeRegistry::start().await;
    let names = ["team/app", "other/web"].map(|path| format!("{}/{path}", registry.host()));
    for path in ["team/app", "other/web"] {
        registry.push(path, "v1", &Image::new(path));
    }
    let samovar = samovar();
    let mut server = serve(&samovar, &names).await;
    for name in &names {
        wait_until_complete(&server, name).await;
    }
    let mut only_team = server.follow(&format!("{EVENTS}?name=*/team/*"), None).await.begun().await;
    let mut only_moves =
        server.follow(&format!("{EVENTS}?type=tag.moved,tag.removed"), None).await.begun().await;
    registry.push("other/web", "v2", &Image::new("2"));
    assert_eq!(refresh(&server, &names[1]).await.status, 200);
    registry.push("team/app", "v2", &Image::new("2"));
    assert_eq!(refresh(&server, &names[0]).await.status, 200);
    registry.push("other/web", "v2", &Image::new("3"));
    assert_eq!(refresh(&server, &names[1]).await.status, 200);
    assert_eq!(next(&mut only_team, 1).await[0]["name"], names[0]);
    let moved = &next(&mut only_moves, 1).await[0];
    assert_eq!((&moved["type"], &moved["name"]), (&json!("tag.moved"), &json!(names[1])));

    for id in ["what is this", "1", "fffffffffffffff"] {
        let mut stream = server.follow(EVENTS, Some(id)).await;
        let first = stream.next().await.unwrap();
        assert_eq!((&*first.kind, &first.data), ("reset", &json!({})), "{id}");
    }
    for refused in ["name=", "type=", "type=tag.signed", "last_event_id=x", "nome=x", "name=a,,b"] {
        let answer = server.get(&format!("{EVENTS}?{refused}")).await;
        assert_eq!((answer.status, &answer.json()["type"]), (400, &json!("bad-request")), "{refused}");
    }
    // Those that went away are no longer counted.
    let two = |page: &Answer| page.text.contains("samovar_waiting_clients{how=\"stream\"} 2\n");
    server.wait_until("/metrics", two, PATIENCE).await;

    let (ended, ()) = tokio::join!(server.terminate(), async {
        assert_eq!(only_team.next().await, None);
    });
    assert!(ended.success());
}

#[tokio::test]
async fn a_stream_goes_on_at_another_replica() {
    let redis = RedisServer::start().await;
    let registry = FakeRegistry::start().await;
    let name = format!("{}/team/app", registry.host());
    registry.push("team/app", "v1", &Image::new("1"));
    let samovars = [samovar(), samovar()];
    let mut servers = Vec::new();
    for samovar in &samovars {
        let arguments =
            and(watch([&name]), ["--store", &format!("redis://{}", redis.host()), "--poll-interval", "1s"]);
        let server = samovar.serve(arguments).await;
        wait_until_complete(&server, &name).await;
        servers.push(server);
    }
    let mut told = Vec::new();
    let mut stream = servers[0].follow(EVENTS, None).await.begun().await;
    let mut other = servers[1].follow(EVENTS, None).await.begun().await;
    for round in 0..4 {
        registry.push("team/app", &format!("v2.{round}"), &Image::new(format!("{round}")));
        told.extend(next(&mut stream, 1).await);
        let id = stream.last_id.clone().unwrap();
        stream = servers[(round + 1) % 2].follow(EVENTS, Some(&id)).await;
    }
    assert_eq!(told, history(&servers[0], &name).await);
    assert_eq!(next(&mut other, 4).await, told, "who stays hears the same");
}

#[tokio::test]
async fn the_command_prints_what_changes_and_ends_when_nobody_reads() {
    let registry = FakeRegistry::start().await;
    let name = format!("{}/team/app", registry.host());
    registry.push("team/app", "v1", &Image::new("1"));
    let home = samovar();
    let server = serve(&home, std::slice::from_ref(&name)).await;
    wait_until_complete(&server, &name).await;
    let shell = Samovar::new("/bin/sh");
    let ask = |more: &str| {
        let binary = env!("CARGO_BIN_EXE_samovar");
        format!("{binary} events --server http://{} {more} | head -n 2", server.host())
    };
    let (as_json, as_lines, ()) = tokio::join!(
        shell.run(["-c".to_owned(), ask("--output json --name '*/team/*'")]),
        shell.run(["-c".to_owned(), ask("--type tag.added")]),
        async {
            for round in 0..6 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                registry.push("team/app", &format!("v2.{round}"), &Image::new(format!("{round}")));
                assert_eq!(refresh(&server, &name).await.status, 200);
            }
        }
    );
    let printed: Vec<Value> =
        as_json.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(printed.len(), 2, "{as_json:?}");
    assert!(
        printed.iter().all(|event| event["name"] == name && event["position"].is_string()),
        "{as_json:?}"
    );
    assert_eq!(as_lines.stdout.lines().count(), 2, "{as_lines:?}");
    assert!(as_lines.stdout.contains(&format!("  tag.added             {name}:v2.")), "{as_lines:?}");

    // From a position on: what came since is printed first.
    let since = printed[0]["position"].as_str().unwrap();
    let again = ask(&format!("--output json --since {since}")).replace("-n 2", "-n 1");
    let again = shell.run(["-c".to_owned(), again]);
    let (again, ()) = tokio::join!(again, async {
        for round in 0..4 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            registry.push("team/app", &format!("v3.{round}"), &Image::new(format!("3{round}")));
            assert_eq!(refresh(&server, &name).await.status, 200);
        }
    });
    assert_eq!(again.json()["id"], printed[1]["id"], "{again:?}");
    let refused = home.run(["events", "--server", &server.url(""), "--type", "tag.signed"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
}
