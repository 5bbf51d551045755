//! A small, precompiled JSON-schema checker.
//!
//! Ours and not the `jsonschema` crate, because that one brings some thirty crates for drafts, references and formats
//! that gate arguments do not use, while one gate call has 5 µs in all. Owns the keywords it knows; a keyword it does
//! not know is refused when a gate is built, never ignored while it runs. It has no references and follows only the
//! schema's own depth, so a deep value cannot exhaust the stack. A schema comes from strangers as well, with a cast of a
//! peer: its size, its parts and its patterns are bounded when it is compiled, and what a check costs while it runs.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::bounded::Bounded;
use crate::describe::{described, named, quoted, whole_number};
use crate::limits::{
    CHECK_STEPS_MAX, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_NODES_MAX, SCHEMA_ONE_PATTERN_BYTES_MAX,
    SCHEMA_PATTERN_BYTES_MAX, SCHEMA_PATTERNS_MAX, SCHEMAS_OF_A_CIRCLE,
};
use crate::{steps, suggest};

/// 20 values of an `enum`, or kinds of alternatives, are named in an error.
const VALUES_NAMED: usize = 20;

/// Keywords that say nothing about whether a value fits.
const ANNOTATIONS: &[&str] = &[
    "title",
    "description",
    "default",
    "examples",
    "format",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$comment",
];

/// Keywords that are checked.
const CHECKED: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "enum",
    "const",
    "items",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "anyOf",
    "oneOf",
    "allOf",
];

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {at}: {what}")]
pub struct SchemaError {
    /// Where in the schema, as a JSON pointer; `/` is the whole.
    pub at: String,
    /// What is wrong there.
    pub what: String,
}

/// What is wrong with a value, and where.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// From the innermost step out, as the checker unwinds.
    pub(crate) steps: Vec<Step>,
    pub(crate) problem: Problem,
}

#[derive(Debug)]
pub(crate) enum Step {
    Property(String),
    Item(usize),
}

#[derive(Debug)]
pub(crate) enum Problem {
    Missing(String),
    Unknown {
        name: String,
        hint: String,
    },
    Expected {
        expected: String,
        got: String,
    },
    /// The check was given up.
    Costly,
}

impl Misfit {
    fn expected(expected: impl Into<String>, got: &Value) -> Self {
        let problem = Problem::Expected { expected: expected.into(), got: described(got) };
        Self { steps: Vec::new(), problem }
    }

    fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The path to the value, as a person writes it: `requests[0].intent`.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Property(name) if path.is_empty() => path.push_str(&named(name)),
                Step::Property(name) => path.extend([".", &named(name)]),
                Step::Item(at) => path.extend(["[", &at.to_string(), "]"]),
            }
        }
        path
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    const ALL: [(&'static str, Self); 7] = [
        ("null", Self::Null),
        ("boolean", Self::Boolean),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("string", Self::String),
        ("array", Self::Array),
        ("object", Self::Object),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| *name)
    }

    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::Boolean => value.is_boolean(),
            Self::Integer => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|float| float.fract() == 0.0)
            }
            Self::Number => value.is_number(),
            Self::String => value.is_string(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

/// What an object may hold beside its named properties.
#[derive(Debug, Default)]
enum Others {
    #[default]
    Allowed,
    Refused,
    Each(Box<Schema>),
}

/// A compiled schema.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    /// The schema `false`: nothing fits.
    never: bool,
    kinds: Vec<Kind>,
    one_of_values: Option<Vec<Value>>,
    least: Option<f64>,
    most: Option<f64>,
    above: Option<f64>,
    below: Option<f64>,
    chars_min: Option<u64>,
    chars_max: Option<u64>,
    pattern: Option<Bounded>,
    properties: Vec<(String, Schema)>,
    places: BTreeMap<String, usize>,
    required: Vec<String>,
    others: Others,
    items: Option<Box<Schema>>,
    items_min: Option<u64>,
    items_max: Option<u64>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    all_of: Vec<Schema>,
}

impl Schema {
    /// Compiles a schema, and refuses what it does not know or has no room for.
    pub(crate) fn compile(schema: &Value, among: &mut SchemaRoom) -> Result<Self, SchemaError> {
        let room = Room::default().within(&among.0);
        let mut left = room;
        left.weigh(schema)?;
        let compiled = compile(schema, &mut Vec::new(), &mut left)?;
        among.0 = among.0.without(&room, &left);
        Ok(compiled)
    }

