//! Casts that nobody should let through, and answers that nobody asked for.

use bytes::Bytes;
use cantrip_runtime::adapters::peer::v1;
use cantrip_runtime::adapters::peer::v1::caller_message::Message as Said;
use cantrip_runtime::adapters::peer::v1::host_message::Message as Told;
use prost::Message as _;
use serde_json::{Value, json};

use super::act::{Act, Answers, CAST, Call, Known, Step, call, digest};
use super::forge::{self, Dice, minted};
use crate::peer_support::{host_admitted, proofs_by_hand};

pub(crate) fn say(said: Said) -> Step {
    Step::Say(encoded(said))
}

fn encoded(said: Said) -> Bytes {
    v1::CallerMessage { message: Some(said) }.encode_to_vec().into()
}

/// Whatever an entity of the hostile peer does is to be known by this word.
pub(crate) const MARK: &str = "mallory";

fn script(turns: impl Into<Value>) -> String {
    let turns = turns.into();
    turns.to_string()
}

/// A turn that does a deed through a gate.
fn deed(gate: &str, dice: &mut Dice) -> Value {
    json!({ "call": gate, "args": { "deed": format!("{MARK}-{gate}-{}", dice.below(1_000_000)) } })
}

fn gate(name: &str) -> v1::Gate {
    v1::Gate { name: name.to_owned(), ..v1::Gate::default() }
}

fn gate_at_caller(name: &str) -> v1::Gate {
    let spec = v1::GateSpec {
        description: "None of yours.".to_owned(),
        parameters: json!({ "type": "object" }).to_string(),
        positional: Vec::new(),
        reach: "read".to_owned(),
        exposure: None,
        ephemeral: false,
    };
    v1::Gate { name: name.to_owned(), at_caller: true, spec: Some(spec) }
}

/// A cast that a host would run for whoever may cast, with whatever is to be another than it should.
fn open(dice: &mut Dice, change: impl FnOnce(&mut v1::Open, &mut v1::Cantrip)) -> v1::Open {
    let mut cantrip = v1::Cantrip {
        gates: ["echo", "done"].map(gate).to_vec(),
        wards: json!({ "max_turns": 5, "timeout_ms": 4_000 }).to_string(),
        model: Some(if dice.asks_itself { own_model(None) } else { v1::Model::default() }),
        ..v1::Cantrip::default()
    };
    let (loom, entity, minted) = (dice.loom(), dice.entity(), minted());
    let proofs = proofs_by_hand(loom, minted.nonce, host_admitted(entity, minted, dice.host));
    let mut open = v1::Open {
        cast: dice.cast().to_string(),
        loom: loom.to_string(),
        entity: entity.to_string(),
        minted_by: forge::bytes(minted.by.as_bytes()),
        nonce: forge::bytes(minted.nonce.as_bytes()),
        proofs: proofs.iter().map(|proof| proof.to_bytes().into()).collect(),
        intent: script(json!([{ "call": "echo", "args": { "text": MARK } }, { "done": MARK }])),
        lease_ms: 3_000,
        events: dice.once_in(2),
        ..v1::Open::default()
    };
    let by_itself = (open.loom.clone(), open.entity.clone());
    change(&mut open, &mut cantrip);
    if (&open.loom, &open.entity) == (&by_itself.0, &by_itself.1) && dice.once_in(3) {
        // The host names them.
        (open.loom, open.entity) = (String::new(), String::new());
    } else if dice.once_in(8) {
        open.proofs.truncate(dice.size(3));
    }
    open.cantrip = Some(cantrip);
    open
}

fn cast(open: v1::Open) -> Call {
    call(CAST, vec![say(Said::Open(open)), Step::Wait(3_000)])
}

fn one(dice: &mut Dice, change: impl FnOnce(&mut v1::Open, &mut v1::Cantrip)) -> Vec<Call> {
    vec![cast(open(dice, change))]
}

