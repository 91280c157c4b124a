//! kill -9 at any moment: the embedded store always opens, and what it calls whole is whole.
//!
//! The first test kills the program itself, a hundred times on one store. The others kill a process that does nothing
//! but use a store, at moments that the program would meet rarely: while what has to go goes, while the file is
//! compacted. That process is this test program, started again for the one test with a directory to work in.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{repository_path, samovar, wait_until_complete, watch};
use futures_util::TryStreamExt as _;
use samovar::store::{Client as _, Embedded, EmbeddedOptions, Entry, Key};
use samovar_registry::{Digest, Name, SystemClock};
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Image, SamovarServer};
use serde_json::{Value, json};

const KILLS: usize = 100;
const REPOSITORIES: usize = 4;
const TAGS: usize = 40;
/// Of so many crashes one comes when everything is complete.
const COMPLETE_EVERY: usize = 5;
/// The latest moment, after the work has been asked for, at which the server is killed.
const LONGEST_LIFE: Duration = Duration::from_millis(250);

/// What the registry has and has had: by repository, each list of tags in turn; by repository and tag, each image.
#[derive(Default)]
struct History {
    lists: HashMap<String, Vec<BTreeSet<String>>>,
    images: HashMap<(String, String), BTreeSet<String>>,
}

/// A registry whose tags come, move and go, and what it has had.
struct ChangingRegistry {
    registry: FakeRegistry,
    tags: BTreeMap<String, BTreeSet<String>>,
    history: History,
    random: fastrand::Rng,
    pushed: usize,
}

impl ChangingRegistry {
    async fn start() -> Self {
        let registry = FakeRegistry::start().await;
        let mut changing = Self {
            registry,
            tags: BTreeMap::new(),
            history: History::default(),
            random: fastrand::Rng::with_seed(42),
            pushed: 0,
        };
        for repository in 0..REPOSITORIES {
            for tag in 0..TAGS {
                changing.push(&format!("app{repository}"), &format!("v{tag}"));
            }
        }
        changing.remember();
        changing
    }

    fn push(&mut self, repository: &str, tag: &str) {
        self.pushed += 1;
        let digest = self.registry.push(repository, tag, &Image::new(self.pushed.to_string()));
        self.tags.entry(repository.to_owned()).or_default().insert(tag.to_owned());
        let images = self.history.images.entry((repository.to_owned(), tag.to_owned())).or_default();
        images.insert(digest);
    }

    /// A few tags come, a few move, a few go: never most of them, which would be held back.
    fn change(&mut self) {
        for repository in 0..REPOSITORIES {
            let name = format!("app{repository}");
            let come = self.pushed;
            self.push(&name, &format!("new{come}"));
            for _ in 0..2 {
                let moves = self.any_tag(&name);
                self.push(&name, &moves);
            }
            let goes = self.any_tag(&name);
            self.registry.remove_tag(&name, &goes);
            self.tags.get_mut(&name).expect("pushed at the start").remove(&goes);
        }
        self.remember();
    }

    fn any_tag(&mut self, repository: &str) -> String {
        let tags = &self.tags[repository];
        tags.iter().nth(self.random.usize(..tags.len())).expect("there are always some").clone()
    }

    fn remember(&mut self) {
        for (repository, tags) in &self.tags {
            self.history.lists.entry(repository.clone()).or_default().push(tags.clone());
        }
    }

    fn names(&self) -> Vec<String> {
        self.tags.keys().map(|repository| format!("{}/{repository}", self.registry.host())).collect()
    }
}

impl ChangingRegistry {
    /// Panics unless the repository, called complete, is what the registry has or has had: one of its lists, an image that
    /// the tag has had for each tag, or the truth that a tag has none any more.
    #[track_caller]
    fn check_complete(&self, repository: &str, answer: &Value) {
        let tags: BTreeSet<String> = answer["tags"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|tag| tag.as_str().expect("a text").to_owned())
            .collect();
        assert!(self.history.lists[repository].contains(&tags), "{repository} never had the tags {tags:?}");
        for tag in &tags {
            if let Some(digest) = answer["images"][tag]["digest"].as_str() {
                let known = &self.history.images[&(repository.to_owned(), tag.clone())];
                assert!(known.contains(digest), "{repository}:{tag} never was {digest}");
            } else {
                assert_eq!(answer["unavailable"][tag]["state"], "unknown", "{repository}:{tag}");
                assert!(!self.tags[repository].contains(tag), "{repository}:{tag} is known to the registry");
            }
        }
    }
}

/// Checks every repository that the server, just started, calls complete. Says how many there are.
async fn check(server: &SamovarServer, registry: &ChangingRegistry) -> usize {
    let mut complete = 0;
    for name in registry.names() {
        let answer = server.get(&repository_path(&name)).await;
        if answer.status == 200 && answer.json()["complete"] == true {
            complete += 1;
            registry.check_complete(name.rsplit('/').next().expect("a last part"), &answer.json());
        }
    }
    complete
}

