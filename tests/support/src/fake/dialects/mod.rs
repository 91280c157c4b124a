//! Well-known registries as they really behave, one file each, with the facts that each one plays.
//!
//! A fact is *published* by the registry, *observed* by people who asked it, or *unverified*: told, but nobody we know of
//! has looked. What is not mentioned is as the specification has it.

use super::dialect::Dialect;

pub mod acr;
pub mod artifactory;
pub mod chainguard;
pub mod codeberg;
pub mod corporate_proxy;
pub mod distribution;
pub mod docker_hub;
pub mod ecr;
pub mod gar;
pub mod ghcr;
pub mod harbor;
pub mod quay;
pub mod zot;

/// All of them, in the order of their names.
pub fn all() -> Vec<Dialect> {
    vec![
        acr::dialect(),
        artifactory::dialect(),
        chainguard::dialect(),
        codeberg::dialect(),
        corporate_proxy::dialect(),
        distribution::dialect(),
        docker_hub::dialect(),
        ecr::dialect(),
        gar::dialect(),
        ghcr::dialect(),
        harbor::dialect(),
        quay::dialect(),
        quay::old_dialect(),
        zot::dialect(),
    ]
}
