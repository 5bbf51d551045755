//! What a hostile peer may do: every kind of act, and a plan of messages for each. The same plans run in simulated time and against
//! real processes.
//!
//! A plan is made from a seed and from what the peer knows: ids of others that it has seen or guessed, and what was said before.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cantrip_runtime::adapters::peer::v1;
use cantrip_runtime::domain::ids::{EntityId, LoomId, WriterKey};
use prost::Message as _;

use super::forge::Dice;
use super::members::Membership;
use super::{casting, copying, members};

macro_rules! acts {
    ($($group:literal: $($name:ident),+;)+) => {
        /// A kind of act.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Act { $($($name),+),+ }

        impl Act {
            pub(crate) const ALL: &[Self] = &[$($(Self::$name),+),+];
        }
    };
}

acts! {
    "casts":
        CastPlain, CastGateNotGranted, CastManyGates, CastOddGates, CastRuntimeGateAtCaller, CastDoneAtCaller, CastOnward, CastChild,
        CastModelNotGranted, CastModelAtCaller, CastOfAnother, CastIntoAnothersLoom, CastForkOfAnother, CastForkOfItself,
        CastForkCycle, CastAgain, CastDeep, CastOddTimes, CastOddWards, CastHugeIntent, CastLongText, CastHugeResult, CastGuest,
        CastGuestNeverComes, CastRelayed, CastMany, CastKept, CastForgedCursor, CastOpenedTwice, CastNeverOpened, CastFlooded,
        CastAnswersWithheld;
    "questions":
        Describe, ListGuests, UploadStatus, Verify, Adopt, HealthAndReflection;
    "uploads":
        DeployAnnouncedOnly, DeployOverrun, DeployOddHeader, DeployNameOfAnother, DeployWithoutHeader;
    "copies":
        HaveHugeKeepers, HaveManyKeepers, HaveOddKeepers, HaveOfAnother, HaveManyLooms, HaveManyLogs, HaveWrongSignature,
        SegmentOwn, SegmentForkCycle, SegmentDeepForks, SegmentForwardReferences, SegmentOddSpent, SegmentAdopts, SegmentEnds,
        SegmentOpensAnothers, SegmentRewards, SegmentUnknownLoom, SegmentGap, SegmentWrongChain, SegmentWrongSignature,
        SegmentTwoHistories, SegmentTooLarge, SegmentManyWriters, TextUnknown, TextHuge, TextNeverEnds, HeldNeverSent, RefusedAll,
        FencesForged, CopiedCastsForged, CopiedCastsInflated, ProofsSelfMade, ProofsLarge, SyncSilent, SyncFlood, SyncRelayed;
    "members":
        ForgeMember, ForgeByAnothersAdmission, ForgeBeyondRights, ForgeEnds, ForgeSuccessions, ForgeRecords, GroundIds, GroundEpochs,
        GroundFences, WithholdAdmission, WithholdEntries, WithholdAll, ReplayAnothersLoom, ReplayOldHeads, ExpelledGoesOn, ExpelledBackdates,
        ExpelledUnderAnother, Equivocate, EquivocateToTwo;
    "connections":
        StrangerCalls, StrangerStreams, NamedLocal, OtherAuthority, NoCertificate, Garbage, GarbageInside, IdleConnections,
        MessageTooLarge;
    "any":
        Mutated, Replayed, Reordered, Doubled, Withheld, Forged;
}

/// Under which certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Its own, which is listed.
    Mallory,
    /// One of the cluster that nobody lists.
    Stranger,
    /// One of the cluster for the name that stands for a node's own user.
    Local,
    /// One of another cluster.
    Outsider,
}

/// What is answered to what a host asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    Nothing,
    Right,
    /// To a question that nobody asked.
    WrongNumber,
    Twice,
    Broken,
    Large,
}

impl Answers {
    pub(crate) const ALL: [Self; 6] =
        [Self::Nothing, Self::Right, Self::WrongNumber, Self::Twice, Self::Broken, Self::Large];
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Say(Bytes),
    /// So many milliseconds.
    Wait(u64),
    /// Nothing more is said; the other side may still speak.
    Close,
    /// The connection is dropped.
    Drop,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: &'static str,
    pub(crate) who: Who,
    pub(crate) steps: Vec<Step>,
    pub(crate) answers: Answers,
}

