//! A glob in the first line, the text that it may match in the rest: compared with the plainest way to match it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::{first_line, within};
use samovar_registry::Glob;

/// Whether `text` is the pattern with something for every star, found out one character at a time.
fn matches_plainly(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // Whether the pattern so far matches the first so many characters.
    let mut matched = vec![false; text.len() + 1];
    matched[0] = true;
    for wanted in pattern.chars() {
        let mut next = vec![false; text.len() + 1];
        for length in 0..=text.len() {
            next[length] = if wanted == '*' {
                matched[length] || length > 0 && next[length - 1]
            } else {
                length > 0 && matched[length - 1] && text[length - 1] == wanted
            };
        }
        matched = next;
    }
    matched[text.len()]
}

fuzz_target!(|data: &[u8]| {
    let (pattern, text) = first_line(data);
    let (Ok(pattern), Ok(text)) = (str::from_utf8(pattern), str::from_utf8(text)) else { return };
    within(128, data.len(), || match pattern.parse::<Glob>() {
        Ok(glob) => {
            assert_eq!(glob.to_string(), pattern);
            // Names and tags are what globs are matched with.
            if text.len() <= 512 {
                assert_eq!(glob.matches(text), matches_plainly(pattern, text), "{pattern:?} and {text:?}");
            }
        }
        Err(error) => samovar_fuzz::assert_presentable(&error.to_string()),
    });
});
