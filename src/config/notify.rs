//! `[[notify]]`: who is told of changes by a request of ours.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use reqwest::Url;
use samovar_registry::credentials::SecretSource;
use samovar_registry::upstream::GuardedClient;

use super::credentials::secret_source;
use super::document::Value;
use super::error::{Origin, Problems, quoted};
use super::flags::Environment;
use super::settings::{SecretSettings, Setting};
use super::{validate, values};
use crate::feed::Selection;

/// Receivers of one configuration.
const MOST_RECEIVERS: usize = 32;
/// The longest name of one, in bytes.
const MAX_RECEIVER_NAME_LENGTH: usize = 63;
/// How long it is tried to deliver a change.
const GIVE_UP_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);

/// A receiver of notifications.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// What it is called: its place in the store goes by it, and what is shown.
    pub name: String,
    /// Where to.
    pub url: ReceiverUrl,
    /// In which form.
    pub format: NotifyFormat,
    /// Of which changes.
    pub selection: Selection,
    /// What signs, or, where the form says so, is sent along.
    pub secret: Option<SecretSource>,
    /// When a change that cannot be delivered is given up. By default after 24 hours.
    pub give_up_after: Duration,
}

/// Where a receiver is. Path and query may be what lets us in: they are never shown.
#[derive(Clone, PartialEq)]
pub struct ReceiverUrl(Url);

impl ReceiverUrl {
    /// The URL, for the one place that sends to it.
    pub fn reveal(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for ReceiverUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for ReceiverUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiverUrl({self}/…)")
    }
}

/// The form of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyFormat {
    /// A `CloudEvents` 1.0 document.
    CloudEvents,
    /// The change as the feed tells it, for a Receiver of Flux of type `generic-hmac`, and whoever takes JSON.
    Flux,
    /// A `CloudEvents` document with what Argo CD Image Updater looks for.
    ArgoCdImageUpdater,
    /// Keel's native webhook.
    Keel,
}

impl NotifyFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::CloudEvents, Self::Flux, Self::ArgoCdImageUpdater, Self::Keel];

    /// The form in the words of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CloudEvents => "cloudevents",
            Self::Flux => "flux",
            Self::ArgoCdImageUpdater => "argocd-image-updater",
            Self::Keel => "keel",
        }
    }

    /// The types that are told where none are chosen, if they are not the usual ones.
    fn usual_kinds(self) -> Option<[&'static str; 2]> {
        // Both are told what to deploy, and understand nothing else.
        matches!(self, Self::ArgoCdImageUpdater | Self::Keel).then_some(["tag.added", "tag.moved"])
    }
}

/// One entry of `notify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotifySetting {
    origin: Origin,
    name: Option<Setting>,
    url: Option<Setting>,
    format: Option<Setting>,
    names: Option<Vec<Setting>>,
    types: Option<Vec<Setting>>,
    secret: SecretSettings,
    give_up_after: Option<Setting>,
}

pub(super) fn read(value: Value<'_>) -> Option<Vec<NotifySetting>> {
    Some(value.into_list()?.into_iter().filter_map(entry).collect())
}

fn entry(value: Value<'_>) -> Option<NotifySetting> {
    let mut section = value.into_section()?;
    let setting = NotifySetting {
        origin: section.origin().clone(),
        name: section.required_text("name"),
        url: section.required_text("url"),
        format: section.text("format"),
        names: section.texts("names"),
        types: section.texts("types"),
        secret: SecretSettings {
            given: section.secret("secret"),
            file: section.text("secret_file"),
            variable: section.text("secret_env"),
        },
        give_up_after: section.text("give_up_after"),
    };
    section.finish();
    Some(setting)
}

