//! Compares what is known with what is so: how old it is, what readers see, what was announced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use samovar::cache::history::{ChangeId, ChangeKind, Since};
use samovar::cache::{Cache, CacheError, ImageRepository};
use samovar::store::Client;
use samovar_registry::{Name, Tag as TagName};

use super::allowance::{self, Downtimes};
use super::fleet::since_beginning;
use super::registry::{self, Registry, Tag};
use super::scenario::MINUTE;
use super::wire::Network;

/// Findings that are told in full.
const MOST_TOLD: usize = 30;

/// What a change was announced as.
#[derive(Debug, Clone)]
struct Announced {
    at: Duration,
    kind: ChangeKind,
    new: Option<String>,
}

/// How a host fared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fared {
    /// How long after its push a new tag was there for readers, as a part of what is allowed; without troubles.
    pub(crate) detections: Vec<f64>,
    /// The same, in time.
    pub(crate) latencies: Vec<Duration>,
    /// By how much a tag's confirmation was later than its cadence, at most, and how much later it might have been.
    pub(crate) latest: Duration,
    pub(crate) slack_then: Duration,
    /// How long a repository was not listed, at most.
    pub(crate) longest_unlisted: Duration,
    pub(crate) changes_announced: usize,
    pub(crate) changes_required: usize,
}

/// Keeps count.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// The repositories that are listed at a fixed interval.
    pub(crate) intervals: BTreeMap<Name, Duration>,
    /// The last change of each repository that was read.
    known: BTreeMap<Name, ChangeId>,
    announced: BTreeMap<(Name, TagName), Vec<Announced>>,
    pub(crate) fared: BTreeMap<String, Fared>,
    findings: Vec<String>,
    findings_count: usize,
    compared: usize,
    pub(crate) tags_compared: usize,
}

impl Judge {
    pub(crate) fn new(intervals: BTreeMap<Name, Duration>) -> Self {
        Self { intervals, ..Self::default() }
    }

    pub(crate) fn found(&mut self, now: Duration, what: String) {
        self.findings_count += 1;
        if self.findings.len() < MOST_TOLD {
            self.findings.push(format!("at {:.3} h: {what}", now.as_secs_f64() / 3_600.0));
        }
    }

    /// What was wrong, told in full as far as it is not too much, and how often.
    pub(crate) fn verdict(&self) -> (&[String], usize) {
        (&self.findings, self.findings_count)
    }

    fn of_lists(&self, name: &Name) -> Duration {
        allowance::of_lists(self.intervals.get(name).copied())
    }

    /// Takes note of what was announced since the last call, as it is kept for readers.
    pub(crate) async fn read_history(&mut self, names: &[Name], cache: &Cache<Arc<dyn Client>>) {
        for name in names {
            let known = self.known.get(name).copied();
            let Ok(history) = cache.history(name, None, known.map(Since::Change)).await else { continue };
            for event in history.events {
                let at = since_beginning(event.at);
                let last = self.known.insert(name.clone(), event.id);
                if last.map_or(0, |last| last.number + 1) != event.id.number {
                    self.found(at, format!("{name}: after {last:?} comes {:?}", event.id));
                }
                let Some(tag) = event.tag else { continue };
                let new = event.new.as_ref().map(ToString::to_string);
                let announced = Announced { at, kind: event.kind, new };
                self.announced.entry((name.clone(), tag)).or_default().push(announced);
            }
        }
    }