    /// The named properties of an object.
    pub(crate) fn property_names(&self) -> impl Iterator<Item = &str> {
        self.properties.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the value fits, and if not, the first reason why.
    pub(crate) fn check(&self, value: &Value) -> Result<(), Misfit> {
        let work = Work(Cell::new(CHECK_STEPS_MAX));
        let checked = self.fits(value, &work);
        steps::count(CHECK_STEPS_MAX - work.0.get());
        // Once nothing is left, no alternative has been looked at in earnest.
        if work.0.get() == 0 { Err(Misfit { steps: Vec::new(), problem: Problem::Costly }) } else { checked }
    }

    fn fits(&self, value: &Value, work: &Work) -> Result<(), Misfit> {
        work.take(1)?;
        if self.never {
            return Err(Misfit::expected("nothing", value));
        }
        if !self.kinds.is_empty() && !self.kinds.iter().any(|kind| kind.holds(value)) {
            let names: Vec<_> = self.kinds.iter().take(VALUES_NAMED).map(|kind| kind.name()).collect();
            return Err(Misfit::expected(names.join(" or "), value));
        }
        if let Some(allowed) = &self.one_of_values {
            work.take(allowed.len().saturating_mul(weight(value)))?;
            if !allowed.iter().any(|one| same(one, value)) {
                let shown: Vec<_> = allowed.iter().take(VALUES_NAMED).map(short).collect();
                return Err(Misfit::expected(format!("one of {}", shown.join(", ")), value));
            }
        }
        match value {
            Value::Number(_) => self.check_number(value)?,
            Value::String(text) => self.check_text(text, value, work)?,
            Value::Array(items) => self.check_items(items, value, work)?,
            Value::Object(object) => self.check_object(object, work)?,
            Value::Null | Value::Bool(_) => {}
        }
        self.check_combined(value, work)
    }

    fn check_number(&self, value: &Value) -> Result<(), Misfit> {
        let number = value.as_f64().unwrap_or(f64::NAN);
        let fail = |words: &str, bound: f64| Err(Misfit::expected(format!("{words} {bound}"), value));
        if let Some(least) = self.least.filter(|least| number < *least) {
            return fail("at least", least);
        }
        if let Some(most) = self.most.filter(|most| number > *most) {
            return fail("at most", most);
        }
        if let Some(above) = self.above.filter(|above| number <= *above) {
            return fail("more than", above);
        }
        if let Some(below) = self.below.filter(|below| number >= *below) {
            return fail("less than", below);
        }
        Ok(())
    }

    fn check_text(&self, text: &str, value: &Value, work: &Work) -> Result<(), Misfit> {
        if self.chars_min.is_some() || self.chars_max.is_some() {
            work.take(text.len() / 16)?;
            let chars = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
            if let Some(min) = self.chars_min.filter(|min| chars < *min) {
                return Err(Misfit::expected(format!("at least {min} characters"), value));
            }
            if let Some(max) = self.chars_max.filter(|max| chars > *max) {
                return Err(Misfit::expected(format!("at most {max} characters"), value));
            }
        }
        let Some(pattern) = &self.pattern else { return Ok(()) };
        work.take(text.len().saturating_mul(pattern.states()))?;
        if pattern.is_match(text) {
            return Ok(());
        }
        Err(Misfit::expected(format!("a match of `{}`", named(pattern.as_str())), value))
    }

    fn check_items(&self, items: &[Value], value: &Value, work: &Work) -> Result<(), Misfit> {
        let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
        if let Some(min) = self.items_min.filter(|min| count < *min) {
            return Err(Misfit::expected(format!("at least {min} items"), value));
        }
        if let Some(max) = self.items_max.filter(|max| count > *max) {
            return Err(Misfit::expected(format!("at most {max} items"), value));
        }
        let Some(schema) = &self.items else {
            return Ok(());
        };
        for (at, item) in items.iter().enumerate() {
            schema.fits(item, work).map_err(|misfit| misfit.within(Step::Item(at)))?;
        }
        Ok(())
    }

    fn check_object(&self, object: &Map<String, Value>, work: &Work) -> Result<(), Misfit> {
        work.take(object.len().saturating_add(self.required.len()))?;
        for (name, value) in object {
            let step = || Step::Property(named(name).into_owned());
            match (self.property(name), &self.others) {
                (Some(schema), _) => schema.fits(value, work).map_err(|misfit| misfit.within(step()))?,
                (None, Others::Allowed) => {}
                (None, Others::Each(schema)) => schema.fits(value, work).map_err(|misfit| misfit.within(step()))?,
                (None, Others::Refused) => {
                    let hint = suggest::hint(name, self.property_names());
                    let name = quoted(name).trim_matches('"').to_owned();
                    return Err(Misfit { steps: Vec::new(), problem: Problem::Unknown { name, hint } });
                }
            }
        }
        match self.required.iter().find(|name| !object.contains_key(name.as_str())) {
            Some(name) => Err(Misfit { steps: Vec::new(), problem: Problem::Missing(name.clone()) }),
            None => Ok(()),
        }
    }

    fn check_combined(&self, value: &Value, work: &Work) -> Result<(), Misfit> {
        for schema in &self.all_of {
            schema.fits(value, work)?;
        }
        if !self.any_of.is_empty() && !self.any_of.iter().any(|schema| schema.fits(value, work).is_ok()) {
            return Err(Misfit::expected(alternatives(&self.any_of), value));
        }
        let fitting = self.one_of.iter().filter(|schema| schema.fits(value, work).is_ok()).take(2).count();
        match (self.one_of.is_empty(), fitting) {
            (true, _) | (false, 1) => Ok(()),
            (false, 0) => Err(Misfit::expected(alternatives(&self.one_of), value)),
            (false, _) => Err(Misfit::expected("only one of its alternatives", value)),
        }
    }

    /// Whether any value of this JSON type can fit, judged by the types named in the schema.
    pub(crate) fn admits(&self, sample: &Value) -> bool {
        let by_type = self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.holds(sample));
        let by_any = self.any_of.is_empty() || self.any_of.iter().any(|schema| schema.admits(sample));
        let by_one = self.one_of.is_empty() || self.one_of.iter().any(|schema| schema.admits(sample));
        !self.never && by_type && by_any && by_one
    }

