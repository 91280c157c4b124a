//! Which registries are a cloud's own.

use std::fmt;
use std::str::FromStr;

/// A cloud whose registries can be logged in to as the machine or workload that the program runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cloud {
    /// Amazon's Elastic Container Registry. Its public gallery, `public.ecr.aws`, is read anonymously.
    Aws,
    /// Azure's Container Registry.
    Azure,
    /// Google's Artifact Registry and Container Registry.
    Google,
}

/// Whose identity a host is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostIdentity {
    /// A cloud's.
    Of(Cloud),
    /// No cloud's.
    None,
}

/// The name of no cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the clouds are aws, azure and google")]
pub struct CloudParseError;

impl Cloud {
    /// All of them, compiled in or not.
    pub const ALL: [Self; 3] = [Self::Aws, Self::Azure, Self::Google];

    /// As configuration and cargo features name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Google => "google",
        }
    }

    /// Whether this program was built with the cargo feature of that name.
    pub fn is_compiled_in(self) -> bool {
        match self {
            Self::Aws => cfg!(feature = "aws"),
            Self::Azure => cfg!(feature = "azure"),
            Self::Google => cfg!(feature = "google"),
        }
    }

    /// Those that this program was built with.
    pub fn compiled_in() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|cloud| cloud.is_compiled_in())
    }

    /// The cloud that runs the registry of a canonical host, as far as the host's name tells.
    pub(super) fn of_registry(host: &str) -> Option<Self> {
        if ecr_place(host).is_some() {
            return Some(Self::Aws);
        }
        // What customers can name themselves is one label; further ones would be somebody else's to hand out.
        let (registry, domain) = host.split_once('.')?;
        match domain {
            "azurecr.io" | "azurecr.cn" | "azurecr.us" => Some(Self::Azure),
            "pkg.dev" if registry.ends_with("-docker") || registry == "docker" => Some(Self::Google),
            "gcr.io" => Some(Self::Google),
            _ if host == "gcr.io" => Some(Self::Google),
            _ => None,
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Cloud {
    type Err = CloudParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|cloud| cloud.as_str() == text).ok_or(CloudParseError)
    }
}

impl FromStr for HostIdentity {
    type Err = CloudParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self::None) } else { text.parse().map(Self::Of) }
    }
}

/// Where a private registry of Amazon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EcrPlace<'a> {
    pub(super) region: &'a str,
    /// Whether it is the endpoint whose cryptography is validated by FIPS 140.
    pub(super) is_fips: bool,
}

/// Reads `ACCOUNT.dkr.ecr.REGION.amazonaws.com`, the same with `.cn`, and `ACCOUNT.dkr-ecr.REGION.on.aws` for both stacks of
/// IP; each also with `-fips` behind `ecr`.
pub(super) fn ecr_place(host: &str) -> Option<EcrPlace<'_>> {
    let (account, rest) = host.split_once('.')?;
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (service, region) = if let Some(rest) = rest.strip_suffix(".on.aws") {
        rest.split_once('.')?
    } else {
        let rest = rest.strip_suffix(".cn").unwrap_or(rest).strip_suffix(".amazonaws.com")?;
        rest.rsplit_once('.')?
    };
    let is_fips = match service {
        "dkr.ecr" | "dkr-ecr" => false,
        "dkr.ecr-fips" | "dkr-ecr-fips" => true,
        _ => return None,
    };
    let is_region = !region.is_empty()
        && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    is_region.then_some(EcrPlace { region, is_fips })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn registries_are_recognised_by_their_hosts() {
        for (host, expected) in [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", Some(Cloud::Aws)),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", Some(Cloud::Aws)),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Some(Cloud::Aws)),
            ("123456789012.dkr-ecr.us-east-1.on.aws", Some(Cloud::Aws)),
            ("123456789012.dkr-ecr-fips.us-east-1.on.aws", Some(Cloud::Aws)),
            ("public.ecr.aws", None),
            ("12345678901.dkr.ecr.eu-central-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com.example", None),
            ("123456789012.dkr.ecr.eu.central.amazonaws.com", None),
            ("123456789012.dkr.ecr.EU.amazonaws.com", None),
            ("123456789012.dkr.ecr..amazonaws.com", None),
            ("123456789012.s3.eu-central-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com:8443", None),
            ("gcr.io", Some(Cloud::Google)),
            ("eu.gcr.io", Some(Cloud::Google)),
            ("mirror.gcr.io", Some(Cloud::Google)),
            ("europe-west3-docker.pkg.dev", Some(Cloud::Google)),
            ("docker.pkg.dev", Some(Cloud::Google)),
            ("europe-npm.pkg.dev", None),
            ("a.b.gcr.io", None),
            ("notgcr.io", None),
            ("gcr.io.example", None),
            ("team.azurecr.io", Some(Cloud::Azure)),
            ("team.azurecr.cn", Some(Cloud::Azure)),
            ("team.azurecr.us", Some(Cloud::Azure)),
            ("azurecr.io", None),
            ("team.azurecr.io.example", None),
            ("docker.io", None),
            ("127.0.0.1:5000", None),
        ] {
            assert_eq!(Cloud::of_registry(host), expected, "{host}");
        }
    }

    #[test]
    fn the_region_stands_in_the_host() {
        let place = |host| ecr_place(host).unwrap();
        assert_eq!(
            place("123456789012.dkr.ecr.eu-central-1.amazonaws.com"),
            EcrPlace { region: "eu-central-1", is_fips: false }
        );
        assert_eq!(
            place("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"),
            EcrPlace { region: "cn-north-1", is_fips: false }
        );
        assert_eq!(
            place("123456789012.dkr-ecr-fips.us-east-1.on.aws"),
            EcrPlace { region: "us-east-1", is_fips: true }
        );
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for cloud in Cloud::ALL {
            assert_eq!(cloud.to_string().parse(), Ok(cloud));
        }
        assert_eq!("gcp".parse::<Cloud>(), Err(CloudParseError));
        assert_eq!("none".parse(), Ok(HostIdentity::None));
        assert_eq!("azure".parse(), Ok(HostIdentity::Of(Cloud::Azure)));
        assert_eq!("None".parse::<HostIdentity>(), Err(CloudParseError));
    }

    proptest! {
        #[test]
        fn nothing_outside_the_clouds_domains_is_theirs(host in "[a-z0-9.-]{1,60}") {
            let amazon = [".amazonaws.com", ".amazonaws.com.cn", ".on.aws"];
            let others = ["gcr.io", ".pkg.dev", ".azurecr.io", ".azurecr.cn", ".azurecr.us"];
            let is_theirs = amazon.iter().chain(&others).any(|domain| host.ends_with(domain));
            prop_assert!(is_theirs || Cloud::of_registry(&host).is_none());
        }
    }
}
