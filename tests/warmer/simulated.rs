//! A registry in memory, without a network: time is tokio's, so that days pass in milliseconds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use samovar_registry::credentials::CredentialChain;
use samovar_registry::upstream::{
    BudgetRecord, Catalog, CatalogError, Document, ErrorKind, ListState, Listing, ManifestSelector,
    Operation, TagList, Upstream, UpstreamError, UpstreamFactory, Urgency,
};
use samovar_registry::{Digest, Name, Tag};
use samovar_testing::Content;
use tokio::time::Instant;

/// One request, as the registry saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) name: Name,
    pub(crate) operation: Operation,
    /// The tag or digest.
    pub(crate) what: String,
    pub(crate) urgency: Urgency,
}

/// All registries of a simulated world.
#[derive(Debug, Clone, Default)]
pub(crate) struct World(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    tags: HashMap<Name, BTreeMap<Tag, Digest>>,
    documents: HashMap<Digest, (String, Bytes)>,
    /// Per host: how long an answer takes.
    latency: HashMap<String, Duration>,
    /// Per host: what every request meets.
    failures: HashMap<String, ErrorKind>,
    /// Per host: until when its budget lets nothing through.
    blocked: HashMap<String, Instant>,
    /// Per host: the part of its rate that is asked at.
    shares: HashMap<String, f64>,
    /// Per host: what is known of its limits that is to survive.
    budgets: HashMap<String, BudgetRecord>,
    /// Per host: what its budget was told of limits when its lane was taken over.
    restored: HashMap<String, Vec<BudgetRecord>>,
    /// Per host: how often its quota lets a manifest through that the schedule asks for.
    paces: HashMap<String, Pace>,
    /// Hosts that answer HEAD without saying a digest.
    digestless: HashSet<String>,
    /// What every listing meets.
    list_failure: Option<ErrorKind>,
    /// What listing repositories meets.
    catalog_failure: Option<ErrorKind>,
    /// Who does not log in is not told which repositories there are.
    catalog_wants_login: bool,
    /// Hosts that list no repositories though they have some.
    unlisted: HashSet<String>,
    asked: Vec<Asked>,
}

impl World {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap()
    }

    pub(crate) fn push(&self, name: &Name, tag: &str, content: &dyn Content) -> Digest {
        let mut contents = self.contents();
        for document in content.blobs().into_iter().chain(content.children()).chain([content.manifest()]) {
            contents
                .documents
                .insert(document.digest.parse().unwrap(), (document.media_type, document.bytes));
        }
        let digest: Digest = content.digest().parse().unwrap();
        contents.tags.entry(name.clone()).or_default().insert(tag.parse().unwrap(), digest.clone());
        digest
    }

    /// Another tag for what is there already.
    pub(crate) fn push_tag(&self, name: &Name, tag: &str, digest: &Digest) {
        self.contents().tags.entry(name.clone()).or_default().insert(tag.parse().unwrap(), digest.clone());
    }

    /// From now on, and for so long, requests to `host` wait as they do for a budget that is held back.
    pub(crate) fn hold_back(&self, host: &str, pause: Duration) {
        self.contents().blocked.insert(host.to_owned(), Instant::now() + pause);
    }

    /// What a tag points at.
    pub(crate) fn digest(&self, name: &Name, tag: &str) -> Option<Digest> {
        self.contents().tags.get(name)?.get(&tag.parse::<Tag>().ok()?).cloned()
    }

    /// All tags of a repository.
    pub(crate) fn tags(&self, name: &Name) -> Vec<String> {
        let contents = self.contents();
        contents.tags.get(name).into_iter().flat_map(BTreeMap::keys).map(ToString::to_string).collect()
    }

    /// A manifest or configuration, with its media type.
    pub(crate) fn document(&self, digest: &Digest) -> (String, Bytes) {
        self.contents().documents[digest].clone()
    }

    /// From now on `host` answers HEAD without saying a digest.
    pub(crate) fn tell_no_digests(&self, host: &str) {
        self.contents().digestless.insert(host.to_owned());
    }

    /// A tag whose manifest is none.
    pub(crate) fn push_broken(&self, name: &Name, tag: &str, document: &'static str) {
        let digest = Digest::sha256(document.as_bytes());
        let manifest = (
            "application/vnd.oci.image.manifest.v1+json".to_owned(),
            Bytes::from_static(document.as_bytes()),
        );
        self.contents().documents.insert(digest.clone(), manifest);
        self.push_tag(name, tag, &digest);
    }

    pub(crate) fn set_list_failure(&self, failure: Option<ErrorKind>) {
        self.contents().list_failure = failure;
    }

    pub(crate) fn set_catalog_failure(&self, failure: Option<ErrorKind>) {
        self.contents().catalog_failure = failure;
    }

    /// From now on, who does not log in is not told which repositories there are.
    pub(crate) fn list_for_logins_only(&self) {
        self.contents().catalog_wants_login = true;
    }

    /// From now on, or no longer, `host` lists no repositories.
    pub(crate) fn set_unlisted(&self, host: &str, is_unlisted: bool) {
        let mut contents = self.contents();
        if is_unlisted {
            contents.unlisted.insert(host.to_owned());
        } else {
            contents.unlisted.remove(host);
        }
    }

    /// Removes a repository.
    pub(crate) fn forget(&self, name: &Name) {
        self.contents().tags.remove(name);
    }

    pub(crate) fn remove(&self, name: &Name, tag: &str) {
        self.contents().tags.get_mut(name).unwrap().remove(tag);
    }

    pub(crate) fn set_latency(&self, host: &str, latency: Duration) {
        self.contents().latency.insert(host.to_owned(), latency);
    }

    /// Every request to `host` fails like this, or no longer.
    pub(crate) fn set_failure(&self, host: &str, failure: Option<ErrorKind>) {
        let mut contents = self.contents();
        match failure {
            Some(failure) => contents.failures.insert(host.to_owned(), failure),
            None => contents.failures.remove(host),
        };
    }

    /// The part of the rate at which `host` is asked.
    pub(crate) fn share(&self, host: &str) -> f64 {
        self.contents().shares.get(host).copied().unwrap_or(1.0)
    }

    /// From now on the budget of `host` knows this of its limits.
    pub(crate) fn set_budget(&self, host: &str, record: &BudgetRecord) {
        self.contents().budgets.insert(host.to_owned(), record.clone());
    }

    /// What the budget of `host` was told since the last call.
    pub(crate) fn take_restored(&self, host: &str) -> Vec<BudgetRecord> {
        self.contents().restored.remove(host).unwrap_or_default()
    }

    /// From now on, the quota of `host` lets the schedule have one manifest in this time.
    pub(crate) fn set_pace(&self, host: &str, pace: Duration) {
        let now = Instant::now();
        self.contents().paces.insert(host.to_owned(), Pace { every: pace, opens: now, promised: now });
    }

    /// What was asked since the last call.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.contents().asked)
    }

    pub(crate) fn count(&self, operation: Operation) -> usize {
        self.contents().asked.iter().filter(|asked| asked.operation == operation).count()
    }
}

