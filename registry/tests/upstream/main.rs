//! The upstream client against a registry that does, on command, what registries do and should not do.

mod auth;
mod catalog;
mod connecting;
mod dialects;
mod docker_registry;
mod failures;
mod limits;
mod manifests;
mod mirrors;
mod overheard;
mod own_lists;
mod policy;
mod redirects;
mod referrers;
mod setup;
mod tags;
mod timeouts;
