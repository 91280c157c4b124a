//! Looking names up again, while a pool lives.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::discovery::{Member, Resolver, discover};
use crate::error::Error;
use crate::pool::Shared;
use crate::roster::Roster;

/// The least time between two lookups, however often servers fail.
const LEAST_BETWEEN_LOOKUPS: Duration = Duration::from_secs(1);

/// The interval while the address of a server is not known, where that is less.
const INTERVAL_WITHOUT_ADDRESS: Duration = Duration::from_secs(5);

/// For how many intervals a server stays that is not named any more.
const INTERVALS_WITHOUT_NAME: u32 = 5;

/// The shortest interval that is kept, whatever the options say.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Looks the servers' names up after every interval, and when one is set aside. What cannot be looked up stays as it was,
/// and what is not named any more for [`INTERVALS_WITHOUT_NAME`]. Never ends by itself.
pub(crate) async fn keep_looking_up(
    shared: Arc<Shared>,
    resolver: Arc<dyn Resolver>,
    mut members: Vec<Member>,
) {
    let interval = shared.options.lookup_interval.max(SHORTEST_INTERVAL);
    let mut roster = Roster::new(members.clone(), interval.saturating_mul(INTERVALS_WITHOUT_NAME));
    let mut failing = roster.lacks_addresses();
    loop {
        let looked_up = Instant::now();
        let most = if roster.lacks_addresses() { interval.min(INTERVAL_WITHOUT_ADDRESS) } else { interval };
        // Either is a reason to look.
        let _ = tokio::time::timeout(most, shared.set_aside.notified()).await;
        let least = LEAST_BETWEEN_LOOKUPS.min(interval);
        tokio::time::sleep_until(looked_up + least).await;
        match discover(&shared.options.servers, &*resolver, &members).await {
            Ok(discovery) => {
                report(&mut failing, discovery.failures.first());
                roster.update(discovery.members, Instant::now());
                if roster.members() != members {
                    members = roster.members();
                    let names: Vec<&str> = members.iter().map(|member| member.identity.as_str()).collect();
                    tracing::info!(servers = ?names, "memcached servers changed");
                    shared.adopt(&members);
                }
            }
            Err(error) => report(&mut failing, Some(&error)),
        }
    }
}

/// Says once that names cannot be looked up, and once that they can again.
fn report(failing: &mut bool, failure: Option<&Error>) {
    match failure {
        Some(error) if !*failing => {
            tracing::warn!(error = %error, "memcached servers cannot be looked up, the known ones stay");
        }
        None if *failing => tracing::info!("memcached servers can be looked up again"),
        _ => {}
    }
    *failing = failure.is_some();
}
