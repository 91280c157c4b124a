use std::collections::BTreeMap;

use proptest::prelude::*;
use samovar_registry::Labels;
use samovar_registry::upstream::TagList;

use super::*;
use crate::sources::PollInterval;
use crate::warmer::cadence;
use crate::warmer::change::Cause;

pub(super) fn name() -> Name {
    "registry.example/team/app".parse().unwrap()
}

pub(super) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

pub(super) fn image(seed: &str) -> Arc<ImageRecord> {
    Arc::new(ImageRecord {
        digest: Digest::sha256(seed.as_bytes()),
        image_id: None,
        media_type: String::new(),
        size: None,
        created_at: None,
        labels: Labels::default(),
        platforms: Vec::new(),
    })
}

pub(super) fn list(tags: &[&str]) -> TagList {
    TagList { tags: tags.iter().map(|text| tag(text)).collect(), ..TagList::default() }
}

pub(super) fn at(hours: i64) -> Circumstance {
    let now = Timestamp::from_second(hours * 3600).unwrap();
    Circumstance { began: now, now, cause: Cause::Poll, jitter: 0.5 }
}

pub(super) fn unread(_: &Tag) -> Option<Timestamp> {
    None
}

pub(super) const POLL: PollInterval = PollInterval::fixed(Duration::from_mins(5));

pub(super) fn empty() -> State {
    let loaded = Loaded { head_entry: None, head: None, side: None, tags: Vec::new(), missing_pages: 0 };
    State::new(name(), loaded, "")
}

/// A repository with these tags listed at hour 0 and each known to point at an image named like it.
pub(super) fn warmed(tags: &[&str]) -> State {
    let mut state = empty();
    state.apply_list(&list(tags), &TagFilter::All, &POLL, at(0));
    for text in tags {
        state.apply_answer(&tag(text), TagAnswer::Image(image(text)), at(0));
    }
    state.changes.clear();
    state
}

pub(super) fn kinds(state: &mut State) -> Vec<(ChangeKind, String)> {
    let changes = std::mem::take(&mut state.changes);
    let tag = |change: &Seen| change.tag.as_ref().map(ToString::to_string).unwrap_or_default();
    changes.iter().map(|change| (change.kind, tag(change))).collect()
}

#[test]
fn the_first_listing_announces_nothing_and_a_later_tag_is_announced_once_known() {
    let mut state = empty();
    state.apply_list(&list(&["1", "2"]), &TagFilter::All, &POLL, at(0));
    state.apply_answer(&tag("1"), TagAnswer::Image(image("1")), at(0));
    assert_eq!(state.tags[&tag("1")].record.first_seen, None);
    assert!(state.changes.is_empty());

    state.apply_list(&list(&["1", "2", "3"]), &TagFilter::All, &POLL, at(1));
    assert!(state.changes.is_empty(), "nothing can be said of it yet");
    state.apply_answer(&tag("3"), TagAnswer::Image(image("3")), at(1));
    assert_eq!(kinds(&mut state), [(ChangeKind::TagAdded, "3".to_owned())]);
    assert_eq!(state.tags[&tag("3")].record.first_seen, Some(at(1).now));
}

#[test]
fn moved_and_removed_tags_are_announced_with_their_digests() {
    let mut state = warmed(&["1", "2", "3"]);
    state.apply_answer(&tag("1"), TagAnswer::Image(image("other")), at(1));
    state.apply_list(&list(&["1", "3"]), &TagFilter::All, &POLL, at(1));
    let changes = state.changes.clone();
    assert_eq!(
        kinds(&mut state),
        [(ChangeKind::TagMoved, "1".to_owned()), (ChangeKind::TagRemoved, "2".to_owned())]
    );
    assert_eq!(changes[0].old, Some(image("1").digest.clone()));
    assert_eq!(changes[0].new, Some(image("other").digest.clone()));
    assert_eq!(changes[1].old, Some(image("2").digest.clone()));
}

