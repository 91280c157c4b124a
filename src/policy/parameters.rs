//! Policies as they are asked for: by pairs of a name and a value, in a URL, in JSON or by flags.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::Policy;
use super::conditions::{AgeBy, Conditions, MinAge};
use super::names::{Extract, NameFilter};
use super::order::{Direction, NewestBy, Order};
use super::patterns::Patterns;
use super::version::Strictness;
use crate::config::{parse_duration, quoted};

/// The most tags that a policy may be asked to choose.
pub const MOST_CHOSEN: usize = 1000;
/// Filters of one policy, and as many exclusions.
const MOST_FILTERS: usize = 8;
/// Platforms, and as many selectors of labels.
const MOST_CONDITIONS: usize = 16;
/// How old an image can be asked to be.
const MIN_AGES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(10 * 366 * 24);

/// Of these exactly one has to be given.
const ORDERS: [&str; 4] = ["semver", "alphabetical", "numerical", "newest"];

/// What is wrong with a parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {reason}")]
pub struct ParameterError {
    /// Which one.
    pub parameter: Cow<'static, str>,
    /// What is wrong with it.
    pub reason: String,
}

impl ParameterError {
    fn new(parameter: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self { parameter: parameter.into(), reason: reason.into() }
    }
}

/// The values as they were given.
#[derive(Debug, Default)]
struct Given {
    semver: Option<String>,
    alphabetical: Option<String>,
    numerical: Option<String>,
    newest: Option<String>,
    strict: Option<String>,
    partial: Option<String>,
    prerelease: Option<String>,
    filter: Vec<String>,
    exclude: Vec<String>,
    extract: Option<String>,
    platform: Vec<String>,
    label: Vec<String>,
    min_age: Option<String>,
    min_age_by: Option<String>,
    limit: Option<String>,
    require_complete: Option<String>,
}

