//! Three real nodes that write into one loom while the network is cut and nodes are killed: when it heals, every copy is the same,
//! whole, and has every turn that was acknowledged.
//!
//! `CANTRIP_SOAK_SECONDS` says how long, `CANTRIP_SOAK_SEED` which faults; both are printed.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may stop, runs the binary, and says how to run it again"
)]

#[path = "three_nodes/adopted.rs"]
mod adopted;
#[path = "three_nodes/asked.rs"]
mod asked;
#[path = "three_nodes/judged.rs"]
mod judged;
mod node_support;
#[path = "three_nodes/rounds.rs"]
mod rounds;
#[path = "three_nodes/two_tails.rs"]
mod two_tails;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use node_support::{Faults, Proxy, Served, binary, lend, port, text};
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Long enough for some kills and cuts of each; CI runs it, minutes are run by hand.
const SECONDS_DEFAULT: u64 = 20;

struct Three {
    folder: tempfile::TempDir,
    /// From one node to another.
    wires: BTreeMap<(usize, usize), Proxy>,
}

impl Three {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = [port(), port(), port()];
        let wires = (0..3).flat_map(|from| (0..3).map(move |to| (from, to))).filter(|(from, to)| from != to);
        let wires = wires.map(|(from, to)| ((from, to), Proxy::new(ports[to]))).collect();
        let three = Self { folder, wires };
        let whole = |at: usize| format!("{}@127.0.0.1:{}", NAMES[at], ports[at]);
        let made =
            three.run(&["cluster", "init", "net", "--node", &whole(0), "--node", &whole(1), "--node", &whole(2)]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        for (from, name) in NAMES.iter().enumerate() {
            let file = three.at(&format!("net/{name}/node.toml"));
            let mut config = std::fs::read_to_string(&file).unwrap();
            for to in (0..3).filter(|to| *to != from) {
                let (address, wire) = (format!("address = \"127.0.0.1:{}\"", ports[to]), &three.wires[&(from, to)]);
                assert!(config.contains(&address));
                config = config.replace(&address, &format!("address = \"127.0.0.1:{}\"", wire.port));
            }
            config.push_str("\n[limits]\nconnect_timeout_ms = 1000\nrpc_timeout_ms = 2000\ndrain_ms = 1000\n");
            std::fs::write(file, config).unwrap();
            let data = three.data(from);
            lend(&data);
        }
        let script = [json!({"code": "var x = 1; x"}), json!({"code": "x += 1"}), json!({"code": "done(x)"})];
        let script: Vec<String> = script.iter().map(Value::to_string).collect();
        std::fs::write(three.at("turns.jsonl"), script.join("\n")).unwrap();
        let cantrip = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\nat = \"caller\"\n[circle]\nmedium = \
                       \"javascript\"\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 5\n";
        std::fs::write(three.at("cantrip.toml"), cantrip).unwrap();
        three
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn data(&self, node: usize) -> PathBuf {
        self.at(&format!("net/{}/data", NAMES[node]))
    }

    fn command(&self) -> Command {
        binary(self.folder.path())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    fn on(&self, node: usize, arguments: &[&str]) -> Output {
        let data = self.data(node).display().to_string();
        self.run(&[&["--data", &data], arguments].concat())
    }

    fn serve(&self, node: usize) -> Served {
        let mut command = self.command();
        command.args(["serve", "--config", &format!("net/{}/node.toml", NAMES[node])]);
        Served::start(command)
    }

    /// The first entity of a new loom, and the loom.
    fn found(&self, node: usize) -> (String, String) {
        let ran = self.run(&["cast", "cantrip.toml", "go", "--node", NAMES[node], "--json", "-q"]);
        assert!(ran.status.success(), "{}", text(&ran.stderr));
        let printed: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let named = |key: &str| printed[key].as_str().unwrap().to_owned();
        (named("entity"), named("loom"))
    }

    /// One entity in the loom, written by a node. Returns its id if its end was acknowledged.
    fn write(&self, node: usize, loom: &str) -> Option<String> {
        let ran = self.run(&["cast", "cantrip.toml", "go", "--node", NAMES[node], "--loom", loom, "--json", "-q"]);
        let printed: Value = serde_json::from_slice(&ran.stdout).ok()?;
        (ran.status.success()).then(|| printed["entity"].as_str().unwrap().to_owned())
    }

    /// The ids of a copy's entries, and the entities whose end is in it.
    fn copy(&self, node: usize, loom: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let exported = self.on(node, &["loom", "export", loom]);
        let lines = text(&exported.stdout);
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let (mut ids, mut ended) = (BTreeSet::new(), BTreeSet::new());
        for line in lines {
            ids.insert(line["id"].as_str().unwrap().to_owned());
            if line["body"]["kind"] == "ended" || line["kind"] == "ended" {
                ended.insert(line["entity"].as_str().unwrap().to_owned());
            }
        }
        (ids, ended)
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn three_nodes_converge_whatever_is_cut_and_killed() {
    let seed = number("CANTRIP_SOAK_SEED").unwrap_or(7);
    let seconds = number("CANTRIP_SOAK_SECONDS").unwrap_or(SECONDS_DEFAULT);
    println!("CANTRIP_SOAK_SEED={seed} CANTRIP_SOAK_SECONDS={seconds} cargo test --test three_nodes");
    let three = Three::new();
    let mut nodes: Vec<Option<Served>> = (0..3).map(|node| Some(three.serve(node))).collect();
    let (first, loom) = three.found(0);
    for to in [1, 2] {
        let shared = three.on(0, &["loom", "replicate", &loom, "--to", NAMES[to], "--may", "write"]);
        assert!(shared.status.success(), "{}{}", text(&shared.stdout), text(&shared.stderr));
    }
    let acknowledged = Arc::new(Mutex::new(BTreeSet::from([first])));
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        for node in 0..3 {
            let (three, loom, stop, acknowledged) = (&three, &loom, Arc::clone(&stop), Arc::clone(&acknowledged));
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    match three.write(node, loom) {
                        Some(entity) => drop(acknowledged.lock().unwrap().insert(entity)),
                        // The node is dead at the moment.
                        None => std::thread::sleep(Duration::from_millis(50)),
                    }
                }
            });
        }
        let mut faults = Faults(seed);
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            let pair = [(0, 1), (0, 2), (1, 2)][usize::try_from(faults.below(3)).unwrap()];
            match faults.below(5) {
                0 | 1 => {
                    for wire in [pair, (pair.1, pair.0)] {
                        three.wires[&wire].cut.store(true, Ordering::SeqCst);
                    }
                }
                2 | 3 => {
                    for wire in three.wires.values() {
                        wire.cut.store(false, Ordering::SeqCst);
                    }
                }
                _ => {
                    let node = usize::try_from(faults.below(3)).unwrap();
                    nodes[node].take().unwrap().kill();
                    nodes[node] = Some(three.serve(node));
                }
            }
            std::thread::sleep(Duration::from_millis(100 + faults.below(500)));
        }
        stop.store(true, Ordering::SeqCst);
    });
    for wire in three.wires.values() {
        wire.cut.store(false, Ordering::SeqCst);
    }
    let end = Instant::now() + Duration::from_mins(2);
    let copies = loop {
        let copies: Vec<_> = (0..3).map(|node| three.copy(node, &loom)).collect();
        if copies.iter().all(|copy| copy.0 == copies[0].0) {
            break copies;
        }
        let sizes: Vec<usize> = copies.iter().map(|copy| copy.0.len()).collect();
        assert!(Instant::now() < end, "the copies do not converge: {sizes:?}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let acknowledged = acknowledged.lock().unwrap();
    println!("{} entries, {} acknowledged casts", copies[0].0.len(), acknowledged.len());
    for (node, (_, ended)) in copies.iter().enumerate() {
        let missing: Vec<&String> = acknowledged.difference(ended).collect();
        assert!(missing.is_empty(), "{} lacks {missing:?}", NAMES[node]);
        let verified = three.on(node, &["loom", "verify"]);
        let said = text(&verified.stdout) + &text(&verified.stderr);
        assert!(verified.status.success() && said.contains("clean"), "{}: {said}", NAMES[node]);
    }
    assert!(acknowledged.len() > 5, "hardly anything was written");
}
