//! `redis://…`, `rediss://…`, `redis-cluster://…` and `redis-sentinel://…`.

use std::fmt;

use samovar_registry::Secret;

use super::address::{server, servers, shown};
use super::options::{CommonOptions, Options, query};
use super::remote::{Form, Parts};
use crate::config::error::quoted;
use crate::percent::{decode, encode};
use crate::store::{RedisOptions, RedisTopology};

/// The port that Redis listens on unless told otherwise.
const DEFAULT_PORT: u16 = 6379;
/// The port that its sentinels listen on unless told otherwise.
const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// Reads what follows the scheme and its colon.
pub(super) fn parse(form: Form, rest: &str) -> Result<RedisOptions, String> {
    let parts = Parts::of(rest)?;
    let (username, password) = credentials(parts.userinfo)?;
    let (topology, database) = match form {
        Form::RedisCluster => {
            (RedisTopology::Cluster(servers(parts.servers, DEFAULT_PORT)?), no_database(parts.path)?)
        }
        Form::RedisSentinel => {
            let sentinels = servers(parts.servers, DEFAULT_SENTINEL_PORT)?;
            let (service, path) = parts.path.split_once('/').unwrap_or((parts.path, ""));
            (RedisTopology::Sentinel { sentinels, service: service_name(service)? }, database(path)?)
        }
        _ => {
            if parts.servers.contains(',') {
                return Err(
                    "there is one server; several make a redis-cluster:// or a redis-sentinel://".to_owned()
                );
            }
            let (host, port) = server(parts.servers, DEFAULT_PORT)?;
            (RedisTopology::Single(host, port), database(parts.path)?)
        }
    };
    let mut options = Options::parse(parts.query)?;
    let CommonOptions { prefix, connect_timeout, operation_timeout } = options.common()?;
    let tls = match form {
        // The schemes of single servers say so already.
        Form::RedisTls => true,
        Form::Redis => false,
        _ => options.truth("tls")?,
    };
    let ca = if form == Form::Redis { None } else { options.file("ca")? };
    options.finish()?;
    if ca.is_some() && !tls {
        return Err("ca: certificates mean nothing without tls=true".to_owned());
    }
    Ok(RedisOptions {
        topology,
        tls,
        ca,
        username,
        password,
        database,
        prefix,
        connect_timeout,
        operation_timeout,
    })
}

/// User and password. What is wrong with them is said without any part of them.
fn credentials(userinfo: Option<&str>) -> Result<(Option<String>, Option<Secret>), String> {
    let Some(userinfo) = userinfo else { return Ok((None, None)) };
    let (user, password) = userinfo
        .split_once(':')
        .ok_or("before the @, the password stands behind a colon, as in :PASSWORD@")?;
    let broken = "user or password has a broken percent-encoding";
    let (user, password) = (decode(user).ok_or(broken)?, decode(password).ok_or(broken)?);
    if password.is_empty() {
        return Err("the password is empty: leave out what stands before the host".to_owned());
    }
    let user = (!user.is_empty()).then(|| user.into_owned());
    Ok((user, Some(Secret::new(password.into_owned()))))
}

fn database(path: &str) -> Result<i64, String> {
    if path.is_empty() {
        return Ok(0);
    }
    let number = path.bytes().all(|byte| byte.is_ascii_digit()).then(|| path.parse::<i32>().ok()).flatten();
    number.map(i64::from).ok_or_else(|| format!("{} is not the number of a database", quoted(path)))
}

fn no_database(path: &str) -> Result<i64, String> {
    if path.is_empty() || path == "0" {
        return Ok(0);
    }
    Err("a cluster has no other database than 0".to_owned())
}

/// The name that sentinels know a primary by; they accept these characters only.
fn service_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("the name that the sentinels know the primary by is missing".to_owned());
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !text.bytes().all(allowed) {
        return Err(format!("{} is not the name of a service: letters, digits, dots, - and _", quoted(text)));
    }
    Ok(text.to_owned())
}

