//! Plays what a case does, through the product's doors.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::domain::ids::{EntityId, EntryId};
use crate::domain::outcome::Outcome;
use crate::driver::{Amendment, Cantrip, CastError, CastOptions};
use crate::export;

use super::setup::{Stage, unknown};

/// What was played.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// The outcomes of casts and forks, in order.
    pub(super) outcomes: Vec<Outcome>,
    /// The first error that anybody got.
    pub(super) error: Option<String>,
    /// The thread that was extracted.
    pub(super) extracted: Option<EntityId>,
    /// What was exported.
    pub(super) export: Option<String>,
}

impl Played {
    fn ended(&mut self, ended: Result<Outcome, CastError>) {
        match ended {
            Ok(outcome) => self.outcomes.push(outcome),
            Err(error) => {
                self.failed(error.to_string());
                if let CastError::Failed { outcome, .. } = error {
                    self.outcomes.push(*outcome);
                }
            }
        }
    }

    fn failed(&mut self, error: String) {
        self.error.get_or_insert(error);
    }
}

pub(super) async fn play(stage: &Stage, action: &Value) -> Result<Played, String> {
    let mut played = Played::default();
    let single = std::slice::from_ref(action);
    let actions = action.as_array().map_or(single, Vec::as_slice);
    let constructs = actions.iter().any(|action| action.get("construct_cantrip").is_some());
    let cantrip = match stage.cantrip(constructs)? {
        Ok(cantrip) => cantrip,
        Err(error) => {
            played.failed(error);
            return Ok(played);
        }
    };
    for action in actions {
        for (key, value) in action.as_object().ok_or("an action is not an object")? {
            match key.as_str() {
                "construct_cantrip" => {}
                "cast" => cast(stage, &cantrip, value, &mut played).await?,
                "then" => {
                    for (key, value) in value.as_object().ok_or("`then` is not an object")? {
                        then(stage, &cantrip, key, value, &mut played).await?;
                    }
                }
                "acp_exchange" => return Err("there is no ACP server in this version".to_owned()),
                _ => return Err(unknown("an action", key)),
            }
        }
    }
    Ok(played)
}

fn options(stage: &Stage) -> CastOptions {
    CastOptions {
        loom: Some(stage.loom),
        observer: Some(Arc::<super::setup::Logs>::clone(&stage.logs)),
        ..CastOptions::default()
    }
}

fn only(what: &str, map: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    map.keys().find(|key| !known.contains(&key.as_str())).map_or(Ok(()), |key| Err(unknown(what, key)))
}

fn with_model(stage: &Stage, cantrip: &Cantrip, value: &Value) -> Result<Cantrip, String> {
    match value.get("llm").and_then(Value::as_str) {
        Some(name) => Ok(cantrip.with_llm(Arc::clone(&stage.model(name)?.llm))),
        None => Ok(cantrip.clone()),
    }
}

async fn cast(stage: &Stage, cantrip: &Cantrip, value: &Value, played: &mut Played) -> Result<(), String> {
    only("cast", value.as_object().ok_or("`cast` is not an object")?, &["intent", "llm"])?;
    let cantrip = with_model(stage, cantrip, value)?;
    let intent = value.get("intent").and_then(Value::as_str).unwrap_or_default();
    played.ended(stage.runtime.cast(&cantrip, intent, options(stage)).await);
    Ok(())
}

async fn then(stage: &Stage, cantrip: &Cantrip, key: &str, value: &Value, played: &mut Played) -> Result<(), String> {
    match key {
        "mutate_identity" => {
            let system_prompt =
                value.get("system_prompt").and_then(Value::as_str).ok_or("a prompt is missing")?.to_owned();
            amend(stage, first_entry(stage)?, Amendment::Identity { system_prompt }, played).await;
        }
        "delete_turn" => amend(stage, turn(stage, value)?, Amendment::Delete, played).await,
        "annotate_reward" => {
            only(key, value.as_object().ok_or("`annotate_reward` is not an object")?, &["turn", "reward"])?;
            let reward = value.get("reward").and_then(Value::as_f64).ok_or("a reward is missing")?;
            let judged = turn(stage, value.get("turn").unwrap_or(&Value::Null))?;
            amend(stage, judged, Amendment::Reward { value: reward, by: "suite".to_owned() }, played).await;
        }
        "fork" => {
            only(key, value.as_object().ok_or("`fork` is not an object")?, &["from_turn", "llm", "intent"])?;
            let of = played.outcomes.last().ok_or("there is nothing to fork")?.entity;
            let turns = value.get("from_turn").and_then(Value::as_u64).ok_or("`from_turn` is missing")?;
            let intent = value.get("intent").and_then(Value::as_str).unwrap_or_default();
            let cantrip = with_model(stage, cantrip, value)?;
            match stage.runtime.fork(&cantrip, stage.loom, of, turns, options(stage)) {
                Ok(mut forked) => played.ended(forked.send(intent).await),
                Err(error) => played.failed(error.to_string()),
            }
        }
        "extract_thread" => {
            let index = value
                .as_u64()
                .and_then(|index| usize::try_from(index).ok())
                .ok_or("`extract_thread` is not a number")?;
            played.extracted = Some(played.outcomes.get(index).ok_or("there is no such thread")?.entity);
        }
        "export_loom" => {
            only(key, value.as_object().ok_or("`export_loom` is not an object")?, &["format", "redaction"])?;
            if value.get("format").and_then(Value::as_str) != Some("jsonl")
                || value.get("redaction").and_then(Value::as_str) != Some("default")
            {
                return Err("only jsonl with default redaction is known".to_owned());
            }
            let lines = export::jsonl(&*stage.store, stage.loom, export::Redaction::Default)
                .map_err(|error| error.to_string())?;
            played.export = Some(lines.join("\n"));
        }
        _ => return Err(unknown("then", key)),
    }
    Ok(())
}

async fn amend(stage: &Stage, entry: EntryId, amendment: Amendment, played: &mut Played) {
    if let Err(error) = stage.runtime.amend(stage.loom, entry, amendment).await {
        played.failed(error.to_string());
    }
}

fn turn(stage: &Stage, index: &Value) -> Result<EntryId, String> {
    let index =
        index.as_u64().and_then(|index| usize::try_from(index).ok()).ok_or("the index of a turn is not a number")?;
    let tree = stage.runtime.tree(stage.loom).map_err(|error| error.to_string())?;
    Ok(tree.turns().get(index).ok_or("there is no such turn")?.id)
}

fn first_entry(stage: &Stage) -> Result<EntryId, String> {
    let tree = stage.runtime.tree(stage.loom).map_err(|error| error.to_string())?;
    tree.entities().next().map(|(_, view)| view.id).ok_or_else(|| "nothing is recorded".to_owned())
}
