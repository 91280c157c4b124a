//! What came out of a simulation.

use std::fmt;
use std::time::Duration;

use super::judge::{Fared, Judge};
use super::law::{Limits, Quota};
use super::registry::Counts;
use super::scenario::Scenario;

/// The figures of one simulation, and what was found to be wrong.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) scenario: Scenario,
    pub(crate) hosts: Vec<HostReport>,
    pub(crate) trace: u64,
    pub(crate) requests: u64,
    pub(crate) tags: usize,
    pub(crate) tags_compared: usize,
    pub(crate) peak_waiting: usize,
    pub(crate) peak_passes: usize,
    /// Bytes that the process had in memory at the beginning and at most.
    pub(crate) memory: (usize, usize),
    pub(crate) cpu: Duration,
    pub(crate) kills: usize,
    pub(crate) stops: usize,
    /// What is wrong, and how many more.
    pub(crate) findings: Vec<String>,
    pub(crate) findings_count: usize,
    pub(crate) lines: Option<Vec<String>>,
}

/// One host's figures.
#[derive(Debug)]
pub(crate) struct HostReport {
    pub(crate) host: &'static str,
    pub(crate) tags: usize,
    pub(crate) counts: Counts,
    pub(crate) limits: Limits,
    pub(crate) quota: Option<Quota>,
    pub(crate) most_under_way: usize,
    pub(crate) most_pulls: Option<u64>,
    pub(crate) fared: Fared,
}

impl Report {
    pub(crate) fn requests_per_tag_day(&self) -> f64 {
        self.requests as f64 / self.tags as f64 / f64::from(self.scenario.days)
    }

    pub(crate) fn host(&self, host: &str) -> &HostReport {
        self.hosts.iter().find(|report| report.host == host).expect("it was simulated")
    }

    /// Memory that came to be used, per tag, in bytes.
    pub(crate) fn memory_per_tag(&self) -> usize {
        self.memory.1.saturating_sub(self.memory.0) / self.tags
    }
}

impl HostReport {
    /// How long after its push a new tag was seen: the `part`th of all, such as 0.99, as a part of what is allowed.
    pub(crate) fn detection(&self, part: f64) -> f64 {
        percentile(&self.fared.detections, part).unwrap_or_default()
    }

    /// The same in time.
    pub(crate) fn latency(&self, part: f64) -> Duration {
        let seconds: Vec<f64> = self.fared.latencies.iter().map(Duration::as_secs_f64).collect();
        Duration::from_secs_f64(percentile(&seconds, part).unwrap_or_default())
    }
}

fn percentile(values: &[f64], part: f64) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a position")]
    let position = (last as f64 * part).ceil() as usize;
    values.get(position).copied()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { seed, days, repositories, .. } = self.scenario;
        writeln!(f, "seed {seed}: {days} days, {repositories} repositories, {} tags", self.tags)?;
        writeln!(
            f,
            "{:<17} {:>6} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6}  {:>9} {:>9}  {:>16} {:>9}",
            "host",
            "tags",
            "lists",
            "HEADs",
            "GETs",
            "blobs",
            "tokens",
            "429s",
            "new p50",
            "new p99",
            "late of allowed",
            "announced"
        )?;
        for report in &self.hosts {
            let HostReport { host, tags, counts, fared, .. } = report;
            let minutes = |duration: Duration| format!("{:.1} m", duration.as_secs_f64() / 60.0);
            writeln!(
                f,
                "{host:<17} {tags:>6} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6}  {:>9} {:>9}  {:>16} {:>9}",
                counts.lists,
                counts.heads,
                counts.manifests,
                counts.blobs,
                counts.tokens,
                counts.refused,
                minutes(report.latency(0.5)),
                minutes(report.latency(0.99)),
                format!("{}/{}", minutes(fared.latest), minutes(fared.slack_then)),
                format!("{}/{}", fared.changes_announced, fared.changes_required),
            )?;
        }
        let megabytes = |bytes: usize| bytes >> 20;
        writeln!(
            f,
            "{} requests, {:.2} for a tag and day; {} tags compared; at most {} requests waiting, {} passes; memory {} to \
             {} MiB, {} B for a tag; CPU {:.1} s; {} kills, {} stops; trace {:016x}",
            self.requests,
            self.requests_per_tag_day(),
            self.tags_compared,
            self.peak_waiting,
            self.peak_passes,
            megabytes(self.memory.0),
            megabytes(self.memory.1),
            self.memory_per_tag(),
            self.cpu.as_secs_f64(),
            self.kills,
            self.stops,
            self.trace,
        )?;
        for finding in &self.findings {
            writeln!(f, "WRONG: {finding}")?;
        }
        if self.findings_count > self.findings.len() {
            writeln!(f, "WRONG: and {} more", self.findings_count - self.findings.len())?;
        }
        Ok(())
    }
}

/// What the system says of this process.
pub(crate) mod process {
    use std::time::Duration;

    const PAGE_BYTES: usize = 4096;

    /// Bytes in memory.
    pub(crate) fn memory() -> usize {
        let read = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let resident = read.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
        resident.unwrap_or_default() * PAGE_BYTES
    }

    /// Time on processors, to a hundredth of a second.
    pub(crate) fn cpu() -> Duration {
        let read = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // After the name, which may hold anything.
        let fields = read.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

/// Gathers the figures of a judge.
pub(crate) fn fared(judge: &mut Judge, host: &str) -> Fared {
    judge.fared.remove(host).unwrap_or_default()
}