    /// The schema of a named property.
    pub(crate) fn property(&self, name: &str) -> Option<&Self> {
        self.places.get(name).and_then(|at| self.properties.get(*at)).map(|(_, schema)| schema)
    }

    /// Whether an object must hold this property.
    pub(crate) fn requires(&self, name: &str) -> bool {
        self.required.iter().any(|required| required == name)
    }

    /// Whether the schema is for objects and nothing else.
    pub(crate) fn is_object(&self) -> bool {
        self.kinds == [Kind::Object]
    }
}

/// What is left of the steps that one check may take.
struct Work(Cell<usize>);

impl Work {
    fn take(&self, steps: usize) -> Result<(), Misfit> {
        let left = self.0.get().saturating_sub(steps);
        self.0.set(left);
        if left == 0 { Err(Misfit { steps: Vec::new(), problem: Problem::Costly }) } else { Ok(()) }
    }
}

/// What comparing a value with another one can cost.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => 1 + text.len() / 16,
        // What is compared ends at the first difference, but a stranger makes it the last.
        Value::Array(items) => items.iter().map(weight).sum::<usize>().saturating_add(1),
        Value::Object(object) => object.values().map(weight).sum::<usize>().saturating_add(object.len() + 1),
    }
}

/// A value of a schema, in few words.
fn short(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(_) | Value::Object(_) => described(value),
    }
}

/// What the schemas of all gates of one circle may still hold together.
#[derive(Debug)]
pub struct SchemaRoom(Room);

impl Default for SchemaRoom {
    fn default() -> Self {
        let one = Room::default();
        let (bytes, nodes) = (one.bytes * SCHEMAS_OF_A_CIRCLE, one.nodes * SCHEMAS_OF_A_CIRCLE);
        // Compiled patterns are what costs: a circle has no more of them than one of its gates may have.
        Self(Room { bytes, nodes, patterns: one.patterns * SCHEMAS_OF_A_CIRCLE, ..one })
    }
}

/// What a schema may still hold.
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: usize,
    nodes: usize,
    patterns: usize,
    pattern_bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: SCHEMA_BYTES_MAX,
            nodes: SCHEMA_NODES_MAX,
            patterns: SCHEMA_PATTERNS_MAX,
            pattern_bytes: SCHEMA_PATTERN_BYTES_MAX,
        }
    }
}

