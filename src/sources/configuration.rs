//! The repositories named by flags, environment and file.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use samovar_registry::credentials::Keychain;
use tracing::error;

use super::{ImageSource, SourceProblems, Watch, WatchList};
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
    reader: Arc<Reader>,
    /// What was read last.
    latest: WatchList,
}

#[derive(Debug)]
struct Reader {
    entries: Vec<WatchEntry>,
    keychain: Mutex<Keychain>,
    problems: SourceProblems,
}

impl ConfigurationSource {
    /// The list as configured, with credentials from `keychain`.
    pub fn new(entries: Vec<WatchEntry>, keychain: Keychain) -> Self {
        let reader = Reader { entries, keychain: Mutex::new(keychain), problems: SourceProblems::default() };
        Self { reader: Arc::new(reader), latest: WatchList::default() }
    }

    /// What is wrong with the credentials, as of the last reading.
    pub fn problems(&self) -> SourceProblems {
        self.reader.problems.clone()
    }

    /// The list with the credentials as they are now. Where the file system hangs, this takes some seconds.
    pub async fn watch_list(&mut self) -> WatchList {
        let reader = Arc::clone(&self.reader);
        match tokio::task::spawn_blocking(move || reader.read()).await {
            Ok(list) => self.latest = list,
            Err(failed) => error!(error = %failed, "reading the credentials ended by a defect"),
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

impl Reader {
    fn read(&self) -> WatchList {
        let mut keychain = self.keychain.lock().unwrap_or_else(PoisonError::into_inner);
        keychain.read_again();
        let mut problems = keychain.problems();
        let watches = self.entries.iter().map(|entry| {
            let watch = Watch {
                tags: entry.tags.clone(),
                credentials: keychain.chain_for(&entry.name, &mut problems),
                poll_interval: Some(entry.poll_interval),
                tag_interval: Some(entry.tag_interval),
                platforms: Some(entry.platforms.clone()),
            };
            (entry.name.clone(), watch)
        });
        let list = WatchList(watches.collect());
        self.problems.replace(problems, keychain.helper_problems());
        list
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
}

#[cfg(test)]
mod tests;
