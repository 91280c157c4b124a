//! The answers of token services.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::within;
use samovar_registry::fuzzing;

/// All that is ever said of an answer without a token that can be used.
const MESSAGES: [&str; 3] = [
    "bad answer: not a token",
    "bad answer: an answer without a token",
    "bad answer: a token with characters that cannot be sent",
];

fuzz_target!(|data: &[u8]| {
    within(64, data.len(), || match fuzzing::token(data) {
        Ok(lifetime) => assert!(lifetime > Duration::ZERO && lifetime <= Duration::from_hours(24)),
        // It never quotes the answer, which could be a token with something wrong about it.
        Err(error) => assert!(MESSAGES.contains(&error.as_str()), "{error}"),
    });
});
