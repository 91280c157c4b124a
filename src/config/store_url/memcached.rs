//! `memcached://…` and `memcached+srv://…`.

use std::fmt;

use samovar_memcached::{Address, Options as PoolOptions, Servers};

use super::address::{host_name, servers};
use super::options::{CommonOptions, Options, query};
use super::remote::{Form, Parts};
use crate::store::MemcachedOptions;

/// The port that memcached listens on unless told otherwise.
const DEFAULT_PORT: u16 = 11211;

/// Reads what follows the scheme and its colon.
pub(super) fn parse(form: Form, rest: &str) -> Result<MemcachedOptions, String> {
    let parts = Parts::of(rest)?;
    if parts.userinfo.is_some() {
        return Err("memcached is asked without a user or a password".to_owned());
    }
    if !parts.path.is_empty() {
        return Err("nothing stands behind the servers but options".to_owned());
    }
    let servers = if form == Form::MemcachedSrv {
        Servers::Srv(srv_name(parts.servers)?)
    } else {
        let listed = servers(parts.servers, DEFAULT_PORT)?;
        Servers::List(listed.into_iter().map(|(host, port)| Address { host, port }).collect())
    };
    let mut options = Options::parse(parts.query)?;
    let CommonOptions { prefix, connect_timeout, operation_timeout } = options.common()?;
    options.finish()?;
    let pool = PoolOptions { connect_timeout, operation_timeout, ..PoolOptions::new(servers) };
    Ok(MemcachedOptions { pool, prefix })
}

fn srv_name(text: &str) -> Result<String, String> {
    if text.contains(',') {
        return Err("there is one name only".to_owned());
    }
    if text.contains(':') {
        return Err("there is no port: the SRV records tell".to_owned());
    }
    host_name(text)
}

/// Writes the URL that [`parse`] read.
pub(super) fn write(options: &MemcachedOptions, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (form, servers) = match &options.pool.servers {
        Servers::List(addresses) => {
            let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            (Form::Memcached, shown.join(","))
        }
        Servers::Srv(name) => (Form::MemcachedSrv, name.clone()),
    };
    let common = CommonOptions {
        prefix: options.prefix.clone(),
        connect_timeout: options.pool.connect_timeout,
        operation_timeout: options.pool.operation_timeout,
    };
    write!(f, "{}://{servers}{}", form.scheme(), query(&common.written()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn servers_and_options_are_read() {
        let options = parse(Form::Memcached, "//a,b:1?prefix=x&timeout=5s").unwrap();
        let address = |host: &str, port| Address { host: host.to_owned(), port };
        assert_eq!(options.pool.servers, Servers::List(vec![address("a", 11211), address("b", 1)]));
        assert_eq!(options.prefix, "x");
        assert_eq!(options.pool.operation_timeout, Duration::from_secs(5));
        assert_eq!(options.pool.connect_timeout, Duration::from_secs(1));
        let options = parse(Form::MemcachedSrv, "//_memcached._tcp.cache.example").unwrap();
        assert_eq!(options.pool.servers, Servers::Srv("_memcached._tcp.cache.example".to_owned()));
        assert_eq!(options.prefix, "samovar|");
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (form, rest, reason) in [
            (Form::Memcached, "//", "a host is missing"),
            (Form::Memcached, "//u:p@h", "memcached is asked without a user or a password"),
            (Form::Memcached, "//h/0", "nothing stands behind the servers but options"),
            (
                Form::Memcached,
                "//h?tls=true",
                "unknown option \"tls\"; known here: connect_timeout, prefix, timeout",
            ),
            (Form::MemcachedSrv, "//a,b", "there is one name only"),
            (Form::MemcachedSrv, "//a:11211", "there is no port: the SRV records tell"),
            (Form::MemcachedSrv, "//", "a host is missing"),
        ] {
            assert_eq!(parse(form, rest).unwrap_err(), reason, "{rest}");
        }
    }
}
