//! How `samovar serve` starts and ends: where its settings come from, what it refuses, its store, its signals.

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{and, repository_path, samovar, wait_until_complete, watch};
use samovar_testing::fake::{Action, FakeRegistry, Fault, RequestKind, SilentHost};
use samovar_testing::{Answer, Image, Output, SamovarServer};
use serde_json::{Value, json};
use tokio::time::Instant;

async fn registry_with_one() -> (FakeRegistry, String) {
    let registry = FakeRegistry::start().await;
    registry.push("app", "v1", &Image::new("1"));
    let name = format!("{}/app", registry.host());
    (registry, name)
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, said: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:?}");
    assert_eq!(output.stdout, "", "data only: {output:?}");
    for part in said {
        assert!(output.stderr.contains(part), "`{part}` is not said: {output:?}");
    }
}

/// Rate and burst as the server applies them to its one host.
async fn limits(server: &SamovarServer) -> (Value, Value) {
    let known = |answer: &Answer| answer.json()["hosts"][0].is_object();
    let status = server.wait_until("/api/v1/status", known, common::PATIENCE).await.json();
    (status["hosts"][0]["rate"].clone(), status["hosts"][0]["burst"].clone())
}

#[tokio::test]
async fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let (registry, name) = registry_with_one().await;
    let samovar = samovar();
    let text =
        format!("watch = ['{name}']\ninsecure_host = ['{}']\nrps = 101\nburst = 11\n", registry.host());
    let file = samovar.write_file("samovar.toml", &text).display().to_string();
    let with_variables = samovar
        .clone()
        .variable("SAMOVAR_CONFIG", &file)
        .variable("SAMOVAR_RPS", "102")
        .variable("SAMOVAR_STORE", "memory:");

    let server = with_variables.serve(["--rps", "103"]).await;
    wait_until_complete(&server, &name).await;
    assert_eq!(limits(&server).await, (json!(103.0), json!(11)), "flag and file");
    let server = with_variables.serve(Vec::<String>::new()).await;
    assert_eq!(limits(&server).await, (json!(102.0), json!(11)), "variable and file");
    let server = samovar.serve(["--config", &file, "--store", "memory:"]).await;
    assert_eq!(limits(&server).await, (json!(101.0), json!(11)), "the file");
    let watched = server.get("/api/v1/repositories").await.json();
    assert_eq!(watched["repositories"][0]["name"], name);
    let arguments = ["--watch", &name, "--insecure-host", &registry.host(), "--store", "memory:"];
    let server = samovar.serve(arguments).await;
    assert_eq!(limits(&server).await, (json!(50.0), json!(10)), "the default");

    let lists = samovar
        .variable("SAMOVAR_WATCH", format!("{name}, {}/other", registry.host()))
        .variable("SAMOVAR_INSECURE_HOST", registry.host())
        .variable("SAMOVAR_STORE", "memory:");
    let server = lists.serve(Vec::<String>::new()).await;
    let watched = server.get("/api/v1/repositories").await.json();
    assert_eq!(common::length(&watched["repositories"]), 2, "lists are separated by commas");
}

