//! Reading a list of tags page by page: what to ask for next, what to keep, when to stop.
//!
//! Pure: the caller sends the requests. Invariants:
//! - of a `Link` only the query string is used, on the URL that we asked ourselves: whatever host or path a
//!   registry names there is never contacted;
//! - a list is whole or an error: no failure half way, and no page that cannot be read, shortens it;
//! - it ends: pages and tags are bounded, and a page that brings nothing while promising more is an error.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::listed_tags::{ListedTags, MAX_TAGS};
use super::listing::ManifestMap;
use super::{ErrorKind, TagHint, TagList, link};
use crate::Tag;
use crate::{json, words};

/// How many tags a page is asked for: the most that all registries accept.
const PAGE_SIZE: usize = 1_000;
/// How many pages one list may have.
const MAX_PAGES: usize = 2_000;

/// Bound of all tags of one list, in bytes.
const MAX_TAG_BYTES: usize = 64 * 1024 * 1024;

/// The state of reading one list.
#[derive(Debug)]
pub(super) struct Pager {
    query: Option<String>,
    without_size: bool,
    pages: usize,
    listed: usize,
    tags: BTreeSet<Tag>,
    /// What the tags take, in bytes.
    bytes: usize,
    invalid: usize,
    /// What pages say of their tags, if that is to be looked for.
    hints: Option<BTreeMap<Tag, TagHint>>,
    /// What the tags that have hints take, in bytes. They need not be listed.
    hinted_bytes: usize,
}

/// Whether there is more to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Ask with [`Pager::query`].
    More,
    /// That was the last page.
    End,
}

#[derive(Deserialize)]
struct Page {
    /// Required, though it may be null: an answer without it is some other document, not an empty repository.
    tags: ListedTags,
}

#[derive(Deserialize)]
struct HintingPage {
    tags: ListedTags,
    manifest: ManifestMap,
}

impl Pager {
    /// Before the first page.
    pub(super) fn new(may_hint: bool) -> Self {
        Self {
            query: Some(format!("n={PAGE_SIZE}")),
            without_size: false,
            pages: 0,
            listed: 0,
            tags: BTreeSet::new(),
            bytes: 0,
            invalid: 0,
            hints: may_hint.then(BTreeMap::new),
            hinted_bytes: 0,
        }
    }

    /// The query string of the page to ask for now.
    pub(super) fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Whether the page asked for is the first.
    pub(super) fn is_first(&self) -> bool {
        self.pages == 0
    }

    /// The registry refused the first page with 400 or 405, which some do because of its size: whether to ask
    /// once more, without a size.
    pub(super) fn drop_page_size(&mut self) -> bool {
        let worth_it = self.is_first() && !self.without_size;
        if worth_it {
            self.query = None;
            self.without_size = true;
        }
        worth_it
    }

    /// How many entries the pages had so far, whether tags or not.
    pub(super) fn listed(&self) -> usize {
        self.listed
    }

    /// Takes over one page.
    pub(super) fn accept<'a>(
        &mut self,
        body: &[u8],
        links: impl IntoIterator<Item = &'a str>,
    ) -> Result<Progress, ErrorKind> {
        let page = self.read(body)?;
        let known_before = self.tags.len() + self.invalid;
        self.listed += page.tags.len();
        self.invalid += page.tags.invalid;
        for tag in page.tags.valid {
            let bytes = tag.as_str().len();
            if self.tags.insert(tag) {
                self.bytes += bytes;
            }
        }
        self.pages += 1;
        let hinted = self.hints.as_ref().map_or(0, BTreeMap::len);
        if self.listed > MAX_TAGS || hinted > MAX_TAGS {
            return Err(protocol(format!("more than {MAX_TAGS} tags")));
        }
        if self.bytes > MAX_TAG_BYTES || self.hinted_bytes > MAX_TAG_BYTES {
            return Err(ErrorKind::TooLarge { limit: MAX_TAG_BYTES as u64 });
        }

        let next = link::next(links).map_err(|_| protocol("a Link header that cannot be read".to_owned()))?;
        let Some(target) = next else {
            self.query = None;
            return Ok(Progress::End);
        };
        if self.tags.len() + self.invalid == known_before {
            return Err(protocol("a page that brings no new tag but promises another page".to_owned()));
        }
        if self.pages == MAX_PAGES {
            return Err(protocol(format!("more than {MAX_PAGES} pages of tags")));
        }
        let query =
            query_of(target).ok_or_else(|| protocol("a Link to the next page without a query".to_owned()))?;
        self.query = Some(query.to_owned());
        Ok(Progress::More)
    }

    /// Reads a page, and its hints if they are where they should be: else it is a page as any other.
    fn read(&mut self, body: &[u8]) -> Result<Page, ErrorKind> {
        if let Some(hints) = &mut self.hints
            && let Ok(HintingPage { tags, manifest }) = json::object(body)
        {
            for (tag, hint) in manifest.0 {
                let bytes = tag.as_str().len();
                if hints.insert(tag, hint).is_none() {
                    self.hinted_bytes += bytes;
                }
            }
            return Ok(Page { tags });
        }
        json::object(body).map_err(|error| protocol(format!("not a list of tags: {error}")))
    }

    /// What was read.
    pub(super) fn into_list(self) -> TagList {
        let mut hints = self.hints.unwrap_or_default();
        hints.retain(|tag, _| self.tags.contains(tag));
        TagList { tags: self.tags.into_iter().collect(), invalid: self.invalid, hints }
    }
}

