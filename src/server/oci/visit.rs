//! One client's question about one repository: reading what is stored, and having fetched what is not, within a bounded time.

use std::sync::Arc;

use jiff::Timestamp;
use samovar_registry::{Digest, Name, Reference, Tag};
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use super::error::{Code, OciError};
use super::memory::{Memory, Pointer, Said};
use super::provenance::{self, Kind};
use super::stale;
use crate::cache::CacheError;
use crate::cache::load::Pages;
use crate::cache::records::{LastError, TagRecord, TagSide, TagState, Unavailable};
use crate::cache::snapshot::Snapshot;
use crate::metrics::Waited;
use crate::server::Doors;
use crate::server::following::Following;
use crate::server::on_demand::Admitted;
use crate::store::{Documents, StoreError, StoredDocument};
use crate::warmer::{Lack, Piece, RefreshResult, Unobtainable};

/// One question about a repository that is watched, or is from now on.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub(super) doors: &'a Doors,
    pub(super) name: &'a Name,
    pub(super) admitted: Admitted,
    /// What has not come by then is late.
    pub(super) deadline: Instant,
}

/// Where a tag points.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) digest: Digest,
    /// When the registry last said so.
    pub(super) at: Option<Timestamp>,
    /// Why it may not be so any more.
    pub(super) warning: Option<String>,
}

