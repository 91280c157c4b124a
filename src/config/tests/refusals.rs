//! What is refused, with which place and which words.

use super::load;

/// The problems as they are shown, the directory of the file left out.
fn problems(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    let error = load(file, variables, flags).unwrap_err();
    let shown = error.problems().iter().map(ToString::to_string);
    shown
        .map(|problem| problem.find("samovar.toml").map_or(problem.clone(), |at| problem[at..].to_owned()))
        .collect()
}

#[test]
fn files_are_refused_with_the_place_and_the_reason() {
    for (file, expected) in [
        (
            "stroe = 'memory:'",
            "samovar.toml:1: key stroe: unknown key; known here: alias, allow_hosts, auth, burst, catalog_interval, certs_dir, cloud_identity, credentials, deny_hosts, docker_config, external_hosts, forget_after, history_age, history_entries, hooks, hosts, hot_set, insecure_host, kubernetes_secrets, limits, listen, max_poll_interval, max_tag_interval, min_poll_interval, min_tag_interval, notify, oci, on_demand, platform, poll_interval, rps, store, store_limit, store_local_tier, tag_interval, timestamp_labels, tls, unleased_share, upstream, watch, webhook_poll_interval",
        ),
        (
            "\n[upstream]\nretries = 3",
            "samovar.toml:3: key upstream.retries: unknown key; known here: body_timeout, ca_file, concurrency, connect_timeout, header_timeout, list_timeout, max_stale_denied, quota_reserve, total_timeout",
        ),
        (
            "[oci]\nlayers = 'none'",
            "samovar.toml:2: key oci.layers: \"none\" is neither \"not-found\" nor \"redirect\"",
        ),
        ("[oci]\nwait = '2m'", "samovar.toml:2: key oci.wait: \"2m\" is out of bounds: from 0s to 1m"),
        (
            "[oci]\ndefault_upstream = 'library'",
            "samovar.toml:2: key oci.default_upstream: invalid registry host \"library\" at offset 7: ",
        ),
        (
            "[oci]\nvirtual_hosts = { 'a b' = 'docker.io' }",
            "samovar.toml:2: key oci.virtual_hosts.\"a b\": \"a b\" is no host: write a name, or a name and a port",
        ),
        (
            "[oci]\nvirtual_hosts = { 'A' = 'docker.io', 'a' = 'ghcr.io' }",
            "samovar.toml:2: key oci.virtual_hosts.a: \"a\" is given twice",
        ),
        (
            "[oci]\nstand_in_for = ['docker.io']\nvirtual_hosts = { 'docker.io' = 'ghcr.io' }",
            "samovar.toml:2: key oci.stand_in_for[0]: docker.io is a virtual host for another registry",
        ),
        (
            "hosts.'a.io'.rate = 3",
            "samovar.toml:1: key hosts.\"a.io\".rate: unknown key; known here: body_timeout, burst, ca_file, client_cert_file, client_key_file, cloud_identity, concurrency, connect_timeout, header_timeout, headers, list_timeout, listing, mirrors, proxy, quota_reserve, rps, scheme, shared_anonymous_token, skip_verify, token_hosts, total_timeout",
        ),
        (
            "cloud_identity = ['gcp']",
            "samovar.toml:1: key cloud_identity[0]: \"gcp\" is no cloud: the clouds are aws, azure and google",
        ),
        (
            "hosts.'a.io'.cloud_identity = 'gcp'",
            "samovar.toml:1: key hosts.\"a.io\".cloud_identity: \"gcp\" is no cloud: the clouds are aws, azure and google, or none",
        ),
        (
            "watch = [{image = 'a', tag = '1'}]",
            "samovar.toml:1: key watch[0].tag: unknown key; known here: ignore_tags, image, max_poll_interval, max_tag_interval, min_poll_interval, min_tag_interval, newest, platforms, poll_interval, tag_interval, tags, webhook_poll_interval",
        ),
        (
            "watch = [\n  'alpine',\n  {tags = ['1']},\n]",
            "samovar.toml:3: key watch[1]: the key image is missing",
        ),
        (
            "watch = 'alpine'",
            "samovar.toml:1: key watch: expected a list in brackets, found the string \"alpine\"",
        ),
        ("watch = [5]", "samovar.toml:1: key watch[0]: expected a string in quotes, found the number 5"),
        ("watch = ['Foo/bar']", "samovar.toml:1: key watch[0]: invalid image name \"Foo/bar\" at offset 0: "),
        (
            "watch = ['alpine@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855']",
            "samovar.toml:1: key watch[0]: \"alpine@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\" names a digest, which never changes: watch a tag or the repository",
        ),
        (
            "watch = [{image = 'alpine:3', tags = ['4']}]",
            "samovar.toml:1: key watch[0].image: \"alpine:3\" names a tag already: leave out tags, ignore_tags and newest",
        ),
        (
            "watch = [{image = 'alpine', tags = []}]",
            "samovar.toml:1: key watch[0].image: tags is an empty list, so that no tag would be watched",
        ),
        (
            "watch = [{image = 'alpine', platforms = []}]",
            "samovar.toml:1: key watch[0].image: platforms is an empty list, so that no image would be wanted",
        ),
        (
            "watch = [{image = 'alpine', platforms = ['linux/arm64', 'amd64']}]",
            "samovar.toml:1: key watch[0].platforms[1]: invalid platform \"amd64\" at offset 5: ",
        ),
        (
            "watch = [{image = 'alpine', ignore_tags = ['/^v1/']}]",
            "samovar.toml:1: key watch[0].ignore_tags[0]: \"/^v1/\" can match no tag: tags have no '/', ",
        ),
        (
            "watch = [{image = 'alpine:3', newest = 4}]",
            "samovar.toml:1: key watch[0].image: \"alpine:3\" names a tag already: leave out tags, ignore_tags and newest",
        ),
        (
            "watch = [{image = 'alpine', newest = 0}]",
            "samovar.toml:1: key watch[0].newest: \"0\" is not a whole number from 1 to 1000000",
        ),
        // D21 of the ancestor's ledger: a pattern that could not be read matched everything.
        (
            "watch = [{image = 'alpine', tags = ['3.*', 'regex:[']}]",
            "samovar.toml:1: key watch[0].tags[1]: \"[\" is no regular expression: unclosed character class",
        ),
        (
            "watch = [{image = 'alpine', tags = ['']}]",
            "samovar.toml:1: key watch[0].tags[0]: invalid glob \"\" at offset 0: ",
        ),
        (
            "watch = [{image = 'alpine', poll_interval = '0s'}]",
            "samovar.toml:1: key watch[0].poll_interval: \"0s\" is out of bounds: from 1s to 7d",
        ),
        (
            "timestamp_labels = ['']",
            "samovar.toml:1: key timestamp_labels[0]: invalid glob \"\" at offset 0: ",
        ),
        (
            "store = 'redis://:hunter2@h:x'",
            "samovar.toml:1: key store: \"x\" is not a port: a whole number from 1 to 65535; the form is redis://[[USER]:PASSWORD@]HOST[:6379]",
        ),
        (
            "store = 'memcached://h?retry=1'",
            "samovar.toml:1: key store: unknown option \"retry\"; known here: connect_timeout, prefix, timeout; the form is memcached://HOST",
        ),
        (
            "store = 'memory:'\nstore_local_tier = '/tier'",
            "samovar.toml:2: key store_local_tier: memory: is local itself: a local tier stands before a memcached or Redis store",
        ),
        (
            "store_limit = '15MiB'",
            "samovar.toml:1: key store_limit: \"15MiB\" is out of bounds: from 16MiB to 64TiB",
        ),
        ("store_limit = '8GB'", "samovar.toml:1: key store_limit: \"8GB\" is not a size such as 512MiB, "),
        (
            "hot_set = true",
            "samovar.toml:1: key hot_set: expected a size such as \"512MiB\" or a number of bytes, found true",
        ),
        (
            "history_entries = 0",
            "samovar.toml:1: key history_entries: \"0\" is not a whole number from 1 to 10000",
        ),
        ("history_age = '5m'", "samovar.toml:1: key history_age: \"5m\" is out of bounds: from 1h to 3650d"),
        (
            "unleased_share = 0",
            "samovar.toml:1: key unleased_share: \"0\" is not a share: more than 0, at most 1",
        ),
        (
            "forget_after = '31d'",
            "samovar.toml:1: key forget_after: \"31d\" is out of bounds: from 0s to 30d",
        ),
        (
            "[on_demand]\nallowed = []",
            "samovar.toml:2: key on_demand.allowed: unknown key; known here: allow, idle, max",
        ),
        (
            "on_demand.allow = ['alpine']",
            "samovar.toml:1: key on_demand.allow[0]: \"alpine\" has no host: write docker.io/library/* or ghcr.io/team/*",
        ),
        (
            "on_demand.allow = ['*/library/*']",
            "samovar.toml:1: key on_demand.allow[0]: \"*/library/*\" leaves the host open, so that readers could have any host asked: name it",
        ),
        (
            "deny_hosts = ['ghcr.io']\non_demand.allow = ['ghcr.io/a/*']",
            "samovar.toml:2: key on_demand.allow[0]: its host ghcr.io is denied by deny_hosts",
        ),
        (
            "allow_hosts = ['ghcr.io']\non_demand.allow = ['quay.io/a/*']",
            "samovar.toml:2: key on_demand.allow[0]: its host quay.io is not among allow_hosts",
        ),
        (
            "on_demand.idle = '5m'",
            "samovar.toml:1: key on_demand.idle: \"5m\" is out of bounds: from 1h to 365d",
        ),
        (
            "on_demand.max = 2001",
            "samovar.toml:1: key on_demand.max: \"2001\" is not a whole number from 1 to 2000",
        ),
        ("store = 5", "samovar.toml:1: key store: expected a string in quotes, found the number 5"),
        ("listen = '8080'", "samovar.toml:1: key listen: \"8080\" is not an IP address with a port, "),
        (
            "insecure_host = ['registry']",
            "samovar.toml:1: key insecure_host[0]: invalid registry host \"registry\" at offset 8: ",
        ),
        (
            "insecure_host = ['http://a.io']",
            "samovar.toml:1: key insecure_host[0]: invalid registry host \"http://a.io\" at offset ",
        ),
        ("alias = ['up']", "samovar.toml:1: key alias[0]: invalid alias \"up\" at offset 2: "),
        (
            "alias = ['up=a.io', 'up=b.io']",
            "samovar.toml:1: key alias[1]: invalid alias \"up=b.io\" at offset 0: the alias is given twice",
        ),
        ("platform = ['linux']", "samovar.toml:1: key platform[0]: invalid platform \"linux\" at offset "),
        (
            "poll_interval = 300",
            "samovar.toml:1: key poll_interval: expected a string in quotes, found the number 300",
        ),
        (
            "poll_interval = 'often'",
            "samovar.toml:1: key poll_interval: \"often\" is not a duration such as 90s, 5m or 1h30m",
        ),
        ("rps = '50'", "samovar.toml:1: key rps: expected a number without quotes, found the string \"50\""),
        (
            "rps = inf",
            "samovar.toml:1: key rps: \"inf\" is out of bounds: from 0.001 to 100000 requests a second",
        ),
        ("rps = 0", "samovar.toml:1: key rps: \"0\" is out of bounds: "),
        ("burst = 0", "samovar.toml:1: key burst: \"0\" is not a whole number from 1 to 100000"),
        ("burst = 1.5", "samovar.toml:1: key burst: \"1.5\" is not a whole number from 1 to 100000"),
        (
            "docker_config = '/nowhere/config.json'",
            "samovar.toml:1: key docker_config: cannot read \"/nowhere/config.json\": ",
        ),
        ("docker_config = '/'", "samovar.toml:1: key docker_config: \"/\" is a directory, not a file"),
        (
            "kubernetes_secrets = ['/nowhere']",
            "samovar.toml:1: key kubernetes_secrets[0]: cannot read \"/nowhere\": ",
        ),
        (
            "credentials = ['x']",
            "samovar.toml:1: key credentials[0]: expected a table, found the string \"x\"",
        ),
        (
            "[[credentials]]\nhelper = 'x'",
            "samovar.toml:1: key credentials[0]: the key repositories is missing",
        ),
        (
            "[[credentials]]\nrepositories = []\nhelper = 'x'",
            "samovar.toml:1: key credentials[0]: repositories is an empty list",
        ),
        (
            "[[credentials]]\nrepositories = ['a', '']\nhelper = 'x'",
            "samovar.toml:2: key credentials[0].repositories[1]: invalid glob \"\"",
        ),
        (
            "[[credentials]]\nrepositories = '*'",
            "samovar.toml:1: key credentials[0]: one thing to log in with is needed (username and a password, identity_token_file, identity_token_env, registry_token_file, registry_token_env, helper, or anonymous = true), found nothing",
        ),
        (
            "[[credentials]]\nrepositories = '*'\nhelper = 'x'\nanonymous = true\nusername = 'u'",
            "samovar.toml:1: key credentials[0]: one thing to log in with is needed (username and a password, identity_token_file, identity_token_env, registry_token_file, registry_token_env, helper, or anonymous = true), found a user with a password, a helper, anonymous",
        ),
        (
            "[[credentials]]\nrepositories = '*'\nhelper = '../x'",
            "samovar.toml:3: key credentials[0].helper: a credential helper is named as in docker-credential-NAME",
        ),
        (
            "[[credentials]]\nrepositories = '*'\nusername = 'u'",
            "samovar.toml:1: key credentials[0]: one of password, password_file and password_env is needed",
        ),
        (
            "[[credentials]]\nrepositories = '*'\npassword = 'hunter2'",
            "samovar.toml:1: key credentials[0]: a password needs a username",
        ),
        (
            "[[credentials]]\nrepositories = '*'\nusername = 'a:b'\npassword = 'hunter2'",
            "samovar.toml:3: key credentials[0].username: \"a:b\" is no user name",
        ),
        (
            "[[credentials]]\nrepositories = '*'\nusername = 'u'\npassword = ''",
            "samovar.toml:4: key credentials[0].password: it is empty",
        ),
        (
            "[[credentials]]\nrepositories = '*'\nidentity_token_file = '/nowhere'",
            "samovar.toml:3: key credentials[0].identity_token_file: cannot read \"/nowhere\": ",
        ),
        (
            "[[credentials]]\nrepositories = '*'\nregistry_token_env = 'NOT_SET'",
            "samovar.toml:3: key credentials[0].registry_token_env: the variable \"NOT_SET\" is not set, or empty",
        ),
        (
            "[[credentials]]\nrepositories = '*'\nregistry_token_env = 'SAMOVAR_TOKEN'",
            "samovar.toml:3: key credentials[0].registry_token_env: \"SAMOVAR_TOKEN\": variables that begin with SAMOVAR_",
        ),
        (
            "[[credentials]]\nrepositories = '*'\nanonymous = 'yes'\nhelper = 'x'",
            "samovar.toml:3: key credentials[0].anonymous: expected true or false, found the string \"yes\"",
        ),
        (
            "[[credentials]]\nrepositories = '*'\nhelper = 'x'\ntoken = 'x'",
            "samovar.toml:4: key credentials[0].token: unknown key; known here: anonymous, helper, identity_token_env, identity_token_file, only, password, password_env, password_file, registry_token_env, registry_token_file, repositories, username",
        ),
        ("upstream = 5", "samovar.toml:1: key upstream: expected a table, found the number 5"),
        (
            "upstream.connect_timeout = '2h'",
            "samovar.toml:1: key upstream.connect_timeout: \"2h\" is out of bounds: from 10ms to 1h",
        ),
        (
            "upstream.concurrency = 0",
            "samovar.toml:1: key upstream.concurrency: \"0\" is not a whole number from 1 to 1000",
        ),
        (
            "upstream.quota_reserve = 0.95",
            "samovar.toml:1: key upstream.quota_reserve: \"0.95\" is not a share from 0 to 0.9",
        ),
        (
            "hosts.'a.io'.quota_reserve = -0.1",
            "samovar.toml:1: key hosts.\"a.io\".quota_reserve: \"-0.1\" is not a share from 0 to 0.9",
        ),
        ("[hosts]\n'a.io' = 1", "samovar.toml:2: key hosts.\"a.io\": expected a table, found the number 1"),
        (
            "hosts.'a.io'.listing = 'Quay'",
            "samovar.toml:1: key hosts.\"a.io\".listing: \"Quay\" is none of auto, plain, google, docker-hub, quay, acr, harbor, ecr",
        ),
        (
            "hosts.plain.rps = 1",
            "samovar.toml:1: key hosts.plain: invalid registry host \"plain\" at offset ",
        ),
        (
            "hosts.'a.io'.rps = 1\nhosts.'A.io:443'.rps = 2",
            "samovar.toml:1: key hosts.\"a.io\": \"a.io\" is a.io, which has a table already",
        ),
        ("a = 1\nrps = ", "samovar.toml:2: not TOML: "),
        ("burst = 1\nburst = 2", "samovar.toml:2: not TOML: "),
    ] {
        let problems = problems(file, &[], &[]);
        assert_eq!(problems.len(), 1, "{file}: {problems:#?}");
        assert!(problems[0].starts_with(expected), "{file}: {}", problems[0]);
    }
}

