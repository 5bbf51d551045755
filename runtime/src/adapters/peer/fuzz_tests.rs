//! What other nodes say: whatever is changed in a message, it is read, refused in a sentence, or no message, and never a panic. What
//! is read goes as far as it would in a node: to what is granted, and into what is kept.

use std::sync::{Arc, Mutex};

use cantrip_gates::{GateError, Wards};
use prost::Message as _;
use serde_json::json;

use super::super::convert;
use super::super::wire::caller_message::Message as Said;
use super::super::wire::host_message::Message as Told;
use super::{Reader, to_wire, v1};
use crate::adapters::clock::SteppingClock;
use crate::adapters::store::{MemoryStore, NodeKey};
use crate::domain::cantrip::{Folding, Identity};
use crate::domain::copies::{CopyKind, CopyMessage, Keeper, Keeping, LoomCopies};
use crate::domain::ids::WriterKey;
use crate::domain::ids::{CallId, CastId, EntityId, EntryId, LoomId};
use crate::domain::loom::{Body, CastUnit, Entry, EquivocationProof, Head, How, Payloads, Sealed, Side, Spent};
use crate::domain::loom::{Minted, Origin};
use crate::domain::members::Nonce;
use crate::domain::members::{Attestation, CertificateSignature, ProvedEntry, Scheme};
use crate::domain::model::{Message, ModelError, Question, RawAnswer, RawCall, Sampling, ToolChoice, Usage};
use crate::domain::remote::{ByHost, Credentials};
use crate::domain::remote::{CantripOrder, Ceiling, GateOrder, ModelOrder, Order, Refusal};
use crate::driver::{Copies, CopyPolicy, CopyTerms, Session};
use crate::fuzz_targets::target_of;
use crate::ports::{CopyBook, CopyStore, LoomStore, MemberStore as _, RemoteEnd, StoreError};

fn entity() -> EntityId {
    EntityId::from_parts(2, [2; 16])
}

fn loom() -> LoomId {
    LoomId::from_parts(1, [1; 16])
}

fn order() -> Order {
    let wards = json!({ "max_turns": 5, "allow_hosts": ["a.example"], "child_gates": ["echo"] });
    Order {
        cast: CastId::from_parts(3, [3; 10]),
        loom: loom(),
        entity: entity(),
        minted: Some(Minted { by: WriterKey::from_bytes([8; 32]), nonce: Nonce::from_bytes([9; 16]) }),
        by_host: ByHost::Nothing,
        parent: Some(EntryId::of(b"parent")),
        spawned_by: Some(entity()),
        depth: 2,
        cantrip: CantripOrder {
            identity: Identity::new(Some("be brief".to_owned()), Sampling::default(), Some(ToolChoice::Required)),
            medium: Some("javascript".to_owned()),
            guest: Some("reader@sha256:00".to_owned()),
            gates: ["read_file", "done"].map(|name| GateOrder { name: name.to_owned(), at_caller: None }).to_vec(),
            wards: Wards::from_value(&wards).unwrap(),
            folding: Folding::default(),
            model: ModelOrder::AtHost(Some("told".to_owned())),
        },
        intent: "do it".to_owned(),
        trace: None,
        deadline: Some(std::time::Duration::from_millis(1_500)),
        lease: None,
        again: false,
        keep: true,
        fork: Some((entity(), 3)),
        seen: cantrip_gates::Exposure::default(),
        credentials: Arc::new(credentials()),
        origins: vec![Origin { node: "a".parse().unwrap(), authority: None }],
    }
}

/// A founding entry, proved, and a key that takes the place of another.
fn credentials() -> Credentials {
    let store = MemoryStore::with_key(NodeKey::from_secret(&[5; 32]));
    let nonce = Nonce::from_bytes([2; 16]);
    let founded = LoomId::mint(1, &store.writer(), &nonce, None);
    let entry = Entry::new(founded, (store.writer(), 1), 1, None, None, Body::Founded { nonce, member: None });
    let sealed = Sealed::new(entry, Vec::new()).unwrap();
    store.append(sealed.clone()).unwrap();
    let proof = store.prove(sealed.id).unwrap().unwrap().to_proof();
    let succession = NodeKey::from_secret(&[5; 32]).succeed(&NodeKey::from_secret(&[6; 32]));
    Credentials { proofs: vec![proof], attestations: vec![Attestation::Succession(succession)] }
}

