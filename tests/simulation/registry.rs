//! One registry with its contents, its limits and its troubles. Says what is answered to a request, and remembers when it
//! told what of which tag: the age of what we know is measured here, not by what the warmer believes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::images::{Digests, Image, beginning};
use super::law::{Counter, Kind, Law, Limits, Quota};

/// Tags on a page, unless fewer are asked for.
const PAGE: usize = 1_000;
/// How long a token lasts.
const TOKEN_SECONDS: u64 = 300;

/// What a registry is like.
#[derive(Debug, Clone)]
pub(crate) struct Traits {
    /// As in names of images.
    pub(crate) host: &'static str,
    /// Where it is reached.
    pub(crate) address: &'static str,
    /// Where tokens for it are given, and where its blobs are, if these are elsewhere.
    pub(crate) token_address: Option<&'static str>,
    pub(crate) blob_address: Option<&'static str>,
    /// What the client is configured to keep to.
    pub(crate) limits: Limits,
    /// How many manifests may be fetched.
    pub(crate) quota: Option<Quota>,
    /// Requests a second that it bears, and how many at once.
    pub(crate) bears: Option<(f64, f64)>,
    /// Whether it recognises a list that was sent before.
    pub(crate) validates: bool,
    /// The part of requests that fail for no reason.
    pub(crate) fails: f64,
    /// How long an answer takes, in milliseconds, at least and at most.
    pub(crate) latency: (u64, u64),
}

/// A time in which a registry is in trouble.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It takes requests and says nothing.
    Hangs,
    /// 429, whatever is asked.
    Refuses,
}

/// A tag, and what was told of it.
#[derive(Debug, Clone)]
pub(crate) struct Tag {
    digest: Option<Arc<str>>,
    is_version: bool,
    pub(crate) told: Told,
    /// What it was before, and is now, the oldest first.
    pub(crate) log: Vec<Change>,
}

/// A tag became something else.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) at: Duration,
    /// Absent where it was deleted.
    pub(crate) image: Option<Image>,
    /// Until when the warmer is to have asked about the tag, if it is to be asked about and not listed.
    pub(crate) due: Option<Duration>,
    /// How many manifests had been fetched until then.
    pub(crate) fetched_before: u64,
}

/// What the warmer can know of a tag from what it was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// When it was told last what the tag points at, or that there is none.
    pub(crate) at: Option<Duration>,
    /// The digest that was told.
    digest: Option<Arc<str>>,
    /// How long the warmer may wait until it asks again, by the cadence that it promises.
    pub(crate) interval: Duration,
    /// Pulls are counted, and not all that was behind it had been pulled: the tag may be asked about again only when its
    /// turn has come, also if another tag brings what is behind it before.
    pub(crate) awaits_its_turn: bool,
    pub(crate) times: u64,
}

/// One repository.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    pub(crate) tags: BTreeMap<String, Tag>,
    /// Counts what changed in the list.
    version: u64,
    /// When a list was first, and last, answered to the end.
    pub(crate) first_listed_at: Option<Duration>,
    pub(crate) listed_at: Option<Duration>,
    pub(crate) listings: u64,
}

/// What an answer is to be.
#[derive(Debug)]
pub(crate) enum Answer {
    Sends {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// The connection breaks before the answer, or in the middle of it.
    Breaks {
        in_body: bool,
    },
    Never,
}

/// Requests that were asked of a registry, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) lists: u64,
    pub(crate) heads: u64,
    pub(crate) manifests: u64,
    pub(crate) blobs: u64,
    pub(crate) tokens: u64,
    pub(crate) refused: u64,
}

#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) traits: Traits,
    pub(crate) repositories: BTreeMap<String, Repository>,
    pub(crate) outages: Vec<Outage>,
    pub(crate) law: Law,
    pub(crate) counts: Counts,
    pub(crate) counter: Option<Counter>,
    digests: Digests,
    /// What it bears is left of.
    bucket: f64,
    filled_at: Duration,
    /// Manifests that were pushed, and the beginnings of the digests of those that were fetched.
    wanted: u64,
    fetched: HashSet<u64>,
    pub(crate) random: fastrand::Rng,
}

