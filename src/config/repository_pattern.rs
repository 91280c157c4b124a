//! Patterns in the watch list: all repositories of a registry whose names match.

use std::fmt;

use samovar_registry::{Aliases, Glob, Name, Reference, Tag};

use super::error::quoted;

/// Registries that are known not to list their repositories: a pattern would never match anything there.
const UNLISTED: [&str; 4] = ["docker.io", "ghcr.io", "public.ecr.aws", "registry.k8s.io"];

/// What stands for each `*` where the name of a repository is needed that a pattern could match.
const ANY: &str = "any";

/// Repositories of one registry, by a glob over their canonical names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPattern {
    glob: Glob,
    example: Name,
}

impl RepositoryPattern {
    /// Whether an entry of the watch list is a pattern, and no single repository.
    pub(super) fn is_meant_by(image: &str) -> bool {
        image.contains('*')
    }

    /// Reads a pattern, with the tag that may stand behind it. The host must be written out: nothing is asked of a
    /// registry that nobody has named.
    pub fn parse(image: &str, aliases: &Aliases) -> Result<(Self, Option<Tag>), String> {
        let shown = quoted(image);
        let Some((host, path)) = image.split_once('/').filter(|(host, _)| !host.contains('*')) else {
            return Err(format!(
                "{shown} is a pattern, but names no registry: write its host before the first /"
            ));
        };
        let last_part = path.rsplit('/').next().unwrap_or(path);
        let (path, behind) = match last_part.find([':', '@']) {
            Some(end) => path.split_at(path.len() - last_part.len() + end),
            None => (path, ""),
        };
        if behind.contains('*') {
            return Err(format!("{shown} has a * in its tag: say which tags are wanted with tags = […]"));
        }
        let example = format!("{host}/{}{behind}", path.replace('*', ANY));
        let example = Reference::parse(&example, aliases).map_err(|error| {
            format!("{shown} can match no repository: with {ANY:?} in place of *, {error}")
        })?;
        if example.digest().is_some() {
            return Err(format!("{shown} names a digest, which never changes: watch tags"));
        }
        let registry = example.name().host();
        if UNLISTED.contains(&registry) {
            return Err(format!(
                "{shown} is a pattern, and {registry} does not list its repositories: name them one by one"
            ));
        }
        let glob = Glob::new(&format!("{registry}/{path}")).map_err(|error| error.to_string())?;
        Ok((Self { glob, example: example.name().clone() }, example.tag().cloned()))
    }

    /// The registry, canonical.
    pub fn host(&self) -> &str {
        self.example.host()
    }

    /// Whether it matches a repository.
    pub fn matches(&self, name: &Name) -> bool {
        self.glob.matches(name.as_str())
    }

    /// The name of a repository that it would match, whether there is one or not: what is configured for that, such as
    /// credentials, is taken to be for all.
    pub fn example(&self) -> &Name {
        &self.example
    }

    /// The pattern, canonical.
    pub fn as_str(&self) -> &str {
        self.glob.as_str()
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(image: &str) -> Result<(String, Option<String>), String> {
        let aliases = Aliases::parse(["corp=registry.corp:5000"]).unwrap();
        let (pattern, tag) = RepositoryPattern::parse(image, &aliases)?;
        assert!(pattern.matches(pattern.example()), "{pattern} {}", pattern.example());
        assert_eq!(pattern.example().host(), pattern.host());
        Ok((pattern.to_string(), tag.map(|tag| tag.to_string())))
    }

    #[test]
    fn patterns_are_made_canonical() {
        for (image, canonical, tag) in [
            ("registry.corp/*", "registry.corp/*", None),
            ("Registry.Corp:443/team/*", "registry.corp/team/*", None),
            ("corp/team/app-*:v1", "registry.corp:5000/team/app-*", Some("v1")),
            ("127.0.0.1:5000/*/base", "127.0.0.1:5000/*/base", None),
            ("[::1]:5000/a**:latest", "[::1]:5000/a**", Some("latest")),
        ] {
            assert_eq!(parse(image), Ok((canonical.to_owned(), tag.map(str::to_owned))), "{image}");
        }
    }

    #[test]
    fn stars_cross_slashes_and_nothing_else_is_special() {
        let (pattern, _) = RepositoryPattern::parse("r.example/team/*", &Aliases::default()).unwrap();
        for (name, expected) in [
            ("r.example/team/app", true),
            ("r.example/team/sub/app", true),
            ("r.example/other/app", false),
            ("r.example:5000/team/app", false),
            ("rxexample.io/team/app", false),
        ] {
            assert_eq!(pattern.matches(&name.parse().unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn refusals_say_why() {
        for (image, reason) in [
            ("*", "names no registry"),
            ("*/app", "names no registry"),
            ("*.corp/app", "names no registry"),
            ("team/*", "docker.io does not list its repositories"),
            ("ghcr.io/org/*", "ghcr.io does not list its repositories"),
            ("r.example/app*:v*", "has a * in its tag"),
            ("r.example/Team/*", "upper-case"),
            ("r.example/team//*", "an empty part"),
            ("r.example/*_", "must begin and end with a letter or a digit"),
        ] {
            let error = parse(image).unwrap_err();
            assert!(error.contains(reason), "{image}: {error}");
        }
        let digest = format!("r.example/*@sha256:{}", "0".repeat(64));
        assert!(parse(&digest).unwrap_err().contains("names a digest"));
    }
}
