use jiff::Timestamp;
use proptest::prelude::*;
use samovar_registry::{Digest, Name};

use super::*;
use crate::store::{ContentHash, Entry, Key};

fn write(entries: &[(Key, Entry)]) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(Vec::new()).unwrap();
    for (key, entry) in entries {
        writer.append(key, entry).unwrap();
    }
    writer.finish().unwrap()
}

fn read(file: &[u8]) -> Result<Vec<Record>, ArchiveError> {
    let mut reader = ArchiveReader::new(file)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    assert_eq!(reader.next_record()?, None, "the end stays the end");
    let whole = ArchiveSummary { entries: records.len() as u64, bytes: file.len() as u64 };
    assert_eq!(reader.summary(), whole);
    Ok(records)
}

fn small() -> Vec<(Key, Entry)> {
    let name: Name = "registry.example:5000/team/app".parse().unwrap();
    let refresh_at = Timestamp::from_millisecond(1_795_159_018_925).ok();
    vec![
        (Key::Head(name.clone()), Entry::immutable("a head")),
        (Key::Side(name.clone()), Entry { value: "a side".into(), refresh_at }),
        (Key::Page(name, ContentHash::of(b"page")), Entry::immutable("")),
        (Key::DocumentPart(Digest::sha256(b"document"), 3), Entry::immutable(vec![0xff; 70])),
    ]
}

fn arbitrary_entry() -> impl Strategy<Value = (Key, Entry)> {
    let key = ("[a-z]{1,8}", 0..5_u8, any::<u32>()).prop_map(|(path, kind, number)| {
        let name: Name = format!("registry.example/{path}").parse().unwrap();
        match kind {
            0 => Key::Head(name),
            1 => Key::Side(name),
            2 => Key::SidePage(name, number),
            3 => Key::Directory(name, ContentHash::of(&number.to_le_bytes())),
            _ => Key::Document(Digest::sha256(path.as_bytes())),
        }
    });
    let deadline = proptest::option::of(-1_000_000_000_000_i64..4_000_000_000_000);
    (key, proptest::collection::vec(any::<u8>(), 0..600), deadline).prop_map(|(key, value, deadline)| {
        let refresh_at = deadline.and_then(|millisecond| Timestamp::from_millisecond(millisecond).ok());
        (key, Entry { value: value.into(), refresh_at })
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(entries in proptest::collection::vec(arbitrary_entry(), 0..20)) {
        let file = write(&entries);
        let records: Vec<Record> =
            entries.into_iter().map(|(key, entry)| Record { key: Some(key), entry }).collect();
        prop_assert_eq!(read(&file).unwrap(), records);
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).is_err());
        prop_assert!(read(&[b"samovar-export 1\n", &*bytes].concat()).is_err());
    }
}

#[test]
fn every_truncation_is_refused() {
    let file = write(&small());
    for length in 0..file.len() {
        let error = read(&file[..length]).unwrap_err();
        let expected = match error {
            ArchiveError::Foreign => length < MAGIC.len(),
            ArchiveError::CutShort { bytes } => bytes == length as u64,
            _ => false,
        };
        assert!(expected, "{length} of {} bytes: {error}", file.len());
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let file = write(&small());
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            assert!(read(&damaged).is_err(), "bit {bit} of byte {at} of {}", file.len());
        }
    }
}

#[test]
fn two_entries_in_one_anothers_place_are_refused() {
    let (forth, mut back) = (small(), small());
    back.swap(0, 1);
    let (forth, back) = (write(&forth), write(&back));
    assert_eq!(forth.len(), back.len());
    let body = forth.len() - 32;
    assert!(matches!(read(&[&back[..body], &forth[body..]].concat()), Err(ArchiveError::Checksum)));
}

#[test]
fn what_follows_the_end_is_refused() {
    let file = [write(&small()), vec![0]].concat();
    assert!(matches!(read(&file), Err(ArchiveError::Damaged { at, .. }) if at == file.len() as u64 - 1));
}

#[test]
fn other_versions_and_other_files_are_told_apart() {
    for (text, expected) in [
        ("samovar-export 2\n", "it has format version 2; this samovar reads versions up to 1"),
        (
            "samovar-export 12345\nanything",
            "it has format version 12345; this samovar reads versions up to 1",
        ),
        ("samovar-export 0\n", "it is no export of a samovar store"),
        ("samovar-export \n", "it is no export of a samovar store"),
        ("samovar-export 1234567890\n", "it is no export of a samovar store"),
        ("samovar-export v1\n", "it is no export of a samovar store"),
        ("PK\u{3}\u{4} some other kind of file", "it is no export of a samovar store"),
        ("", "it is no export of a samovar store"),
        ("samovar-export 1", "it is cut short: it ends after 16 bytes, in the middle of the export"),
    ] {
        assert_eq!(read(text.as_bytes()).unwrap_err().to_string(), expected, "{text:?}");
    }
}

#[test]
fn sizes_out_of_bounds_are_refused_without_reserving_them() {
    for (lengths, what) in [
        ([0xff, 0xff, 0, 0, 0, 0], "a key is longer than any key"),
        ([1, 0, 0xff, 0xff, 0xff, 0xff], "a value is larger than any value"),
        ([0, 0, 7, 0, 0, 0], "it is cut short"),
    ] {
        let file = [b"samovar-export 1\nE".as_slice(), &lengths].concat();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn an_entry_that_is_too_large_is_not_written() {
    let mut writer = ArchiveWriter::new(Vec::new()).unwrap();
    let (key, _) = small().remove(0);
    let error = writer.append(&key, &Entry::immutable(vec![0; MAX_STORED_BYTES])).unwrap_err();
    assert!(matches!(error, ArchiveError::TooLarge { bytes: MAX_STORED_BYTES, .. }), "{error}");
    assert_eq!(read(&writer.finish().unwrap()).unwrap(), []);
}

#[test]
fn the_largest_value_that_is_ever_stored_has_room() {
    let noise: Vec<u8> = (0..MAX_DECODED_BYTES as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    let (key, _) = small().remove(0);
    let entry = Entry::immutable(crate::store::seal(&noise));
    assert_eq!(read(&write(&[(key, entry.clone())])).unwrap()[0].entry, entry);
}

#[test]
fn keys_of_another_layout_are_read_as_such() {
    let mut file = write(&[(Key::Lane("a.example".into()), Entry::immutable("x"))]);
    let text = b"s1|lane|a.example";
    let at = file.windows(text.len()).position(|window| window == text).unwrap();
    file[at + 1] = b'9';
    let body = file.len() - 32;
    let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&file[..body]).into();
    file[body..].copy_from_slice(&hash);
    assert_eq!(read(&file).unwrap()[0].key, None);
}
