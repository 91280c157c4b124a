//! Many keys at once: all servers side by side, and of each server a few exchanges of up to a hundred keys.
//!
//! An exchange is small because the timeout counts for all of it, however large the values are that come back.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};

use crate::error::Error;
use crate::expiry::Expiry;
use crate::key::StoredKey;
use crate::pool::{Pool, place_among};
use crate::server::Server;
use crate::standing::Standing;
use crate::wire::{Action, Answer, Condition, Request};

/// The most keys of one exchange with one server: what it answers within the timeout even where values are large. Requests
/// are written before answers are read, and so few also fit into the buffers between us and a server that stops reading
/// while nobody takes its answers.
pub(crate) const MOST_KEYS_PER_EXCHANGE: usize = 100;
/// The most bytes of keys and values in one exchange that writes, unless a single value is larger: what a server takes well
/// within the timeout.
const MOST_BYTES_PER_WRITE: usize = 1024 * 1024;
/// How many exchanges one call has with one server at the same time.
const EXCHANGES_AT_ONCE: usize = 4;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its value.
    Hit(Bytes),
    /// Its server has nothing under it.
    Miss,
    /// Its server did not answer, or is set aside, with this: nobody knows.
    SetAside(Error),
}

impl Pool {
    /// What is known of each of `keys`, in their order.
    pub async fn look_up(&self, keys: &[impl AsRef<[u8]>]) -> Vec<Outcome> {
        let keys: Vec<(&[u8], StoredKey)> =
            keys.iter().map(|key| (key.as_ref(), StoredKey::of(key.as_ref()))).collect();
        let requests = keys.iter().map(|(key, stored)| {
            (*key, Request { key: stored.stored().clone(), action: Action::Read { with_token: false } })
        });
        let answers = run_all(&self.current(), requests).await;
        let outcomes = keys.iter().zip(answers);
        outcomes
            .map(|((_, stored), answer)| match answer {
                Ok(Answer::Found { value, .. }) => stored.unseal(value).map_or(Outcome::Miss, Outcome::Hit),
                Ok(_) => Outcome::Miss,
                Err(error) => Outcome::SetAside(error),
            })
            .collect()
    }

    /// What is stored under each of `keys`, in their order. Keys whose server is set aside read as misses while another
    /// server lives; where none does, the last error says why.
    pub async fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Bytes>>, Error> {
        let mut found = Vec::with_capacity(keys.len());
        for outcome in self.look_up(keys).await {
            found.push(match outcome {
                Outcome::Hit(value) => Some(value),
                Outcome::SetAside(error) if !self.reads_as_miss(&error) => return Err(error),
                Outcome::Miss | Outcome::SetAside(_) => None,
            });
        }
        Ok(found)
    }

    /// Whether a key whose server failed with `error` reads as a miss: whether another server lives.
    pub fn reads_as_miss(&self, error: &Error) -> bool {
        let servers = self.current();
        let mut others = servers.iter().filter(|server| error.server() != Some(&*server.endpoint().identity));
        others.any(|server| !matches!(server.standing(), Standing::SetAside(_)))
    }

    /// Stores values, whatever was there; `Err` with the first error where some could not be stored.
    pub async fn set_many<K: AsRef<[u8]>>(
        &self,
        items: impl IntoIterator<Item = (K, Bytes)>,
        expiry: Expiry,
    ) -> Result<(), Error> {
        let items: Vec<(K, Bytes)> = items.into_iter().collect();
        let requests = items.iter().map(|(key, value)| {
            let stored = StoredKey::of(key.as_ref());
            let action =
                Action::Store { value: stored.seal(value.clone()), expiry, condition: Condition::Always };
            (key.as_ref(), Request { key: stored.stored().clone(), action })
        });
        first_error(run_all(&self.current(), requests).await)
    }

    /// Removes what is stored under the keys; `Err` with the first error where some could not be removed.
    pub async fn delete_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<(), Error> {
        self.change_many(keys, &Action::Remove { only: None }).await
    }

