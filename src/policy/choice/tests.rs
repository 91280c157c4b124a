//! Choices by each order, what is left out, and what makes a choice incomplete.

use proptest::prelude::*;
use samovar_registry::Labels;

use super::*;
use crate::policy::Patterns;

/// What is known of a tag, in a form that tests can write.
#[derive(Debug, Clone)]
struct Known {
    tag: Tag,
    first_seen: Option<Timestamp>,
    moved_at: Option<Timestamp>,
    pushed_at: Option<Timestamp>,
    /// The state, where there is no image.
    state: Option<TagStateName>,
    created_at: Option<Timestamp>,
    platforms: Vec<String>,
    labels: Labels,
    is_outdated: bool,
}

impl Known {
    fn candidate(&self) -> Candidate<'_> {
        let Self { tag, created_at, platforms, labels, is_outdated, .. } = self;
        let standing = match self.state {
            Some(state) => Standing::Unavailable { state, reason: None },
            None => Standing::Image { created_at: *created_at, platforms, labels, is_outdated: *is_outdated },
        };
        let Self { first_seen, moved_at, pushed_at, .. } = *self;
        Candidate { tag, first_seen, moved_at, pushed_at, standing }
    }

    fn without_image(self, state: TagStateName) -> Self {
        Self { state: Some(state), ..self }
    }

    fn created(self, hour: i64) -> Self {
        Self { created_at: Some(at(hour)), ..self }
    }

    fn seen(self, hour: i64) -> Self {
        Self { first_seen: Some(at(hour)), ..self }
    }

    fn pushed(self, hour: i64) -> Self {
        Self { pushed_at: Some(at(hour)), ..self }
    }

    fn outdated(self) -> Self {
        Self { is_outdated: true, ..self }
    }

    fn on(self, platform: &str) -> Self {
        Self { platforms: vec![platform.to_owned()], ..self }
    }
}

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap()
}

/// A tag with an image that says nothing.
fn image(tag: &str) -> Known {
    Known {
        tag: tag.parse().unwrap(),
        first_seen: None,
        moved_at: None,
        pushed_at: None,
        state: None,
        created_at: None,
        platforms: Vec::new(),
        labels: Labels::default(),
        is_outdated: false,
    }
}

fn images(tags: &[&str]) -> Vec<Known> {
    tags.iter().map(|tag| image(tag)).collect()
}

fn pending(tag: &str) -> Known {
    image(tag).without_image(TagStateName::Pending)
}

/// At hour 100.
fn choose(parameters: &[(&str, &str)], known: &[Known]) -> Choice {
    let policy = Policy::read(parameters.iter().copied(), &Patterns::default()).unwrap();
    policy.choose(known.iter().map(Known::candidate), at(100))
}

/// All that fit, the best first.
fn chosen(parameters: &[(&str, &str)], known: &[Known]) -> Vec<String> {
    let choice = choose(&[parameters, &[("limit", "1000")]].concat(), known);
    assert_eq!(choice.matched, choice.tags.len());
    names(&choice.tags)
}

fn names(tags: &[Tag]) -> Vec<String> {
    tags.iter().map(ToString::to_string).collect()
}

fn left_out(choice: &Choice) -> Vec<(String, String)> {
    choice.left_out.iter().map(|(tag, why)| (tag.to_string(), why.to_string())).collect()
}

#[test]
fn the_examples_of_flux_choose_what_flux_chooses() {
    let tags = images(&["latest", "1.0.0", "v1.1.0", "1.2.0-rc.1", "2.0.0", "5.1.0", "5.1.4", "5.10.0"]);
    assert_eq!(choose(&[("semver", "5.1.x")], &tags).tags[0].as_str(), "5.1.4");
    assert_eq!(choose(&[("semver", ">=1.0.0")], &tags).tags[0].as_str(), "5.10.0");
    let candidates = [("filter", ".*-rc.*"), ("semver", "^1.x-0")];
    assert_eq!(chosen(&candidates, &tags), ["1.2.0-rc.1"]);
    let minio = images(&[
        "RELEASE.2024-01-30T12-00-00Z",
        "RELEASE.2024-01-30T03-00-00Z",
        "RELEASE.2023-12-31T23-59-59Z.fips",
        "latest",
    ]);
    let timestamps =
        [("filter", r"^RELEASE\.(?P<timestamp>.*)Z$"), ("extract", "$timestamp"), ("alphabetical", "asc")];
    assert_eq!(chosen(&timestamps, &minio), ["RELEASE.2024-01-30T12-00-00Z", "RELEASE.2024-01-30T03-00-00Z"]);
    let builds = images(&["main-1a2b3c4-99", "main-5d6e7f8-100", "dev-0a0a0a0-101"]);
    let by_number = [("filter", "^main-[a-f0-9]+-(?P<n>[0-9]+)"), ("extract", "$n"), ("numerical", "asc")];
    assert_eq!(chosen(&by_number, &builds), ["main-5d6e7f8-100", "main-1a2b3c4-99"]);
}

