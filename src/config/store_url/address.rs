//! Hosts and ports of stores.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::error::quoted;

/// Servers that one URL may list.
const MOST_SERVERS: usize = 256;
/// Bytes of a host name (RFC 1035, section 2.3.4).
const MAX_HOST_LENGTH: usize = 253;
/// Bytes of a part of it.
const MAX_LABEL_LENGTH: usize = 63;

/// All servers of a list that is separated by commas, as host and port, each once.
pub(super) fn servers(text: &str, default_port: u16) -> Result<Vec<(String, u16)>, String> {
    let mut servers = Vec::new();
    for item in text.split(',') {
        let server = server(item, default_port)?;
        if servers.contains(&server) {
            return Err(format!("the server {} is given twice", quoted(item)));
        }
        if servers.len() == MOST_SERVERS {
            return Err(format!("there are more than {MOST_SERVERS} servers"));
        }
        servers.push(server);
    }
    Ok(servers)
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; the host in lower case, without brackets.
pub(super) fn server(text: &str, default_port: u16) -> Result<(String, u16), String> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, behind) =
            bracketed.split_once(']').ok_or_else(|| format!("{} lacks a ]", quoted(text)))?;
        let address: Ipv6Addr =
            host.parse().map_err(|_| format!("{} is not an IPv6 address", quoted(host)))?;
        return Ok((address.to_string(), port(behind, default_port)?));
    }
    let (host, behind) = text.split_at(text.find(':').unwrap_or(text.len()));
    if behind.matches(':').count() > 1 {
        return Err(format!("{}: an IPv6 address stands in brackets", quoted(text)));
    }
    Ok((host_name(host)?, port(behind, default_port)?))
}

/// `:port`, or nothing.
fn port(text: &str, default_port: u16) -> Result<u16, String> {
    let Some(port) = text.strip_prefix(':') else {
        return if text.is_empty() {
            Ok(default_port)
        } else {
            Err(format!("{} where a port is expected", quoted(text)))
        };
    };
    let number: Option<u16> =
        port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten();
    number
        .filter(|&number| number > 0)
        .ok_or_else(|| format!("{} is not a port: a whole number from 1 to 65535", quoted(port)))
}

/// A host name or an IPv4 address. Underscores are allowed: service discovery has them.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a host is missing".to_owned());
    }
    let not_a_host = || format!("{} is not a host name or an IP address", quoted(text));
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return text.parse::<Ipv4Addr>().map(|address| address.to_string()).map_err(|_| not_a_host());
    }
    // A dot at the end says that the name is complete, and no search domain is to be tried.
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=MAX_LABEL_LENGTH).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > MAX_HOST_LENGTH || !name.split('.').all(is_label) {
        return Err(not_a_host());
    }
    Ok(text.to_ascii_lowercase())
}

/// A host with its port, an IPv6 address in brackets.
pub(super) fn shown(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_lists_are_read() {
        for (text, expected) in [
            ("h", vec![("h", 7)]),
            ("Cache.Example.:1,10.0.0.1", vec![("cache.example.", 1), ("10.0.0.1", 7)]),
            ("[::1],[2001:DB8:0::1]:65535", vec![("::1", 7), ("2001:db8::1", 65535)]),
            ("my_cache-0.my_cache", vec![("my_cache-0.my_cache", 7)]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(host, port)| (host.to_owned(), port)).collect();
            assert_eq!(servers(text, 7), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "a host is missing"),
            ("a,", "a host is missing"),
            (":1", "a host is missing"),
            ("a:", "\"\" is not a port: a whole number from 1 to 65535"),
            ("a:0", "\"0\" is not a port"),
            ("a:65536", "\"65536\" is not a port"),
            ("a:+1", "\"+1\" is not a port"),
            ("::1", "\"::1\": an IPv6 address stands in brackets"),
            ("[::1", "\"[::1\" lacks a ]"),
            ("[h]:1", "\"h\" is not an IPv6 address"),
            ("[::1]1", "\"1\" where a port is expected"),
            ("300.1.1.1", "\"300.1.1.1\" is not a host name or an IP address"),
            ("-a", "\"-a\" is not a host name"),
            ("a..b", "\"a..b\" is not a host name"),
            ("a b", "\"a b\" is not a host name"),
            ("ä", "\"ä\" is not a host name"),
            ("a,b,A", "the server \"A\" is given twice"),
        ] {
            let refused = servers(text, 7).unwrap_err();
            assert!(refused.starts_with(reason), "{text}: {refused}");
        }
        assert!(host_name(&"x".repeat(64)).is_err());
        assert!(host_name(&"x.".repeat(127)).is_ok(), "253 bytes and the last dot");
        assert!(host_name(&"x.".repeat(128)).is_err());
        let many: Vec<String> = (0..=MOST_SERVERS).map(|number| format!("h{number}")).collect();
        assert_eq!(servers(&many.join(","), 7).unwrap_err(), "there are more than 256 servers");
    }
}
