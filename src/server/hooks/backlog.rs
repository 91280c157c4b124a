//! Hints on their way to the warmer: those that it has no room for wait here, and those that it has taken are passed on to
//! who follows them until what they tell of can be seen.
//!
//! In memory alone: what is lost with the process, the schedule finds out.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use samovar_registry::{Name, Tag};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::warmer::{Handle, RequestRefused, Ticket};

/// Hints that wait because the warmer has no room for more requests.
pub(super) const MOST_HINTS_WAITING: usize = 10_000;
/// Hints that are followed at once until what they tell of can be seen; others are taken all the same.
pub(super) const MOST_HINTS_FOLLOWED: usize = 1_000;

/// A list is looked at when so much time has gone since something was said to be gone from it: registries say so before
/// they have taken it out, and many such things are said together.
const LIST_AFTER: Duration = Duration::from_secs(1);

/// What to ask the warmer for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) name: Name,
    pub(super) look_at: LookAt,
}

/// What of a repository is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum LookAt {
    /// One tag.
    Tag(Tag),
    /// The list of tags.
    List,
    /// The list and every tag: any of them may be meant.
    Everything,
}

/// Something that a delivery told of.
#[derive(Debug, Clone)]
pub(super) struct Hinted {
    /// The receiver, by its place.
    pub(super) receiver: usize,
    pub(super) told_at: Instant,
    pub(super) wanted: Wanted,
    /// How often it was looked at already.
    pub(super) looks: usize,
}

impl Hinted {
    /// Whether it is too early for it.
    fn is_early(&self) -> bool {
        self.wanted.look_at == LookAt::List && self.told_at.elapsed() < LIST_AFTER
    }
}

/// The warmer has taken it.
#[derive(Debug)]
pub(super) struct Taken<T = Ticket> {
    pub(super) hinted: Hinted,
    pub(super) ticket: T,
}

/// There is no room for a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// Whatever gives hints to the warmer: [`Handle`], or a test's own.
pub(super) trait Warming {
    /// Tells when what was asked for can be seen.
    type Ticket;

    /// Whether the repository is watched.
    fn is_watched(&self, name: &Name) -> bool;

    /// Asks for a refresh.
    fn hint(&self, wanted: &Wanted) -> Result<Self::Ticket, RequestRefused>;
}

impl Warming for Handle {
    type Ticket = Ticket;

    fn is_watched(&self, name: &Name) -> bool {
        Self::is_watched(self, name)
    }

    fn hint(&self, wanted: &Wanted) -> Result<Ticket, RequestRefused> {
        let Wanted { name, look_at } = wanted;
        match look_at {
            LookAt::Tag(tag) => Self::hint(self, name, Some(tag.clone())),
            LookAt::List => self.hint_list(name),
            LookAt::Everything => Self::hint(self, name, None),
        }
    }
}

/// The hints that wait.
#[derive(Debug)]
pub(super) struct Backlog<T = Ticket> {
    waiting: Mutex<Waiting>,
    taken: mpsc::Sender<Taken<T>>,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Hinted>,
    /// What is in the queue.
    known: HashSet<Wanted>,
}

impl<T> Backlog<T> {
    /// An empty one, and where to hear of what was taken.
    pub(super) fn new() -> (Self, mpsc::Receiver<Taken<T>>) {
        let (taken, followed) = mpsc::channel(MOST_HINTS_FOLLOWED);
        (Self { waiting: Mutex::default(), taken }, followed)
    }

    /// Gives what a delivery told of to the warmer, or to the queue before it; all of it or nothing. Says how much of it is
    /// watched. Never waits.
    pub(super) fn take(
        &self,
        warmer: &impl Warming<Ticket = T>,
        receiver: usize,
        told: Vec<Wanted>,
    ) -> Result<usize, Full> {
        let told_at = Instant::now();
        let mut waiting = self.waiting();
        if waiting.queue.len() + told.len() > MOST_HINTS_WAITING {
            return Err(Full);
        }
        let hinted = told.into_iter().map(|wanted| Hinted { receiver, told_at, wanted, looks: 0 });
        Ok(hinted.filter(|hinted| self.give(warmer, hinted.clone(), &mut waiting)).count())
    }

    /// The same of something that is to be looked at once more. Where there is no room it is not.
    pub(super) fn take_again(&self, warmer: &impl Warming<Ticket = T>, hinted: Hinted) {
        let mut waiting = self.waiting();
        if waiting.queue.len() < MOST_HINTS_WAITING {
            self.give(warmer, hinted, &mut waiting);
        }
    }

    /// Gives to the warmer what it has room for by now. A host whose requests are too many holds up no other.
    pub(super) fn go_on(&self, warmer: &impl Warming<Ticket = T>) {
        let mut waiting = self.waiting();
        let mut busy: HashSet<String> = HashSet::new();
        for hinted in waiting.take() {
            let host = hinted.wanted.name.host();
            if hinted.is_early() || busy.contains(host) {
                waiting.add(hinted);
                continue;
            }
            let (host, before) = (host.to_owned(), waiting.queue.len());
            self.give(warmer, hinted, &mut waiting);
            if waiting.queue.len() > before {
                busy.insert(host);
            }
        }
    }

