//! The pages in `docs/` say what the program does: metrics, settings, bounds and examples are compared with it.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use samovar_testing::Samovar;

const OPERATIONS: &str = include_str!("../docs/operations.md");
const CONFIGURATION: &str = include_str!("../docs/configuration.md");
const README: &str = include_str!("../README.md");

/// What begins the name of a constant that bounds something.
const BOUND_PREFIXES: [&str; 3] = ["MAX_", "MOST_", "LONGEST_"];

type Words = BTreeSet<String>;

#[tokio::test]
async fn every_metric_is_in_the_operations_page_and_the_other_way_round() {
    let samovar = common::samovar();
    // Nobody listens on port 1; its metrics are there all the same.
    // What is counted by receiver is there for those that are configured.
    let file = samovar.write_file("samovar.toml", "[hooks.x]\ntype = 'hmac'\nunauthenticated = true\n[[notify]]\nname = 'x'\nurl = 'http://127.0.0.1:1/'");
    let config = file.to_str().expect("the path is text");
    let arguments = ["--store", "memory:", "--watch", "127.0.0.1:1/team/app", "--config", config];
    let server = samovar.serve(arguments).await;
    // What is counted by route appears when a request has been answered.
    server.get_text("/healthz").await;
    let page = server.get_text("/metrics").await;

    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let exposed: Words = families.filter_map(|family| family.split(' ').next()).map(str::to_owned).collect();
    assert_same(&exposed, &first_column(section(OPERATIONS, "## Metrics")), "metrics");
}

#[tokio::test]
async fn every_variable_and_flag_is_in_the_configuration_page_and_the_other_way_round() {
    let mut help = String::new();
    let asking = [
        "serve",
        "warm",
        "tags",
        "image",
        "latest",
        "history",
        "events",
        "refresh",
        "status",
        "check-config",
        "token",
    ];
    let of_the_store = ["store stats", "store verify", "store compact", "store export", "store import"];
    for command in asking.into_iter().chain(of_the_store) {
        let output = common::samovar().run(command.split(' ').chain(["--help"])).await;
        assert_eq!(output.code, Some(0), "{command}: {output:?}");
        help.push_str(&output.stdout);
    }
    let variables =
        |text: &str| words(text, "SAMOVAR_", |letter| letter.is_ascii_uppercase() || letter == '_');
    assert_same(&variables(&help), &variables(CONFIGURATION), "variables");

    let flags = |text: &str| words(text, "--", |letter| letter.is_ascii_lowercase() || letter == '-');
    let mut offered = flags(&help);
    for everywhere in ["--help", "--version"] {
        assert!(offered.remove(everywhere), "{everywhere} is not a flag any more");
    }
    assert_same(&offered, &flags(CONFIGURATION), "flags");
}

#[tokio::test]
async fn every_key_of_the_file_is_in_the_configuration_page_and_the_other_way_round() {
    let samovar = common::samovar();
    let tables = [
        ("## Settings of `serve`", "no_such_key = 1"),
        (
            "### Entries of `credentials`",
            "[[credentials]]\nrepositories = '*'\nhelper = 'x'\nno_such_key = 1",
        ),
        ("### Entries of `notify`", "[[notify]]\nname = 'x'\nurl = 'http://127.0.0.1/'\nno_such_key = 1"),
        ("### Entries of `watch`", "watch = [{ image = 'alpine', no_such_key = 1 }]"),
        ("### `[on_demand]`", "[on_demand]\nno_such_key = 1"),
        ("### `[oci]`", "[oci]\nno_such_key = 1"),
        ("### `[auth]`", "[auth]\nno_such_key = 1"),
        ("### `[auth.kubernetes]`", "[auth.kubernetes]\nno_such_key = 1"),
        ("### `[tls]`", "[tls]\nno_such_key = 1"),
        ("### `[limits]`", "[limits]\nno_such_key = 1"),
        ("### `[hooks.NAME]`", "[hooks.x]\ntype = 'hmac'\nunauthenticated = true\nno_such_key = 1"),
        ("### `[upstream]`", "[upstream]\nno_such_key = 1"),
        ("### `[hosts.\"HOST\"]`", "[hosts.'ghcr.io']\nno_such_key = 1"),
        ("### Mirrors", "hosts.'ghcr.io'.mirrors = [{ url = 'https://mirror.example', no_such_key = 1 }]"),
    ];
    let mut sections_of_the_file = Words::new();
    for (heading, text) in tables {
        let mut known = known_keys(&samovar, text).await;
        if heading == tables[0].0 {
            // They have tables of their own on the page.
            sections_of_the_file = known
                .iter()
                .filter(|key| {
                    ["hooks", "hosts", "limits", "oci", "on_demand", "tls", "upstream"].contains(&&***key)
                })
                .cloned()
                .collect();
            known.retain(|key| !sections_of_the_file.contains(key));
        }
        assert_same(&known, &first_column(section(CONFIGURATION, heading)), heading);
    }
    assert_eq!(sections_of_the_file.len(), 7);
}

