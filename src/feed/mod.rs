//! The change feed: what happened to all repositories, in one stream that can be resumed after a break, at this replica or
//! another.
//!
//! ```text
//! warmer::Handle::changes ─► Feed::run ─► backlog ─► who resumes
//!                                     └─► frames  ─► who follows
//! store (histories) ────────────────────► backlog, once, of what was told before this process lived
//! ```
//! Nothing of a follower is kept between its connections: it brings its [`Position`]. What is in between is in the histories
//! of the repositories, which lie in the store, and of which the latest are held in memory for all who resume.
//!
//! Invariants: a change is told to a follower once, in the order in which it happened to its repository; it is encoded once
//! for all; whoever cannot be told what it missed is told so ([`Step::Reset`]).

mod backlog;
mod follow;
mod position;
mod selection;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use samovar_registry::{Clock, Name};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::backlog::Backlog;
use crate::cache::history::{Change, Event};
use crate::store::{Client, StoreError};
use crate::warmer::{self, Handle};

pub(crate) use backlog::missed;
pub use follow::{Following, Step};
pub use position::{MAX_POSITION_BYTES, MOST_AHEAD, Mark, NoPosition, Position};
pub use selection::{NoSelection, Selection};

/// What is told may have happened so long ago: another replica's changes are looked for every 10 seconds, a write may take
/// some, and clocks differ. Positions stay so far behind.
const BEHIND: Duration = Duration::from_mins(1);
/// Followers hear so often that there is nothing new.
pub const BEAT_EVERY: Duration = Duration::from_secs(15);
/// Frames that a follower may lag behind before it is told to begin anew.
const MOST_FRAMES_KEPT: usize = 1024;
/// What happened longer ago is no longer told to whoever resumes.
const LONGEST_BACK: Duration = Duration::from_hours(24);
/// So far back the store is read when the first follower comes.
const USUAL_BACK: Duration = Duration::from_mins(10);
/// For everything that is watched to be taken over from the store after a start, before somebody who resumes is told that it
/// cannot be known what it missed.
const LONGEST_SETTLING: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// For the feed to begin.
const LONGEST_START: Duration = Duration::from_secs(5);

/// A change as it is told.
#[derive(Debug)]
pub struct Happening {
    /// The repository.
    pub name: Name,
    /// What happened to it.
    pub event: Event,
    /// Stands for the repository in positions.
    pub mark: Mark,
    /// The change as JSON: the object of the history with the repository's `name`.
    pub data: Bytes,
}

impl Happening {
    /// A change of a repository.
    pub fn of(name: Name, event: Event) -> Arc<Self> {
        #[derive(Serialize)]
        struct Named<'a> {
            name: &'a Name,
            #[serde(flatten)]
            event: &'a Event,
        }
        let data =
            serde_json::to_vec(&Named { name: &name, event: &event }).expect("a change is written to memory");
        Arc::new(Self { mark: Mark::of(&name), name, event, data: data.into() })
    }

    /// The change as a server-sent event, after which a follower has come to `position`.
    fn framed(&self, position: &Position) -> Bytes {
        let data = std::str::from_utf8(&self.data).expect("JSON is UTF-8");
        format!("id: {position}\nevent: {}\ndata: {data}\n\n", self.event.kind.as_str()).into()
    }
}

/// What all followers are told, encoded once.
#[derive(Debug)]
struct Frame {
    step: Told,
    /// Where they have come to with it.
    position: Position,
    framed: Bytes,
}

#[derive(Debug)]
enum Told {
    Changed(Arc<Happening>),
    /// Something of one repository, or of all, can no longer be told.
    Reset(Option<Name>),
    Nothing,
}

/// What the feed knows now.
#[derive(Debug)]
struct State {
    /// How far it has told those who follow.
    position: Position,
    /// Absent until somebody has followed, and after changes were missed.
    backlog: Option<Backlog>,
}