#[test]
fn the_strategies_of_argo_cd_choose_what_it_chooses() {
    // What it calls newest-build: of tags of one image the last by name.
    let built = [
        image("f33bacd").created(5),
        image("dev").created(5),
        image("latest").created(5),
        image("a5fb3d3").created(4),
    ];
    assert_eq!(choose(&[("newest", "created")], &built).tags[0].as_str(), "latest");
    let by_commit = [("newest", "created"), ("filter", "^[0-9a-f]{7}$")];
    assert_eq!(chosen(&by_commit, &built), ["f33bacd", "a5fb3d3"]);
    assert_eq!(
        chosen(&[("newest", "created"), ("exclude", "^(latest|dev)$")], &built),
        ["f33bacd", "a5fb3d3"]
    );
    let versions = images(&["1.2.5", "1.2.12", "v1.3", "2.0-rc1", "nightly"]);
    assert_eq!(chosen(&[("semver", "1.2.x")], &versions), ["1.2.12", "1.2.5"]);
    assert_eq!(chosen(&[("semver", "v1.x")], &versions), ["v1.3", "1.2.12", "1.2.5"]);
    assert_eq!(chosen(&[("semver", "2.x-0")], &versions), ["2.0-rc1"]);
    let dates = images(&["2024-01-02", "2024-01-10", "latest"]);
    let alphabetical = [("alphabetical", "asc"), ("filter", "^[0-9]{4}-[0-9]{2}-[0-9]{2}$")];
    assert_eq!(chosen(&alphabetical, &dates), ["2024-01-10", "2024-01-02"]);
}

#[test]
fn directions_and_ties_are_as_documented() {
    let tags = images(&["a", "c", "b"]);
    assert_eq!(chosen(&[("alphabetical", "asc")], &tags), ["c", "b", "a"]);
    assert_eq!(chosen(&[("alphabetical", "desc")], &tags), ["a", "b", "c"]);
    let numbers = images(&["9", "10", "010", "2.5", "x"]);
    assert_eq!(
        chosen(&[("numerical", "asc")], &numbers),
        ["10", "010", "9", "2.5"],
        "of equal ones the last by name"
    );
    assert_eq!(chosen(&[("numerical", "desc")], &numbers), ["2.5", "9", "10", "010"]);
    let versions = images(&["1.2.0", "v1.2.0", "1.2", "v1.2", "1.3.0-rc.1", "20240131"]);
    assert_eq!(chosen(&[("semver", "*")], &versions), ["v1.2.0", "1.2.0", "v1.2", "1.2"]);
    assert_eq!(chosen(&[("semver", "*"), ("partial", "false")], &versions), ["v1.2.0", "1.2.0"]);
    assert_eq!(chosen(&[("semver", "*"), ("strict", "true")], &versions), ["1.2.0"]);
    assert_eq!(chosen(&[("semver", "*"), ("prerelease", "true")], &versions)[0], "1.3.0-rc.1");
    // Build metadata, which no tag can have but a template can write, decides between what SemVer calls equal.
    let builds = images(&["1.0.0_1", "1.0.0_2"]);
    let with_build = [("semver", "*"), ("filter", "^(.*)_(.*)$"), ("extract", "$1+$2")];
    assert_eq!(chosen(&with_build, &builds), ["1.0.0_2", "1.0.0_1"]);
    // flux2#5691: tags of which the same is extracted took one another's place.
    let same = images(&["a-7", "b-7"]);
    let extracted = [("numerical", "asc"), ("filter", "-(.*)"), ("extract", "$1")];
    assert_eq!(chosen(&extracted, &same), ["b-7", "a-7"]);
}

