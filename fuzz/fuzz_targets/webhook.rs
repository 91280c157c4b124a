//! A delivery to a receiver of webhooks: a letter for the kind of sender, headers, an empty line, the body.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, mut rest)) = data.split_first() else { return };
    let mut headers = HeaderMap::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, behind) = (&rest[..end], &rest[end + 1..]);
        rest = behind;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    match samovar::fuzzing::webhook(kind.wrapping_sub(b'a'), &headers, rest) {
        Ok(hints) => assert!(hints <= 1_000, "{hints}"),
        Err(error) => samovar_fuzz::assert_presentable(&error),
    }
});
