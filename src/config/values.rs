//! Single values: numbers, durations, addresses. Each parser says what it expected and shows what it got.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::uri::Authority;
use jiff::{Span, SpanRelativeTo};
use samovar_registry::credentials::cloud::Cloud;
use samovar_registry::upstream::ListingChoice;

use super::error::quoted;

/// Requests a second. Below the smallest, waiting for a turn takes longer than anyone can mean; above the largest,
/// the budget limits nothing.
const RATES: RangeInclusive<f64> = 0.001..=100_000.0;

/// Units of sizes, the largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A duration such as `90s`, `5m` or `1h30m` within `bounds`. Days have 24 hours; longer units are refused.
pub fn parse_duration(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let not_a_duration = || format!("{} is not a duration such as 90s, 5m or 1h30m", quoted(text));
    let span = Span::from_str(text).map_err(|_| not_a_duration())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| not_a_duration())?;
    let duration = Duration::try_from(signed).map_err(|_| not_a_duration())?;
    if bounds.contains(&duration) {
        return Ok(duration);
    }
    let (least, most) = (shown(*bounds.start()), shown(*bounds.end()));
    Err(format!("{} is out of bounds: from {least} to {most}", quoted(text)))
}

/// A duration as [`parse_duration`] reads it, in days, hours, minutes, seconds and milliseconds.
pub fn shown(duration: Duration) -> String {
    const UNITS: [(&str, u128); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = duration.as_millis();
    let mut parts = Vec::new();
    for (unit, milliseconds) in UNITS {
        if rest >= milliseconds {
            parts.push(format!("{}{unit}", rest / milliseconds));
            rest %= milliseconds;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.concat() }
}

/// A rate in requests a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = f64::from_str(text).map_err(|_| format!("{} is not a number", quoted(text)))?;
    if RATES.contains(&rate) {
        return Ok(rate);
    }
    let (least, most) = (RATES.start(), RATES.end());
    Err(format!("{} is out of bounds: from {least} to {most} requests a second", quoted(text)))
}

/// A size in bytes within `bounds`: a whole number with `KiB`, `MiB`, `GiB` or `TiB` behind it, or with nothing.
pub(super) fn size(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let unit = SIZE_UNITS.into_iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let (digits, bytes_each) = unit.unwrap_or((text, 1));
    let digits = digits.trim_end();
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_whole {
        return Err(format!("{} is not a size such as 512MiB, 8GiB or 1000000 (bytes)", quoted(text)));
    }
    // More than fits is out of any bounds.
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes_each));
    bytes.filter(|bytes| bounds.contains(bytes)).ok_or_else(|| {
        let (least, most) = (shown_size(*bounds.start()), shown_size(*bounds.end()));
        format!("{} is out of bounds: from {least} to {most}", quoted(text))
    })
}

/// A size as the configuration writes it, in the largest unit that leaves nothing over.
pub fn shown_size(bytes: u64) -> String {
    let fits = |(_, each): &(&str, u64)| bytes >= *each && bytes.is_multiple_of(*each);
    match SIZE_UNITS.into_iter().find(fits) {
        Some((unit, each)) => format!("{}{unit}", bytes / each),
        None => bytes.to_string(),
    }
}

/// A share of a whole: more than nothing, at most all of it.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = f64::from_str(text).map_err(|_| format!("{} is not a number", quoted(text)))?;
    if share > 0.0 && share <= 1.0 {
        return Ok(share);
    }
    Err(format!("{} is not a share: more than 0, at most 1", quoted(text)))
}

/// A share that is set aside, which must leave most of the whole.
pub(super) fn reserve(text: &str) -> Result<f64, String> {
    let share = f64::from_str(text).map_err(|_| format!("{} is not a number", quoted(text)))?;
    if (0.0..=0.9).contains(&share) {
        return Ok(share);
    }
    Err(format!("{} is not a share from 0 to 0.9", quoted(text)))
}

/// A whole number within `bounds`.
pub(super) fn whole<N>(text: &str, bounds: RangeInclusive<N>) -> Result<N, String>
where
    N: FromStr + PartialOrd + Display,
{
    let expected = || format!("a whole number from {} to {}", bounds.start(), bounds.end());
    match N::from_str(text) {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(format!("{} is not {}", quoted(text), expected())),
    }
}

/// An address to listen on.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let reason = || {
        let shown = quoted(text);
        format!("{shown} is not an IP address with a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080")
    };
    text.parse().map_err(|_| reason())
}

/// What a client may send as `Host`, in lower case.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let refused = || format!("{} is no host: write a name, or a name and a port", quoted(text));
    let authority: Authority = text.parse().map_err(|_| refused())?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(refused());
    }
    Ok(authority.as_str().to_ascii_lowercase())
}

/// A file that must exist.
pub(super) fn existing_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Err(format!("{} is a directory, not a file", quoted(text))),
        Ok(_) => Ok(path),
        Err(error) => Err(format!("cannot read {}: {error}", quoted(text))),
    }
}

/// A file or a directory that must exist.
pub(super) fn existing_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    std::fs::metadata(&path).map_err(|error| format!("cannot read {}: {error}", quoted(text)))?;
    Ok(path)
}

/// A directory that may be made later. A tilde would make one of that name.
pub(super) fn new_directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the path of a directory is needed".to_owned());
    }
    if text.starts_with('~') {
        return Err(format!("{}: ~ is not expanded here, write the whole path", quoted(text)));
    }
    let path = PathBuf::from(text);
    if path.exists() && !path.is_dir() {
        return Err(format!("{} is a file, not a directory", quoted(text)));
    }
    Ok(path)
}

