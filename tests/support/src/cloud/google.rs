//! Google: the metadata server (<https://cloud.google.com/compute/docs/metadata/overview>), the exchange of tokens for workload
//! identity federation (<https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>), impersonation, and the token
//! endpoint of service accounts, all on one port.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::secret;
use super::server::{Answering, Asked, Told};
use crate::server::find_program;

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Google, as a machine or a workload sees it.
#[derive(Debug)]
pub struct FakeGoogle {
    server: Answering,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    access_token: String,
    federated_token: String,
    subject_token: String,
    refresh_token: String,
    key: ServiceAccountKey,
}

/// The key of a service account, made for one test.
#[derive(Debug)]
pub struct ServiceAccountKey {
    directory: TempDir,
}

impl ServiceAccountKey {
    fn make() -> Self {
        let key =
            Self { directory: TempDir::with_prefix("key-").expect("a temporary directory can be made") };
        let run = |arguments: &[&str]| assert!(key.openssl(arguments), "openssl {arguments:?}");
        run(&[
            "genpkey",
            "-quiet",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
            "private.pem",
        ]);
        run(&["pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"]);
        key
    }

    fn openssl(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new(find_program("openssl", "openssl"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).status().expect("`openssl` can be run").success()
    }

    /// The private key in PEM.
    pub fn private_pem(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("private.pem")).expect("the key was made")
    }

    /// Whether the assertion is signed by this key, which OpenSSL judges.
    fn has_signed(&self, assertion: &str) -> bool {
        let Some((content, signature)) = assertion.rsplit_once('.') else { return false };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(self.directory.path().join(name), bytes).is_ok();
        write("content", content.as_bytes())
            && write("signature", &signature)
            && self.openssl(&[
                "dgst",
                "-sha256",
                "-verify",
                "public.pem",
                "-signature",
                "signature",
                "content",
            ])
    }
}

impl FakeGoogle {
    /// Tokens last an hour.
    pub async fn start() -> Self {
        let state = Arc::new(State {
            access_token: secret("ya29."),
            federated_token: secret("federated"),
            subject_token: secret("subject"),
            refresh_token: secret("refresh"),
            key: ServiceAccountKey::make(),
        });
        let answering = Arc::clone(&state);
        Self { server: Answering::start(move |asked| answering.answer(asked)).await, state }
    }

    /// For `GCE_METADATA_HOST`.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// The password that registries accept of the user `oauth2accesstoken`.
    pub fn access_token(&self) -> &str {
        &self.state.access_token
    }

    /// All that must not be seen outside.
    pub fn secrets(&self) -> Vec<String> {
        let State { access_token, federated_token, subject_token, refresh_token, key } = &*self.state;
        let private = key.private_pem().lines().nth(1).expect("a key has lines").to_owned();
        [access_token, federated_token, subject_token, refresh_token]
            .into_iter()
            .cloned()
            .chain([private])
            .collect()
    }

    /// Everything that was asked.
    pub fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }

    /// How often a token was given, of any kind.
    pub fn tokens_given(&self) -> usize {
        let gives =
            |asked: &&Asked| asked.path.ends_with("/token") || asked.path.ends_with(":generateAccessToken");
        self.asked().iter().filter(gives).count()
    }

    /// The file of a service account.
    pub fn service_account_file(&self, directory: &Path) -> PathBuf {
        write(
            directory,
            "service-account.json",
            &json!({
                "type": "service_account",
                "project_id": "a-project",
                "private_key_id": "key-1",
                "private_key": self.state.key.private_pem(),
                "client_email": "reader@a-project.iam.gserviceaccount.com",
                "token_uri": format!("{}/oauth/token", self.server.url()),
            }),
        )
    }

    /// The file of a workload whose own token is in another file; its federated token is used as it is.
    pub fn federation_by_file(&self, directory: &Path) -> PathBuf {
        let subject = directory.join("subject-token");
        std::fs::write(&subject, &self.state.subject_token).expect("a file can be written");
        self.federation(directory, &json!({ "file": subject }), None)
    }

    /// The file of a workload that asks an address for its own token, and acts as a service account.
    pub fn federation_by_url(&self, directory: &Path) -> PathBuf {
        let source = json!({
            "url": format!("{}/subject", self.server.url()),
            "headers": { "X-Own": "yes" },
            "format": { "type": "json", "subject_token_field_name": "value" },
        });
        let account = format!("{}/v1/reader:generateAccessToken", self.server.url());
        self.federation(directory, &source, Some(&account))
    }

    fn federation(&self, directory: &Path, source: &Value, account: Option<&str>) -> PathBuf {
        let mut document = json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/p",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{}/sts/token", self.server.url()),
            "credential_source": source,
        });
        if let Some(account) = account {
            document["service_account_impersonation_url"] = account.into();
        }
        write(directory, "federation.json", &document)
    }
}

