//! An archive on its way into a record.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::blocks::{CODEC_DAG_CBOR, CODEC_RAW};
use super::survey::Keeping;
use super::{Archived, CarError, LeftOut, LeftWhy, Manifest, Step};
use crate::domain::ids::{BlobId, EntityId, EntryId, WriterKey};
use crate::domain::limits::{ARCHIVE_BLOCK_COST_BYTES, ARCHIVE_HELD_BYTES_MAX, NEAR_UNCOVERED_ENTRIES_MAX};
use crate::domain::loom::{
    CastBatch, CastHead, CastStream, EquivocationProof, Head, Sealed, Segment, SignedHead, text_ids,
};
use crate::domain::members::{Attestation, CheckedProof};
use crate::ports::{CopyStore, StoreError, Taken};

/// What is taken in one step: the stretch of a log, or what came by a cast with the heads over it.
enum Part {
    Stretch {
        from: Head,
        signed: SignedHead,
        entries: Vec<EntryId>,
    },
    Cast {
        step: Step,
        /// Those of its entries that no part before has.
        own: Vec<EntryId>,
    },
    Proved(EntryId),
}

impl Part {
    fn entries(&self) -> &[EntryId] {
        match self {
            Self::Stretch { entries, .. } => entries,
            Self::Cast { own, .. } => own,
            Self::Proved(id) => std::slice::from_ref(id),
        }
    }
}

/// It holds the blocks of the part that is due, and those that came too early; each block of
/// the archive once.
pub(super) struct Import<'a> {
    pub(super) store: &'a dyn CopyStore,
    pub(super) archived: Archived,
    /// What is taken; nothing: all that holds.
    pub(super) keeping: Option<Keeping>,
    /// Entries of logs that are left out and have not come.
    skipped: HashSet<[u8; 32]>,
    /// The writers of whom nothing more is taken.
    stopped: HashMap<WriterKey, LeftWhy>,
    /// The casts of which a step was left out: what is behind it does not hold.
    cut: BTreeSet<(WriterKey, EntityId)>,
    /// Why nothing more is taken of casts.
    broken: Option<LeftWhy>,
    /// Texts that only steps name that were left out.
    loose: HashSet<[u8; 32]>,
    /// What the store has of casts, and what has come.
    casts: CastStream,
    /// What is left to take, the next one first.
    parts: VecDeque<Part>,
    /// How many of the entries of the next part have not come.
    missing: usize,
    /// The texts of the next part that have not come, once all its entries have.
    lacking: Option<HashSet<[u8; 32]>>,
    /// The part of each entry that has not come yet, by the order in which parts are taken.
    wanted: HashMap<[u8; 32], u64>,
    taken_parts: u64,
    seen: HashSet<[u8; 32]>,
    pub(super) entries: HashMap<[u8; 32], Vec<u8>>,
    texts: HashMap<[u8; 32], Vec<u8>>,
    kept_texts: HashSet<[u8; 32]>,
    pub(super) held_bytes: usize,
    /// What vouches for keys: kept once everything has come that relies on it, and of whose entries there are some.
    pub(super) attestations: Vec<Attestation>,
    pub(super) writers: HashSet<WriterKey>,
    /// Everybody whom the archive names as a writer.
    pub(super) named: HashSet<WriterKey>,
    pub(super) divided: Vec<EquivocationProof>,
    /// Proved entries that are to be kept.
    pub(super) proved: Vec<CheckedProof>,
    pub(super) proved_bytes: usize,
}

