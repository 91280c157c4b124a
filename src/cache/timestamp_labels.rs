//! Creation times from labels, for repositories whose images do not carry their own.
//!
//! Reproducible builds set `created` to the epoch or to the time of the commit; some publishers put the real time in a
//! label. Labels are inherited from base images, though, so they are believed only where the operator says so.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use samovar_registry::{Globs, ImageInfo, Name};

use super::Decorator;

/// The labels that are asked, in this order.
const LABELS: [&str; 2] = ["org.opencontainers.image.created", "org.label-schema.build-date"];

/// The timestamp label whitelist: images of the repositories that match take their creation time from labels. Where
/// there is none, or none that is a time by RFC 3339, it stays as it was.
#[derive(Debug)]
pub struct TimestampLabels {
    repositories: Globs,
    unparsable: AtomicU64,
}

impl TimestampLabels {
    /// For the repositories whose canonical name, or an old spelling of it on Docker Hub, matches.
    pub fn new(repositories: Globs) -> Self {
        Self { repositories, unparsable: AtomicU64::new(0) }
    }

    /// How often a label was met that is not a time.
    pub fn unparsable(&self) -> u64 {
        self.unparsable.load(Ordering::Relaxed)
    }

    fn time_of(&self, label: &str) -> Option<Timestamp> {
        let time = label.parse().ok();
        if time.is_none() {
            self.unparsable.fetch_add(1, Ordering::Relaxed);
        }
        time
    }
}

impl Decorator for TimestampLabels {
    fn decorate(&self, name: &Name, image: &mut ImageInfo) {
        if self.repositories.is_empty() || !self.repositories.matches_name(name) {
            return;
        }
        let labelled =
            LABELS.iter().filter_map(|label| image.labels.get(label)).find_map(|label| self.time_of(label));
        if labelled.is_some() {
            image.created_at = labelled;
        }
    }
}

#[cfg(test)]
mod tests {
    use samovar_registry::{Digest, Glob};

    use super::*;

    fn decorated(pattern: &str, name: &str, labels: &[(&str, &str)]) -> (Option<String>, u64) {
        let name: Name = name.parse().unwrap();
        let mut image = ImageInfo {
            id: format!("{name}:1").parse().unwrap(),
            digest: Digest::sha256(b""),
            image_id: None,
            media_type: String::new(),
            size: None,
            created_at: Some("1970-01-01T00:00:00Z".parse().unwrap()),
            labels: labels.iter().copied().collect(),
            platforms: Vec::new(),
            first_seen: None,
            last_fetched: None,
        };
        let whitelist = TimestampLabels::new([Glob::new(pattern).unwrap()].into_iter().collect());
        whitelist.decorate(&name, &mut image);
        (image.created_at.map(|time| time.to_string()), whitelist.unparsable())
    }

    const OCI: (&str, &str) = ("org.opencontainers.image.created", "2024-02-03T04:05:06+01:00");
    const SCHEMA: (&str, &str) = ("org.label-schema.build-date", "2023-01-01T00:00:00Z");

    #[test]
    fn the_oci_label_wins_then_label_schema_then_it_stays() {
        let created = |labels: &[(&str, &str)]| decorated("ghcr.io/org/*", "ghcr.io/org/app", labels);
        assert_eq!(created(&[SCHEMA, OCI]), (Some("2024-02-03T03:05:06Z".into()), 0));
        assert_eq!(created(&[SCHEMA]), (Some("2023-01-01T00:00:00Z".into()), 0));
        assert_eq!(created(&[("other", "x")]), (Some("1970-01-01T00:00:00Z".into()), 0));
    }

    #[test]
    fn a_label_that_is_no_time_is_counted_and_passed_over() {
        let labels = [("org.opencontainers.image.created", "yesterday"), SCHEMA];
        assert_eq!(decorated("*", "ghcr.io/org/app", &labels), (Some("2023-01-01T00:00:00Z".into()), 1));
        let labels = [("org.opencontainers.image.created", "20190523")];
        assert_eq!(decorated("*", "ghcr.io/org/app", &labels), (Some("1970-01-01T00:00:00Z".into()), 1));
    }

    #[test]
    fn repositories_match_by_canonical_name_or_docker_hubs_old_spellings() {
        for pattern in ["docker.io/weave/*", "index.docker.io/weave/*", "registry-1.docker.io/weave/app"] {
            assert_eq!(
                decorated(pattern, "weave/app", &[OCI]).0.unwrap(),
                "2024-02-03T03:05:06Z",
                "{pattern}"
            );
        }
        for pattern in ["weave/*", "docker.io/weave", "docker.io/weave/app:*"] {
            assert_eq!(
                decorated(pattern, "weave/app", &[OCI]).0.unwrap(),
                "1970-01-01T00:00:00Z",
                "{pattern}"
            );
        }
    }
}