impl Room {
    fn within(self, other: &Self) -> Self {
        Self {
            bytes: self.bytes.min(other.bytes),
            nodes: self.nodes.min(other.nodes),
            patterns: self.patterns.min(other.patterns),
            pattern_bytes: self.pattern_bytes.min(other.pattern_bytes),
        }
    }

    /// The same without what lies between two states of another one.
    fn without(self, before: &Self, after: &Self) -> Self {
        let less = |own: usize, before: usize, after: usize| own.saturating_sub(before.saturating_sub(after));
        Self {
            bytes: less(self.bytes, before.bytes, after.bytes),
            nodes: less(self.nodes, before.nodes, after.nodes),
            patterns: less(self.patterns, before.patterns, after.patterns),
            pattern_bytes: less(self.pattern_bytes, before.pattern_bytes, after.pattern_bytes),
        }
    }

    /// Counts names, texts and values before anything is copied.
    fn weigh(&mut self, value: &Value) -> Result<(), SchemaError> {
        let own = match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 8,
            Value::String(text) => 8 + text.len(),
            Value::Array(items) => 8 + items.len(),
            Value::Object(object) => 8 + object.keys().map(|name| 8 + name.len()).sum::<usize>(),
        };
        let too_large = || {
            wrong(
                &[],
                format!(
                    "holds more than {SCHEMA_BYTES_MAX} bytes of names and values, or with the other gates of its circle more than {SCHEMAS_OF_A_CIRCLE} times as much"
                ),
            )
        };
        self.bytes = self.bytes.checked_sub(own).ok_or_else(too_large)?;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
            Value::Array(items) => items.iter().try_for_each(|item| self.weigh(item)),
            Value::Object(object) => object.values().try_for_each(|item| self.weigh(item)),
        }
    }

    fn node(&mut self, at: &[String]) -> Result<(), SchemaError> {
        let too_many = || {
            wrong(
                at,
                format!(
                    "more than {SCHEMA_NODES_MAX} schemas within one, or {SCHEMAS_OF_A_CIRCLE} times as many in its circle"
                ),
            )
        };
        self.nodes = self.nodes.checked_sub(1).ok_or_else(too_many)?;
        Ok(())
    }

    fn pattern(&mut self, text: &str, at: &[String]) -> Result<Bounded, SchemaError> {
        let too_many = || {
            wrong(
                at,
                format!(
                    "more than {SCHEMA_PATTERNS_MAX} patterns in one schema, or {SCHEMAS_OF_A_CIRCLE} times as many in its circle"
                ),
            )
        };
        self.patterns = self.patterns.checked_sub(1).ok_or_else(too_many)?;
        let built = Bounded::compile(text, SCHEMA_ONE_PATTERN_BYTES_MAX).map_err(|why| wrong(at, why))?;
        let too_large = || {
            wrong(at, format!("all patterns together take more than {SCHEMA_PATTERN_BYTES_MAX} bytes when compiled"))
        };
        self.pattern_bytes = self.pattern_bytes.checked_sub(built.bytes()).ok_or_else(too_large)?;
        Ok(built)
    }
}

fn alternatives(schemas: &[Schema]) -> String {
    let mut kinds: Vec<_> = Vec::new();
    for kind in schemas.iter().flat_map(|schema| &schema.kinds).map(|kind| kind.name()) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() { "one of its alternatives".to_owned() } else { kinds.join(" or ") }
}

/// Equal as JSON: `1` and `1.0` are the same number.
fn same(one: &Value, two: &Value) -> bool {
    one == two || (one.is_number() && two.is_number() && one.as_f64() == two.as_f64())
}

fn compile(schema: &Value, at: &mut Vec<String>, room: &mut Room) -> Result<Schema, SchemaError> {
    room.node(at)?;
    if at.len() > SCHEMA_DEPTH_MAX {
        return Err(wrong(at, format!("nested deeper than {SCHEMA_DEPTH_MAX}")));
    }
    let object = match schema {
        Value::Bool(fits) => {
            return Ok(Schema { never: !fits, ..Schema::default() });
        }
        Value::Object(object) => object,
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(wrong(at, format!("a schema is an object or a boolean, not {}", described(schema))));
        }
    };
    let mut compiled = Schema::default();
    for (keyword, value) in object {
        at.push(keyword.clone());
        compile_keyword(&mut compiled, keyword, value, at, room)?;
        at.pop();
    }
    Ok(compiled)
}

