//! Polls that find nothing to do: what they read, and what they must not overlook.

use std::sync::atomic::AtomicUsize;

use samovar::cache::stored::{Pages, load};

use super::hooked_store::{Access, Hooked, Hooks};
use super::*;

/// Counts what is read of pages.
#[derive(Debug, Default)]
struct Counting {
    /// As of a store that may evict them.
    is_mortal: bool,
    pages_read: AtomicUsize,
}

impl Counting {
    fn take_pages_read(&self) -> usize {
        self.pages_read.swap(0, Ordering::Relaxed)
    }
}

impl Hooks for Counting {
    fn before(&self, access: Access, keys: &[&Key]) -> Result<(), StoreError> {
        let pages = keys.iter().filter(|key| matches!(key, Key::Page(..) | Key::SidePage(..))).count();
        if access == Access::Read {
            self.pages_read.fetch_add(pages, Ordering::Relaxed);
        }
        Ok(())
    }

    fn time_to_live(&self) -> Option<Duration> {
        self.is_mortal.then_some(HOUR * 24 * 30)
    }
}

fn counting(is_mortal: bool) -> (Arc<Hooked<Counting>>, Arc<dyn Client>) {
    let counting = Arc::new(Hooked::with(Counting { is_mortal, ..Counting::default() }));
    (Arc::clone(&counting), counting)
}

fn polling(every: Duration) -> WarmerOptions {
    WarmerOptions { poll_interval: PollInterval::fixed(every), ..options() }
}

/// A warm repository of so many tags that were confirmed for the second time an hour after the first.
async fn settled(
    world: &World,
    store: &Arc<dyn Client>,
    tags: usize,
    poll_every: Duration,
) -> (Name, Running) {
    let app = filled(world, "registry.example/team/app", tags);
    let samovar = start_with(world, store, &[&app], polling(poll_every));
    samovar.complete(&app).await;
    tokio::time::sleep(HOUR + MINUTE * 30).await;
    (app, samovar)
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_finds_nothing_reads_no_page() {
    let (world, (counting, store)) = (World::default(), counting(false));
    let (app, _samovar) = settled(&world, &store, 300, MINUTE).await;
    counting.hooks.take_pages_read();
    world.take_asked();
    let before = load(&*store, &app, Pages::None).await.unwrap();
    tokio::time::sleep(HOUR).await;
    assert!((55..66).contains(&world.count(Operation::Tags)), "{}", world.count(Operation::Tags));
    assert_eq!(world.count(Operation::Resolve), 0);
    assert_eq!(counting.hooks.take_pages_read(), 0);
    let after = load(&*store, &app, Pages::None).await.unwrap();
    assert_eq!(before.head_entry, after.head_entry);
    let (before, after) = (before.side.unwrap(), after.side.unwrap());
    assert!(after.last_update.unwrap() >= before.last_update.unwrap() + MINUTE * 58);
    assert_eq!(
        (after.next_tag, after.filter, after.listing),
        (before.next_tag, before.filter, before.listing)
    );
    // Then the tags are due, on time.
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.count(Operation::Resolve), 300);
}