/// The receivers, checked.
pub(super) fn receivers(
    settings: &[NotifySetting],
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Vec<ReceiverConfig> {
    if let Some(one_too_many) = settings.get(MOST_RECEIVERS) {
        problems.add(&one_too_many.origin, format!("there are more than {MOST_RECEIVERS} entries"));
    }
    let mut names = BTreeSet::new();
    let mut receivers = Vec::new();
    for setting in settings {
        if let Some(name) = &setting.name
            && !names.insert(&name.value)
        {
            problems.add(&name.origin, format!("{} is the name of another entry too", quoted(&name.value)));
        }
        receivers.extend(receiver(setting, environment, problems));
    }
    receivers
}

fn receiver(
    setting: &NotifySetting,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<ReceiverConfig> {
    let name = validate::checked(setting.name.as_ref(), problems, name);
    let url = validate::checked(setting.url.as_ref(), problems, url);
    let format = validate::checked(setting.format.as_ref(), problems, format);
    let format = if setting.format.is_some() { format } else { Some(NotifyFormat::CloudEvents) };
    let give_up_after = validate::checked(setting.give_up_after.as_ref(), problems, |text| {
        values::parse_duration(text, GIVE_UP_TIMES)
    });
    let keys = "secret, secret_file and secret_env";
    let secret = setting
        .secret
        .is_some()
        .then(|| secret_source(&setting.secret, keys, &setting.origin, environment, problems));
    let mut selection = Selection::default();
    if let Some(names) = &setting.names {
        let globs = names.iter().map(|glob| glob.value.as_str());
        let origin = names.first().map_or(&setting.origin, |first| &first.origin);
        selection = problems.keep(origin, selection.with_names(globs)).unwrap_or_default();
    }
    let usual = format.and_then(NotifyFormat::usual_kinds);
    let kinds: Option<Vec<&str>> = match (&setting.types, &usual) {
        (Some(types), _) => Some(types.iter().map(|kind| kind.value.as_str()).collect()),
        (None, Some(usual)) => Some(usual.to_vec()),
        (None, None) => None,
    };
    if let Some(kinds) = kinds {
        let origin = setting.types.iter().flatten().next().map_or(&setting.origin, |first| &first.origin);
        selection = problems.keep(origin, selection.with_kinds(kinds)).unwrap_or_default();
    }
    Some(ReceiverConfig {
        name: name?,
        url: url?,
        format: format?,
        selection,
        secret: secret.flatten(),
        give_up_after: give_up_after.unwrap_or(Duration::from_hours(24)),
    })
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > MAX_RECEIVER_NAME_LENGTH || !text.bytes().all(is_plain) {
        return Err(format!(
            "{} is no name: from 1 to {MAX_RECEIVER_NAME_LENGTH} lower case letters, digits and hyphens",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

/// What is written is not shown: a URL may hold a secret.
fn url(text: &str) -> Result<ReceiverUrl, String> {
    let url: Url = text.parse().map_err(|error| format!("no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it must begin with http:// or https://".to_owned());
    }
    if url.fragment().is_some() {
        return Err("it must not have a fragment".to_owned());
    }
    GuardedClient::check(&url)?;
    Ok(ReceiverUrl(url))
}

fn format(text: &str) -> Result<NotifyFormat, String> {
    let known = NotifyFormat::ALL.into_iter().find(|format| format.as_str() == text);
    known.ok_or_else(|| {
        let all = NotifyFormat::ALL.map(NotifyFormat::as_str).join(", ");
        format!("{} is no format; there are {all}", quoted(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_and_never_shown() {
        for (text, reason) in [
            ("hunter2", "no URL: relative URL without a base"),
            ("ftp://hunter2@host", "it must begin with http:// or https://"),
            ("https://host/#hunter2", "it must not have a fragment"),
        ] {
            assert_eq!(url(text).unwrap_err(), reason);
        }
        assert!(url("http://169.254.169.254/hunter2").unwrap_err().contains("never connected to"));
        let receiver = url("http://user:hunter2@flux.flux-system:81/hook/hunter2?hunter2=1").unwrap();
        assert_eq!(
            format!("{receiver} {receiver:?}"),
            "http://flux.flux-system:81 ReceiverUrl(http://flux.flux-system:81/…)"
        );
    }

    #[test]
    fn names_and_formats_are_words() {
        assert!(name("flux-2").is_ok());
        for text in ["", "Flux", "a b", "a|b", &"x".repeat(64)] {
            assert!(name(text).is_err(), "{text}");
        }
        assert_eq!(format("keel"), Ok(NotifyFormat::Keel));
        assert!(
            format("Keel").unwrap_err().ends_with("there are cloudevents, flux, argocd-image-updater, keel")
        );
    }
}
