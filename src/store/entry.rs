//! A value with its refresh deadline, and how both are written as one value of an engine.

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;

/// Bytes of the deadline before the value.
pub(super) const DEADLINE_BYTES: usize = 8;
/// Stands for no deadline.
const NO_DEADLINE: i64 = i64::MIN;

/// A stored value and when what it says should next be looked at again. The deadline is a hint to whoever
/// refreshes: an entry does not disappear when it passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes.
    pub value: Bytes,
    /// The refresh deadline, kept to the millisecond; `None` for what never changes.
    pub refresh_at: Option<Timestamp>,
}

impl Entry {
    /// An entry that never needs a refresh.
    pub fn immutable(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), refresh_at: None }
    }

    /// The entry as engines keep it: the deadline in milliseconds since 1970 (8 bytes, little endian), then the value.
    /// Never empty.
    pub(super) fn encode(&self) -> Bytes {
        let refresh_at = self.refresh_at.map_or(NO_DEADLINE, Timestamp::as_millisecond);
        let mut stored = BytesMut::with_capacity(DEADLINE_BYTES + self.value.len());
        stored.put_i64_le(refresh_at);
        stored.put_slice(&self.value);
        stored.freeze()
    }

    /// What [`Entry::encode`] made; `None` for what is too short to be it. Shares the bytes.
    pub(super) fn decode(stored: &Bytes) -> Option<Self> {
        let (deadline, _) = stored.split_first_chunk::<DEADLINE_BYTES>()?;
        let refresh_at = Timestamp::from_millisecond(i64::from_le_bytes(*deadline)).ok();
        Some(Self { value: stored.slice(DEADLINE_BYTES..), refresh_at })
    }
}