/// What does not get as far as a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    NoCertificate,
    Garbage,
    GarbageInside,
    Idle(usize),
}

#[derive(Debug, Clone)]
pub(crate) enum Plan {
    /// All at the same time, over one connection for each certificate.
    Calls(Vec<Call>),
    Wire(Wire),
}

pub(crate) const CAST: &str = "/cantrip.v1.Node/Cast";
pub(crate) const IDENTIFY: &str = "/cantrip.v1.Node/Identify";
pub(crate) const SYNC: &str = "/cantrip.v1.Node/Sync";
pub(crate) const DESCRIBE: &str = "/cantrip.v1.Node/Describe";
pub(crate) const LIST_GUESTS: &str = "/cantrip.v1.Node/ListGuests";
pub(crate) const UPLOAD_STATUS: &str = "/cantrip.v1.Node/UploadStatus";
pub(crate) const DEPLOY: &str = "/cantrip.v1.Node/Deploy";
pub(crate) const VERIFY: &str = "/cantrip.v1.Node/Verify";
pub(crate) const ADOPT: &str = "/cantrip.v1.Node/Adopt";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// So many calls are remembered, to be said again.
const REMEMBERED_MAX: usize = 64;

/// What the hostile peer knows: the worst that it could.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) looms: Vec<LoomId>,
    pub(crate) entities: Vec<EntityId>,
    pub(crate) casts: Vec<String>,
    pub(crate) writers: Vec<WriterKey>,
    /// The whole names of the honest nodes.
    pub(crate) nodes: Vec<String>,
    /// Calls that were made before.
    pub(crate) calls: VecDeque<Call>,
    /// The loom in which it is a member, once there is one.
    pub(crate) member: Option<Arc<Membership>>,
    /// Which of the honest nodes it speaks to.
    pub(crate) target: usize,
}

impl Known {
    pub(crate) fn loom(&self, dice: &mut Dice) -> LoomId {
        if self.looms.is_empty() { dice.loom() } else { *dice.pick(&self.looms) }
    }

    pub(crate) fn entity(&self, dice: &mut Dice) -> EntityId {
        if self.entities.is_empty() { dice.entity() } else { *dice.pick(&self.entities) }
    }

    pub(crate) fn remember(&mut self, calls: &[Call]) {
        // Large ones are not worth the memory.
        let small =
            |call: &&Call| call.steps.iter().all(|step| !matches!(step, Step::Say(bytes) if bytes.len() > 64 * 1024));
        self.calls.extend(calls.iter().filter(small).cloned());
        while self.calls.len() > REMEMBERED_MAX {
            self.calls.pop_front();
        }
    }
}

pub(crate) fn call(path: &'static str, steps: Vec<Step>) -> Call {
    Call { path, who: Who::Mallory, steps, answers: Answers::Right }
}

/// A single question and nothing more.
pub(crate) fn ask(path: &'static str, message: &impl prost::Message) -> Call {
    call(path, vec![Step::Say(message.encode_to_vec().into()), Step::Close])
}

/// Makes the plan of an act.
pub(crate) fn plan(act: Act, dice: &mut Dice, known: &Known) -> Plan {
    let plan = casting::plan(act, dice, known).or_else(|| copying::plan(act, dice, known));
    match plan.or_else(|| members::plan(act, dice, known)) {
        Some(calls) => Plan::Calls(calls),
        None => other(act, dice, known),
    }
}

