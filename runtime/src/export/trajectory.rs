//! Threads as trajectories for training: what was asked, what was done, how it ended and how it was judged; and how often threads of
//! one intent succeed.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use cantrip_gates::{redact, redact_json};
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::{Value, json};

use super::{Redaction, turn};
use crate::domain::ids::{EntityId, LoomId};
use crate::domain::limits::{TRAJECTORY_SHARED_BYTES_MAX, TRAJECTORY_TURNS_MAX};
use crate::domain::loom::{How, Tail, Tree, Turn, ViewError};

/// The k of pass@k and pass^k.
pub const PASS_AT: [u64; 4] = [1, 2, 4, 8];

/// One thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Trajectory {
    /// The loom.
    pub loom: String,
    /// The entity.
    pub entity: String,
    /// How deep below a root it is.
    pub depth: i64,
    /// Its first intent.
    pub intent: String,
    /// System prompt and intent, as JSON messages.
    pub prompt: String,
    /// Its turns, as JSON; the newest of them, where the threads together have more than are put down.
    pub turns: String,
    /// How many it has.
    pub turn_count: i64,
    /// The sum of its rewards; nothing where nobody judged.
    pub reward: Option<f64>,
    /// Whether the entity ended it.
    pub terminated: bool,
    /// Whether the circle ended it.
    pub truncated: bool,
    /// What was decisive.
    pub reason: Option<String>,
    /// The answer, as JSON.
    pub result: Option<String>,
    /// The model.
    pub model: String,
    /// Tokens of the entity's own.
    pub prompt_tokens: i64,
    /// See above.
    pub completion_tokens: i64,
    /// How many threads have this intent, and how many of them succeeded: were judged with more than nothing, or, where nobody
    /// judged any of them, were ended by their entity.
    pub attempts: i64,
    /// See above.
    pub successes: i64,
    /// The chance that one of k of those threads succeeds (<https://arxiv.org/abs/2107.03374>), for each of [`PASS_AT`].
    pub pass_at: [Option<f64>; PASS_AT.len()],
    /// The chance that all of k succeed (<https://arxiv.org/abs/2406.12045>).
    pub pass_hat: [Option<f64>; PASS_AT.len()],
}

/// How many turns of each thread are put down, and in how many bytes; nothing where all of them are. A fork repeats the turns that
/// it continues, so that the threads of a long chain of forks together would be its square: above the limit each has its own turns,
/// and its share of those before.
fn share(looms: &[(LoomId, Tree)]) -> Result<Option<(u64, usize)>, ViewError> {
    let (mut threads, mut turns) = (0_u64, 0_u64);
    for (_, tree) in looms {
        for (entity, _) in tree.entities() {
            threads += 1;
            turns = turns.saturating_add(tree.thread_length(entity)?);
        }
    }
    let bytes = usize::try_from(TRAJECTORY_SHARED_BYTES_MAX / threads.max(1)).unwrap_or(usize::MAX);
    Ok((turns > TRAJECTORY_TURNS_MAX).then_some((TRAJECTORY_TURNS_MAX / threads.max(1), bytes)))
}

/// Turns as JSON: the newest of them in so many bytes, and the entity's own in any case.
fn listed(turns: &[Turn], entity: EntityId, bytes_max: Option<usize>, redaction: Redaction) -> String {
    let mut bytes = 0_usize;
    let newest = turns.iter().rev().map_while(|it| {
        let text = (it.entity == entity || bytes_max.is_none_or(|max| bytes < max))
            .then(|| turn(it, redaction).to_string())?;
        bytes = bytes.saturating_add(text.len());
        Some(text)
    });
    let newest: Vec<String> = newest.collect();
    format!("[{}]", newest.into_iter().rev().collect::<Vec<_>>().join(","))
}

