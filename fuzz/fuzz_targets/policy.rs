//! The parameters of a policy, a name and a value to a line, then an empty line and the tags that it chooses from.

#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use samovar::policy::{Candidate, Patterns, Policy};
use samovar_registry::Tag;

// No bound on memory as for other targets: a regular expression may take up a quarter of a megabyte, however short.
fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let (parameters, tags) = text.split_once("\n\n").unwrap_or((text, ""));
    let parameters = parameters.lines().map(|line| line.split_once('=').unwrap_or((line, "")));
    let policy = match Policy::read(parameters, &Patterns::default()) {
        Ok(policy) => policy,
        Err(error) => return samovar_fuzz::assert_presentable(&error.to_string()),
    };
    let mut tags: Vec<Tag> = tags.lines().take(64).filter_map(|tag| tag.parse().ok()).collect();
    tags.sort();
    tags.dedup();
    let choice = policy.choose(tags.iter().map(Candidate::pending), Timestamp::UNIX_EPOCH);
    let reversed = policy.choose(tags.iter().rev().map(Candidate::pending), Timestamp::UNIX_EPOCH);
    assert_eq!(choice, reversed, "{policy:?}");
    assert!(choice.tags.len() <= policy.limit.min(choice.matched), "{policy:?}");
    assert!(
        choice.tags.iter().all(|tag| tags.contains(tag) && !choice.left_out.contains_key(tag)),
        "{policy:?}"
    );
    assert!(choice.matched + choice.left_out.len() <= tags.len(), "{policy:?}");
});