#[test]
fn flags_and_variables_are_refused_by_name() {
    for (flags, expected) in [
        (["--watch", ""], "--watch: invalid image name \"\" at offset 0: "),
        (
            ["--store", "sqlite:x"],
            "--store: \"sqlite:x\" is not a store; known are embedded:PATH, memory:, memcached://",
        ),
        (
            ["--store-local-tier", "/tier"],
            "--store-local-tier: embedded:/data/samovar/store is local itself: a local tier stands before ",
        ),
        (["--store-local-tier", "~/tier"], "--store-local-tier: \"~/tier\": ~ is not expanded here"),
        (["--store-limit", "-1"], "--store-limit: \"-1\" is not a size such as 512MiB"),
        (["--hot-set", "lots"], "--hot-set: \"lots\" is not a size such as 512MiB"),
        (["--unleased-share", "2"], "--unleased-share: \"2\" is not a share: more than 0, at most 1"),
        (["--listen", "localhost"], "--listen: \"localhost\" is not an IP address with a port"),
        (["--insecure-host", "a b"], "--insecure-host: invalid registry host \"a b\""),
        (["--alias", "v2=a.io"], "--alias: invalid alias \"v2=a.io\" at offset 0: v2 is a reserved word"),
        (["--timestamp-labels", ""], "--timestamp-labels: invalid glob \"\""),
        (["--platform", "LINUX/amd64"], "--platform: invalid platform \"LINUX/amd64\""),
        (["--poll-interval", "8d"], "--poll-interval: \"8d\" is out of bounds: from 1s to 7d"),
        (["--rps", "-1"], "--rps: \"-1\" is out of bounds: "),
        (["--burst", "-1"], "--burst: \"-1\" is not a whole number"),
        (["--docker-config", "/nowhere"], "--docker-config: cannot read \"/nowhere\": "),
    ] {
        let from_flag = problems("", &[], &flags);
        assert_eq!(from_flag.len(), 1, "{from_flag:#?}");
        assert!(from_flag[0].starts_with(expected), "{}", from_flag[0]);
        if flags[1].is_empty() {
            continue;
        }
        let name = format!("SAMOVAR_{}", flags[0].trim_start_matches('-').replace('-', "_").to_uppercase());
        let from_variable = problems("", &[(&name, flags[1])], &[]);
        let expected = expected.replacen(flags[0], &format!("variable {name}"), 1);
        assert!(from_variable[0].starts_with(&expected), "{}", from_variable[0]);
    }
}

