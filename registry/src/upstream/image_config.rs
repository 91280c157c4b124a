//! What an image's configuration says of when it was built, for what, and with which labels. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::document::DecodeError;
use crate::Platform;
use crate::json::{self, IfText, Texts};

/// An image configuration, as far as it is of interest here (OCI image configuration, Docker image specification).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// When the image says that it was built. Absent where it does not say so, or says Go's zero time.
    pub created: Option<Timestamp>,
    /// The labels, bounded: those of `config.Labels`, then those of `container_config.Labels` whose keys are new.
    pub labels: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct RawConfig {
    created: Option<IfText<Timestamp>>,
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    config: Option<RawContainerConfig>,
    container_config: Option<RawContainerConfig>,
}

#[derive(Deserialize)]
struct RawContainerConfig {
    #[serde(default, rename = "Labels")]
    labels: Texts,
}

impl ImageConfig {
    /// Decodes the bytes of a configuration. Lenient in the creation time and in labels, which people write.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let raw: RawConfig =
            json::object(bytes).map_err(|reason| DecodeError::new("image configuration", reason))?;
        let labels_of =
            |config: Option<RawContainerConfig>| config.map(|config| config.labels.0).unwrap_or_default();
        let platform = |os: String, architecture: String| {
            Platform::from_parts(&os, &architecture, raw.variant.as_deref().unwrap_or_default())
        };
        Ok(Self {
            created: raw.created.and_then(|IfText(time)| time).filter(|time| !is_zero(*time)),
            labels: merged(labels_of(raw.config), labels_of(raw.container_config)),
            platform: raw.os.zip(raw.architecture).and_then(|(os, architecture)| platform(os, architecture)),
        })
    }

    /// The platform that the image was built for; absent where it does not say so, or says it in words that are none.
    pub fn platform(&self) -> Option<Platform> {
        self.platform.clone()
    }
}

/// Merges per key; the first wins.
fn merged(first: BTreeMap<String, String>, mut second: BTreeMap<String, String>) -> BTreeMap<String, String> {
    second.extend(first);
    second
}

/// Go's zero time, 0001-01-01T00:00:00Z: what builders write who do not set the time.
fn is_zero(time: Timestamp) -> bool {
    const GO_ZERO_SECOND: i64 = -62_135_596_800;
    time.as_second() == GO_ZERO_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> ImageConfig {
        ImageConfig::decode(text.as_bytes()).unwrap()
    }

    fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    // D11 of the ancestor's ledger: labels were read from `container_config` only, where today's builders write none.
    #[test]
    fn a_whole_configuration() {
        let config = decode(
            r#"{"created":"2024-01-02T03:04:05.123456789Z","os":"linux","architecture":"arm64","variant":"v8",
                "config":{"Labels":{"a":"1","b":"2","number":3},"Env":["X=1"]},
                "container_config":{"Labels":{"b":"other","c":"4"}},"rootfs":{},"history":[]}"#,
        );
        assert_eq!(config.created, Some("2024-01-02T03:04:05.123456789Z".parse().unwrap()));
        assert_eq!(config.labels, map([("a", "1"), ("b", "2"), ("c", "4")]));
        assert_eq!(config.platform().unwrap().to_string(), "linux/arm64/v8");
    }

    #[test]
    fn what_is_absent_is_absent() {
        for text in [
            "{}",
            r#"{"created":null,"os":null,"config":null,"container_config":null}"#,
            r#"{"created":"","os":"","architecture":"","config":{},"container_config":{"Labels":null}}"#,
            r#"{"created":"0001-01-01T00:00:00Z","variant":""}"#,
        ] {
            assert_eq!(decode(text), ImageConfig::default(), "{text}");
            assert_eq!(decode(text).platform(), None);
        }
    }

    #[test]
    fn times_with_offsets_and_the_epoch() {
        assert_eq!(
            decode(r#"{"created":"2024-01-02T03:04:05+02:00"}"#).created,
            Some("2024-01-02T01:04:05Z".parse().unwrap())
        );
        assert_eq!(decode(r#"{"created":"1970-01-01T00:00:00Z"}"#).created, Some(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn a_time_that_is_none_is_absent() {
        for created in
            [r#""yesterday""#, "1700000000", r#""2024-13-01T00:00:00Z""#, r#""2024-01-02""#, r#"{"a":[1]}"#]
        {
            let config = decode(&format!(r#"{{"created":{created},"os":"linux","architecture":"amd64"}}"#));
            assert_eq!(config.created, None, "{created}");
            assert_eq!(config.platform().unwrap().to_string(), "linux/amd64");
        }
    }

    #[test]
    fn a_platform_in_words_that_are_none_is_absent() {
        let long = "x".repeat(200);
        for (os, architecture, variant) in [
            ("Linux", "amd64", ""),
            ("linux/arm64", "v8", ""),
            ("linux", "arm 64", ""),
            ("linux", "arm", &long),
        ] {
            let text = format!(r#"{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}"#);
            assert_eq!(decode(&text).platform(), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_an_error() {
        for text in [
            "",
            "null",
            "[null,null,null,null,null,null]",
            "\"x\"",
            "{",
            r#"{"os":1}"#,
            r#"{"config":"x"}"#,
            r#"{"config":{"Labels":[]}}"#,
        ] {
            let error = ImageConfig::decode(text.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("image configuration cannot be decoded: "), "{error}");
        }
    }
}
