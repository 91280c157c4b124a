//! Which layer wins, and what valid settings mean.

use samovar_registry::credentials::cloud::{Cloud, HostIdentity};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use samovar_registry::credentials::{Login, SecretSource};
use samovar_registry::upstream::{HintSource, ListingChoice};
use samovar_registry::{Globs, Name};

use super::load;
use crate::config::{
    Config, HostConfig, IgnoredFor, Layers, Origin, PollInterval, ServeArgs, SharedArgs, TagFilter,
    UpstreamConfig, Verdict, shown_duration, shown_size,
};

fn watched(config: &Config) -> Vec<&str> {
    config.watch.iter().map(|entry| entry.name.as_str()).collect()
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = load("", &[], &[]).unwrap();
    assert!(config.watch.is_empty());
    assert_eq!(config.store.to_string(), "embedded:/data/samovar/store");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.platforms.to_string(), "linux/amd64,linux/arm64");
    assert_eq!(config.poll_interval.to_string(), "5m (1m to 1h)");
    assert_eq!(config.tag_interval.to_string(), "1h (5m to 7d)");
    assert_eq!((config.rate, config.burst), (50.0, 10));
    assert_eq!(config.upstream.max_stale_denied, Duration::from_hours(24));
    assert!(config.timestamp_labels.is_empty(), "no glob is not every name");
    assert_eq!(config.docker_config, None);
    assert_eq!(config.store_local_tier, None);
    assert_eq!((config.store_limit_bytes, config.hot_set_bytes), (8 << 30, 64 << 20));
    assert_eq!(config.forget_after, Duration::from_hours(24));
    assert_eq!((config.history_entries, config.history_age), (1000, Duration::from_hours(90 * 24)));
    assert_eq!(config.catalog_interval, Duration::from_mins(10));
    assert!(config.watch_patterns.is_empty());
    assert!((config.unleased_share - 0.5).abs() < f64::EPSILON);
}

#[test]
fn clients_of_the_distribution_protocol_are_answered_as_the_table_says() {
    let usual = load("", &[], &[]).unwrap().oci;
    assert_eq!((usual.default_upstream, usual.layers), (None, Layers::NotFound));
    assert_eq!((usual.wait, usual.virtual_hosts.len()), (Duration::from_secs(8), 0));
    let file = "alias = ['up=127.0.0.1:5000']\ninsecure_host = ['127.0.0.1:5000', 'tls.example']\n\
        [oci]\ndefault_upstream = 'index.docker.io'\nstand_in_for = ['docker.io']\nlayers = 'redirect'\nwait = '0s'\n\
        virtual_hosts = { 'Cache.SVC' = 'up', 'cache:5000' = 'GHCR.io' }\n\
        [hosts.'tls.example']\nscheme = 'https'\n[hosts.'plain.example']\nscheme = 'http'\n";
    let oci = load(file, &[], &[]).unwrap().oci;
    assert_eq!(oci.default_upstream.as_deref(), Some("docker.io"));
    assert_eq!((oci.layers, oci.wait), (Layers::Redirect, Duration::ZERO));
    let hosts: Vec<_> =
        oci.virtual_hosts.iter().map(|(name, registry)| format!("{name} {registry}")).collect();
    assert_eq!(
        hosts,
        [
            "cache.svc 127.0.0.1:5000",
            "cache:5000 ghcr.io",
            "docker.io docker.io",
            "index.docker.io docker.io",
            "registry-1.docker.io docker.io",
            "registry.hub.docker.com docker.io",
        ]
    );
    assert_eq!(oci.plain_http, ["127.0.0.1:5000", "plain.example"].map(str::to_owned).into());
}

