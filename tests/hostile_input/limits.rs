//! Every limit is listed with its unit, and a test hits it.

#[path = "limits/files.rs"]
mod files;
#[path = "limits/models.rs"]
mod models;
#[path = "limits/peers.rs"]
mod peers;
#[path = "limits/persons.rs"]
mod persons;
#[path = "limits/sandbox.rs"]
mod sandbox;
#[path = "limits/wards.rs"]
mod wards;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use cantrip_gates::limits::Limit;
use cantrip_runtime::domain::limits;

#[test]
fn every_limit_has_a_unit_a_sentence_and_a_test_that_hits_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    for limit in limits::all() {
        assert!(names.insert(limit.name), "{} is listed twice", limit.name);
        assert!(limit.value > 0 && !limit.unit.is_empty() && !limit.bounds.is_empty(), "{limit:?}");
        let (file, function) = limit.tried_by.rsplit_once("::").unwrap();
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{limit:?}: {error}"));
        assert!(
            text.contains(&format!("fn {function}(")) || text.contains(&format!("\n    {function} => ")),
            "{}: {file} has no `fn {function}`",
            limit.name
        );
    }
}

/// Groups of three digits.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// How much, as a person says it: `16 MiB`, `2 min`, `10 000 entries`.
fn amount(limit: &Limit) -> String {
    let steps: &[(&str, u64)] = match limit.unit {
        "bytes" => &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)],
        "ms" => &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)],
        _ => &[],
    };
    let step = steps.iter().find(|(_, step)| limit.value.is_multiple_of(*step));
    match step {
        Some((unit, step)) => format!("{} {unit}", grouped(limit.value / step)),
        None if limit.value == 1 => format!("1 {}", limit.unit.strip_suffix('s').unwrap_or(limit.unit)),
        None => format!("{} {}", grouped(limit.value), limit.unit),
    }
}

fn document() -> String {
    let mut text = String::from(
        "# Limits\n\nEvery number that bounds what comes from outside: from code, a model, a peer, a file or a person. What hits \
         one is refused\nor cut, and told which, how much, and what raises it. A dash: nothing raises it, but a change of the \
         source.\n\nThis page is made from `gates/src/limits.rs` and `runtime/src/domain/limits/`; a test compares it \
         (`CANTRIP_UPDATE=1` writes it anew).\nEach entry there names the test that hits it. What a circle is given beside these \
         are its wards: [cantrip-file.md](cantrip-file.md).\nWhat a node gives its peers: [node-file.md](node-file.md).\n",
    );
    for (title, limits) in limits::GROUPS {
        write!(text, "\n## {title}\n\n| limit | how much | of what | raised by |\n|---|---|---|---|\n").unwrap();
        for limit in limits {
            let raised = limit.raised_by.unwrap_or("–");
            writeln!(text, "| `{}` | {} | {} | {raised} |", limit.name, amount(limit), limit.bounds).unwrap();
        }
    }
    text
}

#[test]
fn the_documents_have_every_limit_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits.md");
    let expected = document();
    if std::env::var_os("CANTRIP_UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "docs/limits.md is not as the code: CANTRIP_UPDATE=1 writes it");
}
