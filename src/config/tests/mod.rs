//! The layers together: who wins, what is merged, and what is refused with which words.

use clap::Parser;

use super::{Config, ConfigError, ServeArgs};

mod access;
mod layers;
mod refusals;

/// A command line of which only the flags matter.
#[derive(Debug, Parser)]
struct Serve {
    #[command(flatten)]
    args: ServeArgs,
}

/// Loads the configuration that a file, variables and flags make together. The store is in memory unless one of
/// them says otherwise in `variables`.
fn load(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("samovar.toml");
    std::fs::write(&path, file).unwrap();
    let mut args = Serve::parse_from(["serve"].iter().chain(flags)).args;
    args.shared.config = Some(path);
    let lookup = |name: &str| {
        let found = variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        found.or_else(|| (name == "XDG_DATA_HOME").then(|| "/data".to_owned()))
    };
    Config::for_serve(&args, &lookup)
}
