//! Logging in: what a registry's challenge asks for, and what is presented for it.
//!
//! Pure: requests are sent by the session, tokens kept by [`super::token_cache`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use url::Url;

use super::challenge::Challenge;
use super::{Credentials, ErrorKind, HttpOptions, trust};

/// How a registry wants us to log in, learnt from the challenge of a 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// The URL that was asked when the registry said so; its origin is the one that secrets belong to.
    challenged_at: Url,
    bearer: Option<Bearer>,
    basic: bool,
}

/// A token service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    realm: Url,
    pub(super) service: Option<String>,
}

/// What to present to a registry.
#[derive(Debug)]
pub(super) enum Means<'a> {
    /// Nothing: it wants a password and we have none.
    Nothing,
    /// The user name and password themselves.
    Basic(HeaderValue),
    /// A token from this service.
    Token(&'a Bearer),
}

impl Login {
    /// What the challenges of an answer from `challenged_at` ask for; `None` if nothing that we speak.
    pub(super) fn from_challenges(challenges: &[Challenge], challenged_at: &Url) -> Option<Self> {
        let bearer = challenges
            .iter()
            .filter(|challenge| challenge.scheme == "bearer")
            .find_map(|challenge| Bearer::from_challenge(challenge, challenged_at));
        let basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        (bearer.is_some() || basic).then(|| {
            // Two answers that ask for the same must compare equal, whatever page they answered.
            let mut challenged_at = challenged_at.clone();
            challenged_at.set_path("/");
            challenged_at.set_query(None);
            Self { challenged_at, bearer, basic }
        })
    }

    /// How to log in to `registry` (its canonical host) with these credentials. A token is preferred; a
    /// secret is refused to a token service outside the trust boundary.
    pub(super) fn means(
        &self,
        registry: &str,
        credentials: &Credentials,
        options: &HttpOptions,
    ) -> Result<Means<'_>, ErrorKind> {
        let basic = basic_header(credentials);
        let Some(bearer) = &self.bearer else {
            return Ok(basic.map_or(Means::Nothing, Means::Basic));
        };
        let Some(basic) = basic else {
            return Ok(Means::Token(bearer));
        };
        match trust::check(registry, &self.challenged_at, &bearer.realm, options) {
            Ok(()) => Ok(Means::Token(bearer)),
            Err(_) if self.basic => Ok(Means::Basic(basic)),
            Err(outside) => Err(ErrorKind::Refused { message: outside.to_string() }),
        }
    }
}

impl Bearer {
    fn from_challenge(challenge: &Challenge, challenged_at: &Url) -> Option<Self> {
        // Some registries name the realm by its path alone.
        let mut realm = challenged_at.join(challenge.parameter("realm")?).ok()?;
        if !matches!(realm.scheme(), "https" | "http") {
            return None;
        }
        without_userinfo(&mut realm);
        realm.set_fragment(None);
        Some(Self { realm, service: challenge.parameter("service").map(str::to_owned) })
    }

    /// The token service's URL, which together with the service and the scope stands for what a token is good for.
    pub(super) fn realm(&self) -> &str {
        self.realm.as_str()
    }

    /// What to ask for a token (distribution's token specification).
    pub(super) fn token_url(&self, scope: &str, credentials: &Credentials) -> Url {
        let mut url = self.realm.clone();
        let mut query = url.query_pairs_mut();
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope);
        if let Credentials::Basic { username, .. } = credentials {
            query.append_pair("account", username);
        }
        drop(query);
        url
    }
}

/// The `Authorization` header that carries the user name and password, if there are any.
pub(super) fn basic_header(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Basic { username, password, .. } = credentials else {
        return None;
    };
    let encoded = BASE64.encode(format!("{username}:{}", password.reveal()));
    let mut header = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is ASCII");
    header.set_sensitive(true);
    Some(header)
}

