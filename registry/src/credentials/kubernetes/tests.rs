use super::*;

fn users(secret: &PullSecret, name: &str) -> Vec<String> {
    let user = |credentials: &Credentials| match credentials {
        Credentials::Basic { username, .. } => username.clone(),
        other => other.to_string(),
    };
    secret.credentials_for(&name.parse().unwrap()).iter().map(user).collect()
}

fn entry(host: &str, user: &str) -> String {
    format!(r#""{host}":{{"username":"{user}","password":"p"}}"#)
}

fn parse(text: &str, file: &str) -> PullSecret {
    PullSecret::parse(text.as_bytes(), file).unwrap()
}

#[test]
fn both_kinds_of_documents_and_secrets_that_hold_them() {
    let cfg = format!("{{{}}}", entry("a.example", "u"));
    let config_json = format!(r#"{{"auths":{cfg},"credsStore":"pass"}}"#);
    let encoded = |text: &str| BASE64.encode(text);
    let secret = |data: &str, key: &str, value: &str| {
        let value = serde_json::Value::from(value);
        format!(r#"{{"apiVersion":"v1","kind":"Secret","{data}":{{"{key}":{value},"other":"eA=="}}}}"#)
    };
    for (text, file) in [
        (config_json.clone(), "/s/.dockerconfigjson"),
        (cfg.clone(), "/s/.dockercfg"),
        (cfg.clone(), "/s/pull.json"),
        (secret("data", ".dockerconfigjson", &encoded(&config_json)), "/s/secret.json"),
        (secret("data", ".dockercfg", &encoded(&cfg)), "/s/secret.json"),
        (secret("stringData", ".dockerconfigjson", &config_json), "/s/secret.json"),
        (secret("stringData", ".dockercfg", &cfg), "/s/secret.json"),
    ] {
        let parsed = parse(&text, file);
        assert_eq!(users(&parsed, "a.example/x"), ["u"], "{text}");
        assert!(parsed.problems().is_empty());
        let credentials = parsed.credentials_for(&"a.example/x".parse().unwrap());
        assert_eq!(credentials[0].to_string(), format!("user \"u\" from {file} (entry \"a.example\")"));
    }
    for (text, file) in [
        ("{}", ".dockerconfigjson"),
        ("{}", ".dockercfg"),
        (r#"{"auths":null}"#, "x.json"),
        (r#"{"x":1}"#, "x.json"),
    ] {
        assert!(users(&parse(text, file), "a.example/x").is_empty());
    }
}

#[test]
fn what_is_no_document_is_refused_without_being_quoted() {
    for (text, reason) in [
        ("topsecret", "it is no document of image pull secrets: at line 1, column "),
        (r#"["topsecret"]"#, "it is no document of image pull secrets: at line 1, column "),
        (r#"{"auths":"topsecret"}"#, "auths is not an object"),
        (
            r#"{"kind":"Secret","data":{"x":"topsecret"}}"#,
            "the Secret has neither .dockerconfigjson nor .dockercfg",
        ),
        (r#"{"kind":"Secret"}"#, "the Secret has neither .dockerconfigjson nor .dockercfg"),
        (r#"{"kind":"Secret","data":{".dockercfg":"top:secret"}}"#, "the data of the Secret is not base64"),
        (
            r#"{"kind":"Secret","data":{".dockercfg":"dG9wc2VjcmV0"}}"#,
            "it is no document of image pull secrets: ",
        ),
        (r#"{"kind":"Secret","data":["topsecret"]}"#, "it is no document of image pull secrets: "),
    ] {
        let error = PullSecret::parse(text.as_bytes(), "file").unwrap_err();
        assert!(error.starts_with(reason) && !error.contains("topsecret"), "{text}: {error}");
    }
    let parsed = parse(r#"{"a.example":7,"b.example":{"auth":"topsecret!"}}"#, ".dockercfg");
    let problems: Vec<_> = parsed.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "auths[\"a.example\"]: the entry is not an object of strings",
            "auths[\"b.example\"]: auth is not base64"
        ]
    );
}

/// What a directory of Secrets gives for a repository, closest first.
fn found(secrets: &mut PullSecrets, name: &str) -> Vec<String> {
    secrets.read_again(Patience::new());
    let mut fitting: Vec<_> = secrets.fitting(&name.parse().unwrap()).collect();
    fitting.sort_by_key(|(fit, _)| std::cmp::Reverse(*fit));
    let user = |credentials: &Credentials| match credentials {
        Credentials::Basic { username, .. } => username.clone(),
        other => other.to_string(),
    };
    fitting.into_iter().map(|(_, credentials)| user(credentials)).collect()
}

fn config_json(host: &str, user: &str) -> String {
    format!(r#"{{"auths":{{{}}}}}"#, entry(host, user))
}

#[test]
fn a_mounted_secret_is_followed_when_its_links_are_swapped() {
    let directory = tempfile::tempdir().unwrap();
    let mount = directory.path();
    let version = |name: &str, user: &str| {
        std::fs::create_dir(mount.join(name)).unwrap();
        std::fs::write(mount.join(name).join(".dockerconfigjson"), config_json("a.example", user)).unwrap();
        std::fs::write(mount.join(name).join("ca.crt"), "not a document").unwrap();
        std::os::unix::fs::symlink(name, mount.join("..new")).unwrap();
        std::fs::rename(mount.join("..new"), mount.join("..data")).unwrap();
    };
    version("..2026_01", "one");
    for name in [".dockerconfigjson", "ca.crt"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), mount.join(name)).unwrap();
    }
    let mut secrets = PullSecrets::new(mount.to_owned());
    assert_eq!(found(&mut secrets, "a.example/x"), ["one"]);
    version("..2026_02", "two");
    std::fs::remove_dir_all(mount.join("..2026_01")).unwrap();
    assert_eq!(found(&mut secrets, "a.example/x"), ["two"]);
    assert!(secrets.problems().is_empty(), "{:?}", secrets.problems());
}

#[test]
fn several_documents_count_in_the_order_of_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("b")).unwrap();
    std::fs::write(path("b/.dockerconfigjson"), config_json("a.example", "b")).unwrap();
    std::fs::write(path("a.json"), config_json("a.example", "a")).unwrap();
    std::fs::write(path("c.dockercfg"), format!("{{{}}}", entry("a.example/team", "c"))).unwrap();
    std::fs::write(path("notes.txt"), "not a document").unwrap();
    let mut secrets = PullSecrets::new(directory.path().to_owned());
    assert_eq!(found(&mut secrets, "a.example/x"), ["a", "b"]);
    assert_eq!(found(&mut secrets, "a.example/team/x"), ["c", "a", "b"], "the closest still comes first");

    std::fs::write(path("a.json"), "half wri").unwrap();
    assert_eq!(found(&mut secrets, "a.example/x"), ["a", "b"], "what it said last stays");
    let problems = secrets.problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with(&format!("{}: it is no document", path("a.json").display())));

    std::fs::remove_file(path("a.json")).unwrap();
    assert_eq!(found(&mut secrets, "a.example/x"), ["b"], "what is taken away is gone");
    assert!(secrets.problems().is_empty());

    let mut file = PullSecrets::new(path("b/.dockerconfigjson"));
    assert_eq!(found(&mut file, "a.example/x"), ["b"]);
    drop(directory);
    assert_eq!(found(&mut secrets, "a.example/x"), ["b"], "a directory that cannot be read says nothing new");
    assert_eq!(found(&mut file, "a.example/x"), ["b"]);
    assert!(secrets.problems()[0].starts_with("cannot read "));
    assert!(file.problems()[0].starts_with("cannot read "));
}
