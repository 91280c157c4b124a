use proptest::prelude::*;

use super::*;

fn names(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<Name> {
    numbers.into_iter().map(|number| format!("r.example/app{number}").parse().unwrap()).collect()
}

#[test]
fn a_list_that_lost_most_is_believed_the_second_time() {
    let known = names(0..10);
    for (listed, was_held_back, expected, held_back) in [
        (names(0..5), false, names(0..5), false),
        (names(0..4), false, names(0..10), true),
        (names([]), false, names(0..10), true),
        (names([]), true, names([]), false),
        (names(10..30), false, names(0..30), true),
        (names(0..10), true, names(0..10), false),
    ] {
        let judged = judge(Some(&known), listed.clone(), was_held_back);
        assert_eq!(judged, Judged { names: expected, held_back }, "{listed:?}");
    }
    assert_eq!(judge(None, names([]), false), Judged { names: names([]), held_back: false });
}

proptest! {
    #[test]
    fn nothing_listed_is_ever_missing_and_nothing_known_goes_at_once_with_most(
        known in proptest::collection::btree_set(0_u8..40, 0..30),
        listed in proptest::collection::btree_set(0_u8..40, 0..30),
        was_held_back: bool,
    ) {
        let (known, listed) = (names(known), names(listed));
        let judged = judge(Some(&known), listed.clone(), was_held_back);
        prop_assert!(judged.names.is_superset(&listed));
        prop_assert!(judged.names.iter().all(|name| known.contains(name) || listed.contains(name)));
        let lost = known.difference(&judged.names).count();
        prop_assert!(was_held_back || lost * 2 <= known.len());
        prop_assert!(!judged.held_back || !was_held_back);
    }
}