    /// Looks how old everything is that was told of.
    pub(crate) fn look_at_ages(&mut self, network: &Network, downtimes: &Downtimes) {
        let now = network.now();
        let state = network.state();
        for registry in &state.registries {
            let host = registry.traits.host;
            let usual = registry.slack(now, now, &Downtimes::default());
            let mut fared = self.fared.remove(host).unwrap_or_default();
            for (path, repository) in &registry.repositories {
                let name: Name = format!("{host}/{path}").parse().expect("a good name");
                let of_lists = self.of_lists(&name);
                let mut check =
                    |judge: &mut Self, since: Duration, allowed: Duration, what: &dyn Fn() -> String| {
                        let late = now.saturating_sub(since).saturating_sub(allowed);
                        if late <= usual && late <= fared.latest {
                            return;
                        }
                        let slack = registry.slack(since, now, downtimes);
                        if late > fared.latest {
                            (fared.latest, fared.slack_then) = (late, slack);
                        }
                        if late > slack {
                            judge.found(
                                now,
                                format!("{name}: {} is {late:?} later than it may, {slack:?}", what()),
                            );
                        }
                    };
                let listed_at = repository.listed_at.unwrap_or_default();
                check(self, listed_at, of_lists, &|| "its list".to_owned());
                for (tag, state) in repository.tags.iter().filter(|(_, tag)| tag.digest().is_some()) {
                    let (since, mut allowed) = match state.told.at {
                        Some(at) => (at, state.told.interval),
                        None => (state.current().at, of_lists),
                    };
                    if state.told.awaits_its_turn {
                        allowed += registry.wait_for_manifests(registry.fetched());
                    }
                    check(self, since, allowed, &|| tag.clone());
                }
                fared.longest_unlisted = fared.longest_unlisted.max(now.saturating_sub(listed_at));
            }
            self.fared.insert(host.to_owned(), fared);
        }
    }

    /// Compares what readers see of some repositories, others each time, with what is so.
    pub(crate) async fn compare(
        &mut self,
        names: &[Name],
        count: usize,
        cache: &Cache<Arc<dyn Client>>,
        network: &Network,
        downtimes: &Downtimes,
    ) {
        for _ in 0..count.min(names.len()) {
            let name = &names[self.compared % names.len()];
            self.compared += 1;
            let seen = cache.repository_state(name).await;
            self.compare_one(name, &seen, network, downtimes);
        }
    }

    fn compare_one(
        &mut self,
        name: &Name,
        seen: &Result<ImageRepository, CacheError>,
        network: &Network,
        downtimes: &Downtimes,
    ) {
        let (now, state) = (network.now(), network.state());
        let registry = find(&state.registries, name.host());
        let repository = &registry.repositories[name.path()];
        let of_lists = self.of_lists(name);
        let seen = match seen {
            Ok(seen) => seen,
            Err(CacheError::NeverListed { .. } | CacheError::NotWatched { .. })
                if now <= of_lists + registry.slack(Duration::ZERO, now, downtimes) =>
            {
                return;
            }
            Err(error) => return self.found(now, format!("{name}: {error}")),
        };
        for tag in &seen.metadata.tags {
            if !repository.tags.contains_key(tag.as_str()) {
                self.found(now, format!("{name}:{tag}: never was"));
            }
        }
        for (tag, truth) in &repository.tags {
            self.tags_compared += 1;
            let tag: TagName = tag.parse().expect("a good tag");
            let shown = seen.metadata.images.get(&tag).map(|image| image.digest.to_string());
            if shown.as_deref() == truth.digest() {
                continue;
            }
            if let Some(shown) = &shown
                && !truth.log.iter().any(|change| digest_of(change).as_ref() == Some(shown))
            {
                self.found(now, format!("{name}:{tag}: {shown} never was"));
            }
            let visible_by = self.visible_by(name, registry, truth.current(), now, downtimes);
            if now > visible_by {
                let what = format!("{name}:{tag}: readers see {shown:?} for {:?}", truth.digest());
                self.found(now, format!("{what}, since {:?}, due {visible_by:?}", truth.current().at));
            }
        }
    }

    /// When readers must see a change at the latest.
    fn visible_by(
        &self,
        name: &Name,
        registry: &Registry,
        change: &registry::Change,
        now: Duration,
        downtimes: &Downtimes,
    ) -> Duration {
        let asked_by = change.due.map(|due| due.max(change.at));
        let asked_by = asked_by.unwrap_or(change.at + self.of_lists(name));
        let wait = registry.wait_for_manifests(change.fetched_before);
        asked_by + wait + registry.slack(change.at, now, downtimes)
    }

