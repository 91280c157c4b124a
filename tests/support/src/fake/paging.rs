//! The forms of pagination that registries use for `tags/list`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::answer::Answer;
use super::contents::{Repository, TagsOrder};
use super::fault::Action;
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
    /// The link is a whole URL, and `last` is a token that is not a tag.
    AbsoluteLinkWithToken,
}

/// How `tags/list` is answered.
#[derive(Debug, Clone)]
pub struct Listing {
    /// How a page names the next one.
    pub paging: Paging,
    /// In which order the tags stand.
    pub order: TagsOrder,
    /// How many tags are on a page where no `n` is sent; all where this is `None`.
    pub usual_page: Option<usize>,
    /// The most tags on a page, whatever is asked for.
    pub largest_page: Option<usize>,
    /// The largest `n` that may be asked for, and what a larger one gets.
    pub refused_page: Option<(usize, Action)>,
    /// Whether a `last` that is no tag is an error, and not simply a place in the order. Where tags are not sorted it
    /// always is.
    pub unknown_last_is_not_found: bool,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// Whether the answer comes in chunks, without `Content-Length`.
    pub is_chunked: bool,
    /// Whether `tags` is null where there are none.
    pub no_tags_are_null: bool,
    /// What the answer has besides `name` and `tags`.
    pub(super) extra: Option<Extra>,
}

/// Makes further members of a list out of what it lists.
pub(super) type Extra = fn(&Repository) -> Map<String, Value>;

impl Default for Listing {
    /// As the specification has it: sorted, as many tags as are asked for.
    fn default() -> Self {
        Self {
            paging: Paging::default(),
            order: TagsOrder::default(),
            usual_page: None,
            largest_page: None,
            refused_page: None,
            unknown_last_is_not_found: false,
            content_type: "application/json; charset=utf-8",
            is_chunked: false,
            no_tags_are_null: false,
            extra: None,
        }
    }
}

/// One request for a page.
pub(super) struct PageRequest<'a> {
    pub(super) host: &'a str,
    pub(super) repository: &'a str,
    pub(super) query: &'a str,
}

impl Listing {
    /// Answers with a page of what the repository lists.
    pub(super) fn page(&self, request: &PageRequest<'_>, repository: &Repository) -> Answer {
        let listed = repository.listed(self.order);
        let mut answer = match self.cut(request, &listed) {
            Ok((page, link)) => {
                let mut body = page_of(request.repository, page);
                if listed.is_empty() && self.no_tags_are_null {
                    body["tags"] = Value::Null;
                }
                if let (Some(extra), Some(body)) = (self.extra, body.as_object_mut()) {
                    body.extend(extra(repository));
                }
                let mut answer = Answer::json(200, &body);
                answer.set("content-type", self.content_type);
                if let Some(link) = link {
                    answer.set("link", &link);
                }
                answer
            }
            Err(refusal) => *refusal,
        };
        if self.is_chunked {
            answer.in_chunks();
        }
        answer
    }

    /// The page, and the link to the next one.
    fn cut<'l>(
        &self,
        request: &PageRequest<'_>,
        listed: &'l [Value],
    ) -> Result<(&'l [Value], Option<String>), Box<Answer>> {
        if self.paging == Paging::None {
            return Ok((listed, None));
        }
        let asked = match parameters(request.query, "n").next().map(|n| n.parse::<usize>()) {
            None => None,
            Some(Ok(n)) => Some(n),
            Some(Err(_)) => {
                let message = "invalid number of results";
                return Err(Box::new(Answer::error(400, "PAGINATION_NUMBER_INVALID", message)));
            }
        };
        if let (Some(asked), Some((largest, refusal))) = (asked, &self.refused_page)
            && asked > *largest
        {
            return Err(Box::new(Answer::ordered(refusal)));
        }
        let most = [asked.or(self.usual_page), self.largest_page].into_iter().flatten().min();
        let Some(start) = self.start(request, listed) else {
            return Err(Box::new(Answer::error(404, "NAME_UNKNOWN", "there is no such page")));
        };
        let mut end = most.map_or(listed.len(), |most| (start + most).min(listed.len()));
        // What is not a string cannot be continued from.
        while end > start && end < listed.len() && !listed[end - 1].is_string() {
            end += 1;
        }
        let has_next = end < listed.len() && end > start;
        let link =
            has_next.then(|| self.paging.link(request, most.unwrap_or(end - start), end, &listed[end - 1]));
        Ok((&listed[start..end], link))
    }

    /// Where the page starts in what is listed; `None` for a token or tag that cannot be.
    fn start(&self, request: &PageRequest<'_>, listed: &[Value]) -> Option<usize> {
        let parameter = if self.paging == Paging::QuayNextPage { "next_page" } else { "last" };
        let Some(last) = parameters(request.query, parameter).next() else {
            return Some(0);
        };
        if self.paging.has_opaque_token() {
            return position_in(&last).filter(|position| *position <= listed.len());
        }
        let known = listed.iter().position(|entry| entry.as_str() == Some(last.as_str()));
        match known {
            Some(position) => Some(position + 1),
            None if self.unknown_last_is_not_found || self.order != TagsOrder::Sorted => None,
            None => {
                let later =
                    listed.iter().position(|entry| entry.as_str().is_some_and(|tag| tag > last.as_str()));
                Some(later.unwrap_or(listed.len()))
            }
        }
    }
}

impl Paging {
    fn has_opaque_token(self) -> bool {
        matches!(self, Self::OpaqueToken | Self::QuayNextPage | Self::AbsoluteLinkWithToken)
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
            Self::AbsoluteLink | Self::AbsoluteLinkWithToken => {
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

/// A page of tags.
pub(super) fn page_of(repository: &str, tags: &[Value]) -> Value {
    json!({"name": repository, "tags": tags})
}

/// A token that is no tag and whose characters must be encoded in a query.
fn token_for(position: usize) -> String {
    STANDARD.encode(format!("+/position={position:>8}"))
}

fn position_in(token: &str) -> Option<usize> {
    let decoded = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    decoded.strip_prefix("+/position=")?.trim_start().parse().ok()
}
