//! The repositories named by flags, environment and file.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use samovar_registry::credentials::{Credentials, DockerConfig};
use tracing::warn;

use super::{ImageSource, Watch, WatchList};
use crate::config::WatchEntry;

/// How often the credentials are read again.
const ASK_EVERY: Duration = Duration::from_mins(1);

/// A fixed list of repositories, with credentials from a docker `config.json` that is read again every minute, so
/// that a rotated secret is used without a restart.
#[derive(Debug)]
pub struct ConfigurationSource {
    entries: Vec<WatchEntry>,
    docker_config: Option<PathBuf>,
    last_problem: Option<String>,
    /// What the file said when it could last be read: it may be caught half written.
    last_good: Option<DockerConfig>,
}

impl ConfigurationSource {
    /// The list as configured.
    pub fn new(entries: Vec<WatchEntry>, docker_config: Option<PathBuf>) -> Self {
        Self { entries, docker_config, last_problem: None, last_good: None }
    }

    /// The list with the credentials as they are now.
    pub fn watch_list(&mut self) -> WatchList {
        let docker_config = self.read_docker_config();
        let watches = self.entries.iter().map(|entry| {
            let credentials = docker_config
                .as_ref()
                .map_or(Credentials::Anonymous, |config| config.credentials_for(&entry.name));
            let watch = Watch {
                tags: entry.tags.clone(),
                credentials: credentials.into(),
                poll_interval: Some(entry.poll_interval),
            };
            (entry.name.clone(), watch)
        });
        WatchList(watches.collect())
    }

    /// Reads the file; what is wrong with it is said once, and again when something else is.
    fn read_docker_config(&mut self) -> Option<DockerConfig> {
        let path = self.docker_config.as_ref()?;
        let problem = match DockerConfig::read(path) {
            Ok(config) => {
                let problems = config.problems().iter();
                let problems =
                    problems.map(|problem| format!("auths[{:?}]: {}", problem.key, problem.reason));
                let problems: Vec<String> = problems.collect();
                self.last_good = Some(config);
                (!problems.is_empty()).then(|| problems.join("; "))
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = &problem
            && self.last_problem.as_ref() != Some(problem)
        {
            warn!(credentials.file = %path.display(), error = problem, "some credentials cannot be used");
        }
        self.last_problem = problem;
        self.last_good.clone()
    }
}

impl ImageSource for ConfigurationSource {
    fn name(&self) -> &'static str {
        "configuration"
    }

    fn watch_lists(&mut self) -> BoxStream<'_, WatchList> {
        let fresh_each_minute = stream::unfold((self, false), |(source, asked)| async move {
            if asked {
                tokio::time::sleep(ASK_EVERY).await;
            }
            let list = source.watch_list();
            Some((list, (source, true)))
        });
        fresh_each_minute.boxed()
    }
}
