//! `samovar events`: what changes, as it changes.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::answers::EventAnswer;
use super::client::ServerClient;
use super::failure::{ExitStatus, Failure};
use super::output::{self, OutputFormat};

/// A server that says nothing for so long, not even that nothing is new, has gone.
const LONGEST_SILENCE: Duration = Duration::from_mins(1);
/// Between two tries to connect again; the first is after what the server says, or a second.
const LONGEST_PAUSE_BETWEEN_TRIES: Duration = Duration::from_secs(30);
/// The largest event that is read, in bytes.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// The arguments of `samovar events`.
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// Only changes of repositories that match, such as ghcr.io/team/*; `*` is any text
    #[arg(long, value_name = "GLOB")]
    pub name: Vec<String>,

    /// Only changes of this type, such as tag.moved
    #[arg(long = "type", value_name = "TYPE")]
    pub kinds: Vec<String>,

    /// Begin after the change at this position, as --output json prints it
    #[arg(long, value_name = "POSITION")]
    pub since: Option<String>,
}

/// What is printed of an event.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(default)]
    name: Option<String>,
}

/// Prints what changes until it is interrupted, or nobody reads. Connects again where the connection breaks, and misses
/// nothing.
pub(super) async fn run(
    args: &EventsArgs,
    server: &ServerClient,
    format: OutputFormat,
) -> Result<(), Failure> {
    let mut events = Events::default();
    events.id.clone_from(&args.since);
    let (names, kinds) = (args.name.join(","), args.kinds.join(","));
    let mut tries: u32 = 0;
    loop {
        let mut query = Vec::new();
        query.extend((!names.is_empty()).then_some(("name", names.as_str())));
        query.extend((!kinds.is_empty()).then_some(("type", kinds.as_str())));
        let id = events.id.clone();
        query.extend(id.as_deref().map(|id| ("last_event_id", id)));
        match server.follow("events", &query).await {
            Ok(mut response) => {
                tries = 0;
                events.begin();
                // Whatever ends the connection, it is made again.
                while let Ok(Ok(Some(chunk))) = timeout(LONGEST_SILENCE, response.chunk()).await {
                    for event in events.take(&chunk)? {
                        if !print(&event, format)? {
                            return Ok(());
                        }
                    }
                }
                output::note("the connection to the server has ended; connecting again");
            }
            Err(failure) if !events.has_begun || failure.status == ExitStatus::Usage => return Err(failure),
            Err(failure) => output::note(&format!("{failure}; trying again")),
        }
        let pause = events.retry.unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(100));
        sleep((pause * 2_u32.pow(tries.min(8))).min(LONGEST_PAUSE_BETWEEN_TRIES)).await;
        tries += 1;
    }
}

/// Prints an event. `false`: nobody reads any more.
fn print(event: &Event, format: OutputFormat) -> Result<bool, Failure> {
    let Event { id, kind, data } = event;
    if kind == "reset" {
        let told: Option<Told> = serde_json::from_str(data).ok();
        let what = told.and_then(|told| told.name).unwrap_or_else(|| "everything".to_owned());
        output::note(&format!("some changes were missed: look at {} anew", output::printable(&what)));
    }
    if format == OutputFormat::Json {
        let mut object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(data).map_err(|error| unreadable(&error))?;
        if let Some(id) = id {
            object.insert("position".to_owned(), id.as_str().into());
        }
        object.entry("type").or_insert_with(|| kind.clone().into());
        return output::line(&serde_json::Value::Object(object).to_string());
    }
    if kind == "reset" {
        return Ok(true);
    }
    let told: Told = serde_json::from_str(data).map_err(|error| unreadable(&error))?;
    let change: EventAnswer = serde_json::from_str(data).map_err(|error| unreadable(&error))?;
    output::line(&line(&told, &change))
}

/// A change on a line.
fn line(told: &Told, change: &EventAnswer) -> String {
    let mut image = told.name.clone().unwrap_or_default();
    if let Some(tag) = &change.tag {
        image = format!("{image}:{tag}");
    }
    let [old, new] = [&change.old, &change.new].map(|digest| digest.as_ref().map(output::short_digest));
    let images = match (old, new) {
        (Some(old), Some(new)) => format!("{old} -> {new}"),
        (Some(old), None) => format!("{old} -> -"),
        (None, Some(new)) => format!("- -> {new}"),
        (None, None) => String::new(),
    };
    let line = format!("{}  {:<20}  {image}  {images}", output::time(change.at), change.kind);
    output::printable(line.trim_end())
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::failed(format!("cannot read the server's event: {error}"))
}

