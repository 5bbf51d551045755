//! The record, and everything that is read into it: no entry is too long to be written, and none that was written makes a reader
//! fall, spin or grow without end.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::domain::budget::Ledger;
use cantrip_runtime::domain::cantrip::{Folding, Identity};
use cantrip_runtime::domain::circle::{Circle, CircleDraft};
use cantrip_runtime::domain::entity::{Effect, Entity, GuestNature, Input, Nature, Now};
use cantrip_runtime::domain::guest::Shape;
use cantrip_runtime::domain::ids::{CastId, EntityId, EntryId, LoomId, WriterKey};
use cantrip_runtime::domain::limits;
use cantrip_runtime::domain::loom::Minted;
use cantrip_runtime::domain::loom::{
    Answer, Body, CallRecord, Entry, Fork, ForkStrategy, GateRecord, IdentityRecord, Observed, Opened, Payload,
    Payloads, Said, Sealed,
};
use cantrip_runtime::domain::medium::{CallArguments, Evaluated, EvaluationOutcome, StopReason};
use cantrip_runtime::domain::members::Nonce;
use cantrip_runtime::domain::model::{ModelError, RawAnswer, RawCall, Sampling, Usage};
use cantrip_runtime::export::car;
use cantrip_runtime::ports::LoomStore as _;
use cantrip_runtime::{Exposure, GateError, GateName, GateSpec, Reach, Wards, builtin};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::node_support::{binary, text};

/// An entity that is asked directly, and what it has recorded.
struct Run {
    entity: Entity,
    waits: Waits,
    largest: usize,
    ended: Option<String>,
    seen: String,
    now: Now,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Answer,
    Gate,
    Code,
    Nothing,
}

fn gate(name: &str) -> GateSpec {
    GateSpec {
        name: GateName::parse(name).unwrap(),
        description: "A gate of a test.".to_owned(),
        parameters: json!({"type": "object"}),
        positional: Vec::new(),
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: name == "glance",
    }
}

fn entry(body: Body) -> Result<Sealed, String> {
    let (loom, writer) = (LoomId::from_parts(1, [0; 16]), WriterKey::from_bytes([0; 32]));
    let entity = EntityId::from_parts(1, [0; 16]);
    let parent = Some(EntryId::of(b"parent"));
    let entry = Entry::new(loom, (writer, u64::MAX), u64::MAX, entity, parent, body);
    Sealed::new(entry, Vec::new()).map_err(|error| error.to_string())
}

impl Run {
    fn new(medium: &str, guest: Option<Shape>) -> Self {
        let code_media: Arc<[String]> = vec!["javascript".to_owned()].into();
        let draft = CircleDraft {
            media: vec![medium.to_owned()],
            gates: vec![builtin::done().spec().clone(), gate("look"), gate("glance")],
            wards: Wards { max_turns: Some(1_000), max_gate_calls: Some(200_000), ..Wards::default() },
            ..CircleDraft::default()
        };
        let circle = Arc::new(Circle::new(draft, &code_media, true).unwrap());
        let nature = Nature {
            id: EntityId::from_parts(1, [0; 16]),
            depth: 0,
            identity: Identity::new(None, Sampling::default(), None),
            ledger: Ledger::new(circle.wards(), None),
            circle,
            folding: Folding::default(),
            context_tokens: None,
            equipped: Vec::new(),
            code_media,
            models: Vec::new(),
            nodes: Arc::default(),
            guest: guest.map(|shape| GuestNature { reference: "guest@sha256:0".to_owned(), shape }),
        };
        let entity = Entity::new(nature, Exposure::default());
        let now = Now { us: 1_790_000_000_000_000, stop: None, spent_us: 0 };
        let mut run = Self { entity, waits: Waits::Nothing, largest: 0, ended: None, seen: String::new(), now };
        run.step(Input::Intent { text: "do it".to_owned(), recorded: true, cast: None }).unwrap();
        run
    }

