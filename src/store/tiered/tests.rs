//! Two tiers over stores in memory, of which the remote one can forget, fail and count.

mod removal;
mod restoration;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::Timestamp;
use samovar_registry::{Digest, Tag};
use tokio::sync::Notify;

use super::*;
use crate::cache::history::History;
use crate::cache::records::LastError;
use crate::cache::stored::{self, Gone, Head, PageRef, TagCounts};
use crate::store::{ContentHash, Documents, Memory, StoredDocument, seal};

/// Stops a store before it compares-and-sets or deletes.
#[derive(Debug, Default)]
struct Gate {
    reached: Notify,
    opened: Notify,
}

/// A store in memory that forgets all when told, fails while told, waits at a gate, and counts the keys that it is asked
/// for.
#[derive(Debug, Default)]
struct Tricky {
    memory: Mutex<Arc<Memory>>,
    fails: AtomicBool,
    asked: AtomicUsize,
    renewed: Mutex<Vec<Key>>,
    written: Mutex<Vec<Key>>,
    gate: Mutex<Option<Arc<Gate>>>,
}

impl Tricky {
    fn memory(&self) -> Result<Arc<Memory>, StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { message: "told to".to_owned() });
        }
        Ok(Arc::clone(&self.memory.lock().unwrap()))
    }

    fn forget(&self) {
        *self.memory.lock().unwrap() = Arc::default();
    }

    fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    /// Stops the next one who compares-and-sets or deletes.
    fn close(&self) -> Arc<Gate> {
        let gate = Arc::<Gate>::default();
        *self.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    async fn pass_gate(&self) {
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.reached.notify_one();
            gate.opened.notified().await;
        }
    }

    /// Which keys were set, but for those that were compared, since the last look.
    fn written(&self) -> Vec<Key> {
        std::mem::take(&mut self.written.lock().unwrap())
    }

    /// How many keys it was asked for since the last look.
    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl Reader for Tricky {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.memory()?.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.asked.fetch_add(keys.len(), Ordering::Relaxed);
        self.memory()?.get_many(keys).await
    }
}

#[async_trait]
impl Client for Tricky {
    async fn set(&self, key: Key, entry: Entry) -> Result<(), StoreError> {
        self.memory()?.set(key, entry).await
    }

    async fn set_many(&self, entries: Vec<(Key, Entry)>) -> Result<(), StoreError> {
        self.written.lock().unwrap().extend(entries.iter().map(|(key, _)| key.clone()));
        self.memory()?.set_many(entries).await
    }

    async fn compare_and_set(
        &self,
        key: Key,
        expected: Option<Entry>,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        self.pass_gate().await;
        self.memory()?.compare_and_set(key, expected, entry).await
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.pass_gate().await;
        self.memory()?.delete(keys).await
    }

    async fn lease(&self, key: &Key, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.memory()?.lease(key, holder, ttl).await
    }

    fn kind(&self) -> &'static str {
        "tricky"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn time_to_live(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }

    async fn renew(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.renewed.lock().unwrap().extend(keys);
        Ok(())
    }
}

/// One replica: a local store of its own before a remote one that others may share.
struct Replica {
    remote: Arc<Tricky>,
    local: Arc<Tricky>,
    store: Tiered,
}

impl Replica {
    fn before(remote: &Arc<Tricky>) -> Self {
        let local = Arc::new(Tricky::default());
        let store = Tiered::new(remote.clone(), local.clone(), Arc::new(At(now())));
        Self { remote: Arc::clone(remote), store, local }
    }

    fn new() -> Self {
        Self::before(&Arc::default())
    }

    /// Waits until the task is done with everything that was read so far: it does one after the other.
    async fn wait_until_all_is_kept(&self) {
        let (key, entry) = page("the last one read");
        self.remote.set(key.clone(), entry.clone()).await.unwrap();
        self.store.get(&key).await.unwrap();
        self.wait_until_kept(&key, &entry).await;
    }

