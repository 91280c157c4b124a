use super::super::Config;
use super::*;

fn load(file: &str, variables: &[(&str, &str)]) -> Result<Vec<HookConfig>, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("samovar.toml");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "open sesame\n").unwrap();
    std::fs::write(&path, file.replace("SECRET", secret.to_str().unwrap())).unwrap();
    let environment = |name: &str| {
        let found = variables.iter().chain(&[("HOME", "/home/of/nobody")]).find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let config = Config::from_file(&path, &environment);
    config.map(|config| config.hooks).map_err(|error| {
        let shown = error.problems().iter().map(ToString::to_string);
        shown.map(|problem| problem[problem.find("samovar.toml").unwrap_or(0)..].to_owned()).collect()
    })
}

#[test]
fn receivers_are_read_by_name() {
    let file = "
        alias = ['corp=registry.corp.example:5000']
        [hooks.ours]
        type = 'distribution'
        secret_file = 'SECRET'
        registry = 'corp'
        secret_header = 'X-Api-Key'
        [hooks.hub]
        type = 'docker-hub'
        secret_env = 'HUB_KEY'
        [hooks.artifactory]
        type = 'jfrog'
        secret_file = 'SECRET'
        prefix = ''
        [hooks.pubsub]
        type = 'google'
        audience = 'https://samovar.example/hooks/pubsub'
        service_account = 'push@project.iam.gserviceaccount.com'
        [hooks.open]
        type = 'flux'
        unauthenticated = true
    ";
    let hooks = load(file, &[("HUB_KEY", "open sesame")]).unwrap();
    let names: Vec<&str> = hooks.iter().map(|hook| hook.name.as_str()).collect();
    assert_eq!(names, ["artifactory", "hub", "open", "ours", "pubsub"]);
    assert_eq!((hooks[0].kind, hooks[0].prefix.as_deref()), (HookType::Jfrog, Some("")));
    assert!(matches!(
        &hooks[1].proof,
        Some(ProofConfig::Secret { source: SecretSource::Given(_), header: None })
    ));
    assert!(!format!("{hooks:?}").contains("sesame"));
    assert!(hooks[2].proof.is_none());
    assert_eq!(hooks[3].registry.as_deref(), Some("registry.corp.example:5000"));
    assert!(
        matches!(&hooks[3].proof, Some(ProofConfig::Secret { header: Some(header), .. }) if header == "x-api-key")
    );
    let Some(ProofConfig::Google(google)) = &hooks[4].proof else { panic!("{:?}", hooks[4]) };
    assert_eq!(google.keys_url.as_str(), GOOGLE_KEYS);
}

#[test]
fn every_type_can_be_configured() {
    for kind in HookType::ALL {
        let proof = match kind.proof() {
            HookProof::Identity => "audience = 'a'\nservice_account = 'b'",
            HookProof::Secret | HookProof::Signature => "secret_file = 'SECRET'",
        };
        let registry = if kind.needs_registry() { "registry = 'a.example'" } else { "" };
        let hooks = load(&format!("[hooks.x]\ntype = '{kind}'\n{proof}\n{registry}"), &[]).unwrap();
        assert_eq!(hooks[0].kind, kind);
    }
}

#[test]
fn what_nobody_has_to_prove_has_to_be_said() {
    for (file, expected) in [
        (
            "[hooks.x]\ntype = 'quay'",
            "samovar.toml:1: key hooks.x: anybody could tell it anything: give it secret_file or secret_env, or say unauthenticated = true",
        ),
        (
            "[hooks.x]\ntype = 'google'\naudience = 'a'",
            "samovar.toml:1: key hooks.x: audience and service_account are needed, as the subscription has them; or say unauthenticated = true",
        ),
        (
            "[hooks.x]\ntype = 'quay'\nunauthenticated = true\nsecret_file = 'SECRET'",
            "samovar.toml:1: key hooks.x: unauthenticated = true wants no proof, and there is one: leave out one of them",
        ),
        (
            "[hooks.x]\ntype = 'quay'\nsecret_file = 'SECRET'\nsecret_env = 'X'",
            "samovar.toml:1: key hooks.x: one of secret_file and secret_env is needed",
        ),
        (
            "[hooks.x]\ntype = 'quay'\nsecret_env = 'MISSING'",
            "samovar.toml:3: key hooks.x.secret_env: the variable \"MISSING\" is not set, or empty",
        ),
        ("[hooks.x]\nsecret_file = 'SECRET'", "samovar.toml:1: key hooks.x: the key type is missing"),
        (
            "[hooks.x]\ntype = 'dockerhub'\nunauthenticated = true",
            "samovar.toml:2: key hooks.x.type: \"dockerhub\" is none of distribution, docker-hub, ",
        ),
        (
            "[hooks.X]\ntype = 'quay'\nunauthenticated = true",
            "samovar.toml:1: key hooks.X: \"X\" is no name of a receiver: ",
        ),
        (
            "[hooks.x]\ntype = 'zot'\nunauthenticated = true",
            "samovar.toml:1: key hooks.x: the key registry is missing: what zot sends does not say of which registry it is",
        ),
        (
            "[hooks.x]\ntype = 'ecr'\nunauthenticated = true\nregistry = 'a.example'",
            "samovar.toml:4: key hooks.x.registry: a receiver of type ecr is told of which registry it is",
        ),
        (
            "[hooks.x]\ntype = 'quay'\nunauthenticated = true\nprefix = 'a'",
            "samovar.toml:4: key hooks.x.prefix: only receivers of types jfrog and nexus have it",
        ),
        (
            "[hooks.x]\ntype = 'jfrog'\nunauthenticated = true\nprefix = '/a'",
            "samovar.toml:4: key hooks.x.prefix: \"/a\" is no path: ",
        ),
        (
            "[hooks.x]\ntype = 'ghcr'\nsecret_file = 'SECRET'\nsecret_header = 'x-key'",
            "samovar.toml:4: key hooks.x.secret_header: ghcr signs what it sends, or sends a token: no header has its secret",
        ),
        (
            "[hooks.x]\ntype = 'quay'\nsecret_file = 'SECRET'\nsecret_header = 'x key'",
            "samovar.toml:4: key hooks.x.secret_header: \"x key\" is no name of a header",
        ),
        (
            "[hooks.x]\ntype = 'quay'\nsecret_file = 'SECRET'\naudience = 'a'",
            "samovar.toml:4: key hooks.x.audience: only a receiver of type google has it",
        ),
        (
            "[hooks.x]\ntype = 'google'\naudience = 'a'\nservice_account = 'b'\nkeys_url = 'http://keys.example/'",
            "samovar.toml:5: key hooks.x.keys_url: \"http://keys.example/\" is not https",
        ),
        (
            "[hooks.a]\ntype = 'flux'\nunauthenticated = true\n[hooks.b]\ntype = 'flux'\nunauthenticated = true",
            "samovar.toml:4: key hooks.b: there is a receiver of type flux already, and one path that such senders know",
        ),
    ] {
        let problems = load(file, &[]).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{file}\n{problems:?}");
    }
}

#[test]
fn receivers_are_bounded_in_number() {
    let hook = |number: usize| format!("[hooks.h{number}]\ntype = 'hmac'\nunauthenticated = true\n");
    let hooks = |count: usize| (0..count).map(hook).collect::<Vec<_>>().concat();
    assert_eq!(load(&hooks(MOST_RECEIVERS), &[]).unwrap().len(), MOST_RECEIVERS);
    assert!(
        load(&hooks(MOST_RECEIVERS + 1), &[]).unwrap_err()[0].ends_with("there are more than 100 receivers")
    );
}
