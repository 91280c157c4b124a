//! What the configuration names.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use samovar_registry::Name;

use crate::config::RepositoryPattern;

/// The repositories that the configuration names, one by one or by patterns. Cheap to clone; all clones know the same.
#[derive(Debug, Clone, Default)]
pub struct Named(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    names: BTreeSet<Name>,
    patterns: Vec<RepositoryPattern>,
    /// The hosts of patterns of which it is known what they match, or that it cannot be known for now.
    found_out: Mutex<BTreeSet<String>>,
}

impl Named {
    /// What these names and patterns name.
    pub fn new(
        names: impl IntoIterator<Item = Name>,
        patterns: impl IntoIterator<Item = RepositoryPattern>,
    ) -> Self {
        let (names, patterns) = (names.into_iter().collect(), patterns.into_iter().collect());
        Self(Arc::new(Inner { names, patterns, found_out: Mutex::default() }))
    }

    /// Whether a repository is named by itself.
    pub fn is_exact(&self, name: &Name) -> bool {
        self.0.names.contains(name)
    }

    /// Whether a repository is named by itself or matched by a pattern, be it there or not.
    pub fn matches(&self, name: &Name) -> bool {
        self.is_exact(name) || self.0.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether a repository that is not watched yet may come to be by itself: it is named, or a pattern matches it and what the
    /// registry lists is still being found out.
    pub fn is_to_come(&self, name: &Name) -> bool {
        let found_out = self.0.found_out.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_exact(name) || !found_out.contains(name.host()) && self.matches(name)
    }

    /// What the patterns of a host match is watched, or cannot be known for now.
    pub(super) fn found_out(&self, host: &str) {
        let mut found_out = self.0.found_out.lock().unwrap_or_else(PoisonError::into_inner);
        if !found_out.contains(host) {
            found_out.insert(host.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use samovar_registry::Aliases;

    use super::*;

    #[test]
    fn what_a_pattern_matches_is_to_come_until_its_registry_has_spoken() {
        let pattern = RepositoryPattern::parse("r.example/team/*", &Aliases::default()).unwrap().0;
        let name = |text: &str| text.parse::<Name>().unwrap();
        let named = Named::new([name("r.example/exact")], [pattern]);
        let (exact, matched, other) =
            (name("r.example/exact"), name("r.example/team/app"), name("r.example/other"));
        assert!(named.is_to_come(&exact) && named.is_to_come(&matched) && !named.is_to_come(&other));
        named.found_out("r.example");
        assert!(named.is_to_come(&exact) && !named.is_to_come(&matched));
        assert!(named.matches(&exact) && named.matches(&matched) && !named.matches(&other));
        assert!(named.is_exact(&exact) && !named.is_exact(&matched));
    }
}
