//! Totals, whatever is done.

use std::collections::BTreeMap;

use proptest::prelude::*;
use samovar::store::{Client as _, ContentHash, Entry, Key, Reader as _};
use samovar_registry::Digest;

use super::{Fixture, MIB, name, noise};

/// Something done to one of a few keys.
#[derive(Debug, Clone)]
enum Change {
    Set(usize, usize),
    Delete(usize),
    CompareAndSet(usize, usize, bool),
    Reopen,
    Compact,
}

fn change() -> impl Strategy<Value = Change> {
    let key = 0..KEYS;
    prop_oneof![
        8 => (key.clone(), 0..9000_usize).prop_map(|(key, length)| Change::Set(key, length)),
        4 => key.clone().prop_map(Change::Delete),
        2 => (key, 0..9000_usize, any::<bool>()).prop_map(|(key, length, right)| Change::CompareAndSet(key, length, right)),
        1 => Just(Change::Reopen),
        1 => Just(Change::Compact),
    ]
}

const KEYS: usize = 24;

/// The keys of the property: documents, their parts, and what belongs to a repository.
fn any_key(number: usize) -> Key {
    match (Digest::sha256(&[(number / 4).to_le_bytes()[0]]), number % 4) {
        (digest, 0) => Key::Document(digest),
        (digest, 1) => Key::DocumentPart(digest, 1),
        (digest, 2) => Key::DocumentPart(digest, 2),
        _ => Key::Page(name("model"), ContentHash::of(&number.to_le_bytes())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn totals_are_those_of_a_plain_map(changes in prop::collection::vec(change(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new();
            let mut store = fixture.open(64 * MIB);
            let mut model = BTreeMap::new();
            for change in changes {
                match change {
                    Change::Set(number, length) => {
                        store.set(any_key(number), noise(number, length)).await.unwrap();
                        model.insert(number, noise(number, length));
                    }
                    Change::Delete(number) => {
                        store.delete(vec![any_key(number)]).await.unwrap();
                        model.remove(&number);
                    }
                    Change::CompareAndSet(number, length, right) => {
                        let expected = if right { model.get(&number).cloned() } else { Some(noise(1, 1)) };
                        let as_expected = model.get(&number) == expected.as_ref();
                        let set = store.compare_and_set(any_key(number), expected, noise(number, length));
                        assert_eq!(set.await.unwrap(), as_expected);
                        if as_expected {
                            model.insert(number, noise(number, length));
                        }
                    }
                    Change::Reopen => {
                        drop(store);
                        store = fixture.open(64 * MIB);
                    }
                    Change::Compact => drop(store.compact().await.unwrap()),
                }
                let statistics = store.statistics().await.unwrap();
                let bytes = model.iter().map(|(number, entry)| any_key(*number).to_string().len() + entry.value.len());
                assert_eq!(statistics.entries, Some(model.len() as u64));
                assert_eq!(statistics.value_bytes, Some(bytes.sum::<usize>() as u64));
            }
            let keys: Vec<Key> = (0..KEYS).map(any_key).collect();
            let expected: Vec<Option<Entry>> = (0..KEYS).map(|number| model.get(&number).cloned()).collect();
            assert_eq!(store.get_many(&keys).await.unwrap(), expected);
        });
    }
}
