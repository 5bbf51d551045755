//! What travels comes back as it was, and bytes of this version are read by every later one.

use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;

use super::*;
use crate::adapters::store::{MemoryStore, NodeKey};
use crate::domain::end::EndReason;
use crate::domain::ids::{CastId, EntityId, EntryId, LoomId, hex};
use crate::domain::limits::{CREDENTIALS_BYTES_MAX, CREDENTIALS_MAX, ORIGINS_MAX, PROVED_ORDER_MAX};
use crate::domain::loom::{Body, Entry, Origin, Payload, Sealed};
use crate::domain::members::Attestation;
use crate::domain::remote::Credentials;
use crate::ports::{LoomStore as _, MemberStore as _};

fn an_order() -> Order {
    let spec = GateSpec {
        name: GateName::parse("near").unwrap(),
        description: "Does something near.".to_owned(),
        parameters: json!({"type": "object", "properties": {"b": {"type": "string"}, "a": {}}, "required": ["b"]}),
        positional: vec!["b".to_owned()],
        reach: Reach::External,
        exposure: Exposure { private: true, untrusted: false, outbound: true },
        ephemeral: true,
    };
    let sampling = Sampling {
        temperature: Some(0.1),
        top_p: None,
        max_output_tokens: Some(7),
        reasoning_effort: Some("low".to_owned()),
    };
    Order {
        cast: CastId::from_parts(1_700_000_000_000, [1; 10]),
        loom: LoomId::from_parts(1_700_000_000_001, [2; 16]),
        entity: EntityId::from_parts(1_700_000_000_002, [3; 16]),
        minted: Some(Minted { by: WriterKey::from_bytes([8; 32]), nonce: Nonce::from_bytes([9; 16]) }),
        by_host: ByHost::Nothing,
        parent: Some(EntryId::of(b"parent")),
        spawned_by: Some(EntityId::from_parts(1_700_000_000_003, [4; 16])),
        depth: 2,
        cantrip: CantripOrder {
            identity: Identity::new(Some("be brief".to_owned()), sampling, Some(ToolChoice::Required)),
            medium: Some("javascript".to_owned()),
            guest: None,
            gates: vec![
                GateOrder { name: "read_file".to_owned(), at_caller: None },
                GateOrder { name: "near".to_owned(), at_caller: Some(spec) },
            ],
            wards: Wards::from_value(&json!({"max_turns": 5, "child_gates": ["echo"], "allow_hosts": ["a.example"]}))
                .unwrap(),
            folding: Folding { trigger_after_turns: Some(9), ..Folding::default() },
            model: ModelOrder::AtCaller { name: "m".to_owned(), context_tokens: Some(8_000), can_require_calls: true },
        },
        intent: "do it".to_owned(),
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        deadline: Some(Duration::from_millis(1_500)),
        lease: Some(Duration::from_secs(20)),
        again: false,
        keep: true,
        fork: Some((EntityId::from_parts(5, [6; 16]), 3)),
        seen: Exposure { private: false, untrusted: true, outbound: false },
        credentials: Arc::default(),
        origins: Vec::new(),
    }
}

/// What shows something: a proved entry, and a key that takes the place of another.
fn some_credentials() -> Credentials {
    let store = MemoryStore::with_key(NodeKey::from_secret(&[5; 32]));
    let body = Body::intent(Payload::Inline("go".to_owned()), false, None);
    let entity = EntityId::from_parts(1, [1; 16]);
    let entry = Entry::new(LoomId::from_parts(1, [1; 16]), (store.writer(), 1), 1, entity, None, body);
    let sealed = Sealed::new(entry, Vec::new()).unwrap();
    store.append(sealed.clone()).unwrap();
    let proof = store.prove(sealed.id).unwrap().unwrap().to_proof();
    let [old, new] = [5, 6].map(|secret| NodeKey::from_secret(&[secret; 32]));
    Credentials { proofs: vec![proof], attestations: vec![Attestation::Succession(old.succeed(&new))] }
}