/// For every setting: the file's value beats the default, the variable's the file's, the flag's the variable's.
#[test]
fn flag_beats_environment_beats_file_beats_default() {
    type Shown = fn(&Config) -> String;
    let cases: [(&str, [&str; 3], Shown); 15] = [
        ("watch", ["quay.io/file/a", "quay.io/env/a", "quay.io/flag/a"], |config| watched(config).join(",")),
        ("store", ["embedded:/file", "embedded:/env", "embedded:/flag"], |config| config.store.to_string()),
        ("listen", ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"], |config| config.listen.to_string()),
        ("insecure_host", ["file.io", "env.io", "flag.io"], |config| {
            config.insecure_hosts.iter().cloned().collect::<Vec<_>>().join(",")
        }),
        ("alias", ["up=file.io", "up=env.io", "up=flag.io"], |config| {
            format!("up={}", config.aliases.host_of("up").unwrap_or_default())
        }),
        ("timestamp_labels", ["file.io/*", "env.io/*", "flag.io/*"], |config| {
            let candidates = ["file.io", "env.io", "flag.io"].into_iter();
            let matching = candidates.filter(|host| config.timestamp_labels.matches(&format!("{host}/x")));
            matching.map(|host| format!("{host}/*")).collect::<Vec<_>>().join(",")
        }),
        ("platform", ["linux/386", "linux/arm", "linux/s390x"], |config| config.platforms.to_string()),
        ("poll_interval", ["1m", "2m", "3m"], |config| config.poll_interval.to_string()),
        ("forget_after", ["1m", "2m", "0s"], |config| shown_duration(config.forget_after)),
        ("catalog_interval", ["1m", "2m", "3m"], |config| shown_duration(config.catalog_interval)),
        ("rps", ["1", "2.5", "3"], |config| config.rate.to_string()),
        ("burst", ["1", "2", "3"], |config| config.burst.to_string()),
        ("store_limit", ["16MiB", "1GiB", "3TiB"], |config| shown_size(config.store_limit_bytes)),
        ("hot_set", ["1KiB", "0", "7"], |config| shown_size(config.hot_set_bytes as u64)),
        ("unleased_share", ["0.25", "1", "0.125"], |config| config.unleased_share.to_string()),
    ];
    for (key, [in_file, in_variable, in_flag], shown) in cases {
        let written = match key {
            "rps" | "burst" | "unleased_share" => in_file.to_owned(),
            "store" | "listen" | "poll_interval" | "forget_after" | "catalog_interval" | "store_limit"
            | "hot_set" => {
                format!("\"{in_file}\"")
            }
            _ => format!("[\"{in_file}\"]"),
        };
        let file = format!("{key} = {written}\n");
        let variable = format!("SAMOVAR_{}", key.to_uppercase());
        let variables = [(variable.as_str(), in_variable)];
        let flag = format!("--{}", key.replace('_', "-"));
        let flags = [flag.as_str(), in_flag];

        assert_ne!(
            shown(&load("", &[], &[]).unwrap()),
            in_file,
            "{key}: the default would pass for the file's"
        );
        assert_eq!(shown(&load(&file, &[], &[]).unwrap()), in_file, "{key}");
        assert_eq!(shown(&load(&file, &variables, &[]).unwrap()), in_variable, "{key}");
        assert_eq!(shown(&load(&file, &variables, &flags).unwrap()), in_flag, "{key}");
        let empty = [(variable.as_str(), "")];
        assert_eq!(
            shown(&load(&file, &empty, &[]).unwrap()),
            in_file,
            "{key}: an empty variable says nothing"
        );
    }
}

#[test]
fn lists_in_variables_are_separated_by_commas_and_flags_are_repeated() {
    let config = load("", &[("SAMOVAR_WATCH", "alpine, busybox,,ghcr.io/a/b ,")], &[]).unwrap();
    assert_eq!(watched(&config), ["docker.io/library/alpine", "docker.io/library/busybox", "ghcr.io/a/b"]);
    let config = load("", &[], &["--watch", "alpine", "--watch", "busybox"]).unwrap();
    assert_eq!(watched(&config), ["docker.io/library/alpine", "docker.io/library/busybox"]);
    // A comma in a flag is part of the value, and no name has one.
    let error = load("", &[], &["--watch", "alpine,busybox"]).unwrap_err();
    assert_eq!(error.problems().len(), 1);
}

#[test]
fn the_file_can_be_named_by_a_variable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("named.toml");
    std::fs::write(&path, "store = 'memory:'\nburst = 7\n").unwrap();
    let lookup = |name: &str| (name == "SAMOVAR_CONFIG").then(|| path.display().to_string());
    assert_eq!(Config::for_serve(&ServeArgs::default(), &lookup).unwrap().burst, 7);

    let lookup = |name: &str| (name == "SAMOVAR_CONFIG").then(|| "/nowhere/x.toml".to_owned());
    let error = Config::for_serve(&ServeArgs::default(), &lookup).unwrap_err().to_string();
    assert!(error.contains("/nowhere/x.toml: cannot read the configuration file: "), "{error}");
}

