use std::collections::{BTreeMap, VecDeque};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::cache::history::ChangeId;
use crate::warmer::{Cause, ChangeKind};

fn happening(repository: usize, generation: u64, number: u64) -> Arc<Happening> {
    let event = Event {
        id: ChangeId { generation, number },
        kind: ChangeKind::TagMoved,
        tag: Some("v1".parse().unwrap()),
        old: None,
        new: None,
        at: Timestamp::UNIX_EPOCH,
        cause: Cause::Poll,
    };
    Happening::of(format!("ghcr.io/team/{repository}").parse().unwrap(), event)
}

#[test]
fn a_change_is_the_object_of_the_history_with_its_name() {
    let happening = happening(1, 17, 9);
    let framed = happening.framed(&Position::at(16));
    assert_eq!(
        std::str::from_utf8(&framed).unwrap(),
        "id: 10\nevent: tag.moved\ndata: {\"name\":\"ghcr.io/team/1\",\"id\":\"17.9\",\"type\":\"tag.moved\",\"tag\":\"v1\",\"at\":\"1970-01-01T00:00:00Z\",\"cause\":\"poll\"}\n\n"
    );
    assert_eq!(
        reset(&Position::at(16), Some(&happening.name)),
        "id: 10\nevent: reset\ndata: {\"name\":\"ghcr.io/team/1\"}\n\n"
    );
}

/// One replica: what it has told, and what of the others' changes it has yet to find.
struct Replica {
    state: State,
    frames: broadcast::Sender<Arc<Frame>>,
    told: BTreeMap<Name, u64>,
    to_find: VecDeque<(u64, Arc<Happening>)>,
}

/// Changes, two replicas, and one client that goes from one to the other.
struct World {
    now: u64,
    log: Vec<Arc<Happening>>,
    next: BTreeMap<usize, (u64, u64)>,
    replicas: [Replica; 2],
    client: Option<Following>,
    /// What the client sends of what it has heard.
    id: Option<String>,
    heard: Vec<(Name, ChangeId)>,
}

impl Replica {
    fn start(log: &[Arc<Happening>]) -> Self {
        let state = State { position: Position::default(), backlog: None };
        let told =
            log.iter().map(|happening| (happening.name.clone(), happening.event.id.generation)).collect();
        Self { state, frames: broadcast::Sender::new(MOST_FRAMES_KEPT), told, to_find: VecDeque::new() }
    }

    fn tell(&mut self, happening: &Arc<Happening>, now: u64) {
        self.state.position.advance(now.saturating_sub(millis(BEHIND)));
        self.told.insert(happening.name.clone(), happening.event.id.generation);
        let frame = self.state.tell(Arc::clone(happening));
        let _ = self.frames.send(Arc::new(frame));
    }

    fn find(&mut self, now: u64) {
        while self.to_find.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, happening)) = self.to_find.pop_front()
        {
            self.tell(&happening, now);
        }
    }
}

impl Replica {
    /// Who publishes tells first what others have published before.
    fn find_all_of(&mut self, name: &Name, now: u64) {
        let (of_it, others): (Vec<_>, Vec<_>) =
            self.to_find.drain(..).partition(|(_, happening)| happening.name == *name);
        self.to_find = others.into();
        for (_, happening) in &of_it {
            self.tell(happening, now);
        }
    }
}