fn compile_keyword(
    schema: &mut Schema,
    keyword: &str,
    value: &Value,
    at: &mut Vec<String>,
    room: &mut Room,
) -> Result<(), SchemaError> {
    match keyword {
        "type" => schema.kinds = kinds(value, at)?,
        "properties" => {
            for (name, property) in value.as_object().ok_or_else(|| wrong(at, "takes an object"))? {
                at.push(name.clone());
                schema.places.insert(name.clone(), schema.properties.len());
                schema.properties.push((name.clone(), compile(property, at, room)?));
                at.pop();
            }
        }
        "required" => schema.required = texts(value, at)?,
        "additionalProperties" => {
            schema.others = match value.as_bool() {
                Some(true) => Others::Allowed,
                Some(false) => Others::Refused,
                None => Others::Each(Box::new(compile(value, at, room)?)),
            };
        }
        "enum" => {
            schema.one_of_values = Some(value.as_array().ok_or_else(|| wrong(at, "takes an array"))?.clone());
        }
        "const" => schema.one_of_values = Some(vec![value.clone()]),
        "items" => schema.items = Some(Box::new(compile(value, at, room)?)),
        "minItems" => schema.items_min = Some(count(value, at)?),
        "maxItems" => schema.items_max = Some(count(value, at)?),
        "minLength" => schema.chars_min = Some(count(value, at)?),
        "maxLength" => schema.chars_max = Some(count(value, at)?),
        "minimum" => schema.least = Some(bound(value, at)?),
        "maximum" => schema.most = Some(bound(value, at)?),
        "exclusiveMinimum" => schema.above = Some(bound(value, at)?),
        "exclusiveMaximum" => schema.below = Some(bound(value, at)?),
        "pattern" => {
            let text = value.as_str().ok_or_else(|| wrong(at, "takes a string"))?;
            schema.pattern = Some(room.pattern(text, at)?);
        }
        "anyOf" => schema.any_of = list(value, at, room)?,
        "oneOf" => schema.one_of = list(value, at, room)?,
        "allOf" => schema.all_of = list(value, at, room)?,
        annotation if ANNOTATIONS.contains(&annotation) => {}
        unknown => {
            let hint = suggest::hint(unknown, CHECKED.iter().copied());
            return Err(wrong(at, format!("unknown keyword{hint}; known are {}", CHECKED.join(", "))));
        }
    }
    Ok(())
}

fn wrong(at: &[String], what: impl Into<String>) -> SchemaError {
    let at: Vec<_> = at.iter().map(|step| named(step)).collect();
    SchemaError { at: format!("/{}", at.join("/")), what: what.into() }
}

fn kinds(value: &Value, at: &[String]) -> Result<Vec<Kind>, SchemaError> {
    let names = if let Value::String(name) = value { vec![name.clone()] } else { texts(value, at)? };
    let known = |name: &String| Kind::ALL.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
    names
        .iter()
        .map(|name| known(name).ok_or_else(|| wrong(at, format!("no JSON type is called {}", quoted(name)))))
        .collect()
}

fn texts(value: &Value, at: &[String]) -> Result<Vec<String>, SchemaError> {
    let list = value.as_array().ok_or_else(|| wrong(at, "takes an array of strings"))?;
    list.iter()
        .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wrong(at, "takes an array of strings")))
        .collect()
}

fn list(value: &Value, at: &mut Vec<String>, room: &mut Room) -> Result<Vec<Schema>, SchemaError> {
    let Some(schemas) = value.as_array().filter(|schemas| !schemas.is_empty()) else {
        return Err(wrong(at, "takes an array of schemas that is not empty"));
    };
    schemas.iter().map(|schema| compile(schema, at, room)).collect()
}

fn count(value: &Value, at: &[String]) -> Result<u64, SchemaError> {
    whole_number(value).ok_or_else(|| wrong(at, "takes a whole number, 0 or more"))
}

fn bound(value: &Value, at: &[String]) -> Result<f64, SchemaError> {
    value.as_f64().ok_or_else(|| wrong(at, "takes a number"))
}
