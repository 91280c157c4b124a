//! The list of repositories, `/v2/_catalog`, as docker-registry has it: sorted, with `n` and `last`, and a `Link` to the next
//! page.

use serde_json::json;
use url::form_urlencoded;

use super::answer::Answer;
use super::contents::Contents;
use super::record::Recorded;

/// The list of repositories.
#[derive(Debug)]
pub(super) struct Catalog {
    /// The most repositories on a page, whatever is asked for.
    pub(super) largest_page: usize,
    /// Listed besides what is there, whatever it is.
    pub(super) extra: Vec<String>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self { largest_page: 1_000, extra: Vec::new() }
    }
}

impl Catalog {
    /// One page.
    pub(super) fn page(&self, request: &Recorded, contents: &Contents) -> Answer {
        let mut listed: Vec<&str> = contents.names().chain(self.extra.iter().map(String::as_str)).collect();
        listed.sort_unstable();
        let asked = request.parameter("n").and_then(|n| n.parse().ok()).unwrap_or(self.largest_page);
        let last = request.parameter("last").unwrap_or_default();
        let rest = &listed[listed.partition_point(|name| *name <= last.as_str())..];
        let page = &rest[..rest.len().min(asked.min(self.largest_page))];
        let mut answer = Answer::json(200, &json!({ "repositories": page }));
        if let Some(last) = page.last().filter(|_| page.len() < rest.len()) {
            let last: String = form_urlencoded::byte_serialize(last.as_bytes()).collect();
            answer.set("link", &format!("</v2/_catalog?last={last}&n={asked}>; rel=\"next\""));
        }
        answer
    }
}