    /// Takes one step. What it records has to be an entry.
    fn step(&mut self, input: Input) -> Result<(), String> {
        let effects = self.entity.step(input, &self.now).map_err(|error| error.to_string())?;
        self.waits = Waits::Nothing;
        for effect in effects {
            match effect {
                Effect::Record { body, .. } => {
                    let kind = body.kind().to_owned();
                    if let Body::Observation(seen) = &body {
                        self.seen = seen.answers.iter().filter_map(|it| it.content.inline()).collect();
                    }
                    let sealed = entry(body).map_err(|error| format!("{kind}: {error}"))?;
                    self.largest = self.largest.max(sealed.bytes.len());
                }
                Effect::Ask(_) | Effect::Query(_) => self.waits = Waits::Answer,
                Effect::Call { .. } | Effect::Cast { .. } | Effect::ReadLoom { .. } => self.waits = Waits::Gate,
                Effect::Evaluate { .. } | Effect::Resume { .. } => self.waits = Waits::Code,
                Effect::Finish(outcome) => self.ended = Some(outcome.reason.to_string()),
                Effect::Sync | Effect::Lose | Effect::Tell(_) => {}
            }
        }
        Ok(())
    }
}

/// A text of a length that somebody may choose.
fn texts() -> impl Strategy<Value = String> {
    (
        select(vec!["a", "ü", "\u{1F980}", "\"", "\n"]),
        select(vec![0_usize, 1, 60, 300, 14_000, 16_385, 70_000, 1_100_000]),
    )
        .prop_map(|(piece, bytes)| piece.repeat(bytes / piece.len()))
}

fn errors() -> impl Strategy<Value = GateError> {
    (texts(), 0_usize..6).prop_map(|(text, kind)| match kind {
        0 => GateError::Denied(text),
        1 => GateError::Invalid(text),
        2 => GateError::NotFound(text),
        3 => GateError::Exhausted(text),
        4 => GateError::Failed(text),
        _ => GateError::TimedOut(text),
    })
}

fn results() -> impl Strategy<Value = Result<Value, GateError>> {
    prop_oneof![
        texts().prop_map(|text| Ok(Value::from(text))),
        Just(Ok(Value::from(vec![0; 200_000]))),
        errors().prop_map(Err)
    ]
}

fn answers() -> impl Strategy<Value = RawAnswer> {
    let gates = prop_oneof![select(vec!["look", "glance", "javascript", "none"]).prop_map(str::to_owned), texts()];
    let arguments = prop_oneof![
        Just(Ok(json!({"code": "1"}))),
        texts().prop_map(|text| Ok(json!({"code": text}))),
        texts().prop_map(Err)
    ];
    (texts(), texts(), texts(), gates, arguments, texts(), select(vec![0_usize, 1, 3, 100, 255, 5_000])).prop_map(
        |(content, thinking, model, gate, arguments, id, count)| {
            // So much in one answer would only be slow.
            let size = gate.len() + id.len() + arguments.as_ref().map_or_else(String::len, |it| it.to_string().len());
            let count = count.min(1 + 16_000_000 / size.max(1));
            let call = |number: usize| RawCall {
                id: number.is_multiple_of(2).then(|| format!("{id}{number}")),
                gate: gate.clone(),
                arguments: arguments.clone(),
            };
            let content = Some(content).filter(|text| !text.is_empty() || count == 0);
            RawAnswer {
                content: content.map(|text| format!("{text}.")),
                thinking: Some(thinking),
                calls: (0..count).map(call).collect(),
                provider_results: Vec::new(),
                usage: Usage::default(),
                model,
            }
        },
    )
}

fn outcomes() -> impl Strategy<Value = EvaluationOutcome> {
    prop_oneof![
        texts().prop_map(|text| EvaluationOutcome::Value { kind: text.clone(), text, value: None }),
        (texts(), texts(), texts()).prop_map(|(name, message, stack)| EvaluationOutcome::Threw {
            name,
            message,
            stack
        }),
        texts().prop_map(|detail| EvaluationOutcome::Lost { reason: StopReason::Trap, detail }),
    ]
}

#[derive(Debug, Clone)]
enum Given {
    Answer(RawAnswer),
    Failure(String),
    Returned(Result<Value, GateError>),
    Asked(String, usize),
    Evaluated(EvaluationOutcome, String),
    Steer(String),
}

fn givens() -> impl Strategy<Value = Given> {
    prop_oneof![
        3 => answers().prop_map(Given::Answer),
        1 => texts().prop_map(Given::Failure),
        3 => results().prop_map(Given::Returned),
        2 => (texts(), select(vec![1_usize, 100, 2_000])).prop_map(|(gate, times)| Given::Asked(gate, times)),
        2 => (outcomes(), texts()).prop_map(|(outcome, output)| Given::Evaluated(outcome, output)),
        1 => texts().prop_map(Given::Steer),
    ]
}