pub(crate) fn plan(act: Act, dice: &mut Dice, known: &Known) -> Option<Vec<Call>> {
    Some(match act {
        Act::CastPlain => one(dice, |_, _| {}),
        Act::CastGateNotGranted => {
            let names = ["vault", "deed", "read_file", "search", "write_file", "http_fetch"];
            names.map(|name| cast(with_gate(dice, name, gate(name)))).to_vec()
        }
        Act::CastManyGates => one(dice, |_, cantrip| {
            cantrip.gates = (0..5_000).map(|number| gate_at_caller(&format!("gate_{number}"))).collect();
        }),
        Act::CastOddGates => odd_gates(dice),
        Act::CastRuntimeGateAtCaller => ["call_entity", "call_entity_batch", "llm_query", "read_loom"]
            .map(|name| cast(child_on(dice, "c", gate_at_caller(name))))
            .to_vec(),
        Act::CastDoneAtCaller => vec![cast(with_gate(dice, "done", gate_at_caller("done")))],
        Act::CastOnward => ["a", "c", "any"].map(|node| cast(child_on(dice, node, gate("call_entity")))).to_vec(),
        Act::CastChild => {
            let inner = script(json!([deed("deed", dice), deed("vault", dice), { "done": MARK }]));
            let child = json!({ "intent": inner, "gates": ["deed", "vault"], "wards": { "max_turns": 1_000_000 } });
            let batch = json!({ "requests": vec![child.clone(); 20] });
            let intent = script(
                json!([{ "call": "call_entity", "args": child }, { "call": "call_entity_batch", "args": batch }]),
            );
            one(dice, |open, cantrip| {
                open.intent = intent;
                cantrip.gates.extend(["call_entity", "call_entity_batch"].map(gate));
            })
        }
        Act::CastModelNotGranted => ["told", "dear", "", "default"]
            .map(|name| {
                cast(open(dice, |_, cantrip| {
                    cantrip.model = Some(v1::Model { name: name.to_owned(), ..v1::Model::default() });
                }))
            })
            .to_vec(),
        Act::CastModelAtCaller => Answers::ALL.map(|answers| Call { answers, ..cast(at_caller(dice)) }).to_vec(),
        Act::CastAnswersWithheld => vec![
            Call { answers: Answers::Nothing, ..cast(at_caller(dice)) },
            call(CAST, vec![say(Said::Open(at_caller(dice))), Step::Wait(200), Step::Drop]),
            call(CAST, vec![say(Said::Open(at_caller(dice))), Step::Close]),
        ],
        Act::CastOfAnother => of_another(dice, known),
        Act::CastIntoAnothersLoom => {
            let loom = known.loom(dice).to_string();
            one(dice, |open, _| open.loom = loom)
        }
        Act::CastForkOfAnother => {
            let (of, loom) = (known.entity(dice).to_string(), known.loom(dice).to_string());
            one(dice, |open, _| {
                open.loom = loom;
                open.fork = Some(v1::Fork { of, turns: 1 });
            })
        }
        Act::CastForkOfItself => one(dice, |open, _| {
            open.fork = Some(v1::Fork { of: open.entity.clone(), turns: u64::MAX });
        }),
        Act::CastForkCycle => super::copying::fork_cycle(dice, known),
        Act::CastAgain => one(dice, |open, _| open.again = true),
        Act::CastDeep => [31, 64, 65, u32::MAX].map(|depth| cast(open(dice, |open, _| open.depth = depth))).to_vec(),
        Act::CastOddTimes => [(0, 0), (1, 1), (u64::MAX, u64::MAX), (u64::MAX - 1, 1)]
            .map(|(deadline_ms, lease_ms)| {
                cast(open(dice, |open, _| (open.deadline_ms, open.lease_ms) = (deadline_ms, lease_ms)))
            })
            .to_vec(),
        Act::CastOddWards => odd_wards(dice),
        Act::CastHugeIntent => {
            let size = [100_000, 1_100_000, 7_000_000][dice.size(3)];
            one(dice, |open, _| open.intent = format!("[{{\"done\": \"{}\"}}]", MARK.repeat(size / MARK.len())))
        }
        Act::CastLongText => {
            let text = ["a_key:", "Bearer ", "password=", "sk-"][dice.size(4)].repeat(4_000);
            one(dice, |open, _| {
                open.events = true;
                open.intent = script(json!([{ "call": "echo", "args": { "text": text } }, { "done": text }]));
            })
        }
        Act::CastHugeResult => {
            let text = "x".repeat(1_200_000);
            let turns = json!([{ "call": text.clone(), "args": {} }, { "call": "echo", "args": { "text": text } }, { "done": text }]);
            one(dice, |open, _| open.intent = script(turns))
        }
        Act::CastGuest => ["reader", "../../escaped", "reader@sha256:00", "", "@", "local/reader"]
            .map(|name| {
                cast(open(dice, |open, cantrip| {
                    // A host without the guest may ask its model: not in words of this peer.
                    open.intent = script(json!([{ "done": 1 }]));
                    name.clone_into(&mut cantrip.guest);
                }))
            })
            .to_vec(),
        Act::CastGuestNeverComes => {
            let guest = format!("reader@{}", digest(dice));
            let part = |call, bytes: usize, last| {
                say(Said::GuestPart(v1::GuestPart { call, bytes: vec![0; bytes].into(), last, refused: String::new() }))
            };
            let opening = open(dice, |open, cantrip| {
                open.intent = script(json!([{ "done": 1 }]));
                cantrip.guest = guest;
            });
            let mut steps = vec![say(Said::Open(opening)), Step::Wait(100)];
            steps.extend((0..4).map(|number| part(number, 200_000, false)));
            steps.extend([part(u64::MAX, 10, true), part(1, 0, true), Step::Wait(1_000)]);
            vec![call(CAST, steps)]
        }
        Act::CastRelayed => {
            let nodes = known.nodes.iter().cloned().chain(["c".to_owned(), "elsewhere@127.0.0.1:1".to_owned()]);
            nodes.map(|node| cast(open(dice, |open, _| open.node = node))).collect()
        }
        Act::CastMany => (0..40).map(|_| cast(open(dice, |open, _| open.keep = true))).collect(),
        Act::CastKept => {
            let opening = open(dice, |open, _| open.keep = true);
            let mut again = opening.clone();
            (again.cast, again.again) = (dice.cast().to_string(), true);
            let late = vec![Step::Wait(800), say(Said::Open(again)), Step::Wait(1_000)];
            vec![cast(opening.clone()), cast(opening), call(CAST, late)]
        }
        Act::CastForgedCursor => [0, 1, 15, 16, 17, 1_000]
            .map(|length| cast(open(dice, |open, _| open.after = vec![0xff; length].into())))
            .to_vec(),
        Act::CastOpenedTwice => {
            let (one, other) = (open(dice, |_, _| {}), open(dice, |_, _| {}));
            vec![call(
                CAST,
                vec![say(Said::Open(one.clone())), say(Said::Open(one)), say(Said::Open(other)), Step::Wait(1_000)],
            )]
        }
        Act::CastNeverOpened => vec![
            call(CAST, vec![say(Said::Steer(MARK.to_owned())), Step::Wait(500)]),
            call(CAST, vec![Step::Wait(6_000)]),
            call(CAST, vec![Step::Say(Bytes::new()), Step::Close]),
        ],
        Act::CastFlooded => flooded(dice),
        _ => return None,
    })
}

