//! Addresses that are not connected to: link-local ones and those of cloud metadata services, which hand out the
//! machine's own credentials, never, whoever names them; and private ones where a registry at a public address
//! names them, in a redirect or as the realm of its tokens.
//!
//! Checked twice: addresses written in a URL before the request is sent, and names when they are resolved, by
//! the resolver that the HTTP client connects with: what is connected to is what was checked, however soon a name
//! leads elsewhere. Behind a proxy the proxy resolves names, and only the first check remains; the proxy itself may
//! stand at a private address.

use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Metadata and platform services outside the link-local ranges: Alibaba Cloud's, Oracle Cloud's old one, Azure's.
const SERVICES_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// Metadata services over IPv6: Google's, Oracle Cloud's, Scaleway's.
const SERVICES_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042),
];

/// What the prefix of Amazon's services begins with: metadata, time, names and the identities of pods.
const AMAZON_V6: [u16; 2] = [0xfd00, 0x0ec2];

/// How far a request may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reach {
    /// To all addresses that are not forbidden to everybody.
    Everywhere,
    /// Not to private addresses and the machine itself either.
    Public,
}

/// An address, or a name that leads only to addresses, that must not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{host} is {reason}")]
pub(super) struct ForbiddenAddress {
    host: String,
    reason: &'static str,
}

impl Reach {
    /// Refuses URLs that name an address out of reach literally.
    pub(super) fn check(self, url: &Url) -> Result<(), ForbiddenAddress> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        match self.objection_to(address) {
            Some(reason) => Err(ForbiddenAddress { host: address.to_string(), reason }),
            None => Ok(()),
        }
    }

    /// Keeps what is within reach of the addresses to which a name leads.
    fn within(self, name: &str, resolved: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ForbiddenAddress> {
        let objection = resolved.iter().find_map(|address| self.objection_to(address.ip()));
        let allowed: Vec<_> =
            resolved.into_iter().filter(|address| self.objection_to(address.ip()).is_none()).collect();
        match objection {
            Some(reason) if allowed.is_empty() => Err(ForbiddenAddress { host: name.to_owned(), reason }),
            _ => Ok(allowed),
        }
    }

    /// Why the address is out of reach, if it is.
    fn objection_to(self, address: IpAddr) -> Option<&'static str> {
        if is_forbidden(address) {
            return Some("a link-local or cloud metadata address, which is never connected to");
        }
        let out_of_reach = self == Self::Public && is_private(address);
        out_of_reach.then_some(
            "a private address, to which a registry at a public one may not send us unless token_hosts allows it",
        )
    }
}

/// Whether the address belongs to this machine, to its own network or to nobody in particular.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || a == 0
                || a >= 240
                || a == 100 && (64..128).contains(&b)
                || a == 198 && (18..20).contains(&b)
                || (a, b, c) == (192, 0, 0)
        }
        IpAddr::V6(address) => {
            let segments = address.segments();
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || segments[0] & 0xffc0 == 0xfec0
                || segments[..3] == [0x64, 0xff9b, 1]
                || embedded_v4(address).any(|address| is_private(IpAddr::V4(address)))
        }
    }
}

fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || SERVICES_V4.contains(&address),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || SERVICES_V6.contains(&address)
                || address.segments().starts_with(&AMAZON_V6)
                || embedded_v4(address).any(|address| is_forbidden(IpAddr::V4(address)))
        }
    }
}

/// The IPv4 addresses to which an IPv6 address may lead: mapped and compatible (RFC 4291), translated (RFC 6052, with the
/// well-known prefix and the local one of RFC 8215; RFC 2765), 6to4 (RFC 3056), Teredo's client and server (RFC 4380),
/// ISATAP (RFC 5214).
pub(super) fn embedded_v4(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let octets = address.octets();
    let at =
        |start: usize| Ipv4Addr::new(octets[start], octets[start + 1], octets[start + 2], octets[start + 3]);
    let last = at(12);
    let candidates = match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, ..] => [Some(last), None],
        // A prefix of 48 bits leaves octet 8 out.
        [0x64, 0xff9b, 1, ..] => {
            [Some(last), Some(Ipv4Addr::new(octets[6], octets[7], octets[9], octets[10]))]
        }
        [0x2002, ..] => [Some(at(2)), None],
        [0x2001, 0, ..] => [Some(Ipv4Addr::from(!u32::from(last))), Some(at(4))],
        _ => [address.to_ipv4(), None],
    };
    candidates.into_iter().flatten()
}

/// Finds the addresses to which a name leads, anew each time.
#[async_trait]
pub(super) trait Lookup: Debug + Send + Sync {
    /// The addresses now. Their ports do not matter.
    async fn addresses(&self, name: &str) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy)]
pub(super) struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        // Port 0 is replaced by the URL's.
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }
}

/// Leaves out the addresses that are out of reach.
#[derive(Debug, Clone)]
pub(super) struct GuardedResolver {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) reach: Reach,
    /// The host of the proxy that everything goes through, if there is one: it may be private in any case.
    pub(super) proxy: Option<Box<str>>,
}

