use proptest::prelude::*;

use super::*;

fn name(number: usize) -> Name {
    format!("registry.example/team/app{number:03}").parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn put(queue: &mut Queue, number: usize, identity: Identity, class: Class, second: i64) {
    queue.put(&name(number), identity, Needs::at(class, at(second)));
}

/// Who has a turn, one after another, until nothing is due; each turn is over before the next one.
fn drained(queue: &mut Queue, second: i64) -> Vec<Name> {
    let mut order = Vec::new();
    while let Some(turn) = queue.pop(at(second), true) {
        queue.ended(turn.identity);
        order.push(turn.name);
    }
    order
}

fn names(numbers: impl IntoIterator<Item = usize>) -> Vec<Name> {
    numbers.into_iter().map(name).collect()
}

#[test]
fn what_is_more_urgent_goes_first_then_what_is_due_for_longer_then_by_name() {
    let mut queue = Queue::new(100);
    put(&mut queue, 1, 0, Class::Background, 0);
    put(&mut queue, 2, 0, Class::Due, 10);
    put(&mut queue, 3, 0, Class::New, 20);
    put(&mut queue, 4, 0, Class::Asked, 30);
    put(&mut queue, 6, 0, Class::Due, 5);
    put(&mut queue, 5, 0, Class::Due, 5);
    put(&mut queue, 7, 0, Class::Asked, 31);
    assert_eq!(drained(&mut queue, 30), names([4, 3, 5, 6, 2, 1]));
    assert_eq!(queue.next_at(true), Some(at(31)));
}

#[test]
fn what_has_been_due_for_long_climbs_but_never_past_what_was_asked_for() {
    let mut queue = Queue::new(100);
    put(&mut queue, 1, 0, Class::Background, 0);
    put(&mut queue, 2, 0, Class::New, 100);
    assert_eq!(queue.pop(at(119), true).unwrap().name, name(2));
    put(&mut queue, 2, 0, Class::New, 100);
    let turn = queue.pop(at(120), true).unwrap();
    assert_eq!((turn.name, turn.class), (name(1), Class::Background));
    put(&mut queue, 1, 0, Class::Background, 0);
    put(&mut queue, 3, 0, Class::Asked, 1_000_000);
    assert_eq!(queue.pop(at(1_000_000), true).unwrap().name, name(3));
}

#[test]
fn identities_take_turns_and_one_with_many_repositories_holds_up_none() {
    let mut queue = Queue::new(100);
    for number in 0..20 {
        put(&mut queue, number, 1, Class::Due, 0);
    }
    for number in 20..23 {
        put(&mut queue, number, 2, Class::Due, 10);
    }
    put(&mut queue, 23, 3, Class::Due, 20);
    let first: Vec<Name> = (0..8).map(|_| queue.pop(at(20), true).unwrap().name).collect();
    assert_eq!(first, names([0, 20, 23, 1, 21, 2, 22, 3]), "all of them are running");
    put(&mut queue, 24, 2, Class::Due, 20);
    queue.ended(1);
    queue.ended(1);
    assert_eq!(queue.running, 6);
    assert_eq!(queue.pop(at(20), true).unwrap().name, name(4), "two running are fewer than three");
    assert_eq!(queue.pop(at(20), true).unwrap().name, name(24), "of three each, whose turn is longer ago");
}

#[test]
fn identities_of_one_repository_that_always_comes_back_do_not_shut_out_one_of_many() {
    let mut queue = Queue::new(2);
    for number in 0..40 {
        put(&mut queue, number, 0, Class::Due, 0);
    }
    put(&mut queue, 100, 1, Class::Due, 0);
    put(&mut queue, 101, 2, Class::Due, 0);
    let mut running = Vec::new();
    let mut turns = BTreeMap::<Identity, usize>::new();
    for second in 0..60 {
        while let Some(turn) = queue.pop(at(second), true) {
            *turns.entry(turn.identity).or_default() += 1;
            running.push(turn);
        }
        let Turn { name, identity, .. } = running.remove(0);
        let next = if identity == 0 { 10_000 } else { second };
        queue.comes_back(identity, &name, identity, Needs::at(Class::Due, at(next)));
    }
    assert!(turns.values().all(|count| (19..=22).contains(count)), "{turns:?}");
}

#[test]
fn a_repository_is_in_the_queue_once_with_everything_that_it_needs() {
    let mut queue = Queue::new(100);
    put(&mut queue, 1, 0, Class::Background, 10);
    assert!(queue.add(&name(1), Needs::at(Class::Due, at(20))));
    assert!(queue.add(&name(1), Needs::at(Class::Background, at(30))), "later: nothing new");
    assert!(!queue.add(&name(2), Needs::at(Class::Asked, at(0))), "it is not in the queue");
    let standing = queue.standing(at(25));
    assert_eq!((standing.waiting, standing.scheduled), ([0, 0, 1, 0], 0));
    assert_eq!(standing.longest_wait, Duration::from_secs(15));
    assert_eq!(queue.pop(at(9), true), None);
    let turn = queue.pop(at(25), true).unwrap();
    assert_eq!((turn.class, queue.next_at(true)), (Class::Due, None));
    put(&mut queue, 1, 0, Class::New, 10);
    let needs = queue.remove(&name(1)).unwrap();
    assert_eq!((needs, queue.pop(at(99), true)), (Needs::at(Class::New, at(10)), None));
}

#[test]
fn who_was_asked_for_is_passed_over_where_its_places_are_taken() {
    let mut queue = Queue::new(100);
    put(&mut queue, 1, 0, Class::Background, 0);
    queue.add(&name(1), Needs::at(Class::Asked, at(0)));
    put(&mut queue, 2, 0, Class::Background, 5);
    assert!(queue.is_asked_for_due(at(0)) && !queue.is_asked_for_due(at(-1)));
    assert_eq!((queue.next_at(true), queue.next_at(false)), (Some(at(0)), Some(at(5))));
    assert_eq!(queue.pop(at(10), false).unwrap().name, name(2));
    assert_eq!((queue.pop(at(10), false), queue.next_at(false)), (None, None));
    assert_eq!(queue.pop(at(10), true).unwrap().name, name(1));
    assert!(!queue.is_asked_for_due(at(10)));
}

#[test]
fn a_turn_waits_for_room_until_another_one_is_over() {
    let mut queue = Queue::new(2);
    for number in 0..3 {
        put(&mut queue, number, 0, Class::Due, 0);
    }
    assert!(queue.pop(at(0), true).is_some() && queue.has_room() && !queue.waits_for_room(at(0)));
    assert!(queue.pop(at(0), true).is_some() && queue.waits_for_room(at(0)));
    assert_eq!(queue.pop(at(0), true), None);
    assert_eq!(queue.next_at(true), Some(at(0)), "it has kept its place");
    queue.ended(0);
    assert_eq!(queue.pop(at(0), true).unwrap().name, name(2));
    assert!(!queue.waits_for_room(at(0)), "nobody waits any more");
}

/// The same without any cleverness: a list that is searched.
#[derive(Debug, Default)]
struct Model {
    places: BTreeMap<Name, (Identity, Needs)>,
    running: BTreeMap<Identity, usize>,
    last_turns: BTreeMap<Identity, u64>,
    turns: u64,
}

impl Model {
    fn pop(&mut self, now: Timestamp, asked_too: bool) -> Option<Name> {
        let due = self.places.iter().filter(|(_, (_, needs))| asked_too || needs.of(Class::Asked).is_none());
        let urgencies = due.filter_map(|(name, (identity, needs))| {
            let due = needs.iter().filter(|(_, at)| *at <= now);
            let (urgency, at) = due.map(|(class, at)| (urgency(class, at, now), at)).min()?;
            let running = self.running.get(identity).copied().unwrap_or(0);
            let last_turn = self.last_turns.get(identity).copied().unwrap_or(0);
            Some((urgency, running, last_turn, at, name.clone(), *identity))
        });
        let (.., name, identity) = urgencies.min()?;
        self.places.remove(&name);
        self.turns += 1;
        *self.running.entry(identity).or_default() += 1;
        self.last_turns.insert(identity, self.turns);
        Some(name)
    }

    fn ended(&mut self, identity: Identity) {
        *self.running.get_mut(&identity).unwrap() -= 1;
        self.forget_idle();
    }

    /// Whoever has nothing to wait for has had no turn.
    fn forget_idle(&mut self) {
        let (places, running) = (&self.places, &self.running);
        self.last_turns.retain(|identity, _| {
            running[identity] > 0 || places.values().any(|(other, _)| other == identity)
        });
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize, Identity, Vec<(usize, i64)>),
    Add(usize, usize, i64),
    Remove(usize),
    Pop(bool),
    End(usize),
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let needs = proptest::collection::vec((0..4_usize, 0..400_i64), 1..4);
    prop_oneof![
        3 => (0..12_usize, 0..3_u32, needs).prop_map(|(name, identity, needs)| Step::Put(name, identity, needs)),
        1 => (0..12_usize, 0..4_usize, 0..400_i64).prop_map(|(name, class, at)| Step::Add(name, class, at)),
        1 => (0..12_usize).prop_map(Step::Remove),
        4 => any::<bool>().prop_map(Step::Pop),
        2 => (0..8_usize).prop_map(Step::End),
        2 => (0..100_i64).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn it_does_what_a_search_of_all_would_do(steps in proptest::collection::vec(step(), 0..80)) {
        let (mut queue, mut model) = (Queue::new(100), Model::default());
        let mut running: Vec<Turn> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                // Whoever has a turn is not in the queue.
                Step::Put(number, ..) if running.iter().any(|turn| turn.name == name(number)) => {}
                Step::Put(number, identity, needs) => {
                    let needs = needs.into_iter().fold(Needs::default(), |needs, (class, second)| {
                        needs.with(Class::ALL[class], Some(at(second)))
                    });
                    queue.put(&name(number), identity, needs);
                    model.places.insert(name(number), (identity, needs));
                    model.forget_idle();
                }
                Step::Add(number, class, second) => {
                    let needs = Needs::at(Class::ALL[class], at(second));
                    let place = model.places.get_mut(&name(number));
                    prop_assert_eq!(queue.add(&name(number), needs), place.is_some());
                    if let Some((_, known)) = place {
                        *known = known.and(needs);
                    }
                }
                Step::Remove(number) => {
                    let removed = model.places.remove(&name(number)).map(|(_, needs)| needs);
                    prop_assert_eq!(queue.remove(&name(number)), removed);
                    model.forget_idle();
                }
                Step::Pop(asked_too) => {
                    let turn = queue.pop(at(now), asked_too);
                    let expected = model.pop(at(now), asked_too);
                    prop_assert_eq!(turn.as_ref().map(|turn| &turn.name), expected.as_ref());
                    running.extend(turn);
                }
                Step::End(position) if position < running.len() => {
                    let turn = running.remove(position);
                    queue.ended(turn.identity);
                    model.ended(turn.identity);
                }
                Step::End(_) => {}
                Step::Pass(seconds) => now += seconds,
            }
            let next = model.places.values().filter_map(|(_, needs)| needs.earliest()).min();
            prop_assert_eq!(queue.next_at(true), next);
            prop_assert_eq!(queue.running, running.len());
            let standing = queue.standing(at(now));
            prop_assert_eq!(standing.waiting.iter().sum::<usize>() + standing.scheduled, model.places.len());
        }
    }

    #[test]
    fn everything_is_popped_once_and_nothing_before_it_is_due(
        needs in proptest::collection::vec((0..4_usize, 0..1000_i64, 0..5_u32), 0..60),
    ) {
        let mut queue = Queue::new(100);
        for (number, (class, second, identity)) in needs.iter().enumerate() {
            put(&mut queue, number, *identity, Class::ALL[*class], *second);
        }
        let mut popped = BTreeSet::new();
        for now in 0..1000 {
            for name in drained(&mut queue, now) {
                prop_assert!(popped.insert(name));
            }
            let due = needs.iter().filter(|(_, second, _)| *second <= now).count();
            prop_assert_eq!(popped.len(), due);
        }
        prop_assert!(queue.lines.is_empty() && queue.places.is_empty());
    }

    /// There is room for one turn a second, and every second something is pushed that is more urgent, by as many
    /// identities as there are.
    #[test]
    fn whatever_else_is_pushed_everything_has_its_turn(class in 1..4_usize, identities in 1..6_u32, own in 0..6_u32) {
        let mut queue = Queue::new(100);
        put(&mut queue, 0, own, Class::ALL[class], 0);
        let mut number = 1;
        let waited = (0..1000).find(|now| {
            for identity in 0..identities {
                put(&mut queue, number, identity, Class::New, *now);
                number += 1;
            }
            let turn = queue.pop(at(*now), true).unwrap();
            queue.ended(turn.identity);
            turn.name == name(0)
        });
        // Until it has climbed, and then until its identity has its turn.
        let longest = 60 * (i64::try_from(class).unwrap() - 1) + i64::from(identities) + 1;
        prop_assert!(waited.is_some_and(|waited| waited <= longest), "{waited:?}");
    }
}