impl State {
    fn tell(&mut self, happening: Arc<Happening>) -> Frame {
        self.position.tell(happening.mark, happening.event.id);
        let framed = happening.framed(&self.position);
        if let Some(backlog) = &mut self.backlog {
            backlog.add(Arc::clone(&happening), true);
        }
        Frame { step: Told::Changed(happening), position: self.position.clone(), framed }
    }

    fn reset(&self, name: Option<&Name>) -> Frame {
        let framed = reset(&self.position, name);
        Frame { step: Told::Reset(name.cloned()), position: self.position.clone(), framed }
    }

    /// Takes over what was read, and up to which generation repositories were told, or were no news.
    fn remember(&mut self, read: Backlog, told_of: impl Fn(&Name) -> u64) {
        for happening in read.happenings() {
            // Nobody who follows has yet to hear of it.
            if happening.event.id.generation <= told_of(&happening.name) {
                self.position.tell(happening.mark, happening.event.id);
            }
        }
        match &mut self.backlog {
            Some(backlog) => backlog.merge(read),
            None => self.backlog = Some(read),
        }
    }

    /// What somebody is told who has come to `from`, where that is known.
    fn resume(
        &self,
        from: Position,
        settled: u64,
        is_in_reach: bool,
        frames: broadcast::Receiver<Arc<Frame>>,
    ) -> Following {
        let here = self.position.clone();
        match self.backlog.as_ref().filter(|backlog| is_in_reach && backlog.reaches(from.time())) {
            Some(backlog) => {
                let recalled = backlog.recall(&from);
                Following::resumed(from, here, settled, frames, recalled)
            }
            None => Following::anew(here, frames),
        }
    }
}

/// The change feed of one replica.
#[derive(Debug)]
pub struct Feed {
    warmer: Handle,
    store: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
    /// The names of the sources of what is watched.
    sources: Vec<String>,
    state: Mutex<State>,
    frames: broadcast::Sender<Arc<Frame>>,
    /// Somebody wants to follow.
    wanted: Notify,
    /// Whether changes are being heard.
    hears: watch::Sender<bool>,
    /// One reading of the store at a time.
    reading: tokio::sync::Mutex<()>,
    /// Until then it is waited for what is watched to be taken over.
    settling_until: Instant,
}

impl Feed {
    /// The feed of what this warmer tells and this store remembers. It begins when somebody follows.
    pub fn new(warmer: Handle, store: Arc<dyn Client>, clock: Arc<dyn Clock>, sources: Vec<String>) -> Self {
        let state = Mutex::new(State { position: Position::default(), backlog: None });
        let (frames, hears) = (broadcast::Sender::new(MOST_FRAMES_KEPT), watch::Sender::new(false));
        let (wanted, reading) = (Notify::new(), tokio::sync::Mutex::default());
        let settling_until = Instant::now() + LONGEST_SETTLING;
        Self { warmer, store, clock, sources, state, frames, wanted, hears, reading, settling_until }
    }

    /// Tells followers what changes, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let tell = async {
            self.wanted.notified().await;
            let mut changes = self.warmer.changes();
            let mut beats = interval(BEAT_EVERY);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats.reset();
            self.hears.send_replace(true);
            loop {
                tokio::select! {
                    biased;
                    told = changes.recv() => match told {
                        Ok(told) => match &*told {
                            warmer::Told::Changed(change) => self.changed(change),
                            warmer::Told::Missed(name) => self.missed(name),
                        },
                        Err(RecvError::Lagged(missed)) => self.lagged(missed),
                        Err(RecvError::Closed) => return,
                    },
                    _ = beats.tick() => self.beat(),
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tell => {}
        }
    }

