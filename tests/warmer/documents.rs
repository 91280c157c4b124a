//! Single documents that readers want: asked of the registry by the lane of its host, once for all.

use std::time::Duration;

use samovar::store::Documents;
use samovar::warmer::{Lack, Piece};
use samovar_registry::upstream::{ErrorKind, Operation, Urgency};
use samovar_testing::Content as _;

use super::replicas::{replica, within};
use super::shared_store::{Server, View};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// An index of a wanted and an unwanted image, warm; the unwanted one, and its configuration.
async fn warm(world: &World, store: &Arc<dyn Client>) -> (Running, Name, Digest, Digest) {
    let app = name("r.example/app");
    let unwanted = Image::new("unwanted").platform("windows/amd64");
    world.push(&app, "1.0", &Index::of([&Image::new("wanted"), &unwanted]));
    let running = start(world, store, &[&app]);
    running.complete(&app).await;
    world.take_asked();
    let [manifest, config] =
        [unwanted.digest(), unwanted.config().digest].map(|digest| digest.parse().unwrap());
    (running, app, manifest, config)
}

async fn is_stored(store: &Arc<dyn Client>, digest: &Digest) -> bool {
    Documents(&**store).get(digest).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn those_who_want_the_same_document_wait_for_one_request_however_late_they_come() {
    let (world, store) = (World::default(), memory());
    let (samovar, app, manifest, config) = warm(&world, &store).await;
    world.set_latency("r.example", SECOND);
    for (piece, digest) in
        [(Piece::Manifest(manifest.clone()), &manifest), (Piece::Blob(config.clone()), &config)]
    {
        assert!(!is_stored(&store, digest).await);
        let ask = || samovar.handle.document(&app, piece.clone()).unwrap().done();
        let first = tokio::spawn(ask());
        tokio::time::sleep(SECOND / 2).await;
        let (second, third) = tokio::join!(ask(), ask());
        for done in [first.await.unwrap(), second, third] {
            assert_eq!(done.as_ref(), Ok(digest));
        }
        assert!(is_stored(&store, digest).await, "it is there when it is said to be");
        let asked = world.take_asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!((asked[0].urgency, asked[0].what.clone()), (Urgency::Asked, digest.to_string()));
    }
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_store_has_is_confirmed_for_the_repository_and_not_fetched() {
    let (world, store) = (World::default(), memory());
    let (samovar, app, ..) = warm(&world, &store).await;
    let wanted = world.digest(&app, "1.0").unwrap();
    let done = samovar.handle.document(&app, Piece::Manifest(wanted.clone())).unwrap().done().await;
    assert_eq!(done, Ok(wanted));
    let asked = world.take_asked();
    assert_eq!(asked.iter().map(|asked| asked.operation).collect::<Vec<_>>(), [Operation::Resolve]);
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_left_out_tag_points_at_is_fetched_and_nothing_else_of_it_changes() {
    let (world, store) = (World::default(), memory());
    let (samovar, app, ..) = warm(&world, &store).await;
    let signature = Image::new("signature").config_media_type("application/vnd.example.signature+json");
    let companion = tag(&format!("{}.sig", world.digest(&app, "1.0").unwrap().to_string().replace(':', "-")));
    let digest = world.push(&app, companion.as_str(), &signature);
    let done = samovar.handle.document(&app, Piece::Tag(companion.clone())).unwrap().done().await;
    assert_eq!(done.as_ref(), Ok(&digest));
    assert!(is_stored(&store, &digest).await);
    assert!(
        !samovar.repository(&app).await.metadata.tags.contains(&companion),
        "only a list, or a refresh, adds tags"
    );
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failures_say_whether_it_is_not_there_and_when_to_come_back() {
    let (world, store) = (World::default(), memory());
    let (samovar, app, manifest, _) = warm(&world, &store).await;
    let ask = |piece| samovar.handle.document(&app, piece).unwrap().done();
    let none = Digest::sha256(b"none");
    let not_there = ask(Piece::Manifest(none.clone())).await.unwrap_err();
    assert_eq!((not_there.why, not_there.retry_after), (Lack::NotThere, None));
    assert_eq!(ask(Piece::Blob(none.clone())).await.unwrap_err().why, Lack::NotThere);
    assert_eq!(ask(Piece::Tag(tag("none"))).await.unwrap_err().why, Lack::NotThere);

    world.set_failure("r.example", Some(ErrorKind::Unavailable { status: 500, message: None }));
    let failed = ask(Piece::Manifest(manifest.clone())).await.unwrap_err();
    assert_eq!((failed.why, failed.retry_after), (Lack::Failed, None));
    world.set_failure("r.example", None);

    // Nobody waits for a host that wants to be left alone, nor is it asked.
    world.take_asked();
    world.hold_back("r.example", MINUTE);
    let began = tokio::time::Instant::now();
    let limited = ask(Piece::Manifest(manifest.clone())).await.unwrap_err();
    assert_eq!(limited.why, Lack::Failed);
    assert!(limited.retry_after.is_some_and(|wait| wait > MINUTE / 2 && wait <= MINUTE), "{limited:?}");
    assert!(began.elapsed() < SECOND && world.take_asked().is_empty());
    tokio::time::sleep(MINUTE).await;
    assert_eq!(ask(Piece::Manifest(manifest.clone())).await.as_ref(), Ok(&manifest));

    let elsewhere = samovar.handle.document(&name("r.example/other"), Piece::Manifest(manifest));
    assert_eq!(elsewhere.map(drop), Err(RequestRefused::NotWatched));
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_the_lane_has_it_fetched_by_the_one_that_has_it() {
    let (world, server) = (World::default(), Arc::<Server>::default());
    let store: Arc<dyn Client> = View::of(&server);
    let (app, unwanted) = (name("r.example/app"), Image::new("unwanted").platform("windows/amd64"));
    world.push(&app, "1.0", &Index::of([&Image::new("wanted"), &unwanted]));
    let [manifest, config]: [Digest; 2] =
        [unwanted.digest(), unwanted.config().digest].map(|digest| digest.parse().unwrap());
    let holder = replica(&world, &View::of(&server), "holder", &[&app]);
    holder.complete(&app).await;
    let other = replica(&world, &View::of(&server), "other", &[&app]);
    within(MINUTE, || other.handle.is_watched(&app)).await;
    world.take_asked();
    let ask = |piece| other.handle.document(&app, piece).unwrap().done();
    let (manifest_done, again, config_done, none) = tokio::join!(
        ask(Piece::Manifest(manifest.clone())),
        ask(Piece::Manifest(manifest.clone())),
        ask(Piece::Blob(config.clone())),
        ask(Piece::Manifest(Digest::sha256(b"none"))),
    );
    assert_eq!((manifest_done.as_ref(), again.as_ref()), (Ok(&manifest), Ok(&manifest)));
    assert_eq!(config_done.as_ref(), Ok(&config));
    assert_eq!(none.unwrap_err().why, Lack::NotThere, "what it is that went wrong comes back, too");
    assert!(is_stored(&store, &manifest).await && is_stored(&store, &config).await);
    assert_eq!(world.take_asked().len(), 3);
    // It goes on when the holder has gone.
    let digest = world.digest(&app, "1.0").unwrap();
    let waiting = tokio::spawn(other.handle.document(&app, Piece::Manifest(digest.clone())).unwrap().done());
    holder.kill().await;
    assert_eq!(waiting.await.unwrap().as_ref(), Ok(&digest));
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_readers_want_is_asked_about_once_while_it_is_under_way() {
    let (world, store) = (World::default(), memory());
    let (samovar, app, ..) = warm(&world, &store).await;
    world.set_latency("r.example", SECOND);
    let digest = world.push(&app, "2.0", &Image::new("new"));
    let ask = || samovar.handle.tag(&app, tag("2.0")).unwrap().done();
    let first = tokio::spawn(ask());
    tokio::time::sleep(SECOND / 2).await;
    let second = ask().await;
    assert_eq!((first.await.unwrap(), second), (Ok(()), Ok(())));
    assert_eq!(world.count(Operation::Manifest), 1);
    assert_eq!(samovar.repository(&app).await.metadata.images[&tag("2.0")].digest, digest);
    // Once it is over, the next one who asks has it asked again.
    world.take_asked();
    ask().await.unwrap();
    assert_eq!(world.take_asked().len(), 1);
    samovar.stop().await;
}
