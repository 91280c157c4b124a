//! `samovar serve`: keeps repositories warm and answers questions about them, until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use samovar_registry::upstream::{GuardedClient, TlsOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::assembly::Assembly;
use super::failure::Failure;
use super::host_settings;
use super::sources::Sources;
use crate::cache::{Cache, TimestampLabels};
use crate::config::{Config, Environment, ServeArgs};
use crate::feed::Feed;
use crate::notify::{self, Notifying, Standings};
use crate::policy::Patterns;
use crate::server::{self, Access, Doors, EncodedAnswers, Followers, Hooks, OciDoor, Tls};

/// Answers that are not out by then are cut when samovar stops.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT, then stores what was learnt.
pub async fn run(arguments: &ServeArgs, environment: Environment<'_>) -> Result<(), Failure> {
    let config = Config::for_serve(arguments, environment)?;
    let assembly = Assembly::new(&config).await?;
    let sources = Sources::new(&config, &assembly);
    if let Some(embedded) = &assembly.embedded {
        // What nobody watches may go when the disk is short. What the configuration names is watched before the warmer runs.
        let (named, handle) = (sources.named.clone(), assembly.warmer.handle());
        embedded.protect(Arc::new(move |name| named.matches(name) || handle.is_watched(name)));
    }
    let access = Access::new(config.auth.as_ref(), config.limits).map_err(Failure::usage)?;
    let access = Arc::new(access);
    let tls = config.tls.clone().map(Tls::new).transpose().map_err(Failure::usage)?.map(Arc::new);
    let hooks = Hooks::new(config.hooks.clone(), &config.aliases).map_err(Failure::usage)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| Failure::failed(format!("cannot listen on {}: {error}", config.listen)))?;
    let address = listener.local_addr().map_err(|error| Failure::failed(error.to_string()))?;
    if !address.ip().is_loopback() && config.auth.is_none() {
        warn!(server.address = %address, "anybody who can reach this address can ask and refresh: samovar does not check who asks");
    }
    if !address.ip().is_loopback() && config.auth.is_some() && tls.is_none() {
        warn!(server.address = %address, "tokens come over connections that are not encrypted: whoever listens in has them");
    }
    if config.watch.is_empty() && config.watch_patterns.is_empty() && sources.on_demand.is_none() {
        warn!("nothing is watched; name repositories with --watch or in the configuration file");
    }
    let shutdown = CancellationToken::new();
    let timestamp_labels = Arc::new(TimestampLabels::new(config.timestamp_labels.clone()));
    let cache = Cache::new(Arc::clone(&assembly.store), Arc::clone(&assembly.clock))
        .with_decorator(timestamp_labels.clone())
        .with_hot_set(Arc::clone(&assembly.hot))
        .with_missing_observer(assembly.metrics.clone())
        .with_max_stale_denied(config.upstream.max_stale_denied);
    let known = sources.problems();
    let feed = Feed::new(
        assembly.warmer.handle(),
        Arc::clone(&assembly.store),
        Arc::clone(&assembly.clock),
        known.iter().map(|(name, _)| name.clone()).collect(),
    );
    for hook in &config.hooks {
        assembly.metrics.receiver(&hook.name);
    }
    let receivers = Standings::default();
    let notifying = Notifying {
        warmer: assembly.warmer.handle(),
        store: Arc::clone(&assembly.store),
        clock: Arc::clone(&assembly.clock),
        metrics: Arc::clone(&assembly.metrics),
        client: notifying_client(&config)?,
    };
    let doors = Doors {
        access: Arc::clone(&access),
        tls: tls.clone(),
        most_connections: config.limits.connections,
        external_hosts: config.external_hosts.clone(),
        cache,
        hot: Arc::clone(&assembly.hot),
        encoded: EncodedAnswers::default(),
        warmer: assembly.warmer.handle(),
        feed,
        receivers: receivers.clone(),
        followers: Followers::default(),
        store: Arc::clone(&assembly.store),
        store_url: config.store.to_string(),
        local_tier: assembly.local_tier,
        embedded: assembly.embedded,
        upstreams: assembly.upstreams,
        metrics: assembly.metrics,
        timestamp_labels,
        patterns: Patterns::default(),
        aliases: config.aliases.clone(),
        started_at: to_the_second(assembly.clock.now()),
        clock: assembly.clock,
        hooks,
        oci: OciDoor::new(config.oci.clone()),
        sources: known,
        on_demand: sources.on_demand,
        unverified_hosts: host_settings::unverified(&config),
        shutdown: shutdown.clone(),
        loopback_only: address.ip().is_loopback(),
    };
    let stopping = stop_signal()?;
    let mut warming = tokio::spawn(assembly.warmer.run(sources.list, shutdown.clone()));
    let checking = tokio::spawn({
        let (shutdown, store, hot) = (shutdown.clone(), assembly.store, assembly.hot);
        async move {
            // What this process writes, memory hears of at once; nobody else writes to a store of its own.
            if store.is_shared() {
                hot.run(&store, shutdown).await;
            }
        }
    });
    let following = tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            let certificates = async {
                if let Some(tls) = tls {
                    tls.run(shutdown.clone()).await;
                }
            };
            tokio::join!(access.run(shutdown.clone()), certificates);
        }
    });
    let notifying = tokio::spawn(notify::run(config.notify.clone(), notifying, receivers, shutdown.clone()));
    let serving = tokio::spawn(server::serve(listener, Arc::new(doors)));
    info!(server.address = %address, store = %config.store, repositories = config.watch.len(), "listening");
    tokio::select! {
        () = stopping => info!("stopping"),
        _ = &mut warming => return Err(Failure::failed("the warmer ended by a defect; see the log")),
    }
    shutdown.cancel();
    let answered = tokio::time::timeout(SHUTDOWN_LIMIT, serving);
    let (answered, warmed, checked, followed, notified) =
        tokio::join!(answered, warming, checking, following, notifying);
    if answered.is_err() {
        warn!("some answers were cut: their clients are too slow");
    }
    followed
        .map_err(|error| Failure::failed(format!("following the files of access ended badly: {error}")))?;
    checked.map_err(|error| {
        Failure::failed(format!("keeping memory and store together ended badly: {error}"))
    })?;
    notified.map_err(|error| Failure::failed(format!("telling receivers ended badly: {error}")))?;
    warmed.map_err(|error| Failure::failed(format!("the warmer ended badly: {error}")))
}

/// What receivers are told with: by the same authorities as registries.
fn notifying_client(config: &Config) -> Result<GuardedClient, Failure> {
    let tls =
        TlsOptions { ca_files: config.upstream.ca_file.iter().cloned().collect(), ..TlsOptions::default() };
    let agent = concat!("samovar/", env!("CARGO_PKG_VERSION"));
    GuardedClient::new(agent, config.upstream.connect_timeout, &tls)
        .map_err(|error| Failure::failed(error.to_string()))
}

fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Resolves when the process is told to stop.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