fn ceiling() -> Ceiling {
    Ceiling {
        rule: "peers.m".to_owned(),
        cast: true,
        gates: ["read_file".to_owned()].into(),
        gates_at_caller: true,
        models: ["told".to_owned()].into(),
        model_at_caller: true,
        ..Ceiling::default()
    }
}

fn answer() -> RawAnswer {
    RawAnswer {
        content: Some("said".to_owned()),
        thinking: None,
        calls: vec![RawCall {
            id: Some("c1".to_owned()),
            gate: "done".to_owned(),
            arguments: Ok(json!({ "answer": 1 })),
        }],
        provider_results: Vec::new(),
        usage: Usage { prompt_tokens: 1, completion_tokens: 2, cached_tokens: 0 },
        model: "told".to_owned(),
    }
}

#[test]
fn messages_of_callers() {
    let gate = |name: &str| v1::Gate {
        name: name.to_owned(),
        at_caller: true,
        spec: Some(v1::GateSpec {
            parameters: json!({ "type": "object", "properties": { "a": { "pattern": "^a+$" } } }).to_string(),
            reach: "read".to_owned(),
            ..v1::GateSpec::default()
        }),
    };
    let mut placed = convert::open(&order(), vec![0; 16], String::new(), true);
    placed.cantrip.as_mut().unwrap().gates.push(gate("near"));
    let said = [
        Said::Open(convert::open(&order(), Vec::new(), "b@b:1".to_owned(), false)),
        Said::Open(placed),
        Said::GateResult(convert::gate_result(1, Ok(json!({ "a": [1, null] })))),
        Said::GateResult(convert::gate_result(2, Err(GateError::Denied("no".to_owned())))),
        Said::ModelResult(convert::model_result(3, Ok(answer()))),
        Said::ModelResult(convert::model_result(4, Err(ModelError::TooLong { message: "long".to_owned() }))),
        Said::GuestPart(v1::GuestPart { call: 5, bytes: vec![1, 2].into(), last: true, refused: String::new() }),
        Said::Steer("be quick".to_owned()),
        Said::Cancel(v1::Cancel { parent_terminated: true }),
    ];
    let seeds: Vec<Vec<u8>> =
        said.into_iter().map(|said| v1::CallerMessage { message: Some(said) }.encode_to_vec()).collect();
    target_of("messages_of_callers", &seeds, 8_000, |bytes| {
        let Ok(message) = v1::CallerMessage::decode(bytes.as_slice()) else { return false };
        match message.message {
            Some(Said::Open(open)) => match convert::order(open) {
                Ok(order) => {
                    let _granted_or_refused = ceiling().grant(&order);
                    let _shown_or_not =
                        order.credentials.proofs.iter().filter(|proof| (*proof).clone().check().is_ok()).count();
                    // What was read travels on as it was.
                    let again = convert::order(convert::open(&order, Vec::new(), String::new(), false));
                    assert_eq!(again.map(|again| again.intent).ok(), Some(order.intent));
                    true
                }
                Err(what) => !what.is_empty(),
            },
            Some(Said::GateResult(result)) => convert::gate_result_from(result).is_ok(),
            Some(Said::ModelResult(result)) => convert::model_result_from(result).is_ok(),
            _ => false,
        }
    });
}

fn question() -> Question {
    let messages = [
        Message::System("be brief".to_owned()),
        Message::User("go".to_owned()),
        Message::Tool { call: CallId::new("c1"), content: "1".to_owned(), is_error: false },
    ];
    Question {
        messages: messages.into_iter().map(Arc::new).collect(),
        tools: Vec::new().into(),
        tool_choice: ToolChoice::Auto,
        sampling: Sampling::default(),
    }
}

