//! Which of several credentials work for a repository: found out once, and kept to.
//!
//! Only a memory, to be asked before asking the registry: whatever is forgotten is found out again by asking.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Name;
use crate::credentials::CredentialChain;

/// How many repositories are remembered. Beyond it any other one goes.
const MAX_STICKING: usize = 16_384;
/// How long credentials are kept to that are not the first of their chain: those before them may work again by then.
const LONGEST_SECOND_CHOICE: Duration = Duration::from_hours(1);

/// The credentials that work, of all repositories.
#[derive(Debug, Default)]
pub(super) struct Sticking {
    by_repository: Mutex<HashMap<Name, Choice>>,
}

#[derive(Debug)]
struct Choice {
    chain: CredentialChain,
    position: usize,
    until: Option<Instant>,
}

impl Sticking {
    /// The position in this chain of what worked for the repository.
    pub(super) fn position(&self, name: &Name, chain: &CredentialChain) -> Option<usize> {
        let choices = self.lock();
        let choice = choices.get(name).filter(|choice| choice.chain == *chain)?;
        let is_over = choice.until.is_some_and(|until| until <= Instant::now());
        (!is_over).then_some(choice.position)
    }

    /// What stands at this position of the chain works for the repository.
    pub(super) fn works(&self, name: &Name, chain: &CredentialChain, position: usize) {
        let until = (position > 0).then(|| Instant::now() + LONGEST_SECOND_CHOICE);
        let mut choices = self.lock();
        if choices.len() >= MAX_STICKING
            && !choices.contains_key(name)
            && let Some(other) = choices.keys().next().cloned()
        {
            choices.remove(&other);
        }
        choices.insert(name.clone(), Choice { chain: chain.clone(), position, until });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Choice>> {
        self.by_repository.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use crate::credentials::{Candidate, Credentials};

    fn chain(password: &str) -> CredentialChain {
        let alice = Credentials::Basic {
            username: "alice".to_owned(),
            password: Secret::new(password),
            provenance: "the test".into(),
        };
        CredentialChain::new(vec![Candidate::Fixed(alice), Candidate::Fixed(Credentials::Anonymous)])
    }

    fn name(number: usize) -> Name {
        format!("r.example/team/app{number}").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_choice_is_kept_to_and_the_second_for_a_while() {
        let sticking = Sticking::default();
        assert_eq!(sticking.position(&name(1), &chain("a")), None);
        sticking.works(&name(1), &chain("a"), 0);
        sticking.works(&name(2), &chain("a"), 1);
        tokio::time::advance(LONGEST_SECOND_CHOICE.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(sticking.position(&name(1), &chain("a")), Some(0));
        assert_eq!(sticking.position(&name(2), &chain("a")), Some(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(sticking.position(&name(1), &chain("a")), Some(0));
        assert_eq!(sticking.position(&name(2), &chain("a")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn other_credentials_start_anew() {
        let sticking = Sticking::default();
        sticking.works(&name(1), &chain("old"), 1);
        assert_eq!(sticking.position(&name(1), &chain("new")), None);
        assert_eq!(sticking.position(&name(2), &chain("old")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn repositories_are_bounded() {
        let sticking = Sticking::default();
        let chain = chain("a");
        for number in 0..=MAX_STICKING {
            sticking.works(&name(number), &chain, 0);
            assert_eq!(sticking.position(&name(number), &chain), Some(0));
        }
        sticking.works(&name(MAX_STICKING), &chain, 1);
        assert_eq!(sticking.lock().len(), MAX_STICKING);
    }
}
