//! Who waits for whom on one host: the warmer with the client and its budget as they are, and a registry behind a simulated
//! wire.

use async_trait::async_trait;
use bytes::Bytes;
use samovar::store::Instrumented;
use samovar_registry::Clock as _;
use samovar_registry::upstream::{HttpOptions, HttpUpstreams, Limits, Wire, WireFailure};

use super::*;

const HOST: &str = "registry.example";
const SECOND: Duration = Duration::from_secs(1);
/// A wire behind which the world's registries answer, each after 100 ms.
#[derive(Debug)]
struct OverWire(World);

#[async_trait]
impl Wire for OverWire {
    async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, WireFailure> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let path = request.url().path().trim_start_matches("/v2/");
        let name = |path: &str| name(&format!("{HOST}/{path}"));
        let answer = if let Some(path) = path.strip_suffix("/tags/list") {
            let tags = self.0.tags(&name(path));
            let body = serde_json::json!({ "name": path, "tags": tags });
            ("application/json".to_owned(), Bytes::from(body.to_string()), None)
        } else if let Some((path, reference)) = path.split_once("/manifests/") {
            let digest = reference.parse().ok().or_else(|| self.0.digest(&name(path), reference)).unwrap();
            let (media_type, bytes) = self.0.document(&digest);
            (media_type, bytes, Some(digest))
        } else {
            let (_, digest) = path.split_once("/blobs/").unwrap();
            let (_, bytes) = self.0.document(&digest.parse().unwrap());
            ("application/octet-stream".to_owned(), bytes, None)
        };
        let (media_type, bytes, digest) = answer;
        let mut response = http::Response::builder()
            .header("content-type", media_type)
            .header("content-length", bytes.len().to_string());
        if let Some(digest) = digest {
            response = response.header("docker-content-digest", digest.to_string());
        }
        let body = if request.method() == http::Method::HEAD { Bytes::new() } else { bytes };
        Ok(response.body(reqwest::Body::from(body)).unwrap().into())
    }
}

/// A samovar whose requests wait for a budget of so many a second, and what counts them.
fn start_limited(
    world: &World,
    store: &Arc<dyn Client>,
    rate: f64,
    watched: WatchList,
) -> (Running, Arc<Metrics>) {
    let limits = Limits { rate, burst: 10, concurrency: 10 };
    let http = HttpOptions { limits, seed: Some(7), ..HttpOptions::default() };
    let (metrics, wire) = (Arc::new(Metrics::new()), Arc::new(OverWire(world.clone())));
    let warmers: Arc<dyn Client> = Arc::new(Instrumented::new(Arc::clone(store), metrics.store("memory")));
    let upstreams = HttpUpstreams::over_wire(http, clock(), metrics.clone(), wire).unwrap();
    let warmer = Warmer::new(warmers, Arc::new(upstreams), clock(), metrics.clone(), options());
    let (watch, list) = watch::channel(watched);
    let handle = warmer.handle();
    let shutdown = CancellationToken::new();
    let running = Running {
        changes: handle.changes(),
        handle,
        cache: Cache::new(Arc::clone(store), clock()),
        watch,
        task: tokio::spawn(warmer.run(vec![Box::new(TestSource(list))], shutdown.clone())),
        shutdown,
    };
    (running, metrics)
}

/// How many entries the warmer has read from its store, of those that it reads together.
fn entries_read(metrics: &Metrics) -> usize {
    let page = metrics.render();
    let family = "samovar_store_operations_total{operation=\"get_many\",outcome=\"hit\",store=\"memory\"} ";
    page.lines().find_map(|line| line.strip_prefix(family)).unwrap().parse().unwrap()
}

/// A repository of `count` tags that all point at one image.
fn tagged(world: &World, repository: &str, count: usize) -> Name {
    let name = filled(world, &format!("{HOST}/{repository}"), 1);
    let digest = world.digest(&name, "1.0").unwrap();
    for number in 1..count {
        world.push_tag(&name, &format!("1.{number}"), &digest);
    }
    name
}

