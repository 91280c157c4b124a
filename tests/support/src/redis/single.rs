//! One server.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::Instant;

use super::{LOOK_EVERY, PATIENCE};
use crate::certificates::Certificates;
use crate::server::{Launch, Server, find_program, free_port};

/// What it writes when it listens.
const READY: &str = "Ready to accept connections";
/// What it writes when somebody else was faster.
const PORT_TAKEN: &str = "Address already in use";

/// A running `redis-server` on a free loopback port, which keeps nothing on disk. Ends when dropped.
#[derive(Debug)]
pub struct RedisServer {
    builder: RedisServerBuilder,
    port: u16,
    server: Server,
    directory: Arc<TempDir>,
}

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct RedisServerBuilder {
    arguments: Vec<OsString>,
    configuration: Option<String>,
    password: Option<String>,
    certificates: Option<Arc<Certificates>>,
    cluster_port: Option<u16>,
    sentinel: bool,
}

impl RedisServerBuilder {
    /// Adds a setting, as in its configuration file.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([format!("--{name}").into(), value.into()]);
        self
    }

    /// Asks for a password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.setting("requirepass", password).setting("masterauth", password)
    }

    /// Knows a user with these rules, in the words of `ACL SETUSER`.
    #[must_use]
    pub fn user(mut self, name: &str, rules: &[&str]) -> Self {
        self.arguments.extend(["--user".into(), name.into()]);
        self.arguments.extend(rules.iter().map(Into::into));
        self
    }

    /// Speaks TLS only, with a certificate for `localhost` and `127.0.0.1` by an authority of its own.
    #[must_use]
    pub fn tls(self) -> Self {
        self.certificates(Arc::new(Certificates::make()))
    }

    /// Speaks TLS only, with these certificates.
    pub(super) fn certificates(mut self, certificates: Arc<Certificates>) -> Self {
        self.certificates = Some(certificates);
        self
    }

    /// Is a node of a cluster.
    pub(super) fn cluster_node(mut self) -> Self {
        // Beyond the range of ports that `free_port` gives, the usual distance of 10,000 is no port.
        self.cluster_port = Some(free_port());
        self
    }

    /// Is a sentinel, with this configuration.
    pub(super) fn sentinel(mut self, configuration: String) -> Self {
        self.sentinel = true;
        self.configuration = Some(configuration);
        self
    }

    /// Starts it and waits until it listens.
    pub async fn start(mut self) -> RedisServer {
        let directory = Arc::new(TempDir::with_prefix("redis-").expect("a temporary directory can be made"));
        let start = Instant::now();
        loop {
            let port = free_port();
            match self.launch(port, &directory).await {
                Ok(server) => return RedisServer { builder: self, port, server, directory },
                Err(output) => {
                    assert!(output.contains(PORT_TAKEN), "redis-server ended at its start:\n{output}");
                    assert!(start.elapsed() < PATIENCE, "no port stays free:\n{output}");
                    self.cluster_port = self.cluster_port.map(|_| free_port());
                }
            }
        }
    }

    /// Starts the process and waits until it listens. `Err` with its output where it ends instead.
    async fn launch(&self, port: u16, directory: &Arc<TempDir>) -> Result<Server, String> {
        let mut launch = Launch::of_package("redis-server", "redis-server");
        if let Some(configuration) = &self.configuration {
            let file = directory.path().join("redis.conf");
            std::fs::write(&file, configuration).expect("a configuration can be written");
            launch = launch.arguments([file]);
        }
        if self.sentinel {
            launch = launch.arguments(["--sentinel"]);
        } else {
            launch =
                launch.arguments(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
        }
        if let Some(port) = self.cluster_port {
            launch = launch.arguments(["--cluster-enabled", "yes", "--cluster-port", &port.to_string()]);
        }
        let port = port.to_string();
        launch = launch.arguments(["--bind", "127.0.0.1", "--dir"]).arguments([directory.path()]);
        launch = match &self.certificates {
            None => launch.arguments(["--port", &port]),
            Some(certificates) => {
                let launch =
                    launch.arguments(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
                let files = [
                    ("--tls-cert-file", "server.pem"),
                    ("--tls-key-file", "server.key"),
                    ("--tls-ca-cert-file", "authority.pem"),
                ];
                files.into_iter().fold(launch, |launch, (flag, file)| {
                    launch.arguments([flag.into(), certificates.file(file).into_os_string()])
                })
            }
        };
        let mut server = Server::start(&launch.arguments(&self.arguments), Arc::clone(directory));
        let ready = if self.sentinel { "+monitor" } else { READY };
        let start = Instant::now();
        loop {
            // In this order: what is written before the end is found after it.
            let ended = server.ended();
            let output = server.stdout() + &server.stderr();
            if ended.is_some() {
                return Err(output);
            }
            if output.contains(ready) {
                return Ok(server);
            }
            assert!(start.elapsed() < PATIENCE, "redis-server does not listen:\n{output}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl RedisServer {
    /// Starts one without a password.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// One with settings.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority that its certificate is by, where it speaks TLS.
    pub fn certificate_authority(&self) -> Option<PathBuf> {
        self.builder.certificates.as_deref().map(Certificates::authority)
    }

    /// What it answers to a command, by `redis-cli`; several values in a line each. Panics where that is an error.
    pub async fn ask(&self, words: &[&str]) -> String {
        self.try_to_ask(words).await.unwrap_or_else(|error| panic!("{words:?} at {}: {error}", self.host()))
    }

    /// The same, where it may fail.
    pub(super) async fn try_to_ask(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(find_program("redis-cli", "redis-tools"));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-e"]);
        if let Some(password) = &self.builder.password {
            command.env("REDISCLI_AUTH", password);
        }
        if let Some(certificates) = &self.builder.certificates {
            command.arg("--tls").arg("--cacert").arg(certificates.authority());
        }
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .map_err(|_| "no answer".to_owned())?
            .expect("`redis-cli` can be run");
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        if output.status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&output.stderr)) }
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.server.terminate().await
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same port, empty, killing it first where it runs.
    pub async fn restart(&mut self) {
        self.server.kill();
        let start = Instant::now();
        self.server = loop {
            match self.builder.launch(self.port, &self.directory).await {
                Ok(server) => break server,
                // Another process may have been given the port for a moment.
                Err(output) => {
                    assert!(start.elapsed() < PATIENCE, "redis-server does not start again:\n{output}");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
    }

    /// Makes it hang: connections are accepted by the kernel, and nothing is answered until [`RedisServer::resume`].
    pub fn pause(&self) {
        self.server.signal("STOP");
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.server.signal("CONT");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_answers_and_forgets_when_it_is_started_again() {
        let mut server = RedisServer::start().await;
        assert_eq!(server.ask(&["SET", "a", "1"]).await, "OK");
        assert_eq!(server.ask(&["GET", "a"]).await, "1");
        server.restart().await;
        assert_eq!(server.ask(&["GET", "a"]).await, "");
    }

    #[tokio::test]
    async fn passwords_users_and_tls_are_as_told() {
        let server = RedisServer::builder()
            .password("secret")
            .user("reader", &["on", ">other", "~*", "+get"])
            .tls()
            .start()
            .await;
        assert_eq!(server.ask(&["ACL", "WHOAMI"]).await, "default");
        assert!(server.ask(&["ACL", "LIST"]).await.contains("user reader on"));
        assert!(server.certificate_authority().expect("it speaks TLS").exists());
        assert!(server.try_to_ask(&["NO-SUCH-COMMAND"]).await.is_err());
    }
}
