//! Whether a delivery comes from whom it should.
//!
//! What comes along with a request is looked at before its body is read, so that strangers cannot make us read one, unless
//! the body itself is signed.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, header};

use super::google::GoogleTokens;
use super::secrets::Secrets;
use crate::config::{HookProof, HookType, ProofConfig};

/// How senders of a receiver prove who they are.
#[derive(Debug)]
pub(super) enum Proof {
    /// They need not.
    None,
    /// By the secret itself.
    Secret { secrets: Secrets, headers: Vec<HeaderName> },
    /// By signing the body.
    Signature { secrets: Secrets, signing: Signing },
    /// By a token of Google's.
    Google(GoogleTokens),
}

/// How a body is signed.
#[derive(Debug)]
pub(super) struct Signing {
    algorithm: hmac::Algorithm,
    headers: &'static [&'static str],
    /// The header may also have the secret itself: so it does unless the sender was told to sign.
    or_secret: bool,
}

/// Headers in which senders show a secret, besides `Authorization`.
const SECRET_HEADERS: [HeaderName; 1] = [HeaderName::from_static("x-webhook-secret")];
/// In which GitLab does.
const GITLAB_HEADER: HeaderName = HeaderName::from_static("x-gitlab-token");

impl Proof {
    /// As configured. An error says what is wrong with the secrets.
    pub(super) fn new(kind: HookType, config: Option<ProofConfig>) -> Result<Self, String> {
        match config {
            None => Ok(Self::None),
            Some(ProofConfig::Google(identity)) => GoogleTokens::new(identity).map(Self::Google),
            Some(ProofConfig::Secret { source, header }) => {
                let secrets = Secrets::new(source)?;
                if kind.proof() == HookProof::Signature {
                    return Ok(Self::Signature { secrets, signing: Signing::of(kind) });
                }
                let of_gitlab = (kind == HookType::Gitlab).then_some(GITLAB_HEADER);
                let headers = SECRET_HEADERS.into_iter().chain(of_gitlab).chain(header).collect();
                Ok(Self::Secret { secrets, headers })
            }
        }
    }

    /// The secrets, where there are any.
    pub(super) fn secrets(&self) -> Option<&Secrets> {
        match self {
            Self::Secret { secrets, .. } | Self::Signature { secrets, .. } => Some(secrets),
            Self::None | Self::Google(_) => None,
        }
    }
}

/// Whether one of the secrets came along: at the end of the path, in the query, or in a header. `Authorization` may have it
/// as it is, as a bearer token or as a password.
pub(super) fn comes_along(
    secrets: &Secrets,
    names: &[HeaderName],
    headers: &HeaderMap,
    in_url: [Option<&str>; 2],
) -> bool {
    let authorization = headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let behind = |scheme: &str| {
        let (said, rest) = authorization?.split_at_checked(scheme.len())?;
        said.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.trim_ascii_start())
    };
    let password = behind("Basic ").and_then(|encoded| STANDARD.decode(encoded).ok()).and_then(|decoded| {
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(decoded[colon + 1..].to_vec())
    });
    let in_headers = names.iter().filter_map(|name| headers.get(name)).map(http::HeaderValue::as_bytes);
    let shown = in_url.into_iter().flatten().map(str::as_bytes).chain(in_headers);
    shown
        .chain(authorization)
        .chain(behind("Bearer "))
        .chain(password.as_deref())
        .any(|shown| secrets.has(shown))
}

impl Signing {
    fn of(kind: HookType) -> Self {
        let sha256 = |headers| Self { algorithm: hmac::HMAC_SHA256, headers, or_secret: false };
        match kind {
            HookType::Ghcr => sha256(&["x-hub-signature-256"]),
            HookType::Gitea => sha256(&["x-gitea-signature", "x-forgejo-signature", "x-hub-signature-256"]),
            HookType::Jfrog => Self { or_secret: true, ..sha256(&["x-jfrog-event-auth"]) },
            // Nothing better is on offer there.
            HookType::Nexus => Self {
                algorithm: hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                ..sha256(&["x-nexus-webhook-signature"])
            },
            _ => sha256(&["x-signature", "x-hub-signature-256"]),
        }
    }

