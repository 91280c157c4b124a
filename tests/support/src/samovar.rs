//! Our own binary, as its users run it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::docker_registry::DockerRegistry;
use crate::event_stream::EventStream;
use crate::fake::dialects;
use crate::planted::Planted;
use crate::pusher::http_client;
use crate::server::{Launch, Server};

/// How often [`SamovarServer::wait_until`] asks.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How long a command may take, or a request. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_mins(2);

/// The binary with a home of its own: an empty directory where it keeps its store and finds no credentials. Several
/// servers in turn, and commands beside them, share that home; it goes with the last of them.
#[derive(Debug, Clone)]
pub struct Samovar {
    binary: PathBuf,
    home: Arc<TempDir>,
    variables: Vec<(String, OsString)>,
    removed: Vec<String>,
}

impl Samovar {
    /// The binary at this path: `env!("CARGO_BIN_EXE_samovar")` in a test of the package that builds it.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let home = TempDir::with_prefix("samovar-").expect("a temporary directory can be made");
        std::fs::create_dir(home.path().join("docker")).expect("a directory can be made in a new one");
        Self { binary: binary.into(), home: Arc::new(home), variables: Vec::new(), removed: Vec::new() }
    }

    /// Sets an environment variable for what is started from now on.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Lets nothing of the test's own environment through whose name begins so.
    #[must_use]
    pub fn without_variables(mut self, prefix: impl Into<String>) -> Self {
        self.removed.push(prefix.into());
        self
    }

    /// The directory in which it runs, and where files for it can be put.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file into [`Self::home`] and returns its path.
    pub fn write_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
        path
    }

    /// Writes the docker `config.json` that it finds without being told.
    pub fn write_docker_config(&self, text: &str) -> PathBuf {
        self.write_file("docker/config.json", text)
    }

    /// `samovar serve --listen 127.0.0.1:0` and these arguments; returns when it listens. Panics, with its log, where
    /// it ends instead.
    pub async fn serve<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> SamovarServer {
        let launch = self.launch().arguments(["serve", "--listen", "127.0.0.1:0"]).arguments(arguments);
        let mut server = Server::start(&launch, Arc::clone(&self.home));
        let Some(address) = server.find_in_stderr(listening_address).await else {
            panic!("samovar ended at its start, {:?}:\n{}", server.ended(), server.stderr());
        };
        SamovarServer { server, address, http: http_client() }
    }

    /// Runs `samovar` with these arguments to its end.
    pub async fn run<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        let mut command = tokio::process::Command::from(self.launch().arguments(arguments).command());
        command.current_dir(self.home.path()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output =
            output.unwrap_or_else(|_| panic!("the command takes more than {PATIENCE:?}: {command:?}"));
        let output = output.unwrap_or_else(|error| panic!("running {command:?}: {error}"));
        Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn launch(&self) -> Launch {
        let home = self.home.path();
        let launch = Launch::of_binary(&self.binary)
            .without_variables("SAMOVAR_")
            .without_variables("STATE_DIRECTORY")
            .variable("SAMOVAR_LOG_FORMAT", "json")
            .variable("SAMOVAR_LOG", std::env::var_os("SAMOVAR_LOG").unwrap_or_default())
            .variable("HOME", home)
            .variable("XDG_DATA_HOME", home.join("data"))
            .variable("DOCKER_CONFIG", home.join("docker"));
        let launch = self.removed.iter().fold(launch, |launch, prefix| launch.without_variables(prefix));
        self.variables.iter().fold(launch, |launch, (name, value)| launch.variable(name, value))
    }
}

/// How a command ended, and what it said.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

impl Output {
    /// Stdout as JSON; panics with everything where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON, {error}: {self:?}"))
    }
}

/// A running `samovar serve`. Killed when dropped; what it has logged until then must hold none of the passwords that the
/// tests' own servers want. `SAMOVAR_LOG=trace` in the tests' environment makes it log more.
#[derive(Debug)]
pub struct SamovarServer {
    server: Server,
    address: String,
    http: reqwest::Client,
}

impl SamovarServer {
    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.address
    }

    /// The URL of a path, which begins with a slash. The empty path gives what `--server` takes.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// What it has logged so far: one JSON document a line.
    pub fn log(&self) -> String {
        self.server.stderr()
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    /// GET with these headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(with_headers(self.http.get(self.url(path)), headers)).await
    }

    /// GET; the body as text where the status is 200, a panic where it is not.
    pub async fn get_text(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}\nlog:\n{}", self.log());
        answer.text
    }

    /// Any method, with these headers. Redirects are answers.
    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.build().expect("an HTTP client can be built");
        let method = method.parse().expect("a method");
        self.send(with_headers(client.request(method, self.url(path)), headers)).await
    }

    /// POST of a JSON document.
    pub async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.send(self.http.post(self.url(path)).json(body)).await
    }

    /// POST of anything, with these headers.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: impl Into<String>) -> Answer {
        self.send(with_headers(self.http.post(self.url(path)), headers).body(body.into())).await
    }

    /// Asks `path` again and again until the answer is as wanted, and returns it. Panics after `limit`, with the last
    /// answer and the log.
    pub async fn wait_until(&self, path: &str, wanted: impl Fn(&Answer) -> bool, limit: Duration) -> Answer {
        let start = Instant::now();
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(
                start.elapsed() < limit,
                "{path} is not as wanted after {limit:?}; the last answer: {} {}\nlog:\n{}",
                answer.status,
                answer.text,
                self.log()
            );
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Kills it with SIGKILL, as a crash would, and waits for its end.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Asks it to end with SIGTERM and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.server.terminate().await
    }

    /// Sends a signal, named as `kill` names it.
    pub fn signal(&self, name: &str) {
        self.server.signal(name);
    }

    /// GET of an event stream, resumed from an id where one is given.
    pub async fn follow(&self, path: &str, last_event_id: Option<&str>) -> EventStream {
        let request = self.http.get(self.url(path));
        let request =
            last_event_id.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        let answer = request.send().await;
        EventStream::of(answer.unwrap_or_else(|error| panic!("{error:?}\nlog:\n{}", self.log())))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = async { Answer::read(request.timeout(PATIENCE).send().await?).await };
        answer.await.unwrap_or_else(|error| panic!("{error:?}\nlog:\n{}", self.log()))
    }
}

