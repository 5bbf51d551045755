//! Compares what happened with what a case expects. Whatever a case says and this does not know is a failure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::domain::ids::EntityId;
use crate::domain::loom::{How, Tree, Turn};
use crate::domain::model::Question;

use super::act::Played;
use super::setup::{Stage, unknown};

type Checked = Result<(), String>;

fn same(what: &str, expected: &Value, actual: &Value) -> Checked {
    let equal = match (expected.as_f64(), actual.as_f64()) {
        (Some(expected), Some(actual)) => (expected - actual).abs() < f64::EPSILON,
        _ => expected == actual,
    };
    if equal { Ok(()) } else { Err(format!("{what} is {actual} and not {expected}")) }
}

fn contains(what: &str, expected: &Value, actual: &str, wanted: bool) -> Checked {
    let text = expected.as_str().ok_or_else(|| format!("{what}: the expectation is not a text"))?;
    match (actual.contains(text), wanted) {
        (true, true) | (false, false) => Ok(()),
        (false, true) => Err(format!("{what} does not contain {text:?}: {actual:?}")),
        (true, false) => Err(format!("{what} contains {text:?}")),
    }
}

/// What a case can look at.
struct Scene<'a> {
    stage: &'a Stage,
    played: &'a Played,
    tree: Tree,
    turns: Vec<Turn>,
    /// The entities that nobody spawned, forks among them.
    threads: Vec<EntityId>,
}

pub(super) fn check(stage: &Stage, played: &Played, expect: &BTreeMap<String, Value>) -> Checked {
    if !expect.contains_key("error")
        && let Some(error) = &played.error
    {
        return Err(format!("an error came: {error}"));
    }
    let tree = stage.runtime.tree(stage.loom).map_err(|error| error.to_string())?;
    let threads = tree.entities().filter(|(_, view)| view.opened.spawned_by.is_none()).map(|(id, _)| id).collect();
    let scene = Scene { stage, played, turns: tree.turns(), tree, threads };
    expect.iter().try_for_each(|(key, value)| scene.expectation(key, value).map_err(|why| format!("{key}: {why}")))
}

