//! Clouds' registries are logged in to as the machine or workload that samovar runs on: the real binary with the variables
//! that each cloud's tools set, against fakes of the clouds' services and of registries that accept only that login.
//!
//! Everything is logged, and nothing that is secret may be in the log.

#![cfg(all(feature = "aws", feature = "azure", feature = "google"))]

mod common;

use std::time::Duration;

use samovar_testing::cloud::{FakeAcr, FakeAws, FakeAzure, FakeGoogle, FakeTokenRegistry};
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Answer, Image, Samovar, SamovarServer};
use serde_json::json;

use common::{refresh, repository_path, wait_for_repository};

/// The binary without any identity but what the test gives it: nobody answers where metadata services stand.
fn samovar() -> Samovar {
    let nobody = "127.0.0.1:1";
    common::samovar()
        .without_variables("AWS_")
        .without_variables("AZURE_")
        .without_variables("GOOGLE_")
        .without_variables("IDENTITY_")
        .variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{nobody}"))
        .variable("GCE_METADATA_HOST", nobody)
        .variable("AZURE_POD_IDENTITY_AUTHORITY_HOST", format!("http://{nobody}"))
        .variable("SAMOVAR_LOG", "trace")
}

/// Watches `team/app` of a registry that is given a cloud's identity.
async fn serve(samovar: &Samovar, host: &str, cloud: &str) -> (SamovarServer, String) {
    let name = format!("{host}/team/app");
    let text = format!(
        "store = 'memory:'\nwatch = ['{name}']\ninsecure_host = ['{host}']\n[hosts.'{host}']\ncloud_identity = '{cloud}'\n"
    );
    let file = samovar.write_file("cloud.toml", &text);
    let server = samovar.serve(["--config".as_ref(), file.as_os_str()]).await;
    (server, name)
}

/// Serves until the registry's only tag is listed, and looks for secrets in the log. The log is returned.
async fn lists(samovar: &Samovar, host: &str, cloud: &str, secrets: &[String]) -> String {
    let (mut server, name) = serve(samovar, host, cloud).await;
    let listed = wait_for_repository(&server, &name, |repository| repository["tags"] == json!(["v1"])).await;
    assert!(listed.get("last_error").is_none(), "{listed}");
    server.terminate().await;
    let log = server.log();
    assert_no_secret(&log, secrets);
    log
}

fn assert_no_secret(log: &str, secrets: &[String]) {
    assert!(log.len() > 1_000, "everything is logged: {log}");
    for secret in secrets {
        let found = log.lines().find(|line| line.contains(secret));
        assert!(found.is_none(), "a secret is in the log: {}", found.unwrap_or_default());
    }
}

/// A binary that finds Amazon's services at the fake.
fn on_amazon(aws: &FakeAws) -> Samovar {
    samovar()
        .variable("AWS_ENDPOINT_URL_ECR", aws.url())
        .variable("AWS_ENDPOINT_URL_STS", aws.url())
        .variable("AWS_REGION", "eu-central-1")
}

async fn lists_on_amazon(samovar: &Samovar, aws: &FakeAws, key: &str, region: &str) {
    let registry = FakeTokenRegistry::basic("AWS", aws.password()).await;
    lists(samovar, &registry.host(), "aws", &aws.secrets()).await;
    assert_eq!(aws.logins(), [(key.to_owned(), region.to_owned())]);
}

#[tokio::test]
async fn amazon_by_environment() {
    let aws = FakeAws::start().await;
    let samovar = on_amazon(&aws)
        .variable("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
        .variable("AWS_SECRET_ACCESS_KEY", aws.secret_key());
    lists_on_amazon(&samovar, &aws, "AKIAENVIRONMENT", "eu-central-1").await;
}

#[tokio::test]
async fn amazon_by_profile() {
    let aws = FakeAws::start().await;
    let samovar = on_amazon(&aws).variable("AWS_PROFILE", "reader");
    let keys =
        format!("[reader]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = {}\n", aws.secret_key());
    let file = samovar.write_file("credentials", &keys);
    let samovar = samovar.variable("AWS_SHARED_CREDENTIALS_FILE", file);
    lists_on_amazon(&samovar, &aws, "AKIAPROFILE", "eu-central-1").await;
}

#[tokio::test]
async fn amazon_by_web_identity() {
    let aws = FakeAws::start().await;
    let samovar = on_amazon(&aws);
    let file = samovar.write_file("token", aws.web_identity_token());
    let samovar = samovar
        .variable("AWS_WEB_IDENTITY_TOKEN_FILE", file)
        .variable("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/samovar-reader")
        .variable("AWS_ROLE_SESSION_NAME", "samovar");
    lists_on_amazon(&samovar, &aws, "ASIAWEBIDENTITY", "eu-central-1").await;
}

#[tokio::test]
async fn amazon_by_container_role() {
    let aws = FakeAws::start().await;
    let samovar = on_amazon(&aws);
    // As in a pod: the token is in a file, which is renewed there.
    let file = samovar.write_file("token", aws.container_token());
    let samovar = samovar
        .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/container", aws.url()))
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file);
    lists_on_amazon(&samovar, &aws, "ASIACONTAINER", "eu-central-1").await;
}

