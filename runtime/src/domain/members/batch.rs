//! Everything that a store has of one loom, for whoever decides by it.
//!
//! A store fills it in and cannot look into it again: what of it counts is what the [`Reader`] says, and nobody else opens it. Who
//! copies, exports or verifies a record reads its logs another way, and decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::facts::ends_named;
use super::known::Known;
use super::proved::CheckedProof;
use super::reader::Reader;
use super::record::{CheckedRecord, CheckedSuccession, MemberRecord, Vouched, relied_on};
use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::ADMISSION_DEPTH_MAX;
use crate::domain::loom::{Body, CastHead, CastUnit, EquivocationProof, Head, Sealed};
use crate::domain::steps;

/// Everything that a store has of one loom.
#[derive(Debug)]
pub struct Batch {
    loom: LoomId,
    own: WriterKey,
    entries: Vec<Sealed>,
    logs: Vec<WriterKey>,
    proved: Vec<CheckedProof>,
    casts: Vec<CastHead>,
    proofs: Vec<EquivocationProof>,
    vouched: Vouched,
    founder: Option<CheckedRecord>,
    parts: Vec<LogPart>,
    /// Whether all entries belong to the parts.
    is_partial: bool,
}

/// Of one writer's log, or of what it has written of a cast, the ids of all entries from the first on up to a head that it has signed,
/// and some of the entries.
#[derive(Debug)]
pub struct LogPart {
    /// Whose.
    pub writer: WriterKey,
    /// The root of the cast, if it is one.
    pub cast: Option<EntityId>,
    /// Each entry with its place in the log.
    pub ids: Vec<(u64, EntryId)>,
    /// Those that are here.
    pub entries: Vec<Sealed>,
}

impl Batch {
    /// Of a loom that is not kept here, parts of logs that were checked: what their entries say is shown.
    pub fn of_parts(loom: LoomId, vouched: Vouched, mut parts: Vec<LogPart>) -> Self {
        let entries = parts.iter_mut().flat_map(|part| std::mem::take(&mut part.entries)).collect();
        // Nobody has this key.
        let none = Self::new(loom, WriterKey::from_bytes([0; 32]), entries, vouched);
        Self { parts, is_partial: true, ..none }
    }

