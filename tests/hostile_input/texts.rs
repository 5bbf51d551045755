//! Texts that sandboxed code, files and models produce: each is walked once.

use std::path::Path;
use std::sync::{Arc, Mutex};

use cantrip_gates::steps;
use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::domain::limits::{CIRCLE_GATES_MAX, EVENT_BYTES_MAX, EVENT_PREVIEW_CHARS};
use cantrip_runtime::{
    Cantrip, CastOptions, Event, EventKind, Exposure, FunctionGate, Gate, GateName, GateSpec, Observer, Reach, Wards,
    builtin, embed,
};
use serde_json::{Value, json};

/// Every text in an event, as it would be sent.
fn sent(kind: EventKind) -> (String, u64) {
    let (kind, taken) = steps::taken_by(|| kind.redacted());
    (serde_json::to_string(&kind).unwrap(), taken)
}

fn events(text: &str, value: &Value) -> Vec<EventKind> {
    let gate = || "echo".to_owned();
    vec![
        EventKind::MessageComplete { said: text.to_owned() },
        EventKind::GateCalled { gate: gate(), arguments: value.clone() },
        EventKind::GateReturned { gate: gate(), is_error: false, preview: text.to_owned(), duration_us: 1 },
        EventKind::GateReturned { gate: text.to_owned(), is_error: true, preview: String::new(), duration_us: 1 },
        EventKind::TurnComplete { turn: 1, observation: text.to_owned(), is_error: false, duration_us: 1 },
    ]
}

#[test]
fn an_event_costs_what_it_shows() {
    for piece in ["a_key:", "token=\"", "authorization:", "-----BEGIN PRIVATE KEY-----Comment:", "plain words "] {
        let text = format!("{} x y z", piece.repeat(500_000));
        let many: Vec<Value> = (0..50_000).map(|at| json!({"a_key": at, "note": piece})).collect();
        for value in [json!({"text": text}), json!({&text: 1}), json!(many), json!([[text, text], {"password": text}])]
        {
            for kind in events(&text, &value) {
                let about = format!("{:.60}", format!("{kind:?}"));
                let (sent, taken) = sent(kind);
                assert!(taken < 20_000_000, "{taken} steps for {about}");
                assert!(sent.len() < 8 * EVENT_BYTES_MAX, "{} bytes of {about}", sent.len());
            }
        }
    }
    let text = "word ".repeat(1_000);
    let (sent, _) = sent(EventKind::TurnComplete { turn: 1, observation: text, is_error: false, duration_us: 1 });
    let shown: Value = serde_json::from_str(&sent).unwrap();
    let observation = shown.get("observation").and_then(Value::as_str).unwrap();
    assert_eq!(observation.chars().count(), EVENT_PREVIEW_CHARS + 1);
    assert!(observation.ends_with('…'));
}

#[test]
fn an_event_shows_no_half_of_a_secret_at_its_cut() {
    for secret in ["https://user:S3crabcdef@example.com/", "ghp_S3crabcdefghijklmnopqrstuvwxyz", "API_KEY=S3crabcdef"] {
        for cut in [EVENT_PREVIEW_CHARS, EVENT_PREVIEW_CHARS * 4, EVENT_BYTES_MAX] {
            for before in cut.saturating_sub(60)..cut + 4 {
                let text = format!("{}\n{secret}\n{}", "w ".repeat(before / 2), "more words ".repeat(3_000));
                for kind in events(&text, &json!({"text": text, "also": [text]})) {
                    let (sent, _) = sent(kind);
                    assert!(!sent.contains("S3cr"), "{secret} {before} bytes before {cut}");
                }
            }
        }
    }
}

#[test]
fn a_short_event_is_whole() {
    let value = json!({"path": "a.txt", "list": [1, null, true, {"deep": "é"}], "password": "hunter2"});
    let EventKind::GateCalled { arguments, .. } =
        EventKind::GateCalled { gate: "echo".to_owned(), arguments: value.clone() }.redacted()
    else {
        panic!("another event")
    };
    let mut expected = value;
    cantrip_gates::redact_json(&mut expected);
    assert_eq!(arguments, expected);
}

