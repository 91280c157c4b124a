//! What is wrong with a source: said once in the log when it begins and when it ends, and shown in the status meanwhile.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

/// How many problems of a source are shown and logged one by one; the rest are counted.
const MAX_SOURCE_PROBLEMS: usize = 50;

/// The problems that a source has now. Cheap to clone; all clones show the same.
#[derive(Debug, Clone, Default)]
pub struct SourceProblems(Arc<Mutex<Problems>>);

#[derive(Debug, Default)]
struct Problems {
    logged: Vec<String>,
    elsewhere: Vec<String>,
}

/// What problems are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concern {
    Credentials,
    /// Finding repositories.
    Repositories,
}

impl Concern {
    /// What is logged of a problem when it begins, and when it ends.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Credentials => {
                ("some credentials cannot be used", "credentials that could not be used are mended or gone")
            }
            Self::Repositories => {
                ("repositories may be missing from the watch list", "repositories are no longer missing")
            }
        }
    }
}

impl SourceProblems {
    /// The problems, each by name; at most 50, and then how many more there are.
    pub fn list(&self) -> Vec<String> {
        let problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bounded([problems.logged.as_slice(), &problems.elsewhere].concat())
    }

    /// Takes note of the problems as they are now, and logs which are new and which are gone. What is logged `elsewhere` is
    /// only shown.
    pub(super) fn replace(&self, concern: Concern, now: Vec<String>, elsewhere: Vec<String>) {
        let (begun, ended) = concern.words();
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = now.iter().filter(|problem| !problems.logged.contains(problem)).cloned();
        for problem in bounded(new.collect()) {
            warn!(error = problem, "{begun}");
        }
        let gone = problems.logged.iter().filter(|problem| !now.contains(problem)).cloned();
        for problem in bounded(gone.collect()) {
            info!(error = problem, "{ended}");
        }
        *problems = Problems { logged: now, elsewhere };
    }
}

fn bounded(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(MAX_SOURCE_PROBLEMS);
    if more > 0 {
        problems.truncate(MAX_SOURCE_PROBLEMS);
        problems.push(format!("and {more} more"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_shown_as_they_are_now_and_bounded() {
        let problems = SourceProblems::default();
        let shown = problems.clone();
        assert!(shown.list().is_empty());
        problems.replace(Concern::Credentials, vec!["one".to_owned()], vec!["two".to_owned()]);
        assert_eq!(shown.list(), ["one", "two"]);
        problems.replace(
            Concern::Credentials,
            (0..60).map(|number| number.to_string()).collect(),
            Vec::new(),
        );
        let list = shown.list();
        assert_eq!((list.len(), list[50].as_str()), (51, "and 10 more"));
    }
}
