use std::time::Duration;

use futures_util::future::join_all;

use super::*;

const REALM: &str = "https://r.example/token";

fn found_in(number: usize, provenance: &str) -> Credentials {
    Credentials::Basic {
        username: format!("user{number}"),
        password: Secret::new("open sesame"),
        provenance: provenance.into(),
    }
}

fn user(number: usize) -> Credentials {
    found_in(number, "the test")
}

fn repository(number: usize) -> Name {
    format!("r.example/team/app{number}").parse().unwrap()
}

/// What is said to [`user`] 1.
fn refusal() -> ErrorKind {
    ErrorKind::Unauthorized { credentials: user(1).to_string(), message: None }
}

fn refuse(refusals: &Refusals, about: usize) {
    refusals.note(REALM, &user(1), &repository(about), Err(&refusal()));
}

fn accept(refusals: &Refusals) {
    refusals.note(REALM, &user(1), &repository(1), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_until_a_token_is_given() {
    let refusals = Refusals::default();
    for pause in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
        assert_eq!(refusals.standing(REALM, &user(1)), None);
        refuse(&refusals, 1);
        // Who asked at the same time lengthens nothing.
        refuse(&refusals, 2);
        tokio::time::advance(Duration::from_secs(pause - 1)).await;
        assert_eq!(refusals.standing(REALM, &user(1)), Some(refusal()));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    accept(&refusals);
    refuse(&refusals, 1);
    assert_eq!(refusals.standing(REALM, &user(1)), None, "that was about a repository");
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_is_left_alone_after_several_refusals_in_a_row() {
    for (repositories, refused_at) in [(MOST_REPOSITORIES_IN_A_ROW, 3), (1, 10), (2, 10)] {
        let refusals = Refusals::default();
        accept(&refusals);
        for _ in 0..2 {
            for number in 1..refused_at {
                refuse(&refusals, number % repositories);
                assert_eq!(refusals.standing(REALM, &user(1)), None, "{number} of {repositories}");
            }
            // One acceptance ends the row.
            accept(&refusals);
        }
        for pause in [30, 60, 120] {
            for number in 1..=refused_at {
                refuse(&refusals, number % repositories);
            }
            assert_eq!(refusals.standing(REALM, &user(1)), Some(refusal()));
            tokio::time::advance(Duration::from_secs(pause)).await;
            assert_eq!(refusals.standing(REALM, &user(1)), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_may_be_wrong_is_tried_by_one_at_a_time() {
    let refusals = Refusals::default();
    let try_it = async || match refusals.trial(REALM, &user(1)).await {
        Ok(_trial) => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            refuse(&refusals, 1);
            1
        }
        Err(kind) => {
            assert_eq!(kind, refusal());
            0
        }
    };
    for _ in 0..3 {
        let tried = join_all((0..10).map(|_| try_it())).await;
        assert_eq!(tried.iter().sum::<usize>(), 1);
        tokio::time::advance(Duration::from_hours(1)).await;
    }
    // Who has gone away leaves the trial to another.
    let trial = refusals.trial(REALM, &user(1)).await.unwrap();
    assert!(trial.is_some());
    drop(trial);
    let trial = refusals.trial(REALM, &user(1)).await.unwrap();
    accept(&refusals);
    drop(trial);
    let user = user(1);
    let trials = join_all((0..10).map(|_| refusals.trial(REALM, &user))).await;
    assert!(trials.into_iter().all(|trial| trial.unwrap().is_none()), "all at once");
    // Once it was refused again, it may be of no use any more.
    refuse(&refusals, 1);
    let _trial = refusals.trial(REALM, &user).await.unwrap().unwrap();
    let waited = refusals.trial(REALM, &user).await;
    assert!(matches!(waited, Err(ErrorKind::Timeout { .. })), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn where_a_secret_was_found_does_not_matter() {
    let refusals = Refusals::default();
    refuse(&refusals, 1);
    let other = found_in(1, "another file");
    let Some(ErrorKind::Unauthorized { credentials, .. }) = refusals.standing(REALM, &other) else {
        panic!()
    };
    assert_eq!(credentials, other.to_string());
}

#[tokio::test(start_paused = true)]
async fn only_passwords_that_were_refused_there() {
    let refusals = Refusals::default();
    refusals.note(REALM, &Credentials::Anonymous, &repository(1), Err(&refusal()));
    assert_eq!(refusals.standing(REALM, &Credentials::Anonymous), None);
    assert!(refusals.trial(REALM, &Credentials::Anonymous).await.unwrap().is_none());
    refuse(&refusals, 1);
    assert_eq!(refusals.standing(REALM, &user(2)), None);
    assert_eq!(refusals.standing("https://other.example/token", &user(1)), None);
    for kind in [
        ErrorKind::Denied { credentials: "user".to_owned(), message: None },
        ErrorKind::Unavailable { status: 503, message: None },
    ] {
        refusals.note(REALM, &user(3), &repository(1), Err(&kind));
    }
    assert_eq!(refusals.standing(REALM, &user(3)), None);
}

#[tokio::test(start_paused = true)]
async fn users_are_bounded() {
    let refusals = Refusals::default();
    for number in 0..MAX_USERS {
        refusals.note(REALM, &user(number), &repository(1), Ok(()));
    }
    refusals.note(REALM, &user(MAX_USERS), &repository(1), Err(&refusal()));
    assert_eq!(refusals.lock().len(), 1);
    for number in 0..=MAX_USERS {
        refusals.note(REALM, &user(number), &repository(1), Err(&refusal()));
    }
    assert_eq!(refusals.lock().len(), MAX_USERS);
    assert!(refusals.standing(REALM, &user(MAX_USERS)).is_some());
    for number in 0..10 {
        drop(refusals.trial("https://other.example", &user(number)).await.unwrap());
    }
    assert_eq!(refusals.trials.lock().unwrap().len(), 1);
}
