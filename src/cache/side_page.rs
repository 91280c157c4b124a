//! The side records of the tags of one page: what is learnt of them without meaning anything to readers.
//!
//! A row for each tag, as a list: tag, last fetched, interval, next (seconds since 1970, 0 for none), attempts, missing,
//! and, as far as they say anything, whether the tag has moved and why it was put off (a number). Older versions wrote six
//! members or seven and no more, and six are what most rows still have; members that a newer version may add are passed
//! over.

use std::fmt;

use jiff::Timestamp;
use samovar_registry::Tag;
use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::records::{PutOff, TagSide};
use super::stored::encode;
use crate::store::{Entry, open};

/// One tag's side record. Borrowed: side pages are read with every reading of a repository, and nearly all of its tags
/// are known already.
struct Row<'a> {
    tag: &'a str,
    side: TagSide,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let second = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_second);
        let side = &self.side;
        let put_off = number_of(side.put_off);
        let members = if put_off > 0 { 8 } else { 6 + usize::from(side.moved) };
        let mut row = serializer.serialize_seq(Some(members))?;
        row.serialize_element(self.tag)?;
        row.serialize_element(&second(side.last_fetched))?;
        row.serialize_element(&side.interval_seconds)?;
        row.serialize_element(&second(side.next))?;
        row.serialize_element(&side.attempts)?;
        row.serialize_element(&side.missing)?;
        if members > 6 {
            row.serialize_element(&side.moved)?;
        }
        if members > 7 {
            row.serialize_element(&put_off)?;
        }
        row.end()
    }
}

fn number_of(put_off: Option<PutOff>) -> u64 {
    match put_off {
        None => 0,
        Some(PutOff::Limited) => 1,
        Some(PutOff::Spread) => 2,
    }
}

/// A reason that only a newer version knows is none.
fn put_off_by(number: u64) -> Option<PutOff> {
    [PutOff::Limited, PutOff::Spread].into_iter().find(|reason| number_of(Some(*reason)) == number)
}

impl<'de> Deserialize<'de> for Row<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RowVisitor)
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = Row<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the side record of a tag, with at least 6 members")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<Row<'de>, A::Error> {
        let time = |second: i64| (second != 0).then(|| Timestamp::from_second(second).ok()).flatten();
        let tag = member(&mut row, 0)?;
        let side = TagSide {
            last_fetched: time(member(&mut row, 1)?),
            interval_seconds: member(&mut row, 2)?,
            next: time(member(&mut row, 3)?),
            attempts: member(&mut row, 4)?,
            missing: member(&mut row, 5)?,
            moved: row.next_element()?.unwrap_or_default(),
            put_off: put_off_by(row.next_element()?.unwrap_or_default()),
        };
        while row.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Row { tag, side })
    }
}

fn member<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(row: &mut A, position: usize) -> Result<T, A::Error> {
    row.next_element()?.ok_or_else(|| de::Error::invalid_length(position, &RowVisitor))
}

/// Encodes the side records of a page's tags.
pub fn encode_side_page<'a>(rows: impl Iterator<Item = (&'a Tag, &'a TagSide)>) -> bytes::Bytes {
    let rows: Vec<Row<'_>> = rows.map(|(tag, side)| Row { tag: tag.as_str(), side: *side }).collect();
    encode(&rows)
}

/// Decodes what [`encode_side_page`] made: tags, in ascending order, with their side records.
pub(crate) fn decode_side_page(entry: &Entry) -> Option<Vec<(Tag, TagSide)>> {
    let mut sides = Vec::new();
    let mut are_tags = true;
    read_side_page(entry, |tag, side| match Tag::try_from(tag) {
        Ok(tag) => sides.push((tag, side)),
        Err(_) => are_tags = false,
    })?;
    are_tags.then_some(sides)
}

/// Reads what [`encode_side_page`] made, and gives each tag with its side record to `take`. `None`: it does not decode.
pub(super) fn read_side_page(entry: &Entry, mut take: impl FnMut(&str, TagSide)) -> Option<()> {
    let plain = open(&entry.value).ok()?;
    let rows: Vec<Row<'_>> = serde_json::from_slice(&plain).ok()?;
    for Row { tag, side } in rows {
        take(tag, side);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::seal;

    fn decoded(text: &str) -> Option<Vec<(Tag, TagSide)>> {
        decode_side_page(&Entry::immutable(seal(text.as_bytes())))
    }

    #[test]
    fn rows_of_older_and_newer_versions_are_read() {
        let side = TagSide {
            last_fetched: Timestamp::from_second(1000).ok(),
            interval_seconds: 3600,
            next: Timestamp::from_second(4600).ok(),
            attempts: 2,
            missing: true,
            moved: false,
            put_off: None,
        };
        let tag = || "1.0".parse::<Tag>().unwrap();
        let old = r#"[["1.0",1000,3600,4600,2,true]]"#;
        assert_eq!(decoded(old), Some(vec![(tag(), side)]));
        let encoded = encode_side_page(std::iter::once((&tag(), &side)));
        assert_eq!(open(&encoded).unwrap(), old.as_bytes(), "and written for older ones to read");
        let moved = TagSide { moved: true, ..side };
        assert_eq!(decoded(r#"[["1.0",1000,3600,4600,2,true,true]]"#), Some(vec![(tag(), moved)]));
        for (number, put_off) in
            [(0, None), (1, Some(PutOff::Limited)), (2, Some(PutOff::Spread)), (99, None)]
        {
            let side = TagSide { put_off, ..moved };
            for more in ["", r#",{"x":[1]}"#] {
                let row = format!(r#"[["1.0",1000,3600,4600,2,true,true,{number}{more}]]"#);
                assert_eq!(decoded(&row), Some(vec![(tag(), side)]));
            }
        }
    }

    #[test]
    fn what_is_no_side_page_does_not_decode() {
        for text in [
            "[[\"1.0\",1000,3600,4600,2]]",
            "[[\"1.0\",1000,3600,4600,2,7]]",
            "[[\"/\",0,0,0,0,false]]",
            "{}",
        ] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            tag in "[a-z0-9][a-z0-9._-]{0,20}", fetched in 0_i64..1 << 33, next in 0_i64..1 << 33,
            interval_seconds: u32, attempts: u32, missing: bool, moved: bool, put_off in 0_u64..3,
        ) {
            let tag: Tag = tag.parse().unwrap();
            let time = |second: i64| (second != 0).then(|| Timestamp::from_second(second).unwrap());
            let side = TagSide {
                last_fetched: time(fetched), interval_seconds, next: time(next), attempts, missing, moved,
                put_off: put_off_by(put_off),
            };
            let entry = Entry::immutable(encode_side_page(std::iter::once((&tag, &side))));
            prop_assert_eq!(decode_side_page(&entry), Some(vec![(tag, side)]));
        }
    }
}
