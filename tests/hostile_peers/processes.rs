//! The same scenarios against real processes: nodes of a cluster on this machine, and the hostile peer with a certificate of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cantrip_runtime::adapters::peer::TcpNet;
use cantrip_runtime::domain::ids::{EntityId, LoomId};
use serde_json::{Value, json};

use super::act::{Known, plan};
use super::client::{Ears, Mallory, Target, Wallet};
use super::forge::Dice;
use super::host::HostileHost;
use super::rights::{self, UPLOAD_BYTES_MAX, files};
use super::{HONEST, Scenario, number};
use crate::node_support::{binary, lend, port, text};
use crate::peer_support::Plain;

/// 512 MiB of memory, at any time: each node is given less by all of its peers together.
const MEMORY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// 256 MiB that a scenario may add to a node's data folder: a journal of the store is 64 MiB when it is new.
const GROWTH_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Two minutes for what an honest caller does: its wards end it long before, on a machine that is not busy.
const HONEST_MAX: Duration = Duration::from_mins(2);
const LIMITS: &str = "\n[limits]\nconnect_timeout_ms = 2000\nrpc_timeout_ms = 3000\nlease_ms = 4000\ndrain_ms = 500\n";

/// A process of a node, and what it says.
struct Served {
    process: Child,
    log: PathBuf,
}

impl Served {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as an operator would. Says what was wrong with that.
    fn end(&mut self) -> Option<String> {
        let sent = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let end = Instant::now() + Duration::from_mins(1);
        while sent.as_ref().is_ok_and(std::process::ExitStatus::success) && Instant::now() < end {
            if let Ok(Some(_)) = self.process.try_wait() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some("a node did not end within a minute of being asked to".to_owned())
    }

    fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A cluster of three honest nodes, and a hostile one that `c` does not list.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    ports: [u16; 4],
    wallet: Wallet,
    nodes: Mutex<Vec<Served>>,
    runtime: tokio::runtime::Runtime,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = [port(), port(), port(), port()];
        let mut command = binary(folder.path());
        command.args(["cluster", "init", "net"]);
        for (name, port) in ["a", "b", "c", "m"].iter().zip(ports) {
            command.args(["--node", &format!("{name}@127.0.0.1:{port}")]);
        }
        let made = command.output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let net = folder.path().join("net");
        let pem = |name: &str| std::fs::read_to_string(net.join(name)).unwrap();
        let wallet = Wallet::new(&pem("ca.pem"), &pem("ca.key"));
        for name in HONEST {
            let file = net.join(name).join("node.toml");
            let config = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, granting(name, &config)).unwrap();
            let data = net.join(name).join("data");
            // The interpreter is compiled once for all clusters.
            lend(&data);
            std::fs::write(net.join(name).join("files/note.txt"), secret(name)).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let cluster = Self { folder, ports, wallet, nodes: Mutex::default(), runtime };
        let nodes = HONEST.map(|name| cluster.serve(name).unwrap());
        cluster.nodes.lock().unwrap().extend(nodes);
        cluster
    }

    fn net(&self, name: &str) -> PathBuf {
        self.folder.path().join("net").join(name)
    }

