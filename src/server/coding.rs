//! Content codings: which one a client wants (RFC 9110, section 12.5.3), and answers in it.
//!
//! Answers that are kept are kept coded (see `encoded`); every other answer in JSON passes through [`negotiate`].

use std::io::Write as _;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::caching;

/// What is shorter is sent as it is: it fits into one packet.
const SHORTEST_CODED_BYTES: usize = 1024;
/// What is longer is coded outside of the runtime's threads, which others wait for.
const MOST_CODED_INLINE_BYTES: usize = 64 * 1024;
const ZSTD_LEVEL: i32 = 3;

/// Answers differ by what the client wants them to be written in.
pub(super) const VARY: HeaderValue = HeaderValue::from_static("accept-encoding");

/// How an answer is written. In the order in which we prefer them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Zstd,
    Gzip,
    /// As it is.
    Identity,
}

impl Coding {
    pub(super) const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Identity];

    /// What a client wants most of what we have. As it is, if it says nothing, or wants nothing that there is.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        if !headers.contains_key(header::ACCEPT_ENCODING) {
            return Self::Identity;
        }
        let weights = Weights::read(headers);
        let coded = [Self::Zstd, Self::Gzip].map(|coding| (weights.of(coding), coding));
        let (weight, best) = if coded[1].0 > coded[0].0 { coded[1] } else { coded[0] };
        let identity = weights.named[Self::Identity as usize].unwrap_or(0);
        if weight > 0 && weight >= identity { best } else { Self::Identity }
    }

    /// The coding that an answer of so many bytes is written in, of which the client wants this.
    pub(super) fn worthwhile(self, bytes: usize) -> Self {
        if bytes < SHORTEST_CODED_BYTES { Self::Identity } else { self }
    }

    /// The value of `Content-Encoding`.
    pub(super) fn token(self) -> Option<HeaderValue> {
        match self {
            Self::Zstd => Some(HeaderValue::from_static("zstd")),
            Self::Gzip => Some(HeaderValue::from_static("gzip")),
            Self::Identity => None,
        }
    }

    /// What tells the entity tags of one answer in several codings apart.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => "-zstd",
            Self::Gzip => "-gzip",
            Self::Identity => "",
        }
    }

    /// `bytes` in this coding.
    pub(super) fn write(self, bytes: Vec<u8>) -> Vec<u8> {
        const IN_MEMORY: &str = "written to memory";
        match self {
            Self::Identity => bytes,
            Self::Gzip => {
                let room = Vec::with_capacity(bytes.len() / 4);
                let mut encoder = GzEncoder::new(room, Compression::default());
                encoder.write_all(&bytes).expect(IN_MEMORY);
                encoder.finish().expect(IN_MEMORY)
            }
            Self::Zstd => zstd::bulk::compress(&bytes, ZSTD_LEVEL).expect(IN_MEMORY),
        }
    }
}

/// What a client says of codings, in thousandths.
#[derive(Debug, Default)]
struct Weights {
    named: [Option<u16>; 3],
    all_others: Option<u16>,
}

impl Weights {
    fn read(headers: &HeaderMap) -> Self {
        let mut weights = Self::default();
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        for part in values.flat_map(|value| value.split(',')) {
            let (name, parameter) = part.split_once(';').unwrap_or((part, ""));
            let name = name.trim();
            let place = if name.eq_ignore_ascii_case("zstd") {
                &mut weights.named[Coding::Zstd as usize]
            } else if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
                &mut weights.named[Coding::Gzip as usize]
            } else if name.eq_ignore_ascii_case("identity") {
                &mut weights.named[Coding::Identity as usize]
            } else if name == "*" {
                &mut weights.all_others
            } else {
                continue;
            };
            *place = Some(weight(parameter.trim()));
        }
        weights
    }

    fn of(&self, coding: Coding) -> u16 {
        self.named[coding as usize].or(self.all_others).unwrap_or(0)
    }
}

/// `q=0.5` in thousandths. What cannot be read is not wanted.
fn weight(parameter: &str) -> u16 {
    if parameter.is_empty() {
        return 1000;
    }
    let value = parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    let Some((whole, part)) =
        value.map(|(_, value)| value.trim().split_once('.').unwrap_or((value.trim(), "")))
    else {
        return 0;
    };
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    let thousandths = format!("{part:0<3}").parse().unwrap_or(0);
    match whole {
        "0" => thousandths,
        "1" if thousandths == 0 => 1000,
        _ => 0,
    }
}

