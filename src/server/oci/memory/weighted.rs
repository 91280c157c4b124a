//! A map that keeps what was used last, as far as its bytes reach.

use std::hash::Hash;

use lru::LruCache;

/// Values of differing sizes, of which the one unused for longest goes first.
#[derive(Debug)]
pub(super) struct Weighted<K: Hash + Eq, V> {
    entries: LruCache<K, (V, usize)>,
    bytes: usize,
    most_bytes: usize,
}

impl<K: Hash + Eq, V: Clone> Weighted<K, V> {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { entries: LruCache::unbounded(), bytes: 0, most_bytes }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        self.entries.get(key).map(|(value, _)| value.clone())
    }

    /// Keeps a value that takes up so many bytes.
    pub(super) fn put(&mut self, key: K, value: V, bytes: usize) {
        let replaced = self.entries.put(key, (value, bytes));
        self.bytes += bytes;
        self.bytes -= replaced.map_or(0, |(_, bytes)| bytes);
        while self.bytes > self.most_bytes {
            let Some((_, (_, bytes))) = self.entries.pop_lru() else { return };
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_unused_for_longest_goes_when_there_is_no_room() {
        let mut map = Weighted::new(10);
        for (key, bytes) in [("a", 3), ("b", 3), ("a", 4), ("c", 3)] {
            map.put(key, bytes, bytes);
        }
        assert_eq!(map.bytes, 10);
        map.get(&"b");
        map.put("d", 3, 3);
        assert_eq!(["a", "b", "c", "d"].map(|key| map.get(&key)), [None, Some(3), Some(3), Some(3)]);
        // What is too large for all of it is not kept, and makes no room for itself in vain a second time.
        map.put("e", 11, 11);
        assert_eq!((map.bytes, map.get(&"e")), (0, None));
    }
}
