use std::collections::BTreeMap;

use proptest::prelude::*;
use samovar_registry::Labels;
use samovar_registry::upstream::{ErrorKind, HintSource, TagHint};

use super::*;
use crate::config::TagSelection;
use crate::warmer::change::Cause;

fn name() -> Name {
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

fn unread(_: &Tag) -> Option<Timestamp> {
    None
}

const POLL: PollInterval = PollInterval::fixed(Duration::from_mins(5));

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

fn kinds(state: &mut State) -> Vec<(ChangeKind, String)> {
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

#[test]
fn what_is_left_of_a_torn_repository_announces_nothing_new() {
    let mut state = warmed(&["1"]);
    state.torn = true;
    assert!(state.listing_is_due(&TagFilter::All, &POLL, at(0).now));
    state.apply_list(&list(&["1", "2"]), &TagFilter::All, &POLL, at(1));
    state.apply_answer(&tag("2"), TagAnswer::Image(image("2")), at(1));
    assert_eq!(state.tags[&tag("2")].record.first_seen, None);
    assert!(state.changes.is_empty() && !state.torn);
}

#[test]
fn only_a_second_list_as_short_and_long_enough_after_confirms() {
    let all: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let after = |seconds: u64| {
        let now = at(1).now + Duration::from_secs(seconds);
        Circumstance { began: now, now, ..at(1) }
    };
    let mut state = warmed(&all);
    let mut read =
        |tags: usize, seconds| state.apply_list(&list(&all[..tags]), &TagFilter::All, &POLL, after(seconds));
    assert_eq!(read(40, 0), ListVerdict::HeldBack);
    assert_eq!(read(40, 59), ListVerdict::HeldBack, "too soon");
    assert_eq!(read(0, 61), ListVerdict::HeldBack, "much shorter still");
    assert_eq!(read(0, 62), ListVerdict::HeldBack);
    assert_eq!(read(0, 121), ListVerdict::Accepted);
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
fn a_tag_moves_between_wanted_and_ignored_with_the_configuration() {
    let mut state = warmed(&["1", "2"]);
    let only_one = TagFilter::exactly(tag("1"));
    state.apply_list(&list(&["1", "2"]), &only_one, &POLL, at(1));
    assert_eq!(kinds(&mut state), [(ChangeKind::ImageExcluded, "2".to_owned())]);
    assert!(matches!(state.tags[&tag("2")].record.state, TagState::Excluded { .. }));
    state.apply_list(&list(&["1", "2"]), &TagFilter::All, &POLL, at(2));
    assert_eq!(state.tags[&tag("2")].record.state, TagState::Pending);
}

#[test]
fn a_list_that_lost_most_of_its_tags_is_held_back_until_confirmed() {
    let mut state = warmed(&["1", "2", "3", "4", "5"]);
    for shrunken in [&[][..], &["1", "2"]] {
        let mut state = warmed(&["1", "2", "3", "4", "5"]);
        let verdict = state.apply_list(&list(shrunken), &TagFilter::All, &POLL, at(1));
        assert_eq!(verdict, ListVerdict::HeldBack);
        assert_eq!(state.tags.len(), 5);
        assert!(state.held_back);
        assert!(state.side.last_error.as_ref().unwrap().message.contains("shrank from 5"));
        assert!(state.side.next_listing.unwrap() <= at(1).now + Duration::from_mins(1));
        assert_eq!(state.apply_list(&list(shrunken), &TagFilter::All, &POLL, at(2)), ListVerdict::Accepted);
        assert_eq!(state.tags.len(), shrunken.len());
        assert!(!state.held_back && state.side.last_error.is_none());
    }
    assert_eq!(
        state.apply_list(&list(&["1", "2", "3"]), &TagFilter::All, &POLL, at(1)),
        ListVerdict::Accepted
    );
}

#[test]
fn a_held_back_list_is_forgotten_when_the_next_one_is_whole() {
    let mut state = warmed(&["1", "2", "3", "4"]);
    state.apply_list(&list(&["1"]), &TagFilter::All, &POLL, at(1));
    state.apply_list(&list(&["1", "2", "3", "4"]), &TagFilter::All, &POLL, at(2));
    assert!(!state.held_back && state.side.shrunken.is_none());
    assert_eq!(state.apply_list(&list(&["1"]), &TagFilter::All, &POLL, at(3)), ListVerdict::HeldBack);
}

fn listing_error(kind: ErrorKind) -> UpstreamError {
    let operation = samovar_registry::upstream::Operation::Tags;
    UpstreamError { repository: name(), operation, kind }
}

#[test]
fn failure_and_recovery_of_the_list_are_announced_once_each() {
    let mut state = warmed(&["1"]);
    let error = listing_error(ErrorKind::Unavailable { status: 503, message: None });
    state.list_failed(&error, at(1));
    state.list_failed(&error, at(2));
    assert_eq!(state.tags.len(), 1, "what was known stays");
    assert!(state.side.last_error.is_some());
    state.apply_list(&list(&["1"]), &TagFilter::All, &POLL, at(3));
    state.apply_list(&list(&["1"]), &TagFilter::All, &POLL, at(4));
    let expected = [ChangeKind::RepositoryFailed, ChangeKind::RepositoryRecovered];
    assert_eq!(kinds(&mut state), expected.map(|kind| (kind, String::new())));
}

#[test]
fn retry_after_is_obeyed_exactly() {
    let mut state = warmed(&["1"]);
    let retry_after = Duration::from_hours(2);
    state.list_failed(&listing_error(ErrorKind::RateLimited { retry_after, message: None }), at(1));
    assert_eq!(state.side.next_listing, Some(at(3).now));
}

#[test]
fn a_repository_that_is_gone_is_removed_after_three_confirmations_over_a_day() {
    let gone = listing_error(ErrorKind::NotFound { message: None });
    let mut state = warmed(&["1"]);
    for hour in [1, 2, 3, 24] {
        state.list_failed(&gone, at(hour));
        assert!(state.listed && !state.removed, "after {hour} hours");
    }
    state.list_failed(&gone, at(25));
    assert!(state.removed && !state.listed && state.tags.is_empty());
    assert!(kinds(&mut state).contains(&(ChangeKind::RepositoryRemoved, String::new())));

    let mut state = warmed(&["1"]);
    state.list_failed(&gone, at(1));
    state.list_failed(&gone, at(30));
    assert!(state.listed, "two are not three");
    state.apply_list(&list(&["1"]), &TagFilter::All, &POLL, at(31));
    assert_eq!(state.side.gone, None);
}

#[test]
fn refusals_are_dated_from_the_first_one() {
    let mut state = warmed(&["1"]);
    let denied = |status: bool| {
        let credentials = "no credentials".to_owned();
        listing_error(if status {
            ErrorKind::Unauthorized { credentials, message: None }
        } else {
            ErrorKind::Denied { credentials, message: None }
        })
    };
    state.list_failed(&denied(true), at(1));
    state.list_failed(&denied(false), at(5));
    assert_eq!(state.side.denied, Some(Denied { since: at(1).now, until: at(5).now }));
    state.apply_list(&list(&["1"]), &TagFilter::All, &POLL, at(6));
    assert_eq!(state.side.denied, None);
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
fn what_a_list_left_behind_counts_only_while_what_is_here_is_what_it_said() {
    let left = || ListState::of(&list(&["a", "b"]));
    let known = |state: &State| state.known_list(&TagFilter::All) == Some(&left());
    let fresh = || {
        let mut state = warmed(&["a", "b"]);
        state.side.listing = Some(left());
        state
    };
    assert!(known(&fresh()));
    assert!(!known(&empty()));

    let mut taken_in = fresh();
    taken_in.apply_answer(&tag("c"), TagAnswer::Image(image("c")), at(1));
    assert!(!known(&taken_in), "a tag that the list has not named yet");
    let mut held_back = fresh();
    held_back.apply_list(&list(&[]), &TagFilter::All, &POLL, at(1));
    assert!(!known(&held_back));
    let mut torn = fresh();
    torn.torn = true;
    assert!(!known(&torn));
    let other = TagFilter::Selected(TagSelection::default());
    assert_eq!(fresh().known_list(&other), None, "other tags are wanted");
}

#[test]
fn another_login_is_not_told_by_what_the_list_was_recognised_by_before() {
    let mut listing = serde_json::to_value(ListState::of(&list(&["a", "b"]))).unwrap();
    listing["validators"] = serde_json::json!({"etag": "\"page\""});
    let mut state = warmed(&["a", "b"]);
    state.side.listing = Some(serde_json::from_value(listing).unwrap());
    state.forget_validators();
    assert_eq!(state.known_list(&TagFilter::All), Some(&ListState::of(&list(&["a", "b"]))));
    assert!(state.is_unsaved());
}

#[test]
fn an_unchanged_list_heals_what_a_failure_left_and_touches_no_tag() {
    let mut state = warmed(&["a", "b"]);
    state.list_failed(&listing_error(ErrorKind::Unavailable { status: 500, message: None }), at(1));
    state.changes.clear();
    (state.changed, state.side_changed) = Default::default();
    let left = ListState::of(&list(&["a", "b"]));
    state.list_unchanged(left.clone(), &TagFilter::All, &POLL, at(2));
    assert_eq!(kinds(&mut state), [(ChangeKind::RepositoryRecovered, String::new())]);
    assert_eq!((state.side.last_error.as_ref(), state.side.attempts), (None, 0));
    assert_eq!((state.side.last_update, state.side.listing.as_ref()), (Some(at(2).now), Some(&left)));
    assert!(state.side_header_changed && state.changed.is_empty() && state.side_changed.is_empty());
}

fn hint(digest: Option<&str>, pushed_at: Option<Timestamp>) -> TagHint {
    let digest = digest.map(|seed| Digest::sha256(seed.as_bytes()));
    TagHint { digest, pushed_at, source: HintSource::DockerHub }
}

/// What a list that says this of the tag `a`, pushed at an hour, makes of it at another: is it due?
fn due_after(state: &mut State, digest: Option<&str>, pushed_hour: Option<i64>, now_hour: i64) -> bool {
    let hint = hint(digest, pushed_hour.map(|hour| at(hour).now));
    let hinted = TagList { hints: [(tag("a"), hint)].into(), ..list(&["a"]) };
    state.apply_newer(&hinted, ListState::of(&hinted), &TagFilter::All, &POLL, at(now_hour));
    !state.due(at(now_hour).now, false, unread).is_empty()
}

/// `a` was confirmed at hour 10 and is due again much later.
fn confirmed_at_ten() -> State {
    let mut state = warmed(&["a"]);
    for _ in 0..4 {
        state.apply_answer(&tag("a"), TagAnswer::Same, at(10));
    }
    state
}

#[test]
fn a_hint_that_says_otherwise_makes_a_tag_due_and_changes_no_digest() {
    let mut state = confirmed_at_ten();
    assert!(!due_after(&mut state, Some("a"), Some(11), 11), "it says the same");
    assert!(due_after(&mut state, Some("other"), Some(11), 11));
    assert_eq!(
        state.tags[&tag("a")].record.state.digest(),
        Some(&Digest::sha256(b"a")),
        "the registry has not said so"
    );
    // The registry's own word is newer than the push that the list tells of.
    assert!(!due_after(&mut confirmed_at_ten(), Some("other"), Some(9), 11));
    // A list that tells no digest tells of a push; one that tells no time is asked about once an hour.
    assert!(due_after(&mut confirmed_at_ten(), None, Some(11), 11));
    assert!(!due_after(&mut confirmed_at_ten(), None, Some(9), 11));
    assert!(!due_after(&mut confirmed_at_ten(), Some("other"), None, 10));
    assert!(due_after(&mut confirmed_at_ten(), Some("other"), None, 11));
    // What cannot be had now is asked for when its time comes.
    let mut failing = confirmed_at_ten();
    failing.apply_answer(&tag("a"), TagAnswer::failed(ErrorClass::Timeout, &"late"), at(10));
    assert!(!due_after(&mut failing, Some("other"), Some(10), 10));
}

#[test]
fn when_a_tag_was_pushed_is_kept_until_it_moves_without_a_word_of_when() {
    let pushed = |state: &State| state.tags[&tag("a")].record.pushed.map(|pushed| pushed.at);
    let mut state = confirmed_at_ten();
    state.changed.clear();
    due_after(&mut state, Some("a"), Some(9), 11);
    assert_eq!(pushed(&state), Some(at(9).now));
    assert!(state.changed.contains(&tag("a")), "it is stored");
    state.apply_answer(&tag("a"), TagAnswer::Same, at(12));
    assert_eq!(pushed(&state), Some(at(9).now));
    // Found by asking: the push that we know is of before.
    let mut moved = state;
    moved.apply_answer(&tag("a"), TagAnswer::Image(image("b")), at(13));
    assert_eq!(pushed(&moved), None);
    // Told by the list, then found.
    due_after(&mut moved, Some("c"), Some(14), 15);
    moved.apply_answer(&tag("a"), TagAnswer::Image(image("c")), at(15));
    assert_eq!(pushed(&moved), Some(at(14).now));
}

#[test]
fn what_is_newer_takes_nothing_away_and_is_remembered_as_what_is_here() {
    let mut state = warmed(&["a", "b"]);
    state.side.listing = Some(ListState::of(&list(&["a", "b"])));
    let newer = list(&["c"]);
    state.apply_newer(&newer, state.side.listing.clone().unwrap(), &TagFilter::All, &POLL, at(1));
    assert_eq!(state.tags.keys().map(Tag::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(state.tags[&tag("c")].record.first_seen, Some(at(1).now));
    assert_eq!(state.known_list(&TagFilter::All), Some(&ListState::of(&list(&["a", "b", "c"]))));
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

/// What a listing that brings these tags makes of the poll interval, in seconds.
fn poll_seconds(state: &mut State, tags: &[&str], poll: &PollInterval, at: Circumstance) -> u64 {
    state.apply_list(&list(tags), &TagFilter::All, poll, at);
    state.side.poll_interval_ms.unwrap() / 1000
}

#[test]
fn how_often_the_list_changes_tells_how_often_to_read_it() {
    let poll = PollInterval::default();
    let minutes = |minutes: i64, cause| {
        let now = Timestamp::from_second(minutes * 60).unwrap();
        Circumstance { began: now, now, cause, jitter: 0.5 }
    };
    let mut state = empty();
    assert_eq!(poll_seconds(&mut state, &["1", "2"], &poll, minutes(0, Cause::Poll)), 300, "where it begins");
    assert_eq!(poll_seconds(&mut state, &["1", "2"], &poll, minutes(5, Cause::Poll)), 375);
    assert_eq!(
        poll_seconds(&mut state, &["1", "2"], &poll, minutes(5, Cause::Poll)),
        375,
        "the same once more"
    );
    let left = ListState::of(&list(&["1", "2"]));
    state.list_unchanged(left, &TagFilter::All, &poll, minutes(15, Cause::Poll));
    assert_eq!(state.side.poll_interval_ms, Some(468_750));
    assert_eq!(state.side.next_listing, Some(minutes(15, Cause::Poll).now + Duration::from_millis(468_750)));
    // A failure and a list that is held back teach nothing.
    state.list_failed(
        &listing_error(ErrorKind::Unavailable { status: 500, message: None }),
        minutes(20, Cause::Poll),
    );
    assert_eq!(poll_seconds(&mut state, &[], &poll, minutes(25, Cause::Poll)), 468);
    assert!(state.held_back);
    // A tag that comes, one that goes, and one that nobody wants.
    assert_eq!(poll_seconds(&mut state, &["1", "2", "3"], &poll, minutes(30, Cause::Poll)), 234);
    assert_eq!(poll_seconds(&mut state, &["1", "2"], &poll, minutes(35, Cause::Request)), 117);
    let signed = format!("sha256-{}.sig", "a".repeat(64));
    assert!(poll_seconds(&mut state, &["1", "2", &signed], &poll, minutes(40, Cause::Poll)) > 117);
    // Who says how often means it.
    assert_eq!(poll_seconds(&mut state, &["1", "2"], &POLL, minutes(45, Cause::Poll)), 300);
}

#[test]
fn a_moved_tag_in_a_list_that_tells_is_a_change() {
    let mut state = confirmed_at_ten();
    state.list_unchanged(ListState::of(&list(&["a"])), &TagFilter::All, &PollInterval::default(), at(10));
    let before = state.side.poll_interval_ms;
    let hinted =
        TagList { hints: [(tag("a"), hint(Some("other"), Some(at(11).now)))].into(), ..list(&["a"]) };
    state.apply_newer(&hinted, ListState::of(&hinted), &TagFilter::All, &PollInterval::default(), at(11));
    assert_eq!(state.side.poll_interval_ms, before.map(|before| before / 2));
}

#[test]
fn webhooks_stretch_the_poll_until_it_finds_what_they_did_not_tell() {
    let poll = PollInterval::default();
    let hour = |hour: i64, cause| Circumstance { cause, ..at(hour) };
    let mut state = warmed(&["1"]);
    state.fed(at(0).now);
    for listing in 1..200 {
        poll_seconds(&mut state, &["1"], &poll, hour(listing * 2, Cause::Poll));
    }
    // A week after the last one, nobody counts on the next one.
    assert_eq!(state.side.poll_interval_ms, Some(3_600_000));
    state.fed(at(400).now);
    for listing in 0..10 {
        poll_seconds(&mut state, &["1"], &poll, hour(402 + listing * 7, Cause::Poll));
    }
    assert_eq!(state.side.poll_interval_ms, Some(6 * 3_600_000));
    state.fed(at(480).now);
    assert_eq!(
        poll_seconds(&mut state, &["1", "2"], &poll, hour(480, Cause::Webhook)),
        6 * 3600,
        "it was told"
    );
    assert_eq!(poll_seconds(&mut state, &["1", "2", "3"], &poll, hour(486, Cause::Poll)), 1800, "it was not");
    assert_eq!(state.side.fed_at, None);
}

/// A hook told of the deletion, whoever asked at once was told that there is no manifest, and the list comes last.
#[test]
fn a_tag_known_to_have_no_manifest_is_no_news_when_it_leaves_the_list() {
    let poll = PollInterval::default();
    let mut state = warmed(&["1", "2", "3"]);
    poll_seconds(&mut state, &["1", "2", "3"], &poll, at(1));
    for (text, times) in [("2", 2), ("3", 1)] {
        state.fed(at(2).now);
        for _ in 0..times {
            state.apply_answer(
                &tag(text),
                TagAnswer::Unknown,
                Circumstance { cause: Cause::Webhook, ..at(2) },
            );
        }
    }
    let before = state.side.poll_interval_ms.unwrap();
    state.apply_list(&list(&["1", "3"]), &TagFilter::All, &poll, at(3));
    assert_eq!(state.side.fed_at, Some(at(2).now), "the hooks are relied on");
    assert!(state.side.poll_interval_ms.unwrap() > before);
    assert!(!state.tags.contains_key(&tag("2")));
    // Of the other one it was not sure.
    state.apply_list(&list(&["1"]), &TagFilter::All, &poll, at(4));
    assert_eq!(state.side.fed_at, None);
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

#[test]
fn a_tag_that_is_new_pushes_out_another_over_a_list_of_what_is_newer_too() {
    let filter = TagFilter::matching(None, Vec::new(), Some(2));
    let mut state = empty();
    state.apply_list(&list(&["1.0", "1.1", "1.2"]), &filter, &POLL, at(0));
    let wanted = |state: &State| -> Vec<String> {
        let pending = state.tags.iter().filter(|(_, kept)| kept.record.state == TagState::Pending);
        pending.map(|(tag, _)| tag.to_string()).collect()
    };
    assert_eq!(wanted(&state), ["1.1", "1.2"]);
    let newer = list(&["1.3"]);
    let left = ListState::of(&list(&["1.0", "1.1", "1.2", "1.3"]));
    state.apply_newer(&newer, left, &filter, &POLL, at(1));
    assert_eq!(wanted(&state), ["1.2", "1.3"]);
    let TagState::Excluded { reason, .. } = &state.tags[&tag("1.1")].record.state else { panic!() };
    assert_eq!(reason, "not among the 2 newest-looking");
    assert!(state.known_list(&filter).is_some());

    // What comes by request moves the line as well, also for the requests that follow.
    let is_wanted = |state: &mut State, text: &str| left_out(&state.chosen(&filter), &tag(text)).is_none();
    assert!(is_wanted(&mut state, "1.2") && is_wanted(&mut state, "1.5"));
    state.apply_answer(&tag("1.5"), TagAnswer::Image(image("1.5")), at(2));
    assert!(!is_wanted(&mut state, "1.2") && is_wanted(&mut state, "1.3"));
    assert!(left_out(&state.chosen(&TagFilter::All), &tag("1.2")).is_none(), "by another filter");
}
