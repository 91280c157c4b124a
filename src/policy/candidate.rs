//! What a policy is told of one tag.

use jiff::Timestamp;
use samovar_registry::{ImageInfo, Labels, RepositoryMetadata, Tag};

use crate::cache::records::TagStateName;

/// A tag that a repository lists, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate<'a> {
    /// The tag.
    pub tag: &'a Tag,
    /// When it was first listed; absent for tags of a repository's first listing.
    pub first_seen: Option<Timestamp>,
    /// When it was last seen to move, if it was.
    pub moved_at: Option<Timestamp>,
    /// When it was last pushed, where the registry says so.
    pub pushed_at: Option<Timestamp>,
    /// Its image, or why there is none.
    pub standing: Standing<'a>,
}

/// The image behind a tag.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing<'a> {
    /// It is known.
    Image {
        /// When it says that it was built, decorated as for readers.
        created_at: Option<Timestamp>,
        /// The platforms that it offers.
        platforms: &'a [String],
        /// Its labels.
        labels: &'a Labels,
        /// The tag points at a newer one, which could not be fetched yet.
        is_outdated: bool,
    },
    /// There is none to show.
    Unavailable {
        /// Pending, excluded, unknown or failed.
        state: TagStateName,
        /// Why, in words.
        reason: Option<&'a str>,
    },
}

impl<'a> Candidate<'a> {
    /// A tag of which no more is known than that it is listed.
    pub fn pending(tag: &'a Tag) -> Self {
        let standing = Standing::Unavailable { state: TagStateName::Pending, reason: None };
        Self { tag, first_seen: None, moved_at: None, pushed_at: None, standing }
    }

    /// A tag with its image.
    pub fn of_image(tag: &'a Tag, image: &'a ImageInfo) -> Self {
        let ImageInfo { created_at, platforms, labels, first_seen, .. } = image;
        let standing = Standing::Image { created_at: *created_at, platforms, labels, is_outdated: false };
        Self { first_seen: *first_seen, standing, ..Self::pending(tag) }
    }

    /// The tags of a repository. Those without an image are taken for pending.
    pub fn all_of(metadata: &'a RepositoryMetadata) -> impl Iterator<Item = Self> {
        metadata.tags.iter().map(|tag| match metadata.images.get(tag) {
            Some(image) => Self::of_image(tag, image),
            None => Self::pending(tag),
        })
    }
}