/// The query string of a URI reference, absolute or relative.
pub(super) fn query_of(target: &str) -> Option<&str> {
    let without_fragment = target.split_once('#').map_or(target, |(before, _)| before);
    without_fragment.split_once('?').map(|(_, query)| query).filter(|query| !query.is_empty())
}

fn protocol(message: String) -> ErrorKind {
    ErrorKind::Protocol { message: words::printable(&message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(list: &TagList) -> Vec<&str> {
        list.tags.iter().map(Tag::as_str).collect()
    }

    #[test]
    fn one_page_sorted_without_repetitions_and_invalid_tags() {
        let mut pager = Pager::new(false);
        assert_eq!(pager.query(), Some("n=1000"));
        let body =
            br#"{"name":"x","tags":["b","a","b","not valid",null,7,"\u00e9"],"manifest":{"sha256:x":{}}}"#;
        assert_eq!(pager.accept(body, []), Ok(Progress::End));
        let list = pager.into_list();
        assert_eq!(tags(&list), ["a", "b"]);
        assert_eq!(list.invalid, 4);
    }

    #[test]
    fn null_and_no_tags_are_none() {
        for body in [&br#"{"tags":null}"#[..], br#"{"name":"x","tags":[]}"#] {
            let mut pager = Pager::new(false);
            assert_eq!(pager.accept(body, []), Ok(Progress::End));
            assert_eq!(pager.into_list(), TagList::default());
        }
    }

    #[test]
    fn only_the_query_of_a_link_is_used() {
        for link in [
            r#"<https://elsewhere.example/v2/x/tags/list?last=a%2Fb&n=1>; rel="next""#,
            r#"</v2/x/tags/list?last=a%2Fb&n=1>; rel="next""#,
            r#"<list?last=a%2Fb&n=1#top>; rel="next""#,
            r#"<?last=a%2Fb&n=1>; rel="next""#,
        ] {
            let mut pager = Pager::new(false);
            assert_eq!(pager.accept(br#"{"tags":["a"]}"#, [link]), Ok(Progress::More), "{link}");
            assert_eq!(pager.query(), Some("last=a%2Fb&n=1"), "{link}");
            assert!(!pager.is_first());
        }
    }

    #[test]
    fn the_page_size_is_dropped_once_and_only_before_the_first_page() {
        let mut pager = Pager::new(false);
        assert!(pager.drop_page_size());
        assert_eq!(pager.query(), None);
        assert!(!pager.drop_page_size());

        let mut pager = Pager::new(false);
        pager.accept(br#"{"tags":["a"]}"#, ["<?last=a>; rel=next"]).unwrap();
        assert!(!pager.drop_page_size());
    }

    #[test]
    fn what_is_not_a_list_is_an_error() {
        for body in
            [&b"{}"[..], b"", b"[]", b"[null]", b"null", br#"{"tags":"a"}"#, br#"{"tags":["a"]"#, b"<html>"]
        {
            let error = Pager::new(false).accept(body, []).unwrap_err();
            assert!(matches!(error, ErrorKind::Protocol { .. }), "{error}");
        }
    }

    #[test]
    fn endless_paging_is_an_error() {
        let mut pager = Pager::new(false);
        pager.accept(br#"{"tags":["a","b"]}"#, ["<?last=b>; rel=next"]).unwrap();
        let error = pager.accept(br#"{"tags":["b","a"]}"#, ["<?last=c>; rel=next"]).unwrap_err();
        assert_eq!(error.to_string(), "bad answer: a page that brings no new tag but promises another page");
    }

    #[test]
    fn pages_are_bounded() {
        let mut pager = Pager::new(false);
        for page in 1..MAX_PAGES {
            let body = format!(r#"{{"tags":["t{page}"]}}"#);
            assert_eq!(pager.accept(body.as_bytes(), ["<?last=x>; rel=next"]), Ok(Progress::More));
        }
        let error = pager.accept(br#"{"tags":["last"]}"#, ["<?last=x>; rel=next"]).unwrap_err();
        assert_eq!(error.to_string(), "bad answer: more than 2000 pages of tags");
    }

    #[test]
    fn tags_are_bounded_over_all_pages() {
        let half = format!(r#"{{"tags":[{}null]}}"#, "null,".repeat(MAX_TAGS / 2 - 1));
        let mut pager = Pager::new(false);
        for _ in 0..2 {
            assert_eq!(pager.accept(half.as_bytes(), ["<?last=x>; rel=next"]), Ok(Progress::More));
        }
        let error = pager.accept(br#"{"tags":["a"]}"#, []).unwrap_err();
        assert_eq!(error.to_string(), "bad answer: more than 1000000 tags");
    }

    #[test]
    fn the_bytes_of_tags_are_bounded_over_all_pages() {
        const ON_A_PAGE: usize = 64 * 1024;
        let page = |number: usize| {
            let tags: Vec<_> =
                (0..ON_A_PAGE).map(|tag| format!(r#""{:0>128}""#, number * ON_A_PAGE + tag)).collect();
            format!(r#"{{"tags":[{}]}}"#, tags.join(","))
        };
        let mut pager = Pager::new(false);
        for number in 0..MAX_TAG_BYTES / (128 * ON_A_PAGE) {
            let progress = pager.accept(page(number).as_bytes(), ["<?last=x>; rel=next"]);
            assert_eq!(progress, Ok(Progress::More), "{number}");
        }
        let error = pager.accept(br#"{"tags":["one-more"]}"#, []).unwrap_err();
        assert_eq!(error, ErrorKind::TooLarge { limit: 64 * 1024 * 1024 });
    }

    #[test]
    fn hints_are_bounded_over_all_pages_whether_listed_or_not() {
        let page = |number: usize, hinted: &[String]| {
            let tags = hinted.join(",");
            format!(r#"{{"tags":["t{number}"],"manifest":{{"x":{{"tag":[{tags}],"timeUploadedMs":"1"}}}}}}"#)
        };
        let accept = |pager: &mut Pager, number: usize, hinted: &[String]| {
            pager.accept(page(number, hinted).as_bytes(), ["<?last=x>; rel=next"])
        };
        let hinted: Vec<_> = (0..=MAX_TAGS).map(|tag| format!(r#""{tag}""#)).collect();
        let mut pager = Pager::new(true);
        for (number, half) in hinted[..MAX_TAGS].chunks(MAX_TAGS / 2).enumerate() {
            assert_eq!(accept(&mut pager, number, half), Ok(Progress::More));
        }
        assert_eq!(accept(&mut pager, 2, &hinted[..1]), Ok(Progress::More), "known already");
        let error = accept(&mut pager, 3, &hinted[MAX_TAGS..]).unwrap_err();
        assert_eq!(error.to_string(), "bad answer: more than 1000000 tags");

        let mut pager = Pager { hinted_bytes: MAX_TAG_BYTES - 2, ..Pager::new(true) };
        for number in 0..2 {
            assert_eq!(accept(&mut pager, number, &hinted[number..=number]), Ok(Progress::More));
        }
        let error = accept(&mut pager, 2, &hinted[2..3]).unwrap_err();
        assert_eq!(error, ErrorKind::TooLarge { limit: 64 * 1024 * 1024 });
    }

    #[test]
    fn a_link_that_cannot_be_followed_is_an_error() {
        for link in
            ["</v2/x/tags/list>; rel=next", "<>; rel=next", "<list?#x>; rel=next", "list?last=a; rel=next"]
        {
            let error = Pager::new(false).accept(br#"{"tags":["a"]}"#, [link]).unwrap_err();
            assert!(matches!(error, ErrorKind::Protocol { .. }), "{link}: {error}");
        }
    }

    #[test]
    fn hints_are_read_where_they_are_wanted_and_as_they_should_be() {
        let digest = crate::Digest::sha256(b"x");
        let body = |tags: &str| {
            format!(
                r#"{{"tags":["a","b"],"manifest":{{"{digest}":{{"tag":{tags},"timeUploadedMs":"1700000000000"}}}}}}"#
            )
        };
        let read = |may_hint: bool, body: &str| {
            let mut pager = Pager::new(may_hint);
            assert_eq!(pager.accept(body.as_bytes(), []), Ok(Progress::End));
            let list = pager.into_list();
            assert_eq!(tags(&list), ["a", "b"]);
            list.hints.into_keys().map(|tag| tag.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(read(true, &body(r#"["a","not-listed"]"#)), ["a"]);
        assert!(read(false, &body(r#"["a"]"#)).is_empty());
        assert!(read(true, &body("7")).is_empty(), "what is otherwise does not spoil the list");
        assert!(read(true, r#"{"tags":["a","b"]}"#).is_empty());
    }
}