/// Where the values of a parameter go.
enum Place<'a> {
    One(&'a mut Option<String>),
    Several(&'a mut Vec<String>, usize),
}

impl Given {
    const KNOWN: [&str; 16] = [
        "semver",
        "alphabetical",
        "numerical",
        "newest",
        "strict",
        "partial",
        "prerelease",
        "filter",
        "exclude",
        "extract",
        "platform",
        "label",
        "min_age",
        "min_age_by",
        "limit",
        "require_complete",
    ];

    fn place(&mut self, parameter: &str) -> Option<Place<'_>> {
        Some(match parameter {
            "semver" => Place::One(&mut self.semver),
            "alphabetical" => Place::One(&mut self.alphabetical),
            "numerical" => Place::One(&mut self.numerical),
            "newest" => Place::One(&mut self.newest),
            "strict" => Place::One(&mut self.strict),
            "partial" => Place::One(&mut self.partial),
            "prerelease" => Place::One(&mut self.prerelease),
            "filter" => Place::Several(&mut self.filter, MOST_FILTERS),
            "exclude" => Place::Several(&mut self.exclude, MOST_FILTERS),
            "extract" => Place::One(&mut self.extract),
            "platform" => Place::Several(&mut self.platform, MOST_CONDITIONS),
            "label" => Place::Several(&mut self.label, MOST_CONDITIONS),
            "min_age" => Place::One(&mut self.min_age),
            "min_age_by" => Place::One(&mut self.min_age_by),
            "limit" => Place::One(&mut self.limit),
            "require_complete" => Place::One(&mut self.require_complete),
            _ => return None,
        })
    }

    fn take(&mut self, parameter: &str, value: &str) -> Result<(), ParameterError> {
        let Some(known) = Self::KNOWN.into_iter().find(|known| *known == parameter) else {
            let reason = format!("no such parameter; known here: {}", Self::KNOWN.join(", "));
            return Err(ParameterError::new(quoted(parameter), reason));
        };
        match self.place(known) {
            Some(Place::One(place)) if place.is_none() => *place = Some(value.to_owned()),
            Some(Place::Several(values, most)) if values.len() < most => values.push(value.to_owned()),
            Some(Place::Several(_, most)) => {
                return Err(ParameterError::new(known, format!("is given more than {most} times")));
            }
            _ => return Err(ParameterError::new(known, "is given more than once")),
        }
        Ok(())
    }

    fn order(&self) -> Result<Order, ParameterError> {
        let order = match (&self.semver, &self.alphabetical, &self.numerical, &self.newest) {
            (Some(range), None, None, None) => Order::SemVer {
                range: one_of("semver", range, str::parse)?,
                strictness: self.strictness()?,
                prereleases: flag("prerelease", self.prerelease.as_deref())?.unwrap_or(false),
            },
            (None, Some(direction), None, None) => {
                Order::Alphabetical(one_of("alphabetical", direction, str::parse)?)
            }
            (None, None, Some(direction), None) => {
                Order::Numerical(one_of("numerical", direction, str::parse)?)
            }
            (None, None, None, Some(by)) => Order::Newest(one_of("newest", by, str::parse)?),
            _ => {
                let given = [&self.semver, &self.alphabetical, &self.numerical, &self.newest];
                let mut given = ORDERS.into_iter().zip(given).filter(|(_, value)| value.is_some());
                return Err(match (given.next(), given.next()) {
                    (Some((one, _)), Some((other, _))) => {
                        ParameterError::new(other, format!("cannot be given together with {one}"))
                    }
                    _ => ParameterError::new(
                        "policy",
                        format!("exactly one of {} has to be given", ORDERS.join(", ")),
                    ),
                });
            }
        };
        if !matches!(order, Order::SemVer { .. }) {
            for (parameter, value) in
                [("strict", &self.strict), ("partial", &self.partial), ("prerelease", &self.prerelease)]
            {
                only_with(parameter, value.is_some(), "semver", false)?;
            }
        }
        Ok(order)
    }

    fn strictness(&self) -> Result<Strictness, ParameterError> {
        let strict = flag("strict", self.strict.as_deref())?;
        let partial = flag("partial", self.partial.as_deref())?;
        match (strict, partial) {
            (Some(true), Some(true)) => {
                Err(ParameterError::new("partial", "no partial version is one with strict=true"))
            }
            (Some(true), _) => Ok(Strictness::Strict),
            (_, Some(false)) => Ok(Strictness::Full),
            _ => Ok(Strictness::Partial),
        }
    }

    fn names(&self, order: &Order, patterns: &Patterns) -> Result<NameFilter, ParameterError> {
        let compiled = |parameter, sources: &[String]| {
            let compile = |source: &String| one_of(parameter, source, |source| patterns.get(source));
            sources.iter().map(compile).collect::<Result<Vec<_>, _>>()
        };
        let filters = compiled("filter", &self.filter)?;
        let excludes = compiled("exclude", &self.exclude)?;
        let Some(template) = &self.extract else {
            return Ok(NameFilter { filters, excludes, extract: None });
        };
        if matches!(order, Order::Newest(_)) {
            return Err(ParameterError::new("extract", "newest compares times and not names"));
        }
        let Some(first) = filters.first() else {
            return Err(ParameterError::new(
                "extract",
                "has no meaning without filter, whose groups it names",
            ));
        };
        let extract = Some(one_of("extract", template, |template| Extract::new(template, first))?);
        Ok(NameFilter { filters, excludes, extract })
    }

    fn conditions(&self) -> Result<Conditions, ParameterError> {
        let platforms = self.platform.iter().map(|platform| one_of("platform", platform, str::parse));
        let labels = self.label.iter().map(|selector| one_of("label", selector, str::parse));
        only_with("min_age_by", self.min_age_by.is_some(), "min_age", self.min_age.is_some())?;
        let by = self.min_age_by.as_ref().map(|by| one_of("min_age_by", by, str::parse)).transpose()?;
        let min_age = match &self.min_age {
            Some(text) => {
                let age = one_of("min_age", text, |text| parse_duration(text, MIN_AGES))?;
                Some(MinAge { age, by: by.unwrap_or_default() })
            }
            None => None,
        };
        Ok(Conditions {
            platforms: platforms.collect::<Result<_, _>>()?,
            labels: labels.collect::<Result<_, _>>()?,
            min_age,
        })
    }

    fn limit(&self) -> Result<usize, ParameterError> {
        let Some(text) = &self.limit else { return Ok(1) };
        let number = text.parse().map(NonZero::get).ok().filter(|number| *number <= MOST_CHOSEN);
        number.ok_or_else(|| ParameterError::new("limit", format!("must be from 1 to {MOST_CHOSEN}")))
    }
}

impl Policy {
    /// The parameters that make a policy. `fields`, `name` and their like are not among them.
    pub const PARAMETERS: [&str; 16] = Given::KNOWN;

    /// Reads a policy from its parameters, in any order; `filter`, `exclude`, `platform` and `label` may be given several
    /// times. What is unknown, given twice or without effect is refused.
    pub fn read<'a>(
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
        patterns: &Patterns,
    ) -> Result<Self, ParameterError> {
        let mut given = Given::default();
        for (parameter, value) in parameters {
            given.take(parameter, value)?;
        }
        let order = given.order()?;
        Ok(Self {
            names: given.names(&order, patterns)?,
            order,
            conditions: given.conditions()?,
            limit: given.limit()?,
            require_complete: flag("require_complete", given.require_complete.as_deref())?.unwrap_or(false),
        })
    }
}

