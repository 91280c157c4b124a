//! Which tags of a watched repository are wanted.
//!
//! Whether a tag is among the newest-looking ones depends on what else is listed, so deciding takes two steps:
//! [`TagFilter::choose`] looks at all tags, [`Chosen::verdict`] at one.

mod pattern;

use std::collections::BTreeSet;
use std::fmt;

use samovar_registry::{Newness, Tag};

pub(crate) use pattern::compile;
pub use pattern::{TagPattern, TagRegex};

/// What is done with a tag that a watched repository lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is kept warm.
    Wanted,
    /// It is excluded, for this reason.
    Ignored(IgnoredFor),
}

/// Why a tag is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoredFor {
    /// No watch names it.
    NotWatched,
    /// A watch that would have it ignores it.
    IgnoreTags,
    /// A watch that would have it wants no more than so many, and others look newer.
    NotNewest(usize),
}

impl fmt::Display for IgnoredFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWatched => f.write_str("not among the watched tags"),
            Self::IgnoreTags => f.write_str("matches ignore_tags"),
            Self::NotNewest(newest) => write!(f, "not among the {newest} newest-looking"),
        }
    }
}

/// The tags of one repository that are wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum TagFilter {
    /// Every tag.
    #[default]
    All,
    /// What at least one of several watches selects.
    Selected(TagSelection),
}

/// The union of what several watches of one repository select.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TagSelection {
    exact: BTreeSet<Tag>,
    rules: Vec<TagRule>,
}

/// What one watch with patterns selects: what `include` matches, all where it is absent, less what `ignore` matches; of
/// these, where it is limited, the `newest` that look newest.
#[derive(Debug, Clone, PartialEq)]
struct TagRule {
    include: Option<Vec<TagPattern>>,
    ignore: Vec<TagPattern>,
    newest: Option<usize>,
}

/// A filter that knows which tags there are.
#[derive(Debug, Clone)]
pub struct Chosen {
    filter: TagFilter,
    /// For each rule the oldest-looking tag that it still wants, where there are more than it wants.
    oldest: Vec<Option<Newness>>,
}

impl TagFilter {
    /// Exactly one tag.
    pub fn exactly(tag: Tag) -> Self {
        Self::Selected(TagSelection { exact: BTreeSet::from([tag]), rules: Vec::new() })
    }

    /// The tags that `include` matches (every tag where it is absent), less those that `ignore` matches; of these, with
    /// `newest`, only so many that look newest by their names.
    pub fn matching(
        include: Option<Vec<TagPattern>>,
        ignore: Vec<TagPattern>,
        newest: Option<usize>,
    ) -> Self {
        if include.is_none() && ignore.is_empty() && newest.is_none() {
            return Self::All;
        }
        let rule = TagRule { include, ignore, newest };
        Self::Selected(TagSelection { exact: BTreeSet::new(), rules: vec![rule] })
    }

    /// The tags that this filter or the other one wants.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Selected(mut selection), Self::Selected(mut other)) => {
                selection.exact.append(&mut other.exact);
                selection.rules.append(&mut other.rules);
                Self::Selected(selection)
            }
        }
    }

    /// Whether what is wanted depends on which tags there are.
    pub fn is_relative(&self) -> bool {
        self.rules().iter().any(|rule| rule.newest.is_some())
    }

    /// Looks at all tags that there are. This costs something only where the filter is [relative](Self::is_relative).
    pub fn choose<'a>(&self, tags: impl Iterator<Item = &'a Tag> + Clone) -> Chosen {
        let oldest = self.rules().iter().map(|rule| rule.oldest_wanted(tags.clone()));
        Chosen { filter: self.clone(), oldest: oldest.collect() }
    }

    fn rules(&self) -> &[TagRule] {
        match self {
            Self::All => &[],
            Self::Selected(selection) => &selection.rules,
        }
    }
}

impl TagRule {
    /// Whether the rule would have the tag, and does not ignore it.
    fn judge(&self, tag: &Tag) -> Result<(), IgnoredFor> {
        let matches = |patterns: &[TagPattern]| patterns.iter().any(|pattern| pattern.matches(tag));
        if !self.include.as_deref().is_none_or(matches) {
            return Err(IgnoredFor::NotWatched);
        }
        if matches(&self.ignore) { Err(IgnoredFor::IgnoreTags) } else { Ok(()) }
    }

    fn oldest_wanted<'a>(&self, tags: impl Iterator<Item = &'a Tag>) -> Option<Newness> {
        let newest = self.newest?;
        let mut candidates: Vec<Newness> =
            tags.filter(|tag| self.judge(tag).is_ok()).map(Tag::newness).collect();
        if candidates.len() <= newest {
            return None;
        }
        let position = candidates.len() - newest;
        Some(candidates.select_nth_unstable(position).1.clone())
    }
}

impl Chosen {
    /// Whether this was chosen by that filter.
    pub fn is_by(&self, filter: &TagFilter) -> bool {
        self.filter == *filter
    }

    /// Whether a tag is wanted, and if not, why: of several reasons, the one that came closest. A tag that was not among
    /// those that were looked at is wanted if it would be one of the newest-looking.
    pub fn verdict(&self, tag: &Tag) -> Verdict {
        let TagFilter::Selected(TagSelection { exact, rules }) = &self.filter else {
            return Verdict::Wanted;
        };
        if exact.contains(tag) {
            return Verdict::Wanted;
        }
        let mut reason = IgnoredFor::NotWatched;
        for (rule, oldest) in rules.iter().zip(&self.oldest) {
            match (rule.judge(tag), oldest) {
                (Ok(()), None) => return Verdict::Wanted,
                (Ok(()), Some(oldest)) if tag.newness() >= *oldest => return Verdict::Wanted,
                (Ok(()), Some(_)) => reason = rule.newest.map_or(reason, IgnoredFor::NotNewest),
                (Err(IgnoredFor::IgnoreTags), _) if reason == IgnoredFor::NotWatched => {
                    reason = IgnoredFor::IgnoreTags;
                }
                (Err(_), _) => {}
            }
        }
        Verdict::Ignored(reason)
    }
}

#[cfg(test)]
mod tests;
