//! A node whose folder was put back to an older state, as a person sees it: files with their inodes, as a restored disk image has them.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a test may stop, and runs the binary"
)]

mod node_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Output};

use node_support::{Served, binary, files, lend, port, put_back, script, text, wait_for};
use serde_json::Value;

/// Two nodes, of which the second keeps what the first writes.
struct Two {
    folder: tempfile::TempDir,
}

impl Two {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let whole = |name: &str| format!("{name}@127.0.0.1:{}", port());
        let two = Self { folder };
        let made = two.run(&["cluster", "init", "net", "--node", &whole("a"), "--node", &whole("b")]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        for name in ["a", "b"] {
            lend(&two.data(name));
        }
        std::fs::write(two.at("turns.jsonl"), script(&["var x = 1; x", "x += 1", "done(x)"])).unwrap();
        let cantrip = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\nat = \"caller\"\n[circle]\nmedium = \
                       \"javascript\"\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 5\n";
        std::fs::write(two.at("cantrip.toml"), cantrip).unwrap();
        two
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn data(&self, node: &str) -> PathBuf {
        self.at(&format!("net/{node}/data"))
    }

    fn command(&self) -> Command {
        binary(self.folder.path())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    fn on(&self, node: &str, arguments: &[&str]) -> Output {
        let data = self.data(node).display().to_string();
        self.run(&[&["--data", &data], arguments].concat())
    }

    fn serve(&self, node: &str) -> Served {
        let mut command = self.command();
        command.args(["serve", "--config", &format!("net/{node}/node.toml")]);
        Served::start(command)
    }

    /// An entity on the first node, in a new loom or in this one: its id and the loom's.
    fn cast(&self, loom: Option<&str>) -> (String, String) {
        let mut arguments = vec!["cast", "cantrip.toml", "go", "--node", "a", "--json", "-q"];
        arguments.extend(loom.map(|loom| ["--loom", loom]).into_iter().flatten());
        let ran = self.run(&arguments);
        assert!(ran.status.success(), "{}", text(&ran.stderr));
        let printed: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let named = |key: &str| printed[key].as_str().unwrap().to_owned();
        (named("entity"), named("loom"))
    }

    /// Each entry of a copy by its id.
    fn copy(&self, node: &str, loom: &str) -> BTreeMap<String, Value> {
        let exported = self.on(node, &["loom", "export", loom]);
        let lines = text(&exported.stdout);
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (line["id"].as_str().unwrap().to_owned(), line)).collect()
    }

    fn wait_until_both_have_the_same(&self, loom: &str) {
        wait_for("both nodes have the same", || self.copy("a", loom).keys().eq(self.copy("b", loom).keys()));
    }

    fn is_whole(&self, loom: &str) {
        for node in ["a", "b"] {
            let verified = self.on(node, &["loom", "verify", loom]);
            assert!(verified.status.success(), "{node}: {}{}", text(&verified.stdout), text(&verified.stderr));
        }
    }
}

/// A loom with one entity before its folder was saved and one behind that, which both are kept by `b`; then `a`'s folder is put back.
fn put_back_behind_one() -> (Two, String, String, String) {
    let two = Two::new();
    let b = two.serve("b");
    let (first, loom, before, second) = {
        let a = two.serve("a");
        let (first, loom) = two.cast(None);
        let shared = two.on("a", &["loom", "replicate", &loom, "--to", "b"]);
        assert!(shared.status.success(), "{}", text(&shared.stderr));
        a.kill();
        let before = files(&two.data("a"));
        let a = two.serve("a");
        let (second, _) = two.cast(Some(&loom));
        two.wait_until_both_have_the_same(&loom);
        a.kill();
        (first, loom, before, second)
    };
    b.kill();
    put_back(&two.data("a"), &before);
    (two, loom, first, second)
}

fn entities(copy: &BTreeMap<String, Value>) -> BTreeSet<String> {
    copy.values().filter_map(|entry| entry["entity"].as_str()).map(str::to_owned).collect()
}

#[test]
fn what_others_have_of_a_node_is_back_before_it_goes_on() {
    let (two, loom, first, second) = put_back_behind_one();
    assert!(!entities(&two.copy("a", &loom)).contains(&second), "the folder is older");
    let (_b, _a) = (two.serve("b"), two.serve("a"));
    let (third, _) = two.cast(Some(&loom));
    two.wait_until_both_have_the_same(&loom);
    let all = entities(&two.copy("a", &loom));
    assert_eq!(all, BTreeSet::from([first, second, third]));
    two.is_whole(&loom);
}

#[test]
fn what_a_node_wrote_alone_goes_on_beside_what_others_have_of_it() {
    let (two, loom, first, second) = put_back_behind_one();
    let _a = two.serve("a");
    let (alone, _) = two.cast(Some(&loom));
    let written: Vec<Value> =
        two.copy("a", &loom).into_values().filter(|entry| entry["entity"] == alone.as_str()).collect();
    assert!(written.len() > 5, "{written:?}");
    let _b = two.serve("b");
    let has_come = || entities(&two.copy("a", &loom)).contains(&second);
    wait_for("what the keeper has is back", has_come);
    let (third, _) = two.cast(Some(&loom));
    two.wait_until_both_have_the_same(&loom);
    let copy = two.copy("a", &loom);
    let all = entities(&copy);
    assert!(
        [&first, &second, &third].into_iter().all(|entity| all.contains(entity)) && !all.contains(&alone),
        "{all:?}"
    );
    let anew: BTreeSet<&str> = copy.values().filter_map(|entry| entry["was"].as_str()).collect();
    for entry in &written {
        assert!(anew.contains(entry["id"].as_str().unwrap()), "not written anew: {entry}");
    }
    two.is_whole(&loom);
    let shown = two.on("a", &["loom", "show", &loom]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
}

#[test]
fn an_entity_that_went_on_alone_goes_on_as_a_fork_of_its_thread() {
    let (two, loom, first, second) = put_back_behind_one();
    let before: BTreeSet<String> = two.copy("a", &loom).into_keys().collect();
    let resumed = two.on("a", &["cast", "cantrip.toml", "go on alone", "--resume", &loom, "--json", "-q"]);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    let alone: Vec<Value> =
        two.copy("a", &loom).into_values().filter(|it| !before.contains(it["id"].as_str().unwrap())).collect();
    assert!(alone.len() > 5 && alone.iter().all(|entry| entry["entity"] == first.as_str()), "{alone:?}");
    let (_a, _b) = (two.serve("a"), two.serve("b"));
    wait_for("what the keeper has is back", || entities(&two.copy("a", &loom)).contains(&second));
    let (third, _) = two.cast(Some(&loom));
    two.wait_until_both_have_the_same(&loom);
    let copy = two.copy("a", &loom);
    let of = |entry: &Value| entry["entity"].as_str().map(str::to_owned);
    let known = BTreeSet::from([first.clone(), second, third]);
    let forks: BTreeSet<String> = entities(&copy).difference(&known).cloned().collect();
    assert_eq!(forks.len(), 1, "{forks:?}");
    let anew: BTreeMap<&str, &Value> = copy.values().filter_map(|it| Some((it["was"].as_str()?, it))).collect();
    for entry in &alone {
        let anew = anew.get(entry["id"].as_str().unwrap());
        let is_there = anew.is_some_and(|anew| of(anew).is_some_and(|of| forks.contains(&of)));
        assert!(is_there, "not written anew: {entry}");
    }
    let shown = text(&two.on("b", &["loom", "show", &loom]).stdout);
    assert!(shown.contains("go on alone"), "{shown}");
    two.is_whole(&loom);
}
