//! Copies that nobody should take: keepers, logs, segments, texts, acknowledgements and proofs.

use bytes::Bytes;
use cantrip_runtime::adapters::peer::v1;
use cantrip_runtime::adapters::peer::v1::copy_message::Message as Said;
use cantrip_runtime::adapters::store::NodeKey;
use cantrip_runtime::domain::ids::{EntityId, LoomId};
use cantrip_runtime::domain::limits::FENCE_STEP_MAX;
use cantrip_runtime::domain::loom::{Body, CastChain, Head, SignedFence};
use prost::Message as _;
use serde_json::json;

use super::act::{Act, CAST, Call, Known, SYNC, Step, call};
use super::casting::MARK;
use super::forge::{Dice, Log, cast_head, ended, fork, intent, log_head, opened, proof, signed, utterance};

pub(crate) fn say(said: Said) -> Step {
    Step::Say(v1::CopyMessage { message: Some(said) }.encode_to_vec().into())
}

fn hello() -> Step {
    say(Said::Hello(v1::CopyHello::default()))
}

fn keeper(node: &str) -> v1::Keeper {
    v1::Keeper { node: node.to_owned(), kind: "disk".to_owned(), revision: 1 }
}

pub(super) fn have(loom: LoomId, logs: Vec<v1::LogHead>) -> v1::CopyHave {
    let keepers = ["a", "b", "c", "m"].map(keeper).to_vec();
    v1::CopyHave { loom: loom.to_string(), keepers, logs, origin: "m".to_owned(), casts: Vec::new() }
}

/// A conversation that says these things after a greeting.
pub(super) fn conversation(said: Vec<Step>) -> Call {
    let mut steps = vec![hello()];
    steps.extend(said);
    steps.push(Step::Wait(1_500));
    call(SYNC, steps)
}

/// Offers logs and sends all of them.
pub(super) fn offered(logs: &[&Log]) -> Vec<Step> {
    let mut said = Vec::new();
    for log in logs {
        said.push(say(Said::Have(have(log.loom, vec![log.state()]))));
    }
    said.push(Step::Wait(200));
    for log in logs {
        for from in (0..log.entries.len()).step_by(1_000) {
            let to = log.entries.len().min(from + 1_000);
            said.push(say(Said::Segment(log.segment(from, to))));
        }
    }
    said
}

pub(super) fn one(said: Vec<Step>) -> Vec<Call> {
    vec![conversation(said)]
}

