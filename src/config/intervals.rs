//! How often repositories are listed and their tags confirmed: what is learnt while samovar runs stays within these.
//!
//! Invariants: the shortest interval is no longer than the one to begin with, and that one no longer than the longest. Who
//! says how often to list, and says no bounds, means exactly that often.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::Section;
use super::error::Problems;
use super::settings::Setting;
use super::values::{parse_duration, shown};

const POLL_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(7 * 24);
/// Below the least, asking about tags one by one is no way to follow them; above the most, no deadline is believed.
const TAG_INTERVALS: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(7 * 24);

/// How often a repository is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollInterval {
    /// At first, until it has been learnt how often the list really changes.
    pub usual: Duration,
    /// No more often than this, however often it changes.
    pub shortest: Duration,
    /// No less often than this, however rarely it changes.
    pub longest: Duration,
    /// The same where webhooks tell of the changes; no shorter than `longest`.
    pub webhook_fed: Duration,
}

impl PollInterval {
    /// Always this often.
    pub const fn fixed(interval: Duration) -> Self {
        Self { usual: interval, shortest: interval, longest: interval, webhook_fed: interval }
    }

    /// The shorter of each, for what two ask for.
    #[must_use]
    pub fn shorter_of_each(self, other: Self) -> Self {
        Self {
            usual: self.usual.min(other.usual),
            shortest: self.shortest.min(other.shortest),
            longest: self.longest.min(other.longest),
            webhook_fed: self.webhook_fed.min(other.webhook_fed),
        }
    }
}

impl Default for PollInterval {
    /// 5 minutes at first, from 1 minute to 1 hour, and up to 6 hours where webhooks tell.
    fn default() -> Self {
        Self {
            usual: Duration::from_mins(5),
            shortest: Duration::from_mins(1),
            longest: Duration::from_hours(1),
            webhook_fed: Duration::from_hours(6),
        }
    }
}

impl fmt::Display for PollInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_range(f, self.usual, self.shortest, self.longest)
    }
}

/// How often a tag is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagInterval {
    /// After it was seen first.
    pub first: Duration,
    /// No more often than this, however often it moves.
    pub shortest: Duration,
    /// No less often than this, however long it has not moved.
    pub longest: Duration,
}

impl TagInterval {
    /// The shorter of each, for what two ask for.
    #[must_use]
    pub fn shorter_of_each(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            shortest: self.shortest.min(other.shortest),
            longest: self.longest.min(other.longest),
        }
    }
}

impl Default for TagInterval {
    /// 1 hour at first, from 5 minutes to 7 days.
    fn default() -> Self {
        Self {
            first: Duration::from_hours(1),
            shortest: Duration::from_mins(5),
            longest: Duration::from_hours(7 * 24),
        }
    }
}

impl fmt::Display for TagInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_range(f, self.first, self.shortest, self.longest)
    }
}

fn write_range(
    f: &mut fmt::Formatter<'_>,
    usual: Duration,
    shortest: Duration,
    longest: Duration,
) -> fmt::Result {
    write!(f, "{}", shown(usual))?;
    if shortest == longest { Ok(()) } else { write!(f, " ({} to {})", shown(shortest), shown(longest)) }
}

/// Intervals as they are written, for all repositories or for one entry of the watch list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct IntervalSettings {
    pub(super) poll: Option<Setting>,
    min_poll: Option<Setting>,
    max_poll: Option<Setting>,
    webhook_poll: Option<Setting>,
    tag: Option<Setting>,
    min_tag: Option<Setting>,
    max_tag: Option<Setting>,
}

impl IntervalSettings {
    /// All that a flag or a variable can say.
    pub(super) fn poll(poll: Option<Setting>) -> Self {
        Self { poll, ..Self::default() }
    }

    /// These settings, and where they are silent, those of the layer below. An interval that is given by itself means
    /// just that, whatever bounds a layer below has for another one.
    pub(super) fn over(self, below: Self) -> Self {
        if self.poll.is_none() {
            return below;
        }
        let Self { tag, min_tag, max_tag, .. } = below;
        Self { tag, min_tag, max_tag, ..self }
    }
}

/// Reads the keys of a table.
pub(super) fn read(section: &mut Section<'_>) -> IntervalSettings {
    IntervalSettings {
        poll: section.text("poll_interval"),
        min_poll: section.text("min_poll_interval"),
        max_poll: section.text("max_poll_interval"),
        webhook_poll: section.text("webhook_poll_interval"),
        tag: section.text("tag_interval"),
        min_tag: section.text("min_tag_interval"),
        max_tag: section.text("max_tag_interval"),
    }
}

