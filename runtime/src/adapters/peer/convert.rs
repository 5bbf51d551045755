//! The protocol's messages to our types and back. The only place that knows both.
//!
//! What comes from a peer can be anything: every field is parsed once, here, and what does not parse is named.

use std::sync::Arc;
use std::time::Duration;

use cantrip_gates::{Exposure, GateError, GateName, GateSpec, Reach, Truncation, Wards};
use serde_json::{Map, Value};

use super::credentials;
use super::wire as v1;
use crate::domain::cantrip::{Folding, Identity};
use crate::domain::end::EndReason;
use crate::domain::ids::{CallId, EntityId, LoomId, WriterKey};
use crate::domain::limits::{REFUSAL_CHARS_MAX, SHOWN_HEADS_MAX};
use crate::domain::loom::{CastChain, CastHead, How, Minted, Spent};
use crate::domain::members::Nonce;
use crate::domain::model::{
    Call, Message, ModelError, Question, RawAnswer, RawCall, Sampling, ToolChoice, ToolDefinition, Usage,
};
use crate::domain::remote::{ByHost, CantripOrder, GateOrder, ModelOrder, Order, Refusal};
use crate::ports::RemoteEnd;

/// What does not parse, in words.
pub(super) type Off = String;

pub(super) fn off(field: &str, why: impl std::fmt::Display) -> Off {
    format!("`{field}`: {why}")
}

pub(super) fn parsed<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, Off>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| off(field, error))
}

fn optional<T: std::str::FromStr>(field: &str, text: &str) -> Result<Option<T>, Off>
where
    T::Err: std::fmt::Display,
{
    if text.is_empty() { Ok(None) } else { parsed(field, text).map(Some) }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn json(field: &str, text: &str) -> Result<Value, Off> {
    crate::domain::json::parse(text).map_err(|error| off(field, error))
}

fn millis(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX).max(1))
}

