//! How often what is asked: learnt, bounded, and remembered.

use samovar_registry::Clock as _;

use super::simulated::Asked;
use super::*;

const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(24 * 7);

fn adaptive() -> WarmerOptions {
    WarmerOptions { poll_interval: PollInterval::default(), ..options() }
}

/// How often the tag, or any, was asked about among these requests.
fn resolved(asked: &[Asked], text: Option<&str>) -> usize {
    let is_meant = |asked: &&Asked| text.is_none_or(|text| asked.what == text);
    asked.iter().filter(|asked| asked.operation == Operation::Resolve).filter(is_meant).count()
}

fn asked_about(world: &World, text: &str) -> usize {
    resolved(&world.take_asked(), Some(text))
}

/// How long after `began` somebody who follows the repository sees the tag at `digest`.
async fn seen_after(samovar: &Running, app: &Name, text: &str, digest: &Digest) -> Duration {
    let began = tokio::time::Instant::now();
    samovar.until(app, |repository| repository.metadata.images[&tag(text)].digest == *digest).await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_quiet_repository_is_listed_hourly_and_a_busy_one_every_few_minutes_also_after_a_restart() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 2);
    let samovar = start_with(&world, &store, &[&app], adaptive());
    samovar.complete(&app).await;
    tokio::time::sleep(DAY).await;
    world.take_asked();
    tokio::time::sleep(DAY).await;
    let listings = world.count(Operation::Tags);
    assert!((22..=28).contains(&listings), "{listings} listings on a quiet day");
    // A restart goes on at the pace that was learnt.
    samovar.stop().await;
    let samovar = start_with(&world, &store, &[&app], adaptive());
    world.take_asked();
    tokio::time::sleep(HOUR * 6).await;
    let listings = world.count(Operation::Tags);
    assert!((5..=8).contains(&listings), "{listings} listings in six quiet hours after a restart");
    // A new tag every quarter of an hour.
    let mut latest = Duration::ZERO;
    for number in 0..96 {
        let text = format!("2.{number}");
        let began = tokio::time::Instant::now();
        world.push(&app, &text, &Image::new(&*text));
        let arrived = samovar.until(&app, |repository| repository.metadata.tags.contains(&tag(&text)));
        arrived.await;
        if number > 10 {
            latest = latest.max(began.elapsed());
        }
        tokio::time::sleep_until(began + MINUTE * 15).await;
    }
    assert!(latest <= MINUTE * 10, "{latest:?}");
    // Another configuration holds at once.
    samovar.stop().await;
    let samovar = start_with(&world, &store, &[&app], options());
    world.take_asked();
    tokio::time::sleep(HOUR).await;
    assert!((11..=14).contains(&world.count(Operation::Tags)), "{}", world.count(Operation::Tags));
    samovar.kill().await;
}

#[tokio::test(start_paused = true)]
async fn where_webhooks_tell_the_poll_stretches_until_they_keep_something_quiet() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 2);
    let samovar = start_with(&world, &store, &[&app], adaptive());
    samovar.complete(&app).await;
    let tell = async |text: String| {
        world.push(&app, &text, &Image::new(&*text));
        let hint = samovar.handle.hint(&app, Some(tag(&text))).unwrap();
        hint.done().await.unwrap();
        assert!(samovar.repository(&app).await.metadata.images.contains_key(&tag(&text)));
    };
    for number in 0..4 {
        tell(format!("2.{number}")).await;
        tokio::time::sleep(DAY).await;
    }
    world.take_asked();
    tell("2.9".to_owned()).await;
    tokio::time::sleep(DAY).await;
    let listings = world.count(Operation::Tags);
    assert!((3..=5).contains(&listings), "{listings} listings a day");
    // One that no webhook tells of.
    world.push(&app, "3.0", &Image::new("quiet"));
    let began = tokio::time::Instant::now();
    samovar.until(&app, |repository| repository.metadata.tags.contains(&tag("3.0"))).await;
    assert!(began.elapsed() <= HOUR * 7, "{:?}", began.elapsed());
    world.take_asked();
    tokio::time::sleep(DAY).await;
    let listings = world.count(Operation::Tags);
    assert!((22..=32).contains(&listings), "{listings} listings a day");
}

