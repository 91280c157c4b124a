//! A range of versions in the first line, a version in the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar::policy::VersionRange;
use samovar_fuzz::{first_line, within};
use semver::Version;

fuzz_target!(|data: &[u8]| {
    let (range_text, version) = first_line(data);
    let (Ok(range_text), Ok(version)) = (str::from_utf8(range_text), str::from_utf8(version)) else { return };
    within(64, data.len(), || match range_text.parse::<VersionRange>() {
        Ok(range) => {
            assert_eq!(range.to_string(), range_text);
            let Ok(version) = Version::parse(version) else { return };
            let [admits, with_prereleases] = [false, true].map(|with| range.admits(&version, with));
            assert!(with_prereleases || !admits, "{range_text:?} and {version}");
            assert!(!version.pre.is_empty() || with_prereleases == admits, "{range_text:?} and {version}");
            // Alternatives are a union, and build metadata says nothing.
            let mut each =
                range_text.split("||").map(|part| part.parse::<VersionRange>().expect("it was read before"));
            assert_eq!(each.any(|part| part.admits(&version, false)), admits, "{range_text:?} and {version}");
            let unbuilt = Version { build: semver::BuildMetadata::EMPTY, ..version };
            assert_eq!(range.admits(&unbuilt, false), admits, "{range_text:?} and {unbuilt}");
        }
        Err(error) => samovar_fuzz::assert_presentable(&error),
    });
});