/// The threads of looms. Secrets are taken out unless told otherwise.
///
/// # Errors
/// A thread that cannot be read.
pub fn trajectories(looms: &[(LoomId, Tree)], redaction: Redaction) -> Result<Vec<Trajectory>, ViewError> {
    let mut all = Vec::new();
    let limited = share(looms)?;
    for (loom, tree) in looms {
        for (entity, view) in tree.entities() {
            let Tail { turns, turn_count, usage, reward } =
                tree.tail(entity, limited.map_or(u64::MAX, |(turns, _)| turns))?;
            let ended = view.ended.as_ref();
            let text = |text: &str| match redaction {
                Redaction::Default => redact(text).into_owned(),
                Redaction::None => text.to_owned(),
            };
            let mut messages = Vec::new();
            if let Some(prompt) = view.identity.system_prompt() {
                messages.push(json!({ "role": "system", "content": prompt }));
            }
            messages.push(json!({ "role": "user", "content": view.intent }));
            let mut prompt = Value::Array(messages);
            if redaction == Redaction::Default {
                redact_json(&mut prompt);
            }
            let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let result = tree.result(entity).map(|result| text(&result));
            all.push(Trajectory {
                loom: loom.to_string(),
                entity: entity.to_string(),
                depth: i64::from(view.opened.depth),
                intent: text(&view.intent),
                prompt: prompt.to_string(),
                turns: listed(&turns, entity, limited.map(|(_, bytes)| bytes), redaction),
                turn_count: count(turn_count),
                reward,
                terminated: ended.is_some_and(|ended| ended.how == How::Terminated),
                truncated: ended.is_some_and(|ended| ended.how == How::Truncated),
                reason: ended.map(|ended| ended.reason.to_string()),
                result,
                model: view.opened.model.clone(),
                prompt_tokens: count(usage.prompt_tokens),
                completion_tokens: count(usage.completion_tokens),
                attempts: 0,
                successes: 0,
                pass_at: [None; PASS_AT.len()],
                pass_hat: [None; PASS_AT.len()],
            });
        }
    }
    rate(&mut all);
    Ok(all)
}

/// Fills in how threads of one intent do together.
fn rate(all: &mut [Trajectory]) {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, thread) in all.iter().enumerate() {
        groups.entry(thread.intent.clone()).or_default().push(place);
    }
    for places in groups.values() {
        let members: Vec<&Trajectory> = places.iter().filter_map(|&place| all.get(place)).collect();
        let is_judged = members.iter().any(|thread| thread.reward.is_some());
        let succeeded = |thread: &&&Trajectory| match thread.reward {
            Some(reward) => reward > 0.0,
            None => !is_judged && thread.terminated,
        };
        let (attempts, successes) = (members.len() as u64, members.iter().filter(succeeded).count() as u64);
        for &place in places {
            let Some(thread) = all.get_mut(place) else { continue };
            thread.attempts = i64::try_from(attempts).unwrap_or(i64::MAX);
            thread.successes = i64::try_from(successes).unwrap_or(i64::MAX);
            for (slot, k) in PASS_AT.into_iter().enumerate() {
                if let (Some(at), Some(hat)) = (thread.pass_at.get_mut(slot), thread.pass_hat.get_mut(slot)) {
                    *at = none_of(attempts, successes, k).map(|none| 1.0 - none);
                    *hat = none_of(attempts, attempts - successes, k);
                }
            }
        }
    }
}

/// The chance that k of n draws without putting back meet none of c: `C(n-c, k) / C(n, k)`; nothing for more draws than there are.
#[expect(clippy::cast_precision_loss, reason = "counts of threads are far below 2^52")]
fn none_of(n: u64, c: u64, k: u64) -> Option<f64> {
    (k <= n).then(|| (0..k).map(|i| (n - c).saturating_sub(i) as f64 / (n - i) as f64).product())
}

fn schema() -> Result<Arc<Type>, ParquetError> {
    let field = |name: &str, physical: Physical, repetition: Repetition| {
        let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition);
        let is_text = physical == Physical::BYTE_ARRAY;
        let builder = if is_text { builder.with_logical_type(Some(LogicalType::String)) } else { builder };
        builder.build().map(Arc::new)
    };
    let (must, may) = (Repetition::REQUIRED, Repetition::OPTIONAL);
    let (text, whole, real, truth) = (Physical::BYTE_ARRAY, Physical::INT64, Physical::DOUBLE, Physical::BOOLEAN);
    let mut fields = vec![
        field("loom", text, must)?,
        field("entity", text, must)?,
        field("depth", whole, must)?,
        field("intent", text, must)?,
        field("prompt", text, must)?,
        field("turns", text, must)?,
        field("turn_count", whole, must)?,
        field("reward", real, may)?,
        field("terminated", truth, must)?,
        field("truncated", truth, must)?,
        field("reason", text, may)?,
        field("result", text, may)?,
        field("model", text, must)?,
        field("prompt_tokens", whole, must)?,
        field("completion_tokens", whole, must)?,
        field("attempts", whole, must)?,
        field("successes", whole, must)?,
    ];
    for prefix in ["pass_at", "pass_hat"] {
        for k in PASS_AT {
            fields.push(field(&format!("{prefix}_{k}"), real, may)?);
        }
    }
    Type::group_type_builder("trajectory").with_fields(fields).build().map(Arc::new)
}

