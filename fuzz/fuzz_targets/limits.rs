//! What registries say about their limits: one header per line, its name before the colon; the body after an empty line.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::within;
use samovar_registry::fuzzing;

fuzz_target!(|data: &[u8]| {
    within(64, data.len(), || {
        if let Some(asked) = fuzzing::pause(data) {
            assert!(asked >= Duration::from_secs(1) && asked <= Duration::from_hours(24), "{asked:?}");
        }
    });
});