#[test]
fn everything_that_a_file_can_say_is_read() {
    let file = r#"
        watch = [
            "alpine",
            { image = "up/team/app", tags = ["v*"], ignore_tags = ["*-rc*", "regex:v[0-9]+b"], newest = 20, poll_interval = "30s", tag_interval = "10m", max_tag_interval = "1d" },
        ]
        store = "memory:"
        alias = ["up=127.0.0.1:5000"]
        insecure_host = ["up", "Registry.Example:443"]

        [upstream]
        connect_timeout = "1s"
        header_timeout = "2s"
        body_timeout = "3s"
        total_timeout = "4s"
        list_timeout = "7s"
        concurrency = 5
        quota_reserve = 0.25
        max_stale_denied = "6h"

        [hosts."registry.example:5000"]
        rps = 0.5
        burst = 2
        concurrency = 3
        quota_reserve = 0
        token_hosts = ["Auth.Example"]
        shared_anonymous_token = true
        listing = "harbor"
    "#;
    let config = load(file, &[], &[]).unwrap();
    assert_eq!(watched(&config), ["127.0.0.1:5000/team/app", "docker.io/library/alpine"]);
    let app = &config.watch[0];
    assert_eq!(app.poll_interval, PollInterval::fixed(Duration::from_secs(30)));
    assert_eq!(app.tag_interval.to_string(), "10m (5m to 1d)");
    let chosen = app.tags.choose(std::iter::empty());
    assert_eq!(chosen.verdict(&"v1".parse().unwrap()), Verdict::Wanted);
    assert_eq!(chosen.verdict(&"v1-rc1".parse().unwrap()), Verdict::Ignored(IgnoredFor::IgnoreTags));
    assert_eq!(chosen.verdict(&"v12b".parse().unwrap()), Verdict::Ignored(IgnoredFor::IgnoreTags));
    assert!(app.tags.is_relative());
    assert_eq!(chosen.verdict(&"main".parse().unwrap()), Verdict::Ignored(IgnoredFor::NotWatched));
    assert_eq!(config.watch[1].poll_interval, config.poll_interval);
    let insecure: Vec<&str> = config.insecure_hosts.iter().map(String::as_str).collect();
    assert_eq!(insecure, ["127.0.0.1:5000", "registry.example"]);
    let seconds = Duration::from_secs;
    assert_eq!(
        config.upstream,
        UpstreamConfig {
            ca_file: None,
            connect_timeout: seconds(1),
            header_timeout: seconds(2),
            body_timeout: seconds(3),
            total_timeout: seconds(4),
            list_timeout: seconds(7),
            concurrency: 5,
            quota_reserve: 0.25,
            max_stale_denied: seconds(6 * 3600),
        }
    );
    let host = HostConfig {
        rate: Some(0.5),
        burst: Some(2),
        concurrency: Some(3),
        quota_reserve: Some(0.0),
        token_hosts: BTreeSet::from(["auth.example".to_owned()]),
        shared_anonymous_token: Some(true),
        listing: ListingChoice::Own(HintSource::Harbor),
        ..HostConfig::default()
    };
    assert_eq!(config.hosts, BTreeMap::from([("registry.example:5000".to_owned(), host)]));
}

#[test]
fn nothing_is_watched_on_demand_unless_the_file_says_so() {
    let on_demand = |file: &str| load(file, &[], &[]).unwrap().on_demand;
    assert_eq!(on_demand(""), None);
    assert_eq!(on_demand("on_demand.allow = []"), None);
    let usual = on_demand("[on_demand]").unwrap();
    assert_eq!((usual.idle, usual.most), (Duration::from_hours(7 * 24), 1000));
    assert!(!usual.log_in, "what samovar may see is not for everybody");
    let covers = |allow: &Globs, name: &str| allow.matches_name(&name.parse::<Name>().unwrap());
    for name in ["alpine", "docker.io/team/app", "ghcr.io/a/b", "registry.k8s.io/pause"] {
        assert!(covers(&usual.allow, name), "{name}");
    }
    assert!(!covers(&usual.allow, "registry.corp.example/team/app"));

    let file = r#"
        alias = ["corp=registry.corp.example:5000"]
        [on_demand]
        allow = ["index.docker.io/library/*", "corp/team/*", "Ghcr.io:443/a/b"]
        idle = "30d"
        max = 7
    "#;
    let own = on_demand(file).unwrap();
    assert_eq!((own.idle, own.most, own.log_in), (Duration::from_hours(30 * 24), 7, true));
    assert_eq!(own.hosts(), BTreeSet::from(["docker.io", "ghcr.io", "registry.corp.example:5000"]));
    for name in ["alpine", "registry.corp.example:5000/team/app", "ghcr.io/a/b"] {
        assert!(covers(&own.allow, name), "{name}");
    }
    for name in ["docker.io/team/app", "registry.corp.example:5000/other/app", "ghcr.io/a/c", "corp/team/app"]
    {
        assert!(!covers(&own.allow, name), "{name}");
    }
}