/// D4 of the ancestor's ledger: it announced something on every pass as long as any tag had no image.
#[test]
fn a_pass_that_changes_nothing_announces_nothing() {
    let mut state = warmed(&["1", "2"]);
    state.apply_list(&list(&["1", "2", "3", "4"]), &TagFilter::All, &POLL, at(1));
    state.apply_answer(&tag("3"), TagAnswer::Unknown, at(1));
    state.apply_answer(&tag("4"), excluded(), at(1));
    state.changes.clear();
    for hour in 2..7 {
        state.apply_list(&list(&["1", "2", "3", "4"]), &TagFilter::All, &POLL, at(hour));
        state.apply_answer(&tag("1"), TagAnswer::Same, at(hour));
        state.apply_answer(&tag("3"), TagAnswer::Unknown, at(hour));
        state.apply_answer(&tag("4"), TagAnswer::Same, at(hour));
        assert!(state.changes.is_empty());
    }
}

fn excluded() -> TagAnswer {
    let (why, reason) = (Exclusion::Platform, "no wanted platform".to_owned());
    TagAnswer::Excluded { digest: Digest::sha256(b"index"), why, reason }
}

fn failed(moved_to: Option<Digest>) -> TagAnswer {
    TagAnswer::Failed { class: ErrorClass::Unavailable, reason: "500".into(), moved_to }
}

#[test]
fn a_failure_keeps_what_was_known_and_backs_off() {
    let mut state = warmed(&["1"]);
    for failures in 1..4 {
        state.apply_answer(&tag("1"), failed(None), at(1));
        let kept = &state.tags[&tag("1")];
        assert_eq!(kept.record.state, TagState::Ok(image("1")));
        assert!(kept.record.is_settled(), "the last good answer stands");
        assert_eq!(kept.side.attempts, failures);
        assert_eq!(kept.side.next, Some(at(1).now + cadence::after_failure(failures, 0.5)));
    }
    state.apply_answer(&tag("1"), TagAnswer::Same, at(2));
    assert_eq!(state.tags[&tag("1")].side.attempts, 0);
    assert!(state.changes.is_empty());
}

#[test]
fn a_tag_that_moved_but_cannot_be_followed_makes_the_repository_incomplete() {
    let mut state = warmed(&["1"]);
    state.apply_answer(&tag("1"), failed(Some(Digest::sha256(b"new"))), at(1));
    let record = &state.tags[&tag("1")].record;
    assert_eq!(record.state, TagState::Ok(image("1")), "still offered");
    assert!(!record.is_settled());
    state.apply_answer(&tag("1"), TagAnswer::Image(image("new")), at(2));
    assert!(state.tags[&tag("1")].record.is_settled());
    assert_eq!(kinds(&mut state), [(ChangeKind::TagMoved, "1".to_owned())]);
}

#[test]
fn a_failed_tag_remembers_since_when() {
    let mut state = empty();
    state.apply_list(&list(&["1"]), &TagFilter::All, &POLL, at(0));
    state.apply_answer(&tag("1"), failed(None), at(1));
    state.apply_answer(&tag("1"), failed(None), at(2));
    let record = &state.tags[&tag("1")].record;
    assert_eq!(record.since, at(1).now);
    assert!(matches!(record.state, TagState::Failed { class: ErrorClass::Unavailable, .. }));
}

/// D8 of the ledger: a tag without a manifest was asked about on every pass, for ever.
#[test]
fn unknown_and_excluded_tags_are_asked_about_once_a_day() {
    let mut state = empty();
    state.apply_list(&list(&["1", "2"]), &TagFilter::All, &POLL, at(0));
    state.apply_answer(&tag("1"), TagAnswer::Unknown, at(0));
    state.apply_answer(&tag("2"), excluded(), at(0));
    assert!(state.due(at(23).now, false, unread).is_empty());
    assert_eq!(state.due(at(24).now, false, unread).len(), 2);
    assert!(state.tags.values().all(|kept| kept.record.is_settled()));
}

#[test]
fn a_tag_whose_image_is_known_is_given_up_only_when_its_absence_is_said_twice() {
    let mut state = warmed(&["1"]);
    state.apply_answer(&tag("1"), TagAnswer::Unknown, at(1));
    let kept = &state.tags[&tag("1")];
    assert_eq!(kept.record.state, TagState::Ok(image("1")));
    assert_eq!(kept.side.next, Some(at(1).now + cadence::CONFIRM_LOSS));
    state.apply_answer(&tag("1"), TagAnswer::Same, at(2));
    state.apply_answer(&tag("1"), TagAnswer::Unknown, at(3));
    assert_eq!(state.tags[&tag("1")].record.state, TagState::Ok(image("1")), "twice in a row");
    state.apply_answer(&tag("1"), TagAnswer::Unknown, at(4));
    assert_eq!(state.tags[&tag("1")].record.state, TagState::Unknown);
    assert_eq!(kinds(&mut state), [(ChangeKind::TagRemoved, "1".to_owned())]);
}

