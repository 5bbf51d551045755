//! Guests: components that stand in a model's place, or are a medium.
#![expect(clippy::disallowed_methods, reason = "the tests write files")]

mod guest_support;

use cantrip_runtime::{Root, builtin};
use serde_json::json;

use guest_support::{builder, cast, guest, wards};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_cast_like_a_model_and_its_gate_calls_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "hello").unwrap();
    let root = Root::open(folder.path()).unwrap();
    let ran = cast(builder(guest("first"), &wards()).gate(builtin::read_file(root)), "a.txt").await;
    assert_eq!(ran.outcome.result, Some(json!("hello")), "{ran:?}");
    assert_eq!(ran.outcome.reason, "returned");
    let turns = ran.turns();
    assert_eq!(turns.len(), 1);
    assert_eq!(turns[0].gates[0].gate, "read_file");
    assert_eq!(turns[0].gates[0].arguments, json!({ "path": "a.txt" }));
}
