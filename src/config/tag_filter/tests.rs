use proptest::prelude::*;

use super::*;

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn patterns(texts: &[&str]) -> Vec<TagPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// By a filter that does not depend on what else there is.
fn verdict(filter: &TagFilter, text: &str) -> Verdict {
    filter.choose(std::iter::empty()).verdict(&tag(text))
}

fn wanted(filter: &TagFilter, listed: &[&str]) -> Vec<String> {
    let listed: Vec<Tag> = listed.iter().map(|text| tag(text)).collect();
    let chosen = filter.choose(listed.iter());
    let wanted = listed.iter().filter(|tag| chosen.verdict(tag) == Verdict::Wanted);
    wanted.map(ToString::to_string).collect()
}

const NOT_WATCHED: Verdict = Verdict::Ignored(IgnoredFor::NotWatched);
const IGNORED: Verdict = Verdict::Ignored(IgnoredFor::IgnoreTags);

#[test]
fn without_patterns_every_tag_is_wanted() {
    assert_eq!(TagFilter::matching(None, Vec::new(), None), TagFilter::All);
    assert_eq!(verdict(&TagFilter::All, "anything"), Verdict::Wanted);
}

#[test]
fn include_and_ignore_are_told_apart() {
    let filter =
        TagFilter::matching(Some(patterns(&["3.*", "edge"])), patterns(&["*-rc*", "regex:.*-b[0-9]"]), None);
    assert_eq!(verdict(&filter, "3.20"), Verdict::Wanted);
    assert_eq!(verdict(&filter, "edge"), Verdict::Wanted);
    assert_eq!(verdict(&filter, "2.7"), NOT_WATCHED);
    assert_eq!(verdict(&filter, "3.20-rc1"), IGNORED);
    assert_eq!(verdict(&filter, "3.20-b1"), IGNORED);
}

#[test]
fn ignoring_alone_leaves_all_other_tags() {
    let filter = TagFilter::matching(None, patterns(&["*.sig"]), None);
    assert_eq!(verdict(&filter, "1.0"), Verdict::Wanted);
    assert_eq!(verdict(&filter, "sha256-ab.sig"), IGNORED);
}

#[test]
fn an_empty_include_list_wants_nothing() {
    let filter = TagFilter::matching(Some(Vec::new()), Vec::new(), None);
    assert_eq!(verdict(&filter, "1.0"), NOT_WATCHED);
}

#[test]
fn a_union_wants_what_either_wants() {
    let released = TagFilter::matching(None, patterns(&["*-rc*"]), None);
    let both = released.clone().union(TagFilter::exactly(tag("2.0-rc1")));
    assert_eq!(verdict(&both, "1.0"), Verdict::Wanted);
    assert_eq!(verdict(&both, "2.0-rc1"), Verdict::Wanted, "named exactly by the other watch");
    assert_eq!(verdict(&both, "2.0-rc2"), IGNORED);
    assert_eq!(released.clone().union(TagFilter::All), TagFilter::All);
    assert_eq!(TagFilter::All.union(released), TagFilter::All);
}

#[test]
fn exact_tags_are_not_patterns() {
    let two = TagFilter::exactly(tag("1.0")).union(TagFilter::exactly(tag("1.1")));
    assert_eq!(verdict(&two, "1.1"), Verdict::Wanted);
    assert_eq!(verdict(&two, "1.0.1"), NOT_WATCHED);
}

#[test]
fn of_what_is_left_only_the_newest_looking_are_wanted() {
    let listed = ["1.10.0", "1.2.0", "1.9.0", "2.0.0-rc1", "latest", "old"];
    let newest = |count| TagFilter::matching(None, patterns(&["*-rc*"]), Some(count));
    assert_eq!(wanted(&newest(2), &listed), ["1.10.0", "latest"]);
    assert_eq!(wanted(&newest(3), &listed), ["1.10.0", "1.9.0", "latest"]);
    assert_eq!(wanted(&newest(9), &listed), ["1.10.0", "1.2.0", "1.9.0", "latest", "old"]);
    let filter = newest(2);
    let listed = listed.map(tag);
    let chosen = filter.choose(listed.iter());
    let ignored = |text: &str| match chosen.verdict(&tag(text)) {
        Verdict::Wanted => String::new(),
        Verdict::Ignored(reason) => reason.to_string(),
    };
    assert_eq!(ignored("1.9.0"), "not among the 2 newest-looking");
    assert_eq!(ignored("2.0.0-rc1"), "matches ignore_tags");
    assert_eq!(ignored("1.11.0"), "", "it was not listed, and would be one of them");
}

#[test]
fn each_watch_of_a_repository_has_a_number_of_its_own() {
    let of = |pattern, count| TagFilter::matching(Some(patterns(&[pattern])), Vec::new(), Some(count));
    let both = of("1.*", 1).union(of("2.*", 2)).union(TagFilter::exactly(tag("1.0")));
    assert!(both.is_relative() && !TagFilter::exactly(tag("1.0")).is_relative());
    let listed = ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "3.0"];
    assert_eq!(wanted(&both, &listed), ["1.0", "1.2", "2.1", "2.2"]);
}

proptest! {
    #[test]
    fn so_many_are_wanted_and_none_that_is_not_looks_newer(
        listed in proptest::collection::btree_set("(v?[0-9]{1,2}\\.[0-9]{1,2}|[a-z]{1,3})(-rc[0-9])?", 1..40),
        count in 1_usize..50,
    ) {
        let listed: Vec<Tag> = listed.iter().map(|text| tag(text)).collect();
        let filter = TagFilter::matching(None, Vec::new(), Some(count));
        let chosen = filter.choose(listed.iter());
        let (wanted, left): (Vec<&Tag>, Vec<&Tag>) =
            listed.iter().partition(|tag| chosen.verdict(tag) == Verdict::Wanted);
        prop_assert_eq!(wanted.len(), count.min(listed.len()));
        let oldest = wanted.iter().map(|tag| tag.newness()).min();
        prop_assert!(left.iter().all(|tag| Some(tag.newness()) < oldest));
    }
}
