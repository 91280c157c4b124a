//! From a configuration to what tells which repositories to keep warm.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::assembly::Assembly;
use crate::config::Config;
use crate::sources::{
    CatalogOptions, CatalogParts, CatalogSource, ConfigurationSource, ImageSource, Named, OnDemand,
    OnDemandScope, OnDemandSource, SourceProblems,
};

/// The sources of `serve`.
pub(super) struct Sources {
    pub(super) list: Vec<Box<dyn ImageSource>>,
    /// Has repositories watched that somebody asks about, where that is configured.
    pub(super) on_demand: Option<OnDemand>,
    /// What the configuration names.
    pub(super) named: Named,
}

impl Sources {
    pub(super) fn new(config: &Config, assembly: &Assembly) -> Self {
        let repositories = config.watch.iter().map(|entry| entry.name.clone());
        let named =
            Named::new(repositories, config.watch_patterns.iter().map(|pattern| pattern.name.clone()));
        let on_demand = config.on_demand.clone().map(|on_demand| {
            let policy = config.host_policy.clone();
            OnDemandSource::new(
                OnDemandScope { config: on_demand, policy, named: named.clone() },
                Arc::clone(&assembly.store),
                Arc::new(assembly.warmer.handle()),
                assembly.keychain.clone(),
                Arc::clone(&assembly.clock),
                Arc::clone(&assembly.metrics),
            )
        });
        let handle = on_demand.as_ref().map(OnDemandSource::handle);
        let mut list: Vec<Box<dyn ImageSource>> = vec![Box::new(configured(config, assembly))];
        for catalog in catalogs(config, assembly, &named) {
            list.push(Box::new(catalog));
        }
        if let Some(on_demand) = on_demand {
            list.push(Box::new(on_demand));
        }
        Self { list, on_demand: handle, named }
    }

    /// The names of the sources, and what is wrong with them.
    pub(super) fn problems(&self) -> Vec<(String, SourceProblems)> {
        self.list.iter().map(|source| (source.name().to_owned(), source.problems())).collect()
    }
}

/// What the configuration names one by one.
pub(super) fn configured(config: &Config, assembly: &Assembly) -> ConfigurationSource {
    ConfigurationSource::new(config.watch.clone(), assembly.keychain.clone())
}

/// What finds the repositories that patterns match, one for each registry of which there are any.
fn catalogs(config: &Config, assembly: &Assembly, named: &Named) -> Vec<CatalogSource> {
    let mut by_host: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for pattern in &config.watch_patterns {
        by_host.entry(pattern.name.host()).or_default().push(pattern.clone());
    }
    let parts = CatalogParts {
        keychain: assembly.keychain.clone(),
        store: Arc::clone(&assembly.store),
        upstreams: assembly.upstreams.clone(),
        lanes: Arc::new(assembly.warmer.handle()),
        clock: Arc::clone(&assembly.clock),
    };
    let catalog = |patterns| {
        let options = CatalogOptions { interval: config.catalog_interval, seed: None };
        CatalogSource::new(patterns, named.clone(), parts.clone(), options)
    };
    by_host.into_values().map(catalog).collect()
}
