//! Running one program to its end, or to the end of its time.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Bound of what a program may say, in bytes.
const MAX_HELPER_OUTPUT_BYTES: u64 = 64 * 1024;

/// What a program said.
pub(super) struct Output {
    pub(super) text: Vec<u8>,
    pub(super) status: ExitStatus,
}

/// A process group that is killed when this is dropped. Its leader must not have been waited for by then: until it has, its
/// number is nobody else's.
struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { leader }
    }

    /// Its leader has ended by itself.
    fn ended(mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // It may be gone already.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Asks a program for the credentials of a server. When the time is over, or the future is dropped, the program is killed
/// with all that it has started.
pub(super) async fn run(program: &Path, server: &str, limit: Duration) -> Result<Output, String> {
    tokio::time::timeout(limit, run_to_end(program, server))
        .await
        .unwrap_or_else(|_| Err(format!("it took longer than {}s and was killed", limit.as_secs_f64())))
}

async fn run_to_end(program: &Path, server: &str) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child =
        command.process_group(0).spawn().map_err(|error| format!("it cannot be started: {error}"))?;
    // Dropped before the child, which is not waited for until then.
    let group = Group::of(&child);
    let failed = |error: std::io::Error| format!("it cannot be asked: {error}");
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not want to know closes it.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_HELPER_OUTPUT_BYTES + 1).read_to_end(&mut text).await.map_err(failed)?;
    }
    if text.len() as u64 > MAX_HELPER_OUTPUT_BYTES {
        return Err(format!("it says more than {MAX_HELPER_OUTPUT_BYTES} bytes"));
    }
    let status = child.wait().await.map_err(failed)?;
    group.ended();
    Ok(Output { text, status })
}
