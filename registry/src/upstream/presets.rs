//! What the well-known registries let us ask, where the configuration says nothing.
//!
//! Each row names its source. Where a registry publishes a number, the preset stays well below it: others behind the same
//! address draw on it as well. Where it publishes none, the preset is the cautious one, and a 429 halves it.

use super::budget::{Counting, Limits};

/// What is asked of one registry.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Preset {
    /// Canonical hosts; one that begins with a dot stands for all below it.
    hosts: &'static [&'static str],
    limits: Limits,
}

const fn preset(hosts: &'static [&'static str], rate: f64, burst: u32, concurrency: usize) -> Preset {
    Preset { hosts, limits: Limits { rate, burst, concurrency } }
}

/// The registry that counts GETs of manifests.
const DOCKER_HUB: &str = "docker.io";

const PRESETS: [Preset; 12] = [
    // docs.docker.com/docker-hub/usage: an abuse limit in the order of thousands of requests a minute for an address, beside
    // the pull quota, which the registry announces.
    preset(&[DOCKER_HUB], 10.0, 10, 6),
    // The same page: the abuse limit counts what its own interface is asked, too.
    preset(&["hub.docker.com"], 5.0, 10, 5),
    // Not published. Its 429 says "allowed: 44000/minute" for a bucket that is shared by many; 2,000 a minute for one user
    // is what other clients report.
    preset(&["ghcr.io"], 20.0, 10, 10),
    // access.redhat.com/solutions/6218921: a few requests a second for an address, with some bursts.
    preset(&["quay.io"], 5.0, 10, 5),
    // docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html: hundreds of requests a second for each action, for
    // an account, whose own deployments draw on them.
    preset(&[".amazonaws.com", ".amazonaws.com.cn", ".on.aws"], 20.0, 20, 10),
    // Cautious: what may be asked without a login is not published for all that is asked.
    preset(&["public.ecr.aws", "ecr-public.aws.com"], 1.0, 10, 5),
    // cloud.google.com/artifact-registry/quotas and the quota of gcr.io before it: 50,000 requests in 10 minutes for an
    // address.
    preset(&["gcr.io", ".gcr.io", ".pkg.dev"], 40.0, 20, 10),
    // learn.microsoft.com/azure/container-registry/container-registry-skus: 1,000 reads a minute on the smallest plan.
    preset(&[".azurecr.io", ".azurecr.cn", ".azurecr.us"], 10.0, 20, 10),
    // Not published.
    preset(&["mcr.microsoft.com"], 10.0, 10, 5),
    // docs.gitlab.com/user/gitlab_com: 500 requests a minute without a login for an address.
    preset(&["registry.gitlab.com"], 5.0, 10, 5),
    // Not published; a front of mirrors that the community pays for.
    preset(&["registry.k8s.io"], 10.0, 10, 5),
    // Not published.
    preset(
        &[
            "cgr.dev",
            "nvcr.io",
            "codeberg.org",
            "docker.elastic.co",
            "dhi.io",
            "icr.io",
            ".icr.io",
            "lscr.io",
            "registry.access.redhat.com",
            "registry.connect.redhat.com",
            "registry.redhat.io",
            "container-registry.oracle.com",
            "registry.suse.com",
            "registry.digitalocean.com",
            "xpkg.upbound.io",
        ],
        10.0,
        10,
        5,
    ),
];

impl Limits {
    /// These limits where a host has none of its own, for a host: those of a well-known registry are ceilings to them.
    #[must_use]
    pub fn for_host(self, host: &str) -> Self {
        let Some(preset) = PRESETS.iter().find(|preset| preset.is_of(host)) else { return self };
        Self {
            rate: self.rate.min(preset.limits.rate),
            burst: self.burst.min(preset.limits.burst),
            concurrency: self.concurrency.min(preset.limits.concurrency),
        }
    }
}

/// What a host counts against a quota.
pub(super) fn counting(host: &str) -> Counting {
    if host == DOCKER_HUB { Counting::ManifestGets } else { Counting::Everything }
}

impl Preset {
    fn is_of(&self, host: &str) -> bool {
        self.hosts.iter().any(|named| match named.strip_prefix('.') {
            Some(_) => host.ends_with(named),
            None => host == *named,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_registries_are_asked_less_than_others() {
        let all = Limits::default();
        for (host, rate) in [
            ("docker.io", 10.0),
            ("hub.docker.com", 5.0),
            ("ghcr.io", 20.0),
            ("quay.io", 5.0),
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", 20.0),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", 20.0),
            ("public.ecr.aws", 1.0),
            ("europe-west1-docker.pkg.dev", 40.0),
            ("gcr.io", 40.0),
            ("eu.gcr.io", 40.0),
            ("corp.azurecr.io", 10.0),
            ("mcr.microsoft.com", 10.0),
            ("registry.k8s.io", 10.0),
            ("registry.gitlab.com", 5.0),
            ("cgr.dev", 10.0),
        ] {
            let limits = all.for_host(host);
            assert!((limits.rate - rate).abs() < 1e-9, "{host}: {limits:?}");
            assert!(limits.check().is_ok());
        }
        for host in ["registry.example", "notgcr.io", "quay.io:8443", "docker.io.example", "127.0.0.1:5000"] {
            assert_eq!(all.for_host(host), all, "{host}");
        }
    }

    #[test]
    fn a_preset_is_a_ceiling() {
        let slow = Limits { rate: 1.0, burst: 100, concurrency: 1 };
        assert_eq!(slow.for_host("docker.io"), Limits { rate: 1.0, burst: 10, concurrency: 1 });
    }

    #[test]
    fn docker_hub_counts_manifests() {
        assert_eq!(counting("docker.io"), Counting::ManifestGets);
        assert_eq!(counting("ghcr.io"), Counting::Everything);
    }
}
