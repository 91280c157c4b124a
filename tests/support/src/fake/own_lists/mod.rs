//! The lists of tags that some registries have besides that of the distribution protocol, from the same contents.

use super::answer::Answer;
use super::contents::Contents;
use super::record::Recorded;

mod acr;
mod docker_hub;
mod ecr;
mod harbor;
mod quay;

/// Whose list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnList {
    /// Docker Hub's.
    DockerHub,
    /// Quay's.
    Quay,
    /// That of Azure's registries.
    Acr,
    /// Harbor's, of artifacts.
    Harbor,
    /// That of Amazon's registries, of images.
    Ecr,
}

impl OwnList {
    /// Answers a request that asks for this list.
    pub(super) fn answer(self, request: &Recorded, contents: &Contents) -> Option<Answer> {
        match self {
            Self::DockerHub => docker_hub::answer(request, contents),
            Self::Quay => quay::answer(request, contents),
            Self::Acr => acr::answer(request, contents),
            Self::Harbor => harbor::answer(request, contents),
            Self::Ecr => ecr::answer(request, contents),
        }
    }
}

/// A number in the query, else this.
fn number(request: &Recorded, name: &str, usual: usize) -> usize {
    request.parameter(name).and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A time in milliseconds since 1970 as `2023-11-14T22:13:20.500Z`.
fn rfc3339(millisecond: i64) -> String {
    let (mut day, of_day) = (millisecond.div_euclid(86_400_000), millisecond.rem_euclid(86_400_000));
    let length = |year: i64| if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 };
    let mut year = 1970;
    while day >= length(year) {
        day -= length(year);
        year += 1;
    }
    let mut month = 1;
    for days in [31, length(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (second, millisecond) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z", day + 1)
}

fn not_found() -> Answer {
    Answer::error(404, "NOT_FOUND", "there is no such repository here")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_written_as_they_are() {
        for (millisecond, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_500, "2023-11-14T22:13:20.500Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_709_251_200_001, "2024-03-01T00:00:00.001Z"),
            (1_798_761_599_999, "2026-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(millisecond), text);
        }
    }
}
