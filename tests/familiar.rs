//! The Familiar as a person has it: killed, summoned again, and it knows what it did; its loom is on another node, verified.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may stop, and runs the binary")]

mod node_support;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use node_support::{Served, binary, lend, port, text, wait_for};
use serde_json::{Value, json};

/// A workspace, a client's record, and two nodes.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(world.at("workspace")).unwrap();
        std::fs::write(world.at("workspace/note.txt"), "the note").unwrap();
        lend(&world.at("data"));
        world
    }

    fn with_nodes(self) -> (Self, [Served; 2]) {
        let [a, b] = [port(), port()].map(|port| format!("127.0.0.1:{port}"));
        let nodes = [format!("a@{a}"), format!("b@{b}")];
        let made = self.run(&["cluster", "init", "net", "--node", &nodes[0], "--node", &nodes[1]]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let serve = |name: &str| {
            let data = self.at(&format!("net/{name}/data"));
            lend(&data);
            let mut command = self.command();
            command.args(["serve", "--config", &format!("net/{name}/node.toml")]);
            Served::start(command)
        };
        let served = [serve("a"), serve("b")];
        (self, served)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn command(&self) -> Command {
        let mut command = binary(self.folder.path());
        command.env("CANTRIP_DATA", self.at("data"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// The Familiar with a model that says these codes.
    fn familiar(&self, codes: &[&str], more: &[&str]) -> Command {
        let script: Vec<String> = codes.iter().map(|code| json!({ "code": code }).to_string()).collect();
        let mut file = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        file.write_all(script.join("\n").as_bytes()).unwrap();
        let (_, path) = file.keep().unwrap();
        let mut command = self.command();
        command.args(["familiar", "--root", "workspace", "--llm", &format!("scripted/{}", path.display())]);
        command.args(more);
        command
    }

    fn answer(&self, codes: &[&str], more: &[&str]) -> Value {
        let out = self.familiar(codes, more).args(["--json", "-q"]).output().unwrap();
        serde_json::from_slice(&out.stdout).map_err(|_| text(&out.stderr)).unwrap()
    }
}

#[test]
fn killed_and_summoned_again_it_knows_what_it_did_and_its_loom_is_on_the_second_node() {
    let (world, [_a, _b]) = World::new().with_nodes();
    let child = "call_entity({intent: 'say seven', node: 'b', llm: {at: 'caller'}, medium: 'javascript', gates: []})";
    let codes = [
        format!("var note = read_file('note.txt'); var found = {child}; found"),
        "done('seven')".to_owned(),
        "var after = 1; while (true) {}".to_owned(),
    ];
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    let mut first = world.familiar(&codes, &["look around", "--replicate", "b", "-q"]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let entries = |data: &str| -> Vec<Value> {
        let out = world.run(&["--data", data, "loom", "export"]);
        text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // It is in its endless turn.
    wait_for("the second turn", || {
        let spoken = |entry: &&Value| entry["kind"] == "utterance" && entry.to_string().contains("while (true)");
        entries("data").iter().any(|entry| spoken(&entry))
    });
    first.kill().unwrap();
    first.wait().unwrap();
    let known = world.answer(&["done({found, note, after: typeof after})"], &["what did you find?"]);
    assert_eq!(known["result"], json!({"found": "seven", "note": "the note", "after": "undefined"}));
    // Both nodes wrote into it, and the second has all of it.
    let (here, there) = (entries("data"), entries("net/b/data"));
    let ids = |entries: &[Value]| {
        let mut ids: Vec<String> = entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&here), ids(&there));
    let mut writers: Vec<&str> = here.iter().map(|entry| entry["writer"].as_str().unwrap()).collect();
    writers.sort_unstable();
    writers.dedup();
    assert_eq!(writers.len(), 2, "{here:?}");
    for data in ["data", "net/b/data"] {
        let verified = world.run(&["--data", data, "loom", "verify"]);
        let said = text(&verified.stdout) + &text(&verified.stderr);
        assert!(verified.status.success() && said.contains("clean"), "{said}");
    }
    let loom = here.first().unwrap()["loom"].as_str().unwrap();
    let there = world.run(&["loom", "verify", loom, "--node", "b", "--json"]);
    let there: Value = serde_json::from_slice(&there.stdout).map_err(|_| text(&there.stderr)).unwrap();
    assert_eq!(
        (&there["entries"], &there["lacks_entries"], &there["findings"]),
        (&json!(here.len()), &json!(0), &json!([]))
    );
    let status = world.run(&["loom", "status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["keepers"][0]["node"], "b");
    assert_eq!(status["keepers"][0]["lag_entries"], 0);
    assert!(status["writers"].as_array().unwrap().iter().all(|writer| writer["signed"] == writer["entries"]));
}

#[test]
fn a_turn_that_needs_a_copy_stops_when_there_is_none_and_goes_on_when_there_is() {
    let (world, [_a, b]) = World::new().with_nodes();
    let first = world.answer(&["done(1)"], &["go", "--replicate", "b", "--acks", "1", "--acks-wait-ms", "4000"]);
    assert_eq!(first["result"], 1);
    b.kill();
    let alone = world.familiar(&["done(2)"], &["go on", "-q"]).output().unwrap();
    let said = text(&alone.stderr);
    // It cannot know whether it has all that it has signed: nothing is written.
    assert_eq!(alone.status.code(), Some(5), "{said}");
    assert!(said.contains("0 of its 1 keepers said") && said.contains("b did not answer"), "{said}");
    let mut command = world.command();
    command.args(["serve", "--config", "net/b/node.toml"]);
    let _b = Served::start(command);
    let again = world.answer(&["done(3)"], &["and now?"]);
    assert_eq!(again["result"], 3);
}

#[test]
fn without_a_model_it_says_how_to_name_one() {
    let world = World::new();
    let out = world.run(&["familiar", "go", "--root", "workspace"]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    for way in ["--llm", "CANTRIP_LLM", "cantrip.toml", "[llm]"] {
        assert!(said.contains(way), "{said}");
    }
    // The workspace's own file is one of the ways, whatever else is in it.
    std::fs::write(world.at("workspace/turns.jsonl"), json!({"code": "done(read_file('note.txt'))"}).to_string())
        .unwrap();
    let file = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[circle]\ngates = []\n";
    std::fs::write(world.at("workspace/cantrip.toml"), file).unwrap();
    let out = world.run(&["familiar", "go", "--root", "workspace", "-q"]);
    assert_eq!(text(&out.stdout).trim(), "the note", "{}", text(&out.stderr));
}

#[test]
fn it_writes_only_where_it_may_and_its_prompt_says_so() {
    let world = World::new();
    let prompt = |entries: &str| {
        let opened = entries.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let opened: Vec<Value> = opened.filter(|entry| entry["kind"] == "opened").collect();
        opened.last().unwrap()["identity"]["system_prompt"].as_str().unwrap().to_owned()
    };
    let refused = world.answer(&["try { write_file('x.txt', 'x') } catch (e) { done(String(e)) }"], &["write"]);
    assert!(refused["result"].as_str().unwrap().contains("write_file"), "{refused}");
    let said = prompt(&text(&world.run(&["loom", "export"]).stdout));
    assert!(said.contains("you may read them and not change them") && !said.contains("write_file"), "{said}");
    assert!(said.contains("20 turns") && said.contains("120 s") && said.contains("3 levels"), "{said}");
    // With --write it is another circle: the thread is forked, and remembers.
    let written = world.answer(&["var x = 1; write_file('x.txt', 'x'); done(typeof refused)"], &["write", "--write"]);
    assert_eq!(written["how"], "terminated");
    assert_eq!(std::fs::read_to_string(world.at("workspace/x.txt")).unwrap(), "x");
    let said = prompt(&text(&world.run(&["loom", "export"]).stdout));
    assert!(said.contains("you may read and write them") && said.contains("write_file"), "{said}");
    let outside = world.answer(&["try { read_file('../data/loom/node.key') } catch (e) { done(e.kind) }"], &["look"]);
    assert_eq!(outside["result"], "denied", "{outside}");
}

#[test]
fn a_conversation_goes_on_in_the_same_thread_and_can_be_forked() {
    let world = World::new();
    assert_eq!(world.answer(&["var n = 1; n", "n += 10; done(n)"], &["count"])["result"], 11);
    let mut talk = world.familiar(&["done(n)", "done('later')"], &["-q"]);
    let mut talk = talk.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = "/help\n/loom\n/fork 1\nwhat is n?\n/nothing\n/quit\n";
    talk.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let out = talk.wait_with_output().unwrap();
    let (said, printed) = (text(&out.stderr), text(&out.stdout));
    assert!(out.status.success(), "{said}");
    assert!(
        said.contains("after 2 turns") && said.contains("/fork N") && said.contains("there is no /nothing"),
        "{said}"
    );
    assert!(printed.lines().any(|line| line.trim() == "1"), "{printed}{said}");
    // The fork is what tomorrow's summoning goes on with.
    assert_eq!(world.answer(&["done(n + 1)"], &["and now?"])["result"], 2);
}

#[test]
fn a_node_that_was_killed_goes_on_with_what_it_was_running_from_its_record_alone() {
    let (world, [a, _b]) = World::new().with_nodes();
    a.kill();
    let file = world.at("net/a/node.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let model = "[models.default]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n\n[gate.read_file]";
    let config = config
        .replace("[gate.read_file]", model)
        .replace("data = \"data\"", "data = \"data\"\ndefault_model = \"default\"");
    std::fs::write(file, config).unwrap();
    let codes = ["if (typeof n === 'undefined') { var n = 41; n } else { done(n + 1) }", "while (true) {}"];
    let script: Vec<String> = codes.iter().map(|code| json!({ "code": code }).to_string()).collect();
    std::fs::write(world.at("net/a/turns.jsonl"), script.join("\n")).unwrap();
    let cantrip = "[llm]\nprovider = \"host\"\n[circle]\nmedium = \"javascript\"\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 9\n";
    std::fs::write(world.at("there.toml"), cantrip).unwrap();
    let serve = || {
        let mut command = world.command();
        command.args(["serve", "--config", "net/a/node.toml"]);
        Served::start(command)
    };
    let a = serve();
    let mut client = world.command();
    client.args(["cast", "there.toml", "count", "--node", "a", "-q"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = client.spawn().unwrap();
    let exported = || text(&world.run(&["--data", "net/a/data", "loom", "export"]).stdout);
    wait_for("the endless turn", || exported().contains("while (true)"));
    client.kill().unwrap();
    client.wait().unwrap();
    a.kill();
    assert!(!exported().contains("\"kind\":\"ended\""));
    let _a = serve();
    wait_for("the end", || exported().contains("\"kind\":\"ended\""));
    let ended: Value = serde_json::from_str(exported().lines().last().unwrap()).unwrap();
    assert_eq!((&ended["how"], &ended["result"]), (&json!("terminated"), &json!(42)), "{ended}");
}

#[test]
fn a_peer_that_keeps_a_copy_adopts_what_a_dead_node_was_running_and_goes_on_with_it() {
    let (world, [a, b]) = World::new().with_nodes();
    drop((a, b));
    let model = "[models.default]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n\n[gate.read_file]";
    let codes = ["if (typeof n === 'undefined') { var n = 41; n } else { done(n + 1) }", "while (true) {}"];
    let script: Vec<String> = codes.iter().map(|code| json!({ "code": code }).to_string()).collect();
    for name in ["a", "b"] {
        let file = world.at(&format!("net/{name}/node.toml"));
        let config = std::fs::read_to_string(&file).unwrap();
        let config = config
            .replace("[gate.read_file]", model)
            .replace("data = \"data\"", "data = \"data\"\ndefault_model = \"default\"");
        std::fs::write(file, config).unwrap();
        std::fs::write(world.at(&format!("net/{name}/turns.jsonl")), script.join("\n")).unwrap();
    }
    let cantrip = "[llm]\nprovider = \"host\"\n[circle]\nmedium = \"javascript\"\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 9\n";
    std::fs::write(world.at("there.toml"), cantrip).unwrap();
    let serve = |name: &str| {
        let mut command = world.command();
        command.args(["serve", "--config", &format!("net/{name}/node.toml")]);
        Served::start(command)
    };
    let (a, _b) = (serve("a"), serve("b"));
    let mut client = world.command();
    client.args(["cast", "there.toml", "count", "--node", "a", "-q"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = client.spawn().unwrap();
    let exported = |node: &str| text(&world.run(&["--data", &format!("net/{node}/data"), "loom", "export"]).stdout);
    wait_for("the endless turn", || exported("a").contains("while (true)"));
    let line = exported("a").lines().next().unwrap().to_owned();
    let loom = serde_json::from_str::<Value>(&line).unwrap()["loom"].as_str().unwrap().to_owned();
    // Keeping is no right: whoever is to take over is admitted for it.
    let shared = world.run(&["--data", "net/a/data", "loom", "replicate", &loom, "--to", "b"]);
    let said = text(&shared.stderr);
    assert!(shared.status.success() && said.contains("nobody else can go on with the loom"), "{said}");
    let adopted = world.run(&["--data", "net/b/data", "loom", "adopt", &loom]);
    let said = text(&adopted.stderr);
    assert!(adopted.status.code() == Some(2) && said.contains("--may adopt"), "{said}");
    let may = ["loom", "replicate", &loom, "--to", "b", "--may", "write,adopt"];
    let shared = world.run(&[&["--data", "net/a/data"], &may[..]].concat());
    let said = text(&shared.stderr);
    assert!(shared.status.success() && !said.contains("nobody else"), "{said}");
    a.kill();
    client.kill().unwrap();
    client.wait().unwrap();
    let adopted = world.run(&["--data", "net/b/data", "loom", "adopt", &loom]);
    let said = text(&adopted.stderr);
    assert!(adopted.status.success() && said.contains("epoch 1") && !said.contains("does not go on"), "{said}");
    wait_for("the end on b", || exported("b").contains("\"kind\":\"ended\""));
    let thread = world.run(&["--data", "net/b/data", "loom", "thread", &loom, "--json"]);
    assert!(text(&thread.stdout).contains("42"), "{}", text(&thread.stdout));
    // The dead node comes back, hears of it, and writes no more of it.
    let _a = serve("a");
    wait_for("the same on both", || {
        let ids = |node: &str| {
            let mut ids: Vec<String> = exported(node)
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
                .collect();
            ids.sort();
            ids
        };
        ids("a") == ids("b")
    });
    let threads = ["a", "b"].map(|node| {
        let data = format!("net/{node}/data");
        text(&world.run(&["--data", &data, "loom", "thread", &loom, "--json"]).stdout)
    });
    assert_eq!(threads[0], threads[1]);
}
