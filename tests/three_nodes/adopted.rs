//! An entity whose turns had to be acknowledged is adopted: nothing that was acknowledged is lost, or it is said and has to be wanted.

use std::process::Output;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::node_support::{Served, text, wait_for};
use super::{NAMES, Three};

fn said(ran: &Output) -> String {
    text(&ran.stdout) + &text(&ran.stderr)
}

impl Three {
    /// A loom of the first node that both others keep and may adopt, and of which one of them has to have each turn.
    fn kept_by_both(&self, acks: &str) -> ([Served; 3], String, String) {
        let nodes = [0, 1, 2].map(|node| self.serve(node));
        let (entity, loom) = self.found(0);
        for to in [1, 2] {
            let ran = self.on(0, &["loom", "replicate", &loom, "--to", NAMES[to], "--may", "write,adopt"]);
            assert!(ran.status.success(), "{}", said(&ran));
        }
        let ran = self.on(0, &["loom", "replicate", &loom, "--to", "c", "--acks", acks, "--acks-wait-ms", "5000"]);
        assert!(ran.status.success(), "{}", said(&ran));
        // What is written next says first how many acknowledge it, once both were asked as whom they write.
        wait_for("the record of who counts", || {
            assert!(self.write(0, &loom).is_some());
            !self.entries(0, &loom, "keeping").is_empty()
        });
        (nodes, entity, loom)
    }

    fn entries(&self, node: usize, loom: &str, kind: &str) -> Vec<Value> {
        let exported = text(&self.on(node, &["loom", "export", loom]).stdout);
        let lines = exported.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["kind"] == kind || line["body"]["kind"] == kind).collect()
    }

    pub(super) fn cut(&self, one: usize, other: usize, is_cut: bool) {
        for wire in [(one, other), (other, one)] {
            self.wires[&wire].cut.store(is_cut, Ordering::SeqCst);
        }
    }
}

#[test]
fn the_record_says_how_many_acknowledge_and_who_counts() {
    let three = Three::new();
    let (nodes, _, loom) = three.kept_by_both("1");
    let keeping = three.entries(0, &loom, "keeping");
    assert_eq!(keeping.len(), 1, "{keeping:?}");
    let status = three.on(0, &["loom", "status", &loom, "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (&status["acks_recorded"], &status["counting"]),
        (&1.into(), &serde_json::json!(["b", "c"])),
        "{status}"
    );
    let shown = keeping[0].to_string();
    assert!(shown.contains("\"b\"") && shown.contains("\"c\"") && shown.contains("\"acks\":1"), "{shown}");
    // Everybody who keeps it has it, and a change is another entry.
    wait_for("the copy", || three.entries(1, &loom, "keeping").len() == 1);
    let ran = three.on(0, &["loom", "replicate", &loom, "--to", "c", "--acks", "2"]);
    assert!(ran.status.success(), "{}", said(&ran));
    // It is said once more when both who counted before and who count now have it: from then on only these are asked.
    wait_for("the record of the change", || {
        assert!(three.write(0, &loom).is_some());
        three.entries(0, &loom, "keeping").len() == 3
    });
    let acks = |entry: &Value| entry["acks"].as_u64().or_else(|| entry["body"]["acks"].as_u64());
    let said: Vec<Option<u64>> = three.entries(0, &loom, "keeping").iter().map(acks).collect();
    assert_eq!(said, [Some(1), Some(2), Some(2)]);
    wait_for("the copy", || three.entries(1, &loom, "keeping").len() == 3);
    assert!(three.write(0, &loom).is_some());
    assert_eq!(three.entries(0, &loom, "keeping").len(), 3, "it is said twice and no more");
    drop(nodes);
}

#[test]
fn what_another_keeper_has_acknowledged_is_fetched_before_an_entity_is_adopted() {
    let three = Three::new();
    let ([a, _b, c], _, loom) = three.kept_by_both("1");
    // The second hears of nothing from here on; the third acknowledges.
    three.cut(0, 1, true);
    three.cut(1, 2, true);
    let entity = three.write(0, &loom).unwrap();
    assert!(!three.copy(1, &loom).1.contains(&entity));
    a.kill();
    let of = format!("{loom}/{entity}");
    // It does not know the entity yet, and for one that it knows it cannot reach the keeper that may have more.
    let known = three.copy(1, &loom).1.into_iter().next().unwrap();
    let alone = three.on(1, &["loom", "adopt", &format!("{loom}/{known}")]);
    assert_eq!(alone.status.code(), Some(5), "{}", said(&alone));
    assert!(said(&alone).contains("1 of the 2 keepers") && said(&alone).contains("--accept-loss"), "{}", said(&alone));
    assert!(three.entries(1, &loom, "adopted").is_empty());
    three.cut(1, 2, false);
    wait_for("the acknowledged turn", || three.copy(1, &loom).1.contains(&entity));
    let adopted = three.on(1, &["loom", "adopt", &of]);
    assert!(adopted.status.success(), "{}", said(&adopted));
    // What it writes of it is acknowledged as its former owner's was.
    wait_for("the keeping", || three.entries(1, &loom, "keeping").len() == 2);
    drop(c);
}

#[test]
fn with_a_loss_accepted_an_entity_is_adopted_alone_and_the_record_says_so() {
    let three = Three::new();
    let ([a, b, c], entity, loom) = three.kept_by_both("1");
    wait_for("the copy", || three.copy(1, &loom).0 == three.copy(0, &loom).0);
    for node in [a, b, c] {
        node.kill();
    }
    let of = format!("{loom}/{entity}");
    // No node serves: the command line does it, with the folder.
    let refused = three.on(1, &["loom", "adopt", &of]);
    assert_eq!(refused.status.code(), Some(5), "{}", said(&refused));
    let adopted = three.on(1, &["loom", "adopt", &of, "--accept-loss"]);
    assert!(adopted.status.success(), "{}", said(&adopted));
    let entry = three.entries(1, &loom, "adopted").remove(0).to_string();
    assert!(entry.contains("\"accept_loss\":true"), "{entry}");
}

#[test]
fn of_two_that_adopt_at_once_everybody_says_the_same() {
    let three = Three::new();
    let ([a, _b, _c], entity, loom) = three.kept_by_both("1");
    for node in [1, 2] {
        wait_for("the copy", || three.copy(node, &loom).0 == three.copy(0, &loom).0);
    }
    a.kill();
    let of = format!("{loom}/{entity}");
    let adopted = std::thread::scope(|scope| {
        let run = |node| {
            let (three, of) = (&three, &of);
            scope.spawn(move || three.on(node, &["loom", "adopt", of]))
        };
        [run(1), run(2)].map(|ran| ran.join().unwrap())
    });
    assert!(adopted.iter().any(|ran| ran.status.success()), "{:?}", adopted.map(|ran| said(&ran)));
    wait_for("the same record", || three.copy(1, &loom).0 == three.copy(2, &loom).0);
    let owners = [1, 2].map(|node| {
        let ran = three.on(node, &["loom", "show", &of]);
        text(&ran.stdout)
    });
    assert_eq!(owners[0], owners[1]);
    for node in [1, 2] {
        let verified = three.on(node, &["loom", "verify"]);
        assert!(verified.status.success() && said(&verified).contains("clean"), "{}", said(&verified));
    }
}
