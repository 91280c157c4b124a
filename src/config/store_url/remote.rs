//! What the URLs of stores on other machines have in common: how they are taken apart.
//!
//! A URL with several servers is none by RFC 3986, so it is taken apart here: `//[userinfo@]servers[/path][?query]`.

/// The kinds of URLs for stores on other machines, by their schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Memcached,
    MemcachedSrv,
    Redis,
    RedisTls,
    RedisCluster,
    RedisSentinel,
}

impl Form {
    const ALL: [Self; 6] = [
        Self::Memcached,
        Self::MemcachedSrv,
        Self::Redis,
        Self::RedisTls,
        Self::RedisCluster,
        Self::RedisSentinel,
    ];

    /// The form that begins with `scheme`.
    pub(super) fn of_scheme(scheme: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.scheme() == scheme)
    }

    /// What stands before the colon.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::Memcached => "memcached",
            Self::MemcachedSrv => "memcached+srv",
            Self::Redis => "redis",
            Self::RedisTls => "rediss",
            Self::RedisCluster => "redis-cluster",
            Self::RedisSentinel => "redis-sentinel",
        }
    }

    /// How such a URL is written, for whoever wrote another one.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Memcached => "memcached://HOST[:11211][,HOST…][?OPTION=VALUE&…]",
            Self::MemcachedSrv => "memcached+srv://NAME[?OPTION=VALUE&…], NAME having SRV records",
            Self::Redis => "redis://[[USER]:PASSWORD@]HOST[:6379][/DATABASE][?OPTION=VALUE&…]",
            Self::RedisTls => "rediss://[[USER]:PASSWORD@]HOST[:6379][/DATABASE][?OPTION=VALUE&…]",
            Self::RedisCluster => "redis-cluster://[[USER]:PASSWORD@]HOST[:6379][,HOST…][?OPTION=VALUE&…]",
            Self::RedisSentinel => {
                "redis-sentinel://[[USER]:PASSWORD@]HOST[:26379][,HOST…]/SERVICE[/DATABASE][?OPTION=VALUE&…]"
            }
        }
    }
}

/// A URL taken apart at its delimiters; nothing is decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// Before the `@`.
    pub(super) userinfo: Option<&'a str>,
    /// Hosts and ports.
    pub(super) servers: &'a str,
    /// Behind the first slash; empty where there is none.
    pub(super) path: &'a str,
    /// Behind the question mark; empty where there is none.
    pub(super) query: &'a str,
}

impl<'a> Parts<'a> {
    /// Takes apart what follows the scheme and its colon. Where a password may have been taken for something else,
    /// the URL is refused here, before any part of it is shown.
    pub(super) fn of(rest: &'a str) -> Result<Self, String> {
        let rest = rest.strip_prefix("//").ok_or("// must follow the colon")?;
        let (authority, behind) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if behind.contains('@') {
            return Err(
                "in a user or a password, / is written %2F and ? is written %3F; in an option, @ is \
                        written %40"
                    .to_owned(),
            );
        }
        if rest.contains('#') {
            return Err("# is written %23".to_owned());
        }
        let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
        let (userinfo, servers) = match authority.rsplit_once('@') {
            Some((userinfo, servers)) => (Some(userinfo), servers),
            None => (None, authority),
        };
        if userinfo.is_some_and(|userinfo| userinfo.contains('@')) {
            return Err("in a user or a password, @ is written %40".to_owned());
        }
        Ok(Self { userinfo, servers, path: path.strip_prefix('/').unwrap_or(path), query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_at_its_delimiters() {
        let parts = Parts::of("//u:p@a:1,b:2/x/y?k=v&l=w").unwrap();
        let expected = Parts { userinfo: Some("u:p"), servers: "a:1,b:2", path: "x/y", query: "k=v&l=w" };
        assert_eq!(parts, expected);
        assert_eq!(Parts::of("//h?k=a/b").unwrap(), Parts { query: "k=a/b", ..Parts::of("//h").unwrap() });
        assert_eq!(Parts::of("//h/").unwrap(), Parts::of("//h").unwrap());
    }

    #[test]
    fn every_scheme_begins_its_own_form() {
        for form in Form::ALL {
            assert!(form.shown().starts_with(&format!("{}://", form.scheme())), "{form:?}");
            assert_eq!(Form::of_scheme(form.scheme()), Some(form));
        }
    }
}