#[test]
fn clouds_are_those_compiled_in_unless_they_are_named() {
    assert_eq!(load("", &[], &[]).unwrap().clouds, Cloud::compiled_in().collect());
    assert_eq!(load("cloud_identity = []", &[], &[]).unwrap().clouds, BTreeSet::new());
    let none = load("hosts.'a.io'.cloud_identity = 'none'", &[], &[]).unwrap();
    assert_eq!(none.hosts["a.io"].cloud_identity, Some(HostIdentity::None));
    for cloud in Cloud::compiled_in() {
        let file = format!("cloud_identity = ['{cloud}']\n[hosts.'a.io']\ncloud_identity = '{cloud}'\n");
        let config = load(&file, &[], &[]).unwrap();
        assert_eq!(config.clouds, BTreeSet::from([cloud]));
        assert_eq!(config.hosts["a.io"].cloud_identity, Some(HostIdentity::Of(cloud)));
    }
}

#[test]
fn a_cloud_that_is_not_compiled_in_is_refused() {
    for cloud in Cloud::ALL.into_iter().filter(|cloud| !cloud.is_compiled_in()) {
        for file in
            [format!("cloud_identity = ['{cloud}']"), format!("hosts.'a.io'.cloud_identity = '{cloud}'")]
        {
            let error = load(&file, &[], &[]).unwrap_err().to_string();
            assert!(
                error.contains(&format!("this samovar was built without the feature {cloud}")),
                "{error}"
            );
        }
    }
}

#[test]
fn a_remote_store_can_have_a_local_tier() {
    let file =
        "store = 'memcached://cache'\nstore_local_tier = '/file'\nhot_set = 1000\nstore_limit = 20000000\n";
    let config = load(file, &[], &[]).unwrap();
    assert_eq!(config.store_local_tier.as_deref(), Some(Path::new("/file")));
    assert_eq!(
        (config.hot_set_bytes, config.store_limit_bytes),
        (1_000, 20_000_000),
        "bytes, without a unit"
    );
    let variables = [("SAMOVAR_STORE_LOCAL_TIER", "/variable"), ("SAMOVAR_STORE", "redis://h")];
    let config = load(file, &variables, &[]).unwrap();
    assert_eq!(config.store_local_tier.as_deref(), Some(Path::new("/variable")));
    let config = load(file, &variables, &["--store-local-tier", "flag"]).unwrap();
    assert_eq!(config.store_local_tier.as_deref(), Some(Path::new("flag")));
}

#[test]
fn a_watch_may_have_platforms_of_its_own() {
    let file = r#"
        store = "memory:"
        platform = ["linux/amd64"]
        watch = [
            "alpine",
            { image = "busybox", platforms = ["linux/arm64", "linux/s390x"] },
            { image = "node:22", platforms = ["linux/arm64"] },
            "node:24",
        ]
    "#;
    let config = load(file, &[], &[]).unwrap();
    let platforms: Vec<String> = config.watch.iter().map(|entry| entry.platforms.to_string()).collect();
    // One entry for node wants the usual ones.
    assert_eq!(platforms, ["linux/amd64", "linux/arm64,linux/s390x", "linux/arm64,linux/amd64"]);
}