/// The keys that the program names when it meets one that it does not know.
async fn known_keys(samovar: &Samovar, text: &str) -> Words {
    let file = samovar.write_file("keys.toml", text);
    let output = samovar.run(["check-config".as_ref(), file.as_os_str()]).await;
    assert_eq!(output.code, Some(2), "{text}: {output:?}");
    let (_, known) =
        output.stderr.split_once("known here: ").unwrap_or_else(|| panic!("no keys: {output:?}"));
    let known = known.lines().next().unwrap_or_default();
    known.split(", ").map(str::to_owned).collect()
}

#[tokio::test]
async fn the_examples_of_configuration_files_are_valid() {
    let samovar = common::samovar();
    let examples: Vec<&str> = toml_blocks(README).chain(toml_blocks(CONFIGURATION)).collect();
    assert_eq!(examples.len(), 2, "one short example in the README, one complete one in the page");
    for (number, example) in examples.into_iter().enumerate() {
        let file = samovar.write_file(&format!("example-{number}.toml"), example);
        let output = samovar.run(["check-config".as_ref(), file.as_os_str()]).await;
        assert_eq!(output.code, Some(0), "{example}\n{}", output.stderr);
        assert!(output.stderr.is_empty(), "a remark on an example: {}", output.stderr);
    }
}

#[test]
fn every_bound_is_in_the_configuration_page_and_the_other_way_round() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut constants = Words::new();
    for directory in ["src", "registry/src", "memcached/src"] {
        collect_constants(&root.join(directory), &mut constants);
    }
    let documented = first_column(section(CONFIGURATION, "## Bounds"));
    let gone: Words = documented.difference(&constants).cloned().collect();
    assert!(gone.is_empty(), "in docs/configuration.md, but no constant: {gone:?}");

    let is_bound = |name: &&String| BOUND_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let bounds: Words = constants.iter().filter(is_bound).cloned().collect();
    assert!(bounds.len() > 20, "the search for constants finds them: {bounds:?}");
    let missing: Words = bounds.difference(&documented).cloned().collect();
    assert!(missing.is_empty(), "a bound that docs/configuration.md does not name: {missing:?}");
}

/// The names of all constants in the `.rs` files below `directory`.
fn collect_constants(directory: &Path, names: &mut Words) {
    for entry in std::fs::read_dir(directory).expect("the sources are beside the tests") {
        let path = entry.expect("a directory can be read to its end").path();
        if path.is_dir() {
            collect_constants(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).expect("sources are text");
            let declarations = source.lines().filter_map(|line| line.split_once("const ")?.1.split_once(':'));
            names.extend(declarations.map(|(name, _)| name.to_owned()));
        }
    }
}

fn assert_same(program: &Words, page: &Words, what: &str) {
    let missing: Vec<_> = program.difference(page).collect();
    let gone: Vec<_> = page.difference(program).collect();
    assert!(!program.is_empty(), "{what}: nothing was found in the program");
    assert!(
        missing.is_empty() && gone.is_empty(),
        "{what}: the page lacks {missing:?}, and has {gone:?}, which the program does not"
    );
}

/// From a heading to the next one of any level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = format!("\n{heading}\n");
    let (_, rest) = page.split_once(&start).unwrap_or_else(|| panic!("there is no section {heading:?}"));
    rest.split_once("\n#").map_or(rest, |(section, _)| section)
}

/// What stands in backticks in the first column of the tables of a section.
fn first_column(section: &str) -> Words {
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    cells.map(|(name, _)| name.to_owned()).collect()
}

/// The words that begin with `prefix` at the beginning of a word, and go on with letters that `belongs` accepts.
fn words(text: &str, prefix: &str, belongs: impl Fn(char) -> bool) -> Words {
    let places = text.match_indices(prefix).filter(|(place, _)| {
        let before = text[..*place].chars().next_back();
        before.is_none_or(|letter| !letter.is_alphanumeric() && !matches!(letter, '-' | '_' | '|'))
    });
    let found = places.map(|(place, _)| {
        let rest = &text[place + prefix.len()..];
        let end = rest.find(|letter| !belongs(letter)).unwrap_or(rest.len());
        &text[place..place + prefix.len() + end]
    });
    found.filter(|word| word.len() > prefix.len()).map(str::to_owned).collect()
}

/// The blocks of a page that are marked as TOML.
fn toml_blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0))
}
