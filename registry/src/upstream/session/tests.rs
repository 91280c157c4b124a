use samovar_testing::Image;
use samovar_testing::fake::FakeRegistry;
use url::Url;

use super::super::{HttpOptions, challenge};
use super::*;
use crate::{Secret, SystemClock};

#[tokio::test]
async fn what_was_asked_for_over_tls_is_not_shown_over_plain_http() {
    let registry = FakeRegistry::start().await;
    registry.push("team/app", "v1", &Image::new("seed"));
    registry.require_basic("alice", "open sesame");
    let insecure_hosts = [registry.host()].into();
    let options = HttpOptions { insecure_hosts, ..HttpOptions::default() };
    let host = Host::new(&registry.host(), &options);
    let over_tls = Url::parse(&format!("https://{}/v2/", registry.host())).unwrap();
    let challenges = challenge::parse([r#"Basic realm="r""#]);
    host.learn_login(Login::from_challenges(&challenges, &over_tls, "team/app").unwrap());
    let session = Session {
        name: format!("{}/team/app", registry.host()).parse().unwrap(),
        subject: Subject::Repository,
        chain: Credentials::Basic {
            username: "alice".to_owned(),
            password: Secret::new("open sesame"),
            provenance: "the test".into(),
        }
        .into(),
        endpoint: Arc::new(Endpoint::of_registry(host.clone(), &options)),
        host,
        transport: Arc::new(Transport::new(options, Arc::new(SystemClock), Arc::new(())).unwrap()),
        logins: Logins::default(),
    };
    let question = Question {
        operation: Operation::Tags,
        urgency: Urgency::Asked,
        method: Method::GET,
        path: "tags/list",
        query: None,
        accept: None,
        condition: None,
        max_body: 1_024,
    };
    // Nobody speaks TLS there. The password goes along once the registry has asked for it over plain http too.
    assert!(session.ask(&question).await.unwrap().status.is_success());
    let requests = registry.requests();
    let logins: Vec<_> = requests.iter().map(|request| request.authorization.is_some()).collect();
    assert_eq!(logins, [false, true]);
}
