//! Reading and writing wards.
//!
//! Owns both published forms: an object, `{"max_turns": 10}`, and a list of objects, `[{"max_turns": 10},
//! {"require_done_tool": true}]`, in which a ward that comes twice takes the tighter value. It never lets an unknown
//! name through: a ward that nobody enforces is worse than an error.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::Wards;
use crate::describe::{described, whole_number};
use crate::hosts::{HostPatternError, HostPatterns};
use crate::limits::{HOST_PATTERNS_MAX, WARD_ENTRIES_MAX};
use crate::suggest;

/// Why wards could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WardError {
    /// No ward has this name.
    #[error("unknown ward `{name}`{}; allowed are {}", suggest::hint(.name, Wards::NAMES.iter().copied()), Wards::NAMES.join(", "))]
    Unknown {
        /// The name that came.
        name: String,
    },
    /// The value does not fit the ward.
    #[error("ward `{name}` takes {expected}, not {got}")]
    Value {
        /// The ward.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// A host pattern cannot be read.
    #[error("ward `allow_hosts`")]
    Host(#[source] HostPatternError),
    /// Wards are neither an object nor a list of objects.
    #[error("wards are an object such as {{\"max_turns\": 10}} or a list of such objects, not {0}")]
    Shape(String),
    /// More entries than [`WARD_ENTRIES_MAX`].
    #[error("at most {WARD_ENTRIES_MAX} entries, {0} came")]
    TooMany(usize),
}

impl WardError {
    /// The message with its cause, for formats that carry only one text.
    pub fn full_message(&self) -> String {
        match self {
            Self::Host(cause) => format!("{self}: {cause}"),
            Self::Unknown { .. } | Self::Value { .. } | Self::Shape(_) | Self::TooMany(_) => self.to_string(),
        }
    }
}

impl Wards {
    /// Reads the list form.
    ///
    /// # Errors
    ///
    /// [`WardError`] names the first ward that cannot be read.
    pub fn from_list<I>(entries: I) -> Result<Self, WardError>
    where
        I: IntoIterator<Item = Value>,
    {
        let mut wards = Self::default();
        let mut listed = 0;
        for (count, entry) in entries.into_iter().enumerate() {
            if count >= WARD_ENTRIES_MAX {
                return Err(WardError::TooMany(count + 1));
            }
            let Value::Object(entry) = entry else {
                return Err(WardError::Shape(described(&entry)));
            };
            for (name, value) in &entry {
                listed = in_all(listed, value)?;
                wards.tighten(known(name)?, value)?;
            }
        }
        Ok(wards)
    }

    /// Reads either form. `null` is no ward.
    ///
    /// # Errors
    ///
    /// [`WardError`] names the first ward that cannot be read.
    pub fn from_value(value: &Value) -> Result<Self, WardError> {
        match value {
            Value::Null => Ok(Self::default()),
            Value::Array(entries) => Self::from_list(entries.iter().cloned()),
            Value::Object(_) => Self::from_list([value.clone()]),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(WardError::Shape(described(value))),
        }
    }

    /// Meets one named ward into the set.
    fn tighten(&mut self, name: &'static str, value: &Value) -> Result<(), WardError> {
        let mut single = Self::default();
        match name {
            "require_done_tool" => single.require_done_tool = flag(name, value)?,
            "no_trifecta" => single.no_trifecta = flag(name, value)?,
            "child_media" => single.child_media = Some(names(name, value)?),
            "child_gates" => single.child_gates = Some(names(name, value)?),
            "allow_hosts" => {
                let hosts = names(name, value)?;
                single.allow_hosts = Some(HostPatterns::parse(hosts).map_err(WardError::Host)?);
            }
            _ => match single.number_mut(name) {
                Some(place) => *place = Some(number(name, value)?),
                None => {
                    return Err(WardError::Unknown { name: name.to_owned() });
                }
            },
        }
        *self = self.meet(&single);
        Ok(())
    }
}

/// How many names all lists hold together: meeting two lists compares each with each.
fn in_all(listed: usize, value: &Value) -> Result<usize, WardError> {
    let listed = listed + value.as_array().map_or(0, Vec::len);
    if listed > HOST_PATTERNS_MAX { Err(WardError::TooMany(listed)) } else { Ok(listed) }
}

fn known(name: &str) -> Result<&'static str, WardError> {
    let found = Wards::NAMES.iter().find(|known| **known == name);
    found.copied().ok_or_else(|| WardError::Unknown { name: name.chars().take(64).collect() })
}

fn number(name: &'static str, value: &Value) -> Result<u64, WardError> {
    whole_number(value).ok_or_else(|| WardError::Value {
        name,
        expected: "a whole number, 0 or more",
        got: described(value),
    })
}

fn flag(name: &'static str, value: &Value) -> Result<bool, WardError> {
    value.as_bool().ok_or_else(|| WardError::Value { name, expected: "true or false", got: described(value) })
}

fn names(name: &'static str, value: &Value) -> Result<BTreeSet<String>, WardError> {
    let wrong = |got: &Value| WardError::Value { name, expected: "a list of strings", got: described(got) };
    let list = value.as_array().ok_or_else(|| wrong(value))?;
    if list.len() > WARD_ENTRIES_MAX {
        return Err(WardError::TooMany(list.len()));
    }
    list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wrong(item))).collect()
}

impl Serialize for Wards {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Wards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WardsVisitor)
    }
}

