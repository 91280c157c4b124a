//! What the library has no request for: version, statistics and the list of keys, in memcached's text protocol, spoken by
//! hand over connections of their own.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::error::Error;

/// The longest line that is read: a key of 250 bytes, each in three characters, and what stands beside it.
const LONGEST_LINE_BYTES: u64 = 2048;
/// How much of a line that is not understood goes into an error, in characters.
const MOST_QUOTED_CHARACTERS: usize = 80;
/// How many lines of statistics are read.
const MOST_STATISTICS: usize = 1000;
/// How long a server may take until some more keys are there: it looks for them in passing, and sends them when it has many.
const LONGEST_SEARCH: Duration = Duration::from_secs(30);
/// How often a list of keys is asked for again while the server makes one for somebody else.
const BUSY_ATTEMPTS: usize = 40;
/// How long to wait in between.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// What a server says before it closes one connection too many.
const TOO_MANY_CONNECTIONS: &str = "ERROR Too many open connections";

/// A connection on which one question is asked.
#[derive(Debug)]
pub(crate) struct Conversation {
    endpoint: Endpoint,
    stream: BufReader<TcpStream>,
}

/// A key that nobody stores anything under.
const PROBE_KEY: &str = "samovar-memcached:probe";

/// Asks for the server's version, and proves that what answers is a memcached that has the meta commands and gives their
/// opaque tokens back, with misses too: a batch of requests is told apart by them, so that a server without them would
/// look well here and fail with every batch.
pub(crate) async fn handshake(endpoint: &Endpoint) -> Result<String, Error> {
    let mut conversation = Conversation::begin(endpoint).await?;
    conversation.say("version").await?;
    let line = conversation.line().await?;
    if line == TOO_MANY_CONNECTIONS {
        return Err(endpoint.unavailable("it has too many connections"));
    }
    let Some(version) = line.strip_prefix("VERSION ") else {
        return Err(conversation.not_understood("version", &line));
    };
    let too_old = || Error::TooOld { server: endpoint.identity.clone(), version: version.to_owned() };
    if lacks_meta_commands(version) {
        return Err(too_old());
    }
    conversation.say(&format!("mg {PROBE_KEY} v O1")).await?;
    let line = conversation.line().await?;
    match token_given_back(&line) {
        Some(true) => Ok(version.to_owned()),
        Some(false) => Err(too_old()),
        None => Err(conversation.not_understood("mg", &line)),
    }
}

/// The server's general statistics, by name.
pub(crate) async fn statistics(endpoint: &Endpoint) -> Result<HashMap<String, String>, Error> {
    let mut conversation = Conversation::begin(endpoint).await?;
    conversation.say("stats").await?;
    let mut statistics = HashMap::new();
    loop {
        let line = conversation.line().await?;
        if line == "END" {
            return Ok(statistics);
        }
        let pair = line.strip_prefix("STAT ").and_then(|pair| pair.split_once(' '));
        let Some((name, value)) = pair else { return Err(conversation.not_understood("stats", &line)) };
        if statistics.len() == MOST_STATISTICS {
            return Err(endpoint.protocol(format!("more than {MOST_STATISTICS} statistics")));
        }
        statistics.insert(name.to_owned(), value.to_owned());
    }
}

/// Walks the hash table: finds every item, also those that the server moves between its queues meanwhile.
const DUMP_BY_HASH: &str = "lru_crawler metadump hash";
/// Walks the queues, for servers that know nothing better; may miss an item.
const DUMP_BY_AGE: &str = "lru_crawler metadump all";

/// The keys that a server has, as they are stored, one after the other.
#[derive(Debug)]
pub(crate) struct KeyDump {
    conversation: Conversation,
    /// The line that came with the news that the dump begins.
    first: Option<String>,
}

impl KeyDump {
    /// Asks for the keys. Waits while the server lists them for somebody else, for some seconds.
    pub(crate) async fn begin(endpoint: &Endpoint) -> Result<Self, Error> {
        let patient = Endpoint { operation_timeout: LONGEST_SEARCH, ..endpoint.clone() };
        let mut conversation = Conversation::begin(&patient).await?;
        let mut request = DUMP_BY_HASH;
        for _ in 0..BUSY_ATTEMPTS {
            conversation.say(request).await?;
            let line = conversation.line().await?;
            if line.starts_with("BUSY") {
                tokio::time::sleep(BUSY_PAUSE).await;
            } else if request == DUMP_BY_HASH && (line.starts_with("BADCLASS") || line.contains("ERROR")) {
                request = DUMP_BY_AGE;
            } else {
                return Ok(Self { conversation, first: Some(line) });
            }
        }
        Err(endpoint.unavailable("it lists its keys for somebody else"))
    }

