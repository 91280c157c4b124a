//! What a client of the OCI door sends: `ns`, `Host` and the path, a line each.

#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use samovar::config::{Layers, OciConfig};
use samovar::server::oci::addressing::{Addressing, Hints};
use samovar::server::oci::path::{ManifestReference, Path, Target};
use samovar_fuzz::{first_line, within};
use samovar_registry::{Aliases, Name};

static ALIASES: LazyLock<Aliases> =
    LazyLock::new(|| Aliases::parse(["up=127.0.0.1:5000"]).expect("a valid alias"));
static CONFIG: LazyLock<OciConfig> = LazyLock::new(|| OciConfig {
    default_upstream: Some("quay.io".to_owned()),
    virtual_hosts: [("cache.svc".to_owned(), "docker.io".to_owned())].into(),
    layers: Layers::NotFound,
    wait: Duration::ZERO,
    plain_http: BTreeSet::new(),
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let (namespace, rest) = first_line(text.as_bytes());
    let (host, path) = first_line(rest);
    let [namespace, host, path] =
        [namespace, host, path].map(|part| str::from_utf8(part).expect("cut at a line's end"));
    let addressing = Addressing { config: &CONFIG, aliases: &ALIASES };
    within(16, text.len(), || {
        let Ok(Path { upstream, target }) = Path::parse(path) else { return };
        assert!(target == Target::Nothing || Path::is_one(path), "{path:?}");
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        let hints = Hints { before: upstream.as_deref(), namespace, host: Some(host) };
        let asked = match &target {
            Target::Tags(name) | Target::Upload(name) => name,
            Target::Manifest(name, reference) => {
                if let Err(error) = ManifestReference::parse(reference) {
                    samovar_fuzz::assert_presentable(&error.to_string());
                }
                name
            }
            Target::Blob(name, _) | Target::Referrers(name, _) => name,
            Target::Base | Target::Catalog | Target::Nothing => return,
        };
        match addressing.repository(asked, hints) {
            Ok(name) => {
                assert_eq!(name.as_str().parse::<Name>().as_ref(), Ok(&name));
                // Whoever names a registry gets what is of that, and of no other.
                if let Some(registry) = addressing.registry(hints).expect("it was named") {
                    assert_eq!(name.host(), registry, "{path:?}");
                }
            }
            Err(error) => samovar_fuzz::assert_presentable(&error.to_string()),
        }
    });
});
