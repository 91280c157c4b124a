use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::cache::history::{Cause, Event};

const HOST: &str = "ghcr.io";
const DAY: Duration = Duration::from_hours(24);

fn happening(repository: usize, generation: u64) -> Arc<Happening> {
    let event = Event {
        id: ChangeId { generation, number: generation },
        kind: ChangeKind::TagMoved,
        tag: Some("v1".parse().unwrap()),
        old: None,
        new: None,
        at: Timestamp::from_millisecond(i64::try_from(generation).unwrap()).unwrap(),
        cause: Cause::Poll,
    };
    Happening::of(format!("{HOST}/team/{repository}").parse().unwrap(), event)
}

fn queue(happenings: &[(usize, u64)]) -> Queue {
    let mut queue = Queue::default();
    let since =
        happenings.iter().map(|(repository, generation)| happening(*repository, *generation)).collect();
    queue.take_over(HOST, Position::at(10), VecDeque::new(), since);
    queue
}

fn id(happening: &Happening) -> u64 {
    happening.event.id.generation
}

fn failed(asked: Option<Duration>) -> Outcome {
    Outcome::Failed("it answered 503".into(), asked)
}

/// A delivery ends at this moment, with no mercy of chance.
fn end(queue: &mut Queue, happening: &Happening, outcome: &Outcome, now: Instant) -> Verdict {
    queue.ended(happening, outcome, DAY, (now, Timestamp::UNIX_EPOCH), 1.0)
}

#[test]
fn repositories_go_side_by_side_and_each_in_order() {
    let now = Instant::now();
    let mut queue = queue(&[(0, 11), (0, 12), (1, 13), (2, 9), (0, 12)]);
    assert_eq!(queue.pending(), 3, "what was told before, and what is there already, is not added");
    let (first, second) = (queue.next(now).unwrap(), queue.next(now).unwrap());
    assert_eq!((id(&first), id(&second)), (11, 13));
    assert!(queue.next(now).is_none(), "12 waits for 11");
    assert_eq!(end(&mut queue, &first, &Outcome::Delivered, now), Verdict::Sent);
    assert_eq!(id(&queue.next(now).unwrap()), 12);
}

#[test]
fn a_failure_holds_up_its_repository_and_for_a_moment_the_receiver() {
    let now = Instant::now();
    let mut queue = queue(&[(0, 11), (0, 12), (1, 13), (1, 14)]);
    let (first, second) = (queue.next(now).unwrap(), queue.next(now).unwrap());
    assert_eq!(end(&mut queue, &first, &failed(None), now), Verdict::Retried);
    end(&mut queue, &second, &failed(None), now);
    assert!(queue.next(now).is_none());
    let wake = queue.wake_at().unwrap();
    assert!((2..=4).contains(&(wake - now).as_secs()), "{:?}", wake - now);
    let again = queue.next(wake).unwrap();
    assert_eq!(id(&again), 11);
    assert!(queue.next(wake).is_none(), "one alone tries");
    end(&mut queue, &again, &Outcome::Delivered, wake);
    assert_eq!([queue.next(wake), queue.next(wake)].map(|next| id(&next.unwrap())), [12, 13]);
}

#[test]
fn a_pause_that_the_receiver_asks_for_is_kept_within_reason() {
    for (asked, kept) in [(7, 7), (100_000, 3600)] {
        let now = Instant::now();
        let mut queue = queue(&[(0, 11), (1, 12)]);
        let first = queue.next(now).unwrap();
        end(&mut queue, &first, &failed(Some(Duration::from_secs(asked))), now);
        assert_eq!(queue.wake_at(), Some(now + Duration::from_secs(kept)));
        assert!(queue.next(now + Duration::from_secs(kept - 1)).is_none());
        assert!(queue.next(now + Duration::from_secs(kept)).is_some());
    }
}