#[tokio::test]
async fn amazon_by_instance_role_whose_region_the_instance_knows() {
    let aws = FakeAws::start().await;
    let samovar = samovar()
        .variable("AWS_ENDPOINT_URL_ECR", aws.url())
        .variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url());
    lists_on_amazon(&samovar, &aws, "ASIAINSTANCE", "eu-instance-1").await;
}

#[tokio::test]
async fn amazon_says_what_is_missing() {
    let aws = FakeAws::start().await;
    let samovar = on_amazon(&aws)
        .variable("AWS_ACCESS_KEY_ID", "AKIADENIED")
        .variable("AWS_SECRET_ACCESS_KEY", aws.secret_key());
    let registry = FakeTokenRegistry::basic("AWS", aws.password()).await;
    let (mut server, name) = serve(&samovar, &registry.host(), "aws").await;
    let said = "Amazon ECR: environment: AccessDeniedException: User: arn:aws:iam::123456789012:user/denied is not authorized";
    let refused = |answer: &Answer| answer.status == 503 && answer.text.contains(said);
    server.wait_until(&repository_path(&name), refused, common::PATIENCE).await;
    server.terminate().await;
    assert_no_secret(&server.log(), &aws.secrets());
    assert_eq!(aws.logins().len(), 1, "a failure is backed off");
}

async fn lists_on_google(samovar: &Samovar, google: &FakeGoogle) {
    let registry = FakeTokenRegistry::bearer("oauth2accesstoken", google.access_token()).await;
    lists(samovar, &registry.host(), "google", &google.secrets()).await;
}

#[tokio::test]
async fn google_by_metadata_server() {
    let google = FakeGoogle::start().await;
    let samovar = samovar().variable("GCE_METADATA_HOST", google.host());
    lists_on_google(&samovar, &google).await;
    assert_eq!(google.tokens_given(), 1);
}

#[tokio::test]
async fn google_by_service_account_file() {
    let google = FakeGoogle::start().await;
    let samovar = samovar();
    let file = google.service_account_file(samovar.home());
    lists_on_google(&samovar.variable("GOOGLE_APPLICATION_CREDENTIALS", file), &google).await;
    assert_eq!(google.tokens_given(), 1);
}

#[tokio::test]
async fn google_by_workload_identity_federation_with_a_file() {
    let google = FakeGoogle::start().await;
    let samovar = samovar();
    let file = google.federation_by_file(samovar.home());
    lists_on_google(&samovar.variable("GOOGLE_APPLICATION_CREDENTIALS", file), &google).await;
}

#[tokio::test]
async fn google_by_workload_identity_federation_with_an_address_and_as_a_service_account() {
    let google = FakeGoogle::start().await;
    let samovar = samovar();
    let file = google.federation_by_url(samovar.home());
    lists_on_google(&samovar.variable("GOOGLE_APPLICATION_CREDENTIALS", file), &google).await;
}

#[tokio::test]
async fn google_by_the_usual_file_of_application_default_credentials() {
    let google = FakeGoogle::start().await;
    let samovar = samovar();
    let directory = samovar.home().join(".config/gcloud");
    std::fs::create_dir_all(&directory).expect("a directory can be made");
    let file = google.service_account_file(&directory);
    std::fs::rename(file, directory.join("application_default_credentials.json"))
        .expect("a file can be renamed");
    lists_on_google(&samovar, &google).await;
}

async fn lists_on_azure(samovar: &Samovar, azure: &FakeAzure) {
    let registry = FakeAcr::start(azure.access_token()).await;
    let log = lists(samovar, &registry.host(), "azure", &azure.secrets()).await;
    assert_no_secret(&log, &registry.secrets());
    let exchanges = registry.asked().iter().filter(|asked| asked.path == "/oauth2/exchange").count();
    assert_eq!(exchanges, 1);
}