pub(crate) fn plan(act: Act, dice: &mut Dice, known: &Known) -> Option<Vec<Call>> {
    let fresh = dice.loom();
    Some(match act {
        Act::HaveHugeKeepers | Act::HaveManyKeepers | Act::HaveOddKeepers => one(keepers(act, dice)),
        Act::HaveOfAnother => {
            let looms = known.looms.iter().chain([&fresh]);
            one(looms.map(|loom| say(Said::Have(have(*loom, Vec::new())))).collect())
        }
        Act::HaveManyLooms => one((0..200).map(|_| say(Said::Have(have(dice.loom(), Vec::new())))).collect()),
        Act::HaveManyLogs => {
            let key = dice.key();
            let head = |dice: &mut Dice| {
                let mut head = log_head(&signed(&key, fresh, Head { sequence: 9, chain: [3; 32] }));
                head.writer = Bytes::copy_from_slice(&dice.bytes::<32>());
                head
            };
            let logs = (0..10_050).map(|_| head(dice)).collect();
            one(vec![say(Said::Have(have(fresh, logs)))])
        }
        Act::HaveWrongSignature => {
            let log = Log::honest(dice, fresh, 3);
            let mut states = vec![log.state(); 6];
            states[0].signature = vec![0; 64].into();
            states[1].signed_sequence = Some(u64::MAX);
            states[2].sequence = u64::MAX;
            states[3].writer = vec![1; 31].into();
            states[4].signed_chain = Bytes::new();
            for (state, writer) in states.iter_mut().skip(5).zip(&known.writers) {
                state.writer = Bytes::copy_from_slice(writer.as_bytes());
            }
            let say_have = |state: v1::LogHead| conversation(vec![say(Said::Have(have(fresh, vec![state])))]);
            states.into_iter().map(say_have).collect()
        }
        Act::SegmentOwn => one(offered(&[&Log::honest(dice, fresh, 20)])),
        Act::SegmentForkCycle => fork_cycle(dice, known),
        Act::SegmentDeepForks => one(offered(&[&deep_forks(dice, fresh)])),
        Act::SegmentForwardReferences => one(offered(&[&forward(dice, fresh)])),
        Act::SegmentOddSpent => one(offered(&[&odd_spent(dice, fresh)])),
        Act::SegmentAdopts
        | Act::SegmentEnds
        | Act::SegmentOpensAnothers
        | Act::SegmentRewards
        | Act::SegmentUnknownLoom => one(about_others(act, dice, known)),
        Act::SegmentGap
        | Act::SegmentWrongChain
        | Act::SegmentWrongSignature
        | Act::SegmentTwoHistories
        | Act::SegmentTooLarge
        | Act::SegmentManyWriters => one(wrong_segments(act, dice, fresh)),
        Act::TextUnknown | Act::TextHuge | Act::TextNeverEnds => one(texts(act, dice, fresh)),
        Act::HeldNeverSent => {
            let mut said = Vec::new();
            for loom in known.looms.iter().chain([&fresh]) {
                said.push(say(Said::Have(have(*loom, Vec::new()))));
                for writer in &known.writers {
                    let writer = Bytes::copy_from_slice(writer.as_bytes());
                    let (loom, kind, chain) = (loom.to_string(), "disk".to_owned(), Bytes::from_static(&[7; 32]));
                    let held = v1::CopyHeld { loom, writer, sequence: u64::MAX / 2, kind, chain };
                    said.push(say(Said::Held(held)));
                }
            }
            one(said)
        }
        Act::FencesForged => {
            let mut said: Vec<Step> = known.looms.iter().map(|loom| say(Said::Have(have(*loom, Vec::new())))).collect();
            for epoch in [0, 1, FENCE_STEP_MAX, u64::MAX] {
                let (loom, entity, key) = (known.loom(dice), known.entity(dice), dice.key());
                let fence = NodeKey::from_secret(&key.to_bytes()).sign_fence(loom, entity, epoch);
                said.push(say(Said::Fencing(fencing(&fence))));
                // In the name of somebody else, and what nobody has asked for.
                let by = known.writers.first().copied().unwrap_or(fence.by);
                said.push(say(Said::Fencing(fencing(&SignedFence { by, ..fence }))));
                let (loom, entity) = (loom.to_string(), entity.to_string());
                let logs = vec![Log::honest(dice, fresh, 3).state(); 3];
                let refused = if dice.once_in(2) { String::new() } else { MARK.to_owned() };
                said.push(say(Said::Fenced(v1::CopyFenced { loom, entity, epoch, refused, above: u64::MAX, logs })));
            }
            one(said)
        }
        Act::CopiedCastsForged => one(casts_forged(dice, known)),
        Act::CopiedCastsInflated => one(casts_inflated(dice, known)),
        Act::RefusedAll => {
            let refused = |loom: &LoomId| v1::CopyRefused {
                loom: loom.to_string(),
                message: format!("\u{1b}]0;{MARK}\u{7}\r{}", "refused ".repeat(20_000)),
                ..v1::CopyRefused::default()
            };
            one(known.looms.iter().chain([&fresh]).map(|loom| say(Said::Refused(refused(loom)))).collect())
        }
        Act::ProofsSelfMade => one((0..40).map(|_| accusation(dice, fresh, 2)).collect()),
        Act::ProofsLarge => {
            let loom = known.loom(dice);
            one((0..3).map(|_| accusation(dice, loom, 50_000)).collect())
        }
        Act::SyncSilent => vec![
            call(SYNC, vec![Step::Wait(6_000)]),
            call(SYNC, vec![hello(), Step::Wait(4_000)]),
            call(SYNC, vec![hello(), Step::Close]),
            call(SYNC, vec![hello(), hello(), Step::Say(Bytes::new()), Step::Wait(500)]),
        ],
        Act::SyncFlood => {
            let said: Vec<Step> = known.looms.iter().map(|loom| say(Said::Have(have(*loom, Vec::new())))).collect();
            let said = said.iter().cycle().take(if said.is_empty() { 0 } else { 1_500 }).cloned();
            one(said.collect())
        }
        Act::SyncRelayed => ["c", "b", "a", "elsewhere"]
            .map(|node| {
                let hello = v1::CopyHello { node: node.to_owned(), client: true };
                let mut steps = vec![say(Said::Hello(hello))];
                steps.extend(known.looms.iter().map(|loom| say(Said::Have(have(*loom, Vec::new())))));
                steps.push(Step::Wait(500));
                call(SYNC, steps)
            })
            .to_vec(),
        _ => return None,
    })
}

