//! Azure: a token of the machine's or workload's identity, given to the registry in exchange for a refresh token of its own
//! (<https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>), which lasts about three hours.
//!
//! The identity is the first that the environment describes: a service principal (`AZURE_TENANT_ID`, `AZURE_CLIENT_ID`,
//! `AZURE_CLIENT_SECRET`), a workload (`AZURE_FEDERATED_TOKEN_FILE` with the first two), else the managed identity of the machine
//! (`AZURE_CLIENT_ID` chooses among several). Azure's library gets its token; `AZURE_AUTHORITY_HOST` and, for managed
//! identities, `IDENTITY_ENDPOINT` or `AZURE_POD_IDENTITY_AUTHORITY_HOST` replace the endpoints.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret as AzureSecret, TokenCredential};
use azure_core::http::{ClientOptions, Transport};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use reqwest::Client;
use serde::Deserialize;
use url::Url;

use self::client::BoundedClient;
use super::failure::shown;
use super::keeper::{Grant, Login, NoGrant};
use super::{CloudOptions, Environment, token_endpoint};
use crate::credentials::Credentials;
use crate::upstream::guarded;
use crate::{Clock, Secret, json};

mod client;

/// What the identity's token is for: registries, and nothing else of what the identity may do.
const SCOPE: &str = "https://containerregistry.azure.net/.default";

/// How long a refresh token is taken to last where it does not say; it usually does, and lasts three hours.
const USUAL_LIFETIME: Duration = Duration::from_hours(1);

/// Logs in to one registry.
#[derive(Debug)]
pub(super) struct AcrLogin {
    registry: String,
    is_insecure: bool,
    user_agent: String,
    environment: Environment,
    clock: Arc<dyn Clock>,
}

/// What the registry gives.
#[derive(Deserialize)]
struct Exchanged {
    refresh_token: String,
}

/// What is read of the refresh token.
#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

impl AcrLogin {
    pub(super) fn new(registry: &str, options: &CloudOptions, clock: Arc<dyn Clock>) -> Self {
        Self {
            registry: registry.to_owned(),
            is_insecure: options.insecure_hosts.contains(registry),
            user_agent: options.user_agent.clone(),
            environment: options.environment.clone(),
            clock,
        }
    }

    /// The client for the registry. It checks names and certificates as the client for images does.
    fn registry_client(&self) -> Result<Client, String> {
        let client = guarded(token_endpoint::client(&self.user_agent));
        let client =
            if self.is_insecure { client.tls_danger_accept_invalid_certs(true).no_proxy() } else { client };
        client.build().map_err(|error| shown(&error))
    }

    fn exchange_url(&self) -> Result<Url, String> {
        let scheme = if self.is_insecure { "http" } else { "https" };
        let url = Url::parse(&format!("{scheme}://{}/oauth2/exchange", self.registry));
        url.map_err(|_| "the registry's host makes no URL".to_owned())
    }
}

#[async_trait]
impl Login for AcrLogin {
    async fn log_in(&self) -> Result<Grant, NoGrant> {
        let identity = Identity::of(&self.environment);
        let source = identity.source();
        // Where nothing describes one, machines that are not Azure's have none.
        let is_none = matches!(identity, Identity::Managed { client: None });
        let credential = identity.credential(&self.registry, &self.environment, &self.user_agent);
        let credential = credential.map_err(|error| format!("{source}: {}", shown(&error)))?;
        let token = credential.get_token(&[SCOPE], None).await;
        let token = token.map_err(|error| {
            let message = format!("{source}: {}", shown(&error));
            NoGrant { message, is_none }
        })?;

        let tenant = self.environment.variable("AZURE_TENANT_ID");
        let mut form = vec![("grant_type", "access_token"), ("service", &self.registry)];
        if let Some(tenant) = &tenant {
            form.push(("tenant", tenant));
        }
        form.push(("access_token", token.token.secret()));
        let exchanged: Exchanged =
            token_endpoint::post(&self.registry_client()?, self.exchange_url()?, &form).await?;
        if exchanged.refresh_token.is_empty() {
            return Err("the registry gave no token".into());
        }
        Ok(Grant {
            lifetime: lifetime(&exchanged.refresh_token, self.clock.now()),
            credentials: Credentials::IdentityToken {
                token: Secret::new(exchanged.refresh_token),
                provenance: format!("Azure ({source})").into(),
            },
        })
    }
}

/// How much is left of a token that says its end. Its signature is the registry's affair.
fn lifetime(token: &str, now: Timestamp) -> Duration {
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    let claims = payload.and_then(|payload| json::object::<Claims>(&payload).ok());
    let end = claims.and_then(|claims| Timestamp::from_second(claims.exp).ok());
    end.map_or(USUAL_LIFETIME, |end| Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

/// Who we are.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    ServicePrincipal { tenant: String, client: String, secret: Secret },
    Workload { tenant: String, client: String, token_file: String },
    Managed { client: Option<String> },
}

impl Identity {
    /// The first that the environment describes.
    fn of(environment: &Environment) -> Self {
        let tenant = environment.variable("AZURE_TENANT_ID");
        let client = environment.variable("AZURE_CLIENT_ID");
        let secret = environment.variable("AZURE_CLIENT_SECRET").map(Secret::new);
        let token_file = environment.variable("AZURE_FEDERATED_TOKEN_FILE");
        match (tenant, client, secret, token_file) {
            (Some(tenant), Some(client), Some(secret), _) => {
                Self::ServicePrincipal { tenant, client, secret }
            }
            (Some(tenant), Some(client), None, Some(token_file)) => {
                Self::Workload { tenant, client, token_file }
            }
            (_, client, _, _) => Self::Managed { client },
        }
    }

    fn source(&self) -> &'static str {
        match self {
            Self::ServicePrincipal { .. } => "service principal",
            Self::Workload { .. } => "workload identity",
            Self::Managed { .. } => "managed identity",
        }
    }

    /// The library's way to its token.
    fn credential(
        self,
        registry: &str,
        environment: &Environment,
        user_agent: &str,
    ) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let transport = BoundedClient::new(user_agent, environment)?;
        let client_options = ClientOptions {
            transport: Some(Transport::new(Arc::new(transport))),
            cloud: Some(Arc::new(cloud(registry, environment))),
            ..ClientOptions::default()
        };
        Ok(match self {
            Self::ServicePrincipal { tenant, client, secret } => ClientSecretCredential::new(
                &tenant,
                client,
                AzureSecret::new(secret.reveal().to_owned()),
                Some(ClientSecretCredentialOptions { client_options }),
            )?,
            Self::Workload { tenant, client, token_file } => {
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options },
                    tenant_id: Some(tenant),
                    client_id: Some(client),
                    token_file_path: Some(token_file.into()),
                }))?
            }
            Self::Managed { client } => {
                let user_assigned_id = client.map(UserAssignedId::ClientId);
                let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
                ManagedIdentityCredential::new(Some(options))?
            }
        })
    }
}

/// Where the authority of identities stands: as the environment says, else in the registry's part of the world.
fn cloud(registry: &str, environment: &Environment) -> CloudConfiguration {
    if let Some(authority_host) = environment.variable("AZURE_AUTHORITY_HOST") {
        let mut custom = CustomConfiguration::default();
        custom.authority_host = authority_host;
        return custom.into();
    }
    match registry.rsplit_once('.') {
        Some((_, "cn")) => CloudConfiguration::AzureChina,
        Some((_, "us")) => CloudConfiguration::AzureGovernment,
        _ => CloudConfiguration::AzurePublic,
    }
}

#[cfg(test)]
mod tests;
