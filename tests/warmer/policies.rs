//! What policies choose from what is kept warm, as time goes by.

use samovar::cache::Latest;
use samovar::cache::records::TagStateName;
use samovar::policy::{LeftOut, Patterns, Policy};

use super::*;

const DAY: Duration = Duration::from_hours(24);

async fn latest(samovar: &Running, name: &Name, parameters: &[(&str, &str)]) -> Latest {
    let policy = Policy::read(parameters.iter().copied(), &Patterns::default()).unwrap();
    samovar.cache.latest(name, &policy).await.unwrap()
}

fn chosen(latest: &Latest) -> Vec<&str> {
    latest.choice.tags.iter().map(Tag::as_str).collect()
}

async fn push(samovar: &Running, world: &World, app: &Name, tag_text: &str, seed: &str) {
    world.push(app, tag_text, &Image::new(seed));
    samovar.handle.refresh(app, Some(tag(tag_text))).unwrap().done().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tag_is_chosen_when_it_is_old_enough_and_not_again_when_it_moves() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 2);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    push(&samovar, &world, &app, "1.2", "first").await;

    let policy = [("semver", "^1"), ("min_age", "7d")];
    let too_young = latest(&samovar, &app, &policy).await;
    assert_eq!(chosen(&too_young), [""; 0]);
    let until = match &too_young.choice.left_out[&tag("1.2")] {
        LeftOut::TooYoung(until) => *until,
        other => panic!("{other}"),
    };
    for unknown in ["1.0", "1.1"] {
        assert_eq!(too_young.choice.left_out[&tag(unknown)], LeftOut::UnknownAge, "of the first listing");
    }
    tokio::time::sleep(HOUR * 167).await;
    assert_eq!(chosen(&latest(&samovar, &app, &policy).await), [""; 0]);
    tokio::time::sleep(HOUR + MINUTE).await;
    let old_enough = latest(&samovar, &app, &policy).await;
    assert_eq!((chosen(&old_enough), old_enough.choice.is_complete()), (vec!["1.2"], true));

    push(&samovar, &world, &app, "1.2", "second").await;
    let moved = latest(&samovar, &app, &policy).await;
    assert!(
        matches!(&moved.choice.left_out[&tag("1.2")], LeftOut::TooYoung(later) if *later > until + DAY * 7)
    );
    assert_eq!(chosen(&latest(&samovar, &app, &[("newest", "first_seen")]).await), ["1.2"]);
    tokio::time::sleep(DAY * 7 + MINUTE).await;
    assert_eq!(chosen(&latest(&samovar, &app, &policy).await), ["1.2"]);
    samovar.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_fetched_is_named_until_it_is() {
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 2);
    world.push_broken(&app, "1.2", "{");
    let samovar = start(&world, &store, &[&app]);
    let failed = |repository: &ImageRepository| {
        repository.unavailable.values().any(|unavailable| unavailable.state == TagStateName::Failed)
    };
    samovar.until(&app, failed).await;
    let by_name = latest(&samovar, &app, &[("semver", "^1")]).await;
    let (best, unavailable) = &by_name.tags[0];
    assert_eq!((best.as_str(), unavailable.as_ref().unwrap_err().state), ("1.2", TagStateName::Failed));
    assert_eq!(by_name.choice.missing, [tag("1.2")]);
    let next = by_name.next_attempt.expect("it is tried again");
    assert_eq!(Some(next), unavailable.as_ref().unwrap_err().next_attempt);
    let by_build = latest(&samovar, &app, &[("newest", "created")]).await;
    assert_eq!((chosen(&by_build), &by_build.choice.missing[..]), (vec!["1.1"], &[tag("1.2")][..]));

    world.push(&app, "1.2", &Image::new("sound").created("2020-01-01T00:00:00Z"));
    samovar.complete(&app).await;
    let by_build = latest(&samovar, &app, &[("newest", "created")]).await;
    assert_eq!(
        (chosen(&by_build), by_build.choice.is_complete()),
        (vec!["1.1"], true),
        "it is older, as it turns out"
    );
    assert!(latest(&samovar, &app, &[("semver", "^1")]).await.tags[0].1.is_ok());
    samovar.stop().await;
}
