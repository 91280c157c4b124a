//! What the fake registry holds.

use std::collections::HashMap;

use serde_json::Value;

use crate::content::{Content, Document, digest_of};

/// In which order `tags/list` names the tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TagsOrder {
    /// By bytes, ascending, as the specification asks.
    #[default]
    Sorted,
    /// As they were pushed, oldest first; a tag that moves keeps its place.
    Registered,
    /// As a directory is read: in no order that means anything, the same every time.
    Directory,
}

/// When the first push begins, unless it is said: 14 November 2023, in milliseconds since 1970.
const FIRST_PUSH: i64 = 1_700_000_000_000;

/// All repositories by name.
#[derive(Debug, Default)]
pub(super) struct Contents {
    repositories: HashMap<String, Repository>,
    /// When something was pushed last, in milliseconds since 1970: every push takes half a second.
    pub(super) last_push: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Repository {
    /// In the order in which they were pushed first.
    tags: Vec<String>,
    digests: HashMap<String, String>,
    /// When each tag was pushed last, in milliseconds since 1970.
    pushed_at: HashMap<String, i64>,
    manifests: HashMap<String, Document>,
    blobs: HashMap<String, Document>,
    /// Listed after the tags, whatever they are.
    extra: Vec<Value>,
}

impl Contents {
    /// Stores everything that belongs to `content`, under a tag where there is one.
    pub(super) fn push(&mut self, repository: &str, tag: Option<&str>, content: &dyn Content) -> String {
        let now = self.last_push.unwrap_or(FIRST_PUSH) + 500;
        self.last_push = Some(now);
        let repository = self.repository_mut(repository);
        for blob in content.blobs() {
            repository.blobs.insert(blob.digest.clone(), blob);
        }
        for child in content.children() {
            repository.manifests.insert(child.digest.clone(), child);
        }
        let manifest = content.manifest();
        let digest = manifest.digest.clone();
        repository.manifests.insert(digest.clone(), manifest);
        if let Some(tag) = tag {
            repository.pushed_at.insert(tag.to_owned(), now);
        }
        if let Some(tag) = tag
            && repository.digests.insert(tag.to_owned(), digest.clone()).is_none()
        {
            repository.tags.push(tag.to_owned());
        }
        digest
    }

    pub(super) fn remove_tag(&mut self, repository: &str, tag: &str) {
        let repository = self.repository_mut(repository);
        let known = repository.digests.remove(tag);
        assert!(known.is_some(), "there is no tag `{tag}` to remove");
        repository.tags.retain(|other| other != tag);
    }

    pub(super) fn remove_manifest(&mut self, repository: &str, digest: &str) {
        let known = self.repository_mut(repository).manifests.remove(digest);
        assert!(known.is_some(), "there is no manifest {digest} to remove");
    }

    pub(super) fn remove_blob(&mut self, repository: &str, digest: &str) {
        let known = self.repository_mut(repository).blobs.remove(digest);
        assert!(known.is_some(), "there is no blob {digest} to remove");
    }

    pub(super) fn list_extra(&mut self, repository: &str, entry: Value) {
        self.repository_mut(repository).extra.push(entry);
    }

    pub(super) fn remove_repository(&mut self, repository: &str) {
        let known = self.repositories.remove(repository);
        assert!(known.is_some(), "there is no repository `{repository}` to remove");
    }

    /// The names of all repositories, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.repositories.keys().map(String::as_str)
    }

    pub(super) fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.get(name)
    }

    fn repository_mut(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }
}

impl Repository {
    /// What `tags/list` names, in this order.
    pub(super) fn listed(&self, order: TagsOrder) -> Vec<Value> {
        let mut tags = self.tags.clone();
        match order {
            TagsOrder::Sorted => tags.sort_unstable(),
            TagsOrder::Registered => {}
            TagsOrder::Directory => tags.sort_by_cached_key(|tag| digest_of(tag.as_bytes())),
        }
        tags.into_iter().map(Value::String).chain(self.extra.iter().cloned()).collect()
    }

    /// The manifest behind a tag or a digest.
    pub(super) fn manifest(&self, reference: &str) -> Option<&Document> {
        let digest = self.digests.get(reference).map_or(reference, String::as_str);
        self.manifests.get(digest)
    }

    /// The tags and the digests that they point at, in the order in which they were pushed first.
    pub(super) fn tagged(&self) -> impl Iterator<Item = (&str, &Document)> {
        self.tags.iter().filter_map(|tag| Some((tag.as_str(), self.manifests.get(self.digests.get(tag)?)?)))
    }

    /// The same with when each was pushed last, the last first.
    pub(super) fn by_change(&self) -> Vec<(&str, &Document, i64)> {
        let with_time =
            |(tag, manifest)| (tag, manifest, self.pushed_at.get(tag).copied().unwrap_or(FIRST_PUSH));
        let mut tags: Vec<_> = self.tagged().map(with_time).collect();
        tags.sort_by_key(|(_, _, at)| std::cmp::Reverse(*at));
        tags
    }

    pub(super) fn blob(&self, digest: &str) -> Option<&Document> {
        self.blobs.get(digest)
    }
}