#[tokio::test(start_paused = true)]
async fn versions_back_off_fast_until_one_is_seen_to_move_also_after_a_restart() {
    let (world, store) = (World::default(), memory());
    let app = name("registry.example/team/app");
    for text in ["1.2.3", "1.2"] {
        world.push(&app, text, &Image::new(text));
    }
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    tokio::time::sleep(DAY * 2).await;
    let asked = world.take_asked();
    let counts = ["1.2.3", "1.2"].map(|text| resolved(&asked, Some(text)));
    // Due after 1, 5 and 21 hours, and after 1, 3, 7, 15 and 31.
    assert_eq!(counts, [3, 5]);
    let moved = world.push(&app, "1.2.3", &Image::new("moved"));
    samovar.handle.refresh(&app, Some(tag("1.2.3"))).unwrap().done().await.unwrap();
    assert_eq!(samovar.repository(&app).await.metadata.images[&tag("1.2.3")].digest, moved);
    samovar.stop().await;
    let samovar = start(&world, &store, &[&app]);
    world.take_asked();
    // Its 64 hours were halved; then twice as long.
    tokio::time::sleep(HOUR * 40).await;
    assert_eq!(asked_about(&world, "1.2.3"), 1);
    tokio::time::sleep(HOUR * 57).await;
    assert_eq!(asked_about(&world, "1.2.3"), 1, "after 32 and 64 hours, and not 128");
    samovar.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_is_read_is_looked_at_daily_and_one_that_nobody_reads_weekly() {
    let (world, store) = (World::default(), memory());
    let (read, unread) = (name("registry.example/team/read"), name("registry.example/team/unread"));
    for app in [&read, &unread] {
        world.push(app, "latest", &Image::new("old"));
    }
    let samovar = start_with(&world, &store, &[&read, &unread], adaptive());
    samovar.complete(&read).await;
    samovar.complete(&unread).await;
    // Stable for long; readers come every day.
    for _ in 0..12 {
        samovar.handle.read(&read, Reading::Whole);
        // Who asks for its list, its history or an image by its digest does not ask where a tag points.
        samovar.handle.read(&unread, Reading::List);
        tokio::time::sleep(DAY).await;
    }
    world.take_asked();
    let moved = world.push(&unread, "latest", &Image::new("new"));
    world.push(&read, "latest", &Image::new("new"));
    let seen = seen_after(&samovar, &read, "latest", &moved).await;
    assert!(seen <= DAY, "{seen:?}");
    let seen = seen + seen_after(&samovar, &unread, "latest", &moved).await;
    assert!(seen > DAY && seen <= WEEK, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_read_again_after_weeks_is_looked_at_by_the_next_poll() {
    let (world, store) = (World::default(), memory());
    let app = name("registry.example/team/app");
    world.push(&app, "latest", &Image::new("old"));
    let samovar = start_with(&world, &store, &[&app], adaptive());
    samovar.complete(&app).await;
    // Confirmed after 255 hours for the last time.
    tokio::time::sleep(HOUR * 300).await;
    let moved = world.push(&app, "latest", &Image::new("new"));
    tokio::time::sleep(DAY).await;
    assert_ne!(samovar.repository(&app).await.metadata.images[&tag("latest")].digest, moved);
    samovar.handle.read(&app, Reading::Tag(&tag("latest")));
    let seen = seen_after(&samovar, &app, "latest", &moved).await;
    assert!(seen <= MINUTE * 67, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn tag_intervals_of_a_watch_hold() {
    let (world, store) = (World::default(), memory());
    let app = name("registry.example/team/app");
    world.push(&app, "latest", &Image::new("old"));
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    tokio::time::sleep(HOUR * 20).await;
    // Due after 31 hours.
    world.take_asked();
    let mut list = watching(&[&app]);
    let often = TagInterval { first: MINUTE * 10, shortest: MINUTE, longest: HOUR / 2 };
    list.0.get_mut(&app).unwrap().tag_interval = Some(often);
    samovar.watch.send_replace(list);
    tokio::time::sleep(MINUTE * 299).await;
    assert_eq!(asked_about(&world, "latest"), 10, "at once, and then every half hour");
}

#[tokio::test(start_paused = true)]
async fn after_a_long_stop_what_is_overdue_is_asked_for_bit_by_bit() {
    let (world, store) = (World::default(), memory());
    let app = name("registry.example/team/app");
    let digest = world.push(&app, "latest", &Image::new("one for all"));
    for number in 0..5000 {
        world.push_tag(&app, &format!("1.0.{number}"), &digest);
    }
    // What this is not about: every listing of so many tags takes its time.
    let rarely = || WarmerOptions { poll_interval: PollInterval::fixed(DAY), ..options() };
    let samovar = start_with(&world, &store, &[&app], rarely());
    samovar.complete(&app).await;
    // Due again after 85 and 253 hours; stopped after 200 for three days.
    tokio::time::sleep(HOUR * 200).await;
    samovar.stop().await;
    tokio::time::sleep(DAY * 3).await;
    world.take_asked();
    let samovar = start_with(&world, &store, &[&app], rarely());
    tokio::time::sleep(MINUTE).await;
    let at_once = world.take_asked();
    assert!(at_once.iter().any(|asked| asked.what == "latest"), "what floats goes first");
    let mut all = resolved(&at_once, None);
    assert!(all <= 5001 / 32 + 1, "{all}");
    let mut samovar = samovar;
    for hour in 0..6 {
        tokio::time::sleep(HOUR).await;
        // A restart on the way changes nothing.
        samovar.stop().await;
        samovar = start_with(&world, &store, &[&app], rarely());
        let asked = resolved(&world.take_asked(), None);
        assert!(asked <= 5001 / 5, "{asked} in hour {hour}");
        all += asked;
    }
    assert_eq!(all, 5001, "each once");
    assert!(samovar.repository(&app).await.complete);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_and_overdue_after_a_long_stop_is_spread_too() {
    let (world, store) = (World::default(), memory());
    let app = name("registry.example/team/app");
    let digest = world.push(&app, "1.0", &Image::new("one for all"));
    for number in 1..1000 {
        world.push_tag(&app, &format!("1.{number}"), &digest);
    }
    let rarely = || WarmerOptions { poll_interval: PollInterval::fixed(DAY), ..options() };
    let mut samovar = start_with(&world, &store, &[&app], rarely());
    samovar.complete(&app).await;
    for _ in 0..12 {
        samovar.handle.read(&app, Reading::Whole);
        tokio::time::sleep(DAY).await;
    }
    samovar.stop().await;
    // Less than their own intervals, more than what its readers expect.
    tokio::time::sleep(HOUR * 50).await;
    world.take_asked();
    samovar = start_with(&world, &store, &[&app], rarely());
    tokio::time::sleep(MINUTE).await;
    let mut all = resolved(&world.take_asked(), None);
    assert!(all <= 1000 / 31 + 1, "{all}");
    for half in 0..6 {
        tokio::time::sleep(HOUR / 2).await;
        // A restart on the way changes nothing.
        samovar.stop().await;
        samovar = start_with(&world, &store, &[&app], rarely());
        let asked = resolved(&world.take_asked(), None);
        assert!(asked <= 1000 / 4, "{asked} in half hour {half}");
        all += asked;
    }
    assert_eq!(all, 1000, "each once");
    samovar.kill().await;
}

/// D10 of the ancestor's ledger: where HEAD is answered without a digest, a tag was fetched every hour, for ever.
#[tokio::test(start_paused = true)]
async fn a_registry_that_tells_no_digest_is_asked_ever_more_rarely_too() {
    let (world, store) = (World::default(), memory());
    world.tell_no_digests("registry.example");
    let app = filled(&world, "registry.example/team/app", 1);
    let samovar = start_with(&world, &store, &[&app], adaptive());
    let generation = samovar.complete(&app).await.generation;
    world.take_asked();
    tokio::time::sleep(DAY * 8).await;
    assert_eq!(world.count(Operation::Manifest), 7, "after 1, 3, 7, 15, 31, 63 and 127 hours");
    assert_eq!(world.count(Operation::Config), 0);
    assert_eq!(samovar.repository(&app).await.generation, generation);
}

/// D8 of the ancestor's ledger: a tag that is listed and has no manifest was asked about on every pass, for ever.
#[tokio::test(start_paused = true)]
async fn a_tag_without_a_manifest_is_asked_about_once_a_day() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 1);
    world.push_tag(&app, "ghost", &Digest::sha256(b"nothing"));
    let samovar = start(&world, &store, &[&app]);
    let repository = samovar.complete(&app).await;
    assert_eq!(repository.unavailable.len(), 1);
    tokio::time::sleep(DAY * 10).await;
    let asked = world.take_asked();
    let ghost = asked.iter().filter(|asked| asked.what == "ghost").count();
    assert!((10..=11).contains(&ghost), "{ghost} times in ten days");
}

/// At most one try at once, then after 30 seconds, doubling up to a day.
#[tokio::test(start_paused = true)]
async fn a_tag_that_fails_is_tried_ever_more_rarely() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 1);
    world.push_broken(&app, "broken", "no manifest at all");
    let samovar = start(&world, &store, &[&app]);
    samovar.until(&app, |repository| repository.metadata.images.len() == 1).await;
    let began = clock().now();
    let mut tries = Vec::new();
    for _ in 0..7 * 24 * 60 {
        tokio::time::sleep(MINUTE).await;
        let asked = world.take_asked().iter().filter(|asked| asked.what == "broken").count();
        tries.extend(std::iter::repeat_n(clock().now().duration_since(began).as_secs() / 60, asked));
    }
    assert!(tries.len() <= 20, "{tries:?}");
    assert!(tries.iter().filter(|minute| **minute <= 1).count() <= 3, "{tries:?}");
    assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 24 * 60 + 1), "{tries:?}");
    assert!(tries.last().is_some_and(|last| *last >= 5 * 24 * 60), "and never given up: {tries:?}");
}
