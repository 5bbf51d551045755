//! Peers that keep to nothing: they hold a valid certificate and speak the protocol, and may say anything at any time — changed,
//! reordered, forged, replayed, withheld, doubled, too large, about what is not theirs.
//!
//! Every scenario follows from its seed. `CANTRIP_SEED` runs one, `CANTRIP_SEEDS` says how many, `CANTRIP_SEED_FIRST` from which
//! on; the command that runs a seed again is in the message of a failure. The same scenarios run in simulated time, where an honest
//! caller, an honest host and a third node are attacked, and against real processes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "a test may stop, reads its own variables, and tells which seed it runs"
)]

mod node_support;
mod peer_support;

#[path = "hostile_peers/act.rs"]
mod act;
#[path = "hostile_peers/casting.rs"]
mod casting;
#[path = "hostile_peers/client.rs"]
mod client;
#[path = "hostile_peers/copying.rs"]
mod copying;
#[path = "hostile_peers/forge.rs"]
mod forge;
#[path = "hostile_peers/home.rs"]
mod home;
#[path = "hostile_peers/host.rs"]
mod host;
#[path = "hostile_peers/members.rs"]
mod members;
#[path = "hostile_peers/membership.rs"]
mod membership;
#[path = "hostile_peers/ports.rs"]
mod ports;
#[path = "hostile_peers/processes.rs"]
mod processes;
#[path = "hostile_peers/rights.rs"]
mod rights;
#[path = "hostile_peers/simulated.rs"]
mod simulated;

use std::collections::BTreeSet;
use std::sync::{Mutex, Once};

use act::Act;
use cantrip_runtime::domain::members::Right;
use forge::Dice;
use rights::Rights;

/// The nodes that are attacked; the last one does not list the hostile peer.
const HONEST: [&str; 3] = ["a", "b", "c"];
/// So many seeds run with every test: each kind of act is the first of some of them.
const SEEDS_DEFAULT: u64 = 120;

/// So many run against real processes with every test.
const SEEDS_OF_PROCESSES: u64 = 4;

/// What a seed says.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) rights: Rights,
    /// What is done, and to which of the honest nodes.
    pub(crate) acts: Vec<(Act, usize)>,
    /// How often the honest caller casts on the hostile host.
    pub(crate) hostile_casts: u64,
    /// What the hostile peer may do in a loom of the honest caller's.
    pub(crate) member: cantrip_runtime::domain::members::Rights,
    /// Whether it is expelled from it.
    pub(crate) expels: bool,
    /// What it does with every cast on it; nothing: whatever the seed says.
    pub(crate) always: Option<host::Deed>,
}

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let rights = Rights::of(&mut dice);
        let kinds = Act::ALL.len() as u64;
        let directed = Act::ALL[usize::try_from(seed % kinds).unwrap()];
        // The host is attacked most: it runs what others ask of it.
        let target = |dice: &mut Dice| [0, 1, 1, 1, 2][dice.size(5)];
        let mut acts = vec![(directed, usize::from(!dice.once_in(4)))];
        for _ in 0..dice.below(4) {
            acts.push((*dice.pick(Act::ALL), target(&mut dice)));
        }
        let hostile_casts = 1 + dice.below(2);
        let expels = acts.iter().any(|(act, _)| act.is_of_an_expelled()) || dice.once_in(3);
        Self { seed, rights, acts, hostile_casts, member: membership::rights(seed), expels, always: None }
    }
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What has panicked so far, in whichever task: nobody may hear of it otherwise.
pub(crate) fn panics() -> Vec<String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(info.to_string());
            before(info);
        }));
    });
    PANICS.lock().unwrap().clone()
}

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds that are to run.
pub(crate) fn seeds(default: u64) -> Vec<u64> {
    if let Some(seed) = number("CANTRIP_SEED") {
        return vec![seed];
    }
    let first = number("CANTRIP_SEED_FIRST").unwrap_or(0);
    (first..first + number("CANTRIP_SEEDS").unwrap_or(default)).collect()
}

/// Runs seeds and says which failed, with the command that runs each again.
fn all(test: &str, seeds: &[u64], run: impl Fn(Scenario) -> Vec<String>) {
    let (mut failed, mut done) = (Vec::new(), BTreeSet::new());
    for seed in seeds {
        let scenario = Scenario::of(*seed);
        done.extend(scenario.acts.iter().map(|(act, _)| *act));
        // Said before: whatever ends the process can be had again.
        eprintln!("CANTRIP_SEED={seed} {:?}", scenario.acts);
        let found = run(scenario.clone());
        if !found.is_empty() {
            let again = format!("CANTRIP_SEED={seed} cargo test -p cantrip-runtime --test hostile_peers {test}");
            eprintln!("{again}: {found:#?}");
            failed.push(format!("{again}\n    {scenario:?}\n    {}", found.join("\n    ")));
        }
    }
    println!("{} seeds, {} kinds of acts", seeds.len(), done.len());
    assert!(failed.is_empty(), "{} of {} seeds failed:\n{}", failed.len(), seeds.len(), failed.join("\n"));
}

