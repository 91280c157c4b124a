//! Showing how far a command is, and ending it when the user wants that.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::serve::stop_signal;
use crate::upkeep::{Progress, ProgressSnapshot, Unit};

/// How often the bar moves.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Runs `work`, showing its progress, until it ends or the process is told to stop; then the work is dropped, and
/// `interrupted` says what that leaves.
pub(super) async fn shown<T>(
    progress: &Progress,
    interrupted: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let stopping = stop_signal()?;
    tokio::select! {
        done = work => done,
        never = show(progress) => match never {},
        () = stopping => Err(Failure::failed(format!("interrupted; {interrupted}"))),
    }
}

/// A bar on a terminal, lines elsewhere.
async fn show(progress: &Progress) -> Infallible {
    if std::io::stderr().is_terminal() { show_bar(progress).await } else { write_lines(progress).await }
}

async fn show_bar(progress: &Progress) -> Infallible {
    let bar = ProgressBar::no_length();
    let with_total = ProgressStyle::with_template("{bar:30} {msg}  {eta} left");
    let without_total = ProgressStyle::with_template("{spinner} {msg}");
    let mut ticks = tokio::time::interval(BAR_EVERY);
    let mut step = "";
    loop {
        ticks.tick().await;
        let now = progress.snapshot();
        if now.step.is_empty() {
            continue;
        }
        if now.step != step {
            step = now.step;
            bar.reset();
            let style = if now.total.is_some() { &with_total } else { &without_total };
            if let Ok(style) = style {
                bar.set_style(style.clone());
            }
        }
        if let Some(total) = now.total {
            bar.set_length(total);
        }
        bar.set_position(now.done);
        bar.set_message(line(&now));
    }
}

async fn write_lines(progress: &Progress) -> Infallible {
    let mut ticks = tokio::time::interval(LINE_EVERY);
    // The first tick is at once: there is nothing to tell yet.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        output::note(&line(&progress.snapshot()));
    }
}

/// `verifying: 1,200/5,000 entries`.
fn line(now: &ProgressSnapshot) -> String {
    let number = |number: u64| match now.unit {
        Unit::Entries | Unit::Repositories => HumanCount(number).to_string(),
        Unit::Bytes => HumanBytes(number).to_string(),
    };
    let unit = match now.unit {
        Unit::Entries => " entries",
        Unit::Repositories => " repositories",
        Unit::Bytes => "",
    };
    let total = now.total.map(|total| format!("/{}", number(total))).unwrap_or_default();
    format!("{}: {}{total}{unit}", now.step, number(now.done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_done_and_how_far() {
        let entries =
            ProgressSnapshot { step: "verifying", unit: Unit::Entries, done: 1_200, total: Some(5_000) };
        assert_eq!(line(&entries), "verifying: 1,200/5,000 entries");
        let unknown = ProgressSnapshot { total: None, ..entries };
        assert_eq!(line(&unknown), "verifying: 1,200 entries");
        let repositories =
            ProgressSnapshot { step: "completing", unit: Unit::Repositories, done: 7, total: Some(60) };
        assert_eq!(line(&repositories), "completing: 7/60 repositories");
        let bytes = ProgressSnapshot {
            step: "checking the file",
            unit: Unit::Bytes,
            done: 2_048,
            total: Some(4_096),
        };
        assert_eq!(line(&bytes), "checking the file: 2.00 KiB/4.00 KiB");
    }
}
