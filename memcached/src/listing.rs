//! Every key that is stored.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use crate::batch::MOST_KEYS_PER_EXCHANGE;
use crate::error::Error;
use crate::key::{hashed_key, is_hashed};
use crate::pool::Pool;
use crate::server::Server;
use crate::text::KeyDump;
use crate::wire::{Action, Answer, Request};

impl Pool {
    /// Every key that begins with `prefix`, in no order; keys that are stored meanwhile may be missed, and keys that have
    /// just expired may be named. Ends with an error where a server cannot be asked: what was listed is not all there is
    /// then.
    pub fn keys(&self, prefix: impl AsRef<[u8]>) -> BoxStream<'static, Result<Bytes, Error>> {
        let prefix = Bytes::copy_from_slice(prefix.as_ref());
        let listing = Listing { to_ask: self.current().iter().cloned().collect(), asked: None };
        stream::try_unfold(listing, |mut listing| async {
            let keys = listing.next().await?;
            Ok::<_, Error>(keys.map(|keys| (stream::iter(keys).map(Ok), listing)))
        })
        .try_flatten()
        .try_filter(move |key| std::future::ready(key.starts_with(&prefix)))
        .boxed()
    }
}

/// How far a listing has come.
#[derive(Debug)]
struct Listing {
    to_ask: VecDeque<Arc<Server>>,
    asked: Option<(Arc<Server>, KeyDump)>,
}

impl Listing {
    /// Some more keys, as many as one exchange can tell the originals of; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, Error> {
        loop {
            if self.asked.is_none()
                && let Some(server) = self.to_ask.pop_front()
            {
                server.not_set_aside()?;
                let dump = KeyDump::begin(server.endpoint()).await?;
                self.asked = Some((server, dump));
            }
            let Some((server, mut dump)) = self.asked.take() else { return Ok(None) };
            let mut stored = Vec::new();
            let ended = loop {
                match dump.next().await? {
                    Some(key) => stored.push(Bytes::from(key)),
                    None => break true,
                }
                if stored.len() == MOST_KEYS_PER_EXCHANGE {
                    break false;
                }
            };
            let keys = original_keys(&server, stored).await?;
            if !ended {
                self.asked = Some((server, dump));
            }
            if !keys.is_empty() {
                return Ok(Some(keys));
            }
        }
    }
}

/// The keys that items are stored for: of hashed ones, the items tell.
async fn original_keys(server: &Server, stored: Vec<Bytes>) -> Result<Vec<Bytes>, Error> {
    let (hashed, mut keys): (Vec<_>, Vec<_>) = stored.into_iter().partition(|key| is_hashed(key));
    let read = |key| Request { key, action: Action::Read { with_token: false } };
    let requests: Vec<Request> = hashed.into_iter().map(read).collect();
    for answer in server.run_all(&requests).await {
        if let Answer::Found { value, .. } = answer? {
            keys.extend(hashed_key(&value));
        }
    }
    Ok(keys)
}