    /// Waits until the task has kept what was read: then the local store has this.
    async fn wait_until_kept(&self, key: &Key, entry: &Entry) {
        let kept = async {
            while self.local.get(key).await.unwrap().as_ref() != Some(entry) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), kept)
            .await
            .unwrap_or_else(|_| panic!("{key} is not kept"));
    }
}

/// A clock that stands still.
#[derive(Debug)]
struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// What the clocks show.
fn now() -> Timestamp {
    "2026-11-20T00:00:00Z".parse().unwrap()
}

/// The least generation of what is written now.
fn generation_now() -> u64 {
    now().as_millisecond().try_into().unwrap()
}

fn name() -> Name {
    "registry.example/team/app".parse().unwrap()
}

fn head_key() -> Key {
    Key::Head(name())
}

fn side_key() -> Key {
    Key::Side(name())
}

/// A page with nothing in it but this text, which is not looked at here.
fn page(text: &str) -> (Key, Entry) {
    (Key::Page(name(), ContentHash::of(text.as_bytes())), Entry::immutable(seal(text.as_bytes())))
}

/// A head that names these pages.
fn head(generation: u64, pages: &[&str]) -> Head {
    let reference = |(position, text): (usize, &&str)| {
        let first: Tag = format!("v{position:04}").parse().unwrap();
        PageRef { first, hash: ContentHash::of(text.as_bytes()) }
    };
    Head {
        generation,
        complete: true,
        held_back: false,
        failed: false,
        invalid_tags: 0,
        counts: TagCounts::default(),
        platforms: String::new(),
        pages: pages.iter().enumerate().map(reference).collect(),
        directory: Vec::new(),
        history: History::default(),
    }
}

fn head_entry(generation: u64, pages: &[&str]) -> Entry {
    head(generation, pages).seal().entry
}

fn side_entry(side: &stored::Side) -> Entry {
    Entry::immutable(stored::encode(side))
}

fn some_side(attempts: u32) -> Entry {
    side_entry(&stored::Side { attempts, ..stored::Side::default() })
}

/// Writes a repository as the warmer does: pages, head, side record.
async fn publish(store: &dyn Client, before: Option<&Entry>, generation: u64, pages: &[&str]) -> Entry {
    let entry = head_entry(generation, pages);
    store.set_many(pages.iter().map(|text| page(text)).collect()).await.unwrap();
    assert!(store.compare_and_set(head_key(), before.cloned(), entry.clone()).await.unwrap());
    store.set_many(vec![(side_key(), some_side(0))]).await.unwrap();
    entry
}

async fn stored(store: &dyn Client, keys: &[Key]) -> Vec<bool> {
    store.get_many(keys).await.unwrap().iter().map(Option::is_some).collect()
}

#[tokio::test]
async fn what_never_changes_is_read_locally_once_it_was_read() {
    let replica = Replica::new();
    let (key, entry) = page("a");
    replica.remote.set(key.clone(), entry.clone()).await.unwrap();
    assert_eq!(replica.store.get(&key).await.unwrap().as_ref(), Some(&entry));
    assert_eq!(replica.remote.asked(), 1);
    replica.wait_until_kept(&key, &entry).await;
    replica.remote.fail(true);
    assert_eq!(replica.store.get(&key).await.unwrap().as_ref(), Some(&entry), "without asking");
    assert_eq!(replica.remote.asked(), 0);
}

#[tokio::test]
async fn misses_of_both_tiers_stand_among_hits_in_the_order_asked() {
    let replica = Replica::new();
    let [kept, shared, nowhere] = ["kept", "shared", "nowhere"].map(page);
    replica.local.set(kept.0.clone(), kept.1.clone()).await.unwrap();
    replica.remote.set(shared.0.clone(), shared.1.clone()).await.unwrap();
    replica.remote.set(side_key(), some_side(1)).await.unwrap();
    let keys = [shared.0, side_key(), nowhere.0, head_key(), kept.0];
    let found = replica.store.get_many(&keys).await.unwrap();
    assert_eq!(found, [Some(shared.1), Some(some_side(1)), None, None, Some(kept.1)]);
    assert_eq!(replica.remote.asked(), 4, "in one go, and not for what is kept");
}