    /// Compares what was announced with what happened, once it is all over.
    pub(crate) fn compare_announcements(&mut self, network: &Network, downtimes: &Downtimes) {
        let (now, state) = (network.now(), network.state());
        let announced = std::mem::take(&mut self.announced);
        for registry in &state.registries {
            for (path, repository) in &registry.repositories {
                let name: Name = format!("{}/{path}", registry.traits.host).parse().expect("a good name");
                let first_listed = repository.first_listed_at.unwrap_or(now);
                for (tag, truth) in &repository.tags {
                    let key = (name.clone(), tag.parse().expect("a good tag"));
                    let heard = announced.get(&key).map(Vec::as_slice).unwrap_or_default();
                    let matched = self.match_announcements(&key, heard, registry, truth, downtimes);
                    self.look_for_missing(&key, &matched, registry, truth, (first_listed, now), downtimes);
                }
            }
        }
    }

    /// Which of a tag's changes were announced. Whatever was announced must have happened, in that order, once.
    fn match_announcements(
        &mut self,
        (name, tag): &(Name, TagName),
        heard: &[Announced],
        registry: &Registry,
        truth: &Tag,
        downtimes: &Downtimes,
    ) -> Vec<bool> {
        let digests: Vec<Option<String>> = truth.log.iter().map(digest_of).collect();
        let mut matched = vec![false; digests.len()];
        let mut from = 0;
        for announced in heard {
            let new = announced.new.clone().filter(|_| announced.kind != ChangeKind::TagRemoved);
            let later = digests[from..].iter().position(|digest| *digest == new).map(|at| at + from);
            let Some(position) = later.filter(|position| truth.log[*position].at <= announced.at) else {
                self.found(announced.at, format!("{name}:{tag}: {announced:?} is not what happened next"));
                continue;
            };
            matched[position] = true;
            from = position + 1;
            let change = &truth.log[position];
            let fared = self.fared.entry(registry.traits.host.to_owned()).or_default();
            fared.changes_announced += 1;
            let is_new = change.due.is_none() && change.image.is_some() && change.at > Duration::ZERO;
            let usual = registry.slack(announced.at, announced.at, &Downtimes::default());
            let is_undisturbed = registry.slack(change.at, announced.at, downtimes) == usual;
            if is_new && is_undisturbed {
                let latency = announced.at.saturating_sub(change.at);
                let allowed = allowance::of_lists(self.intervals.get(name).copied());
                fared.latencies.push(latency);
                fared.detections.push(latency.as_secs_f64() / allowed.as_secs_f64());
            }
        }
        matched
    }

    /// Every change that readers had to see, and that lasted for long enough, must have been announced.
    fn look_for_missing(
        &mut self,
        (name, tag): &(Name, TagName),
        matched: &[bool],
        registry: &Registry,
        truth: &Tag,
        (first_listed, now): (Duration, Duration),
        downtimes: &Downtimes,
    ) {
        let log = &truth.log;
        for position in 0..log.len() {
            let change = &log[position];
            let ended = log.get(position + 1).map_or(now, |next| next.at);
            let visible_by = self.visible_by(name, registry, change, ended, downtimes);
            // What was there when the repository was listed first is not announced, nor what came before that was seen.
            let before = position.checked_sub(1).map(|before| &log[before]);
            let was_settled = before.is_none_or(|before| {
                self.visible_by(name, registry, before, change.at, downtimes) <= change.at
            });
            if change.at <= first_listed + MINUTE || !was_settled || visible_by > ended {
                continue;
            }
            let is_deleted_again = before.is_none() && change.image.is_none();
            if is_deleted_again {
                continue;
            }
            self.fared.entry(registry.traits.host.to_owned()).or_default().changes_required += 1;
            if !matched[position] {
                let what = format!("{name}:{tag} at {:?}, due {visible_by:?}, until {ended:?}", change.at);
                self.found(now, format!("never announced: {what}"));
            }
        }
    }
}

fn digest_of(change: &registry::Change) -> Option<String> {
    change.image.map(|image| image.documents().swap_remove(0).digest)
}

fn find<'a>(registries: &'a [Registry], host: &str) -> &'a Registry {
    registries.iter().find(|registry| registry.traits.host == host).expect("a registry that is simulated")
}