/// Hands the input over, where it fits what is waited for.
fn give(run: &mut Run, given: Given) -> Result<(), String> {
    match (given, run.waits) {
        (Given::Answer(answer), Waits::Answer) => run.step(Input::Answered { answer, retries: 0 }),
        (Given::Failure(message), Waits::Answer) => run.step(Input::Unanswered(ModelError::Malformed { message })),
        (Given::Returned(result), Waits::Gate) => run.step(Input::returned(result)),
        (Given::Asked(gate, times), Waits::Code) => {
            for _ in 0..times {
                let arguments = CallArguments::Named(json!({}));
                match run.waits {
                    Waits::Code => run.step(Input::GateAsked { gate: gate.clone(), arguments })?,
                    Waits::Gate => {
                        let result = Err(GateError::Failed(gate.clone()));
                        run.step(Input::returned(result))?;
                    }
                    Waits::Answer | Waits::Nothing => return Ok(()),
                }
            }
            Ok(())
        }
        (Given::Evaluated(outcome, output), Waits::Code) => {
            let evaluated = Evaluated { output, ..Evaluated::of(outcome) };
            run.step(Input::Evaluated { evaluated, seed: u64::MAX, clock_us: u64::MAX })
        }
        (Given::Steer(text), _) => {
            run.entity.steer(text);
            Ok(())
        }
        _ => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_input_of_any_port_makes_an_entry_too_large(
        medium in select(vec![("javascript", None), ("conversation", None), ("conversation", Some(Shape::Run)), ("conversation", Some(Shape::Steps))]),
        givens in proptest::collection::vec(givens(), 1..24),
    ) {
        let mut run = Run::new(medium.0, medium.1);
        for given in givens {
            if run.ended.is_some() {
                break;
            }
            give(&mut run, given).map_err(TestCaseError::fail)?;
        }
        prop_assert!(run.largest <= cantrip_runtime::domain::loom::ENTRY_BYTES_MAX);
    }
}

#[test]
fn an_answer_with_too_many_calls_runs_the_first_and_says_so() {
    let mut run = Run::new("conversation", None);
    let call =
        |number: usize| RawCall { id: Some(format!("{number}")), gate: "x".repeat(14_000), arguments: Ok(json!({})) };
    let answer = RawAnswer { calls: (0..5_000).map(call).collect(), ..RawAnswer::default() };
    run.step(Input::Answered { answer, retries: 0 }).unwrap();
    let left_out = 5_000 - limits::ANSWER_CALLS_MAX;
    assert!(run.seen.contains(&format!("[{left_out} more calls were not run")), "{}", run.seen);
    assert!(run.waits == Waits::Answer, "the model is asked again");
}

#[test]
fn a_flood_of_gate_calls_is_stopped_before_its_record_is_too_large() {
    for guest in [None, Some(Shape::Run)] {
        let mut run = Run::new(if guest.is_some() { "conversation" } else { "javascript" }, guest);
        if guest.is_none() {
            let call = |id: &str| RawCall {
                id: Some(id.to_owned()),
                gate: "javascript".to_owned(),
                arguments: Ok(json!({"code": "1"})),
            };
            let answer = RawAnswer { calls: vec![call("a"), call("b")], ..RawAnswer::default() };
            run.step(Input::Answered { answer, retries: 0 }).unwrap();
        }
        let mut called = 0;
        for _ in 0..120_000 {
            run.step(Input::GateAsked { gate: "look".to_owned(), arguments: CallArguments::Named(json!({})) }).unwrap();
            if run.waits == Waits::Gate {
                called += 1;
                let result = Ok(Value::Null);
                run.step(Input::returned(result)).unwrap();
            }
        }
        assert_eq!(called, limits::TURN_GATE_CALLS_MAX, "nothing runs that could not be recorded");
        let outcome = EvaluationOutcome::Done;
        run.step(Input::Evaluated { evaluated: Evaluated::of(outcome), seed: 1, clock_us: 1 }).unwrap();
        assert!(run.seen.contains("at most 50000 gate calls"), "{}", run.seen);
        assert_eq!(run.ended.as_deref(), guest.map(|_| "guest_failed"));
    }
}

#[test]
fn an_entity_that_cannot_be_recorded_is_refused_before_it_is_opened() {
    let opened = |bytes: usize| {
        let Body::Opened(opened) = opened(None) else { panic!() };
        let gate =
            GateRecord { name: "x".repeat(1_000), reach: Reach::Read, exposure: Exposure::default(), ephemeral: false };
        Opened { gates: vec![gate; bytes / 1_100], ..*opened }
    };
    assert!(opened(limits::OPENED_BYTES_MAX - 4_096).fits().is_ok());
    let refused = opened(limits::OPENED_BYTES_MAX * 11 / 10).fits().unwrap_err();
    assert!(refused.to_string().contains("it has 524 gates"), "{refused}");
}

#[test]
fn a_system_prompt_of_any_length_is_kept_beside_the_entry() {
    let mut payloads = Payloads::default();
    let identity = Identity::new(Some("x".repeat(3 << 20)), Sampling::default(), None);
    let Body::Opened(opened) = opened(None) else { panic!() };
    let opened = Opened { identity: IdentityRecord::new(&identity, &mut payloads), ..*opened };
    assert!(opened.fits().is_ok());
    let sealed = entry(Body::Opened(Box::new(opened))).unwrap();
    assert!(sealed.bytes.len() < 1_000, "{}", sealed.bytes.len());
    assert_eq!(payloads.into_blobs().iter().map(|blob| blob.bytes.len()).collect::<Vec<_>>(), [3 << 20]);
}

// From outside: records and archives of others.

fn inline(text: &str) -> Payload {
    Payload::Inline(text.to_owned())
}

pub(crate) fn opened(fork: Option<Fork>) -> Body {
    Body::Opened(Box::new(Opened {
        identity: IdentityRecord::default(),
        medium: "conversation".to_owned(),
        medium_digest: None,
        gates: Vec::new(),
        wards: Wards::default(),
        folding: Folding::default(),
        model: "scripted".to_owned(),
        guest: None,
        intent: inline("look"),
        node: "elsewhere".to_owned(),
        depth: 0,
        cast: CastId::from_bytes([1; 16]),
        fork,
        minted: Some(minted()),
        ..Opened::default()
    }))
}

const NONCE: Nonce = Nonce::from_bytes([7; 16]);

/// The other node.
fn other_key() -> NodeKey {
    NodeKey::from_secret(&[5; 32])
}

/// What the ids of its entities commit to.
fn minted() -> Minted {
    Minted { by: other_key().writer(), nonce: NONCE }
}

pub(crate) fn entity(number: u64) -> EntityId {
    EntityId::mint(number + 1, &minted().by, &NONCE)
}

/// The record of another node.
pub(crate) struct Other {
    store: Arc<MemoryStore>,
    pub(crate) loom: LoomId,
    sequence: u64,
}

/// The loom that it has founded.
fn loom() -> LoomId {
    LoomId::mint(1_790_000_000_000, &other_key().writer(), &NONCE, None)
}

impl Other {
    pub(crate) fn new() -> Self {
        let mut other = Self::with_key(other_key());
        other.add(None, None, Body::Founded { nonce: NONCE, member: None });
        other
    }

    /// Somebody who writes into the same loom.
    pub(crate) fn with_key(key: NodeKey) -> Self {
        Self { store: MemoryStore::with_key(key), loom: loom(), sequence: 0 }
    }

    pub(crate) fn add(&mut self, entity: impl Into<Option<EntityId>>, parent: Option<EntryId>, body: Body) -> EntryId {
        self.sequence += 1;
        let (writer, sequence) = (self.store.writer(), self.sequence);
        let entry = Entry::new(self.loom, (writer, sequence), sequence, entity, parent, body);
        let sealed = Sealed::new(entry, Vec::new()).unwrap();
        let id = sealed.id;
        self.store.append(sealed).unwrap();
        id
    }

    pub(crate) fn turn(&mut self, entity: EntityId, parent: EntryId) -> EntryId {
        let calls = vec![CallRecord {
            id: cantrip_runtime::domain::ids::CallId::new("c"),
            gate: "look".to_owned(),
            arguments: inline(&format!("{}{}", "[".repeat(500), "]".repeat(500))),
        }];
        let said =
            Said { calls, usage: Usage::default(), model: "scripted".to_owned(), duration_us: 1, ..Said::default() };
        let said = self.add(entity, Some(parent), Body::Utterance(Box::new(said)));
        let answers = vec![Answer { call: None, content: inline("seen"), is_error: false, shown_instead: None }];
        let seen = Observed { answers, duration_us: 1, ..Observed::default() };
        self.add(entity, Some(said), Body::Observation(Box::new(seen)))
    }

    /// An archive of it on a machine of its own, with one entry that is written in another way.
    pub(crate) fn imported_as(mut self, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Machine {
        let (writer, loom) = (self.store.writer(), self.loom);
        self.sequence += 1;
        let entry = Entry::new(loom, (writer, self.sequence), 1, entity(0), None, opened(None));
        let mut sealed = Sealed::new(entry, Vec::new()).unwrap();
        sealed.bytes = change(sealed.bytes);
        sealed.id = EntryId::of(&sealed.bytes);
        self.store.append(sealed).unwrap();
        let machine = Machine(tempfile::tempdir().unwrap());
        let mut bytes = Vec::new();
        car::write(&*self.store, loom, &mut bytes).unwrap();
        std::fs::write(machine.at("other.car"), bytes).unwrap();
        machine
    }

    /// Has a machine of its own import it.
    pub(crate) fn imported(&self) -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        self.import_into(&machine);
        machine
    }

    pub(crate) fn import_into(&self, machine: &Machine) {
        let mut bytes = Vec::new();
        car::write(&*self.store, self.loom, &mut bytes).unwrap();
        std::fs::write(machine.at("other.car"), bytes).unwrap();
        let imported = machine.run(&["loom", "import", "other.car"]);
        assert_eq!(imported.status.code(), Some(0), "{}", text(&imported.stderr));
    }
}

pub(crate) struct Machine(tempfile::TempDir);

impl Machine {
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        binary(self.0.path()).env("CANTRIP_DATA", Path::new("data")).args(arguments).output().unwrap()
    }
}

