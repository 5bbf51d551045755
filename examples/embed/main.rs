//! Casts a cantrip from a program of one's own, with a gate of one's own.
//!
//! `cargo run -p cantrip-runtime --example embed` prints how many words a sentence has. The model is scripted, so this
//! runs offline; any other `Llm` goes in its place.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::sync::Arc;

use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::{
    Cantrip, CastOptions, Exposure, FunctionGate, GateError, GateName, GateSpec, Reach, Wards, builtin, embed,
};
use serde_json::{Value, json};

/// A gate: what it is called and takes, what it may touch, and a function.
fn word_count() -> Result<Arc<FunctionGate>, Box<dyn std::error::Error>> {
    let spec = GateSpec {
        name: GateName::parse("word_count")?,
        // The model reads this, and the schema below.
        description: "Counts the words of a text.".to_owned(),
        parameters: json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"], "additionalProperties": false}),
        // In code, `word_count("…")`: the first argument is `text`.
        positional: vec!["text".to_owned()],
        // It changes nothing, shows nothing private, brings nothing in from outside and sends nothing out.
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: false,
    };
    Ok(Arc::new(FunctionGate::new(spec, |arguments: Value| async move {
        // The arguments were checked against the schema before. An error is something that the entity's code can catch.
        let text = arguments.get("text").and_then(Value::as_str).unwrap_or_default();
        if text.is_empty() {
            Err(GateError::Invalid("word_count: the text is empty".to_owned()))
        } else {
            Ok(json!(text.split_whitespace().count()))
        }
    })))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Looms in memory; `embed::durable(folder)` keeps them.
    let runtime = embed::in_memory(None)?;
    // What the model says, one answer a turn: here code that calls the gate, and then `done`.
    let model = Scripted::from_values(vec![
        json!({"code": "const words = word_count('every action crosses a sandbox')"}),
        json!({"code": "done(`${words} words`)"}),
    ])?;
    let cantrip = Cantrip::builder()
        .llm(Arc::new(model))
        .medium("javascript")
        .gate(word_count()?)
        // Every circle needs a way to end, and a ward that ends it otherwise.
        .gate(builtin::done())
        .wards(&Wards { max_turns: Some(5), ..Wards::default() })
        .build(runtime.media())?;
    let outcome = runtime.cast(&cantrip, "How many words has the sentence?", CastOptions::default()).await?;
    println!("{}", outcome.result.unwrap_or_default());
    Ok(())
}
