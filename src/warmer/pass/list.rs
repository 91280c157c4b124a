//! Asking for the list of a repository, and judging what it says.

use std::sync::Arc;

use jiff::Timestamp;
use samovar_registry::upstream::{ListState, Listing, Operation, Upstream, UpstreamError};
use tracing::warn;

use super::{Pass, Problem, Scope};
use crate::warmer::change::Cause;
use crate::warmer::tag::Circumstance;
use crate::warmer::working_copy::ListVerdict;

/// A list that was read, or could not be.
#[derive(Debug)]
pub(in crate::warmer) struct Listed {
    /// What was known of the list when it was asked for.
    known: Option<ListState>,
    /// When its reading began.
    pub(in crate::warmer) began: Timestamp,
    pub(in crate::warmer) result: Result<Listing, UpstreamError>,
}

impl Listed {
    /// Whether it says something to those who know this of the list.
    fn holds_for(&self, known: Option<&ListState>) -> bool {
        match self.result {
            Ok(Listing::Unchanged(_) | Listing::Newer(..)) => self.known.as_ref() == known,
            Ok(Listing::Whole(..)) | Err(_) => true,
        }
    }
}

impl Pass {
    pub(super) fn must_list(&self, scope: Scope) -> bool {
        let state = self.copy.state();
        let failed_before = state.side.attempts > 0;
        let due = state.listing_is_due(&self.watch.tags, &self.poll_interval(), self.context.clock.now());
        due || matches!(scope, Scope::Everything | Scope::List) || (self.list_again && failed_before)
    }

    /// Lists, and takes over what the list says. `Ok(false)`: it was interrupted, and is due.
    pub(super) async fn list(
        &self,
        upstream: &Arc<dyn Upstream>,
        listed: Option<Listed>,
    ) -> Result<bool, Problem> {
        let known = self.copy.state().known_list(&self.watch.tags).cloned();
        let listed = match listed.filter(|listed| listed.holds_for(known.as_ref())) {
            Some(listed) => Some(listed),
            None => self.read_list(upstream, known).await?,
        };
        let Some(Listed { began, result: listed, .. }) = listed else {
            self.make_listing_due().await?;
            return Ok(false);
        };
        let at = self.circumstance(began);
        self.note_webhook(at.now);
        match &listed {
            Ok(listing) => self.take_listing(listing, at),
            Err(error) => {
                let is_news = {
                    let mut state = self.copy.state();
                    let (failed, was_denied) = (state.side.attempts > 0, state.side.denied.is_some());
                    state.list_failed(error, at);
                    let fails = state.side.attempts > 0;
                    (fails && !failed) || (state.side.denied.is_some() && !was_denied)
                };
                if is_news {
                    warn!(image.name = %self.name, error = %error, "the repository cannot be listed");
                }
            }
        }
        self.publish().await?;
        listed.map_err(|error| Problem::of(error, at.now)).map(|_| true)
    }

    /// Whatever it was to be listed for holds on, also where this pass is forgotten.
    async fn make_listing_due(&self) -> Result<(), Problem> {
        {
            let (mut state, now) = (self.copy.state(), self.context.clock.now());
            if !state.listing_is_due(&self.watch.tags, &self.poll_interval(), now) {
                state.side.next_listing = Some(now);
                state.side_header_changed = true;
            }
        }
        self.publish_unsaved().await
    }

    /// Reads the list, unless the registry wants to be left alone. `None`: something more urgent waits, and nobody has asked
    /// for this list.
    pub(in crate::warmer) async fn read_list(
        &self,
        upstream: &Arc<dyn Upstream>,
        known: Option<ListState>,
    ) -> Result<Option<Listed>, Problem> {
        let began = self.context.now();
        let result = if let Some(error) = self.held_back(Operation::Tags) {
            Err(error)
        } else {
            tokio::select! {
                biased;
                problem = self.must_end() => return Err(problem),
                () = self.interrupt.cancelled(), if self.cause == Cause::Poll => return Ok(None),
                listed = upstream.list(known.as_ref(), self.urgency()) => listed,
                error = self.held_back_meanwhile(Operation::Tags) => Err(error),
            }
        };
        Ok(Some(Listed { known, began, result }))
    }

    fn take_listing(&self, listing: &Listing, at: Circumstance) {
        let (filter, poll) = (&self.watch.tags, &self.poll_interval());
        let mut state = self.copy.state();
        match listing {
            Listing::Unchanged(left) => state.list_unchanged(left.clone(), filter, poll, at),
            Listing::Newer(list, left) => state.apply_newer(list, left.clone(), filter, poll, at),
            Listing::Whole(list, left) => {
                let invalid_before = state.invalid_tags;
                let verdict = state.apply_list(list, filter, poll, at);
                if verdict == ListVerdict::Accepted {
                    state.remember_list(left.clone());
                }
                drop(state);
                if list.invalid > 0 && list.invalid != invalid_before {
                    warn!(image.name = %self.name, tags = list.invalid, "the registry lists strings that are no valid tags; they are left out");
                }
                if verdict == ListVerdict::HeldBack {
                    warn!(image.name = %self.name, tags = list.tags.len(), "the list shrank suspiciously; it is held back until confirmed");
                }
            }
        }
    }
}
