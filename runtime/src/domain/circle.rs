//! The circle: one medium, gates and wards; A = (M ∪ G) − W.
//!
//! Owns what makes a circle valid (CIRCLE-1, CIRCLE-2, LOOP-2, MEDIUM-1), how it presents itself to a model (CIRCLE-11,
//! IDENTITY-3), and the answer to "may this be called" (CIRCLE-6). Calls nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use cantrip_gates::{ArgumentCheck, Exposure, GateError, GateSpec, ResolvedWards, SchemaRoom, Wards, suggest};
use serde_json::{Value, json};
use thiserror::Error;

use super::guest::{LLM_QUERY, READ_LOOM};
use super::limits::CIRCLE_GATES_MAX;
use super::model::{ToolChoice, ToolDefinition};
use super::place::CallPlace;

/// The gate that ends a cast.
pub const DONE: &str = "done";
/// The gate that casts one child.
pub const CALL_ENTITY: &str = "call_entity";
/// The gate that casts several children at once.
pub const CALL_ENTITY_BATCH: &str = "call_entity_batch";
/// The object form of the two, for code media.
pub const CANTRIP_NEW: &str = "cantrip.new";
/// See [`CANTRIP_NEW`].
pub const CANTRIP_CAST: &str = "cantrip.cast";
/// The code medium that comes with the runtime.
pub const JAVASCRIPT: &str = "javascript";
/// See [`CANTRIP_NEW`].
pub const CANTRIP_CAST_BATCH: &str = "cantrip.cast_batch";

/// A gate that the runtime itself runs: it acts on the entity that calls it, so its calls run where that entity runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeGate {
    /// Ends the episode with an answer.
    Done,
    /// Casts one child.
    CallEntity,
    /// Casts several children at once.
    CallEntityBatch,
    /// Asks the entity's own model.
    LlmQuery,
    /// Reads the entity's own record.
    ReadLoom,
}

impl RuntimeGate {
    const ALL: [Self; 5] = [Self::Done, Self::CallEntity, Self::CallEntityBatch, Self::LlmQuery, Self::ReadLoom];

    /// The gate's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => DONE,
            Self::CallEntity => CALL_ENTITY,
            Self::CallEntityBatch => CALL_ENTITY_BATCH,
            Self::LlmQuery => LLM_QUERY,
            Self::ReadLoom => READ_LOOM,
        }
    }

    /// Finds the gate of a name; nothing for a name that is any other gate's.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|gate| gate.as_str() == name)
    }

    /// Tells whether its calls cast children.
    pub const fn delegates(self) -> bool {
        matches!(self, Self::CallEntity | Self::CallEntityBatch)
    }
}

/// What an entity works in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediumKind {
    /// Tool calls.
    Conversation,
    /// Code of a language, run by a guest of this name.
    Code(String),
    /// No model's words at all: a guest of this name does the work.
    Guest(String),
}

impl MediumKind {
    /// The name in files, records and lists.
    pub fn name(&self) -> &str {
        match self {
            Self::Conversation => "conversation",
            Self::Code(name) | Self::Guest(name) => name,
        }
    }

    /// Whether code runs in it.
    pub const fn is_code(&self) -> bool {
        matches!(self, Self::Code(_) | Self::Guest(_))
    }
}

/// A circle as it is declared, before anybody looked whether it can hold.
#[derive(Debug, Clone, Default)]
pub struct CircleDraft {
    /// Every medium that was declared, wherever: a valid circle has one.
    pub media: Vec<String>,
    /// The gates, in the order they are shown.
    pub gates: Vec<GateSpec>,
    /// The wards.
    pub wards: Wards,
    /// The guest that does the work in a model's place.
    pub guest: Option<String>,
    /// The gates whose calls run elsewhere, and where.
    pub places: BTreeMap<String, CallPlace>,
}

