//! Addresses that are never connected to, whoever names them: link-local ones and those of cloud metadata
//! services, which hand out the machine's own credentials.
//!
//! Checked twice: addresses written in a URL before the request is sent, and names when they are resolved, by
//! the resolver that the HTTP client connects with. Behind a proxy the proxy resolves names, and only the
//! first check remains.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Metadata and platform services outside the link-local ranges: Alibaba Cloud's, Oracle Cloud's old one, Azure's.
const SERVICES_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// Metadata services over IPv6: Amazon's and Google's.
const SERVICES_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
];

/// An address, or a name that leads only to addresses, that is never connected to.
#[derive(Debug, thiserror::Error)]
#[error("{host} is a link-local or cloud metadata address, which is never connected to")]
pub(super) struct ForbiddenAddress {
    host: String,
}

/// Refuses URLs that name a forbidden address literally.
pub(super) fn check(url: &Url) -> Result<(), ForbiddenAddress> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    if is_forbidden(address) {
        return Err(ForbiddenAddress { host: address.to_string() });
    }
    Ok(())
}

fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || SERVICES_V4.contains(&address),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || SERVICES_V6.contains(&address)
                || embedded_v4(address).is_some_and(|address| is_forbidden(IpAddr::V4(address)))
        }
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible (RFC 4291) or translated (RFC 6052).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let translated = address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    if translated {
        let [.., a, b, c, d] = address.octets();
        return Some(Ipv4Addr::new(a, b, c, d));
    }
    address.to_ipv4()
}

/// The system's resolver, without the forbidden addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // Port 0 is replaced by the URL's.
            let resolved: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = without_forbidden(name.as_str(), resolved)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn without_forbidden(name: &str, resolved: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ForbiddenAddress> {
    let found_some = !resolved.is_empty();
    let allowed: Vec<_> = resolved.into_iter().filter(|address| !is_forbidden(address.ip())).collect();
    if found_some && allowed.is_empty() {
        return Err(ForbiddenAddress { host: name.to_owned() });
    }
    Ok(allowed)
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
            "[fd20:ce::254]",
            "[::ffff:169.254.169.254]",
            "[::a9fe:a9fe]",
            "[64:ff9b::169.254.169.254]",
        ] {
            let url = Url::parse(&format!("http://{host}/latest/meta-data")).unwrap();
            assert!(check(&url).is_err(), "{host}");
        }
    }

    #[test]
    fn other_addresses_are_allowed() {
        for host in [
            "127.0.0.1:5000",
            "10.0.0.1",
            "[::1]",
            "[fd00::1]",
            "169.253.1.1",
            "100.100.100.201",
            "a.example",
        ] {
            let url = Url::parse(&format!("http://{host}/v2/")).unwrap();
            assert!(check(&url).is_ok(), "{host}");
        }
    }

    #[test]
    fn names_lose_their_forbidden_addresses() {
        let good: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let bad: SocketAddr = "169.254.169.254:0".parse().unwrap();
        assert_eq!(without_forbidden("x", vec![bad, good]).unwrap(), [good]);
        assert_eq!(without_forbidden("x", vec![]).unwrap(), []);
        let error = without_forbidden("evil.example", vec![bad]).unwrap_err();
        assert!(error.to_string().starts_with("evil.example is a link-local"), "{error}");
    }

    #[test]
    fn is_found_among_the_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Box<dyn Error + Send + Sync>);
        let forbidden = Outer(Box::new(ForbiddenAddress { host: "x".to_owned() }));
        assert!(forbidden_address(&forbidden).is_some());
        assert!(forbidden_address(&Outer("other".into())).is_none());
    }
}
