//! Settings as they were written, each with its origin: what file, environment and flags have in common
//! before anything is validated.

use samovar_registry::Secret;

use super::auth::AuthSettings;
use super::connection::{ConnectionSettings, MirrorSettings};
use super::error::Origin;
use super::hooks::HookSettings;
use super::intervals::IntervalSettings;
use super::limits::LimitSettings;
use super::notify::NotifySetting;
use super::oci::OciSettings;
use super::on_demand::OnDemandSettings;
use super::tls::TlsSettings;

/// A text and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// One entry of the watch list. Only the file can say more than the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WatchSetting {
    pub(super) image: Setting,
    pub(super) tags: Option<Vec<Setting>>,
    pub(super) ignore_tags: Vec<Setting>,
    pub(super) newest: Option<Setting>,
    pub(super) intervals: IntervalSettings,
    pub(super) platforms: Option<Vec<Setting>>,
}

impl WatchSetting {
    /// An entry that is only an image.
    pub(super) fn image(image: Setting) -> Self {
        let intervals = IntervalSettings::default();
        Self { image, tags: None, ignore_tags: Vec::new(), newest: None, intervals, platforms: None }
    }
}

/// A secret and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretSetting {
    pub(super) value: Secret,
    pub(super) origin: Origin,
}

/// Where a secret is said to be: here, in a file, in a variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SecretSettings {
    pub(super) given: Option<SecretSetting>,
    pub(super) file: Option<Setting>,
    pub(super) variable: Option<Setting>,
}

impl SecretSettings {
    /// Whether it is said at all.
    pub(super) fn is_some(&self) -> bool {
        self.given.is_some() || self.file.is_some() || self.variable.is_some()
    }
}

/// One entry of `credentials`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CredentialSetting {
    pub(super) origin: Origin,
    /// Absent where what is written is refused already.
    pub(super) repositories: Option<Vec<Setting>>,
    pub(super) username: Option<Setting>,
    pub(super) password: SecretSettings,
    pub(super) identity_token: SecretSettings,
    pub(super) registry_token: SecretSettings,
    pub(super) helper: Option<Setting>,
    pub(super) anonymous: bool,
    pub(super) only: bool,
}

/// The `[upstream]` table of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UpstreamSettings {
    pub(super) ca_file: Option<Setting>,
    pub(super) connect_timeout: Option<Setting>,
    pub(super) header_timeout: Option<Setting>,
    pub(super) body_timeout: Option<Setting>,
    pub(super) total_timeout: Option<Setting>,
    pub(super) list_timeout: Option<Setting>,
    pub(super) concurrency: Option<Setting>,
    pub(super) quota_reserve: Option<Setting>,
    pub(super) max_stale_denied: Option<Setting>,
}

/// One `[hosts."…"]` table of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostSettings {
    pub(super) host: Setting,
    pub(super) rps: Option<Setting>,
    pub(super) burst: Option<Setting>,
    pub(super) concurrency: Option<Setting>,
    pub(super) quota_reserve: Option<Setting>,
    pub(super) token_hosts: Vec<Setting>,
    pub(super) cloud_identity: Option<Setting>,
    pub(super) connection: ConnectionSettings,
    pub(super) mirrors: Vec<MirrorSettings>,
    pub(super) shared_anonymous_token: Option<bool>,
    pub(super) listing: Option<Setting>,
}

/// Everything that one layer says. What a layer does not mention is `None`, so that the next one may speak;
/// a list that is mentioned replaces the list of the layer below, empty or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) watch: Option<Vec<WatchSetting>>,
    pub(super) store: Option<Setting>,
    pub(super) store_local_tier: Option<Setting>,
    pub(super) store_limit: Option<Setting>,
    pub(super) hot_set: Option<Setting>,
    pub(super) unleased_share: Option<Setting>,
    pub(super) history_entries: Option<Setting>,
    pub(super) history_age: Option<Setting>,
    pub(super) listen: Option<Setting>,
    /// `none` or `required`.
    pub(super) auth: Option<Setting>,
    pub(super) tokens: Option<Setting>,
    pub(super) auth_table: Option<AuthSettings>,
    pub(super) tls: Option<TlsSettings>,
    pub(super) limits: LimitSettings,
    pub(super) external_hosts: Option<Vec<Setting>>,
    pub(super) insecure_host: Option<Vec<Setting>>,
    pub(super) allow_hosts: Option<Vec<Setting>>,
    pub(super) deny_hosts: Option<Vec<Setting>>,
    pub(super) certs_dir: Option<Setting>,
    pub(super) alias: Option<Vec<Setting>>,
    pub(super) timestamp_labels: Option<Vec<Setting>>,
    pub(super) platform: Option<Vec<Setting>>,
    pub(super) intervals: IntervalSettings,
    pub(super) forget_after: Option<Setting>,
    pub(super) catalog_interval: Option<Setting>,
    pub(super) rps: Option<Setting>,
    pub(super) burst: Option<Setting>,
    pub(super) docker_config: Option<Setting>,
    pub(super) cloud_identity: Option<Vec<Setting>>,
    pub(super) kubernetes_secrets: Option<Vec<Setting>>,
    pub(super) credentials: Vec<CredentialSetting>,
    pub(super) notify: Vec<NotifySetting>,
    pub(super) on_demand: Option<OnDemandSettings>,
    pub(super) oci: Option<OciSettings>,
    pub(super) hooks: Vec<HookSettings>,
    pub(super) upstream: UpstreamSettings,
    pub(super) hosts: Vec<HostSettings>,
}

impl Settings {
    /// These settings, and where they are silent, those of the layer below.
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            watch: self.watch.or(below.watch),
            store: self.store.or(below.store),
            store_local_tier: self.store_local_tier.or(below.store_local_tier),
            store_limit: self.store_limit.or(below.store_limit),
            hot_set: self.hot_set.or(below.hot_set),
            unleased_share: self.unleased_share.or(below.unleased_share),
            listen: self.listen.or(below.listen),
            auth: self.auth.or(below.auth),
            tokens: self.tokens.or(below.tokens),
            external_hosts: self.external_hosts.or(below.external_hosts),
            insecure_host: self.insecure_host.or(below.insecure_host),
            allow_hosts: self.allow_hosts.or(below.allow_hosts),
            deny_hosts: self.deny_hosts.or(below.deny_hosts),
            certs_dir: self.certs_dir.or(below.certs_dir),
            alias: self.alias.or(below.alias),
            timestamp_labels: self.timestamp_labels.or(below.timestamp_labels),
            platform: self.platform.or(below.platform),
            intervals: self.intervals.over(below.intervals),
            forget_after: self.forget_after.or(below.forget_after),
            catalog_interval: self.catalog_interval.or(below.catalog_interval),
            rps: self.rps.or(below.rps),
            burst: self.burst.or(below.burst),
            docker_config: self.docker_config.or(below.docker_config),
            cloud_identity: self.cloud_identity.or(below.cloud_identity),
            kubernetes_secrets: self.kubernetes_secrets.or(below.kubernetes_secrets),
            // Only the file, the lowest layer, has these.
            auth_table: below.auth_table,
            tls: below.tls,
            limits: below.limits,
            history_entries: below.history_entries,
            history_age: below.history_age,
            credentials: below.credentials,
            notify: below.notify,
            on_demand: below.on_demand,
            oci: below.oci,
            hooks: below.hooks,
            upstream: below.upstream,
            hosts: below.hosts,
        }
    }
}