impl UpstreamFactory for World {
    fn upstream(&self, name: &Name, _: &CredentialChain) -> Arc<dyn Upstream> {
        Arc::new(Repository { world: self.clone(), name: name.clone() })
    }

    fn catalog<'a>(
        &'a self,
        host: &'a str,
        credentials: &'a CredentialChain,
        urgency: Urgency,
    ) -> BoxFuture<'a, Result<Catalog, CatalogError>> {
        let name: Name = format!("{host}/catalog").parse().unwrap();
        let asking = Repository { world: self.clone(), name };
        async move {
            let listed = asking.ask(Operation::Catalog, String::new(), urgency, |contents| {
                let of_host = contents.tags.keys().filter(|name| name.host() == host);
                let repositories: BTreeSet<Name> = of_host.cloned().collect();
                let repositories =
                    if contents.unlisted.contains(host) { BTreeSet::new() } else { repositories };
                Some(Catalog { repositories: repositories.into_iter().collect(), invalid: 0 })
            });
            let listed = listed.await.map_err(|error| CatalogError::of(host, error.kind));
            if credentials.is_anonymous() && asking.world.contents().catalog_wants_login {
                let kind = ErrorKind::Denied { credentials: "no credentials".into(), message: None };
                return Err(CatalogError::of(host, kind));
            }
            listed
        }
        .boxed()
    }

    fn blocked_for(&self, name: &Name) -> Option<Duration> {
        let until = *self.contents().blocked.get(name.host())?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    fn set_share(&self, host: &str, share: f64) {
        self.contents().shares.insert(host.to_owned(), share);
    }

    fn budget_record(&self, host: &str) -> Option<BudgetRecord> {
        self.contents().budgets.get(host).cloned()
    }

    fn restore_budget(&self, host: &str, record: &BudgetRecord) {
        self.contents().restored.entry(host.to_owned()).or_default().push(record.clone());
    }
}

/// How a quota spreads what is left of it.
#[derive(Debug)]
struct Pace {
    every: Duration,
    /// When the next manifest may go.
    opens: Instant,
    /// The last turn that was given to one that may not.
    promised: Instant,
}

#[derive(Debug)]
struct Repository {
    world: World,
    name: Name,
}

