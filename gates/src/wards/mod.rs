//! Wards: the restrictions a host enforces on a circle, and their algebra.
//!
//! Owns the names, the parsing and printing, the meet and the defaults of every ward. Wards form a meet-semilattice:
//! numbers take the smaller, flags are joined by OR, allow-lists intersect and host patterns narrow, so composing wards in any
//! order and any number of times only ever tightens (WARD-1). Wards of a medium (`max_eval_ms`, `max_memory_bytes`,
//! `max_fuel`) are wards like the others and compose the same way (WARD-2). It never enforces anything: counting and
//! stopping is the runtime's part.

mod parse;
mod resolved;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::hosts::HostPatterns;

pub use parse::WardError;
pub use resolved::ResolvedWards;

/// The wards of one circle. `None` means: not restricted by this set.
///
/// ```
/// use cantrip_gates::Wards;
/// use serde_json::json;
///
/// let parent = Wards::from_value(&json!({"max_turns": 5}))?;
/// let child = Wards::from_value(&json!([{"max_turns": 20}, {"require_done_tool": true}]))?;
/// let both = parent.meet(&child);
/// assert_eq!(both.max_turns, Some(5));
/// assert!(both.require_done_tool);
/// # Ok::<(), cantrip_gates::WardError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Wards {
    /// Turns of one cast.
    pub max_turns: Option<u64>,
    /// Levels of children below this entity; at 0 the delegation gates are gone.
    pub max_depth: Option<u64>,
    /// Tokens of model usage, input and output together, children included.
    pub max_tokens: Option<u64>,
    /// Gate calls of an entity and its children.
    pub max_gate_calls: Option<u64>,
    /// Children an entity may cast in its life, with those that they cast.
    pub max_children: Option<u64>,
    /// Children that run at the same time.
    pub max_concurrent_children: Option<u64>,
    /// Requests in one `call_entity_batch`.
    pub max_batch_size: Option<u64>,
    /// Milliseconds of one evaluation in a code medium, time spent waiting for gates left out.
    pub max_eval_ms: Option<u64>,
    /// Milliseconds of one cast, from its intent to its end.
    pub timeout_ms: Option<u64>,
    /// Bytes of memory a code medium may hold.
    pub max_memory_bytes: Option<u64>,
    /// Fuel a code medium may burn, in wasmtime's units. Not set: fuel is not counted.
    pub max_fuel: Option<u64>,
    /// Bytes of captured output of one turn.
    pub max_output_bytes: Option<u64>,
    /// The cast only ends by `done`; an answer without it is not one.
    pub require_done_tool: bool,
    /// Outbound gates go away once private data and untrusted content have both been seen.
    pub no_trifecta: bool,
    /// Media a child may have.
    pub child_media: Option<BTreeSet<String>>,
    /// Gates a child may have.
    pub child_gates: Option<BTreeSet<String>>,
    /// Hosts that gates may reach.
    pub allow_hosts: Option<HostPatterns>,
}

/// The value of one ward that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WardValue {
    /// A bound.
    Number(u64),
    /// A flag that is on.
    Flag(bool),
    /// An allow-list of names.
    Names(BTreeSet<String>),
    /// An allow-list of hosts.
    Hosts(HostPatterns),
}

impl WardValue {
    /// The value as JSON, which is also how a file spells it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Number(number) => Value::from(*number),
            Self::Flag(flag) => Value::from(*flag),
            Self::Names(names) => names.iter().map(String::as_str).collect(),
            Self::Hosts(hosts) => hosts.iter().collect(),
        }
    }
}

impl fmt::Display for WardValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Names(names) if names.is_empty() => f.write_str("(none)"),
            Self::Names(names) => f.write_str(&names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
            Self::Hosts(hosts) => write!(f, "{hosts}"),
        }
    }
}

