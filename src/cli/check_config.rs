//! `samovar check-config FILE`: whether a configuration file is valid, and what it means.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::Args;
use samovar_registry::Glob;
use samovar_registry::Globs;
use samovar_registry::credentials::{Keychain, RepositoryCredentials};
use serde_json::json;

use super::assembly::keychain_options;
use super::failure::Failure;
use super::host_settings;
use super::output::{self, OutputFormat};
use crate::config::{
    Config, Environment, HookConfig, HookProof, OnDemandConfig, ProofConfig, ReceiverConfig, TagFilter,
    WatchEntry, shown_duration, shown_size,
};

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
    let problems = credential_problems(&config);
    let text = match format {
        OutputFormat::Table => page(&args.file, &config),
        OutputFormat::Json => summary(&args.file, &config, &problems).to_string(),
    };
    output::data(&text)?;
    for problem in &problems {
        output::note(&format!("warning: {problem}"));
    }
    if config.watch.is_empty() && config.watch_patterns.is_empty() {
        output::note("hint: nothing is watched; list image repositories under `watch`");
    }
    Ok(())
}

/// What is wrong with the credentials, as far as it can be told without asking anybody.
fn credential_problems(config: &Config) -> Vec<String> {
    let keychain = Keychain::new(keychain_options(config));
    let mut problems = keychain.problems();
    let examples = config.watch_patterns.iter().map(|pattern| pattern.name.example());
    for name in config.watch.iter().map(|entry| &entry.name).chain(examples) {
        keychain.chain_for(name, &mut problems);
    }
    problems
}

fn path(path: Option<&Path>) -> String {
    path.map_or_else(|| "-".to_owned(), |path| path.display().to_string())
}

fn globs(globs: &Globs, none: &str) -> String {
    if globs.is_empty() { none.to_owned() } else { globs.to_string() }
}

fn on_demand(on_demand: &OnDemandConfig) -> String {
    let OnDemandConfig { allow, log_in, idle, most } = on_demand;
    let login = if *log_in { "with credentials" } else { "anonymously" };
    format!("{allow}; {login}, at most {most}, until nobody asks for {}", shown_duration(*idle))
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
        ("poll interval", config.poll_interval.to_string()),
        ("with webhooks", shown_duration(config.poll_interval.webhook_fed)),
        ("tag interval", config.tag_interval.to_string()),
        ("forget after", shown_duration(config.forget_after)),
        ("catalogs every", shown_duration(config.catalog_interval)),
        ("on demand", config.on_demand.as_ref().map_or_else(|| "-".to_owned(), on_demand)),
        ("rate", format!("{}/s, burst {}", config.rate, config.burst)),
        ("insecure hosts", listed(config.insecure_hosts.iter().map(String::as_str).collect())),
        ("allowed hosts", globs(&config.host_policy.allow, "all")),
        ("denied hosts", globs(&config.host_policy.deny, "-")),
        ("unleased share", config.unleased_share.to_string()),
        ("history", format!("{} changes, {}", config.history_entries, shown_duration(config.history_age))),
        ("pull secrets", listed(config.kubernetes_secrets.iter().filter_map(|path| path.to_str()).collect())),
        ("docker config", path(config.docker_config.as_deref())),
    ]);
    let mut parts = vec![settings];
    parts.extend(host_settings::table(config));
    if !config.credentials.is_empty() {
        let headings = ["CREDENTIALS OF", "LOG IN WITH", "THEN"];
        parts.push(output::columns(headings, config.credentials.iter().map(credential_row)));
    }
    if !config.hooks.is_empty() {
        parts.push(output::columns(["RECEIVER", "TYPE", "PROOF"], config.hooks.iter().map(hook_row)));
    }
    if !config.notify.is_empty() {
        let row = |receiver: &ReceiverConfig| {
            let signed = if receiver.secret.is_some() { "yes" } else { "no" };
            let url = receiver.url.to_string();
            [receiver.name.clone(), url, receiver.format.as_str().to_owned(), signed.to_owned()]
        };
        parts.push(output::columns(["NOTIFY", "AT", "AS", "SIGNED"], config.notify.iter().map(row)));
    }
    if config.watch.is_empty() && config.watch_patterns.is_empty() {
        return parts.join("\n\n");
    }
    let rows = config.watch.iter().map(watch_row).chain(config.watch_patterns.iter().map(watch_row));
    parts.push(output::columns(["WATCH", "TAGS", "LISTED EVERY", "CONFIRMED EVERY"], rows));
    parts.join("\n\n")
}