#[tokio::test(start_paused = true)]
async fn pages_that_a_store_may_evict_are_looked_at_every_half_hour() {
    let (world, (counting, store)) = (World::default(), counting(true));
    let (app, samovar) = settled(&world, &store, 300, MINUTE).await;
    let pages = load(&*store, &app, Pages::None).await.unwrap().head.unwrap().pages;
    counting.hooks.take_pages_read();
    tokio::time::sleep(HOUR).await;
    let read = counting.hooks.take_pages_read();
    assert_eq!(read, pages.len() * 2 * 2, "each page and its side records, twice");
    store.delete(vec![Key::Page(app.clone(), pages[0].hash)]).await.unwrap();
    let began = tokio::time::Instant::now();
    while samovar.cache.repository_state(&app).await.is_err() {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert!(began.elapsed() <= MINUTE * 32, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_new_tag_is_seen_as_soon_as_ever_and_the_list_is_asked_for_once() {
    let (world, (_, store)) = (World::default(), counting(false));
    let (app, mut samovar) = settled(&world, &store, 100, MINUTE * 5).await;
    samovar.announced();
    world.take_asked();
    world.push(&app, "2.0", &Image::new("2.0"));
    let began = tokio::time::Instant::now();
    samovar.until(&app, |repository| repository.metadata.images.contains_key(&tag("2.0"))).await;
    assert!(began.elapsed() <= MINUTE * 6, "{:?}", began.elapsed());
    assert_eq!(world.count(Operation::Tags), 1);
    assert_eq!(world.count(Operation::Manifest), 1);
    assert_eq!(samovar.announced(), [(ChangeKind::TagAdded, Some("2.0".to_owned()))]);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_while_the_list_is_read_is_not_overwritten() {
    let (world, (_, store)) = (World::default(), counting(false));
    let (app, samovar) = settled(&world, &store, 100, MINUTE * 5).await;
    world.take_asked();
    world.set_latency("registry.example", Duration::from_secs(20));
    while world.count(Operation::Tags) == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // A request for one tag fails meanwhile: it is to be tried again in 30 seconds, rather than in hours.
    world.set_latency("registry.example", Duration::from_millis(1));
    world.set_failure("registry.example", Some(ErrorKind::Unavailable { status: 503, message: None }));
    samovar.handle.refresh(&app, Some(tag("1.7"))).unwrap().done().await.unwrap_err();
    world.set_failure("registry.example", None);
    // Deadlines of tags are kept to the second.
    let next_tag = || async {
        let side = load(&*store, &app, Pages::None).await.unwrap().side.unwrap();
        side.next_tag.unwrap().as_second()
    };
    let planned = next_tag().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(next_tag().await, planned, "the poll that was under way says nothing else of it");
    world.take_asked();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.count(Operation::Resolve), 1, "it was tried again");
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_came_by_request_before_the_list_had_it_goes_again_where_no_list_has_it() {
    let (world, (_, store)) = (World::default(), counting(false));
    let (app, samovar) = settled(&world, &store, 10, MINUTE).await;
    world.push(&app, "2.0", &Image::new("2.0"));
    samovar.handle.refresh(&app, Some(tag("2.0"))).unwrap().done().await.unwrap();
    world.remove(&app, "2.0");
    let began = tokio::time::Instant::now();
    samovar.until(&app, |repository| !repository.metadata.tags.contains(&tag("2.0"))).await;
    assert!(began.elapsed() <= MINUTE * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_told_and_recovers_as_ever() {
    let (world, (_, store)) = (World::default(), counting(false));
    let (app, mut samovar) = settled(&world, &store, 10, MINUTE).await;
    samovar.announced();
    world.set_list_failure(Some(ErrorKind::Unavailable { status: 503, message: None }));
    samovar.until(&app, |repository| repository.last_error.is_some()).await;
    world.set_list_failure(None);
    samovar.until(&app, |repository| repository.last_error.is_none()).await;
    let kinds: Vec<ChangeKind> = samovar.announced().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [ChangeKind::RepositoryFailed, ChangeKind::RepositoryRecovered]);
}

#[tokio::test(start_paused = true)]
async fn other_wishes_are_seen_to_at_once() {
    let (world, (_, store)) = (World::default(), counting(false));
    let (app, samovar) = settled(&world, &store, 10, MINUTE).await;
    let filter = TagFilter::matching(None, vec!["1.3".parse().unwrap()], None);
    let watch = Watch { tags: filter, ..Watch::default() };
    samovar.watch.send_replace(WatchList([(app.clone(), watch)].into()));
    let began = tokio::time::Instant::now();
    samovar.until(&app, |repository| repository.unavailable.contains_key(&tag("1.3"))).await;
    assert!(began.elapsed() < Duration::from_secs(1));
}