    /// Starts a node; says what it said where it does not serve.
    fn serve(&self, name: &str) -> Result<Served, String> {
        let log = self.net(name).join("log");
        let out = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let before = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let mut command = binary(self.folder.path());
        command.args(["serve", "--config", &format!("net/{name}/node.toml")]);
        let process = command.stdout(Stdio::null()).stderr(out).spawn().unwrap();
        let mut served = Served { process, log };
        let end = Instant::now() + Duration::from_mins(1);
        while Instant::now() < end {
            let said = served.said();
            let said = said.get(usize::try_from(before).unwrap()..).unwrap_or_default();
            if said.contains("serves on") {
                return Ok(served);
            }
            if let Ok(Some(status)) = served.process.try_wait() {
                return Err(format!("{name} does not start: {status} {said}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{name} does not serve within a minute"))
    }

    /// An honest cast of node `a` through its command line, with a child on another node.
    fn cast(&self, on: &str, seed: u64) -> Result<Value, String> {
        let child = format!(
            "const child = cantrip.new({{ node: '{on}', llm: {{ at: 'caller' }}, circle: {{ medium: 'javascript', gates: \
             ['read_file', 'done'], wards: {{ max_turns: 5, timeout_ms: 6000 }} }} }}); let said; try {{ said = \
             cantrip.cast(child, 'read') }} catch (error) {{ said = error.message }} done(said)"
        );
        let script = [child.as_str(), "done(read_file('note.txt'))"].map(|code| json!({ "code": code }).to_string());
        let name = format!("honest-{on}-{seed}");
        let at = |file: String| self.folder.path().join(file);
        std::fs::write(at(format!("{name}.jsonl")), script.join("\n")).unwrap();
        let cantrip = format!(
            "[llm]\nprovider = \"scripted\"\npath = \"{name}.jsonl\"\nat = \"caller\"\n[circle]\nmedium = \"javascript\"\ngates \
             = [\"call_entity\", \"call_entity_batch\", \"done\"]\n[circle.wards]\nmax_turns = 5\nmax_depth = 2\ntimeout_ms = 40000\n"
        );
        std::fs::write(at(format!("{name}.toml")), cantrip).unwrap();
        let out = std::fs::File::create(at(format!("{name}.out"))).unwrap();
        let err = std::fs::File::create(at(format!("{name}.err"))).unwrap();
        let mut command = binary(self.folder.path());
        command.args(["cast", &format!("{name}.toml"), "go", "--node", "a", "--json", "-q"]).stdout(out).stderr(err);
        let mut process = command.spawn().unwrap();
        let end = Instant::now() + HONEST_MAX;
        while process.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                drop(process.kill());
                drop(process.wait());
                return Err(format!("a cast with a child on {on} did not end within {HONEST_MAX:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = std::fs::read_to_string(at(format!("{name}.out"))).unwrap_or_default();
        let error = std::fs::read_to_string(at(format!("{name}.err"))).unwrap_or_default();
        if error.contains("panicked") {
            return Err(format!("a cast with a child on {on} panicked: {error}"));
        }
        serde_json::from_str(&said).map_err(|_| format!("a cast with a child on {on} said {said} {error}"))
    }

    /// The hostile peer's server, for as long as what is returned lives.
    fn hostile(&self, ears: &Arc<Ears>, known: &Arc<Mutex<Known>>, seed: u64) -> tokio::task::JoinHandle<()> {
        let host =
            HostileHost { ears: Arc::clone(ears), known: Arc::clone(known), seed, calls: Arc::default(), always: None };
        let acceptor = self.wallet.own.acceptor.clone();
        let address = format!("127.0.0.1:{}", self.ports[3]);
        let listener = self.runtime.block_on(async {
            for _ in 0..200 {
                if let Ok(listener) = tokio::net::TcpListener::bind(&address).await {
                    return listener;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("{address} is taken");
        });
        let connections = futures_util::stream::unfold(listener, move |listener| {
            let acceptor = acceptor.clone();
            async move {
                loop {
                    let Ok((io, _)) = listener.accept().await else { continue };
                    let shaken = tokio::time::timeout(Duration::from_secs(2), acceptor.accept(io)).await;
                    if let Ok(Ok(tls)) = shaken {
                        return Some((Ok::<_, std::io::Error>(Plain(Box::new(tls))), listener));
                    }
                }
            }
        });
        let serving = tonic::transport::Server::builder().add_service(host);
        let serving = serving.serve_with_incoming(Box::pin(connections));
        self.runtime.spawn(async move { drop(serving.await) })
    }

    /// Runs a scenario. Returns what was found that may not be.
    pub(crate) fn run(&self, scenario: &Scenario) -> Vec<String> {
        let seed = scenario.seed;
        let ears = Arc::new(Ears::default());
        ears.secrets.lock().unwrap().extend(HONEST.map(|name| secret(name).into_bytes()));
        let known = Arc::new(Mutex::new(Known {
            nodes: HONEST.iter().zip(self.ports).map(|(name, port)| format!("{name}@127.0.0.1:{port}")).collect(),
            ..Known::default()
        }));
        let mut found = Vec::new();
        let before: Vec<u64> = HONEST.iter().map(|name| on_disk(&self.net(name))).collect();
        let serving = self.hostile(&ears, &known, seed);
        let first = self.cast("b", seed);
        Self::judge(&first, "b", &mut found);
        if let Ok(answer) = &first {
            let mut known = known.lock().unwrap();
            known.looms.extend(answer["loom"].as_str().and_then(|id| id.parse::<LoomId>().ok()));
            known.entities.extend(answer["entity"].as_str().and_then(|id| id.parse::<EntityId>().ok()));
        }
        std::thread::scope(|scope| {
            let attack = scope.spawn(|| self.attack(scenario, &ears, &known));
            let during = self.cast(if seed.is_multiple_of(2) { "m" } else { "b" }, seed + 1_000_000);
            if !seed.is_multiple_of(2) {
                Self::judge(&during, "b", &mut found);
            } else if let Err(what) = during {
                found.push(what);
            }
            attack.join().unwrap();
        });
        serving.abort();
        let is_one = self.check_processes(&mut found);
        if is_one {
            self.start_again(&mut found);
            Self::judge(&self.cast("b", seed + 2_000_000), "b", &mut found);
        }
        for (name, before) in HONEST.iter().zip(before) {
            let grown = on_disk(&self.net(name)).saturating_sub(before);
            if grown > GROWTH_BYTES_MAX {
                found.push(format!("the data of {name} has grown by {grown} bytes"));
            }
            found.extend(rights::too_large(name, &self.net(name).join("data")));
        }
        found.append(&mut ears.findings.lock().unwrap());
        found
    }

    /// What an honest cast answers, where nobody has interfered.
    fn judge(answered: &Result<Value, String>, on: &str, found: &mut Vec<String>) {
        match answered {
            Ok(answer) if answer["result"] == json!(secret(on)) => {}
            Ok(answer) => found.push(format!("an honest cast on {on} ended with {answer}")),
            Err(what) => found.push(what.clone()),
        }
    }

    fn attack(&self, scenario: &Scenario, ears: &Arc<Ears>, known: &Arc<Mutex<Known>>) {
        let mallory = Mallory {
            net: Arc::new(TcpNet),
            wallet: self.wallet.clone(),
            ears: Arc::clone(ears),
            known: Arc::clone(known),
            patience: Duration::from_millis(number("CANTRIP_PATIENCE_MS").unwrap_or(2_500)),
        };
        let mut dice = Dice::new(scenario.seed ^ 0xbad);
        dice.asks_itself = true;
        for (act, target) in &scenario.acts {
            let name = HONEST[*target];
            let address = format!("127.0.0.1:{}", self.ports[*target]);
            let target = Target { name: name.to_owned(), address, lists: name != "c" };
            let plan = plan(*act, &mut dice, &known.lock().unwrap().clone());
            self.runtime.block_on(mallory.play(&target, plan, &mut dice));
        }
    }

    /// Whether every process is there, said nothing of a panic and took no more memory than it may.
    fn check_processes(&self, found: &mut Vec<String>) -> bool {
        let mut nodes = self.nodes.lock().unwrap();
        let mut are_all_there = true;
        for (name, node) in HONEST.iter().zip(nodes.iter_mut()) {
            if let Ok(Some(status)) = node.process.try_wait() {
                let said = node.said();
                let last: Vec<&str> = said.lines().rev().take(6).collect();
                found.push(format!("{name} has ended: {status} {last:?}"));
                are_all_there = false;
                match self.serve(name) {
                    Ok(again) => *node = again,
                    Err(what) => found.push(what),
                }
                continue;
            }
            let said = node.said();
            if let Some(line) = said.lines().find(|line| line.contains("panicked") || line.contains("overflowed")) {
                found.push(format!("{name} said: {line}"));
            }
            let memory = node.memory_bytes();
            if memory > MEMORY_BYTES_MAX {
                found.push(format!("{name} has had {memory} bytes of memory"));
            }
        }
        are_all_there
    }

    /// Every node ends and starts again with what it keeps.
    fn start_again(&self, found: &mut Vec<String>) {
        let mut nodes = self.nodes.lock().unwrap();
        for (name, node) in HONEST.iter().zip(nodes.iter_mut()) {
            found.extend(node.end().map(|what| format!("{name}: {what}")));
            match self.serve(name) {
                Ok(again) => *node = again,
                Err(what) => found.push(what),
            }
        }
    }
}

fn secret(name: &str) -> String {
    format!("the note of {name}: nobody but its peers may read it")
}

/// The node file, with what the hostile peer is granted: to cast without any gate of the host, to bring little, and to keep.
fn granting(name: &str, config: &str) -> String {
    let mut text = String::new();
    let mut is_theirs = false;
    for line in config.lines() {
        if line.starts_with('[') {
            is_theirs = line.starts_with("[peers.m]") || line.starts_with("[peers.m.");
        }
        let kept = match line {
            _ if is_theirs && name == "c" => continue,
            line if is_theirs && line.starts_with("gates = ") => "gates = [\"call_entity\"]",
            line => line,
        };
        text.push_str(kept);
        text.push('\n');
    }
    if name != "c" {
        let most = UPLOAD_BYTES_MAX.to_string();
        text.extend(["[peers.m.deploy]\nmax_bytes = ", &most, "\nquota_bytes = ", &most, "\n"]);
    }
    text + LIMITS
}

/// What a folder takes on the disk: holes take nothing.
fn on_disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let blocks = |(file, _): &(String, u64)| std::fs::metadata(file).map_or(0, |metadata| metadata.blocks() * 512);
    files(&folder.join("data")).iter().map(blocks).sum()
}