#[test]
fn messages_of_hosts() {
    let end = RemoteEnd {
        how: How::Terminated,
        reason: "done".into(),
        result: Some(json!({ "a": 1 })),
        summary: None,
        spent: Spent::default(),
        seen: cantrip_gates::Exposure::default(),
        failure: None,
    };
    let (_, sealed) = log(1);
    let entry = v1::Entry { id: sealed.id.to_string(), bytes: sealed.bytes.clone().into() };
    let mut unit = CastUnit::of(entity());
    assert!(unit.takes(&sealed), "it is of its own cast");
    let head = NodeKey::from_secret(&[1; 32]).sign_cast(loom(), entity(), unit.at());
    let heads = v1::CastHeads { heads: vec![convert::cast_head(&head)], cursor: vec![0; 16].into() };
    let refusal = Refusal::new("peers.a.gates", GateError::Denied("no".to_owned()));
    let told = [
        Told::Ended(convert::ended(end)),
        Told::Refused(convert::refused(&refusal)),
        Told::ModelCall(convert::model_call(3, &question())),
        Told::GateCall(v1::GateCall { call: 1, gate: "near".to_owned(), arguments: "{\"a\": 1}".to_owned() }),
        Told::Entry(entry),
        Told::Heads(heads),
        Told::Event("{\"depth\": 0}".to_owned()),
    ];
    let seeds: Vec<Vec<u8>> =
        told.into_iter().map(|told| v1::HostMessage { message: Some(told) }.encode_to_vec()).collect();
    target_of("messages_of_hosts", &seeds, 8_000, |bytes| {
        let Ok(message) = v1::HostMessage::decode(bytes.as_slice()) else { return false };
        match message.message {
            Some(Told::Ended(ended)) => convert::end(ended).is_ok(),
            Some(Told::Refused(refused)) => !convert::refusal(refused).to_string().is_empty(),
            Some(Told::ModelCall(call)) => convert::question(call).is_ok(),
            Some(Told::GateCall(call)) => convert::json("arguments", &call.arguments).is_ok(),
            Some(Told::Entry(entry)) => {
                entry.id.parse().is_ok_and(|id: EntryId| Sealed::open(id, entry.bytes.to_vec()).is_ok())
            }
            Some(Told::Heads(heads)) => {
                heads.heads.iter().all(|head| convert::cast_head_from(loom(), head).is_ok_and(|head| head.is_signed()))
            }
            Some(Told::Event(line)) => serde_json::from_str::<crate::domain::event::Event>(&line).is_ok(),
            _ => false,
        }
    });
}

/// A log with one entry.
fn log(number: u8) -> (Arc<MemoryStore>, Sealed) {
    let store = MemoryStore::with_key(NodeKey::from_secret(&[number; 32]));
    let mut payloads = Payloads::default();
    let body = Body::intent(payloads.text("said"), false, None);
    let writer = LoomStore::writer(&*store);
    let entry = Entry::new(loom(), (writer, 1), 1, entity(), None, body);
    let sealed = Sealed::new(entry, payloads.into_blobs()).unwrap();
    store.append(sealed.clone()).unwrap();
    (store, sealed)
}

#[derive(Debug, Default)]
struct Book(Mutex<Vec<LoomCopies>>);

impl CopyBook for Book {
    fn load(&self) -> Result<Vec<LoomCopies>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn save(&self, copies: &LoomCopies) -> Result<(), StoreError> {
        let mut book = self.0.lock().unwrap();
        book.retain(|known| known.loom != copies.loom);
        book.push(copies.clone());
        Ok(())
    }
}

#[derive(Debug)]
struct Open;

impl CopyPolicy for Open {
    fn terms(&self, _: &Keeper) -> CopyTerms {
        CopyTerms { disk: true, memory: true, bytes_max: u64::MAX, looms_max: 1_000 }
    }
}

fn keeping(kind: CopyKind) -> Keeping {
    Keeping { revision: 1, kind }
}

