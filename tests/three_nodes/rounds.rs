//! Rounds of pause, kill, restore in place and adoption on three real nodes that acknowledge each other's turns: whatever was
//! acknowledged is there in the end, once, and everybody says the same of it.
//!
//! `CANTRIP_ROUNDS` says how many, `CANTRIP_SOAK_SEED` which; both are printed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::node_support::{Faults, Served, files, put_back, text};
use super::{NAMES, Three, number};

/// One of each kind; sixty are run by hand.
const ROUNDS_DEFAULT: u64 = 4;

fn said(ran: &Output) -> String {
    text(&ran.stdout) + &text(&ran.stderr)
}

struct Soak<'a> {
    three: &'a Three,
    loom: String,
    nodes: Vec<Option<Served>>,
    /// Folders as they were once, while their nodes did not run.
    older: [Option<BTreeMap<PathBuf, Vec<u8>>>; 3],
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    /// How often something was done.
    counts: BTreeMap<&'static str, u64>,
}

impl<'a> Soak<'a> {
    fn new(three: &'a Three) -> Self {
        let nodes: Vec<Option<Served>> = (0..3).map(|node| Some(three.serve(node))).collect();
        let (first, loom) = three.found(0);
        for to in [1, 2] {
            let ran = three.on(0, &["loom", "replicate", &loom, "--to", NAMES[to], "--may", "write,adopt"]);
            assert!(ran.status.success(), "{}", said(&ran));
        }
        // Each of them waits for one of the two others.
        for (node, to) in [(0, 1), (1, 2), (2, 0)] {
            let acks = ["--acks", "1", "--acks-wait-ms", "4000"];
            let ran = three.on(node, &[&["loom", "replicate", &loom, "--to", NAMES[to]][..], &acks].concat());
            assert!(ran.status.success(), "{}", said(&ran));
        }
        let acknowledged = Arc::new(Mutex::new(BTreeSet::from([first])));
        Self { three, loom, nodes, older: [const { None }; 3], acknowledged, counts: BTreeMap::new() }
    }

    fn counted(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn end(&mut self, node: usize) {
        self.nodes[node].take().unwrap().kill();
        // A folder is copied while nothing writes into it.
        let older = &mut self.older[node];
        if older.is_none() {
            *older = Some(files(&self.three.data(node)));
        }
    }

    fn start(&mut self, node: usize) {
        self.nodes[node] = Some(self.three.serve(node));
    }

    /// One fault, and what follows from it.
    fn round(&mut self, kind: u64, faults: &mut Faults) {
        let node = usize::try_from(faults.below(3)).unwrap();
        match kind {
            0 => {
                self.nodes[node].as_ref().unwrap().signal("-STOP");
                std::thread::sleep(Duration::from_millis(500 + faults.below(1_500)));
                self.nodes[node].as_ref().unwrap().signal("-CONT");
                self.counted("paused");
            }
            1 => {
                self.end(node);
                std::thread::sleep(Duration::from_millis(faults.below(1_000)));
                self.start(node);
                self.counted("killed");
            }
            2 => {
                self.end(node);
                if let Some(older) = self.older[node].take() {
                    put_back(&self.three.data(node), &older);
                    self.counted("put back");
                }
                self.start(node);
            }
            _ => {
                let by = (node + 1) % 3;
                self.end(node);
                let known: Vec<String> = self.acknowledged.lock().unwrap().iter().cloned().collect();
                let entity = &known[usize::try_from(faults.below(known.len() as u64)).unwrap()];
                let adopted = self.three.on(by, &["loom", "adopt", &format!("{}/{entity}", self.loom)]);
                let told = said(&adopted);
                // It is this node's own already, or what decides about it is not there yet.
                let is_refused = matches!(adopted.status.code(), Some(2 | 5));
                assert!(adopted.status.success() || is_refused, "{:?} {told}", adopted.status);
                self.counted(if is_refused { "adoption refused" } else { "adopted" });
                self.start(node);
            }
        }
    }

    /// What a node says of the loom. Its founder is named to everybody else.
    fn told(&self, node: usize) -> BTreeSet<String> {
        let shown = text(&self.three.on(node, &["loom", "show", &self.loom]).stdout);
        shown.lines().filter(|line| !line.contains("founded by")).map(str::to_owned).collect()
    }

    /// Waits until all three have the same and say the same, and looks at it. What a client has left may begin late.
    fn converges(&self) {
        let end = Instant::now() + Duration::from_mins(2);
        let copies = loop {
            let copies: Vec<_> = (0..3).map(|node| self.three.copy(node, &self.loom)).collect();
            let told = [0, 1, 2].map(|node| self.told(node));
            let have_the_same = copies.iter().all(|copy| copy.0 == copies[0].0);
            if have_the_same && told.iter().all(|it| *it == told[0]) {
                break copies;
            }
            if Instant::now() >= end {
                let sizes: Vec<usize> = copies.iter().map(|copy| copy.0.len()).collect();
                let status = [0, 1, 2].map(|node| said(&self.three.on(node, &["loom", "status", &self.loom])));
                assert!(have_the_same, "the copies do not converge: {sizes:?}\n{}", status.join("\n"));
                let differ: Vec<_> = told[1..].iter().flat_map(|other| told[0].symmetric_difference(other)).collect();
                assert!(differ.is_empty(), "they do not say the same: {differ:?}");
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let acknowledged = self.acknowledged.lock().unwrap();
        for (node, (_, ended)) in copies.iter().enumerate() {
            let missing: Vec<&String> = acknowledged.difference(ended).collect();
            assert!(missing.is_empty(), "{} lacks {missing:?}", NAMES[node]);
            let verify = || said(&self.three.on(node, &["loom", "verify"]));
            let verified = verify();
            assert!(verified.contains("clean"), "{}: {verified}, and once more: {}", NAMES[node], verify());
        }
    }
}

#[test]
fn what_was_acknowledged_outlives_pauses_kills_restored_folders_and_adoptions() {
    let rounds = number("CANTRIP_ROUNDS").unwrap_or(ROUNDS_DEFAULT);
    let seed = number("CANTRIP_SOAK_SEED").unwrap_or(11);
    println!("CANTRIP_ROUNDS={rounds} CANTRIP_SOAK_SEED={seed} cargo test --test three_nodes what_was_acknowledged");
    let three = Three::new();
    let mut soak = Soak::new(&three);
    let mut faults = Faults(seed);
    let first = faults.below(4);
    for round in 0..rounds {
        let (stop, loom, acknowledged) = (AtomicBool::new(false), soak.loom.clone(), Arc::clone(&soak.acknowledged));
        std::thread::scope(|scope| {
            for node in 0..3 {
                let (three, loom, stop, acknowledged) = (&three, &loom, &stop, &acknowledged);
                scope.spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        match three.write(node, loom) {
                            Some(entity) => drop(acknowledged.lock().unwrap().insert(entity)),
                            // It is away at the moment, or not enough others are there.
                            None => std::thread::sleep(Duration::from_millis(50)),
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(300 + faults.below(700)));
            soak.round((first + round) % 4, &mut faults);
            std::thread::sleep(Duration::from_millis(500));
            stop.store(true, Ordering::SeqCst);
        });
        soak.converges();
    }
    let deeds = soak.acknowledged.lock().unwrap().len();
    println!("{deeds} acknowledged casts, {:?}", soak.counts);
    assert!(deeds > 3, "hardly anything was written");
}
