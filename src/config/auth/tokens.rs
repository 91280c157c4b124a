//! The file of tokens: names, hashes and what each may. It is read again while samovar runs.
//!
//! The tokens themselves are not in it: each is random enough that its hash gives nothing away.

use std::path::Path;

use super::super::document::{Document, Section, Value};
use super::super::error::{ConfigError, Origin, Problems, quoted};
use super::super::file::read_bounded;
use super::super::settings::Setting;
use super::{Grant, GrantSettings};

/// Tokens in one file.
const MOST_TOKENS: usize = 10_000;

/// A file of tokens as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenFile {
    /// The tokens, in the order of the file. Names and hashes are unique.
    pub tokens: Vec<Token>,
}

/// A token that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// How whoever has it is called.
    pub name: String,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// What they may.
    pub grant: Grant,
}

impl TokenFile {
    /// Reads a file; what is wrong with it is said with its place.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        match read_bounded(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) => {
                let mut problems = Problems::default();
                let origin = Origin::File { path: path.into(), line: None, key: String::new() };
                problems.add(&origin, format!("cannot read the file of tokens: {error}"));
                problems.none_or(Self::default())
            }
        }
    }

    /// The tokens of a text that was read from `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let document = Document::new(path, text);
        let entries = document.root().map(root).unwrap_or_default();
        let mut problems = document.into_problems();
        let mut file = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            if index == MOST_TOKENS {
                problems.add(&entry.name.origin, format!("more than {MOST_TOKENS} tokens"));
                break;
            }
            let Some(token) = entry.check(&mut problems) else { continue };
            if file.tokens.iter().any(|other| other.name == token.name) {
                problems.add(&entry.name.origin, format!("{} is given twice", quoted(&token.name)));
            }
            if file.tokens.iter().any(|other| other.sha256 == token.sha256) {
                problems.add(&entry.sha256.origin, "another entry has the same token");
            }
            file.tokens.push(token);
        }
        problems.none_or(file)
    }
}

struct Entry {
    name: Setting,
    sha256: Setting,
    grant: GrantSettings,
}

impl Entry {
    fn check(&self, problems: &mut Problems) -> Option<Token> {
        let name = problems.keep(&self.name.origin, name(&self.name.value));
        let sha256 = problems.keep(&self.sha256.origin, hash(&self.sha256.value));
        let grant = self.grant.check(problems);
        Some(Token { name: name?, sha256: sha256?, grant })
    }
}

fn root(mut root: Section<'_>) -> Vec<Entry> {
    let tokens = root.take("tokens").and_then(Value::into_list).unwrap_or_default();
    root.finish();
    tokens.into_iter().filter_map(entry).collect()
}

fn entry(value: Value<'_>) -> Option<Entry> {
    let mut section = value.into_section()?;
    let (name, sha256) = (section.required_text("name"), section.required_text("sha256"));
    let grant = GrantSettings::read(&mut section);
    section.finish();
    Some(Entry { name: name?, sha256: sha256?, grant })
}

fn name(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && text.len() <= 100 && !text.contains(|letter: char| letter.is_control());
    is_name
        .then(|| text.to_owned())
        .ok_or_else(|| format!("{} is no name: from 1 to 100 characters on one line", quoted(text)))
}

/// What is written may be a token put there by mistake: it is not shown.
fn hash(text: &str) -> Result<[u8; 32], String> {
    let refused = || "not a SHA-256 in 64 hexadecimal digits: `samovar token` makes one".to_owned();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refused());
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = str::from_utf8(digits).map_err(|_| refused())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| refused())?;
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TokenFile, String> {
        TokenFile::parse(Path::new("tokens.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn tokens_have_names_hashes_and_rights() {
        let hash = "0f".repeat(32);
        let file = parse(&format!(
            "[[tokens]]\nname = 'flux'\nsha256 = '{hash}'\nread = ['ghcr.io/team/*', 'alpine*']\nrefresh = true\n"
        ))
        .unwrap();
        let [token] = file.tokens.as_slice() else { panic!("{file:?}") };
        assert_eq!((token.name.as_str(), token.sha256), ("flux", [0x0f; 32]));
        assert!(token.grant.refresh && !token.grant.operate && !token.grant.is_whole());
        assert!(token.grant.covers(&"ghcr.io/team/app".parse().unwrap()));
        assert!(!token.grant.covers(&"ghcr.io/other/app".parse().unwrap()));
        assert_eq!(parse("").unwrap(), TokenFile::default(), "no token lets nobody in");
    }

    #[test]
    fn mistakes_are_refused_with_their_place_and_without_the_secret() {
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let entry =
            |name: &str, hash: &str| format!("[[tokens]]\nname = '{name}'\nsha256 = '{hash}'\nread = '*'\n");
        for (text, reason) in [
            ("tokens = 'x'".to_owned(), "expected a list"),
            ("token = []".to_owned(), "unknown key"),
            ("[[tokens]]\nname = 'a'\nread = '*'".to_owned(), "the key sha256 is missing"),
            (format!("[[tokens]]\nname = 'a'\nsha256 = '{one}'"), "the key read is missing"),
            (format!("{}\nrefresh = 1", entry("a", &one)), "expected true or false"),
            (entry("", &one), "is no name"),
            (entry("a", &one) + &entry("a", &two), "\"a\" is given twice"),
            (entry("a", &one) + &entry("b", &one), "another entry has the same token"),
            (entry("a", "hunter2"), "not a SHA-256"),
            (entry("a", &"é".repeat(32)), "not a SHA-256"),
            (format!("[[tokens]]\nname = 'a'\nsha256 = '{one}'\nread = ['']"), "tokens.toml:4"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(reason) && error.contains("tokens.toml:"), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
