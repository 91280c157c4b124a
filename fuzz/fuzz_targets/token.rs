//! The answers of token services.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::{assert_presentable, within};
use samovar_registry::fuzzing;

fuzz_target!(|data: &[u8]| {
    within(64, data.len(), || match fuzzing::token(data) {
        Ok(lifetime) => assert!(lifetime > Duration::ZERO && lifetime <= Duration::from_hours(24)),
        Err(error) => {
            assert_presentable(&error);
            // What it says is ours alone: the answer could be a token with something wrong about it.
            let is_quoted = |piece: &str| piece.len() > 24 && error.contains(piece);
            assert!(!str::from_utf8(data).is_ok_and(|text| text.split('"').any(is_quoted)), "{error}");
        }
    });
});
