//! Declarations of the gates that the runtime itself runs.

use serde_json::{Value, json};

use crate::limits::LOOM_ENTRIES_MAX;
use crate::name::GateName;
use crate::spec::{Exposure, GateSpec, Reach};

/// A name that is written in this crate.
#[expect(clippy::expect_used, reason = "the names are literals of ours, and a test declares every one of them")]
pub(super) fn named(name: &'static str) -> GateName {
    GateName::parse(name).expect("built-in gate names are identifiers")
}

/// What one child is asked for and given.
fn child() -> Value {
    let wards = json!({
        "description": "restrictions such as {\"max_turns\": 5}; they only ever narrow the parent's",
        "anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}],
    });
    let gates = json!({
        "type": "array",
        "description": "the child's gates; `done` is always there. On another node {\"name\": …, \"at\": \"caller\"} runs here",
        "items": {"anyOf": [{"type": "string"}, {"type": "object"}]},
    });
    json!({
        "type": "object",
        "properties": {
            "intent": {"type": "string", "description": "the goal of the child"},
            "system_prompt": {"type": "string", "description": "who the child is"},
            "context": {"description": "data the child gets beside its intent: any value"},
            "llm": {"anyOf": [{"type": "string"}, {"type": "object"}], "description": "the model, by name; default: the parent's"},
            "gates": gates,
            "medium": {"anyOf": [{"type": "string"}, {"type": "object"}], "description": "default: the parent's"},
            "wards": wards,
            "node": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                "description": "the node to run on, several of which the least busy is taken, or \"any\"; default: this one",
            },
            "guest": {"type": "string", "description": "a guest of that node that does the work, as name@sha256:…"},
            "identity": {
                "type": "object",
                "properties": {"system_prompt": {"type": "string"}},
            },
            "circle": {
                "type": "object",
                "properties": {"medium": {"anyOf": [{"type": "string"}, {"type": "object"}]}, "gates": gates, "wards": wards},
                "additionalProperties": false,
            },
        },
        "required": ["intent"],
        "additionalProperties": false,
    })
}

/// The declaration of `call_entity`: casts a child and waits for its result.
pub fn call_entity_spec() -> GateSpec {
    GateSpec {
        name: named("call_entity"),
        description: "Gives `intent` to a child entity with a circle of its own, waits, and returns its result."
            .to_owned(),
        parameters: child(),
        positional: vec!["intent".to_owned()],
        reach: Reach::Write,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}

/// The declaration of `call_entity_batch`: casts several children at the same time.
pub fn call_entity_batch_spec() -> GateSpec {
    GateSpec {
        name: named("call_entity_batch"),
        description: "Runs one child entity for each of `requests` at the same time and returns their results in the \
                      order of the requests."
            .to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {"requests": {"type": "array", "items": child(), "description": "arguments of `call_entity`, one for each child"}},
            "required": ["requests"],
            "additionalProperties": false,
        }),
        positional: vec!["requests".to_owned()],
        reach: Reach::Write,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}

/// The declaration of `llm_query`: asks the cantrip's model one question, for code that needs one.
pub fn llm_query_spec() -> GateSpec {
    GateSpec {
        name: named("llm_query"),
        description:
            "Asks the model one question and returns {text, model, prompt_tokens, completion_tokens}. It sees \
                      nothing but `prompt` and `system`. Tokens count against the ward max_tokens."
                .to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "prompt": {"type": "string", "minLength": 1},
                "system": {"type": "string", "description": "who answers"},
                "temperature": {"type": "number", "minimum": 0},
                "max_output_tokens": {"type": "integer", "minimum": 1, "maximum": u32::MAX},
            },
            "required": ["prompt"],
            "additionalProperties": false,
        }),
        positional: ["prompt", "system", "temperature", "max_output_tokens"].map(str::to_owned).to_vec(),
        reach: Reach::External,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}

/// The declaration of `read_loom`: what was recorded of the entity and its children.
pub fn read_loom_spec() -> GateSpec {
    GateSpec {
        name: named("read_loom"),
        description: format!(
            "Returns {{entries, next}}: what was recorded of this entity and its children so far, in the order it was made, \
             secrets taken out. At most {LOOM_ENTRIES_MAX} entries a call; `next` is the `cursor` of the next page, null at \
             the end."
        ),
        parameters: json!({
            "type": "object",
            "properties": {
                "cursor": {"type": "string", "description": "the `next` of an earlier page; default: from the first entry"},
                "limit": {"type": "integer", "minimum": 1, "maximum": LOOM_ENTRIES_MAX},
            },
            "additionalProperties": false,
        }),
        positional: vec!["cursor".to_owned(), "limit".to_owned()],
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}