#[test]
fn whoever_asked_earlier_does_not_overwrite_what_was_learnt_since() {
    let mut state = warmed(&["1"]);
    let late = |began: i64| Circumstance { began: at(began).now, ..at(9) };
    state.apply_answer(&tag("1"), TagAnswer::Image(image("newer")), late(5));
    state.apply_answer(&tag("1"), TagAnswer::Image(image("older")), late(4));
    state.apply_answer(&tag("1"), TagAnswer::Unknown, late(3));
    assert_eq!(state.tags[&tag("1")].record.state, TagState::Ok(image("newer")));
    state.apply_list(&list(&[]), &TagFilter::All, &POLL, late(4));
    state.apply_list(&list(&[]), &TagFilter::All, &POLL, Circumstance { now: at(20).now, ..late(4) });
    assert!(state.tags.contains_key(&tag("1")), "the list was read before");
}

#[test]
fn what_could_not_be_looked_at_again_for_other_platforms_is_tried_again_and_is_no_move() {
    let mut state = warmed(&["1"]);
    state.tags.get_mut(&tag("1")).unwrap().other_platforms = true;
    state.apply_answer(&tag("1"), failed(Some(image("1").digest.clone())), at(1));
    let kept = &state.tags[&tag("1")];
    assert!(kept.other_platforms && kept.record.is_settled());
    assert!(kept.side.next.unwrap() > at(1).now, "with a back-off");
    state.apply_answer(&tag("1"), TagAnswer::Image(image("1")), at(2));
    assert!(!state.tags[&tag("1")].other_platforms);
}

#[test]
fn a_move_that_could_not_be_followed_is_forgotten_when_the_tag_moves_back() {
    let mut state = empty();
    state.apply_list(&list(&["1"]), &TagFilter::All, &POLL, at(0));
    state.apply_answer(&tag("1"), excluded(), at(0));
    state.apply_answer(&tag("1"), failed(Some(Digest::sha256(b"new"))), at(1));
    assert!(!state.tags[&tag("1")].record.is_settled());
    state.apply_answer(&tag("1"), TagAnswer::Same, at(2));
    assert!(state.tags[&tag("1")].record.is_settled());
}

#[test]
fn a_tag_that_is_to_be_asked_for_later_is_not_to_blame() {
    let mut state = empty();
    state.apply_list(&list(&["1"]), &TagFilter::All, &POLL, at(0));
    state.apply_answer(&tag("1"), TagAnswer::Later { until: at(7).now }, at(0));
    let kept = &state.tags[&tag("1")];
    assert_eq!((&kept.record.state, kept.side.attempts), (&TagState::Pending, 0));
    assert!(state.due(at(6).now, false, unread).is_empty());
    assert_eq!(state.due(at(7).now, false, unread).len(), 1);
}

#[test]
fn what_was_never_looked_at_is_told_from_what_is_to_be_looked_at_again() {
    let mut state = warmed(&["1", "2"]);
    assert_eq!(state.needs_of_tags(), Needs::at(Class::Due, at(1).now));
    state.apply_list(&list(&["1", "2", "3", "4"]), &TagFilter::All, &POLL, at(2));
    assert_eq!(state.needs_of_tags(), Needs::at(Class::Due, at(1).now).with(Class::New, Some(at(2).now)));
    let until = at(7).now;
    for text in ["3", "4"] {
        state.apply_answer(&tag(text), TagAnswer::Later { until }, at(3));
    }
    for text in ["1", "2"] {
        state.apply_answer(&tag(text), TagAnswer::Same, at(6));
    }
    assert_eq!(state.needs_of_tags(), Needs::at(Class::Due, at(8).now).with(Class::New, Some(until)));
}

#[test]
fn other_credentials_give_what_a_quota_put_off_another_chance() {
    let mut state = warmed(&["known", "moved"]);
    state.apply_list(&list(&["known", "moved", "new"]), &TagFilter::All, &POLL, at(0));
    for text in ["moved", "new"] {
        state.apply_answer(&tag(text), TagAnswer::Later { until: at(7).now }, at(0));
    }
    let soon = at(0).now + Duration::from_secs(1);
    assert!(state.due(soon, false, unread).is_empty());
    state.retry_refused(soon);
    let due: Vec<_> = state.due(soon, false, unread).into_iter().map(|due| due.tag.to_string()).collect();
    assert_eq!(due, ["new", "moved"]);
}

