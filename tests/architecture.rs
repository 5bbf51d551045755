//! The shape of the source: which way dependencies point, who may name which crate, and how long a file gets.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may stop, and reads the source")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// 1 000. A longer file holds more than one thing.
const LINES_MAX: usize = 1_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file below a folder, as (path from the folder, text).
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "{} holds no source", folder.display());
    found
}

/// The code of a file: without comments, and without the unit tests at its end, which may use more than the product.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    // A module of tests that is only declared here ends no file.
    let product = if product.len() < text.len() && text.contains("#[cfg(test)]\nmod tests {") { product } else { text };
    let lines = product.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

fn names(code: &str, word: &str) -> bool {
    let inner = |char: char| char.is_alphanumeric() || char == '_';
    let path = word.ends_with(':');
    code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        let after = code.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(inner) && (path || !after.is_some_and(inner))
    })
}

/// Fails where a file in `folder` of the runtime names one of the words.
fn check(folder: &str, forbidden: &[&str]) {
    let found: Vec<String> = sources(&root().join("runtime/src"))
        .into_iter()
        .filter(|(file, _)| file.starts_with(folder) && !file.ends_with("_tests.rs"))
        .flat_map(|(file, text)| {
            let code = code(&text);
            let words = forbidden.iter().filter(|word| names(&code, word)).map(|word| format!("{file} names {word}"));
            words.collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "the arrows are cli → adapters → driver → domain → gates:\n{}", found.join("\n"));
}

/// Fails where a file outside of `folder` names the crate.
fn check_only(folder: &str, krate: &str) {
    let path = format!("{krate}::");
    let all = sources(&root().join("runtime/src"));
    let (inside, outside): (Vec<_>, Vec<_>) =
        all.into_iter().filter(|(_, text)| names(&code(text), &path)).partition(|(file, _)| file.starts_with(folder));
    assert!(!inside.is_empty(), "nothing in {folder} names {krate}: does this test still look for the right thing?");
    let outside: Vec<String> = outside.into_iter().map(|(file, _)| file).collect();
    assert!(outside.is_empty(), "only {folder} may name {krate}, and so do {}", outside.join(", "));
}

#[test]
fn the_domain_decides_and_performs_nothing() {
    check(
        "domain/",
        &[
            "crate::ports",
            "crate::driver",
            "crate::adapters",
            "crate::cli",
            "crate::embed",
            "crate::export",
            "crate::conform",
        ],
    );
    check(
        "domain/",
        &["tokio", "std::fs", "SystemTime", "Instant", "std::net", "std::env", "std::process", "async fn"],
    );
}

#[test]
fn the_driver_knows_ports_and_no_adapter() {
    check("driver/", &["crate::adapters", "crate::cli", "crate::embed", "crate::export", "crate::conform"]);
    check("driver/", &["std::fs", "SystemTime", "std::env", "std::process"]);
    check("ports.rs", &["crate::adapters", "crate::driver", "crate::cli", "tokio"]);
}

#[test]
fn adapters_name_neither_the_command_line_nor_each_other() {
    check("adapters/", &["crate::cli", "crate::embed", "crate::conform"]);
    check("adapters/wasm/", &["adapters::store", "adapters::llm", "adapters::clock"]);
    check("adapters/store/", &["adapters::wasm", "adapters::llm", "adapters::clock"]);
    check("adapters/llm/", &["adapters::wasm", "adapters::store", "adapters::clock"]);
    check("adapters/clock.rs", &["adapters::wasm", "adapters::store", "adapters::llm"]);
}

#[test]
fn what_a_chain_of_certificates_says_is_read_in_one_place_and_by_everybody_alike() {
    let all = sources(&root().join("runtime/src"));
    // Tests may take certificates for what they say.
    let product = all.into_iter().filter(|(file, _)| !file.contains("/tests/"));
    let readers = product.filter(|(_, text)| code(text).contains("ChainCheck for")).map(|(file, _)| file);
    assert_eq!(readers.collect::<Vec<_>>(), ["adapters/x509/mod.rs"]);
    check(
        "adapters/x509/",
        &["adapters::peer", "adapters::store", "adapters::clock", "SystemTime", "std::fs", "Clock"],
    );
}

#[test]
fn a_large_crate_is_named_in_one_place() {
    check_only("adapters/wasm/", "wasmtime");
    check_only("adapters/store/", "fjall");
    check_only("adapters/llm/", "genai");
    check_only("adapters/peer/", "tonic");
    check_only("adapters/peer/", "rustls");
    check_only("cli/", "clap");
}

#[test]
fn gates_run_without_the_runtime() {
    let gates = root().join("gates");
    for (file, text) in sources(&gates.join("src")) {
        let code = code(&text);
        for word in ["cantrip_runtime", "wasmtime", "fjall", "genai"] {
            assert!(!names(&code, word), "gates/src/{file} names {word}");
        }
    }
    let manifest = std::fs::read_to_string(gates.join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("cantrip-runtime"), "gates must not depend on the runtime");
}

#[test]
fn no_file_is_longer_than_a_thousand_lines() {
    for folder in ["gates/src", "runtime/src", "tests", "examples"] {
        for (file, text) in sources(&root().join(folder)) {
            let lines = text.lines().count();
            assert!(lines <= LINES_MAX, "{folder}/{file} has {lines} lines");
        }
    }
}

#[test]
fn the_top_level_is_what_the_readme_describes() {
    const ALLOWED: &[&str] = &[
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "SECURITY.md",
        "benches",
        "clippy.toml",
        "deny.toml",
        "docs",
        "examples",
        "gates",
        "guest-sdk",
        "runtime",
        "rustfmt.toml",
        "shared",
        "target",
        "tests",
        "wit",
    ];
    let allowed: BTreeSet<&str> = ALLOWED.iter().copied().collect();
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        // What begins with a dot belongs to tools.
        assert!(
            name.starts_with('.') || allowed.contains(name.as_str()),
            "`{name}` is new at the top level: put it into a folder, or into this list"
        );
    }
}

