//! A host that accepts connections and says nothing.

use std::time::Duration;

use tokio::sync::watch;

use super::serve::Listening;

/// How long [`SilentHost::wait_for_connections`] waits before it calls the test failed.
const WAIT_LIMIT: Duration = Duration::from_mins(1);

/// Accepts every connection and never answers. Stops when dropped.
#[derive(Debug)]
pub struct SilentHost {
    listening: Listening,
    accepted: watch::Receiver<usize>,
}

impl SilentHost {
    /// Starts on a free loopback port.
    pub async fn start() -> Self {
        let (count, accepted) = watch::channel(0);
        let listening = Listening::start(move |stream| {
            count.send_modify(|count| *count += 1);
            async move {
                let _open = stream;
                std::future::pending::<()>().await;
            }
        })
        .await;
        Self { listening, accepted }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.listening.host()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        *self.accepted.borrow()
    }

    /// Waits until it has accepted `count` connections; panics after a minute.
    pub async fn wait_for_connections(&self, count: usize) {
        let mut accepted = self.accepted.clone();
        let in_time = tokio::time::timeout(WAIT_LIMIT, accepted.wait_for(|now| *now >= count)).await.is_ok();
        assert!(in_time, "waited for {count} connections, got {} in {WAIT_LIMIT:?}", self.connections());
    }
}
