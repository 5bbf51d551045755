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
use std::path::Path;

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
