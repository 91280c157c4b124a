use crate::SystemClock;

use super::*;

fn identities(options: CloudOptions) -> CloudIdentities {
    CloudIdentities::new(options, Arc::new(SystemClock))
}

fn provider(identities: &CloudIdentities, name: &str) -> Option<Arc<dyn CredentialProvider>> {
    identities.provider_for(&name.parse().unwrap())
}

#[test]
fn registries_of_no_cloud_get_no_identity() {
    let identities = identities(CloudOptions::default());
    for name in ["alpine", "public.ecr.aws/docker/library/alpine", "registry.example:5000/team/app"] {
        assert!(provider(&identities, name).is_none(), "{name}");
    }
}

#[cfg(all(feature = "aws", feature = "azure", feature = "google"))]
#[test]
fn a_login_serves_what_it_is_good_for() {
    let identities = identities(CloudOptions::default());
    let same = |one: &str, other: &str| {
        let (one, other) = (provider(&identities, one).unwrap(), provider(&identities, other).unwrap());
        Arc::ptr_eq(&one, &other)
    };
    let ecr = |account: u64, region: &str| format!("{account:012}.dkr.ecr.{region}.amazonaws.com/team/app");
    assert!(same(&ecr(1, "eu-central-1"), &ecr(2, "eu-central-1")));
    assert!(!same(&ecr(1, "eu-central-1"), &ecr(1, "us-east-1")));
    assert!(same("gcr.io/team/app", "europe-docker.pkg.dev/team/images/app"));
    assert!(same("team.azurecr.io/app", "team.azurecr.io/other"));
    assert!(!same("team.azurecr.io/app", "others.azurecr.io/app"));
    assert_eq!(provider(&identities, "gcr.io/team/app").unwrap().provenance(), "Google");
}

#[cfg(all(feature = "aws", feature = "google"))]
#[test]
fn configuration_wins_over_what_a_host_looks_like() {
    let options = CloudOptions {
        clouds: BTreeSet::from([Cloud::Aws]),
        hosts: BTreeMap::from([
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com".to_owned(), HostIdentity::None),
            ("registry.example:5000".to_owned(), HostIdentity::Of(Cloud::Google)),
        ]),
        ..CloudOptions::default()
    };
    let identities = identities(options);
    assert!(provider(&identities, "123456789012.dkr.ecr.eu-central-1.amazonaws.com/app").is_none());
    assert!(provider(&identities, "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app").is_some());
    assert_eq!(provider(&identities, "registry.example:5000/app").unwrap().provenance(), "Google");
    assert!(provider(&identities, "gcr.io/team/app").is_none(), "that cloud is switched off");
}

#[cfg(feature = "azure")]
#[test]
fn logins_that_nobody_uses_make_room() {
    let identities = identities(CloudOptions::default());
    let used = provider(&identities, "used.azurecr.io/app").unwrap();
    for number in 0..=MOST_CLOUD_LOGINS {
        assert!(provider(&identities, &format!("r{number}.azurecr.io/app")).is_some(), "{number}");
    }
    assert!(identities.logins.lock().unwrap().len() <= MOST_CLOUD_LOGINS);
    assert!(Arc::ptr_eq(&used, &provider(&identities, "used.azurecr.io/app").unwrap()));
}

#[cfg(feature = "azure")]
#[test]
fn logins_in_use_are_bounded() {
    let identities = identities(CloudOptions::default());
    let all =
        (0..=MOST_CLOUD_LOGINS).map(|number| provider(&identities, &format!("r{number}.azurecr.io/app")));
    let given = all.collect::<Vec<_>>();
    assert_eq!(given.iter().flatten().count(), MOST_CLOUD_LOGINS);
    assert!(given.last().unwrap().is_none());
}

#[test]
fn an_empty_variable_is_none_and_none_is_printed() {
    let environment = Environment::new(|name| Some(if name == "EMPTY" { "" } else { "secret" }.to_owned()));
    assert_eq!(environment.variable("EMPTY"), None);
    assert_eq!(environment.variable("FULL").as_deref(), Some("secret"));
    assert!(!format!("{environment:?}").contains("secret"));
}