#[tokio::test]
async fn writes_go_to_both_and_mutable_pages_of_side_records_to_one() {
    let replica = Replica::new();
    publish(&replica.store, None, 1, &["a", "b"]).await;
    let side_page = Key::SidePage(name(), 0);
    replica.store.set(side_page.clone(), Entry::immutable("x")).await.unwrap();
    let keys = [page("a").0, page("b").0, head_key(), side_key(), side_page];
    assert_eq!(stored(&*replica.remote, &keys).await, [true; 5]);
    assert_eq!(stored(&*replica.local, &keys).await, [true, true, true, true, false]);
    replica.store.delete(keys.to_vec()).await.unwrap();
    assert_eq!(stored(&*replica.remote, &keys).await, [false; 5]);
    assert_eq!(stored(&*replica.local, &keys).await, [false; 5]);
}

#[tokio::test]
async fn shadows_stand_in_for_what_the_remote_store_has_lost() {
    let replica = Replica::new();
    let entry = publish(&replica.store, None, 1, &["a"]).await;
    replica.remote.forget();
    let keys = [head_key(), side_key(), page("a").0, Key::SidePage(name(), 0)];
    let found = replica.store.get_many(&keys).await.unwrap();
    assert_eq!(found, [Some(entry.clone()), Some(some_side(0)), Some(page("a").1), None]);
    assert_eq!(replica.store.get(&head_key()).await.unwrap(), Some(entry), "alone as well");
    let remote = stored(&*replica.remote, &keys).await;
    assert_eq!(remote, [false; 4], "readers do not write");
}

#[tokio::test]
async fn an_error_is_not_answered_from_shadows() {
    let replica = Replica::new();
    publish(&replica.store, None, 1, &["a"]).await;
    replica.remote.fail(true);
    assert!(replica.store.get_many(&[head_key(), side_key()]).await.is_err());
    assert!(replica.store.get(&side_key()).await.is_err());
    assert!(replica.store.set(side_key(), some_side(1)).await.is_err());
    assert!(replica.store.delete(vec![Key::SidePage(name(), 0)]).await.is_err());
}

#[tokio::test]
async fn those_who_only_read_follow_the_head_and_drop_pages_that_it_left_behind() {
    let remote: Arc<Tricky> = Arc::default();
    let (writer, reader) = (Replica::before(&remote), Replica::before(&remote));
    let first = publish(&writer.store, None, 1, &["a", "b"]).await;
    let keys = [head_key(), side_key(), page("a").0, page("b").0];
    reader.store.get_many(&keys).await.unwrap();
    reader.wait_until_kept(&head_key(), &first).await;
    reader.wait_until_kept(&page("b").0, &page("b").1).await;
    let second = publish(&writer.store, Some(&first), 2, &["a", "c"]).await;
    reader.store.get_many(&[head_key(), side_key(), page("c").0]).await.unwrap();
    reader.wait_until_kept(&head_key(), &second).await;
    reader.wait_until_kept(&page("c").0, &page("c").1).await;
    reader.wait_until_all_is_kept().await;
    let local = stored(&*reader.local, &["a", "b", "c"].map(|text| page(text).0)).await;
    assert_eq!(local, [true, false, true]);
    remote.forget();
    let found = reader.store.get_many(&keys[..2]).await.unwrap();
    assert_eq!(found, [Some(second), Some(some_side(0))], "the reader has shadows too");
}

#[tokio::test]
async fn seeing_a_shadow_again_costs_nothing() {
    let replica = Replica::new();
    let entry = publish(&replica.store, None, 1, &["a"]).await;
    replica.local.asked();
    for _ in 0..10 {
        assert_eq!(replica.store.get(&head_key()).await.unwrap().as_ref(), Some(&entry));
    }
    tokio::task::yield_now().await;
    assert_eq!(replica.local.asked(), 0);
}

