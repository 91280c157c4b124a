//! The repositories named by flags, environment and file.

use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};

use super::problems::Concern;
use super::{ImageSource, SharedKeychain, SourceProblems, WatchList, watched};
use crate::config::WatchEntry;

/// How often the credentials are read again.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// A fixed list of repositories, with credentials whose files are read again every few seconds, so that a rotated secret is
/// used without a restart.
///
/// They are read rather than watched: a Secret that Kubernetes mounts changes by the swap of a link above the file, some
/// file systems tell of nothing at all, and so few files cost nothing.
#[derive(Debug)]
pub struct ConfigurationSource {
    entries: Vec<WatchEntry>,
    keychain: SharedKeychain,
    problems: SourceProblems,
    /// What was read last.
    latest: WatchList,
}

impl ConfigurationSource {
    /// The list as configured, with credentials from `keychain`.
    pub fn new(entries: Vec<WatchEntry>, keychain: SharedKeychain) -> Self {
        Self { entries, keychain, problems: SourceProblems::default(), latest: WatchList::default() }
    }

    /// The list with the credentials as they are now. Where the file system hangs, this takes some seconds.
    pub async fn watch_list(&mut self) -> WatchList {
        let names = self.entries.iter().map(|entry| entry.name.clone()).collect();
        if let Some(mut read) = self.keychain.chains_for(names).await {
            let watches = self.entries.iter().zip(read.chains);
            self.latest = WatchList(watches.map(|(entry, chain)| watched(entry, chain)).collect());
            read.problems.append(&mut read.chain_problems);
            self.problems.replace(Concern::Credentials, read.problems, read.helper_problems);
        }
        self.latest.clone()
    }

    /// Waits until the list is another one.
    async fn changed(&mut self) -> WatchList {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            let before = self.latest.clone();
            let list = self.watch_list().await;
            if list != before {
                return list;
            }
        }
    }
}

impl ImageSource for ConfigurationSource {
    fn name(&self) -> &'static str {
        "configuration"
    }

    fn watch_lists(&mut self) -> BoxStream<'_, WatchList> {
        let lists = stream::unfold((self, false), |(source, began)| async move {
            let list = if began { source.changed().await } else { source.watch_list().await };
            Some((list, (source, true)))
        });
        lists.boxed()
    }

    /// What is wrong with the credentials, as of the last reading.
    fn problems(&self) -> SourceProblems {
        self.problems.clone()
    }
}

#[cfg(test)]
mod tests;