    /// Gives what is stored under the keys a new time to live; `Err` with the first error where some could not be given
    /// one. Keys that nothing is stored under are fine.
    pub async fn touch_many(&self, keys: &[impl AsRef<[u8]>], expiry: Expiry) -> Result<(), Error> {
        self.change_many(keys, &Action::Touch { expiry }).await
    }

    async fn change_many(&self, keys: &[impl AsRef<[u8]>], action: &Action) -> Result<(), Error> {
        let requests = keys.iter().map(|key| {
            let stored = StoredKey::of(key.as_ref()).stored().clone();
            (key.as_ref(), Request { key: stored, action: action.clone() })
        });
        first_error(run_all(&self.current(), requests).await)
    }
}

fn first_error(answers: Vec<Result<Answer, Error>>) -> Result<(), Error> {
    answers.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

/// The requests of one server, with the positions that their answers go to.
#[derive(Debug, Default)]
struct Share {
    positions: Vec<usize>,
    requests: Vec<Request>,
}

/// Asks every server for its share, and gives the answers in the order of the requests.
async fn run_all<'k>(
    servers: &[Arc<Server>],
    requests: impl Iterator<Item = (&'k [u8], Request)>,
) -> Vec<Result<Answer, Error>> {
    let mut shares: Vec<Share> = servers.iter().map(|_| Share::default()).collect();
    let mut count = 0;
    for (key, request) in requests {
        let share = &mut shares[place_among(servers, key)];
        share.positions.push(count);
        share.requests.push(request);
        count += 1;
    }
    let asked = servers.iter().zip(shares).filter(|(_, share)| !share.requests.is_empty());
    let exchanges = asked.map(|(server, share)| exchange(server, share));
    let mut ordered: Vec<Option<Result<Answer, Error>>> = (0..count).map(|_| None).collect();
    for (positions, answers) in join_all(exchanges).await {
        for (position, answer) in positions.into_iter().zip(answers) {
            ordered[position] = Some(answer);
        }
    }
    ordered.into_iter().map(|answer| answer.expect("every request has an answer")).collect()
}

/// The answers of one server to its share, and their positions.
async fn exchange(server: &Server, share: Share) -> (Vec<usize>, Vec<Result<Answer, Error>>) {
    let exchanges: Vec<_> = chunks(&share.requests).into_iter().map(|chunk| server.run_all(chunk)).collect();
    let answers = stream::iter(exchanges).buffered(EXCHANGES_AT_ONCE).concat().await;
    (share.positions, answers)
}

/// Cuts requests into exchanges, each within the bounds unless a single request is not.
fn chunks(mut requests: &[Request]) -> Vec<&[Request]> {
    let mut chunks = Vec::new();
    while !requests.is_empty() {
        let mut bytes = 0;
        let fitting = requests.iter().take(MOST_KEYS_PER_EXCHANGE).take_while(|request| {
            bytes += request.bytes();
            bytes <= MOST_BYTES_PER_WRITE
        });
        let (chunk, rest) = requests.split_at(fitting.count().max(1));
        chunks.push(chunk);
        requests = rest;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(bytes: usize) -> Request {
        let value = Bytes::from(vec![0; bytes - 1]);
        let action = Action::Store { value, expiry: Expiry::Never, condition: Condition::Always };
        Request { key: Bytes::from_static(b"k"), action }
    }

    fn lengths(requests: &[Request]) -> Vec<usize> {
        chunks(requests).iter().map(|chunk| chunk.len()).collect()
    }

    #[test]
    fn exchanges_are_bounded_by_keys_and_bytes() {
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&vec![request(1); 250]), [100, 100, 50]);
        let tenths = [4, 6, 1, 20, 3].map(|tenths| request(tenths * MOST_BYTES_PER_WRITE / 10));
        assert_eq!(lengths(&tenths), [2, 1, 1, 1]);
    }
}