#[test]
fn newest_goes_by_the_time_that_is_asked_for() {
    let tags = [
        image("old").created(1).pushed(20),
        image("new").created(2).pushed(10).seen(90),
        image("mute").seen(80),
    ];
    assert_eq!(chosen(&[("newest", "created")], &tags), ["new", "old"]);
    assert_eq!(chosen(&[("newest", "pushed")], &tags), ["old", "new"]);
    // Whatever was there at the first listing is older than what was not.
    assert_eq!(chosen(&[("newest", "first_seen")], &tags), ["new", "mute", "old"]);

    let created = choose(&[("newest", "created")], &tags);
    assert_eq!(
        left_out(&created),
        [("mute".into(), "no-creation-time: the image does not say when it was built".into())]
    );
    assert!(created.is_complete(), "the image is known and says nothing");
    let pushed = choose(&[("newest", "pushed")], &tags);
    assert!(pushed.left_out.contains_key("mute") && !pushed.is_complete());
    assert_eq!(names(&pushed.missing), ["mute"]);

    let unknown = [image("first").seen(50), image("unknown")];
    let one = choose(&[("newest", "first_seen")], &unknown);
    assert_eq!((names(&one.tags), one.is_complete()), (vec!["first".into()], true), "it was there before");
    let two = choose(&[("newest", "first_seen"), ("limit", "2")], &unknown);
    assert_eq!((names(&two.tags), names(&two.missing)), (vec!["first".into()], vec!["unknown".into()]));
}

/// What is not known yet must not make an older tag the newest without a word.
#[test]
fn a_tag_that_is_not_known_yet_is_named_rather_than_an_older_one() {
    for state in [TagStateName::Pending, TagStateName::Failed] {
        let tags = [image("1.0.0"), image("1.1.0").without_image(state), image("0.9.0").without_image(state)];
        let best = choose(&[("semver", "*")], &tags);
        assert_eq!((names(&best.tags), best.matched), (vec!["1.1.0".into()], 3));
        assert_eq!(names(&best.missing), ["1.1.0"], "it may turn out to be no image; 0.9.0 cannot matter");
        assert!(best.left_out.is_empty());
        let descending =
            choose(&[("numerical", "desc"), ("filter", r"^(\d+\.\d+)"), ("extract", "$1")], &tags);
        assert_eq!(
            (names(&descending.tags), names(&descending.missing)),
            (vec!["0.9.0".into()], vec!["0.9.0".into()])
        );
        assert!(choose(&[("semver", "*"), ("exclude", "1.1")], &tags).is_complete());
    }
}

#[test]
fn names_are_enough_for_what_goes_by_names() {
    let tags = [image("1.1.0"), pending("1.0.0"), pending("other"), pending("1.2.0-rc.1")];
    for order in [("semver", "*"), ("alphabetical", "desc")] {
        let choice = choose(&[order, ("exclude", "other|rc|1.0")], &tags);
        assert!(choice.is_complete() && choice.left_out.is_empty(), "{order:?}: {choice:?}");
    }
    let choice = choose(&[("semver", "*")], &tags);
    assert_eq!((choice.is_complete(), choice.matched), (true, 2));
    let two = choose(&[("semver", "*"), ("limit", "2")], &tags);
    assert_eq!(
        (names(&two.tags), names(&two.missing)),
        (vec!["1.1.0".into(), "1.0.0".into()], vec!["1.0.0".into()])
    );
}

#[test]
fn what_is_no_image_is_left_out_for_good() {
    let tags = [
        image("1.0.0"),
        image("1.1.0").without_image(TagStateName::Excluded),
        image("1.2.0").without_image(TagStateName::Unknown),
        image("chart").without_image(TagStateName::Excluded),
    ];
    let choice = choose(&[("semver", "*")], &tags);
    assert_eq!(names(&choice.tags), ["1.0.0"]);
    assert_eq!(left_out(&choice), [("1.1.0".into(), "excluded".into()), ("1.2.0".into(), "unknown".into())]);
    assert!(choice.is_complete());
    for by in ["created", "pushed", "first_seen"] {
        let newest = choose(&[("newest", by), ("exclude", "1.0.0")], &tags);
        assert!(newest.is_complete() && newest.left_out.len() == 3, "{by}: {newest:?}");
    }
}