/// Takes a user name and password out of a URL that a registry named: the HTTP client would send them.
pub(super) fn without_userinfo(url: &mut Url) {
    // Fails only for URLs without a host, which cannot hold either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

/// Who we were, for error messages; never the secret.
pub(super) fn describe(credentials: &Credentials) -> String {
    match credentials {
        Credentials::Anonymous => "no credentials".to_owned(),
        Credentials::Basic { username, provenance, .. } => format!("user {username:?} from {provenance}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::challenge;
    use super::*;
    use crate::Secret;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn login(header: &str) -> Option<Login> {
        Login::from_challenges(&challenge::parse([header]), &url("https://r.example/v2/a/tags/list?n=1"))
    }

    fn alice() -> Credentials {
        Credentials::Basic {
            username: "alice".to_owned(),
            password: Secret::new("open:sesame"),
            provenance: "config.json".into(),
        }
    }

    #[test]
    fn a_token_is_asked_for_by_service_scope_and_account() {
        let login =
            login(r#"Bearer realm="https://r.example/token?x=1",service="s & t",scope="ignored""#).unwrap();
        let means = login.means("r.example", &alice(), &HttpOptions::default()).unwrap();
        let Means::Token(bearer) = means else { panic!("{means:?}") };
        assert_eq!(
            bearer.token_url("repository:a/b:pull", &alice()).as_str(),
            "https://r.example/token?x=1&service=s+%26+t&scope=repository%3Aa%2Fb%3Apull&account=alice"
        );
        assert_eq!(
            bearer.token_url("repository:a/b:pull", &Credentials::Anonymous).query(),
            Some("x=1&service=s+%26+t&scope=repository%3Aa%2Fb%3Apull")
        );
    }

    #[test]
    fn the_password_is_sent_where_it_is_asked_for() {
        let login = login(r#"Basic realm="not a URL""#).unwrap();
        let options = HttpOptions::default();
        let means = login.means("r.example", &alice(), &options).unwrap();
        let Means::Basic(header) = means else { panic!("{means:?}") };
        assert_eq!(header, format!("Basic {}", BASE64.encode("alice:open:sesame")));
        assert!(!format!("{header:?}").contains("Basic"), "the header does not print itself");
        assert!(matches!(login.means("r.example", &Credentials::Anonymous, &options), Ok(Means::Nothing)));
    }

    #[test]
    fn a_realm_outside_the_boundary_gets_no_secret() {
        let options = HttpOptions::default();
        let evil = login(r#"Bearer realm="https://evil.test/token""#).unwrap();
        let refused = evil.means("r.example", &alice(), &options).unwrap_err();
        assert!(
            refused.to_string().starts_with("refused: r.example sends its logins to https://evil.test"),
            "{refused}"
        );
        assert!(matches!(evil.means("r.example", &Credentials::Anonymous, &options), Ok(Means::Token(_))));

        let token_hosts =
            BTreeMap::from([("r.example".to_owned(), BTreeSet::from(["evil.test".to_owned()]))]);
        let allowed = HttpOptions { token_hosts, ..Default::default() };
        assert!(matches!(evil.means("r.example", &alice(), &allowed), Ok(Means::Token(_))));

        let both = login(r#"Bearer realm="https://evil.test/token", Basic realm="x""#).unwrap();
        assert!(matches!(both.means("r.example", &alice(), &options), Ok(Means::Basic(_))));
    }

    #[test]
    fn challenges_that_we_do_not_speak() {
        for header in
            ["", "Negotiate", "Bearer", r#"Bearer service="s""#, r#"Bearer realm="ftp://r.example/""#]
        {
            assert_eq!(login(header), None, "{header}");
        }
        assert_eq!(
            login(r#"Bearer realm="/token""#).unwrap().bearer.unwrap().realm(),
            "https://r.example/token"
        );
        assert_eq!(
            login(r#"Negotiate, Bearer realm="https://u:p@r.example/token""#)
                .unwrap()
                .bearer
                .unwrap()
                .realm(),
            "https://r.example/token"
        );
    }

    #[test]
    fn the_same_challenge_on_another_page_is_the_same_login() {
        let challenges = challenge::parse([r#"Bearer realm="https://r.example/token""#]);
        assert_eq!(
            Login::from_challenges(&challenges, &url("https://r.example/v2/a/tags/list?n=1")),
            Login::from_challenges(&challenges, &url("https://r.example/v2/b/manifests/x"))
        );
    }

    #[test]
    fn who_we_are_is_said_without_the_secret() {
        assert_eq!(describe(&alice()), r#"user "alice" from config.json"#);
        assert_eq!(describe(&Credentials::Anonymous), "no credentials");
    }
}
