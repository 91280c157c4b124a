//! The secrets of a receiver. Several are good at once while one follows another: each line of the file is one.
//!
//! Invariants: no secret leaves this module; comparing takes the same time whatever is compared; a file that cannot be read
//! any more leaves in force what it said last.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use aws_lc_rs::hmac;
use samovar_registry::Secret;
use samovar_registry::credentials::SecretSource;
use tracing::{info, warn};

/// A larger file is none of secrets. Bytes.
const MAX_SECRETS_FILE_BYTES: u64 = 64 * 1024;
/// Secrets that are good at once.
const MOST_SECRETS: usize = 8;

/// Secrets, and where they come from.
#[derive(Debug)]
pub(super) struct Secrets {
    source: SecretSource,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Arc<[Key]>,
    /// What is wrong with the file now.
    problem: Option<String>,
}

/// One secret, as it is compared with.
struct Key {
    secret: Secret,
    /// Of the secret: things of different lengths cannot be compared in constant time.
    digest: Digest,
}

impl Secrets {
    /// The secrets as they are now; an error says what is wrong with them.
    pub(super) fn new(source: SecretSource) -> Result<Self, String> {
        let current = read(&source)?;
        Ok(Self { source, state: Mutex::new(State { current, problem: None }) })
    }

    /// Reads a file again. Blocks as long as the file system does.
    pub(super) fn read_again(&self, receiver: &str) {
        let SecretSource::File(_) = &self.source else { return };
        let read = read(&self.source);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(current) => {
                if state.problem.take().is_some() {
                    info!(hook.receiver = receiver, "the secrets of a receiver can be read again");
                }
                state.current = current;
            }
            Err(problem) => {
                if state.problem.as_ref() != Some(&problem) {
                    warn!(
                        hook.receiver = receiver,
                        error = problem,
                        "the secrets of a receiver stay as they were"
                    );
                }
                state.problem = Some(problem);
            }
        }
    }

    /// What is wrong with the file.
    pub(super) fn problem(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Whether this is one of the secrets.
    pub(super) fn has(&self, shown: &[u8]) -> bool {
        let shown = digest(&SHA256, shown);
        self.any(|key| verify_slices_are_equal(shown.as_ref(), key.digest.as_ref()).is_ok())
    }

    /// Whether this is the body's authentication code by one of the secrets.
    pub(super) fn has_signed(&self, algorithm: hmac::Algorithm, body: &[u8], code: &[u8]) -> bool {
        self.any(|key| {
            let key = hmac::Key::new(algorithm, key.secret.reveal().as_bytes());
            hmac::verify(&key, body, code).is_ok()
        })
    }

    /// Tries all, also after one that fits.
    fn any(&self, fits: impl Fn(&Key) -> bool) -> bool {
        let current = Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).current);
        current.iter().fold(false, |found, key| found | fits(key))
    }
}

impl Key {
    fn new(secret: &str) -> Self {
        Self { secret: Secret::new(secret), digest: digest(&SHA256, secret.as_bytes()) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

fn read(source: &SecretSource) -> Result<Arc<[Key]>, String> {
    match source {
        SecretSource::Given(secret) => keys(secret.reveal()),
        SecretSource::File(path) => {
            let shown = path.display();
            let text = read_file(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
            keys(&text).map_err(|reason| format!("{shown}: {reason}"))
        }
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for somebody to write to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_SECRETS_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SECRETS_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_SECRETS_FILE_BYTES} bytes")));
    }
    Ok(text)
}

fn keys(text: &str) -> Result<Arc<[Key]>, String> {
    let keys: Arc<[Key]> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Key::new).collect();
    match keys.len() {
        0 => Err("there is no secret in it".to_owned()),
        1..=MOST_SECRETS => Ok(keys),
        _ => Err(format!("there are more than {MOST_SECRETS} secrets in it, one in each line")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Result<Secrets, String> {
        Secrets::new(SecretSource::Given(Secret::new(text)))
    }

    /// RFC 4231, test case 2, and the same by SHA-1 from RFC 2202.
    #[test]
    fn codes_are_those_of_the_standards() {
        let secrets = given("Jefe").unwrap();
        let body = b"what do ya want for nothing?";
        let code = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let sha256 = code("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let sha1 = code("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        let legacy = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
        assert!(secrets.has_signed(hmac::HMAC_SHA256, body, &sha256));
        assert!(secrets.has_signed(legacy, body, &sha1));
        assert!(!secrets.has_signed(hmac::HMAC_SHA256, b"what do ya want for something?", &sha256));
        assert!(!secrets.has_signed(hmac::HMAC_SHA256, body, &sha256[..31]));
        assert!(!secrets.has_signed(legacy, body, &sha256));
        assert!(!secrets.has_signed(hmac::HMAC_SHA256, body, b""));
        assert!(!given("jefe").unwrap().has_signed(hmac::HMAC_SHA256, body, &sha256));
    }

    #[test]
    fn each_line_is_a_secret_and_none_is_shown() {
        let secrets = given("one secret\n\n another \r\n").unwrap();
        assert!(secrets.has(b"one secret") && secrets.has(b"another"));
        for other in ["", "one", "one secret\n", "One secret", "one secret another"] {
            assert!(!secrets.has(other.as_bytes()), "{other:?}");
        }
        assert!(!format!("{secrets:?}").contains("another"));
        assert_eq!(given(" \n").map(drop), Err("there is no secret in it".to_owned()));
        assert!(given(&"x\n".repeat(MOST_SECRETS)).is_ok());
        assert!(given(&"x\n".repeat(MOST_SECRETS + 1)).is_err());
    }

    #[test]
    fn a_file_is_followed_and_its_last_good_content_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let source = || SecretSource::File(path.clone());
        assert!(Secrets::new(source()).is_err(), "it is not there");
        std::fs::write(&path, "old\n").unwrap();
        let secrets = Secrets::new(source()).unwrap();
        std::fs::write(&path, "old\nnew\n").unwrap();
        secrets.read_again("test");
        assert!(secrets.has(b"old") && secrets.has(b"new"));
        std::fs::write(&path, "").unwrap();
        secrets.read_again("test");
        assert!(secrets.has(b"old") && secrets.problem().unwrap().ends_with("there is no secret in it"));
        std::fs::write(&path, "new\n").unwrap();
        secrets.read_again("test");
        assert!(!secrets.has(b"old") && secrets.has(b"new"));
        assert_eq!(secrets.problem(), None);
    }
}
