//! `samovar check-config FILE`: whether a configuration file is valid, and what it means.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::output::{self, OutputFormat};
use crate::config::{Config, Environment, TagFilter, WatchEntry, shown_duration, shown_size};

/// The arguments of `samovar check-config`.
#[derive(Debug, Clone, Args)]
pub struct CheckConfigArgs {
    /// The TOML file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Validates the file, by itself, and prints what it configures. An invalid one is a usage error.
pub fn run(
    args: &CheckConfigArgs,
    environment: Environment<'_>,
    format: OutputFormat,
) -> Result<(), Failure> {
    let config = Config::from_file(&args.file, environment)?;
    let text = match format {
        OutputFormat::Table => page(&args.file, &config),
        OutputFormat::Json => summary(&args.file, &config).to_string(),
    };
    output::data(&text)?;
    if config.watch.is_empty() {
        output::note("hint: nothing is watched; list image repositories under `watch`");
    }
    Ok(())
}

fn path(path: Option<&Path>) -> String {
    path.map_or_else(|| "-".to_owned(), |path| path.display().to_string())
}

fn page(file: &Path, config: &Config) -> String {
    let listed = |items: Vec<&str>| {
        if items.is_empty() { "-".to_owned() } else { items.join(", ") }
    };
    let settings = output::pairs([
        ("file", format!("{}: valid", file.display())),
        ("store", config.store.to_string()),
        ("local tier", path(config.store_local_tier.as_deref())),
        ("store limit", shown_size(config.store_limit_bytes)),
        ("hot set", shown_size(config.hot_set_bytes as u64)),
        ("listen", config.listen.to_string()),
        ("platforms", config.platforms.to_string()),
        ("poll interval", shown_duration(config.poll_interval)),
        ("rate", format!("{}/s, burst {}", config.rate, config.burst)),
        ("insecure hosts", listed(config.insecure_hosts.iter().map(String::as_str).collect())),
        ("host settings", listed(config.hosts.keys().map(String::as_str).collect())),
        ("unleased share", config.unleased_share.to_string()),
        ("credentials", path(config.docker_config.as_deref())),
    ]);
    if config.watch.is_empty() {
        return settings;
    }
    let rows = config
        .watch
        .iter()
        .map(|entry| [entry.name.to_string(), tags(entry).to_owned(), shown_duration(entry.poll_interval)]);
    format!("{settings}\n\n{}", output::columns(["WATCH", "TAGS", "EVERY"], rows))
}

fn summary(file: &Path, config: &Config) -> serde_json::Value {
    let watch = config.watch.iter().map(|entry| {
        json!({
            "name": entry.name.to_string(),
            "tags": tags(entry),
            "poll_interval": shown_duration(entry.poll_interval),
        })
    });
    json!({
        "file": file.display().to_string(),
        "valid": true,
        "store": config.store.to_string(),
        "store_local_tier": config.store_local_tier,
        "store_limit": config.store_limit_bytes,
        "hot_set": config.hot_set_bytes,
        "unleased_share": config.unleased_share,
        "listen": config.listen.to_string(),
        "watch": watch.collect::<Vec<_>>(),
    })
}

fn tags(entry: &WatchEntry) -> &'static str {
    match entry.tags {
        TagFilter::All => "all",
        TagFilter::Selected(_) => "selected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::ExitStatus;

    fn write(text: &str) -> (tempfile::TempDir, CheckConfigArgs) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("samovar.toml");
        std::fs::write(&file, text).unwrap();
        (directory, CheckConfigArgs { file })
    }

    #[test]
    fn a_valid_file_is_shown_as_it_is_understood() {
        let (_directory, args) = write("store = 'memory:'\nwatch = ['alpine', 'ghcr.io/a/b:1']\n");
        let config = Config::from_file(&args.file, &|_| None).unwrap();
        let page = page(&args.file, &config);
        assert!(page.contains("samovar.toml: valid\nstore           memory:\n"), "{page}");
        let watch = "\
WATCH                     TAGS      EVERY
docker.io/library/alpine  all       5m
ghcr.io/a/b               selected  5m";
        assert!(page.ends_with(watch), "{page}");
        assert_eq!(summary(&args.file, &config)["watch"][1]["tags"], "selected");
    }

    #[test]
    fn an_invalid_file_is_a_usage_error_and_variables_do_not_mend_it() {
        let (_directory, args) = write("stroe = 'memory:'\n");
        let environment = |name: &str| (name == "SAMOVAR_STORE").then(|| "memory:".to_owned());
        let failure = run(&args, &environment, OutputFormat::Table).unwrap_err();
        assert_eq!(failure.status, ExitStatus::Usage);
        assert!(failure.message.contains("samovar.toml:1: key stroe: unknown key"), "{failure}");
        assert!(failure.message.contains("2 problems"), "the store has no place either: {failure}");
    }
}