impl Scene<'_> {
    fn expectation(&self, key: &str, value: &Value) -> Checked {
        match key {
            "error" => contains("the error", value, self.played.error.as_deref().ok_or("there was none")?, true),
            "result" => same("the result", value, &self.result()?),
            "result_contains" => {
                let result = self.result()?;
                contains(
                    "the result",
                    value,
                    result.as_str().map_or_else(|| result.to_string(), str::to_owned).as_str(),
                    true,
                )
            }
            "results" => same(
                "the results",
                value,
                &self.played.outcomes.iter().map(|outcome| outcome.result.clone().unwrap_or_default()).collect(),
            ),
            "entities" => same("the number of entities", value, &self.threads.len().into()),
            "entity_ids_unique" => {
                let distinct: BTreeSet<_> = self.played.outcomes.iter().map(|outcome| outcome.entity).collect();
                same(
                    "whether ids are unique",
                    value,
                    &(distinct.len() == self.played.outcomes.len() && distinct.len() > 1).into(),
                )
            }
            "turns" => same("the number of turns", value, &self.spoken(self.root()?)?.into()),
            "terminated" => same("terminated", value, &(self.outcome()?.how == How::Terminated).into()),
            "truncated" => same("truncated", value, &(self.outcome()?.how == How::Truncated).into()),
            "thread" => self.thread(value),
            "threads" => same("the number of threads", value, &self.threads.len().into()),
            "thread_0" | "thread_1" => self.numbered_thread(usize::from(key == "thread_1"), value),
            "loom" => self.loom(value),
            "gate_calls_executed" | "gate_call_order" => {
                let names: Value = self.first_turn()?.gates.iter().map(|run| Value::from(run.gate.clone())).collect();
                same("the calls of turn 1", value, &names)
            }
            "gate_results" => {
                let results: Value = self
                    .first_turn()?
                    .gates
                    .iter()
                    .map(|run| run.result.clone().and_then(Result::ok).unwrap_or_default())
                    .collect();
                same("the results of turn 1", value, &results)
            }
            "turn_1_observation" => self.observation(value),
            "llm_invocations" => invocations(&self.questions("llm")?, value),
            "fork_llm_invocations" => invocations(&self.questions("fork_llm")?, value),
            "llm_received_tool_choice" => self.tool_choice(value),
            "llm_received_tools" => self.tools(value),
            "usage" | "cumulative_usage" => self.usage(value),
            "child_turns" => same("the child's turns", value, &self.spoken(self.child()?)?.into()),
            "child_truncated" => {
                let ended = self.tree.entity(self.child()?).map_err(|error| error.to_string())?.ended.as_ref();
                same(
                    "whether the child was truncated",
                    value,
                    &ended.is_some_and(|ended| ended.how == How::Truncated).into(),
                )
            }
            "logs_exclude" => self.logs_exclude(value),
            "loom_export_exclude" => {
                contains("the export", value, self.played.export.as_deref().ok_or("nothing was exported")?, false)
            }
            _ => Err(unknown("the expectation", key)),
        }
    }

    fn outcome(&self) -> Result<&crate::Outcome, String> {
        self.played.outcomes.last().ok_or_else(|| "nothing was cast".to_owned())
    }

    fn result(&self) -> Result<Value, String> {
        Ok(self.outcome()?.result.clone().unwrap_or_default())
    }

    fn root(&self) -> Result<EntityId, String> {
        self.threads.first().copied().ok_or_else(|| "nothing is recorded".to_owned())
    }

    fn child(&self) -> Result<EntityId, String> {
        let child = self.tree.entities().find(|(_, view)| view.opened.spawned_by.is_some());
        child.map(|(id, _)| id).ok_or_else(|| "there was no child".to_owned())
    }

    fn path(&self, entity: EntityId) -> Result<Vec<Turn>, String> {
        self.tree.thread(entity).map_err(|error| error.to_string())
    }

    fn spoken(&self, entity: EntityId) -> Result<usize, String> {
        Ok(self.path(entity)?.iter().filter(|turn| turn.said.is_some()).count())
    }

    fn first_turn(&self) -> Result<&Turn, String> {
        self.turns.first().ok_or_else(|| "there was no turn".to_owned())
    }

    fn questions(&self, model: &str) -> Result<Vec<Question>, String> {
        let model = self.stage.model(model)?;
        Ok(model.scripted.as_ref().ok_or("what this model was asked is not kept")?.recorded())
    }

    /// Every question shows these tools and no others, whatever their order.
    fn tools(&self, value: &Value) -> Checked {
        let mut expected = BTreeSet::new();
        for tool in value.as_array().ok_or("not a list")? {
            let settings = tool.as_object().ok_or("a tool is not an object")?;
            if let Some(key) = settings.keys().find(|key| *key != "name") {
                return Err(unknown("a tool", key));
            }
            expected.insert(settings.get("name").and_then(Value::as_str).ok_or("a tool has no name")?);
        }
        let questions = self.questions("llm")?;
        if questions.is_empty() {
            return Err("the model was not asked".to_owned());
        }
        for (index, question) in questions.iter().enumerate() {
            let shown: BTreeSet<&str> = question.tools.iter().map(|tool| tool.name.as_str()).collect();
            if shown != expected || question.tools.len() != expected.len() {
                return Err(format!("question {} showed {shown:?} and not {expected:?}", index + 1));
            }
        }
        Ok(())
    }

    fn tool_choice(&self, value: &Value) -> Checked {
        let questions = self.questions("llm")?;
        if questions.is_empty() {
            return Err("the model was not asked".to_owned());
        }
        questions.iter().try_for_each(|question| same("tool_choice", value, &question.tool_choice.as_str().into()))
    }

    /// What is not in an empty log says nothing.
    fn logs_exclude(&self, value: &Value) -> Checked {
        let logs = self.stage.logs.text();
        if logs.is_empty() { Err("nothing was logged".to_owned()) } else { contains("the log", value, &logs, false) }
    }

    fn usage(&self, value: &Value) -> Checked {
        let usage = self.outcome()?.spent.usage;
        value.as_object().ok_or("not an object")?.iter().try_for_each(|(key, expected)| {
            let actual = match key.as_str() {
                "prompt_tokens" => usage.prompt_tokens,
                "completion_tokens" => usage.completion_tokens,
                "total_tokens" => usage.total(),
                _ => return Err(unknown("usage", key)),
            };
            same(key, expected, &actual.into())
        })
    }

    fn observation(&self, value: &Value) -> Checked {
        let seen = self.first_turn()?.observation.as_ref().ok_or("turn 1 was not observed")?;
        let content = seen.answers.iter().map(|answer| answer.content.as_str()).collect::<Vec<_>>().join("\n");
        value.as_object().ok_or("not an object")?.iter().try_for_each(|(key, expected)| match key.as_str() {
            "is_error" => same(key, expected, &seen.answers.iter().any(|answer| answer.is_error).into()),
            "content" => same(key, expected, &content.clone().into()),
            "content_contains" => contains(key, expected, &content, true),
            _ => Err(unknown("an observation", key)),
        })
    }

    fn thread(&self, value: &Value) -> Checked {
        let path = self.path(self.played.extracted.map_or_else(|| self.root(), Ok)?)?;
        if let Some(roles) = value.as_array() {
            let said = path.iter().flat_map(|turn| {
                [turn.said.is_some().then_some("entity"), turn.observation.is_some().then_some("circle")]
            });
            let said: Vec<&str> = said.flatten().collect();
            let expected: Result<Vec<&str>, String> = roles
                .iter()
                .map(|role| role.get("role").and_then(Value::as_str).ok_or_else(|| "a role is missing".to_owned()))
                .collect();
            return if expected? == said { Ok(()) } else { Err(format!("the roles are {said:?}")) };
        }
        value.as_object().ok_or("not an object")?.iter().try_for_each(|(key, expected)| match key.as_str() {
            "length" => same(key, expected, &path.len().into()),
            "turns" => self.listed(&path, expected),
            _ => Err(unknown("a thread", key)),
        })
    }

    fn numbered_thread(&self, index: usize, value: &Value) -> Checked {
        let entity = *self.threads.get(index).ok_or("there is no such thread")?;
        let path = self.path(entity)?;
        let outcome = self.played.outcomes.iter().find(|outcome| outcome.entity == entity);
        value.as_object().ok_or("not an object")?.iter().try_for_each(|(key, expected)| match key.as_str() {
            "turns" => same(key, expected, &path.iter().filter(|turn| turn.said.is_some()).count().into()),
            "result" => same(key, expected, &outcome.and_then(|outcome| outcome.result.clone()).unwrap_or_default()),
            "last_turn" => self.listed_turn(path.last().ok_or("it has no turn")?, expected, &mut BTreeMap::new()),
            _ => Err(unknown("a thread", key)),
        })
    }

    fn loom(&self, value: &Value) -> Checked {
        value.as_object().ok_or("not an object")?.iter().try_for_each(|(key, expected)| match key.as_str() {
            "turn_count" => same(key, expected, &self.turns.len().into()),
            "turns" => self.listed(&self.turns, expected),
            "identity" => {
                let identity = &self.tree.entity(self.root()?).map_err(|error| error.to_string())?.identity;
                expected.as_object().ok_or("not an object")?.iter().try_for_each(|(key, expected)| match key.as_str() {
                    "system_prompt" => same(key, expected, &identity.system_prompt().into()),
                    "temperature" => same(key, expected, &identity.sampling().temperature.into()),
                    _ => Err(unknown("an identity", key)),
                })
            }
            _ => Err(unknown("a loom", key)),
        })
    }

    fn listed(&self, turns: &[Turn], expected: &Value) -> Checked {
        let mut names = BTreeMap::new();
        expected.as_array().ok_or("turns is not a list")?.iter().enumerate().try_for_each(|(index, expected)| {
            let turn = turns.get(index).ok_or_else(|| format!("there is no turn {index}"))?;
            self.listed_turn(turn, expected, &mut names).map_err(|why| format!("turn {index}: {why}"))
        })
    }

    /// `names` binds the words for entities at their first use.
    fn listed_turn(&self, turn: &Turn, expected: &Value, names: &mut BTreeMap<String, EntityId>) -> Checked {
        for (key, expected) in expected.as_object().ok_or("not an object")? {
            match key.as_str() {
                "id" => special(key, expected, Some(&turn.id.to_string().into()))?,
                "parent_id" => match expected
                    .as_str()
                    .and_then(|text| text.strip_prefix("turns["))
                    .and_then(|text| text.strip_suffix("].id"))
                {
                    Some(index) => {
                        let index: usize =
                            index.parse().map_err(|_| "a reference to a turn has no number".to_owned())?;
                        let referred = self.turns.get(index).ok_or("it refers to a turn that is not there")?.id;
                        if turn.parent != Some(referred) {
                            return Err(format!("its parent is {:?} and not turn {index}", turn.parent));
                        }
                    }
                    None => special(key, expected, turn.parent.map(|id| Value::from(id.to_string())).as_ref())?,
                },
                "entity_id" => {
                    let name = expected.as_str().ok_or("an entity's name is not a text")?;
                    let bound = *names.entry(name.to_owned()).or_insert(turn.entity);
                    let distinct: BTreeSet<_> = names.values().collect();
                    if bound != turn.entity || distinct.len() != names.len() {
                        return Err(format!("it is not of the entity `{name}`"));
                    }
                }
                "sequence" => same(key, expected, &turn.sequence.into())?,
                "gate_calls" => {
                    same(key, expected, &turn.gates.iter().map(|run| Value::from(run.gate.clone())).collect())?;
                }
                "terminated" => same(key, expected, &matches!(turn.ended, Some((How::Terminated, _))).into())?,
                "truncated" => same(key, expected, &matches!(turn.ended, Some((How::Truncated, _))).into())?,
                "reward" => same(key, expected, &turn.reward.into())?,
                "utterance" => special(key, expected, turn.said.as_ref().map(|_| &Value::Bool(true)))?,
                "observation" => special(key, expected, turn.observation.as_ref().map(|_| &Value::Bool(true)))?,
                "observation_contains" => {
                    let content = turn
                        .observation
                        .iter()
                        .flat_map(|seen| &seen.answers)
                        .map(|answer| answer.content.as_str())
                        .collect::<Vec<_>>()
                        .join("\n");
                    contains(key, expected, &content, true)?;
                }
                "metadata" => metadata(turn, expected)?,
                _ => return Err(unknown("a turn", key)),
            }
        }
        Ok(())
    }
}

