//! What 2,000,000 tags in 5,000 repositories take up: bytes in the embedded store, memory of the process that answers from
//! it, and the time to read a repository that nobody has read lately.
//!
//! `cargo bench --bench footprint` prints the table of the README.

#![allow(clippy::print_stdout, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::{BENCH_IMAGE, labelled_image, print_table, warm};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use samovar::cache::{Cache, HotSet};
use samovar::store::{Client, Embedded, Entry, Key, Memory};
use samovar_registry::{Name, SystemClock};
use samovar_testing::Samovar;
use tokio::time::Instant;

const REPOSITORIES: usize = 5000;
const TAGS_EACH: usize = 400;
/// Random repositories read.
const READS: usize = 20_000;
/// Random repositories asked for over HTTP.
const SERVED: usize = 5000;
/// The default of `--hot-set`.
const HOT_SET_BYTES: usize = 64 * 1024 * 1024;

fn repository(number: usize) -> Name {
    format!("bench.example/team/app{number}").parse().expect("a name")
}

fn main() {
    // The part that is measured has a process of its own: filling the store leaves memory behind.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let Some(path) = std::env::args().skip_while(|argument| argument != "--read").nth(1) {
        return runtime.block_on(read(Path::new(&path)));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    runtime.block_on(fill(&path));
    let this = std::env::current_exe().expect("it runs");
    let status = Command::new(this).arg("--read").arg(&path).status().expect("it starts");
    assert!(status.success());
    runtime.block_on(serve(&path));
}

/// Warms one repository, measures its entries, and stores it under 5,000 names.
async fn fill(path: &Path) {
    let template: Arc<dyn Client> = Arc::new(Memory::default());
    warm(&template, repository(0).as_str(), TAGS_EACH, labelled_image).await;
    let entries: Vec<(Key, Entry)> = template.scan().try_collect().await.expect("memory can be listed");
    let bytes = |documents: bool| -> usize {
        let of_kind = entries.iter().filter(|(key, _)| key.is_document() == documents);
        of_kind.map(|(key, entry)| key.to_string().len() + entry.value.len() + 8).sum()
    };
    let per_tag = |bytes: usize| format!("{:.0} bytes", bytes as f64 / TAGS_EACH as f64);

    let store = Embedded::open(path, Timestamp::UNIX_EPOCH).expect("it opens");
    for number in 0..REPOSITORIES {
        let name = repository(number);
        let copies = entries.iter().filter_map(|(key, entry)| {
            let key = match key {
                Key::Head(_) => Key::Head(name.clone()),
                Key::Page(_, hash) => Key::Page(name.clone(), *hash),
                Key::Side(_) => Key::Side(name.clone()),
                Key::SidePage(_, position) => Key::SidePage(name.clone(), *position),
                _ => return None,
            };
            Some((key, entry.clone()))
        });
        store.set_many(copies.collect()).await.expect("they are stored");
    }
    drop(store);
    let on_disk = std::fs::metadata(path.join("samovar.redb")).expect("it is there").len();
    println!("{REPOSITORIES} repositories of {TAGS_EACH} tags, each {BENCH_IMAGE}:\n");
    let per_tag_on_disk = on_disk as f64 / (REPOSITORIES * TAGS_EACH) as f64;
    print_table(
        &["stored", "per tag"],
        &[
            vec!["decoded records, keys included".into(), per_tag(bytes(false))],
            vec!["raw documents (manifest and configuration)".into(), per_tag(bytes(true))],
            vec!["embedded store's file, records only".into(), format!("{per_tag_on_disk:.0} bytes")],
        ],
    );
}

/// Reads random repositories, and says how long it took and how large the process became.
async fn read(path: &Path) {
    let store = Arc::new(Embedded::open(path, Timestamp::UNIX_EPOCH).expect("it opens"));
    let hot = Arc::new(HotSet::new(HOT_SET_BYTES, Arc::new(SystemClock)));
    let cache = Cache::new(Arc::clone(&store), Arc::new(SystemClock)).with_hot_set(hot);
    let mut random = fastrand::Rng::with_seed(5);
    let mut took = Vec::with_capacity(READS);
    for _ in 0..READS {
        let name = repository(random.usize(..REPOSITORIES));
        let began = Instant::now();
        let repository = cache.repository_state(&name).await.expect("it is there");
        took.push(began.elapsed());
        assert_eq!(repository.metadata.images.len(), TAGS_EACH);
    }
    took.sort();
    let at = |part: usize| format!("{:.2} ms", took[READS * part / 1000 - 1].as_secs_f64() * 1000.0);
    println!("\n{READS} random repositories read, one after another:\n");
    print_table(
        &["median", "p99", "p99.9", "resident at the end", "resident at most"],
        &[vec![at(500), at(990), at(999), memory("self", "VmRSS"), memory("self", "VmHWM")]],
    );
}

/// Lets a server answer from the store, and says how large its process became.
async fn serve(path: &Path) {
    let samovar = Samovar::new(env!("CARGO_BIN_EXE_samovar"));
    let names: Vec<String> = (0..REPOSITORIES).map(|number| format!("\"{}\"", repository(number))).collect();
    let file = samovar.write_file("samovar.toml", &format!("watch = [{}]", names.join(", ")));
    let store = format!("embedded:{}", path.display());
    let server =
        samovar.serve(["--config".as_ref(), file.as_os_str(), "--store".as_ref(), store.as_ref()]).await;
    let mut random = fastrand::Rng::with_seed(6);
    let mut took = Vec::with_capacity(SERVED);
    for _ in 0..SERVED {
        let path = format!("/api/v1/repositories/{}", repository(random.usize(..REPOSITORIES)));
        let began = Instant::now();
        assert_eq!(server.get(&path).await.status, 200);
        took.push(began.elapsed());
    }
    took.sort();
    let at = |part: usize| format!("{:.2} ms", took[SERVED * part / 100 - 1].as_secs_f64() * 1000.0);
    println!(
        "\n`samovar serve` with these repositories on its watch list, {SERVED} random ones asked for over HTTP:\n"
    );
    let process = server.pid().to_string();
    print_table(
        &["median", "p99", "resident at the end", "resident at most"],
        &[vec![at(50), at(99), memory(&process, "VmRSS"), memory(&process, "VmHWM")]],
    );
}

/// A line of a process's status, in MiB.
fn memory(process: &str, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let line = status.lines().find(|line| line.starts_with(field)).expect("Linux has it");
    let kibibytes: f64 =
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    format!("{:.0} MiB", kibibytes / 1024.0)
}
