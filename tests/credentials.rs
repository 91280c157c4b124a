//! Credentials from all their sources, against a registry that asks for a password.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{PATIENCE, and, repository_path, wait_for_log, wait_until_complete, watch};
use samovar_testing::{Answer, DockerRegistry, Image, SamovarServer};
use serde_json::json;

/// A registry with a password and one image.
async fn registry() -> DockerRegistry {
    let registry = DockerRegistry::builder().htpasswd().start().await;
    registry.push("team/app", "v1", &Image::new("app")).await;
    registry
}

/// What docker writes at a login.
fn login(registry: &DockerRegistry, password: &str) -> String {
    let entry = json!({"username": DockerRegistry::USER, "password": password});
    json!({"auths": {registry.host(): entry}}).to_string()
}

/// Replaces a file as a whole, as whoever rotates secrets should.
fn replace(path: &Path, text: &str) {
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text).unwrap();
    std::fs::rename(unfinished, path).unwrap();
}

/// Waits until the repository cannot be listed, and says why.
async fn refusal(server: &SamovarServer, name: &str) -> String {
    let refused = |answer: &Answer| answer.status == 503 && answer.text.contains("unauthorised");
    server.wait_until(&repository_path(name), refused, PATIENCE).await.text
}

#[tokio::test]
async fn a_rotated_password_is_used_without_a_restart() {
    let registry = registry().await;
    let name = format!("{}/team/app", registry.host());
    let samovar = common::samovar();
    let config = samovar.write_docker_config(&login(&registry, "yesterday's"));
    // Listed once a day: nothing but the new password makes it be asked again so soon.
    let server = samovar.serve(and(watch([&name]), ["--store", "memory:", "--poll-interval", "1d"])).await;
    let reason = refusal(&server, &name).await;
    assert!(reason.contains("user \\\"samovar\\\" from ") && reason.contains("config.json"), "{reason}");
    wait_for_log(&server, "the repository cannot be listed").await;

    replace(&config, &login(&registry, DockerRegistry::PASSWORD));
    wait_until_complete(&server, &name).await;
    let log = server.log();
    assert_eq!(log.matches("the repository cannot be listed").count(), 1, "{log}");
    for secret in ["yesterday's", DockerRegistry::PASSWORD] {
        assert!(!log.contains(secret) && !reason.contains(secret), "{log}");
    }
}

/// Installs a credential helper that knows the password. It is written by another process: a file that this one has open
/// for writing cannot be run.
fn install_helper(directory: &Path, name: &str, script: &str) {
    std::fs::create_dir_all(directory).unwrap();
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\" && chmod +x \"$0\"";
    let path = directory.join(format!("docker-credential-{name}"));
    let mut shell = Command::new("sh");
    assert!(shell.args(["-c", write]).arg(path).arg(script).stdin(Stdio::null()).status().unwrap().success());
}

#[tokio::test]
async fn sources_are_tried_in_their_order_until_one_works_and_bad_ones_are_named() {
    let registry = registry().await;
    let name = format!("{}/team/app", registry.host());
    let samovar = common::samovar();
    let programs = samovar.home().join("programs");
    install_helper(&programs, "broken", "echo wrong-four; echo wrong-four >&2; exit 7");
    let reply = json!({"Username": DockerRegistry::USER, "Secret": DockerRegistry::PASSWORD});
    install_helper(
        &programs,
        "vault",
        &format!("cat >>{}; echo '{reply}'", programs.join("asked").display()),
    );
    let path = std::env::join_paths(
        [programs.clone()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let samovar = samovar.variable("PATH", path.unwrap());

    samovar.write_file("password", "wrong-one\n");
    let pull_secret = samovar.write_file("pull.json", "wrong-two, and no document");
    let password = samovar.home().join("password");
    let docker_config = json!({
        "auths": {"nodot": {}, registry.host(): {"username": "wrong", "password": "wrong-three"}},
        "credHelpers": {registry.host(): "broken"},
        "credsStore": "vault",
    });
    let docker_config = samovar.write_docker_config(&docker_config.to_string());
    let file = format!(
        "store = 'memory:'\npoll_interval = '1d'\nwatch = ['{name}']\ninsecure_host = ['{host}']\n\
         kubernetes_secrets = ['{pull}']\ndocker_config = '{docker}'\n\
         [[credentials]]\nrepositories = '{host}/*'\nusername = 'samovar'\npassword_file = '{password}'\n",
        host = registry.host(),
        pull = pull_secret.display(),
        docker = docker_config.display(),
        password = password.display(),
    );
    let file = samovar.write_file("samovar.toml", &file);

    let checked = samovar.run(["check-config".as_ref(), file.as_os_str()]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for expected in
        ["pull.json: it is no document of image pull secrets", "config.json: auths[\"nodot\"]: the key"]
    {
        assert!(checked.stderr.contains(expected), "{}", checked.stderr);
    }

    let server = samovar.serve(["--config", file.to_str().unwrap()]).await;
    wait_until_complete(&server, &name).await;
    assert_eq!(std::fs::read_to_string(programs.join("asked")).unwrap(), registry.host());
    wait_for_log(&server, "exit status: 7").await;
    let broken = |answer: &Answer| answer.text.contains("exit status: 7");
    let status = server.wait_until("/api/v1/status", broken, PATIENCE).await.json();
    let problems = status["sources"][0]["problems"].to_string();
    for expected in ["pull.json: it is no document", "auths[\\\"nodot\\\"]", "docker-credential-broken for "]
    {
        assert!(problems.contains(expected), "{problems} lacks {expected}");
    }
    let told = samovar.run(["status", "--server", &server.url("")]).await;
    assert!(told.stdout.contains("docker-credential-broken for "), "{told:?}");

    replace(&pull_secret, &login(&registry, DockerRegistry::PASSWORD));
    wait_for_log(&server, "credentials that could not be used are mended or gone").await;
    let log = server.log();
    for secret in ["wrong-one", "wrong-two", "wrong-three", "wrong-four", DockerRegistry::PASSWORD] {
        let seen = [&log, &problems, &checked.stdout, &checked.stderr, &told.stdout];
        assert!(!seen.iter().any(|text| text.contains(secret)), "{secret} is shown: {seen:?}");
    }
    assert_eq!(log.matches("a credential helper fails").count(), 1, "{log}");
}

#[tokio::test]
async fn a_mounted_pull_secret_is_followed_when_its_links_are_swapped() {
    let registry = registry().await;
    let name = format!("{}/team/app", registry.host());
    let samovar = common::samovar();
    let mount = samovar.home().join("mount");
    let publish = |version: &str, password: &str| {
        std::fs::create_dir_all(mount.join(version)).unwrap();
        std::fs::write(mount.join(version).join(".dockerconfigjson"), login(&registry, password)).unwrap();
        std::os::unix::fs::symlink(version, mount.join("..new")).unwrap();
        std::fs::rename(mount.join("..new"), mount.join("..data")).unwrap();
    };
    publish("..1", "wrong");
    std::os::unix::fs::symlink("..data/.dockerconfigjson", mount.join(".dockerconfigjson")).unwrap();
    let samovar = samovar.variable("SAMOVAR_KUBERNETES_SECRETS", mount.clone());
    let server = samovar.serve(and(watch([&name]), ["--store", "memory:", "--poll-interval", "1d"])).await;
    refusal(&server, &name).await;
    publish("..2", DockerRegistry::PASSWORD);
    wait_until_complete(&server, &name).await;
}
