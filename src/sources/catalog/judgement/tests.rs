use proptest::prelude::*;
use samovar_registry::upstream::ErrorKind;

use super::*;

fn names(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<Name> {
    numbers.into_iter().map(|number| format!("r.example/app{number}").parse().unwrap()).collect()
}

#[test]
fn a_list_that_lost_most_is_believed_when_the_next_one_says_about_the_same() {
    let known = names(0..10);
    for (listed, shrunken, expected, to_confirm) in [
        (names(0..5), None, names(0..5), None),
        (names(0..4), None, names(0..10), Some(4)),
        (names([]), None, names(0..10), Some(0)),
        (names([]), Some(0), names([]), None),
        (names(10..30), None, names(0..30), Some(20)),
        (names(0..10), Some(0), names(0..10), None),
        (names(0..4), Some(2), names(0..4), None),
        (names(0..2), Some(4), names(0..2), None),
        // The second mistake is another one.
        (names([]), Some(4), names(0..10), Some(0)),
        (names(0..4), Some(0), names(0..10), Some(4)),
        (names(0..1), Some(4), names(0..10), Some(1)),
    ] {
        let judged = judge(Some(&known), listed.clone(), shrunken);
        assert_eq!(judged, (expected, to_confirm), "{listed:?} {shrunken:?}");
    }
    assert_eq!(judge(None, names([]), None), (names([]), None));
}

fn refused() -> CatalogError {
    CatalogError::of("r.example", ErrorKind::Denied { credentials: "x".into(), message: None })
}

fn unavailable() -> CatalogError {
    CatalogError::of("r.example", ErrorKind::Unavailable { status: 503, message: None })
}

/// What is learnt where `one` lists app0 to app4 and `other` meets an error; `listed_for` have listed before.
fn learnt(
    known: Option<BTreeSet<Name>>,
    listed_for: &[&str],
    error: &CatalogError,
) -> Result<Learnt, String> {
    let listed_for = listed_for.iter().map(|login| (*login).to_owned()).collect();
    let before = Record { listed_for, ..Record::default() };
    let mut reading = Reading::of(["one".to_owned(), "other".to_owned()]);
    reading.listed("one", names(0..5).into_iter().collect());
    reading.failed("other", error, &before);
    reading.learnt(known.as_ref(), &before)
}

#[test]
fn a_login_that_may_not_list_keeps_nothing_from_the_others() {
    for known in [None, Some(names(0..6)), Some(names(3..5))] {
        let learnt = learnt(known, &["one"], &refused()).unwrap();
        assert_eq!((learnt.names, learnt.shrunken), (names(0..5), None));
        assert_eq!(learnt.listed_for, BTreeSet::from(["one".to_owned()]));
        let problem = learnt.problem.unwrap();
        assert!(problem.starts_with("r.example does not list its repositories"), "{problem}");
        assert!(problem.ends_with("(as for other)"), "{problem}");
    }
}

#[test]
fn what_a_login_listed_stays_while_it_cannot_list() {
    let both = ["one", "other"];
    for (listed_for, error) in [(&both[..], refused()), (&both[..1], unavailable()), (&both, unavailable())] {
        let learnt = learnt(Some(names(4..9)), listed_for, &error).unwrap();
        assert_eq!((learnt.names, learnt.shrunken), (names(0..9), None), "{error}");
        assert_eq!(learnt.listed_for.len(), listed_for.len());
    }
    // What it would list first is not known: nothing is taken for all there is.
    learnt(None, &[], &unavailable()).unwrap_err();
}

#[test]
fn a_host_that_wants_to_be_left_alone_has_said_nothing_of_the_logins_after() {
    let error = CatalogError::of(
        "r.example",
        ErrorKind::RateLimited { retry_after: Duration::from_mins(1), message: None },
    );
    let before = Record::default();
    let mut reading = Reading::of(["one", "other", "third"].map(str::to_owned));
    reading.listed("one", names(0..5).into_iter().collect());
    reading.failed("other", &error, &before);
    assert_eq!(reading.retry_after(), Some(Duration::from_mins(1)));
    assert_eq!(reading.learnt(Some(&names(4..9)), &before).unwrap().names, names(0..9));
}

proptest! {
    #[test]
    fn nothing_listed_is_ever_missing_and_nothing_known_goes_at_once_with_most(
        known in proptest::collection::btree_set(0_u8..40, 0..30),
        listed in proptest::collection::btree_set(0_u8..40, 0..30),
        shrunken in proptest::option::of(0_usize..30),
    ) {
        let (known, listed) = (names(known), names(listed));
        let (believed, to_confirm) = judge(Some(&known), listed.clone(), shrunken);
        prop_assert!(believed.is_superset(&listed));
        prop_assert!(believed.iter().all(|name| known.contains(name) || listed.contains(name)));
        let lost = known.difference(&believed).count();
        prop_assert!(shrunken.is_some() || lost * 2 <= known.len());
        // The same list once more is believed.
        if to_confirm.is_some() {
            prop_assert_eq!(judge(Some(&believed), listed.clone(), to_confirm), (listed, None));
        }
    }
}