fn with_gate(dice: &mut Dice, name: &str, gate: v1::Gate) -> v1::Open {
    let read = json!({ "call": name, "args": { "path": "note.txt" } });
    let intent = script(json!([deed(name, dice), read, { "done": MARK }]));
    open(dice, |open, cantrip| {
        open.intent = intent;
        cantrip.gates.push(gate);
    })
}

/// A cast whose entity casts a child on another node.
fn child_on(dice: &mut Dice, node: &str, through: v1::Gate) -> v1::Open {
    let read = json!({ "call": "read_file", "args": { "path": "note.txt" } });
    let inner = script(json!([deed("deed", dice), deed("vault", dice), read, { "done": MARK }]));
    let gates: &[&str] = if dice.asks_itself { &["read_file"] } else { &["deed", "vault", "echo"] };
    let child = json!({ "node": node, "intent": inner, "gates": gates });
    let arguments = match through.name.as_str() {
        "call_entity_batch" => json!({ "requests": [child] }),
        "llm_query" => json!({ "prompt": MARK }),
        "read_loom" => json!({}),
        _ => child,
    };
    let intent = script(json!([{ "call": through.name, "args": arguments }, { "done": MARK }]));
    open(dice, |open, cantrip| {
        open.intent = intent;
        cantrip.gates.push(through);
    })
}

fn at_caller(dice: &mut Dice) -> v1::Open {
    open(dice, |_, cantrip| {
        cantrip.gates.extend([gate_at_caller("near"), gate_at_caller("vault")]);
        cantrip.model = Some(v1::Model { name: MARK.repeat(200), ..own_model(Some(u64::MAX)) });
    })
}

fn own_model(context_tokens: Option<u64>) -> v1::Model {
    v1::Model { name: MARK.to_owned(), at_caller: true, context_tokens, can_require_calls: true }
}