fn watch_row<N: Display>(entry: &WatchEntry<N>) -> [String; 4] {
    let (listed, confirmed) = (entry.poll_interval.to_string(), entry.tag_interval.to_string());
    [entry.name.to_string(), tags(entry).to_owned(), listed, confirmed]
}

fn watch_summary<N: Display>(entry: &WatchEntry<N>) -> serde_json::Value {
    json!({
        "name": entry.name.to_string(),
        "tags": tags(entry),
        "poll_interval": shown_duration(entry.poll_interval.usual),
        "min_poll_interval": shown_duration(entry.poll_interval.shortest),
        "max_poll_interval": shown_duration(entry.poll_interval.longest),
        "webhook_poll_interval": shown_duration(entry.poll_interval.webhook_fed),
        "tag_interval": shown_duration(entry.tag_interval.first),
        "min_tag_interval": shown_duration(entry.tag_interval.shortest),
        "max_tag_interval": shown_duration(entry.tag_interval.longest),
        "platforms": entry.platforms.to_string(),
    })
}

fn credential_row(entry: &RepositoryCredentials) -> [String; 3] {
    let then = if entry.is_last() { "nothing else" } else { "other sources" };
    [repositories(entry).join(", "), entry.login.to_string(), then.to_owned()]
}

fn hook_row(hook: &HookConfig) -> [String; 3] {
    [format!("/hooks/{}", hook.name), hook.kind.to_string(), hook_proof(hook)]
}

/// How its senders prove who they are, without the secret.
fn hook_proof(hook: &HookConfig) -> String {
    match &hook.proof {
        None => "NONE".to_owned(),
        Some(ProofConfig::Google(identity)) => {
            format!("a token of Google's for {}", identity.service_account)
        }
        Some(ProofConfig::Secret { source, .. }) => match hook.kind.proof() {
            HookProof::Signature => format!("signed, secret {source}"),
            HookProof::Secret | HookProof::Identity => format!("secret {source}"),
        },
    }
}

fn repositories(entry: &RepositoryCredentials) -> Vec<&str> {
    entry.repositories.iter().map(Glob::as_str).collect()
}