/// One event that is not empty.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    id: Option<String>,
    kind: String,
    data: String,
}

/// Reads server-sent events, as the HTML standard defines them.
#[derive(Debug, Default)]
struct Events {
    /// The last id that came, to resume from.
    id: Option<String>,
    retry: Option<Duration>,
    /// Whether a connection was ever made.
    has_begun: bool,
    unread: Vec<u8>,
    kind: String,
    data: String,
}

impl Events {
    /// A new connection: what was half read comes again.
    fn begin(&mut self) {
        self.has_begun = true;
        self.unread.clear();
        self.kind.clear();
        self.data.clear();
    }

    fn take(&mut self, chunk: &[u8]) -> Result<Vec<Event>, Failure> {
        self.unread.extend_from_slice(chunk);
        if self.unread.len() + self.data.len() > MAX_EVENT_BYTES {
            return Err(Failure::failed(format!(
                "the server sent an event larger than {MAX_EVENT_BYTES} bytes"
            )));
        }
        let mut events = Vec::new();
        let unread = std::mem::take(&mut self.unread);
        let mut lines = unread.split_inclusive(|byte| *byte == b'\n');
        for line in &mut lines {
            let Some(line) = line.strip_suffix(b"\n") else {
                self.unread = line.to_vec();
                break;
            };
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
            events.extend(self.line(&line));
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
            return (!data.is_empty()).then(|| Event { id: self.id.clone(), kind, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = (!value.is_empty()).then(|| value.to_owned()),
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "retry" => self.retry = value.parse().ok().map(Duration::from_millis),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 1500\n\nid: a\n\n: nothing new\nid: b\n\nid: c\nevent: tag.moved\ndata: {\"x\":\ndata: 1}\r\n\nevent: reset\ndata:{}\n\nid: d\nda";

    #[test]
    fn events_are_read_however_they_are_cut() {
        let event =
            |kind: &str, data: &str| Event { id: Some("c".into()), kind: kind.into(), data: data.into() };
        let expected = [event("tag.moved", "{\"x\":\n1}"), event("reset", "{}")];
        for size in 1..STREAM.len() {
            let mut events = Events::default();
            let read: Vec<Event> =
                STREAM.as_bytes().chunks(size).flat_map(|chunk| events.take(chunk).unwrap()).collect();
            assert_eq!(read, expected, "{size}");
            assert_eq!(events.retry, Some(Duration::from_millis(1500)));
            assert_eq!((events.id.as_deref(), &*events.unread), (Some("d"), &b"da"[..]));
        }
    }

    #[test]
    fn an_event_without_end_is_not_read_for_ever() {
        let mut events = Events::default();
        let chunk = vec![b'x'; MAX_EVENT_BYTES / 2];
        assert!(events.take(&chunk).is_ok());
        assert!(events.take(&chunk).is_ok());
        assert!(events.take(b"x").is_err());
    }

    #[test]
    fn every_change_is_a_line() {
        let digest = |text: &str| samovar_registry::Digest::sha256(text.as_bytes()).to_string();
        for (data, expected) in [
            (
                serde_json::json!({"name": "ghcr.io/a/b", "id": "1.2", "type": "tag.moved", "tag": "v1", "old": digest("a"),
                    "new": digest("b"), "at": "2026-11-20T07:20:40.776Z", "cause": "poll"}),
                "2026-11-20T07:20:40Z  tag.moved             ghcr.io/a/b:v1  sha256:ca978112ca1b -> sha256:3e23e8160039",
            ),
            (
                serde_json::json!({"name": "ghcr.io/a/b", "type": "repository.recovered", "at": "2026-11-20T07:20:40Z"}),
                "2026-11-20T07:20:40Z  repository.recovered  ghcr.io/a/b",
            ),
        ] {
            let (told, change) = (data.to_string(), data.to_string());
            let (told, change) =
                (serde_json::from_str(&told).unwrap(), serde_json::from_str(&change).unwrap());
            assert_eq!(line(&told, &change), expected);
        }
    }
}