/// Why a circle cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CircleError {
    /// LOOP-2, CIRCLE-2.
    #[error(
        "cantrip must have at least one truncation ward: max_turns, max_tokens or timeout_ms, so that every loop ends"
    )]
    NoTruncation,
    /// LOOP-2.
    #[error("cantrip with require_done must have a done gate: without it nothing could end the cast")]
    RequiredDone,
    /// CIRCLE-1.
    #[error("circle must have a done gate")]
    NoDone,
    /// MEDIUM-1.
    #[error("circle must declare exactly one medium, and this one declares {0}")]
    SeveralMedia(String),
    /// MEDIUM-1.
    #[error("circle must declare a medium: one of {0}")]
    NoMedium(String),
    /// MEDIUM-1.
    #[error("there is no medium `{name}`; there are {known}{hint}")]
    UnknownMedium {
        /// What was declared.
        name: String,
        /// What there is.
        known: String,
        /// A guess at what was meant.
        hint: String,
    },
    /// CIRCLE-2.
    #[error("{0} = 0 would let nothing run")]
    Zero(String),
    /// More gates than one circle holds.
    #[error("the circle has {0} gates; at most {CIRCLE_GATES_MAX} are held")]
    TooMany(usize),
    /// A gate is declared twice.
    #[error("the circle holds the gate `{0}` twice")]
    Duplicate(String),
    /// A gate that the runtime itself runs is placed elsewhere.
    #[error("the gate `{0}` runs where the entity runs, and cannot be placed at the caller")]
    Elsewhere(String),
    /// A gate's own declaration is unusable.
    #[error("the gate `{gate}` cannot be used: {what}")]
    Gate {
        /// Which.
        gate: String,
        /// What is wrong with it.
        what: String,
    },
}

/// One gate that is held.
#[derive(Debug)]
pub struct Held {
    /// Its declaration.
    pub spec: GateSpec,
    /// Where its calls run.
    pub place: CallPlace,
    /// Which gate of the runtime it is; nothing where what is behind it is called. Decided once, from the name, and dispatched by.
    pub runtime: Option<RuntimeGate>,
    check: ArgumentCheck,
}

impl Held {
    /// The arguments of a call in code, by their names.
    ///
    /// # Errors
    /// More of them than the gate takes.
    pub fn named(&self, positional: Vec<Value>) -> Result<Value, GateError> {
        self.check.named(positional)
    }
}

/// A circle that can hold.
#[derive(Debug)]
pub struct Circle {
    medium: MediumKind,
    gates: Vec<Held>,
    removed: BTreeSet<String>,
    declared: Wards,
    wards: ResolvedWards,
    tools: Arc<[ToolDefinition]>,
}

impl Circle {
    /// Checks a draft. `code_media` names the media that run code. `strict` demands a declared medium; otherwise the
    /// conversation is the default.
    ///
    /// # Errors
    /// The first rule that the draft breaks.
    pub fn new(draft: CircleDraft, code_media: &[String], strict: bool) -> Result<Self, CircleError> {
        let CircleDraft { media, gates, wards, guest, places } = draft;
        let has_done = gates.iter().any(|gate| gate.name.as_str() == DONE);
        if wards.require_done_tool && !has_done {
            return Err(CircleError::RequiredDone);
        }
        if !wards.truncates() {
            return Err(CircleError::NoTruncation);
        }
        if !has_done {
            return Err(CircleError::NoDone);
        }
        let zero: Vec<&str> =
            [("max_turns", wards.max_turns), ("max_tokens", wards.max_tokens), ("timeout_ms", wards.timeout_ms)]
                .into_iter()
                .filter_map(|(name, bound)| (bound == Some(0)).then_some(name))
                .collect();
        if !zero.is_empty() {
            return Err(CircleError::Zero(zero.join(", ")));
        }
        let medium = match (guest, media.first()) {
            (None, _) => Self::medium_of(&media, code_media, strict)?,
            (Some(guest), None) => MediumKind::Guest(guest),
            (Some(guest), Some(medium)) => {
                return Err(CircleError::SeveralMedia(format!("{medium} and the guest {guest}")));
            }
        };
        let resolved = wards.resolved();
        let mut circle = Self {
            medium,
            gates: Vec::with_capacity(gates.len()),
            removed: BTreeSet::new(),
            declared: wards,
            wards: resolved,
            tools: Arc::default(),
        };
        if gates.len() > CIRCLE_GATES_MAX {
            return Err(CircleError::TooMany(gates.len()));
        }
        let mut room = SchemaRoom::default();
        for spec in gates {
            let name = spec.name.as_str();
            if circle.holds(name) {
                return Err(CircleError::Duplicate(name.to_owned()));
            }
            // COMP-6, COMP-11: at depth 0 the gates that delegate are not there.
            if delegates(name) && circle.wards.max_depth == 0 {
                circle.removed.insert(name.to_owned());
                continue;
            }
            let place = places.get(name).cloned().unwrap_or_default();
            let runtime = RuntimeGate::named(name);
            if runtime.is_some() && place != CallPlace::Here {
                return Err(CircleError::Elsewhere(name.to_owned()));
            }
            if matches!(&circle.medium, MediumKind::Code(medium) if medium == name) {
                return Err(CircleError::Duplicate(name.to_owned()));
            }
            let check = ArgumentCheck::among(&spec, &mut room)
                .map_err(|error| CircleError::Gate { gate: name.to_owned(), what: error.to_string() })?;
            circle.gates.push(Held { spec, place, runtime, check });
        }
        circle.tools = circle.presented();
        Ok(circle)
    }