fn summary(file: &Path, config: &Config, problems: &[String]) -> serde_json::Value {
    let patterns = config.watch_patterns.iter().map(watch_summary);
    let watch = config.watch.iter().map(watch_summary).chain(patterns);
    let credentials = config.credentials.iter().map(|entry| {
        json!({
            "repositories": repositories(entry),
            "login": entry.login.to_string(),
            "only": entry.is_last(),
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
        "forget_after": shown_duration(config.forget_after),
        "history_entries": config.history_entries,
        "history_age": shown_duration(config.history_age),
        "catalog_interval": shown_duration(config.catalog_interval),
        "on_demand": config.on_demand.as_ref().map(|on_demand| json!({
            "allow": on_demand.allow.to_string(),
            "idle": shown_duration(on_demand.idle),
            "max": on_demand.most,
        })),
        "hooks": config.hooks.iter().map(|hook| json!({
            "name": hook.name,
            "type": hook.kind.as_str(),
            "proof": hook_proof(hook),
            "registry": hook.registry,
        })).collect::<Vec<_>>(),
        "listen": config.listen.to_string(),
        "allow_hosts": config.host_policy.allow.to_string(),
        "deny_hosts": config.host_policy.deny.to_string(),
        "hosts": host_settings::summary(config),
        "watch": watch.collect::<Vec<_>>(),
        "notify": config.notify.iter().map(|receiver| json!({
            "name": receiver.name,
            "url": receiver.url.to_string(),
            "format": receiver.format.as_str(),
            "signed": receiver.secret.is_some(),
            "give_up_after": shown_duration(receiver.give_up_after),
        })).collect::<Vec<_>>(),
        "credentials": credentials.collect::<Vec<_>>(),
        "kubernetes_secrets": config.kubernetes_secrets,
        "docker_config": config.docker_config,
        "problems": problems,
    })
}

fn tags<N>(entry: &WatchEntry<N>) -> &'static str {
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
        let (_directory, args) =
            write("store = 'memory:'\nwatch = ['alpine', 'ghcr.io/a/b:1', 'Quay.io/team/*:v1']\n");
        let config = Config::from_file(&args.file, &|_| None).unwrap();
        let page = page(&args.file, &config);
        assert!(page.contains("samovar.toml: valid\nstore           memory:\n"), "{page}");
        let watch = "\
WATCH                     TAGS      LISTED EVERY   CONFIRMED EVERY
docker.io/library/alpine  all       5m (1m to 1h)  1h (5m to 7d)
ghcr.io/a/b               selected  5m (1m to 1h)  1h (5m to 7d)
quay.io/team/*            selected  5m (1m to 1h)  1h (5m to 7d)";
        assert!(page.ends_with(watch), "{page}");
        assert_eq!(summary(&args.file, &config, &[])["watch"][1]["tags"], "selected");
        assert_eq!(summary(&args.file, &config, &[])["watch"][2]["name"], "quay.io/team/*");
        assert_eq!(summary(&args.file, &config, &[])["watch"][1]["platforms"], "linux/amd64,linux/arm64");
    }

    #[test]
    fn credentials_are_shown_without_their_secrets() {
        let (_directory, args) = write(
            "store = 'memory:'\nwatch = ['alpine']\n\
             credentials = [\n\
             {repositories = ['docker.io/*', 'ghcr.io/*'], username = 'ci', password = 'topsecret'},\n\
             {repositories = 'quay.io/*', registry_token_env = 'TOKEN', only = true},\n\
             {repositories = '*', helper = 'pass'}]\n",
        );
        let environment = |name: &str| (name == "TOKEN").then(|| "topsecret".to_owned());
        let config = Config::from_file(&args.file, &environment).unwrap();
        let page = page(&args.file, &config);
        let credentials = "
CREDENTIALS OF          LOG IN WITH                THEN
docker.io/*, ghcr.io/*  user \"ci\", password given  other sources
quay.io/*               registry token given       nothing else
*                       docker-credential-pass     other sources
";
        assert!(page.contains(credentials), "{page}");
        let problems = credential_problems(&config);
        assert_eq!(problems, ["docker-credential-pass is not found in PATH"]);
        let summary = summary(&args.file, &config, &problems).to_string();
        assert!(summary.contains(&problems[0]));
        assert!(!format!("{page}{summary}{config:?}").contains("topsecret"));
    }

    #[test]
    fn receivers_are_shown_without_their_secrets() {
        let (_directory, args) = write(
            "store = 'memory:'\n[hooks.ci]\ntype = 'hmac'\nsecret_env = 'KEY'\n\
             [hooks.hub]\ntype = 'docker-hub'\nunauthenticated = true\n",
        );
        let environment = |name: &str| (name == "KEY").then(|| "topsecret".to_owned());
        let config = Config::from_file(&args.file, &environment).unwrap();
        let page = page(&args.file, &config);
        let receivers = "
RECEIVER    TYPE        PROOF
/hooks/ci   hmac        signed, secret given
/hooks/hub  docker-hub  NONE";
        assert!(page.ends_with(receivers), "{page}");
        let summary = summary(&args.file, &config, &[]);
        assert_eq!(summary["hooks"][1]["proof"], "NONE");
        assert!(!format!("{page}{summary}{config:?}").contains("topsecret"));
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