#[test]
fn one_repository_is_watched_once() {
    let flags = [
        "--watch",
        "alpine:3.20",
        "--watch",
        "docker.io/library/alpine:3.21",
        "--watch",
        "index.docker.io/busybox",
    ];
    let config = load("", &[], &flags).unwrap();
    assert_eq!(watched(&config), ["docker.io/library/alpine", "docker.io/library/busybox"]);
    let alpine = config.watch[0].tags.choose(std::iter::empty());
    for (tag, expected) in [
        ("3.20", Verdict::Wanted),
        ("3.21", Verdict::Wanted),
        ("3.2", Verdict::Ignored(IgnoredFor::NotWatched)),
    ] {
        assert_eq!(alpine.verdict(&tag.parse().unwrap()), expected, "{tag}");
    }
    let config = load("", &[], &["--watch", "alpine:3.20", "--watch", "docker.io/alpine"]).unwrap();
    assert_eq!(config.watch[0].tags, TagFilter::All, "a whole repository wins");
}

#[test]
fn the_shortest_intervals_of_a_repository_hold() {
    let file =
        "watch = [{image = 'alpine', poll_interval = '1h'}, {image = 'alpine:3', poll_interval = '10s'}]";
    assert_eq!(load(file, &[], &[]).unwrap().watch[0].poll_interval.to_string(), "10s");
    let file = "poll_interval = '2m'\nwatch = [{image = 'alpine', poll_interval = '1h'}, 'alpine:3']";
    assert_eq!(load(file, &[], &[]).unwrap().watch[0].poll_interval.to_string(), "2m");
    let file = "watch = [{image = 'alpine', poll_interval = '1h', max_tag_interval = '1d'}, 'alpine:3']";
    let config = load(file, &[], &[]).unwrap();
    assert_eq!(config.watch[0].poll_interval.to_string(), "5m (1m to 1h)");
    assert_eq!(config.watch[0].tag_interval.to_string(), "1h (5m to 1d)");
}

/// Every way in which a file can be wrong, with the place and the words.
#[test]
fn dockers_own_credentials_are_found_where_docker_looks() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".docker/config.json");
    let home = home.path().to_str().unwrap();
    let found = |environment: &[(&str, &str)]| load("", environment, &[]).unwrap().docker_config;
    assert_eq!(found(&[("HOME", home)]), Some(file), "it need not be there yet");
    let moved = [("HOME", home), ("DOCKER_CONFIG", "/nowhere")];
    assert_eq!(found(&moved), Some("/nowhere/config.json".into()), "$DOCKER_CONFIG stands in for ~/.docker");
    assert_eq!(found(&[]), None);
}

#[test]
fn image_pull_secrets_are_named_by_file_variable_and_flag() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let file = format!("kubernetes_secrets = ['{}', '{}']", path("a"), path("b"));
    let named = |variables: &[(&str, &str)], flags: &[&str]| {
        let paths = load(&file, variables, flags).unwrap().kubernetes_secrets;
        paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let listed = format!("{},{}", path("c"), path("d"));
    let variables = [("SAMOVAR_KUBERNETES_SECRETS", listed.as_str())];
    assert_eq!(named(&[], &[]), ["a", "b"]);
    assert_eq!(named(&variables, &[]), ["c", "d"]);
    let flags = ["--kubernetes-secret", &path("e"), "--kubernetes-secret", &path("f")];
    assert_eq!(named(&variables, &flags), ["e", "f"]);
    let refused = load("", &[], &["--kubernetes-secret", "/nowhere"]).unwrap_err().to_string();
    assert!(refused.contains("--kubernetes-secret: cannot read \"/nowhere\": "), "{refused}");
}

#[test]
fn credentials_of_repositories_are_read_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "").unwrap();
    let file = format!(
        "[[credentials]]\nrepositories = 'a.example/*'\nusername = 'u'\npassword = 'p'\n\
         [[credentials]]\nrepositories = ['b.example/*', 'alpine']\nusername = 'v'\npassword_env = 'PASSWORD'\nonly = true\n\
         [[credentials]]\nrepositories = '*'\nidentity_token_file = '{}'\n\
         [[credentials]]\nrepositories = '*'\nhelper = 'pass'\n\
         [[credentials]]\nrepositories = '*'\nanonymous = true\n",
        token.display()
    );
    let config = load(&file, &[("PASSWORD", "from the environment\n"), ("PATH", "/bin:/sbin")], &[]).unwrap();
    let logins: Vec<_> = config.credentials.iter().map(|entry| entry.login.to_string()).collect();
    let in_token = format!("identity token in {}", token.display());
    let expected = [
        "user \"u\", password given",
        "user \"v\", password given",
        &in_token,
        "docker-credential-pass",
        "nothing",
    ];
    assert_eq!(logins, expected);
    assert!(matches!(
        &config.credentials[1].login,
        Login::Basic { password: SecretSource::Given(secret), .. } if secret.reveal() == "from the environment"
    ));
    assert_eq!(
        config.credentials.iter().map(|entry| entry.only).collect::<Vec<_>>(),
        [false, true, false, false, false]
    );
    assert!(config.credentials[1].provenance.ends_with("samovar.toml (credentials[1])"));
    assert!(config.credentials[1].repositories.matches("b.example/x"));
    assert_eq!(config.program_path, [Path::new("/bin"), Path::new("/sbin")]);
}

