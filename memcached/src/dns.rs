//! Names as the system looks them up: by `/etc/hosts` and the name servers of `/etc/resolv.conf`.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;
use tokio::time::timeout;

use crate::discovery::{LookupError, Resolver};
use crate::options::Address;

/// How long looking up one name may take, with everything that is tried for it.
const LONGEST_LOOKUP: Duration = Duration::from_secs(10);

/// Looks names up as the system does. Its configuration is read anew every time, and nothing is kept: how often names are
/// looked up is for others to say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemResolver;

impl SystemResolver {
    async fn within_limit<T>(
        lookup: impl AsyncFnOnce(TokioResolver) -> Result<T, NetError>,
    ) -> Result<T, LookupError> {
        let whole = async {
            let mut builder = TokioResolver::builder_tokio()?;
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
            lookup(builder.build()?).await
        };
        timeout(LONGEST_LOOKUP, whole)
            .await
            .map_err(|_| LookupError(format!("no answer within {LONGEST_LOOKUP:?}")))?
            .map_err(|error| LookupError(error.to_string()))
    }
}

#[async_trait]
impl Resolver for SystemResolver {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let found = Self::within_limit(async |resolver| resolver.lookup_ip(host).await).await?;
        Ok(found.iter().collect())
    }

    async fn services(&self, name: &str) -> Result<Vec<Address>, LookupError> {
        let found = Self::within_limit(async |resolver| resolver.srv_lookup(name).await).await?;
        let targets = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(service) => Some(Address {
                host: service.target.to_utf8().trim_end_matches('.').to_owned(),
                port: service.port,
            }),
            _ => None,
        });
        Ok(targets.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_local_host_needs_no_name_server() {
        let found = SystemResolver.addresses("localhost").await.unwrap();
        assert_eq!(found, [IpAddr::from([127, 0, 0, 1])]);
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_is_an_error() {
        assert!(SystemResolver.addresses("no-such-host.invalid").await.is_err());
        assert!(SystemResolver.services("_memcached._tcp.no-such-host.invalid").await.is_err());
    }
}
