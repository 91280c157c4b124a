//! Which repository of a lane is next: one entry for each, with when it needs what. The deadlines of tags stay with their
//! repositories, so that millions of tags cost the queue nothing.
//!
//! Nothing is asked, stored or waited for in here, and the time is told:
//! - **Class before deadline**: what somebody asked for, then tags that were never looked at, then those that are to be
//!   looked at again, then lists.
//! - **Ageing**: for every minute that something has been due it counts as one class more urgent, though never as asked for.
//!   So whatever else is due, everything has its turn.
//! - **Turns**: among what is equally urgent, the identity with the fewest passes running goes first, then the one whose last
//!   turn is longest ago. Within an identity the earliest deadline goes first, and at the same time the first by name.
//! - A repository is in the queue once, or has a pass running.

mod needs;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::Name;

pub use needs::Class;
pub(super) use needs::Needs;

/// Whatever has been due for this long counts as one class more urgent.
const CLIMBS_EVERY: Duration = Duration::from_mins(1);

/// As whom a registry is asked: a number for each set of credentials.
pub(super) type Identity = u32;

/// The repositories of one lane that wait for their turn.
#[derive(Debug)]
pub(super) struct Queue {
    /// How many turns there may be at once.
    room: usize,
    places: HashMap<Name, Place>,
    /// By identity. One without repositories that wait or are worked on has none.
    lines: BTreeMap<Identity, Line>,
    /// How many turns were given.
    turns: u64,
    /// How many of them are not over.
    running: usize,
}

#[derive(Debug)]
struct Place {
    identity: Identity,
    needs: Needs,
}

/// The repositories of one identity.
#[derive(Debug, Default)]
struct Line {
    /// For each class, who needs something of it and when.
    waiting: [BTreeSet<(Timestamp, Name)>; Class::ALL.len()],
    running: usize,
    last_turn: u64,
}

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) name: Name,
    /// The most urgent of what is due.
    pub(super) class: Class,
    pub(super) identity: Identity,
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStanding {
    waiting: [usize; Class::ALL.len()],
    /// Repositories that need nothing yet.
    pub scheduled: usize,
    /// For how long whatever is due has been waiting at most.
    pub longest_wait: Duration,
}

impl QueueStanding {
    /// Repositories that are due and wait for their turn with something of this class as the most urgent.
    pub fn of(&self, class: Class) -> usize {
        self.waiting[class.index()]
    }

    /// All repositories that are due and wait for their turn.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().sum()
    }
}

/// A queue that its lane, the passes and the doors look at. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct SharedQueue(Arc<Mutex<Queue>>);

