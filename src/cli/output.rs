//! What commands write: data to standard output, everything else to standard error.

use std::io::{self, ErrorKind, Write};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use samovar_registry::Digest;
use serde::Serialize;

use super::failure::Failure;

/// How many hexadecimal digits of a digest are shown where columns count.
const SHOWN_DIGITS: usize = 12;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns for people.
    Table,
    /// The server's answer as it is.
    Json,
}

/// Writes data, ending it with a line feed if it has none. A reader that has gone away, such as `head`, is no error.
pub fn data(text: &str) -> Result<(), Failure> {
    data_to(&mut io::stdout().lock(), text)
}

/// Writes one line of data that has no end. `false`: its reader has gone away.
pub fn line(text: &str) -> Result<bool, Failure> {
    match write_data(&mut io::stdout().lock(), text) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
    }
}

/// Writes data of our own as JSON, on one line.
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    data(&serde_json::to_string(value).map_err(|error| Failure::failed(error.to_string()))?)
}

fn data_to(stream: &mut dyn Write, text: &str) -> Result<(), Failure> {
    match write_data(stream, text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn write_data(stream: &mut dyn Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        stream.write_all(b"\n")?;
    }
    stream.flush()
}

/// Tells the user something that is not data.
pub fn note(text: &str) {
    // There is nobody left to tell where standard error cannot be written to.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The algorithm and the first digits: `sha256:0123456789ab`.
pub fn short_digest(digest: &Digest) -> String {
    let digits: String = digest.hex().chars().take(SHOWN_DIGITS).collect();
    format!("{}:{digits}", digest.algorithm())
}

/// Columns that line up, without borders, under a line of headings.
pub fn columns<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = plain_table();
    table.set_header(headings);
    for row in rows {
        table.add_row(row.map(|cell| printable(&cell)));
    }
    render(&mut table)
}

/// Names and values, one pair a line.
pub fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = plain_table();
    for (name, value) in rows {
        table.add_row([name.to_owned(), printable(&value)]);
    }
    render(&mut table)
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn render(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Text that came from elsewhere, fit for a terminal: control characters are escaped, so that no answer of a
/// registry moves the cursor or splits a line.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// A time by RFC 3339, in UTC, to the second.
pub fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time that may not be known.
pub fn optional_time(known: Option<Timestamp>) -> String {
    known.map_or_else(|| "-".to_owned(), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_borders_or_trailing_space() {
        let rows = [["1.0".to_owned(), "ok".to_owned()], ["latest".to_owned(), "pending".to_owned()]];
        assert_eq!(columns(["TAG", "STATE"], rows), "TAG     STATE\n1.0     ok\nlatest  pending");
    }

    #[test]
    fn pairs_line_up() {
        let rows = [("id", "a".to_owned()), ("created", "b".to_owned())];
        assert_eq!(pairs(rows), "id       a\ncreated  b");
    }

    #[test]
    fn a_table_without_rows_is_its_headings() {
        assert_eq!(columns(["TAG", "STATE"], []), "TAG  STATE");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}d é"), "a\\u{1b}[2Jb\\nc\\u{9b}d é");
        let table = columns(["A"], [["x\ny".to_owned()]]);
        assert_eq!(table.lines().count(), 2, "{table}");
    }

    #[test]
    fn data_ends_with_a_line_feed_once() {
        for (text, expected) in [("a", "a\n"), ("a\n", "a\n"), ("", "")] {
            let mut written = Vec::new();
            write_data(&mut written, text).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
    }

    /// A stream that fails in one way.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is_one() {
        assert_eq!(data_to(&mut Broken(ErrorKind::BrokenPipe), "a"), Ok(()));
        let failure = data_to(&mut Broken(ErrorKind::StorageFull), "a").unwrap_err();
        assert!(failure.message.starts_with("cannot write to standard output: "), "{failure}");
    }

    #[test]
    fn times_are_cut_to_the_second() {
        assert_eq!(time("2026-11-20T06:51:00.25Z".parse().unwrap()), "2026-11-20T06:51:00Z");
        assert_eq!(optional_time(None), "-");
    }
}
