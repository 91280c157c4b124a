//! samovar keeps the metadata of container images warm.

pub mod store;