fn duration(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

pub(super) const fn exposure(it: Exposure) -> v1::Exposure {
    v1::Exposure { private: it.private, untrusted: it.untrusted, outbound: it.outbound }
}

pub(super) fn exposure_from(it: Option<v1::Exposure>) -> Exposure {
    let it = it.unwrap_or_default();
    Exposure { private: it.private, untrusted: it.untrusted, outbound: it.outbound }
}

pub(super) fn cast_head(head: &CastHead) -> v1::CastHead {
    v1::CastHead {
        writer: head.writer.as_bytes().to_vec().into(),
        cast: head.cast.to_string(),
        place: head.at.place,
        chain: head.at.chain.to_vec().into(),
        signature: head.signature.to_vec().into(),
    }
}

/// A head of a cast in this loom. Whether it is signed is not looked at.
pub(super) fn cast_head_from(loom: LoomId, it: &v1::CastHead) -> Result<CastHead, Off> {
    let length = |field: &str| off(field, "has another length");
    let writer = WriterKey::from_bytes((&*it.writer).try_into().map_err(|_| length("heads.writer"))?);
    let chain = (&*it.chain).try_into().map_err(|_| length("heads.chain"))?;
    let signature = (&*it.signature).try_into().map_err(|_| length("heads.signature"))?;
    let (cast, at) = (parsed("heads.cast", &it.cast)?, CastChain { place: it.place, chain });
    Ok(CastHead { loom, writer, cast, at, signature })
}

/// The heads that a caller shows.
pub(super) fn shown_heads(open: &v1::Open) -> Result<Vec<CastHead>, Off> {
    if open.heads.len() > SHOWN_HEADS_MAX {
        return Err(off("heads", format!("{} are shown, and at most {SHOWN_HEADS_MAX} may be", open.heads.len())));
    }
    if open.heads.is_empty() {
        return Ok(Vec::new());
    }
    let loom = parsed("loom", &open.loom)?;
    open.heads.iter().map(|head| cast_head_from(loom, head)).collect()
}

pub(super) fn open(order: &Order, after: Vec<u8>, node: String, events: bool) -> v1::Open {
    let minted = order.minted.filter(|_| order.by_host == ByHost::Nothing);
    v1::Open {
        cast: order.cast.to_string(),
        node,
        loom: if order.by_host == ByHost::LoomAndEntity { String::new() } else { order.loom.to_string() },
        entity: if order.by_host == ByHost::Nothing { order.entity.to_string() } else { String::new() },
        parent: order.parent.map(|id| id.to_string()).unwrap_or_default(),
        spawned_by: order.spawned_by.map(|id| id.to_string()).unwrap_or_default(),
        depth: order.depth,
        cantrip: Some(cantrip(&order.cantrip)),
        intent: order.intent.clone(),
        trace: order.trace.clone().unwrap_or_default(),
        deadline_ms: millis(order.deadline),
        lease_ms: millis(order.lease),
        after: after.into(),
        again: order.again,
        keep: order.keep,
        fork: order.fork.map(|(of, turns)| v1::Fork { of: of.to_string(), turns }),
        seen: Some(exposure(order.seen)),
        events,
        heads: Vec::new(),
        proofs: credentials::proofs(&order.credentials),
        vouching: vouching(order),
        origins: order.origins.iter().map(|origin| origin.node.to_string()).collect(),
        minted_by: minted.map(|minted| minted.by.as_bytes().to_vec()).unwrap_or_default().into(),
        nonce: minted.map(|minted| minted.nonce.as_bytes().to_vec()).unwrap_or_default().into(),
    }
}

fn vouching(order: &Order) -> Option<v1::Vouching> {
    let attestations = &order.credentials.attestations;
    (!attestations.is_empty()).then(|| credentials::vouching(attestations))
}

/// What an order says that its entity's id commits to.
fn minted(open: &v1::Open) -> Result<Option<Minted>, Off> {
    if open.minted_by.is_empty() && open.nonce.is_empty() {
        return Ok(None);
    }
    let by = open.minted_by.as_ref().try_into().map_err(|_| off("minted_by", "is no key of 32 bytes"))?;
    let nonce = open.nonce.as_ref().try_into().map_err(|_| off("nonce", "has not 16 bytes"))?;
    Ok(Some(Minted { by: WriterKey::from_bytes(by), nonce: Nonce::from_bytes(nonce) }))
}

/// The loom and the entity of an order, and which of them are left to the host. What stands in their place is filled in before the
/// order is looked at ([`Casts::name`](crate::driver::Casts::name)).
fn names(open: &v1::Open) -> Result<(LoomId, EntityId, ByHost), Off> {
    let nobody = EntityId::from_bytes([0; 22]);
    match (open.loom.as_str(), open.entity.as_str()) {
        ("", "") => Ok((LoomId::from_bytes([0; 22]), nobody, ByHost::LoomAndEntity)),
        ("", _) => Err(off("loom", "is missing, and an entity is named")),
        (loom, "") => Ok((parsed("loom", loom)?, nobody, ByHost::Entity)),
        (loom, entity) => Ok((parsed("loom", loom)?, parsed("entity", entity)?, ByHost::Nothing)),
    }
}

pub(super) fn order(open: v1::Open) -> Result<Order, Off> {
    let ((loom, entity, by_host), minted) = (names(&open)?, minted(&open)?);
    let (credentials, origins) = (credentials::credentials(&open)?, credentials::origins(&open.origins)?);
    let fork = match open.fork {
        None => None,
        Some(fork) => Some((parsed("fork.of", &fork.of)?, fork.turns)),
    };
    Ok(Order {
        cast: parsed("cast", &open.cast)?,
        loom,
        entity,
        minted,
        by_host,
        parent: optional("parent", &open.parent)?,
        spawned_by: optional("spawned_by", &open.spawned_by)?,
        depth: open.depth,
        cantrip: cantrip_from(open.cantrip.ok_or_else(|| off("cantrip", "is missing"))?)?,
        intent: open.intent,
        trace: some(&open.trace),
        deadline: duration(open.deadline_ms),
        lease: duration(open.lease_ms),
        again: open.again,
        keep: open.keep,
        fork,
        seen: exposure_from(open.seen),
        credentials,
        origins,
    })
}

/// Where a host says that it records what it has accepted.
pub(super) fn named(accepted: &v1::Accepted) -> Result<(LoomId, EntityId), Off> {
    Ok((parsed("loom", &accepted.loom)?, parsed("entity", &accepted.entity)?))
}

fn cantrip(it: &CantripOrder) -> v1::Cantrip {
    let identity = v1::Identity {
        system_prompt: it.identity.system_prompt().map(str::to_owned),
        sampling: Some(sampling(it.identity.sampling())),
        tool_choice: it.identity.tool_choice().map(|choice| choice.as_str().to_owned()).unwrap_or_default(),
    };
    v1::Cantrip {
        identity: Some(identity),
        medium: it.medium.clone().unwrap_or_default(),
        guest: it.guest.clone().unwrap_or_default(),
        gates: it.gates.iter().map(gate).collect(),
        wards: wards(&it.wards),
        // A record type of ours: it always is JSON.
        folding: serde_json::to_string(&it.folding).unwrap_or_default(),
        model: Some(match &it.model {
            ModelOrder::AtHost(name) => v1::Model { name: name.clone().unwrap_or_default(), ..v1::Model::default() },
            ModelOrder::AtCaller { name, context_tokens, can_require_calls } => v1::Model {
                name: name.clone(),
                at_caller: true,
                context_tokens: *context_tokens,
                can_require_calls: *can_require_calls,
            },
        }),
    }
}

fn cantrip_from(it: v1::Cantrip) -> Result<CantripOrder, Off> {
    let identity = it.identity.unwrap_or_default();
    let choice = match identity.tool_choice.as_str() {
        "" => None,
        text => Some(tool_choice("cantrip.identity.tool_choice", text)?),
    };
    let model = it.model.unwrap_or_default();
    let folding = if it.folding.is_empty() {
        Folding::default()
    } else {
        serde_json::from_str(&it.folding).map_err(|error| off("cantrip.folding", error))?
    };
    Ok(CantripOrder {
        identity: Identity::new(identity.system_prompt, sampling_from(identity.sampling), choice),
        medium: some(&it.medium),
        guest: some(&it.guest),
        gates: it.gates.into_iter().map(gate_from).collect::<Result<_, _>>()?,
        wards: wards_from("cantrip.wards", &it.wards)?,
        folding,
        model: if model.at_caller {
            ModelOrder::AtCaller {
                name: model.name,
                context_tokens: model.context_tokens,
                can_require_calls: model.can_require_calls,
            }
        } else {
            ModelOrder::AtHost(some(&model.name))
        },
    })
}

pub(super) fn wards(wards: &Wards) -> String {
    // Numbers, flags and names: they always are JSON.
    serde_json::to_string(wards).unwrap_or_default()
}

pub(super) fn wards_from(field: &str, text: &str) -> Result<Wards, Off> {
    let value = if text.is_empty() { Value::Object(Map::new()) } else { json(field, text)? };
    Wards::from_value(&value).map_err(|error| off(field, error))
}

fn gate(it: &GateOrder) -> v1::Gate {
    let spec = it.at_caller.as_ref().map(|spec| v1::GateSpec {
        description: spec.description.clone(),
        parameters: spec.parameters.to_string(),
        positional: spec.positional.clone(),
        reach: spec.reach.as_str().to_owned(),
        exposure: Some(exposure(spec.exposure)),
        ephemeral: spec.ephemeral,
    });
    v1::Gate { name: it.name.clone(), at_caller: spec.is_some(), spec }
}

fn gate_from(it: v1::Gate) -> Result<GateOrder, Off> {
    if !it.at_caller {
        return Ok(GateOrder { name: it.name, at_caller: None });
    }
    let field = format!("cantrip.gates.{}", it.name);
    let spec = it.spec.ok_or_else(|| off(&field, "is placed at the caller and not declared"))?;
    let reach = match spec.reach.as_str() {
        "read" => Reach::Read,
        "write" => Reach::Write,
        "external" => Reach::External,
        other => return Err(off(&field, format!("the reach `{other}` is none of read, write, external"))),
    };
    let spec = GateSpec {
        name: GateName::parse(&it.name).map_err(|error| off(&field, error))?,
        description: spec.description,
        parameters: json(&field, &spec.parameters)?,
        positional: spec.positional,
        reach,
        exposure: exposure_from(spec.exposure),
        ephemeral: spec.ephemeral,
    };
    Ok(GateOrder { name: it.name, at_caller: Some(spec) })
}

fn tool_choice(field: &str, text: &str) -> Result<ToolChoice, Off> {
    match text {
        "auto" => Ok(ToolChoice::Auto),
        "required" => Ok(ToolChoice::Required),
        "none" => Ok(ToolChoice::None),
        other => Err(off(field, format!("`{other}` is none of auto, required, none"))),
    }
}

fn sampling(it: &Sampling) -> v1::Sampling {
    v1::Sampling {
        temperature: it.temperature,
        top_p: it.top_p,
        max_output_tokens: it.max_output_tokens,
        reasoning_effort: it.reasoning_effort.clone(),
    }
}

fn sampling_from(it: Option<v1::Sampling>) -> Sampling {
    let it = it.unwrap_or_default();
    Sampling {
        temperature: it.temperature,
        top_p: it.top_p,
        max_output_tokens: it.max_output_tokens,
        reasoning_effort: it.reasoning_effort,
    }
}

pub(super) fn refused(refusal: &Refusal) -> v1::Refused {
    v1::Refused {
        kind: refusal.error.kind().to_owned(),
        rule: refusal.rule.clone(),
        message: refusal.error.message().to_owned(),
    }
}

pub(super) fn refusal(it: v1::Refused) -> Refusal {
    Refusal::new(shown(it.rule), gate_error_of(&it.kind, shown(it.message), None, None))
}

/// What a peer says of a refusal, as far as it is kept and shown.
pub(super) fn shown(what: String) -> String {
    if what.chars().nth(REFUSAL_CHARS_MAX).is_none() { what } else { what.chars().take(REFUSAL_CHARS_MAX).collect() }
}

fn gate_error_of(kind: &str, message: String, reason: Option<String>, partial: Option<String>) -> GateError {
    match kind {
        "truncated" => {
            let reason = reason.unwrap_or_default();
            GateError::Truncated(Box::new(Truncation { reason, message, partial }))
        }
        "unknown" => GateError::Unknown(message),
        "unanswered" => GateError::Unanswered(message),
        "denied" => GateError::Denied(message),
        "invalid" => GateError::Invalid(message),
        "not_found" => GateError::NotFound(message),
        "exhausted" => GateError::Exhausted(message),
        "timed_out" => GateError::TimedOut(message),
        _ => GateError::Failed(message),
    }
}

fn gate_error(error: &GateError) -> v1::GateError {
    let known = if let GateError::Truncated(known) = error { Some(known) } else { None };
    v1::GateError {
        kind: error.kind().to_owned(),
        message: error.message().to_owned(),
        reason: known.map(|known| known.reason.clone()),
        partial: known.and_then(|known| known.partial.clone()),
    }
}

pub(super) fn gate_result(call: u64, result: Result<Value, GateError>) -> v1::GateResult {
    let result = match result {
        Ok(value) => v1::gate_result::Result::Value(value.to_string()),
        Err(error) => v1::gate_result::Result::Error(gate_error(&error)),
    };
    v1::GateResult { call, result: Some(result) }
}

pub(super) fn gate_result_from(it: v1::GateResult) -> Result<Value, GateError> {
    match it.result {
        Some(v1::gate_result::Result::Value(text)) => crate::domain::json::parse(&text)
            .map_err(|error| GateError::Failed(format!("the caller's result is not JSON: {error}"))),
        Some(v1::gate_result::Result::Error(error)) => {
            Err(gate_error_of(&error.kind, error.message, error.reason, error.partial))
        }
        None => Err(GateError::Failed("the caller's result is empty".to_owned())),
    }
}

fn call(it: &Call) -> v1::Call {
    let arguments = match &it.arguments {
        Ok(value) => value.to_string(),
        Err(text) => text.clone(),
    };
    v1::Call { id: it.id.as_str().to_owned(), name: it.gate.clone(), arguments }
}

pub(super) fn model_call(number: u64, question: &Question) -> v1::ModelCall {
    let message = |it: &Arc<Message>| {
        let role = it.role().to_owned();
        let bare = v1::Message { role, ..v1::Message::default() };
        match &**it {
            Message::System(text) | Message::User(text) => v1::Message { content: Some(text.clone()), ..bare },
            Message::Assistant { content, thinking, calls } => v1::Message {
                content: content.clone(),
                thinking: thinking.clone(),
                calls: calls.iter().map(call).collect(),
                ..bare
            },
            Message::Tool { call, content, is_error } => v1::Message {
                content: Some(content.clone()),
                call: call.as_str().to_owned(),
                is_error: *is_error,
                ..bare
            },
        }
    };
    let tool = |it: &ToolDefinition| v1::Tool {
        name: it.name.clone(),
        description: it.description.clone(),
        parameters: it.parameters.to_string(),
    };
    v1::ModelCall {
        call: number,
        messages: question.messages.iter().map(message).collect(),
        tools: question.tools.iter().map(tool).collect(),
        tool_choice: question.tool_choice.as_str().to_owned(),
        sampling: Some(sampling(&question.sampling)),
    }
}

pub(super) fn question(it: v1::ModelCall) -> Result<Question, Off> {
    let call = |it: v1::Call| Call {
        id: CallId::new(&it.id),
        gate: it.name,
        arguments: crate::domain::json::parse(&it.arguments).map_err(|_| it.arguments),
    };
    let message = |it: v1::Message| {
        let content = it.content.unwrap_or_default();
        Ok(Arc::new(match it.role.as_str() {
            "system" => Message::System(content),
            "user" => Message::User(content),
            "assistant" => Message::Assistant {
                content: some(&content),
                thinking: it.thinking,
                calls: it.calls.into_iter().map(call).collect(),
            },
            "tool" => Message::Tool { call: CallId::new(&it.call), content, is_error: it.is_error },
            other => return Err(off("messages.role", format!("`{other}` is none of system, user, assistant, tool"))),
        }))
    };
    let tool = |it: v1::Tool| {
        let parameters = json("tools.parameters", &it.parameters)?;
        Ok::<_, Off>(ToolDefinition { name: it.name, description: it.description, parameters })
    };
    Ok(Question {
        messages: it.messages.into_iter().map(message).collect::<Result<_, _>>()?,
        tools: it.tools.into_iter().map(tool).collect::<Result<Vec<_>, _>>()?.into(),
        tool_choice: tool_choice("tool_choice", &it.tool_choice)?,
        sampling: sampling_from(it.sampling),
    })
}

const fn usage(it: Usage) -> v1::Usage {
    v1::Usage {
        prompt_tokens: it.prompt_tokens,
        completion_tokens: it.completion_tokens,
        cached_tokens: it.cached_tokens,
    }
}

fn usage_from(it: Option<v1::Usage>) -> Usage {
    let it = it.unwrap_or_default();
    Usage { prompt_tokens: it.prompt_tokens, completion_tokens: it.completion_tokens, cached_tokens: it.cached_tokens }
}

pub(super) fn model_result(call: u64, result: Result<RawAnswer, ModelError>) -> v1::ModelResult {
    let result = match result {
        Ok(answer) => {
            let call = |it: RawCall| v1::Call {
                id: it.id.unwrap_or_default(),
                name: it.gate,
                arguments: it.arguments.map_or_else(|text| text, |value| value.to_string()),
            };
            v1::model_result::Result::Answer(v1::ModelAnswer {
                content: answer.content,
                thinking: answer.thinking,
                calls: answer.calls.into_iter().map(call).collect(),
                usage: Some(usage(answer.usage)),
                model: answer.model,
            })
        }
        Err(error) => v1::model_result::Result::Error(model_error(error)),
    };
    v1::ModelResult { call, result: Some(result) }
}

fn model_error(error: ModelError) -> v1::ModelError {
    let of =
        |kind: &str, message: String| v1::ModelError { kind: kind.to_owned(), message, ..v1::ModelError::default() };
    match error {
        ModelError::Status { status, message, retry_after } => v1::ModelError {
            status: u32::from(status),
            retry_after_ms: retry_after.map(|it| millis(Some(it))),
            ..of("status", message)
        },
        ModelError::Unreachable { message, .. } => of("unreachable", message),
        ModelError::TooLong { message } => of("too_long", message),
        ModelError::ScriptExhausted { used } => of("script_exhausted", used.to_string()),
        ModelError::Malformed { message } => of("malformed", message),
        ModelError::Setup { message } => of("setup", message),
    }
}

pub(super) fn model_result_from(it: v1::ModelResult) -> Result<RawAnswer, ModelError> {
    let malformed = |message: String| ModelError::Malformed { message };
    match it.result {
        None => Err(malformed("the caller's answer is empty".to_owned())),
        Some(v1::model_result::Result::Error(it)) => Err(match it.kind.as_str() {
            "status" => ModelError::Status {
                status: u16::try_from(it.status).unwrap_or(u16::MAX),
                message: it.message,
                retry_after: it.retry_after_ms.map(Duration::from_millis),
            },
            "unreachable" => ModelError::Unreachable { address: "the caller".to_owned(), message: it.message },
            "too_long" => ModelError::TooLong { message: it.message },
            "script_exhausted" => ModelError::ScriptExhausted { used: it.message.parse().unwrap_or(0) },
            "setup" => ModelError::Setup { message: it.message },
            _ => malformed(it.message),
        }),
        Some(v1::model_result::Result::Answer(it)) => {
            let call = |it: v1::Call| RawCall {
                id: some(&it.id),
                gate: it.name,
                arguments: crate::domain::json::parse(&it.arguments).map_err(|_| it.arguments),
            };
            Ok(RawAnswer {
                content: it.content,
                thinking: it.thinking,
                calls: it.calls.into_iter().map(call).collect(),
                provider_results: Vec::new(),
                usage: usage_from(it.usage),
                model: it.model,
            })
        }
    }
}

pub(super) fn ended(end: RemoteEnd) -> v1::Ended {
    v1::Ended {
        how: end.how.as_str().to_owned(),
        reason: end.reason.to_string(),
        result: end.result.map(|value| value.to_string()),
        summary: end.summary,
        spent: Some(v1::Spent {
            turns: end.spent.turns,
            gate_calls: end.spent.gate_calls,
            children: end.spent.children,
            usage: Some(usage(end.spent.usage)),
            children_usage: Some(usage(end.spent.children_usage)),
            fuel: end.spent.fuel,
        }),
        seen: Some(exposure(end.seen)),
        failure: end.failure,
    }
}

pub(super) fn end(it: v1::Ended) -> Result<RemoteEnd, Off> {
    let how = match it.how.as_str() {
        "terminated" => How::Terminated,
        "truncated" => How::Truncated,
        other => return Err(off("ended.how", format!("`{other}` is none of terminated, truncated"))),
    };
    let spent = it.spent.unwrap_or_default();
    Ok(RemoteEnd {
        how,
        reason: EndReason::from(it.reason.as_str()),
        result: it.result.map(|text| json("ended.result", &text)).transpose()?,
        summary: it.summary,
        spent: Spent {
            turns: spent.turns,
            gate_calls: spent.gate_calls,
            children: spent.children,
            usage: usage_from(spent.usage),
            children_usage: usage_from(spent.children_usage),
            fuel: spent.fuel,
        },
        seen: exposure_from(it.seen),
        failure: it.failure,
    })
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