fn fork(of: u64, turns: u64) -> Fork {
    Fork { of: entity(of), turns, strategy: ForkStrategy::Replay, from: None }
}

#[test]
fn a_long_chain_of_forks_is_shown_verified_and_exported() {
    let mut other = Other::new();
    let root = other.add(entity(0), None, opened(None));
    let mut head = other.turn(entity(0), root);
    for number in 1..700 {
        let opened = other.add(entity(number), Some(head), opened(Some(fork(number - 1, number))));
        head = other.turn(entity(number), opened);
    }
    let machine = other.imported();
    let last = entity(699).to_string();
    let loom = loom().to_string();
    for arguments in [
        vec!["loom", "show", &loom],
        vec!["loom", "thread", &loom, &last],
        vec!["loom", "verify", &loom],
        vec!["loom", "export", &loom, "--format", "jsonl", "--output", "out.jsonl"],
        vec!["loom", "export", &loom, "--format", "parquet", "--output", "out.parquet"],
        vec!["loom", "diff", &format!("{loom}/{last}"), &format!("{loom}/{last}")],
    ] {
        let ran = machine.run(&arguments);
        assert_eq!(ran.status.code(), Some(0), "{arguments:?}: {}", text(&ran.stderr));
    }
    // All turns of all threads are a quarter of a million, and each has a KiB and more.
    assert!(std::fs::metadata(machine.at("out.parquet")).unwrap().len() < 64 * 1024 * 1024);
}