#[test]
fn pauses_grow_to_a_bound_and_are_drawn_at_random() {
    let longest: Vec<u64> = (1..12).map(|failures| pause(failures, 1.0).as_secs()).collect();
    assert_eq!(longest, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    assert_eq!(pause(3, 0.25), Duration::from_secs(2));
    assert_eq!(pause(u32::MAX, 0.0), Duration::ZERO);
}

#[test]
fn what_is_refused_or_fails_for_too_long_is_given_up_with_the_reason() {
    let now = Instant::now();
    let mut queue = queue(&[(0, 11), (0, 12), (0, 13)]);
    let first = queue.next(now).unwrap();
    assert_eq!(
        end(&mut queue, &first, &Outcome::Refused("it answered 410 Gone".into()), now),
        Verdict::GivenUp
    );
    let second = queue.next(now).unwrap();
    assert_eq!(end(&mut queue, &second, &failed(None), now), Verdict::Retried);
    let later = now + DAY;
    let second = queue.next(later).unwrap();
    assert_eq!(end(&mut queue, &second, &failed(None), later), Verdict::GivenUp);
    let dead = queue.dead();
    let reasons: Vec<_> = dead.iter().map(|dead| (dead.id.unwrap().generation, &*dead.reason)).collect();
    assert_eq!(reasons, [(11, "it answered 410 Gone"), (12, "it answered 503")]);
    assert_eq!(id(&queue.next(later + Duration::from_mins(5)).unwrap()), 13, "what comes after it goes on");
}

#[test]
fn only_so_many_dead_letters_are_kept() {
    let mut queue = queue(&[]);
    for number in 0..2 * MOST_DEAD_LETTERS as u64 {
        queue.add(happening(0, 11 + number));
        let next = queue.next(Instant::now()).unwrap();
        end(&mut queue, &next, &Outcome::Refused("no".into()), Instant::now());
    }
    let dead = queue.dead();
    assert_eq!(dead.len(), MOST_DEAD_LETTERS);
    assert_eq!(dead[0].id.unwrap().generation, 11 + MOST_DEAD_LETTERS as u64);
    let (told, dead) = queue.place(HOST).unwrap();
    let place = Place { position: told.to_string(), dead };
    let stored: Place = stored_and_read(&place);
    assert_eq!(stored, place);
    let without_dead: Place = stored_and_read(&serde_json::json!({ "position": "b" }));
    assert_eq!(without_dead.position, "b");
}

fn stored_and_read<T: serde::de::DeserializeOwned>(value: &impl Serialize) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

#[test]
fn what_is_too_much_stays_in_the_store_and_is_read_when_there_is_room() {
    let since: Vec<(usize, u64)> = (0..MOST_PENDING as u64 + 5).map(|number| (0, 11 + number)).collect();
    let mut queue = queue(&since);
    assert_eq!(queue.pending(), MOST_PENDING);
    queue.settle(1 << 40);
    assert_eq!(queue.to_read_again(), [] as [&str; 0]);
    while let Some(next) = queue.next(Instant::now()) {
        end(&mut queue, &next, &Outcome::Delivered, Instant::now());
    }
    assert_eq!(queue.to_read_again(), [HOST]);
    queue.settle(1 << 40);
    let (told, _) = queue.place(HOST).unwrap();
    let last = happening(0, 11 + MOST_PENDING as u64 + 4);
    assert!(!told.covers(last.mark, last.event.id), "what is not held is not taken for told");
}

#[test]
fn another_replicas_host_is_no_concern_of_ours() {
    let now = Instant::now();
    let mut queue = queue(&[(0, 11)]);
    let first = queue.next(now).unwrap();
    queue.let_go(HOST);
    end(&mut queue, &first, &failed(None), now);
    queue.add(happening(0, 12));
    assert_eq!((queue.pending(), queue.hosts().count()), (0, 0));
    queue.paused_until = None;
    assert!(queue.next(now).is_none());
}

#[derive(Debug, Clone)]
enum Deed {
    Add(usize),
    Begin,
    End(bool),
    Settle,
    /// A crash: what the store was last told counts, and what it holds.
    Crash,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (0..4_usize).prop_map(Deed::Add),
        3 => Just(Deed::Begin),
        3 => any::<bool>().prop_map(Deed::End),
        1 => Just(Deed::Settle),
        1 => Just(Deed::Crash),
    ]
}

proptest! {
    /// Whatever fails and crashes: everything is delivered, and a repository's changes in order, but for what is delivered again.
    #[test]
    fn everything_is_delivered_at_least_once_and_in_order(deeds in prop::collection::vec(deed(), 1..80)) {
        let (mut now, mut generation) = (Instant::now(), 10);
        let (mut all, mut delivered): (Vec<Arc<Happening>>, Vec<Arc<Happening>>) = (Vec::new(), Vec::new());
        let mut queue = queue(&[]);
        let mut under_way: Vec<Arc<Happening>> = Vec::new();
        for deed in deeds.into_iter().chain((0..400).flat_map(|_| [Deed::Begin, Deed::End(true)])) {
            match deed {
                Deed::Add(repository) => {
                    generation += 1;
                    all.push(happening(repository, generation));
                    queue.add(happening(repository, generation));
                }
                Deed::Begin => under_way.extend(queue.next(now)),
                Deed::End(well) if !under_way.is_empty() => {
                    let happening = under_way.remove(0);
                    let outcome = if well { Outcome::Delivered } else { failed(None) };
                    if well {
                        delivered.push(Arc::clone(&happening));
                    }
                    end(&mut queue, &happening, &outcome, now);
                }
                Deed::End(_) => now += Duration::from_mins(5),
                Deed::Settle => queue.settle(generation),
                Deed::Crash => {
                    let (told, dead) = queue.place(HOST).unwrap();
                    queue = Queue::default();
                    under_way.clear();
                    queue.take_over(HOST, told.to_string().parse().unwrap(), dead, all.clone());
                }
            }
        }
        for repository in 0..4 {
            let of = |all: &[Arc<Happening>]| -> Vec<u64> {
                let name = happening(repository, 1).name.clone();
                all.iter().filter(|happening| happening.name == name).map(|happening| id(happening)).collect()
            };
            // The first time that each came.
            let mut firsts = of(&delivered);
            let mut seen = BTreeSet::new();
            firsts.retain(|id| seen.insert(*id));
            prop_assert_eq!(firsts, of(&all));
        }
        prop_assert_eq!(queue.pending(), 0);
    }
}
