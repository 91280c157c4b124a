//! Waiting for something new of one repository, from this replica or another.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use samovar_registry::Name;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Doors;
use crate::cache::Attention;

/// Who waits for which repository: a publication wakes only those who wait for it. Bounded by the connections.
#[derive(Debug, Default)]
pub struct Followers(Mutex<HashMap<Name, Followed>>);

#[derive(Debug, Default)]
struct Followed {
    followers: usize,
    published: watch::Sender<()>,
}

impl Followers {
    fn by_name(&self) -> MutexGuard<'_, HashMap<Name, Followed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, name: &Name) -> watch::Receiver<()> {
        let mut by_name = self.by_name();
        let followed = by_name.entry(name.clone()).or_default();
        followed.followers += 1;
        followed.published.subscribe()
    }

    fn leave(&self, name: &Name) {
        let mut by_name = self.by_name();
        if let Some(followed) = by_name.get_mut(name) {
            followed.followers -= 1;
            if followed.followers == 0 {
                by_name.remove(name);
            }
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.by_name().values().map(|followed| followed.followers).sum()
    }

    fn tell(&self, name: &Name) {
        if let Some(followed) = self.by_name().get(name) {
            followed.published.send_replace(());
        }
    }

    fn tell_all(&self) {
        for followed in self.by_name().values() {
            followed.published.send_replace(());
        }
    }

    /// Tells those who wait, until shutdown.
    pub(super) async fn run(&self, doors: &Doors) {
        let (mut here, mut elsewhere) = (doors.warmer.publications(), doors.hot.changed());
        loop {
            let published = tokio::select! {
                biased;
                published = here.recv() => published,
                changed = elsewhere.recv() => changed,
                () = doors.shutdown.cancelled() => return,
            };
            match published {
                Ok(name) => self.tell(&name),
                // Of which nobody knows.
                Err(RecvError::Lagged(_)) => self.tell_all(),
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// Tells when something of a repository was published. To be made before the first look at it: what is published in
/// between is not missed.
#[derive(Debug)]
pub(super) struct Following<'a> {
    name: &'a Name,
    followers: &'a Followers,
    published: watch::Receiver<()>,
    _attention: Attention,
    deadline: Instant,
    shutdown: &'a CancellationToken,
}

impl<'a> Following<'a> {
    /// Follows `name` until `deadline`.
    pub(super) fn new(doors: &'a Doors, name: &'a Name, deadline: Instant) -> Self {
        Self {
            name,
            followers: &doors.followers,
            published: doors.followers.follow(name),
            _attention: doors.hot.attend(name),
            deadline,
            shutdown: &doors.shutdown,
        }
    }

    /// Waits until something was published. `false`: there is no more time.
    pub(super) async fn next(&mut self) -> bool {
        tokio::select! {
            biased;
            published = self.published.changed() => published.is_ok(),
            () = tokio::time::sleep_until(self.deadline) => false,
            () = self.shutdown.cancelled() => false,
        }
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.followers.leave(self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_for_a_repository_is_woken_and_nobody_is_kept_who_has_left() {
        let followers = Followers::default();
        let (one, other): (Name, Name) = ("ghcr.io/a/b".parse().unwrap(), "ghcr.io/a/c".parse().unwrap());
        let [first, second, third] = [&one, &one, &other].map(|name| followers.follow(name));
        followers.tell(&one);
        let woken = |receivers: [&watch::Receiver<()>; 3]| receivers.map(|one| one.has_changed().unwrap());
        assert_eq!(woken([&first, &second, &third]), [true, true, false]);
        followers.tell_all();
        assert_eq!(woken([&first, &second, &third]), [true, true, true]);
        followers.leave(&one);
        assert_eq!(followers.len(), 2);
        assert!(
            followers.follow(&one).has_changed().is_ok_and(|changed| !changed),
            "what was before is no news"
        );
        followers.leave(&one);
        followers.leave(&one);
        followers.leave(&other);
        assert!(followers.by_name().is_empty());
    }
}
