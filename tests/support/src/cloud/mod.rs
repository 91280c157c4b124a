//! What clouds offer to the machines and workloads that run on them, in the test's own process: services that give an
//! identity, and registries that accept only the login made from it.
//!
//! Each fake plays the documented protocol of its cloud, checks what it is sent as strictly as the cloud does, and panics
//! nowhere: what is wrong is answered with an error, which the test sees. Secrets are random, so that a test can look for them
//! where they must not be.

mod aws;
mod azure;
mod google;
mod registry;
mod server;

pub use aws::FakeAws;
pub use azure::FakeAzure;
pub use google::{FakeGoogle, ServiceAccountKey};
pub use registry::{FakeAcr, FakeTokenRegistry};
pub use server::Asked;

/// What looks like a cloud's secret: long, and different in every test.
fn secret(kind: &str) -> String {
    use std::hash::{BuildHasher, RandomState};

    // Every `RandomState` has keys of its own.
    let random = || RandomState::new().hash_one(kind);
    format!("{kind}{:016x}{:016x}{:016x}", random(), random(), random())
}
