//! One who follows the feed: first what it missed, then what is told to all.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::vec::IntoIter;

use bytes::Bytes;
use samovar_registry::Name;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::backlog::Recalled;
use super::{BEHIND, Frame, Happening, Mark, Position, Told, beat, reset};
use crate::cache::history::ChangeId;

/// One step on.
#[derive(Debug)]
pub enum Step {
    /// Something happened: the change, and the event that tells of it.
    Changed(Arc<Happening>, Bytes),
    /// Something of this repository, or of all, is not told: the follower has to look anew. The event that says so.
    Reset(Option<Name>, Bytes),
    /// Nothing happened: how far the follower has come.
    Beat(Bytes),
}

/// One who follows.
#[derive(Debug)]
pub struct Following {
    frames: broadcast::Receiver<Arc<Frame>>,
    /// Up to this generation everything was told.
    time: u64,
    alone: Option<Box<Alone>>,
    /// Until it has come to where all are.
    catching_up: Option<Box<CatchingUp>>,
    /// What it was told already and all others may yet be.
    ahead: Option<Box<Ahead>>,
}

#[derive(Debug)]
struct CatchingUp {
    position: Position,
    /// Positions may go on to here.
    settled: u64,
    begins_anew: bool,
    gaps: IntoIter<Name>,
    happenings: IntoIter<Arc<Happening>>,
    /// Where it is when it has caught up.
    here: Position,
}

/// One that may not know of all repositories: what it is sent names none of the others, positions included.
struct Alone {
    position: Position,
    knows: Box<dyn Fn(&Name) -> bool + Send>,
}

#[derive(Debug)]
struct Ahead {
    told: HashMap<Mark, ChangeId>,
    /// By then all others were.
    until: Instant,
}

impl Following {
    /// From now on.
    pub(super) fn new(here: Position, frames: broadcast::Receiver<Arc<Frame>>) -> Self {
        let time = here.time();
        Self { frames, time, alone: None, catching_up: Some(Box::new(CatchingUp::to(here))), ahead: None }
    }

    /// From now on, for one that cannot be told what it missed.
    pub(super) fn anew(here: Position, frames: broadcast::Receiver<Arc<Frame>>) -> Self {
        let following = Self::new(here, frames);
        let catching_up =
            following.catching_up.map(|catching_up| CatchingUp { begins_anew: true, ..*catching_up });
        Self { catching_up: catching_up.map(Box::new), ..following }
    }

    /// From a position on.
    pub(super) fn resumed(
        from: Position,
        mut here: Position,
        settled: u64,
        frames: broadcast::Receiver<Arc<Frame>>,
        recalled: Recalled,
    ) -> Self {
        let Recalled { happenings, untold, gaps } = recalled;
        for (mark, id) in &untold {
            here.tell(*mark, *id);
        }
        let catching_up = CatchingUp {
            position: from,
            settled,
            begins_anew: false,
            gaps: gaps.into_iter(),
            happenings: happenings.into_iter(),
            here,
        };
        let ahead = (!untold.is_empty())
            .then(|| Box::new(Ahead { told: untold, until: Instant::now() + 2 * BEHIND }));
        let time = catching_up.position.time();
        Self { frames, time, alone: None, catching_up: Some(Box::new(catching_up)), ahead }
    }

    /// Tells this one only of what it may know of. To be called before the first step.
    #[must_use]
    pub fn only(self, knows: impl Fn(&Name) -> bool + Send + 'static) -> Self {
        let position = self.catching_up.as_ref().map(|catching_up| catching_up.position.clone());
        let alone = Alone { position: position.unwrap_or_default(), knows: Box::new(knows) };
        Self { alone: Some(Box::new(alone)), ..self }
    }

    /// The next step; `None` at the end of the feed. Cancellation-safe.
    pub async fn next(&mut self) -> Option<Step> {
        loop {
            let step = self.step().await?;
            let Some(alone) = &mut self.alone else { return Some(step) };
            if let Some(step) = alone.step(step, self.time) {
                return Some(step);
            }
        }
    }

