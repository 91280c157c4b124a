//! In which order whoever waits goes: by urgency, then by arrival. But for every so many permits of which whoever has waited for
//! longest gets none, the next one is theirs: a flood of what is urgent slows everything else down, and stops nothing.

use super::gate::Place;

/// While whoever has waited for longest is passed over for the sake of what is more urgent, each permit of so many is theirs.
pub(super) const ONE_PERMIT_IN: u32 = 8;

/// How often in a row whoever had waited for longest was passed over.
#[derive(Debug, Default)]
pub(super) struct Order {
    passed_over: u32,
}

impl Order {
    /// Who of these is the next.
    pub(super) fn next<T>(&self, waiting: impl Iterator<Item = (Place, T)>) -> Option<(Place, T)> {
        if self.passed_over + 1 < ONE_PERMIT_IN {
            waiting.min_by_key(|(place, _)| *place)
        } else {
            waiting.min_by_key(|(place, _)| place.arrival)
        }
    }

    /// Somebody goes; with `passes_over`, others have waited for longer.
    pub(super) fn went(&mut self, passes_over: bool) {
        self.passed_over = if passes_over { self.passed_over + 1 } else { 0 };
    }
}
