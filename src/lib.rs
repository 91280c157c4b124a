//! samovar keeps the metadata of container images warm.
