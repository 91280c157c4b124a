//! Which tags of a watched repository are wanted.

use std::collections::BTreeSet;

use samovar_registry::{Globs, Tag};

/// What is done with a tag that a watched repository lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is kept warm.
    Wanted,
    /// It is excluded, for this reason.
    Ignored(&'static str),
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

/// What one watch with globs selects: what `include` matches, all where it is absent, less what `ignore` matches.
#[derive(Debug, Clone, PartialEq)]
struct TagRule {
    include: Option<Globs>,
    ignore: Globs,
}

impl TagFilter {
    /// Exactly one tag.
    pub fn exactly(tag: Tag) -> Self {
        Self::Selected(TagSelection { exact: BTreeSet::from([tag]), rules: Vec::new() })
    }

    /// The tags that `include` matches (every tag where it is absent), less those that `ignore` matches.
    pub fn matching(include: Option<Globs>, ignore: Globs) -> Self {
        if include.is_none() && ignore.is_empty() {
            return Self::All;
        }
        Self::Selected(TagSelection { exact: BTreeSet::new(), rules: vec![TagRule { include, ignore }] })
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

    /// Whether a tag is wanted, and if not, why.
    pub fn verdict(&self, tag: &Tag) -> Verdict {
        let Self::Selected(TagSelection { exact, rules }) = self else {
            return Verdict::Wanted;
        };
        if exact.contains(tag) {
            return Verdict::Wanted;
        }
        let mut reason = "not among the watched tags";
        for rule in rules {
            let included = rule.include.as_ref().is_none_or(|include| include.matches(tag.as_str()));
            if included && !rule.ignore.matches(tag.as_str()) {
                return Verdict::Wanted;
            }
            if included {
                reason = "matches ignore_tags";
            }
        }
        Verdict::Ignored(reason)
    }
}

#[cfg(test)]
mod tests {
    use samovar_registry::Glob;

    use super::*;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    fn globs(patterns: &[&str]) -> Globs {
        patterns.iter().map(|pattern| Glob::new(pattern).unwrap()).collect()
    }

    #[test]
    fn without_patterns_every_tag_is_wanted() {
        assert_eq!(TagFilter::matching(None, Globs::default()), TagFilter::All);
        assert_eq!(TagFilter::All.verdict(&tag("anything")), Verdict::Wanted);
    }

    #[test]
    fn include_and_ignore_are_told_apart() {
        let filter = TagFilter::matching(Some(globs(&["3.*", "edge"])), globs(&["*-rc*"]));
        assert_eq!(filter.verdict(&tag("3.20")), Verdict::Wanted);
        assert_eq!(filter.verdict(&tag("edge")), Verdict::Wanted);
        assert_eq!(filter.verdict(&tag("2.7")), Verdict::Ignored("not among the watched tags"));
        assert_eq!(filter.verdict(&tag("3.20-rc1")), Verdict::Ignored("matches ignore_tags"));
    }

    #[test]
    fn ignoring_alone_leaves_all_other_tags() {
        let filter = TagFilter::matching(None, globs(&["*.sig"]));
        assert_eq!(filter.verdict(&tag("1.0")), Verdict::Wanted);
        assert_eq!(filter.verdict(&tag("sha256-ab.sig")), Verdict::Ignored("matches ignore_tags"));
    }

    #[test]
    fn an_empty_include_list_wants_nothing() {
        let filter = TagFilter::matching(Some(Globs::default()), Globs::default());
        assert_eq!(filter.verdict(&tag("1.0")), Verdict::Ignored("not among the watched tags"));
    }

    #[test]
    fn a_union_wants_what_either_wants() {
        let released = TagFilter::matching(None, globs(&["*-rc*"]));
        let both = released.clone().union(TagFilter::exactly(tag("2.0-rc1")));
        assert_eq!(both.verdict(&tag("1.0")), Verdict::Wanted);
        assert_eq!(both.verdict(&tag("2.0-rc1")), Verdict::Wanted, "named exactly by the other watch");
        assert_eq!(both.verdict(&tag("2.0-rc2")), Verdict::Ignored("matches ignore_tags"));
        assert_eq!(released.clone().union(TagFilter::All), TagFilter::All);
        assert_eq!(TagFilter::All.union(released), TagFilter::All);
    }

    #[test]
    fn exact_tags_are_not_patterns() {
        let two = TagFilter::exactly(tag("1.0")).union(TagFilter::exactly(tag("1.1")));
        assert_eq!(two.verdict(&tag("1.1")), Verdict::Wanted);
        assert_eq!(two.verdict(&tag("1.0.1")), Verdict::Ignored("not among the watched tags"));
    }
}