impl<'a> Import<'a> {
    pub(super) fn of(
        store: &'a dyn CopyStore,
        manifest: Manifest,
        mut keeping: Option<Keeping>,
    ) -> Result<Self, CarError> {
        let loom = manifest.loom;
        let (attestations, proved, divided) = (manifest.attestations()?, manifest.proofs()?, manifest.divided()?);
        let mut parts = VecDeque::new();
        let (mut named, mut skipped, mut wanted) = (HashSet::new(), HashSet::new(), HashMap::new());
        for log in manifest.logs {
            if !named.insert(log.writer) {
                return Err(CarError::Malformed(format!("it has two logs of writer {}", log.writer)));
            }
            let taken = keeping.as_ref().map(|keeping| keeping.stretches.get(&log.writer).copied().unwrap_or_default());
            let heads = log.heads(loom)?;
            for (at, ((from, signed), stretch)) in heads.into_iter().zip(log.stretches).enumerate() {
                let is_taken = taken.is_none_or(|taken| at < taken);
                for id in &stretch.entries {
                    let is_first = !wanted.contains_key(&id.digest()) && !skipped.contains(&id.digest());
                    if !is_first {
                        return Err(CarError::Malformed(format!("it names the entry {id} twice")));
                    }
                    if is_taken {
                        wanted.insert(id.digest(), parts.len() as u64);
                    } else {
                        skipped.insert(id.digest());
                    }
                }
                if is_taken {
                    parts.push_back(Part::Stretch { from, signed, entries: stretch.entries });
                }
            }
        }
        for step in manifest.casts {
            if step.entries.is_empty() || step.entries.len() > NEAR_UNCOVERED_ENTRIES_MAX {
                let entries = step.entries.len();
                return Err(CarError::Malformed(format!(
                    "a step of a cast has {entries} entries, and it may have 1 to {NEAR_UNCOVERED_ENTRIES_MAX}"
                )));
            }
            let number = parts.len() as u64;
            let mut own = Vec::new();
            for id in &step.entries {
                skipped.remove(&id.digest());
                if let Slot::Vacant(free) = wanted.entry(id.digest()) {
                    free.insert(number);
                    own.push(*id);
                }
            }
            parts.push_back(Part::Cast { step, own });
        }
        for id in proved {
            if wanted.insert(id.digest(), parts.len() as u64).is_some() {
                return Err(CarError::Malformed(format!("it names the entry {id} twice")));
            }
            parts.push_back(Part::Proved(id));
        }
        let mut casts = CastStream::of_all(loom, store.writer());
        store.steps_received(loom, &mut |entries, heads| {
            casts.restore(&entries, &heads);
            Ok(())
        })?;
        casts.connected();
        let mut archived = Archived::of(loom);
        if let Some(keeping) = &mut keeping {
            archived.left_out = std::mem::take(&mut keeping.left_out);
            archived.founder = keeping.founder.take();
        }
        let missing = parts.front().map_or(0, |part| part.entries().len());
        Ok(Self {
            store,
            archived,
            keeping,
            skipped,
            stopped: HashMap::new(),
            cut: BTreeSet::new(),
            broken: None,
            loose: HashSet::new(),
            casts,
            parts,
            missing,
            lacking: None,
            wanted,
            taken_parts: 0,
            seen: HashSet::new(),
            entries: HashMap::new(),
            texts: HashMap::new(),
            kept_texts: HashSet::new(),
            held_bytes: 0,
            attestations,
            writers: HashSet::new(),
            named,
            divided,
            proved: Vec::new(),
            proved_bytes: 0,
        })
    }

    /// Takes a block in.
    pub(super) fn take(&mut self, number: u64, codec: u64, digest: [u8; 32], bytes: Vec<u8>) -> Result<(), CarError> {
        if !self.seen.insert(digest) {
            return Err(CarError::Malformed(format!("block {number} is in it a second time")));
        }
        self.held_bytes = self.held_bytes.saturating_add(cost(&bytes));
        match (codec, self.wanted.remove(&digest)) {
            (CODEC_DAG_CBOR, Some(part)) => {
                self.missing -= usize::from(part == self.taken_parts);
                self.entries.insert(digest, bytes);
            }
            (CODEC_DAG_CBOR, None) if self.skipped.remove(&digest) => {
                self.held_bytes = self.held_bytes.saturating_sub(cost(&bytes));
            }
            (CODEC_RAW, None) if self.keeping.as_ref().is_some_and(|keeping| keeping.texts.contains(&digest)) => {
                self.held_bytes = self.held_bytes.saturating_sub(cost(&bytes));
            }
            (CODEC_RAW, None) => {
                if let Some(lacking) = &mut self.lacking {
                    lacking.remove(&digest);
                }
                self.texts.insert(digest, bytes);
            }
            _ => return Err(CarError::Malformed(format!("block {number} is named by nothing in it"))),
        }
        // Texts come before the entry that names them, so little more waits than one stretch has.
        if self.held_bytes > ARCHIVE_HELD_BYTES_MAX {
            return Err(out_of_order(self.held_bytes));
        }
        Ok(())
    }

    /// Takes the parts whose entries have all come.
    pub(super) fn go_on(&mut self) -> Result<(), CarError> {
        while self.missing == 0 {
            let Some(part) = self.parts.front() else { return Ok(()) };
            let lacking = self.lacking.take().unwrap_or_else(|| self.lacks(part));
            if !lacking.is_empty() {
                self.lacking = Some(lacking);
                return Ok(());
            }
            let Some(part) = self.parts.pop_front() else { return Ok(()) };
            match part {
                Part::Stretch { from, signed, entries } => self.stretch(from, signed, &entries)?,
                Part::Cast { step, own } => self.cast(&step, &own)?,
                Part::Proved(id) => self.proof(&id)?,
            }
            self.taken_parts += 1;
            let next = self.parts.front();
            self.missing = next
                .map_or(0, |part| part.entries().iter().filter(|id| !self.entries.contains_key(&id.digest())).count());
        }
        Ok(())
    }

