use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::super::tests::{at, empty, image, list, tag, warmed};
use super::*;
use crate::cache::demand::Demand;
use crate::sources::{PollInterval, TagFilter, TagInterval};
use crate::warmer::cadence::tags::Pace;
use crate::warmer::tag::TagAnswer;

const HOUR: Duration = Duration::from_hours(1);

fn read(tags: &[(&str, i64)], whole: Option<i64>) -> Pace {
    let tags = tags.iter().map(|(text, hour)| (tag(text), at(*hour).now)).collect();
    let demand = Demand { read_at: whole.map(|hour| at(hour).now), tags, ..Demand::default() };
    Pace { demand: Arc::new(demand), ..Pace::default() }
}

fn deadline(state: &State, text: &str) -> i64 {
    let next = state.tags[&tag(text)].side.next.unwrap();
    next.as_second() / 3600
}

/// Each confirmed whenever its time came, until an hour; answers when it was confirmed last.
fn stable_until(state: &mut State, texts: &[&str], until: i64) -> BTreeMap<String, i64> {
    let confirm = |text: &&str| {
        let mut last = 0;
        while deadline(state, text) <= until {
            last = deadline(state, text);
            state.apply_answer(&tag(text), TagAnswer::Same, at(last));
        }
        ((*text).to_owned(), last)
    };
    texts.iter().map(confirm).collect()
}

#[test]
fn what_is_read_again_after_a_long_silence_is_looked_at_within_a_day_of_the_last_time_if_it_floats() {
    let texts = ["latest", "1.2", "1.2.3"];
    let mut state = warmed(&texts);
    let confirmed = stable_until(&mut state, &texts, 1000);
    assert_eq!(deadline(&state, "latest"), confirmed["latest"] + 168);
    state.side_changed.clear();
    let now = confirmed["latest"] + 2;
    state.pull_forward(at(now).now);
    assert!(state.side_changed.is_empty(), "nobody reads it");

    state.pace = read(&[("1.2", now)], None);
    state.pull_forward(at(now).now);
    assert_eq!(deadline(&state, "1.2"), confirmed["1.2"] + 24);
    assert_eq!(deadline(&state, "latest"), confirmed["latest"] + 168, "another one is read");
    state.pace = read(&[], Some(now));
    state.pull_forward(at(now).now);
    assert_eq!(deadline(&state, "latest"), confirmed["latest"] + 24);
    assert_eq!(deadline(&state, "1.2.3"), confirmed["1.2.3"] + 168, "it looks as if it never moved");
    assert!(state.is_unsaved());
    // From then on every day; what has been learnt is not forgotten, and nobody reads it a week later.
    let now = confirmed["latest"] + 24;
    state.apply_answer(&tag("latest"), TagAnswer::Same, at(now));
    assert_eq!(deadline(&state, "latest"), now + 24);
    state.apply_answer(&tag("latest"), TagAnswer::Same, at(now + 200));
    assert_eq!(deadline(&state, "latest"), now + 200 + 168);
}

#[test]
fn a_shorter_maximum_holds_at_once_and_a_longer_one_from_the_next_time_on() {
    let mut state = warmed(&["1.2.3"]);
    let confirmed = stable_until(&mut state, &["1.2.3"], 1000)["1.2.3"];
    let days = |days: u64| TagInterval {
        longest: 24 * HOUR * u32::try_from(days).unwrap(),
        ..TagInterval::default()
    };
    for (longest, expected) in [(2, 48), (7, 48), (1, 24)] {
        state.pace = Pace { configured: days(longest), ..Pace::default() };
        state.pull_forward(at(confirmed + 1).now);
        assert_eq!(deadline(&state, "1.2.3"), confirmed + expected);
    }
}

#[test]
fn what_has_another_reason_to_wait_is_not_pulled_forward() {
    let texts = ["failing", "put-off", "missing"];
    let mut state = warmed(&texts);
    let confirmed = *stable_until(&mut state, &texts, 1000).values().max().unwrap();
    let now = at(confirmed + 1);
    state.apply_answer(&tag("put-off"), TagAnswer::Later { until: at(confirmed + 500).now }, now);
    for _ in 0..20 {
        let failed = TagAnswer::Failed {
            class: samovar_registry::upstream::ErrorClass::Unavailable,
            reason: String::new(),
            moved_to: None,
        };
        state.apply_answer(&tag("failing"), failed, now);
    }
    state.apply_answer(&tag("missing"), TagAnswer::Unknown, now);
    let before: Vec<_> = state.tags.values().map(|kept| kept.side.next).collect();
    state.pace = read(&[], Some(confirmed + 1));
    state.pull_forward(now.now);
    assert_eq!(state.tags.values().map(|kept| kept.side.next).collect::<Vec<_>>(), before);
}

#[test]
fn what_a_quota_put_off_waits_for_its_turn_though_readers_expect_it_earlier() {
    let mut state = warmed(&["latest"]);
    let confirmed = stable_until(&mut state, &["latest"], 1000)["latest"];
    // Within its own interval, which is a week.
    state.apply_answer(
        &tag("latest"),
        TagAnswer::Later { until: at(confirmed + 60).now },
        at(confirmed + 10),
    );
    state.pace = read(&[], Some(confirmed + 10));
    state.pull_forward(at(confirmed + 10).now);
    assert_eq!(deadline(&state, "latest"), confirmed + 60);
    // Another login has a quota of its own.
    state.retry_refused(at(confirmed + 20).now);
    assert_eq!(deadline(&state, "latest"), confirmed + 20);
    state.apply_answer(&tag("latest"), TagAnswer::Same, at(confirmed + 21));
    assert_eq!(deadline(&state, "latest"), confirmed + 21 + 24);
    state.pace = read(&[], None);
    state.apply_answer(&tag("latest"), TagAnswer::Same, at(confirmed + 30));
    state.pace = read(&[], Some(confirmed + 30));
    state.pull_forward(at(confirmed + 30).now);
    assert_eq!(deadline(&state, "latest"), confirmed + 30 + 24, "it is no longer put off");
}

