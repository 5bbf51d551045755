//! Arguments on their way to a gate.
//!
//! Owns the check of arguments against a gate's schema and the mapping of a code medium's positional call to named
//! arguments. Every message names the gate, the parameter, what was expected and what came, because a model corrects
//! itself by it (CIRCLE-5). It never changes a value.

use serde_json::{Map, Value};

use crate::describe::{described, listed, named, whole_number};
use crate::error::GateError;
use crate::limits::CHECK_STEPS_MAX;
use crate::name::GateName;
use crate::schema::{Misfit, Problem, Schema, SchemaError, SchemaRoom};
use crate::spec::GateSpec;

/// Why a gate's declaration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The schema of the arguments cannot be used.
    #[error("parameters of gate `{gate}`")]
    Schema {
        /// The gate.
        gate: GateName,
        /// What is wrong with it.
        #[source]
        source: SchemaError,
    },
    /// The schema is not one of objects.
    #[error("parameters of gate `{0}` must have `\"type\": \"object\"`")]
    NotAnObject(GateName),
    /// A positional parameter that the schema does not name.
    #[error("gate `{gate}` names `{parameter}` as a positional parameter, but its schema has no such property")]
    Positional {
        /// The gate.
        gate: GateName,
        /// The parameter without a property.
        parameter: String,
    },
}

/// The compiled check of one gate's arguments.
///
/// ```
/// use cantrip_gates::{ArgumentCheck, builtin};
/// use serde_json::json;
///
/// let check = ArgumentCheck::new(builtin::done().spec())?;
/// assert!(check.check(&json!({"answer": 42})).is_ok());
/// let error = check.check(&json!({})).unwrap_err();
/// assert_eq!(error.message(), "done: missing required argument `answer`");
/// # Ok::<(), cantrip_gates::SpecError>(())
/// ```
#[derive(Debug)]
pub struct ArgumentCheck {
    gate: GateName,
    positional: Vec<String>,
    schema: Schema,
}

impl ArgumentCheck {
    /// Compiles the check. The cost is paid here and not in a call.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if the schema cannot be used or does not fit the positional parameters.
    pub fn new(spec: &GateSpec) -> Result<Self, SpecError> {
        Self::among(spec, &mut SchemaRoom::default())
    }

    /// The same for one of several gates whose schemas come from one stranger: what they hold together is bounded, too.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if the schema cannot be used, does not fit the positional parameters, or finds no room.
    pub fn among(spec: &GateSpec, room: &mut SchemaRoom) -> Result<Self, SpecError> {
        let gate = spec.name.clone();
        let compiled = Schema::compile(&spec.parameters, room);
        let schema = compiled.map_err(|source| SpecError::Schema { gate: gate.clone(), source })?;
        if !schema.is_object() {
            return Err(SpecError::NotAnObject(gate));
        }
        if let Some(parameter) = spec.positional.iter().find(|name| schema.property(name).is_none()) {
            return Err(SpecError::Positional { gate, parameter: parameter.clone() });
        }
        Ok(Self { gate, positional: spec.positional.clone(), schema })
    }

    /// Checks named arguments.
    ///
    /// # Errors
    ///
    /// [`GateError::Invalid`] with the first thing that does not fit.
    pub fn check(&self, arguments: &Value) -> Result<(), GateError> {
        self.schema.check(arguments).map_err(|misfit| GateError::Invalid(self.message(&misfit)))
    }

    /// Named arguments of a positional call, with a schema compiled for this one call; where calls are many, keep an
    /// [`ArgumentCheck`] and use [`Self::named`].
    ///
    /// # Errors
    ///
    /// [`GateError::Invalid`] if there are more values than parameters.
    pub fn from_positional(spec: &GateSpec, values: Vec<Value>) -> Result<Value, GateError> {
        match Self::new(spec) {
            Ok(check) => check.named(values),
            Err(error) => Err(GateError::Invalid(format!("{}: {error}", spec.name))),
        }
    }

    /// Named arguments of a positional call, as a code medium makes it.
    ///
    /// `f({path: "a"})`, one object whose keys are parameters, is taken as it is. Any other value is one parameter in
    /// the declared order; `null` for an optional parameter that cannot be null leaves it out, and a last object whose
    /// keys are parameters that were not given yet is taken as options: `search("x", {path: "src"})`. A gate whose only
    /// parameter takes any value, such as `done`, gets the object itself, unless its only key is that parameter.
    ///
    /// # Errors
    ///
    /// [`GateError::Invalid`] if there are more values than parameters.
    pub fn named(&self, values: Vec<Value>) -> Result<Value, GateError> {
        if let [Value::Object(object)] = values.as_slice()
            && self.is_named(object)
        {
            return Ok(values.into_iter().next().unwrap_or_default());
        }
        let count = values.len();
        let mut named = Map::new();
        let mut parameters = self.positional.iter();
        for (at, value) in values.into_iter().enumerate() {
            let parameter = parameters.next();
            if let Value::Object(options) = &value
                && at > 0
                && at + 1 == count
                && self.are_options(options, parameter, &named)
            {
                named.extend(options.clone());
                continue;
            }
            let Some(parameter) = parameter else {
                return Err(self.too_many(count));
            };
            let left_out = value.is_null() && !self.schema.requires(parameter) && !self.admits(parameter, &value);
            if !left_out {
                named.insert(parameter.clone(), value);
            }
        }
        Ok(Value::Object(named))
    }

