//! Lists of tags: paging in every form, and lists that lie.

use std::sync::Arc;
use std::time::Duration;

use samovar_registry::Tag;
use samovar_registry::upstream::{
    ErrorKind, HttpOptions, ListState, Listing, Operation, Outcome, Stage, TagList, UpstreamError, Urgency,
};
use samovar_testing::Image;
use samovar_testing::fake::{Action, FakeRegistry, Fault, Paging, RequestKind, TagsOrder};

use crate::setup::{REPOSITORY, SetClock, Setup, options};

async fn list(setup: &Setup) -> Result<TagList, UpstreamError> {
    setup.upstream().tags(Urgency::Background).await
}

fn texts(list: &TagList) -> Vec<&str> {
    list.tags.iter().map(Tag::as_str).collect()
}

/// Pushes `v00`, `v01` … in an order that is not theirs.
fn push_tags(registry: &FakeRegistry, count: usize) -> Vec<String> {
    for number in (0..count).rev() {
        registry.push(REPOSITORY, &format!("v{number:02}"), &Image::new("same"));
    }
    (0..count).map(|number| format!("v{number:02}")).collect()
}

#[tokio::test]
async fn every_form_of_paging() {
    for (paging, pages) in [
        (Paging::None, 1),
        (Paging::LastParameter, 4),
        (Paging::OpaqueToken, 4),
        (Paging::AbsoluteLink, 4),
        (Paging::RootRelativeLink, 4),
        (Paging::RelativeLink, 4),
        (Paging::SeveralLinks, 4),
        (Paging::LostPrefix, 4),
        (Paging::QuayNextPage, 4),
        (Paging::AbsoluteLinkWithToken, 4),
    ] {
        for order in [TagsOrder::Sorted, TagsOrder::Registered, TagsOrder::Directory] {
            let setup = Setup::new().await;
            setup.registry.paging(paging);
            setup.registry.page_size(7);
            setup.registry.set_tags_order(order);
            let pushed = push_tags(&setup.registry, 25);

            let list = list(&setup).await.unwrap();
            assert_eq!(texts(&list), pushed, "{paging:?}");
            assert_eq!(list.invalid, 0);
            assert_eq!(setup.counts(), [pages, 0, 0, 0, 0], "{paging:?}");
            assert_eq!(setup.registry.requests()[0].query, "n=1000");
            let path = format!("/v2/{REPOSITORY}/tags/list");
            assert!(setup.registry.requests().iter().all(|request| request.path == path));
        }
    }
}

#[tokio::test]
async fn a_page_size_that_is_refused_is_left_out() {
    for status in [400, 405] {
        let setup = Setup::new().await;
        let pushed = push_tags(&setup.registry, 3);
        setup.registry.fault(Fault::on(RequestKind::Tags).query_containing("n="), Action::status(status));
        assert_eq!(texts(&list(&setup).await.unwrap()), pushed);
        let queries: Vec<_> = setup.registry.requests().into_iter().map(|request| request.query).collect();
        assert_eq!(queries, ["n=1000", ""]);
    }
}