/// A repository of so many stable tags that was left alone from hour 1000 on.
fn stopped(count: usize, floating: &[&str]) -> State {
    let names: Vec<String> = (0..count).map(|number| format!("1.2.{number}")).collect();
    let texts: Vec<&str> = names.iter().map(String::as_str).chain(floating.iter().copied()).collect();
    let mut state = empty();
    let poll = PollInterval::default();
    state.apply_list(&list(&texts), &TagFilter::All, &poll, at(0));
    for text in &texts {
        state.apply_answer(&tag(text), TagAnswer::Image(image(text)), at(0));
    }
    stable_until(&mut state, &texts, 1000);
    state.apply_list(&list(&texts), &TagFilter::All, &poll, at(1000));
    state
}

#[test]
fn after_a_long_stop_what_is_overdue_is_spread_and_what_matters_comes_first() {
    let mut state = stopped(3200, &["latest", "edge"]);
    let now = at(1000 + 24 * 8).now;
    state.pace = read(&[("1.2.3000", 1100)], None);
    state.spread_overdue(now, 0.5);
    let next = |text: &str| state.tags[&tag(text)].side.next.unwrap();
    assert!(["1.2.3000", "latest", "edge"].iter().all(|text| next(text) <= now));
    let by_group = state.tags.values().fold(BTreeMap::<Timestamp, usize>::new(), |mut groups, kept| {
        *groups.entry(kept.side.next.unwrap().max(now)).or_default() += 1;
        groups
    });
    assert_eq!(by_group.len(), MOST_SPREAD_GROUPS);
    assert!(by_group.values().all(|tags| *tags <= 102), "{by_group:?}");
    assert!(by_group.keys().all(|next| *next <= now + LONGEST_SPREAD));
    let first_hour: usize = by_group.range(..=now + HOUR).map(|(_, tags)| tags).sum();
    assert!(first_hour <= 3200 / 5, "{first_hour}");
    // Once more, before they were asked about: what waits goes on waiting, what was due at once still is.
    let before: Vec<_> = state.tags.values().map(|kept| kept.side.next).collect();
    state.side_changed.clear();
    state.spread_overdue(now + HOUR * 5, 0.1);
    let again = state.tags.values().map(|kept| kept.side.next);
    assert!(again.zip(before).all(|(again, before)| again == before || before <= Some(now)));
}

#[test]
fn what_floats_and_is_read_stays_spread_until_it_is_asked_about() {
    let names: Vec<String> = (0..3200).map(|number| format!("1.{number}")).collect();
    let texts: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut state = stopped(0, &texts);
    // By their own intervals they are not due for days; by those of what is read they are since yesterday.
    state.pace = read(&[], Some(990));
    state.pull_forward(at(990).now);
    let now = at(1020).now;
    assert_eq!(state.due(now, false, |_| None).len(), 3200);
    state.spread_overdue(now, 0.5);
    let deadlines = |state: &State| state.tags.values().map(|kept| kept.side.next).collect::<Vec<_>>();
    let spread = deadlines(&state);
    state.pull_forward(now);
    state.retry_refused(now);
    assert!(deadlines(&state) == spread, "also for another login");
    assert!(state.due(now, false, |_| None).len() <= 100);
    let last = now + LONGEST_SPREAD;
    assert_eq!(state.due(last, false, |_| None).len(), 3200);
    for text in &texts {
        state.apply_answer(&tag(text), TagAnswer::Same, at(1026));
    }
    assert!(state.tags.values().all(|kept| kept.side.next == Some(last + 24 * HOUR)));
}

#[test]
fn a_busy_lane_a_short_stop_and_a_handful_of_tags_are_no_long_stop() {
    let unchanged = |mut state: State, hour: i64| {
        let before = state.tags.clone();
        state.spread_overdue(at(hour).now, 0.5);
        state.tags == before
    };
    assert!(unchanged(stopped(30, &[]), 2000), "a handful");
    assert!(unchanged(stopped(3200, &[]), 1001), "a short stop");
    let mut busy = stopped(3200, &[]);
    busy.side.last_update = Some(at(2000).now);
    assert!(unchanged(busy, 2000));
    assert!(!unchanged(stopped(3200, &[]), 2000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever happens in between, a tag that was left over is asked about within its bound: it is put off once.
    #[test]
    fn nothing_is_put_off_for_ever(
        looks in proptest::collection::vec((1_u32..400, 0.0..=1.0_f64), 1..30), answered in 0_usize..40,
    ) {
        let mut state = stopped(100, &["latest"]);
        let stop = at(1000 + 24 * 8).now;
        let mut waiting: BTreeSet<Tag> = state.tags.keys().cloned().collect();
        let mut now = stop;
        for (minutes, random) in looks {
            state.spread_overdue(now, random);
            state.pull_forward(now);
            let due: Vec<Tag> = state.due(now, false, |_| None).into_iter().map(|due| due.tag).collect();
            if now >= stop + LONGEST_SPREAD {
                prop_assert!(waiting.iter().all(|tag| due.contains(tag)), "{waiting:?}");
            }
            for tag in due.iter().take(answered) {
                let second = now.as_second();
                let at = crate::warmer::tag::Circumstance { began: now, now, ..at(second / 3600) };
                state.apply_answer(tag, TagAnswer::Same, at);
                waiting.remove(tag);
            }
            now += Duration::from_mins(u64::from(minutes));
        }
    }
}