#[tokio::test]
async fn a_hundred_crashes_of_the_program_on_one_store_lose_nothing_that_was_called_complete() {
    let mut registry = ChangingRegistry::start().await;
    let samovar = samovar();
    let names = registry.names();
    let mut complete = 0;
    for round in 0..KILLS {
        let mut server = samovar.serve(watch(&names)).await;
        complete += check(&server, &registry).await;
        registry.change();
        for name in &names {
            server.post_json("/api/v1/refresh", &json!({ "image": name })).await;
        }
        if round % COMPLETE_EVERY == 0 {
            for name in &names {
                wait_until_complete(&server, name).await;
            }
        }
        // The moment is chosen by the clock: nothing outside tells how far the server is with its writing.
        let life = registry.random.u64(..u64::try_from(LONGEST_LIFE.as_micros()).expect("it is short"));
        tokio::time::sleep(Duration::from_micros(life)).await;
        server.kill();
        assert!(!server.log().contains("aside"), "{}", server.log());
    }
    assert!(
        complete >= KILLS / COMPLETE_EVERY * REPOSITORIES,
        "too few were complete for this to say anything: {complete}"
    );
    let server = samovar.serve(watch(&names)).await;
    for name in &names {
        server.post_json("/api/v1/refresh?wait=30s", &json!({ "image": name })).await;
        let found = wait_until_complete(&server, name).await;
        let repository = name.rsplit('/').next().expect("a last part");
        registry.check_complete(repository, &found);
        let tags: Vec<&str> = registry.tags[repository].iter().map(String::as_str).collect();
        assert_eq!(common::keys(&found["images"]), tags);
    }
}

const KILLS_OF_A_USER: usize = 20;
/// Tells this program, started again, that it is to use the store in this directory until it is killed …
const USE_STORE_IN: &str = "TEST_USES_STORE_IN";
/// … and with which number to begin.
const BEGIN_WITH: &str = "TEST_BEGINS_WITH";
/// The latest moment, after the first write, at which the user of a store is killed.
const LONGEST_USE: Duration = Duration::from_millis(150);
const EVICTING_LIMIT_BYTES: u64 = 2 * 1024 * 1024;
const COMPACTED_LIMIT_BYTES: u64 = 256 * 1024 * 1024;

fn open(directory: &Path, limit_bytes: u64) -> Embedded {
    let options = EmbeddedOptions { limit_bytes };
    Embedded::open_with(directory, options, Arc::new(SystemClock)).expect("a store opens")
}

/// Opens a store that was just killed: to see what it left, before anything goes on.
fn open_after_crash(directory: &Path, limit_bytes: u64) -> Embedded {
    let options = EmbeddedOptions { limit_bytes };
    Embedded::open_existing(directory, options, Arc::new(SystemClock)).expect("a store opens after any crash")
}

fn head(number: usize) -> (Key, Entry) {
    let name: Name = format!("crash.example/app{}", number % 40).parse().expect("a name");
    (Key::Head(name), Entry::immutable(format!("{number:010}")))
}

/// A document in three parts, as large ones are kept.
fn document(number: usize) -> Vec<(Key, Entry)> {
    let digest = Digest::sha256(&number.to_le_bytes());
    let entry = |part: usize| Entry::immutable(vec![u8::try_from(part).expect("it is small"); 9000]);
    let keys =
        [Key::DocumentPart(digest.clone(), 1), Key::DocumentPart(digest.clone(), 2), Key::Document(digest)];
    keys.into_iter().enumerate().map(|(part, key)| (key, entry(part))).collect()
}

/// Writes heads and documents, and tells after each head that it is stored, until nobody listens.
async fn write_without_end(store: &Embedded) {
    let first = std::env::var(BEGIN_WITH).expect("set together with the directory");
    for number in first.parse::<usize>().expect("a number").. {
        store.set_many(document(number)).await.expect("documents can be stored, or are left out");
        let (key, entry) = head(number);
        store.set(key, entry).await.expect("what is small has room");
        if writeln!(std::io::stdout(), "stored {number}").is_err() {
            return;
        }
    }
}

/// This program, using a store. Killed when dropped.
struct User {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
    /// What it has said besides: how it failed, where it did.
    said: String,
}

