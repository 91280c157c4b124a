//! What goes on between deliveries: brings what waits to the warmer, follows what it has taken until that can be seen, and
//! has the files of secrets read again.
//!
//! Registries may tell of a push before they are done with it (docker-registry tells of a manifest and then writes its tag), or
//! answer from a place that has not heard of it yet. So a tag of which a hint has brought nothing new is looked at again,
//! soon and then a little later, and no more.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use samovar_registry::{Name, Tag};
use tokio::sync::broadcast;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::warn;

use super::backlog::{Hinted, LookAt, MOST_HINTS_FOLLOWED, Taken, Wanted};
use crate::server::Doors;
use crate::warmer::{RefreshResult, Told};

/// How often the warmer is asked whether it has room for what waits.
const GO_ON_EVERY: Duration = Duration::from_millis(100);
/// How often the files of secrets are read again.
const READ_SECRETS_EVERY: Duration = Duration::from_secs(10);
/// When a tag of which nothing new was seen is looked at again, each time after the time before.
const LOOK_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(3)];
/// Changes that are remembered, to know whether a hint has brought one.
const MOST_CHANGES_REMEMBERED: usize = 4_096;

/// What comes next of a hint.
enum Next {
    /// The warmer has looked.
    Looked(Hinted, RefreshResult),
    /// It is time to look again.
    LookAgain(Hinted),
}

/// What has changed lately, the latest last.
#[derive(Debug, Default)]
struct News(VecDeque<(Instant, Name, Option<Tag>)>);

/// Runs until shutdown.
pub(in crate::server) async fn keep(doors: Arc<Doors>) {
    let hooks = &doors.hooks;
    let taken = hooks.taken.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut taken) = taken.filter(|_| !hooks.receivers.is_empty()) else { return };
    let mut changes = doors.warmer.changes();
    let mut news = News::default();
    let mut followed: FuturesUnordered<BoxFuture<'static, Next>> = FuturesUnordered::new();
    let mut going_on = interval(GO_ON_EVERY);
    let mut reading = interval(READ_SECRETS_EVERY);
    let mut reader: Option<JoinHandle<()>> = None;
    loop {
        tokio::select! {
            biased;
            () = doors.shutdown.cancelled() => return,
            _ = reading.tick() => {
                // A file system that hangs holds up one thread, and nothing else.
                if reader.as_ref().is_none_or(JoinHandle::is_finished) {
                    reader = read_secrets_again(&doors);
                }
            }
            _ = going_on.tick(), if hooks.backlog.len() > 0 => hooks.backlog.go_on(&doors.warmer),
            told = changes.recv() => news.add(told.ok()),
            Some(next) = followed.next() => match next {
                Next::LookAgain(hinted) => hooks.backlog.take_again(&doors.warmer, hinted),
                // What failed the schedule tries again.
                Next::Looked(_, Err(_)) => {}
                Next::Looked(hinted, Ok(())) => {
                    // Told before the refresh was answered.
                    news.catch_up(&mut changes);
                    if news.has(&hinted.wanted, hinted.told_at) {
                        let receiver = &hooks.receivers[hinted.receiver].name;
                        doors.metrics.webhook_visible(receiver, hinted.told_at.elapsed());
                    } else if let Some(again) = look_again(hinted) {
                        followed.push(again);
                    }
                }
            },
            Some(Taken { hinted, ticket }) = taken.recv(), if followed.len() < MOST_HINTS_FOLLOWED => {
                followed.push(async move { Next::Looked(hinted, ticket.done().await) }.boxed());
            }
        }
    }
}

/// Waits until it is time to look at a tag again, if it ever is.
fn look_again(hinted: Hinted) -> Option<BoxFuture<'static, Next>> {
    let after = *LOOK_AGAIN_AFTER.get(hinted.looks)?;
    let LookAt::Tag(_) = hinted.wanted.look_at else { return None };
    let hinted = Hinted { looks: hinted.looks + 1, ..hinted };
    let waiting = async move {
        tokio::time::sleep(after).await;
        Next::LookAgain(hinted)
    };
    Some(waiting.boxed())
}