    /// With the entries of a loom: first the log of the store's own key from its first entry, then what came from others as it came.
    pub fn new(loom: LoomId, own: WriterKey, entries: Vec<Sealed>, vouched: Vouched) -> Self {
        let (logs, casts, proved, proofs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (founder, parts, is_partial) = (None, Vec::new(), false);
        Self { loom, own, entries, logs, proved, casts, proofs, vouched, founder, parts, is_partial }
    }

    /// Of these writers there are logs here, from the first entry on and taken only as far as their writers have signed them.
    #[must_use]
    pub fn with_logs(mut self, writers: impl IntoIterator<Item = WriterKey>) -> Self {
        self.logs.extend(writers);
        self
    }

    /// With single entries of logs that are not here.
    #[must_use]
    pub fn with_proved(mut self, proved: impl IntoIterator<Item = CheckedProof>) -> Self {
        self.proved.extend(proved);
        self
    }

    /// What is here of casts that others ran, up to these heads, whose signatures were checked when they came.
    #[must_use]
    pub fn with_casts(mut self, heads: impl IntoIterator<Item = CastHead>) -> Self {
        let of_loom = heads.into_iter().filter(|head| head.loom == self.loom);
        self.casts.extend(of_loom);
        self
    }

    /// These writers are proved to have signed two histories.
    #[must_use]
    pub fn with_proofs(mut self, proofs: impl IntoIterator<Item = EquivocationProof>) -> Self {
        let of_loom = proofs.into_iter().filter(|proof| proof.loom == self.loom);
        self.proofs.extend(of_loom);
        self
    }

    /// Adds proved entries that somebody shows, and what vouches for their writers' keys.
    #[must_use]
    pub fn with_shown(self, proved: impl IntoIterator<Item = CheckedProof>, vouched: Vouched) -> Self {
        let shown = Self::new(self.loom, self.own, Vec::new(), vouched).with_proved(proved);
        self.joined_with(shown)
    }

    /// With what another store of the same node has of the loom.
    #[must_use]
    pub fn joined_with(mut self, mut other: Self) -> Self {
        if other.is_partial {
            // Its entries are in no log of this one: they go on behind a gap, or beside it.
            let entries = std::mem::take(&mut other.entries);
            let (writer, cast, ids) = (other.own, None, Vec::new());
            self.parts.push(LogPart { writer, cast, ids, entries });
        }
        self.parts.extend(other.parts);
        self.entries.extend(other.entries);
        self.logs.extend(other.logs);
        self.casts.extend(other.casts);
        self.proved.extend(other.proved);
        self.proofs.extend(other.proofs);
        self.vouched.records.extend(other.vouched.records);
        self.vouched.successions.extend(other.vouched.successions);
        self.founder = self.founder.or(other.founder);
        self
    }

    /// Checks the member record in the founding entry, if there is one: the founder is its node then.
    #[must_use]
    pub fn with_founder(mut self, check: impl FnOnce(&MemberRecord) -> Option<CheckedRecord>) -> Self {
        self.founder = self.founding_record().as_ref().and_then(check);
        self
    }

    fn founding_record(&self) -> Option<MemberRecord> {
        let proved = self.proved.iter().map(CheckedProof::sealed);
        let parts = self.parts.iter().flat_map(|part| &part.entries);
        let mut founding = self.entries.iter().chain(parts).chain(proved).filter(|sealed| sealed.entry.sequence == 1);
        founding.find_map(|sealed| {
            let Body::Founded { nonce, member: Some(member) } = &sealed.entry.body else { return None };
            let is_its = self.loom.is_minted_by(&sealed.entry.writer, nonce, Some(member));
            MemberRecord::parse(member).ok().filter(|_| is_its)
        })
    }

    /// The entries, in the order of the store.
    pub(in crate::domain) fn entries(&self) -> &[Sealed] {
        &self.entries
    }

    fn known(&self) -> Known<'_> {
        let mut known = Known::new(self.loom, self.vouched.clone());
        if let Some(founder) = &self.founder {
            known.founded_by(founder.clone());
        }
        let before = |key| {
            let of_key = self.vouched.successions.iter().filter(|it| it.successor() == key);
            Ok::<_, std::convert::Infallible>(of_key.map(CheckedSuccession::predecessor).collect())
        };
        for key in relied_on(self.own, before).unwrap_or_default() {
            known.is_here(key);
        }
        for part in &self.parts {
            known.part(part.writer, part.cast, &part.ids, &part.entries);
        }
        if self.is_partial {
            known.entries.extend(&self.entries);
        }
        let mut others: BTreeMap<WriterKey, Vec<&Sealed>> = BTreeMap::new();
        let mut own = Vec::new();
        for sealed in &self.entries {
            match sealed.entry.writer {
                writer if writer == self.own => own.push(sealed),
                writer => others.entry(writer).or_default().push(sealed),
            }
        }
        let (covered, named) = (own.len(), self.named_casts());
        let none = BTreeSet::new();
        let mut casts = Vec::new();
        casts.push((self.own, casts_within(&own, named.get(&self.own).unwrap_or(&none))));
        known.log(self.own, own, covered);
        for writer in &self.logs {
            // What came outside of its log, as a part of a cast, goes on behind a gap.
            let log: Vec<&Sealed> = others.get(writer).map(|all| log_of(all)).unwrap_or_default();
            let covered = log.len();
            if covered > 0 {
                casts.push((*writer, casts_within(&log, named.get(writer).unwrap_or(&none))));
                known.log(*writer, log, covered);
            }
        }
        for (writer, casts) in casts {
            for (root, cast) in casts {
                let covered = cast.len();
                known.cast(writer, root, Head::default(), cast, covered);
            }
        }
        self.proved.iter().for_each(|proved| known.proved(proved));
        for head in &self.casts {
            let cast = others.get(&head.writer).map(|all| cast_of(all, head)).unwrap_or_default();
            let covered = cast.len();
            if covered > 0 {
                known.cast(head.writer, head.cast, Head::default(), cast, covered);
            }
        }
        for proof in &self.proofs {
            known.divides(proof);
        }
        known
    }
}

