//! What `loom replicate`, `status` and `verify --node` say of a keeper: what it says itself when it is asked, or that it does not answer.

use std::process::Output;

use serde_json::Value;

use super::node_support::{Served, text, wait_for};
use super::{NAMES, Three};

fn said(ran: &Output) -> String {
    text(&ran.stdout) + &text(&ran.stderr)
}

/// A loom of the first node that the second keeps on disk too.
fn kept(three: &Three) -> (Served, Served, String) {
    let (a, b) = (three.serve(0), three.serve(1));
    let (_, loom) = three.found(0);
    let ran = three.on(0, &["loom", "replicate", &loom, "--to", "b"]);
    assert!(ran.status.success() && said(&ran).contains("on disk"), "{}", said(&ran));
    (a, b, loom)
}

fn status(three: &Three, loom: &str) -> Value {
    let ran = three.on(0, &["loom", "status", loom, "--json"]);
    assert!(ran.status.success(), "{}", said(&ran));
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn a_keeper_that_was_restarted_empty_has_nothing_and_is_not_said_to_have_what_it_had() {
    let three = Three::new();
    let (a, b, loom) = kept(&three);
    let before = status(&three, &loom);
    let keeper = &before["keepers"][0];
    assert_eq!((&keeper["fresh"], &keeper["kept"], &keeper["lag_entries"]), (&true.into(), &"disk".into(), &0.into()));
    // Nobody can send it anything: what it has is what is on its disk.
    a.kill();
    b.kill();
    std::fs::remove_dir_all(three.data(1)).unwrap();
    super::lend(&three.data(1));
    let _b = three.serve(1);
    let entries: u64 = before["writers"].as_array().unwrap().iter().map(|log| log["entries"].as_u64().unwrap()).sum();
    let after = status(&three, &loom);
    let keeper = &after["keepers"][0];
    assert_eq!((&keeper["fresh"], &keeper["kept"]), (&true.into(), &"none".into()), "{keeper}");
    assert_eq!(keeper["lag_entries"], entries, "{keeper}");
    let shown = said(&three.on(0, &["loom", "status", &loom]));
    assert!(shown.contains("keeps nothing of it"), "{shown}");
}

#[test]
fn a_keeper_that_does_not_answer_is_said_to_and_when_it_last_said_what_it_has() {
    let three = Three::new();
    let (_a, b, loom) = kept(&three);
    b.signal("-STOP");
    for command in [vec!["replicate", &loom, "--to", "b"], vec!["verify", &loom, "--node", "b"]] {
        let ran = three.on(0, &[&["loom"][..], &command].concat());
        assert_eq!(ran.status.code(), Some(5), "{command:?}: {}", said(&ran));
        assert!(said(&ran).contains("did not answer within"), "{command:?}: {}", said(&ran));
        assert!(!said(&ran).contains("code:"), "{command:?}: {}", said(&ran));
        assert!(!said(&ran).contains("on disk"), "{command:?}: {}", said(&ran));
    }
    let stopped = status(&three, &loom);
    let keeper = &stopped["keepers"][0];
    assert_eq!(keeper["fresh"], false, "{keeper}");
    assert!(keeper["no_answer"].is_string() && keeper["said_at_us"].is_u64(), "{keeper}");
    let shown = said(&three.on(0, &["loom", "status", &loom]));
    assert!(shown.contains("does not say what it has") && shown.contains("ago it had everything"), "{shown}");
    b.signal("-CONT");
    wait_for("the keeper's answer", || status(&three, &loom)["keepers"][0]["fresh"] == true);
}

#[test]
fn more_acknowledgements_than_disks_are_refused_and_nothing_is_changed() {
    let three = Three::new();
    let (a, _b, loom) = kept(&three);
    let refused = |three: &Three| {
        let ran = three.on(0, &["loom", "replicate", &loom, "--to", "b", "--acks", "3"]);
        assert_eq!(ran.status.code(), Some(2), "{}", said(&ran));
        assert!(said(&ran).contains("would wait for 3 other disks (acks), and 1 of its keepers"), "{}", said(&ran));
    };
    refused(&three);
    assert_eq!(status(&three, &loom)["acks"], 0);
    // The same where no process has the record.
    a.kill();
    refused(&three);
}

#[test]
fn the_status_names_who_could_go_on_with_the_loom() {
    let three = Three::new();
    let (_a, _b, loom) = kept(&three);
    let alone = said(&three.on(0, &["loom", "status", &loom]));
    assert!(alone.contains("nobody else can go on with the loom"), "{alone}");
    let ran = three.on(0, &["loom", "replicate", &loom, "--to", "b", "--may", "write,adopt"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let named = said(&three.on(0, &["loom", "status", &loom]));
    assert!(named.contains(&format!("may go on  {}", NAMES[1])), "{named}");
    assert_eq!(status(&three, &loom)["may_go_on"][0]["node"], NAMES[1]);
}
