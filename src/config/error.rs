//! What is wrong with a configuration: all of it at once, each problem with the place to mend it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// How many problems are shown; the rest are counted.
const MAX_SHOWN_PROBLEMS: usize = 50;

/// How many characters of an offending value are shown.
const MAX_SHOWN_VALUE: usize = 120;

/// Why a configuration was refused: one or more problems, each on a line of its own when displayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// The problems, at least one: those of the file by line, then those of the environment and of the flags.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = self.problems.as_slice() {
            return write!(f, "invalid configuration: {problem}");
        }
        write!(f, "invalid configuration, {} problems:", self.problems.len())?;
        for problem in self.problems.iter().take(MAX_SHOWN_PROBLEMS) {
            write!(f, "\n  {problem}")?;
        }
        let hidden = self.problems.len().saturating_sub(MAX_SHOWN_PROBLEMS);
        if hidden > 0 {
            write!(f, "\n  and {hidden} more")?;
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong with it, the offending value included.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.reason)
    }
}

/// Where a setting comes from. The order is the one in which problems are shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A key of the configuration file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line, counted from 1, where it is known.
        line: Option<usize>,
        /// The key as a dotted path such as `watch[1].image`; empty where the file as a whole is meant.
        key: String,
    },
    /// An environment variable.
    Variable(String),
    /// A flag or an argument of the command line, as the user writes it.
    Flag(&'static str),
    /// Nowhere: the default.
    Default {
        /// The key that would have said otherwise.
        key: &'static str,
    },
}

impl Origin {
    /// The dotted path of a key of the table that stands here; names that TOML would want in quotes are quoted.
    pub(super) fn key_below(&self, name: &str) -> String {
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let name = if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) };
        match self {
            Self::File { key, .. } if !key.is_empty() => format!("{key}.{name}"),
            _ => name,
        }
    }

    /// The path of an element of the list that stands here.
    pub(super) fn key_at(&self, index: usize) -> String {
        match self {
            Self::File { key, .. } => format!("{key}[{index}]"),
            _ => format!("[{index}]"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, key } => {
                write!(f, "{}", path.display())?;
                if let Some(line) = line {
                    write!(f, ":{line}")?;
                }
                if key.is_empty() { Ok(()) } else { write!(f, ": key {key}") }
            }
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Default { key } => write!(f, "default of {key}"),
        }
    }
}

/// Collects problems, so that a user sees all of them and not one per attempt.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem.
    pub(super) fn add(&mut self, origin: &Origin, reason: impl Into<String>) {
        self.0.push(Problem { origin: origin.clone(), reason: reason.into() });
    }

    /// Takes over what was noted elsewhere.
    pub(super) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// Notes the error, if it is one, and gives the value otherwise.
    pub(super) fn keep<T, E: fmt::Display>(&mut self, origin: &Origin, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(origin, error.to_string())).ok()
    }

    /// The value, unless there were problems.
    pub(super) fn none_or<T>(self, value: T) -> Result<T, ConfigError> {
        let mut problems = self.0;
        if problems.is_empty() {
            return Ok(value);
        }
        problems.sort_by(|left, right| left.origin.cmp(&right.origin));
        Err(ConfigError { problems })
    }
}

/// An offending value in quotes: control characters escaped, cut to a bound.
pub(crate) fn quoted(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN_VALUE) {
        Some((end, _)) => format!("\"{}…\"", value[..end].escape_debug()),
        None => format!("\"{}\"", value.escape_debug()),
    }
}
