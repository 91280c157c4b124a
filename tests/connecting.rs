//! How registries are connected to, as operators set it: private authorities, mirrors, unverified TLS, hosts that may not
//! be asked.

mod common;

use common::{samovar, wait_for_log, wait_until_complete};
use samovar_testing::fake::FakeRegistry;
use samovar_testing::{Certificates, DockerRegistry, Image, RegistryDoor};
use serde_json::json;

/// A registry that speaks TLS only, with one image.
async fn over_tls(certificates: &Certificates) -> (DockerRegistry, RegistryDoor) {
    let registry = DockerRegistry::start().await;
    registry.push("team/app", "v1", &Image::new("seed")).await;
    let door = RegistryDoor::to(&registry).tls(certificates).open().await;
    (registry, door)
}

#[tokio::test]
async fn directories_of_containerd_say_whom_to_trust_and_which_mirrors_to_ask() {
    let certificates = Certificates::make();
    let (_registry, door) = over_tls(&certificates).await;
    let mirror = FakeRegistry::start().await;
    mirror.push("team/app", "v1", &Image::new("seed"));
    mirror.push("team/app", "only-there", &Image::new("seed"));
    let samovar = samovar();
    let write = |directory: &str, name: &str, text: &str| {
        let directory = samovar.home().join("certs.d").join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(name), text).unwrap();
    };
    let authority = std::fs::read_to_string(certificates.authority()).unwrap();
    write(&door.host().replace(':', "_"), "ignored", "");
    write(&format!("{}_", door.host().replace(':', "_")), "ca.crt", &authority);
    write("mirrored.example", "hosts.toml", &format!("[host.\"{}\"]\n", mirror.url()));
    let certs_dir = samovar.home().join("certs.d").display().to_string();
    let trusted = format!("{}/team/app", door.host());
    let arguments = ["--certs-dir", &certs_dir, "--watch", &trusted, "--watch", "mirrored.example/team/app"];
    let server = samovar.serve(arguments).await;
    assert_eq!(wait_until_complete(&server, &trusted).await["tags"], json!(["v1"]));
    let mirrored = wait_until_complete(&server, "mirrored.example/team/app").await;
    assert_eq!(mirrored["tags"], json!(["only-there", "v1"]));
    assert!(mirror.requests().iter().all(|request| request.query.contains("ns=mirrored.example")));
    let status = server.get_text("/api/v1/status").await;
    assert!(!status.contains("unverified_hosts"), "{status}");
}

#[tokio::test]
async fn unverified_tls_is_said_loudly_and_secrets_are_not() {
    let (_registry, door) = over_tls(&Certificates::make()).await;
    let samovar = samovar();
    let file = samovar.write_file(
        "samovar.toml",
        &format!(
            "[hosts.\"{}\"]\nskip_verify = true\nheaders = {{ X-Gate = \"open sesame\" }}\nproxy = \"none\"\n",
            door.host()
        ),
    );
    let file = file.display().to_string();
    let name = format!("{}/team/app", door.host());
    let server = samovar
        .clone()
        .variable("HTTPS_PROXY", "http://alice:sesame@127.0.0.1:1")
        .variable("SAMOVAR_LOG", "trace")
        .serve(["--config", &file, "--watch", &name])
        .await;
    wait_until_complete(&server, &name).await;
    wait_for_log(&server, "TLS IS NOT VERIFIED").await;
    let answer = server.get("/api/v1/status").await;
    assert_eq!(answer.json()["unverified_hosts"], json!([door.host()]));
    let page = samovar.run(["status", "--server", &server.url("/")]).await;
    assert!(page.stdout.contains(&format!("TLS NOT VERIFIED  {}", door.host())), "{page:?}");
    let checked = samovar.run(["check-config", &file]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for shown in ["TLS NOT VERIFIED", "header x-gate: …", "proxy none"] {
        assert!(checked.stdout.contains(shown), "{shown}: {}", checked.stdout);
    }
    for text in [&server.log(), &checked.stdout, &answer.text] {
        assert!(!text.contains("sesame"), "{text}");
    }
}

#[tokio::test]
async fn what_may_not_be_asked_is_not_watched() {
    let output =
        samovar().run(["serve", "--deny-hosts", "*.internal", "--watch", "vault.internal/team/app"]).await;
    assert_eq!(output.code, Some(2), "{output:?}");
    let expected = "--watch: its host vault.internal is denied by deny_hosts";
    assert!(output.stderr.contains(expected), "{output:?}");
}
