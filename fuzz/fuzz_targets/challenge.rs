//! `WWW-Authenticate`, one header per line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::within;
use samovar_registry::fuzzing::{self, Challenge};

fn written((scheme, parameters): &Challenge) -> String {
    let mut text = scheme.clone();
    for (position, (name, value)) in parameters.iter().enumerate() {
        let value = value.replace('\\', r"\\").replace('"', "\\\"");
        text.push_str(if position == 0 { " " } else { ", " });
        text.push_str(&format!("{name}=\"{value}\""));
    }
    text
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    within(64, text.len(), || {
        let challenges = fuzzing::challenges(text.split('\n'));
        assert!(challenges.len() <= 16);
        let length: usize = challenges
            .iter()
            .map(|(scheme, parameters)| {
                scheme.len() + parameters.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            })
            .sum();
        assert!(length <= text.len(), "no more was read than was there");
        // What was understood is understood again, however it is spread over headers.
        let headers: Vec<String> = challenges.iter().map(written).collect();
        if headers.iter().all(|header| header.len() <= 8 * 1024) {
            assert_eq!(fuzzing::challenges(headers.iter().map(String::as_str)), challenges);
        }
        let header = headers.join(", ");
        if header.len() <= 8 * 1024 {
            assert_eq!(fuzzing::challenges([header.as_str()]), challenges);
        }
    });
});