    /// How many follow.
    pub fn followers(&self) -> usize {
        self.frames.receiver_count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time in milliseconds, as generations are.
    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0)
    }

    /// Up to here everything was told by now, whichever replica has seen it.
    fn settled_time(&self) -> u64 {
        self.now().saturating_sub(millis(BEHIND))
    }

    fn changed(&self, change: &Change) {
        let happening = Happening::of(change.repository.clone(), change.event.clone());
        let mut state = self.here();
        let frame = state.tell(happening);
        // While the state is held: who begins to follow gets it from the backlog or from here, and not from both.
        let _ = self.frames.send(Arc::new(frame));
    }

    fn missed(&self, name: &Name) {
        let now = self.now();
        let mut state = self.here();
        let frame = state.reset(Some(name));
        if let Some(backlog) = &mut state.backlog {
            backlog.add_gap(name.clone(), now);
        }
        let _ = self.frames.send(Arc::new(frame));
    }

    fn lagged(&self, missed: u64) {
        warn!(
            changes = missed,
            "too many changes at once: whoever follows them has to look at everything anew"
        );
        let mut state = self.state();
        // What was not heard is in the store.
        state.backlog = None;
        state.position.advance(self.now());
        let _ = self.frames.send(Arc::new(state.reset(None)));
    }

    fn beat(&self) {
        let state = self.here();
        let (position, framed) = (state.position.clone(), beat(&state.position));
        let _ = self.frames.send(Arc::new(Frame { step: Told::Nothing, position, framed }));
    }

    /// Begins to follow: from `from` on, or from now on.
    pub async fn follow(&self, from: Option<Position>) -> Result<Following, StoreError> {
        self.begin().await?;
        let now = self.now();
        let usual = now.saturating_sub(millis(USUAL_BACK));
        let Some(from) = from else {
            if self.is_settled() {
                // So that whoever comes back soon is not told of what was before it came.
                self.reach(usual).await?;
            }
            return Ok(Following::new(self.here().position.clone(), self.frames.subscribe()));
        };
        // What comes from a clock that is ahead is as good as unknown.
        let is_in_reach = (now.saturating_sub(millis(LONGEST_BACK))..=now).contains(&from.time());
        if is_in_reach {
            self.settle().await;
            self.reach(from.time().min(usual)).await?;
        }
        let settled = self.settled_time();
        Ok(self.here().resume(from, settled, is_in_reach, self.frames.subscribe()))
    }

    /// The state, its position as far on as can be.
    fn here(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.position.advance(self.settled_time());
        state
    }

    /// Waits until changes are heard.
    async fn begin(&self) -> Result<(), StoreError> {
        self.wanted.notify_one();
        let mut hearing = self.hears.subscribe();
        let begun = timeout(LONGEST_START, hearing.wait_for(|hears| *hears)).await;
        if matches!(begun, Ok(Ok(_))) {
            return Ok(());
        }
        Err(StoreError::Unavailable { message: "the feed has not begun".to_owned() })
    }

    /// Makes the backlog reach back to `since`, as far as there is something to read.
    async fn reach(&self, since: u64) -> Result<(), StoreError> {
        let is_read = || self.state().backlog.as_ref().is_some_and(|backlog| backlog.was_read_since(since));
        if is_read() {
            return Ok(());
        }
        let _alone = self.reading.lock().await;
        if is_read() {
            return Ok(());
        }
        let read = Backlog::read(&*self.store, &self.warmer, |_| true, since, self.now()).await?;
        self.here().remember(read, |name| self.warmer.told_of(name));
        Ok(())
    }

    /// Whether all that is watched was taken over from the store: what is told from then on, together with what the store
    /// tells, is everything.
    fn is_settled(&self) -> bool {
        self.warmer.is_settled(self.sources.iter().map(String::as_str))
    }

    /// Waits for that, but not for long after the start. What is not taken over by then has a gap.
    async fn settle(&self) {
        while !self.is_settled() && Instant::now() < self.settling_until {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Tells a follower to look anew at one repository, or at all.
fn reset(position: &Position, name: Option<&Name>) -> Bytes {
    let data = name.map_or_else(|| "{}".to_owned(), |name| serde_json::json!({ "name": name }).to_string());
    format!("id: {position}\nevent: reset\ndata: {data}\n\n").into()
}

/// Tells a follower that nothing is new.
fn beat(position: &Position) -> Bytes {
    format!(": nothing new\nid: {position}\n\n").into()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