#[tokio::test]
async fn the_file_chooses_tags_and_platforms() {
    let registry = FakeRegistry::start().await;
    for tag in ["v1", "v2", "v2-rc1", "edge"] {
        registry.push("app", tag, &Image::new(tag));
    }
    registry.push("app", "v3", &Image::new("v3").platform("linux/riscv64"));
    let name = format!("{}/app", registry.host());
    let samovar = samovar();
    let file = samovar.write_file(
        "samovar.toml",
        &format!(
            "watch = [{{ image = '{name}', tags = ['v*'], ignore_tags = ['*-rc*'] }}]\n\
             insecure_host = ['{}']\nplatform = ['linux/riscv64', 'linux/amd64']\n",
            registry.host()
        ),
    );
    let server = samovar.serve(["--config".to_owned(), file.display().to_string()]).await;
    let found = wait_until_complete(&server, &name).await;
    assert_eq!(common::keys(&found["images"]), ["v1", "v2", "v3"]);
    assert_eq!(found["images"]["v3"]["platforms"], json!(["linux/riscv64"]));
    assert_eq!(found["unavailable"]["edge"]["state"], "excluded");
    assert_eq!(found["unavailable"]["v2-rc1"]["state"], "excluded");
    assert!(!registry.requests().iter().any(|request| request.reference.as_deref() == Some("edge")));
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused_with_its_place() {
    let samovar = samovar();
    let file = samovar.write_file("bad.toml", "stroe = 'memory:'\n").display().to_string();
    assert_refused(&samovar.run(["serve", "--config", &file]).await, 2, &["bad.toml", "stroe"]);
    for (flag, value) in [
        ("--watch", "UPPER/case"),
        ("--watch", "a:b:c"),
        ("--listen", "nowhere"),
        ("--insecure-host", "a/b"),
        ("--alias", "no-equals-sign"),
        ("--alias", "with.dot=quay.io"),
        ("--platform", "linux"),
        ("--poll-interval", "5"),
        ("--poll-interval", "0s"),
        ("--rps", "0"),
        ("--rps", "-1"),
        ("--burst", "many"),
        ("--store", "nothing:x"),
        ("--store-local-tier", "~/tier"),
        ("--store-limit", "8GB"),
        ("--store-limit", "1MiB"),
        ("--hot-set", "lots"),
        ("--unleased-share", "1.5"),
        ("--docker-config", "no/such/file"),
        ("--config", "no-such-file.toml"),
    ] {
        assert_refused(&samovar.run(["serve", flag, value]).await, 2, &["error: ", value]);
    }
    for (url, reason) in [
        ("redis://:hunter2@h:port", "\"port\" is not a port"),
        ("rediss://:hunter2@h/first", "\"first\" is not the number of a database"),
        ("redis-cluster://h,h", "\"h\" is given twice"),
        ("redis-sentinel://h", "the name that the sentinels know the primary by is missing"),
        (
            "memcached://h?retries=3",
            "unknown option \"retries\"; known here: connect_timeout, prefix, timeout",
        ),
        ("memcached+srv://h:1", "there is no port"),
    ] {
        let output = samovar.run(["serve", "--store", url]).await;
        let form = format!("the form is {}://", url.split(':').next().expect("a scheme"));
        assert_refused(&output, 2, &["error: ", "--store", reason, &form]);
        assert!(!output.stderr.contains("hunter2"), "{output:?}");
    }
    let with_tier = samovar.run(["serve", "--store", "memory:", "--store-local-tier", "tier"]).await;
    assert_refused(&with_tier, 2, &["--store-local-tier", "memory: is local itself"]);
    let by_variable = samovar.clone().variable("SAMOVAR_POLL_INTERVAL", "soon");
    assert_refused(&by_variable.run(["serve"]).await, 2, &["SAMOVAR_POLL_INTERVAL", "soon"]);
    let by_log = samovar.clone().variable("SAMOVAR_LOG", "a=b=c");
    assert_refused(&by_log.run(["serve", "--store", "memory:"]).await, 2, &["SAMOVAR_LOG"]);
    assert!(!samovar.home().join("data").exists(), "nothing is stored");
}

#[tokio::test]
async fn an_address_that_is_taken_is_a_failure() {
    let samovar = samovar();
    let server = samovar.serve(["--store", "memory:"]).await;
    let output = samovar.run(["serve", "--store", "memory:", "--listen", server.host()]).await;
    assert_refused(&output, 1, &["error: ", server.host()]);
}

#[tokio::test]
async fn a_store_in_use_is_refused_and_its_user_named() {
    let (registry, name) = registry_with_one().await;
    let samovar = samovar();
    let server = samovar.serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    let pid = server.pid().to_string();
    let second = samovar.run(["serve", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(&pid) && second.stderr.contains("hint: "), "{second:?}");
    let warm = samovar.run(["warm", &name, "--insecure-host", &registry.host()]).await;
    assert_eq!(warm.code, Some(1), "{warm:?}");
    assert!(warm.stderr.contains(&pid), "{warm:?}");
    assert_eq!(common::repository(&server, &name).await["complete"], true, "the first one goes on");
}

/// The largest file below a directory.
fn largest_file(directory: &Path) -> PathBuf {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("the directory can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.into_iter().max_by_key(|path| path.metadata().expect("a file").len()).expect("there is a file")
}

/// Whether these bytes are kept in another file beside. In its header the engine may have noted that it tried to mend them.
fn is_kept_beside(file: &Path, bytes: &[u8]) -> bool {
    const HEADER: usize = 512;
    let directory = file.parent().expect("a file is in a directory");
    let others = std::fs::read_dir(directory).expect("the directory can be read");
    others.map(|entry| entry.expect("an entry").path()).any(|path| {
        path != file && std::fs::read(&path).is_ok_and(|found| found.get(HEADER..) == bytes.get(HEADER..))
    })
}

#[tokio::test]
async fn a_store_file_that_cannot_be_read_is_kept_aside_and_begun_anew() {
    let (registry, name) = registry_with_one().await;
    let garbage = |length: usize| b"no database ".repeat(length / 12);
    for what in ["another file", "empty pages", "cut", "damaged at its beginning"] {
        let samovar = samovar();
        let mut server = samovar.serve(watch([&name])).await;
        wait_until_complete(&server, &name).await;
        server.terminate().await;
        let file = largest_file(&samovar.home().join("data"));
        let good = std::fs::read(&file).expect("the store");
        let damaged = match what {
            "another file" => garbage(100_000),
            "empty pages" => vec![0; good.len()],
            "cut" => good[..good.len() / 3].to_vec(),
            _ => [garbage(516), good[516..].to_vec()].concat(),
        };
        std::fs::write(&file, &damaged).expect("the store can be written");

        let server = samovar.serve(watch([&name])).await;
        wait_until_complete(&server, &name).await;
        assert!(is_kept_beside(&file, &damaged), "{what}");
        let file_name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let said = server.log().lines().any(|line| line.contains("aside") && line.contains(&file_name));
        assert!(said, "{what}: {}", server.log());
    }
    assert!(registry.count(RequestKind::ManifestGet) >= 8, "each time anew");
}

/// Damage in the middle is found when it is read: whatever happens, questions are answered and the process lives.
#[tokio::test]
async fn a_store_file_damaged_in_the_middle_does_not_end_the_server() {
    let registry = FakeRegistry::start().await;
    for number in 0..300 {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let name = format!("{}/app", registry.host());
    let samovar = samovar();
    let mut server = samovar.serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    server.terminate().await;
    let file = largest_file(&samovar.home().join("data"));
    let mut bytes = std::fs::read(&file).expect("the store");
    // All but the file's own head, in every page: some of what is wanted is hit.
    for position in (8192..bytes.len()).step_by(1024) {
        bytes[position] ^= 0x55;
    }
    std::fs::write(&file, &bytes).expect("the store can be written");
    let server = samovar.serve(watch([&name])).await;
    server.get(&repository_path(&name)).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    // Where the damage was found only now, the next start begins anew.
    drop(server);
    let server = samovar.serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
}

#[tokio::test]
async fn sigterm_ends_it_in_seconds_whatever_it_waits_for() {
    let silent = SilentHost::start().await;
    let (registry, name) = registry_with_one().await;
    for signal in ["TERM", "INT"] {
        let samovar = samovar();
        let mute = format!("{}/app", silent.host());
        let mut server = samovar.serve(watch([&name, &mute])).await;
        wait_until_complete(&server, &name).await;
        registry.fault(Fault::on(RequestKind::Tags), Action::HangBeforeHeader);
        registry.clear_requests();
        server.post_json("/api/v1/refresh", &json!({"image": name})).await;
        registry.wait_for(RequestKind::Tags, 1).await;
        let etag =
            server.get(&repository_path(&name)).await.header("etag").expect("an entity tag").to_owned();
        // A reader waits for a change that never comes.
        let poll = reqwest::Client::new()
            .get(server.url(&format!("{}?wait=120s", repository_path(&name))))
            .header("if-none-match", etag)
            .send();
        let poll = tokio::spawn(poll);
        let started = Instant::now();
        server.signal(signal);
        // So that it is this signal that ends it, and not the one that `terminate` sends.
        common::wait_for_log(&server, "stopping").await;
        let status = server.terminate().await;
        assert_eq!(status.code(), Some(0), "{signal}: {}", server.log());
        assert!(started.elapsed() < Duration::from_secs(8), "{signal}: {:?}", started.elapsed());
        poll.abort();
        registry.clear_faults();
    }
}

/// Holds a lease on a file: whoever opens it hangs, as where the server of a file system is gone.
struct HeldFile(Child);

impl HeldFile {
    fn hold(path: &Path) -> Self {
        // A lease is told to be given up by SIGIO. It ends with the process, and that with its input.
        let script = "use Fcntl; $SIG{IO} = 'IGNORE'; open(F, '<', $ARGV[0]) or die; \
                      fcntl(F, 1024, F_WRLCK) or die \"no lease: $!\"; $| = 1; print \"held\\n\"; <STDIN>";
        let mut perl = Command::new("perl");
        let perl = perl.args(["-e", script]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = perl.spawn().expect("perl is installed");
        let mut said = String::new();
        let stdout = child.stdout.take().expect("its output is a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("it speaks");
        assert_eq!(said, "held\n");
        Self(child)
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends by itself now.
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_file_of_credentials_that_hangs_keeps_nothing_from_running_nor_from_ending() {
    let (_registry, name) = registry_with_one().await;
    let samovar = samovar();
    let file = samovar.write_docker_config("{}");
    let held = HeldFile::hold(&file);
    let mut server = samovar.serve(watch([&name])).await;
    wait_until_complete(&server, &name).await;
    let named = |answer: &Answer| answer.text.contains("config.json: the file system does not answer");
    server.wait_until("/api/v1/status", named, common::PATIENCE).await;
    let started = Instant::now();
    let status = server.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    drop(held);
}

#[tokio::test]
async fn what_was_learnt_before_a_sigterm_is_there_after_it() {
    let registry = FakeRegistry::start().await;
    for number in 0..60 {
        registry.push("app", &format!("v{number:02}"), &Image::new(number.to_string()));
    }
    let last = Image::new("59").config().digest;
    registry.fault(Fault::on(RequestKind::Blob).reference(last), Action::HangBeforeHeader);
    let name = format!("{}/app", registry.host());
    let samovar = samovar();
    let mut server = samovar.serve(watch([&name])).await;
    registry.wait_for(RequestKind::Blob, 60).await;
    assert!(server.terminate().await.success());
    registry.clear_faults();
    registry.clear_requests();
    let server = samovar.serve(watch([&name])).await;
    let found = wait_until_complete(&server, &name).await;
    assert_eq!(common::length(&found["images"]), 60);
    let again = registry.count(RequestKind::Blob);
    assert!(again <= 10, "{again} configurations were fetched again");
}

/// Each round is killed a little later: while the list is read, stored, published, and while tags are asked about.
#[tokio::test]
async fn a_crash_at_any_moment_of_the_first_listing_is_made_up_for_at_once() {
    let registry = FakeRegistry::start().await;
    for number in 0..40 {
        registry.push("app", &format!("v{number}"), &Image::new(number.to_string()));
    }
    let name = format!("{}/app", registry.host());
    for round in 0..30 {
        let samovar = samovar();
        registry.clear_requests();
        let mut server = samovar.serve(watch([&name])).await;
        registry.wait_for(RequestKind::Tags, 1).await;
        // The moment is chosen by the clock: nothing outside tells how far the server is within it.
        tokio::time::sleep(Duration::from_micros(700 * round)).await;
        server.kill();
        let server = samovar.serve(watch([&name])).await;
        let complete = |answer: &Answer| answer.status == 200 && answer.json()["complete"] == true;
        server.wait_until(&repository_path(&name), complete, Duration::from_secs(10)).await;
    }
}

#[tokio::test]
async fn the_memory_store_forgets() {
    let (registry, name) = registry_with_one().await;
    let samovar = samovar();
    for start in 1..=2 {
        let server = samovar.serve(and(watch([&name]), ["--store", "memory:"])).await;
        wait_until_complete(&server, &name).await;
        assert_eq!(registry.count(RequestKind::ManifestGet), start);
        assert_eq!(server.get("/api/v1/status").await.json()["store"]["kind"], "memory");
    }
    assert!(!samovar.home().join("data").exists());
}