    fn medium_of(media: &[String], code_media: &[String], strict: bool) -> Result<MediumKind, CircleError> {
        let distinct: BTreeSet<&str> = media.iter().map(|name| canonical_medium(name)).collect();
        let known = || std::iter::once("conversation").chain(code_media.iter().map(String::as_str));
        let mut names = distinct.iter();
        match (names.next(), names.next()) {
            (None, _) if strict => Err(CircleError::NoMedium(known().collect::<Vec<_>>().join(", "))),
            (Some(_), Some(_)) => {
                Err(CircleError::SeveralMedia(distinct.into_iter().collect::<Vec<_>>().join(" and ")))
            }
            (None | Some(&"conversation"), _) => Ok(MediumKind::Conversation),
            (Some(&name), None) if code_media.iter().any(|medium| medium == name) => {
                Ok(MediumKind::Code(name.to_owned()))
            }
            (Some(&name), None) => Err(CircleError::UnknownMedium {
                name: name.to_owned(),
                known: known().collect::<Vec<_>>().join(", "),
                hint: suggest::hint(name, known()),
            }),
        }
    }

    /// The medium.
    pub const fn medium(&self) -> &MediumKind {
        &self.medium
    }

    /// The wards in force, with their defaults.
    pub const fn wards(&self) -> &ResolvedWards {
        &self.wards
    }

    /// The wards as they were declared, for composition with a child's.
    pub const fn declared(&self) -> &Wards {
        &self.declared
    }

    /// The gates, in the order they are shown.
    pub fn gates(&self) -> impl ExactSizeIterator<Item = &GateSpec> {
        self.gates.iter().map(|held| &held.spec)
    }

    /// The gates that a ward took away.
    pub const fn removed(&self) -> &BTreeSet<String> {
        &self.removed
    }

    /// Whether a gate is held.
    pub fn holds(&self, name: &str) -> bool {
        self.gate(name).is_some()
    }

    /// The gate behind a name: the object form of delegation stands for its gate.
    pub fn gate(&self, name: &str) -> Option<&Held> {
        let name = match name {
            CANTRIP_NEW | CANTRIP_CAST if self.medium.is_code() => CALL_ENTITY,
            CANTRIP_CAST_BATCH if self.medium.is_code() => CALL_ENTITY_BATCH,
            other => other,
        };
        self.gates.iter().find(|held| held.spec.name.as_str() == name)
    }

    /// What all gates together can expose.
    pub fn exposure(&self) -> Exposure {
        self.gates.iter().fold(Exposure::default(), |sum, held| sum.union(held.spec.exposure))
    }

    /// The names that are functions in a code medium. What a ward took away is there too, so that calling it says why
    /// it is gone (COMP-6).
    pub fn functions(&self) -> Vec<String> {
        let held = self.gates.iter().map(|held| held.spec.name.as_str());
        let gates: Vec<&str> = held.chain(self.removed.iter().map(String::as_str)).collect();
        functions(&gates)
    }

    /// Whether a call may run, as far as the circle alone can tell.
    ///
    /// # Errors
    /// No such gate, a gate that a ward took away, or arguments that do not fit; each says what would.
    pub fn admit(&self, name: &str, arguments: &Value) -> Result<&Held, GateError> {
        let Some(held) = self.gate(name) else { return Err(self.absent(name)) };
        // A proposal gets its intent later, when it is cast.
        if name != CANTRIP_NEW {
            held.check.check(arguments)?;
        }
        Ok(held)
    }

