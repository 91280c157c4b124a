//! Pages of ordered lists by `n` and `last`, with the link to the next one (distribution-spec, "Listing Tags"). Pure.

use http::HeaderValue;
use samovar_registry::Name;

use super::error::{Code, OciError};
use super::memory::PageKey;

/// Entries on one page at most, and where the client does not say.
const MOST_ON_A_PAGE: usize = 10_000;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paging<'a> {
    /// At most so many.
    size: usize,
    /// Only those after this one, which need not be in the list.
    last: Option<&'a str>,
}

impl<'a> Paging<'a> {
    pub(super) fn new(size: Option<&str>, last: Option<&'a str>) -> Result<Self, OciError> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let size = match size {
            None => MOST_ON_A_PAGE,
            // Any number of digits: more than fits is more than there is.
            Some(text) if is_number(text) => text.parse().unwrap_or(usize::MAX).min(MOST_ON_A_PAGE),
            Some(_) => {
                let message = "n must be a whole number that is not negative";
                return Err(OciError::new(Code::PaginationNumberInvalid, message));
            }
        };
        Ok(Self { size, last })
    }

    /// Which page of the tags of a repository this is.
    pub(super) fn key(self, name: &Name, asked: &str) -> PageKey {
        let last = self.last.map(str::to_owned);
        PageKey { name: name.clone(), asked: asked.to_owned(), size: self.size, last }
    }

    /// Whether the page is all of a list of so many entries.
    pub(super) fn is_whole(self, entries: usize) -> bool {
        self.last.is_none() && entries <= self.size
    }

    /// The page of a list that is in the order of its bytes, and whether another one follows.
    pub(super) fn cut<T: AsRef<str>>(self, list: impl IntoIterator<Item = T>) -> (Vec<T>, bool) {
        let mut rest = list.into_iter().filter(|entry| self.last.is_none_or(|last| entry.as_ref() > last));
        let page: Vec<T> = rest.by_ref().take(self.size).collect();
        // A page of none leads nowhere.
        let more = !page.is_empty() && rest.next().is_some();
        (page, more)
    }

    /// The link to the page after the one that ends with `last`: on the path that was asked for, wherever that is.
    pub(super) fn link(self, path: &str, last: &str, namespace: Option<&str>) -> HeaderValue {
        let mut link = format!("<{path}?n={}&last={}", self.size, encoded(last));
        if let Some(namespace) = namespace {
            link.push_str("&ns=");
            link.push_str(&encoded(namespace));
        }
        link.push_str(">; rel=\"next\"");
        HeaderValue::try_from(link).expect("a path as it was sent, and percent-encoded parameters")
    }
}

/// A parameter's value as it stands in a query.
fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                encoded.push(char::from(byte));
            }
            _ => write!(encoded, "%{byte:02X}").expect("written to memory"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(size: Option<&str>, last: Option<&str>) -> (Vec<&'static str>, bool) {
        Paging::new(size, last).unwrap().cut(["1.0", "2.0", "a", "b"])
    }

    #[test]
    fn pages_are_cut_as_they_are_asked_for() {
        assert_eq!(cut(None, None), (vec!["1.0", "2.0", "a", "b"], false));
        assert_eq!(cut(Some("2"), None), (vec!["1.0", "2.0"], true));
        assert_eq!(cut(Some("2"), Some("2.0")), (vec!["a", "b"], false));
        assert_eq!(cut(Some("3"), Some("1.5")), (vec!["2.0", "a", "b"], false));
        assert!(!cut(Some("4"), None).1);
        let is_whole = |size, last| Paging::new(size, last).unwrap().is_whole(4);
        assert!(is_whole(None, None) && is_whole(Some("4"), None));
        assert!(!is_whole(Some("3"), None) && !is_whole(None, Some("")) && !is_whole(Some("0"), None));
        assert_eq!(cut(Some("0"), None), (vec![], false));
        assert_eq!(cut(None, Some("zzz")), (vec![], false));
        assert_eq!(cut(Some("99999999999999999999999999"), Some("a")), (vec!["b"], false));
        for bad in ["", "-1", "+1", "1.0", "ten", " 1", "0x1"] {
            assert!(Paging::new(Some(bad), None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_link_leads_to_the_rest_in_the_same_way() {
        let paging = Paging::new(Some("2"), None).unwrap();
        let link = paging.link("/v2/up/a/tags/list", "2.0", None);
        assert_eq!(link, "</v2/up/a/tags/list?n=2&last=2.0>; rel=\"next\"");
        let link = paging.link("/v2/a/tags/list", "a b", Some("127.0.0.1:5000"));
        assert_eq!(link, "</v2/a/tags/list?n=2&last=a%20b&ns=127.0.0.1:5000>; rel=\"next\"");
        let largest = Paging::new(Some("20000"), None).unwrap().link("/v2/a/tags/list", "x", None);
        assert_eq!(largest, "</v2/a/tags/list?n=10000&last=x>; rel=\"next\"");
    }

    proptest! {
        #[test]
        fn following_the_pages_gives_all_once(
            list in prop::collection::btree_set("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,5}", 0..40), size in 1_usize..10,
        ) {
            let (mut all, mut last): (Vec<&String>, Option<&str>) = (Vec::new(), None);
            let size = size.to_string();
            loop {
                let (page, more) = Paging::new(Some(&size), last).unwrap().cut(&list);
                all.extend(page);
                last = all.last().map(|entry| entry.as_str());
                if !more {
                    break;
                }
            }
            prop_assert!(all.into_iter().eq(&list));
        }
    }
}
