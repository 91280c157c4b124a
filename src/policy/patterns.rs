//! Regular expressions over tags, each compiled once.

use std::fmt;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use regex::bytes::Regex;

use crate::config::compile_tag_regex;

/// Compiled expressions that are kept for the next one who asks; beyond it the one unused for longest goes.
const MOST_PATTERNS: NonZero<usize> = NonZero::new(512).unwrap();

/// A regular expression, compiled. It matches where it does: `^` and `$` make it match a whole tag. Matching takes time
/// linear in the length of the tag. Cheap to clone.
#[derive(Clone)]
pub struct Pattern(Arc<Regex>);

impl Pattern {
    /// Compiles one. The error says what is wrong with it.
    pub fn new(source: &str) -> Result<Self, String> {
        if source.is_empty() {
            return Err("a regular expression that is empty leaves nothing out".to_owned());
        }
        Ok(Self(Arc::new(compile_tag_regex(source)?)))
    }

    pub(super) fn regex(&self) -> &Regex {
        &self.0
    }

    /// Whether it matches somewhere in the text.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text.as_bytes())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

/// The expressions that were asked for lately, so that none is compiled for every question.
pub struct Patterns(Mutex<LruCache<Box<str>, Pattern>>);

impl Patterns {
    /// The expression, compiled now if nobody asked for it lately.
    pub fn get(&self, source: &str) -> Result<Pattern, String> {
        if let Some(known) = self.kept().get(source) {
            return Ok(known.clone());
        }
        // Others need not wait for the compiler; that two of them may run it does no harm.
        let pattern = Pattern::new(source)?;
        self.kept().put(source.into(), pattern.clone());
        Ok(pattern)
    }

    fn kept(&self) -> MutexGuard<'_, LruCache<Box<str>, Pattern>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Patterns {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST_PATTERNS)))
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patterns").field("kept", &self.kept().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_compiled_once_and_forgotten_when_there_are_too_many() {
        let patterns = Patterns::default();
        let first = patterns.get("^1").unwrap();
        assert!(Arc::ptr_eq(&first.0, &patterns.get("^1").unwrap().0));
        for number in 0..MOST_PATTERNS.get() {
            patterns.get(&format!("^{number}-alpine$")).unwrap();
        }
        assert_eq!(patterns.kept().len(), MOST_PATTERNS.get());
        assert!(!Arc::ptr_eq(&first.0, &patterns.get("^1").unwrap().0));
    }

    #[test]
    fn one_that_cannot_be_read_or_is_too_large_is_refused() {
        let patterns = Patterns::default();
        let long = "a".repeat(513);
        for (source, reason) in [
            ("", "leaves nothing out"),
            ("(", "\"(\" is no regular expression: unclosed group"),
            ("a{1,1000}{1,1000}", "is no regular expression: "),
            (r"\p{Greek}", "is no regular expression: "),
            ("(?=a)", "look-around"),
            (&long, "must not be longer than 512 bytes"),
        ] {
            let refused = patterns.get(source).unwrap_err();
            assert!(refused.contains(reason), "{source}: {refused}");
        }
        assert_eq!(patterns.kept().len(), 0);
    }
}
