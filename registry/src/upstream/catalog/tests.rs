use super::*;

const HOST: &str = "registry.example:5000";

fn read(pages: &[(&str, &str)]) -> Result<Catalog, ErrorKind> {
    let mut reading = Pages::new(HOST);
    for (number, (body, link)) in pages.iter().enumerate() {
        let is_last = reading.accept_page(body.as_bytes(), (!link.is_empty()).then_some(*link))?;
        assert_eq!(is_last, number + 1 == pages.len());
    }
    Ok(reading.into_catalog())
}

fn paths(catalog: &Catalog) -> Vec<&str> {
    catalog.repositories.iter().map(Name::path).collect()
}

#[test]
fn what_is_listed_is_sorted_without_repetitions_and_without_what_is_no_name() {
    let body =
        r#"{"repositories":["team/b","a","team/b","Upper/Case","a:tag","a@sha256:0","",7,null,"/x","é"]}"#;
    let catalog = read(&[(body, "")]).unwrap();
    assert_eq!(paths(&catalog), ["a", "team/b"]);
    assert_eq!(catalog.invalid, 8);
    assert!(catalog.repositories.iter().all(|name| name.host() == HOST));
    for body in [r#"{"repositories":[]}"#, r#"{"repositories":null}"#] {
        assert_eq!(read(&[(body, "")]), Ok(Catalog::default()));
    }
}

#[test]
fn only_the_query_of_a_link_is_used() {
    for link in [
        "<https://elsewhere.example/v2/_catalog?last=a%2Fb&n=1>; rel=\"next\"",
        "</v2/_catalog?last=a%2Fb&n=1>; rel=\"next\"",
        "<?last=a%2Fb&n=1>; rel=next",
    ] {
        let mut pages = Pages::new(HOST);
        assert_eq!(pages.accept_page(br#"{"repositories":["a/b"]}"#, [link]), Ok(false));
        assert_eq!(pages.query.as_deref(), Some("last=a%2Fb&n=1"), "{link}");
        assert!(!pages.drop_size(), "only of the first page");
    }
}

#[test]
fn what_is_no_list_is_an_error() {
    for body in ["", "{}", "[]", "null", "<html>", r#"{"repositories":"a"}"#, r#"{"tags":["a"]}"#] {
        assert!(matches!(read(&[(body, "")]), Err(ErrorKind::Protocol { .. })), "{body}");
    }
    for link in ["<?>; rel=next", "</v2/_catalog>; rel=next", "next"] {
        let error = read(&[(r#"{"repositories":["a"]}"#, link)]).unwrap_err();
        assert!(matches!(error, ErrorKind::Protocol { .. }), "{link}");
    }
}

#[test]
fn it_ends() {
    let again = (r#"{"repositories":["a","b"]}"#, "<?last=b>; rel=next");
    let error = read(&[again, again]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bad answer: a page that brings no new repository but promises another page"
    );

    let mut pages = Pages::new(HOST);
    for page in 1..MAX_CATALOG_PAGES {
        let body = format!(r#"{{"repositories":["r{page}"]}}"#);
        assert_eq!(pages.accept_page(body.as_bytes(), ["<?last=x>; rel=next"]), Ok(false));
    }
    let error = pages.accept_page(br#"{"repositories":["last"]}"#, ["<?last=x>; rel=next"]).unwrap_err();
    assert_eq!(error.to_string(), "bad answer: more than 2000 pages of repositories");

    let most = format!(r#"{{"repositories":[{}0]}}"#, "0,".repeat(MAX_REPOSITORIES - 1));
    let mut pages = Pages::new(HOST);
    assert_eq!(pages.accept_page(most.as_bytes(), ["<?last=x>; rel=next"]), Ok(false));
    let error = pages.accept_page(br#"{"repositories":["a"]}"#, []).unwrap_err();
    assert_eq!(error.to_string(), "bad answer: more than 100000 repositories");
    let more = format!(r#"{{"repositories":[{}0]}}"#, "0,".repeat(MAX_REPOSITORIES));
    let error = read(&[(&more, "")]).unwrap_err();
    assert!(error.to_string().contains("more than 100000 repositories"), "{error}");
}

#[test]
fn who_does_not_list_is_told_from_who_fails() {
    let (credentials, message) = (String::new(), None);
    for (kind, cannot) in [
        (ErrorKind::Unauthorized { credentials: credentials.clone(), message: None }, true),
        (ErrorKind::Denied { credentials, message: None }, true),
        (ErrorKind::NotFound { message: None }, true),
        (ErrorKind::Rejected { status: 405, message: None }, true),
        (ErrorKind::Unavailable { status: 501, message: None }, true),
        (ErrorKind::Unavailable { status: 503, message: None }, false),
        (ErrorKind::Rejected { status: 418, message: None }, false),
        (ErrorKind::RateLimited { retry_after: Duration::ZERO, message }, false),
    ] {
        let error = CatalogError::of(HOST, kind.clone());
        assert_eq!(matches!(error, CatalogError::CannotList { .. }), cannot, "{kind}");
        assert_eq!(error.kind(), &kind);
    }
}
