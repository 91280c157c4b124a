//! What changed: told once and in order to whoever listens, kept as the repository's history, the same on every replica.

use std::collections::BTreeMap;

use samovar::cache::history::{Cause, Event, Since};
use samovar::warmer::HistoryBounds;
use samovar_registry::Digest;

use super::shared_store::{Server, View};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl Running {
    /// What was told since the last call.
    fn told(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.changes.try_recv() {
                Ok(told) => events.push(told.change().expect("nothing is missed").event.clone()),
                Err(broadcast::error::TryRecvError::Empty) => return events,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn history(&self, name: &Name) -> Vec<Event> {
        self.cache.history(name, None, None).await.unwrap().events
    }
}

fn in_words(events: &[Event]) -> Vec<(ChangeKind, Option<&str>)> {
    events.iter().map(|event| (event.kind, event.tag.as_ref().map(Tag::as_str))).collect()
}

/// Ids grow, and every change goes on from where the one before has left its tag.
#[track_caller]
fn assert_follow_one_another(
    events: &[Event],
    at_first: &BTreeMap<Tag, Digest>,
    at_last: &BTreeMap<Tag, Digest>,
) {
    assert!(events.is_sorted_by(|one, next| one.id < next.id), "{events:#?}");
    let mut shown = at_first.clone();
    for event in events {
        let Some(tag) = event.tag.clone() else { continue };
        let before = match event.new.clone() {
            Some(new) => shown.insert(tag, new),
            None => shown.remove(&tag),
        };
        assert_eq!(before, event.old, "{event:?}");
    }
    assert_eq!(&shown, at_last);
}

fn shown(repository: &ImageRepository) -> BTreeMap<Tag, Digest> {
    let images = repository.metadata.images.iter();
    images.map(|(tag, image)| (tag.clone(), image.digest.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_kept_and_a_restart_goes_on_from_there() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 10);
    let mut samovar = start(&world, &store, &[&app]);
    let at_first = shown(&samovar.complete(&app).await);
    assert_eq!(samovar.history(&app).await, [], "the first listing is no news");
    world.push(&app, "2.0", &Image::new("2.0"));
    tokio::time::sleep(MINUTE * 10).await;
    world.push(&app, "2.0", &Image::new("2.0 again"));
    samovar.handle.refresh(&app, Some(tag("2.0"))).unwrap().done().await.unwrap();
    world.push(&app, "2.0", &Image::new("2.0 for nobody here").platform("windows/amd64"));
    samovar.handle.refresh(&app, Some(tag("2.0"))).unwrap().done().await.unwrap();
    world.push(&app, "2.0", &Image::new("2.0 for all"));
    samovar.handle.refresh(&app, Some(tag("2.0"))).unwrap().done().await.unwrap();
    let told = samovar.told();
    assert_eq!(
        in_words(&told),
        [ChangeKind::TagAdded, ChangeKind::TagMoved, ChangeKind::ImageExcluded, ChangeKind::ImageRecovered]
            .map(|kind| (kind, Some("2.0")))
    );
    assert_eq!(told[0].cause, Cause::Poll);
    assert!(told[1..].iter().all(|event| event.cause == Cause::Request));
    assert_eq!(samovar.history(&app).await, told);
    samovar.kill().await;

    world.remove(&app, "1.3");
    let mut samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(HOUR).await;
    let since = samovar.told();
    assert_eq!(in_words(&since), [(ChangeKind::TagRemoved, Some("1.3"))]);
    let history = samovar.history(&app).await;
    assert_eq!(history, [told, since].concat(), "told again is nothing");
    let repository = samovar.repository(&app).await;
    assert_follow_one_another(&history, &at_first, &shown(&repository));

    // It can be asked for in parts.
    let part = |tag: Option<Tag>, since: Option<Since>| {
        let (cache, app) = (samovar.cache.clone(), app.clone());
        async move { cache.history(&app, tag.as_ref(), since).await.unwrap().events }
    };
    assert_eq!(part(Some(tag("1.3")), None).await, history[4..]);
    assert_eq!(part(None, Some(Since::Change(history[1].id))).await, history[2..]);
    assert_eq!(part(None, Some(Since::Time(history[4].at))).await, history[4..]);
    assert_eq!(part(Some(tag("2.0")), Some(Since::Time(history[4].at))).await, []);
    assert_eq!(samovar.cache.history(&app, None, None).await.unwrap().generation, repository.generation);
}

/// D4: the ancestor told something on every pass as long as any tag had no image, and never of tags that moved or went.
#[tokio::test(start_paused = true)]
async fn passes_that_find_nothing_new_tell_nothing() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 5);
    world.push(&app, "windows", &Image::new("w").platform("windows/amd64"));
    world.push_tag(&app, "without-manifest", &Digest::sha256(b"nothing is there"));
    let mut samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    let generation = samovar.repository(&app).await.generation;
    for _ in 0..5 {
        samovar.handle.refresh(&app, None).unwrap().done().await.unwrap();
    }
    tokio::time::sleep(HOUR * 24 * 3).await;
    assert_eq!(samovar.told(), []);
    assert_eq!(samovar.repository(&app).await.generation, generation);
    world.push(&app, "1.0", &Image::new("moved"));
    world.remove(&app, "1.1");
    samovar.handle.refresh(&app, None).unwrap().done().await.unwrap();
    let told = samovar.told();
    let mut told = in_words(&told);
    told.sort_by_key(|(_, tag)| *tag);
    assert_eq!(told, [(ChangeKind::TagMoved, Some("1.0")), (ChangeKind::TagRemoved, Some("1.1"))]);
}

#[tokio::test(start_paused = true)]
async fn a_history_keeps_to_its_bounds() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 150);
    let history = HistoryBounds { entries: 100, age: HOUR * 24 };
    let mut samovar = start_with(&world, &store, &[&app], WarmerOptions { history, ..options() });
    samovar.complete(&app).await;
    for number in 0..150 {
        world.push(&app, &format!("1.{number}"), &Image::new(format!("moved {number}")));
    }
    samovar.handle.refresh(&app, None).unwrap().done().await.unwrap();
    let told = samovar.told();
    assert_eq!(told.len(), 150, "who listens hears all of it");
    assert_eq!(samovar.history(&app).await, told[50..]);
    tokio::time::sleep(HOUR * 25).await;
    world.push(&app, "new", &Image::new("new"));
    tokio::time::sleep(HOUR).await;
    assert_eq!(in_words(&samovar.history(&app).await), [(ChangeKind::TagAdded, Some("new"))]);
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_a_repository_without_a_list_is_remembered_too() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    world.set_list_failure(Some(ErrorKind::Unavailable { status: 503, message: None }));
    let mut samovar = start(&world, &store, &[&app]);
    tokio::time::sleep(HOUR).await;
    assert!(matches!(samovar.cache.repository_state(&app).await, Err(CacheError::NeverListed { .. })));
    let failed = samovar.told();
    assert_eq!(in_words(&failed), [(ChangeKind::RepositoryFailed, None)]);
    assert_eq!(samovar.history(&app).await, failed);
    world.set_list_failure(None);
    samovar.complete(&app).await;
    let told = [failed, samovar.told()].concat();
    assert_eq!(in_words(&told)[1..], [(ChangeKind::RepositoryRecovered, None)]);
    assert_eq!(samovar.history(&app).await, told);

    // Gone for good: of what was, only that it was removed.
    world.set_list_failure(Some(ErrorKind::NotFound { message: None }));
    tokio::time::sleep(HOUR * 24 * 4).await;
    let told = samovar.told();
    assert_eq!(
        in_words(&told),
        [(ChangeKind::RepositoryFailed, None), (ChangeKind::RepositoryRemoved, None)]
    );
    assert_eq!(samovar.history(&app).await, told[1..]);
    samovar.stop().await;
    world.set_list_failure(None);
    let mut samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    tokio::time::sleep(HOUR).await;
    let again = samovar.told();
    assert_eq!(in_words(&again), [(ChangeKind::RepositoryRecovered, None)]);
    assert_eq!(samovar.history(&app).await, [&told[1..], &again].concat());
}

