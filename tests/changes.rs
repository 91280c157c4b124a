//! What changes in Debian's docker-registry while samovar runs: every change is told, in order, once.

mod common;

use common::{PATIENCE, and, refresh, samovar, wait_until_complete, watch};
use samovar_testing::{Answer, DockerRegistry, Image, Samovar, SamovarServer};
use serde_json::{Value, json};

fn history_path(name: &str) -> String {
    format!("/api/v1/history/{name}")
}

fn events(answer: &Answer) -> Vec<Value> {
    answer.json()["events"].as_array().cloned().unwrap_or_default()
}

/// Waits until the history has so many events.
async fn wait_for_events(server: &SamovarServer, name: &str, count: usize) -> Vec<Value> {
    let wanted = |answer: &Answer| answer.status == 200 && events(answer).len() >= count;
    events(&server.wait_until(&history_path(name), wanted, PATIENCE).await)
}

/// What the registry did, as the history is to tell it.
#[derive(Default)]
struct Done(Vec<Value>);

impl Done {
    fn add(&mut self, kind: &str, tag: &str, old: Option<&str>, new: Option<&str>) {
        let mut event = json!({"type": kind, "tag": tag});
        for (key, digest) in [("old", old), ("new", new)] {
            if let Some(digest) = digest {
                event[key] = digest.into();
            }
        }
        self.0.push(event);
    }

    #[track_caller]
    fn assert_told(&self, events: &[Value]) {
        let without = |event: &Value| {
            let mut event = event.clone();
            for key in ["id", "at", "cause"] {
                assert!(event.as_object_mut().unwrap().remove(key).is_some(), "{event}");
            }
            event
        };
        assert_eq!(events.iter().map(without).collect::<Vec<_>>(), self.0);
    }
}

async fn serve(samovar: &Samovar, name: &str) -> SamovarServer {
    samovar.serve(and(watch([name]), ["--poll-interval", "1s"])).await
}

#[tokio::test]
async fn pushes_moves_and_deletions_are_told_in_order_and_once_also_after_a_crash() {
    let registry = DockerRegistry::start().await;
    let name = format!("{}/team/app", registry.host());
    let image = |text: &str| Image::new(text);
    for tag in ["v1", "v2", "v3"] {
        registry.push("team/app", tag, &image(tag)).await;
    }
    let samovar = samovar();
    let mut server = serve(&samovar, &name).await;
    wait_until_complete(&server, &name).await;
    assert_eq!(
        wait_for_events(&server, &name, 0).await,
        [] as [Value; 0],
        "what is there at first is no news"
    );

    let mut done = Done::default();
    let mut current = String::new();
    for round in 0..3 {
        let tag = format!("v4.{round}");
        let added = registry.push("team/app", &tag, &image(&tag)).await;
        done.add("tag.added", &tag, None, Some(&added));
        wait_for_events(&server, &name, done.0.len()).await;

        let moved = registry.push("team/app", &tag, &image(&format!("{tag} moved"))).await;
        done.add("tag.moved", &tag, Some(&added), Some(&moved));
        // The list does not tell: it would be noticed when the tag is confirmed.
        assert_eq!(refresh(&server, &format!("{name}:{tag}")).await.status, 200);
        wait_for_events(&server, &name, done.0.len()).await;
        if round == 1 {
            // In the middle of it.
            server.kill();
            server = serve(&samovar, &name).await;
        }
        // And with it goes the tag.
        registry.delete_manifest("team/app", &moved).await;
        done.add("tag.removed", &tag, Some(&moved), None);
        wait_for_events(&server, &name, done.0.len()).await;
        current = tag;
    }
    let again = registry.push("team/app", &current, &image("once more")).await;
    done.add("tag.added", &current, None, Some(&again));
    let told = wait_for_events(&server, &name, done.0.len()).await;
    done.assert_told(&told);

    // A crash tells nothing twice.
    server.kill();
    let server = serve(&samovar, &name).await;
    wait_until_complete(&server, &name).await;
    let moved = registry.push("team/app", "v1", &image("the last")).await;
    assert_eq!(refresh(&server, &name).await.status, 200);
    let told_since = wait_for_events(&server, &name, done.0.len() + 1).await;
    assert_eq!(told_since[..told.len()], told);
    assert_eq!(told_since[told.len()]["new"], moved);

    assert_answered_as_asked(&server, &name, &told_since, &current).await;
    assert_printed(&samovar, &server, &name, &current).await;
}

/// The history in parts, its validator, and what is refused.
async fn assert_answered_as_asked(server: &SamovarServer, name: &str, told: &[Value], tag: &str) {
    let path = history_path(name);
    let id = told[3]["id"].as_str().unwrap();
    assert_eq!(events(&server.get(&format!("{path}?since={id}")).await), told[4..]);
    let at = told.last().unwrap()["at"].as_str().unwrap();
    assert_eq!(events(&server.get(&format!("{path}?since={at}")).await), told[told.len() - 1..]);
    let of_tag: Vec<Value> = told.iter().filter(|event| event["tag"] == tag).cloned().collect();
    assert_eq!(of_tag.len(), 4);
    assert_eq!(events(&server.get(&format!("{path}?tag={tag}")).await), of_tag);
    assert_eq!(events(&server.get(&format!("{path}?tag=never")).await), [] as [Value; 0]);

    let answer = server.get(&path).await;
    let validator = answer.header("etag").unwrap().to_owned();
    let repository = server.get(&common::repository_path(name)).await;
    assert_eq!(repository.header("etag"), Some(&*validator), "they change together");
    assert_eq!(server.get_with(&path, &[("if-none-match", &validator)]).await.status, 304);
    for refused in ["since=yesterday", "since=2026-11", "since=", "tag=no%20tag", "tags=v1", "limit=1"] {
        let answer = server.get(&format!("{path}?{refused}")).await;
        assert_eq!((answer.status, &answer.json()["type"]), (400, &json!("bad-request")), "{refused}");
    }
    let other = server.get(&history_path("docker.io/library/alpine")).await;
    assert_eq!((other.status, &other.json()["type"]), (404, &json!("not-watched")));
}

async fn assert_printed(samovar: &Samovar, server: &SamovarServer, name: &str, tag: &str) {
    let url = format!("http://{}", server.host());
    let ask =
        async |arguments: &[&str]| samovar.run([&["history", "--server", &url], arguments].concat()).await;
    let of_tag = ask(&[&format!("{name}:{tag}")]).await;
    assert_eq!(of_tag.code, Some(0), "{of_tag:?}");
    let lines: Vec<&str> = of_tag.stdout.lines().collect();
    assert!(lines[0].starts_with("SEEN") && lines.len() == 5, "{of_tag:?}");
    for (line, kind) in lines[1..].iter().zip(["tag.added", "tag.moved", "tag.removed", "tag.added"]) {
        assert!(line.contains(kind) && line.contains(tag) && line.contains("sha256:"), "{line}");
    }
    let whole = ask(&[name, "--output", "json"]).await;
    let answer = server.get(&history_path(name)).await;
    assert_eq!(whole.json(), answer.json());
    let latest =
        answer.json()["events"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    let none = ask(&[name, "--since", &latest]).await;
    assert_eq!((none.code, none.stdout.lines().count()), (Some(0), 1), "{none:?}");
    assert_eq!(ask(&["docker.io/library/alpine"]).await.code, Some(3));
    assert_eq!(ask(&[name, "--since", "yesterday"]).await.code, Some(2));
    assert_eq!(ask(&["UPPER"]).await.code, Some(2));
}