/// D9 of the ledger: a priority refresh respected the deadlines and so saw nothing.
#[test]
fn whoever_asks_for_everything_gets_everything_but_what_is_ignored() {
    let mut state = empty();
    let filter = TagFilter::matching(None, vec!["ignored*".parse().unwrap()], None);
    state.apply_list(&list(&["1", "2", "ignored-3"]), &filter, &POLL, at(0));
    state.apply_answer(&tag("1"), TagAnswer::Image(image("1")), at(0));
    assert_eq!(state.due(at(0).now, false, unread).len(), 1, "the one that is pending");
    let all: Vec<String> = state.due(at(0).now, true, unread).iter().map(|due| due.tag.to_string()).collect();
    assert_eq!(all, ["2", "1"], "what is new first");
}

#[test]
fn other_credentials_give_what_was_refused_another_chance() {
    let mut state = warmed(&["known", "kept-back"]);
    state.apply_list(&list(&["known", "kept-back", "refused", "broken"]), &TagFilter::All, &POLL, at(0));
    let failed = |class| TagAnswer::Failed { class, reason: String::new(), moved_to: None };
    for (text, class) in [
        ("kept-back", ErrorClass::Unauthorized),
        ("refused", ErrorClass::Unauthorized),
        ("broken", ErrorClass::Protocol),
    ] {
        for _ in 0..20 {
            state.apply_answer(&tag(text), failed(class), at(0));
        }
    }
    let soon = at(0).now + Duration::from_mins(1);
    assert!(state.due(soon, false, unread).is_empty());
    state.retry_refused(soon);
    let due: Vec<_> = state.due(soon, false, unread).into_iter().map(|due| due.tag.to_string()).collect();
    assert_eq!(due, ["kept-back", "refused"]);
    assert!(state.is_unsaved(), "an interrupted pass is not the end of it");
}

#[test]
fn images_chosen_for_other_platforms_are_looked_at_again() {
    let head = Head {
        generation: 1,
        complete: true,
        held_back: false,
        failed: false,
        invalid_tags: 0,
        counts: crate::cache::stored::TagCounts::default(),
        platforms: "linux/amd64".into(),
        pages: Vec::new(),
        directory: Vec::new(),
        history: History::default(),
    };
    let tags = warmed(&["1"]).tags.into_iter().map(|(tag, kept)| (tag, kept.record, kept.side));
    let loaded =
        Loaded { head_entry: None, head: Some(head), side: None, tags: tags.collect(), missing_pages: 0 };
    let same = State::new(name(), loaded.clone(), "linux/amd64");
    assert!(same.due(at(0).now, false, unread).is_empty());
    let mut other = State::new(name(), loaded, "linux/arm64");
    assert!(matches!(other.tags[&tag("1")].record.state, TagState::Ok(_)), "offered until known better");
    assert!(other.due(at(0).now, false, unread)[0].other_platforms);
    assert!(other.needs().earliest().unwrap() <= at(0).now);
    other.apply_answer(&tag("1"), TagAnswer::Image(image("1")), at(0));
    assert!(other.due(at(0).now, false, unread).is_empty());
}

/// What a registry may say about a tag, in any order.
fn any_answer() -> impl Strategy<Value = TagAnswer> {
    prop_oneof![
        Just(TagAnswer::Same),
        (0..3_u8).prop_map(|seed| TagAnswer::Image(image(&seed.to_string()))),
        Just(excluded()),
        Just(TagAnswer::Unknown),
        proptest::option::of(Just(Digest::sha256(b"new"))).prop_map(failed),
    ]
}