/// What hosts are said to have written of casts, and have not: new entries, older heads, and more or less than a head covers.
fn casts_forged(dice: &mut Dice, known: &Known) -> Vec<Step> {
    let mut said: Vec<Step> = known.looms.iter().map(|loom| say(Said::Have(have(*loom, Vec::new())))).collect();
    for _ in 0..4 {
        let (loom, cast) = (known.loom(dice), known.entity(dice));
        let mut log = Log::new(dice.key(), loom);
        log.push(cast, None, ended("forged by mallory"));
        log.push(cast, None, intent("go on for mallory"));
        let all = log.ids.len();
        let head = |entries: usize| cast_head(&log.key, loom, cast, log.cast_chain(entries));
        let of_another = known.writers.first().map(|writer| Bytes::copy_from_slice(writer.as_bytes()));
        let named = v1::CastHead { writer: of_another.unwrap_or_default(), ..head(all) };
        let step = |heads: Vec<v1::CastHead>, entries: usize| v1::CopyCast {
            loom: loom.to_string(),
            entries: log.entries.iter().take(entries).cloned().collect(),
            heads,
        };
        let whole = step(vec![head(all)], all);
        // In another's name, less than it says, more than it says, and rewound behind what was said before.
        let steps =
            [step(vec![named], all), step(vec![head(all)], 1), step(vec![head(1)], all), whole, step(vec![head(1)], 0)];
        said.extend(steps.into_iter().map(|step| say(Said::Cast(step))));
    }
    said
}

/// Acknowledgements of casts that nobody has sent, and heads far beyond what there is.
fn casts_inflated(dice: &mut Dice, known: &Known) -> Vec<Step> {
    let mut said = Vec::new();
    for _ in 0..4 {
        let (loom, cast, key) = (known.loom(dice), known.entity(dice), dice.key());
        let at = CastChain { place: u64::MAX, chain: [7; 32] };
        said.push(say(Said::Have(v1::CopyHave {
            casts: vec![cast_head(&key, loom, cast, at)],
            ..have(loom, Vec::new())
        })));
        for writer in &known.writers {
            let held =
                v1::CopyCastHeld { place: u64::MAX / 2, chain: Bytes::from_static(&[7; 32]), kind: "disk".to_owned() };
            said.push(say(Said::CastAnswer(v1::CopyCastAnswer {
                loom: loom.to_string(),
                writer: Bytes::copy_from_slice(writer.as_bytes()),
                cast: cast.to_string(),
                answer: Some(v1::copy_cast_answer::Answer::Held(held)),
            })));
        }
    }
    said
}

pub(crate) fn fencing(fence: &SignedFence) -> v1::CopyFencing {
    v1::CopyFencing {
        loom: fence.loom.to_string(),
        entity: fence.entity.to_string(),
        epoch: fence.epoch,
        by: Bytes::copy_from_slice(fence.by.as_bytes()),
        signature: Bytes::copy_from_slice(&fence.signature),
        ..v1::CopyFencing::default()
    }
}

/// What a hostile keeper says when it is called: any of what it says as a caller, without the greeting.
pub(crate) fn as_keeper(dice: &mut Dice, known: &Known) -> Vec<Step> {
    let from = Act::ALL.iter().position(|act| *act == Act::HaveHugeKeepers).unwrap();
    let to = Act::ALL.iter().position(|act| *act == Act::SyncSilent).unwrap();
    let act = Act::ALL[from + dice.size(to - from)];
    let calls = plan(act, dice, known).unwrap_or_default();
    let steps = calls.into_iter().filter(|call| call.path == SYNC).flat_map(|call| call.steps.into_iter().skip(1));
    steps.take(2_000).collect()
}

fn keepers(act: Act, dice: &mut Dice) -> Vec<Step> {
    let mut have = have(dice.loom(), Vec::new());
    match act {
        Act::HaveHugeKeepers => {
            have.keepers.extend((0..20).map(|number| keeper(&format!("{number}{}", "k".repeat(100_000)))));
        }
        Act::HaveManyKeepers => have.keepers.extend((0..20_000).map(|number| keeper(&format!("k{number}")))),
        _ => {
            let names =
                ["", "local", "a/local", "m/local", "../../escaped", "\u{1b}[2J", "A", "-", "b@elsewhere:1", "ä"];
            return names
                .iter()
                .flat_map(|name| {
                    let mut one = super::copying::have(dice.loom(), Vec::new());
                    let revision = [0, u64::MAX][dice.size(2)];
                    let kind = ["none", "memory", "disk", "paper"][dice.size(4)].to_owned();
                    one.keepers.push(v1::Keeper { node: (*name).to_owned(), kind, revision });
                    (*name).clone_into(&mut one.origin);
                    [say(Said::Have(one))]
                })
                .collect();
        }
    }
    have.origin = "o".repeat(1_000_000);
    let mut plain = have.clone();
    "m".clone_into(&mut plain.origin);
    plain.loom = dice.loom().to_string();
    vec![say(Said::Have(have)), say(Said::Have(plain))]
}