    /// Whether the body is signed by one of the secrets.
    pub(super) fn is_by(&self, secrets: &Secrets, headers: &HeaderMap, body: &[u8]) -> bool {
        let Some(shown) = self.headers.iter().find_map(|name| headers.get(*name)) else { return false };
        if self.or_secret && secrets.has(shown.as_bytes()) {
            return true;
        }
        let code =
            shown.to_str().ok().and_then(|text| hexadecimal(text.strip_prefix("sha256=").unwrap_or(text)));
        code.is_some_and(|code| secrets.has_signed(self.algorithm, body, &code))
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect()
}

#[cfg(test)]
mod tests {
    use samovar_registry::Secret;
    use samovar_registry::credentials::SecretSource;

    use super::*;

    fn secrets() -> Secrets {
        Secrets::new(SecretSource::Given(Secret::new("open sesame"))).unwrap()
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parsed =
            pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        parsed.collect()
    }

    #[test]
    fn a_secret_comes_along_in_any_of_the_usual_places_and_no_other() {
        let secrets = secrets();
        let names = [SECRET_HEADERS[0].clone(), GITLAB_HEADER];
        let encoded = |text: &str| format!("basic {}", STANDARD.encode(text));
        for pair in [
            ("authorization", "open sesame"),
            ("authorization", "Bearer open sesame"),
            ("authorization", "bearer  open sesame"),
            ("authorization", &*encoded("anybody:open sesame")),
            ("x-webhook-secret", "open sesame"),
            ("x-gitlab-token", "open sesame"),
        ] {
            assert!(comes_along(&secrets, &names, &headers(&[pair]), [None, None]), "{pair:?}");
        }
        for pair in [
            ("authorization", "open"),
            ("authorization", "Bearer"),
            ("authorization", "Basic ####"),
            ("authorization", &*encoded("open sesame")),
            ("authorization", &*encoded("open sesame:")),
            ("x-webhook-secret", ""),
            ("x-other", "open sesame"),
        ] {
            assert!(!comes_along(&secrets, &names, &headers(&[pair]), [None, Some("")]), "{pair:?}");
        }
        assert!(comes_along(&secrets, &names, &HeaderMap::new(), [Some("open sesame"), None]));
        assert!(comes_along(&secrets, &names, &HeaderMap::new(), [None, Some("open sesame")]));
        assert!(!comes_along(&secrets, &names, &HeaderMap::new(), [Some("sesame"), None]));
    }

    #[test]
    fn each_sender_signs_in_its_own_header() {
        let (secrets, body) = (secrets(), b"{}");
        let sign = |algorithm| hmac::sign(&hmac::Key::new(algorithm, b"open sesame"), body);
        let shown = |tag: hmac::Tag| {
            tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
        };
        let (sha256, sha1) =
            (shown(sign(hmac::HMAC_SHA256)), shown(sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY)));
        let prefixed = format!("sha256={sha256}");
        for (kind, name, value) in [
            (HookType::Ghcr, "x-hub-signature-256", &prefixed),
            (HookType::Gitea, "x-gitea-signature", &sha256),
            (HookType::Gitea, "x-forgejo-signature", &sha256),
            (HookType::Jfrog, "x-jfrog-event-auth", &sha256),
            (HookType::Jfrog, "x-jfrog-event-auth", &"open sesame".to_owned()),
            (HookType::Nexus, "x-nexus-webhook-signature", &sha1),
            (HookType::Hmac, "x-signature", &prefixed),
        ] {
            let signing = Signing::of(kind);
            assert!(signing.is_by(&secrets, &headers(&[(name, value)]), body), "{kind}");
            assert!(!signing.is_by(&secrets, &headers(&[(name, value)]), b"{ }") || kind == HookType::Jfrog);
            assert!(!signing.is_by(&secrets, &headers(&[("x-other", value)]), body), "{kind}");
            for wrong in ["", "sha256=", "zz", "é", &value[1..]] {
                let Ok(wrong) = wrong.parse() else { continue };
                let headers = [(name.parse::<HeaderName>().unwrap(), wrong)].into_iter().collect();
                assert!(!signing.is_by(&secrets, &headers, body), "{kind}");
            }
        }
        // A secret is no signature where senders sign.
        assert!(!Signing::of(HookType::Ghcr).is_by(
            &secrets,
            &headers(&[("x-hub-signature-256", "open sesame")]),
            body
        ));
    }

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(hexadecimal("00fFa0"), Some(vec![0, 255, 160]));
        assert_eq!(hexadecimal(""), Some(vec![]));
        for text in ["0", "0g", "é0", " 0"] {
            assert_eq!(hexadecimal(text), None, "{text}");
        }
    }
}
