use std::path::Path;

use samovar_registry::credentials::{Candidate, CredentialChain, Credentials, Keychain, KeychainOptions};
use samovar_registry::{Name, Platforms};

use super::*;
use crate::config::{PollInterval, TagFilter, TagInterval};

fn source(docker_config: &Path) -> ConfigurationSource {
    let entry = |name: &str| WatchEntry {
        name: name.parse().unwrap(),
        tags: TagFilter::All,
        poll_interval: PollInterval::default(),
        tag_interval: TagInterval::default(),
        platforms: Platforms::default(),
    };
    let options =
        KeychainOptions { docker_config: Some(docker_config.to_owned()), ..KeychainOptions::default() };
    ConfigurationSource::new(
        vec![entry("a.example/x"), entry("b.example/x")],
        SharedKeychain::new(Keychain::new(options)),
    )
}

fn password(list: &WatchList, name: &str) -> String {
    let chain: &CredentialChain = &list.0[&name.parse::<Name>().unwrap()].credentials;
    match &chain.candidates()[0] {
        Candidate::Fixed(Credentials::Basic { password, .. }) => password.reveal().to_owned(),
        other => format!("{other:?}"),
    }
}

fn config(password: &str) -> String {
    format!(r#"{{"auths":{{"a.example":{{"username":"u","password":"{password}"}}}}}}"#)
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_makes_a_new_list_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    std::fs::write(&file, config("one")).unwrap();
    let mut source = source(&file);
    let problems = source.problems();
    let mut lists = source.watch_lists();
    let list = lists.next().await.unwrap();
    assert_eq!(password(&list, "a.example/x"), "one");
    assert_eq!(password(&list, "b.example/x"), "Fixed(Credentials(no credentials))");

    let hour = Duration::from_hours(1);
    assert!(tokio::time::timeout(hour, lists.next()).await.is_err(), "nothing has changed");
    std::fs::write(&file, "{\"auths\":{\"a.exa").unwrap();
    assert!(tokio::time::timeout(hour, lists.next()).await.is_err(), "caught half written");
    assert_eq!(problems.list().len(), 1);
    assert!(
        problems.list()[0].ends_with("config.json: it is not a docker configuration: at line 1, column 16")
    );

    std::fs::write(&file, config("two")).unwrap();
    let began = tokio::time::Instant::now();
    let list = lists.next().await.unwrap();
    assert_eq!(password(&list, "a.example/x"), "two");
    assert!(began.elapsed() <= ASK_EVERY);
    assert!(problems.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_comes_later_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    let mut source = source(&file);
    let problems = source.problems();
    let mut lists = source.watch_lists();
    assert_eq!(password(&lists.next().await.unwrap(), "a.example/x"), "Fixed(Credentials(no credentials))");
    assert!(problems.list().is_empty());
    std::fs::write(&file, config("one")).unwrap();
    assert_eq!(password(&lists.next().await.unwrap(), "a.example/x"), "one");
}