#[test]
fn a_name_in_another_nodes_record_adds_no_line_to_a_view() {
    let forged = "scripted\nentity 0  depth 0  none  not ended\n  intent: forged\r\nput aside: forged";
    let mut other = Other::new();
    let Body::Opened(honest) = opened(None) else { panic!() };
    let named = Opened {
        medium: forged.to_owned(),
        model: forged.to_owned(),
        node: forged.to_owned(),
        caller: Some(forged.to_owned()),
        ..*honest
    };
    let root = other.add(entity(0), None, Body::Opened(Box::new(named)));
    let called = Body::GateCalled {
        call: cantrip_runtime::domain::ids::CallId::new("c"),
        gate: forged.to_owned(),
        arguments: inline("{}"),
        reach: Reach::Read,
        place: "here".into(),
        asks: None,
        refused: false,
    };
    let said = Said { model: forged.to_owned(), duration_us: 1, ..Said::default() };
    let said = other.add(entity(0), Some(root), Body::Utterance(Box::new(said)));
    other.add(entity(0), Some(said), called);
    let machine = other.imported();
    let loom = loom().to_string();
    for arguments in
        [&["loom", "show", &loom][..], &["loom", "ls"], &["loom", "thread", &loom], &["loom", "replay", &loom]]
    {
        let shown = machine.run(arguments);
        let lines = text(&shown.stdout) + &text(&shown.stderr);
        assert!(!lines.is_empty(), "{arguments:?}");
        let is_forged = |line: &&str| {
            line.starts_with("entity 0 ") || line.starts_with("  intent: forged") || line.starts_with("put aside")
        };
        assert_eq!(lines.lines().find(is_forged), None, "{arguments:?}: {lines}");
    }
}

