//! Which list of tags is read from which host.

use std::fmt;

use super::HintSource;

/// Which list of tags a host is asked for, besides that of the distribution protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ListingChoice {
    /// The own list of a well-known registry, recognised by its host.
    #[default]
    Auto,
    /// None.
    Plain,
    /// What this interface says.
    Own(HintSource),
}

impl ListingChoice {
    /// Every choice with the word for it.
    pub const ALL: [(&str, Self); 8] = [
        ("auto", Self::Auto),
        ("plain", Self::Plain),
        ("google", Self::Own(HintSource::Google)),
        ("docker-hub", Self::Own(HintSource::DockerHub)),
        ("quay", Self::Own(HintSource::Quay)),
        ("acr", Self::Own(HintSource::Acr)),
        ("harbor", Self::Own(HintSource::Harbor)),
        ("ecr", Self::Own(HintSource::Ecr)),
    ];

    /// The choice that this word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice)
    }

    /// What to ask of a canonical host.
    pub(in crate::upstream) fn source(self, host: &str) -> Option<HintSource> {
        match self {
            Self::Auto => recognised(host),
            Self::Plain => None,
            Self::Own(source) => Some(source),
        }
    }
}

impl fmt::Display for ListingChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::ALL.iter().find(|(_, choice)| choice == self).map(|(word, _)| *word);
        f.write_str(word.unwrap_or_default())
    }
}

fn recognised(host: &str) -> Option<HintSource> {
    let is_of = |domain: &str| host.strip_suffix(domain).is_some_and(|name| name.ends_with('.'));
    match host {
        "docker.io" => Some(HintSource::DockerHub),
        "quay.io" => Some(HintSource::Quay),
        "gcr.io" => Some(HintSource::Google),
        _ if is_of("gcr.io") || host.ends_with("-docker.pkg.dev") => Some(HintSource::Google),
        _ if ["azurecr.io", "azurecr.cn", "azurecr.us"].into_iter().any(is_of) => Some(HintSource::Acr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_hosts_are_recognised_and_no_others() {
        for (host, expected) in [
            ("docker.io", Some(HintSource::DockerHub)),
            ("quay.io", Some(HintSource::Quay)),
            ("gcr.io", Some(HintSource::Google)),
            ("eu.gcr.io", Some(HintSource::Google)),
            ("europe-west1-docker.pkg.dev", Some(HintSource::Google)),
            ("team.azurecr.io", Some(HintSource::Acr)),
            ("notgcr.io", None),
            ("gcr.io.example", None),
            ("azurecr.io", None),
            ("myazurecr.io", None),
            ("gcr.io:5000", None),
            ("ghcr.io", None),
            ("harbor.example", None),
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", None),
        ] {
            assert_eq!(ListingChoice::Auto.source(host), expected, "{host}");
            assert_eq!(ListingChoice::Plain.source(host), None, "{host}");
        }
        assert_eq!(ListingChoice::Own(HintSource::Quay).source("quay.example"), Some(HintSource::Quay));
    }

    #[test]
    fn every_choice_has_a_word() {
        for (word, choice) in ListingChoice::ALL {
            assert_eq!((ListingChoice::from_word(word), choice.to_string()), (Some(choice), word.to_owned()));
        }
        assert_eq!(ListingChoice::from_word("Quay"), None);
    }
}
