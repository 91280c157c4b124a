//! `samovar store verify`: whether everything in the store is what it should be.

use std::collections::BTreeMap;

use indicatif::HumanCount;
use serde::Serialize;

use super::place::Place;
use super::progress::shown;
use super::store_failure;
use crate::cli::failure::Failure;
use crate::cli::output::{self, OutputFormat};
use crate::upkeep::{self, Finding, Kind, Progress, Verdicts, Verification};

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    url: String,
    sound: bool,
    total: Verdicts,
    kinds: BTreeMap<Kind, Verdicts>,
    findings: Vec<Finding>,
    findings_left_out: u64,
}

/// Verifies and prints what was found. Fails where something is damaged or torn; changes nothing.
pub(super) async fn run(place: &Place, format: OutputFormat) -> Result<(), Failure> {
    let store = place.open_existing().await?;
    let progress = Progress::default();
    let verification = shown(&progress, "nothing was changed", async {
        upkeep::verify(&*store, &progress).await.map_err(|error| store_failure(&error))
    });
    let report = Report::new(place.shown(), verification.await?);
    match format {
        OutputFormat::Table => output::data(&page(&report))?,
        OutputFormat::Json => output::json(&report)?,
    }
    if report.sound {
        return Ok(());
    }
    let Verdicts { damaged, torn, .. } = report.total;
    let failure = Failure::failed(format!("{damaged} entries are damaged, {torn} repositories are torn"));
    Err(failure.with_hint("nothing needs to be done: a server fetches again what is damaged or missing"))
}

impl Report {
    fn new(url: String, verification: Verification) -> Self {
        Self {
            url,
            sound: verification.is_sound(),
            total: verification.total(),
            kinds: verification.kinds,
            findings: verification.findings,
            findings_left_out: verification.findings_left_out,
        }
    }
}

fn page(report: &Report) -> String {
    let count = |number: u64| HumanCount(number).to_string();
    let rows = report.kinds.iter().map(|(kind, verdicts)| {
        let Verdicts { sound, newer, damaged, torn } = *verdicts;
        [kind.plural().to_owned(), count(sound), count(newer), count(damaged), count(torn)]
    });
    let kinds = output::columns(["KIND", "SOUND", "NEWER", "DAMAGED", "TORN"], rows);
    let mut parts = vec![output::pairs([("store", report.url.clone())]), kinds];
    if !report.findings.is_empty() {
        let findings = report.findings.iter().map(|finding| [finding.key.clone(), finding.problem.clone()]);
        parts.push(output::columns(["ENTRY", "PROBLEM"], findings));
    }
    if report.findings_left_out > 0 {
        parts.push(format!("and {} more", count(report.findings_left_out)));
    }
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_counts_by_kind_and_lists_what_is_wrong() {
        let finding =
            Finding { key: "s1|head|a.example/b".into(), problem: "1 of its 2 pages\nis missing".into() };
        let verification = Verification {
            kinds: [
                (Kind::Head, Verdicts { sound: 1_999, newer: 1, damaged: 0, torn: 1 }),
                (Kind::Page, Verdicts { sound: 3, ..Verdicts::default() }),
            ]
            .into(),
            findings: vec![finding],
            findings_left_out: 7,
        };
        let expected = "\
store  redis://:…@h:6379

KIND   SOUND  NEWER  DAMAGED  TORN
heads  1,999  1      0        1
pages  3      0      0        0

ENTRY                   PROBLEM
s1|head|a.example/b     1 of its 2 pages\\nis missing

and 7 more";
        let page = page(&Report::new("redis://:…@h:6379".into(), verification));
        let spaces = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(spaces(&page), spaces(expected));
    }
}
