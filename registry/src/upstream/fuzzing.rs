//! The part of [`crate::fuzzing`] that is about answers of registries.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use tokio::time::Instant;

use super::pages::{Pager, Progress};
use super::token::Granted;
use super::{TagList, challenge, limits, link, media_type};

/// A scheme and its parameters.
pub type Challenge = (String, Vec<(String, String)>);

/// Reads `WWW-Authenticate` headers.
pub fn challenges<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    challenge::parse(headers).into_iter().map(challenge::Challenge::into_parts).collect()
}

/// The target of the link to the next page, in `Link` headers.
#[expect(clippy::result_unit_err, reason = "the error that it stands for says nothing either")]
pub fn next_link<'a>(headers: impl IntoIterator<Item = &'a str>) -> Result<Option<String>, ()> {
    link::next(headers).map(|target| target.map(str::to_owned)).map_err(|_| ())
}

/// A list of tags that is being read.
#[derive(Debug)]
pub struct TagPages(Pager);

#[expect(clippy::new_without_default, reason = "there is one user, and it says `new`")]
impl TagPages {
    /// Before the first page.
    pub fn new() -> Self {
        Self(Pager::new(true))
    }

    /// Takes over a page. The query of the next one, if there is a next one.
    pub fn accept(&mut self, body: &[u8], link: Option<&str>) -> Result<Option<String>, String> {
        match self.0.accept(body, link) {
            Ok(Progress::More) => Ok(self.0.query().map(str::to_owned)),
            Ok(Progress::End) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What was read.
    pub fn into_list(self) -> TagList {
        self.0.into_list()
    }
}

/// The type of a manifest, by its header and by itself.
pub fn media_type_of_manifest(content_type: Option<&str>, document: &[u8]) -> Result<String, &'static str> {
    media_type::of_manifest(content_type, document)
}

/// How long an answer makes us pause: its header, one field per line, and after an empty line its body. `None` where it does
/// not say that there were too many requests; the header is then read in vain.
pub fn pause(answer: &[u8]) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    let mut rest = answer;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if line.is_empty() {
            break;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        if let (Some(name), Some(value)) = (parts.next(), parts.next())
            && let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let _ = limits::quota(&headers);
    let in_header = limits::retry_after(&headers, Timestamp::UNIX_EPOCH);
    let said = limits::too_many(rest)?;
    Some(limits::pause(in_header.or(said.retry_after), 1))
}

/// How long the token in a token service's answer is used.
pub fn token(body: &[u8]) -> Result<Duration, String> {
    let asked_at = Instant::now();
    let Granted { token, .. } = Granted::decode(body, asked_at).map_err(|error| error.to_string())?;
    Ok(token.usable_until() - asked_at)
}