#[tokio::test]
async fn an_older_head_that_was_on_its_way_does_not_replace_a_newer_shadow() {
    let replica = Replica::new();
    let (older, newer) = (head_entry(1, &["a"]), head_entry(2, &["b"]));
    let local = Local::new(replica.local.clone());
    local.write(vec![(head_key(), newer.clone())]).await;
    local.follow(Offer { key: head_key(), entry: older, removals: local.removals() }).await;
    assert_eq!(replica.local.get(&head_key()).await.unwrap(), Some(newer));
}

#[tokio::test]
async fn a_local_store_that_fails_fails_nothing() {
    let replica = Replica::new();
    replica.local.fail(true);
    let entry = publish(&replica.store, None, 1, &["a"]).await;
    let found = replica.store.get_many(&[head_key(), page("a").0]).await.unwrap();
    assert_eq!(found, [Some(entry.clone()), Some(page("a").1)]);
    let after = head_entry(2, &["a"]);
    assert!(replica.store.compare_and_set(head_key(), Some(entry), after.clone()).await.unwrap());
    // It is written again as soon as it can be.
    replica.local.fail(false);
    assert_eq!(replica.store.get(&head_key()).await.unwrap().as_ref(), Some(&after));
    replica.wait_until_kept(&head_key(), &after).await;
    replica.local.fail(true);
    replica.store.delete(vec![head_key()]).await.unwrap();
}

#[tokio::test]
async fn documents_survive_the_loss_of_the_remote_store() {
    let replica = Replica::new();
    let bytes = vec![7; 600_000];
    let (digest, document) =
        (Digest::sha256(&bytes), StoredDocument { media_type: "text/plain".to_owned(), bytes: bytes.into() });
    Documents(&replica.store).put(&digest, &document).await.unwrap();
    replica.remote.forget();
    assert_eq!(Documents(&replica.store).get(&digest).await.unwrap(), Some(document));
}

#[tokio::test]
async fn everything_else_is_the_remote_stores() {
    let replica = Replica::new();
    let store = &replica.store;
    assert_eq!((store.kind(), store.is_shared()), ("tricky", true));
    assert_eq!(store.time_to_live(), Some(Duration::from_secs(30)));
    let lane = Key::Lane("h".to_owned());
    assert!(store.lease(&lane, "me", Duration::from_mins(1)).await.unwrap());
    assert!(!replica.remote.lease(&lane, "you", Duration::from_mins(1)).await.unwrap());
    let asked = Key::Asked("h".to_owned());
    assert!(store.compare_and_set(asked.clone(), None, Entry::immutable("x")).await.unwrap());
    assert_eq!(stored(&*replica.local, &[lane, asked]).await, [false, false]);
}

#[tokio::test]
async fn what_never_changes_is_kept_though_the_remote_store_fails() {
    let replica = Replica::new();
    let document = (Key::Document(Digest::sha256(b"d")), Entry::immutable("d"));
    replica.remote.fail(true);
    assert!(replica.store.set(document.0.clone(), document.1.clone()).await.is_err());
    let mixed = vec![page("a"), (side_key(), some_side(1)), (head_key(), head_entry(1, &["a"]))];
    assert!(replica.store.set_many(mixed).await.is_err());
    assert_eq!(replica.store.get(&document.0).await.unwrap(), Some(document.1), "without asking");
    let keys = [page("a").0, side_key(), head_key()];
    assert_eq!(stored(&*replica.local, &keys).await, [true, false, false], "shadows were never stored");
}

#[tokio::test]
async fn what_never_changes_is_kept_though_its_repository_cannot_be_restored() {
    let replica = Replica::new();
    publish(&replica.store, None, 1, &["a"]).await;
    replica.remote.forget();
    assert!(replica.store.get(&head_key()).await.unwrap().is_some());
    replica.remote.fail(true);
    assert!(replica.store.set_many(vec![page("b"), (side_key(), some_side(1))]).await.is_err());
    assert_eq!(stored(&*replica.local, &[page("b").0]).await, [true]);
}
