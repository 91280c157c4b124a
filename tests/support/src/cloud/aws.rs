//! Amazon: instance metadata (version 2, <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>),
//! container credentials (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>), the token service's
//! `AssumeRoleWithWebIdentity` and the container registry's `GetAuthorizationToken`, all on one port.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::secret;
use super::server::{Answering, Asked, Told};

const ROLE: &str = "samovar-reader";

/// Amazon, as a machine sees it.
#[derive(Debug)]
pub struct FakeAws {
    server: Answering,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    metadata_token: String,
    container_token: String,
    web_identity_token: String,
    secret_key: String,
    session_token: String,
    password: String,
}

impl FakeAws {
    /// Registry tokens last twelve hours.
    pub async fn start() -> Self {
        let state = Arc::new(State {
            metadata_token: secret("imds"),
            container_token: secret("container"),
            web_identity_token: secret("webidentity"),
            secret_key: secret("key"),
            session_token: secret("session"),
            password: secret("ecr"),
        });
        let answering = Arc::clone(&state);
        Self { server: Answering::start(move |asked| answering.answer(asked)).await, state }
    }

    /// What to set in place of all of Amazon's endpoints.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The password that the registry's service gives to the user `AWS`.
    pub fn password(&self) -> &str {
        &self.state.password
    }

    /// What a pod finds in its web identity file.
    pub fn web_identity_token(&self) -> &str {
        &self.state.web_identity_token
    }

    /// What a container sends to the address that its environment names.
    pub fn container_token(&self) -> &str {
        &self.state.container_token
    }

    /// The secret key of every identity.
    pub fn secret_key(&self) -> &str {
        &self.state.secret_key
    }

    /// All that must not be seen outside.
    pub fn secrets(&self) -> Vec<String> {
        let State {
            metadata_token,
            container_token,
            web_identity_token,
            secret_key,
            session_token,
            password,
            ..
        } = &*self.state;
        [metadata_token, container_token, web_identity_token, secret_key, session_token, password]
            .map(Clone::clone)
            .to_vec()
    }

    /// The key of whoever asked for a token of the registry, and the region of the signature, for each that was given.
    pub fn logins(&self) -> Vec<(String, String)> {
        let asked = self.server.asked();
        let logins =
            asked.iter().filter(|asked| asked.header("x-amz-target").ends_with("GetAuthorizationToken"));
        logins.filter_map(signed_by).collect()
    }

    /// Everything that was asked.
    pub fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }
}

/// The key and the region in the signature's credential scope.
fn signed_by(asked: &Asked) -> Option<(String, String)> {
    let scope = asked.header("authorization").strip_prefix("AWS4-HMAC-SHA256 Credential=")?;
    let (scope, rest) = scope.split_once(',')?;
    let mut parts = scope.split('/');
    let (key, _date, region) = (parts.next()?, parts.next()?, parts.next()?);
    let is_signed = rest.contains("Signature=") && parts.eq(["ecr", "aws4_request"]);
    is_signed.then(|| (key.to_owned(), region.to_owned()))
}

impl State {
    fn answer(&self, asked: &Asked) -> Told {
        match (asked.method.as_str(), asked.path.as_str()) {
            ("PUT", "/latest/api/token") => {
                let ttl = asked.header("x-aws-ec2-metadata-token-ttl-seconds").to_owned();
                Told::text(&self.metadata_token).with("x-aws-ec2-metadata-token-ttl-seconds", ttl)
            }
            ("GET", path) if path.starts_with("/latest/") => {
                if asked.header("x-aws-ec2-metadata-token") != self.metadata_token {
                    return Told::new(401, "text/plain", "only with a token".to_owned());
                }
                self.metadata(path)
            }
            ("GET", "/container") if asked.header("authorization") == self.container_token => {
                Told::json(&self.keys("CONTAINER"))
            }
            ("POST", "/") if asked.header("x-amz-target").ends_with("GetAuthorizationToken") => {
                self.authorization_token(asked)
            }
            ("POST", "/") if asked.field("Action") == "AssumeRoleWithWebIdentity" => self.assume_role(asked),
            _ => Told::not_found(),
        }
    }

    fn metadata(&self, path: &str) -> Told {
        let roles = "/latest/meta-data/iam/security-credentials";
        match path.strip_prefix(roles).map(|rest| rest.trim_start_matches('/')) {
            Some("") => Told::text(ROLE),
            Some(ROLE) => Told::json(&self.keys("INSTANCE")),
            _ if path.starts_with("/latest/meta-data/placement/region") => Told::text("eu-instance-1"),
            _ => Told::not_found(),
        }
    }

    /// The shape that instance metadata and container credentials share.
    fn keys(&self, whose: &str) -> Value {
        json!({
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": format!("ASIA{whose}"),
            "SecretAccessKey": self.secret_key,
            "Token": self.session_token,
            "LastUpdated": "2020-01-01T00:00:00Z",
            "Expiration": "2199-01-01T00:00:00Z",
        })
    }

    fn assume_role(&self, asked: &Asked) -> Told {
        if asked.field("WebIdentityToken") != self.web_identity_token {
            let body = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code>\
                        <Message>no identity</Message></Error></ErrorResponse>";
            return Told::new(400, "text/xml", body.to_owned());
        }
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAWEBIDENTITY</AccessKeyId>\
             <SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
             <Expiration>2199-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser>\
             <AssumedRoleId>AROA:samovar</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/{ROLE}/x</Arn>\
             </AssumedRoleUser></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
            self.secret_key, self.session_token
        );
        Told::new(200, "text/xml", body)
    }

    fn authorization_token(&self, asked: &Asked) -> Told {
        let Some((key, _)) = signed_by(asked) else {
            return Told::refused(
                400,
                &json!({ "__type": "MissingAuthenticationTokenException", "message": "no signature" }),
            );
        };
        if key.starts_with("AKIADENIED") {
            let message = "User: arn:aws:iam::123456789012:user/denied is not authorized to perform: ecr:GetAuthorizationToken";
            return Told::refused(400, &json!({ "__type": "AccessDeniedException", "message": message }));
        }
        if key.starts_with("ASIA") && asked.header("x-amz-security-token") != self.session_token {
            return Told::refused(
                403,
                &json!({ "__type": "UnrecognizedClientException", "message": "no session" }),
            );
        }
        let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs();
        let ends = now + 12 * 3_600;
        let token = STANDARD.encode(format!("AWS:{}", self.password));
        let body = json!({ "authorizationData": [{
            "authorizationToken": token,
            "expiresAt": ends,
            "proxyEndpoint": "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com",
        }] });
        Told::new(200, "application/x-amz-json-1.1", body.to_string())
    }
}
