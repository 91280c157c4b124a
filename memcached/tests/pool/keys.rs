//! Keys that memcached does not take, and listing all of them.

use futures_util::TryStreamExt as _;
use samovar_memcached::Expiry;

use super::*;

fn hostile_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = [
        "",
        " ",
        "a b",
        "a\r\nflush_all\r\n",
        "a\0b",
        "\u{7f}",
        "ключ",
        "鍵 with a space",
        "%41",
        "a=b",
        "sha256:c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65",
        "sha256:",
        "key=x exp=-1",
    ]
    .map(Into::into)
    .into();
    keys.extend([249, 250, 251, 10_000].map(|length| vec![b'k'; length]));
    keys.push((0..=255).collect());
    keys
}

#[tokio::test]
async fn hostile_keys_keep_their_own_values() {
    let (_servers, pool) = three_servers().await;
    let keys = hostile_keys();
    let value = |number: usize| bytes(format!("value {number}"));
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(pool.get(key).await.unwrap(), None, "{key:?}");
        pool.set(key, value(number), Expiry::Never).await.unwrap();
    }
    let all: Vec<_> = (0..keys.len()).map(|number| Some(value(number))).collect();
    assert_eq!(pool.get_many(&keys).await.unwrap(), all);
    for (number, key) in keys.iter().enumerate() {
        let versioned = pool.get_versioned(key).await.unwrap().unwrap();
        assert_eq!(versioned.value, value(number));
        assert!(!pool.add(key, bytes("x"), Expiry::Never).await.unwrap());
        assert!(pool.compare_and_swap(key, versioned.token, value(number), Expiry::Never).await.unwrap());
        assert!(pool.touch(key, Expiry::Never).await.unwrap());
    }
    assert_eq!(pool.get_many(&keys).await.unwrap(), all);
    for key in &keys {
        assert!(pool.delete(key).await.unwrap(), "{key:?}");
    }
}

#[tokio::test]
async fn an_item_under_anothers_hash_is_a_miss() {
    let (server, pool) = one_server().await;
    pool.set("a b", bytes("value"), Expiry::Never).await.unwrap();
    // What a collision would come to: the hash of one key, in front of the value another key.
    let hash = "sha256:c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65";
    let mut stream = tokio::net::TcpStream::connect(server.host()).await.unwrap();
    let forged = format!("set {hash} 0 0 12\r\n\0\0\0\x03x yvalue\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, forged.as_bytes()).await.unwrap();
    let mut answer = [0; 8];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.unwrap();
    assert_eq!(&answer, b"STORED\r\n");
    assert_eq!(pool.get("a b").await.unwrap(), None);
    assert_eq!(pool.get_versioned("a b").await.unwrap(), None);
}

#[tokio::test]
async fn keys_are_listed_as_they_were_given() {
    let (_servers, pool) = three_servers().await;
    let mut keys: Vec<Vec<u8>> = hostile_keys().into_iter().map(|key| [b"p|", &*key].concat()).collect();
    keys.extend((0..3000).map(|number| format!("p|many|{number}").into_bytes()));
    let others = (0..100).map(|number| format!("q|{number}").into_bytes());
    let items = keys.iter().cloned().chain(others).map(|key| (key, bytes("value")));
    pool.set_many(items, Expiry::Never).await.unwrap();

    let mut listed: Vec<Bytes> = pool.keys("p|").try_collect().await.unwrap();
    listed.sort();
    keys.sort();
    assert_eq!(listed, keys);
    let all: Vec<Bytes> = pool.keys("").try_collect().await.unwrap();
    assert_eq!(all.len(), keys.len() + 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_side_by_side_wait_for_one_another() {
    let (_server, pool) = one_server().await;
    let items = (0..2000).map(|number| (format!("key|{number}"), bytes("value")));
    pool.set_many(items, Expiry::Never).await.unwrap();
    let list = |pool: Pool| async move { pool.keys("key|").try_collect::<Vec<_>>().await.unwrap().len() };
    let listings: Vec<_> = (0..4).map(|_| tokio::spawn(list(pool.clone()))).collect();
    for listing in listings {
        assert_eq!(listing.await.unwrap(), 2000);
    }
}

#[tokio::test]
async fn a_listing_that_cannot_be_whole_is_an_error() {
    let (mut servers, pool) = three_servers().await;
    servers[1].kill();
    let listed: Result<Vec<Bytes>, _> = pool.keys("").try_collect().await;
    assert!(listed.is_err());
}
