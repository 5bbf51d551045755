//! Entries by number, and what of them matters for who may have written them.

use std::collections::HashMap;

use super::terms::{Admitted, Expelled, LogEnd, Settled};
use crate::domain::ids::{EntityId, EntryId, WriterKey};
use crate::domain::loom::{Body, Opened, Sealed};

/// An entry by its place in a list.
pub(super) type Ix = u32;

/// What an entry is, as far as that decides whether it counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind<'a> {
    Founded,
    Opened(&'a Opened),
    /// A new episode.
    Intent,
    /// Whatever goes on with an episode: it relies on what its entity's newest deciding entry names.
    Step,
    Delegated(EntityId),
    Adopted {
        epoch: u64,
        last: Option<&'a LogEnd>,
    },
    Settled(&'a Settled),
    Admitted(&'a Admitted),
    Expelled(&'a Expelled),
    Rewarded(&'a [EntryId]),
    /// Says something about a thread and is no part of it.
    Remark,
    Keeping,
    /// Something about the loom as a whole that a later version wrote.
    Later,
}

impl Kind<'_> {
    /// Whether the admission that it relies on is the one that it names.
    pub(super) const fn names_its_basis(self) -> bool {
        !matches!(self, Self::Step | Self::Delegated(_))
    }

    pub(super) const fn is_membership(self) -> bool {
        matches!(self, Self::Admitted(_) | Self::Expelled(_))
    }
}

/// What an entry is.
pub(super) fn kind(sealed: &Sealed) -> Kind<'_> {
    match &sealed.entry.body {
        Body::Founded { .. } => Kind::Founded,
        Body::Opened(opened) => Kind::Opened(opened),
        Body::Intent(intent) if !intent.steer => Kind::Intent,
        Body::Delegated { child, .. } => Kind::Delegated(*child),
        Body::Adopted { epoch, last, .. } => Kind::Adopted { epoch: *epoch, last: last.as_ref() },
        Body::Settled(settled) => Kind::Settled(settled),
        Body::Admitted(admitted) => Kind::Admitted(admitted),
        Body::Expelled(expelled) => Kind::Expelled(expelled),
        Body::Rewarded { ends, .. } => Kind::Rewarded(ends),
        Body::Replayed { .. } => Kind::Remark,
        Body::Keeping { .. } => Kind::Keeping,
        Body::Unknown(_) if sealed.entry.entity.is_none() => Kind::Later,
        Body::Intent(_)
        | Body::Utterance(_)
        | Body::GateCalled { .. }
        | Body::GateReturned { .. }
        | Body::Observation(_)
        | Body::Snapshot { .. }
        | Body::Folded { .. }
        | Body::Decided(_)
        | Body::Ended(_)
        | Body::Unknown(_) => Kind::Step,
    }
}

/// Whether an entry may change what anybody may do in the whole loom.
pub fn changes_members(sealed: &Sealed) -> bool {
    if let Kind::Admitted(admitted) = kind(sealed) {
        return admitted.scope.is_none();
    }
    matches!(kind(sealed), Kind::Founded | Kind::Expelled(_) | Kind::Later)
}

/// The places in logs and casts that an entry names.
pub(super) fn ends_named(sealed: &Sealed) -> &[LogEnd] {
    match kind(sealed) {
        Kind::Adopted { last, .. } => last.map(std::slice::from_ref).unwrap_or_default(),
        Kind::Settled(settled) => settled.ends.as_slice(),
        Kind::Expelled(expelled) => expelled.ends.as_slice(),
        Kind::Founded
        | Kind::Opened(_)
        | Kind::Intent
        | Kind::Step
        | Kind::Delegated(_)
        | Kind::Admitted(_)
        | Kind::Rewarded(_)
        | Kind::Remark
        | Kind::Keeping
        | Kind::Later => &[],
    }
}

/// The entity whose owner an entry has to be by; nothing for what is about members, or about the loom.
pub(super) fn entity(sealed: &Sealed) -> Option<EntityId> {
    if kind(sealed).is_membership() { None } else { sealed.entry.entity }
}

/// The entries of a loom, each once.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    entries: Vec<&'a Sealed>,
    numbers: HashMap<EntryId, Ix>,
    /// Of each entry the writer, by its place in the list of keys.
    writers: Vec<usize>,
    keys: Vec<WriterKey>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(all: &[&'a Sealed]) -> Self {
        let (entries, writers) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        let mut facts = Self { entries, numbers: HashMap::with_capacity(all.len()), writers, keys: Vec::new() };
        let (mut keys, mut last) = (HashMap::new(), None);
        for sealed in all {
            let next = u32::try_from(facts.entries.len()).unwrap_or(u32::MAX);
            if *facts.numbers.entry(sealed.id).or_insert(next) != next {
                continue;
            }
            facts.entries.push(sealed);
            let key = sealed.entry.writer;
            let number = match last {
                Some((held, number)) if held == key => number,
                Some(_) | None => *keys.entry(key).or_insert_with(|| {
                    facts.keys.push(key);
                    facts.keys.len() - 1
                }),
            };
            last = Some((key, number));
            facts.writers.push(number);
        }
        facts
    }

    pub(super) fn get(&self, entry: Ix) -> Option<&'a Sealed> {
        self.entries.get(usize::try_from(entry).ok()?).copied()
    }

    pub(super) fn number(&self, id: EntryId) -> Option<Ix> {
        self.numbers.get(&id).copied()
    }

    pub(super) fn find(&self, id: EntryId) -> Option<(Ix, &'a Sealed)> {
        let entry = self.number(id)?;
        Some((entry, self.get(entry)?))
    }

    pub(super) fn writer(&self, entry: Ix) -> Option<WriterKey> {
        self.get(entry).map(|sealed| sealed.entry.writer)
    }

    /// The keys of all writers.
    pub(super) fn keys(&self) -> &[WriterKey] {
        &self.keys
    }

    /// Which of the keys has written an entry.
    pub(super) fn key_number(&self, entry: Ix) -> usize {
        usize::try_from(entry).ok().and_then(|entry| self.writers.get(entry)).copied().unwrap_or(usize::MAX)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Ix, &'a Sealed)> + '_ {
        (0..).zip(self.entries.iter().copied())
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
