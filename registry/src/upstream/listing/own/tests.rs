use proptest::prelude::*;

use super::*;
use crate::Digest;

fn entry(tag: &str, second: i64) -> Entry {
    let changed_at = Timestamp::from_second(second).unwrap();
    let hint = TagHint {
        digest: Some(Digest::sha256(format!("{tag} {second}").as_bytes())),
        pushed_at: Some(changed_at),
        source: HintSource::Quay,
    };
    Entry { tag: tag.parse().unwrap(), changed_at, hint }
}

fn read(entries: &[(&str, i64)], known: Option<&Cursor>) -> (bool, Newer) {
    let mut reading = Reading::default();
    let entries = entries.iter().map(|(tag, second)| entry(tag, *second)).collect();
    let reached = reading.take(entries, known).unwrap();
    (reached, reading.newer(known, true))
}

fn tags(newer: &Newer) -> Vec<&str> {
    newer.list.tags.iter().map(Tag::as_str).collect()
}

#[test]
fn reading_stops_at_what_is_known_and_takes_what_may_be_new() {
    let (reached, first) = read(&[("c", 30), ("b", 20), ("a", 10)], None);
    assert!(!reached && !first.is_unchanged);
    assert_eq!(tags(&first), ["a", "b", "c"]);
    // At the same second another one may have changed.
    let (reached, second) = read(&[("d", 30), ("c", 30), ("b", 20), ("a", 10)], first.cursor.as_ref());
    assert!(reached && !second.is_unchanged);
    assert_eq!(tags(&second), ["c", "d"]);
    let (_, third) = read(&[("d", 30), ("c", 30), ("b", 20)], second.cursor.as_ref());
    assert!(third.is_unchanged);
    let (_, moved) = read(&[("b", 40), ("d", 30), ("c", 30), ("a", 10)], third.cursor.as_ref());
    assert!(!moved.is_unchanged);
    assert_eq!(tags(&moved), ["b", "c", "d"]);
    // The newest is gone: nobody says so here, and nothing is forgotten.
    let (reached, gone) = read(&[("d", 30), ("c", 30)], moved.cursor.as_ref());
    assert!(reached && gone.is_unchanged);
    assert_eq!(gone.cursor, moved.cursor);
}

#[test]
fn another_order_is_a_surprise_and_what_is_said_twice_is_taken_as_it_was_said_first() {
    let mut reading = Reading::default();
    assert_eq!(
        reading.take(vec![entry("a", 10), entry("b", 20)], None),
        Err("it is not in the order of change")
    );
    let (_, twice) = read(&[("a", 20), ("b", 10), ("a", 5)], None);
    assert_eq!(twice.list.hints["a"], entry("a", 20).hint);
}

fn answers() -> [(&'static dyn Dialect, String); 4] {
    let digest = Digest::sha256(b"x");
    [
        (
            &docker_hub::DockerHub as &dyn Dialect,
            format!(
                r#"{{"count":2,"next":"https://elsewhere.example/?page=2","previous":null,"results":[
                {{"name":"new","last_updated":"2026-11-20T10:00:00.5Z","tag_last_pushed":"2026-11-20T09:00:00Z","digest":"{digest}","images":[]}},
                {{"name":"old","last_updated":"2016-11-20T10:00:00Z","tag_last_pushed":null,"digest":null}}]}}"#
            ),
        ),
        (
            &quay::Quay,
            format!(
                r#"{{"page":1,"has_additional":true,"tags":[
                {{"name":"new","reversion":false,"start_ts":1795168800,"manifest_digest":"{digest}","last_modified":"Fri, 20 Nov 2026 10:00:00 -0000"}},
                {{"name":"old","start_ts":1479636000,"manifest_digest":"{digest}"}}]}}"#
            ),
        ),
        (
            &acr::Acr,
            format!(
                r#"{{"registry":"team.azurecr.io","imageName":"app","tags":[
                {{"name":"new","digest":"{digest}","createdTime":"2026-11-20T10:00:00.1Z","lastUpdateTime":"2026-11-20T10:00:00.2Z","signed":false}},
                {{"name":"old","digest":"{digest}","createdTime":"2016-11-20T10:00:00Z","lastUpdateTime":"2016-11-20T10:00:00Z"}}]}}"#
            ),
        ),
        (
            &harbor::Harbor,
            format!(
                r#"[{{"digest":"{digest}","push_time":"2026-11-20T10:00:00.000Z","tags":[{{"name":"new","push_time":"2026-11-20T11:00:00.000Z"}}]}},
                {{"digest":"{digest}","push_time":"2020-11-20T10:00:00.000Z","tags":null}},
                {{"digest":"{digest}","push_time":"2016-11-20T10:00:00.000Z","tags":[{{"name":"old"}}]}}]"#
            ),
        ),
    ]
}

fn headers() -> HeaderMap {
    let link = r#"</acr/v1/app/_tags?last=old&n=100&orderby=timedesc>; rel="next""#;
    [("x-total-count", "101"), ("link", link)]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
        .collect::<Vec<(http::HeaderName, HeaderValue)>>()
        .into_iter()
        .collect()
}

#[test]
fn every_dialect_reads_its_pages() {
    for (dialect, body) in answers() {
        let page = dialect.page(body.as_bytes(), &headers(), 0).unwrap();
        let told: Vec<_> = page.entries.iter().map(|entry| entry.tag.as_str()).collect();
        assert_eq!(told, ["new", "old"], "{dialect:?}");
        let [new, old] = &page.entries[..] else { panic!("{dialect:?}") };
        assert!(new.changed_at > old.changed_at, "{dialect:?}");
        assert_eq!(new.hint.digest, Some(Digest::sha256(b"x")), "{dialect:?}");
        assert_eq!(new.hint.source, dialect.source());
        assert!(old.hint.pushed_at.is_some(), "{dialect:?}");
        let query = page.next.expect("there is more");
        assert!(query.contains("page=2") || query.contains("last=old"), "{dialect:?}: {query}");
    }
}

#[test]
fn names_become_paths() {
    let path = |dialect: &dyn Dialect, name: &str| dialect.path(&name.parse().unwrap());
    let some = |path: &str| Some(path.to_owned());
    assert_eq!(
        path(&docker_hub::DockerHub, "docker.io/alpine"),
        some("/v2/repositories/library/alpine/tags")
    );
    assert_eq!(path(&docker_hub::DockerHub, "docker.io/a/b/c"), None);
    assert_eq!(path(&quay::Quay, "quay.io/a/b"), some("/api/v1/repository/a/b/tag/"));
    assert_eq!(path(&acr::Acr, "x.azurecr.io/a/b"), some("/acr/v1/a/b/_tags"));
    let harbor = "/api/v2.0/projects/p/repositories/a%252Fb/artifacts";
    assert_eq!(path(&harbor::Harbor, "harbor.example/p/a/b"), some(harbor));
    assert_eq!(path(&harbor::Harbor, "harbor.example/p"), None);
}

proptest! {
    /// A field that is missing or of another shape is an error, never an empty page and never a panic.
    #[test]
    fn what_is_otherwise_is_a_surprise(position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for (dialect, body) in answers() {
            let mut bytes = body.clone().into_bytes();
            let position = position.index(bytes.len());
            bytes[position] = byte;
            if let Ok(page) = dialect.page(&bytes, &headers(), 0) {
                prop_assert_eq!(page.entries.len(), 2);
            }
            prop_assert!(dialect.page(&body.as_bytes()[..position], &headers(), 0).is_err());
        }
    }
}
