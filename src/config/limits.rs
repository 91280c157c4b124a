//! `[limits]`: how much one caller, and all of them, may ask.

use std::ops::RangeInclusive;

use super::document::Section;
use super::error::Problems;
use super::settings::Setting;
use super::{validate, values};

/// Connections at once.
const CONNECTIONS: RangeInclusive<usize> = 10..=1_000_000;
/// Requests under way at once, of one caller.
const CONCURRENCIES: RangeInclusive<usize> = 1..=1_000_000;

/// What is usual for connections: ten thousand may wait for changes, and there is room for those who ask.
const USUAL_CONNECTIONS: usize = 20_000;

/// How much may be asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitsConfig {
    /// Requests a second of one caller; absent where there is no bound.
    pub rate: Option<f64>,
    /// Requests of one caller that may follow one another at once. By default as many as in a second, at least 10.
    pub burst: u32,
    /// Requests under way at once of one caller, streams included. By default four fifths of `connections`.
    pub concurrency: usize,
    /// Connections at once. By default 20,000.
    pub connections: usize,
}

/// What is written in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LimitSettings {
    rate: Option<Setting>,
    burst: Option<Setting>,
    concurrency: Option<Setting>,
    connections: Option<Setting>,
}

pub(super) fn read(mut section: Section<'_>) -> LimitSettings {
    let settings = LimitSettings {
        rate: section.number("rate"),
        burst: section.number("burst"),
        concurrency: section.number("concurrency"),
        connections: section.number("connections"),
    };
    section.finish();
    settings
}

/// The table, checked.
pub(super) fn limits(settings: &LimitSettings, problems: &mut Problems) -> LimitsConfig {
    let rate = validate::checked(settings.rate.as_ref(), problems, values::rate);
    let connections =
        validate::checked(settings.connections.as_ref(), problems, |text| values::whole(text, CONNECTIONS))
            .unwrap_or(USUAL_CONNECTIONS);
    let concurrency =
        validate::checked(settings.concurrency.as_ref(), problems, |text| values::whole(text, CONCURRENCIES));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are positive and small"
    )]
    let as_in_a_second = rate.unwrap_or_default().ceil().max(10.0) as u32;
    LimitsConfig {
        rate,
        burst: validate::burst(settings.burst.as_ref(), problems).unwrap_or(as_in_a_second),
        concurrency: concurrency.unwrap_or(connections / 5 * 4),
        connections,
    }
}