#[test]
fn newest_build_is_incomplete_while_any_tag_that_fits_is_missing() {
    let tags = [image("a").created(1), pending("b"), image("c").without_image(TagStateName::Failed)];
    let choice = choose(&[("newest", "created")], &tags);
    assert_eq!(
        (names(&choice.tags), names(&choice.missing)),
        (vec!["a".into()], vec!["c".into(), "b".into()])
    );
    assert_eq!(left_out(&choice), [("b".into(), "pending".into()), ("c".into(), "failed".into())]);
    assert!(choose(&[("newest", "created"), ("filter", "^a")], &tags).is_complete(), "others do not fit");
    // When it was first seen is known of a tag before its image is.
    let seen = [image("a").seen(1), pending("b").seen(2)];
    assert_eq!(chosen(&[("newest", "first_seen")], &seen), ["b", "a"]);
    let moved = [image("a").created(2), image("b").created(1).outdated()];
    assert_eq!(names(&choose(&[("newest", "created")], &moved).missing), ["b"], "its new image may be newer");
    assert!(choose(&[("alphabetical", "desc")], &moved).is_complete());
    assert_eq!(
        names(&choose(&[("alphabetical", "asc")], &moved).missing),
        ["b"],
        "what is shown of it is old"
    );
}

#[test]
fn conditions_leave_out_and_only_better_tags_make_it_incomplete() {
    let tags = [
        image("1.0.0").on("linux/amd64"),
        image("1.1.0").on("linux/arm64"),
        pending("1.2.0"),
        pending("0.9.0"),
        image("1.3.0").on("linux/arm64").outdated(),
    ];
    let choice = choose(&[("semver", "*"), ("platform", "linux/amd64")], &tags);
    assert_eq!((names(&choice.tags), choice.matched), (vec!["1.0.0".into()], 1));
    let does_not_offer = || String::from("platform: does not offer linux/amd64");
    assert_eq!(
        left_out(&choice),
        [
            ("0.9.0".into(), "pending".into()),
            ("1.1.0".into(), does_not_offer()),
            ("1.2.0".into(), "pending".into()),
            ("1.3.0".into(), does_not_offer()),
        ]
    );
    assert_eq!(names(&choice.missing), ["1.3.0", "1.2.0"]);
    let complete = choose(&[("semver", "<1.2"), ("platform", "linux/amd64")], &tags);
    assert_eq!((complete.is_complete(), names(&complete.tags)), (true, vec!["1.0.0".into()]));
    let labelled = choose(&[("semver", "<1.2"), ("label", "team=tea")], &tags);
    assert_eq!(labelled.left_out["1.1.0"].to_string(), "label: does not fit team=tea");
    assert_eq!(names(&labelled.missing), ["0.9.0"], "nothing fits yet");
}

#[test]
fn a_young_tag_waits_and_one_of_unknown_age_is_no_reason_to_go_back_unnoticed() {
    let policy = [("semver", "*"), ("min_age", "1d")];
    let tags = [image("1.0.0").seen(10), image("1.1.0").seen(90), pending("1.2.0").seen(99)];
    let choice = choose(&policy, &tags);
    assert_eq!((names(&choice.tags), choice.is_complete()), (vec!["1.0.0".into()], true));
    let too_young = |hour| format!("too-young: until {}", at(hour));
    assert_eq!(left_out(&choice), [("1.1.0".into(), too_young(114)), ("1.2.0".into(), too_young(123))]);

    let first_listing = [image("1.0.0").pushed(10), image("1.1.0"), image("0.9.0")];
    let choice = choose(&policy, &first_listing);
    assert_eq!(names(&choice.tags), ["1.0.0"]);
    assert_eq!(names(&choice.missing), ["1.1.0"]);
    let unknown = "unknown-age: it was there at the first listing";
    assert_eq!(left_out(&choice), [("0.9.0".into(), unknown.into()), ("1.1.0".into(), unknown.into())]);

    let by_created = [("semver", "*"), ("min_age", "1d"), ("min_age_by", "created")];
    let choice =
        choose(&by_created, &[image("1.0.0").created(1), image("1.1.0"), image("1.2.0").created(99)]);
    assert_eq!((names(&choice.tags), choice.is_complete()), (vec!["1.0.0".into()], true));
    let moved = [image("1.0.0").seen(1), image("1.1.0").seen(1).outdated()];
    assert_eq!(choose(&policy, &moved).left_out["1.1.0"], LeftOut::Moved);
}

#[test]
fn what_is_left_out_is_shown_up_to_a_bound_the_best_first() {
    let tags: Vec<Known> = (0..MOST_LEFT_OUT + 5)
        .map(|number| image(&format!("1.0.{number}")).without_image(TagStateName::Excluded))
        .collect();
    let choice = choose(&[("semver", "*")], &tags);
    assert_eq!((choice.left_out.len(), choice.left_out_more), (MOST_LEFT_OUT, 5));
    assert!(!choice.left_out.contains_key("1.0.4"));
    assert!(choice.left_out.contains_key("1.0.5"));
}