impl Visit<'_> {
    pub(super) fn memory(&self) -> &Memory {
        &self.doors.oci.memory
    }

    /// What is stored of the repository; where that is on its way, when it has come.
    pub(super) async fn snapshot(&self, wanted: Pages<'_>) -> Result<Arc<Snapshot>, OciError> {
        let mut following = None;
        let mut is_mended = false;
        loop {
            let error = match self.doors.cache.snapshot(self.name, wanted).await {
                Ok(snapshot) if snapshot.missing_pages == 0 => return Ok(snapshot),
                Ok(_) => CacheError::Torn { name: self.name.clone() },
                Err(error) => error,
            };
            if !self.is_on_its_way(&error) || self.deadline <= Instant::now() {
                return Err(self.without(error));
            }
            if !std::mem::replace(&mut is_mended, true) {
                self.doors.warmer.mend(self.name);
            }
            match &mut following {
                // And one more look: what was published in between is not told.
                None => following = Some(Following::new(self.doors, self.name, self.deadline)),
                Some(following) => _ = following.next().await,
            }
        }
    }

    /// Whether it makes sense to wait. Of what fails, the next try is not waited for.
    fn is_on_its_way(&self, error: &CacheError) -> bool {
        match error {
            CacheError::NotWatched { .. } | CacheError::Torn { .. } => true,
            CacheError::NeverListed { last_error, .. } => {
                last_error.as_ref().is_none_or(|error| self.is_from_before(error))
            }
            _ => false,
        }
    }

    /// Whether a failure is of an earlier time that the repository was watched.
    fn is_from_before(&self, error: &LastError) -> bool {
        self.admitted.begins() && error.at < self.admitted.at()
    }

    fn without(&self, error: CacheError) -> OciError {
        match error {
            CacheError::NeverListed { not_found: true, .. } => {
                OciError::new(Code::NameUnknown, error.to_string())
            }
            CacheError::NotWatched { .. } | CacheError::NeverListed { last_error: None, .. } => {
                OciError::late(self.name)
            }
            error => self.doors.problem(error).into(),
        }
    }

    fn store_failed(&self, error: StoreError) -> OciError {
        self.doors.problem(CacheError::Store(error)).into()
    }

    /// Where a tag points, by what is known, or else by what the registry says now.
    pub(super) async fn resolve(&self, tag: &Tag) -> Result<Resolved, OciError> {
        let mut is_asked = false;
        loop {
            let snapshot = self.snapshot(Pages::Holding(tag)).await?;
            let found = snapshot.tag(tag);
            let is_left_out = |state: &TagState| matches!(state, TagState::Excluded { digest: None, .. });
            let answered = match found {
                Some((record, _)) if is_left_out(&record.state) => return self.resolve_left_out(tag).await,
                Some((record, side)) => match &record.state {
                    TagState::Ok(_) | TagState::Excluded { .. } => {
                        let digest = record.state.digest().cloned();
                        let digest =
                            digest.ok_or_else(|| OciError::late(&format_args!("{}:{tag}", self.name)))?;
                        let warning = stale::of_tag(&snapshot, record, side);
                        return Ok(Resolved { digest, at: side.last_fetched, warning });
                    }
                    TagState::Unknown => Err(self.no_such_tag(tag)),
                    TagState::Failed { .. } | TagState::Pending => {
                        Err(self.without(self.unavailable(tag, record, side)))
                    }
                },
                None => Err(self.no_such_tag(tag)),
            };
            // What was never looked at, or is not listed, perhaps because it is new, is asked for now; once.
            let is_open = found.is_none_or(|(record, _)| record.state == TagState::Pending);
            let what = tag.as_str();
            if !is_open || is_asked || self.memory().is_absent(self.name, what) {
                return answered;
            }
            is_asked = true;
            match self.ask_about(tag).await? {
                Err(_) => {
                    self.count(Waited::Late);
                    return Err(OciError::late(&format_args!("{}:{tag}", self.name)));
                }
                Ok(Ok(())) => {
                    self.count(Waited::Ok);
                    let now = self.snapshot(Pages::Holding(tag)).await?;
                    if now.tag(tag).is_none() {
                        self.memory().note_absent(self.name, what.to_owned());
                    }
                }
                Ok(Err(reason)) => {
                    self.count(Waited::Failed);
                    // It may be known none the less, by now.
                    let now = self.snapshot(Pages::Holding(tag)).await?;
                    if now.tag(tag).is_none() {
                        return Err(OciError::new(Code::Unavailable, &*reason));
                    }
                }
            }
        }
    }

    /// Has the registry asked about a tag. `Err`: that takes too long.
    async fn ask_about(&self, tag: &Tag) -> Result<Result<RefreshResult, Elapsed>, OciError> {
        let ticket = self.doors.warmer.tag(self.name, tag.clone())?;
        let asked = tokio::time::timeout_at(self.deadline, ticket.done()).await;
        // It may be another replica that has asked, and stored what it was told.
        self.doors.hot.invalidate(self.name);
        Ok(asked)
    }

    fn unavailable(&self, tag: &Tag, record: &TagRecord, side: &TagSide) -> CacheError {
        let reference = Reference::new(self.name.clone(), Some(tag.clone()), None);
        match Unavailable::of(record, side) {
            Some(unavailable) => CacheError::Unavailable { reference, unavailable },
            None => CacheError::Torn { name: self.name.clone() },
        }
    }

    fn no_such_tag(&self, tag: &Tag) -> OciError {
        OciError::new(Code::ManifestUnknown, format!("{}:{tag} does not exist", self.name))
    }

    /// The registry no longer has what a tag pointed at: it is asked about the tag.
    pub(super) async fn resolve_again(&self, tag: &Tag) -> Result<Resolved, OciError> {
        match self.ask_about(tag).await? {
            Ok(Ok(())) => self.resolve(tag).await,
            Ok(Err(reason)) => Err(OciError::new(Code::Unavailable, &*reason)),
            Err(_) => Err(OciError::late(&format_args!("{}:{tag}", self.name))),
        }
    }

    /// Where a tag points about which the warmer asks nothing, because its name or the configuration leaves it out.
    async fn resolve_left_out(&self, tag: &Tag) -> Result<Resolved, OciError> {
        let said = self.said(Pointer::Tag(tag.clone()), Piece::Tag(tag.clone())).await?;
        let (said, warning) = said.ok_or_else(|| self.no_such_tag(tag))?;
        self.memory().add_members(self.name, [(said.digest.clone(), Kind::Manifest)]);
        Ok(Resolved { digest: said.digest, at: Some(said.at), warning })
    }

    /// Where a registry points, by its latest word, with why that may not be so any more; `None`: nowhere.
    pub(super) async fn said(
        &self,
        pointer: Pointer,
        piece: Piece,
    ) -> Result<Option<(Said, Option<String>)>, OciError> {
        let known = self.memory().said(self.name, &pointer);
        if let Some(known) = known.as_ref().filter(|known| known.holds()) {
            return Ok(Some((known.clone(), None)));
        }
        match self.fetch(piece).await {
            Ok(Some(digest)) => {
                let said = Said::new(digest, self.doors.clock.now());
                self.memory().keep_said(self.name, pointer, said.clone());
                Ok(Some((said, None)))
            }
            Ok(None) => Ok(None),
            // The last good answer stays.
            Err(error) => match known {
                Some(known) => {
                    let warning = stale::since(error.message(), Some(known.at));
                    Ok(Some((known, Some(warning))))
                }
                None => Err(error),
            },
        }
    }

    /// A manifest or an index of the repository, which is known to have it, or else is to be asked.
    pub(super) async fn manifest(
        &self,
        digest: &Digest,
        is_known: bool,
    ) -> Result<Arc<StoredDocument>, OciError> {
        let is_manifest = |document: &Arc<StoredDocument>| !document.media_type.is_empty();
        if is_known && let Some(document) = self.stored(digest).await?.filter(is_manifest) {
            self.learn_from(digest, &document);
            return Ok(document);
        }
        if self.fetch(Piece::Manifest(digest.clone())).await?.is_none() {
            return Err(OciError::new(Code::ManifestUnknown, format!("{} has no {digest}", self.name)));
        }
        self.memory().add_members(self.name, [(digest.clone(), Kind::Manifest)]);
        let document = self.stored(digest).await?.filter(is_manifest);
        let document = document.ok_or_else(|| OciError::late(&format_args!("{}@{digest}", self.name)))?;
        self.learn_from(digest, &document);
        Ok(document)
    }

    /// A configuration, or another small blob, that the repository is known to have.
    pub(super) async fn blob(&self, digest: &Digest) -> Result<Arc<StoredDocument>, OciError> {
        if let Some(document) = self.stored(digest).await? {
            return Ok(document);
        }
        if self.fetch(Piece::Blob(digest.clone())).await?.is_none() {
            return Err(OciError::new(Code::BlobUnknown, format!("{} has no {digest}", self.name)));
        }
        let document = self.stored(digest).await?;
        document.ok_or_else(|| OciError::late(&format_args!("{}@{digest}", self.name)))
    }

    /// A document by its digest, whosever it is: only for those who know that the repository has it.
    pub(super) async fn stored(&self, digest: &Digest) -> Result<Option<Arc<StoredDocument>>, OciError> {
        if let Some(document) = self.memory().document(digest) {
            return Ok(Some(document));
        }
        let stored = Documents(&*self.doors.store).get(digest).await;
        let Some(document) = stored.map_err(|error| self.store_failed(error))?.map(Arc::new) else {
            return Ok(None);
        };
        self.memory().keep_document(digest, &document);
        Ok(Some(document))
    }

    /// What a registry has pointed at is to be asked for again.
    pub(super) fn forget(&self, pointer: &Pointer) {
        self.memory().forget_said(self.name, pointer);
    }

    pub(super) async fn has(&self, digest: &Digest, kind: Kind) -> Result<bool, OciError> {
        let snapshot = self.snapshot(Pages::All).await?;
        self.has_learnt(&snapshot, digest, kind).await.map_err(|error| self.store_failed(error))
    }

    /// What a document of the repository names, the repository has.
    pub(super) fn learn_from(&self, digest: &Digest, document: &StoredDocument) {
        if self.memory().is_to_be_learnt(self.name, digest) {
            self.memory().add_members(self.name, provenance::named_by(document));
        }
    }

    /// Has a document fetched; `None`: the registry says that the repository has no such thing.
    async fn fetch(&self, piece: Piece) -> Result<Option<Digest>, OciError> {
        let what = match &piece {
            Piece::Tag(tag) => tag.to_string(),
            Piece::Manifest(digest) | Piece::Blob(digest) => digest.to_string(),
            Piece::Referrers(digest) => format!("referrers of {digest}"),
        };
        if self.memory().is_absent(self.name, &what) {
            return Ok(None);
        }
        let ticket =
            self.doors.warmer.document(self.name, piece).inspect_err(|_| self.count(Waited::Refused))?;
        let Ok(fetched) = tokio::time::timeout_at(self.deadline, ticket.done()).await else {
            self.count(Waited::Late);
            return Err(OciError::late(&format_args!("{what} of {}", self.name)));
        };
        match fetched {
            Ok(digest) => {
                self.count(Waited::Ok);
                Ok(Some(digest))
            }
            Err(Unobtainable { why: Lack::NotThere, .. }) => {
                self.count(Waited::NotThere);
                self.memory().note_absent(self.name, what);
                Ok(None)
            }
            Err(why) => {
                self.count(Waited::Failed);
                Err(OciError::unobtainable(&why))
            }
        }
    }

    fn count(&self, outcome: Waited) {
        self.doors.metrics.oci_waited(outcome);
    }
}