/// How often to list: what is written, and where that is silent, `below`.
pub(super) fn poll_interval(
    settings: &IntervalSettings,
    below: PollInterval,
    problems: &mut Problems,
) -> PollInterval {
    let usual = Given::new("poll_interval", settings.poll.as_ref(), POLL_INTERVALS, problems);
    let shortest = Given::new("min_poll_interval", settings.min_poll.as_ref(), POLL_INTERVALS, problems);
    let longest = Given::new("max_poll_interval", settings.max_poll.as_ref(), POLL_INTERVALS, problems);
    let fed = settings.webhook_poll.as_ref();
    let fed = Given::new("webhook_poll_interval", fed, POLL_INTERVALS, problems);

    let is_fixed = usual.is_given() && !shortest.is_given() && !longest.is_given();
    let is_bounded = is_fixed || longest.is_given();
    let [usual, shortest, longest] = match usual.value {
        Some(exactly) if is_fixed => [exactly; 3],
        _ => within(&usual, &shortest, &longest, [below.usual, below.shortest, below.longest], problems),
    };
    fed.refuse_shorter("max_poll_interval", longest, problems);
    // Who says how rarely at most means it, unless something else is said of webhooks.
    let unsaid = if is_bounded { longest } else { below.webhook_fed.max(longest) };
    PollInterval { usual, shortest, longest, webhook_fed: fed.value.unwrap_or(unsaid) }
}

/// How often to confirm a tag: what is written, and where that is silent, `below`.
pub(super) fn tag_interval(
    settings: &IntervalSettings,
    below: TagInterval,
    problems: &mut Problems,
) -> TagInterval {
    let first = Given::new("tag_interval", settings.tag.as_ref(), TAG_INTERVALS, problems);
    let shortest = Given::new("min_tag_interval", settings.min_tag.as_ref(), TAG_INTERVALS, problems);
    let longest = Given::new("max_tag_interval", settings.max_tag.as_ref(), TAG_INTERVALS, problems);
    let below = [below.first, below.shortest, below.longest];
    let [first, shortest, longest] = within(&first, &shortest, &longest, below, problems);
    TagInterval { first, shortest, longest }
}

/// A duration that may be written, and where.
struct Given<'a> {
    key: &'static str,
    setting: Option<&'a Setting>,
    value: Option<Duration>,
}

impl<'a> Given<'a> {
    fn new(
        key: &'static str,
        setting: Option<&'a Setting>,
        bounds: RangeInclusive<Duration>,
        problems: &mut Problems,
    ) -> Self {
        let parsed =
            |setting: &Setting| problems.keep(&setting.origin, parse_duration(&setting.value, bounds));
        Self { key, setting, value: setting.and_then(parsed) }
    }

    /// Also where what is written is refused: it says nothing about the other keys.
    fn is_given(&self) -> bool {
        self.setting.is_some()
    }

    /// It is a problem if this is shorter than another one.
    fn refuse_shorter(&self, than: &str, least: Duration, problems: &mut Problems) {
        if let (Some(setting), Some(value)) = (self.setting, self.value.filter(|value| *value < least)) {
            let reason = format!("{} is {}, shorter than {than}, {}", self.key, shown(value), shown(least));
            problems.add(&setting.origin, reason);
        }
    }
}

/// The interval to begin with, the shortest and the longest one. What comes from below gives way to what is written;
/// what is written must agree with itself.
fn within(
    usual: &Given<'_>,
    shortest: &Given<'_>,
    longest: &Given<'_>,
    below: [Duration; 3],
    problems: &mut Problems,
) -> [Duration; 3] {
    if let Some(least) = shortest.value {
        longest.refuse_shorter(shortest.key, least, problems);
        usual.refuse_shorter(shortest.key, least, problems);
    }
    if let Some(begun_with) = usual.value {
        longest.refuse_shorter(usual.key, begun_with, problems);
    }
    let [usual_below, shortest_below, longest_below] = below;
    let given = [usual.value, shortest.value, longest.value].into_iter().flatten();
    let least = given.clone().min().unwrap_or(shortest_below).min(shortest_below);
    let most = given.max().unwrap_or(longest_below).max(longest_below);
    let (least, most) = (shortest.value.unwrap_or(least), longest.value.unwrap_or(most));
    // Not clamp(): what disagrees is refused, and must not panic before.
    [usual.value.unwrap_or(usual_below.max(least).min(most)), least, most]
}

#[cfg(test)]
mod tests;