    /// Whether a single object is the arguments by name, and not the value of the first parameter.
    fn is_named(&self, object: &Map<String, Value>) -> bool {
        match self.positional.as_slice() {
            [only] if self.admits(only, &Value::Object(Map::new())) => {
                object.len() == 1 && object.contains_key(only) && self.schema.property_names().count() == 1
                    || self.schema.property_names().count() > 1 && self.are_parameters(object)
            }
            // An object that cannot be the first parameter is meant by name, even with a key misspelt: the check then
            // names that key.
            [first, ..] if !self.admits(first, &Value::Object(Map::new())) => true,
            _ => self.are_parameters(object),
        }
    }

    fn are_parameters(&self, object: &Map<String, Value>) -> bool {
        object.keys().all(|key| self.schema.property(key).is_some())
    }

    fn are_options(
        &self,
        options: &Map<String, Value>,
        parameter: Option<&String>,
        given: &Map<String, Value>,
    ) -> bool {
        let takes_objects = parameter.is_some_and(|name| self.admits(name, &Value::Object(Map::new())));
        !takes_objects && self.are_parameters(options) && options.keys().all(|key| !given.contains_key(key))
    }

    fn admits(&self, parameter: &str, sample: &Value) -> bool {
        self.schema.property(parameter).is_some_and(|schema| schema.admits(sample))
    }

    fn too_many(&self, count: usize) -> GateError {
        let parameters = match self.positional.as_slice() {
            [] => "takes no arguments".to_owned(),
            names => format!("takes at most {} ({})", names.len(), listed(names.iter().map(String::as_str))),
        };
        GateError::Invalid(format!("{}: {count} arguments came, but it {parameters}", self.gate))
    }

    fn message(&self, misfit: &Misfit) -> String {
        let gate = &self.gate;
        let path = misfit.path();
        match &misfit.problem {
            Problem::Costly => {
                format!("{gate}: checking the arguments takes more than {CHECK_STEPS_MAX} steps; send less at once")
            }
            Problem::Missing(name) if path.is_empty() => {
                format!("{gate}: missing required argument `{}`", named(name))
            }
            Problem::Missing(name) => {
                format!("{gate}: argument `{path}`: missing required `{}`", named(name))
            }
            Problem::Unknown { name, hint } if path.is_empty() => {
                format!("{gate}: unknown argument `{name}`{hint}; it takes {}", listed(self.schema.property_names()))
            }
            Problem::Unknown { name, hint } => {
                format!("{gate}: argument `{path}`: unknown key `{name}`{hint}")
            }
            Problem::Expected { expected, got } if path.is_empty() => {
                format!("{gate}: expected {expected} of arguments, got {got}")
            }
            Problem::Expected { expected, got } => {
                format!("{gate}: argument `{path}`: expected {expected}, got {got}")
            }
        }
    }
}

/// Named arguments inside a gate. A gate takes them out one by one and stays safe when nobody checked before.
#[derive(Debug)]
pub(crate) struct Arguments {
    gate: &'static str,
    named: Map<String, Value>,
}

impl Arguments {
    pub(crate) fn new(gate: &'static str, arguments: Value) -> Result<Self, GateError> {
        let Value::Object(named) = arguments else {
            return Err(GateError::Invalid(format!(
                "{gate}: expected an object of arguments, got {}",
                described(&arguments)
            )));
        };
        Ok(Self { gate, named })
    }

    pub(crate) fn required(&mut self, name: &str) -> Result<Value, GateError> {
        let taken = self.named.remove(name);
        taken.ok_or_else(|| GateError::Invalid(format!("{}: missing required argument `{name}`", self.gate)))
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, GateError> {
        let value = self.required(name)?;
        if let Value::String(text) = value { Ok(text) } else { Err(self.wrong(name, "string", &value)) }
    }

    pub(crate) fn text_or_none(&mut self, name: &str) -> Result<Option<String>, GateError> {
        match self.named.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "string", &other)),
        }
    }

    pub(crate) fn count_or_none(&mut self, name: &str) -> Result<Option<u64>, GateError> {
        match self.named.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => whole_number(&value).map(Some).ok_or_else(|| self.wrong(name, "integer, 0 or more", &value)),
        }
    }

    pub(crate) fn flag_or_false(&mut self, name: &str) -> Result<bool, GateError> {
        match self.named.remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.wrong(name, "boolean", &other)),
        }
    }

    pub(crate) fn object_or_empty(&mut self, name: &str) -> Result<Map<String, Value>, GateError> {
        match self.named.remove(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object),
            Some(other) => Err(self.wrong(name, "object", &other)),
        }
    }

    pub(crate) fn wrong(&self, name: &str, expected: &str, got: &Value) -> GateError {
        let name = named(name);
        GateError::Invalid(format!("{}: argument `{name}`: expected {expected}, got {}", self.gate, described(got)))
    }
}
