//! The hostile peer as a host: whoever casts on it, keeps looms with it or asks it anything gets whatever a seed says.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cantrip_runtime::adapters::peer::v1;
use cantrip_runtime::adapters::peer::v1::host_message::Message as Told;
use cantrip_runtime::domain::ids::WriterKey;
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId};
use cantrip_runtime::domain::loom::{Body, Minted, Sealed};
use cantrip_runtime::domain::members::{
    Admitted, Expelled, LogEnd, Nonce, Principal, ProvedEntry, Right, Scope, Settled, Target,
};
use ed25519_dalek::SigningKey;
use prost::Message as _;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::{Code, Request, Response, Status, Streaming};

use super::act::{CAST, IDENTIFY, Known, SYNC, Step, Who};
use super::casting::MARK;
use super::client::{Ears, Raw};
use super::copying::as_keeper;
use super::forge::{Dice, Log, cast_head, ended, intent, opened, utterance, writer};

macro_rules! deeds {
    ($($name:ident),+ $(,)?) => {
        /// What it does with a cast.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Deed { $($name),+ }

        impl Deed {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

deeds! {
    EndsAtOnce, SpendsEverything, FailsAtLength, AnswersNoJson, AnswersDeeply, AsksGatesNotPlaced, AsksPlacedGates, AsksBadly,
    AsksModel, AsksModelAtLength, WantsGuests, TellsOthersEntries, OpensTwice, TellsOutOfOrder, TellsDamaged, TellsAnothersLoom,
    TellsLongTexts, TextNeverEnds, TellsOddEvents, RefusesOddly, Silence, EndsStream, Fails, BeatsForever, AcceptsForever,
    NeverAccepts, Mutates, TooLarge, GoesOnAfterItsEnd, SignsNothing, SignsForAnother, LeavesOutWhatItSigned, MovesWhatItSigned,
    SignsAnothersCast, SignsAnothersLoom, ReplaysAHead, CutsWhatItSigned, SignsTwoHistories, SignsWithoutEnd,
    DecidesInItsCast,
}

/// How often each was done, over all seeds of the process.
pub(crate) static DONE: Mutex<std::collections::BTreeSet<Deed>> = Mutex::new(std::collections::BTreeSet::new());

#[derive(Clone)]
pub(crate) struct HostileHost {
    pub(crate) ears: Arc<Ears>,
    pub(crate) known: Arc<Mutex<Known>>,
    pub(crate) seed: u64,
    pub(crate) calls: Arc<AtomicU64>,
    /// What it does with every cast; nothing: whatever the seed says.
    pub(crate) always: Option<Deed>,
}

/// The key under which it writes as a host.
pub(crate) fn key_of(seed: u64) -> SigningKey {
    Dice::new(seed ^ 0x6b65_7973).key()
}

impl tonic::server::NamedService for HostileHost {
    const NAME: &'static str = "cantrip.v1.Node";
}

type Answered = ReceiverStream<Result<Bytes, Status>>;

impl Service<http::Request<tonic::body::Body>> for HostileHost {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let (host, path) = (self.clone(), request.uri().path().to_owned());
        Box::pin(async move {
            let answering = tower::service_fn(move |said: Request<Streaming<Bytes>>| {
                let (host, path) = (host.clone(), path.clone());
                async move { Ok::<Response<Answered>, Status>(Response::new(host.answered(&path, said.into_inner()))) }
            });
            let mut grpc = tonic::server::Grpc::new(Raw)
                .apply_max_message_size_config(Some(64 * 1024 * 1024), Some(64 * 1024 * 1024));
            Ok(grpc.streaming(answering, request).await)
        })
    }
}

type Out = mpsc::Sender<Result<Bytes, Status>>;

impl HostileHost {
    fn answered(self, path: &str, said: Streaming<Bytes>) -> Answered {
        let (out, answers) = mpsc::channel(16);
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let dice = Dice::new(self.seed ^ (number << 32));
        let path = path.to_owned();
        // Ends with its stream: a receiver that is gone ends every send.
        tokio::spawn(async move {
            match path.as_str() {
                CAST => self.cast(said, out, dice).await,
                SYNC => self.sync(said, out, dice).await,
                IDENTIFY => self.identify(said, out, dice).await,
                _ => self.other(said, out, dice).await,
            }
        });
        ReceiverStream::new(answers)
    }

    /// Its key, most of the time, with what vouches for nothing.
    async fn identify(self, mut said: Streaming<Bytes>, out: Out, mut dice: Dice) {
        drop(said.message().await);
        let key = if dice.once_in(8) { dice.key() } else { key_of(self.seed) };
        let odd: Vec<Bytes> = (0..dice.below(400)).map(|_| Bytes::from_static(&[0xa0])).collect();
        let vouching = dice.once_in(8).then_some(v1::Vouching { members: odd.clone(), successions: odd });
        let identified = v1::IdentifyResponse { writer: Bytes::copy_from_slice(writer(&key).as_bytes()), vouching };
        let bytes = Bytes::from(identified.encode_to_vec());
        let answer = match dice.below(16) {
            0 => Ok(dice.mutate(&bytes)),
            1 => Err(Status::new(code(&mut dice), "no ".repeat(50_000))),
            2 => return sleep(Duration::from_secs(30)).await,
            _ => Ok(bytes),
        };
        drop(out.send(answer).await);
    }

    async fn other(self, mut said: Streaming<Bytes>, out: Out, mut dice: Dice) {
        drop(said.message().await);
        let described = v1::DescribeResponse {
            node: "b@b:7400".to_owned(),
            version: "\u{1b}[2J".repeat(10_000),
            writer: "w".repeat(100_000),
            caller: "local".to_owned(),
            gates: (0..5_000)
                .map(|number| format!("gate_{number}"))
                .chain(["deed".to_owned(), "done".to_owned()])
                .collect(),
            models: vec!["told".to_owned()],
            may_cast: true,
            ..v1::DescribeResponse::default()
        };
        let bytes = Bytes::from(described.encode_to_vec());
        let answer = match dice.below(5) {
            0 => Ok(dice.mutate(&bytes)),
            1 => Err(Status::new(code(&mut dice), "no ".repeat(50_000))),
            2 => return sleep(Duration::from_secs(30)).await,
            _ => Ok(bytes),
        };
        drop(out.send(answer).await);
    }

    async fn sync(self, mut said: Streaming<Bytes>, out: Out, mut dice: Dice) {
        let known = self.known.lock().unwrap().clone();
        let steps = as_keeper(&mut dice, &known);
        let speaking = async {
            for step in steps {
                match step {
                    Step::Say(bytes) => {
                        if out.send(Ok(bytes)).await.is_err() {
                            return;
                        }
                    }
                    Step::Wait(ms) => sleep(Duration::from_millis(ms)).await,
                    Step::Close | Step::Drop => return,
                }
            }
        };
        let hearing = async {
            while let Ok(Some(message)) = said.message().await {
                self.ears.hear(SYNC, Who::Mallory, &message);
            }
        };
        tokio::join!(speaking, hearing);
    }

    async fn cast(self, mut said: Streaming<Bytes>, out: Out, mut dice: Dice) {
        let Ok(Some(first)) = said.message().await else { return };
        self.ears.hear(CAST, Who::Mallory, &first);
        let message = v1::CallerMessage::decode(first).ok().and_then(|it| it.message);
        let Some(v1::caller_message::Message::Open(open)) = message else { return };
        let deed = self.always.unwrap_or(*dice.pick(Deed::ALL));
        DONE.lock().unwrap().insert(deed);
        let known = self.known.lock().unwrap().clone();
        let speaking = async {
            // Mostly under the key that was admitted for it: what it says then is read, and not left out.
            let key = if dice.once_in(4) { dice.key() } else { key_of(self.seed) };
            let told = told(deed, &open, key, &mut dice, &known);
            for told in told {
                match told {
                    Say::Told(told) => {
                        let bytes = Bytes::from(v1::HostMessage { message: Some(told) }.encode_to_vec());
                        let bytes = if deed == Deed::Mutates { dice.mutate(&bytes) } else { bytes };
                        if out.send(Ok(bytes)).await.is_err() {
                            return;
                        }
                    }
                    Say::Bytes(bytes) => drop(out.send(Ok(bytes)).await),
                    Say::Fail(status) => return drop(out.send(Err(status)).await),
                    Say::Wait(ms) => sleep(Duration::from_millis(ms)).await,
                }
            }
        };
        let hearing = async {
            while let Ok(Some(message)) = said.message().await {
                self.ears.hear(CAST, Who::Mallory, &message);
            }
        };
        tokio::select! {
            () = speaking => {}
            () = hearing => {}
        }
    }
}

enum Say {
    Told(Told),
    Bytes(Bytes),
    Fail(Status),
    Wait(u64),
}

fn code(dice: &mut Dice) -> Code {
    Code::from_i32(i32::try_from(1 + dice.below(16)).unwrap())
}

fn end() -> v1::Ended {
    v1::Ended {
        how: "terminated".to_owned(),
        reason: "done".to_owned(),
        result: Some(format!("\"{MARK}\"")),
        ..v1::Ended::default()
    }
}

fn gate_call(call: u64, gate: &str) -> Told {
    let arguments = json!({ "deed": format!("{MARK}-host-{gate}-{call}") }).to_string();
    Told::GateCall(v1::GateCall { call, gate: gate.to_owned(), arguments })
}

fn question(call: u64, text: &str) -> Told {
    let message = v1::Message { role: "user".to_owned(), content: Some(text.to_owned()), ..v1::Message::default() };
    Told::ModelCall(v1::ModelCall {
        call,
        messages: vec![message],
        tools: Vec::new(),
        tool_choice: "auto".to_owned(),
        sampling: None,
    })
}

fn entries(log: &Log) -> Vec<Told> {
    let each = log.entries.iter().zip(&log.ids);
    each.map(|(bytes, id)| Told::Entry(v1::Entry { id: id.to_string(), bytes: bytes.clone() })).collect()
}

fn heads(heads: Vec<v1::CastHead>) -> Told {
    Told::Heads(v1::CastHeads { heads, cursor: vec![1; 16].into() })
}

/// A log's entries, and its writer's word for all of them.
fn covered(log: &Log, cast: EntityId) -> Vec<Told> {
    let mut told = entries(log);
    told.push(heads(vec![cast_head(&log.key, log.loom, cast, log.cast_chain(log.ids.len()))]));
    told
}

/// A cast whose head is not what it should be.
fn under_another_head(deed: Deed, log: &Log, cast: EntityId, dice: &mut Dice) -> Vec<Told> {
    let (mut told, all) = (entries(log), log.ids.len());
    let sound = |entries: usize| cast_head(&log.key, log.loom, cast, log.cast_chain(entries));
    let head = match deed {
        Deed::SignsForAnother => v1::CastHead { signature: sound(all - 1).signature, ..sound(all) },
        Deed::LeavesOutWhatItSigned => {
            told.remove(1);
            sound(all)
        }
        Deed::MovesWhatItSigned => {
            told.swap(0, 1);
            sound(all)
        }
        Deed::SignsAnothersCast => cast_head(&log.key, log.loom, dice.entity(), log.cast_chain(all)),
        Deed::SignsAnothersLoom => cast_head(&log.key, dice.loom(), cast, log.cast_chain(all)),
        Deed::ReplaysAHead => {
            told.insert(1, heads(vec![sound(1)]));
            sound(1)
        }
        Deed::CutsWhatItSigned => {
            told.truncate(1);
            sound(all)
        }
        Deed::SignsTwoHistories => {
            told.push(heads(vec![sound(all)]));
            let mut other = log.clone();
            other.push(cast, other.ids.last().copied(), ended("another end"));
            told.extend(entries(&other));
            cast_head(&other.key, other.loom, cast, other.cast_chain(all + 1))
        }
        _ => return told,
    };
    told.push(heads(vec![head]));
    told
}

/// The admission that an order shows for the entity that is to run.
fn admission(open: &v1::Open, entity: EntityId) -> Option<EntryId> {
    let shown = open.proofs.iter().filter_map(|bytes| ProvedEntry::parse(bytes).ok());
    let shown = shown.filter_map(|proof| Sealed::read(proof.entry).ok());
    let is_its = |sealed: &Sealed| match &sealed.entry.body {
        Body::Admitted(admitted) => admitted.scope.is_some_and(|scope| scope.entity == entity),
        _ => false,
    };
    shown.filter(is_its).last().map(|sealed| sealed.id)
}

/// What decides something, said by who was admitted for one cast, as if it were of that cast.
fn decides(log: &mut Log, entity: EntityId, founder: WriterKey, relies: Option<EntryId>, dice: &mut Dice) {
    let (root, own) = (log.ids.first().copied(), writer(&log.key));
    let friend = Principal::Key(writer(&dice.key()));
    let minted = Minted { by: founder, nonce: Nonce::from_bytes(dice.bytes()) };
    let scope = Scope { entity: EntityId::mint(7, &founder, &minted.nonce), minted, opener: own, bytes_max: u64::MAX };
    let admitted = |scope: Option<Scope>, rights: &[Right]| {
        let rights = rights.iter().copied().collect();
        let (again, by, note) = (Vec::new(), None, None);
        Body::Admitted(Box::new(Admitted { principal: friend.clone(), rights, scope, again, by, note }))
    };
    let head = log.head();
    let last = Some(LogEnd { writer: own, sequence: head.sequence, chain: head.chain, cast: None });
    let expelled = Expelled { target: Target::Key(founder), ends: Vec::new(), by: None, note: None };
    let of_the_loom = [
        admitted(None, &Right::ALL),
        Body::Expelled(Box::new(expelled)),
        Body::Keeping { acks: 0, keepers: Vec::new(), accept_loss: true },
    ];
    let admission = relies.unwrap_or_else(|| EntryId::of(b"no admission"));
    let settled = Settled { child: entity, admission, ends: Vec::new(), by: None, note: None };
    let settled = Body::Settled(Box::new(settled));
    let of_the_cast = [
        admitted(Some(scope), &[Right::Write]),
        Body::Adopted { epoch: 1, node: "m".to_owned(), last, accept_loss: false, by: None, note: None },
        Body::rewarded(f64::MAX, "a".to_owned()),
        settled,
    ];
    for body in of_the_cast {
        log.push_by(relies, (Some(entity), root), body);
    }
    // What is of the loom is of no cast: one such entry breaks it.
    for body in of_the_loom {
        if dice.once_in(6) {
            let of = Some(entity).filter(|_| dice.once_in(2));
            log.push_by(relies, (of, root), body);
        }
    }
}

/// What a host would tell of this cast, in a log of its own.
fn of_this(open: &v1::Open, key: SigningKey, dice: &mut Dice) -> Log {
    let loom: LoomId = open.loom.parse().unwrap_or_else(|_| dice.loom());
    let entity: EntityId = open.entity.parse().unwrap_or_else(|_| dice.entity());
    let mut log = Log::new(key, loom);
    let (parent, relies) = (open.parent.parse().ok(), admission(open, entity));
    let opening = opened(dice, |opened| {
        opened.caller = Some("a@a:7400".to_owned());
        opened.depth = open.depth;
        if let (Ok(by), Ok(nonce)) = (open.minted_by.as_ref().try_into(), open.nonce.as_ref().try_into()) {
            opened.minted = Some(Minted { by: WriterKey::from_bytes(by), nonce: Nonce::from_bytes(nonce) });
        }
        opened.spawned_by = open.spawned_by.parse().ok();
        opened.delegated = parent;
    });
    let root = log.push_by(relies, (Some(entity), parent), opening);
    let last = log.push(entity, Some(root), utterance("deed", "{\"deed\": \"none\"}"));
    log.push(entity, Some(last), ended(MARK));
    log
}

fn told(deed: Deed, open: &v1::Open, key: SigningKey, dice: &mut Dice, known: &Known) -> Vec<Say> {
    let mut log = of_this(open, key, dice);
    let entity: EntityId = open.entity.parse().unwrap_or_else(|_| dice.entity());
    let mut said: Vec<Say> = Vec::new();
    let accepted = || {
        Told::Accepted(v1::Accepted {
            node: "m".to_owned(),
            writer: "0".repeat(64),
            wards: "{}".to_owned(),
            ..v1::Accepted::default()
        })
    };
    if deed != Deed::NeverAccepts {
        said.push(Say::Told(accepted()));
    }
    let ending = || Say::Told(Told::Ended(end()));
    match deed {
        Deed::EndsAtOnce | Deed::NeverAccepts => said.push(ending()),
        Deed::SpendsEverything => {
            let most =
                || Some(v1::Usage { prompt_tokens: u64::MAX, completion_tokens: u64::MAX, cached_tokens: u64::MAX });
            let spent = v1::Spent {
                turns: u64::MAX,
                gate_calls: u64::MAX,
                children: u64::MAX,
                usage: most(),
                children_usage: most(),
                fuel: u64::MAX,
            };
            said.push(Say::Told(Told::Ended(v1::Ended { spent: Some(spent), ..end() })));
        }
        Deed::FailsAtLength => {
            let text = || "f".repeat(2_000_000);
            let end_of_it = match dice.below(3) {
                0 => v1::Ended { failure: Some(text()), ..end() },
                1 => v1::Ended { summary: Some(text()), ..end() },
                _ => v1::Ended { reason: text(), ..end() },
            };
            said.push(Say::Told(Told::Ended(end_of_it)));
        }
        Deed::AnswersNoJson => said.push(Say::Told(Told::Ended(v1::Ended { result: Some("{".to_owned()), ..end() }))),
        Deed::AnswersDeeply => {
            let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
            said.push(Say::Told(Told::Ended(v1::Ended { result: Some(nested), ..end() })));
        }
        Deed::AsksGatesNotPlaced => {
            let names = ["deed", "vault", "read_file", "call_entity", "", "done"];
            said.extend(names.iter().zip(1..).map(|(name, call)| Say::Told(gate_call(call, name))));
            said.extend([Say::Wait(300), ending()]);
        }
        Deed::AsksPlacedGates => {
            said.extend((0..60).map(|call| Say::Told(gate_call(call % 50, "near"))));
            said.extend([Say::Wait(300), ending()]);
        }
        Deed::AsksBadly => {
            let broken =
                |arguments: String| Told::GateCall(v1::GateCall { call: 7, gate: "near".to_owned(), arguments });
            said.push(Say::Told(broken("{".to_owned())));
            said.push(Say::Told(Told::GateCall(v1::GateCall {
                call: 8,
                gate: "near".to_owned(),
                arguments: format!("{{\"deed\": \"{}\"}}", "x".repeat(3_000_000)),
            })));
            said.extend([Say::Wait(300), ending()]);
        }
        Deed::AsksModel => {
            said.extend((0..60).map(|call| Say::Told(question(call, MARK))));
            said.extend([Say::Wait(300), ending()]);
        }
        Deed::AsksModelAtLength => {
            said.push(Say::Told(question(1, &MARK.repeat(500_000))));
            let role = v1::Message { role: "nobody".to_owned(), ..v1::Message::default() };
            let mut odd = v1::ModelCall { call: 2, messages: vec![role; 2_000], ..v1::ModelCall::default() };
            "whatever".clone_into(&mut odd.tool_choice);
            said.extend([Say::Wait(200), Say::Told(Told::ModelCall(odd)), Say::Wait(200), ending()]);
        }
        Deed::WantsGuests => {
            let digests = [super::act::digest(dice), "reader".to_owned(), "../../node.key".to_owned()];
            said.extend(
                digests
                    .into_iter()
                    .zip(1..)
                    .map(|(digest, call)| Say::Told(Told::GuestWanted(v1::GuestWanted { call, digest }))),
            );
            said.extend([Say::Wait(300), ending()]);
        }
        Deed::TellsOthersEntries => {
            let mut others = Log::new(dice.key(), log.loom);
            for other in known.entities.iter().take(4) {
                others.push(*other, None, ended("forged by mallory"));
                others.push(*other, None, intent("go on for mallory"));
            }
            said.extend(covered(&others, entity).into_iter().chain(covered(&log, entity)).map(Say::Told));
            said.push(ending());
        }
        Deed::DecidesInItsCast => {
            let relies = admission(open, entity);
            let other = known.writers.first().copied().unwrap_or_else(|| writer(&dice.key()));
            decides(&mut log, entity, other, relies, dice);
            said.extend(covered(&log, entity).into_iter().map(Say::Told));
            said.push(ending());
        }
        Deed::OpensTwice => {
            let again = opened(dice, |opened| opened.caller = Some("c@c:1".to_owned()));
            log.push(entity, None, again);
            said.extend(covered(&log, entity).into_iter().map(Say::Told));
            said.push(ending());
        }
        Deed::TellsOutOfOrder => {
            let told = entries(&log);
            said.extend(told.into_iter().rev().chain(covered(&log, entity)).map(Say::Told));
            said.push(ending());
        }
        Deed::TellsDamaged => {
            for told in covered(&log, entity) {
                let Told::Entry(mut entry) = told else {
                    said.push(Say::Told(told));
                    continue;
                };
                entry.bytes = dice.mutate(&entry.bytes);
                if dice.once_in(2) {
                    entry.id = cantrip_runtime::domain::ids::EntryId::of(&entry.bytes).to_string();
                }
                said.push(Say::Told(Told::Entry(entry)));
            }
            said.push(ending());
        }
        Deed::TellsAnothersLoom => {
            let mut other = Log::new(dice.key(), known.loom(dice));
            let opening = opened(dice, |_| {});
            other.push(entity, None, opening);
            said.extend(covered(&other, entity).into_iter().map(Say::Told));
            said.push(ending());
        }
        Deed::TellsLongTexts | Deed::TextNeverEnds => {
            let id = cantrip_runtime::domain::ids::BlobId::of(b"nothing").to_string();
            let last = deed == Deed::TellsLongTexts;
            let part = |id: String| Told::TextPart(v1::TextPart { id, bytes: vec![0x74; 500_000].into(), last });
            said.extend((0..20).map(|number| Say::Told(part(if last { format!("{id}{number}") } else { id.clone() }))));
            said.extend(covered(&log, entity).into_iter().map(Say::Told));
            said.push(ending());
        }
        Deed::TellsOddEvents => {
            let lines = ["{", "null", "{\"depth\": 0}", "\u{1b}]52;c;QUJD\u{7}"];
            said.extend(lines.map(|line| Say::Told(Told::Event(line.repeat(2_000)))));
            said.extend((0..400).map(|_| Say::Told(Told::Event("[".repeat(1_000)))));
            said.push(ending());
        }
        Deed::RefusesOddly => said.push(Say::Told(Told::Refused(v1::Refused {
            kind: "\u{1b}[2J".to_owned(),
            rule: "r".repeat(1_500_000),
            message: "local\r".repeat(300_000),
        }))),
        Deed::Silence => said.push(Say::Wait(60_000)),
        Deed::EndsStream => {}
        Deed::Fails => said.push(Say::Fail(Status::new(code(dice), format!("{MARK} {}", "why ".repeat(100))))),
        Deed::BeatsForever => {
            said.extend((0..60).flat_map(|_| [Say::Told(Told::Heartbeat(v1::Heartbeat {})), Say::Wait(1_000)]));
        }
        Deed::AcceptsForever => {
            said.extend((0..30).flat_map(|_| [Say::Told(accepted()), Say::Wait(1_000)]));
        }
        Deed::Mutates => {
            said.extend(covered(&log, entity).into_iter().map(Say::Told));
            said.extend([Say::Told(gate_call(3, "near")), Say::Told(question(4, MARK)), ending()]);
        }
        Deed::TooLarge => said.push(Say::Bytes(vec![0x0a; 17 * 1024 * 1024].into())),
        Deed::GoesOnAfterItsEnd => {
            said.push(ending());
            said.push(ending());
            said.extend(covered(&log, entity).into_iter().map(Say::Told));
            said.push(Say::Told(gate_call(1, "near")));
        }
        Deed::SignsWithoutEnd => {
            let sound = cast_head(&log.key, log.loom, entity, log.cast_chain(log.ids.len()));
            said.extend(entries(&log).into_iter().map(Say::Told));
            said.extend((0..20).map(|_| Say::Told(heads(vec![sound.clone(); 5_000]))));
            said.push(ending());
        }
        Deed::SignsNothing
        | Deed::SignsForAnother
        | Deed::LeavesOutWhatItSigned
        | Deed::MovesWhatItSigned
        | Deed::SignsAnothersCast
        | Deed::SignsAnothersLoom
        | Deed::ReplaysAHead
        | Deed::CutsWhatItSigned
        | Deed::SignsTwoHistories => {
            said.extend(under_another_head(deed, &log, entity, dice).into_iter().map(Say::Told));
            said.push(ending());
        }
    }
    said
}
