use clap::Parser;

use super::*;
use crate::cli::{Cli, Command, ExitStatus};

fn parse(arguments: &[&str]) -> Result<StoreArgs, clap::Error> {
    match Cli::try_parse_from(["samovar", "store"].iter().chain(arguments))?.command {
        Command::Store(arguments) => Ok(arguments),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_store_is_named_before_or_after_what_to_do() {
    for arguments in [["--store", "embedded:x", "verify"], ["verify", "--store", "embedded:x"]] {
        let arguments = parse(&arguments).unwrap();
        assert_eq!(arguments.store.as_deref(), Some("embedded:x"));
        assert!(matches!(arguments.command, StoreCommand::Verify));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for arguments in [
        &[][..],
        &["export"],
        &["import"],
        &["import", "a", "b"],
        &["verify", "a"],
        &["compact", "--detail"],
        &["erase"],
    ] {
        assert_eq!(parse(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
    }
}

#[test]
fn what_is_there_gives_way_only_where_that_is_asked_for() {
    for force in [false, true] {
        let flag: &[&str] = if force { &["--force"] } else { &[] };
        let command = |name| parse(&[&[name, "file"], flag].concat()).unwrap().command;
        assert!(matches!(command("export"), StoreCommand::Export(arguments) if arguments.force == force));
        assert!(matches!(command("import"), StoreCommand::Import(arguments) if arguments.force == force));
    }
}

#[tokio::test]
async fn a_store_in_memory_is_refused_whatever_is_to_be_done() {
    let commands: [&[&str]; 5] = [&["stats"], &["verify"], &["compact"], &["export", "f"], &["import", "f"]];
    let environment = |name: &str| (name == "SAMOVAR_STORE").then(|| "memory:".to_owned());
    for command in commands {
        let failure = run(&parse(command).unwrap(), &environment, OutputFormat::Table).await.unwrap_err();
        assert_eq!(failure.status, ExitStatus::Usage, "{command:?}: {failure}");
        assert!(failure.message.contains("memory:"), "{failure}");
    }
}

#[tokio::test]
async fn the_local_tier_of_a_server_is_no_concern_here() {
    let directory = tempfile::tempdir().unwrap();
    let environment = |name: &str| match name {
        "SAMOVAR_STORE_LOCAL_TIER" => Some(directory.path().join("tier").display().to_string()),
        _ => None,
    };
    let nowhere = format!("embedded:{}", directory.path().join("nowhere").display());
    let arguments = parse(&["stats", "--store", &nowhere]).unwrap();
    let failure = run(&arguments, &environment, OutputFormat::Table).await.unwrap_err();
    assert!(failure.message.contains("there is no store at"), "{failure}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is made by looking");
}
