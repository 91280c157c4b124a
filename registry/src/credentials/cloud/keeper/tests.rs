use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::{advance, sleep};

use super::*;
use crate::Secret;

/// What the next login does.
#[derive(Debug, Clone)]
enum Script {
    /// Takes so long and gives so much.
    Gives {
        after: Duration,
        lifetime: Duration,
    },
    Fails(&'static str),
    Hangs,
    Panics,
}

const HOUR: Duration = Duration::from_hours(1);

fn gives(lifetime: Duration) -> Script {
    Script::Gives { after: Duration::from_millis(100), lifetime }
}

/// Plays a script; the last step again and again.
#[derive(Debug)]
struct Scripted {
    steps: Mutex<VecDeque<Script>>,
    logins: AtomicUsize,
    forgotten: AtomicUsize,
}

impl Scripted {
    fn new(steps: impl IntoIterator<Item = Script>) -> Arc<Self> {
        let steps = Mutex::new(steps.into_iter().collect());
        Arc::new(Self { steps, logins: AtomicUsize::new(0), forgotten: AtomicUsize::new(0) })
    }

    fn logins(&self) -> usize {
        self.logins.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Login for Scripted {
    async fn log_in(&self) -> Result<Grant, NoGrant> {
        let number = self.logins.fetch_add(1, Ordering::Relaxed) + 1;
        let step = {
            let mut steps = self.steps.lock().unwrap();
            if steps.len() > 1 { steps.pop_front().unwrap() } else { steps[0].clone() }
        };
        match step {
            Script::Gives { after, lifetime } => {
                sleep(after).await;
                Ok(Grant { credentials: token(number), lifetime })
            }
            Script::Fails(message) => Err(message.into()),
            Script::Hangs => std::future::pending().await,
            Script::Panics => panic!("a library has a fault"),
        }
    }

    fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the login of this number gives.
fn token(number: usize) -> Credentials {
    Credentials::RegistryToken { token: Secret::new(format!("token {number}")), provenance: "a test".into() }
}

fn name() -> Name {
    "registry.example/team/app".parse().unwrap()
}

async fn ask(keeper: &Keeper) -> Result<Credentials, String> {
    keeper.credentials(&name()).await.map_err(|error| error.to_string())
}

/// Lets what was started in the background come to its end.
async fn settle() {
    sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_log_in_once() {
    let login = Scripted::new([gives(HOUR)]);
    let keeper = Keeper::new("a cloud", login.clone());
    let answers = futures_util::future::join_all((0..50).map(|_| ask(&keeper))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(token(1))));
    assert_eq!(login.logins(), 1);
    assert_eq!(ask(&keeper).await, Ok(token(1)));
    assert_eq!(login.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn those_who_go_away_strand_nobody() {
    let login = Scripted::new([gives(HOUR)]);
    let keeper = Keeper::new("a cloud", login.clone());
    assert!(timeout(Duration::from_millis(10), ask(&keeper)).await.is_err());
    assert_eq!(ask(&keeper).await, Ok(token(1)));
    assert_eq!(login.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn is_renewed_ahead_while_nobody_waits() {
    let login = Scripted::new([gives(HOUR)]);
    let keeper = Keeper::new("a cloud", login.clone());
    ask(&keeper).await.unwrap();
    advance(Duration::from_mins(47)).await;
    assert_eq!(ask(&keeper).await, Ok(token(1)));
    settle().await;
    assert_eq!(login.logins(), 1, "12 minutes are left when renewal begins");

    advance(Duration::from_mins(2)).await;
    let asked = Instant::now();
    assert_eq!(ask(&keeper).await, Ok(token(1)));
    assert_eq!(asked.elapsed(), Duration::ZERO, "what is good is given out at once");
    settle().await;
    assert_eq!(ask(&keeper).await, Ok(token(2)));
    assert_eq!(login.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_not_renewed() {
    let login = Scripted::new([gives(HOUR)]);
    let keeper = Keeper::new("a cloud", login.clone());
    ask(&keeper).await.unwrap();
    sleep(10 * HOUR).await;
    assert_eq!(login.logins(), 1);
    assert_eq!(ask(&keeper).await, Ok(token(2)), "what has ended is not given out");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_leaves_what_is_good() {
    let login = Scripted::new([gives(HOUR), Script::Fails("not now")]);
    let keeper = Keeper::new("a cloud", login.clone());
    ask(&keeper).await.unwrap();
    advance(Duration::from_mins(50)).await;
    ask(&keeper).await.unwrap();
    settle().await;
    assert_eq!((ask(&keeper).await, login.logins()), (Ok(token(1)), 2));
    assert_eq!((ask(&keeper).await, login.logins()), (Ok(token(1)), 2), "and is backed off");
    advance(Duration::from_mins(10)).await;
    assert_eq!(ask(&keeper).await, Err("a cloud: not now".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn failures_are_answered_at_once_and_tried_ever_more_rarely() {
    let login = Scripted::new([Script::Fails("nobody\nthere")]);
    let keeper = Keeper::new("a cloud", login.clone());
    for _ in 0..100 {
        assert_eq!(ask(&keeper).await, Err("a cloud: nobody there".to_owned()));
    }
    assert_eq!(login.logins(), 1);
    let mut asked = 0;
    while asked < 24 * 60 * 6 {
        sleep(Duration::from_secs(10)).await;
        let _ = ask(&keeper).await;
        asked += 1;
    }
    // 30 s, doubling to an hour, each up to a quarter shorter.
    assert!((28..=42).contains(&login.logins()), "{} in a day", login.logins());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_forgotten_when_it_works_again() {
    let login = Scripted::new([Script::Fails("not yet"), Script::Fails("not yet"), gives(HOUR)]);
    let keeper = Keeper::new("a cloud", login.clone());
    ask(&keeper).await.unwrap_err();
    advance(Duration::from_secs(31)).await;
    ask(&keeper).await.unwrap_err();
    advance(Duration::from_secs(31)).await;
    ask(&keeper).await.unwrap_err();
    assert_eq!(login.logins(), 2, "the second pause is longer");
    advance(Duration::from_secs(31)).await;
    assert_eq!(ask(&keeper).await, Ok(token(3)));
    assert!(keeper.lock().trouble.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_login_has_its_time_and_no_more() {
    let login = Scripted::new([Script::Hangs]);
    let keeper = Keeper::new("a cloud", login.clone());
    let asked = Instant::now();
    assert_eq!(ask(&keeper).await, Err("a cloud: no answer within 10s".to_owned()));
    assert_eq!(asked.elapsed().as_secs(), LONGEST_LOGIN.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure() {
    let login = Scripted::new([Script::Panics, gives(HOUR)]);
    let keeper = Keeper::new("a cloud", login.clone());
    assert_eq!(ask(&keeper).await, Err("a cloud: the login ended in a panic".to_owned()));
    advance(Duration::from_secs(31)).await;
    assert_eq!(ask(&keeper).await, Ok(token(2)));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_keeper_ends_what_it_does() {
    let login = Scripted::new([Script::Hangs]);
    let keeper = Keeper::new("a cloud", login.clone());
    assert!(timeout(Duration::from_millis(10), ask(&keeper)).await.is_err());
    drop(keeper);
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&login), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_not_given_out_again() {
    let login = Scripted::new([gives(HOUR)]);
    let keeper = Keeper::new("a cloud", login.clone());
    ask(&keeper).await.unwrap();
    keeper.refused(&token(7));
    assert_eq!(ask(&keeper).await, Ok(token(1)), "that was another's");
    keeper.refused(&token(1));
    assert_eq!(login.forgotten.load(Ordering::Relaxed), 1);
    assert_eq!(ask(&keeper).await, Ok(token(2)));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_always_refuses_does_not_make_us_hammer_the_cloud() {
    let login = Scripted::new([gives(12 * HOUR)]);
    let keeper = Keeper::new("a cloud", login.clone());
    for _ in 0..24 * 60 * 6 {
        let credentials = ask(&keeper).await.unwrap();
        keeper.refused(&credentials);
        sleep(Duration::from_secs(10)).await;
    }
    assert!((20..=40).contains(&login.logins()), "{} in a day", login.logins());
}

#[tokio::test(start_paused = true)]
async fn lifetimes_are_believed_within_bounds() {
    let now = Instant::now();
    let kept = |lifetime| Kept::new(Grant { credentials: token(1), lifetime }, now);
    for (lifetime, renewed_after, good_for) in [
        (Duration::ZERO, 30, 50),
        (Duration::from_mins(8), 240, 470),
        (Duration::from_mins(20), 900, 1_190),
        (12 * HOUR, 34_560, 43_190),
        (1_000 * HOUR, 69_120, 86_390),
    ] {
        let kept = kept(lifetime);
        assert_eq!((kept.renew_at - now).as_secs(), renewed_after, "{lifetime:?}");
        assert_eq!((kept.good_until - now).as_secs(), good_for, "{lifetime:?}");
    }
}
