//! The hosts of registries, in one canonical form each.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::parse::{Fault, ParseError, refuse_scheme};

/// Docker Hub's host in canonical names.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// Hosts under which Docker Hub's repositories were or are also known.
pub(crate) const DOCKER_HUB_OLD_HOSTS: [&str; 3] =
    ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

const HTTPS_PORT: u16 = 443;

/// Longest host name, in bytes (RFC 1035, section 2.3.4, in the usual text form).
const MAX_HOST_LENGTH: usize = 253;

/// Longest part of a host name between its dots, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL_LENGTH: usize = 63;

/// Brings a registry host into the form in which [`Name::host`](crate::Name::host) gives it: lower case, IPv6 in
/// brackets by RFC 5952, `:443` dropped where the rest still reads as a host, Docker Hub always `docker.io`.
pub fn canonical_host(text: &str) -> Result<String, ParseError> {
    canonical(text).map_err(|fault| fault.in_input("registry host", text))
}

/// All names of a registry, of which the canonical one is given and comes first.
pub fn host_spellings(canonical: &str) -> impl Iterator<Item = &str> {
    let old_hosts: &[&str] = if canonical == DOCKER_HUB { &DOCKER_HUB_OLD_HOSTS } else { &[] };
    std::iter::once(canonical).chain(old_hosts.iter().copied())
}

/// Whether the first component of a name reads as a host rather than as a Docker Hub organisation.
pub(super) fn is_recognisable(component: &str) -> bool {
    component.contains(['.', ':', '[']) || component.eq_ignore_ascii_case("localhost")
}

pub(super) fn canonical(text: &str) -> Result<String, Fault> {
    refuse_scheme(text)?;
    let (address, port) = if text.starts_with('[') { split_ipv6(text)? } else { split_host_name(text)? };
    if DOCKER_HUB_OLD_HOSTS.contains(&address.as_str()) && port.is_none_or(|port| port == HTTPS_PORT) {
        return Ok(DOCKER_HUB.to_owned());
    }
    match port {
        None | Some(HTTPS_PORT) if is_recognisable(&address) => Ok(address),
        // Without its port such a host would read as a Docker Hub organisation in the canonical name.
        None => Err(Fault::new(text.len(), "a host without a dot must be written with its port")),
        Some(port) => Ok(format!("{address}:{port}")),
    }
}

fn split_ipv6(text: &str) -> Result<(String, Option<u16>), Fault> {
    let Some(closing) = text.find(']') else {
        return Err(Fault::new(0, "the bracket of an IPv6 address is not closed"));
    };
    let Ok(address) = text[1..closing].parse::<Ipv6Addr>() else {
        return Err(Fault::new(1, "there must be an IPv6 address in the brackets"));
    };
    let port = match &text[closing + 1..] {
        "" => None,
        rest => match rest.strip_prefix(':') {
            Some(port) => Some(parse_port(port, closing + 2)?),
            None => return Err(Fault::new(closing + 1, "only a port may follow an IPv6 address")),
        },
    };
    Ok((format!("[{address}]"), port))
}

fn split_host_name(text: &str) -> Result<(String, Option<u16>), Fault> {
    if text.matches(':').count() > 1 {
        return Err(Fault::new(0, "a host has at most one colon; an IPv6 address is written in brackets"));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(parse_port(port, name.len() + 1)?)),
        None => (text, None),
    };
    check_host_name(name)?;
    Ok((name.to_ascii_lowercase(), port))
}

fn parse_port(text: &str, start: usize) -> Result<u16, Fault> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if is_number && port > 0 => Ok(port),
        _ => Err(Fault::new(start, "the port must be a number from 1 to 65535")),
    }
}

fn check_host_name(name: &str) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::new(0, "the host is empty"));
    }
    if name.len() > MAX_HOST_LENGTH {
        return Err(Fault::new(MAX_HOST_LENGTH, "a host must not be longer than 253 bytes"));
    }
    let mut start = 0;
    for label in name.split('.') {
        check_label(label).map_err(|fault| fault.shifted(start))?;
        start += label.len() + 1;
    }
    // URL parsers read a host that ends in a number as an IPv4 address, odd forms such as `127.1` and `0x7f.1`
    // included: one address would then have many names.
    let last_label = name.rsplit('.').next().unwrap_or(name);
    if is_number(last_label) && name.parse::<Ipv4Addr>().is_err() {
        return Err(Fault::new(0, "a host that ends in a number must be an IPv4 address"));
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), Fault> {
    if label.is_empty() {
        return Err(Fault::new(0, "a host must not have an empty part"));
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if let Some(offset) = label.bytes().position(|byte| !is_allowed(byte)) {
        return Err(Fault::new(offset, "a host may hold only letters, digits, '-' and '.'"));
    }
    if label.starts_with('-') || label.ends_with('-') {
        let offset = if label.starts_with('-') { 0 } else { label.len() - 1 };
        return Err(Fault::new(offset, "the parts of a host begin and end with a letter or a digit"));
    }
    if label.len() > MAX_LABEL_LENGTH {
        return Err(Fault::new(MAX_LABEL_LENGTH, "a part of a host must not be longer than 63 bytes"));
    }
    Ok(())
}

fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}
