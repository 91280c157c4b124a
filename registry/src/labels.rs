//! Labels of an image: few, read often, changed never.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Labels and annotations by key. Cheap to clone; keys and values may be shared between images, which mostly say the same.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let position = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[position].1)
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same labels, which share with `other` the memory of what both say: images of one repository have most of it in
    /// common.
    #[must_use]
    pub fn sharing(&self, other: &Self) -> Self {
        let shared = |(key, value): &(Arc<str>, Arc<str>)| {
            let Ok(position) = other.0.binary_search_by(|(known, _)| known.cmp(key)) else {
                return (Arc::clone(key), Arc::clone(value));
            };
            let (known_key, known_value) = &other.0[position];
            (Arc::clone(known_key), Arc::clone(if known_value == value { known_value } else { value }))
        };
        Self(self.0.iter().map(shared).collect())
    }
}

/// Of several values of one key, the last stays.
impl<K: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let labels = labels.into_iter().map(|(key, value)| (key.into(), value.into()));
        let mut labels: Vec<(Arc<str>, Arc<str>)> = labels.collect();
        if !labels.is_sorted_by(|(before, _), (after, _)| before < after) {
            labels = labels.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
        }
        Self(labels.into())
    }
}

impl Index<&str> for Labels {
    type Output = str;

    /// The value of a key that is there.
    fn index(&self, key: &str) -> &str {
        self.get(key).expect("the label is there")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::<String, String>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_and_told_by_key() {
        let labels: Labels = [("b", "2"), ("c", "3"), ("a", "old"), ("a", "1")].into_iter().collect();
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!((labels.get("b"), labels.get("d"), &labels["c"]), (Some("2"), None, "3"));
        assert_eq!((labels.len(), labels.is_empty(), Labels::default().is_empty()), (3, false, true));
        assert_eq!(format!("{labels:?}"), r#"{"a": "1", "b": "2", "c": "3"}"#);
    }

    #[test]
    fn labels_share_what_they_have_in_common() {
        let other: Labels = [("a", "1"), ("b", "2")].into_iter().collect();
        let labels: Labels = [("a", "1"), ("b", "other"), ("c", "3")].into_iter().collect();
        let sharing = labels.sharing(&other);
        assert_eq!(sharing, labels);
        let is_shared = |one: &Arc<str>, another: &Arc<str>| Arc::ptr_eq(one, another);
        assert!(is_shared(&sharing.0[0].0, &other.0[0].0) && is_shared(&sharing.0[0].1, &other.0[0].1));
        assert!(is_shared(&sharing.0[1].0, &other.0[1].0) && is_shared(&sharing.0[2].1, &labels.0[2].1));
    }

    #[test]
    fn json_holds_a_map() {
        let labels: Labels = [("a", "1"), ("b", "")].into_iter().collect();
        let json = serde_json::to_string(&labels).unwrap();
        assert_eq!(json, r#"{"a":"1","b":""}"#);
        assert_eq!(serde_json::from_str::<Labels>(&json).unwrap(), labels);
        assert!(serde_json::from_str::<Labels>(r#"{"a":null}"#).is_err());
    }
}