#[test]
fn a_record_with_a_link_or_a_pipe_in_it_is_refused_and_nothing_outside_is_touched() {
    let mut other = Other::new();
    other.add(entity(0), None, opened(None));
    let machine = other.imported();
    let cast = ["cast", "cantrip.toml", "x"];
    std::fs::write(machine.at("turns.jsonl"), "").unwrap();
    let circle = "[circle]\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 1\n";
    let llm = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n";
    std::fs::write(machine.at("cantrip.toml"), format!("{llm}{circle}")).unwrap();
    for name in ["lock", "heads", "node.key", "db/0.jnl", "db/version", "db"] {
        let (inside, aside) = (machine.at("data/loom").join(name), machine.at("aside"));
        std::fs::rename(&inside, &aside).unwrap();
        let is_folder = aside.is_dir();
        if !is_folder {
            // What is behind the last whole batch of a journal would be cut off.
            std::fs::write(machine.at("precious"), [std::fs::read(&aside).unwrap().as_slice(), b"precious"].concat())
                .unwrap();
        }
        for kind in ["a link", "a pipe"] {
            if kind == "a link" {
                let to = if is_folder { &aside } else { &machine.at("precious") };
                std::os::unix::fs::symlink(to, &inside).unwrap();
            } else {
                assert!(std::process::Command::new("mkfifo").arg(&inside).status().unwrap().success());
            }
            for arguments in [&["loom", "ls"][..], &["loom", "verify"], &["loom", "show"], &cast] {
                let ran = machine.run(arguments);
                assert_eq!(ran.status.code(), Some(3), "{name} {arguments:?}: {}", text(&ran.stderr));
                assert!(text(&ran.stderr).contains(&format!("{name} is {kind}")), "{}", text(&ran.stderr));
            }
            std::fs::remove_file(&inside).unwrap();
        }
        assert!(is_folder || std::fs::read(machine.at("precious")).unwrap().ends_with(b"precious"));
        std::fs::rename(&aside, &inside).unwrap();
    }
    assert!(machine.run(&["loom", "verify"]).status.success());
}

#[test]
fn a_cycle_of_forks_is_named_by_verify_and_show_and_breaks_no_command() {
    for length in [1, 30] {
        let mut other = Other::new();
        for number in 0..length {
            let opened = other.add(entity(number), None, opened(Some(fork((number + 1) % length, 1))));
            other.turn(entity(number), opened);
        }
        let machine = other.imported();
        let loom = loom().to_string();
        let first = format!("{loom}/{}", entity(0));
        let verified = machine.run(&["loom", "verify", &loom]);
        assert_eq!(verified.status.code(), Some(4), "{}", text(&verified.stderr));
        let why = "it forks an entity that was not opened before it in this loom";
        assert!(text(&verified.stdout).contains(why), "{}", text(&verified.stdout));
        let shown = machine.run(&["loom", "show", &loom]);
        assert!(shown.status.success() && text(&shown.stdout).contains(why), "{}", text(&shown.stdout));
        let exported = machine.run(&["loom", "export", &loom, "--format", "parquet", "--output", "out.parquet"]);
        assert!(exported.status.success(), "{}", text(&exported.stderr));
        for arguments in [vec!["loom", "diff", &first, &first], vec!["loom", "replay", &first]] {
            let refused = machine.run(&arguments);
            assert!(refused.status.code().is_some_and(|code| code > 0), "{arguments:?} ended by a signal");
            assert!(text(&refused.stderr).contains(why), "{arguments:?}: {}", text(&refused.stderr));
        }
    }
}