impl Repository {
    async fn ask<T>(
        &self,
        operation: Operation,
        what: String,
        urgency: Urgency,
        answer: impl FnOnce(&Contents) -> Option<T>,
    ) -> Result<T, UpstreamError> {
        loop {
            let blocked = self.world.contents().blocked.get(self.name.host()).copied();
            let Some(until) = blocked.filter(|until| *until > Instant::now()) else { break };
            tokio::time::sleep_until(until).await;
        }
        if operation == Operation::Manifest && urgency == Urgency::Background {
            match self.turn() {
                Ok(turn) => tokio::time::sleep_until(turn).await,
                Err(retry_after) => {
                    let kind = ErrorKind::QuotaShort { retry_after, message: None };
                    return Err(UpstreamError { repository: self.name.clone(), operation, kind });
                }
            }
        }
        let latency = {
            let mut contents = self.world.contents();
            contents.asked.push(Asked { name: self.name.clone(), operation, what, urgency });
            contents.latency.get(self.name.host()).copied().unwrap_or_default()
        };
        tokio::time::sleep(latency).await;
        let contents = self.world.contents();
        let list_failure = contents.list_failure.as_ref().filter(|_| operation == Operation::Tags);
        let catalog_failure = contents.catalog_failure.as_ref().filter(|_| operation == Operation::Catalog);
        let met = contents.failures.get(self.name.host()).or(list_failure).or(catalog_failure);
        let answer = match met {
            Some(failure) => Err(failure.clone()),
            None => answer(&contents).ok_or(ErrorKind::NotFound { message: None }),
        };
        answer.map_err(|kind| UpstreamError { repository: self.name.clone(), operation, kind })
    }

    /// When the quota lets a manifest through, if that is soon; else after how long it is to be asked for again.
    fn turn(&self) -> Result<Instant, Duration> {
        let mut contents = self.world.contents();
        let now = Instant::now();
        let Some(Pace { every, opens, promised }) = contents.paces.get_mut(self.name.host()) else {
            return Ok(now);
        };
        let turn = now.max(*opens);
        if turn - now <= Duration::from_secs(30) {
            *opens = turn + *every;
            return Ok(turn);
        }
        *promised = (*opens).max(*promised + *every);
        Err(*promised - now)
    }

    fn digest_of(&self, contents: &Contents, tag: &Tag) -> Option<Digest> {
        contents.tags.get(&self.name)?.get(tag).cloned()
    }
}

#[async_trait]
impl Upstream for Repository {
    async fn list(&self, known: Option<&ListState>, urgency: Urgency) -> Result<Listing, UpstreamError> {
        self.ask(Operation::Tags, String::new(), urgency, |contents| {
            let tags = contents.tags.get(&self.name)?;
            let list = TagList { tags: tags.keys().cloned().collect(), ..TagList::default() };
            let state = ListState::of(&list);
            let unchanged = known == Some(&state);
            Some(if unchanged { Listing::Unchanged(state) } else { Listing::Whole(list, state) })
        })
        .await
    }

    async fn resolve(&self, tag: &Tag, urgency: Urgency) -> Result<Option<Digest>, UpstreamError> {
        let answer = |contents: &Contents| {
            let digest = self.digest_of(contents, tag)?;
            Some(Some(digest).filter(|_| !contents.digestless.contains(self.name.host())))
        };
        self.ask(Operation::Resolve, tag.to_string(), urgency, answer).await
    }

    async fn manifest(
        &self,
        what: ManifestSelector<'_>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError> {
        let asked = match what {
            ManifestSelector::Tag(tag) => tag.to_string(),
            ManifestSelector::Digest(digest) => digest.to_string(),
        };
        self.ask(Operation::Manifest, asked, urgency, |contents| {
            let digest = match what {
                ManifestSelector::Tag(tag) => self.digest_of(contents, tag)?,
                ManifestSelector::Digest(digest) => digest.clone(),
            };
            let (media_type, bytes) = contents.documents.get(&digest)?.clone();
            Some(Document { digest, media_type, bytes })
        })
        .await
    }

    async fn confirm(&self, digest: &Digest, urgency: Urgency) -> Result<(), UpstreamError> {
        let answer = |contents: &Contents| contents.documents.contains_key(digest).then_some(());
        self.ask(Operation::Resolve, digest.to_string(), urgency, answer).await
    }

    async fn config(&self, digest: &Digest, urgency: Urgency) -> Result<Bytes, UpstreamError> {
        let answer = |contents: &Contents| contents.documents.get(digest).map(|(_, bytes)| bytes.clone());
        self.ask(Operation::Config, digest.to_string(), urgency, answer).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        _artifact_type: Option<&str>,
        urgency: Urgency,
    ) -> Result<Document, UpstreamError> {
        self.ask(Operation::Referrers, subject.to_string(), urgency, |_| None).await
    }

    fn counts_manifest_gets(&self) -> bool {
        self.name.is_docker_hub()
    }
}