/// Writes trajectories as Parquet: one row a thread.
///
/// # Errors
/// A file that cannot be written.
pub fn parquet(all: &[Trajectory], out: impl Write + Send) -> Result<(), ParquetError> {
    let mut file = SerializedFileWriter::new(out, schema()?, Arc::new(WriterProperties::builder().build()))?;
    let mut rows = file.next_row_group()?;
    Columns { all, rows: &mut rows }.all()?;
    rows.close()?;
    file.close()?;
    Ok(())
}

/// Writes columns in the order of the schema.
struct Columns<'a, 'r, W: Write + Send> {
    all: &'a [Trajectory],
    rows: &'a mut parquet::file::writer::SerializedRowGroupWriter<'r, W>,
}

impl<W: Write + Send> Columns<'_, '_, W> {
    fn text(&mut self, of: impl Fn(&Trajectory) -> &str) -> Result<(), ParquetError> {
        let values: Vec<ByteArray> = self.all.iter().map(|it| ByteArray::from(of(it))).collect();
        let Some(mut column) = self.rows.next_column()? else { return Ok(()) };
        column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
        column.close()
    }

    fn text_if(&mut self, of: impl Fn(&Trajectory) -> Option<&str>) -> Result<(), ParquetError> {
        let values: Vec<ByteArray> = self.all.iter().filter_map(&of).map(ByteArray::from).collect();
        let levels: Vec<i16> = self.all.iter().map(|it| i16::from(of(it).is_some())).collect();
        let Some(mut column) = self.rows.next_column()? else { return Ok(()) };
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
        column.close()
    }

    fn whole(&mut self, of: impl Fn(&Trajectory) -> i64) -> Result<(), ParquetError> {
        let values: Vec<i64> = self.all.iter().map(of).collect();
        let Some(mut column) = self.rows.next_column()? else { return Ok(()) };
        column.typed::<Int64Type>().write_batch(&values, None, None)?;
        column.close()
    }

    fn truth(&mut self, of: impl Fn(&Trajectory) -> bool) -> Result<(), ParquetError> {
        let values: Vec<bool> = self.all.iter().map(of).collect();
        let Some(mut column) = self.rows.next_column()? else { return Ok(()) };
        column.typed::<BoolType>().write_batch(&values, None, None)?;
        column.close()
    }

    fn real_if(&mut self, of: impl Fn(&Trajectory) -> Option<f64>) -> Result<(), ParquetError> {
        let values: Vec<f64> = self.all.iter().filter_map(&of).collect();
        let levels: Vec<i16> = self.all.iter().map(|it| i16::from(of(it).is_some())).collect();
        let Some(mut column) = self.rows.next_column()? else { return Ok(()) };
        column.typed::<DoubleType>().write_batch(&values, Some(&levels), None)?;
        column.close()
    }

    fn all(mut self) -> Result<(), ParquetError> {
        self.text(|it| &it.loom)?;
        self.text(|it| &it.entity)?;
        self.whole(|it| it.depth)?;
        self.text(|it| &it.intent)?;
        self.text(|it| &it.prompt)?;
        self.text(|it| &it.turns)?;
        self.whole(|it| it.turn_count)?;
        self.real_if(|it| it.reward)?;
        self.truth(|it| it.terminated)?;
        self.truth(|it| it.truncated)?;
        self.text_if(|it| it.reason.as_deref())?;
        self.text_if(|it| it.result.as_deref())?;
        self.text(|it| &it.model)?;
        self.whole(|it| it.prompt_tokens)?;
        self.whole(|it| it.completion_tokens)?;
        self.whole(|it| it.attempts)?;
        self.whole(|it| it.successes)?;
        for slot in 0..PASS_AT.len() {
            self.real_if(|it| it.pass_at.get(slot).copied().flatten())?;
        }
        for slot in 0..PASS_AT.len() {
            self.real_if(|it| it.pass_hat.get(slot).copied().flatten())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::none_of;

    #[test]
    fn pass_rates_are_those_of_the_papers() {
        // Five threads, two of them succeed: pass@1 = 0.4, pass@2 = 1 - C(3,2)/C(5,2) = 0.7, pass^2 = C(2,2)/C(5,2) = 0.1.
        let close = |left: Option<f64>, right: f64| left.is_some_and(|left| (left - right).abs() < 1e-12);
        assert!(close(none_of(5, 2, 1).map(|none| 1.0 - none), 0.4));
        assert!(close(none_of(5, 2, 2).map(|none| 1.0 - none), 0.7));
        assert!(close(none_of(5, 3, 2), 0.1));
        assert_eq!(none_of(5, 2, 8), None);
    }
}
