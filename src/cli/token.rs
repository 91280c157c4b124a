//! `samovar token`: makes a token, and the entry by which a server knows it.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use clap::Args;
use samovar_registry::Glob;
use serde_json::json;

use super::failure::Failure;
use super::output::{self, OutputFormat};

/// Random bytes in a token: more than anybody can try.
const RANDOM_BYTES: usize = 32;
/// What tokens begin with, so that they are recognised where they should not be.
const PREFIX: &str = "samovar_";

/// The arguments of `samovar token`.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// How whoever gets it is called
    #[arg(value_name = "NAME")]
    pub name: String,

    /// They may read the repositories that match; `*` is any text [default: all]
    #[arg(long, value_name = "GLOB")]
    pub read: Vec<String>,

    /// They may have these refreshed
    #[arg(long)]
    pub refresh: bool,

    /// They see metrics, and the whole of the status
    #[arg(long)]
    pub operate: bool,
}

/// Prints a new token, and what belongs into the file of tokens. The token is nowhere else.
pub fn run(arguments: &TokenArgs, format: OutputFormat) -> Result<(), Failure> {
    for glob in &arguments.read {
        Glob::new(glob).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let mut random = [0; RANDOM_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Failure::failed("the system has no random numbers"))?;
    let token = format!("{PREFIX}{}", hexadecimal(&random));
    let entry = entry(arguments, &token);
    match format {
        OutputFormat::Json => output::json(&json!({ "token": token, "entry": entry })),
        OutputFormat::Table => {
            output::note("the token, which is shown this once, and the entry for the file of tokens:");
            output::data(&format!("{token}\n\n{entry}"))
        }
    }
}

fn entry(arguments: &TokenArgs, token: &str) -> String {
    let all = ["*".to_owned()];
    let read = if arguments.read.is_empty() { &all[..] } else { &arguments.read };
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    let mut table = toml::Table::new();
    table.insert("name".to_owned(), arguments.name.clone().into());
    table.insert("sha256".to_owned(), hexadecimal(hash.as_ref()).into());
    table.insert("read".to_owned(), read.to_vec().into());
    for (key, is_set) in [("refresh", arguments.refresh), ("operate", arguments.operate)] {
        if is_set {
            table.insert(key.to_owned(), true.into());
        }
    }
    format!("[[tokens]]\n{table}")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::TokenFile;

    #[test]
    fn what_is_printed_is_read() {
        let arguments = TokenArgs {
            name: "a \"b\"".to_owned(),
            read: vec!["ghcr.io/*".to_owned()],
            refresh: true,
            operate: false,
        };
        let text =
            entry(&arguments, "x") + &entry(&TokenArgs { name: "c".to_owned(), ..arguments.clone() }, "y");
        let file = TokenFile::parse(Path::new("tokens.toml"), &text).unwrap();
        let [first, second] = file.tokens.as_slice() else { panic!("{file:?}") };
        assert_eq!((first.name.as_str(), second.name.as_str()), ("a \"b\"", "c"));
        assert_eq!(first.sha256, digest::digest(&digest::SHA256, b"x").as_ref());
        assert!(first.grant.refresh && !first.grant.operate && !first.grant.is_whole());
    }
}
