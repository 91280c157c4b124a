//! Names, references, tags, digests, platforms and hosts, in any spelling.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::within;
use samovar_registry::{Digest, Name, ParseError, Platform, Reference, Tag, canonical_host};

/// What is accepted is accepted in its canonical form, as the same, and what is not is explained.
fn check<T: FromStr<Err = ParseError> + Display + Debug + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => {
            let canonical = value.to_string();
            let again: T =
                canonical.parse().unwrap_or_else(|error| panic!("{text:?} became {canonical:?}: {error}"));
            assert_eq!(again, value);
            assert_eq!(again.to_string(), canonical);
        }
        Err(error) => {
            assert!(error.offset <= text.len());
            samovar_fuzz::assert_presentable(&error.to_string());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    within(16, text.len(), || {
        check::<Reference>(text);
        check::<Name>(text);
        check::<Tag>(text);
        check::<Digest>(text);
        check::<Platform>(text);
        if let Ok(host) = canonical_host(text) {
            assert_eq!(canonical_host(&host).as_deref(), Ok(host.as_str()), "{text:?}");
            assert!(!host.chars().any(char::is_uppercase));
        }
        if let Ok(name) = text.parse::<Name>() {
            assert_eq!(format!("{}/{}", name.host(), name.path()), name.as_str());
            assert!(name.as_str().len() <= 255);
            assert_eq!(canonical_host(name.host()).as_deref(), Ok(name.host()));
            for spelling in name.spellings() {
                assert_eq!(spelling.parse::<Name>().as_ref(), Ok(&name));
            }
        }
    });
});
