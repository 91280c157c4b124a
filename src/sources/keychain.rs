//! The credentials that all sources draw on.

use std::sync::{Arc, Mutex, PoisonError};

use samovar_registry::Name;
use samovar_registry::credentials::{CredentialChain, Keychain};
use tracing::error;

/// A keychain that several sources share: what a helper or a cloud has said to one is known to all. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedKeychain(Arc<Mutex<Keychain>>);

/// What the keychain says of some repositories.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials {
    /// What to try, in the order of the names that were asked for.
    pub(super) chains: Vec<CredentialChain>,
    /// What is wrong with the chains themselves.
    pub(super) chain_problems: Vec<String>,
    /// What is wrong with files and entries, whoever asks.
    pub(super) problems: Vec<String>,
    /// What is wrong with helpers, which log it themselves.
    pub(super) helper_problems: Vec<String>,
}

impl SharedKeychain {
    /// Shares `keychain`.
    pub fn new(keychain: Keychain) -> Self {
        Self(Arc::new(Mutex::new(keychain)))
    }

    /// Reads all files again and says what to try for these repositories. Where the file system hangs, this takes some
    /// seconds. `None`: it ended by a defect, which is in the log.
    pub(super) async fn chains_for(&self, names: Vec<Name>) -> Option<Credentials> {
        let keychain = Arc::clone(&self.0);
        let reading = tokio::task::spawn_blocking(move || {
            let mut keychain = keychain.lock().unwrap_or_else(PoisonError::into_inner);
            keychain.read_again();
            let mut chain_problems = Vec::new();
            let chains = names.iter().map(|name| keychain.chain_for(name, &mut chain_problems)).collect();
            let (problems, helper_problems) = (keychain.problems(), keychain.helper_problems());
            Credentials { chains, chain_problems, problems, helper_problems }
        });
        let read = reading.await;
        read.map_err(|failed| error!(error = %failed, "reading the credentials ended by a defect")).ok()
    }
}
