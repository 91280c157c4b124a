//! What the log says of a repository, and how often.

use std::io::{self, Write};
use std::sync::Mutex;

use super::*;

/// What was logged on this thread, which runs the whole of a test.
#[derive(Debug, Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Logged {
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let logged = Self::default();
        let writer = logged.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        (logged, tracing::subscriber::set_default(subscriber))
    }

    /// The lines since the last call that contain this text.
    fn take(&self, part: &str) -> Vec<String> {
        let text = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(text).unwrap();
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

fn unauthorised() -> ErrorKind {
    ErrorKind::Unauthorized { credentials: r#"user "alice" from config.json"#.into(), message: None }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_state_is_one_warning() {
    let (logged, _guard) = Logged::start();
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    assert_eq!(logged.take("WARN"), [""; 0]);

    world.set_failure("registry.example", Some(unauthorised()));
    tokio::time::sleep(HOUR * 12).await;
    let warnings = logged.take("WARN");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains(r#"unauthorised with user "alice" from config.json"#), "{warnings:?}");
    assert!(warnings[0].contains("registry.example/team/app"));

    // A registry that is down now and then is no change of it.
    for failure in [ErrorKind::Unavailable { status: 503, message: None }, unauthorised()] {
        world.set_failure("registry.example", Some(failure));
        tokio::time::sleep(HOUR * 3).await;
    }
    assert_eq!(logged.take("WARN"), [""; 0]);

    world.set_failure("registry.example", None);
    samovar.until(&app, |repository| repository.last_error.is_none()).await;
    tokio::time::sleep(HOUR).await;
    let recovered = logged.take("registry.example/team/app");
    assert_eq!(recovered.len(), 1, "{recovered:#?}");
    assert!(recovered[0].contains("repository.recovered"));
}

#[tokio::test(start_paused = true)]
async fn that_credentials_are_refused_is_said_also_of_what_failed_before() {
    let (logged, _guard) = Logged::start();
    let (world, store) = (World::default(), memory());
    let app = filled(&world, "registry.example/team/app", 3);
    let samovar = start(&world, &store, &[&app]);
    samovar.complete(&app).await;
    for (failure, expected) in
        [(ErrorKind::Unavailable { status: 503, message: None }, "503"), (unauthorised(), "unauthorised")]
    {
        world.set_failure("registry.example", Some(failure));
        tokio::time::sleep(HOUR * 6).await;
        let warnings = logged.take("WARN");
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        assert!(warnings[0].contains(expected), "{warnings:?}");
    }
}
