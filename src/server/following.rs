//! Waiting for something new of one repository, from this replica or another.

use samovar_registry::Name;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Doors;
use crate::cache::Attention;

/// Tells when something of a repository was published. To be made before the first look at it: what is published in
/// between is not missed.
#[derive(Debug)]
pub(super) struct Following<'a> {
    name: &'a Name,
    here: broadcast::Receiver<Name>,
    elsewhere: broadcast::Receiver<Name>,
    _attention: Attention,
    deadline: Instant,
    shutdown: &'a CancellationToken,
}

impl<'a> Following<'a> {
    /// Follows `name` until `deadline`.
    pub(super) fn new(doors: &'a Doors, name: &'a Name, deadline: Instant) -> Self {
        Self {
            name,
            here: doors.warmer.publications(),
            elsewhere: doors.hot.changed(),
            _attention: doors.hot.attend(name),
            deadline,
            shutdown: &doors.shutdown,
        }
    }

    /// Waits until something was published. `false`: there is no more time.
    pub(super) async fn next(&mut self) -> bool {
        loop {
            let published = tokio::select! {
                biased;
                published = self.here.recv() => published,
                changed = self.elsewhere.recv() => changed,
                () = tokio::time::sleep_until(self.deadline) => return false,
                () = self.shutdown.cancelled() => return false,
            };
            match published {
                Ok(published) if published != *self.name => {}
                Ok(_) | Err(RecvError::Lagged(_)) => return true,
                Err(RecvError::Closed) => return false,
            }
        }
    }
}