fn one_of<'t, T, E: fmt::Display>(
    parameter: &'static str,
    text: &'t str,
    read: impl FnOnce(&'t str) -> Result<T, E>,
) -> Result<T, ParameterError> {
    read(text).map_err(|error| ParameterError::new(parameter, error.to_string()))
}

fn flag(parameter: &'static str, text: Option<&str>) -> Result<Option<bool>, ParameterError> {
    let Some(text) = text else { return Ok(None) };
    one_of(parameter, text, |text| word(text, [("true", true), ("false", false)])).map(Some)
}

fn only_with(
    parameter: &'static str,
    is_given: bool,
    other: &str,
    other_is_given: bool,
) -> Result<(), ParameterError> {
    if is_given && !other_is_given {
        return Err(ParameterError::new(parameter, format!("has no meaning without {other}")));
    }
    Ok(())
}

/// One of several words.
fn word<T: Copy, const N: usize>(text: &str, words: [(&str, T); N]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words = words.map(|(word, _)| word);
        format!("{} is not one of {}", quoted(text), words.join(", "))
    })
}

impl FromStr for Direction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        word(text, [("asc", Self::Ascending), ("desc", Self::Descending)])
    }
}

impl FromStr for NewestBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        word(text, [("created", Self::Created), ("pushed", Self::Pushed), ("first_seen", Self::FirstSeen)])
    }
}