fn other(act: Act, dice: &mut Dice, known: &Known) -> Plan {
    Plan::Calls(match act {
        Act::NoCertificate => return Plan::Wire(Wire::NoCertificate),
        Act::Garbage => return Plan::Wire(Wire::Garbage),
        Act::GarbageInside => return Plan::Wire(Wire::GarbageInside),
        Act::IdleConnections => return Plan::Wire(Wire::Idle(20 + dice.size(60))),
        Act::Describe => vec![ask(DESCRIBE, &v1::DescribeRequest {})],
        Act::ListGuests => {
            let nodes = [String::new(), "c".to_owned(), "x".repeat(100_000)];
            nodes.map(|node| ask(LIST_GUESTS, &v1::ListGuestsRequest { node })).to_vec()
        }
        Act::UploadStatus => {
            let digests = [digest(dice), "sha256:../../etc".to_owned(), String::new(), "sha256:".repeat(50_000)];
            digests.map(|digest| ask(UPLOAD_STATUS, &v1::UploadStatusRequest { digest, node: String::new() })).to_vec()
        }
        Act::Verify => {
            let mut calls = Vec::new();
            for loom in
                known.looms.iter().map(ToString::to_string).chain([dice.loom().to_string(), "no loom".to_owned()])
            {
                for node in ["", "c"] {
                    let client = dice.once_in(2);
                    calls.push(ask(VERIFY, &v1::VerifyRequest { loom: loom.clone(), node: node.to_owned(), client }));
                }
            }
            calls
        }
        Act::Adopt => {
            let (loom, entity) = (known.loom(dice).to_string(), known.entity(dice).to_string());
            vec![ask(ADOPT, &v1::AdoptRequest { loom, entity, accept_loss: true })]
        }
        Act::HealthAndReflection => vec![call(HEALTH, vec![Step::Say(Bytes::new()), Step::Close]), reflection()],
        Act::DeployAnnouncedOnly
        | Act::DeployOverrun
        | Act::DeployOddHeader
        | Act::DeployNameOfAnother
        | Act::DeployWithoutHeader => deploy(act, dice),
        Act::StrangerCalls => every_call(dice, known, Who::Stranger),
        Act::NamedLocal => every_call(dice, known, Who::Local),
        Act::OtherAuthority => every_call(dice, known, Who::Outsider),
        Act::StrangerStreams => {
            let large = Step::Say(vec![0x7a; 1024 * 1024].into());
            let one = |path| Call { who: Who::Stranger, ..call(path, vec![large.clone(), Step::Wait(500)]) };
            (0..12).map(|number| one([CAST, SYNC, DEPLOY, VERIFY][number % 4])).collect()
        }
        Act::MessageTooLarge => {
            let size = [8, 9, 17][dice.size(3)] * 1024 * 1024 + 1;
            let path = *dice.pick(&[CAST, SYNC, DEPLOY, VERIFY]);
            vec![call(path, vec![Step::Say(vec![0x0a; size].into()), Step::Close])]
        }
        Act::Mutated | Act::Replayed | Act::Reordered | Act::Doubled | Act::Withheld | Act::Forged => {
            return changed(act, dice, known);
        }
        // `plan` asks the others first.
        _ => panic!("no plan for {act:?}"),
    })
}

fn reflection() -> Call {
    // `list_services`, field 7, with an empty text.
    call(REFLECTION, vec![Step::Say(Bytes::from_static(&[0x3a, 0x00])), Step::Close])
}

fn every_call(dice: &mut Dice, known: &Known, who: Who) -> Vec<Call> {
    let kinds = [Act::Describe, Act::ListGuests, Act::Verify, Act::Adopt, Act::CastPlain, Act::HaveOfAnother];
    let plans = kinds.map(|act| plan(act, dice, known));
    let calls = plans.into_iter().filter_map(|plan| match plan {
        Plan::Calls(calls) => calls.into_iter().next(),
        Plan::Wire(_) => None,
    });
    let health = [call(HEALTH, vec![Step::Say(Bytes::new()), Step::Close]), reflection()];
    calls.chain(health).map(|call| Call { who, ..call }).collect()
}

/// What another act would do, broken in one of the ways in which every message can be.
fn changed(act: Act, dice: &mut Dice, known: &Known) -> Plan {
    if act == Act::Replayed && !known.calls.is_empty() {
        let again = (0..=dice.below(3)).map(|_| known.calls[dice.size(known.calls.len())].clone());
        return Plan::Calls(again.collect());
    }
    let number_of_any = Act::ALL.len() - 6;
    let mut calls = loop {
        if let Plan::Calls(calls) = plan(Act::ALL[dice.size(number_of_any)], dice, known) {
            break calls;
        }
    };
    for call in &mut calls {
        let steps = &mut call.steps;
        match act {
            Act::Mutated | Act::Replayed => {
                for step in steps.iter_mut() {
                    if let Step::Say(bytes) = step
                        && !dice.once_in(3)
                    {
                        *bytes = dice.mutate(bytes);
                    }
                }
            }
            Act::Reordered if steps.len() > 1 => {
                for _ in 0..steps.len() {
                    let (one, other) = (dice.size(steps.len()), dice.size(steps.len()));
                    steps.swap(one, other);
                }
            }
            Act::Doubled => {
                let doubled = steps.iter().filter(|step| matches!(step, Step::Say(_))).cloned();
                let doubled: Vec<Step> = doubled.collect();
                let at = dice.size(steps.len() + 1);
                steps.splice(at..at, doubled);
            }
            Act::Withheld => {
                steps.retain(|_| !dice.once_in(2));
                steps.push(if dice.once_in(2) { Step::Drop } else { Step::Wait(2_000) });
                call.answers = Answers::Nothing;
            }
            Act::Forged => {
                // A message of one call in another.
                call.path = *dice.pick(&[CAST, SYNC, DEPLOY, VERIFY, DESCRIBE, ADOPT, UPLOAD_STATUS, LIST_GUESTS]);
                call.answers = *dice.pick(&Answers::ALL);
            }
            _ => {}
        }
    }
    Plan::Calls(calls)
}

