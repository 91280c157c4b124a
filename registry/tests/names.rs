//! Names in all their spellings, and what is refused.

use std::collections::BTreeMap;

use samovar_registry::{Aliases, Name, Reference, canonical_host};

fn name(text: &str) -> Name {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_spelling_has_one_canonical_form() {
    let table = [
        // Docker Hub
        ("alpine", "docker.io/library/alpine"),
        ("library/alpine", "docker.io/library/alpine"),
        ("docker.io/alpine", "docker.io/library/alpine"),
        ("docker.io/library/alpine", "docker.io/library/alpine"),
        ("index.docker.io/alpine", "docker.io/library/alpine"),
        ("index.docker.io/library/alpine", "docker.io/library/alpine"),
        ("registry-1.docker.io/library/alpine", "docker.io/library/alpine"),
        ("registry.hub.docker.com/library/alpine", "docker.io/library/alpine"),
        ("registry.hub.docker.com/alpine", "docker.io/library/alpine"),
        ("Docker.IO/alpine", "docker.io/library/alpine"),
        ("index.docker.io:443/alpine", "docker.io/library/alpine"),
        ("docker.io:443/grafana/grafana", "docker.io/grafana/grafana"),
        ("grafana/grafana", "docker.io/grafana/grafana"),
        ("a/b/c/d", "docker.io/a/b/c/d"),
        ("docker.io:5000/alpine", "docker.io:5000/alpine"),
        // A lone component is never a host.
        ("localhost", "docker.io/library/localhost"),
        ("ghcr.io", "docker.io/library/ghcr.io"),
        // Other hosts
        ("ghcr.io/foo", "ghcr.io/foo"),
        ("GHCR.io/fluxcd/flux", "ghcr.io/fluxcd/flux"),
        ("ghcr.io:443/fluxcd/flux", "ghcr.io/fluxcd/flux"),
        ("ghcr.io:0443/fluxcd/flux", "ghcr.io/fluxcd/flux"),
        ("ghcr.io:80/fluxcd/flux", "ghcr.io:80/fluxcd/flux"),
        ("localhost/foo", "localhost/foo"),
        ("LocalHost:5000/foo", "localhost:5000/foo"),
        ("localhost:443/foo", "localhost/foo"),
        ("registry:5000/foo", "registry:5000/foo"),
        ("Registry:05000/foo", "registry:5000/foo"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
        ("127.0.0.1/a", "127.0.0.1/a"),
        // Dropping this port would name a Docker Hub organisation.
        ("registry:443/foo", "registry:443/foo"),
        // IPv6, by RFC 5952
        ("[::1]:5000/foo", "[::1]:5000/foo"),
        ("[::1]:443/foo", "[::1]/foo"),
        ("[2001:DB8:0:0:0:0:0:1]/foo/bar", "[2001:db8::1]/foo/bar"),
        ("[2001:0db8::0:1:0:0:1]/foo", "[2001:db8::1:0:0:1]/foo"),
        ("[::ffff:192.0.2.1]/foo", "[::ffff:192.0.2.1]/foo"),
        ("[::ffff:c000:201]/foo", "[::ffff:192.0.2.1]/foo"),
        // Separators
        ("ghcr.io/a.b/c_d/e__f/g-h/i---j/0", "ghcr.io/a.b/c_d/e__f/g-h/i---j/0"),
    ];
    for (spelling, canonical) in table {
        assert_eq!(name(spelling).as_str(), canonical, "{spelling}");
        assert_eq!(name(canonical).as_str(), canonical, "{spelling}, again");
    }
}

#[test]
fn host_and_path_are_told_apart() {
    for (text, host, path, registry_host) in [
        ("alpine", "docker.io", "library/alpine", "registry-1.docker.io"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000", "a/b", "127.0.0.1:5000"),
        ("[::1]:5000/a", "[::1]:5000", "a", "[::1]:5000"),
        ("ghcr.io/a/b", "ghcr.io", "a/b", "ghcr.io"),
    ] {
        let name = name(text);
        assert_eq!((name.host(), name.path(), name.registry_host()), (host, path, registry_host));
        assert_eq!(name.is_docker_hub(), host == "docker.io");
    }
}

#[test]
fn docker_hub_alone_has_old_spellings() {
    let spellings: Vec<String> = name("alpine").spellings().collect();
    assert_eq!(
        spellings,
        [
            "docker.io/library/alpine",
            "index.docker.io/library/alpine",
            "registry-1.docker.io/library/alpine",
            "registry.hub.docker.com/library/alpine",
        ]
    );
    assert!(spellings.iter().all(|spelling| name(spelling) == name("alpine")));
    assert_eq!(name("ghcr.io/a/b").spellings().collect::<Vec<_>>(), ["ghcr.io/a/b"]);
}

#[test]
fn refused_names_say_what_and_where() {
    let identifier = "0123456789abcdef".repeat(4);
    let long_label = format!("{}.io/a", "a".repeat(64));
    let long_host = format!("{}io/a", "a.".repeat(126));
    let long_path = format!("ghcr.io/{}", "a".repeat(248));
    let long_once_canonical = "a".repeat(238);
    let table = [
        ("", 0, "it is empty"),
        ("/alpine", 0, "begin with a slash"),
        ("alpine/", 6, "end with a slash"),
        ("/", 0, "begin with a slash"),
        ("ghcr.io/", 7, "end with a slash"),
        ("ghcr.io//alpine", 8, "empty part"),
        ("Foo/bar", 0, "upper-case letters are not allowed"),
        ("foo/baR", 6, "upper-case letters are not allowed"),
        ("ghcr.io/Foo", 8, "upper-case letters are not allowed"),
        ("Alpine", 0, "upper-case letters are not allowed"),
        ("https://ghcr.io/foo", 0, "without a scheme"),
        ("docker://alpine", 0, "without a scheme"),
        (" alpine", 0, "white space"),
        ("alpine ", 6, "white space"),
        ("al\tpine", 2, "white space"),
        ("alpine\n", 6, "white space"),
        ("al\u{a0}pine", 2, "white space"),
        ("alpine:3", 6, "without a tag"),
        ("ghcr.io/a/b:3", 11, "without a tag"),
        ("alpine@sha256:00", 6, "without a digest"),
        ("registry:5000", 8, "without a tag"),
        (&identifier, 0, "identifier"),
        ("alpine-", 6, "begin and end"),
        ("_alpine", 0, "begin and end"),
        ("foo/.a", 4, "begin and end"),
        ("a..b", 1, "separated by"),
        ("a___b", 1, "separated by"),
        ("a._b", 1, "separated by"),
        ("a-_b", 1, "separated by"),
        ("a+b", 1, "only lower-case"),
        ("foo/bär", 5, "only lower-case"),
        ("a\0b", 1, "only lower-case"),
        ("a/b:1/c", 3, "only lower-case"),
        ("ghcr..io/a", 5, "empty part"),
        (".io/a", 0, "empty part"),
        ("ghcr.io./a", 8, "empty part"),
        ("-a.io/a", 0, "begin and end"),
        ("a-.io/a", 1, "begin and end"),
        ("my_host:5000/a", 2, "a host may hold only"),
        ("ghcr.io:/a", 8, "port"),
        ("ghcr.io:0/a", 8, "port"),
        ("ghcr.io:65536/a", 8, "port"),
        ("ghcr.io:+80/a", 8, "port"),
        ("ghcr.io:x/a", 8, "port"),
        (":5000/a", 0, "the host is empty"),
        ("a:1:2/b", 0, "at most one colon"),
        ("::1/b", 0, "in brackets"),
        ("[::1/b", 0, "not closed"),
        ("[::g]/b", 1, "IPv6 address"),
        ("[127.0.0.1]/b", 1, "IPv6 address"),
        ("[fe80::1%eth0]/b", 1, "IPv6 address"),
        ("[::1]5000/b", 5, "only a port"),
        ("[::1]:/b", 6, "port"),
        ("[::1]", 5, "repository is missing"),
        ("[::1]:5000", 10, "repository is missing"),
        ("1.2.3/a", 0, "must be an IPv4 address"),
        ("1.2.3.256/a", 0, "must be an IPv4 address"),
        ("127.0.0.01/a", 0, "must be an IPv4 address"),
        ("0x7f.1/a", 0, "must be an IPv4 address"),
        ("a.0X7f/a", 0, "must be an IPv4 address"),
        ("5000:5000/a", 0, "must be an IPv4 address"),
        (&long_label, 63, "63 bytes"),
        (&long_host, 253, "253 bytes"),
        (&long_path, 0, "255 bytes"),
        (&long_once_canonical, 0, "255 bytes"),
    ];
    for (text, offset, rule) in table {
        let error = text.parse::<Name>().unwrap_err();
        assert_eq!((error.what, error.offset), ("image name", offset), "{error}");
        assert!(error.rule.contains(rule), "{error}");
    }
}

#[test]
fn the_longest_name_is_counted_in_its_canonical_form() {
    assert_eq!(name(&"a".repeat(237)).as_str().len(), 255);
    let old_spelling = format!("registry.hub.docker.com/{}", "a".repeat(237));
    assert_eq!(name(&old_spelling).as_str().len(), 255);
    assert_eq!(name(&format!("{}io/a", "a.".repeat(125))).path(), "a");
}

#[test]
fn an_identifier_is_a_name_once_it_has_a_host_or_a_tag() {
    let identifier = "0123456789abcdef".repeat(4);
    assert_eq!(name(&format!("docker.io/{identifier}")).path(), format!("library/{identifier}"));
    assert!(format!("{identifier}:1").parse::<Reference>().is_ok());
    assert!(name(&identifier.replace('f', "g")).is_docker_hub());
}

#[test]
fn an_error_reads_as_a_sentence() {
    assert_eq!(
        "Foo/bar".parse::<Name>().unwrap_err().to_string(),
        "invalid image name \"Foo/bar\" at offset 0: upper-case letters are not allowed"
    );
}

#[test]
fn an_alias_stands_for_its_host_at_the_front_only() {
    let aliases = Aliases::parse(["up=127.0.0.1:5000", "hub=index.docker.io", "six=[0::1]:443"]).unwrap();
    for (text, canonical) in [
        ("up/team/app", "127.0.0.1:5000/team/app"),
        ("up/app", "127.0.0.1:5000/app"),
        ("hub/alpine", "docker.io/library/alpine"),
        ("six/a", "[::1]/a"),
        ("up", "docker.io/library/up"),
        ("docker.io/up/app", "docker.io/up/app"),
        ("team/up/app", "docker.io/team/up/app"),
        ("up:80/app", "up:80/app"),
        ("127.0.0.1:5000/team/app", "127.0.0.1:5000/team/app"),
    ] {
        let name = Name::parse(text, &aliases).unwrap();
        assert_eq!(name.as_str(), canonical, "{text}");
        assert_eq!(Name::parse(canonical, &aliases).unwrap(), name, "{text}, again");
    }
    let reference = Reference::parse("up/team/app:1", &aliases).unwrap();
    assert_eq!(reference.to_string(), "127.0.0.1:5000/team/app:1");

    let error = Name::parse("up/team/App", &aliases).unwrap_err();
    assert_eq!(error.offset, 8, "{error}");
    assert_eq!(name("up/team/app").as_str(), "docker.io/up/team/app", "no aliases by default");
    assert!(Aliases::default().is_empty() && !aliases.is_empty());
}

#[test]
fn refused_aliases_say_what_and_where() {
    for (entries, offset, rule) in [
        (["up"].as_slice(), 2, "NAME=HOST"),
        (&["=ghcr.io"], 0, "empty"),
        (&["up="], 3, "host is empty"),
        (&["u.p=ghcr.io"], 1, "a dot or a colon"),
        (&["up:1=ghcr.io"], 2, "a dot or a colon"),
        (&["localhost=ghcr.io"], 0, "reserved word"),
        (&["library=ghcr.io"], 0, "reserved word"),
        (&["v2=ghcr.io"], 0, "reserved word"),
        (&["_catalog=ghcr.io"], 0, "reserved word"),
        (&["Up=ghcr.io"], 0, "upper-case"),
        (&["u/p=ghcr.io"], 1, "only lower-case"),
        (&["-up=ghcr.io"], 0, "begin and end"),
        (&[&format!("{}=ghcr.io", "a".repeat(64))], 63, "63 bytes"),
        (&["up=https://ghcr.io"], 3, "without a scheme"),
        (&["up=ghcr.io/a"], 10, "a host may hold only"),
        (&["up=ghcr.io:70000"], 11, "port"),
        (&["up=registry"], 11, "with its port"),
        (&["up=a=b.io"], 4, "a host may hold only"),
        (&["up=ghcr.io", "up=quay.io"], 0, "given twice"),
        (&["up=ghcr.io", "up=ghcr.io"], 0, "given twice"),
    ] {
        let error = Aliases::parse(entries).unwrap_err();
        assert_eq!((error.what, error.offset), ("alias", offset), "{error}");
        assert!(error.rule.contains(rule), "{error}");
        assert_eq!(&error.input, entries.last().unwrap(), "{error}");
    }
}

#[test]
fn hosts_are_brought_into_the_form_that_names_give() {
    for (text, canonical) in [
        ("Registry:5000", "registry:5000"),
        ("registry-1.docker.io", "docker.io"),
        ("registry.hub.docker.com:443", "docker.io"),
        ("docker.io:443", "docker.io"),
        ("index.docker.io:80", "index.docker.io:80"),
        ("LOCALHOST", "localhost"),
        ("[0:0::1]", "[::1]"),
    ] {
        assert_eq!(canonical_host(text).as_deref(), Ok(canonical));
        assert_eq!(name(&format!("{text}/a/b")).host(), canonical);
    }
    for text in ["", "registry", "https://ghcr.io", "ghcr.io/", "a b.io", "*"] {
        let error = canonical_host(text).unwrap_err();
        assert_eq!(error.what, "registry host", "{error}");
    }
}

#[test]
fn names_are_found_in_maps_by_their_text() {
    let by_name = BTreeMap::from([(name("alpine"), 1), (name("ghcr.io/a"), 2)]);
    assert_eq!(by_name.get("docker.io/library/alpine"), Some(&1));
    assert_eq!(by_name.get("alpine"), None);
    assert_eq!(format!("{:?} {}", name("alpine"), name("ghcr.io/a")), "docker.io/library/alpine ghcr.io/a");
}

#[test]
fn json_is_validated_and_made_canonical() {
    let name: Name = serde_json::from_str("\"alpine\"").unwrap();
    assert_eq!(serde_json::to_string(&name).unwrap(), "\"docker.io/library/alpine\"");
    let error = serde_json::from_str::<Name>("\"Foo/bar\"").unwrap_err().to_string();
    assert!(error.starts_with("invalid image name \"Foo/bar\" at offset 0"), "{error}");
    assert!(serde_json::from_str::<Name>("1").unwrap_err().to_string().contains("an image name such as"));
}