impl FromStr for AgeBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        word(text, [("first_seen", Self::FirstSeen), ("pushed", Self::Pushed), ("created", Self::Created)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Pattern;

    fn read(parameters: &[(&str, &str)]) -> Result<Policy, String> {
        Policy::read(parameters.iter().copied(), &Patterns::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_parameter_finds_its_place() {
        let policy = read(&[
            ("semver", "^1"),
            ("partial", "false"),
            ("prerelease", "true"),
            ("filter", "^v(?P<v>.*)$"),
            ("filter", "1"),
            ("exclude", "rc"),
            ("extract", "$v"),
            ("platform", "linux/arm64"),
            ("platform", "linux/amd64"),
            ("label", "team=tea"),
            ("min_age", "7d"),
            ("min_age_by", "pushed"),
            ("limit", "3"),
            ("require_complete", "true"),
        ])
        .unwrap();
        let pattern = |source| Pattern::new(source).unwrap();
        let names = NameFilter {
            filters: vec![pattern("^v(?P<v>.*)$"), pattern("1")],
            excludes: vec![pattern("rc")],
            extract: Some(Extract::new("$v", &pattern("^v(?P<v>.*)$")).unwrap()),
        };
        let conditions = Conditions {
            platforms: vec!["linux/arm64".parse().unwrap(), "linux/amd64".parse().unwrap()],
            labels: vec!["team=tea".parse().unwrap()],
            min_age: Some(MinAge { age: Duration::from_hours(7 * 24), by: AgeBy::Pushed }),
        };
        let range = "^1".parse().unwrap();
        let order = Order::SemVer { range, strictness: Strictness::Full, prereleases: true };
        assert_eq!(policy, Policy { order, names, conditions, limit: 3, require_complete: true });
        assert!(policy.depends_on_time() && !policy.needs_created_at());
    }

    #[test]
    fn what_is_not_said_is_the_usual() {
        let order = |parameters: &[(&str, &str)]| {
            let policy = read(parameters).unwrap();
            assert_eq!((policy.limit, policy.require_complete), (1, false));
            assert_eq!((policy.names, policy.conditions), (NameFilter::default(), Conditions::default()));
            policy.order
        };
        let semver =
            |strictness| Order::SemVer { range: "*".parse().unwrap(), strictness, prereleases: false };
        assert_eq!(order(&[("semver", "*")]), semver(Strictness::Partial));
        assert_eq!(order(&[("semver", "*"), ("strict", "true")]), semver(Strictness::Strict));
        assert_eq!(
            order(&[("strict", "true"), ("partial", "false"), ("semver", "*")]),
            semver(Strictness::Strict)
        );
        assert_eq!(order(&[("semver", "*"), ("strict", "false")]), semver(Strictness::Partial));
        assert_eq!(order(&[("alphabetical", "asc")]), Order::Alphabetical(Direction::Ascending));
        assert_eq!(order(&[("numerical", "desc")]), Order::Numerical(Direction::Descending));
        for (word, by) in [
            ("created", NewestBy::Created),
            ("pushed", NewestBy::Pushed),
            ("first_seen", NewestBy::FirstSeen),
        ] {
            assert_eq!(order(&[("newest", word)]), Order::Newest(by));
        }
        assert!(read(&[("newest", "created")]).unwrap().needs_created_at());
        assert!(
            read(&[("semver", "1"), ("min_age", "1h"), ("min_age_by", "created")])
                .unwrap()
                .needs_created_at()
        );
    }

    /// D21 of the ancestor's ledger: a pattern that could not be read matched everything.
    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        let many = [("filter", "a"); 9];
        let with_semver = |more: &[(&'static str, &'static str)]| [&[("semver", "*")], more].concat();
        for (parameters, reason) in [
            (vec![], "policy: exactly one of semver, alphabetical, numerical, newest has to be given"),
            (vec![("limit", "1")], "policy: exactly one"),
            (with_semver(&[("newest", "created")]), "newest: cannot be given together with semver"),
            (with_semver(&[("semver", "1")]), "semver: is given more than once"),
            (with_semver(&[("colour", "red")]), "\"colour\": no such parameter; known here: semver, "),
            (with_semver(&[("Limit", "1")]), "\"Limit\": no such parameter"),
            (vec![("semver", ">>1")], "semver: \">>1\" is no range of versions"),
            (vec![("semver", "")], "semver: \"\" is no range of versions"),
            (vec![("alphabetical", "up")], "alphabetical: \"up\" is not one of asc, desc"),
            (vec![("alphabetical", "")], "alphabetical: \"\" is not one of"),
            (vec![("numerical", "ASC")], "numerical: \"ASC\" is not one of"),
            (vec![("newest", "built")], "newest: \"built\" is not one of created, pushed, first_seen"),
            (vec![("alphabetical", "asc"), ("strict", "true")], "strict: has no meaning without semver"),
            (
                vec![("newest", "created"), ("prerelease", "true")],
                "prerelease: has no meaning without semver",
            ),
            (with_semver(&[("strict", "yes")]), "strict: \"yes\" is not one of true, false"),
            (with_semver(&[("strict", "true"), ("partial", "true")]), "partial: no partial version"),
            (with_semver(&[("filter", "(")]), "filter: \"(\" is no regular expression: unclosed group"),
            (with_semver(&[("filter", "")]), "filter: a regular expression that is empty"),
            (with_semver(&[("exclude", "[")]), "exclude: \"[\" is no regular expression"),
            (with_semver(&many), "filter: is given more than 8 times"),
            (with_semver(&[("extract", "$1")]), "extract: has no meaning without filter"),
            (
                with_semver(&[("filter", "a"), ("extract", "$1")]),
                "extract: \"$1\": the first filter has no group",
            ),
            (
                vec![("newest", "created"), ("filter", "(a)"), ("extract", "$1")],
                "extract: newest compares times and not names",
            ),
            (with_semver(&[("platform", "linux")]), "platform: "),
            (with_semver(&[("label", "=x")]), "label: "),
            (with_semver(&[("min_age", "soon")]), "min_age: \"soon\" is not a duration"),
            (with_semver(&[("min_age", "-1h")]), "min_age: "),
            (with_semver(&[("min_age", "99999d")]), "min_age: \"99999d\" is out of bounds"),
            (with_semver(&[("min_age_by", "pushed")]), "min_age_by: has no meaning without min_age"),
            (with_semver(&[("min_age", "1h"), ("min_age_by", "x")]), "min_age_by: \"x\" is not one of"),
            (with_semver(&[("limit", "0")]), "limit: must be from 1 to 1000"),
            (with_semver(&[("limit", "1001")]), "limit: must be from 1 to 1000"),
            (with_semver(&[("limit", "-1")]), "limit: must be"),
            (with_semver(&[("require_complete", "1")]), "require_complete: \"1\" is not one of true, false"),
        ] {
            let refused = read(&parameters).unwrap_err();
            assert!(refused.starts_with(reason), "{parameters:?}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn any_parameters_are_read_or_refused(
            parameters in prop::collection::vec(
                (prop::sample::select(&Given::KNOWN), "\\PC{0,12}|true|false|asc|created|1h|[$(a)1^.*<>=|-]{1,6}"),
                0..5,
            ),
        ) {
            let pairs = parameters.iter().map(|(name, value)| (*name, value.as_str()));
            if let Err(error) = Policy::read(pairs, &Patterns::default()) {
                let shown = error.to_string();
                prop_assert!(!shown.chars().any(char::is_control) && shown.len() < 2_000, "{}", shown);
            }
        }
    }
}