impl SharedQueue {
    /// An empty queue for so many turns at once.
    pub(super) fn new(room: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue::new(room))))
    }

    /// The queue, for a moment: never held across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn new(room: usize) -> Self {
        Self { room, places: HashMap::new(), lines: BTreeMap::new(), turns: 0, running: 0 }
    }

    /// Takes in a repository, or gives one that is in another place.
    pub(super) fn put(&mut self, name: &Name, identity: Identity, needs: Needs) {
        let before = self.take_out(name);
        let line = self.lines.entry(identity).or_default();
        for (class, at) in needs.iter() {
            line.waiting[class.index()].insert((at, name.clone()));
        }
        self.places.insert(name.clone(), Place { identity, needs });
        // Only now: an identity that had a turn keeps its place among the others.
        if let Some(before) = before {
            self.drop_if_idle(before.identity);
        }
    }

    /// A repository that is in the queue needs this as well. Says whether it is.
    pub(super) fn add(&mut self, name: &Name, needs: Needs) -> bool {
        let Some(place) = self.places.get(name) else { return false };
        let (identity, merged) = (place.identity, place.needs.and(needs));
        if merged != place.needs {
            self.put(name, identity, merged);
        }
        true
    }

    /// Takes out a repository, and says what it needs.
    pub(super) fn remove(&mut self, name: &Name) -> Option<Needs> {
        let Place { identity, needs } = self.take_out(name)?;
        self.drop_if_idle(identity);
        Some(needs)
    }

    fn take_out(&mut self, name: &Name) -> Option<Place> {
        let place = self.places.remove(name)?;
        if let Some(line) = self.lines.get_mut(&place.identity) {
            for (class, at) in place.needs.iter() {
                line.waiting[class.index()].remove(&(at, name.clone()));
            }
        }
        Some(place)
    }

    /// Gives a turn to whoever is next, if anything is due and there is room: it is taken out, and its turn goes on until
    /// [`Queue::comes_back`] or [`Queue::ended`]. With `asked_too` unset, those that somebody asked for are passed over.
    pub(super) fn pop(&mut self, now: Timestamp, asked_too: bool) -> Option<Turn> {
        if !self.has_room() {
            return None;
        }
        let firsts = self.lines.iter().filter_map(|(identity, line)| {
            let (urgency, at, name) = self.first_of(line, now, asked_too)?;
            Some((urgency, line.running, line.last_turn, at, name, *identity))
        });
        let (.., name, identity) = firsts.min()?;
        let name = name.clone();
        let class = self.places.get(&name)?.needs.due(now)?;
        self.turns += 1;
        self.running += 1;
        let line = self.lines.get_mut(&identity)?;
        line.running += 1;
        line.last_turn = self.turns;
        self.remove(&name);
        Some(Turn { name, class, identity })
    }

    /// A turn that was given to `had_turn` is over, and the repository waits for the next one.
    pub(super) fn comes_back(&mut self, had_turn: Identity, name: &Name, identity: Identity, needs: Needs) {
        self.put(name, identity, needs);
        self.ended(had_turn);
    }

    /// A turn that was given to this identity is over.
    pub(super) fn ended(&mut self, identity: Identity) {
        self.running -= 1;
        if let Some(line) = self.lines.get_mut(&identity) {
            line.running -= 1;
        }
        self.drop_if_idle(identity);
    }

    /// When the first of those is due that [`Queue::pop`] would give a turn; `None`: never.
    pub(super) fn next_at(&self, asked_too: bool) -> Option<Timestamp> {
        let firsts = self.lines.values().flat_map(|line| {
            let of_class = move |class| self.first_of_class(line, class, asked_too);
            Class::ALL.into_iter().filter_map(of_class)
        });
        firsts.map(|(at, _)| *at).min()
    }

    /// Whether there is room for another turn.
    pub(super) fn has_room(&self) -> bool {
        self.running < self.room
    }

    /// Whether anybody waits for the end of another turn.
    pub(super) fn waits_for_room(&self, now: Timestamp) -> bool {
        !self.has_room() && self.next_at(true).is_some_and(|next| next <= now)
    }

    /// Whether somebody asked for what waits for a turn now.
    pub(super) fn is_asked_for_due(&self, now: Timestamp) -> bool {
        let mut firsts = self.lines.values().filter_map(|line| line.waiting[Class::Asked.index()].first());
        firsts.any(|(at, _)| *at <= now)
    }

    /// How many wait for what, and for how long.
    pub(super) fn standing(&self, now: Timestamp) -> QueueStanding {
        let mut standing = QueueStanding::default();
        for place in self.places.values() {
            match place.needs.due(now) {
                Some(class) => standing.waiting[class.index()] += 1,
                None => standing.scheduled += 1,
            }
        }
        let age = self.next_at(true).map(|at| age(at, now));
        standing.longest_wait = age.unwrap_or_default();
        standing
    }

    /// The first of a line: how urgent it is, since when it is due, and its name.
    fn first_of<'a>(
        &self,
        line: &'a Line,
        now: Timestamp,
        asked_too: bool,
    ) -> Option<(usize, Timestamp, &'a Name)> {
        // Of a class the earliest deadline is the most urgent one.
        let firsts = Class::ALL.into_iter().filter_map(|class| {
            let (at, name) = self.first_of_class(line, class, asked_too)?;
            (*at <= now).then(|| (urgency(class, *at, now), *at, name))
        });
        firsts.min()
    }

    fn first_of_class<'a>(
        &self,
        line: &'a Line,
        class: Class,
        asked_too: bool,
    ) -> Option<&'a (Timestamp, Name)> {
        let set = &line.waiting[class.index()];
        match (asked_too, class) {
            (true, _) => set.first(),
            (false, Class::Asked) => None,
            (false, _) => set.iter().find(|(_, name)| !self.is_asked_for(name)),
        }
    }

    fn is_asked_for(&self, name: &Name) -> bool {
        self.places.get(name).is_some_and(|place| place.needs.of(Class::Asked).is_some())
    }

    fn drop_if_idle(&mut self, identity: Identity) {
        let is_idle = |line: &Line| line.running == 0 && line.waiting.iter().all(BTreeSet::is_empty);
        if self.lines.get(&identity).is_some_and(is_idle) {
            self.lines.remove(&identity);
        }
    }
}

/// How urgent it is now what has been due since `at`: 0 for what was asked for.
fn urgency(class: Class, at: Timestamp, now: Timestamp) -> usize {
    let climbed = age(at, now).as_secs() / CLIMBS_EVERY.as_secs();
    let climbed = usize::try_from(climbed).unwrap_or(usize::MAX);
    class.index().saturating_sub(climbed).max(class.index().min(Class::New.index()))
}

fn age(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
