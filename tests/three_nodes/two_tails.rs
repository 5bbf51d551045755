//! A folder is put back and goes on before it hears of what only one other node had seen: neither history is lost, and everybody reads the
//! same.

use std::collections::BTreeSet;

use serde_json::Value;

use super::node_support::{files, put_back, text, wait_for};
use super::{NAMES, Three};

impl Three {
    /// The entries of a copy that are of an entity, or of all, each with its id and the one that it was before.
    fn lines(&self, node: usize, loom: &str) -> Vec<Value> {
        let exported = text(&self.on(node, &["loom", "export", loom]).stdout);
        exported.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect()
    }
}

#[test]
fn what_was_acknowledged_after_a_folder_was_put_back_outlives_what_only_one_had_seen_before() {
    let three = Three::new();
    let (_b, _c) = (three.serve(1), three.serve(2));
    let a = three.serve(0);
    let (_, loom) = three.found(0);
    let replicate = |node: usize, to: &[&str]| {
        let ran = three.on(node, &[&["loom", "replicate", &loom, "--to"][..], to].concat());
        assert!(ran.status.success(), "{}", text(&ran.stderr));
    };
    replicate(0, &["b", "--acks", "1", "--acks-wait-ms", "3000"]);
    // Whoever keeps it by the second node's wish has a copy, and does not count.
    wait_for("the copy", || three.copy(1, &loom).0 == three.copy(0, &loom).0);
    replicate(1, &["c"]);
    wait_for("the record of who counts", || {
        assert!(three.write(0, &loom).is_some());
        three.lines(0, &loom).iter().any(|line| line["body"]["kind"] == "keeping" || line["kind"] == "keeping")
    });
    wait_for("the copies", || (1..3).all(|node| three.copy(node, &loom).0 == three.copy(0, &loom).0));
    // The folder is copied while nothing is written; the process goes on, which has asked its keepers long ago.
    let (before, older) = (three.copy(1, &loom).0, files(&three.data(0)));
    three.cut(0, 1, true);
    three.cut(1, 2, true);
    assert!(three.write(0, &loom).is_none(), "nobody who counts can have it");
    wait_for("what only the third sees", || three.copy(2, &loom).0.len() > before.len());
    a.kill();
    put_back(&three.data(0), &older);
    three.cut(0, 2, true);
    three.cut(0, 1, false);
    let _a = three.serve(0);
    wait_for("an acknowledged turn", || three.write(0, &loom).is_some());
    let [seen, acknowledged] = [2, 1].map(|node| three.lines(node, &loom));
    three.cut(0, 2, false);
    three.cut(1, 2, false);
    let tails: Vec<&Value> = [&seen, &acknowledged].into_iter().flatten().collect();
    let tails: Vec<&Value> = tails.into_iter().filter(|line| !before.contains(line["id"].as_str().unwrap())).collect();
    assert!(tails.len() > 10, "{tails:?}");
    wait_for("both to be written anew, everywhere", || {
        drop(three.write(0, &loom));
        (0..3).all(|node| {
            let lines = three.lines(node, &loom);
            let anew: BTreeSet<&str> = lines.iter().filter_map(|line| line["was"].as_str()).collect();
            tails.iter().all(|line| anew.contains(line["id"].as_str().unwrap()))
        })
    });
    for (node, name) in NAMES.iter().enumerate() {
        let shown = three.on(node, &["loom", "show", &loom]);
        assert!(shown.status.success(), "{name}: {}", text(&shown.stderr));
        // The earlier key stays known as one with two histories, and whoever reads that learns what has become of them.
        let verified = three.on(node, &["loom", "verify", &loom]);
        let said = text(&verified.stdout) + &text(&verified.stderr);
        assert!(said.contains("two histories") && said.contains("written anew counts"), "{name}: {said}");
    }
    assert!(three.write(0, &loom).is_some(), "it goes on");
}
