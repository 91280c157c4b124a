//! What the remote store has lost comes back.

use super::*;

#[tokio::test]
async fn a_new_head_over_a_lost_one_puts_the_repository_back_first() {
    let replica = Replica::new();
    let before = publish(&replica.store, None, 1, &["a", "b"]).await;
    replica.remote.forget();
    assert_eq!(replica.store.get(&head_key()).await.unwrap().as_ref(), Some(&before));
    // The page that changed is written, the other one is only named.
    replica.store.set_many(vec![page("b2")]).await.unwrap();
    let after = head_entry(2, &["a", "b2"]);
    let done = replica.store.compare_and_set(head_key(), Some(before), after.clone()).await.unwrap();
    assert!(done);
    assert_eq!(replica.remote.get(&head_key()).await.unwrap(), Some(after.clone()));
    let pages = [page("a").0, page("b2").0];
    assert_eq!(stored(&*replica.remote, &pages).await, [true; 2], "another replica can read it whole");
    assert_eq!(replica.local.get(&head_key()).await.unwrap(), Some(after));
}

#[tokio::test]
async fn a_refresh_without_news_puts_a_lost_repository_back() {
    let replica = Replica::new();
    publish(&replica.store, None, 1, &["a"]).await;
    replica.remote.forget();
    assert!(replica.store.get(&head_key()).await.unwrap().is_some());
    replica.store.set_many(vec![(side_key(), some_side(3))]).await.unwrap();
    let restored = Some(head_entry(generation_now(), &["a"]));
    assert_eq!(replica.remote.get(&head_key()).await.unwrap(), restored);
    assert_eq!(replica.local.get(&head_key()).await.unwrap(), restored);
    assert_eq!(stored(&*replica.remote, &[page("a").0, side_key()]).await, [true; 2]);
}

#[tokio::test]
async fn a_head_that_another_replica_has_written_meanwhile_stays() {
    let remote: Arc<Tricky> = Arc::default();
    let (one, two) = (Replica::before(&remote), Replica::before(&remote));
    let first = publish(&one.store, None, 1, &["a"]).await;
    remote.forget();
    assert!(one.store.get(&head_key()).await.unwrap().is_some());
    let theirs = publish(&two.store, None, 5, &["b"]).await;
    let ours = head_entry(6, &["c"]);
    assert!(!one.store.compare_and_set(head_key(), Some(first), ours).await.unwrap());
    one.store.set(side_key(), some_side(1)).await.unwrap();
    assert_eq!(remote.get(&head_key()).await.unwrap(), Some(theirs.clone()));
    assert_eq!(one.store.get(&head_key()).await.unwrap(), Some(theirs));
}

