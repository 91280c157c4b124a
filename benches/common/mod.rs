//! What the benchmarks share: realistic images, a registry that answers at once, tables.

#![allow(dead_code, reason = "each benchmark uses a part of it")]
#![allow(clippy::print_stdout)]

#[path = "../../tests/warmer/simulated.rs"]
mod simulated;

use std::sync::Arc;
use std::time::Duration;

use samovar::metrics::Metrics;
use samovar::sources::{Watch, WatchList};
use samovar::store::Client;
use samovar::warmer::{Warmer, WarmerOptions};
use samovar_registry::{Digest, Name, SystemClock};
use samovar_testing::Image;
use tokio::time::Instant;

use simulated::World;

/// What [`labelled_image`] makes.
pub(crate) const BENCH_IMAGE: &str = "one image with ten labels as build pipelines write them";

/// An image as a build pipeline makes it: ten labels, of which four differ from image to image.
pub(crate) fn labelled_image(seed: usize) -> Image {
    let revision = Digest::sha256(format!("revision {seed}").as_bytes()).to_string()[7..47].to_owned();
    let (day, hour, minute) = (1 + seed % 28, seed / 28 % 24, seed / 672 % 60);
    let created = format!("2026-03-{day:02}T{hour:02}:{minute:02}:17Z");
    Image::new(format!("app {seed}"))
        .created(created.clone())
        .label("org.opencontainers.image.created", created)
        .label("org.opencontainers.image.revision", revision)
        .label("org.opencontainers.image.version", format!("1.{}.{}", seed / 50, seed % 50))
        .label("org.opencontainers.image.ref.name", format!("v1.{}.{}", seed / 50, seed % 50))
        .label("org.opencontainers.image.title", "app")
        .label("org.opencontainers.image.description", "The service that keeps the tea warm")
        .label("org.opencontainers.image.source", "https://git.example/team/app")
        .label("org.opencontainers.image.url", "https://app.example")
        .label("org.opencontainers.image.vendor", "Example Industries")
        .label("org.opencontainers.image.licenses", "Apache-2.0")
}

/// Fills the store with a repository of so many tags. Returns how long that took.
pub(crate) async fn warm(
    store: &Arc<dyn Client>,
    repository: &str,
    tags: usize,
    image: impl Fn(usize) -> Image,
) -> Duration {
    let world = World::default();
    let name: Name = repository.parse().expect("a name");
    for number in 0..tags {
        world.push(&name, &format!("1.{}.{}", number / 50, number % 50), &image(number));
    }
    let options = WarmerOptions::default();
    let watched = WatchList([(name, Watch::default())].into());
    let warmer = Warmer::new(
        Arc::clone(store),
        Arc::new(world),
        Arc::new(SystemClock),
        Arc::new(Metrics::new()),
        options,
    );
    let began = Instant::now();
    let repositories = warmer.warm_once(watched).await;
    let took = began.elapsed();
    assert!(
        repositories.iter().all(|repository| repository.problem.is_none() && repository.overview.complete),
        "{repositories:?}"
    );
    took
}

/// Prints a table in Markdown.
pub(crate) fn print_table(columns: &[&str], rows: &[Vec<String>]) {
    println!("| {} |", columns.join(" | "));
    println!("|{}|", vec!["---"; columns.len()].join("|"));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}
