//! Tag policies: which tag of a repository is the one to use.
//!
//! A [`Policy`] has an [`Order`] by which one tag is better than another, says which tags it looks at ([`NameFilter`]) and
//! what their images have to be like ([`Conditions`]). [`Policy::choose`] applies it to what is known of a repository's
//! tags, without any I/O:
//!
//! ```
//! use samovar::policy::{Candidate, Patterns, Policy};
//! use samovar_registry::{RepositoryMetadata, Tag};
//!
//! let tags = ["latest", "1.2.9", "1.3.0-alpine", "1.10.0", "2.0.0-rc.1"].map(|tag| tag.parse::<Tag>().unwrap());
//! let metadata = RepositoryMetadata { tags: tags.to_vec(), ..RepositoryMetadata::default() };
//!
//! let patterns = Patterns::default();
//! let policy = Policy::read([("semver", "^1.2"), ("exclude", "-alpine$")], &patterns)?;
//! let choice = policy.choose(Candidate::all_of(&metadata), "2026-11-20T00:00:00Z".parse().unwrap());
//! assert_eq!((choice.tags[0].as_str(), choice.matched), ("1.10.0", 2));
//! # Ok::<(), samovar::policy::ParameterError>(())
//! ```
//! [`Cache::latest`](crate::cache::Cache::latest) applies one to a repository that is kept warm.
//!
//! Invariants: the same tags, policy and time always give the same choice, whatever order the tags come in. Of equal tags
//! the last one in byte order is the better. A tag that might be better than those that are chosen, if only more were known
//! of it, makes the choice incomplete: an older one is never chosen in its stead without a word. What cannot be read in a
//! policy is refused and never matches everything.

mod best;
mod candidate;
mod choice;
mod conditions;
mod decimal;
mod names;
mod order;
mod parameters;
mod patterns;
mod range;
mod version;

pub use candidate::{Candidate, Standing};
pub(crate) use choice::Choosing;
pub use choice::{Choice, LeftOut};
pub use conditions::{AgeBy, Conditions, LabelSelector, MinAge};
pub use names::{Extract, NameFilter};
pub use order::{Direction, NewestBy, Order};
pub use parameters::{MOST_CHOSEN, ParameterError};
pub use patterns::{Pattern, Patterns};
pub use range::VersionRange;
pub use version::Strictness;

/// Which tag of a repository is the one to use.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What makes one tag better than another.
    pub order: Order,
    /// Which tags are looked at.
    pub names: NameFilter,
    /// What their images have to be like.
    pub conditions: Conditions,
    /// How many are chosen, the best ones.
    pub limit: usize,
    /// Whether a choice is of no use that what is missing could change.
    pub require_complete: bool,
}

impl Policy {
    /// Whether the choice may change with nothing but time.
    pub fn depends_on_time(&self) -> bool {
        self.conditions.min_age.is_some()
    }

    /// Whether it matters what the images of tags are like that are not chosen.
    pub fn looks_at_images(&self) -> bool {
        let Conditions { platforms, labels, .. } = &self.conditions;
        self.needs_created_at() || !platforms.is_empty() || !labels.is_empty()
    }

    /// Whether it matters when images were built.
    pub fn needs_created_at(&self) -> bool {
        matches!(self.order, Order::Newest(NewestBy::Created))
            || self.conditions.min_age.is_some_and(|min_age| min_age.by == AgeBy::Created)
    }
}
