//! `samovar store …`, with the real binary: what it says of a store, and how a store moves into another.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{and, image_path, refresh, repository_path, samovar, wait_until_complete, watch};
use samovar_testing::fake::{FakeRegistry, RequestKind};
use samovar_testing::{Image, Memcached, Output, Proxy, RedisServer, Samovar};
use serde_json::{Value, json};

/// A registry with two repositories, and a store in which they are warm.
struct Warmed {
    registry: FakeRegistry,
    samovar: Samovar,
    names: [String; 2],
    store: PathBuf,
}

impl Warmed {
    async fn up() -> Self {
        let registry = FakeRegistry::start().await;
        for number in 0..20 {
            let image = Image::new(number.to_string()).label("number", number.to_string());
            registry.push("app", &format!("v{number}"), &image.created("2024-01-02T03:04:05Z"));
        }
        registry.push("other", "latest", &Image::new("other"));
        let names = ["app", "other"].map(|path| format!("{}/{path}", registry.host()));
        let samovar = samovar();
        let store = samovar.home().join("warmed");
        let arguments = ["warm", &names[0], &names[1], "--insecure-host", &registry.host()];
        let output =
            samovar.run(and(arguments.map(str::to_owned).to_vec(), ["--store", &embedded(&store)])).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        Self { registry, samovar, names, store }
    }

    fn file(&self) -> String {
        self.samovar.home().join("export").display().to_string()
    }

    /// `samovar store` with these arguments, about the store at `path`.
    async fn store(&self, path: &Path, arguments: &[&str]) -> Output {
        self.samovar.run([&["store"], arguments, &["--store", &embedded(path)]].concat()).await
    }

    async fn json(&self, path: &Path, arguments: &[&str]) -> Value {
        let output = self.store(path, &[arguments, &["--output", "json"]].concat()).await;
        assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
        output.json()
    }
}

fn embedded(path: &Path) -> String {
    format!("embedded:{}", path.display())
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, said: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:?}");
    for part in said {
        assert!(output.stderr.contains(part), "`{part}` is not said: {output:?}");
    }
}

const ENTRIES: redb::TableDefinition<'static, &str, &[u8]> = redb::TableDefinition::new("entries");

/// Everything that lies in the file of an embedded store.
fn entries(path: &Path) -> BTreeMap<String, Vec<u8>> {
    use redb::{ReadableDatabase as _, ReadableTable as _};

    let database = redb::Database::open(path.join("samovar.redb")).unwrap();
    let table = database.begin_read().unwrap().open_table(ENTRIES).unwrap();
    let rows = table.iter().unwrap().map(|row| row.unwrap());
    rows.map(|(key, value)| (key.value().to_owned(), value.value().to_vec())).collect()
}

