use std::fs;

use super::*;

fn with_home(home: &Path, named: Option<&Path>) -> Environment {
    let (home, named) = (home.display().to_string(), named.map(|path| path.display().to_string()));
    Environment::new(move |name| match name {
        "HOME" => Some(home.clone()),
        "GOOGLE_APPLICATION_CREDENTIALS" => named.clone(),
        "GCE_METADATA_HOST" => Some("127.0.0.1:1".to_owned()),
        _ => None,
    })
}

#[test]
fn a_named_file_comes_before_the_usual_one_and_that_before_the_metadata_server() {
    let home = tempfile::tempdir().unwrap();
    let metadata = identity(&with_home(home.path(), None)).unwrap();
    assert!(
        matches!(&metadata, Identity::OfLibrary(Source::Metadata { host: Some(host) }) if host == "127.0.0.1:1")
    );

    let usual = home.path().join(".config/gcloud");
    fs::create_dir_all(&usual).unwrap();
    fs::write(usual.join("application_default_credentials.json"), r#"{"type":"authorized_user"}"#).unwrap();
    let source = |named: Option<&Path>| identity(&with_home(home.path(), named)).unwrap().name();
    assert_eq!(source(None), "user's application default file");

    let named = home.path().join("named.json");
    for (kind, expected) in [
        ("service_account", "service account file"),
        ("external_account", "workload identity federation"),
        ("impersonated_service_account", "impersonated service account"),
    ] {
        fs::write(&named, format!(r#"{{"type":"{kind}"}}"#)).unwrap();
        assert_eq!(source(Some(&named)), expected);
    }
}

#[test]
fn what_a_file_holds_is_not_printed() {
    for kind in ["service_account", "authorized_user"] {
        let text = format!(r#"{{"type":"{kind}","private_key":"secret","refresh_token":"secret"}}"#);
        let identity = file_identity(text.as_bytes()).unwrap();
        assert!(!format!("{identity:?}").contains("secret"), "{kind}");
    }
}

#[test]
fn files_that_describe_no_identity_are_named_and_not_shown() {
    let home = tempfile::tempdir().unwrap();
    let named = home.path().join("named.json");
    for (text, expected) in [
        (
            r#"{"type":"gdch_service_account","private_key":"secret"}"#,
            "\"gdch_service_account\" are not supported",
        ),
        (r#"{"private_key":"secret"}"#, "\"\" are not supported"),
        ("secret", "not a JSON document"),
    ] {
        fs::write(&named, text).unwrap();
        let message = identity(&with_home(home.path(), Some(&named))).unwrap_err();
        assert!(message.contains("named.json") && message.contains(expected), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
    fs::remove_file(&named).unwrap();
    let message = identity(&with_home(home.path(), Some(&named))).unwrap_err();
    assert!(message.starts_with("cannot read "), "a file that is named must be there: {message}");
}
