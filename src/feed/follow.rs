//! One who follows the feed: first what it missed, then what is told to all.

use std::collections::HashMap;
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

#[derive(Debug)]
struct Ahead {
    told: HashMap<Mark, ChangeId>,
    /// By then all others were.
    until: Instant,
}

impl Following {
    /// From now on.
    pub(super) fn new(here: Position, frames: broadcast::Receiver<Arc<Frame>>) -> Self {
        Self { frames, catching_up: Some(Box::new(CatchingUp::to(here))), ahead: None }
    }

    /// From now on, for one that cannot be told what it missed.
    pub(super) fn anew(here: Position, frames: broadcast::Receiver<Arc<Frame>>) -> Self {
        let catching_up = CatchingUp { begins_anew: true, ..CatchingUp::to(here) };
        Self { frames, catching_up: Some(Box::new(catching_up)), ahead: None }
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
        untold.iter().for_each(|(mark, id)| here.tell(*mark, *id));
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
        Self { frames, catching_up: Some(Box::new(catching_up)), ahead }
    }

    /// The next step; `None` at the end of the feed. Cancellation-safe.
    pub async fn next(&mut self) -> Option<Step> {
        if let Some(catching_up) = &mut self.catching_up {
            if let Some(step) = catching_up.step() {
                return Some(step);
            }
            let here = std::mem::take(&mut catching_up.here);
            self.catching_up = None;
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
        told.iter().for_each(|(mark, id)| own.tell(*mark, *id));
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
        Self { position: here.clone(), settled: 0, begins_anew: false, gaps, happenings, here }
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

/// A reset of one that lags behind.
fn bare_reset() -> Bytes {
    Bytes::from_static(b"event: reset\ndata: {}\n\n")
}