#[test]
fn nothing_is_chosen_from_nothing() {
    let choice = choose(&[("semver", "*")], &[]);
    assert_eq!(choice, Choice::default());
    assert!(choice.is_complete());
}

fn some_tag() -> impl Strategy<Value = Known> {
    let state = prop::option::of(prop::sample::select(&[
        TagStateName::Pending,
        TagStateName::Excluded,
        TagStateName::Unknown,
        TagStateName::Failed,
    ]));
    let hour = || prop::option::of(0_i64..120);
    let platforms = prop::sample::select(&["linux/amd64", "linux/arm64"]);
    let facts =
        ("v?[0-3](\\.[0-3]){0,2}(-rc[12])?", hour(), hour(), hour(), hour(), state, platforms, any::<bool>());
    facts.prop_map(|(tag, first_seen, moved_at, pushed_at, created_at, state, platform, is_outdated)| Known {
        first_seen: first_seen.map(at),
        moved_at: moved_at.map(at),
        pushed_at: pushed_at.map(at),
        created_at: created_at.map(at),
        state,
        platforms: vec![platform.to_owned()],
        is_outdated,
        ..image(&tag)
    })
}

fn some_policy() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let orders = [
        ("semver", ">=0-0"),
        ("alphabetical", "asc"),
        ("alphabetical", "desc"),
        ("numerical", "asc"),
        ("newest", "created"),
        ("newest", "pushed"),
        ("newest", "first_seen"),
    ];
    let more = [("platform", "linux/amd64"), ("exclude", "rc"), ("min_age", "1d"), ("limit", "3")];
    let more = prop::sample::subsequence(more.to_vec(), 0..=more.len());
    (prop::sample::select(orders.to_vec()), more).prop_map(|(order, more)| [vec![order], more].concat())
}

/// What may come to be known of a tag that is not known yet, or has moved: an image, or that it is none.
fn learnt(known: &Known, (created, platform, is_image): (i64, &str, bool)) -> Known {
    let is_open = match known.state {
        None => known.is_outdated,
        Some(state) => matches!(state, TagStateName::Pending | TagStateName::Failed),
    };
    if !is_open {
        return known.clone();
    }
    let state = (!is_image).then_some(TagStateName::Excluded);
    Known { state, is_outdated: false, ..known.clone().created(created).on(platform) }
}

proptest! {
    #[test]
    fn the_order_of_the_tags_makes_no_difference(
        known in prop::collection::vec(some_tag(), 0..12), policy in some_policy(), turns in 0_usize..12,
    ) {
        let known = distinct(known);
        let mut others = known.clone();
        others.reverse();
        let turns = turns.min(others.len());
        others.rotate_left(turns);
        prop_assert_eq!(choose(&policy, &known), choose(&policy, &others));
    }

    /// What completeness promises: whatever comes to be known of the images that are missing, the choice stays.
    #[test]
    fn a_complete_choice_does_not_change_when_the_rest_is_fetched(
        known in prop::collection::vec(some_tag(), 0..12),
        policy in some_policy(),
        images in prop::collection::vec(
            (0_i64..200, prop::sample::select(&["linux/amd64", "linux/arm64"]), any::<bool>()),
            12,
        ),
    ) {
        let known = distinct(known);
        let choice = choose(&policy, &known);
        prop_assume!(choice.is_complete());
        let later: Vec<Known> =
            known.iter().zip(&images).map(|(known, image)| learnt(known, *image)).collect();
        prop_assert_eq!(choice.tags, choose(&policy, &later).tags);
    }

    #[test]
    fn fewer_are_the_first_of_more(known in prop::collection::vec(some_tag(), 0..12), policy in some_policy()) {
        let known = distinct(known);
        let policy: Vec<_> = policy.into_iter().filter(|(name, _)| *name != "limit").collect();
        let all = choose(&[&policy[..], &[("limit", "100")]].concat(), &known);
        let one = choose(&policy, &known);
        prop_assert_eq!(all.matched, all.tags.len());
        prop_assert_eq!((one.matched, &one.left_out), (all.matched, &all.left_out));
        prop_assert_eq!(one.tags.first(), all.tags.first());
        prop_assert!(one.missing.len() <= all.missing.len());
    }
}

fn distinct(known: Vec<Known>) -> Vec<Known> {
    let by_tag: BTreeMap<Tag, Known> = known.into_iter().map(|known| (known.tag.clone(), known)).collect();
    by_tag.into_values().collect()
}
