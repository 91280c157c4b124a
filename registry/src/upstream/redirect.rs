//! Where a redirect leads, and what goes along.

use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use super::auth::without_userinfo;
use super::budget::RequestKind;
use super::{ErrorKind, HttpOptions};

/// How many redirects are followed.
pub(super) const MAX_REDIRECTS: usize = 5;

/// One request on the way from the URL that was asked to the one that answers.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    pub(super) url: Url,
    pub(super) kind: RequestKind,
    /// Gone for good once the origin changed.
    pub(super) authorization: Option<HeaderValue>,
    /// Whether the request has a body, which is a secret.
    pub(super) carries_form: bool,
    /// Whether we have been at the origin that was asked all the time: only its 401 and 403 are the registry's.
    pub(super) is_at_origin: bool,
}

/// The next hop, if the answer is a redirect.
pub(super) fn next(
    hop: &Hop,
    status: StatusCode,
    headers: &HeaderMap,
    options: &HttpOptions,
) -> Result<Option<Hop>, ErrorKind> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let unusable = || ErrorKind::Protocol { message: format!("a redirect ({status}) that leads nowhere") };
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok()).ok_or_else(unusable)?;
    let mut url = hop.url.join(location).map_err(|_| unusable())?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(unusable());
    }
    without_userinfo(&mut url);

    let leaves_tls = hop.url.scheme() == "https" && url.scheme() == "http";
    if leaves_tls && !(options.is_insecure(&hop.url) && options.is_insecure(&url)) {
        let (from, to) = (hop.url.origin().ascii_serialization(), url.origin().ascii_serialization());
        return Err(ErrorKind::Refused { message: format!("a redirect from {from} to {to} leaves TLS") });
    }
    let is_same_origin = url.origin() == hop.url.origin();
    if hop.carries_form && !(is_same_origin && matches!(status.as_u16(), 307 | 308)) {
        let (from, to) = (hop.url.origin().ascii_serialization(), url.origin().ascii_serialization());
        let message =
            format!("a redirect ({status}) from {from} to {to}, where what was sent must not go along");
        return Err(ErrorKind::Refused { message });
    }
    if is_same_origin {
        return Ok(Some(Hop { url, ..hop.clone() }));
    }
    let kind = match hop.kind {
        RequestKind::Token => RequestKind::Token,
        RequestKind::Registry | RequestKind::Cdn => RequestKind::Cdn,
    };
    Ok(Some(Hop { url, kind, authorization: None, carries_form: false, is_at_origin: false }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hop(url: &str) -> Hop {
        Hop {
            url: Url::parse(url).unwrap(),
            kind: RequestKind::Registry,
            authorization: Some(HeaderValue::from_static("Bearer x")),
            carries_form: false,
            is_at_origin: true,
        }
    }

    fn redirected(from: &Hop, location: &str, options: &HttpOptions) -> Result<Option<Hop>, ErrorKind> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(location).unwrap())]);
        next(from, StatusCode::TEMPORARY_REDIRECT, &headers, options)
    }

    #[test]
    fn the_same_origin_keeps_the_login() {
        let from = hop("https://r.example/v2/a/blobs/x");
        for location in ["/other?a=b", "https://r.example:443/other?a=b"] {
            let to = redirected(&from, location, &HttpOptions::default()).unwrap().unwrap();
            assert_eq!(to.url.as_str(), "https://r.example/other?a=b");
            assert!(to.authorization.is_some() && to.is_at_origin);
            assert_eq!(to.kind, RequestKind::Registry);
        }
    }

    #[test]
    fn another_origin_loses_it_for_good() {
        let from = hop("https://r.example/v2/a/blobs/x");
        for location in ["https://cdn.example/b", "https://r.example:8443/b", "https://u:p@cdn.example/b"] {
            let to = redirected(&from, location, &HttpOptions::default()).unwrap().unwrap();
            assert!(to.authorization.is_none() && !to.is_at_origin);
            assert_eq!((to.kind, to.url.username(), to.url.password()), (RequestKind::Cdn, "", None));
            let back = redirected(&to, "https://r.example/c", &HttpOptions::default()).unwrap().unwrap();
            assert!(back.authorization.is_none() && !back.is_at_origin);
        }
        let token = Hop { kind: RequestKind::Token, ..from };
        let to = redirected(&token, "https://cdn.example/b", &HttpOptions::default()).unwrap().unwrap();
        assert_eq!(to.kind, RequestKind::Token);
    }

    #[test]
    fn a_form_is_sent_again_to_the_same_origin_and_nowhere_else() {
        let form = Hop { carries_form: true, ..hop("https://r.example/token") };
        let go = |status: u16, location: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(location).unwrap())]);
            next(&form, StatusCode::from_u16(status).unwrap(), &headers, &HttpOptions::default())
        };
        for status in [307, 308] {
            assert!(go(status, "/other").unwrap().unwrap().carries_form);
            let error = go(status, "https://auth.r.example/token").unwrap_err();
            assert!(matches!(error, ErrorKind::Refused { .. }), "{status}: {error}");
        }
        for status in [301, 302, 303] {
            // They would make a GET of it.
            assert!(go(status, "/other").is_err(), "{status}");
        }
    }

    #[test]
    fn tls_is_left_only_among_insecure_hosts() {
        let options = HttpOptions {
            insecure_hosts: BTreeSet::from(["r.local".to_owned(), "cdn.local".to_owned()]),
            ..Default::default()
        };
        assert!(redirected(&hop("https://r.local/v2/"), "http://cdn.local/x", &options).is_ok());
        for (from, to) in [
            ("https://r.local/v2/", "http://cdn.example/x"),
            ("https://r.example/v2/", "http://cdn.local/x"),
            ("https://r.example/v2/", "http://r.example/v2/"),
        ] {
            let error = redirected(&hop(from), to, &options).unwrap_err();
            assert!(matches!(error, ErrorKind::Refused { .. }), "{from} {to}: {error}");
        }
    }

    #[test]
    fn what_leads_nowhere() {
        for location in ["ftp://r.example/x", "https://", "file:///etc/passwd", "data:,x"] {
            let error =
                redirected(&hop("https://r.example/"), location, &HttpOptions::default()).unwrap_err();
            assert!(matches!(error, ErrorKind::Protocol { .. }), "{location}: {error}");
        }
        let from = hop("https://r.example/");
        assert!(next(&from, StatusCode::FOUND, &HeaderMap::new(), &HttpOptions::default()).is_err());
        assert!(
            next(&from, StatusCode::NOT_MODIFIED, &HeaderMap::new(), &HttpOptions::default())
                .unwrap()
                .is_none()
        );
    }
}
