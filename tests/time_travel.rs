//! What was, run again; what might have been; and looms that travel as files: as a person has them.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop, and runs the binary"
)]

mod node_support;

use std::path::{Path, PathBuf};
use std::process::Output;

use node_support::{COUNTING, binary, text};
use serde_json::{Value, json};

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(world.at("note.txt"), "the note, sk-ant-REDACTED0123456789012345678901234567890123").unwrap();
        world.script("turns.jsonl", &COUNTING);
        let cantrip = "snapshot = 1\n[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[identity]\nsystem_prompt = \"Count.\"\n\
                       [circle]\nmedium = \"javascript\"\ngates = [\"read_file\", \"echo\", \"done\"]\n[circle.wards]\n\
                       max_turns = 10\n[gate.read_file]\nroot = \".\"\n";
        std::fs::write(world.at("cantrip.toml"), cantrip).unwrap();
        world.lend("data");
        world
    }

    fn lend(&self, data: &str) {
        node_support::lend(&self.at(data));
    }

    fn script(&self, name: &str, codes: &[&str]) {
        std::fs::write(self.at(name), node_support::script(codes)).unwrap();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn on(&self, data: &str, arguments: &[&str]) -> Output {
        binary(self.folder.path()).env("CANTRIP_DATA", self.at(data)).args(arguments).output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.on("data", arguments)
    }

    /// Admits the node with another record to a loom of the first, and brings it word of that.
    fn admit(&self, data: &str, loom: &str, rights: &str) {
        let members = self.on(data, &["loom", "members", loom, "--json"]);
        let members: Value = serde_json::from_slice(&members.stdout).map_err(|_| text(&members.stderr)).unwrap();
        let key = members.pointer("/this_node/key").unwrap().as_str().unwrap();
        let admitted = self.run(&["loom", "admit", loom, key, "--may", rights]);
        assert!(admitted.status.success(), "{}", text(&admitted.stderr));
        assert!(self.run(&["loom", "export", loom, "--format", "car", "--raw", "-o", "admitted.car"]).status.success());
        let imported = self.on(data, &["loom", "import", "admitted.car"]);
        assert!(imported.status.success(), "{}", text(&imported.stderr));
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let out = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&out.stdout).map_err(|_| text(&out.stderr)).unwrap()
    }

    fn cast(&self) -> Value {
        self.json(&["cast", "cantrip.toml", "count", "-q"])
    }

    /// The entries that the turns of a loom's root begin with.
    fn turns(&self, loom: &str) -> Vec<String> {
        let turns = self.json(&["loom", "show", loom]);
        turns.as_array().unwrap().iter().map(|turn| turn["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn loom_of(cast: &Value) -> &str {
    cast["loom"].as_str().unwrap()
}

#[test]
fn a_fork_from_a_turn_has_its_variables_and_may_be_asked_otherwise() {
    let world = World::new();
    let cast = world.cast();
    let turns = world.turns(loom_of(&cast));
    world.script("other.jsonl", &["done({ n, seen: typeof note })"]);
    let turn = turns.get(1).unwrap();
    let forked = world.json(&[
        "loom",
        "fork",
        turn,
        "--intent",
        "what is n?",
        "--model",
        "scripted/other.jsonl",
        "--set",
        "circle.wards.max_turns=3",
        "-n",
        "3",
    ]);
    let forks = forked["forks"].as_array().unwrap();
    assert_eq!((forks.len(), &forked["turns"]), (3, &json!(2)));
    for fork in forks {
        // The random number is the one of that turn, from its image or by running it again.
        assert_eq!(fork["result"], json!({"n": cast["result"]["n"], "seen": "string"}), "{fork}");
        assert_eq!(fork["strategy"], "snapshot");
    }
    let exported = text(&world.run(&["loom", "export", loom_of(&cast)]).stdout);
    let opened: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|entry| entry["kind"] == "opened")
        .collect();
    assert_eq!(opened.len(), 4);
    assert!(opened.iter().skip(1).all(|opened| opened["wards"]["max_turns"] == 3 && opened["fork"]["turns"] == 2));
    // Without another model it does what it did.
    let again = world.json(&["loom", "fork", turns.first().unwrap()]);
    assert_eq!(again["forks"][0]["how"], "terminated", "{again}");
    let wrong = world.run(&["loom", "fork", turn, "--set", "circle.wards.max_turnips=3"]);
    assert!(text(&wrong.stderr).contains("max_turnips"), "{}", text(&wrong.stderr));
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_replay_is_the_same_here_and_on_another_node_and_a_changed_observation_is_found() {
    let world = World::new();
    let cast = world.cast();
    let loom = loom_of(&cast);
    // The note is gone: no gate is called for what is recorded.
    std::fs::remove_file(world.at("note.txt")).unwrap();
    let replayed = world.json(&["loom", "replay", loom]);
    assert_eq!(replayed["same"], true, "{replayed}");
    assert_eq!(
        (&replayed["turns"], &replayed["evaluations"], &replayed["gate_calls"]),
        (&json!(4), &json!(4), &json!(3))
    );
    let archived = world.run(&["loom", "export", loom, "--format", "car", "--raw", "-o", "loom.car"]);
    assert!(archived.status.success(), "{}", text(&archived.stderr));
    world.lend("other");
    let imported = world.on("other", &["loom", "import", "loom.car"]);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    // Whoever is no member runs it again and records nothing of it there.
    let refused = world.on("other", &["loom", "replay", loom, "--record", "--json"]);
    let said = text(&refused.stderr);
    assert!(
        refused.status.code() == Some(2) && said.contains("may not write into") && said.contains("loom fork"),
        "{said}"
    );
    world.admit("other", loom, "write");
    let there = world.on("other", &["loom", "replay", loom, "--record", "--json"]);
    let there: Value = serde_json::from_slice(&there.stdout).map_err(|_| text(&there.stderr)).unwrap();
    assert_eq!((&there["same"], &there["head"]), (&json!(true), &replayed["head"]));
    let verified = world.on("other", &["loom", "verify"]);
    assert!(verified.status.success(), "{}", text(&verified.stdout));
    // The statement is an entry beside the thread, by the node that ran it.
    let exported = text(&world.on("other", &["loom", "export", loom]).stdout);
    let statement: Value =
        serde_json::from_str(exported.lines().find(|line| line.contains("\"replayed\"")).unwrap()).unwrap();
    assert_eq!((&statement["difference"], &statement["id"]), (&Value::Null, &there["statement"]));
    assert_eq!(statement["parent"], replayed["head"]);
    // What another interpreter would do is another matter: the gates' results are what they were, the code is not.
    world.script("turns.jsonl", &["var n = 1; n", "n += 1; n", "echo('other'); n", "done(n)"]);
    let differs = world.json(&["cast", "cantrip.toml", "count", "-q"]);
    let diff = world.run(&["loom", "diff", loom, loom_of(&differs)]);
    assert_eq!(diff.status.code(), Some(1));
    let said = text(&diff.stdout);
    assert!(said.contains("0 turns are the same") && said.contains("echo('other')"), "{said}");
    let same = world.run(&["loom", "diff", loom, loom]);
    assert!(same.status.success() && text(&same.stdout).contains("4 turns are the same"));
}

#[test]
fn an_archive_is_whole_and_verified_and_a_damaged_one_is_refused_by_name() {
    let world = World::new();
    let cast = world.cast();
    let loom = loom_of(&cast);
    let refused = world.run(&["loom", "export", loom, "--format", "car", "-o", "loom.car"]);
    assert!(text(&refused.stderr).contains("--raw"), "{}", text(&refused.stderr));
    let raw = world.run(&["loom", "export", loom, "--format", "car", "--raw", "-o", "loom.car"]);
    assert!(text(&raw.stderr).contains("secrets are left in"), "{}", text(&raw.stderr));
    let bytes = std::fs::read(world.at("loom.car")).unwrap();
    let import = |name: &str, bytes: &[u8]| {
        std::fs::write(world.at("changed.car"), bytes).unwrap();
        world.on(name, &["loom", "import", "changed.car"])
    };
    let ids = |data: &str| -> Vec<String> {
        let out = text(&world.on(data, &["loom", "export", loom]).stdout);
        out.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = import("fresh", &bytes);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert_eq!(ids("fresh"), ids("data"));
    let again = world.on("fresh", &["loom", "import", "changed.car", "--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["new"], 0, "{again}");
    for at in (200..bytes.len()).step_by(bytes.len() / 40) {
        let mut flipped = bytes.clone();
        *flipped.get_mut(at).unwrap() ^= 1;
        let out = import("damaged", &flipped);
        assert_eq!(out.status.code(), Some(4), "byte {at}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains("archive"), "{}", text(&out.stderr));
    }
    for length in (0..bytes.len()).step_by(bytes.len() / 20) {
        let out = import("damaged", bytes.get(..length).unwrap());
        assert_eq!(out.status.code(), Some(4), "cut at {length}: {}", text(&out.stderr));
    }
    let verified = world.on("damaged", &["loom", "verify"]);
    assert!(verified.status.success(), "{}", text(&verified.stdout));
}

#[test]
fn exports_leave_secrets_out_and_a_table_has_what_training_needs() {
    let world = World::new();
    let cast = world.cast();
    let loom = loom_of(&cast);
    let secret = "sk-ant-REDACTED";
    let redacted = text(&world.run(&["loom", "export", loom]).stdout);
    assert!(!redacted.contains(secret) && redacted.lines().count() > 10);
    let raw = world.run(&["loom", "export", loom, "--raw"]);
    assert!(text(&raw.stdout).contains(secret) && text(&raw.stderr).contains("secrets are left in"));
    let turn = world.turns(loom).pop().unwrap();
    assert!(world.run(&["loom", "reward", loom, &turn, "1.0"]).status.success());
    let second = world.cast();
    let turn = world.turns(loom_of(&second)).pop().unwrap();
    assert!(world.run(&["loom", "reward", loom_of(&second), &turn, "0"]).status.success());
    let out = world.run(&["loom", "export", "--all", "--format", "parquet", "-o", "threads.parquet"]);
    assert!(out.status.success() && text(&out.stderr).contains("2 threads of 2 looms"), "{}", text(&out.stderr));
    let rows = rows(&world.at("threads.parquet"));
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!((&row["intent"], &row["terminated"], &row["attempts"]), (&json!("count"), &json!(true), &json!(2)));
        assert_eq!((&row["successes"], &row["turn_count"]), (&json!(1), &json!(4)));
        // One of two succeeds: pass@1 = 0.5, pass@2 = 1, pass^2 = 0; of two there are no four.
        assert_eq!((&row["pass_at_1"], &row["pass_at_2"]), (&json!(0.5), &json!(1.0)));
        assert_eq!((&row["pass_hat_2"], &row["pass_at_4"]), (&json!(0.0), &Value::Null));
        assert!(row["prompt"].as_str().unwrap().contains("Count.") && !row["turns"].as_str().unwrap().contains(secret));
    }
    let mut rewards: Vec<f64> = rows.iter().map(|row| row["reward"].as_f64().unwrap()).collect();
    rewards.sort_by(f64::total_cmp);
    assert_eq!(rewards, [0.0, 1.0]);
}

/// The rows of a table, as a reader that is not ours reads them.
fn rows(path: &Path) -> Vec<Value> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let value = |field: &Field| match field {
        Field::Str(text) => json!(text),
        Field::Long(number) => json!(number),
        Field::Double(number) => json!(number),
        Field::Bool(truth) => json!(truth),
        _ => Value::Null,
    };
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| row.unwrap().get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()).collect()
}

#[test]
fn an_adopted_entity_goes_on_here_and_its_former_owner_writes_no_more_of_it() {
    let world = World::new();
    let cast = world.cast();
    let loom = loom_of(&cast);
    assert!(world.run(&["loom", "export", loom, "--format", "car", "--raw", "-o", "loom.car"]).status.success());
    world.lend("other");
    assert!(world.on("other", &["loom", "import", "loom.car"]).status.success());
    let refused = world.on("other", &["loom", "adopt", loom]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("--may adopt"), "{said}");
    world.admit("other", loom, "write,adopt");
    let adopted = world.on("other", &["loom", "adopt", loom]);
    assert!(adopted.status.success(), "{}", text(&adopted.stderr));
    let twice = world.on("other", &["loom", "adopt", loom]);
    assert!(text(&twice.stderr).contains("this node's own"), "{}", text(&twice.stderr));
    world.script("turns.jsonl", &["done(n + 1)"]);
    let on = world.on("other", &["cast", "cantrip.toml", "go on", "--resume", loom, "--json", "-q"]);
    let on: Value = serde_json::from_slice(&on.stdout).map_err(|_| text(&on.stderr)).unwrap();
    assert_eq!(on["result"], json!(cast["result"]["n"].as_u64().unwrap() + 1));
    // The former owner goes on too, because it does not know; then it hears of it.
    let late = world.run(&["cast", "cantrip.toml", "too late", "--resume", loom, "--json", "-q"]);
    assert!(late.status.success());
    assert!(
        world.on("other", &["loom", "export", loom, "--format", "car", "--raw", "-o", "back.car"]).status.success()
    );
    assert!(world.run(&["loom", "import", "back.car"]).status.success());
    assert!(world.run(&["loom", "export", loom, "--format", "car", "--raw", "-o", "forth.car"]).status.success());
    assert!(world.on("other", &["loom", "import", "forth.car"]).status.success());
    let refused = world.run(&["cast", "cantrip.toml", "again", "--resume", loom]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("belongs to another node"), "{said}");
    assert!(said.contains("loom adopt"), "{said}");
    // Both have the same thread: the adopted one, without what came too late.
    let thread = |data: &str| text(&world.on(data, &["loom", "thread", loom, "--json"]).stdout);
    assert_eq!(thread("data"), thread("other"));
    let exported = text(&world.run(&["loom", "export", loom]).stdout);
    assert!(exported.contains("too late") && thread("data").contains("n + 1"));
    for data in ["data", "other"] {
        let verified = world.on(data, &["loom", "verify"]);
        assert!(verified.status.success(), "{}", text(&verified.stdout));
    }
}

#[test]
fn a_member_is_admitted_expelled_and_admitted_again_and_what_it_wrote_meanwhile_decides_nothing() {
    let world = World::new();
    let cast = world.cast();
    let loom = loom_of(&cast);
    world.lend("other");
    assert!(world.run(&["loom", "export", loom, "--format", "car", "--raw", "-o", "loom.car"]).status.success());
    assert!(world.on("other", &["loom", "import", "loom.car"]).status.success());
    let members = |data: &str| -> Value {
        let out = world.on(data, &["loom", "members", loom, "--json"]);
        serde_json::from_slice(&out.stdout).map_err(|_| text(&out.stderr)).unwrap()
    };
    let key = members("other")["this_node"]["key"].as_str().unwrap().to_owned();
    assert_eq!(members("other")["this_node"]["is"], Value::Null);
    assert_eq!(members("data")["founder"], members("data")["this_node"]["is"]);
    world.admit("other", loom, "write,adopt");
    assert_eq!(members("other")["this_node"]["is"], json!({ "key": key }));
    assert_eq!(members("data")["members"][0]["rights"], json!(["write", "adopt"]));
    // Already so: nothing is written.
    let again = world.json(&["loom", "admit", loom, &key]);
    assert_eq!((&again["changed"], &again["entry"]), (&json!(false), &Value::Null));
    // Whoever may not admit admits nobody.
    let refused = world.on("other", &["loom", "admit", loom, &"7".repeat(64)]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("may not admit members to"), "{said}");
    let expelled = world.json(&["loom", "expel", loom, &key]);
    assert_eq!(expelled["changed"], true);
    assert_eq!(
        (&members("data")["members"], &members("data")["expelled"][0]["target"]),
        (&json!([]), &json!({ "key": key }))
    );
    assert_eq!(world.json(&["loom", "expel", loom, &key])["changed"], false);
    // It has not heard of it, and judges a turn: that decides nothing where both are known.
    let turn = world.turns(loom).first().unwrap().clone();
    assert!(world.on("other", &["loom", "reward", loom, &turn, "1"]).status.success());
    assert!(
        world.on("other", &["loom", "export", loom, "--format", "car", "--raw", "-o", "late.car"]).status.success()
    );
    let imported = world.run(&["loom", "import", "late.car"]);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    assert_eq!(members("data")["decides_nothing"], json!([{ "why": "of expelled writers", "entries": 1 }]));
    assert_eq!(world.json(&["loom", "show", loom])[0]["reward"], Value::Null);
    let verified = world.run(&["loom", "verify"]);
    assert!(verified.status.success(), "{}", text(&verified.stdout));
    // Admitted again, it is heard again, and what it said in between is not.
    world.admit("other", loom, "write");
    assert!(world.on("other", &["loom", "reward", loom, &turn, "0.5"]).status.success());
    assert!(
        world.on("other", &["loom", "export", loom, "--format", "car", "--raw", "-o", "again.car"]).status.success()
    );
    assert!(world.run(&["loom", "import", "again.car"]).status.success());
    assert_eq!(world.json(&["loom", "show", loom])[0]["reward"], 0.5);
}
