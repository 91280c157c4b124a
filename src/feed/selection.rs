//! Which changes somebody wants to hear of.

use samovar_registry::{Glob, Globs, Name};

use crate::warmer::ChangeKind;

/// Globs or types of one selection.
const MOST_SELECTED: usize = 64;

/// The kinds that are told where none are chosen. The others concern who follows what samovar leaves out.
const USUAL_KINDS: [ChangeKind; 6] = [
    ChangeKind::TagAdded,
    ChangeKind::TagRemoved,
    ChangeKind::TagMoved,
    ChangeKind::RepositoryFailed,
    ChangeKind::RepositoryRecovered,
    ChangeKind::RepositoryRemoved,
];

/// Which changes somebody wants to hear of.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Of all repositories where there are none.
    names: Globs,
    any_name: bool,
    kinds: Vec<ChangeKind>,
}

/// What selects nothing that can be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSelection {
    /// No glob over names.
    #[error("{0}")]
    Glob(String),
    /// No type of change.
    #[error("{0:?} is no type of change; there are {known}", known = known())]
    Kind(String),
    /// Nothing at all, or too much.
    #[error("from 1 to {MOST_SELECTED} are needed")]
    Count,
}

fn known() -> String {
    ChangeKind::ALL.map(ChangeKind::as_str).join(", ")
}

impl Default for Selection {
    fn default() -> Self {
        Self { names: Globs::default(), any_name: true, kinds: USUAL_KINDS.to_vec() }
    }
}

impl Selection {
    /// Only changes of repositories that one of these globs matches.
    pub fn with_names<'a>(mut self, globs: impl IntoIterator<Item = &'a str>) -> Result<Self, NoSelection> {
        let globs: Vec<&str> = globs.into_iter().collect();
        if !(1..=MOST_SELECTED).contains(&globs.len()) {
            return Err(NoSelection::Count);
        }
        let parse = |glob: &str| Glob::new(glob).map_err(|error| NoSelection::Glob(error.to_string()));
        self.names = globs.into_iter().map(parse).collect::<Result<_, _>>()?;
        self.any_name = false;
        Ok(self)
    }

    /// Only changes of these types.
    pub fn with_kinds<'a>(mut self, kinds: impl IntoIterator<Item = &'a str>) -> Result<Self, NoSelection> {
        let parse = |kind: &str| {
            let known = ChangeKind::ALL.into_iter().find(|known| known.as_str() == kind);
            known.ok_or_else(|| NoSelection::Kind(kind.to_owned()))
        };
        self.kinds = kinds.into_iter().take(MOST_SELECTED).map(parse).collect::<Result<_, _>>()?;
        if self.kinds.is_empty() { Err(NoSelection::Count) } else { Ok(self) }
    }

    /// Whether changes of this repository are wanted.
    pub fn wants_name(&self, name: &Name) -> bool {
        self.any_name || self.names.matches_name(name)
    }

    /// Whether this change is wanted.
    pub fn wants(&self, name: &Name, kind: ChangeKind) -> bool {
        self.kinds.contains(&kind) && self.wants_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_all_repositories_and_the_types_of_the_contract_are_told() {
        let selection = Selection::default();
        let name: Name = "ghcr.io/a/b".parse().unwrap();
        let told = ChangeKind::ALL.into_iter().filter(|kind| selection.wants(&name, *kind));
        assert_eq!(
            told.map(ChangeKind::as_str).collect::<Vec<_>>(),
            [
                "tag.added",
                "tag.removed",
                "tag.moved",
                "repository.failed",
                "repository.recovered",
                "repository.removed"
            ]
        );
    }

    #[test]
    fn names_and_types_are_chosen() {
        let chosen = Selection::default().with_names(["ghcr.io/a/*", "index.docker.io/*"]).unwrap();
        let chosen = chosen.with_kinds(["image.excluded", "tag.moved"]).unwrap();
        for (name, kind, wanted) in [
            ("ghcr.io/a/b", ChangeKind::TagMoved, true),
            ("ghcr.io/a/b", ChangeKind::ImageExcluded, true),
            ("ghcr.io/a/b", ChangeKind::TagAdded, false),
            ("ghcr.io/b/b", ChangeKind::TagMoved, false),
            ("alpine", ChangeKind::TagMoved, true),
        ] {
            assert_eq!(chosen.wants(&name.parse().unwrap(), kind), wanted, "{name} {kind:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_selects_nothing() {
        assert_eq!(Selection::default().with_names([]), Err(NoSelection::Count));
        assert_eq!(Selection::default().with_names(vec!["a"; MOST_SELECTED + 1]), Err(NoSelection::Count));
        assert!(matches!(Selection::default().with_names([""]), Err(NoSelection::Glob(_))));
        assert_eq!(Selection::default().with_kinds([]), Err(NoSelection::Count));
        let unknown = Selection::default().with_kinds(["tag.signed"]).unwrap_err();
        assert!(
            unknown.to_string().starts_with("\"tag.signed\" is no type of change; there are tag.added, ")
        );
    }
}