impl Drop for SamovarServer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            Planted::new([DockerRegistry::PASSWORD, dialects::ecr::PASSWORD])
                .assert_absent("the log", self.log());
        }
    }
}

fn with_headers(request: reqwest::RequestBuilder, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

/// Finds the address in the JSON line that says that the server listens. Fields stand beside the message, which is at
/// the top or with them under `fields`.
fn listening_address(log: &str) -> Option<String> {
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let fields = if line["fields"].is_object() { &line["fields"] } else { &line };
        (fields["message"] == "listening").then(|| fields["server.address"].as_str().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Image;
    use crate::fake::{Action, FakeRegistry, Fault, RequestKind};

    #[test]
    fn finds_the_address_in_either_form_of_the_log() {
        let nested =
            "{\"level\":\"INFO\",\"fields\":{\"message\":\"listening\",\"server.address\":\"127.0.0.1:1\"}}";
        let flat = "no json\n{\"message\":\"listening\",\"server.address\":\"127.0.0.1:2\"}";
        assert_eq!(listening_address(nested).as_deref(), Some("127.0.0.1:1"));
        assert_eq!(listening_address(flat).as_deref(), Some("127.0.0.1:2"));
        assert_eq!(listening_address("{\"message\":\"starting\"}\n{\"mess"), None);
    }

    /// A script stands for the binary: this crate may not depend on the one that builds it.
    fn stand_in(script: &str) -> Samovar {
        let samovar = Samovar::new("/bin/sh");
        samovar.write_file("serve", script);
        samovar
    }

    #[tokio::test]
    async fn runs_in_its_own_home_and_reports_output_and_code() {
        let samovar = Samovar::new("/bin/sh").variable("SAMOVAR_RPS", "7");
        let script = "echo \"$SAMOVAR_RPS $SAMOVAR_LOG_FORMAT $DOCKER_CONFIG\"; pwd; echo no >&2; exit 3";
        let output = samovar.run(["-c", script]).await;
        let home = samovar.home().display().to_string();
        assert_eq!(output.code, Some(3));
        assert_eq!(output.stdout, format!("7 json {home}/docker\n{home}\n"));
        assert_eq!(output.stderr, "no\n");
    }

    #[tokio::test]
    async fn a_server_is_ready_when_it_says_so_and_terminates() {
        let samovar = stand_in(
            "echo '{\"fields\":{\"message\":\"listening\",\"server.address\":\"127.0.0.1:9\"}}' >&2; exec sleep 1000",
        );
        let mut server = samovar.serve(["ignored"]).await;
        assert_eq!(server.url("/healthz"), "http://127.0.0.1:9/healthz");
        assert!(server.log().contains("listening"));
        assert!(!server.terminate().await.success());
    }

    /// A server that says that it listens where a fake registry does.
    async fn server_in_front_of(fake: &FakeRegistry) -> SamovarServer {
        let line = format!("{{\"message\":\"listening\",\"server.address\":\"{}\"}}", fake.host());
        stand_in(&format!("echo '{line}' >&2; exec sleep 1000")).serve(["ignored"]).await
    }

    #[tokio::test]
    async fn asks_and_waits_until_the_answer_is_as_wanted() {
        let fake = FakeRegistry::start().await;
        fake.push("app", "v1", &Image::new("a"));
        fake.fault(Fault::on(RequestKind::Tags).times(2), Action::status(503));
        let server = server_in_front_of(&fake).await;

        assert_eq!(server.get("/v2/app/tags/list").await.status, 503);
        let limit = Duration::from_mins(1);
        let answer = server.wait_until("/v2/app/tags/list", |answer| answer.status == 200, limit).await;
        assert_eq!(answer.json()["tags"], json!(["v1"]));
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
        assert_eq!(server.get_text("/v2/").await, "{}");
        server.get_with("/v2/", &[("if-none-match", "\"x\"")]).await;
        server.post_json("/refresh", &json!({"image": "app"})).await;
        server.post_with("/refresh", &[("content-type", "text/plain")], "x").await;

        let requests = fake.requests();
        let asked =
            |number: usize, name: &str| requests[number].headers[name].to_str().expect("text").to_owned();
        assert_eq!(requests.len(), 7);
        assert_eq!(asked(4, "if-none-match"), "\"x\"");
        assert_eq!(
            (requests[5].method.as_str(), asked(5, "content-type").as_str()),
            ("POST", "application/json")
        );
        assert_eq!((requests[6].method.as_str(), asked(6, "content-type").as_str()), ("POST", "text/plain"));
    }

    #[tokio::test]
    #[should_panic(expected = "the last answer: 404")]
    async fn waiting_ends_with_the_last_answer() {
        let fake = FakeRegistry::start().await;
        let server = server_in_front_of(&fake).await;
        server.wait_until("/nothing", |answer| answer.status == 200, Duration::ZERO).await;
    }

    #[tokio::test]
    #[should_panic(expected = "no such flag")]
    async fn a_server_that_ends_instead_panics_with_its_log() {
        stand_in("echo no such flag >&2; exit 2").serve(["--nonsense"]).await;
    }
}
