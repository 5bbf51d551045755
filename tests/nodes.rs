//! Nodes as real processes: killed, stopped, cut off, refused. Each is an ordinary answer in time, and the record says what
//! happened.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may stop, runs the binary, and says what it leaves out"
)]

mod node_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::Ordering;
use std::time::Duration;

use node_support::{Proxy, Served, binary, lend, port, text, wait_for};
use serde_json::{Value, json};

/// A cluster in a folder, with its own home, so that its sockets are its own.
struct Cluster {
    folder: tempfile::TempDir,
    ports: [u16; 2],
}

const LIMITS: &str = "[limits]\nconnect_timeout_ms = 2000\nrpc_timeout_ms = 3000\nlease_ms = 20000\ndrain_ms = 1000\n";

impl Cluster {
    fn new() -> Self {
        let cluster = Self { folder: tempfile::tempdir().unwrap(), ports: [port(), port()] };
        let made =
            cluster.run(&["cluster", "init", "net", "--node", &cluster.whole("a"), "--node", &cluster.whole("b")]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        for name in ["a", "b"] {
            cluster.change(name, |file| file + "\n" + LIMITS);
            // The interpreter is compiled once for all tests of this file.
            let data = cluster.at(&format!("net/{name}/data"));
            lend(&data);
            std::fs::write(cluster.at(&format!("net/{name}/files/note.txt")), format!("the note of {name}")).unwrap();
        }
        cluster
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn whole(&self, name: &str) -> String {
        let [a, b] = self.ports;
        format!("{name}@127.0.0.1:{}", if name == "a" { a } else { b })
    }

    fn change(&self, name: &str, change: impl Fn(String) -> String) {
        let file = self.at(&format!("net/{name}/node.toml"));
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, change(text)).unwrap();
    }

    fn command(&self) -> Command {
        binary(self.folder.path())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Starts a node and waits until it serves.
    fn serve(&self, name: &str) -> Served {
        let mut command = self.command();
        command.args(["serve", "--config", &format!("net/{name}/node.toml")]);
        Served::start(command)
    }

    /// Writes a cantrip whose model is here and says these codes.
    fn cantrip(&self, name: &str, gates: &str, codes: &[&str]) -> String {
        let script: Vec<String> = codes.iter().map(|code| json!({ "code": code }).to_string()).collect();
        std::fs::write(self.at(&format!("{name}.jsonl")), script.join("\n")).unwrap();
        let cantrip = format!(
            "[llm]\nprovider = \"scripted\"\npath = \"{name}.jsonl\"\nat = \"caller\"\n[circle]\nmedium = \"javascript\"\n\
             gates = {gates}\n[circle.wards]\nmax_turns = 50\nmax_depth = 2\n"
        );
        std::fs::write(self.at(&format!("{name}.toml")), cantrip).unwrap();
        format!("{name}.toml")
    }

    /// Casts on node a; the codes of its children come behind its own in the script.
    fn cast(&self, codes: &[&str]) -> (Value, String) {
        let file = self.cantrip("parent", "[\"call_entity\", \"call_entity_batch\", \"done\"]", codes);
        let out = self.run(&["cast", &file, "go", "--node", "a", "--json", "-q"]);
        let answer = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
        (answer, text(&out.stderr))
    }

    fn entries(&self, node: &str, loom: &str) -> Vec<Value> {
        let out = self.run(&["--data", &format!("net/{node}/data"), "loom", "export", loom]);
        text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn verify(&self, node: &str) {
        let out = self.run(&["--data", &format!("net/{node}/data"), "loom", "verify"]);
        let said = text(&out.stdout) + &text(&out.stderr);
        assert!(out.status.success() && said.contains("clean"), "{said}");
    }
}

/// A child on b, as code.
fn child(node: &str, gates: &str, more: &str) -> String {
    format!(
        "const child = cantrip.new({{ node: '{node}', llm: {{ at: 'caller' }}, circle: {{ medium: 'javascript', gates: {gates}, \
         wards: {{ max_turns: 40 }} }} }}); {more}"
    )
}

/// So many rounds are some fifty milliseconds: long enough to be met in the middle of thirty turns.
const BRIEFLY: u64 = 2_500_000;
/// A turn that is still running when somebody looks.
const LONG: u64 = 20_000_000;

/// What a child does that is to be interrupted: so many turns, each of which computes for a while and reads a file.
fn slowly(turns: usize, loops: u64) -> Vec<String> {
    let mut codes = vec!["var n = 0".to_owned()];
    codes.extend(
        (0..turns)
            .map(|_| format!("for (let i = 0, t = 0; i < {loops}; i++) t += i; n += read_file('note.txt').length")),
    );
    // A model is asked again for what was not recorded: an answer that was on its way to a host which died is spent.
    codes.extend(["done(n)".to_owned(), "done(n)".to_owned()]);
    codes
}

fn codes<'a>(first: &'a str, then: &'a [String]) -> Vec<&'a str> {
    std::iter::once(first).chain(then.iter().map(String::as_str)).collect()
}

#[test]
fn a_host_that_is_killed_and_started_again_goes_on_and_nothing_runs_twice() {
    let cluster = Cluster::new();
    let a = cluster.serve("a");
    let b = cluster.serve("b");
    let parent = child("b", "['read_file', 'done']", "done(cantrip.cast(child, 'read'))");
    let script = slowly(30, BRIEFLY);
    let killed = std::thread::scope(|scope| {
        let cast = scope.spawn(|| cluster.cast(&codes(&parent, &script)));
        let record = cluster.at("net/b/data/loom");
        let grown = || {
            let out = cluster.run(&["--data", "net/b/data", "loom", "show", "--json"]);
            record.exists() && text(&out.stdout).matches("read_file").count() > 3
        };
        wait_for("some turns on b", grown);
        b.kill();
        std::thread::sleep(Duration::from_millis(300));
        let again = cluster.serve("b");
        let ended = cast.join().unwrap();
        drop(again);
        ended
    });
    let (answer, stderr) = killed;
    assert_eq!(answer["how"], "terminated", "{answer} {stderr}");
    // A conversation with an interpreter goes on where its record ends; the turn that was cut off is told to it, and its code is
    // not run again: each of the thirty reads counts at most once.
    let note = 13;
    let sum = answer["result"].as_i64().unwrap_or_else(|| panic!("{answer}"));
    assert!(sum % note == 0 && sum <= 30 * note && sum >= 28 * note, "{sum} of {}", 30 * note);
    let loom = answer["loom"].as_str().unwrap();
    drop(a);
    let here = cluster.entries("a", loom);
    let there = cluster.entries("b", loom);
    assert!(there.len() > 60, "{}", there.len());
    let ids: std::collections::BTreeSet<&str> = here.iter().filter_map(|entry| entry["id"].as_str()).collect();
    assert!(
        there.iter().all(|entry| ids.contains(entry["id"].as_str().unwrap())),
        "the whole child is in its parent's loom"
    );
    cluster.verify("a");
    cluster.verify("b");
}

#[test]
fn a_host_that_is_stopped_and_goes_on_is_waited_for() {
    let cluster = Cluster::new();
    let _a = cluster.serve("a");
    let b = cluster.serve("b");
    let parent = child("b", "['read_file', 'done']", "done(cantrip.cast(child, 'read'))");
    let script = slowly(20, BRIEFLY);
    let (answer, stderr) = std::thread::scope(|scope| {
        let cast = scope.spawn(|| cluster.cast(&codes(&parent, &script)));
        wait_for("a turn on b", || {
            let out = cluster.run(&["--data", "net/b/data", "loom", "show", "--json"]);
            text(&out.stdout).contains("read_file")
        });
        b.signal("-STOP");
        // Longer than a single answer may take.
        std::thread::sleep(Duration::from_secs(5));
        b.signal("-CONT");
        cast.join().unwrap()
    });
    assert_eq!(
        (&answer["how"], &answer["result"]),
        (&json!("terminated"), &json!(20 * "the note of b".len())),
        "{answer} {stderr}"
    );
}

#[test]
fn a_host_that_stays_away_is_an_error_that_code_can_catch_within_the_lease() {
    let cluster = Cluster::new();
    cluster.change("a", |file| file.replace("lease_ms = 20000", "lease_ms = 2000"));
    let _a = cluster.serve("a");
    let b = cluster.serve("b");
    let more = "let said; try { said = cantrip.cast(child, 'read') } catch (error) { said = error.kind + ': ' + error.message } done(said)";
    let parent = child("b", "['read_file', 'done']", more);
    let script = slowly(30, LONG);
    let (answer, _) = std::thread::scope(|scope| {
        let cast = scope.spawn(|| cluster.cast(&codes(&parent, &script)));
        wait_for("a turn on b", || {
            let out = cluster.run(&["--data", "net/b/data", "loom", "show", "--json"]);
            text(&out.stdout).contains("read_file")
        });
        b.kill();
        cast.join().unwrap()
    });
    let said = answer["result"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert!(said.starts_with("failed: ") && said.contains("was lost") && said.contains("2000 ms"), "{said}");
    // The same handle can be used again when the node is back: the entry in the loom says what happened in between.
    let entries = cluster.entries("a", answer["loom"].as_str().unwrap());
    assert!(entries.iter().any(|entry| entry.to_string().contains("was lost")));
    let late = cluster.cast(&[&parent]).0;
    let late = late["result"].as_str().unwrap_or_else(|| panic!("{late}")).to_owned();
    assert!(late.contains("could not be reached") && late.contains(&cluster.whole("b")), "{late}");
}

#[test]
fn a_connection_that_is_cut_is_made_again_and_nothing_is_done_twice() {
    let cluster = Cluster::new();
    let [_, port_b] = cluster.ports;
    let proxy = Proxy::new(port_b);
    cluster.change("a", |file| file.replace(&format!("127.0.0.1:{port_b}"), &format!("127.0.0.1:{}", proxy.port)));
    let _a = cluster.serve("a");
    let _b = cluster.serve("b");
    let parent = child("b", "['read_file', 'done']", "done(cantrip.cast(child, 'read'))");
    let script = slowly(36, BRIEFLY);
    let (answer, stderr) = std::thread::scope(|scope| {
        let cast = scope.spawn(|| cluster.cast(&codes(&parent, &script)));
        let mut cuts = 0;
        wait_for("a turn on b", || {
            let out = cluster.run(&["--data", "net/b/data", "loom", "show", "--json"]);
            text(&out.stdout).contains("read_file")
        });
        while !cast.is_finished() {
            std::thread::sleep(Duration::from_millis(120));
            proxy.cut.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(60));
            proxy.cut.store(false, Ordering::SeqCst);
            cuts += 1;
        }
        assert!(cuts > 0);
        cast.join().unwrap()
    });
    assert_eq!(
        (&answer["how"], &answer["result"]),
        (&json!("terminated"), &json!(36 * "the note of b".len())),
        "{answer} {stderr}"
    );
    cluster.verify("a");
    cluster.verify("b");
}

#[test]
fn a_policy_refuses_by_name_and_a_guest_is_brought_once() {
    let cluster = Cluster::new();
    let allowed = "gates = [\"read_file\", \"list_dir\", \"search\", \"call_entity\", \"call_entity_batch\"]";
    cluster.change("b", |file| file.replace(allowed, "gates = [\"list_dir\"]"));
    let _a = cluster.serve("a");
    let _b = cluster.serve("b");
    let more = "let said; try { said = cantrip.cast(child, 'read') } catch (error) { said = error.kind + ': ' + error.message } done(said)";
    let parent = child("b", "['read_file', 'done']", more);
    let (answer, stderr) = cluster.cast(&[&parent]);
    let said = answer["result"].as_str().unwrap_or_else(|| panic!("{answer} {stderr}")).to_owned();
    assert!(
        said.starts_with("denied: ") && said.contains("it grants list_dir") && said.contains("peers.a.gates"),
        "{said}"
    );

    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/reader/reader.wasm");
    let reader = reader.to_str().unwrap();
    // This machine may: it is b's own. A peer would be refused what b does not grant it.
    let first = cluster.run(&["deploy", reader, "--node", "b"]);
    assert!(first.status.success() && text(&first.stdout).starts_with("reader@sha256:"), "{}", text(&first.stderr));
    let again = cluster.run(&["deploy", reader, "--node", "b"]);
    assert_eq!(first.stdout, again.stdout);
    assert!(text(&again.stderr).contains("kept there already"), "{}", text(&again.stderr));
    let listed = cluster.run(&["guests", "ls", "--node", "b", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["gates"]), (&json!("reader"), &json!(["read_file"])));
    // By its digest it runs there, with what b lets this machine's clients read.
    let digest = text(&first.stdout).trim().to_owned();
    let cantrip = format!(
        "[guest]\ncomponent = \"{digest}\"\n[circle]\ngates = [\"read_file\", \"done\"]\n[circle.wards]\nmax_turns = 1\n"
    );
    std::fs::write(cluster.at("guest.toml"), cantrip).unwrap();
    let ran = cluster.run(&["cast", "guest.toml", "Read note.txt", "--node", "b", "-q"]);
    assert!(text(&ran.stdout).contains("the note of b"), "{} {}", text(&ran.stdout), text(&ran.stderr));
    // A guest that a node lacks comes from whoever casts it, here through the other node, which has no copy either.
    std::fs::copy(reader, cluster.at("fresh.wasm")).unwrap();
    let fresh = "[guest]\ncomponent = \"fresh.wasm\"\n[circle]\ngates = [\"read_file\", \"done\"]\n[circle.wards]\nmax_turns = 1\n";
    std::fs::write(cluster.at("fresh.toml"), fresh).unwrap();
    let ran = cluster.run(&["cast", "fresh.toml", "Read note.txt", "--node", "a", "-q"]);
    assert!(text(&ran.stdout).contains("the note of a"), "{} {}", text(&ran.stdout), text(&ran.stderr));
    let removed = cluster.run(&["--data", "net/a/data", "guests", "rm", "fresh"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    let unknown = cluster.run(&["cast", "guest.toml", "Read note.txt", "--node", "a", "-q"]);
    assert_eq!(unknown.status.code(), Some(5));
    assert!(
        text(&unknown.stderr).contains("does not have the guest") || text(&unknown.stderr).contains("deploy"),
        "{}",
        text(&unknown.stderr)
    );
}

#[test]
fn only_signed_guests_where_that_is_required() {
    let cluster = Cluster::new();
    let key = cluster.run(&["guests", "key", "publisher.key"]);
    let public = text(&key.stdout).trim().to_owned();
    cluster.change("b", |file| {
        let file =
            file.replace("fetch_guests = true", &format!("fetch_guests = true\nguest_publishers = [\"{public}\"]"));
        file + &format!("\n[peers.a.deploy]\nrequire_signed = true\npublishers = [\"{public}\"]\n")
    });
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/reader/reader.wasm");
    std::fs::copy(reader, cluster.at("reader.wasm")).unwrap();
    let signed = cluster.run(&["guests", "sign", "reader.wasm", "--key", "publisher.key"]);
    assert!(signed.status.success() && cluster.at("reader.wasm.sig").exists(), "{}", text(&signed.stderr));
    let bad = cluster.run(&["guests", "sign", "reader.wasm", "--key", "reader.wasm.sig"]);
    assert_eq!(bad.status.code(), Some(2), "{}", text(&bad.stderr));
    // From another machine it would come through node a: its socket is the only one here.
    let _a = cluster.serve("a");
    cluster.change("b", |file| file.replacen("data = ", "socket = false\ndata = ", 1));
    let _b = cluster.serve("b");
    let unsigned = cluster.at("unsigned.wasm");
    std::fs::copy(cluster.at("reader.wasm"), &unsigned).unwrap();
    let refused = cluster.run(&["deploy", "unsigned.wasm", "--node", "b"]);
    assert_eq!(refused.status.code(), Some(5), "{}", text(&refused.stdout));
    let said = text(&refused.stderr);
    assert!(said.contains("not signed") && said.contains("peers.a.deploy.require_signed"), "{said}");
    // A signature over something else.
    let signature = std::fs::read_to_string(cluster.at("reader.wasm.sig")).unwrap();
    let (publisher, over) = signature.split_once('\n').unwrap();
    let wrong = format!("{publisher}\n{}", over.replace('1', "2"));
    std::fs::write(cluster.at("unsigned.wasm.sig"), wrong).unwrap();
    let refused = cluster.run(&["deploy", "unsigned.wasm", "--node", "b"]);
    assert!(text(&refused.stderr).contains("the signature is not the publisher's"), "{}", text(&refused.stderr));
    let taken = cluster.run(&["deploy", "reader.wasm", "--node", "b"]);
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    // Node a may run what that publisher has signed, and nothing else.
    let listed = cluster.run(&["guests", "ls", "--node", "b"]);
    assert!(text(&listed.stdout).starts_with("reader "), "{} {}", text(&listed.stdout), text(&listed.stderr));
    let digest = text(&taken.stdout).trim().to_owned();
    let guest = |digest: &str| {
        let cantrip = format!(
            "[guest]\ncomponent = \"{digest}\"\n[circle]\ngates = [\"read_file\", \"done\"]\n[circle.wards]\nmax_turns = 1\n"
        );
        std::fs::write(cluster.at("signed.toml"), cantrip).unwrap();
        cluster.run(&["cast", "signed.toml", "Read note.txt", "--node", "b", "-q"])
    };
    let ran = guest(&digest);
    assert!(text(&ran.stdout).contains("the note of b"), "{} {}", text(&ran.stdout), text(&ran.stderr));
    let other = digest.replace("sha256:3", "sha256:4");
    assert!(text(&guest(&other).stderr).contains("peers.a.guests"), "{}", text(&guest(&other).stderr));
}

#[test]
fn what_is_wrong_with_a_node_file_is_named_with_its_place() {
    let cluster = Cluster::new();
    let wrong = |from: &str, to: &str| {
        let file = cluster.at("net/a/node.toml");
        let before = std::fs::read_to_string(&file).unwrap();
        assert!(before.contains(from), "{before}");
        std::fs::write(&file, before.replacen(from, to, 1)).unwrap();
        let out = cluster.run(&["serve", "--config", "net/a/node.toml"]);
        std::fs::write(&file, before).unwrap();
        assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
        text(&out.stderr)
    };
    let check = |said: String, expected: &[&str]| {
        for word in expected {
            assert!(said.contains(word), "{word}: {said}");
        }
    };
    check(wrong("name = \"a@", "name = \"A@"), &["node.toml:2: name:", "cannot name a node"]);
    check(wrong("\"read_file\", \"list_dir\"", "\"reed_file\""), &["peers.b.gates", "did you mean `read_file`"]);
    check(wrong("max_turns = 100", "max_turn = 100"), &["peers.b.wards.max_turn", "max_turns"]);
    check(wrong("root = \"files\"", "root = \"nowhere\""), &["node.toml", "root", "nowhere"]);
    check(wrong("fetch_guests = true", "fetch_guest = true"), &["node.toml", "fetch_guest"]);
    check(wrong("certificate = \"node.pem\"", "certificate = \"node.key\""), &["the node's certificate"]);
    let taken = cluster.serve("a");
    let twice = cluster.run(&["serve", "--config", "net/a/node.toml"]);
    assert!(!twice.status.success() && text(&twice.stderr).contains("in use"), "{}", text(&twice.stderr));
    drop(taken);
    let nobody = cluster.run(&["cast", "x.toml", "go", "--node", "a"]);
    assert_eq!(nobody.status.code(), Some(2), "{}", text(&nobody.stderr));
    let file = cluster.cantrip("alone", "[\"done\"]", &["done(1)"]);
    let nobody = cluster.run(&["cast", &file, "go", "--node", "a"]);
    assert_eq!(nobody.status.code(), Some(5));
    check(text(&nobody.stderr), &["no node runs on this machine", "hint: start one"]);
}

#[test]
fn the_example_of_two_nodes_runs_by_one_command() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-nodes/run");
    let out = Command::new(example)
        .env("CANTRIP_RUNTIME", env!("CARGO_BIN_EXE_cantrip-runtime"))
        .env("TWO_NODES_PORTS", format!("{} {}", port(), port()))
        .output()
        .unwrap();
    let (said, talk) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{said} {talk}");
    assert!(said.matches("Runs agents whose every action").count() > 4, "{said}");
    assert!(said.contains("depth 1  javascript  scripted  on agents@127.0.0.1:"), "{said}");
    assert!(talk.contains("1 loom, 22 entries, 0 texts recomputed: clean"), "{talk}");
}

fn succeeded(what: &str, command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{what}: {} {}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn a_client_in_python_casts_streams_and_cancels() {
    if std::env::var("CANTRIP_WASM_TESTS").as_deref() != Ok("required") {
        println!("skipped: a_client_in_python needs CANTRIP_WASM_TESTS=required, Python and its packages");
        return;
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python_client");
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-client");
    if !python.join("bin/python").exists() {
        succeeded("venv", Command::new("python3").args(["-m", "venv"]).arg(&python));
    }
    let pip = python.join("bin/pip");
    succeeded("pip", Command::new(pip).args(["install", "--quiet", "-r"]).arg(tests.join("requirements.txt")));
    let generated = tempfile::tempdir().unwrap();
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let python = python.join("bin/python");
    succeeded(
        "protoc",
        Command::new(&python)
            .args(["-m", "grpc_tools.protoc", "-I"])
            .arg(&proto)
            .arg(format!("--python_out={}", generated.path().display()))
            .arg(format!("--grpc_python_out={}", generated.path().display()))
            .arg("cantrip/v1/node.proto"),
    );
    let cluster = Cluster::new();
    let _b = cluster.serve("b");
    let address = cluster.whole("b").split_once('@').unwrap().1.to_owned();
    let said = succeeded(
        "client",
        Command::new(&python)
            .arg(tests.join("client.py"))
            .args([&address, "b"])
            .arg(cluster.at("net/a"))
            .env("PYTHONPATH", generated.path()),
    );
    assert!(said.contains("cast, streamed, cancelled and refused"), "{said}");
}

#[test]
fn the_node_between_is_killed_and_started_again_and_the_cast_goes_on() {
    let cluster = Cluster::new();
    // b has no socket: whoever is on this machine reaches it through a.
    cluster.change("b", |file| file.replacen("data = ", "socket = false\ndata = ", 1));
    let a = cluster.serve("a");
    let _b = cluster.serve("b");
    let script = slowly(25, BRIEFLY);
    let codes: Vec<&str> = script.iter().map(String::as_str).collect();
    let file = cluster.cantrip("through", "[\"read_file\", \"done\"]", &codes);
    let out = std::thread::scope(|scope| {
        let cast = scope.spawn(|| cluster.run(&["cast", &file, "go", "--node", "b", "--json", "-q"]));
        wait_for("a turn on b", || {
            let out = cluster.run(&["--data", "net/b/data", "loom", "show", "--json"]);
            text(&out.stdout).contains("read_file")
        });
        a.kill();
        let again = cluster.serve("a");
        let out = cast.join().unwrap();
        drop(again);
        out
    });
    let answer: Value = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
    assert_eq!(answer["how"], "terminated", "{answer} {}", text(&out.stderr));
    assert_eq!(answer["result"], json!(25 * "the note of b".len()));
    let loom = answer["loom"].as_str().unwrap();
    let (here, there) = (cluster.entries("a", loom), cluster.entries("b", loom));
    assert_eq!(
        here.len(),
        there.len() + 3,
        "what passed through is kept, as a whole, in the loom that this node founded, for which it has admitted b and settled with it, once"
    );
    cluster.verify("a");
}