fn of_another(dice: &mut Dice, known: &Known) -> Vec<Call> {
    let mut calls = Vec::new();
    for again in [false, true] {
        let (loom, entity) = (known.loom(dice).to_string(), known.entity(dice).to_string());
        let cast_id = known.casts.get(dice.size(known.casts.len().max(1))).cloned();
        calls.push(cast(open(dice, |open, _| {
            (open.loom, open.entity, open.again) = (loom, entity, again);
            open.cast = cast_id.unwrap_or_else(|| open.cast.clone());
        })));
    }
    // Below somebody else's entity.
    let (loom, parent) = (known.loom(dice).to_string(), known.entity(dice).to_string());
    calls.push(cast(open(dice, |open, _| {
        (open.loom, open.spawned_by, open.depth) = (loom, parent, 1);
    })));
    calls
}

fn odd_gates(dice: &mut Dice) -> Vec<Call> {
    let spec = |change: &dyn Fn(&mut v1::GateSpec)| {
        let mut gate = gate_at_caller("near");
        if let Some(spec) = &mut gate.spec {
            change(spec);
        }
        gate
    };
    let regexes: Vec<String> =
        (0..40).map(|number| format!("\"p{number}\": {{\"pattern\": \"(a|b){{500}}c{number}\"}}")).collect();
    let regexes = format!("{{\"type\": \"object\", \"properties\": {{{}}}}}", regexes.join(", "));
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let odd = [
        gate(""),
        gate("done"),
        gate("a\u{0}b\u{1b}[2J"),
        gate(&"g".repeat(1_100_000)),
        v1::Gate { at_caller: true, ..gate("near") },
        spec(&|spec| "not json".clone_into(&mut spec.parameters)),
        spec(&|spec| spec.parameters.clone_from(&deep)),
        spec(&|spec| spec.parameters.clone_from(&regexes)),
        spec(&|spec| spec.positional = vec!["x".to_owned(); 10_000]),
        spec(&|spec| "everything".clone_into(&mut spec.reach)),
        spec(&|spec| spec.description = "\u{1b}]52;c;AAAA\u{7}".repeat(50_000)),
    ];
    let mut calls: Vec<Call> = odd.map(|gate| cast(open(dice, |_, cantrip| cantrip.gates.push(gate)))).to_vec();
    calls.push(cast(open(dice, |_, cantrip| cantrip.gates = vec![gate_at_caller("near"); 50])));
    calls
}

fn odd_wards(dice: &mut Dice) -> Vec<Call> {
    let mut texts: Vec<String> = [
        "{",
        "[]",
        "null",
        "{\"max_turns\": -1}",
        "{\"max_turns\": 1e400}",
        "{\"max_turns\": 18446744073709551615, \"max_tokens\": 18446744073709551615, \"timeout_ms\": 18446744073709551615}",
        "{\"max_turns\": 0}",
        "{\"timeout_ms\": 0}",
        "{\"max_depth\": 4294967296}",
        "{\"unknown\": true}",
        "{\"allow_hosts\": [\"*\"]}",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push(format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000)));
    texts.push(format!("{{\"allow_hosts\": [{}]}}", vec!["\"a\""; 50_000].join(", ")));
    let odd = texts.iter().map(|text| {
        let folding = dice.once_in(2);
        cast(open(dice, |_, cantrip| {
            if folding {
                cantrip.folding.clone_from(text);
            } else {
                cantrip.wards.clone_from(text);
            }
        }))
    });
    let mut calls: Vec<Call> = odd.collect();
    calls.push(cast(v1::Open { cantrip: None, ..open(dice, |_, _| {}) }));
    let identity = v1::Identity {
        system_prompt: Some(MARK.repeat(100_000)),
        sampling: Some(v1::Sampling {
            temperature: Some(f64::NAN),
            top_p: Some(f64::INFINITY),
            max_output_tokens: Some(u32::MAX),
            reasoning_effort: Some("x".repeat(10_000)),
        }),
        tool_choice: "required".to_owned(),
    };
    calls.push(cast(open(dice, |_, cantrip| cantrip.identity = Some(identity))));
    calls
}

