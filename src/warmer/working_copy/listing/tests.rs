use jiff::Timestamp;
use samovar_registry::Digest;
use samovar_registry::upstream::{ErrorKind, HintSource, TagHint};

use super::super::tests::{POLL, at, empty, image, kinds, list, name, tag, unread, warmed};
use super::*;
use crate::config::TagSelection;
use crate::warmer::change::Cause;
use crate::warmer::tag::TagAnswer;

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