impl GuardedResolver {
    /// The system's resolver, for connections that go through no proxy.
    #[cfg(any(test, feature = "azure"))]
    pub(super) fn directly(reach: Reach) -> Self {
        Self { lookup: Arc::new(SystemLookup), reach, proxy: None }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { lookup, reach, proxy } = self.clone();
        Box::pin(async move {
            let is_proxy = proxy.is_some_and(|proxy| proxy.eq_ignore_ascii_case(name.as_str()));
            let reach = if is_proxy { Reach::Everywhere } else { reach };
            let resolved = lookup.addresses(name.as_str()).await?;
            let allowed = reach.within(name.as_str(), resolved)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The [`ForbiddenAddress`] among the causes of an error, if that is why it happened.
pub(super) fn forbidden_address<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a ForbiddenAddress> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(forbidden) = error.downcast_ref() {
            return Some(forbidden);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_addresses_in_every_spelling() {
        for host in [
            "169.254.169.254",
            "169.254.0.1",
            "0xa9fea9fe",
            "2852039166",
            "169.254.43518",
            "100.100.100.200",
            "168.63.129.16",
            "[fe80::1]",
            "[febf:ffff::1]",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
            "[fd00:ec2:ffff::1]",
            "[fd20:ce::254]",
            "[fd00:c1::a9fe:a9fe]",
            "[fd00:42::42]",
            "[::ffff:169.254.169.254]",
            "[::a9fe:a9fe]",
            "[64:ff9b::169.254.169.254]",
            "[64:ff9b:1::169.254.169.254]",
            "[64:ff9b:1:a9fe:a9:fe00::]",
            "[::ffff:0:169.254.169.254]",
            "[2002:a9fe:a9fe::1]",
            "[2001:0:5db8:d822:0:0:5601:5601]",
            "[2001:0:a9fe:a9fe:0:0:a247:27dd]",
            "[2001:db8::5efe:169.254.169.254]",
            "[2001:db8::200:5efe:169.254.169.254]",
        ] {
            let url = Url::parse(&format!("http://{host}/latest/meta-data")).unwrap();
            assert!(Reach::Everywhere.check(&url).is_err(), "{host}");
            assert!(Reach::Public.check(&url).is_err(), "{host}");
        }
    }

    #[test]
    fn other_addresses_are_allowed() {
        for host in [
            "127.0.0.1:5000",
            "10.0.0.1",
            "[::1]",
            "[fd00::1]",
            "[fd00:ec3::254]",
            "[fd00:42::43]",
            "169.253.1.1",
            "100.100.100.201",
            "a.example",
        ] {
            let url = Url::parse(&format!("http://{host}/v2/")).unwrap();
            assert!(Reach::Everywhere.check(&url).is_ok(), "{host}");
        }
    }

    #[test]
    fn private_addresses_are_out_of_the_public_reach() {
        let is_public =
            |host: &str| Reach::Public.check(&Url::parse(&format!("https://{host}/")).unwrap()).is_ok();
        for host in [
            "127.0.0.1",
            "2130706433",
            "10.0.0.5",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "192.0.0.8",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[fd00::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[::ffff:10.0.0.5]",
            "[::127.0.0.1]",
            "[64:ff9b::10.0.0.5]",
            "[64:ff9b:1::5db8:d822]",
            "[2002:a00:5::1]",
        ] {
            assert!(!is_public(host), "{host}");
        }
        for host in [
            "93.184.216.34",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "[2606:2800:220:1::1]",
            "[64:ff9b::5db8:d822]",
            "[2002:5db8:d822::1]",
            "a.example",
        ] {
            assert!(is_public(host), "{host}");
        }
    }

    fn resolver(reach: Reach, proxy: Option<&str>) -> GuardedResolver {
        GuardedResolver { proxy: proxy.map(Into::into), ..GuardedResolver::directly(reach) }
    }

    #[tokio::test]
    async fn a_proxy_may_be_private_and_nobody_else_for_it() {
        let through = resolver(Reach::Public, Some("LocalHost"));
        assert!(through.resolve("localhost".parse().unwrap()).await.is_ok());
        let through = resolver(Reach::Public, Some("proxy.example"));
        assert!(through.resolve("localhost".parse().unwrap()).await.is_err());
    }

    #[tokio::test]
    async fn names_of_private_addresses_are_out_of_the_public_reach() {
        let resolved = async |reach: Reach| resolver(reach, None).resolve("localhost".parse().unwrap()).await;
        assert!(resolved(Reach::Everywhere).await.is_ok());
        let Err(error) = resolved(Reach::Public).await else { panic!("localhost is public") };
        assert!(error.to_string().starts_with("localhost is a private address"), "{error}");
    }

    #[test]
    fn names_lose_their_forbidden_addresses() {
        let good: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let bad: SocketAddr = "169.254.169.254:0".parse().unwrap();
        assert_eq!(Reach::Everywhere.within("x", vec![bad, good]).unwrap(), [good]);
        assert_eq!(Reach::Everywhere.within("x", vec![]).unwrap(), []);
        let error = Reach::Everywhere.within("evil.example", vec![bad]).unwrap_err();
        assert!(error.to_string().starts_with("evil.example is a link-local"), "{error}");
    }

    #[test]
    fn is_found_among_the_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Box<dyn Error + Send + Sync>);
        let forbidden = Outer(Box::new(ForbiddenAddress { host: "x".to_owned(), reason: "far" }));
        assert!(forbidden_address(&forbidden).is_some());
        assert!(forbidden_address(&Outer("other".into())).is_none());
    }
}
