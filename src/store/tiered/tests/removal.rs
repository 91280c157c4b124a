//! What was deleted stays so.

use super::*;

#[tokio::test]
async fn a_repository_that_was_removed_does_not_come_back() {
    let remote: Arc<Tricky> = Arc::default();
    let (writer, reader) = (Replica::before(&remote), Replica::before(&remote));
    let entry = publish(&writer.store, None, 1, &["a"]).await;
    reader.store.get_many(&[head_key(), side_key()]).await.unwrap();
    reader.wait_until_kept(&head_key(), &entry).await;

    let since: Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
    let at = since + Gone::LONG_ENOUGH;
    let gone = Gone { since, confirmations: Gone::MANY_CONFIRMATIONS };
    let last_error = LastError { message: "no such repository".to_owned(), at };
    let side = stored::Side { gone: Some(gone), last_error: Some(last_error), ..stored::Side::default() };
    writer.store.set_many(vec![(side_key(), side_entry(&side))]).await.unwrap();
    writer.store.delete(vec![head_key(), page("a").0]).await.unwrap();
    for replica in [&writer, &reader] {
        let found = replica.store.get_many(&[head_key(), side_key()]).await.unwrap();
        assert_eq!(found, [None, Some(side_entry(&side))]);
        assert_eq!(replica.store.get(&head_key()).await.unwrap(), None, "alone as well");
    }
    // Another attempt to list it is noted; nothing is put back for that.
    writer.store.set(side_key(), side_entry(&side)).await.unwrap();
    assert_eq!(remote.get(&head_key()).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_read_while_it_is_removed_stays_removed() {
    let remote: Arc<Tricky> = Arc::default();
    let replica = Replica::before(&remote);
    let entry = publish(&replica.store, None, 1, &["a"]).await;
    let gate = remote.close();
    let removed = replica.store.delete(vec![head_key(), side_key(), page("a").0]);
    let read_meanwhile = async {
        gate.reached.notified().await;
        assert_eq!(replica.store.get(&head_key()).await.unwrap().as_ref(), Some(&entry));
        replica.wait_until_kept(&head_key(), &entry).await;
        gate.opened.notify_one();
    };
    let (removed, ()) = tokio::join!(removed, read_meanwhile);
    removed.unwrap();
    assert_eq!(stored(&*replica.local, &[head_key(), side_key(), page("a").0]).await, [false; 3]);
    assert_eq!(replica.store.get(&head_key()).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_read_before_a_removal_is_not_kept_after_it() {
    let replica = Replica::new();
    replica.remote.set(head_key(), head_entry(1, &["a"])).await.unwrap();
    replica.remote.set(page("a").0, page("a").1).await.unwrap();
    // Nothing here waits, so the task that keeps has not run before all is removed.
    assert_eq!(stored(&replica.store, &[head_key(), page("a").0]).await, [true; 2]);
    replica.store.delete(vec![head_key(), page("a").0]).await.unwrap();
    replica.wait_until_all_is_kept().await;
    assert_eq!(stored(&*replica.local, &[head_key(), page("a").0]).await, [false; 2]);
}

#[tokio::test]
async fn a_shadow_that_is_written_while_it_is_removed_goes_again() {
    let client: Arc<Tricky> = Arc::default();
    let local = Local::new(client.clone());
    let entry = head_entry(1, &["a"]);
    let gate = client.close();
    let follow = local.follow(Offer { key: head_key(), entry: entry.clone(), removals: local.removals() });
    let remove = async {
        gate.reached.notified().await;
        local.delete(&[head_key()]).await;
        gate.opened.notify_one();
    };
    tokio::join!(follow, remove);
    assert_eq!(client.get(&head_key()).await.unwrap(), None);
    assert!(!local.is_last_seen(&head_key(), &entry));
}