/// The name of a constant that is defined in this line, and what it is set to.
fn constant(line: &str) -> Option<(&str, &str)> {
    let words = line.trim_start();
    let words = words.strip_prefix("pub").map_or(words, |rest| match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')').map_or("", |(_, rest)| rest),
        None => rest,
    });
    let (name, rest) = words.trim_start().strip_prefix("const ")?.split_once(':')?;
    Some((name, rest.split_once('=').map_or("", |(_, value)| value.trim())))
}

/// What bounds something is named so, and belongs to a list. Another name of a limit that is in one may stand elsewhere.
fn is_unlisted(line: &str) -> bool {
    constant(line).is_some_and(|(name, value)| {
        let is_limit = name.ends_with("_MAX") || name.contains("_MAX_") || name.contains("TIMEOUT");
        is_limit && !value.contains("limits::")
    })
}

#[test]
fn every_constant_that_bounds_something_is_in_a_list_of_limits() {
    let found: Vec<String> = ["gates/src", "runtime/src"]
        .into_iter()
        .flat_map(|folder| sources(&root().join(folder)).into_iter().map(move |(file, text)| (folder, file, text)))
        .filter(|(_, file, _)| {
            !file.ends_with("limits.rs") && !file.contains("limits/") && !file.ends_with("_tests.rs")
        })
        .flat_map(|(folder, file, text)| {
            let code = code(&text);
            let lines =
                code.lines().filter(|line| is_unlisted(line)).map(|line| format!("{folder}/{file}: {}", line.trim()));
            lines.collect::<Vec<_>>()
        })
        .collect();
    assert!(
        found.is_empty(),
        "a number that bounds what comes from outside stands in gates/src/limits.rs or runtime/src/domain/limits/, with its \
         unit and the test that hits it; what bounds nothing from outside has another name:\n{}",
        found.join("\n")
    );
    assert!(is_unlisted("    pub(super) const WAITING_MAX: usize = 16;"), "does this test still see one?");
}