proptest! {
    /// Whoever follows the announcements knows which tags are available and where they point.
    #[test]
    fn announcements_replay_to_the_state(
        steps in proptest::collection::vec((0..4_usize, any_answer(), any::<bool>()), 1..60),
    ) {
        let all = ["1", "2", "3", "4"];
        let mut state = warmed(&all);
        let available = |state: &State| -> BTreeMap<String, Digest> {
            state.tags.iter().filter_map(|(tag, kept)| Some((tag.to_string(), change::image_digest(&kept.record)?.clone()))).collect()
        };
        let mut followed = available(&state);
        for (hour, (which, answer, lists)) in (1..).zip(steps) {
            if lists {
                let without: Vec<&str> = all.iter().enumerate().filter(|(at, _)| *at != which).map(|(_, tag)| *tag).collect();
                state.apply_list(&list(if hour % 2 == 0 { &all } else { &without }), &TagFilter::All, &POLL, at(hour));
            } else {
                state.apply_answer(&tag(all[which]), answer, at(hour));
            }
            for change in std::mem::take(&mut state.changes) {
                let Some(tag) = change.tag.map(|tag| tag.to_string()) else { continue };
                prop_assert_eq!(followed.get(&tag), change.old.as_ref());
                match change.new {
                    Some(digest) => followed.insert(tag, digest),
                    None => followed.remove(&tag),
                };
            }
            prop_assert_eq!(&followed, &available(&state));
        }
    }

    /// The same answer once more changes nothing that readers see (an absence counts from the second time).
    #[test]
    fn answers_are_idempotent(answers in proptest::collection::vec(any_answer(), 1..20)) {
        let mut state = warmed(&["1"]);
        for (hour, answer) in (1..).zip(answers) {
            state.apply_answer(&tag("1"), answer.clone(), at(hour));
            state.apply_answer(&tag("1"), answer.clone(), at(hour));
            let once = state.tags[&tag("1")].record.clone();
            state.changes.clear();
            state.apply_answer(&tag("1"), answer, at(hour));
            prop_assert_eq!(&once, &state.tags[&tag("1")].record);
            prop_assert!(state.changes.is_empty());
        }
    }
}

#[test]
fn what_is_asked_for_comes_first_then_what_looks_newest_then_what_waits_for_longest() {
    let mut state = warmed(&["1.0", "1.1", "1.2"]);
    state.apply_list(&list(&["1.0", "1.1", "1.2", "1.9", "1.10", "2"]), &TagFilter::All, &POLL, at(1));
    state.tags.get_mut(&tag("1.1")).unwrap().side.next = Some(at(2).now);
    let due = |read: &[(&str, i64)]| -> Vec<String> {
        let last_read =
            |tag: &Tag| read.iter().find(|(text, _)| tag.as_str() == *text).map(|(_, hour)| at(*hour).now);
        state.due(at(3).now, false, last_read).iter().map(|due| due.tag.to_string()).collect()
    };
    assert_eq!(due(&[]), ["2", "1.10", "1.9", "1.0", "1.2", "1.1"]);
    assert_eq!(due(&[("1.2", 1), ("1.9", 2)]), ["1.9", "1.2", "2", "1.10", "1.0", "1.1"]);
    assert_eq!(
        due(&[("1.2", 1), ("1.9", 1), ("1.1", 1)])[..3],
        ["1.9", "1.2", "1.1"],
        "new ones first, then by deadline"
    );
}