#[test]
fn an_order_comes_back_as_it_was() {
    let order_there = an_order();
    assert_eq!(order(open(&order_there, vec![1, 2], String::new(), true)).unwrap(), order_there);
    let mut plain = order_there;
    plain.cantrip.model = ModelOrder::AtHost(None);
    plain.cantrip.guest = Some("reader@sha256:00".to_owned());
    plain.cantrip.medium = None;
    plain.parent = None;
    plain.fork = None;
    plain.deadline = None;
    assert_eq!(order(open(&plain, Vec::new(), String::new(), false)).unwrap(), plain);
}

#[test]
fn what_an_order_shows_comes_back_as_it_was() {
    let origins = ["a", "b"].map(|node| Origin { node: node.parse().unwrap(), authority: None });
    let shown = Order { credentials: Arc::new(some_credentials()), origins: origins.to_vec(), ..an_order() };
    let bytes = open(&shown, Vec::new(), String::new(), false).encode_to_vec();
    assert_eq!(order(v1::Open::decode(bytes.as_slice()).unwrap()).unwrap(), shown);
}

#[test]
fn what_an_order_shows_is_bounded() {
    let shown = Order { credentials: Arc::new(some_credentials()), ..an_order() };
    let with = |change: &dyn Fn(&mut v1::Open)| {
        let mut open = open(&shown, Vec::new(), String::new(), false);
        change(&mut open);
        order(open).map(drop)
    };
    let refused = |change: &dyn Fn(&mut v1::Open), what: &str| {
        let refused = with(change).unwrap_err();
        assert!(refused.contains(what), "{refused}");
    };
    let succession = |open: &v1::Open| open.vouching.as_ref().unwrap().successions[0].clone();
    let many = |open: &mut v1::Open, count| {
        let one = succession(open);
        open.vouching.as_mut().unwrap().successions = vec![one; count];
    };
    assert_eq!(with(&|open| many(open, CREDENTIALS_MAX)), Ok(()));
    refused(&|open| many(open, CREDENTIALS_MAX + 1), "the limits are 256");
    refused(
        &|open| open.vouching.as_mut().unwrap().members = vec![vec![0; CREDENTIALS_BYTES_MAX + 1].into()],
        "2097152",
    );
    refused(&|open| open.proofs = vec![open.proofs[0].clone(); PROVED_ORDER_MAX + 1], "the limits are 128");
    refused(&|open| open.proofs[0] = vec![0xa0].into(), "`proofs`");
    assert_eq!(with(&|open| open.origins = vec!["a".to_owned(); ORIGINS_MAX]), Ok(()));
    refused(&|open| open.origins = vec!["a".to_owned(); ORIGINS_MAX + 1], "names 65 nodes");
    refused(&|open| open.origins = vec!["no name".to_owned()], "`origins`");
}

#[test]
fn a_question_and_its_answer_come_back_as_they_were() {
    let call = Call { id: CallId::new("c1"), gate: "echo".to_owned(), arguments: Ok(json!({"z": 1, "a": 2})) };
    let asked = Question {
        messages: [
            Message::System("s".to_owned()),
            Message::User("u".to_owned()),
            Message::Assistant { content: Some("t".to_owned()), thinking: Some("h".to_owned()), calls: vec![call] },
            Message::Tool { call: CallId::new("c1"), content: "r".to_owned(), is_error: true },
        ]
        .map(Arc::new)
        .to_vec(),
        tools: vec![ToolDefinition { name: "echo".to_owned(), description: "d".to_owned(), parameters: json!({}) }]
            .into(),
        tool_choice: ToolChoice::Auto,
        sampling: Sampling::default(),
    };
    assert_eq!(question(model_call(3, &asked)).unwrap(), asked);
    let error =
        ModelError::Status { status: 429, message: "slow".to_owned(), retry_after: Some(Duration::from_secs(2)) };
    assert_eq!(model_result_from(model_result(3, Err(error.clone()))).unwrap_err(), error);
}