    async fn step(&mut self) -> Option<Step> {
        if let Some(catching_up) = &mut self.catching_up {
            if let Some(step) = catching_up.step() {
                self.time = catching_up.position.time();
                return Some(step);
            }
            let here = std::mem::take(&mut catching_up.here);
            self.catching_up = None;
            self.time = here.time();
            return Some(Step::Beat(format!("id: {here}\n\n").into()));
        }
        loop {
            let frame = match self.frames.recv().await {
                Ok(frame) => frame,
                // What it did not take in time is gone; it goes on from the next frame, which says where that is.
                Err(RecvError::Lagged(_)) => return Some(Step::Reset(None, bare_reset())),
                Err(RecvError::Closed) => return None,
            };
            let Frame { step, position, framed } = &*frame;
            self.time = position.time();
            let own = self.own_position(position);
            match step {
                Told::Changed(happening) if self.was_told(happening) => {}
                Told::Changed(happening) => {
                    let framed = own.map_or_else(|| framed.clone(), |own| happening.framed(&own));
                    return Some(Step::Changed(Arc::clone(happening), framed));
                }
                Told::Reset(name) => {
                    let framed = own.map_or_else(|| framed.clone(), |own| reset(&own, name.as_ref()));
                    return Some(Step::Reset(name.clone(), framed));
                }
                Told::Nothing => {
                    if self.ahead.as_ref().is_some_and(|ahead| Instant::now() >= ahead.until) {
                        self.ahead = None;
                    }
                    return Some(Step::Beat(own.map_or_else(|| framed.clone(), |own| beat(&own))));
                }
            }
        }
    }

    /// Where this one has come to with a frame, where that is further than all others.
    fn own_position(&self, position: &Position) -> Option<Position> {
        let told = &self.ahead.as_ref()?.told;
        if told.iter().all(|(mark, id)| position.covers(*mark, *id)) {
            return None;
        }
        let mut own = position.clone();
        for (mark, id) in told {
            own.tell(*mark, *id);
        }
        Some(own)
    }

    fn was_told(&self, happening: &Happening) -> bool {
        let told = self.ahead.as_ref().and_then(|ahead| ahead.told.get(&happening.mark));
        told.is_some_and(|told| happening.event.id <= *told)
    }
}

impl CatchingUp {
    fn to(here: Position) -> Self {
        let (gaps, happenings) = (Vec::new().into_iter(), Vec::new().into_iter());
        Self { position: Position::at(here.time()), settled: 0, begins_anew: false, gaps, happenings, here }
    }

    fn step(&mut self) -> Option<Step> {
        if std::mem::take(&mut self.begins_anew) {
            return Some(Step::Reset(None, reset(&self.here, None)));
        }
        if let Some(name) = self.gaps.next() {
            let framed = reset(&self.position, Some(&name));
            return Some(Step::Reset(Some(name), framed));
        }
        let happening = self.happenings.next()?;
        let id = happening.event.id;
        // They come in the order of their generations: what is before this one was told.
        self.position.advance(id.generation.saturating_sub(1).min(self.settled));
        self.position.tell(happening.mark, id);
        let framed = happening.framed(&self.position);
        Some(Step::Changed(happening, framed))
    }
}

impl Alone {
    /// The step for this one, if it may know of it.
    fn step(&mut self, step: Step, time: u64) -> Option<Step> {
        self.position.advance(time);
        match step {
            Step::Changed(happening, _) if (self.knows)(&happening.name) => {
                self.position.tell(happening.mark, happening.event.id);
                let framed = happening.framed(&self.position);
                Some(Step::Changed(happening, framed))
            }
            Step::Reset(Some(name), _) if (self.knows)(&name) => {
                let framed = reset(&self.position, Some(&name));
                Some(Step::Reset(Some(name), framed))
            }
            Step::Changed(..) | Step::Reset(Some(_), _) => None,
            Step::Reset(None, _) => Some(Step::Reset(None, reset(&self.position, None))),
            Step::Beat(_) => Some(Step::Beat(beat(&self.position))),
        }
    }
}

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alone").field("position", &self.position).finish_non_exhaustive()
    }
}

/// A reset of one that lags behind.
fn bare_reset() -> Bytes {
    Bytes::from_static(b"event: reset\ndata: {}\n\n")
}
