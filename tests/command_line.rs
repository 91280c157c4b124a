//! The commands that ask, warm and check: what they print, where, and how they end.

mod common;

use common::{and, image_path, repository_path, samovar, wait_until_complete, watch};
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind};
use samovar_testing::{Content as _, Image, Output, Samovar, SamovarServer};
use serde_json::json;

/// A registry with `app` (`v1`, `v2`, and `lost` without a manifest), and a server that has warmed it.
async fn serve_app() -> (FakeRegistry, Samovar, SamovarServer, String) {
    let registry = FakeRegistry::start().await;
    registry.push("app", "v1", &Image::new("1").created("2024-01-02T03:04:05Z").label("team", "tea"));
    registry.push("app", "v2", &Image::new("2"));
    let lost = registry.push("app", "lost", &Image::new("lost"));
    registry.remove_manifest("app", &lost);
    let name = format!("{}/app", registry.host());
    let samovar = samovar();
    let server = samovar.serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    (registry, samovar, server, name)
}

async fn ask(samovar: &Samovar, server: &SamovarServer, arguments: &[&str]) -> Output {
    let url = server.url("");
    samovar.run(arguments.iter().copied().chain(["--server", &url])).await
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, said: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:?}");
    for part in said {
        assert!(output.stderr.contains(part), "`{part}` is not said: {output:?}");
    }
    if code != 0 {
        assert_eq!(output.stdout, "", "data only: {output:?}");
    }
}

#[tokio::test]
async fn tags_shows_every_tag_with_its_state() {
    let (_registry, samovar, server, name) = serve_app().await;
    let output = ask(&samovar, &server, &["tags", &name]).await;
    assert_ends(&output, 0, &[]);
    let lines: Vec<Vec<&str>> = output.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 1 + 3, "{output:?}");
    assert_eq!(lines[1][0], "lost");
    assert!(output.stdout.lines().nth(1).is_some_and(|line| line.contains("unknown")), "{output:?}");
    assert_eq!(lines[2][0], "v1");
    let digest = Image::new("1").created("2024-01-02T03:04:05Z").label("team", "tea").digest();
    assert!(lines[2][1].starts_with(&digest[..12]) || digest[7..].starts_with(lines[2][1]), "{output:?}");
    assert!(lines[2].contains(&"2024-01-02T03:04:05Z") && lines[2].contains(&"linux/amd64"), "{output:?}");
    assert!(!output.stdout.contains('\u{1b}'), "no colour where no terminal is");
}

