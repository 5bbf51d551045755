//! What an entry has that this version does not know: kept as it is, and written again.
//!
//! The fast way is in `entry.rs`: what is decoded and encoded again has the same bytes. Here is the slow one, for entries of later
//! versions: they are read as plain data, and what the typed entry lacks is remembered with its place.

use ipld_core::ipld::Ipld;
use serde::Deserialize;
use thiserror::Error;

use super::body::{Body, Unknown};
use super::entry::{Entry, EntryError, FORMAT};
use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::short;

/// The field of an entry that says what happened.
const BODY: &str = "body";

/// A step from a value to one in it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// What an entry has beside what this version knows of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Others(Vec<(Vec<Step>, Ipld)>);

/// What was beside a value has no place in it any more.
#[derive(Debug, Error)]
#[error("what a later version has added to the entry has no place in it any more")]
struct Displaced;

impl Others {
    /// Whether this version knows all of the entry.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the entry itself has, outside of its body.
    pub fn of_entry(&self) -> impl Iterator<Item = (&str, &Ipld)> {
        self.0.iter().filter_map(|(path, value)| match path.as_slice() {
            [Step::Key(key)] => Some((key.as_str(), value)),
            _ => None,
        })
    }

    /// The keys that a field of the body has, where that is a map.
    pub fn of_field(&self, field: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(move |(path, _)| match path.as_slice() {
            [Step::Key(body), Step::Key(of), Step::Key(key)] if body == BODY && of == field => Some(key.as_str()),
            _ => None,
        })
    }

    /// The body with what is beside it.
    pub(super) fn put_into_body(&self, body: &mut Ipld) -> Result<(), EntryError> {
        let of_body = self.0.iter().filter_map(|(path, value)| match path.split_first() {
            Some((Step::Key(key), rest)) if key == BODY => Some((rest, value)),
            _ => None,
        });
        for (path, value) in of_body {
            put(body, path, value)?;
        }
        Ok(())
    }
}

/// The bytes of an entry, with all that is beside what this version knows.
pub(super) fn encode(entry: &Entry) -> Result<Vec<u8>, EntryError> {
    if entry.others.is_empty() {
        return serde_ipld_dagcbor::to_vec(entry).map_err(|error| EntryError::Encode(Box::new(error)));
    }
    let mut whole = ipld_core::serde::to_ipld(entry).map_err(|error| EntryError::Encode(Box::new(error)))?;
    for (path, value) in &entry.others.0 {
        put(&mut whole, path, value)?;
    }
    serde_ipld_dagcbor::to_vec(&whole).map_err(|error| EntryError::Encode(Box::new(error)))
}

fn put(whole: &mut Ipld, path: &[Step], value: &Ipld) -> Result<(), EntryError> {
    let displaced = || EntryError::Encode(Box::new(Displaced));
    let (first, rest) = path.split_first().ok_or_else(displaced)?;
    match (whole, first) {
        (Ipld::Map(map), Step::Key(key)) if rest.is_empty() => match map.insert(key.clone(), value.clone()) {
            None => Ok(()),
            Some(_) => Err(displaced()),
        },
        (Ipld::Map(map), Step::Key(key)) => put(map.get_mut(key).ok_or_else(displaced)?, rest, value),
        (Ipld::List(list), Step::Index(index)) => put(list.get_mut(*index).ok_or_else(displaced)?, rest, value),
        _ => Err(displaced()),
    }
}

/// The version that bytes say they have, whatever else they are.
pub(super) fn format(bytes: &[u8]) -> Option<u16> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u16,
    }

    serde_ipld_dagcbor::from_slice::<Versioned>(bytes).ok().map(|versioned| versioned.v)
}

/// Everything of an entry but what happened.
#[derive(Deserialize)]
struct Around {
    v: u16,
    loom: LoomId,
    writer: WriterKey,
    seq: u64,
    at: u64,
    #[serde(default)]
    entity: Option<EntityId>,
    parent: Option<EntryId>,
    #[serde(default)]
    relies: Option<EntryId>,
    #[serde(default)]
    was: Option<EntryId>,
}

/// Reads an entry that a later version wrote. `typed` is what this version reads in it, or why it reads nothing.
///
/// # Errors
/// Bytes that are no entry of this format, or not in canonical form.
pub(super) fn read(bytes: &[u8], typed: Result<Entry, EntryError>) -> Result<Entry, EntryError> {
    let decode = |error| EntryError::Decode(Box::new(error));
    let whole: Ipld = serde_ipld_dagcbor::from_slice(bytes).map_err(decode)?;
    let again = serde_ipld_dagcbor::to_vec(&whole).map_err(|error| EntryError::Encode(Box::new(error)))?;
    if again != bytes {
        return Err(EntryError::NotCanonical);
    }
    let mut entry = match typed {
        Ok(entry) => entry,
        Err(error) => of_unknown_kind(bytes, &whole).ok_or(error)?,
    };
    let known = ipld_core::serde::to_ipld(&entry).map_err(|error| EntryError::Encode(Box::new(error)))?;
    let mut others = Others::default();
    if !beyond(&whole, &known, &mut Vec::new(), &mut others.0) {
        return Err(EntryError::NotCanonical);
    }
    entry.others = others;
    Ok(entry)
}

/// An entry whose body this version cannot read: of a kind that it does not know, or that has become another.
fn of_unknown_kind(bytes: &[u8], whole: &Ipld) -> Option<Entry> {
    let around: Around = serde_ipld_dagcbor::from_slice(bytes).ok()?;
    if around.v != FORMAT {
        return None;
    }
    let Ipld::Map(map) = whole else { return None };
    let value = map.get(BODY)?.clone();
    let Ipld::Map(fields) = &value else { return None };
    let Some(Ipld::String(kind)) = fields.get("kind") else { return None };
    // It is shown; the value has all of it.
    let kind = short::name(kind.clone());
    let body = Body::Unknown(Box::new(Unknown { kind, value }));
    let place = (around.writer, around.seq);
    let entry = Entry::new(around.loom, place, around.at, around.entity, around.parent, body);
    Some(Entry { relies: around.relies, was: around.was, ..entry })
}

/// Finds what the whole has and the known part lacks. Returns false where they differ in anything else.
fn beyond(whole: &Ipld, known: &Ipld, path: &mut Vec<Step>, found: &mut Vec<(Vec<Step>, Ipld)>) -> bool {
    match (whole, known) {
        (Ipld::Map(whole), Ipld::Map(known)) => {
            known.keys().all(|key| whole.contains_key(key))
                && whole.iter().all(|(key, value)| {
                    path.push(Step::Key(key.clone()));
                    let fits = if let Some(known) = known.get(key) {
                        beyond(value, known, path, found)
                    } else {
                        found.push((path.clone(), value.clone()));
                        true
                    };
                    path.pop();
                    fits
                })
        }
        (Ipld::List(whole), Ipld::List(known)) => {
            whole.len() == known.len()
                && whole.iter().zip(known).enumerate().all(|(index, (value, known))| {
                    path.push(Step::Index(index));
                    let fits = beyond(value, known, path, found);
                    path.pop();
                    fits
                })
        }
        (whole, known) => whole == known,
    }
}
