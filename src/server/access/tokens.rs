//! The tokens of a file, which is read again while samovar runs.
//!
//! Invariants:
//! - a file that cannot be used changes nothing: the last good one holds, and the status says so;
//! - how long a look-up takes says nothing of the tokens: what is compared is a hash under a key of this process, which
//!   nobody outside can aim at.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aws_lc_rs::{digest, hmac};
use samovar_registry::Secret;
use tracing::{info, warn};

use super::super::limits::Limits;
use super::{Caller, Known};
use crate::config::TokenFile;

/// Whoever has one of these tokens.
pub(super) struct Tokens {
    path: PathBuf,
    key: hmac::Key,
    table: RwLock<Table>,
    problem: Mutex<Option<String>>,
}

#[derive(Default)]
struct Table {
    file: TokenFile,
    callers: HashMap<Vec<u8>, Arc<Known>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the file for the first time, when it has to be good.
    pub(super) fn read(path: &Path, limits: &Limits) -> Result<Self, String> {
        let file = TokenFile::read(path).map_err(|error| error.to_string())?;
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new())
            .map_err(|_| "the system has no random numbers".to_owned())?;
        let tokens = Self { path: path.to_owned(), key, table: RwLock::default(), problem: Mutex::default() };
        tokens.take(file, limits);
        Ok(tokens)
    }

    /// Who has this token.
    pub(super) fn caller(&self, token: &Secret) -> Option<Caller> {
        let hash = digest::digest(&digest::SHA256, token.reveal().as_bytes());
        let place = self.place(hash.as_ref());
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.callers.get(&place).map(|known| Caller::known(Arc::clone(known)))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).file.tokens.len()
    }

    /// Why the file cannot be used as it is now.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again and takes over what has changed.
    pub(super) async fn look(&self, limits: &Limits) {
        let path = self.path.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || TokenFile::read(&path)).await else { return };
        let problem = match read {
            Ok(file) => {
                let is_new = self.table.read().unwrap_or_else(PoisonError::into_inner).file != file;
                if is_new {
                    info!(tokens = file.tokens.len(), "the file of tokens has changed");
                    self.take(file, limits);
                }
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_ref().filter(|problem| known.as_ref() != Some(problem)) {
            warn!(error = problem, "the file of tokens cannot be used: the last good one holds");
        }
        *known = problem;
    }

    fn take(&self, file: TokenFile, limits: &Limits) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut table.callers);
        for token in &file.tokens {
            let place = self.place(&token.sha256);
            let name = format!("token:{}", token.name);
            let is_same = |known: &Arc<Known>| known.name == name && known.grant == token.grant;
            let known = if let Some(known) = before.get(&place).filter(|known| is_same(known)) {
                Arc::clone(known)
            } else {
                let standing = limits.named(&name);
                Known::new(name, token.grant.clone(), standing)
            };
            if before.get(&place).is_some_and(|old| Arc::ptr_eq(old, &known)) {
                before.remove(&place);
            }
            table.callers.insert(place, known);
        }
        for known in before.values() {
            known.withdraw();
        }
        table.file = file;
    }

    fn place(&self, hash: &[u8]) -> Vec<u8> {
        hmac::sign(&self.key, hash).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::server::limits::tests::unlimited;

    fn entry(name: &str, token: &str, read: &str) -> String {
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let mut hex = String::new();
        for byte in hash.as_ref() {
            write!(hex, "{byte:02x}").unwrap();
        }
        format!("[[tokens]]\nname = '{name}'\nsha256 = '{hex}'\nread = '{read}'\n")
    }

    #[tokio::test]
    async fn tokens_come_change_and_go_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write(&(entry("a", "one", "ghcr.io/*") + &entry("b", "two", "*")));
        let limits = unlimited();
        let tokens = Tokens::read(&path, &limits).unwrap();
        let caller = |token: &str| tokens.caller(&Secret::new(token));
        let (a, b) = (caller("one").unwrap(), caller("two").unwrap());
        assert!(!a.may_operate() && b.may_operate() && caller("three").is_none());

        write("nonsense");
        tokens.look(&limits).await;
        assert!(caller("one").is_some(), "the last good file holds");
        assert!(tokens.problem().is_some_and(|problem| problem.contains("tokens.toml")));

        write(&(entry("a", "one", "ghcr.io/*") + &entry("b", "three", "*")));
        tokens.look(&limits).await;
        assert_eq!(tokens.problem(), None);
        assert!(caller("two").is_none() && caller("three").is_some());
        assert!(a.is_current() && !b.is_current());

        write(&entry("a", "one", "quay.io/*"));
        tokens.look(&limits).await;
        assert!(!a.is_current(), "what it may has changed");
        assert_eq!(tokens.count(), 1);
    }

    #[test]
    fn a_bad_file_refuses_the_start() {
        let missing = Path::new("/nowhere/tokens.toml");
        assert!(Tokens::read(missing, &unlimited()).unwrap_err().contains("/nowhere/tokens.toml"));
    }
}
