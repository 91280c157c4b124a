//! How a command ends when it does not end well.

use std::io::Write;
use std::process::ExitCode;

use crate::config::ConfigError;

/// The exit codes of the program besides 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 1: it was tried and failed.
    Failed,
    /// 2: what was asked for, or how the program is configured, makes no sense.
    Usage,
    /// 3: what was asked for does not exist or was not fetched yet.
    NotFound,
}

impl ExitStatus {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
        }
    }
}

/// What a user is told when a command does not succeed: what went wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the process ends.
    pub status: ExitStatus,
    /// What went wrong.
    pub message: String,
    /// What the user can do, a line each.
    pub hints: Vec<String>,
}

impl Failure {
    /// It was tried and failed: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { status: ExitStatus::Failed, message: message.into(), hints: Vec::new() }
    }

    /// What was asked for makes no sense: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { status: ExitStatus::Usage, message: message.into(), hints: Vec::new() }
    }

    /// What was asked for does not exist or was not fetched yet: exit code 3.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: ExitStatus::NotFound, message: message.into(), hints: Vec::new() }
    }

    /// Adds a line that says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Writes the message and the hints to standard error, and gives the code to end with.
    pub fn report(&self) -> ExitCode {
        // There is nobody left to tell where standard error cannot be written to.
        let _ = self.write_to(&mut std::io::stderr().lock());
        ExitCode::from(self.status.code())
    }

    fn write_to(&self, stream: &mut dyn Write) -> std::io::Result<()> {
        writeln!(stream, "error: {}", self.message)?;
        for hint in &self.hints {
            writeln!(stream, "hint: {hint}")?;
        }
        Ok(())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_follow_the_error() {
        let mut written = Vec::new();
        let failure = Failure::failed("no answer").with_hint("ask again").with_hint("or not");
        failure.write_to(&mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "error: no answer\nhint: ask again\nhint: or not\n");
    }

    #[test]
    fn the_exit_codes_are_those_of_the_contract() {
        let codes = [ExitStatus::Failed, ExitStatus::Usage, ExitStatus::NotFound].map(ExitStatus::code);
        assert_eq!(codes, [1, 2, 3]);
    }
}