#[test]
fn warming_takes_its_images_from_the_command() {
    let environment = |name: &str| match name {
        "SAMOVAR_WATCH" => Some("busybox".to_owned()),
        "SAMOVAR_STORE" => Some("memory:".to_owned()),
        _ => None,
    };
    let config = Config::for_warm(&["alpine:3".to_owned()], &SharedArgs::default(), &environment).unwrap();
    assert_eq!(watched(&config), ["docker.io/library/alpine"]);
    let error = Config::for_warm(&["A".to_owned()], &SharedArgs::default(), &environment).unwrap_err();
    assert_eq!(error.problems()[0].origin, Origin::Flag("argument IMAGE"));
}

#[test]
fn aliases_win_over_organisations_in_the_watch_list() {
    let config = load("", &[], &["--alias", "up=127.0.0.1:5000", "--watch", "up/team/app"]).unwrap();
    assert_eq!(config.watch[0].name, "127.0.0.1:5000/team/app".parse::<Name>().unwrap());
}

#[test]
fn patterns_stand_beside_names_and_take_every_key_that_they_take() {
    let file = "watch = ['r.example/team/*', 'r.example/team/app', \
                { image = 'up/*', tags = ['v*'], ignore_tags = ['*-rc'], platforms = ['linux/arm64'], poll_interval = '30s' }, \
                { image = 'R.example/team/*', tags = ['v1*'] }]\nalias = ['up=127.0.0.1:5000']\n";
    let config = load(file, &[], &[]).unwrap();
    assert_eq!(watched(&config), ["r.example/team/app"]);
    let patterns: Vec<_> = config.watch_patterns.iter().map(|pattern| pattern.name.as_str()).collect();
    assert_eq!(patterns, ["127.0.0.1:5000/*", "r.example/team/*"], "each once");
    let [up, team] = &config.watch_patterns[..] else { panic!("{patterns:?}") };
    assert_eq!(team.tags, TagFilter::All, "any tag that one of the entries wants");
    assert_ne!(up.tags, TagFilter::All);
    assert_eq!(up.platforms.to_string(), "linux/arm64");
    assert_eq!(up.poll_interval, PollInterval::fixed(Duration::from_secs(30)));
    let config = load("", &[("SAMOVAR_WATCH", "r.example/*, alpine")], &[]).unwrap();
    assert_eq!((watched(&config).len(), config.watch_patterns.len()), (1, 1));
    let config = load("", &[], &["--watch", "r.example/*:v1"]).unwrap();
    assert_eq!(config.watch_patterns[0].tags, TagFilter::exactly("v1".parse().unwrap()));
}

#[test]
fn patterns_keep_to_the_rules_of_the_watch_list() {
    for (file, expected) in [
        (
            "watch = ['ghcr.io/org/*']",
            "key watch[0]: \"ghcr.io/org/*\" is a pattern, and ghcr.io does not list",
        ),
        ("watch = ['r.example/*']\ndeny_hosts = ['r.example']", "key watch[0]: its host r.example is denied"),
        ("watch = [{ image = 'r.example/*:v1', tags = ['v*'] }]", "names a tag already"),
        ("watch = ['*']", "names no registry"),
    ] {
        let error = load(file, &[], &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{file}: {error}");
    }
    let warm = Config::for_warm(&["r.example/*".to_owned()], &SharedArgs::default(), &|_| None).unwrap_err();
    assert!(
        warm.to_string().contains("argument IMAGE: patterns are for the watch list of `serve`"),
        "{warm}"
    );
}