fn write(directory: &Path, name: &str, document: &Value) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, document.to_string()).expect("a file can be written");
    path
}

impl State {
    fn answer(&self, asked: &Asked) -> Told {
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", path) if path.starts_with("/computeMetadata/") => self.metadata(asked),
            ("GET", "/subject") if asked.header("x-own") == "yes" => {
                Told::json(&json!({ "value": self.subject_token }))
            }
            ("POST", "/sts/token") => self.exchange(asked),
            ("POST", "/v1/reader:generateAccessToken") => self.impersonate(asked),
            ("POST", "/oauth/token") => self.service_account(asked),
            _ => Told::not_found(),
        }
    }

    fn metadata(&self, asked: &Asked) -> Told {
        if asked.header("metadata-flavor") != "Google" {
            return Told::refused(403, &json!({ "error": "not without Metadata-Flavor" }));
        }
        if asked.path.ends_with("/service-accounts/default/token") {
            return token(&self.access_token);
        }
        Told::not_found()
    }

    fn exchange(&self, asked: &Asked) -> Told {
        let is_right = asked.field("grant_type") == TOKEN_EXCHANGE
            && asked.field("subject_token") == self.subject_token
            && asked.field("audience").contains("workloadIdentityPools");
        if !is_right {
            return Told::refused(
                400,
                &json!({ "error": "invalid_grant", "error_description": "not your token" }),
            );
        }
        // With a service account to act as, the federated token is good for asking as it only.
        let is_for_iam = !asked.field("scope").contains(CLOUD_PLATFORM);
        let token = if is_for_iam { &self.federated_token } else { &self.access_token };
        Told::json(&json!({
            "access_token": token,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3_600,
        }))
    }

    fn impersonate(&self, asked: &Asked) -> Told {
        let bearer = asked.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        let is_right = [&self.federated_token, &self.access_token].contains(&&bearer.to_owned())
            && asked.body.contains(CLOUD_PLATFORM);
        if !is_right {
            return Told::refused(
                403,
                &json!({ "error": { "code": 403, "message": "not as this account" } }),
            );
        }
        Told::json(&json!({ "accessToken": self.access_token, "expireTime": "2199-01-01T00:00:00Z" }))
    }

    fn service_account(&self, asked: &Asked) -> Told {
        let assertion = asked.field("assertion");
        let part = |number: usize| -> Value {
            let part = assertion.split('.').nth(number).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
            part.and_then(|part| serde_json::from_slice(&part).ok()).unwrap_or_default()
        };
        let (header, claims) = (part(0), part(1));
        let seconds = |name: &str| claims[name].as_i64().unwrap_or_default();
        let is_right = asked.field("grant_type") == JWT_BEARER
            && header["alg"] == "RS256"
            && header["kid"] == "key-1"
            && claims["iss"] == "reader@a-project.iam.gserviceaccount.com"
            && claims["scope"] == CLOUD_PLATFORM
            && claims["aud"] == format!("http://{}/oauth/token", asked.header("host"))
            && (1..=3_600).contains(&(seconds("exp") - seconds("iat")))
            && self.key.has_signed(&assertion);
        if !is_right {
            let body = json!({ "error": "invalid_grant", "error_description": "Invalid JWT Signature." });
            return Told::refused(400, &body);
        }
        token(&self.access_token)
    }
}

fn token(token: &str) -> Told {
    Told::json(&json!({ "access_token": token, "expires_in": 3_599, "token_type": "Bearer" }))
}
