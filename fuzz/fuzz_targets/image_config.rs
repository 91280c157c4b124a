//! Image configurations.

#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar_fuzz::{assert_presentable, within};
use samovar_registry::upstream::ImageConfig;

fuzz_target!(|data: &[u8]| {
    within(64, data.len(), || match ImageConfig::decode(data) {
        Ok(config) => {
            let bytes: usize = config.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(config.labels.len() <= 2 * 4_096 && bytes <= 2 * data.len());
            if let Some(platform) = config.platform() {
                assert_eq!(platform.to_string().parse().as_ref(), Ok(&platform));
            }
        }
        Err(error) => assert_presentable(&error.to_string()),
    });
});