/// Which list of tags a host is asked for.
pub(super) fn listing(text: &str) -> Result<ListingChoice, String> {
    let choice = ListingChoice::from_word(text).ok_or_else(|| {
        let words: Vec<&str> = ListingChoice::ALL.iter().map(|(word, _)| *word).collect();
        format!("{} is none of {}", quoted(text), words.join(", "))
    })?;
    // It is asked for with Amazon's own library.
    if text == "ecr" {
        compiled_in(Cloud::Aws)?;
    }
    Ok(choice)
}

/// Refuses a cloud that this program was built without.
pub(super) fn compiled_in(cloud: Cloud) -> Result<Cloud, String> {
    if cloud.is_compiled_in() {
        return Ok(cloud);
    }
    Err(format!("this samovar was built without the feature {cloud}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90s", 90),
            ("5m", 300),
            ("1h30m", 5_400),
            ("1h 30m", 5_400),
            ("7d", 604_800),
            ("PT5M", 300),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text, ANY), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("250ms", ANY), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "5", "5 apples", "-5m", "5m ago", "1mo", "1y", "m", "1e3s"] {
            let refused = parse_duration(text, ANY).unwrap_err();
            assert_eq!(refused, format!("{text:?} is not a duration such as 90s, 5m or 1h30m"));
        }
    }

    #[test]
    fn bounds_are_part_of_the_range_and_named_otherwise() {
        let bounds = Duration::from_secs(1)..=Duration::from_hours(168);
        assert!(parse_duration("1s", bounds.clone()).is_ok());
        assert!(parse_duration("7d", bounds.clone()).is_ok());
        let refused = parse_duration("999ms", bounds.clone()).unwrap_err();
        assert_eq!(refused, "\"999ms\" is out of bounds: from 1s to 7d");
        assert!(parse_duration("168h1s", bounds).is_err());
    }

    #[test]
    fn shown_durations_are_read_back() {
        for milliseconds in [0, 1, 999, 1_000, 61_001, 5_400_000, 604_800_000] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(&shown(duration), ANY), Ok(duration), "{milliseconds} ms");
        }
        assert_eq!(shown(Duration::from_mins(90)), "1h30m");
    }

    #[test]
    fn rates_are_positive_and_finite() {
        assert_eq!(rate("50"), Ok(50.0));
        assert_eq!(rate("0.5"), Ok(0.5));
        for text in ["0", "-1", "inf", "NaN", "1e300", "0.0001"] {
            let refused = rate(text).unwrap_err();
            assert_eq!(refused, format!("{text:?} is out of bounds: from 0.001 to 100000 requests a second"));
        }
        assert_eq!(rate("many").unwrap_err(), "\"many\" is not a number");
    }

    #[test]
    fn whole_numbers_keep_to_their_bounds() {
        assert_eq!(whole("10", 1..=20_u32), Ok(10));
        for text in ["0", "21", "-1", "1.5", "", "ten", "99999999999999999999"] {
            let refused = whole(text, 1..=20_u32).unwrap_err();
            assert_eq!(refused, format!("{text:?} is not a whole number from 1 to 20"));
        }
    }

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1000000", 1_000_000),
            ("4KiB", 4_096),
            ("512MiB", 536_870_912),
            ("8 GiB", 8_589_934_592),
            ("2TiB", 2_199_023_255_552),
        ] {
            assert_eq!(size(text, 0..=u64::MAX), Ok(bytes), "{text}");
            assert_eq!(size(&shown_size(bytes), 0..=u64::MAX), Ok(bytes), "{text}");
        }
        assert_eq!(shown_size(8 << 30), "8GiB");
        assert_eq!(shown_size((8 << 30) + 1024), "8388609KiB");
        assert_eq!(shown_size(1023), "1023");
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in ["", "MiB", "8GB", "8G", "8gib", "1.5GiB", "-1", "+1", "1e9", "8GiB8", "many"] {
            let refused = size(text, 0..=u64::MAX).unwrap_err();
            assert_eq!(refused, format!("{text:?} is not a size such as 512MiB, 8GiB or 1000000 (bytes)"));
        }
        for text in ["15MiB", "2GiB", "99999999999999999999", "99999999999999TiB"] {
            let refused = size(text, 16 << 20..=1 << 30).unwrap_err();
            assert_eq!(refused, format!("{text:?} is out of bounds: from 16MiB to 1GiB"));
        }
    }

    #[test]
    fn shares_are_above_0_and_at_most_1() {
        assert_eq!(share("0.25"), Ok(0.25));
        assert_eq!(share("1"), Ok(1.0));
        for text in ["0", "-0.5", "1.01", "inf", "NaN"] {
            assert_eq!(share(text).unwrap_err(), format!("{text:?} is not a share: more than 0, at most 1"));
        }
        assert_eq!(share("half").unwrap_err(), "\"half\" is not a number");
    }

    #[test]
    fn addresses_need_an_ip_and_a_port() {
        assert_eq!(socket_address("[::]:8080").unwrap().port(), 8080);
        assert_eq!(socket_address("127.0.0.1:0").unwrap().port(), 0);
        for text in [":8080", "localhost:8080", "127.0.0.1", "8080", "127.0.0.1:65536"] {
            assert!(socket_address(text).unwrap_err().contains("is not an IP address with a port"), "{text}");
        }
    }
}
