//! A server that looks like memcached as far as a test wants it to.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// By what a pool finds out whether tokens are given back.
pub(crate) const PROBE: &str = "mg samovar-memcached:probe v O1";

/// Answers every line by a function of it, on a free loopback port. Ends when dropped.
pub(crate) struct Lookalike {
    pub(crate) port: u16,
    _task: JoinSet<()>,
}

type Answers = Arc<dyn Fn(&str) -> String + Send + Sync>;

impl Lookalike {
    /// Starts one that falls silent on a connection after `most_answers`.
    pub(crate) async fn start(
        most_answers: usize,
        answers: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers: Answers = Arc::new(answers);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, most_answers, Arc::clone(&answers)));
            }
        });
        Self { port, _task: task }
    }
}

/// Reads to the end of the connection, also when it has fallen silent.
async fn converse(stream: TcpStream, most_answers: usize, answers: Answers) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut answered = 0;
    while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
        if answered < most_answers && stream.write_all(answers(line.trim_end()).as_bytes()).await.is_err() {
            return;
        }
        answered += 1;
        line.clear();
    }
}
