//! Clients that pull images through a mirror: `buildah` and `podman`, and `containerd`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::server::{Launch, Server, find_program};

/// How long one pull may take. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_mins(2);

/// `buildah` or `podman`, without the settings and images of whoever runs the test.
#[derive(Debug)]
pub struct ContainerTool {
    program: PathBuf,
    directory: TempDir,
}

impl ContainerTool {
    /// Finds `buildah`; panics with the command that installs it.
    pub fn buildah() -> Self {
        Self::named("buildah")
    }

    /// Finds `podman`; panics with the command that installs it.
    pub fn podman() -> Self {
        Self::named("podman")
    }

    fn named(program: &str) -> Self {
        let directory = TempDir::with_prefix("pull-").expect("a temporary directory can be made");
        Self { program: find_program(program, program), directory }
    }

    /// Pulls `host/repository:tag` over plain http, from the mirror (`host/prefix`) first. Returns the id of the image, or, where it
    /// fails, what is said.
    pub async fn pull(&self, image: &str, mirror: &str) -> Result<String, String> {
        let home = self.directory.path();
        let host = image.split('/').next().unwrap_or_default();
        let registries = home.join("registries.conf");
        let text = format!(
            "[[registry]]\nprefix = \"{host}\"\nlocation = \"{host}\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n"
        );
        std::fs::write(&registries, text).expect("a file can be written");
        let policy = home.join("policy.json");
        std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)
            .expect("a file can be written");
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(home.join("root"))
            .arg("--runroot")
            .arg(home.join("run"))
            .args(["pull", "--quiet", "--signature-policy"])
            .arg(policy)
            .arg(image)
            .env("HOME", home)
            .env("XDG_RUNTIME_DIR", home)
            .env("CONTAINERS_REGISTRIES_CONF", registries)
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("DOCKER_CONFIG");
        let (is_done, output, messages) = run(command).await;
        if is_done { Ok(output.trim().to_owned()) } else { Err(messages) }
    }
}

/// A running `containerd` that keeps what it pulls to itself.
#[derive(Debug)]
pub struct Containerd {
    server: Server,
    control: PathBuf,
}

impl Containerd {
    /// Starts it and waits until it answers; panics with the command that installs it.
    pub async fn start() -> Self {
        let directory = Arc::new(TempDir::with_prefix("ctr-").expect("a temporary directory can be made"));
        let path = directory.path().display();
        let configuration = format!(
            "version = 2\nroot = \"{path}/root\"\nstate = \"{path}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{path}/sock\"\n"
        );
        let file = directory.path().join("config.toml");
        std::fs::write(&file, configuration).expect("a file can be written");
        let launch = Launch::of_package("containerd", "containerd").arguments(["--config".into(), file]);
        let mut server = Server::start(&launch, directory);
        let booted = server.find_in_stderr(|log| log.contains("successfully booted").then_some(())).await;
        assert!(booted.is_some(), "containerd ended at its start:\n{}", server.stderr());
        Self { server, control: find_program("ctr", "containerd") }
    }

    /// Fetches all that belongs to `host/repository:tag` over plain http, with this `hosts.toml` for the host. Returns what
    /// it has then, one line each that begins with a digest; panics where it fails.
    pub async fn fetch(&self, image: &str, hosts: &str) -> Vec<String> {
        let host = image.split('/').next().unwrap_or_default();
        let directory = self.server.directory().join("certs.d");
        std::fs::create_dir_all(directory.join(host)).expect("a directory can be made");
        std::fs::write(directory.join(host).join("hosts.toml"), hosts).expect("a file can be written");
        let (is_done, output, messages) =
            run(self.control(&["content", "fetch", "--hosts-dir"], Some(&directory), Some(image))).await;
        assert!(is_done, "containerd fetches {image}: {output}{messages}\n{}", self.server.stderr());
        let (_, listed, _) = run(self.control(&["content", "ls", "--quiet"], None, None)).await;
        listed.lines().map(str::to_owned).collect()
    }

    fn control(
        &self,
        words: &[&str],
        directory: Option<&Path>,
        image: Option<&str>,
    ) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.control);
        command.arg("--address").arg(self.server.directory().join("sock")).args(words);
        command.args(directory).args(image).env("HOME", self.server.directory());
        command
    }
}

/// Runs a command. Whether it succeeded, and its outputs.
async fn run(mut command: tokio::process::Command) -> (bool, String, String) {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{command:?} takes more than {PATIENCE:?}"));
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.success(), text(output.stdout), text(output.stderr))
}