/// The bytes of the first version. A later one that cannot read them, or writes others for the same, does not talk to it.
const GOLDEN: [(&str, &str); 3] = [
    ("open", include_str!("../../../../tests/golden/cast_open.hex")),
    ("gate_call", include_str!("../../../../tests/golden/gate_call.hex")),
    ("ended", include_str!("../../../../tests/golden/ended.hex")),
];

fn written() -> [(&'static str, Vec<u8>); 3] {
    let open = v1::CallerMessage {
        message: Some(v1::caller_message::Message::Open(open(&an_order(), vec![9; 16], String::new(), true))),
    };
    let call = v1::GateCall { call: 4, gate: "near".to_owned(), arguments: json!({"b": "x"}).to_string() };
    let end = RemoteEnd {
        how: How::Terminated,
        reason: EndReason::Done,
        result: Some(json!({"b": [1, null]})),
        summary: None,
        spent: Spent { turns: 2, gate_calls: 3, children: 1, fuel: 5, ..Spent::default() },
        seen: Exposure::default(),
        failure: None,
    };
    let told = |message| v1::HostMessage { message: Some(message) }.encode_to_vec();
    [
        ("open", open.encode_to_vec()),
        ("gate_call", told(v1::host_message::Message::GateCall(call))),
        ("ended", told(v1::host_message::Message::Ended(ended(end)))),
    ]
}

#[test]
fn the_first_versions_bytes_are_still_what_is_written_and_read() {
    for ((name, golden), (_, now)) in GOLDEN.into_iter().zip(written()) {
        assert_eq!(hex(&now), golden.trim(), "{name}");
    }
    let [(_, bytes), ..] = written();
    let read = v1::CallerMessage::decode(bytes.as_slice()).unwrap();
    let Some(v1::caller_message::Message::Open(read)) = read.message else { panic!() };
    assert_eq!(order(read).unwrap(), an_order());
}

proptest! {
    #[test]
    fn whatever_a_peer_sends_is_an_order_or_named(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Some(Err(what)) = v1::Open::decode(bytes.as_slice()).ok().map(order) {
            prop_assert!(what.starts_with('`'), "{what}");
        }
        if let Ok(message) = v1::Ended::decode(bytes.as_slice()) {
            let _named = end(message);
        }
        if let Ok(message) = v1::ModelCall::decode(bytes.as_slice()) {
            let _named = question(message);
        }
    }
}

#[test]
fn heads_that_a_caller_shows_are_bounded() {
    let order = an_order();
    let at = CastChain { place: 7, chain: [1; 32] };
    let head = crate::adapters::store::NodeKey::from_secret(&[1; 32]).sign_cast(order.loom, order.entity, at);
    let mut open = open(&order, Vec::new(), String::new(), false);
    open.heads = vec![cast_head(&head); SHOWN_HEADS_MAX];
    assert_eq!(shown_heads(&open), Ok(vec![head; SHOWN_HEADS_MAX]));
    open.heads.push(cast_head(&head));
    assert!(shown_heads(&open).unwrap_err().contains("17 are shown, and at most 16 may be"));
    open.heads = vec![v1::CastHead { chain: vec![0; 31].into(), ..cast_head(&head) }];
    assert!(shown_heads(&open).unwrap_err().contains("has another length"));
}

#[test]
fn every_failure_of_a_gate_travels_as_it_is() {
    let truncation =
        |partial| cantrip_gates::Truncation { reason: "max_turns".to_owned(), message: "x".to_owned(), partial };
    for error in [
        GateError::Unknown("x".to_owned()),
        GateError::Unanswered("x".to_owned()),
        GateError::Truncated(Box::new(truncation(None))),
        GateError::Truncated(Box::new(truncation(Some("half".to_owned())))),
    ] {
        assert_eq!(gate_result_from(gate_result(1, Err(error.clone()))), Err(error));
    }
}