/// D5: when many tags lost their manifests, the ancestor named some of them again and again, and others never.
#[test]
fn every_tag_that_loses_its_manifest_is_named_once() {
    let names: Vec<String> = (10..70).map(|number| format!("1.{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut state = warmed(&names);
    for hour in 1..6 {
        for name in &names {
            state.apply_answer(&tag(name), TagAnswer::Unknown, at(hour));
        }
    }
    let expected: Vec<_> = names.iter().map(|name| (ChangeKind::TagRemoved, (*name).to_owned())).collect();
    assert_eq!(kinds(&mut state), expected);
}

proptest! {
    /// The same, where which tags are wanted changes as well: what was excluded is not new when it comes back, and the kind
    /// of a change says what readers see.
    #[test]
    fn changes_replay_to_what_is_shown_also_when_other_tags_are_wanted(
        steps in proptest::collection::vec((0..3_usize, any_answer(), 0..4_u8), 1..60),
    ) {
        let all = ["1", "2", "3"];
        let mut state = warmed(&all);
        let shown = |state: &State| -> BTreeMap<Tag, Digest> {
            let records = state.tags.iter().map(|(tag, kept)| (tag, &kept.record));
            records.filter_map(|(tag, record)| Some((tag.clone(), change::image_digest(record)?.clone()))).collect()
        };
        let mut followed = shown(&state);
        let mut filter = TagFilter::All;
        for (hour, (which, answer, what)) in (1..).zip(steps) {
            let before = state.tags.clone();
            match what {
                0 => {
                    filter = if filter == TagFilter::All { TagFilter::exactly(tag(all[which])) } else { TagFilter::All };
                    state.apply_list(&list(&all), &filter, &POLL, at(hour));
                    // Once more tells nothing more.
                    let told = state.changes.len();
                    state.apply_list(&list(&all), &filter, &POLL, at(hour));
                    prop_assert_eq!(state.changes.len(), told);
                }
                _ if !matches!(state.tags[&tag(all[which])].record.state, TagState::Excluded { digest: None, .. }) => {
                    state.apply_answer(&tag(all[which]), answer, at(hour));
                }
                _ => {}
            }
            for seen in std::mem::take(&mut state.changes) {
                let tag = seen.tag.unwrap();
                prop_assert_eq!(followed.get(&tag), seen.old.as_ref());
                let is_excluded = |kept: &Kept| matches!(kept.record.state, TagState::Excluded { .. });
                let (was, is) = (is_excluded(&before[&tag]), is_excluded(&state.tags[&tag]));
                let expected = match (&seen.old, &seen.new) {
                    (Some(_), Some(_)) => ChangeKind::TagMoved,
                    (Some(_), None) if is => ChangeKind::ImageExcluded,
                    (Some(_), None) => ChangeKind::TagRemoved,
                    _ if was || before[&tag].record.was_excluded => ChangeKind::ImageRecovered,
                    _ => ChangeKind::TagAdded,
                };
                prop_assert_eq!(seen.kind, expected);
                match seen.new {
                    Some(digest) => followed.insert(tag, digest),
                    None => followed.remove(&tag),
                };
            }
            prop_assert_eq!(&followed, &shown(&state));
        }
    }
}

/// What the registry has been seen to move floats, whatever its name says; also when it cannot be followed yet.
#[test]
fn a_version_that_moves_once_floats_from_then_on() {
    let hours = |state: &State, text: &str| state.tags[&tag(text)].side.interval_seconds / 3600;
    let mut state = warmed(&["1.2.3", "1.2.4", "1.2"]);
    for text in ["1.2.3", "1.2.4", "1.2"] {
        state.apply_answer(&tag(text), TagAnswer::Same, at(1));
    }
    assert_eq!(["1.2.3", "1.2.4", "1.2"].map(|text| hours(&state, text)), [4, 4, 2]);
    state.apply_answer(&tag("1.2.3"), TagAnswer::Image(image("other")), at(5));
    state.apply_answer(&tag("1.2.4"), failed(Some(Digest::sha256(b"new"))), at(5));
    state.apply_answer(&tag("1.2.4"), TagAnswer::Image(image("new")), at(6));
    assert!(state.tags[&tag("1.2.3")].side.moved && state.tags[&tag("1.2.4")].side.moved);
    assert_eq!(["1.2.3", "1.2.4"].map(|text| hours(&state, text)), [2, 2]);
    state.apply_answer(&tag("1.2.3"), TagAnswer::Same, at(7));
    assert_eq!(hours(&state, "1.2.3"), 4, "twice, and no longer four times as long");
    assert!(!state.tags[&tag("1.2")].side.moved);
}

/// The ancestor counted a refresh like any other look: whoever asked every minute made a tag look stable for a week.
#[test]
fn a_tag_that_is_refreshed_all_the_time_is_not_taken_to_be_more_stable_for_it() {
    let mut state = warmed(&["latest"]);
    for minute in 1..=60 {
        let now = Timestamp::from_second(minute * 60).unwrap();
        state.apply_answer(&tag("latest"), TagAnswer::Same, Circumstance { began: now, now, ..at(0) });
    }
    assert_eq!(state.tags[&tag("latest")].side.interval_seconds, 2 * 3600);
}

#[test]
fn who_asked_long_ago_asks_no_more() {
    let mut state = warmed(&["1.0", "1.1"]);
    state.tags.get_mut(&tag("1.0")).unwrap().side.next = Some(at(1).now);
    let four_weeks = 4 * 7 * 24;
    let first = |hour: i64| {
        let last_read = |tag: &Tag| (tag.as_str() == "1.1").then_some(at(2).now);
        state.due(at(hour).now, true, last_read)[0].tag.to_string()
    };
    assert_eq!(first(four_weeks + 1), "1.1");
    assert_eq!(first(four_weeks + 2), "1.0");
}