impl User {
    fn start(test: &str, directory: &Path, first: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", test])
            .env(USE_STORE_IN, directory)
            .env(BEGIN_WITH, first.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let output = BufReader::new(process.stdout.take().expect("it was asked for"));
        Self { process, output, said: String::new() }
    }

    /// The number of the next head that it says it has stored; `None` at its end.
    fn next_stored(&mut self) -> Option<usize> {
        let mut line = String::new();
        while self.output.read_line(&mut line).expect("a pipe can be read") > 0 {
            if let Some((_, number)) = line.trim_end().split_once("stored ") {
                return Some(number.parse().expect("a number"));
            }
            self.said.push_str(&line);
            line.clear();
        }
        None
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        self.process.wait().expect("our own child can be waited for");
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lets somebody go on using the store in `directory` after the head `last`, kills it at some moment, and returns the
/// last head that it had stored.
async fn use_and_kill(test: &str, directory: &Path, last: usize, random: &mut fastrand::Rng) -> usize {
    let mut user = User::start(test, directory, last + 1);
    let first = user.next_stored().unwrap_or_else(|| panic!("it stores nothing: {}", user.said));
    let life = random.u64(..u64::try_from(LONGEST_USE.as_micros()).expect("it is short"));
    tokio::time::sleep(Duration::from_micros(life)).await;
    user.kill();
    std::iter::from_fn(|| user.next_stored()).last().unwrap_or(first)
}

/// Everything in the store, after checking that its totals are right and that no document lacks a part.
async fn whole_content(store: &Embedded) -> BTreeMap<String, Entry> {
    let content: Vec<(Key, Entry)> = store.scan().try_collect().await.expect("a store can be read");
    let bytes: usize = content.iter().map(|(key, entry)| key.to_string().len() + entry.value.len()).sum();
    let statistics = store.statistics().await.expect("it costs nothing");
    assert_eq!(statistics.entries, Some(content.len() as u64));
    assert_eq!(statistics.value_bytes, Some(bytes as u64));
    let mut parts: HashMap<Digest, usize> = HashMap::new();
    for (key, _) in &content {
        if let Key::Document(digest) | Key::DocumentPart(digest, _) = key {
            *parts.entry(digest.clone()).or_default() += 1;
        }
    }
    assert!(parts.values().all(|parts| *parts == 3), "half a document: {parts:?}");
    content.into_iter().map(|(key, entry)| (key.to_string(), entry)).collect()
}

/// Panics unless the last forty heads up to `last` are there, or later ones that nobody was told of.
#[track_caller]
fn check_heads(content: &BTreeMap<String, Entry>, last: usize) {
    for number in last.saturating_sub(39).max(1)..=last {
        let (key, told) = head(number);
        let found = content.get(&key.to_string()).unwrap_or_else(|| panic!("{key} was stored"));
        assert!(found.value >= told.value, "{key}: {found:?} instead of {told:?}");
    }
}

fn files(directory: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(directory).expect("a directory").map(|file| file.expect("a file").path()).collect()
}

#[tokio::test]
async fn a_crash_while_documents_make_room_leaves_a_whole_store() {
    if let Some(directory) = std::env::var_os(USE_STORE_IN) {
        return write_without_end(&open(Path::new(&directory), EVICTING_LIMIT_BYTES)).await;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let directory = home.path().join("store");
    let mut random = fastrand::Rng::with_seed(7);
    let (mut last, mut rounds_with_eviction) = (0, 0);
    for _ in 0..KILLS_OF_A_USER {
        let test = "a_crash_while_documents_make_room_leaves_a_whole_store";
        last = use_and_kill(test, &directory, last, &mut random).await;
        let store = open_after_crash(&directory, EVICTING_LIMIT_BYTES);
        let content = whole_content(&store).await;
        check_heads(&content, last);
        let documents = content.keys().filter(|key| key.contains("|doc|")).count();
        rounds_with_eviction += usize::from(documents < 3 * last);
    }
    assert!(rounds_with_eviction > KILLS_OF_A_USER / 4, "{rounds_with_eviction}");
    assert_eq!(files(&directory).len(), 2, "the lock and the store: {:?}", files(&directory));
}

#[tokio::test]
async fn a_crash_during_compaction_leaves_a_whole_store() {
    if let Some(directory) = std::env::var_os(USE_STORE_IN) {
        let store = open(Path::new(&directory), COMPACTED_LIMIT_BYTES);
        let compact_without_end = async { while store.compact().await.is_ok() {} };
        return tokio::select! {
            () = write_without_end(&store) => {}
            () = compact_without_end => panic!("a store can be compacted while it is used"),
        };
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let directory = home.path().join("store");
    let mut random = fastrand::Rng::with_seed(8);
    let replacement = directory.join("samovar.redb.replacement");
    let (mut last, mut killed_half_way) = (0, 0);
    for _ in 0..KILLS_OF_A_USER {
        let test = "a_crash_during_compaction_leaves_a_whole_store";
        last = use_and_kill(test, &directory, last, &mut random).await;
        killed_half_way += usize::from(replacement.exists());
        let store = open_after_crash(&directory, COMPACTED_LIMIT_BYTES);
        assert_eq!(files(&directory).len(), 2, "the lock and the store: {:?}", files(&directory));
        let content = whole_content(&store).await;
        check_heads(&content, last);
        for (key, entry) in (1..=last).flat_map(document) {
            assert_eq!(content.get(&key.to_string()), Some(&entry), "{key}");
        }
    }
    assert!(killed_half_way > KILLS_OF_A_USER / 4, "{killed_half_way}");
}