#[tokio::test]
async fn a_repository_of_many_pages_is_put_back_with_its_directory() {
    let replica = Replica::new();
    let texts: Vec<String> = (0..1_200).map(|number| format!("page {number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut head = head(1, &texts);
    let sealed = head.seal();
    assert_eq!(sealed.directory.len(), 2, "more than one head can name");
    let directory = sealed.directory.into_iter().map(|(hash, entry)| (Key::Directory(name(), hash), entry));
    let mut parts: Vec<(Key, Entry)> = directory.collect();
    parts.extend(texts.iter().map(|text| page(text)));
    replica.store.set_many(parts.clone()).await.unwrap();
    assert!(replica.store.compare_and_set(head_key(), None, sealed.entry.clone()).await.unwrap());
    replica.remote.forget();
    assert_eq!(replica.store.get(&head_key()).await.unwrap(), Some(sealed.entry));
    replica.store.set(side_key(), some_side(1)).await.unwrap();
    let keys: Vec<Key> = parts.into_iter().map(|(key, _)| key).collect();
    let restored: Option<Head> = stored::decode(replica.remote.get(&head_key()).await.unwrap().as_ref());
    let stored_head = Head { generation: generation_now(), pages: Vec::new(), ..head };
    assert_eq!(restored, Some(stored_head), "it still names its directory");
    assert!(stored(&*replica.remote, &keys).await.iter().all(|stored| *stored));
}

#[tokio::test]
async fn renewing_puts_back_what_never_changes_and_only_the_local_store_has() {
    let replica = Replica::new();
    publish(&replica.store, None, 1, &["a", "b"]).await;
    let bytes = vec![7; 600_000];
    let digest = Digest::sha256(&bytes);
    let document = StoredDocument { media_type: String::new(), bytes: bytes.into() };
    Documents(&replica.store).put(&digest, &document).await.unwrap();
    let directory = Key::Directory(name(), ContentHash::of(b"d"));
    replica.store.set(directory.clone(), Entry::immutable("d")).await.unwrap();
    let mut lost = vec![page("a").0, directory];
    lost.extend(document.keys(&digest));
    replica.remote.delete(lost.clone()).await.unwrap();
    replica.remote.written();
    let keys = [&lost[..], &[page("b").0, head_key(), Key::SidePage(name(), 0)]].concat();
    replica.store.renew(keys.clone()).await.unwrap();
    assert_eq!(stored(&*replica.remote, &lost).await, vec![true; lost.len()]);
    assert_eq!(replica.remote.written(), lost, "and not what is there");
    assert_eq!(*replica.remote.renewed.lock().unwrap(), keys);
}

/// What the holder of the lease does when a replica finds a repository torn that is whole to the holder.
#[tokio::test]
async fn renewing_mends_a_repository_that_is_torn_for_those_who_do_not_have_its_pages() {
    let remote: Arc<Tricky> = Arc::default();
    let (holder, other) = (Replica::before(&remote), Replica::before(&remote));
    let texts: Vec<String> = (0..150).map(|number| format!("page {number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    publish(&holder.store, None, 1, &texts).await;
    let pages: Vec<Key> = texts.iter().map(|text| page(text).0).collect();
    remote.delete(pages.clone()).await.unwrap();
    assert!(stored(&holder.store, &pages).await.iter().all(|stored| *stored));
    assert!(stored(&other.store, &pages).await.iter().all(|stored| !stored), "torn");
    holder.store.renew(pages.clone()).await.unwrap();
    assert!(stored(&other.store, &pages).await.iter().all(|stored| *stored), "mended");
}

/// Two replicas on one store that has lost a repository, of which the first has an older shadow than the second.
async fn lost_by_all_but_shadows(remote: &Arc<Tricky>) -> (Replica, Replica, Entry) {
    let (one, two) = (Replica::before(remote), Replica::before(remote));
    let older = publish(&one.store, None, 1, &["a"]).await;
    publish(&two.store, Some(&older), 5, &["a", "b"]).await;
    remote.forget();
    assert_eq!(one.store.get(&head_key()).await.unwrap().as_ref(), Some(&older));
    (one, two, older)
}

#[tokio::test]
async fn a_restored_head_is_newer_than_any_that_was_seen() {
    let remote: Arc<Tricky> = Arc::default();
    let (one, two, _) = lost_by_all_but_shadows(&remote).await;
    one.store.set(side_key(), some_side(1)).await.unwrap();
    let restored = head_entry(generation_now(), &["a"]);
    for replica in [&one, &two] {
        assert_eq!(replica.store.get(&head_key()).await.unwrap().as_ref(), Some(&restored));
    }
    two.wait_until_kept(&head_key(), &restored).await;
    two.wait_until_all_is_kept().await;
    two.local.asked();
    assert_eq!(two.store.get(&head_key()).await.unwrap(), Some(restored));
    tokio::task::yield_now().await;
    assert_eq!(two.local.asked(), 0, "it is known to be kept");
}

#[tokio::test]
async fn generations_grow_also_where_the_clock_is_behind() {
    let replica = Replica::new();
    let ahead = generation_now() + 1_000;
    publish(&replica.store, None, ahead, &["a"]).await;
    replica.remote.forget();
    assert!(replica.store.get(&head_key()).await.unwrap().is_some());
    replica.store.set(side_key(), some_side(1)).await.unwrap();
    assert_eq!(replica.remote.get(&head_key()).await.unwrap(), Some(head_entry(ahead + 1, &["a"])));
}

#[tokio::test]
async fn who_has_read_the_shadow_may_write_over_what_was_restored_from_it() {
    let remote: Arc<Tricky> = Arc::default();
    let (one, _, shadow) = lost_by_all_but_shadows(&remote).await;
    one.store.set(side_key(), some_side(1)).await.unwrap();
    let not_newer = head_entry(generation_now(), &["c"]);
    let newer = head_entry(generation_now() + 1, &["c"]);
    let write = async |entry: &Entry| {
        one.store.compare_and_set(head_key(), Some(shadow.clone()), entry.clone()).await.unwrap()
    };
    assert!(!write(&not_newer).await, "one generation would be two heads");
    assert!(write(&newer).await);
    assert!(!write(&head_entry(generation_now() + 2, &["d"])).await, "it says something else by now");
    assert_eq!(remote.get(&head_key()).await.unwrap(), Some(newer));
}

#[tokio::test]
async fn who_has_read_the_shadow_may_write_after_what_was_restored_is_lost_too() {
    let remote: Arc<Tricky> = Arc::default();
    let (one, _, shadow) = lost_by_all_but_shadows(&remote).await;
    one.store.set(side_key(), some_side(1)).await.unwrap();
    remote.forget();
    let newer = head_entry(generation_now() + 1, &["a", "c"]);
    one.store.set_many(vec![page("c")]).await.unwrap();
    assert!(one.store.compare_and_set(head_key(), Some(shadow), newer.clone()).await.unwrap());
    assert_eq!(remote.get(&head_key()).await.unwrap(), Some(newer));
    assert_eq!(stored(&*remote, &[page("a").0, page("c").0]).await, [true; 2]);
}