#[test]
fn no_peer_stops_a_node_or_gains_a_right_in_simulated_time() {
    all("in_simulated_time", &seeds(SEEDS_DEFAULT), simulated::run);
}

#[test]
fn no_peer_stops_a_process_or_reads_what_is_not_its_own() {
    let cluster = processes::Cluster::new();
    all("reads_what_is_not_its_own", &seeds(SEEDS_OF_PROCESSES), |scenario| cluster.run(&scenario));
}

#[test]
fn the_seeds_of_every_run_do_everything_that_a_hostile_peer_can() {
    let scenarios: Vec<Scenario> = (0..SEEDS_DEFAULT).map(Scenario::of).collect();
    let done: BTreeSet<Act> = scenarios.iter().flat_map(|scenario| &scenario.acts).map(|(act, _)| *act).collect();
    let missing: Vec<&Act> = Act::ALL.iter().filter(|act| !done.contains(act)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // A right that is always there, or never, is not looked at.
    let has = |right: fn(&Rights) -> bool| {
        let with = scenarios.iter().filter(|scenario| right(&scenario.rights)).count();
        with > 0 && with < scenarios.len()
    };
    let rights: [fn(&Rights) -> bool; 8] = [
        |it| it.cast,
        |it| it.deploy,
        |it| it.keep,
        |it| it.deed,
        |it| it.children,
        |it| it.model,
        |it| it.gates_at_caller,
        |it| it.model_at_caller,
    ];
    assert!(rights.into_iter().all(has));
}

/// With which rights an act of a member is done, and what has to come of it at whom it is done to: else something before it has refused
/// it, and nothing was looked at.
fn reaches(act: Act) -> (&'static [Right], &'static [&'static str]) {
    const NOBODY: &str = "of writers that nobody has admitted";
    const RIGHTS: &str = "beyond their writer's rights";
    const ANOTHERS: &str = "of entities that are another's";
    const EXPELLED: &str = "of expelled writers";
    match act {
        Act::ForgeMember | Act::ForgeRecords => (&Right::ALL, &["not here", "answered `later`"]),
        Act::ForgeByAnothersAdmission => {
            (&Right::ALL, &["behind somebody else's admission", "behind an admission that is not here", NOBODY])
        }
        Act::ForgeBeyondRights => (&[Right::Write], &[RIGHTS, ANOTHERS, "counts", "answered `held`"]),
        Act::ForgeSuccessions => (&[Right::Write], &["not here", "answered `later`", RIGHTS, ANOTHERS]),
        Act::GroundFences => (&Right::ALL, &["answered `fenced`"]),
        Act::ForgeEnds | Act::GroundEpochs | Act::GroundIds => (&Right::ALL, &[ANOTHERS]),
        Act::WithholdAdmission => (&[Right::Write, Right::Admit], &["answered `later`", "counts", RIGHTS]),
        Act::WithholdEntries => (&[Right::Write], &["counts", RIGHTS]),
        Act::WithholdAll => (&Right::ALL, &["not here"]),
        Act::ReplayAnothersLoom | Act::ReplayOldHeads => (&Right::ALL, &["answered `refused`"]),
        Act::ExpelledGoesOn => (&[Right::Write], &[EXPELLED, "behind an admission that decides nothing"]),
        Act::ExpelledUnderAnother => (&Right::ALL, &[EXPELLED]),
        Act::ExpelledBackdates => (&Right::ALL, &["proved", "answered `refused`"]),
        Act::Equivocate => (&[Right::Write], &["proved", "of writers with two histories"]),
        Act::EquivocateToTwo => (&Right::ALL, &["answered `held`"]),
        _ => (&[], &[]),
    }
}

#[test]
fn every_act_of_a_member_reaches_what_decides() {
    for act in Act::ALL.iter().filter(|act| act.is_of_a_member()) {
        let (member, expected) = reaches(*act);
        let scenario = Scenario {
            rights: Rights { keep: true, ..Scenario::of(1).rights },
            acts: vec![(Act::ForgeBeyondRights, 1), (*act, 1)],
            member: member.iter().copied().collect(),
            expels: act.is_of_an_expelled(),
            ..Scenario::of(1)
        };
        let (came, wrong) = membership::came_of(&scenario, *act);
        let missing: Vec<&&str> = expected.iter().filter(|it| !came.contains(**it)).collect();
        assert!(!expected.is_empty() && missing.is_empty(), "{act:?}: {missing:?} and not only {came:?}");
        assert!(wrong.is_empty(), "{act:?}: {wrong:#?}");
    }
}

#[test]
fn a_host_decides_nothing_by_what_it_records_of_a_cast_but_the_cast() {
    let scenario = Scenario { hostile_casts: 6, always: Some(host::Deed::DecidesInItsCast), ..Scenario::of(1) };
    let (came, wrong) = membership::hosted(&scenario);
    for met in [
        ("opened", "counts"),
        ("ended", "counts"),
        ("admitted", "beyond their writer's rights"),
        ("adopted", "of entities that are another's"),
    ] {
        assert!(came.contains(&(met.0.to_owned(), met.1)), "{met:?} and not only {came:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
