//! What an answer, or that there is none, says about asking on: trying again what fails in passing, and telling the budget
//! of limits, quotas and failures.
//!
//! A try that failed in passing is followed by another one after a pause drawn from the whole of a range that doubles: at
//! most two for a list, on which much hangs, and one for anything else: a tag's own schedule asks for it again. Every try waits for the budget like any request; none is made while the host is held back.

use std::time::Duration;

use http::StatusCode;

use super::budget::{Permit, RequestKind};
use super::host::Host;
use super::transport::{Answer, Failure, Received, Request, Transport};
use super::{ErrorKind, Operation, limits};
use crate::words;

/// The pause before the second try is from nothing up to this; of each further one, up to twice as long.
const FIRST_BACK_OFF: Duration = Duration::from_millis(250);

impl Transport {
    /// Sends the request, and again if the connection was cut or the server failed in passing.
    pub(super) async fn exchange(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        for retry in 0..most_retries(request.operation) {
            let result = self.follow(request).await;
            let Some(hop) = failed_in_passing(&result) else { return result };
            if request.host().budget.blocked_for(hop).is_some() {
                return result;
            }
            let back_off = FIRST_BACK_OFF.mul_f64(f64::from(1 << retry) * self.random());
            tracing::debug!(
                registry.host = %request.host().name,
                operation = request.operation.as_str(),
                pause_s = back_off.as_secs_f64(),
                "trying again",
            );
            tokio::time::sleep(back_off).await;
        }
        self.follow(request).await
    }

    /// Tells the budget how a request ended. An answer that says that there are too many requests is a failure, whatever
    /// its status.
    pub(super) fn judge(
        &self,
        host: &Host,
        kind: RequestKind,
        permit: &Permit,
        result: Result<Received, Failure>,
    ) -> Result<Received, Failure> {
        match &result {
            Ok(received) => match self.limit(host, kind, permit, received) {
                Some(limit) => return Err(limit.into()),
                None => return result,
            },
            Err(Failure {
                kind: failure @ (ErrorKind::Transport { .. } | ErrorKind::Timeout { .. }),
                ..
            }) => {
                self.failed(host, permit, failure);
            }
            // It answered, if not well.
            Err(Failure { kind: ErrorKind::Protocol { .. } | ErrorKind::TooLarge { .. }, .. }) => {
                answered(host, permit);
            }
            Err(_) => {}
        }
        result
    }

    /// What the answer says about limits; the error that it is, if it says that we ask too much.
    fn limit(
        &self,
        host: &Host,
        kind: RequestKind,
        permit: &Permit,
        received: &Received,
    ) -> Option<ErrorKind> {
        let Received { status, headers, body, .. } = received;
        let quota = limits::quota(headers);
        let is_used_up = quota.as_ref().is_some_and(|quota| quota.remaining == 0 && quota.window.is_some());
        let is_announced = quota.is_some();
        match quota {
            Some(quota) => permit.note_quota(quota),
            None if status.is_success() => permit.note_no_quota(),
            None => {}
        }
        let is_failure = status.is_client_error() || status.is_server_error();
        let too_many = if is_failure { limits::too_many(body) } else { None };
        let in_header = limits::retry_after(headers, self.now());
        let asked = in_header.or(too_many.and_then(|said| said.retry_after));
        let is_too_fast = *status == StatusCode::TOO_MANY_REQUESTS || too_many.is_some();
        if is_too_fast {
            // What says how much is left is believed; the words are Docker Hub's.
            let says_pulls = !is_announced && too_many.is_some_and(|said| said.is_of_pulls);
            let is_pull_limit = is_used_up && permit.is_of_quota() || says_pulls && permit.is_counted_pull();
            let of_quota = if is_pull_limit { permit.use_up_quota(asked) } else { None };
            let message = words::of_registry(body);
            if let Some(retry_after) = of_quota {
                return Some(ErrorKind::QuotaShort { retry_after, message });
            }
            let retry_after = hold_back(host, kind, permit, asked, true);
            return Some(ErrorKind::RateLimited { retry_after, message });
        }
        match status.as_u16() {
            503 if in_header.is_some() => {
                hold_back(host, kind, permit, asked, false);
            }
            code @ (500 | 502 | 503 | 504) => {
                let failure = ErrorKind::Unavailable { status: code, message: words::of_registry(body) };
                self.failed(host, permit, &failure);
            }
            _ => answered(host, permit),
        }
        None
    }

    fn failed(&self, host: &Host, permit: &Permit, failure: &ErrorKind) {
        if let Some(pause) = permit.failed(failure, self.random()) {
            tracing::warn!(
                registry.host = %host.name,
                error = %failure,
                pause_s = pause.as_secs_f64(),
                "the registry keeps failing; it is left alone for so long",
            );
        }
    }
}

fn answered(host: &Host, permit: &Permit) {
    if permit.accepted() {
        tracing::info!(registry.host = %host.name, "the registry answers again");
    }
}

fn hold_back(
    host: &Host,
    kind: RequestKind,
    permit: &Permit,
    asked: Option<Duration>,
    is_too_fast: bool,
) -> Duration {
    let is_news = host.budget.blocked_for(kind).is_none();
    let pause = permit.hold_back(asked, is_too_fast);
    if is_news {
        tracing::warn!(
            registry.host = %host.name,
            requests = ?kind,
            pause_s = pause.as_secs_f64(),
            "the registry limits us; it is left alone for so long",
        );
    }
    pause
}

/// How often a request of this operation is sent again.
fn most_retries(operation: Operation) -> u32 {
    match operation {
        Operation::Tags => 2,
        _ => 1,
    }
}

/// The kind of request that failed in a way that may have passed a moment later.
fn failed_in_passing(result: &Result<Answer, Failure>) -> Option<RequestKind> {
    match result {
        Ok(answer) => matches!(answer.status.as_u16(), 500 | 502 | 503 | 504).then_some(answer.hop.kind),
        Err(failure) => {
            let was_cut = matches!(failure.kind, ErrorKind::Transport { .. });
            (was_cut && !failure.while_connecting).then_some(failure.hop)
        }
    }
}