/// Two entities, each a fork of the other, and one of itself; then a cast that forks one of them.
pub(crate) fn fork_cycle(dice: &mut Dice, _: &Known) -> Vec<Call> {
    let mut log = Log::new(dice.key(), dice.loom());
    let [itself, one, other] = [dice.entity(), dice.entity(), dice.entity()];
    for (entity, of) in [(itself, itself), (one, other), (other, one)] {
        let opening = opened(dice, |opened| {
            opened.fork = Some(fork(of, 1));
            opened.caller = Some("m@m:7400".to_owned());
        });
        log.push(entity, None, opening);
    }
    // A child that is its own parent.
    let child = dice.entity();
    let opening = opened(dice, |opened| (opened.spawned_by, opened.depth) = (Some(child), 1));
    log.push(child, None, opening);
    let cast = |of: EntityId, dice: &mut Dice| {
        let cantrip = v1::Cantrip { model: Some(v1::Model::default()), ..v1::Cantrip::default() };
        let open = v1::Open {
            cast: dice.cast().to_string(),
            loom: log.loom.to_string(),
            entity: dice.entity().to_string(),
            cantrip: Some(cantrip),
            intent: json!([{ "done": MARK }]).to_string(),
            fork: Some(v1::Fork { of: of.to_string(), turns: 1 }),
            lease_ms: 3_000,
            ..v1::Open::default()
        };
        call(
            CAST,
            vec![Step::Wait(1_200), super::casting::say(v1::caller_message::Message::Open(open)), Step::Wait(1_000)],
        )
    };
    let mut calls = vec![conversation(offered(&[&log]))];
    calls.extend([itself, one].map(|of| cast(of, dice)));
    calls
}

/// A chain of honest forks, longer than any stack of calls should be.
fn deep_forks(dice: &mut Dice, loom: LoomId) -> Log {
    let mut log = Log::new(dice.key(), loom);
    let mut of: Option<EntityId> = None;
    for _ in 0..300 {
        let entity = dice.entity();
        let opening = opened(dice, |opened| opened.fork = of.map(|of| fork(of, 1)));
        let last = log.push(entity, None, opening);
        log.push(entity, Some(last), utterance("echo", "{}"));
        of = Some(entity);
    }
    log
}

/// What refers to what comes later, to another loom, or to nothing.
fn forward(dice: &mut Dice, loom: LoomId) -> Log {
    let mut log = Log::new(dice.key(), loom);
    let (first, second, nobody) = (dice.entity(), dice.entity(), dice.entity());
    let opening =
        opened(dice, |opened| (opened.fork, opened.spawned_by) = (Some(fork(second, u64::MAX)), Some(second)));
    let root = log.push(first, None, opening);
    let elsewhere = cantrip_runtime::domain::ids::EntryId::from_digest(dice.bytes());
    let opening = opened(dice, |opened| opened.spawned_by = Some(first));
    log.push(second, Some(elsewhere), opening);
    log.push(nobody, Some(root), intent(MARK));
    log.push(first, Some(elsewhere), utterance("echo", "{"));
    log.push(
        first,
        Some(root),
        Body::Folded {
            first: u64::MAX,
            last: 0,
            summary: cantrip_runtime::domain::loom::Payload::Inline(MARK.to_owned()),
            usage: cantrip_runtime::domain::model::Usage::default(),
        },
    );
    log
}

/// Costs and times at the end of what their numbers hold.
fn odd_spent(dice: &mut Dice, loom: LoomId) -> Log {
    let mut log = Log::new(dice.key(), loom);
    let entity = dice.entity();
    let opening = opened(dice, |opened| opened.depth = u32::MAX);
    let mut last = log.push(entity, None, opening);
    for _ in 0..3 {
        last = log.push(entity, Some(last), utterance("echo", "[]"));
    }
    log.push(entity, Some(last), ended(MARK));
    log
}