impl World {
    fn new() -> Self {
        let replicas = [Replica::start(&[]), Replica::start(&[])];
        let now = 1_795_000_000_000;
        Self {
            now,
            log: Vec::new(),
            next: BTreeMap::new(),
            replicas,
            client: None,
            id: None,
            heard: Vec::new(),
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        for replica in &mut self.replicas {
            replica.find(self.now);
        }
    }

    /// The repository changes, so many times at once, by one replica; the other finds it after a delay.
    fn change(&mut self, repository: usize, times: u64, by: usize, delay: u64) {
        let (before, number) = self.next.get(&repository).copied().unwrap_or_default();
        let generation = self.now.max(before + 1);
        self.next.insert(repository, (generation, number + times));
        for number in number..number + times {
            let happening = happening(repository, generation, number);
            self.log.push(Arc::clone(&happening));
            let other = &mut self.replicas[1 - by].to_find;
            // A repository's changes are found in their order.
            let at = (self.now + delay).max(other.back().map_or(0, |(at, _)| *at));
            other.push_back((at, Arc::clone(&happening)));
            self.replicas[by].find_all_of(&happening.name, self.now);
            self.replicas[by].tell(&happening, self.now);
        }
    }

    fn connect(&mut self, to: usize) {
        let replica = &mut self.replicas[to];
        let settled = self.now.saturating_sub(millis(BEHIND));
        replica.state.position.advance(settled);
        let from: Option<Position> = self.id.as_deref().map(|id| id.parse().unwrap());
        let since = self.now - millis(USUAL_BACK);
        if replica.state.backlog.is_none() {
            let mut read = Backlog::of_all(since);
            for happening in &self.log {
                read.add(Arc::clone(happening), false);
            }
            let told = replica.told.clone();
            replica.state.remember(read, |name| told.get(name).copied().unwrap_or(0));
        }
        self.client = Some(match from {
            Some(from) => replica.state.resume(from, settled, true, replica.frames.subscribe()),
            None => Following::new(replica.state.position.clone(), replica.frames.subscribe()),
        });
    }

    /// Reads so many steps, as far as there are some.
    fn read(&mut self, steps: usize) {
        for _ in 0..steps {
            let Some(step) = self.client.as_mut().and_then(|client| client.next().now_or_never()) else {
                return;
            };
            let framed = match step.unwrap() {
                Step::Changed(happening, framed) => {
                    self.heard.push((happening.name.clone(), happening.event.id));
                    framed
                }
                Step::Beat(framed) => framed,
                Step::Reset(name, _) => panic!("a reset of {name:?}"),
            };
            let text = std::str::from_utf8(&framed).unwrap();
            self.id = text.lines().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
        }
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Pass(u64),
    Change { repository: usize, times: u64, by: usize, delay: u64 },
    Connect(usize),
    Read(usize),
    Restart(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        (0..40_000_u64).prop_map(Deed::Pass),
        (0..4_usize, 1..3_u64, 0..2_usize, 0..15_000_u64)
            .prop_map(|(repository, times, by, delay)| Deed::Change { repository, times, by, delay }),
        (0..2_usize).prop_map(Deed::Connect),
        (1..6_usize).prop_map(Deed::Read),
        (0..2_usize).prop_map(Deed::Restart),
    ]
}

#[test]
fn who_may_not_know_of_all_is_told_nothing_of_the_others_not_even_in_ids() {
    let mut world = World::new();
    world.connect(0);
    world.pass(70_000);
    world.change(0, 1, 0, 0);
    let secret = format!("{:x}", Mark::of(&"ghcr.io/team/1".parse().unwrap()));
    world.change(1, 1, 0, 0);
    world.connect(0);
    world.client = world.client.take().map(|client| client.only(|name| !name.as_str().ends_with("/1")));
    world.change(1, 1, 0, 0);
    world.change(2, 1, 0, 0);
    while let Some(Some(step)) = world.client.as_mut().unwrap().next().now_or_never() {
        let (Step::Changed(_, framed) | Step::Reset(_, framed) | Step::Beat(framed)) = step;
        let text = std::str::from_utf8(&framed).unwrap();
        assert!(!text.contains("team/1") && !text.contains(&secret), "{text}");
        world.id = text.lines().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
    }
    let mark = Mark::of(&"ghcr.io/team/2".parse().unwrap());
    let id: Position = world.id.unwrap().parse().unwrap();
    assert!(id.covers(mark, world.log.last().unwrap().event.id), "what it was told is in them");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whichever replica a client comes back to, and however soon: every change once, in its repository's order.
    #[test]
    fn a_client_that_comes_and_goes_hears_every_change_once(deeds in prop::collection::vec(deed(), 1..60)) {
        let mut world = World::new();
        world.connect(0);
        world.read(1);
        for deed in deeds {
            match deed {
                Deed::Pass(milliseconds) => world.pass(milliseconds),
                Deed::Change { repository, times, by, delay } => world.change(repository, times, by, delay),
                Deed::Connect(to) => world.connect(to),
                Deed::Read(steps) => world.read(steps),
                Deed::Restart(which) => {
                    world.replicas[which] = Replica::start(&world.log);
                    world.client = None;
                }
            }
        }
        world.connect(1);
        world.read(usize::from(u16::MAX));
        world.pass(20_000);
        world.read(usize::from(u16::MAX));
        for repository in 0..4 {
            let name: Name = format!("ghcr.io/team/{repository}").parse().unwrap();
            let of = |all: &mut dyn Iterator<Item = (Name, ChangeId)>| {
                all.filter(|(named, _)| *named == name).map(|(_, id)| id).collect::<Vec<_>>()
            };
            let happened = of(&mut world.log.iter().map(|happening| (happening.name.clone(), happening.event.id)));
            prop_assert_eq!(of(&mut world.heard.iter().cloned()), happened, "{}", repository);
        }
    }
}
