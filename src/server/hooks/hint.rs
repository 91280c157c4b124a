//! What a delivery tells, whichever its words: repositories and tags to look at.
//!
//! Invariants: a hint carries no trust, for there is nothing in it but a name; what a delivery tells is bounded in number;
//! a name that cannot be read spoils no other.

use std::collections::BTreeSet;
use std::fmt;

use samovar_registry::{Aliases, Name, Reference, Tag, canonical_host};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, SeqAccess, Visitor};

/// Elements of one list in a delivery; with more it is refused.
pub(super) const MOST_ELEMENTS: usize = 1_000;
/// Characters of a reason that a sender is told.
const MOST_REASON_CHARACTERS: usize = 200;

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::server) struct Hint {
    /// The repository.
    pub(in crate::server) name: Name,
    /// The tag; `None`: the repository's list of tags.
    pub(in crate::server) tag: Option<Tag>,
    /// It is said to be gone.
    pub(in crate::server) deleted: bool,
}

/// Why a delivery cannot be understood; shown to its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::server) struct Malformed(String);

impl Malformed {
    pub(super) fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string().chars().take(MOST_REASON_CHARACTERS).collect())
    }
}

/// What the configuration adds to what payloads say of a registry.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct Place {
    /// Stand for hosts where an image is named by its whole name.
    pub(in crate::server) aliases: Aliases,
    /// The registry that is meant whatever a payload says.
    pub(in crate::server) registry: Option<String>,
    /// What stands before an image's name, whatever a payload says.
    pub(in crate::server) prefix: Option<String>,
}

/// Collects what one delivery tells.
#[derive(Debug)]
pub(in crate::server) struct Told<'a> {
    place: &'a Place,
    hints: BTreeSet<Hint>,
    unreadable: usize,
    reply: Option<serde_json::Value>,
}

impl<'a> Told<'a> {
    /// Nothing yet.
    pub(in crate::server) fn new(place: &'a Place) -> Self {
        Self { place, hints: BTreeSet::new(), unreadable: 0, reply: None }
    }

    /// The hints, each once, in the order of names.
    pub(in crate::server) fn into_hints(self) -> Vec<Hint> {
        self.hints.into_iter().collect()
    }

    /// How many of the things that it told of could not be read.
    pub(in crate::server) fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// What the sender wants to hear.
    pub(in crate::server) fn reply(&self) -> Option<&serde_json::Value> {
        self.reply.as_ref()
    }

    /// The sender wants to hear this.
    pub(super) fn answer(&mut self, reply: serde_json::Value) {
        self.reply = Some(reply);
    }

    /// What stands before an image's name: as configured, else as the payload says.
    pub(super) fn prefixed(&self, said: Option<&str>, path: &str) -> String {
        match self.place.prefix.as_deref().or(said) {
            None | Some("") => path.to_owned(),
            Some(prefix) => format!("{prefix}/{path}"),
        }
    }

    /// A tag of the repository `path` was pushed, or is gone; without a tag, something of the repository. `host` is what the
    /// payload says of the registry, for which the configuration may know better.
    pub(super) fn image(&mut self, host: Option<&str>, path: &str, tag: Option<&str>, deleted: bool) {
        let name = self.name(host, path);
        self.add(name, tag, deleted);
    }

    /// The same of an image that is named as a whole, `host/repository[:tag][@digest]`.
    pub(super) fn reference(&mut self, text: &str, deleted: bool) {
        let Ok(reference) = Reference::parse(text, &self.place.aliases) else {
            self.unreadable += 1;
            return;
        };
        let tag = reference.tag().map(|tag| tag.as_str().to_owned());
        self.repository(reference.name(), tag.as_deref(), deleted);
    }

    /// The same of a repository whose name is read already.
    pub(super) fn repository(&mut self, name: &Name, tag: Option<&str>, deleted: bool) {
        let name = match &self.place.registry {
            Some(host) => in_registry(host, name.path()),
            None => Some(name.clone()),
        };
        self.add(name, tag, deleted);
    }

    /// Something was told of that cannot be read.
    pub(super) fn unreadable_one(&mut self) {
        self.unreadable += 1;
    }

    fn name(&self, host: Option<&str>, path: &str) -> Option<Name> {
        match (&self.place.registry, host) {
            (Some(host), _) => in_registry(host, path),
            (None, Some(host)) => in_registry(&self.canonical(host)?, path),
            (None, None) => None,
        }
    }