/// Writes the URL that [`parse`] read, with an ellipsis for the password.
pub(super) fn write(options: &RedisOptions, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let list = |servers: &[(String, u16)]| {
        let shown: Vec<String> = servers.iter().map(|(host, port)| shown(host, *port)).collect();
        shown.join(",")
    };
    let (form, servers, mut path) = match &options.topology {
        RedisTopology::Single(host, port) => {
            let form = if options.tls { Form::RedisTls } else { Form::Redis };
            (form, shown(host, *port), String::new())
        }
        RedisTopology::Cluster(nodes) => (Form::RedisCluster, list(nodes), String::new()),
        RedisTopology::Sentinel { sentinels, service } => {
            (Form::RedisSentinel, list(sentinels), format!("/{service}"))
        }
    };
    if options.database != 0 {
        path = format!("{path}/{}", options.database);
    }
    write!(f, "{}://", form.scheme())?;
    if options.password.is_some() {
        write!(f, "{}:…@", encode(options.username.as_deref().unwrap_or_default()))?;
    }
    let common = CommonOptions {
        prefix: options.prefix.clone(),
        connect_timeout: options.connect_timeout,
        operation_timeout: options.operation_timeout,
    };
    let mut written = common.written();
    if options.tls && form != Form::RedisTls {
        written.push("tls=true".to_owned());
    }
    if let Some(ca) = &options.ca {
        written.push(format!("ca={}", encode(&ca.to_string_lossy())));
    }
    write!(f, "{servers}{path}{}", query(&written))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_single_server_is_read() {
        let options =
            parse(Form::Redis, "//us%3Aer:p%40ss%2Fword@Redis.Example/5?connect_timeout=3s").unwrap();
        assert_eq!(options.topology, RedisTopology::Single("redis.example".to_owned(), 6379));
        assert_eq!(options.username.as_deref(), Some("us:er"));
        assert_eq!(options.password, Some(Secret::new("p@ss/word")));
        assert_eq!((options.database, options.tls), (5, false));
        assert_eq!(options.connect_timeout, Duration::from_secs(3));
        assert_eq!(options.operation_timeout, Duration::from_secs(1));
        let options = parse(Form::RedisTls, "//:a:b@[::1]:1/").unwrap();
        assert_eq!(options.topology, RedisTopology::Single("::1".to_owned(), 1));
        assert_eq!((options.username, options.password), (None, Some(Secret::new("a:b"))));
        assert_eq!((options.database, options.tls), (0, true));
    }

    #[test]
    fn clusters_and_sentinels_are_read() {
        let server = |host: &str, port| (host.to_owned(), port);
        let options = parse(Form::RedisCluster, "//u:p@a,b:7001?tls=true").unwrap();
        assert_eq!(options.topology, RedisTopology::Cluster(vec![server("a", 6379), server("b", 7001)]));
        assert!(options.tls);
        assert_eq!(options.username.as_deref(), Some("u"));
        let options = parse(Form::RedisSentinel, "//s1,s2:1/my-primary/4").unwrap();
        let sentinels = vec![server("s1", 26379), server("s2", 1)];
        assert_eq!(options.topology, RedisTopology::Sentinel { sentinels, service: "my-primary".to_owned() });
        assert_eq!((options.database, options.tls, options.password), (4, false, None));
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (form, rest, reason) in [
            (Form::Redis, "//", "a host is missing"),
            (Form::Redis, "//a,b", "there is one server; several make a redis-cluster:// or "),
            (Form::Redis, "//pw@h", "before the @, the password stands behind a colon"),
            (Form::Redis, "//user:@h", "the password is empty"),
            (Form::Redis, "//:p%4@h", "user or password has a broken percent-encoding"),
            (Form::Redis, "//:a@b@h", "in a user or a password, @ is written %40"),
            (Form::Redis, "//:a/b@h", "in a user or a password, / is written %2F"),
            (Form::Redis, "//h/-1", "\"-1\" is not the number of a database"),
            (Form::Redis, "//h/1/2", "\"1/2\" is not the number of a database"),
            (Form::Redis, "//h/99999999999", "\"99999999999\" is not the number of a database"),
            (
                Form::Redis,
                "//h?tls=true",
                "unknown option \"tls\"; known here: connect_timeout, prefix, timeout",
            ),
            (Form::RedisCluster, "//h/1", "a cluster has no other database than 0"),
            (
                Form::RedisCluster,
                "//h?slots=3",
                "unknown option \"slots\"; known here: ca, connect_timeout, prefix, timeout, tls",
            ),
            (Form::RedisTls, "//h?ca=/nowhere/ca.pem", "ca: cannot read \"/nowhere/ca.pem\": "),
            (Form::RedisCluster, "//h?ca=Cargo.toml", "ca: certificates mean nothing without tls=true"),
            (Form::RedisSentinel, "//h", "the name that the sentinels know the primary by is missing"),
            (Form::RedisSentinel, "//h/my%20primary", "\"my%20primary\" is not the name of a service"),
            (Form::RedisSentinel, "//h/primary/x", "\"x\" is not the number of a database"),
        ] {
            let refused = parse(form, rest).unwrap_err();
            assert!(refused.starts_with(reason), "{rest}: {refused}");
        }
    }
}
