//! The watch list: which repositories are kept warm, and which of their tags.

use std::collections::BTreeMap;

use samovar_registry::{Aliases, Name, Platforms, Reference, Tag};

use super::error::{Problems, quoted};
use super::intervals::{self, PollInterval, TagInterval};
use super::repository_pattern::RepositoryPattern;
use super::settings::{Setting, WatchSetting};
use super::tag_filter::TagFilter;
use super::validate;

/// One repository to keep warm, or all that a pattern matches.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchEntry<N = Name> {
    /// The repository, or the pattern.
    pub name: N,
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

/// What is watched: repositories in the order of names, then what patterns match, each written once.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) repositories: Vec<WatchEntry>,
    pub(super) patterns: Vec<WatchEntry<RepositoryPattern>>,
}

impl<N> WatchEntry<N> {
    /// The same for something else.
    pub fn renamed<M>(&self, name: M) -> WatchEntry<M> {
        WatchEntry {
            name,
            tags: self.tags.clone(),
            poll_interval: self.poll_interval,
            tag_interval: self.tag_interval,
            platforms: self.platforms.clone(),
        }
    }

    /// What this entry and another one want together: any tag that one of them wants, for all platforms that one of them
    /// wants, at the shorter intervals.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            name: self.name,
            tags: self.tags.union(other.tags),
            poll_interval: self.poll_interval.shorter_of_each(other.poll_interval),
            tag_interval: self.tag_interval.shorter_of_each(other.tag_interval),
            platforms: self.platforms.union(&other.platforms),
        }
    }
}

/// The watch list, each repository and each pattern once: where it is written several times, it is kept as all of its entries
/// want it together.
pub(super) fn watch_list(
    settings: &[WatchSetting],
    aliases: &Aliases,
    usual: &Usual<'_>,
    problems: &mut Problems,
) -> Watched {
    let mut repositories = BTreeMap::new();
    let mut patterns = BTreeMap::new();
    for setting in settings {
        if RepositoryPattern::is_meant_by(&setting.image.value) {
            let read = RepositoryPattern::parse(&setting.image.value, aliases);
            let read = problems.keep(&setting.image.origin, read);
            let entry = watch_entry(setting, read, usual, problems);
            add(&mut patterns, entry, |entry| entry.name.to_string());
        } else {
            let read = repository(&setting.image, aliases, problems);
            let entry = watch_entry(setting, read, usual, problems);
            add(&mut repositories, entry, |entry| entry.name.clone());
        }
    }
    Watched { repositories: repositories.into_values().collect(), patterns: patterns.into_values().collect() }
}

fn add<N, K: Ord>(
    entries: &mut BTreeMap<K, WatchEntry<N>>,
    entry: Option<WatchEntry<N>>,
    key: impl FnOnce(&WatchEntry<N>) -> K,
) {
    let Some(entry) = entry else { return };
    let key = key(&entry);
    let together = match entries.remove(&key) {
        Some(other) => other.and(entry),
        None => entry,
    };
    entries.insert(key, together);
}

/// The repository that is written, and the tag behind it.
fn repository(image: &Setting, aliases: &Aliases, problems: &mut Problems) -> Option<(Name, Option<Tag>)> {
    let reference = problems.keep(&image.origin, Reference::parse(&image.value, aliases))?;
    if reference.digest().is_some() {
        let reason = format!(
            "{} names a digest, which never changes: watch a tag or the repository",
            quoted(&image.value)
        );
        problems.add(&image.origin, reason);
        return None;
    }
    Some((reference.name().clone(), reference.tag().cloned()))
}

/// The entry for what was `read` of its image, if that makes sense.
fn watch_entry<N>(
    setting: &WatchSetting,
    read: Option<(N, Option<Tag>)>,
    usual: &Usual<'_>,
    problems: &mut Problems,
) -> Option<WatchEntry<N>> {
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
    let (name, tag) = read?;
    let tags = match tag {
        Some(_) if setting.tags.is_some() || !setting.ignore_tags.is_empty() || setting.newest.is_some() => {
            let reason = format!(
                "{} names a tag already: leave out tags, ignore_tags and newest",
                quoted(&image.value)
            );
            problems.add(&image.origin, reason);
            return None;
        }
        Some(tag) => TagFilter::exactly(tag),
        None => TagFilter::matching(include, ignore, newest),
    };
    let platforms = platforms.flatten().unwrap_or_else(|| usual.platforms.clone());
    Some(WatchEntry { name, tags, poll_interval, tag_interval, platforms })
}
