use proptest::prelude::*;

use super::*;

fn id(generation: u64, number: u64) -> ChangeId {
    ChangeId { generation, number }
}

fn mark(name: &str) -> Mark {
    Mark::of(&name.parse().unwrap())
}

#[test]
fn a_position_covers_what_is_before_its_time_and_what_was_told_since() {
    let (one, other) = (mark("ghcr.io/a/b"), mark("ghcr.io/a/c"));
    let mut position = Position::at(1000);
    position.tell(one, id(1005, 3));
    for (mark, change, covered) in [
        (one, id(1000, 2), true),
        (one, id(1005, 2), true),
        (one, id(1005, 3), true),
        (one, id(1005, 4), false),
        (one, id(1006, 4), false),
        (other, id(1000, 9), true),
        (other, id(1001, 9), false),
    ] {
        assert_eq!(position.covers(mark, change), covered, "{change}");
    }
    position.advance(1005);
    assert_eq!(position, Position::at(1005), "nothing is kept that the time covers");
    position.advance(1000);
    assert_eq!(position.time(), 1005);
}

#[test]
fn marks_are_the_same_for_ever() {
    // They travel between replicas, and between versions.
    assert_eq!(mark("docker.io/library/alpine"), Mark(0x0fb9_fb8f_e2d7));
}

#[test]
fn other_texts_are_no_positions() {
    let too_many: Vec<String> = (0..=MOST_AHEAD).map(|mark| format!("-{mark:x}.1.0")).collect();
    let long = format!("1{}", "-1.1.1".repeat(1000));
    for text in [
        "",
        "-",
        "x",
        "01",
        "1-",
        "1-2",
        "1-2.3",
        "1-2.3.4.5",
        "1-2.3.4-2.3.4",
        "1-3.1.1-2.1.1",
        "+1",
        "é",
        "ffffffffffffffff-1.1.1",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!("1{}", too_many.concat()), long])
    {
        assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
    }
}

#[test]
fn the_longest_text_fits() {
    let mut position = Position::at(1 << 43);
    for number in 0..2 * MOST_AHEAD as u64 {
        position.tell(Mark((1 << 48) - 1 - number), id((1 << 43) + 600_000 + number, u64::from(u32::MAX)));
    }
    let text = position.to_string();
    assert!(text.len() < MAX_POSITION_BYTES, "{}", text.len());
    assert_eq!(text.parse(), Ok(position));
}

/// Repositories that change, in any order among them, each in its own.
fn changes() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0..6_u64, 1..50_u64), 0..60)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(told in changes(), time in 0..u64::MAX / 2) {
        let mut position = Position::at(time);
        for (repository, later) in told {
            position.tell(Mark(repository), id(time + later, later));
        }
        prop_assert_eq!(position.to_string().parse(), Ok(position));
    }

    #[test]
    fn what_was_not_told_is_never_covered_and_what_was_is_told_once(steps in changes(), cut in 0..60_usize) {
        // The changes of each repository, one generation each; told in the order of the steps, the time following behind.
        let mut next = [1000_u64; 6];
        let mut all = Vec::new();
        for (repository, later) in &steps {
            let slot = &mut next[usize::try_from(*repository).unwrap()];
            *slot += later;
            all.push((Mark(*repository), id(*slot, 0)));
        }
        let cut = cut.min(all.len());
        let mut position = Position::at(1000);
        for (place, (mark, change)) in all[..cut].iter().enumerate() {
            position.tell(*mark, *change);
            // Whatever comes later is later than this.
            let oldest_to_come = all[place + 1..].iter().map(|(_, change)| change.generation).min();
            position.advance(oldest_to_come.unwrap_or(change.generation).saturating_sub(1).min(change.generation));
        }
        for (place, (mark, change)) in all.iter().enumerate() {
            prop_assert_eq!(position.covers(*mark, *change), place < cut, "{} of {}", place, cut);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9a-f.-]{0,60}") {
        if let Ok(position) = text.parse::<Position>() {
            prop_assert_eq!(position.to_string(), text);
        }
    }
}