impl Wards {
    /// Every ward there is, in the order they are printed.
    pub const NAMES: &'static [&'static str] = &[
        "max_turns",
        "max_depth",
        "max_tokens",
        "max_gate_calls",
        "max_children",
        "max_concurrent_children",
        "max_batch_size",
        "max_eval_ms",
        "timeout_ms",
        "max_memory_bytes",
        "max_fuel",
        "max_output_bytes",
        "require_done_tool",
        "no_trifecta",
        "child_media",
        "child_gates",
        "allow_hosts",
    ];

    /// The greatest restriction that is in both: never wider than either.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        Self {
            max_turns: smaller(self.max_turns, other.max_turns),
            max_depth: smaller(self.max_depth, other.max_depth),
            max_tokens: smaller(self.max_tokens, other.max_tokens),
            max_gate_calls: smaller(self.max_gate_calls, other.max_gate_calls),
            max_children: smaller(self.max_children, other.max_children),
            max_concurrent_children: smaller(self.max_concurrent_children, other.max_concurrent_children),
            max_batch_size: smaller(self.max_batch_size, other.max_batch_size),
            max_eval_ms: smaller(self.max_eval_ms, other.max_eval_ms),
            timeout_ms: smaller(self.timeout_ms, other.timeout_ms),
            max_memory_bytes: smaller(self.max_memory_bytes, other.max_memory_bytes),
            max_fuel: smaller(self.max_fuel, other.max_fuel),
            max_output_bytes: smaller(self.max_output_bytes, other.max_output_bytes),
            require_done_tool: self.require_done_tool || other.require_done_tool,
            no_trifecta: self.no_trifecta || other.no_trifecta,
            child_media: both(self.child_media.as_ref(), other.child_media.as_ref(), common),
            child_gates: both(self.child_gates.as_ref(), other.child_gates.as_ref(), common),
            allow_hosts: both(self.allow_hosts.as_ref(), other.allow_hosts.as_ref(), HostPatterns::intersect),
        }
    }

    /// Whether this set restricts at least as much as `wider` in every ward.
    pub fn is_within(&self, wider: &Self) -> bool {
        let numbers = self.numbers().into_iter().zip(wider.numbers());
        numbers
            .into_iter()
            .all(|((_, own), (_, bound))| within(own.as_ref(), bound.as_ref(), |own, bound| own <= bound))
            && self.require_done_tool >= wider.require_done_tool
            && self.no_trifecta >= wider.no_trifecta
            && within(self.child_media.as_ref(), wider.child_media.as_ref(), BTreeSet::is_subset)
            && within(self.child_gates.as_ref(), wider.child_gates.as_ref(), BTreeSet::is_subset)
            && within(self.allow_hosts.as_ref(), wider.allow_hosts.as_ref(), HostPatterns::is_within)
    }

    /// Whether a ward guarantees an end (CIRCLE-2): `max_turns`, `max_tokens` or `timeout_ms`.
    pub fn truncates(&self) -> bool {
        self.max_turns.is_some() || self.max_tokens.is_some() || self.timeout_ms.is_some()
    }

    /// The wards that are set, in the order of [`Self::NAMES`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, WardValue)> {
        let numbers = self.numbers().into_iter().map(|(name, value)| (name, value.map(WardValue::Number)));
        let flag = |on: bool| on.then_some(WardValue::Flag(true));
        let rest = [
            ("require_done_tool", flag(self.require_done_tool)),
            ("no_trifecta", flag(self.no_trifecta)),
            ("child_media", self.child_media.clone().map(WardValue::Names)),
            ("child_gates", self.child_gates.clone().map(WardValue::Names)),
            ("allow_hosts", self.allow_hosts.clone().map(WardValue::Hosts)),
        ];
        numbers.chain(rest).filter_map(|(name, value)| value.map(|value| (name, value)))
    }

    /// The wards that are set as a JSON object.
    pub fn to_json(&self) -> Value {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_json())).collect::<serde_json::Map<_, _>>().into()
    }

    fn numbers(&self) -> [(&'static str, Option<u64>); 12] {
        [
            ("max_turns", self.max_turns),
            ("max_depth", self.max_depth),
            ("max_tokens", self.max_tokens),
            ("max_gate_calls", self.max_gate_calls),
            ("max_children", self.max_children),
            ("max_concurrent_children", self.max_concurrent_children),
            ("max_batch_size", self.max_batch_size),
            ("max_eval_ms", self.max_eval_ms),
            ("timeout_ms", self.timeout_ms),
            ("max_memory_bytes", self.max_memory_bytes),
            ("max_fuel", self.max_fuel),
            ("max_output_bytes", self.max_output_bytes),
        ]
    }

    fn number_mut(&mut self, name: &str) -> Option<&mut Option<u64>> {
        Some(match name {
            "max_turns" => &mut self.max_turns,
            "max_depth" => &mut self.max_depth,
            "max_tokens" => &mut self.max_tokens,
            "max_gate_calls" => &mut self.max_gate_calls,
            "max_children" => &mut self.max_children,
            "max_concurrent_children" => &mut self.max_concurrent_children,
            "max_batch_size" => &mut self.max_batch_size,
            "max_eval_ms" => &mut self.max_eval_ms,
            "timeout_ms" => &mut self.timeout_ms,
            "max_memory_bytes" => &mut self.max_memory_bytes,
            "max_fuel" => &mut self.max_fuel,
            "max_output_bytes" => &mut self.max_output_bytes,
            _ => return None,
        })
    }
}

/// The wards as a person reads them: `max_turns 5, require_done_tool`.
impl fmt::Display for Wards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match value {
                WardValue::Flag(_) => write!(f, "{comma}{name}")?,
                WardValue::Number(number) => write!(f, "{comma}{name} {number}")?,
                WardValue::Names(_) | WardValue::Hosts(_) => write!(f, "{comma}{name} [{value}]")?,
            }
        }
        Ok(())
    }
}

fn smaller(one: Option<u64>, two: Option<u64>) -> Option<u64> {
    one.into_iter().chain(two).min()
}

fn common(one: &BTreeSet<String>, two: &BTreeSet<String>) -> BTreeSet<String> {
    one.intersection(two).cloned().collect()
}

fn both<T: Clone>(one: Option<&T>, two: Option<&T>, meet: impl Fn(&T, &T) -> T) -> Option<T> {
    match (one, two) {
        (Some(one), Some(two)) => Some(meet(one, two)),
        (one, two) => one.or(two).cloned(),
    }
}

fn within<T>(own: Option<&T>, wider: Option<&T>, is_within: impl Fn(&T, &T) -> bool) -> bool {
    match (own, wider) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(own), Some(wider)) => is_within(own, wider),
    }
}
