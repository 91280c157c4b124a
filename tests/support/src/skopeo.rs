//! `skopeo`: a real client, to compare with.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::server::find_program;

/// How long one command may take. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs `skopeo` commands, without the credentials and settings of whoever runs the test. All panic with its messages
/// where it fails.
#[derive(Debug)]
pub struct Skopeo {
    program: PathBuf,
    home: TempDir,
    credentials: Option<(String, String)>,
}

impl Skopeo {
    /// Finds the program; panics with the command that installs it.
    #[expect(clippy::new_without_default, reason = "a default does not panic")]
    pub fn new() -> Self {
        let home = TempDir::with_prefix("skopeo-").expect("a temporary directory can be made");
        Self { program: find_program("skopeo", "skopeo"), home, credentials: None }
    }

    /// With this user and password for all registries.
    #[must_use]
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// What `skopeo inspect` says of `host/repository:tag` for `linux/amd64`, over plain HTTP or unverified TLS.
    pub async fn inspect(&self, reference: &str) -> Value {
        let output = self.inspect_with(reference, &[]).await;
        serde_json::from_slice(&output).expect("skopeo prints JSON")
    }

    /// The manifest of `host/repository:tag` as it is.
    pub async fn inspect_raw(&self, reference: &str) -> Vec<u8> {
        self.inspect_with(reference, &["--raw"]).await
    }

    /// The configuration of `host/repository:tag` for `linux/amd64`.
    pub async fn inspect_config(&self, reference: &str) -> Value {
        let output = self.inspect_with(reference, &["--config"]).await;
        serde_json::from_slice(&output).expect("skopeo prints JSON")
    }

    /// The tags of `host/repository`.
    pub async fn list_tags(&self, repository: &str) -> Vec<String> {
        let credentials = match &self.credentials {
            Some((user, password)) => format!("--creds={user}:{password}"),
            None => "--no-creds".to_owned(),
        };
        let source = format!("docker://{repository}");
        let output = self.run(&["list-tags", "--tls-verify=false", &credentials, &source]).await;
        let listed: Value = serde_json::from_slice(&output).expect("skopeo prints JSON");
        serde_json::from_value(listed["Tags"].clone()).expect("tags are texts")
    }

    /// Copies what `host/repository:tag` is into a directory, all platforms of it, as it is.
    pub async fn copy_to_directory(&self, reference: &str, directory: &std::path::Path) {
        let (from, to) = (format!("docker://{reference}"), format!("dir:{}", directory.display()));
        let options = ["copy", "--all", "--preserve-digests", "--src-tls-verify=false"];
        let credentials = match &self.credentials {
            Some((user, password)) => format!("--src-creds={user}:{password}"),
            None => "--src-no-creds".to_owned(),
        };
        self.run(&[&options[..], &[&credentials, &from, &to]].concat()).await;
    }

    /// Copies between references written with their transport, `docker://host/repository:tag`, with all platforms.
    pub async fn copy(&self, from: &str, to: &str) {
        self.copy_with(from, to, "--all").await;
    }

    /// The same for `linux/amd64` only, as a Docker manifest of schema 1, signed by skopeo.
    pub async fn copy_as_schema1(&self, from: &str, to: &str) {
        self.copy_with(from, to, "--format=v2s1").await;
    }

    async fn copy_with(&self, from: &str, to: &str, option: &str) {
        let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        let credentials = match &self.credentials {
            Some((user, password)) => {
                vec![format!("--src-creds={user}:{password}"), format!("--dest-creds={user}:{password}")]
            }
            None => vec!["--src-no-creds".to_owned(), "--dest-no-creds".to_owned()],
        };
        let mut arguments = vec!["copy", option];
        arguments.extend(tls);
        arguments.extend(credentials.iter().map(String::as_str));
        arguments.extend([from, to]);
        self.run(&arguments).await;
    }

    async fn inspect_with(&self, reference: &str, options: &[&str]) -> Vec<u8> {
        let credentials = match &self.credentials {
            Some((user, password)) => format!("--creds={user}:{password}"),
            None => "--no-creds".to_owned(),
        };
        let source = format!("docker://{reference}");
        let mut arguments = vec!["inspect", "--tls-verify=false", &credentials];
        arguments.extend(options);
        arguments.push(&source);
        self.run(&arguments).await
    }

    async fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(["--insecure-policy", "--override-os=linux", "--override-arch=amd64"])
            .args(arguments)
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("DOCKER_CONFIG")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("skopeo {arguments:?} takes more than {PATIENCE:?}"));
        let output = output.expect("skopeo can be run");
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "skopeo {arguments:?}: {}\n{messages}", output.status);
        output.stdout
    }
}
