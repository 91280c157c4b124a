//! `[auth.kubernetes]`: service accounts of a cluster, whose tokens its API server is asked about.

use std::path::PathBuf;

use reqwest::Url;

use super::super::document::Section;
use super::super::error::{Problems, quoted};
use super::super::settings::Setting;
use super::super::{validate, values};
use super::{NamedGrant, NamedGrantSettings};

/// Where a cluster mounts what its pods need to speak to it.
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Which service accounts may ask, and who says whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesAuthConfig {
    /// The API server. Absent: that of the cluster that samovar runs in.
    pub server: Option<Url>,
    /// samovar's own token, which is sent there.
    pub token_file: PathBuf,
    /// By whom the API server's certificate is.
    pub ca_file: PathBuf,
    /// For whom tokens must be made. None: the API server's own audience.
    pub audiences: Vec<String>,
    /// The accounts, as `namespace:name`.
    pub accounts: Vec<NamedGrant>,
}

/// What is written in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KubernetesSettings {
    server: Option<Setting>,
    token_file: Option<Setting>,
    ca_file: Option<Setting>,
    audiences: Vec<Setting>,
    accounts: Vec<NamedGrantSettings>,
}

pub(super) fn read(mut section: Section<'_>) -> KubernetesSettings {
    let settings = KubernetesSettings {
        server: section.text("server"),
        token_file: section.text("token_file"),
        ca_file: section.text("ca_file"),
        audiences: section.texts("audiences").unwrap_or_default(),
        accounts: section.take("accounts").map(NamedGrantSettings::read_list).unwrap_or_default(),
    };
    section.finish();
    settings
}

pub(super) fn check(settings: &KubernetesSettings, problems: &mut Problems) -> KubernetesAuthConfig {
    let mut file = |setting: &Option<Setting>, name: &str| {
        let given = validate::checked(setting.as_ref(), problems, values::existing_file);
        given.unwrap_or_else(|| PathBuf::from(MOUNTED).join(name))
    };
    let (token_file, ca_file) = (file(&settings.token_file, "token"), file(&settings.ca_file, "ca.crt"));
    KubernetesAuthConfig {
        server: validate::checked(settings.server.as_ref(), problems, server),
        token_file,
        ca_file,
        audiences: settings.audiences.iter().map(|setting| setting.value.clone()).collect(),
        accounts: settings.accounts.iter().map(|account| account.check(problems)).collect(),
    }
}

fn server(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{} is not a URL: {error}", quoted(text)))?;
    if url.scheme() != "https" || url.host_str().is_none() {
        return Err(format!("{} is not https://HOST: samovar sends its own token there", quoted(text)));
    }
    Ok(url)
}
