//! `Link`, one header per line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::within;
use samovar_registry::fuzzing;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    within(16, text.len(), || match fuzzing::next_link(text.split('\n')) {
        Ok(Some(target)) => {
            assert!(text.contains(&format!("<{target}>")));
            let followed = format!("<{target}>; rel=\"next\"");
            assert_eq!(fuzzing::next_link([followed.as_str()]), Ok(Some(target)));
        }
        // All of it was read, so that what comes after it is read as well.
        Ok(None) => {
            let longer = format!("{text}, </more>; rel=next");
            assert_eq!(fuzzing::next_link(longer.split('\n')), Ok(Some("/more".to_owned())));
        }
        Err(()) => {}
    });
});