fn metadata(turn: &Turn, expected: &Value) -> Checked {
    let usage = turn.said.as_ref().map(|said| said.usage).unwrap_or_default();
    expected.as_object().ok_or("not an object")?.iter().try_for_each(|(key, expected)| {
        let actual: Value = match key.as_str() {
            "tokens_prompt" => usage.prompt_tokens.into(),
            "tokens_completion" => usage.completion_tokens.into(),
            "tokens_cached" => usage.cached_tokens.into(),
            "duration_ms" => (std::time::Duration::from_micros(turn.duration_us).as_secs_f64() * 1_000.0).into(),
            "timestamp" => turn.at_us.into(),
            _ => return Err(unknown("the metadata", key)),
        };
        special(key, expected, Some(&actual))
    })
}

/// Compares with a value, or with one of the texts that have a meaning.
fn special(what: &str, expected: &Value, actual: Option<&Value>) -> Checked {
    let bound =
        expected.as_str().and_then(|text| text.strip_prefix("greater_than(")).and_then(|text| text.strip_suffix(')'));
    match (expected, bound, actual) {
        (Value::Null, _, None) => Ok(()),
        (Value::Null, _, Some(actual)) => Err(format!("{what} is {actual} and not null")),
        (_, _, None) => Err(format!("{what} is missing")),
        (Value::String(text), _, Some(_)) if text == "not_null" => Ok(()),
        (_, Some(bound), Some(actual)) => {
            let bound: f64 = bound.parse().map_err(|_| format!("{what}: the bound is not a number"))?;
            if actual.as_f64().is_some_and(|actual| actual > bound) {
                Ok(())
            } else {
                Err(format!("{what} is {actual} and not above {bound}"))
            }
        }
        (expected, None, Some(actual)) => same(what, expected, actual),
    }
}

