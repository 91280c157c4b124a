//! What holds for every name, reference, tag, digest, platform and glob, not only for those one thinks of.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{Debug, Display};
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use proptest::option;
use proptest::prelude::*;
use samovar_registry::{Aliases, Digest, Glob, Name, Platform, Reference, Tag, canonical_host};

fn host() -> impl Strategy<Value = String> {
    let domain = "([a-zA-Z]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?\\.){1,3}[a-zA-Z]{2,5}";
    let address = prop_oneof![
        domain.prop_map(String::from),
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
        any::<[u16; 8]>()
            .prop_map(|groups| format!("[{}]", groups.map(|group| format!("{group:04X}")).join(":"))),
        Just("localhost".to_owned()),
        Just("docker.io".to_owned()),
        Just("index.docker.io".to_owned()),
        Just("registry.hub.docker.com".to_owned()),
    ];
    let port = prop_oneof![Just(443), 1..=u16::MAX];
    prop_oneof![
        (address, option::of(port.clone())).prop_map(|(address, port)| match port {
            Some(port) => format!("{address}:{port}"),
            None => address,
        }),
        ("[a-zA-Z]{1,8}", port).prop_map(|(dotless, port)| format!("{dotless}:{port}")),
    ]
}

/// Any spelling of a valid name.
fn name() -> impl Strategy<Value = String> {
    let path = "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}(/[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}){0,3}";
    (option::of(host()), path).prop_map(|(host, path)| match (host, path.split_once('/')) {
        (Some(host), _) => format!("{host}/{path}"),
        // A dot would make a host of the organisation.
        (None, Some((organisation, rest))) => format!("{}/{rest}", organisation.replace('.', "-")),
        (None, None) => path,
    })
}

/// Names of which many are equal, or nearly.
fn few_names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&[
        "a",
        "docker.io/a",
        "library/a",
        "b",
        "x.io/a",
        "X.io:443/a",
        "x.io/a-b",
        "x.io/a/b",
        "x.io:80/a",
    ])
}

fn digest() -> impl Strategy<Value = Digest> {
    (any::<bool>(), any::<Vec<u8>>())
        .prop_map(|(long, bytes)| if long { Digest::sha512(&bytes) } else { Digest::sha256(&bytes) })
}

/// Text over the letters that matter to the grammars, so that most of it is nearly valid.
fn nearly_valid() -> impl Strategy<Value = String> {
    prop_oneof![
        "[aB0./:@_\\-\\[\\]%* ]{0,24}",
        "(docker\\.io|localhost|h:1|\\[::1\\])?/?[a-z:@/.]{0,12}",
        ".{0,40}"
    ]
}

/// Reading what was written gives the same value back, and the same text.
fn assert_round_trip<T>(value: &T) -> Result<(), TestCaseError>
where
    T: Display + FromStr<Err: Debug> + Eq + Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let text = value.to_string();
    let again: T = text.parse().map_err(|error| TestCaseError::fail(format!("{text}: {error:?}")))?;
    prop_assert_eq!(&again, value);
    prop_assert_eq!(again.to_string(), text.clone());
    let json = serde_json::to_string(value).expect("strings serialise");
    prop_assert_eq!(&json, &format!("\"{text}\""));
    prop_assert_eq!(&serde_json::from_str::<T>(&json).expect("what was written is read"), value);
    Ok(())
}

/// Where `text` is accepted, its canonical form is accepted as the same; where not, the error's offset lies in it.
fn assert_stable<T>(text: &str) -> Result<(), TestCaseError>
where
    T: Display
        + FromStr<Err = samovar_registry::ParseError>
        + Eq
        + Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    match text.parse::<T>() {
        Ok(value) => assert_round_trip(&value),
        Err(error) => {
            prop_assert!(text.is_char_boundary(error.offset), "{} in {:?}", error, text);
            Ok(())
        }
    }
}

fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Flux's matcher in the words of its definition: the pieces between the stars must follow one another, the first
/// at the front, the last at the end.
fn matches_by_definition(pattern: &str, text: &str) -> bool {
    let pieces: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = pieces.as_slice() else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    for piece in middle {
        match rest.find(piece) {
            Some(found) => rest = &rest[found + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_round_trip_and_are_canonical_at_once(spelling in name()) {
        let name: Name = spelling.parse().map_err(|error| TestCaseError::fail(format!("{error}")))?;
        assert_round_trip(&name)?;
        prop_assert_eq!(format!("{}/{}", name.host(), name.path()), name.as_str());
        prop_assert_eq!(canonical_host(name.host()), Ok(name.host().to_owned()));
        for other in name.spellings() {
            prop_assert_eq!(&other.parse::<Name>().expect("a spelling is valid"), &name);
        }
    }

    #[test]
    fn references_round_trip(
        spelling in name(),
        tag in option::of("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"),
        digest in option::of(digest()),
    ) {
        let written = format!(
            "{spelling}{}{}",
            tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default(),
            digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default(),
        );
        let reference: Reference = written.parse().map_err(|error| TestCaseError::fail(format!("{error}")))?;
        prop_assert_eq!(reference.name(), &spelling.parse::<Name>().expect("valid by construction"));
        prop_assert_eq!(reference.tag().map(Tag::as_str), tag.as_deref());
        prop_assert_eq!(reference.digest(), digest.as_ref());
        assert_round_trip(&reference)?;
    }

    #[test]
    fn tags_digests_and_platforms_round_trip(
        tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}",
        digest in digest(),
        platform in "[a-z0-9._-]{1,9}/[a-z0-9._-]{1,9}(/[a-z0-9._-]{1,9})?",
    ) {
        assert_round_trip(&tag.parse::<Tag>().expect("valid by construction"))?;
        assert_round_trip(&digest)?;
        let platform: Platform = platform.parse().expect("valid by construction");
        prop_assert!(platform.wants(&platform));
        assert_round_trip(&platform)?;
    }

    #[test]
    fn whatever_is_read_is_refused_with_a_place_or_stable(text in nearly_valid()) {
        assert_stable::<Name>(&text)?;
        assert_stable::<Reference>(&text)?;
        assert_stable::<Tag>(&text)?;
        assert_stable::<Digest>(&text)?;
        assert_stable::<Platform>(&text)?;
        let _ = Aliases::parse([&text]);
        if let Ok(host) = canonical_host(&text) {
            prop_assert_eq!(canonical_host(&host), Ok(host.clone()));
        }
    }

    #[test]
    fn digests_are_refused_with_a_place_or_stable(text in "(sha256|sha512|md5)?:?[0-9a-fA-Fé]{60,130}") {
        assert_stable::<Digest>(&text)?;
    }

    #[test]
    fn aliases_do_not_disturb_canonical_names(spelling in name(), alias in "[a-z]{1,3}", host in host()) {
        let aliases = Aliases::parse([format!("{alias}={host}")]).expect("valid by construction");
        let name = Name::parse(&spelling, &aliases).map_err(|error| TestCaseError::fail(format!("{error}")))?;
        prop_assert_eq!(Name::parse(name.as_str(), &aliases), Ok(name.clone()));
        prop_assert_eq!(name.as_str().parse(), Ok(name.clone()));
    }

    #[test]
    fn order_equality_and_hash_are_those_of_the_text(one in few_names(), two in few_names()) {
        let (one, two): (Name, Name) = (one.parse().expect("valid"), two.parse().expect("valid"));
        prop_assert_eq!(one.cmp(&two), one.as_str().cmp(two.as_str()));
        prop_assert_eq!(one == two, one.as_str() == two.as_str());
        prop_assert_eq!(hash_of(&one), hash_of(one.as_str()));
        prop_assert_eq!(hash_of(&one) == hash_of(&two), one == two);
    }

    #[test]
    fn order_equality_and_hash_of_small_values_agree(
        (one, two) in prop::array::uniform2("[aB]{1,2}").prop_map(|[a, b]| (a, b)),
    ) {
        let (tag_one, tag_two): (Tag, Tag) = (one.parse().expect("valid"), two.parse().expect("valid"));
        prop_assert_eq!(tag_one.cmp(&tag_two), one.cmp(&two));
        prop_assert_eq!(tag_one == tag_two, one == two);
        prop_assert_eq!(hash_of(&tag_one), hash_of(one.as_str()));

        let (digest_one, digest_two) = (Digest::sha256(one.as_bytes()), Digest::sha512(two.as_bytes()));
        prop_assert_eq!(digest_one.cmp(&digest_two), digest_one.to_string().cmp(&digest_two.to_string()));
        let other = digest_one.same_algorithm(two.as_bytes());
        prop_assert_eq!(digest_one.cmp(&other), digest_one.to_string().cmp(&other.to_string()));
        prop_assert_eq!(digest_one == other, one == two);
        prop_assert_eq!(hash_of(&digest_one) == hash_of(&other), one == two);

        let reference = |tag: &str, digest: &Digest| -> Reference { format!("a:{tag}@{digest}").parse().expect("valid") };
        let (reference_one, reference_two) = (reference(&one, &digest_one), reference(&two, &other));
        prop_assert_eq!(reference_one.cmp(&reference_two), (one.as_str(), &digest_one).cmp(&(two.as_str(), &other)));
        prop_assert_eq!(reference_one == reference_two, one == two);
        prop_assert_eq!(hash_of(&reference_one) == hash_of(&reference_two), one == two);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn globs_match_as_they_do_in_flux(pattern in "[ab*?/.é\\[\\]!{,}\\\\-]{1,10}", text in "[ab?/.é\\[\\]!*\\\\-]{0,12}") {
        let glob = Glob::new(&pattern).expect("every pattern of this length is valid");
        prop_assert_eq!(glob.matches(&text), matches_by_definition(&pattern, &text));
    }

    #[test]
    fn globs_of_stars_and_few_letters_match_as_they_do_in_flux(pattern in "[a*]{1,8}b?\\*?", text in "[ab]{0,10}") {
        let glob = Glob::new(&pattern).expect("every pattern of this length is valid");
        prop_assert_eq!(glob.matches(&text), matches_by_definition(&pattern, &text));
    }
}