#[test]
fn all_problems_are_shown_in_the_order_of_their_places() {
    let file = "burst = 0\nstroe = 'memory:'\nwatch = ['A/b',\n'c d']";
    let variables = [("SAMOVAR_RPS", "none")];
    let error = load(file, &variables, &["--listen", "x"]).unwrap_err();
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "invalid configuration, 6 problems:");
    for (line, expected) in lines[1..].iter().zip([
        "samovar.toml:1: key burst: ",
        "samovar.toml:2: key stroe: ",
        "samovar.toml:3: key watch[0]: ",
        "samovar.toml:4: key watch[1]: ",
        "  variable SAMOVAR_RPS: ",
        "  --listen: ",
    ]) {
        assert!(line.contains(expected), "{line} lacks {expected}");
    }
    assert_eq!(lines.len(), 7);
}

#[test]
fn a_flood_of_problems_is_cut() {
    let file = format!("watch = [{}]", "'A',".repeat(70));
    let message = load(&file, &[], &[]).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 52);
    assert!(message.starts_with("invalid configuration, 70 problems:\n"));
    assert!(message.ends_with("\n  and 20 more"));
}

#[test]
fn passwords_of_registries_are_never_shown() {
    for password in
        ["'hunter2'", "12345432", "hunter2", "'hunter2", "['hunter2']", "{hunter2 = 1}", "'''hunter2"]
    {
        let file = format!("[[credentials]]\nrepositories = '*'\nusername = 'a:b'\npassword = {password}\n");
        let error = load(&file, &[], &[]).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("12345432"), "{password}: {shown}");
    }
}

#[test]
fn passwords_in_store_urls_are_never_shown() {
    for url in ["redis://:hunter2@h:x", "redis://:hunter2@h/x", "rediss3://user:hunter2@h", "user:hunter2@h"]
    {
        let error = load("", &[("SAMOVAR_STORE", url)], &[]).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