    /// The texts that the entries of a part name and that have not come.
    fn lacks(&self, part: &Part) -> HashSet<[u8; 32]> {
        let entries = part.entries().iter().filter_map(|id| self.entries.get(&id.digest()));
        let texts = entries.flat_map(|bytes| text_ids(bytes)).map(|id| id.digest());
        texts.filter(|digest| !self.texts.contains_key(digest) && !self.kept_texts.contains(digest)).collect()
    }

    fn entry(&mut self, id: &EntryId) -> Result<Vec<u8>, CarError> {
        let bytes = self.entries.remove(&id.digest()).ok_or_else(|| CarError::Missing(format!("the entry {id}")))?;
        self.held_bytes = self.held_bytes.saturating_sub(cost(&bytes));
        self.archived.entries += 1;
        Ok(bytes)
    }

    /// Keeps the texts of an entry that are not kept yet.
    fn keep_texts(&mut self, entry: &[u8]) -> Result<(), CarError> {
        text_ids(entry).iter().try_for_each(|id| self.keep_text(id))
    }

    fn keep_text(&mut self, id: &BlobId) -> Result<(), CarError> {
        if let Some(text) = self.texts.remove(&id.digest()) {
            self.held_bytes = self.held_bytes.saturating_sub(cost(&text));
            self.store.keep_text(&text)?;
            self.kept_texts.insert(id.digest());
            self.archived.texts += 1;
        }
        Ok(())
    }

    pub(super) fn leave_out(&mut self, writer: WriterKey, entries: u64, why: LeftWhy) {
        let known = self.archived.left_out.iter_mut().find(|known| known.writer == writer && known.why == why);
        match known {
            Some(known) => known.entries = known.entries.saturating_add(entries),
            None => self.archived.left_out.push(LeftOut { writer, entries, why }),
        }
    }

    /// Lets go of entries that are left out, and of the texts that they name.
    fn let_go(&mut self, ids: &[EntryId]) -> Result<(), CarError> {
        for id in ids {
            let bytes = self.entry(id)?;
            self.archived.entries = self.archived.entries.saturating_sub(1);
            self.loose.extend(text_ids(&bytes).iter().map(BlobId::digest));
        }
        Ok(())
    }