/// What is asked, as far as a registry is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) is_head: bool,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) is_authorized: bool,
    pub(crate) if_none_match: Option<&'a str>,
}

impl Registry {
    pub(crate) fn new(traits: Traits, seed: u64) -> Self {
        Self {
            law: Law::new(traits.limits),
            counter: traits.quota.map(Counter::new),
            bucket: traits.bears.map_or(0.0, |(_, burst)| burst),
            traits,
            repositories: BTreeMap::new(),
            outages: Vec::new(),
            counts: Counts::default(),
            digests: Digests::default(),
            filled_at: Duration::ZERO,
            wanted: 0,
            fetched: HashSet::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// What kind of request goes to this address, if it is one of the registry's.
    pub(crate) fn kind_at(&self, address: &str) -> Option<Kind> {
        if address == self.traits.address {
            Some(Kind::Registry)
        } else if Some(address) == self.traits.token_address {
            Some(Kind::Token)
        } else if Some(address) == self.traits.blob_address {
            Some(Kind::Blobs)
        } else {
            None
        }
    }

    pub(crate) fn trouble(&self, now: Duration) -> Option<Trouble> {
        let outage = self.outages.iter().find(|outage| outage.from <= now && now < outage.to)?;
        Some(outage.trouble)
    }

    /// How long an answer takes.
    pub(crate) fn latency(&mut self) -> Duration {
        let (least, most) = self.traits.latency;
        Duration::from_millis(self.random.u64(least..=most))
    }

    /// A tag points at an image from now on, or at none.
    pub(crate) fn set(&mut self, now: Duration, path: &str, tag: &str, image: Option<Image>) {
        if let Some(image) = image {
            self.wanted += image.manifests() as u64;
        }
        let fetched_before = self.fetched();
        let digest: Option<Arc<str>> = image.map(|image| self.digests.add(image).into());
        let repository = self.repositories.entry(path.to_owned()).or_default();
        let is_version = super::allowance::is_version(tag);
        let tag = repository.tags.entry(tag.to_owned()).or_insert_with(|| Tag {
            digest: None,
            is_version,
            told: Told::default(),
            log: Vec::new(),
        });
        let is_listed_anew = tag.digest.is_some() != digest.is_some();
        if is_listed_anew {
            repository.version += 1;
            tag.told = Told::default();
        }
        let due = tag.told.at.filter(|_| !is_listed_anew).map(|at| at + tag.told.interval);
        tag.digest = digest;
        tag.log.push(Change { at: now, image, due, fetched_before });
    }

    /// How many manifests were fetched.
    pub(crate) fn fetched(&self) -> u64 {
        self.fetched.len() as u64
    }

    /// How many manifests were pushed that were not among the first to be fetched.
    pub(crate) fn wanted_after(&self, fetched: u64) -> u64 {
        self.wanted.saturating_sub(fetched)
    }

    /// Answers what arrived.
    pub(crate) fn answer(&mut self, now: Duration, kind: Kind, asked: &Asked<'_>) -> Answer {
        self.count(kind, asked);
        match self.trouble(now) {
            Some(Trouble::Hangs) => return Answer::Never,
            Some(Trouble::Refuses) => return self.too_many(now, kind, 3_600, Vec::new()),
            None => {}
        }
        if !self.bears_it(now) {
            let pause = self.random.u64(2..=10);
            return self.too_many(now, kind, pause, Vec::new());
        }
        if self.random.f64() < self.traits.fails {
            return match self.random.u8(0..4) {
                0 | 1 => sends(500, Vec::new(), b"{}".to_vec()),
                2 => Answer::Breaks { in_body: self.random.bool() },
                _ => Answer::Never,
            };
        }
        match kind {
            Kind::Token => {
                let token = format!(r#"{{"token":"t{}","expires_in":{TOKEN_SECONDS}}}"#, self.random.u32(..));
                sends(200, Vec::new(), token.into_bytes())
            }
            Kind::Blobs => self.blob(asked.path),
            Kind::Registry => self.answer_of_registry(now, asked),
        }
    }

    fn count(&mut self, kind: Kind, asked: &Asked<'_>) {
        let counts = &mut self.counts;
        let count = match kind {
            Kind::Token => &mut counts.tokens,
            Kind::Blobs => &mut counts.blobs,
            Kind::Registry if asked.path.contains("/tags/list") => &mut counts.lists,
            Kind::Registry if asked.path.contains("/blobs/") => &mut counts.blobs,
            Kind::Registry if asked.is_head => &mut counts.heads,
            Kind::Registry => &mut counts.manifests,
        };
        *count += 1;
    }

    fn too_many(
        &mut self,
        now: Duration,
        kind: Kind,
        pause: u64,
        headers: Vec<(&'static str, String)>,
    ) -> Answer {
        self.counts.refused += 1;
        self.law.hold(now, kind, Duration::from_secs(pause));
        let headers = [("retry-after", pause.to_string())].into_iter().chain(headers).collect();
        sends(429, headers, br#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#.to_vec())
    }

    fn bears_it(&mut self, now: Duration) -> bool {
        let Some((rate, burst)) = self.traits.bears else { return true };
        let elapsed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.bucket = (self.bucket + elapsed * rate).min(burst);
        self.filled_at = now;
        let is_borne = self.bucket >= 1.0;
        if is_borne {
            self.bucket -= 1.0;
        }
        is_borne
    }

    fn answer_of_registry(&mut self, now: Duration, asked: &Asked<'_>) -> Answer {
        let path = asked.path.strip_prefix("/v2/").unwrap_or_default();
        if let Some(realm) = self.traits.token_address
            && !asked.is_authorized
        {
            let repository =
                ["/tags/", "/manifests/", "/blobs/"].iter().find_map(|part| path.split_once(part));
            let scope = repository.map_or("", |(repository, _)| repository);
            let challenge = format!(
                r#"Bearer realm="https://{realm}/token",service="{}",scope="repository:{scope}:pull""#,
                self.traits.address
            );
            return sends(401, vec![("www-authenticate", challenge)], Vec::new());
        }
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return self.list(now, repository, asked);
        }
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            return self.manifest(now, repository, reference, asked.is_head);
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            return match self.traits.blob_address {
                Some(address) => {
                    let location = format!("https://{address}/{digest}?signed=1");
                    sends(307, vec![("location", location)], Vec::new())
                }
                None => self.blob(&format!("/{digest}")),
            };
        }
        not_found()
    }

    fn blob(&self, path: &str) -> Answer {
        match self.digests.document(path.trim_start_matches('/')) {
            Some(document) => {
                sends(200, vec![("content-type", "application/octet-stream".to_owned())], document.bytes)
            }
            None => not_found(),
        }
    }

    fn list(&mut self, now: Duration, path: &str, asked: &Asked<'_>) -> Answer {
        let Some(repository) = self.repositories.get_mut(path) else { return not_found() };
        let parameter = |name: &str| {
            asked.query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)
        };
        let size = parameter("n").and_then(|(_, size)| size.parse().ok()).unwrap_or(PAGE).min(PAGE);
        let last = parameter("last").map_or("", |(_, last)| last);
        let etag = format!("\"{}\"", repository.version);
        let etag = (self.traits.validates && last.is_empty()).then_some(etag);
        if etag.is_some() && asked.if_none_match == etag.as_deref() {
            repository.was_listed(now);
            return sends(304, vec![("etag", etag.unwrap_or_default())], Vec::new());
        }
        let names = repository.tags.iter().filter(|(_, tag)| tag.digest.is_some()).map(|(name, _)| name);
        let mut page: Vec<&String> = names.skip_while(|name| name.as_str() <= last).take(size + 1).collect();
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(etag.map(|etag| ("etag", etag)));
        let is_last = page.len() <= size;
        if !is_last {
            page.pop();
            let next = format!("</v2/{path}/tags/list?n={size}&last={}>; rel=\"next\"", page[size - 1]);
            headers.push(("link", next));
        }
        let body = serde_json::json!({"name": path, "tags": page}).to_string().into_bytes();
        if is_last {
            repository.was_listed(now);
        }
        sends(200, headers, body)
    }

    fn manifest(&mut self, now: Duration, path: &str, reference: &str, is_head: bool) -> Answer {
        let mut headers = Vec::new();
        if let Some(counter) = self.counter.as_mut().filter(|_| !is_head) {
            let is_within = counter.pull(now);
            let Quota { limit, window } = counter.quota;
            headers.push(("ratelimit-limit", format!("{limit};w={}", window.as_secs())));
            headers.push(("ratelimit-remaining", format!("{};w={}", counter.left(now), window.as_secs())));
            if !is_within {
                let (used, ends) = (counter.most_used, counter.ends(now));
                self.law.broken(now, format!("{path}: one pull more than {used}, before {ends:?}"));
                return self.too_many(now, Kind::Registry, 60, headers);
            }
        }
        let digest = if reference.starts_with("sha256:") {
            reference.to_owned()
        } else {
            let Some(tag) = self.repositories.get_mut(path).and_then(|it| it.tags.get_mut(reference)) else {
                return not_found();
            };
            let Some(digest) = tag.digest.clone() else { return not_found() };
            // Who cannot have what is behind a move has not seen it yet, and goes on as before.
            let image = tag.current().image.filter(|_| self.traits.quota.is_some());
            let manifests = image.map(|image| image.documents().into_iter().take(image.manifests()));
            let mut digests = manifests.into_iter().flatten().map(|it| beginning(&it.digest));
            tag.told.awaits_its_turn = digests.any(|digest| !self.fetched.contains(&digest));
            let is_followed = self.traits.quota.is_none() && self.traits.fails == 0.0;
            tag.told.digest_was_told(now, &digest, tag.is_version, is_followed);
            digest.as_ref().to_owned()
        };
        if is_head {
            // Nobody asks by HEAD about what stands below an index.
            let Some(media_type) = self.digests.media_type(&digest) else { return not_found() };
            headers.push(("content-type", media_type.to_owned()));
            headers.push(("docker-content-digest", digest));
            return sends(200, headers, Vec::new());
        }
        let Some(document) = self.digests.document(&digest) else { return not_found() };
        self.fetched.insert(beginning(&digest));
        headers.push(("content-type", document.media_type.to_owned()));
        headers.push(("docker-content-digest", digest));
        sends(200, headers, document.bytes)
    }
}

impl Repository {
    fn was_listed(&mut self, now: Duration) {
        self.first_listed_at.get_or_insert(now);
        self.listed_at = Some(now);
        self.listings += 1;
    }
}

impl Tag {
    /// What it is now.
    pub(crate) fn current(&self) -> &Change {
        self.log.last().expect("it was pushed")
    }

    /// The digest that it points at now, if it is there.
    pub(crate) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

impl Told {
    fn digest_was_told(&mut self, now: Duration, digest: &Arc<str>, is_version: bool, is_followed: bool) {
        let is_first = self.at.is_none();
        let has_moved = is_followed && !is_first && self.digest.as_ref() != Some(digest);
        let waited = self.at.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        self.interval =
            super::allowance::next_interval(is_version, is_first, has_moved, waited.max(self.interval));
        self.digest = Some(Arc::clone(digest));
        self.at = Some(now);
        self.times += 1;
    }
}

fn sends(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Answer {
    Answer::Sends { status, headers, body }
}

fn not_found() -> Answer {
    sends(404, Vec::new(), br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_vec())
}