/// Writes answers in JSON as the client wants them that are not so written already.
pub(super) async fn negotiate(request: Request, next: Next) -> Response {
    let coding = match *request.method() {
        Method::HEAD => Coding::Identity,
        _ => Coding::wanted(request.headers()),
    };
    let mut response = next.run(request).await;
    if !may_be_coded(response.headers()) {
        return response;
    }
    response.headers_mut().insert(header::VARY, VARY);
    let bytes = response.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let coding = coding.worthwhile(bytes.unwrap_or(0));
    let (Some(token), Some(bytes)) = (coding.token(), bytes) else { return response };
    if response.headers().contains_key(header::CONTENT_ENCODING)
        || response.status() == StatusCode::NOT_MODIFIED
    {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // A body whose size is known is in memory.
    let Ok(body) = axum::body::to_bytes(body, bytes).await else {
        return Response::from_parts(parts, Body::empty());
    };
    let (coded, coding) = write(coding, bytes, move || Vec::from(body)).await;
    parts.headers.insert(header::CONTENT_ENCODING, token);
    parts.headers.insert(header::CONTENT_LENGTH, coded.len().into());
    if let Some(entity_tag) = parts.headers.get_mut(header::ETAG) {
        *entity_tag = caching::in_coding(entity_tag, coding);
    }
    Response::from_parts(parts, Body::from(coded))
}

/// Whether an answer is JSON, and not one that promises its bytes by a strong entity tag: a manifest may be called JSON, too, and
/// its digest is that of the bytes.
fn may_be_coded(headers: &HeaderMap) -> bool {
    let is_json = |value: &HeaderValue| {
        let value = value.as_bytes();
        value == b"application/json" || value == b"application/problem+json"
    };
    headers.get(header::CONTENT_TYPE).is_some_and(is_json)
        && headers.get(header::ETAG).is_none_or(|entity_tag| entity_tag.as_bytes().starts_with(b"W/"))
}

/// What `make` makes, about so many bytes, in this coding if it is worthwhile: outside of the runtime's threads where that
/// takes long.
pub(super) async fn write(
    coding: Coding,
    bytes: usize,
    make: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> (Bytes, Coding) {
    let work = move || {
        let bytes = make();
        let coding = coding.worthwhile(bytes.len());
        (Bytes::from(coding.write(bytes)), coding)
    };
    if bytes <= MOST_CODED_INLINE_BYTES {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(written) => written,
        // Here as there: a panic is answered where all are.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    fn wanted(values: &[&str]) -> Coding {
        let values =
            values.iter().map(|value| (header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap()));
        Coding::wanted(&values.collect())
    }

    #[test]
    fn the_coding_is_the_one_that_the_client_wants_most() {
        for (sent, expected) in [
            ("gzip", Coding::Gzip),
            ("gzip, deflate, br, zstd", Coding::Zstd),
            ("gzip;q=1.0, zstd;q=0.5", Coding::Gzip),
            ("GZIP ; Q=0.001", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("*", Coding::Zstd),
            ("zstd;q=0, *", Coding::Gzip),
            ("identity, gzip;q=0.5", Coding::Identity),
            ("identity;q=0.5, gzip;q=0.5", Coding::Gzip),
            ("br", Coding::Identity),
            ("", Coding::Identity),
            ("gzip;q=0", Coding::Identity),
            ("gzip;q=0.000", Coding::Identity),
            ("gzip;q=2", Coding::Identity),
            ("gzip;q=0.5555", Coding::Identity),
            ("gzip;quality=1", Coding::Identity),
            ("gzip;q=-1", Coding::Identity),
            // What we do not have may be all that is acceptable: then it comes as it is.
            ("identity;q=0", Coding::Identity),
        ] {
            assert_eq!(wanted(&[sent]), expected, "{sent}");
        }
        assert_eq!(wanted(&["gzip;q=0.2", "zstd;q=0.1"]), Coding::Gzip);
        assert_eq!(wanted(&[]), Coding::Identity);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let bytes = b"samovar ".repeat(1000);
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&*Coding::Gzip.write(bytes.clone())).read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(zstd::decode_all(&*Coding::Zstd.write(bytes.clone())).unwrap(), bytes);
        assert_eq!(Coding::Identity.write(bytes.clone()), bytes);
    }

    #[test]
    fn bytes_that_are_promised_are_left_as_they_are() {
        let headers = |fields: &[(header::HeaderName, &'static str)]| -> HeaderMap {
            fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
        };
        let json = (header::CONTENT_TYPE, "application/json");
        assert!(may_be_coded(&headers(std::slice::from_ref(&json))));
        assert!(may_be_coded(&headers(&[json.clone(), (header::ETAG, "W/\"7\"")])));
        assert!(!may_be_coded(&headers(&[json, (header::ETAG, "\"sha256:0\"")])));
        assert!(!may_be_coded(&headers(&[(
            header::CONTENT_TYPE,
            "application/vnd.oci.image.manifest.v1+json"
        )])));
        assert!(!may_be_coded(&HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read(sent in "[ -~]{0,64}") {
            let coding = wanted(&[&sent]);
            prop_assert!(coding == Coding::Identity || sent.contains('*') || sent.to_lowercase().contains(&coding.suffix()[1..]));
        }
    }
}