    /// The next key; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let line = match self.first.take() {
            Some(line) => line,
            None => self.conversation.line().await?,
        };
        if line == "END" {
            return Ok(None);
        }
        let key = line.strip_prefix("key=").and_then(|rest| percent_decoded(rest.split(' ').next()?));
        key.map(Some).ok_or_else(|| self.conversation.not_understood("lru_crawler", &line))
    }
}

impl Conversation {
    async fn begin(endpoint: &Endpoint) -> Result<Self, Error> {
        let address = endpoint.address()?;
        let connecting = timeout(endpoint.connect_timeout, TcpStream::connect(address)).await;
        let stream = connecting
            .map_err(|_| endpoint.no_connection())?
            .map_err(|error| endpoint.unavailable(error.to_string()))?;
        Ok(Self { endpoint: endpoint.clone(), stream: BufReader::new(stream) })
    }

    async fn say(&mut self, request: &str) -> Result<(), Error> {
        let line = format!("{request}\r\n");
        in_time(&self.endpoint, self.stream.write_all(line.as_bytes())).await
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<String, Error> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(LONGEST_LINE_BYTES);
        in_time(&self.endpoint, bounded.read_until(b'\n', &mut line)).await?;
        if line.is_empty() {
            return Err(self.endpoint.unavailable("it closed the connection"));
        }
        if line.pop() != Some(b'\n') {
            return Err(self.endpoint.protocol("a line that does not end"));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(|_| self.endpoint.protocol("a line that is no text"))
    }

    fn not_understood(&self, request: &str, line: &str) -> Error {
        let quoted: String = line.chars().take(MOST_QUOTED_CHARACTERS).collect();
        self.endpoint.protocol(format!("it answers {request} by {quoted:?}"))
    }
}

async fn in_time<T>(endpoint: &Endpoint, step: impl Future<Output = std::io::Result<T>>) -> Result<T, Error> {
    let result = timeout(endpoint.operation_timeout, step).await.map_err(|_| endpoint.no_answer())?;
    result.map_err(|error| endpoint.unavailable(error.to_string()))
}

/// Whether a version is older than 1.6. What does not look like memcached's versions is a proxy's, and given a try.
fn lacks_meta_commands(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (1, 6))
}

/// Whether the answer to the probe brings its token; `None` for what is no answer to it. The probe's key may have been
/// stored by somebody: then its value follows, which nobody reads.
fn token_given_back(line: &str) -> Option<bool> {
    let mut words = line.split(' ');
    match words.next()? {
        "EN" | "VA" => Some(words.any(|word| word == "O1")),
        "ERROR" => Some(false),
        _ => None,
    }
}

/// Undoes the escaping of `lru_crawler`; `None` for what it does not write.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            decoded.push(*first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_first_chunk::<2>()?;
        let digits = std::str::from_utf8(digits).ok()?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_without_meta_commands_are_told_apart() {
        for old in ["1.4.39", "1.5.22", "0.9.1"] {
            assert!(lacks_meta_commands(old), "{old}");
        }
        for fit in ["1.6.0", "1.6.18", "1.6.41-dirty", "1.10.1", "2.0", "mcrouter 41.0"] {
            assert!(!lacks_meta_commands(fit), "{fit}");
        }
    }

    #[test]
    fn the_probes_token_is_looked_for() {
        for given_back in ["EN O1", "EN O1 x", "VA 5 O1", "VA 0 k O1"] {
            assert_eq!(token_given_back(given_back), Some(true), "{given_back}");
        }
        for lacking in ["EN", "EN O2", "EN O11", "VA 5", "ERROR", "ERROR unknown command"] {
            assert_eq!(token_given_back(lacking), Some(false), "{lacking}");
        }
        for strange in ["", "HTTP/1.1 400 Bad Request", "VERSION 1.6.18", "ENO1", "HD O1"] {
            assert_eq!(token_given_back(strange), None, "{strange}");
        }
    }

    #[test]
    fn escaped_keys_are_read() {
        assert_eq!(percent_decoded("a%C3%A9%25%3Dx").as_deref(), Some("aé%=x".as_bytes()));
        assert_eq!(percent_decoded(""), Some(Vec::new()));
        for wrong in ["%", "%4", "%zz", "a%é"] {
            assert_eq!(percent_decoded(wrong), None, "{wrong}");
        }
    }
}