/// Changes the last byte of the first entry whose key begins with `prefix`; says which it was.
fn damage(path: &Path, prefix: &str) -> String {
    let (key, mut value) = entries(path).into_iter().find(|(key, _)| key.starts_with(prefix)).unwrap();
    *value.last_mut().unwrap() ^= 0x55;
    let database = redb::Database::open(path.join("samovar.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(ENTRIES).unwrap().insert(&*key, &*value).unwrap();
    transaction.commit().unwrap();
    key
}

#[tokio::test]
async fn a_store_that_was_carried_over_answers_as_the_one_it_came_from() {
    let warmed = Warmed::up().await;
    let copy = warmed.samovar.home().join("copy");
    let exported = warmed.json(&warmed.store, &["export", &warmed.file()]).await;
    let imported = warmed.json(&copy, &["import", &warmed.file()]).await;
    assert_eq!(imported["entries"], exported["entries"]);
    assert_eq!(imported["written"], exported["entries"]);
    assert_eq!(imported["repositories"], 2);
    assert_eq!(entries(&copy), entries(&warmed.store));

    warmed.registry.clear_requests();
    let mut answers = Vec::new();
    for store in [&warmed.store, &copy] {
        let arguments = and(watch(&warmed.names), ["--store", &embedded(store)]);
        let mut server = warmed.samovar.serve(arguments).await;
        let mut answer = Vec::new();
        for name in &warmed.names {
            wait_until_complete(&server, name).await;
            answer.push(server.get_text(&repository_path(name)).await);
        }
        answer.push(server.get_text(&image_path(&format!("{}:v7", warmed.names[0]))).await);
        answers.push(answer);
        server.terminate().await;
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(warmed.registry.count(RequestKind::ManifestGet), 0, "a store that was carried over is warm");

    let again = warmed.json(&copy, &["import", &warmed.file()]).await;
    assert_eq!(again["written"], 0, "{again}");
}

#[tokio::test]
async fn a_store_goes_through_every_kind_of_store_and_comes_back_the_same() {
    let warmed = Warmed::up().await;
    let big = Image::new("big").label("noise", "a description longer than an entry may be. ".repeat(9_000));
    warmed.registry.push("big", "v1", &big);
    let big = format!("{}/big", warmed.registry.host());
    let warm =
        ["warm", &big, "--insecure-host", &warmed.registry.host(), "--store", &embedded(&warmed.store)];
    assert_ends(&warmed.samovar.run(warm).await, 0, &[]);
    let source = entries(&warmed.store);
    assert!(
        source.keys().any(|key| key.starts_with("s1|doc|") && key.ends_with("|1")),
        "a document in parts"
    );

    let memcached = Memcached::start().await;
    let redis = RedisServer::builder().password("hunter2").start().await;
    let back = warmed.samovar.home().join("back");
    let urls = [
        embedded(&warmed.store),
        format!("memcached://{}", memcached.host()),
        format!("redis://:hunter2@{}/3", redis.host()),
        embedded(&back),
    ];
    for (number, pair) in urls.windows(2).enumerate() {
        let file = format!("{}-{number}", warmed.file());
        for arguments in [["export", &file, "--store", &pair[0]], ["import", &file, "--store", &pair[1]]] {
            let output =
                warmed.samovar.run([&["store"], &arguments[..], &["--output", "json"]].concat()).await;
            assert_ends(&output, 0, &[]);
            assert!(!output.stdout.contains("hunter2"), "{output:?}");
            assert_eq!(output.json()["entries"], source.len(), "{arguments:?}: {output:?}");
        }
        for command in ["verify", "stats"] {
            let arguments = ["store", command, "--store", &pair[1], "--output", "json"];
            let output = warmed.samovar.run(arguments).await;
            assert_ends(&output, 0, &[]);
            assert!(!output.stdout.contains("hunter2"), "{output:?}");
        }
    }
    assert_eq!(entries(&back), source);
    let detail =
        warmed.samovar.run(["store", "stats", "--detail", "--output", "json", "--store", &urls[2]]).await;
    assert_eq!(detail.json()["detail"]["repositories"], 3, "{detail:?}");
}

#[tokio::test]
async fn an_export_that_is_told_to_stop_leaves_nothing_behind() {
    let warmed = Warmed::up().await;
    let redis = RedisServer::start().await;
    assert_ends(&warmed.store(&warmed.store, &["export", &warmed.file()]).await, 0, &[]);
    let direct = format!("redis://{}", redis.host());
    let import = ["store", "import", &warmed.file(), "--store", &direct];
    assert_ends(&warmed.samovar.run(import).await, 0, &[]);

    let proxy = Proxy::start(redis.host()).await;
    // Long enough that the export is still asking when it is seen to have begun.
    proxy.delay(Duration::from_millis(500), Duration::from_millis(500));
    let slow = format!("redis://{}?timeout=1m&connect_timeout=1m", proxy.host());
    let directory = warmed.samovar.home().join("exports");
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("export").display().to_string();
    let samovar = warmed.samovar.clone();
    let exporting =
        tokio::spawn(async move { samovar.run(["store", "export", &file, "--store", &slow]).await });
    let process = tokio::time::timeout(common::PATIENCE, unfinished_by(&directory)).await.unwrap();
    proxy.swallow(true);
    let kill = std::process::Command::new("kill").args(["-TERM", &process]).status().unwrap();
    assert!(kill.success());
    assert_ends(&exporting.await.unwrap(), 1, &["interrupted; no file was written"]);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

/// Waits for an unfinished export; its name holds the process that writes it.
async fn unfinished_by(directory: &Path) -> String {
    loop {
        if let Some(entry) = std::fs::read_dir(directory).unwrap().next() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            let middle = name.strip_prefix(".export.").and_then(|rest| rest.strip_suffix(".unfinished"));
            let process = middle.and_then(|middle| middle.split_once('-')).map(|(process, _)| process);
            return process.unwrap_or_else(|| panic!("{name} is no unfinished export")).to_owned();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_verified_is_sound_until_it_is_damaged() {
    let warmed = Warmed::up().await;
    let report = warmed.json(&warmed.store, &["verify"]).await;
    assert_eq!((&report["sound"], &report["findings"]), (&json!(true), &json!([])));
    assert_eq!(report["kinds"]["head"], json!({"sound": 2, "newer": 0, "damaged": 0, "torn": 0}));
    let table = warmed.store(&warmed.store, &["verify"]).await;
    assert_ends(&table, 0, &[]);
    assert!(table.stdout.contains("DAMAGED"), "{table:?}");

    let page = damage(&warmed.store, &format!("s1|page|{}", warmed.names[0]));
    let document = damage(&warmed.store, "s1|doc|");
    let before = entries(&warmed.store);
    let output = warmed.store(&warmed.store, &["verify", "--output", "json"]).await;
    assert_ends(&output, 1, &["error: 2 entries are damaged, 1 repositories are torn", "hint: "]);
    let report = output.json();
    assert_eq!(report["total"]["damaged"], 2, "{report}");
    let found: Vec<&str> =
        report["findings"].as_array().unwrap().iter().filter_map(|finding| finding["key"].as_str()).collect();
    let head = format!("s1|head|{}", warmed.names[0]);
    for key in [&page, &document, &head] {
        assert!(found.contains(&key.as_str()), "{key}: {report}");
    }
    let table = warmed.store(&warmed.store, &["verify"]).await;
    assert_ends(&table, 1, &[]);
    assert!(table.stdout.contains(&page) && table.stdout.contains(&head), "{table:?}");
    assert_eq!(entries(&warmed.store), before, "nothing is changed");

    let server = warmed.samovar.serve(and(watch(&warmed.names), ["--store", &embedded(&warmed.store)])).await;
    assert_eq!(refresh(&server, &warmed.names[0]).await.status, 200, "a server mends it");
    let mended = wait_until_complete(&server, &warmed.names[0]).await;
    assert_eq!(common::length(&mended["images"]), 20);
}

#[tokio::test]
async fn stats_count_what_is_there() {
    let warmed = Warmed::up().await;
    let stats = warmed.json(&warmed.store, &["stats"]).await;
    let there = entries(&warmed.store);
    let bytes_of = |wanted: fn(&str) -> bool| -> usize {
        there.iter().filter(|(key, _)| wanted(key)).map(|(key, value)| key.len() + value.len()).sum()
    };
    assert_eq!((&stats["kind"], &stats["url"]), (&json!("embedded"), &json!(embedded(&warmed.store))));
    assert_eq!(stats["entries"], there.len());
    let detail = &stats["detail"];
    assert_eq!((&detail["repositories"], &detail["complete"]), (&json!(2), &json!(2)));
    assert_eq!((&detail["tags"], &detail["images"]), (&json!(21), &json!(21)));
    assert_eq!(detail["document_bytes"], bytes_of(|key| key.starts_with("s1|doc|")));
    assert_eq!(detail["record_bytes"], bytes_of(|key| !key.starts_with("s1|doc|")));
    let heads = there.keys().filter(|key| key.starts_with("s1|head|")).count();
    assert_eq!(detail["kinds"]["head"]["entries"], heads);
    let table = warmed.store(&warmed.store, &["stats"]).await;
    assert_ends(&table, 0, &[]);
    for part in ["embedded:", "repositories  2 (2 complete)", "bytes a tag", "KIND"] {
        assert!(table.stdout.contains(part), "{part}: {table:?}");
    }
}

#[tokio::test]
async fn compacting_loses_nothing_and_says_what_it_gained() {
    let warmed = Warmed::up().await;
    let before = entries(&warmed.store);
    let compacted = warmed.json(&warmed.store, &["compact"]).await;
    assert!(compacted["after_bytes"].as_u64() <= compacted["before_bytes"].as_u64(), "{compacted}");
    assert_eq!(entries(&warmed.store), before);
    let table = warmed.store(&warmed.store, &["compact"]).await;
    assert_ends(&table, 0, &[]);
    assert!(table.stdout.contains("before") && table.stdout.contains("after"), "{table:?}");
}

#[tokio::test]
async fn a_store_that_a_server_has_open_is_left_to_it() {
    let warmed = Warmed::up().await;
    let earlier = format!("{}-earlier", warmed.file());
    assert_ends(&warmed.store(&warmed.store, &["export", &earlier]).await, 0, &[]);
    let server = warmed.samovar.serve(and(watch(&warmed.names), ["--store", &embedded(&warmed.store)])).await;
    let process = format!("process {}", server.pid());
    for command in
        [&["stats"][..], &["verify"], &["compact"], &["export", &warmed.file()], &["import", &earlier]]
    {
        let output = warmed.store(&warmed.store, command).await;
        assert_ends(&output, 1, &["in use by", &process, "hint: "]);
        assert_eq!(output.stdout, "");
    }
    assert!(!Path::new(&warmed.file()).exists());
}

#[tokio::test]
async fn files_that_are_there_missing_or_damaged_are_refused() {
    let warmed = Warmed::up().await;
    let copy = warmed.samovar.home().join("copy");
    let file = warmed.file();
    assert_ends(&warmed.store(&copy, &["import", &file]).await, 1, &["cannot read", &file]);
    std::fs::write(&file, "something dear").unwrap();
    assert_ends(&warmed.store(&warmed.store, &["export", &file]).await, 1, &["exists already", "--force"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"something dear");
    assert_ends(&warmed.store(&copy, &["import", &file]).await, 1, &["no export of a samovar store"]);

    assert_ends(&warmed.store(&warmed.store, &["export", &file, "--force"]).await, 0, &[]);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert_ends(&warmed.store(&copy, &["import", &file]).await, 1, &["cut short"]);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&file, flipped).unwrap();
    assert_ends(&warmed.store(&copy, &["import", &file]).await, 1, &["damaged"]);
    std::fs::write(&file, [b"samovar-export 2\n", &whole[17..]].concat()).unwrap();
    assert_ends(&warmed.store(&copy, &["import", &file]).await, 1, &["format version 2"]);
    assert!(!copy.exists(), "a store is not even begun for a file that is refused");

    let directory = std::fs::read_dir(warmed.samovar.home()).unwrap();
    let unfinished = directory
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("unfinished"));
    assert_eq!(unfinished.count(), 0);
}

#[tokio::test]
async fn a_store_that_is_not_there_or_not_whole_is_not_begun_anew() {
    let samovar = samovar();
    let store = samovar.home().join("store");
    let url = embedded(&store);
    for command in [&["stats"][..], &["verify"], &["compact"], &["export", "export"]] {
        let output = samovar.run([&["store"], command, &["--store", &url]].concat()).await;
        assert_ends(&output, 1, &["there is no store at"]);
        assert!(!store.exists());
    }
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("samovar.redb"), vec![7; 10_000]).unwrap();
    let output = samovar.run(["store", "verify", "--store", &url]).await;
    assert_ends(&output, 1, &["error: "]);
    assert_eq!(std::fs::read(store.join("samovar.redb")).unwrap(), vec![7; 10_000], "it is not moved aside");

    assert_ends(&samovar.run(["store", "stats", "--store", "memory:"]).await, 2, &["memory:", "hint: "]);
    let elsewhere = ["store", "compact", "--store", "redis://127.0.0.1:1"];
    assert_ends(&samovar.run(elsewhere).await, 2, &["only an embedded store", "hint: "]);
}

#[tokio::test]
async fn the_store_is_found_as_serve_finds_it() {
    let warmed = Warmed::up().await;
    let file = warmed.samovar.write_file("samovar.toml", &format!("store = '{}'\n", embedded(&warmed.store)));
    let url = json!(embedded(&warmed.store));
    let stats = ["store", "stats", "--output", "json"];
    let by_file = warmed.samovar.run([&stats[..], &["--config", &file.display().to_string()]].concat()).await;
    assert_eq!(by_file.json()["url"], url);
    let by_variable = warmed.samovar.clone().variable("SAMOVAR_STORE", embedded(&warmed.store));
    assert_eq!(by_variable.run(stats).await.json()["url"], url);
    assert_ends(
        &warmed.samovar.run(["store", "stats"]).await,
        1,
        &["there is no store at", "data/samovar/store"],
    );
}

/// Removes the first entry whose key begins with `prefix`.
fn lose(path: &Path, prefix: &str) {
    let key = entries(path).into_keys().find(|key| key.starts_with(prefix)).unwrap();
    let database = redb::Database::open(path.join("samovar.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(ENTRIES).unwrap().remove(&*key).unwrap();
    transaction.commit().unwrap();
}

#[tokio::test]
async fn an_export_says_which_repositories_it_does_not_have_whole() {
    let warmed = Warmed::up().await;
    lose(&warmed.store, &format!("s1|page|{}", warmed.names[0]));
    let output = warmed.store(&warmed.store, &["export", &warmed.file(), "--output", "json"]).await;
    assert_ends(&output, 1, &["error: the file was written, but 1 repositories are torn", "hint: "]);
    assert_eq!(output.json()["torn"], 1);
    let imported = warmed.json(&warmed.samovar.home().join("copy"), &["import", &warmed.file()]).await;
    assert_eq!(imported["repositories"], 1, "the other one");
}

#[tokio::test]
async fn an_import_takes_the_files_repositories_back_only_where_it_is_told_to() {
    let warmed = Warmed::up().await;
    assert_ends(&warmed.store(&warmed.store, &["export", &warmed.file()]).await, 0, &[]);
    let before = entries(&warmed.store);
    warmed.registry.push("app", "latest", &Image::new("latest").created("2024-01-02T03:04:05Z"));
    let warm = ["warm", &warmed.names[0], "--insecure-host", &warmed.registry.host()];
    let warm = and(warm.map(str::to_owned).to_vec(), ["--store", &embedded(&warmed.store)]);
    assert_ends(&warmed.samovar.run(warm).await, 0, &[]);
    let after = entries(&warmed.store);
    assert_ne!(before, after);

    let kept = warmed.json(&warmed.store, &["import", &warmed.file()]).await;
    assert_eq!(kept["repositories"], 0, "{kept}");
    let found = entries(&warmed.store);
    assert!(after.iter().all(|(key, value)| found.get(key) == Some(value)), "what is newer stays");
    let taken = warmed.json(&warmed.store, &["import", &warmed.file(), "--force"]).await;
    assert_eq!(taken["repositories"], 1, "{taken}");
    let of_repository = |entries: BTreeMap<String, Vec<u8>>| {
        let is_of_it = |key: &str| !key.starts_with("s1|doc|") && key.contains(&warmed.names[0]);
        entries.into_iter().filter(|(key, _)| is_of_it(key)).collect::<BTreeMap<_, _>>()
    };
    let (mut found, mut expected) = (of_repository(entries(&warmed.store)), of_repository(before));
    let head = format!("s1|head|{}", warmed.names[0]);
    assert_ne!(found.remove(&head), expected.remove(&head), "its generation only grows");
    assert!(found == expected, "all else is as it was exported");
    assert_eq!(warmed.json(&warmed.store, &["verify"]).await["sound"], json!(true));
}