fn flooded(dice: &mut Dice) -> Vec<Call> {
    let turns: Vec<Value> =
        (0..4).map(|_| json!({ "wait_ms": 300, "call": "echo", "args": { "text": MARK } })).collect();
    let opening = open(dice, |open, _| open.intent = script(Value::Array(turns)));
    let mut steps = vec![say(Said::Open(opening))];
    for number in 0..300 {
        steps.push(say(match dice.below(6) {
            0 => Said::Steer(MARK.repeat(1_000)),
            1 => Said::Heartbeat(v1::Heartbeat {}),
            2 => Said::ModelPiece(v1::ModelPiece {
                call: number,
                piece: Some(v1::model_piece::Piece::Text(MARK.repeat(500))),
            }),
            3 => Said::GateResult(v1::GateResult { call: number, result: None }),
            4 => Said::ModelResult(v1::ModelResult { call: number, result: None }),
            _ => Said::GuestPart(v1::GuestPart {
                call: number,
                bytes: vec![0; 10_000].into(),
                ..v1::GuestPart::default()
            }),
        }));
    }
    let end = if dice.once_in(2) {
        Said::Interrupt(v1::Interrupt {})
    } else {
        Said::Cancel(v1::Cancel { parent_terminated: dice.once_in(2) })
    };
    steps.extend([say(end), Step::Wait(500)]);
    vec![call(CAST, steps)]
}

/// Says what the first intent tells it, as the model of the simulated nodes does.
fn scripted(it: &v1::ModelCall) -> Said {
    let mut script: Vec<Value> = Vec::new();
    for message in it.messages.iter().filter(|message| message.role == "user") {
        let text = message.content.as_deref().unwrap_or_default();
        script.extend(serde_json::from_str::<Vec<Value>>(text).unwrap_or_default());
    }
    let said = it.messages.iter().filter(|message| message.role == "assistant").count();
    let (name, arguments) = match script.get(said) {
        Some(turn) if turn["call"].is_string() => (turn["call"].as_str().unwrap_or_default(), turn["args"].clone()),
        Some(turn) => ("done", json!({ "answer": turn["done"] })),
        None => ("done", json!({ "answer": MARK })),
    };
    let one = v1::Call { id: format!("c{said}"), name: name.to_owned(), arguments: arguments.to_string() };
    let usage = Some(v1::Usage { prompt_tokens: 3, completion_tokens: 3, cached_tokens: 0 });
    let answer = v1::ModelAnswer { content: None, thinking: None, calls: vec![one], usage, model: MARK.to_owned() };
    Said::ModelResult(v1::ModelResult { call: it.call, result: Some(v1::model_result::Result::Answer(answer)) })
}

/// What the hostile peer says to a host that asks something.
pub(crate) fn answer(told: &Bytes, answers: Answers, dice: &mut Dice) -> Vec<Bytes> {
    let Ok(v1::HostMessage { message: Some(told) }) = v1::HostMessage::decode(told.clone()) else { return Vec::new() };
    if answers == Answers::Nothing {
        return Vec::new();
    }
    let (large, broken) = (answers == Answers::Large, answers == Answers::Broken);
    let number = |call: u64| if answers == Answers::WrongNumber { call.wrapping_add(1) } else { call };
    let said = match told {
        Told::GateCall(it) => {
            let value = match (large, broken) {
                (true, _) => format!("\"{}\"", "y".repeat(2_000_000)),
                (_, true) => "{".repeat(1_000),
                _ => "\"from mallory\"".to_owned(),
            };
            let result = Some(v1::gate_result::Result::Value(value));
            Said::GateResult(v1::GateResult { call: number(it.call), result })
        }
        Told::ModelCall(it) if answers == Answers::Right => scripted(&it),
        Told::ModelCall(it) => {
            let name = if large { "z".repeat(1_100_000) } else { ["vault", "near", "done"][dice.size(3)].to_owned() };
            let calls = if broken { 2_000 } else { 1 };
            let arguments =
                if broken { "not json".to_owned() } else { json!({ "answer": MARK, "deed": MARK }).to_string() };
            let one = v1::Call { id: "same".to_owned(), name, arguments };
            let most = if large { u64::MAX } else { 3 };
            let answer = v1::ModelAnswer {
                content: large.then(|| "w".repeat(1_100_000)),
                thinking: None,
                calls: vec![one; calls],
                usage: Some(v1::Usage { prompt_tokens: most, completion_tokens: most, cached_tokens: most }),
                model: MARK.to_owned(),
            };
            let result = Some(v1::model_result::Result::Answer(answer));
            Said::ModelResult(v1::ModelResult { call: number(it.call), result })
        }
        Told::GuestWanted(it) => Said::GuestPart(v1::GuestPart {
            call: number(it.call),
            bytes: vec![0; if large { 4_000_000 } else { 100 }].into(),
            last: !broken,
            refused: String::new(),
        }),
        _ => return Vec::new(),
    };
    let said = encoded(said);
    if answers == Answers::Twice { vec![said.clone(), said] } else { vec![said] }
}