impl News {
    fn add(&mut self, told: Option<Arc<Told>>) {
        let Some(change) = told.as_deref().and_then(Told::change) else { return };
        if self.0.len() == MOST_CHANGES_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((Instant::now(), change.repository.clone(), change.event.tag.clone()));
    }

    /// Takes in what was told and not heard yet.
    fn catch_up(&mut self, changes: &mut broadcast::Receiver<Arc<Told>>) {
        loop {
            match changes.try_recv() {
                Ok(told) => self.add(Some(told)),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return,
            }
        }
    }

    /// Whether something has changed since then of what was to be looked at.
    fn has(&self, wanted: &Wanted, since: Instant) -> bool {
        let is_of = |name: &Name, tag: Option<&Tag>| match &wanted.look_at {
            LookAt::Tag(wanted_tag) => wanted.name == *name && tag == Some(wanted_tag),
            LookAt::List | LookAt::Everything => wanted.name == *name,
        };
        let lately = self.0.iter().rev().take_while(|(at, ..)| *at >= since);
        lately.into_iter().any(|(_, name, tag)| is_of(name, tag.as_ref()))
    }
}

fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Reads the files of secrets in a thread of its own, which keeps nothing from ending.
fn read_secrets_again(doors: &Arc<Doors>) -> Option<JoinHandle<()>> {
    let doors = Arc::clone(doors);
    let read = move || {
        for receiver in &doors.hooks.receivers {
            if let Some(secrets) = receiver.proof.secrets() {
                secrets.read_again(&receiver.name);
            }
        }
    };
    let spawned = std::thread::Builder::new().name("hook secrets".to_owned()).spawn(read);
    spawned.inspect_err(|error| warn!(%error, "the secrets of receivers are not read again")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hinted(look_at: LookAt) -> Hinted {
        let wanted = Wanted { name: "a.example/team/app".parse().unwrap(), look_at };
        Hinted { receiver: 0, told_at: Instant::now(), wanted, looks: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tag_is_looked_at_again_soon_and_later_and_no_more_and_nothing_else_is() {
        let mut current = hinted(LookAt::Tag("v1".parse().unwrap()));
        let began = Instant::now();
        for after in [250, 3250] {
            let Some(waiting) = look_again(current) else { panic!("it is looked at again") };
            let Next::LookAgain(again) = waiting.await else { panic!("it is looked at again") };
            assert_eq!(began.elapsed(), Duration::from_millis(after));
            current = again;
        }
        assert!(look_again(current).is_none());
        assert!(look_again(hinted(LookAt::List)).is_none());
        assert!(look_again(hinted(LookAt::Everything)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_changed_since_is_news_and_so_much_of_it_is_remembered() {
        let mut news = News::default();
        let name: Name = "a.example/team/app".parse().unwrap();
        let add = |news: &mut News, tag: &str| {
            if news.0.len() == MOST_CHANGES_REMEMBERED {
                news.0.pop_front();
            }
            news.0.push_back((Instant::now(), name.clone(), Some(tag.parse().unwrap())));
        };
        add(&mut news, "v1");
        tokio::time::advance(Duration::from_secs(1)).await;
        let tag = hinted(LookAt::Tag("v1".parse().unwrap()));
        let list = hinted(LookAt::List);
        assert!(
            !news.has(&tag.wanted, tag.told_at) && !news.has(&list.wanted, list.told_at),
            "before the hint"
        );
        add(&mut news, "v2");
        assert!(!news.has(&tag.wanted, tag.told_at) && news.has(&list.wanted, list.told_at));
        add(&mut news, "v1");
        assert!(news.has(&tag.wanted, tag.told_at));
    }
}