    /// Gives it to the warmer, or where that has no room, to those that wait. Says whether it is watched.
    fn give(&self, warmer: &impl Warming<Ticket = T>, hinted: Hinted, waiting: &mut Waiting) -> bool {
        if hinted.is_early() {
            let is_watched = warmer.is_watched(&hinted.wanted.name);
            if is_watched {
                waiting.add(hinted);
            }
            return is_watched;
        }
        match warmer.hint(&hinted.wanted) {
            // Too many are followed already, or nobody follows any more.
            Ok(ticket) => drop(self.taken.try_send(Taken { hinted, ticket })),
            Err(RequestRefused::Busy) => waiting.add(hinted),
            Err(RequestRefused::NotWatched) => return false,
        }
        true
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting().queue.len()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, hinted: Hinted) {
        if self.known.insert(hinted.wanted.clone()) {
            self.queue.push_back(hinted);
        }
    }

    fn take(&mut self) -> VecDeque<Hinted> {
        self.known.clear();
        std::mem::take(&mut self.queue)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Has room for so many requests of each host, and watches one repository of each.
    #[derive(Default)]
    struct Crowded {
        room: usize,
        taken: RefCell<Vec<Wanted>>,
    }

    impl Warming for Crowded {
        type Ticket = ();

        fn is_watched(&self, name: &Name) -> bool {
            name.path() == "team/app"
        }

        fn hint(&self, wanted: &Wanted) -> Result<(), RequestRefused> {
            if !self.is_watched(&wanted.name) {
                return Err(RequestRefused::NotWatched);
            }
            let mut taken = self.taken.borrow_mut();
            let of_host = taken.iter().filter(|other| other.name.host() == wanted.name.host()).count();
            if of_host >= self.room {
                return Err(RequestRefused::Busy);
            }
            taken.push(wanted.clone());
            Ok(())
        }
    }

    fn wanted(host: &str, tag: usize) -> Wanted {
        let name = format!("{host}/team/app").parse().unwrap();
        Wanted { name, look_at: LookAt::Tag(format!("v{tag}").parse().unwrap()) }
    }

    #[test]
    fn what_there_is_no_room_for_waits_and_a_full_host_holds_up_no_other() {
        let (backlog, mut taken) = Backlog::new();
        let mut warmer = Crowded { room: 2, ..Crowded::default() };
        let told = || (0..5).map(|tag| wanted("a.example", tag)).collect();
        assert_eq!(backlog.take(&warmer, 0, told()), Ok(5));
        assert_eq!((backlog.len(), warmer.taken.borrow().len()), (3, 2));
        // What waits already waits once.
        assert_eq!(backlog.take(&warmer, 0, told()), Ok(5));
        assert_eq!(backlog.len(), 5, "with those two that the warmer has begun meanwhile");
        assert_eq!(backlog.take(&warmer, 1, vec![wanted("b.example", 0)]), Ok(1));
        assert_eq!((backlog.len(), warmer.taken.borrow().len()), (5, 3));

        warmer.room = 4;
        backlog.go_on(&warmer);
        assert_eq!((backlog.len(), warmer.taken.borrow().len()), (3, 5));
        warmer.room = 100;
        backlog.go_on(&warmer);
        assert_eq!((backlog.len(), warmer.taken.borrow().len()), (0, 8));
        let receivers: Vec<usize> =
            std::iter::from_fn(|| taken.try_recv().ok()).map(|taken| taken.hinted.receiver).collect();
        assert_eq!(receivers, [0, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_looked_at_once_a_little_later() {
        let (backlog, _taken) = Backlog::new();
        let warmer = Crowded { room: 100, ..Crowded::default() };
        let list = |name: &str| Wanted { name: name.parse().unwrap(), look_at: LookAt::List };
        for _ in 0..50 {
            assert_eq!(
                backlog.take(&warmer, 0, vec![list("a.example/team/app"), list("a.example/other")]),
                Ok(1)
            );
            tokio::time::advance(LIST_AFTER / 100).await;
            backlog.go_on(&warmer);
        }
        assert_eq!((backlog.len(), warmer.taken.borrow().len()), (1, 0));
        tokio::time::advance(LIST_AFTER / 2).await;
        backlog.go_on(&warmer);
        assert_eq!((backlog.len(), warmer.taken.borrow().len()), (0, 1));
    }

    #[test]
    fn what_nobody_watches_is_passed_over_and_what_is_too_much_refused_as_a_whole() {
        let (backlog, _taken) = Backlog::new();
        let warmer = Crowded::default();
        let unwatched = Wanted { name: "a.example/other".parse().unwrap(), look_at: LookAt::List };
        assert_eq!(backlog.take(&warmer, 0, vec![unwatched, wanted("a.example", 0)]), Ok(1));
        let told = (1..MOST_HINTS_WAITING).map(|tag| wanted("a.example", tag)).collect();
        assert_eq!(backlog.take(&warmer, 0, told), Ok(MOST_HINTS_WAITING - 1));
        assert_eq!(backlog.len(), MOST_HINTS_WAITING);
        assert_eq!(backlog.take(&warmer, 0, vec![wanted("b.example", 0)]), Err(Full));
        assert_eq!(backlog.len(), MOST_HINTS_WAITING);
    }
}