/// What a keeper says in its conversations, each with what has to be said before.
fn conversations(writer: &Arc<MemoryStore>) -> Vec<Vec<u8>> {
    let segment = writer.segment(loom(), LoomStore::writer(&**writer), 0).unwrap().unwrap();
    let logs = writer.logs(loom()).unwrap();
    let named = |name: &str| name.parse::<Keeper>().unwrap();
    let keepers = [(named("m"), keeping(CopyKind::Disk)), (named("b"), keeping(CopyKind::Memory))];
    let have = CopyMessage::Have { loom: loom(), origin: named("m"), keepers: keepers.into(), logs, casts: Vec::new() };
    // Two ways on from the beginning, each one entry long and under its writer's word.
    let by = NodeKey::from_secret(&[1; 32]);
    let sides = [7, 8].map(|side| {
        let id = EntryId::from_digest([side; 32]);
        Side { ids: vec![id], signature: by.sign(loom(), Head::default().after(&id)).signature }
    });
    let proof = EquivocationProof::new(loom(), by.writer(), Head::default(), sides);
    assert!(proof.holds());
    let (before, entry) = (segment.from, segment.entries[0].clone());
    let ids = segment.entries.iter().skip(1).map(|bytes| EntryId::of(bytes)).collect();
    let proved = ProvedEntry { before, entry, behind: ids, signature: segment.signed.signature };
    let refused = CopyMessage::Refused { loom: loom(), writer: Some(segment.signed.writer), what: "no".to_owned() };
    let own = NodeKey::from_secret(&[5; 32]);
    let by_certificate = CertificateSignature { scheme: Scheme::EcdsaP256, bytes: vec![0x30; 70] };
    let attestation = |it| CopyMessage::Attestation { loom: loom(), attestation: Box::new(it) };
    let messages = [
        have,
        CopyMessage::Text { loom: loom(), bytes: b"a text".to_vec() },
        CopyMessage::Segment(Box::new(segment.clone())),
        attestation(Attestation::Succession(own.succeed(&NodeKey::from_secret(&[6; 32])))),
        attestation(Attestation::Member(own.vouch(vec![vec![0x30; 40]; 2], by_certificate))),
        CopyMessage::Held {
            loom: loom(),
            writer: segment.signed.writer,
            head: segment.signed.head,
            kind: CopyKind::Disk,
        },
        refused,
        CopyMessage::Fence {
            loom: loom(),
            entity: EntityId::from_parts(1, [1; 16]),
            credentials: Box::new(Credentials { proofs: vec![proved.clone()], attestations: Vec::new() }),
        },
        CopyMessage::Divided { proof: Box::new(proof.clone()), entries: Vec::new() },
        CopyMessage::Divided { proof: Box::new(proof), entries: vec![proved] },
    ];
    let wire = messages.into_iter().flat_map(to_wire);
    wire.map(|message| v1::CopyMessage { message: Some(message) }.encode_to_vec()).collect()
}

#[test]
fn messages_of_keepers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (writer, _) = log(1);
    runtime.block_on(writer.sync(loom())).unwrap();
    let seeds = conversations(&writer);
    let greeting = seeds.first().cloned().unwrap();
    target_of("messages_of_keepers", &seeds, 400, |bytes| {
        let key = || NodeKey::from_secret(&[9; 32]);
        let (disk, memory) = (MemoryStore::with_key(key()), MemoryStore::with_key(key()));
        let (book, clock) = (Arc::new(Book::default()), Arc::new(SteppingClock::new(1)));
        let copies = Copies::new(
            "b".parse().unwrap(),
            Arc::clone(&disk) as _,
            memory,
            Arc::clone(&book) as _,
            Arc::new(Open),
            clock,
        );
        let copies = copies.unwrap();
        let mut session = Session::new(Arc::clone(&copies), "m".parse().unwrap()).unwrap();
        let mut reader = Reader::default();
        let mut is_taken = false;
        // As it would come: behind a greeting, or as one.
        for (number, bytes) in [greeting.as_slice(), bytes.as_slice()].into_iter().enumerate() {
            let Ok(message) = v1::CopyMessage::decode(bytes) else { continue };
            let Ok(Some(message)) = reader.read(message) else { continue };
            is_taken = is_taken || number > 0;
            runtime.block_on(session.hear(message)).unwrap();
            runtime.block_on(session.flush()).unwrap();
            for _ in 0..100 {
                let Some(answer) = session.next_message().unwrap() else { break };
                drop(to_wire(answer));
            }
        }
        let verified = disk.verify(None).unwrap();
        assert!(verified.findings.is_empty(), "{:?}", verified.findings);
        // Whatever was written into the book can be read from it.
        copies.reread().unwrap();
        for page in book.load().unwrap() {
            let text = serde_json::to_vec(&page).unwrap();
            assert_eq!(serde_json::from_slice::<LoomCopies>(&text).unwrap(), page);
        }
        is_taken
    });
}
