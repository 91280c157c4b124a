use samovar_testing::Certificates;

use super::super::addresses::SystemLookup;
use super::super::{ConnectionOptions, ProxyChoice};
use super::*;

fn clients() -> (Clients, HttpOptions) {
    let options = HttpOptions::default();
    (Clients::new(&options, Arc::new(SystemLookup)), options)
}

fn known(clients: &Clients) -> usize {
    clients.by_way.lock().unwrap().len()
}

fn get(clients: &Clients, connection: &Connection, reach: Reach) -> Client {
    clients.client(connection, &Url::parse("https://r.example/").unwrap(), reach, false).unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_client_for_each_way_to_connect() {
    let (clients, options) = clients();
    let usual = Connection::new(&ConnectionOptions::default(), &options);
    for _ in 0..3 {
        assert!(!get(&clients, &usual, Reach::Everywhere).is_proxied);
    }
    assert_eq!(known(&clients), 1);
    get(&clients, &usual, Reach::Public);
    assert_eq!(known(&clients), 2, "what is open is not checked again");

    let mut other = usual.clone();
    other.headers.insert("x-a", "b".parse().unwrap());
    other.timeouts.body = Duration::from_secs(1);
    get(&clients, &other, Reach::Public);
    assert_eq!(known(&clients), 2, "these do not matter to a connection");
    other.tls.skip_verify = true;
    get(&clients, &other, Reach::Public);
    other.proxy = Some("http://proxy.example".parse::<ProxyChoice>().unwrap());
    assert!(get(&clients, &other, Reach::Public).is_proxied);
    assert_eq!(known(&clients), 4);
}

#[tokio::test(start_paused = true)]
async fn clients_are_replaced_with_what_the_files_say_then() {
    let certificates = Certificates::make();
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::copy(certificates.authority(), &ca_file).unwrap();
    let (clients, options) = clients();
    let tls = TlsOptions { ca_files: vec![ca_file.clone()], ..TlsOptions::default() };
    let connection = Connection::new(&ConnectionOptions { tls, ..Default::default() }, &options);
    get(&clients, &connection, Reach::Everywhere);

    // It is read when the client is replaced, not before; and the old client serves as long as it cannot be.
    std::fs::write(&ca_file, "").unwrap();
    let replace_at = |clients: &Clients| clients.by_way.lock().unwrap().values().next().unwrap().replace_at;
    let first = replace_at(&clients);
    tokio::time::advance(LONGEST_USE.saturating_sub(Duration::from_secs(1))).await;
    get(&clients, &connection, Reach::Everywhere);
    assert_eq!(replace_at(&clients), first);
    tokio::time::advance(Duration::from_secs(1)).await;
    get(&clients, &connection, Reach::Everywhere);
    assert_eq!(replace_at(&clients), Instant::now() + REPLACE_AGAIN);

    std::fs::copy(certificates.authority(), &ca_file).unwrap();
    tokio::time::advance(REPLACE_AGAIN).await;
    get(&clients, &connection, Reach::Everywhere);
    assert_eq!(replace_at(&clients), Instant::now() + LONGEST_USE);
    assert_eq!(known(&clients), 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_any_more_goes() {
    let (clients, options) = clients();
    let usual = Connection::new(&ConnectionOptions::default(), &options);
    get(&clients, &usual, Reach::Public);
    tokio::time::advance(LONGEST_USE * 3).await;
    get(&clients, &usual, Reach::Everywhere);
    assert_eq!(known(&clients), 1);
}

#[tokio::test]
async fn a_first_client_whose_files_are_gone_is_an_error() {
    let (clients, options) = clients();
    let tls = TlsOptions { ca_files: vec!["/no/such/file.pem".into()], ..TlsOptions::default() };
    let connection = Connection::new(&ConnectionOptions { tls, ..Default::default() }, &options);
    let url = Url::parse("https://r.example/").unwrap();
    let error = clients.client(&connection, &url, Reach::Everywhere, false).unwrap_err();
    assert!(error.to_string().starts_with("/no/such/file.pem: cannot be read"), "{error}");
}