fn invocations(questions: &[Question], expected: &Value) -> Checked {
    if expected.is_number() {
        return same("the number of questions", expected, &questions.len().into());
    }
    expected.as_array().ok_or("neither a number nor a list")?.iter().enumerate().try_for_each(|(index, expected)| {
        let question = questions.get(index).ok_or_else(|| format!("the model was asked {} times", questions.len()))?;
        expected
            .as_object()
            .ok_or("not an object")?
            .iter()
            .try_for_each(|(key, expected)| invocation(question, key, expected))
            .map_err(|why| format!("question {}: {why}", index + 1))
    })
}

fn invocation(question: &Question, key: &str, expected: &Value) -> Checked {
    let contents = || question.messages.iter().map(|message| message.content()).collect::<Vec<_>>().join("\n");
    let message = |message: &crate::domain::model::Message| serde_json::json!({ "role": message.role(), "content": message.content() });
    match key {
        "messages" => same(key, expected, &question.messages.iter().map(|said| message(said)).collect()),
        "message_count" => same(key, expected, &question.messages.len().into()),
        "first_message" => same(key, expected, &message(question.messages.first().ok_or("there was no message")?)),
        "messages_include" | "message_count_includes" => contains(key, expected, &contents(), true),
        "messages_exclude" | "message_count_excludes" => contains(key, expected, &contents(), false),
        _ => Err(unknown("a question", key)),
    }
}
