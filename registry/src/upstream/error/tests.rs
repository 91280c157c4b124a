use proptest::prelude::*;

use super::*;
use crate::words;

/// What is shown of an error whatever the registry said: names of at most 255 bytes, 300 characters of message, and the
/// words around them.
const SHOWN_CHARACTERS: usize = 1_000;

/// An error of every kind that carries words from outside.
fn kinds(body: &[u8]) -> Vec<ErrorKind> {
    let said = || words::of_registry(body);
    let message = words::printable(&String::from_utf8_lossy(body));
    let credentials = || "credentials of the test".to_owned();
    vec![
        ErrorKind::Unauthorized { credentials: credentials(), message: said() },
        ErrorKind::Denied { credentials: credentials(), message: said() },
        ErrorKind::NotFound { message: said() },
        ErrorKind::RateLimited { retry_after: Duration::MAX, message: said() },
        ErrorKind::Unavailable { status: 503, message: said() },
        ErrorKind::Rejected { status: 418, message: said() },
        ErrorKind::Transport { message: message.clone() },
        ErrorKind::Protocol { message: message.clone() },
        ErrorKind::Refused { message },
    ]
}

fn error(kind: ErrorKind) -> UpstreamError {
    let repository = "registry.example:5000/team/app".parse().unwrap();
    UpstreamError { repository, operation: Operation::Referrers, kind }
}

#[test]
fn an_error_says_where_at_what_how_and_the_registrys_own_words() {
    let body = br#"{"errors":[{"code":"DENIED","message":"no pulls today"}]}"#;
    let statuses = [Some(401), Some(403), Some(404), Some(429), Some(503), Some(418), None, None, None];
    for (kind, status) in kinds(body).into_iter().zip(statuses) {
        assert_eq!(kind.status(), status, "{kind}");
        assert_eq!(kind.message(), status.map(|_| "DENIED: no pulls today"), "{kind}");
        let shown = error(kind.clone()).to_string();
        assert!(shown.starts_with("listing referrers of registry.example:5000/team/app failed: "), "{shown}");
        assert!(shown.contains("no pulls today"), "{shown}");
    }
    let shown = error(ErrorKind::Unavailable { status: 503, message: None }).to_string();
    assert!(shown.ends_with("the registry answered 503"), "{shown}");
}

#[test]
fn operations_have_distinct_labels() {
    let labels: std::collections::BTreeSet<_> = Operation::ALL.map(Operation::as_str).into();
    assert_eq!(labels.len(), Operation::ALL.len());
}

proptest! {
    #[test]
    fn whatever_the_registry_says_is_shown_bounded_on_one_line_and_as_it_reads(
        text in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..300), times in 1_usize..50,
    ) {
        let json = serde_json::json!({"errors": [{"code": &text, "message": text.repeat(times)}, {"code": ""}]});
        for body in [text.repeat(times).into_bytes(), bytes, json.to_string().into_bytes()] {
            for kind in kinds(&body) {
                let shown = error(kind).to_string();
                prop_assert!(shown.chars().count() <= SHOWN_CHARACTERS, "{}", shown.len());
                let is_hidden = |c: char| c.is_control() || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
                prop_assert!(!shown.contains(is_hidden), "{shown:?}");
            }
        }
    }
}