/// Entries of the hostile peer's own logs about others' entities.
fn about_others(act: Act, dice: &mut Dice, known: &Known) -> Vec<Step> {
    let mut said = Vec::new();
    let looms: Vec<LoomId> = match act {
        // In a loom of its own, about somebody else's entity.
        Act::SegmentEnds => vec![dice.loom(), known.loom(dice)],
        Act::SegmentUnknownLoom => {
            let loom = known.loom(dice);
            let log = Log::honest(dice, loom, 3);
            return vec![say(Said::Segment(log.whole()))];
        }
        _ => known.looms.clone(),
    };
    for loom in looms {
        let mut log = Log::new(dice.key(), loom);
        for entity in known.entities.iter().take(4) {
            let body = match act {
                Act::SegmentAdopts => Body::adopted([1, 2, u64::MAX][dice.size(3)], "m@m:7400".to_owned()),
                Act::SegmentEnds => ended("forged by mallory"),
                Act::SegmentRewards => Body::rewarded(f64::MAX, "a".to_owned()),
                _ => opened(dice, |opened| opened.caller = Some("m@m:7400".to_owned())),
            };
            log.push(*entity, None, body);
        }
        if !log.entries.is_empty() {
            said.extend(offered(&[&log]));
        }
    }
    said
}

fn wrong_segments(act: Act, dice: &mut Dice, loom: LoomId) -> Vec<Step> {
    let log = Log::honest(dice, loom, 12);
    let mut said = vec![say(Said::Have(have(loom, vec![log.state()])))];
    let mut segments = vec![log.whole(); 4];
    match act {
        Act::SegmentGap => {
            segments = vec![log.segment(6, 12), log.segment(3, 9), log.segment(9, 12), log.segment(0, 2)];
            segments[3].from_sequence = u64::MAX;
        }
        Act::SegmentWrongChain => {
            segments[0].chain = vec![0; 32].into();
            segments[1].from_chain = vec![7; 32].into();
            segments[2].entries.swap(1, 2);
            segments[3].sequence = u64::MAX;
        }
        Act::SegmentWrongSignature => {
            segments[0].signature = vec![0; 64].into();
            segments[1].signature = vec![0xff; 64].into();
            segments[2].writer = vec![0; 32].into();
            segments[3].signature = Bytes::new();
        }
        Act::SegmentTwoHistories => {
            let mut other = Log::new(log.key.clone(), loom);
            let entity = dice.entity();
            let opening = opened(dice, |_| {});
            let root = other.push(entity, None, opening);
            for number in 0..11 {
                other.push(entity, Some(root), intent(&format!("{MARK} otherwise {number}")));
            }
            segments = vec![log.whole(), other.whole(), other.segment(0, 4), log.whole()];
            said.push(say(Said::Have(have(loom, vec![other.state()]))));
        }
        Act::SegmentTooLarge => {
            let mut large = Log::new(dice.key(), loom);
            let entity = dice.entity();
            for _ in 0..5 {
                large.push(entity, None, intent(&"l".repeat(900_000)));
            }
            let mut longest = Log::new(dice.key(), loom);
            longest.push(entity, None, intent(&"l".repeat(2_100_000)));
            let mut most = log.whole();
            most.entries = vec![Bytes::from_static(b"\xa0"); 50_000];
            let mut none = log.whole();
            none.entries.clear();
            segments = vec![large.whole(), longest.whole(), most, none];
        }
        _ => {
            let many: Vec<Log> = (0..120).map(|_| Log::honest(dice, loom, 1)).collect();
            return offered(&many.iter().collect::<Vec<_>>());
        }
    }
    said.extend(segments.into_iter().map(|segment| say(Said::Segment(segment))));
    said
}

fn texts(act: Act, dice: &mut Dice, loom: LoomId) -> Vec<Step> {
    let log = Log::honest(dice, loom, 2);
    let text = |loom: LoomId, bytes: usize, last| {
        say(Said::Text(v1::CopyText { loom: loom.to_string(), bytes: vec![0x74; bytes].into(), last }))
    };
    let mut said = vec![text(dice.loom(), 1_000, true), say(Said::Have(have(loom, vec![log.state()])))];
    match act {
        Act::TextUnknown => {
            // Texts that nothing refers to.
            said.extend((0..50).map(|_| {
                let bytes = dice.bytes::<32>().repeat(20).into();
                say(Said::Text(v1::CopyText { loom: loom.to_string(), bytes, last: true }))
            }));
        }
        Act::TextHuge => said.extend((0..9).map(|number| text(loom, 8_000_000, number == 8))),
        _ => said.extend((0..20).map(|_| text(loom, 250_000, false))),
    }
    said.push(say(Said::Segment(log.whole())));
    said
}

fn accusation(dice: &mut Dice, loom: LoomId, ids: usize) -> Step {
    let entries = vec![Bytes::from_static(&[0xa0]); ids / 100];
    say(Said::Divided(v1::CopyDivided { proof: proof(dice, loom, ids), entries }))
}
