//! Readings that go on when nobody waits for them any more: a repository that takes long to read comes up to date all the
//! same, a little later.

use std::collections::HashMap;

use samovar_registry::Name;
use tokio::task::AbortHandle;

/// Readings that go on in the background, over all repositories; of each there is one at most. Further ones are given up
/// when nobody waits for them any more.
const MOST_BACKGROUND_READINGS: usize = 8;

/// The readings in the background. Dropped, it ends them.
#[derive(Debug, Default)]
pub(super) struct Background {
    readings: HashMap<Name, BackgroundReading>,
}

#[derive(Debug)]
struct BackgroundReading {
    number: u64,
    /// Nothing was written since it began.
    is_current: bool,
    task: AbortOnDrop,
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Background {
    pub(super) fn is_reading(&self, name: &Name) -> bool {
        self.readings.get(name).is_some_and(BackgroundReading::runs)
    }

    /// Lets a reading go on, which `start` makes a task of, where there is room for it. One that was overtaken may be there
    /// already: it is let finish, because the next one need not read again what it brings.
    pub(super) fn add(
        &mut self,
        name: &Name,
        number: u64,
        is_current: bool,
        start: impl FnOnce() -> AbortHandle,
    ) {
        // One that panicked has not said that it ended.
        self.readings.retain(|_, reading| reading.runs());
        if self.readings.contains_key(name) || self.readings.len() >= MOST_BACKGROUND_READINGS {
            return;
        }
        let reading = BackgroundReading { number, is_current, task: AbortOnDrop(start()) };
        self.readings.insert(name.clone(), reading);
    }

    /// Something was written: what is being read may be out of date.
    pub(super) fn overtake(&mut self, name: &Name) {
        if let Some(reading) = self.readings.get_mut(name) {
            reading.is_current = false;
        }
    }

    /// The reading has ended. Says whether what it brought is current; `None`: nobody wants it any more.
    pub(super) fn end(&mut self, name: &Name, number: u64) -> Option<bool> {
        self.readings.get(name).filter(|reading| reading.number == number)?;
        self.readings.remove(name).map(|reading| reading.is_current)
    }

    /// Ends the reading: another one was faster.
    pub(super) fn cancel(&mut self, name: &Name) {
        self.readings.remove(name);
    }
}

impl BackgroundReading {
    fn runs(&self) -> bool {
        !self.task.0.is_finished()
    }
}
