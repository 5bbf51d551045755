//! What a person does to a loom beside the node that has its record: the node does it.

use serde_json::Value;

use super::Three;
use super::node_support::text;

#[test]
fn a_turn_is_judged_beside_the_node_that_serves() {
    let three = Three::new();
    let _serving = three.serve(0);
    let (_, loom) = three.found(0);
    let turns =
        || -> Vec<Value> { serde_json::from_slice(&three.on(0, &["loom", "show", &loom, "--json"]).stdout).unwrap() };
    let turn = turns()[0]["id"].as_str().unwrap().to_owned();
    let judged = three.on(0, &["loom", "reward", &loom, &turn, "0.5"]);
    assert!(judged.status.success(), "{}", text(&judged.stderr));
    assert_eq!(turns()[0]["reward"], 0.5, "{}", turns()[0]);
    // What the node refuses is said as it says it.
    let refused = three.on(0, &["loom", "reward", &loom, &turn, "nan"]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("must be a finite number"), "{said}");
}
