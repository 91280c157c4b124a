use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::Secret;

/// How long anything may take that a test waits for. Of no influence on tests that pass.
const PATIENCE: Duration = Duration::from_mins(1);

/// A directory of helper programs.
struct Programs {
    directory: tempfile::TempDir,
    time_limit: Duration,
}

impl Programs {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), time_limit: PATIENCE }
    }

    /// Installs a shell script. It is written by another process: a file that this one has open for writing, as a
    /// program that another test starts meanwhile may see it, cannot be run.
    fn install(&self, name: &str, script: &str) {
        let path = self.path(&format!("docker-credential-{name}"));
        let mut shell = Command::new("sh")
            .args(["-c", "cat >\"$0\" && chmod +x \"$0\""])
            .arg(path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn helpers(&self) -> Helpers {
        let search_path = vec!["bin".into(), "/nowhere".into(), self.directory.path().to_owned()];
        Helpers::new(HelperOptions { search_path, time_limit: self.time_limit })
    }
}

fn server(helper: &str, server: &str) -> HelperServer {
    HelperServer::of(helper.parse().unwrap(), server)
}

async fn ask(provider: &Arc<dyn CredentialProvider>) -> Result<Credentials, String> {
    let name = "a.example/x".parse().unwrap();
    provider.credentials(&name).await.map_err(|error| error.to_string())
}

/// Lets this much time pass, as far as tokio's clock is concerned.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[test]
fn names_are_those_of_programs() {
    for name in ["ecr-login", "gcloud", "a.b_c", "X9", &"x".repeat(64)] {
        assert_eq!(name.parse::<HelperName>().unwrap().to_string(), *name);
    }
    for name in ["", "a/b", "../x", "a b", "x;y", "é", "$(x)", &"x".repeat(65)] {
        assert_eq!(name.parse::<HelperName>(), Err(HelperNameError), "{name}");
    }
}

#[tokio::test]
async fn a_program_is_asked_by_the_protocol() {
    let programs = Programs::new();
    programs.install(
        "echo",
        r#"test "$1" = get || exit 3; read -r server; printf '{"ServerURL":"%s","Username":"u","Secret":"s of %s"}' "$server" "$server""#,
    );
    programs.install("token", r#"cat >/dev/null; echo '{"Username":"<token>","Secret":"t"}'"#);
    let helpers = programs.helpers();
    for (host, asked) in [("a.example:5000", "a.example:5000"), ("docker.io", "https://index.docker.io/v1/")]
    {
        let provider = helpers.provider(server("echo", host));
        let provenance = format!("docker-credential-echo for {asked}");
        assert_eq!(provider.provenance(), provenance);
        let expected = Credentials::Basic {
            username: "u".to_owned(),
            password: Secret::new(format!("s of {asked}")),
            provenance: provenance.into(),
        };
        assert_eq!(ask(&provider).await, Ok(expected));
    }
    let token = ask(&helpers.provider(server("token", "a.example"))).await.unwrap();
    assert!(matches!(token, Credentials::IdentityToken { token, .. } if token == Secret::new("t")));
    assert!(helpers.problems().is_empty());
}

#[tokio::test]
async fn what_a_program_can_do_wrong_is_said_without_its_secret() {
    let programs = Programs::new();
    programs.install("none", "echo 'credentials not found in native keychain'; exit 1");
    programs.install("empty", r#"echo '{"ServerURL":"","Username":"","Secret":""}'"#);
    programs.install("locked", "printf 'the vault\\nis locked'; exit 2");
    programs.install("mute", "exit 2");
    programs.install("plain", "echo topsecret; echo topsecret >&2; exit 1");
    programs.install("killed", "echo topsecret; kill -9 $$");
    programs.install("confused", r#"echo '{"Username":"u","Secret":"topsecret"}'; exit 2"#);
    programs.install("chatty", "echo topsecret");
    programs.install("nobody", r#"echo '{"Username":"","Secret":"topsecret"}'"#);
    programs.install("flood", "yes topsecret");
    std::fs::write(programs.path("docker-credential-asleep"), "#!/bin/sh\n").unwrap();
    let helpers = programs.helpers();
    let mut held = Vec::new();
    for (helper, expected, is_problem) in [
        ("none", "it has none", false),
        ("empty", "it has none", false),
        ("locked", "it failed (exit status: 2)", true),
        ("mute", "it failed (exit status: 2)", true),
        ("confused", "it failed (exit status: 2)", true),
        ("plain", "it failed (exit status: 1)", true),
        ("killed", "it failed (signal: 9 (SIGKILL))", true),
        ("chatty", "its answer is not of the protocol", true),
        ("nobody", "the user name is empty", true),
        ("flood", "it says more than 65536 bytes", true),
        ("absent", "the program is not found in PATH", true),
        ("asleep", "the program is not found in PATH", true),
    ] {
        let provider = helpers.provider(server(helper, "a.example"));
        let problem = format!("docker-credential-{helper} for a.example: {expected}");
        assert_eq!(ask(&provider).await, Err(problem.clone()), "{helper}");
        assert_eq!(helpers.problems().contains(&problem), is_problem, "{helper}: {:?}", helpers.problems());
        held.push(provider);
    }
    drop(held);
    assert!(helpers.problems().is_empty(), "what nobody uses is no problem");
}

#[tokio::test]
async fn answers_are_kept_until_they_are_old_or_refused() {
    let programs = Programs::new();
    let count = programs.path("count");
    programs.install(
        "counting",
        &format!(r#"echo >>{0}; printf '{{"Username":"u","Secret":"%s"}}' $(wc -l <{0})"#, count.display()),
    );
    let helpers = programs.helpers();
    let provider = helpers.provider(server("counting", "a.example"));
    let password = |credentials: &Credentials| match credentials {
        Credentials::Basic { password, .. } => password.reveal().to_owned(),
        other => panic!("{other}"),
    };
    let together = futures_util::future::join_all((0..10).map(|_| ask(&provider))).await;
    assert!(together.iter().all(|answer| password(answer.as_ref().unwrap()) == "1"), "one asks for all");
    pass(KEEP_CREDENTIALS_FOR / 2).await;
    let first = ask(&provider).await.unwrap();
    assert_eq!(password(&first), "1");

    let unrelated = Credentials::Anonymous;
    provider.refused(&unrelated);
    assert_eq!(password(&ask(&provider).await.unwrap()), "1");
    provider.refused(&first);
    let second = ask(&provider).await.unwrap();
    assert_eq!(password(&second), "2");
    provider.refused(&second);
    assert_eq!(password(&ask(&provider).await.unwrap()), "2", "a program is not run without end");
    pass(LEAVE_HELPER_ALONE_FOR).await;
    let third = ask(&provider).await.unwrap();
    assert_eq!(password(&third), "3");
    pass(KEEP_CREDENTIALS_FOR).await;
    assert_eq!(password(&ask(&provider).await.unwrap()), "4");
}

#[tokio::test]
async fn a_program_that_failed_is_left_alone_for_a_while() {
    let programs = Programs::new();
    let open = programs.path("open");
    programs.install(
        "vault",
        &format!(r#"test -e {} || exit 1; echo '{{"Username":"u","Secret":"s"}}'"#, open.display()),
    );
    let helpers = programs.helpers();
    let provider = helpers.provider(server("vault", "a.example"));
    assert!(ask(&provider).await.is_err());
    std::fs::write(open, "").unwrap();
    assert!(ask(&provider).await.is_err());
    assert_eq!(helpers.problems().len(), 1);
    pass(LEAVE_HELPER_ALONE_FOR).await;
    assert!(ask(&provider).await.is_ok());
    assert!(helpers.problems().is_empty());
}

#[tokio::test]
async fn the_same_server_has_the_same_provider_while_anybody_holds_it() {
    let helpers = Programs::new().helpers();
    let one = helpers.provider(server("x", "a.example"));
    assert!(Arc::ptr_eq(&one, &helpers.provider(server("x", "a.example"))));
    assert!(!Arc::ptr_eq(&one, &helpers.provider(server("y", "a.example"))));
    assert!(!Arc::ptr_eq(&one, &helpers.provider(server("x", "b.example"))));
    drop(helpers.provider(server("z", "a.example")));
    assert_eq!(helpers.lock().len(), 2, "those that nobody holds are forgotten");
}

/// A script that hangs with a child that hangs, both of which hold a lock on `lock`, in which they say so.
fn hanging(programs: &Programs) -> PathBuf {
    let lock = programs.path("lock");
    programs.install(
        "hanging",
        &format!("exec 9>>{}; flock 9; echo started >&9; sleep 1000 & sleep 1000", lock.display()),
    );
    lock
}

/// Waits until nobody holds the lock any more.
async fn released(lock: PathBuf) {
    let locked = tokio::task::spawn_blocking(move || std::fs::File::open(lock).unwrap().lock().unwrap());
    tokio::time::timeout(PATIENCE, locked).await.expect("somebody still lives").unwrap();
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_at_the_time_limit_with_its_children() {
    let mut programs = Programs::new();
    let lock = hanging(&programs);
    // On a machine that is busy it may take a while to start.
    for seconds in [1, 4, 16] {
        programs.time_limit = Duration::from_secs(seconds);
        let provider = programs.helpers().provider(server("hanging", "a.example"));
        let expected = "docker-credential-hanging for a.example: it took longer than";
        assert_eq!(ask(&provider).await, Err(format!("{expected} {seconds}s and was killed")));
        if std::fs::read(&lock).is_ok_and(|text| !text.is_empty()) {
            return released(lock).await;
        }
    }
    panic!("it never started");
}

#[tokio::test]
async fn a_program_is_killed_when_nobody_waits_for_it_and_the_next_one_asks_again() {
    let programs = Programs::new();
    let lock = hanging(&programs);
    let helpers = programs.helpers();
    let provider = helpers.provider(server("hanging", "a.example"));
    let started = async {
        while std::fs::read(&lock).is_ok_and(|text| text.is_empty()) || !lock.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = ask(&provider) => panic!("{answer:?}"),
        () = started => {}
    }
    released(lock).await;
    programs.install("hanging", r#"echo '{"Username":"u","Secret":"s"}'"#);
    assert!(ask(&provider).await.is_ok());
}

#[tokio::test]
async fn only_so_many_programs_run_at_once() {
    let programs = Programs::new();
    let log = programs.path("log");
    let script = format!(
        r#"printf + >>{0}; sleep 0.05; printf - >>{0}; echo '{{"Username":"u","Secret":"s"}}'"#,
        log.display()
    );
    programs.install("slow", &script);
    let helpers = programs.helpers();
    let providers: Vec<_> =
        (0..12).map(|number| helpers.provider(server("slow", &format!("h{number}.example")))).collect();
    let answers = futures_util::future::join_all(providers.iter().map(ask)).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let (mut running, mut most) = (0_usize, 0);
    for step in std::fs::read_to_string(log).unwrap().chars() {
        running = if step == '+' { running + 1 } else { running - 1 };
        most = most.max(running);
    }
    assert!((2..=MOST_HELPERS).contains(&most), "{most} at once");
}
