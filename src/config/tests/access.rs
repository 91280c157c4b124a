//! Who may ask: what has to be said, and what it means.

use super::load;
use crate::config::LimitsConfig;

fn refused(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> String {
    load(file, variables, flags).unwrap_err().to_string()
}

#[test]
fn whoever_listens_elsewhere_has_said_who_may_ask() {
    assert_eq!(load("", &[], &[]).unwrap().auth, None, "on this machine nobody is asked");
    for listen in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "[::ffff:127.0.0.1]:80"] {
        let error = refused("", &[], &["--listen", listen]);
        assert!(
            error.contains("--listen: other machines can reach") && error.contains("--auth none"),
            "{error}"
        );
        assert!(load("", &[], &["--listen", listen, "--auth", "none"]).is_ok());
    }
    let file = "listen = '0.0.0.0:1'";
    assert!(refused(file, &[], &[]).contains("samovar.toml:1: key listen: other machines"));
    assert!(load(file, &[("SAMOVAR_AUTH", "none")], &[]).is_ok());
    assert!(load("auth = 'none'\nlisten = '0.0.0.0:1'", &[], &[]).is_ok());
}

#[test]
fn a_table_turns_it_on_and_none_turns_it_off() {
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens.toml");
    std::fs::write(&tokens, "").unwrap();
    let shown = tokens.display();
    let file = format!("[auth]\ntokens = '{shown}'\nmetrics_open = true");
    let config = load(&file, &[], &["--listen", "0.0.0.0:1"]).unwrap();
    let auth = config.auth.unwrap();
    assert_eq!((auth.tokens.as_deref(), auth.metrics_open), (Some(tokens.as_path()), true));
    assert_eq!(load(&file, &[], &["--auth", "none"]).unwrap().auth, None);
    assert!(load(&file, &[("SAMOVAR_AUTH", "none")], &["--auth", "required"]).unwrap().auth.is_some());
    let flags = ["--tokens", tokens.to_str().unwrap()];
    assert!(load("", &[], &flags).unwrap().auth.is_some());
    assert!(
        refused("", &[], &["--auth", "required"]).contains("--auth: nobody could ask: give a file of tokens")
    );
    assert!(refused("", &[], &["--auth", "off"]).contains("\"off\" is neither \"none\" nor \"required\""));
    assert!(refused("", &[], &["--tokens", "/nowhere"]).contains("cannot read \"/nowhere\""));
    std::fs::write(&tokens, "[[tokens]]\nname = 'x'").unwrap();
    let error = refused(&file, &[], &[]);
    assert!(error.contains("key auth.tokens: ") && error.contains("the key sha256 is missing"), "{error}");
}

#[test]
fn accounts_and_certificates_are_granted_what_is_written() {
    let file = "[[auth.kubernetes.accounts]]\nnames = ['flux-system:*']\nread = '*'\nrefresh = true";
    let auth = load(file, &[], &[]).unwrap().auth.unwrap();
    let kubernetes = auth.kubernetes.unwrap();
    let [account] = kubernetes.accounts.as_slice() else { panic!("{kubernetes:?}") };
    assert!(account.names.matches("flux-system:image-reflector") && !account.names.matches("flux-systems"));
    assert!(account.grant.refresh && account.grant.is_whole());
    let error = refused("auth.kubernetes.server = 'http://a.example'", &[], &[]);
    assert!(error.contains("is not https://HOST"), "{error}");
    let error = refused("[[auth.certificates]]\nnames = ['a']\nread = ['*']", &[], &[]);
    assert!(
        error.contains("key auth.certificates: certificates are only asked for where tls.client_ca"),
        "{error}"
    );
    let error = refused("[[auth.kubernetes.accounts]]\nnames = ['a:b']", &[], &[]);
    assert!(error.contains("the key read is missing"), "no rights are not all rights: {error}");
}

#[test]
fn tls_takes_pairs_of_files_that_exist() {
    let error = refused("[tls]\ncertificate = '/nowhere'", &[], &[]);
    assert!(
        error.contains("the key key is missing") && error.contains("cannot read \"/nowhere\""),
        "{error}"
    );
    let directory = tempfile::tempdir().unwrap();
    let pem = directory.path().join("x.pem");
    std::fs::write(&pem, "x").unwrap();
    let pem = pem.display();
    let pair = format!("certificate = '{pem}'\nkey = '{pem}'\n");
    let config = load(&format!("[tls]\n{pair}[[tls.certificates]]\n{pair}"), &[], &[]).unwrap();
    let tls = config.tls.unwrap();
    assert_eq!((tls.certificates.len(), tls.client_ca, tls.client_required), (2, None, true));
    let error = refused(&format!("[tls]\n{pair}client_auth = 'optional'"), &[], &[]);
    assert!(error.contains("client_auth needs client_ca"), "{error}");
    let asked = load(&format!("[tls]\n{pair}client_ca = '{pem}'\nclient_auth = 'optional'"), &[], &[]);
    assert!(!asked.unwrap().tls.unwrap().client_required);
}

#[test]
fn limits_have_defaults_that_hold_together() {
    let usual = LimitsConfig { rate: None, burst: 10, concurrency: 16_000, connections: 20_000 };
    assert_eq!(load("", &[], &[]).unwrap().limits, usual);
    let config = load("[limits]\nrate = 50\nconnections = 100", &[], &[]).unwrap();
    let expected = LimitsConfig { rate: Some(50.0), burst: 50, concurrency: 80, connections: 100 };
    assert_eq!(config.limits, expected);
    assert!(refused("limits.connections = 1", &[], &[]).contains("is not a whole number from 10"));
}

#[test]
fn external_hosts_are_names() {
    let config = load("external_hosts = ['Samovar.Example.com', 'x:8443']", &[], &[]).unwrap();
    assert_eq!(config.external_hosts.iter().collect::<Vec<_>>(), ["samovar.example.com", "x:8443"]);
    assert!(refused("external_hosts = ['a b']", &[], &[]).contains("\"a b\" is no host"));
}