#[tokio::test]
async fn json_is_the_servers_answer() {
    let (_registry, samovar, server, name) = serve_app().await;
    let one = format!("{name}:v1");
    for (arguments, path) in
        [(["tags", name.as_str()], repository_path(&name)), (["image", &one], image_path(&one))]
    {
        let output = ask(&samovar, &server, &[arguments[0], arguments[1], "--output", "json"]).await;
        assert_ends(&output, 0, &[]);
        assert_eq!(output.stdout.trim_end(), server.get_text(&path).await, "{arguments:?}");
    }
    let output = ask(&samovar, &server, &["refresh", &one, "--output", "json"]).await;
    assert_eq!(output.json()["digest"], server.get(&image_path(&one)).await.json()["digest"]);
    let output = ask(&samovar, &server, &["refresh", &name, "--output", "json"]).await;
    assert_eq!(output.json()["images"]["v1"]["digest"], server.get(&image_path(&one)).await.json()["digest"]);
    let output = ask(&samovar, &server, &["status", "--output", "json"]).await;
    assert_eq!(output.json()["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn image_refresh_and_status_are_readable() {
    let (_registry, samovar, server, name) = serve_app().await;
    let digest = Image::new("1").created("2024-01-02T03:04:05Z").label("team", "tea").digest();
    let image = ask(&samovar, &server, &["image", &format!("{name}:v1")]).await;
    assert_ends(&image, 0, &[]);
    for part in [&format!("{name}:v1"), &digest, "2024-01-02T03:04:05Z", "team=tea", "linux/amd64"] {
        assert!(image.stdout.contains(part), "{part}: {image:?}");
    }
    let refreshed = ask(&samovar, &server, &["refresh", &name]).await;
    assert_ends(&refreshed, 0, &[]);
    assert!(refreshed.stdout.contains("3 tags") && refreshed.stdout.contains("2 images"), "{refreshed:?}");
    let status = ask(&samovar, &server, &["status"]).await;
    assert_ends(&status, 0, &[]);
    let host = name.split('/').next().expect("a host");
    for part in [env!("CARGO_PKG_VERSION"), "embedded:", host] {
        assert!(status.stdout.contains(part), "{part}: {status:?}");
    }
}

#[tokio::test]
async fn the_server_is_found_by_variable_too() {
    let (_registry, samovar, server, name) = serve_app().await;
    let by_variable =
        samovar.clone().variable("SAMOVAR_SERVER", server.url("")).variable("SAMOVAR_OUTPUT", "json");
    let output = by_variable.run(["image", &format!("{name}:v2")]).await;
    assert_eq!(output.json()["digest"], Image::new("2").digest());
    let nowhere = format!("http://127.0.0.1:{}", samovar_testing::free_port());
    let output = by_variable.run(["status", "--server", &nowhere]).await;
    assert_ends(&output, 1, &["error: ", &nowhere, "hint: "]);
}

#[tokio::test]
async fn what_is_not_there_ends_with_3_and_what_makes_no_sense_with_2() {
    let (registry, samovar, server, name) = serve_app().await;
    let digest = format!("{name}@sha256:{}", "0".repeat(64));
    for image in [
        format!("{name}:no-such-tag"),
        format!("{name}:lost"),
        format!("{}/other:v1", registry.host()),
        digest,
    ] {
        assert_ends(&ask(&samovar, &server, &["image", &image]).await, 3, &["error: "]);
    }
    let other = format!("{}/other", registry.host());
    assert_ends(&ask(&samovar, &server, &["tags", &other]).await, 3, &["not watched", "hint: "]);
    assert_ends(&ask(&samovar, &server, &["refresh", &other]).await, 3, &["not watched"]);
    for arguments in [
        &["tags", "UPPER/case"][..],
        &["tags", &format!("{name}:v1")],
        &["image", &name],
        &["image", "a//b:c"],
        &["refresh", "a b"],
        &["refresh", &name, "--wait", "soon"],
        &["tags"],
        &["tags", &name, "--colour", "red"],
        &["tags", &name, "--output", "yaml"],
        &["brew"],
    ] {
        assert_ends(&ask(&samovar, &server, arguments).await, 2, &["error: "]);
    }
    assert_eq!(samovar.run(["status", "--server", "ftp://x"]).await.code, Some(2));
    assert_eq!(samovar.run(Vec::<String>::new()).await.code, Some(2));
    let version = samovar.run(["--version"]).await;
    assert_eq!(
        (version.code, version.stdout.as_str()),
        (Some(0), concat!("samovar ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    assert_eq!(samovar.run(["serve", "--help"]).await.code, Some(0));
}

#[tokio::test]
async fn a_failed_refresh_ends_with_1_and_one_that_takes_long_with_3() {
    let (registry, samovar, server, name) = serve_app().await;
    registry.fault(Fault::on(RequestKind::Tags), Action::status(403));
    assert_ends(&ask(&samovar, &server, &["refresh", &name]).await, 1, &["error: ", "denied"]);
    registry.clear_faults();
    registry.fault(Fault::on(RequestKind::Tags), Action::HangBeforeHeader);
    assert_ends(&ask(&samovar, &server, &["refresh", &name, "--wait", "300ms"]).await, 3, &["300ms"]);
    assert_ends(&ask(&samovar, &server, &["refresh", &name, "--wait", "0s"]).await, 0, &[&name]);
}

#[tokio::test]
async fn warm_fills_the_store_and_sums_up() {
    let registry = FakeRegistry::start().await;
    for number in 0..10 {
        registry.push("one", &format!("v{number}"), &Image::new(number.to_string()));
    }
    registry.push("two", "v1", &Image::new("two"));
    registry.push("two", "v2", &Image::new("not wanted"));
    let names = ["one", "two"].map(|path| format!("{}/{path}", registry.host()));
    let samovar = samovar();
    let images = [names[0].clone(), format!("{}:v1", names[1])];
    let warm = |output: &'static str| {
        let mut arguments = vec!["warm".to_owned(), "--output".to_owned(), output.to_owned()];
        arguments.extend(images.clone());
        arguments.extend(["--insecure-host".to_owned(), registry.host()]);
        samovar.run(arguments)
    };
    let output = warm("json").await;
    assert_ends(&output, 0, &[]);
    let summary = output.json();
    assert_eq!(
        (&summary["repositories"], &summary["tags"], &summary["images"]),
        (&json!(2), &json!(12), &json!(11))
    );
    assert_eq!(summary["requests"], registry.requests().len(), "{summary}");
    assert_eq!(summary["requests"], 2 + 11 + 11);
    assert!(summary["bytes"].as_u64().is_some_and(|bytes| bytes > 1000), "{summary}");
    assert!(summary["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{summary}");
    assert_eq!(summary["problems"], json!([]));

    registry.clear_requests();
    let table = warm("table").await;
    assert_ends(&table, 0, &[]);
    for part in ["repositories", "tags", "images", "requests", "received", "time"] {
        assert!(table.stdout.lines().any(|line| line.starts_with(part)), "{part}: {table:?}");
    }
    assert_eq!(registry.count(RequestKind::ManifestGet), 0, "what is in the store is not fetched again");

    registry.clear_requests();
    let server = samovar.serve(watch(&names)).await;
    let warmed = common::repository(&server, &names[0]).await;
    assert_eq!(common::length(&warmed["images"]), 10, "with the first request: {warmed}");
}

#[tokio::test]
async fn warm_shows_how_far_it_is() {
    let registry = FakeRegistry::start().await;
    for number in 0..40 {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let name = format!("{}/app", registry.host());
    // Slow enough for a line.
    let arguments = ["warm", &name, "--insecure-host", &registry.host(), "--rps", "12", "--burst", "1"];
    let output = samovar().run(arguments).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let shows_tags =
        |line: &str| line.contains("/40 tags") && line.contains("repositories") && line.contains("requests");
    assert!(output.stderr.lines().any(shows_tags), "{output:?}");
}

#[tokio::test]
async fn warm_ends_with_1_where_something_could_not_be_done() {
    let registry = FakeRegistry::start().await;
    registry.push("good", "v1", &Image::new("1"));
    let [good, bad] = ["good", "missing"].map(|path| format!("{}/{path}", registry.host()));
    let samovar = samovar();
    let host = registry.host();
    let arguments = ["warm", &good, &bad, "--insecure-host", &host, "--output", "json"];
    let output = samovar.run(arguments).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains(&bad), "{output:?}");
    let summary = output.json();
    assert_eq!(
        (&summary["repositories"], &summary["complete"], &summary["images"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(summary["problems"][0]["name"], bad);
    assert_ends(&samovar.run(["warm"]).await, 2, &["error: "]);
    assert_ends(&samovar.run(["warm", "UPPER"]).await, 2, &["UPPER"]);
}

#[tokio::test]
async fn check_config_says_what_is_meant_and_what_is_wrong() {
    let samovar = samovar();
    let good = samovar.write_file(
        "good.toml",
        "store = 'memory:'\nwatch = ['alpine', { image = 'ghcr.io/a/b', tags = ['v*'] }]\n",
    );
    let output = samovar.run(["check-config", &good.display().to_string()]).await;
    assert_ends(&output, 0, &[]);
    assert!(
        output.stdout.contains("docker.io/library/alpine") && output.stdout.contains("ghcr.io/a/b"),
        "{output:?}"
    );
    let output = samovar.run(["check-config", &good.display().to_string(), "--output", "json"]).await;
    assert_eq!(output.json()["valid"], true);

    let shared = samovar.write_file(
        "shared.toml",
        "store = 'redis://me:hunter2@cache:7000/2'\nstore_local_tier = '/tier'\nstore_limit = '1GiB'\nhot_set = 0\n\
         unleased_share = 0.25\n",
    );
    let output = samovar.run(["check-config", &shared.display().to_string()]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    for part in ["redis://me:…@cache:7000/2\n", "/tier\n", "1GiB\n", "0.25\n"] {
        assert!(output.stdout.contains(part), "{part}: {output:?}");
    }
    let output = samovar.run(["check-config", &shared.display().to_string(), "--output", "json"]).await;
    assert_eq!(output.json()["store_limit"], 1 << 30);
    assert!(!output.stdout.contains("hunter2"), "{output:?}");

    let bad = samovar.write_file(
        "bad.toml",
        "stroe = 'memory:'\npoll_interval = 'soon'\nwatch = ['UPPER', { image = 'a', tagz = [] }, { tags = ['v*'] }]\n\
         [hosts.\"quay.io\"]\nrps = -1\n",
    );
    let output = samovar.run(["check-config", &bad.display().to_string()]).await;
    assert_ends(&output, 2, &["bad.toml", "stroe", "poll_interval", "UPPER", "tagz", "watch[2]", "rps"]);
    assert_ends(&samovar.run(["check-config", "no-such-file.toml"]).await, 2, &["no-such-file.toml"]);
    let broken = samovar.write_file("broken.toml", "watch = [\n");
    assert_ends(&samovar.run(["check-config", &broken.display().to_string()]).await, 2, &["broken.toml"]);
}

#[tokio::test]
async fn answers_of_registries_cannot_move_the_terminals_cursor() {
    let registry = FakeRegistry::start().await;
    registry.push("app", "v1", &Image::new("1").label("evil", "\u{1b}[2J\u{7}\nfake: line"));
    let name = format!("{}/app", registry.host());
    let samovar = samovar();
    let server = samovar.serve(and(watch([&name]), ["--store", "memory:"])).await;
    wait_until_complete(&server, &name).await;
    let output = ask(&samovar, &server, &["image", &format!("{name}:v1")]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(!output.stdout.contains(['\u{1b}', '\u{7}']), "{output:?}");
    assert!(!output.stdout.lines().any(|line| line.starts_with("fake")), "{output:?}");
}