struct WardsVisitor;

impl<'de> Visitor<'de> for WardsVisitor {
    type Value = Wards;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wards: an object such as {\"max_turns\": 10}, or a list of such objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wards, A::Error> {
        let mut wards = Wards::default();
        // Name and value are refused inside their own seeds, so that a format with positions points at the right one.
        while let Some(KnownName(name)) = map.next_key()? {
            map.next_value_seed(Tighten { name, wards: &mut wards })?;
        }
        Ok(wards)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Wards, A::Error> {
        let mut wards = Wards::default();
        let mut count = 0;
        while let Some(ObjectForm(entry)) = seq.next_element()? {
            count += 1;
            if count > WARD_ENTRIES_MAX {
                return Err(serde::de::Error::custom(WardError::TooMany(count)));
            }
            wards = wards.meet(&entry);
        }
        Ok(wards)
    }
}

/// One entry of the list form: an object, never again a list.
struct ObjectForm(Wards);

impl<'de> Deserialize<'de> for ObjectForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WardsVisitor).map(Self)
    }
}

struct KnownName(&'static str);

impl<'de> Deserialize<'de> for KnownName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        known(&name).map(Self).map_err(|error| serde::de::Error::custom(error.full_message()))
    }
}

struct Tighten<'a> {
    name: &'static str,
    wards: &'a mut Wards,
}

impl<'de> DeserializeSeed<'de> for Tighten<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let value = Value::deserialize(deserializer)?;
        let result = self.wards.tighten(self.name, &value);
        result.map_err(|error| serde::de::Error::custom(error.full_message()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: &Value, expected: &str) {
        let read = Wards::from_value(value).map_or_else(|error| error.full_message(), |wards| wards.to_string());
        assert!(read.contains(expected), "{value} gave {read}");
        let through_serde = serde_json::from_value::<Wards>(value.clone());
        let read = through_serde.map_or_else(|error| error.to_string(), |wards| wards.to_string());
        assert!(read.contains(expected), "{value} through serde gave {read}");
    }

    #[test]
    fn both_forms_are_read() {
        check(&json!({"max_turns": 10, "require_done_tool": true}), "max_turns 10, require_done_tool");
        check(&json!([{"max_turns": 10}, {"require_done_tool": true}]), "max_turns 10, require_done_tool");
        check(&json!([{"max_turns": 10}, {"max_turns": 3}]), "max_turns 3");
        check(&json!({"max_turns": 10.0}), "max_turns 10");
        check(&json!({"allow_hosts": ["*.b.net", "A.org"]}), "allow_hosts [*.b.net, a.org]");
        check(&json!({"child_gates": []}), "child_gates [(none)]");
        check(&json!([]), "");
        assert_eq!(Wards::from_value(&Value::Null), Ok(Wards::default()));
    }

    #[test]
    fn an_unknown_ward_is_named_with_what_is_allowed_and_the_nearest() {
        check(
            &json!({"max_turn": 10}),
            "unknown ward `max_turn`; did you mean `max_turns`?; allowed are max_turns, max_depth,",
        );
        check(&json!([{"max_turns": 1}, {"be_nice": true}]), "unknown ward `be_nice`; allowed are");
        assert!(Wards::from_value(&json!({"be_nice": 1})).expect_err("unknown").to_string().contains("allow_hosts"));
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_expected() {
        check(&json!({"max_turns": "ten"}), "ward `max_turns` takes a whole number, 0 or more, not the string \"ten\"");
        check(&json!({"max_turns": -1}), "not the number -1");
        check(&json!({"max_turns": 1.5}), "not the number 1.5");
        check(&json!({"max_turns": 1e300}), "ward `max_turns` takes a whole number");
        check(&json!({"require_done_tool": 1}), "ward `require_done_tool` takes true or false, not the number 1");
        check(&json!({"child_gates": "done"}), "ward `child_gates` takes a list of strings, not the string \"done\"");
        check(&json!({"child_media": [1]}), "not the number 1");
        check(&json!({"allow_hosts": ["http://x"]}), "ward `allow_hosts`: `http://x` is more than a host");
        check(&json!({"max_turns": null}), "not null");
    }

    #[test]
    fn other_shapes_are_refused() {
        for value in [json!("max_turns"), json!(1), json!([1]), json!([["max_turns"]])] {
            assert!(Wards::from_value(&value).is_err(), "{value}");
            assert!(serde_json::from_value::<Wards>(value.clone()).is_err(), "{value} through serde");
        }
        let many = Value::Array(vec![json!({"max_turns": 1}); WARD_ENTRIES_MAX + 1]);
        check(&many, "at most 256 entries, 257 came");
    }

    #[test]
    fn every_name_can_be_set_and_is_printed_in_order() {
        let mut object = serde_json::Map::new();
        for name in Wards::NAMES {
            let value = match *name {
                "require_done_tool" | "no_trifecta" => json!(true),
                "child_media" | "child_gates" | "allow_hosts" => json!(["a.b"]),
                _ => json!(7),
            };
            object.insert((*name).to_owned(), value);
        }
        let object = Value::Object(object);
        let wards = Wards::from_value(&object).expect("all of them");
        assert_eq!(wards.iter().map(|(name, _)| name).collect::<Vec<_>>(), Wards::NAMES);
        assert_eq!(wards.to_json(), object);
    }
}
