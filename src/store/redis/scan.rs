//! Lists what is stored.
//!
//! A cursor means something only to the process that gave it: another would go on anywhere, and what it leaves out
//! would be missing without a word. So a scan has connections of its own, one at a time, and never replaces one.

use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use redis::Cmd;

use super::connector::Address;
use super::request::{Connection, Request};
use super::slot_map::SlotMap;
use super::{Entry, Key, Redis, StoreError};

/// How many keys a server looks at in one step, about.
const KEYS_IN_STEP: usize = 200;

/// Where a scan stands.
struct Progress {
    /// What is still to be begun, the next one last.
    places: Vec<Place>,
    current: Option<Cursor>,
    /// Who had which slots at the beginning, in a cluster.
    slots: Option<SlotMap>,
}

/// What one cursor runs through.
enum Place {
    TheServer,
    Primary(Address),
}

/// How far one server has been listed, over one connection to one process.
struct Cursor {
    connection: Connection,
    /// For messages.
    server: String,
    /// Where the server wants to go on; 0 is its beginning.
    position: u64,
}

/// Every entry of ours. One that is there all the time comes at least once, and may come twice while the server
/// changes the size of its tables. What could leave some out ends the list with [`StoreError::Unavailable`]: a
/// connection that is lost, a primary of a cluster that cannot be reached, slots that change their primaries before the
/// end. Only a move of slots that has begun before the scan and ends after it goes unnoticed.
pub(super) fn scan(store: &Redis) -> BoxStream<'_, Result<(Key, Entry), StoreError>> {
    steps(store)
        .and_then(async |stored_keys| entries(store, stored_keys).await)
        .map_ok(|entries| stream::iter(entries.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

/// The keys of all that is kept of repositories, listed in the same way.
pub(super) fn scan_repositories(store: &Redis) -> BoxStream<'_, Result<Key, StoreError>> {
    steps(store)
        .map_ok(|stored_keys| {
            let keys = stored_keys.into_iter().filter_map(|stored| own_key(store, &stored));
            let of_repositories: Vec<Key> = keys.filter(|key| key.repository().is_some()).collect();
            stream::iter(of_repositories.into_iter().map(Ok))
        })
        .try_flatten()
        .boxed()
}

/// What is stored, by what it is stored under, some at a time.
fn steps(store: &Redis) -> impl Stream<Item = Result<Vec<String>, StoreError>> + Send + '_ {
    stream::try_unfold(None, |progress| step(store, progress))
}

type Entries = Vec<(Key, Entry)>;

async fn step(
    store: &Redis,
    progress: Option<Progress>,
) -> Result<Option<(Vec<String>, Option<Progress>)>, StoreError> {
    let mut progress = match progress {
        Some(progress) => progress,
        None => Progress::begin(store).await?,
    };
    let mut cursor = match (progress.current.take(), progress.places.pop()) {
        (Some(cursor), place) => {
            progress.places.extend(place);
            cursor
        }
        (None, Some(place)) => Cursor::begin(store, place).await?,
        (None, None) => {
            progress.end(store).await?;
            return Ok(None);
        }
    };
    let stored_keys = cursor.advance(store).await?;
    if cursor.position != 0 {
        progress.current = Some(cursor);
    }
    Ok(Some((stored_keys, Some(progress))))
}

impl Progress {
    async fn begin(store: &Redis) -> Result<Self, StoreError> {
        if !store.is_cluster {
            return Ok(Self { places: vec![Place::TheServer], current: None, slots: None });
        }
        let slots = whole_slot_map(store).await?;
        let places = slots.primaries().into_iter().cloned().map(Place::Primary).collect();
        Ok(Self { places, current: None, slots: Some(slots) })
    }

    /// Keys that went with their slots from a node not yet listed to one that was would be missing.
    async fn end(self, store: &Redis) -> Result<(), StoreError> {
        match self.slots {
            Some(slots) if slots != whole_slot_map(store).await? => {
                Err(unavailable(store, "the cluster changed while it was listed"))
            }
            _ => Ok(()),
        }
    }
}

async fn whole_slot_map(store: &Redis) -> Result<SlotMap, StoreError> {
    let slots = store.link.connector().slot_map().await?;
    if slots.is_whole() {
        Ok(slots)
    } else {
        Err(unavailable(store, "slots of the cluster have no primary: the keys in them cannot be listed"))
    }
}

fn unavailable(store: &Redis, why: &str) -> StoreError {
    StoreError::Unavailable { message: format!("{}: {why}", store.link.connector().servers_text()) }
}

impl Cursor {
    async fn begin(store: &Redis, place: Place) -> Result<Self, StoreError> {
        let connector = store.link.connector();
        let (connection, server) = match place {
            Place::TheServer => connector.connect().await?,
            Place::Primary(primary) => connector.connect_to_primary(primary).await?,
        };
        Ok(Self { connection, server, position: 0 })
    }

    /// The next few keys that are stored, and perhaps ours: others may share the prefix, above all an empty one, and
    /// theirs need not even be text.
    async fn advance(&mut self, store: &Redis) -> Result<Vec<String>, StoreError> {
        let request = Request::Command(scan_command(&store.prefix, self.position));
        let answer = self.connection.ask(&request).await;
        let failed = |error| store.link.connector().failures().store_error(&self.server, &error);
        let answer = answer.map_err(failed)?.pop().ok_or_else(|| store.protocol("no answer to SCAN"))?;
        let (position, stored_keys): (u64, Vec<Vec<u8>>) =
            redis::from_redis_value(answer).map_err(|_| store.protocol("no answer to SCAN"))?;
        self.position = position;
        Ok(stored_keys.into_iter().filter_map(|stored| String::from_utf8(stored).ok()).collect())
    }
}

fn scan_command(prefix: &str, position: u64) -> Cmd {
    let mut command = redis::cmd("SCAN");
    command.arg(position).arg("MATCH").arg(format!("{}*", escaped(prefix))).arg("COUNT").arg(KEYS_IN_STEP);
    command
}

/// `text` as a pattern that matches itself alone.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// The entries under those keys that are ours, and still there.
async fn entries(store: &Redis, stored_keys: Vec<String>) -> Result<Entries, StoreError> {
    let (keys, stored_keys): (Vec<Key>, Vec<String>) =
        stored_keys.into_iter().filter_map(|stored| Some((own_key(store, &stored)?, stored))).unzip();
    let entries = store.entries(&stored_keys).await?;
    Ok(keys.into_iter().zip(entries).filter_map(|(key, entry)| Some((key, entry?))).collect())
}

/// The key that something is stored for; `None` for what is not ours, or not ours to tell others of.
fn own_key(store: &Redis, stored: &str) -> Option<Key> {
    let key: Key = stored.strip_prefix(&store.prefix)?.parse().ok()?;
    (!key.is_coordination()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escaped("samovar|"), "samovar|");
        assert_eq!(escaped(r"*[x]?\"), r"\*\[x\]\?\\");
    }
}