/// One of several replicas, with what it has told since it began.
struct Replica {
    running: Running,
    view: Arc<View>,
    /// The latest change when it began.
    began_after: Option<Event>,
    told: Vec<Event>,
}

impl Replica {
    async fn start(world: &World, server: &Arc<Server>, app: &Name, name: &str) -> Self {
        let view = View::of(server);
        let store: Arc<dyn Client> = view.clone();
        let options = WarmerOptions { replica: name.to_owned(), ..options() };
        let running = start_with(world, &store, &[app], options);
        // Until it has seen where the repository stands.
        while !running.handle.overview().get(app).is_some_and(|overview| overview.listed) {
            tokio::time::sleep(SECOND).await;
        }
        let began_after = running.history(app).await.pop();
        Self { running, view, began_after, told: Vec::new() }
    }
}

#[tokio::test(start_paused = true)]
async fn every_replica_tells_the_same_once_whoever_takes_over_and_whatever_gets_lost() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (world, server) = (World::default(), Arc::<Server>::default());
        let app = filled(&world, "registry.example/team/app", 8);
        let mut replicas = Vec::new();
        for name in ["a", "b", "c"] {
            replicas.push(Replica::start(&world, &server, &app, name).await);
        }
        let at_first = shown(&replicas[0].running.complete(&app).await);
        let mut expected = Vec::new();
        for round in 0..40 {
            let which = format!("1.{}", random.u8(..8));
            let is_there = shown(&replicas[0].running.repository(&app).await).contains_key(&tag(&which));
            if is_there && random.bool() {
                world.remove(&app, &which);
                expected.push((ChangeKind::TagRemoved, which.clone()));
            } else {
                world.push(&app, &which, &Image::new(format!("round {round}")));
                let kind = if is_there { ChangeKind::TagMoved } else { ChangeKind::TagAdded };
                expected.push((kind, which.clone()));
            }
            for replica in &replicas {
                replica.view.lose_answers_to_heads(random.usize(..4));
            }
            if random.u8(..5) == 0 {
                let gone = replicas.swap_remove(random.usize(..3));
                if random.bool() {
                    gone.running.kill().await;
                } else {
                    gone.running.stop().await;
                }
                replicas.push(Replica::start(&world, &server, &app, &format!("after {round}")).await);
            }
            let asked = replicas[random.usize(..3)].running.handle.refresh(&app, None).unwrap();
            let _ = asked.done().await;
            // Whatever became of that: until it is seen.
            while replicas[0].running.history(&app).await.len() < expected.len() {
                tokio::time::sleep(SECOND).await;
            }
            tokio::time::sleep(SECOND * random.u32(..20)).await;
            for replica in &mut replicas {
                replica.told.append(&mut replica.running.told());
            }
        }
        tokio::time::sleep(MINUTE).await;
        let history = replicas[0].running.history(&app).await;
        let repository = replicas[0].running.repository(&app).await;
        let expected: Vec<_> = expected.iter().map(|(kind, tag)| (*kind, Some(&**tag))).collect();
        assert_eq!(in_words(&history), expected, "seed {seed}");
        assert_follow_one_another(&history, &at_first, &shown(&repository));
        for replica in &mut replicas {
            replica.told.append(&mut replica.running.told());
            assert_eq!(replica.running.history(&app).await, history, "seed {seed}");
            let began = replica.began_after.as_ref().map_or(0, |last| {
                history.iter().position(|event| event == last).expect("nothing is forgotten") + 1
            });
            // What was published while it began, it may have told or not.
            let told = history.len() - replica.told.len();
            assert!(
                (0..=began).contains(&told) && history[told..] == replica.told,
                "seed {seed}: {:#?}",
                replica.told
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_history_that_the_store_has_lost_is_short_and_goes_on() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let mut replica = Replica::start(&world, &server, &app, "a").await.running;
    let mut other = Replica::start(&world, &server, &app, "b").await.running;
    replica.complete(&app).await;
    let change = async |round: usize| {
        world.push(&app, "moving", &Image::new(format!("round {round}")));
        replica.handle.refresh(&app, None).unwrap().done().await.unwrap();
    };
    for round in 0..3 {
        change(round).await;
    }
    assert_eq!(replica.history(&app).await.len(), 3);
    for key in server.keys().await.into_iter().filter(|key| matches!(key, Key::History(..))) {
        server.evict(key).await;
    }
    assert_eq!(replica.history(&app).await, []);
    assert!(replica.repository(&app).await.complete, "nothing else is lost");
    change(3).await;
    change(4).await;
    tokio::time::sleep(MINUTE).await;
    let history = replica.history(&app).await;
    // What was still in memory was written once more; what nobody knew any more is forgotten.
    assert!([2, 5].contains(&history.len()), "{history:#?}");
    let told = replica.told();
    // It could not read what was between: it says so, and goes on.
    let mut heard = Vec::new();
    while let Ok(told) = other.changes.try_recv() {
        heard.extend(told.change().map(|change| change.event.clone()));
    }
    assert_eq!(told.len(), 5);
    assert!(told.ends_with(&heard) && heard.ends_with(&history[history.len() - 2..]));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_reads_a_history_while_it_is_rewritten_tells_all_of_it() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let mut holder = Replica::start(&world, &server, &app, "a").await.running;
    holder.complete(&app).await;
    let mut other = Replica::start(&world, &server, &app, "b").await;
    let change = async |round: usize| {
        world.push(&app, "moving", &Image::new(format!("round {round}")));
        holder.handle.refresh(&app, None).unwrap().done().await.unwrap();
    };
    change(0).await;
    other.view.hold_up_histories(true);
    // It has seen the head by now, and reads what that names.
    tokio::time::sleep(SECOND * 15).await;
    change(1).await;
    change(2).await;
    other.view.hold_up_histories(false);
    tokio::time::sleep(SECOND * 15).await;
    let told = holder.told();
    assert_eq!(told.len(), 3);
    assert_eq!(other.running.told(), told);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_the_head_is_written_tells_no_failure_twice() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let replica = Replica::start(&world, &server, &app, "a").await;
    let samovar = replica.running;
    samovar.complete(&app).await;
    replica.view.fail_sides(true);
    world.set_list_failure(Some(ErrorKind::Unavailable { status: 503, message: None }));
    while samovar.history(&app).await.is_empty() {
        tokio::time::sleep(SECOND).await;
    }
    samovar.kill().await;
    let replica = Replica::start(&world, &server, &app, "b").await;
    tokio::time::sleep(HOUR).await;
    replica.view.fail_sides(true);
    world.set_list_failure(None);
    let samovar = replica.running;
    while samovar.history(&app).await.len() < 2 {
        tokio::time::sleep(SECOND).await;
    }
    samovar.kill().await;
    let samovar = Replica::start(&world, &server, &app, "c").await.running;
    tokio::time::sleep(HOUR).await;
    let expected = [ChangeKind::RepositoryFailed, ChangeKind::RepositoryRecovered].map(|kind| (kind, None));
    assert_eq!(in_words(&samovar.history(&app).await), expected);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_cut_short_is_told_once_and_leaves_nothing_behind() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 3);
    let replica = Replica::start(&world, &server, &app, "a").await;
    let mut samovar = replica.running;
    samovar.complete(&app).await;
    world.push(&app, "new", &Image::new("new"));
    samovar.handle.refresh(&app, None).unwrap().done().await.unwrap();
    samovar.told();
    world.set_list_failure(Some(ErrorKind::NotFound { message: None }));
    tokio::time::sleep(HOUR * 20).await;
    replica.view.fail_deletions(true);
    tokio::time::sleep(HOUR * 12).await;
    replica.view.fail_deletions(false);
    tokio::time::sleep(HOUR * 12).await;
    let told = samovar.told();
    assert_eq!(
        in_words(&told),
        [(ChangeKind::RepositoryFailed, None), (ChangeKind::RepositoryRemoved, None)]
    );
    let left = server.keys().await.into_iter().filter(|key| key.repository() == Some(&app));
    assert_eq!(left.collect::<Vec<_>>(), [Key::Side(app.clone())]);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_told_everything_is_told_so() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let app = filled(&world, "registry.example/team/app", 30);
    let history = HistoryBounds { entries: 10, ..HistoryBounds::default() };
    let store: Arc<dyn Client> = View::of(&server);
    let of_a = WarmerOptions { history, replica: "a".to_owned(), ..options() };
    let holder = start_with(&world, &store, &[&app], of_a);
    holder.complete(&app).await;
    let mut other = Replica::start(&world, &server, &app, "b").await.running;
    for number in 0..30 {
        world.push(&app, &format!("1.{number}"), &Image::new(format!("moved {number}")));
    }
    holder.handle.refresh(&app, None).unwrap().done().await.unwrap();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(*other.changes.recv().await.unwrap(), Told::Missed(app.clone()));
    assert_eq!(other.told(), holder.history(&app).await, "and then as much as is known");
}