#[test]
fn a_circle_holds_a_bounded_number_of_gates() {
    let gates = |count: usize, parameters: &Value| {
        let gates = (0..count).map(|at| {
            let spec = GateSpec {
                name: GateName::parse(&format!("gate_{at}")).unwrap(),
                description: String::new(),
                parameters: parameters.clone(),
                positional: Vec::new(),
                reach: Reach::Read,
                exposure: Exposure::default(),
                ephemeral: false,
            };
            let gate: Arc<dyn Gate> = Arc::new(FunctionGate::new(spec, |_| async { Ok(Value::Null) }));
            gate
        });
        let runtime = embed::in_memory(None).unwrap();
        let wards = Wards { max_turns: Some(1), ..Wards::default() };
        let model = Arc::new(Scripted::from_values(Vec::new()).unwrap());
        let builder = gates.fold(Cantrip::builder().llm(model), cantrip_runtime::CantripBuilder::gate);
        builder.gate(builtin::done()).wards(&wards).build(runtime.media()).map(drop).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error}: {cause}")
        })
    };
    gates(CIRCLE_GATES_MAX - 1, &json!({"type": "object"})).unwrap();
    let error = gates(CIRCLE_GATES_MAX, &json!({"type": "object"})).unwrap_err();
    assert!(error.contains("at most 512 are held"), "{error}");
    let heavy = json!({"type": "object", "properties": {"a": {"pattern": "[01]{1500}"}}});
    gates(200, &heavy).unwrap_err();
}

/// Hears everything, or says that it hears nothing.
struct Ear {
    heard: Mutex<Vec<String>>,
    listens: bool,
}

impl Observer for Ear {
    fn event(&self, event: &Event) {
        self.heard.lock().unwrap().push(serde_json::to_string(event).unwrap());
    }

    fn listens(&self) -> bool {
        self.listens
    }
}

fn cast(codes: &[&str], listens: bool) -> (Vec<String>, u64) {
    let runtime = embed::in_memory(Some(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("texts-artefacts"))).unwrap();
    let model = Scripted::from_values(codes.iter().map(|code| json!({ "code": code })).collect()).unwrap();
    let wards = Wards { max_turns: Some(9), max_eval_ms: Some(60_000), ..Wards::default() };
    let cantrip =
        Cantrip::builder().llm(Arc::new(model)).medium("javascript").gate(builtin::done()).gate(builtin::echo());
    let cantrip = cantrip.wards(&wards).build(runtime.media()).unwrap();
    let ear = Arc::new(Ear { heard: Mutex::default(), listens });
    let observer: Arc<dyn Observer> = Arc::<Ear>::clone(&ear);
    let options = CastOptions { observer: Some(observer), ..CastOptions::default() };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (outcome, taken) = steps::taken_by(|| tokio.block_on(runtime.cast(&cantrip, "go", options)));
    assert_eq!(outcome.unwrap().result, Some(json!("ended")));
    let heard = std::mem::take(&mut *ear.heard.lock().unwrap());
    (heard, taken)
}

/// The steps are those of the thread that drives every entity: each one is time in which nobody else is answered.
#[test]
fn code_that_names_a_secret_many_times_costs_its_node_little() {
    let code = "for (const piece of ['a_key:', 'authorization:', 'token=\"']) { try { echo(piece.repeat(64000) + ' x y z') } catch {} }";
    let refused = "try { nothing_of_this_name } catch {} for (const piece of ['a_key:']) { try { echo(1, piece.repeat(64000)) } catch {} }";
    let (heard, taken) = cast(&[code, refused, "done('ended')"], true);
    assert!(heard.iter().any(|event| event.contains("gate_called")), "{heard:?}");
    assert!(taken < 60_000_000, "{taken} steps");
    assert!(heard.iter().all(|event| event.len() < 8 * EVENT_BYTES_MAX));
}

#[test]
fn an_observer_that_does_not_listen_costs_nothing() {
    let code = "echo('a_key:'.repeat(1000))";
    let (heard, silent) = cast(&[code, "done('ended')"], false);
    let (_, watched) = cast(&[code, "done('ended')"], true);
    assert_eq!(heard, Vec::<String>::new());
    assert!(silent < watched, "{silent} steps unheard, {watched} heard");
}