#[tokio::test(start_paused = true)]
async fn a_small_repository_waits_for_a_few_turns_of_larger_ones_and_these_go_on_where_they_stopped() {
    let (world, store) = (World::default(), memory());
    let large: Vec<Name> = (0..10).map(|number| tagged(&world, &format!("large/app{number}"), 700)).collect();
    let mut watched: Vec<&Name> = large.iter().collect();
    let (samovar, metrics) = start_limited(&world, &store, 50.0, watching(&watched));
    tokio::time::sleep(50 * SECOND).await;
    let small = tagged(&world, "zz/small", 5);
    watched.push(&small);
    samovar.watch.send(watching(&watched)).unwrap();
    let began = tokio::time::Instant::now();
    samovar.complete(&small).await;
    // The turns that are under way last 30 seconds at most; then each of its requests waits for what is in the queue of
    // the budget: of seven passes, sixteen each.
    assert!(began.elapsed() < 45 * SECOND, "{:?}", began.elapsed());
    // None of the large ones is left behind, though there are more of them than places.
    tokio::time::sleep((100 * SECOND).saturating_sub(50 * SECOND + began.elapsed())).await;
    let mut images = Vec::new();
    for name in &large {
        images.push(samovar.repository(name).await.metadata.images.len());
    }
    let (least, most) = (*images.iter().min().unwrap(), *images.iter().max().unwrap());
    assert!(most < 700 && least > 200, "{images:?}");
    for name in &large {
        samovar.complete(name).await;
    }
    // One for each tag, and a list and a configuration for each repository: nothing is asked twice because a pass has given
    // way to others.
    assert_eq!(metrics.upstream_totals().0, 7000 + 5 + 2 * 11);
    // And nothing is read again from the store that was in memory: 636 entries where it is.
    let reads = entries_read(&metrics);
    assert!(reads < 60, "{reads} entries were read");
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_due_to_be_listed_waits_no_longer_than_it_takes_to_climb() {
    let (world, store) = (World::default(), memory());
    let small: Vec<Name> = (0..3).map(|number| tagged(&world, &format!("small/app{number}"), 5)).collect();
    let mut watched: Vec<&Name> = small.iter().collect();
    let (samovar, _) = start_limited(&world, &store, 10.0, watching(&watched));
    for name in &small {
        samovar.complete(name).await;
    }
    let large: Vec<Name> = (0..12).map(|number| tagged(&world, &format!("large/app{number}"), 600)).collect();
    watched.extend(&large);
    samovar.watch.send(watching(&watched)).unwrap();
    tokio::time::sleep(MINUTE).await;
    for name in &small {
        world.push(name, "2.0", &Image::new("2.0"));
    }
    let began = tokio::time::Instant::now();
    for name in &small {
        samovar.until(name, |repository| repository.metadata.images.contains_key(&tag("2.0"))).await;
    }
    // A poll interval with its jitter, two minutes to climb past tags that were never looked at, and a turn.
    assert!(began.elapsed() < Duration::from_secs(330 + 120 + 60), "{:?}", began.elapsed());
    let mut complete = 0;
    for name in &large {
        complete += usize::from(samovar.repository(name).await.complete);
    }
    assert!(complete < 4, "{complete} large ones are done: there was room");
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_identity_with_few_repositories_does_not_wait_for_all_of_one_with_many() {
    let (world, store) = (World::default(), memory());
    let many: Vec<Name> = (0..60).map(|number| tagged(&world, &format!("many/app{number:02}"), 40)).collect();
    let few = tagged(&world, "zz/few", 5);
    let mut watched = watching(&many.iter().collect::<Vec<_>>());
    let password = Secret::new("p");
    let login = Credentials::Basic { username: "alice".to_owned(), password, provenance: "x".into() };
    watched.0.insert(few.clone(), Watch { credentials: login.into(), ..Watch::default() });
    let began = tokio::time::Instant::now();
    let (samovar, _) = start_limited(&world, &store, 20.0, watched);
    samovar.complete(&few).await;
    assert!(began.elapsed() < 15 * SECOND, "{:?}", began.elapsed());
    for name in &many {
        samovar.complete(name).await;
    }
    assert!(began.elapsed() > 110 * SECOND, "{:?}", began.elapsed());
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn however_many_refreshes_are_asked_for_the_schedule_has_a_place() {
    let (world, store) = (World::default(), memory());
    let names: Vec<Name> =
        (0..20).map(|number| tagged(&world, &format!("asked/app{number:02}"), 2)).collect();
    let mut watched: Vec<&Name> = names.iter().collect();
    let samovar = start(&world, &store, &watched);
    for name in &names {
        samovar.complete(name).await;
    }
    world.set_latency(HOST, HOUR);
    let _tickets: Vec<_> = names.iter().map(|name| samovar.handle.refresh(name, None).unwrap()).collect();
    tokio::time::sleep(SECOND).await;
    assert_eq!(samovar.handle.running_passes(), 7);
    let small = filled(&world, &format!("{HOST}/zz/small"), 5);
    watched.push(&small);
    world.take_asked();
    samovar.watch.send(watching(&watched)).unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        world.take_asked().iter().filter(|asked| asked.name == small).count(),
        1,
        "it is being listed"
    );
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn however_often_somebody_asks_the_lists_of_the_schedule_are_read_to_their_ends() {
    let (world, store) = (World::default(), memory());
    let of = |group: &str| -> Vec<Name> {
        (0..10).map(|number| tagged(&world, &format!("{group}/app{number}"), 1)).collect()
    };
    let (asked, left) = (of("asked"), of("left"));
    let watched: Vec<&Name> = asked.iter().chain(&left).collect();
    let samovar = start(&world, &store, &watched);
    for name in &watched {
        samovar.complete(name).await;
    }
    // A refresh takes a minute, for its list and its tag: six of them run at any time, and each takes a place.
    world.set_latency(HOST, 30 * SECOND);
    let began = clock().now();
    for round in 0..120 {
        drop(samovar.handle.refresh(&asked[round % asked.len()], None).unwrap());
        tokio::time::sleep(10 * SECOND).await;
    }
    let mut listed = Vec::new();
    for name in &left {
        listed.push(samovar.repository(name).await.last_update.is_some_and(|listed| listed > began));
    }
    assert_eq!(listed, [true; 10]);
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_wait_for_lists_that_hang_and_these_are_read_later() {
    let (world, store) = (World::default(), memory());
    let names: Vec<Name> = (0..20).map(|number| tagged(&world, &format!("app{number:02}"), 2)).collect();
    let watched: Vec<&Name> = names.iter().collect();
    let samovar = start(&world, &store, &watched);
    for name in &names {
        samovar.complete(name).await;
    }
    world.take_asked();
    world.set_latency(HOST, 24 * HOUR);
    tokio::time::sleep(10 * MINUTE).await;
    let hanging: Vec<Name> = world.take_asked().into_iter().map(|asked| asked.name).collect();
    assert_eq!((hanging.len(), samovar.handle.running_passes()), (8, 8));
    world.set_latency(HOST, Duration::ZERO);
    let waiting = names.iter().find(|name| !hanging.contains(name)).unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(samovar.handle.refresh(waiting, None).unwrap().done().await, Ok(()));
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    // The one that has given its place away is listed when it has one again.
    tokio::time::sleep(MINUTE).await;
    let asked = world.take_asked();
    let listed =
        |name: &&Name| asked.iter().any(|asked| asked.name == **name && asked.operation == Operation::Tags);
    assert_eq!(hanging.iter().filter(listed).count(), 1);
    assert_eq!(names.iter().filter(listed).count(), 13, "all but those that hang");
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn refreshes_of_large_repositories_take_turns_and_go_on_where_they_stopped() {
    let (world, store) = (World::default(), memory());
    let large: Vec<Name> = (0..8).map(|number| tagged(&world, &format!("large/app{number}"), 400)).collect();
    let small = tagged(&world, "zz/small", 5);
    let mut watched: Vec<&Name> = large.iter().collect();
    watched.push(&small);
    let (samovar, metrics) = start_limited(&world, &store, 50.0, watching(&watched));
    for name in &watched {
        samovar.complete(name).await;
    }
    let before = metrics.upstream_totals().0;
    let began = tokio::time::Instant::now();
    let tickets: Vec<_> = large.iter().map(|name| samovar.handle.refresh(name, None).unwrap()).collect();
    tokio::time::sleep(5 * SECOND).await;
    samovar.handle.refresh(&small, None).unwrap().done().await.unwrap();
    assert!(began.elapsed() < 50 * SECOND, "{:?} of more than a minute", began.elapsed());
    for ticket in tickets {
        assert_eq!(ticket.done().await, Ok(()));
    }
    // Every tag once, every list once; and lists that came to be due.
    let sent = metrics.upstream_totals().0 - before;
    assert!((3214..3240).contains(&sent), "{sent}");
    samovar.stop().await;
}
