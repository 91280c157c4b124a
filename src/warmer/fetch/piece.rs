//! Single documents, for readers who want them: see [`crate::warmer::document`].

use samovar_registry::Digest;
use samovar_registry::upstream::{Document, ManifestSelector};

use super::{Asking, FetchError, Fetcher};
use crate::store::{Documents, StoredDocument};
use crate::warmer::document::Piece;

impl Fetcher {
    /// Sees to it that the store has a document, of which the registry says that the repository has it; the digest that it
    /// is stored by.
    pub(in crate::warmer) async fn piece(
        &self,
        asking: Asking<'_>,
        piece: &Piece,
    ) -> Result<Digest, FetchError> {
        let Asking { upstream, urgency, .. } = asking;
        match piece {
            Piece::Tag(tag) => {
                let counts = upstream.counts_manifest_gets();
                let resolved = if counts { upstream.resolve(tag, urgency).await? } else { None };
                if let Some(digest) = resolved {
                    self.manifest(asking, &digest).await?;
                    return Ok(digest);
                }
                self.store(upstream.manifest(ManifestSelector::Tag(tag), urgency).await?).await
            }
            Piece::Manifest(digest) => self.of_the_repository(asking, digest).await,
            Piece::Blob(digest) => self.blob(asking, digest).await.map(|_| digest.clone()),
            Piece::Referrers(subject) => self.store(upstream.referrers(subject, None, urgency).await?).await,
        }
    }

    /// A manifest or index of this very repository.
    async fn of_the_repository(&self, asking: Asking<'_>, digest: &Digest) -> Result<Digest, FetchError> {
        let flight = self.flights.of(&asking, digest);
        let _alone = flight.lock().await;
        let stored = Documents(&*self.store).get(digest).await?;
        if stored.is_some_and(|stored| !stored.media_type.is_empty()) {
            // From a tag, or from another repository.
            asking.upstream.confirm(digest, asking.urgency).await?;
            self.metrics.documents_saved();
            return Ok(digest.clone());
        }
        self.store(asking.upstream.manifest(ManifestSelector::Digest(digest), asking.urgency).await?).await
    }

    /// Stores a document that somebody waits for: where that fails, there is nothing to be read.
    async fn store(&self, document: Document) -> Result<Digest, FetchError> {
        let Document { digest, media_type, bytes } = document;
        Documents(&*self.store).put(&digest, &StoredDocument { media_type, bytes }).await?;
        Ok(digest)
    }
}
