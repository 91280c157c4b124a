//! What a program needs to know and ask about container images in a registry.
//!
//! - [`Name`], [`Reference`], [`Tag`], [`Digest`]: parsed once, canonical ever after;
//! - [`ImageInfo`], [`RepositoryMetadata`]: what is known of images, and the [`Registry`] trait that answers it;
//! - [`upstream`]: the client that asks real registries, within a budget per host.
//!
//! Nothing here stores or schedules: that is the `samovar` crate's part.

mod clock;
pub mod credentials;
mod digest;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod glob;
mod json;
mod labels;
mod metadata;
mod name;
mod newness;
mod parse;
mod platform;
mod reference;
mod secret;
mod tag_class;
pub mod upstream;
mod words;

pub use clock::{Clock, SystemClock, TokioClock};
pub use digest::Digest;
pub use glob::{Glob, Globs};
pub use labels::Labels;
pub use metadata::{ImageInfo, Registry, RepositoryMetadata};
pub use name::{Aliases, Name, canonical_host, host_spellings};
pub use newness::Newness;
pub use parse::ParseError;
pub use platform::{Platform, Platforms};
pub use reference::{Reference, Tag};
pub use secret::Secret;
pub use tag_class::{Companion, TagClass};
