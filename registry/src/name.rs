//! Repository names: any spelling is read, one canonical form is kept.
//!
//! The grammar is that of the distribution project's references, with three differences that keep "one
//! repository, one name" true: Docker Hub's old hosts are one host; a host without a dot must show its port
//! (so `:443` stays where dropping it would turn the host into a Docker Hub organisation); and a host that ends
//! in a number must be an IP address.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

pub use aliases::Aliases;
pub(crate) use host::{DOCKER_HUB, DOCKER_HUB_OLD_HOSTS};
pub use host::{canonical_host, host_spellings};

use crate::parse::{Fault, ParseError, ReferenceParts, serde_as_string};

mod aliases;
mod host;

/// Longest canonical name, host included, in bytes.
const MAX_NAME_LENGTH: usize = 255;

/// Where Docker Hub's images without an organisation live.
const DOCKER_HUB_OFFICIAL: &str = "library";

/// What a name of Docker Hub is sent to.
const DOCKER_HUB_REGISTRY_HOST: &str = "registry-1.docker.io";

/// The canonical name of a repository, `host[:port]/path`; at most 255 bytes, cheap to clone.
///
/// ```
/// # use samovar_registry::Name;
/// let name: Name = "index.docker.io/alpine".parse()?;
/// assert_eq!(name.as_str(), "docker.io/library/alpine");
/// # Ok::<(), samovar_registry::ParseError>(())
/// ```
#[derive(Clone)]
pub struct Name {
    text: Arc<str>,
    /// Where the path begins, behind the slash; fits because the whole is at most 255 bytes.
    path_start: u8,
}

impl Name {
    /// Reads any spelling of a name, with `aliases` standing for hosts. A tag or a digest is refused.
    pub fn parse(text: &str, aliases: &Aliases) -> Result<Self, ParseError> {
        Self::from_text(text, aliases).map_err(|fault| fault.in_input("image name", text))
    }

    fn from_text(text: &str, aliases: &Aliases) -> Result<Self, Fault> {
        let parts = ReferenceParts::split(text)?;
        if let Some(tag) = parts.tag {
            return Err(Fault::new(tag.start - 1, "a name without a tag is wanted"));
        }
        if let Some(digest) = parts.digest {
            return Err(Fault::new(digest.start - 1, "a name without a digest is wanted"));
        }
        Self::from_fragment(parts.name, aliases)
    }

    /// Reads the name at the start of a larger text, from which tag and digest were already cut.
    pub(crate) fn from_fragment(text: &str, aliases: &Aliases) -> Result<Self, Fault> {
        refuse_misplaced_slashes(text)?;
        let (host, path, path_start) = match text.split_once('/') {
            None if text.starts_with('[') => {
                return Err(Fault::new(text.len(), "the repository is missing after the host"));
            }
            None => (host::DOCKER_HUB.to_owned(), text, 0),
            Some((first, rest)) => {
                if let Some(host) = aliases.host_of(first) {
                    (host.to_owned(), rest, first.len() + 1)
                } else if host::is_recognisable(first) {
                    (host::canonical(first)?, rest, first.len() + 1)
                } else {
                    (host::DOCKER_HUB.to_owned(), text, 0)
                }
            }
        };
        check_path(path).map_err(|fault| fault.shifted(path_start))?;
        Self::assemble(&host, path)
    }

    fn assemble(host: &str, path: &str) -> Result<Self, Fault> {
        let text = if host == host::DOCKER_HUB && !path.contains('/') {
            format!("{host}/{DOCKER_HUB_OFFICIAL}/{path}")
        } else {
            format!("{host}/{path}")
        };
        match u8::try_from(host.len() + 1) {
            Ok(path_start) if text.len() <= MAX_NAME_LENGTH => Ok(Self { text: text.into(), path_start }),
            _ => Err(Fault::new(0, "a name must not be longer than 255 bytes, host included")),
        }
    }

    /// The whole canonical name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, with its port where it has one, such as `docker.io`, `127.0.0.1:5000`, `[::1]:5000`.
    pub fn host(&self) -> &str {
        &self.text[..usize::from(self.path_start) - 1]
    }

    /// The repository within its registry, such as `library/alpine`.
    pub fn path(&self) -> &str {
        &self.text[usize::from(self.path_start)..]
    }

    /// The host to connect to: Docker Hub's registry does not live where its names say.
    pub fn registry_host(&self) -> &str {
        Self::registry_host_of(self.host())
    }

    /// The same for a canonical host alone.
    pub(crate) fn registry_host_of(host: &str) -> &str {
        if host == DOCKER_HUB { DOCKER_HUB_REGISTRY_HOST } else { host }
    }

    /// Whether this is a repository of Docker Hub.
    pub fn is_docker_hub(&self) -> bool {
        self.host() == host::DOCKER_HUB
    }

    /// The canonical name, then, for Docker Hub, the same repository under its old hosts.
    pub fn spellings(&self) -> impl Iterator<Item = String> + '_ {
        host_spellings(self.host()).map(|host| format!("{host}/{}", self.path()))
    }
}

fn refuse_misplaced_slashes(text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::new(0, "the name is empty"));
    }
    if text.starts_with('/') {
        return Err(Fault::new(0, "a name must not begin with a slash"));
    }
    if text.ends_with('/') {
        return Err(Fault::new(text.len() - 1, "a name must not end with a slash"));
    }
    if let Some(slash) = text.find("//") {
        return Err(Fault::new(slash + 1, "a name must not have an empty part"));
    }
    Ok(())
}

/// Checks the components `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` of a path that has no empty ones.
fn check_path(path: &str) -> Result<(), Fault> {
    let mut start = 0;
    for component in path.split('/') {
        check_component(component).map_err(|fault| fault.shifted(start))?;
        start += component.len() + 1;
    }
    Ok(())
}

/// Checks one component of a path, which must not be empty.
fn check_component(component: &str) -> Result<(), Fault> {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_separator = |byte: u8| matches!(byte, b'.' | b'_' | b'-');
    for (offset, byte) in component.bytes().enumerate() {
        if byte.is_ascii_uppercase() {
            return Err(Fault::new(offset, "upper-case letters are not allowed"));
        }
        if !is_word(byte) && !is_separator(byte) {
            return Err(Fault::new(offset, "only lower-case letters, digits, '.', '_' and '-' are allowed"));
        }
    }
    let mut offset = 0;
    for run in component.as_bytes().chunk_by(|a, b| is_word(*a) == is_word(*b)) {
        let end = offset + run.len();
        if is_separator(run[0]) {
            if offset == 0 || end == component.len() {
                return Err(Fault::new(offset, "a part must begin and end with a letter or a digit"));
            }
            if !matches!(run, b"." | b"_" | b"__") && run.iter().any(|byte| *byte != b'-') {
                return Err(Fault::new(
                    offset,
                    "letters and digits are separated by one '.', one or two '_', or dashes",
                ));
            }
        }
        offset = end;
    }
    Ok(())
}

impl FromStr for Name {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text, &Aliases::default())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// `path_start` follows from the text, so that the text alone decides; `Borrow<str>` depends on it.
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

serde_as_string!(Name, "an image name such as docker.io/library/alpine");