    fn stretch(&mut self, from: Head, signed: SignedHead, ids: &[EntryId]) -> Result<(), CarError> {
        let writer = signed.writer;
        if let Some(why) = self.stopped.get(&writer).cloned() {
            self.leave_out(writer, ids.len() as u64, why);
            return self.let_go(ids);
        }
        let entries = ids.iter().map(|id| self.entry(id)).collect::<Result<Vec<_>, _>>()?;
        let segment = Segment { from, entries, blobs: Vec::new(), signed };
        // The texts of what is not as it was signed are not kept either.
        let checked = segment.check().map_err(|source| CarError::Log { writer, source })?;
        let count = checked.entries().len() as u64;
        for sealed in checked.entries() {
            self.rely_on(sealed);
            self.keep_texts(&sealed.bytes)?;
        }
        match self.store.take(checked) {
            Ok(Taken::New(new)) => self.archived.new += new,
            Ok(Taken::Known) => {}
            Ok(Taken::Gap(at)) => {
                return Err(CarError::Malformed(format!("a stretch behind entry {at} of {writer} is missing")));
            }
            // This node wrote it itself, and has it.
            Err(StoreError::Foreign { .. }) if writer == self.store.writer() => {}
            Err(StoreError::Forked { proof, .. }) if self.keeping.is_some() => {
                self.store.accuse(&proof)?;
                self.stop(writer, count);
            }
            Ok(Taken::Divided) | Err(StoreError::Cheater { .. }) if self.keeping.is_some() => self.stop(writer, count),
            Ok(Taken::Divided) => {
                let what = format!("a stretch of {writer} goes on from another history than what is here");
                return Err(CarError::Malformed(what));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes nothing more of a writer with two histories.
    fn stop(&mut self, writer: WriterKey, entries: u64) {
        self.archived.entries = self.archived.entries.saturating_sub(entries);
        self.leave_out(writer, entries, LeftWhy::TwoHistories);
        self.stopped.insert(writer, LeftWhy::TwoHistories);
    }

    /// Takes a step of a cast, or leaves it out, with what is behind it.
    fn cast(&mut self, step: &Step, own: &[EntryId]) -> Result<(), CarError> {
        let heads = CastHead::parse(&step.heads);
        let heads = heads.ok_or_else(|| CarError::Malformed("the heads of a cast cannot be read".to_owned()))?;
        self.named.extend(heads.iter().map(|head| head.writer));
        let casts: Vec<(WriterKey, EntityId)> = heads.iter().map(|head| (head.writer, head.cast)).collect();
        let first = heads.first().map_or_else(|| self.store.writer(), |head| head.writer);
        let (writer, why) = match self.why_not(&heads) {
            Some(left_out) => {
                self.let_go(own)?;
                left_out
            }
            None => match self.cast_step(step, heads, own) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let why = LeftWhy::of_step(&error).filter(|_| self.keeping.is_some());
                    (first, why.ok_or(error)?)
                }
            },
        };
        self.cut.extend(casts);
        self.leave_out(writer, own.len() as u64, why.clone());
        // Nothing is taken behind a step that is not as it was signed.
        self.broken = self.broken.take().or_else(|| why.is_wrong().then_some(why));
        Ok(())
    }

    /// Why a step with these heads is not even looked at, and by whom it is.
    fn why_not(&self, heads: &[CastHead]) -> Option<(WriterKey, LeftWhy)> {
        let keeping = self.keeping.as_ref()?;
        let first = heads.first()?.writer;
        if let Some(why) = &self.broken {
            return Some((first, why.clone()));
        }
        let is_known = |writer: &WriterKey| {
            [&keeping.writers, &keeping.hosts, &self.writers].iter().any(|known| known.contains(writer))
        };
        let stranger = heads.iter().map(|head| head.writer).find(|writer| !is_known(writer));
        let is_cut = |head: &&CastHead| self.cut.contains(&(head.writer, head.cast));
        let cut = heads.iter().find(is_cut).map(|head| head.writer);
        stranger.or(cut).map(|writer| (writer, LeftWhy::NotAdmitted))
    }

    fn cast_step(&mut self, step: &Step, heads: Vec<CastHead>, own: &[EntryId]) -> Result<(), CarError> {
        let mut entries = Vec::with_capacity(step.entries.len());
        let mut left: HashSet<EntryId> = own.iter().copied().collect();
        let mut texts = HashSet::new();
        for id in &step.entries {
            let sealed = if left.remove(id) {
                let bytes = self.entry(id)?;
                texts.extend(text_ids(&bytes));
                Sealed::open(*id, bytes).map_err(|source| StoreError::Entry { id: *id, source })?
            } else {
                self.store.entry(*id)?.ok_or_else(|| CarError::Missing(format!("the entry {id}")))?
            };
            entries.push(sealed);
        }
        let relied = entries.clone();
        let batch = match self.check_step(entries, heads) {
            Ok(batch) => batch,
            Err(error) => {
                self.archived.entries = self.archived.entries.saturating_sub(own.len() as u64);
                self.loose.extend(texts.iter().map(BlobId::digest));
                return Err(error);
            }
        };
        for sealed in &relied {
            self.rely_on(sealed);
        }
        // The texts of what is not as it was signed are not kept either.
        for id in texts {
            self.keep_text(&id)?;
        }
        for sealed in batch.entries() {
            self.archived.new += u64::from(self.store.entry(sealed.id)?.is_none());
        }
        Ok(self.store.receive(batch)?)
    }

    fn check_step(&mut self, entries: Vec<Sealed>, heads: Vec<CastHead>) -> Result<CastBatch, CarError> {
        let loom = self.archived.loom;
        for sealed in &entries {
            let (id, entry) = (sealed.id, &sealed.entry);
            if entry.loom != loom {
                return Err(CarError::AnotherLoom { id, of: entry.loom, loom });
            }
            entry.check_minted().map_err(|source| CarError::Unminted { id, source })?;
        }
        self.casts.check(entries, heads).map_err(CarError::Cast)
    }

    /// Says what is missing, where something is.
    pub(super) fn end(mut self) -> Result<Archived, CarError> {
        let Some(part) = self.parts.front() else {
            if let Some(skipped) = self.skipped.iter().next() {
                return Err(CarError::Missing(format!("the entry {}", EntryId::from_digest(*skipped))));
            }
            self.texts.retain(|digest, _| !self.loose.contains(digest));
            let strays = self.texts.len();
            if strays > 0 {
                return Err(CarError::Malformed(format!("{strays} of its blocks are named by nothing in it")));
            }
            self.attest()?;
            self.keep_proofs()?;
            self.accuse()?;
            return Ok(self.archived);
        };
        let missing = part.entries().iter().find(|id| !self.entries.contains_key(&id.digest()));
        if let Some(id) = missing {
            return Err(CarError::Missing(format!("the entry {id}")));
        }
        let text = self.lacks(part).into_iter().next().map(BlobId::from_digest);
        Err(CarError::Missing(text.map_or_else(|| "a text".to_owned(), |id| format!("the text {id}"))))
    }
}

/// What a block that waits counts.
pub(super) const fn cost(block: &[u8]) -> usize {
    block.len().saturating_add(ARCHIVE_BLOCK_COST_BYTES)
}

pub(super) fn out_of_order(held: usize) -> CarError {
    CarError::Malformed(format!(
        "its blocks are out of order: {held} bytes wait for what they belong to, and the limit is {ARCHIVE_HELD_BYTES_MAX}"
    ))
}
