//! The watch list: which repositories are kept warm, and which of their tags.

use std::collections::BTreeMap;

use samovar_registry::{Aliases, Name, Platforms, Reference};

use super::error::{Problems, quoted};
use super::intervals::{self, PollInterval, TagInterval};
use super::settings::WatchSetting;
use super::tag_filter::TagFilter;
use super::validate;

/// One repository to keep warm.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchEntry {
    /// The repository.
    pub name: Name,
    /// Which of its tags.
    pub tags: TagFilter,
    /// How often its tags are listed.
    pub poll_interval: PollInterval,
    /// How often each of them is confirmed.
    pub tag_interval: TagInterval,
    /// Which platforms' images are wanted.
    pub platforms: Platforms,
}

/// What holds where an entry says nothing else.
pub(super) struct Usual<'a> {
    pub(super) poll_interval: PollInterval,
    pub(super) tag_interval: TagInterval,
    pub(super) platforms: &'a Platforms,
}

/// The watch list in the order of names, each repository once: where it is written several times, any tag that one
/// of the entries wants is wanted, for all platforms that one of them wants, and the shortest intervals hold.
pub(super) fn watch_list(
    settings: &[WatchSetting],
    aliases: &Aliases,
    usual: &Usual<'_>,
    problems: &mut Problems,
) -> Vec<WatchEntry> {
    let mut merged: BTreeMap<Name, WatchEntry> = BTreeMap::new();
    for setting in settings {
        let Some(entry) = watch_entry(setting, aliases, usual, problems) else {
            continue;
        };
        let entry = match merged.remove(&entry.name) {
            Some(other) => WatchEntry {
                tags: other.tags.union(entry.tags),
                poll_interval: other.poll_interval.shorter_of_each(entry.poll_interval),
                tag_interval: other.tag_interval.shorter_of_each(entry.tag_interval),
                platforms: other.platforms.union(&entry.platforms),
                name: entry.name,
            },
            None => entry,
        };
        merged.insert(entry.name.clone(), entry);
    }
    merged.into_values().collect()
}

fn watch_entry(
    setting: &WatchSetting,
    aliases: &Aliases,
    usual: &Usual<'_>,
    problems: &mut Problems,
) -> Option<WatchEntry> {
    // All parts are looked at before any is given up, so that every problem is seen.
    let include = setting.tags.as_deref().map(|patterns| validate::tag_patterns(patterns, problems));
    let ignore = validate::tag_patterns(&setting.ignore_tags, problems);
    let newest = validate::newest(setting.newest.as_ref(), problems);
    let poll_interval = intervals::poll_interval(&setting.intervals, usual.poll_interval, problems);
    let tag_interval = intervals::tag_interval(&setting.intervals, usual.tag_interval, problems);
    let platforms = setting.platforms.as_deref().map(|platforms| validate::platforms(platforms, problems));

    let image = &setting.image;
    if setting.tags.as_ref().is_some_and(Vec::is_empty) {
        problems.add(&image.origin, "tags is an empty list, so that no tag would be watched");
    }
    if setting.platforms.as_ref().is_some_and(Vec::is_empty) {
        problems.add(&image.origin, "platforms is an empty list, so that no image would be wanted");
    }
    let reference = problems.keep(&image.origin, Reference::parse(&image.value, aliases))?;
    if reference.digest().is_some() {
        let reason = format!(
            "{} names a digest, which never changes: watch a tag or the repository",
            quoted(&image.value)
        );
        problems.add(&image.origin, reason);
        return None;
    }
    let tags = match reference.tag() {
        Some(_) if setting.tags.is_some() || !setting.ignore_tags.is_empty() || setting.newest.is_some() => {
            let reason = format!(
                "{} names a tag already: leave out tags, ignore_tags and newest",
                quoted(&image.value)
            );
            problems.add(&image.origin, reason);
            return None;
        }
        Some(tag) => TagFilter::exactly(tag.clone()),
        None => TagFilter::matching(include, ignore, newest),
    };
    let platforms = platforms.flatten().unwrap_or_else(|| usual.platforms.clone());
    Some(WatchEntry { name: reference.name().clone(), tags, poll_interval, tag_interval, platforms })
}
