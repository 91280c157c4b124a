//! The command line as a whole: what is accepted, what is refused, what the help promises.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode as Status;
use clap::{CommandFactory, Parser};
use tokio::net::TcpListener;

use super::*;

fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["samovar"].iter().chain(arguments))
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn serve_takes_all_the_flags_of_the_contract() {
    let cli = parse(&[
        "serve",
        "--config",
        "f.toml",
        "--watch",
        "alpine",
        "--watch",
        "busybox:1",
        "--store",
        "memory:",
        "--listen",
        "127.0.0.1:0",
        "--insecure-host",
        "a.io",
        "--alias",
        "up=a.io",
        "--timestamp-labels",
        "*",
        "--platform",
        "linux/amd64",
        "--poll-interval",
        "1m",
        "--rps",
        "5",
        "--burst",
        "2",
        "--docker-config",
        "c.json",
    ]);
    let Command::Serve(args) = cli.unwrap().command else { panic!("not serve") };
    assert_eq!(args.watch, ["alpine", "busybox:1"]);
    assert_eq!(args.shared.alias, ["up=a.io"]);
    assert_eq!(args.shared.rps.as_deref(), Some("5"));
}

#[test]
fn the_asking_flags_stand_before_or_after_the_command() {
    for arguments in [
        ["--server", "http://h:1", "--output", "json", "tags", "alpine"],
        ["tags", "alpine", "--output", "json", "--server", "http://h:1"],
    ] {
        let cli = parse(&arguments).unwrap();
        assert_eq!((cli.global.server.as_str(), cli.global.output), ("http://h:1", OutputFormat::Json));
        assert!(matches!(cli.command, Command::Ask(Question::Tags(TagsArgs { image })) if image == "alpine"));
    }
}

#[test]
fn every_command_is_there() {
    for arguments in [
        &["warm", "alpine", "busybox", "--store", "memory:"][..],
        &["image", "alpine:3"],
        &["refresh", "alpine"],
        &["status"],
        &["check-config", "f.toml"],
    ] {
        parse(arguments).unwrap();
    }
}

#[test]
fn a_refresh_waits_thirty_seconds_unless_told_otherwise() {
    let wait_of = |arguments: &[&str]| match parse(arguments).unwrap().command {
        Command::Ask(Question::Refresh(args)) => args.wait,
        other => panic!("{other:?}"),
    };
    assert_eq!(wait_of(&["refresh", "alpine"]), Duration::from_secs(30));
    assert_eq!(wait_of(&["refresh", "alpine", "--wait", "0s"]), Duration::ZERO);
    assert_eq!(wait_of(&["refresh", "alpine", "--wait", "1m30s"]), Duration::from_secs(90));
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for arguments in [
        &[][..],
        &["serve", "--wach", "alpine"],
        &["serve", "alpine"],
        &["warm"],
        &["warm", "alpine", "--listen", "127.0.0.1:1"],
        &["tags"],
        &["tags", "alpine", "busybox"],
        &["tags", "alpine", "--output", "yaml"],
        &["refresh", "alpine", "--wait", "soon"],
        &["check-config"],
        &["fly"],
    ] {
        let error = parse(arguments).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arguments:?}: {error}");
    }
}

/// The help is the reference of the variables: each flag of `serve` names its own.
#[test]
fn the_help_names_the_variable_of_every_flag() {
    let mut command = Cli::command();
    command.build();
    let serve = command.find_subcommand("serve").unwrap();
    for argument in serve.get_arguments() {
        let id = argument.get_id().as_str();
        if matches!(id, "help" | "version") {
            continue;
        }
        let variable = format!("SAMOVAR_{}", id.to_uppercase());
        let by_parser = argument.get_env().is_some_and(|name| name == variable.as_str());
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(by_parser || help.contains(&format!("[env: {variable}")), "{id}: {help}");
    }
}

/// What the server answers decides how the process ends.
#[tokio::test]
async fn questions_end_as_the_contract_says() {
    for (status, body, arguments, expected) in [
        (Status::NOT_FOUND, r#"{"type":"not-watched"}"#, &["tags", "alpine"][..], ExitStatus::NotFound),
        (Status::ACCEPTED, "{}", &["tags", "alpine"], ExitStatus::NotFound),
        (Status::ACCEPTED, "{}", &["image", "alpine:3"], ExitStatus::NotFound),
        (Status::ACCEPTED, "{}", &["refresh", "alpine", "--wait", "1s"], ExitStatus::NotFound),
        (Status::SERVICE_UNAVAILABLE, r#"{"title":"pending"}"#, &["image", "alpine:3"], ExitStatus::NotFound),
        (Status::BAD_REQUEST, r#"{"title":"bad wait"}"#, &["refresh", "alpine"], ExitStatus::Usage),
        (Status::INTERNAL_SERVER_ERROR, "{}", &["status"], ExitStatus::Failed),
        (Status::OK, "not json", &["status"], ExitStatus::Failed),
        (Status::OK, "{}", &["image", "alpine"], ExitStatus::Usage),
        (Status::OK, "{}", &["tags", "alpine:3"], ExitStatus::Usage),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(move || async move { (status, body) });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

        let cli = parse(&[arguments, &["--server", &server]].concat()).unwrap();
        let Command::Ask(question) = &cli.command else { panic!("{arguments:?} is not a question") };
        let failure = question.run(&cli.global).await.unwrap_err();
        assert_eq!(failure.status, expected, "{arguments:?}: {failure}");
    }
}