    /// A host as senders write it: with a scheme or without, as a short name where it has one here.
    fn canonical(&self, host: &str) -> Option<String> {
        let host = host_of(host);
        match self.place.aliases.host_of(host) {
            Some(host) => Some(host.to_owned()),
            None => canonical_host(host).ok(),
        }
    }

    fn add(&mut self, name: Option<Name>, tag: Option<&str>, deleted: bool) {
        let tag = match tag.filter(|tag| !tag.is_empty()).map(str::parse) {
            None => None,
            Some(Ok(tag)) => Some(tag),
            Some(Err(_)) => return self.unreadable += 1,
        };
        match name {
            Some(name) => drop(self.hints.insert(Hint { name, tag, deleted })),
            None => self.unreadable += 1,
        }
    }
}

/// A repository of a registry whose canonical host this is: no alias, and no organisation of Docker Hub.
fn in_registry(host: &str, path: &str) -> Option<Name> {
    Name::parse(&format!("{host}/{path}"), &Aliases::default()).ok()
}

/// The host in a URL or in the name of an image, with its port; what has neither scheme nor path is all host.
pub(super) fn host_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The document, which must be an object.
pub(super) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Malformed::new("a JSON object is wanted"));
    }
    serde_json::from_slice(body).map_err(Malformed::new)
}

/// The elements of a list, of which there may be none and not too many: what is decoded takes many times the memory of
/// what is sent.
pub(super) fn bounded<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Elements<T>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = list.next_element()? {
                if elements.len() == MOST_ELEMENTS {
                    let reason = format!("a list has more than {MOST_ELEMENTS} elements");
                    return Err(serde::de::Error::custom(reason));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }

    deserializer.deserialize_any(Elements(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_urls_and_names() {
        for (text, host) in [
            ("https://a.example/", "a.example"),
            ("https://a.example:5000/x?y#z", "a.example:5000"),
            ("a.example/team/app:v1", "a.example"),
            ("a.example:5000", "a.example:5000"),
            ("[::1]:5000/app", "[::1]:5000"),
            ("", ""),
        ] {
            assert_eq!(host_of(text), host, "{text}");
        }
    }

    #[test]
    fn the_configuration_knows_better_than_a_payload() {
        let aliases = Aliases::parse(["corp=registry.corp.example:5000"]).unwrap();
        let open = Place { aliases, ..Place::default() };
        let names = |place: &Place, tell: &dyn Fn(&mut Told<'_>)| {
            let mut told = Told::new(place);
            tell(&mut told);
            let unreadable = told.unreadable();
            let names: Vec<String> = told.into_hints().iter().map(|hint| hint.name.to_string()).collect();
            (names, unreadable)
        };
        let by_host = |host: &'static str| {
            move |told: &mut Told<'_>| told.image(Some(host), "team/app", Some("v1"), false)
        };
        assert_eq!(names(&open, &by_host("A.Example:443")).0, ["a.example/team/app"]);
        assert_eq!(names(&open, &by_host("https://index.docker.io/v1/")).0, ["docker.io/team/app"]);
        assert_eq!(names(&open, &by_host("corp")).0, ["registry.corp.example:5000/team/app"]);
        assert_eq!(names(&open, &by_host("nobody")), (vec![], 1), "not an organisation of Docker Hub");
        assert_eq!(names(&open, &|told| told.image(None, "team/app", None, false)), (vec![], 1));
        assert_eq!(
            names(&open, &|told| told.reference("corp/team/app:v1", false)).0,
            ["registry.corp.example:5000/team/app"]
        );
        for unreadable in ["UPPER/app", "a.example/app:", "a.example/app:é", ""] {
            assert_eq!(names(&open, &|told| told.reference(unreadable, false)), (vec![], 1), "{unreadable}");
        }
        let ours =
            Place { registry: Some("b.example".to_owned()), prefix: Some("docker".to_owned()), ..open };
        assert_eq!(names(&ours, &by_host("a.example")).0, ["b.example/team/app"]);
        assert_eq!(names(&ours, &|told| told.image(None, "team/app", None, false)).0, ["b.example/team/app"]);
        let told = Told::new(&ours);
        assert_eq!(
            (told.prefixed(Some("key"), "app"), told.prefixed(None, "app")),
            ("docker/app".to_owned(), "docker/app".to_owned())
        );
    }
}
