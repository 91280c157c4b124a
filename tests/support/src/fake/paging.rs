//! The forms of pagination that registries use for `tags/list`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::answer::Answer;
use super::contents::TagsOrder;
use super::record::parameters;

/// How `tags/list` is cut into pages, and how a page names the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Paging {
    /// Everything at once; `n` and `last` are ignored, as docker-registry 2.8 does.
    None,
    /// `Link: </v2/…/tags/list?n=…&last=TAG>; rel="next"`.
    #[default]
    LastParameter,
    /// The same, but `last` is a token that is not a tag.
    OpaqueToken,
    /// The link is a whole URL.
    AbsoluteLink,
    /// The link is a path from the root, with the parameters in the other order and `rel` without quotes.
    RootRelativeLink,
    /// The link is relative to the page: `<list?…>`.
    RelativeLink,
    /// The header has other links before and after the next one.
    SeveralLinks,
    /// The path in the link lacks the repository's first component, as Artifactory's virtual repositories lose it.
    LostPrefix,
    /// The link has a `next_page` token in place of `last`, as old Quay.
    QuayNextPage,
    /// As ECR: 100 tags a page unless asked, `n` above 1,000 refused with 405, whole URLs with opaque tokens, and
    /// `text/plain`.
    EcrMaxResults,
}

/// The largest `n` that [`Paging::EcrMaxResults`] accepts.
const ECR_MOST_RESULTS: usize = 1000;
/// The page of [`Paging::EcrMaxResults`] when no `n` was sent.
const ECR_USUAL_RESULTS: usize = 100;

/// One request for a page.
pub(super) struct PageRequest<'a> {
    pub(super) host: &'a str,
    pub(super) repository: &'a str,
    pub(super) query: &'a str,
    /// The most tags that the registry puts on a page.
    pub(super) page_size: Option<usize>,
    pub(super) order: TagsOrder,
}

impl Paging {
    /// Answers with a page of what is listed.
    pub(super) fn page(self, request: &PageRequest<'_>, listed: &[Value]) -> Answer {
        if self == Self::None {
            return tags_answer(request.repository, listed);
        }
        let asked = match parameters(request.query, "n").next().map(|n| n.parse::<usize>()) {
            None => None,
            Some(Ok(n)) => Some(n),
            Some(Err(_)) => {
                return Answer::error(400, "PAGINATION_NUMBER_INVALID", "invalid number of results");
            }
        };
        let most = if self == Self::EcrMaxResults {
            if asked.is_some_and(|n| n > ECR_MOST_RESULTS) {
                let message = "Invalid parameter at 'maxResults': must have value less than or equal to 1000";
                return Answer::error(405, "UNSUPPORTED", message);
            }
            Some(request.page_size.unwrap_or(ECR_USUAL_RESULTS).min(asked.unwrap_or(ECR_USUAL_RESULTS)))
        } else {
            [asked, request.page_size].into_iter().flatten().min()
        };
        let Some(start) = self.start(request, listed) else {
            return Answer::error(404, "NAME_UNKNOWN", "there is no such page");
        };
        let mut end = most.map_or(listed.len(), |most| (start + most).min(listed.len()));
        // What is not a string cannot be continued from.
        while end > start && end < listed.len() && !listed[end - 1].is_string() {
            end += 1;
        }

        let mut answer = tags_answer(request.repository, &listed[start..end]);
        if self == Self::EcrMaxResults {
            answer.set("content-type", "text/plain; charset=utf-8");
        }
        if end < listed.len() && end > start {
            answer.set("link", &self.link(request, most.unwrap_or(end - start), end, &listed[end - 1]));
        }
        answer
    }

    fn has_opaque_token(self) -> bool {
        matches!(self, Self::OpaqueToken | Self::QuayNextPage | Self::EcrMaxResults)
    }

    /// Where the page starts in what is listed; `None` for a token or tag that cannot be.
    fn start(self, request: &PageRequest<'_>, listed: &[Value]) -> Option<usize> {
        let parameter = if self == Self::QuayNextPage { "next_page" } else { "last" };
        let Some(last) = parameters(request.query, parameter).next() else {
            return Some(0);
        };
        if self.has_opaque_token() {
            return position_in(&last).filter(|position| *position <= listed.len());
        }
        let known = listed.iter().position(|entry| entry.as_str() == Some(last.as_str()));
        match (known, request.order) {
            (Some(position), _) => Some(position + 1),
            (None, TagsOrder::Registered) => None,
            (None, TagsOrder::Sorted) => {
                let later =
                    listed.iter().position(|entry| entry.as_str().is_some_and(|tag| tag > last.as_str()));
                Some(later.unwrap_or(listed.len()))
            }
        }
    }

    /// The `Link` header that leads on from the page that ends before `end`.
    fn link(self, request: &PageRequest<'_>, page: usize, end: usize, last: &Value) -> String {
        let PageRequest { host, repository, .. } = request;
        let cursor = if self.has_opaque_token() {
            token_for(end)
        } else {
            last.as_str().expect("pages end with a string").to_owned()
        };
        let n = page.to_string();
        let query_of = |parameters: [(&str, &str); 2]| {
            form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
        };
        let query = query_of([("n", &n), ("last", &cursor)]);
        let path = format!("/v2/{repository}/tags/list");
        match self {
            Self::None => unreachable!("a list in one piece has no next page"),
            Self::LastParameter | Self::OpaqueToken => format!("<{path}?{query}>; rel=\"next\""),
            Self::AbsoluteLink | Self::EcrMaxResults => {
                format!("<http://{host}{path}?{query}>; rel=\"next\"")
            }
            Self::RootRelativeLink => {
                format!("<{path}?{}>; rel=next", query_of([("last", &cursor), ("n", &n)]))
            }
            Self::RelativeLink => format!("<list?{query}>; rel=\"next\""),
            Self::SeveralLinks => format!(
                "<{path}?n={n}>; rel=\"first\"; title=\"one, <two>; rel=next\", <{path}?{query}>; rel=\"next\", \
                 <https://example.com/>; rel=\"help\""
            ),
            Self::LostPrefix => {
                let rest = repository.split_once('/').map_or(String::new(), |(_, rest)| format!("{rest}/"));
                format!("</v2/{rest}tags/list?{query}>; rel=\"next\"")
            }
            Self::QuayNextPage => {
                format!("<{path}?{}>; rel=\"next\"", query_of([("next_page", &cursor), ("n", &n)]))
            }
        }
    }
}

/// 200 with this page of tags.
pub(super) fn tags_answer(repository: &str, tags: &[Value]) -> Answer {
    Answer::json(200, &json!({"name": repository, "tags": tags}))
}

/// A token that is no tag and whose characters must be encoded in a query.
fn token_for(position: usize) -> String {
    STANDARD.encode(format!("+/position={position:>8}"))
}

fn position_in(token: &str) -> Option<usize> {
    let decoded = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    decoded.strip_prefix("+/position=")?.trim_start().parse().ok()
}
