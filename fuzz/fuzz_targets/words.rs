//! The bodies of failed answers: what is shown of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::within;
use samovar_registry::fuzzing;

fuzz_target!(|data: &[u8]| {
    within(64, data.len(), || {
        let Some(words) = fuzzing::words_of_registry(data) else { return };
        assert!(!words.is_empty() && words.chars().count() <= 300);
        samovar_fuzz::assert_presentable(&words);
    });
});
