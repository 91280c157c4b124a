//! A server in a process of its own that never outlives its test.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// How often another process is looked at while the test waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a server may take to start or to end. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_mins(1);

/// What to start, and with what.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    removed_variables: Vec<String>,
}

impl Launch {
    /// A program of Debian's, looked for in `PATH`. Panics where it is missing, with the command that installs the
    /// package it comes in.
    pub fn of_package(program: &str, package: &str) -> Self {
        Self::of_binary(find_program(program, package))
    }

    /// A program by its path.
    pub fn of_binary(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        Self { program, arguments: Vec::new(), environment: Vec::new(), removed_variables: Vec::new() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable. What is not set is inherited.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Keeps variables whose name begins with `prefix` from being inherited.
    #[must_use]
    pub fn without_variables(mut self, prefix: &str) -> Self {
        let inherited = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        self.removed_variables.extend(inherited.filter(|name| name.starts_with(prefix)));
        self
    }

    /// The command, under a guard that kills it when the thread that starts it ends, however that ends.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(find_program("setpriv", "util-linux"));
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null());
        for name in &self.removed_variables {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }
}

/// A running process with its own directory, where its output goes to files. It is killed when this value is dropped,
/// and also when the thread that started it ends: a server belongs to one test, never to several.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    directory: Arc<TempDir>,
    stdout: OutputFile,
    stderr: OutputFile,
}

impl Server {
    /// Starts a process in `directory`. It need not be ready yet.
    pub fn start(launch: &Launch, directory: Arc<TempDir>) -> Self {
        let name = launch.name();
        let stdout = OutputFile::open(directory.path().join(format!("{name}.stdout")));
        let stderr = OutputFile::open(directory.path().join(format!("{name}.stderr")));
        let child = launch
            .command()
            .current_dir(directory.path())
            .stdout(stdout.writer())
            .stderr(stderr.writer())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {name}: {error}"));
        Self { name, child, ended: None, directory, stdout, stderr }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the process runs and its output is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What this process has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.read()
    }

    /// What this process has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.read()
    }

    /// How the process ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("our own child can be waited for");
        }
        self.ended
    }

    /// Waits until `find` finds something in what was written to stderr. `None` where the process ended before;
    /// panics, with the output, where nothing is found in a minute.
    pub async fn find_in_stderr<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let start = Instant::now();
        loop {
            // In this order: what is written before the end is found after it.
            let ended = self.ended();
            if let Some(found) = find(&self.stderr()) {
                return Some(found);
            }
            if ended.is_some() {
                return None;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} is not ready after {PATIENCE:?}:\n{}",
                self.name,
                self.stderr()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Sends a signal, named as `kill` names it: `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        assert!(self.ended.is_none(), "{} has ended: there is nothing to send SIG{name} to", self.name);
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().expect("`kill` can be run");
        assert!(status.success(), "sending SIG{name} to {}: {status}", self.name);
    }

    /// Kills the process with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            // It may end by itself at this moment.
            let _ = self.child.kill();
            self.ended = Some(self.child.wait().expect("our own child can be waited for"));
        }
    }

    /// Asks the process to end with SIGTERM and waits until it has. Panics, with the output, after a minute.
    pub async fn terminate(&mut self) -> ExitStatus {
        if self.ended().is_none() {
            self.signal("TERM");
        }
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{} ignores SIGTERM:\n{}", self.name, self.stderr());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A file that a process appends its output to; what processes before it wrote is left out.
#[derive(Debug)]
struct OutputFile {
    path: PathBuf,
    start: u64,
}

impl OutputFile {
    fn open(path: PathBuf) -> Self {
        let start = path.metadata().map_or(0, |metadata| metadata.len());
        Self { path, start }
    }

    fn writer(&self) -> File {
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        file.unwrap_or_else(|error| panic!("opening {}: {error}", self.path.display()))
    }

    fn read(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.start))?;
            file.read_to_end(&mut bytes)
        });
        read.unwrap_or_else(|error| panic!("reading {}: {error}", self.path.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A loopback port that was free a moment ago, for servers that cannot choose one themselves. Another process may take
/// it first: try again with another one then.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port is free");
    listener.local_addr().expect("a listener has an address").port()
}

/// Where a program is. Panics where it is missing, with the command that installs it.
pub(crate) fn find_program(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("this test needs `{program}`: apt-get install {package}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary_directory() -> Arc<TempDir> {
        Arc::new(TempDir::new().expect("a temporary directory can be made"))
    }

    fn is_alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    fn sleeping_server() -> Server {
        Server::start(&Launch::of_package("sleep", "coreutils").arguments(["1000"]), temporary_directory())
    }

    #[test]
    fn a_server_ends_with_its_value_also_in_a_panic() {
        let server = sleeping_server();
        let (pid, directory) = (server.pid(), server.directory().to_owned());
        assert!(is_alive(pid));
        let panicked = std::thread::spawn(move || {
            let _server = server;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert!(!is_alive(pid));
        assert!(!directory.exists());
    }

    #[tokio::test]
    async fn a_server_ends_with_the_thread_that_started_it() {
        let (send, receive) = std::sync::mpsc::channel();
        let starter = std::thread::spawn(move || {
            let mut server = Server::start(
                &Launch::of_package("sh", "dash").arguments(["-c", "echo ready >&2; exec sleep 1000"]),
                temporary_directory(),
            );
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(server.find_in_stderr(|text| text.contains("ready").then_some(())));
            send.send(server).expect("the test waits for the server");
        });
        let mut server = receive.recv().expect("the server was started");
        starter.join().expect("the thread ends");
        let start = Instant::now();
        while server.ended().is_none() {
            assert!(start.elapsed() < PATIENCE, "the server outlives its thread");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    #[tokio::test]
    async fn terminates_and_reports_how_it_ended() {
        let mut server = sleeping_server();
        let status = server.terminate().await;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
        assert_eq!(server.ended(), Some(status));
    }

    #[test]
    #[should_panic(expected = "apt-get install no-such-package")]
    fn a_missing_program_is_named_with_its_package() {
        Launch::of_package("no-such-program", "no-such-package");
    }
}