impl Batch {
    /// The casts of which an entry names a place: whoever has a writer's log finds them in there.
    fn named_casts(&self) -> BTreeMap<WriterKey, BTreeSet<EntityId>> {
        let mut named: BTreeMap<WriterKey, BTreeSet<EntityId>> = BTreeMap::new();
        for sealed in &self.entries {
            for end in ends_named(sealed) {
                if let Some(cast) = end.cast {
                    named.entry(end.writer).or_default().insert(cast);
                }
            }
        }
        named
    }
}

/// Of a log the entries of some casts, as its writer chains them for each.
pub(super) fn casts_within<'a>(log: &[&'a Sealed], roots: &BTreeSet<EntityId>) -> BTreeMap<EntityId, Vec<&'a Sealed>> {
    let mut found: BTreeMap<EntityId, Vec<&'a Sealed>> = BTreeMap::new();
    if roots.is_empty() {
        return found;
    }
    let mut of: HashMap<EntityId, BTreeSet<EntityId>> = roots.iter().map(|root| (*root, [*root].into())).collect();
    for sealed in log {
        let Some(entity) = sealed.entry.entity else { continue };
        let above = if let Body::Opened(opened) = &sealed.entry.body { opened.spawned_by } else { None };
        let casts = [Some(entity), above].into_iter().flatten().filter_map(|it| of.get(&it)).flatten();
        // So deep a cast of a cast is admitted by nobody.
        let casts: BTreeSet<EntityId> = casts.copied().take(ADMISSION_DEPTH_MAX as usize).collect();
        if casts.is_empty() {
            continue;
        }
        steps::count(casts.len() as u64);
        for cast in &casts {
            found.entry(*cast).or_default().push(sealed);
        }
        if let Body::Delegated { child, .. } = &sealed.entry.body {
            of.entry(*child).or_default().extend(&casts);
        }
        of.insert(entity, casts);
    }
    found
}

/// Of the entries of a writer those of a cast, up to a head.
fn cast_of<'a>(all: &[&'a Sealed], head: &CastHead) -> Vec<&'a Sealed> {
    let along = |by_place: &BTreeMap<u64, &'a Sealed>| -> Option<Vec<&'a Sealed>> {
        let mut unit = CastUnit::of(head.cast);
        let up_to = by_place.range(..=head.at.place).map(|(_, sealed)| *sealed);
        let cast = up_to.filter(|sealed| unit.takes(sealed)).collect();
        // What is here has to be what was signed: else a part of it is missing, and nothing of it is covered.
        (unit.at() == head.at).then_some(cast)
    };
    let mut by_place: BTreeMap<u64, &'a Sealed> = BTreeMap::new();
    let mut others: BTreeMap<u64, &'a Sealed> = BTreeMap::new();
    for sealed in all {
        let first = by_place.entry(sealed.entry.sequence).or_insert(sealed);
        if first.id != sealed.id {
            others.insert(sealed.entry.sequence, sealed);
        }
    }
    along(&by_place)
        .or_else(|| {
            // Where the log has other entries at some places, the cast is the other of two ways.
            let is_divided = !others.is_empty();
            by_place.extend(others);
            along(&by_place).filter(|_| is_divided)
        })
        .unwrap_or_default()
}

/// Of the entries of a writer those that follow one another from the first on.
fn log_of<'a>(all: &[&'a Sealed]) -> Vec<&'a Sealed> {
    let mut by_place: BTreeMap<u64, &'a Sealed> = BTreeMap::new();
    for sealed in all {
        by_place.entry(sealed.entry.sequence).or_insert(sealed);
    }
    (1..).zip(by_place).take_while(|(place, (at, _))| place == at).map(|(_, (_, sealed))| sealed).collect()
}

impl<'a> Reader<'a> {
    /// Reads what a store has of a loom.
    pub fn of(batch: &'a Batch) -> Self {
        Self::new(&batch.known())
    }
}