    /// What is said of a gate that is not held.
    pub fn absent(&self, name: &str) -> GateError {
        let base = match name {
            CANTRIP_NEW | CANTRIP_CAST => CALL_ENTITY,
            CANTRIP_CAST_BATCH => CALL_ENTITY_BATCH,
            other => other,
        };
        if self.removed.contains(base) {
            return GateError::Denied(format!(
                "{name}: not available here, because the ward max_depth is 0: this entity may not cast children"
            ));
        }
        let names: Vec<&str> = self.gates.iter().map(|held| held.spec.name.as_str()).collect();
        GateError::NotFound(format!(
            "this circle holds no gate `{name}`; it holds {}{}",
            names.join(", "),
            suggest::hint(name, names.iter().copied())
        ))
    }

    /// What the model is shown on every question (CIRCLE-11): the gates, or the interpreter with the gates in it.
    pub fn tools(&self) -> Arc<[ToolDefinition]> {
        Arc::clone(&self.tools)
    }

    fn presented(&self) -> Arc<[ToolDefinition]> {
        match &self.medium {
            MediumKind::Conversation => self
                .gates
                .iter()
                .map(|Held { spec, .. }| ToolDefinition {
                    name: spec.name.to_string(),
                    description: spec.description.clone(),
                    parameters: spec.parameters.clone(),
                })
                .collect(),
            MediumKind::Guest(_) => Arc::default(),
            MediumKind::Code(medium) => Arc::new([ToolDefinition {
                name: medium.clone(),
                description: self.code_contract(medium),
                parameters: json!({
                    "type": "object",
                    "properties": { "code": { "type": "string", "description": format!("{medium} source to run") } },
                    "required": ["code"],
                    "additionalProperties": false
                }),
            }]),
        }
    }

    /// Whether the model has to call something where the identity does not say: in code it has to, because text alone
    /// would do nothing.
    pub const fn tool_choice(&self) -> ToolChoice {
        match self.medium {
            MediumKind::Conversation | MediumKind::Guest(_) => ToolChoice::Auto,
            MediumKind::Code(_) => ToolChoice::Required,
        }
    }

    fn code_contract(&self, medium: &str) -> String {
        // The words of the language that comes with the runtime; another medium's own is not known here.
        let is_ours = medium == JAVASCRIPT;
        let (failing, printing) = if is_ours {
            ("(no await needed). A function that fails throws an Error with .kind and .message.", "console.log prints")
        } else {
            (
                "by position or by name. A function that fails raises an error with its kind and message.",
                "What is printed goes",
            )
        };
        let mut text = format!(
            "Runs {medium} in a sandbox. Global bindings stay from turn to turn. There is no file system, network, clock \
             of the machine or module loader: the functions below are all there is, and they return their result at once \
             {failing} {printing} into the observation. The value of the last expression is shown, long ones as size and \
             preview. Call done(answer) to end with the answer.\n\nFunctions:\n"
        );
        for Held { spec, .. } in &self.gates {
            let list = spec.positional.join(", ");
            // Writing into a String cannot fail.
            let _infallible = writeln!(text, "- {}({list}): {}", spec.name, spec.description);
            if is_ours && spec.name.as_str() == CALL_ENTITY {
                text.push_str(
                    "- cantrip.new({identity: {system_prompt}, circle: {medium, gates, wards}}): a cantrip that can be cast many times\n\
                     - cantrip.cast(cantrip, intent): casts it and returns the answer\n",
                );
            }
            if is_ours && spec.name.as_str() == CALL_ENTITY_BATCH {
                text.push_str(
                    "- cantrip.cast_batch([{cantrip, intent}, …]): casts several at once; answers in the same order\n",
                );
            }
        }
        text
    }
}

/// The functions of a code medium with these gates.
pub fn functions(gates: &[impl AsRef<str>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(gates.len() + 3);
    for name in gates.iter().map(AsRef::as_ref) {
        names.push(name.to_owned());
        match name {
            CALL_ENTITY => names.extend([CANTRIP_NEW.to_owned(), CANTRIP_CAST.to_owned()]),
            CALL_ENTITY_BATCH => names.push(CANTRIP_CAST_BATCH.to_owned()),
            _ => {}
        }
    }
    names
}

/// Whether a gate casts children.
pub fn delegates(name: &str) -> bool {
    matches!(name, CALL_ENTITY | CALL_ENTITY_BATCH)
}

/// The words under which a medium is known elsewhere, and ours for it.
pub(super) fn canonical_medium(name: &str) -> &str {
    match name {
        "tool" | "tools" => "conversation",
        "code" | "js" => "javascript",
        other => other,
    }
}