#[test]
fn entries_are_read_for_decisions_in_one_place() {
    let all = sources(&root().join("runtime/src"));
    let product: Vec<(String, String)> = all
        .into_iter()
        .filter(|(file, _)| !file.contains("tests"))
        .map(|(file, text)| {
            let code = code(&text);
            (file, code)
        })
        .collect();
    let that_name = |words: &[&str]| -> Vec<&str> {
        let names = |code: &str| words.iter().any(|word| code.contains(word));
        product.iter().filter(|(_, code)| names(code)).map(|(file, _)| file.as_str()).collect()
    };
    // Only a store puts a batch together, and only the reader opens it.
    assert_eq!(that_name(&["Batch::new("]), ["ports.rs"]);
    let imports = |code: &str| {
        let lists = code.split("members::{").skip(1).filter_map(|rest| rest.split('}').next());
        code.contains("members::Known") || lists.into_iter().any(|list| names(list, "Known"))
    };
    let outside = product.iter().filter(|(file, code)| !file.starts_with("domain/members/") && imports(code));
    // An order shows what its host has not: it is read before anything of it is kept.
    assert_eq!(outside.map(|(file, _)| file.as_str()).collect::<Vec<_>>(), ["driver/hosting/credentials.rs"]);
    // Whoever reads entries as they are copies, shows or verifies them, or looks for what this node itself has written.
    let mut raw = that_name(&["store.entries(", "store().entries(", "disk.entries("]);
    raw.sort_unstable();
    assert_eq!(
        raw,
        [
            "cli/names.rs",              // ids, to find one by a part of it
            "driver/adopting.rs",        // from which of the entries that count an adoption goes on
            "driver/copies/shares.rs",   // whether anything is here, and whom this node's own entries name
            "driver/foreign.rs",         // what makes up a thread that is handed on with its proofs, of what counts
            "driver/hosting/resumed.rs", // this node's own openings and ends; who owns them is asked of the tree
            "driver/members.rs",         // how far a cast is here
            "driver/read_loom.rs",       // shown to the entity itself
            "driver/recorder.rs",        // the founding entry, which shows by itself what it is
            "export.rs",                 // everything, as it is
        ],
        "a file reads entries past the reader, or does not any more"
    );
    check("driver/", &["Owners"]);
}

/// The rules of who may write a loom: what is not in this list of their numbers is no rule.
const RULES: [&str; 29] = [
    "2.1", "2.2", "2.3", "2.4", "3.1", "3.2", "3.3", "4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "4.7", "5.1", "5.2",
    "5.3", "5.4", "5.5", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "7.1", "7.2", "8.1", "8.2",
];

/// The rules of a page, each with the tests that it names, behind their file and two colons.
fn rules_of(page: &str) -> Vec<(String, Vec<(String, String)>)> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")).filter_map(|row| row.split_once(" | "));
    let rows = rows.filter(|(number, _)| number.starts_with(|first: char| first.is_ascii_digit()));
    let tests = |rest: &str| {
        let named = rest.split('`').filter_map(|word| word.split_once("::"));
        named.map(|(file, test)| (file.to_owned(), test.to_owned())).collect()
    };
    rows.map(|(number, rest)| (number.to_owned(), tests(rest))).collect()
}

#[test]
fn each_rule_of_who_may_write_a_loom_names_tests_that_are_there() {
    let page = std::fs::read_to_string(root().join("docs/members.md")).unwrap();
    let rules = rules_of(&page);
    assert_eq!(rules.iter().map(|(number, _)| number.as_str()).collect::<Vec<_>>(), RULES);
    for (number, tests) in &rules {
        assert!(!tests.is_empty(), "rule {number} has no test");
        for (file, test) in tests {
            let text = std::fs::read_to_string(root().join(file));
            let text = text.unwrap_or_else(|error| panic!("rule {number} names {file}: {error}"));
            let is_there =
                text.contains(&format!("fn {test}()")) && text.contains("#[test]") | text.contains("tokio::test");
            assert!(is_there, "rule {number} names {file}::{test}, which is not there");
        }
    }
    let seen = rules_of("| 9.9 | a rule | `tests/a.rs::b`, `c.rs::d` |");
    assert_eq!(seen[0].1.len(), 2, "does this test still see them?");
}
