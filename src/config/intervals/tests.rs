use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::error::{ConfigError, Origin};
use crate::config::file;
use crate::config::settings::Settings;

fn settings(text: &str) -> Settings {
    let mut problems = Problems::default();
    let settings = file::parse(Path::new("samovar.toml"), text, &mut problems);
    problems.none_or(settings).unwrap()
}

fn poll(text: &str, below: PollInterval) -> Result<PollInterval, ConfigError> {
    let mut problems = Problems::default();
    let interval = poll_interval(&settings(text).intervals, below, &mut problems);
    problems.none_or(interval)
}

fn tag(text: &str) -> Result<TagInterval, ConfigError> {
    let mut problems = Problems::default();
    let interval = tag_interval(&settings(text).intervals, TagInterval::default(), &mut problems);
    problems.none_or(interval)
}

fn all(interval: PollInterval) -> [String; 4] {
    [interval.usual, interval.shortest, interval.longest, interval.webhook_fed].map(shown)
}

#[test]
fn what_is_given_holds_and_what_is_not_makes_room_for_it() {
    for (text, expected) in [
        ("", ["5m", "1m", "1h", "6h"]),
        ("poll_interval = '30s'", ["30s", "30s", "30s", "30s"]),
        ("poll_interval = '30s'\nwebhook_poll_interval = '1h'", ["30s", "30s", "30s", "1h"]),
        ("poll_interval = '30s'\nmin_poll_interval = '10s'", ["30s", "10s", "1h", "6h"]),
        ("poll_interval = '2h'\nmin_poll_interval = '1h'", ["2h", "1h", "2h", "6h"]),
        ("poll_interval = '30s'\nmax_poll_interval = '10m'", ["30s", "30s", "10m", "10m"]),
        ("min_poll_interval = '10m'", ["10m", "10m", "1h", "6h"]),
        ("max_poll_interval = '2m'", ["2m", "1m", "2m", "2m"]),
        ("max_poll_interval = '1d'", ["5m", "1m", "1d", "1d"]),
        ("max_poll_interval = '30s'\nwebhook_poll_interval = '6h'", ["30s", "30s", "30s", "6h"]),
        ("webhook_poll_interval = '12h'", ["5m", "1m", "1h", "12h"]),
    ] {
        assert_eq!(all(poll(text, PollInterval::default()).unwrap()), expected, "{text}");
    }
    // An entry of the watch list below a fixed interval of all.
    let fixed = PollInterval::fixed(Duration::from_mins(5));
    assert_eq!(all(poll("", fixed).unwrap()), ["5m"; 4]);
    assert_eq!(all(poll("max_poll_interval = '10m'", fixed).unwrap()), ["5m", "5m", "10m", "10m"]);
    let first = tag("tag_interval = '1d'").unwrap();
    assert_eq!(first.to_string(), "1d (5m to 7d)", "this one is where it begins");
    assert_eq!(tag("max_tag_interval = '30m'").unwrap().to_string(), "30m (5m to 30m)");
}

#[test]
fn what_disagrees_with_itself_is_refused_with_its_place() {
    for (text, expected) in [
        (
            "min_poll_interval = '2h'\nmax_poll_interval = '1h'",
            "samovar.toml:2: key max_poll_interval: max_poll_interval is 1h, shorter than min_poll_interval, 2h",
        ),
        (
            "poll_interval = '30s'\nmin_poll_interval = '1m'",
            "samovar.toml:1: key poll_interval: poll_interval is 30s, shorter than min_poll_interval, 1m",
        ),
        (
            "poll_interval = '2h'\nmax_poll_interval = '1h'",
            "samovar.toml:2: key max_poll_interval: max_poll_interval is 1h, shorter than poll_interval, 2h",
        ),
        (
            "webhook_poll_interval = '30m'",
            "samovar.toml:1: key webhook_poll_interval: webhook_poll_interval is 30m, shorter than max_poll_interval, 1h",
        ),
        (
            "min_poll_interval = '0s'",
            "samovar.toml:1: key min_poll_interval: \"0s\" is out of bounds: from 1s to 7d",
        ),
    ] {
        let error = poll(text, PollInterval::default()).unwrap_err();
        assert_eq!(error.problems()[0].to_string(), expected);
    }
    let error = tag("min_tag_interval = '10s'").unwrap_err();
    let expected = "samovar.toml:1: key min_tag_interval: \"10s\" is out of bounds: from 1m to 7d";
    assert_eq!(error.problems()[0].to_string(), expected);
}

#[test]
fn a_variable_means_what_it_says_whatever_the_file_allows() {
    let below = settings("min_poll_interval = '1m'\nmax_poll_interval = '2m'\ntag_interval = '2h'").intervals;
    let origin = Origin::Variable("SAMOVAR_POLL_INTERVAL".to_owned());
    let above = IntervalSettings::poll(Some(Setting { value: "10s".to_owned(), origin }));
    let mut problems = Problems::default();
    let both = above.over(below.clone());
    let interval = poll_interval(&both, PollInterval::default(), &mut problems);
    assert_eq!(problems.none_or(interval).unwrap(), PollInterval::fixed(Duration::from_secs(10)));
    assert!(both.tag.is_some());
    assert_eq!(IntervalSettings::default().over(below.clone()), below);
}

proptest! {
    /// What is not refused is in order, and what two watches make together still is.
    #[test]
    fn what_is_accepted_is_in_order(
        given in proptest::collection::vec(proptest::array::uniform4(proptest::option::of(1_u32..5_000)), 2),
        below in (1_u32..1_000, 0_u32..1_000, 0_u32..1_000, 0_u32..1_000),
    ) {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let below = PollInterval {
            shortest: seconds(below.0),
            usual: seconds(below.0 + below.1),
            longest: seconds(below.0 + below.1 + below.2),
            webhook_fed: seconds(below.0 + below.1 + below.2 + below.3),
        };
        let keys = ["poll_interval", "min_poll_interval", "max_poll_interval", "webhook_poll_interval"];
        let accepted = given.iter().filter_map(|given| {
            let lines = keys.iter().zip(given).filter_map(|(key, value)| Some(format!("{key} = '{}s'\n", (*value)?)));
            poll(&lines.collect::<String>(), below).ok()
        });
        let accepted: Vec<PollInterval> = accepted.collect();
        let together = accepted.iter().copied().reduce(PollInterval::shorter_of_each);
        for interval in accepted.into_iter().chain(together) {
            prop_assert!(interval.shortest <= interval.usual, "{interval:?}");
            prop_assert!(interval.usual <= interval.longest, "{interval:?}");
            prop_assert!(interval.longest <= interval.webhook_fed, "{interval:?}");
        }
    }
}
