//! What the hot set says that it takes up, against what the process takes up. In a process of its own: other tests would
//! spoil the measurement.

#[path = "hot_set/repository.rs"]
#[expect(dead_code, reason = "shared with the other tests of the hot set, which use the rest")]
mod repository;
#[path = "hot_set/watched_store.rs"]
#[expect(dead_code, reason = "shared with the other tests of the hot set, which use the rest")]
mod watched_store;

use repository::{Repository, Setting};

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn the_estimate_is_not_far_off_and_not_too_low() {
    let repositories: Vec<Repository> =
        (0..60).map(|number| Repository::new(&format!("registry.example/app/{number}"), 400)).collect();
    let setting = Setting::with(&repositories.iter().collect::<Vec<_>>()).await;
    // The first reading brings in what is needed to read at all.
    setting.read(&repositories[0]).await;
    let (estimated_before, before) = (setting.hot.statistics().bytes, resident_bytes());
    for repository in &repositories {
        setting.read(repository).await;
    }
    let estimated = setting.hot.statistics().bytes - estimated_before;
    let real = resident_bytes() - before;
    assert!(estimated > 10_000_000, "{estimated} bytes are too few to measure");
    assert!(estimated * 10 >= real * 9, "estimated {estimated} bytes, but it takes up {real}");
    assert!(estimated * 10 <= real * 18, "estimated {estimated} bytes, but it takes up only {real}");
}