#[tokio::test]
async fn a_registry_that_refuses_without_a_page_size_too_is_not_asked_for_ever() {
    let setup = Setup::new().await;
    push_tags(&setup.registry, 3);
    setup.registry.fault(Fault::on(RequestKind::Tags), Action::status(405));
    let error = list(&setup).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected { status: 405, message: None });
    assert_eq!(error.operation, Operation::Tags);
    assert_eq!(setup.counts(), [2, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_link_to_another_host_is_never_contacted() {
    let setup = Setup::new().await;
    let pushed = push_tags(&setup.registry, 5);
    setup.registry.page_size(3);
    let elsewhere = FakeRegistry::start().await;
    let link = format!("{}/v2/{REPOSITORY}/tags/list?n=3&last=v02", elsewhere.url());
    setup.registry.fault(Fault::on(RequestKind::Tags).times(1), Action::LinkTo(link));
    assert_eq!(texts(&list(&setup).await.unwrap()), pushed);
    assert!(elsewhere.requests().is_empty());
    assert_eq!(setup.registry.requests()[1].query, "n=3&last=v02");
}

#[tokio::test]
async fn what_is_no_tag_is_dropped_and_counted() {
    let setup = Setup::new().await;
    push_tags(&setup.registry, 2);
    for entry in ["v00", "not valid", "", "-leading", "übel"] {
        setup.registry.list_extra(REPOSITORY, entry);
    }
    setup.registry.list_extra(REPOSITORY, serde_json::Value::Null);
    let list = list(&setup).await.unwrap();
    assert_eq!((texts(&list), list.invalid), (vec!["v00", "v01"], 5));
}

#[tokio::test]
async fn endless_paging_is_an_error() {
    let setup = Setup::new().await;
    push_tags(&setup.registry, 1);
    setup.registry.fault(Fault::on(RequestKind::Tags), Action::RepeatedPage);
    let error = list(&setup).await.unwrap_err();
    assert!(error.to_string().contains("a page that brings no new tag"), "{error}");
    assert_eq!(setup.counts(), [2, 0, 0, 0, 0]);

    setup.registry.clear_faults();
    setup.registry.clear_requests();
    setup.registry.fault(Fault::on(RequestKind::Tags), Action::EndlessPages);
    let error = list(&setup).await.unwrap_err();
    assert!(error.to_string().contains("more than 2000 pages"), "{error}");
    assert_eq!(setup.counts(), [2_000, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_failure_half_way_fails_the_whole_list() {
    let setup = Setup::new().await;
    push_tags(&setup.registry, 10);
    setup.registry.page_size(4);
    for (status, is_expected) in [
        (500, (|kind| matches!(kind, ErrorKind::Unavailable { .. })) as fn(&ErrorKind) -> bool),
        (400, |kind| matches!(kind, ErrorKind::Rejected { status: 400, .. })),
        // That a page is gone does not mean that the repository is.
        (404, |kind| matches!(kind, ErrorKind::Protocol { .. })),
    ] {
        setup.registry.clear_faults();
        setup.registry.fault(Fault::on(RequestKind::Tags).query_containing("last="), Action::status(status));
        let error = list(&setup).await.unwrap_err();
        assert!(is_expected(&error.kind), "{status}: {error}");
    }
}

#[tokio::test]
async fn what_is_not_a_list_is_an_error() {
    let setup = Setup::new().await;
    push_tags(&setup.registry, 1);
    for body in ["", "{", "{}", "[]", "<html>Sign in</html>", r#"{"tags":{"a":1}}"#] {
        setup.registry.clear_faults();
        setup.registry.fault(Fault::on(RequestKind::Tags), Action::body("application/json", body));
        let error = list(&setup).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Protocol { .. }), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_repository_without_tags_and_one_that_is_not_there() {
    let setup = Setup::new().await;
    let error = list(&setup).await.unwrap_err();
    let message = Some("NAME_UNKNOWN: repository name not known to registry".to_owned());
    assert_eq!(error.kind, ErrorKind::NotFound { message });
    assert_eq!(error.repository, setup.name(REPOSITORY));

    setup.registry.push_digest_only(REPOSITORY, &Image::new("untagged"));
    assert_eq!(list(&setup).await.unwrap(), TagList::default());
}

#[tokio::test]
async fn a_page_has_a_bound() {
    let setup = Setup::new().await;
    push_tags(&setup.registry, 1);
    setup.registry.fault(Fault::on(RequestKind::Tags), Action::EndlessBody);
    let error = list(&setup).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge { limit: 32 * 1024 * 1024 });
    assert_eq!(setup.counts(), [1, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_list_ends_in_time_however_many_pages_it_has() {
    let limit = Duration::from_millis(100);
    let setup = Setup::with(HttpOptions { list_timeout: limit, ..options() }).await;
    push_tags(&setup.registry, 20);
    setup.registry.page_size(1);
    setup.registry.fault(Fault::on(RequestKind::Tags), Action::Delay(Duration::from_millis(60)));
    let error = list(&setup).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout { stage: Stage::Total, limit });
    assert!((1..=2).contains(&setup.registry.count(RequestKind::Tags)));
}

/// Lists, showing what the list before left behind.
async fn list_again(setup: &Setup, known: &ListState) -> Listing {
    setup.upstream().list(Some(known), Urgency::Background).await.unwrap()
}

async fn first_list(setup: &Setup) -> ListState {
    let listing = setup.upstream().list(None, Urgency::Background).await.unwrap();
    let Listing::Whole(_, state) = listing else { panic!("{listing:?}") };
    state
}

fn not_modified() -> Action {
    Action::Status { code: 304, headers: Vec::new(), body: String::new() }
}

#[tokio::test]
async fn a_list_of_one_page_is_asked_for_conditionally() {
    let setup = Setup::new().await;
    push_tags(&setup.registry, 3);
    setup.registry.add_header("etag", r#"W/"three""#);
    let known = first_list(&setup).await;
    setup.registry.fault(Fault::on(RequestKind::Tags), not_modified());
    assert_eq!(list_again(&setup, &known).await, Listing::Unchanged(known));
    let requests = setup.registry.requests();
    assert!(!requests[0].headers.contains_key("if-none-match"));
    assert_eq!(requests[1].headers["if-none-match"], r#"W/"three""#);
    assert_eq!(setup.counts(), [2, 0, 0, 0, 0]);
    let observed = setup.observed.requests();
    assert!(observed.iter().all(|(_, outcome, _)| *outcome == Outcome::Ok), "{observed:?}");
}

#[tokio::test]
async fn a_list_that_may_have_filled_its_page_is_never_asked_for_conditionally() {
    let setup = Setup::new().await;
    setup.registry.add_header("etag", r#""page""#);
    push_tags(&setup.registry, 49);
    for (tags, is_conditional) in [(49, true), (50, false), (51, true)] {
        push_tags(&setup.registry, tags);
        let known = first_list(&setup).await;
        assert!(matches!(list_again(&setup, &known).await, Listing::Unchanged(_)), "{tags}");
        let last = setup.registry.requests().pop().unwrap();
        assert_eq!(last.headers.contains_key("if-none-match"), is_conditional, "{tags}");
    }
}

#[tokio::test]
async fn a_list_of_several_pages_is_never_asked_for_conditionally() {
    let setup = Setup::new().await;
    push_tags(&setup.registry, 3);
    setup.registry.page_size(2);
    setup.registry.add_header("etag", r#""page""#);
    let known = first_list(&setup).await;
    assert!(matches!(list_again(&setup, &known).await, Listing::Unchanged(_)), "its hash tells");
    assert!(setup.registry.requests().iter().all(|request| !request.headers.contains_key("if-none-match")));
    assert_eq!(setup.counts(), [4, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_list_that_says_the_same_is_recognised_and_one_that_does_not_is_whole() {
    let setup = Setup::new().await;
    push_tags(&setup.registry, 3);
    let known = first_list(&setup).await;
    assert!(matches!(list_again(&setup, &known).await, Listing::Unchanged(_)));
    setup.registry.push(REPOSITORY, "new", &Image::new("new"));
    let Listing::Whole(list, _) = list_again(&setup, &known).await else { panic!("it has a tag more") };
    assert_eq!(texts(&list), ["new", "v00", "v01", "v02"]);
    setup.registry.remove_tag(REPOSITORY, "new");
    setup.registry.list_extra(REPOSITORY, "not valid");
    assert!(matches!(list_again(&setup, &known).await, Listing::Whole(..)), "what is no tag counts");
}

#[tokio::test]
async fn a_registry_that_says_unasked_that_nothing_changed_is_not_believed() {
    let setup = Setup::new().await;
    push_tags(&setup.registry, 3);
    let known = first_list(&setup).await;
    setup.registry.fault(Fault::on(RequestKind::Tags), not_modified());
    let error = setup.upstream().list(Some(&known), Urgency::Background).await.unwrap_err();
    assert_eq!(error.kind.to_string(), "bad answer: unexpected status 304");
}

#[tokio::test]
async fn a_registry_that_says_for_a_day_that_nothing_changed_has_to_send_its_list_again() {
    let registry = FakeRegistry::start().await;
    let options = HttpOptions { insecure_hosts: [registry.host()].into(), ..options() };
    let clock = Arc::new(SetClock::default());
    let setup = Setup::at(registry, options, clock.clone());
    push_tags(&setup.registry, 3);
    setup.registry.add_header("etag", r#""always the same""#);
    let known = first_list(&setup).await;
    for (hours, is_conditional) in [(23, true), (2, false)] {
        clock.advance(Duration::from_hours(hours));
        list_again(&setup, &known).await;
        let last = setup.registry.requests().pop().unwrap();
        assert_eq!(last.headers.contains_key("if-none-match"), is_conditional);
    }
}
