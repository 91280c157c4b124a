use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_hours(24);

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn name(number: usize) -> Name {
    format!("registry.example/team/app{number}").parse().unwrap()
}

fn added(replaced: &[Name]) -> Admission {
    Admission::Added { replaced: replaced.to_vec() }
}

/// The list, with all that is in it listed.
fn listed(list: &mut AskedFor) {
    list.learn(|_| Some(Row { asked_at: second(0), listed: true }));
}

#[test]
fn the_least_recently_asked_goes_first() {
    let mut list = AskedFor::default();
    for (number, at) in [(1, 0), (2, 10), (3, 20)] {
        assert_eq!(list.ask(&name(number), second(at), 3), added(&[]));
    }
    listed(&mut list);
    assert_eq!(list.ask(&name(1), second(30), 3), Admission::Known);
    let later = 30 + 3600;
    assert_eq!(list.ask(&name(4), second(later), 3), added(&[name(2)]));
    assert_eq!(list.ask(&name(5), second(later), 3), added(&[name(3)]));
    assert_eq!(list.ask(&name(6), second(later), 3), added(&[name(1)]));
    // A smaller bound than before.
    assert_eq!(list.ask(&name(7), second(later + 60), 1), added(&[name(4), name(5), name(6)]));
}

#[test]
fn a_flood_of_names_pushes_out_nothing_that_is_in_use() {
    let mut list = AskedFor::default();
    for number in 0..10 {
        list.ask(&name(number), second(0), 20);
    }
    listed(&mut list);
    for number in 10..10_000 {
        let now = second(i64::try_from(number).unwrap());
        if number % 600 == 0 {
            for used in 0..10 {
                list.ask(&name(used), now, 20);
            }
        }
        list.ask(&name(number), now, 20);
        assert!(list.len() <= 20);
    }
    assert!((0..10).all(|number| list.get(&name(number)).is_some()));
}

#[test]
fn what_could_never_be_listed_goes_soon_and_what_is_listed_when_it_is_idle() {
    let mut list = AskedFor::default();
    list.ask(&name(1), second(0), 10);
    listed(&mut list);
    list.ask(&name(2), second(0), 10);
    assert_eq!(list.retire(second(3599), DAY, |_| false), []);
    assert_eq!(list.retire(second(3600), DAY, |_| false), [(name(2), Leaving::NeverListed)]);
    assert_eq!(list.retire(second(86_399), DAY, |_| false), []);
    assert_eq!(list.clone().retire(second(86_400), DAY, |_| false), [(name(1), Leaving::Idle)]);
    // What another source names goes sooner.
    assert_eq!(list.retire(second(3600), DAY, |named| *named == name(1)), [(name(1), Leaving::Named)]);
    assert_eq!(list.len(), 0);
}

#[test]
fn names_that_are_too_long_for_the_entry_make_room_too() {
    let mut list = AskedFor::default();
    let long = |number: usize| format!("registry.example/{number:0>230}").parse::<Name>().unwrap();
    let mut count = 0;
    while list.ask(&long(count), second(0), 2000) == added(&[]) {
        count += 1;
        listed(&mut list);
    }
    assert!((800..2000).contains(&count), "{count}");
    assert!(serde_json_len(&list) <= MOST_LIST_BYTES);
    assert_eq!(list.ask(&long(count), second(0), 2000), Admission::Full);
    assert_eq!(list.ask(&long(count), second(3600), 2000), added(&[long(0)]));
}

#[test]
fn names_that_are_made_up_push_out_only_one_another() {
    let mut list = AskedFor::default();
    list.ask(&name(9999), second(0), 1000);
    listed(&mut list);
    for number in 0..1000 {
        let expected = if number < MOST_NEVER_LISTED { added(&[]) } else { Admission::Full };
        assert_eq!(list.ask(&name(number), second(7200), 1000), expected, "{number}");
    }
    assert_eq!(list.ask(&name(1000), second(7260), 1000), added(&[name(0)]));
    assert!(list.get(&name(9999)).is_some(), "idle for two hours, and known to exist");
}

fn serde_json_len(list: &AskedFor) -> usize {
    let rows: Vec<StoredRow> =
        list.0.iter().map(|(name, row)| (name.clone(), row.asked_at.as_second(), true)).collect();
    serde_json::to_vec(&rows).unwrap().len()
}

#[test]
fn what_is_stored_is_read_back_and_what_is_not_understood_is_not_there() {
    let mut list = AskedFor::default();
    list.ask(&name(1), second(5), 10);
    listed(&mut list);
    list.ask(&name(2), second(9), 10);
    assert_eq!(AskedFor::decode(Some(&list.encode()), second(100)), Some(list.clone()));
    assert_eq!(AskedFor::decode(Some(&Entry::immutable("garbage")), second(100)), None);
    assert_eq!(AskedFor::decode(None, second(100)), None);
    let early = AskedFor::decode(Some(&list.encode()), second(1)).unwrap();
    assert_eq!(early.get(&name(2)).unwrap().asked_at, second(1), "no time lies ahead");
    assert!(list.is_nearly(&early, Duration::from_secs(9)));
    assert!(!list.is_nearly(&early, Duration::from_secs(8)));
}

proptest! {
    #[test]
    fn whatever_is_asked_the_bounds_hold_and_what_is_known_stays(
        questions in prop::collection::vec((0_usize..40, 0_i64..4000, any::<bool>()), 1..200),
        most in 1_usize..12,
    ) {
        let (mut list, mut now) = (AskedFor::default(), 0);
        for (number, pause, is_listed) in questions {
            now += pause;
            let before = list.clone();
            let admission = list.ask(&name(number), second(now), most);
            prop_assert!(list.len() <= most);
            match admission {
                Admission::Known => prop_assert_eq!(list.len(), before.len()),
                Admission::Full => prop_assert_eq!(&list, &before),
                Admission::Added { replaced } => {
                    for gone in &replaced {
                        let gone_at = before.get(gone).unwrap();
                        prop_assert!(!gone_at.is_in_use(second(now)));
                        // Nothing stays that could have gone, is no better known, and was asked about longer ago.
                        let outlives = |row: &Row| {
                            row.is_in_use(second(now))
                                || (row.listed, row.asked_at) >= (gone_at.listed, gone_at.asked_at)
                        };
                        let all_do = list.0.values().all(outlives);
                        prop_assert!(all_do);
                    }
                }
            }
            if is_listed {
                list.learn(|_| Some(Row { asked_at: second(0), listed: true }));
            }
        }
        let entry = list.encode();
        prop_assert_eq!(AskedFor::decode(Some(&entry), second(now)), Some(list));
    }
}
