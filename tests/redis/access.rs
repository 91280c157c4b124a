//! Passwords, users, databases, TLS.

use samovar_registry::Secret;
use samovar_testing::RedisServer;

use super::*;

const PASSWORD: &str = "correct-horse";

fn with_password(port: u16, password: &str) -> RedisOptions {
    RedisOptions { password: Some(Secret::new(password)), ..single(port) }
}

/// Refused, without the password in any text.
fn is_denied<T: std::fmt::Debug>(result: Result<T, StoreError>, password: &str) -> String {
    let error = result.expect_err("it is refused");
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains(password), "{text}");
    }
    let StoreError::Denied { message } = error else { panic!("{error:?}") };
    message
}

#[tokio::test]
async fn tls_user_password_and_database_are_used() {
    let rules = ["on", ">correct-horse", "~samovar|*", "+@all"];
    let server =
        RedisServer::builder().password("of the default user").user("warmer", &rules).tls().start().await;
    let options = RedisOptions {
        topology: RedisTopology::Single("localhost".to_owned(), server.port()),
        tls: true,
        ca: server.certificate_authority(),
        username: Some("warmer".to_owned()),
        password: Some(Secret::new(PASSWORD)),
        database: 3,
        ..single(server.port())
    };
    let store = open(options.clone()).await;
    store.set(document(0), value(0)).await.unwrap();
    assert!(store.compare_and_set(document(0), Some(value(0)), value(1)).await.unwrap());
    assert_eq!(store.get(&document(0)).await.unwrap(), Some(value(1)));
    assert_eq!(server.ask(&["-n", "3", "DBSIZE"]).await, "1");
    assert_eq!(server.ask(&["DBSIZE"]).await, "0");
    let clients = server.ask(&["CLIENT", "LIST"]).await;
    assert!(clients.lines().any(|client| client.contains("name=samovar") && client.contains("user=warmer")));

    let elsewhere = open(RedisOptions { prefix: "elsewhere|".to_owned(), ..options.clone() }).await;
    is_denied(elsewhere.set(document(0), value(0)).await, PASSWORD);
    let no_such_database = open(RedisOptions { database: 999, ..options }).await;
    let message = is_denied(no_such_database.get(&document(0)).await, PASSWORD);
    assert!(message.contains("DB index is out of range"), "{message}");
}

#[tokio::test]
async fn a_user_needs_only_the_commands_that_are_used() {
    let commands = "+get +mget +set +del +pexpire +eval +evalsha +scan";
    let rules: Vec<&str> =
        ["on", ">correct-horse", "~samovar|*"].into_iter().chain(commands.split(' ')).collect();
    let server = RedisServer::builder().user("warmer", &rules).start().await;
    let username = Some("warmer".to_owned());
    let store = open(RedisOptions { username, ..with_password(server.port(), PASSWORD) }).await;
    store.set_many(vec![(document(0), value(0)), (document(1), value(1))]).await.unwrap();
    assert!(store.compare_and_set(document(0), Some(value(0)), value(2)).await.unwrap());
    assert!(store.lease(&Key::Lane("a.example".into()), "us", Duration::from_secs(9)).await.unwrap());
    store.renew(vec![document(0)]).await.unwrap();
    assert_eq!(store.get_many(&[document(0), document(9)]).await.unwrap(), [Some(value(2)), None]);
    store.delete(vec![document(0)]).await.unwrap();
    let listed: Vec<_> = futures_util::StreamExt::collect(store.scan()).await;
    assert_eq!(listed, [Ok((document(1), value(1)))]);
    assert_eq!(
        store.statistics().await.unwrap(),
        samovar::store::Statistics::default(),
        "unknown, not refused"
    );
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it_and_can_be_put_right() {
    let server = RedisServer::builder().password(PASSWORD).start().await;
    let wrong = "battery-staple";
    let store = open(with_password(server.port(), wrong)).await;
    for _ in 0..3 {
        let message = is_denied(store.get(&document(0)).await, wrong);
        assert!(message.contains("password is wrong"), "{message}");
        is_denied(store.set(document(0), value(0)).await, wrong);
    }
    assert!(!format!("{store:?}").contains(wrong), "{store:?}");
    is_denied(store_of(&server).await.get(&document(0)).await, PASSWORD);
    let unknown =
        RedisOptions { username: Some("nobody".to_owned()), ..with_password(server.port(), PASSWORD) };
    is_denied(open(unknown).await.get(&document(0)).await, PASSWORD);

    server.ask(&["CONFIG", "SET", "requirepass", wrong]).await;
    until_it_works(&store).await;
}

#[tokio::test]
async fn a_server_that_is_crowded_is_not_blamed_on_the_password_alone() {
    let server = RedisServer::builder().password(PASSWORD).setting("maxclients", "1").start().await;
    let first = open(with_password(server.port(), PASSWORD)).await;
    until_it_works(&first).await;
    let message =
        is_denied(open(with_password(server.port(), PASSWORD)).await.get(&document(0)).await, PASSWORD);
    assert!(message.contains("no room for more clients"), "{message}");
}

#[tokio::test]
async fn a_password_that_the_server_does_not_ask_for_is_refused() {
    let server = RedisServer::start().await;
    is_denied(open(with_password(server.port(), PASSWORD)).await.get(&document(0)).await, PASSWORD);
}

#[tokio::test]
async fn tls_is_neither_mistaken_nor_left_unverified() {
    let with_tls = RedisServer::builder().tls().start().await;
    let without = RedisServer::start().await;
    let is_protocol_error = async |options: RedisOptions| {
        let error = open(options).await.get(&document(0)).await.unwrap_err();
        let StoreError::Protocol { message } = error else { panic!("{error:?}") };
        message
    };
    let message = is_protocol_error(RedisOptions { tls: true, ..single(with_tls.port()) }).await;
    assert!(message.contains("certificate"), "the system knows no such authority: {message}");
    // To a server without TLS, a greeting in TLS is the beginning of a long line.
    let options = RedisOptions { tls: true, ..single(without.port()) };
    let message = is_unavailable(open(options).await.get(&document(0))).await;
    assert!(message.contains("TLS"), "{message}");
    let message = is_unavailable(open(single(with_tls.port())).await.get(&document(0))).await;
    assert!(message.contains("TLS"), "{message}");
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authorities.pem");
    let options = RedisOptions { tls: true, ca: Some(path.clone()), ..single(1) };
    let error = Redis::open(options.clone()).await.unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    std::fs::write(&path, "not a certificate").unwrap();
    let error = Redis::open(options).await.unwrap_err();
    assert!(error.to_string().contains("no certificate"), "{error}");
}
