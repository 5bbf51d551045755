//! Looms of strangers: what somebody without a right in a loom may do with it, which is to read it, to keep it, and to go on with a
//! thread of it in a loom of one's own.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may stop, and runs the binary")]

mod node_support;
#[path = "strangers/threads.rs"]
mod threads;

use std::path::PathBuf;
use std::process::Output;

use node_support::{COUNTING, binary, text};
use serde_json::{Value, json};

/// Several records on one machine: `data` is the stranger's.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(world.at("note.txt"), "the note").unwrap();
        world.script("turns.jsonl", &COUNTING);
        world.cantrip("cantrip.toml", "");
        world.lend("data");
        world.lend("own");
        world
    }

    fn cantrip(&self, name: &str, wards: &str) {
        let cantrip = format!(
            "snapshot = 1\n[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[identity]\nsystem_prompt = \"Count.\"\n\
             [circle]\nmedium = \"javascript\"\ngates = [\"read_file\", \"echo\", \"done\"]\n[circle.wards]\n\
             max_turns = 10\n{wards}\n[gate.read_file]\nroot = \".\"\n"
        );
        std::fs::write(self.at(name), cantrip).unwrap();
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

    fn json_on(&self, data: &str, arguments: &[&str]) -> Value {
        let out = self.on(data, &[arguments, &["--json"]].concat());
        serde_json::from_slice(&out.stdout).map_err(|_| text(&out.stderr)).unwrap()
    }

    /// Hands a loom from one record to another.
    fn hand(&self, from: &str, loom: &str, to: &str) -> Value {
        let exported = self.on(from, &["loom", "export", loom, "--format", "car", "--raw", "-o", "handed.car"]);
        assert!(exported.status.success(), "{}", text(&exported.stderr));
        self.json_on(to, &["loom", "import", "handed.car"])
    }

    /// A loom of the stranger's that is imported: its id, its cast's answer, and its turns.
    fn strange(&self) -> (String, Value, Vec<String>) {
        let cast = self.json_on("data", &["cast", "cantrip.toml", "count", "-q"]);
        let loom = cast.get("loom").unwrap().as_str().unwrap().to_owned();
        self.hand("data", &loom, "own");
        let turns = self.turns("own", &loom);
        (loom, cast, turns)
    }

    /// The entries that the turns of a loom begin with.
    fn turns(&self, data: &str, loom: &str) -> Vec<String> {
        let turns = self.json_on(data, &["loom", "show", loom]);
        turns.as_array().unwrap().iter().map(|turn| turn["id"].as_str().unwrap().to_owned()).collect()
    }

    /// A fork into a loom of one's own: what the command says, and that loom.
    fn fork(&self, data: &str, turn: &str, more: &[&str]) -> (Value, String) {
        let fork =
            [&["loom", "fork", turn, "--cantrip", "cantrip.toml", "--model", "scripted/other.jsonl"], more].concat();
        let forked = self.json_on(data, &fork);
        let loom = forked.get("loom").unwrap().as_str().unwrap().to_owned();
        (forked, loom)
    }

    fn entries(&self, data: &str, loom: &str) -> Vec<Value> {
        let exported = text(&self.on(data, &["loom", "export", loom]).stdout);
        exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn is_clean(&self, data: &str) {
        let verified = self.on(data, &["loom", "verify"]);
        assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
    }
}

fn opened(entries: &[Value]) -> Vec<&Value> {
    entries.iter().filter(|entry| entry["kind"] == "opened").collect()
}

#[test]
fn a_fork_without_the_right_to_write_goes_on_in_a_loom_of_ones_own_with_what_the_strangers_thread_had() {
    let world = World::new();
    let (strange, cast, turns) = world.strange();
    let before = world.entries("own", &strange).len();
    world.script("other.jsonl", &["done({ n, seen: typeof note })"]);
    let (forked, own) = world.fork("own", &turns[1], &["--intent", "what is n?", "-n", "3"]);
    assert_ne!(own, strange);
    assert_eq!((&forked["from"], &forked["turns"]), (&json!(strange), &json!(2)));
    let forks = forked["forks"].as_array().unwrap();
    assert_eq!(forks.len(), 3);
    for fork in forks {
        // The stranger's random number is the one of that turn, and its code has run again: its memory is not believed.
        assert_eq!(fork["result"], json!({"n": cast["result"]["n"], "seen": "string"}), "{fork}");
        assert_eq!(fork["strategy"], "replay");
    }
    // This node has founded the loom, and nothing was written into the stranger's.
    let members = world.json_on("own", &["loom", "members", &own]);
    assert_eq!(members["founder"], members["this_node"]["is"]);
    assert_eq!(world.entries("own", &strange).len(), before);
    world.is_clean("own");
    // It is said where the thread comes from.
    let shown = text(&world.on("own", &["loom", "show", &own]).stdout);
    let founder = world.json_on("own", &["loom", "members", &strange])["founder"]["key"].as_str().unwrap().to_owned();
    for said in [&format!("of loom {strange}"), &format!("a loom that {founder} founded"), "counts as untrusted"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let listed = world.json_on("own", &["loom", "show", &own]);
    let listed = listed.as_array().unwrap();
    let foreign: Vec<&Value> = listed.iter().filter(|turn| turn["loom"] == json!(strange)).collect();
    assert_eq!((foreign.len(), listed.len()), (2, 5), "the thread that three forks continue is shown once");
    assert_eq!(foreign[0]["id"], json!(turns[0]));
    let last = listed.last().unwrap();
    assert_eq!(last["continues"]["loom"], json!(strange));
    assert_eq!(last["continues"]["founder"], json!({ "key": founder }));
    assert_eq!(last["continues"]["writers"][0]["key"], json!(founder));
}

#[test]
fn a_strangers_thread_is_gone_on_with_and_forked_further_in_ones_own_loom() {
    let world = World::new();
    let (_, cast, turns) = world.strange();
    let n = cast["result"]["n"].as_u64().unwrap();
    world.script("other.jsonl", &["n += 1; n", "done(n)"]);
    let (forked, own) = world.fork("own", &turns[1], &[]);
    assert_eq!(forked["forks"][0]["result"], json!(n + 1));
    world.script("turns.jsonl", &["done(n + 10)"]);
    let resumed = world.json_on("own", &["cast", "cantrip.toml", "go on", "--resume", &own, "-q"]);
    assert_eq!((&resumed["loom"], &resumed["result"]), (&json!(own), &json!(n + 11)));
    // Its thread has the stranger's turns, and can be forked at its own and run again.
    let thread = world.json_on("own", &["loom", "thread", &own]);
    assert_eq!(thread.as_array().unwrap().len(), 5);
    let first = thread[2]["id"].as_str().unwrap();
    world.script("other.jsonl", &["done(n + 100)"]);
    let (again, same) = world.fork("own", first, &[]);
    assert_eq!((&same, &again["from"], &again["forks"][0]["result"]), (&own, &Value::Null, &json!(n + 101)));
    let replayed = world.json_on("own", &["loom", "replay", &own, "--record"]);
    assert_eq!((&replayed["same"], &replayed["turns"]), (&json!(true), &json!(5)));
    assert!(world.on("own", &["loom", "reward", &own, first, "1"]).status.success());
    world.is_clean("own");
}

#[test]
fn a_fork_of_a_strangers_thread_begins_as_untrusted_and_with_what_that_thread_had_met() {
    let world = World::new();
    let (_, _, turns) = world.strange();
    world.script("other.jsonl", &["done(1)"]);
    for (turn, private) in [(0, true), (3, true)] {
        let (_, own) = world.fork("own", &turns[turn], &[]);
        let entries = world.entries("own", &own);
        let exposure = json!({ "private": private, "untrusted": true, "outbound": false });
        assert_eq!(opened(&entries)[0]["standing"]["exposure"], exposure, "{}", opened(&entries)[0]);
    }
    // Before its first turn it had met nothing.
    let first = world.entries("data", world.strange().0.as_str());
    let (_, own) = world.fork("own", opened(&first)[0]["id"].as_str().unwrap(), &[]);
    let entries = world.entries("own", &own);
    let exposure = json!({ "private": false, "untrusted": true, "outbound": false });
    assert_eq!(opened(&entries)[0]["standing"]["exposure"], exposure);
}

#[test]
fn whatever_writes_into_a_strangers_loom_is_refused_and_says_what_can_be_done() {
    let world = World::new();
    let (strange, _, turns) = world.strange();
    let before = world.entries("own", &strange);
    let entity = before.iter().find_map(|entry| entry["entity"].as_str()).unwrap().to_owned();
    for arguments in [
        vec!["loom", "reward", &strange, &turns[0], "1"],
        vec!["loom", "replay", &entity, "--record"],
        vec!["loom", "adopt", &entity],
        vec!["cast", "cantrip.toml", "again", "--loom", &strange],
        vec!["cast", "cantrip.toml", "go on", "--resume", &strange],
        vec!["summon", "cantrip.toml", "--resume", &strange],
    ] {
        let refused = world.on("own", &arguments);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("loom admit") && said.contains("loom fork"), "{arguments:?}: {said}");
    }
    assert_eq!(world.entries("own", &strange), before);
}

#[test]
fn a_fork_of_a_strangers_thread_that_has_read_something_private_sends_nothing_out() {
    let world = World::new();
    let (_, _, turns) = world.strange();
    let cantrip = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[circle]\nmedium = \"javascript\"\n\
                   gates = [\"read_file\", \"http_fetch\", \"echo\", \"done\"]\n[circle.wards]\nmax_turns = 10\n\
                   no_trifecta = true\n[gate.read_file]\nroot = \".\"\n[gate.http_fetch]\nhosts = [\"example.org\"]\n";
    std::fs::write(world.at("sending.toml"), cantrip).unwrap();
    let code = "let said; try { read_file('note.txt'); said = http_fetch({ url: 'https://example.org/' }) } catch (error) { said = String(error) } done(said)";
    world.script("other.jsonl", &[code]);
    let trusted = world.on("own", &["trust", "sending.toml"]);
    assert!(trusted.status.success(), "{}", text(&trusted.stderr));
    let fork = ["loom", "fork", &turns[0], "--cantrip", "sending.toml", "--model", "scripted/other.jsonl"];
    let forked = world.json_on("own", &fork);
    let said = forked["forks"][0]["result"].as_str().unwrap().to_owned();
    assert!(said.contains("no_trifecta"), "{said}");
}
