//! Warming once, for `samovar warm`: every repository until nothing more can be learnt now.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use samovar_registry::Name;
use tokio_util::sync::CancellationToken;

use super::change::Cause;
use super::kept_budget::KeptBudget;
use super::lease::Lease;
use super::pass::{Pass, Problem, Scope};
use super::publish::WorkingCopy;
use super::{RepositoryOverview, Warmer};
use crate::sources::{Watch, WatchList};

/// Repositories warmed at once; the budgets of their hosts decide how fast they go.
const AT_ONCE: usize = 16;
/// A registry that wants to be left alone for longer than this is left alone: the rest is for another time.
const LONGEST_WAIT: Duration = Duration::from_mins(2);

/// A registry that limits us so often without letting anything through is left alone as well.
const MOST_WAITS: u32 = 5;

/// How warming one repository went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmedOnce {
    /// The repository.
    pub name: Name,
    /// What it looks like now.
    pub overview: RepositoryOverview,
    /// What could not be done.
    pub problem: Option<String>,
}

impl Warmer {
    /// Lists every repository of `list` and asks about all its tags, once.
    pub async fn warm_once(self, list: WatchList) -> Vec<WarmedOnce> {
        let hosts: BTreeSet<String> = list.0.keys().map(|name| name.host().to_owned()).collect();
        let mut budgets: Vec<_> = hosts.into_iter().map(|host| (host, KeptBudget::default())).collect();
        for (host, budget) in &mut budgets {
            budget.take_over(&self.context, host).await;
        }
        let warmed = stream::iter(list.0)
            .map(|(name, watch)| self.warm_repository(name, watch))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (host, budget) in &mut budgets {
            budget.save(&self.context, host).await;
        }
        warmed
    }

    async fn warm_repository(&self, name: Name, watch: Watch) -> WarmedOnce {
        let context = &self.context;
        let platforms = context.platforms(&watch).to_string();
        let (store, bounds) = (&*context.store, context.options.history);
        let copy = match WorkingCopy::load(store, &name, &platforms, bounds, context.clock.now()).await {
            Ok(copy) => Arc::new(copy),
            Err(error) => {
                let overview = RepositoryOverview::default();
                return WarmedOnce { name, overview, problem: Some(error.to_string()) };
            }
        };
        context.overview().insert(name.clone(), RepositoryOverview::default());
        let pass = Pass {
            context: Arc::clone(context),
            name,
            watch,
            copy,
            cause: Cause::Request,
            lease: Lease::for_good(),
            store_failed: false,
            list_again: true,
            login_changed: false,
            interrupt: CancellationToken::new(),
            queue: None,
        };
        let mut scope = Scope::Everything;
        let (mut waits, mut least_pending) = (0, usize::MAX);
        let problem = loop {
            let outcome = pass.run(scope, None).await;
            scope = Scope::Due;
            let pending = context.overview().get(&pass.name).map_or(0, |overview| overview.counts.pending);
            let problem = match outcome.problem {
                Some(problem @ Problem::Limited { .. }) => problem.to_string(),
                Some(problem) => break Some(problem.to_string()),
                None if pending > 0 => format!("{pending} tags could not be fetched yet"),
                None => break None,
            };
            waits = if pending < least_pending { 0 } else { waits + 1 };
            least_pending = least_pending.min(pending);
            let now = context.clock.now();
            let wake_at = outcome.needs.earliest().unwrap_or(now);
            let wait = Duration::try_from(now.duration_until(wake_at)).unwrap_or_default();
            if wait > LONGEST_WAIT || waits == MOST_WAITS {
                break Some(problem);
            }
            tokio::time::sleep(wait).await;
        };
        let overview = context.overview().get(&pass.name).copied().unwrap_or_default();
        WarmedOnce { name: pass.name, overview, problem }
    }
}
