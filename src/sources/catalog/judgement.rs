//! What is made of what a registry lists, for one login and another. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use samovar_registry::Name;
use samovar_registry::upstream::CatalogError;

use super::kept::Record;

/// What a registry listed for the logins that patterns have.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// All logins, each by the first pattern it is for.
    logins: BTreeSet<String>,
    repositories: BTreeSet<Name>,
    /// The logins for which it listed something, be it nothing.
    listed_for: BTreeSet<String>,
    /// What went wrong, by login.
    problems: Vec<(String, String)>,
    /// It is not known what there is for a login: one that could list before, or that failed for another reason than that it may
    /// not.
    is_partial: bool,
    retry_after: Option<Duration>,
}

/// What is known after a reading.
#[derive(Debug, PartialEq)]
pub(super) struct Learnt {
    pub(super) names: BTreeSet<Name>,
    /// How many repositories a list had that is to be confirmed.
    pub(super) shrunken: Option<usize>,
    pub(super) listed_for: BTreeSet<String>,
    /// What the other logins met.
    pub(super) problem: Option<String>,
}

impl Reading {
    /// Of these logins.
    pub(super) fn of(logins: impl IntoIterator<Item = String>) -> Self {
        Self { logins: logins.into_iter().collect(), ..Self::default() }
    }

    /// Nobody waits any longer.
    pub(super) fn too_slow(host: &str) -> Self {
        let problem = format!("listing the repositories of {host} takes too long");
        Self { problems: vec![(String::new(), problem)], is_partial: true, ..Self::default() }
    }

    /// A login was told these repositories.
    pub(super) fn listed(&mut self, login: &str, repositories: Vec<Name>) {
        self.listed_for.insert(login.to_owned());
        self.repositories.extend(repositories);
    }

    /// A login was told nothing.
    pub(super) fn failed(&mut self, login: &str, error: &CatalogError, before: &Record) {
        let problem = match error {
            CatalogError::CannotList { .. } => {
                self.is_partial |= before.listed_for.contains(login);
                error.to_string()
            }
            // Without what is another each time, so that it is said once.
            CatalogError::Failed { host, kind } => {
                self.is_partial = true;
                format!("the repositories of {host} could not be listed: {}", kind.class())
            }
        };
        self.problems.push((login.to_owned(), problem));
        self.retry_after = self.retry_after.max(error.kind().retry_after());
    }

    /// For how long the host wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What is known now, by what was `known` before; or what went wrong, where nothing was learnt.
    pub(super) fn learnt(self, known: Option<&BTreeSet<Name>>, before: &Record) -> Result<Learnt, String> {
        let first = self.problems.first().map(|(_, problem)| problem.clone());
        // Who was not asked because the host wants to be left alone may have something to list as well.
        let is_partial = self.is_partial || self.listed_for.len() + self.problems.len() < self.logins.len();
        if self.listed_for.is_empty() || is_partial && known.is_none() {
            return Err(first.unwrap_or_else(|| "the credentials cannot be read".to_owned()));
        }
        let (names, shrunken) = match known.filter(|_| is_partial) {
            Some(known) => (known | &self.repositories, before.shrunken),
            None => judge(known, self.repositories, before.shrunken),
        };
        let mut listed_for = self.listed_for;
        listed_for.extend(before.listed_for.intersection(&self.logins).cloned());
        let problems: Vec<String> =
            self.problems.iter().map(|(login, problem)| format!("{problem} (as for {login})")).collect();
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        Ok(Learnt { names, shrunken, listed_for, problem })
    }
}

/// What is believed of a list, and how many repositories it had if it is to be confirmed: a list is believed unless it lost more
/// than half of what was known and the one before, of `shrunken` repositories, did not lose about as many. Until then everything
/// is there that either of them has.
pub(super) fn judge(
    known: Option<&BTreeSet<Name>>,
    listed: BTreeSet<Name>,
    shrunken: Option<usize>,
) -> (BTreeSet<Name>, Option<usize>) {
    let Some(known) = known else { return (listed, None) };
    let lost = known.difference(&listed).count();
    let is_confirmed = shrunken.is_some_and(|before| are_alike(before, listed.len()));
    if lost * 2 <= known.len() || is_confirmed {
        return (listed, None);
    }
    (known | &listed, Some(listed.len()))
}

/// Whether neither of two lists has more than twice as many as the other.
fn are_alike(one: usize, other: usize) -> bool {
    one <= other * 2 && other <= one * 2
}

#[cfg(test)]
mod tests;