#[tokio::test]
async fn azure_by_managed_identity_of_a_machine() {
    let azure = FakeAzure::start().await;
    let samovar = samovar().variable("AZURE_POD_IDENTITY_AUTHORITY_HOST", azure.metadata_url());
    lists_on_azure(&samovar, &azure).await;
    lists_on_azure(&samovar.variable("AZURE_CLIENT_ID", azure.client()), &azure).await;
    let clients: Vec<_> = azure.asked().iter().map(|asked| asked.query.get("client_id").cloned()).collect();
    assert_eq!(clients, [None, Some(azure.client().to_owned())]);
}

#[tokio::test]
async fn azure_by_managed_identity_of_an_app_service() {
    let azure = FakeAzure::start().await;
    let samovar = samovar()
        .variable("IDENTITY_ENDPOINT", azure.app_service_url())
        .variable("IDENTITY_HEADER", azure.identity_header());
    lists_on_azure(&samovar, &azure).await;
}

/// A binary that finds Azure's authority at the fake, and trusts its certificate.
fn with_authority(azure: &FakeAzure) -> Samovar {
    samovar()
        .variable("SSL_CERT_FILE", azure.certificate_authority())
        .variable("AZURE_AUTHORITY_HOST", azure.authority_url())
        .variable("AZURE_TENANT_ID", azure.tenant())
        .variable("AZURE_CLIENT_ID", azure.client())
}

#[tokio::test]
async fn azure_by_service_principal() {
    let azure = FakeAzure::start().await;
    let samovar = with_authority(&azure).variable("AZURE_CLIENT_SECRET", azure.client_secret());
    lists_on_azure(&samovar, &azure).await;
}

#[tokio::test]
async fn azure_by_workload_identity() {
    let azure = FakeAzure::start().await;
    let samovar = with_authority(&azure);
    let file = samovar.write_file("token", azure.assertion());
    lists_on_azure(&samovar.variable("AZURE_FEDERATED_TOKEN_FILE", file), &azure).await;
}

#[tokio::test]
async fn what_a_registry_of_azure_has_revoked_is_exchanged_anew() {
    let azure = FakeAzure::start().await;
    let registry = FakeAcr::start(azure.access_token()).await;
    let samovar = samovar().variable("AZURE_POD_IDENTITY_AUTHORITY_HOST", azure.metadata_url());
    let (server, name) = serve(&samovar, &registry.host(), "azure").await;
    wait_for_repository(&server, &name, |repository| repository["tags"] == json!(["v1"])).await;
    registry.revoke();
    let refreshed = refresh(&server, &name).await;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    let exchanges = registry.asked().iter().filter(|asked| asked.path == "/oauth2/exchange").count();
    assert_eq!(exchanges, 2);
}

#[tokio::test]
async fn nobody_is_asked_for_registries_of_no_cloud() {
    let (aws, google, azure) = (FakeAws::start().await, FakeGoogle::start().await, FakeAzure::start().await);
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "v1", &Image::new("a"));
    let samovar = on_amazon(&aws)
        .variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url())
        .variable("GCE_METADATA_HOST", google.host())
        .variable("AZURE_POD_IDENTITY_AUTHORITY_HOST", azure.metadata_url());
    let (server, name) = serve(&samovar, &registry.host(), "none").await;
    wait_for_repository(&server, &name, |repository| repository["complete"] == true).await;
    for asked in [aws.asked(), google.asked(), azure.asked()] {
        assert!(asked.is_empty(), "{asked:?}");
    }
}

#[tokio::test]
async fn where_there_is_no_cloud_registries_are_read_anonymously() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "v1", &Image::new("a"));
    for cloud in ["aws", "azure", "google"] {
        let samovar = samovar().variable("AWS_REGION", "eu-central-1");
        let (mut server, name) = serve(&samovar, &registry.host(), cloud).await;
        let begun = tokio::time::Instant::now();
        wait_for_repository(&server, &name, |repository| repository["complete"] == true).await;
        assert!(begun.elapsed() < Duration::from_secs(15), "{cloud}: {:?}", begun.elapsed());
        server.terminate().await;
        assert!(server.log().contains("gives no credentials"), "{cloud}");
    }
}
