//! Azure: the metadata service of virtual machines
//! (<https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>), the endpoint of App
//! Service, and the authority of Entra ID over TLS, by an authority of certificates of its own.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::secret;
use super::server::{Answering, Asked, Told};
use crate::certificates::Certificates;

const RESOURCE: &str = "https://containerregistry.azure.net";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "66666666-7777-8888-9999-000000000000";

/// Azure, as a machine or a workload sees it.
#[derive(Debug)]
pub struct FakeAzure {
    machine: Answering,
    authority: Answering,
    certificates: Certificates,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    access_token: String,
    client_secret: String,
    assertion: String,
    identity_header: String,
}

impl FakeAzure {
    /// Tokens last a day.
    pub async fn start() -> Self {
        let state = Arc::new(State {
            access_token: secret("entra"),
            client_secret: secret("client"),
            assertion: secret("assertion"),
            identity_header: secret("header"),
        });
        let certificates = Certificates::make();
        let (of_machine, of_authority) = (Arc::clone(&state), Arc::clone(&state));
        Self {
            machine: Answering::start(move |asked| of_machine.machine(asked)).await,
            authority: Answering::start_with(Some(acceptor(&certificates)), move |asked| {
                of_authority.authority(asked)
            })
            .await,
            certificates,
            state,
        }
    }

    /// For `AZURE_POD_IDENTITY_AUTHORITY_HOST`: in place of the metadata service.
    pub fn metadata_url(&self) -> String {
        self.machine.url()
    }

    /// For `IDENTITY_ENDPOINT`, with [`Self::identity_header`] in `IDENTITY_HEADER`.
    pub fn app_service_url(&self) -> String {
        format!("{}/msi/token", self.machine.url())
    }

    /// What App Service wants to be sent.
    pub fn identity_header(&self) -> &str {
        &self.state.identity_header
    }

    /// For `AZURE_AUTHORITY_HOST`.
    pub fn authority_url(&self) -> String {
        format!("https://{}/", self.authority.host())
    }

    /// Who signed the authority's certificate.
    pub fn certificate_authority(&self) -> PathBuf {
        self.certificates.authority()
    }

    /// For `AZURE_TENANT_ID`.
    pub fn tenant(&self) -> &'static str {
        TENANT
    }

    /// For `AZURE_CLIENT_ID`.
    pub fn client(&self) -> &'static str {
        CLIENT
    }

    /// For `AZURE_CLIENT_SECRET`.
    pub fn client_secret(&self) -> &str {
        &self.state.client_secret
    }

    /// What a workload finds in `AZURE_FEDERATED_TOKEN_FILE`.
    pub fn assertion(&self) -> &str {
        &self.state.assertion
    }

    /// What registries take in exchange.
    pub fn access_token(&self) -> &str {
        &self.state.access_token
    }

    /// All that must not be seen outside.
    pub fn secrets(&self) -> Vec<String> {
        let State { access_token, client_secret, assertion, identity_header } = &*self.state;
        [access_token, client_secret, assertion, identity_header].map(Clone::clone).to_vec()
    }

    /// Everything that the machine's services and the authority were asked.
    pub fn asked(&self) -> Vec<Asked> {
        [self.machine.asked(), self.authority.asked()].concat()
    }
}

fn acceptor(certificates: &Certificates) -> TlsAcceptor {
    let chain =
        CertificateDer::pem_file_iter(certificates.file("server.pem")).expect("the certificate was made");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("the certificate is PEM");
    let key = PrivateKeyDer::from_pem_file(certificates.file("server.key")).expect("the key was made");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    TlsAcceptor::from(Arc::new(config.expect("the key belongs to the certificate")))
}

impl State {
    fn machine(&self, asked: &Asked) -> Told {
        let is_right = asked.parameter("resource") == RESOURCE
            && asked.header("metadata") == "true"
            && match asked.path.as_str() {
                "/metadata/identity/oauth2/token" => ["", CLIENT].contains(&asked.parameter("client_id")),
                "/msi/token" => asked.header("x-identity-header") == self.identity_header,
                _ => return Told::not_found(),
            };
        if !is_right {
            let body = json!({ "error": "invalid_request", "error_description": "no such identity" });
            return Told::refused(400, &body);
        }
        let expires_on = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs() + 86_400;
        Told::json(&json!({
            "access_token": self.access_token,
            "expires_on": expires_on.to_string(),
            "resource": RESOURCE,
            "token_type": "Bearer",
        }))
    }

    fn authority(&self, asked: &Asked) -> Told {
        let is_right = asked.path == format!("/{TENANT}/oauth2/v2.0/token")
            && asked.field("client_id") == CLIENT
            && asked.field("grant_type") == "client_credentials"
            && asked.field("scope") == format!("{RESOURCE}/.default")
            && (asked.field("client_secret") == self.client_secret
                || asked.field("client_assertion") == self.assertion);
        if !is_right {
            let description = "AADSTS7000215: Invalid client secret provided.";
            let body = json!({ "error": "invalid_client", "error_description": description, "error_codes": [7_000_215] });
            return Told::refused(401, &body);
        }
        Told::json(
            &json!({ "access_token": self.access_token, "expires_in": 86_399, "token_type": "Bearer" }),
        )
    }
}