pub(crate) fn digest(dice: &mut Dice) -> String {
    format!("sha256:{}", cantrip_runtime::domain::ids::hex(&dice.bytes::<32>()))
}

/// What others' guests are called.
pub(crate) const GUEST_OF_ANOTHER: &str = "reader";

fn deploy(act: Act, dice: &mut Dice) -> Vec<Call> {
    use v1::deploy_request::Message;
    let say = |message| Step::Say(v1::DeployRequest { message: Some(message) }.encode_to_vec().into());
    let mut header = v1::DeployHeader {
        name: format!("mallory-{}", dice.below(1_000)),
        digest: digest(dice),
        bytes: 30_000,
        ..v1::DeployHeader::default()
    };
    let chunk = |bytes: usize| say(Message::Chunk(vec![0x61; bytes].into()));
    match act {
        // Each says that it brings as much as is allowed, and brings most of it, at the same time as the others.
        Act::DeployAnnouncedOnly => (0..10)
            .map(|_| {
                let header = v1::DeployHeader { digest: digest(dice), bytes: 60_000, ..header.clone() };
                call(DEPLOY, vec![say(Message::Header(header)), chunk(59_000), Step::Wait(1_000), Step::Drop])
            })
            .collect(),
        Act::DeployOverrun => {
            header.bytes = [0, 1, 100, u64::MAX][dice.size(4)];
            let steps = vec![say(Message::Header(header)), chunk(50_000), chunk(200_000), chunk(1), Step::Close];
            vec![call(DEPLOY, steps)]
        }
        Act::DeployOddHeader => {
            let odd = |header: v1::DeployHeader| {
                call(
                    DEPLOY,
                    vec![say(Message::Header(header)), chunk(10), say(Message::Chunk(Bytes::new())), Step::Close],
                )
            };
            vec![
                odd(v1::DeployHeader { name: "../../escaped".to_owned(), ..header.clone() }),
                odd(v1::DeployHeader { name: "n".repeat(100_000), ..header.clone() }),
                odd(v1::DeployHeader { digest: "sha256:../escaped".to_owned(), ..header.clone() }),
                odd(v1::DeployHeader { offset: u64::MAX, ..header.clone() }),
                odd(v1::DeployHeader { offset: u64::MAX, bytes: u64::MAX, ..header.clone() }),
                odd(v1::DeployHeader { offset: 5, bytes: 15, ..header.clone() }),
                odd(v1::DeployHeader {
                    signature: vec![1; 63].into(),
                    publisher: vec![2; 33].into(),
                    ..header.clone()
                }),
                odd(v1::DeployHeader {
                    signature: vec![0; 64].into(),
                    publisher: vec![0; 32].into(),
                    ..header.clone()
                }),
                odd(v1::DeployHeader { node: "c".to_owned(), ..header }),
            ]
        }
        Act::DeployNameOfAnother => {
            let component: &[u8] = include_bytes!("../fuzz/component/trivial.wasm");
            let digest = sha256(component);
            let name = GUEST_OF_ANOTHER.to_owned();
            let header =
                v1::DeployHeader { name, digest, bytes: component.len() as u64, ..v1::DeployHeader::default() };
            let bytes = say(Message::Chunk(Bytes::from_static(component)));
            vec![call(DEPLOY, vec![say(Message::Header(header)), bytes, Step::Close])]
        }
        _ => vec![call(DEPLOY, vec![chunk(1_000), say(Message::Header(header)), chunk(10), Step::Close])],
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    format!("sha256:{}", cantrip_runtime::domain::ids::hex(&sha2::Sha256::digest(bytes)))
}
