//! The first reading of an archive: who is a member by what it has and by what is here, and what of it is as its writer signed it.
//!
//! Nothing is kept. Of entries only those stay in memory that say who may write.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::blocks::{CODEC_DAG_CBOR, CODEC_RAW};
use super::taking::cost;
use super::{CarError, LeftOut, LeftWhy, Manifest};
use crate::domain::ids::{EntryId, LoomId, WriterKey};
use crate::domain::limits::ARCHIVE_HELD_BYTES_MAX;
use crate::domain::loom::{
    Body, CastHead, EquivocationProof, Head, Sealed, Segment, SegmentError, SignedHead, text_ids,
};
use crate::domain::members::{Attestation, Batch, CheckedProof, LogPart, Principal, ProvedEntry, Reader, Vouched};
use crate::ports::{CopyStore, StoreError};

/// What an import takes of an archive.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// How many stretches of each log.
    pub(super) stretches: HashMap<WriterKey, usize>,
    /// The writers that were admitted to the whole loom, and this node itself.
    pub(super) writers: HashSet<WriterKey>,
    /// The writers whose casts are taken, because they were admitted for one.
    pub(super) hosts: HashSet<WriterKey>,
    /// The texts that only what is left out names.
    pub(super) texts: HashSet<[u8; 32]>,
    pub(super) founder: Option<Principal>,
    pub(super) left_out: Vec<LeftOut>,
}

/// Whether an entry says who may write: those are read to find out whose logs are taken.
const fn is_membership(body: &Body) -> bool {
    matches!(body, Body::Founded { .. } | Body::Admitted(_) | Body::Expelled(_))
}

/// A stretch of a log, and what came of it.
#[derive(Debug)]
struct Surveyed {
    from: Head,
    signed: SignedHead,
    ids: Vec<EntryId>,
    /// How many of its entries have not come.
    missing: usize,
    texts: Vec<[u8; 32]>,
    checked: Option<Result<Vec<Sealed>, SegmentError>>,
}

pub(super) struct Survey<'a> {
    store: &'a dyn CopyStore,
    loom: LoomId,
    logs: Vec<(WriterKey, Vec<Surveyed>)>,
    /// Where each entry of a log is that has not come: in which log, and in which stretch of it.
    places: HashMap<[u8; 32], (usize, usize)>,
    held: HashMap<[u8; 32], Vec<u8>>,
    held_bytes: usize,
    /// The entries of casts, and the texts that they name.
    of_casts: HashSet<[u8; 32]>,
    texts_of_casts: HashSet<[u8; 32]>,
    cast_writers: BTreeSet<WriterKey>,
    proved: HashSet<[u8; 32]>,
    proofs: Vec<CheckedProof>,
    vouched: Vouched,
    divided: Vec<EquivocationProof>,
}

impl<'a> Survey<'a> {
    pub(super) fn of(store: &'a dyn CopyStore, manifest: &Manifest) -> Result<Self, CarError> {
        let loom = manifest.loom;
        let mut logs = Vec::with_capacity(manifest.logs.len());
        let mut places = HashMap::new();
        for log in &manifest.logs {
            let stretches = log.heads(loom)?.into_iter().zip(&log.stretches).map(|((from, signed), stretch)| {
                let (ids, missing) = (stretch.entries.clone(), stretch.entries.len());
                Surveyed { from, signed, ids, missing, texts: Vec::new(), checked: None }
            });
            let stretches: Vec<Surveyed> = stretches.collect();
            for (number, stretch) in stretches.iter().enumerate() {
                places.extend(stretch.ids.iter().map(|id| (id.digest(), (logs.len(), number))));
            }
            logs.push((log.writer, stretches));
        }
        let of_casts = manifest.casts.iter().flat_map(|step| &step.entries).map(EntryId::digest).collect();
        let heads = manifest.casts.iter().filter_map(|step| CastHead::parse(&step.heads)).flatten();
        let mut survey = Self {
            store,
            loom,
            logs,
            places,
            held: HashMap::new(),
            held_bytes: 0,
            of_casts,
            texts_of_casts: HashSet::new(),
            cast_writers: heads.map(|head| head.writer).collect(),
            proved: manifest.proofs()?.iter().map(EntryId::digest).collect(),
            proofs: Vec::new(),
            vouched: Vouched::default(),
            divided: manifest.divided()?,
        };
        survey.vouched = survey.checked(&manifest.attestations()?)?;
        Ok(survey)
    }

    fn checked(&self, all: &[Attestation]) -> Result<Vouched, CarError> {
        let mut vouched = Vouched::default();
        for attestation in all {
            let one = self.store.checked(std::slice::from_ref(attestation));
            let one = one.map_err(|source| CarError::Attestation { writer: attestation.key(), source })?;
            vouched.records.extend(one.records);
            vouched.successions.extend(one.successions);
        }
        Ok(vouched)
    }

    /// Looks at a block. What nothing names is refused when the archive is read again.
    pub(super) fn take(&mut self, codec: u64, bytes: Vec<u8>) -> Result<(), CarError> {
        crate::domain::steps::count(1);
        if codec == CODEC_RAW {
            return Ok(());
        }
        let digest = *blake3::hash(&bytes).as_bytes();
        if codec == CODEC_DAG_CBOR && self.proved.remove(&digest) {
            self.prove(&bytes);
            return Ok(());
        }
        if self.of_casts.contains(&digest) {
            self.texts_of_casts.extend(text_ids(&bytes).iter().map(crate::domain::ids::BlobId::digest));
        }
        let Some((log, number)) = self.places.remove(&digest) else { return Ok(()) };
        let Some(stretch) = self.logs.get_mut(log).and_then(|(_, stretches)| stretches.get_mut(number)) else {
            return Ok(());
        };
        stretch.texts.extend(text_ids(&bytes).iter().map(crate::domain::ids::BlobId::digest));
        stretch.missing = stretch.missing.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_add(cost(&bytes));
        self.held.insert(digest, bytes);
        if self.held_bytes > ARCHIVE_HELD_BYTES_MAX {
            return Err(super::taking::out_of_order(self.held_bytes));
        }
        if stretch.missing == 0 {
            let held = &mut self.held;
            let entries: Vec<Vec<u8>> = stretch.ids.iter().filter_map(|id| held.remove(&id.digest())).collect();
            let freed = entries.iter().fold(0_usize, |sum, bytes| sum.saturating_add(cost(bytes)));
            self.held_bytes = self.held_bytes.saturating_sub(freed);
            let segment = Segment { from: stretch.from, entries, blobs: Vec::new(), signed: stretch.signed };
            stretch.checked = Some(segment.check().map(|checked| {
                let says = |sealed: &&Sealed| is_membership(&sealed.entry.body);
                checked.entries().iter().filter(says).cloned().collect()
            }));
        }
        Ok(())
    }

    /// Looks at a proved entry. One that does not hold is left out when the archive is read again.
    fn prove(&mut self, bytes: &[u8]) {
        let Ok(proof) = ProvedEntry::parse(bytes).and_then(ProvedEntry::check) else { return };
        if proof.loom() == self.loom && is_membership(&proof.sealed().entry.body) {
            self.proofs.push(proof);
        }
    }

    /// Says what is taken.
    pub(super) fn end(self) -> Result<Keeping, CarError> {
        let mut keeping = Keeping::default();
        let mut parts = Vec::new();
        let mut wrong: HashMap<WriterKey, LeftWhy> = HashMap::new();
        for (writer, stretches) in &self.logs {
            let is_whole = |stretch: &&Surveyed| !matches!(stretch.checked, Some(Err(_)));
            let whole = stretches.iter().take_while(is_whole).count();
            keeping.stretches.insert(*writer, whole);
            if let Some(Some(Err(error))) = stretches.get(whole).map(|stretch| stretch.checked.as_ref()) {
                wrong.insert(*writer, LeftWhy::of_segment(error, self.loom));
            }
            let signed = stretches.get(..whole).unwrap_or_default();
            // What does not come at all is missed when the archive is read again.
            let came = signed.iter().take_while(|stretch| stretch.checked.is_some());
            let entries = came.clone().flat_map(|stretch| stretch.checked.iter().flatten()).flatten().cloned();
            let ids = came.flat_map(|stretch| &stretch.ids).copied();
            parts.push(LogPart {
                writer: *writer,
                cast: None,
                ids: (1..).zip(ids).collect(),
                entries: entries.collect(),
            });
        }
        self.decide(parts, &mut keeping)?;
        for (writer, stretches) in &self.logs {
            let whole = keeping.stretches.get(writer).copied().unwrap_or_default();
            let (signed, rest) = stretches.split_at(whole.min(stretches.len()));
            let count = |stretches: &[Surveyed]| stretches.iter().map(|stretch| stretch.ids.len() as u64).sum::<u64>();
            if !keeping.writers.contains(writer) {
                keeping.stretches.insert(*writer, 0);
                keeping.left_out.push(LeftOut { writer: *writer, entries: count(signed), why: LeftWhy::NotAdmitted });
            }
            keeping.left_out.extend(wrong.remove(writer).map(|why| LeftOut {
                writer: *writer,
                entries: count(rest),
                why,
            }));
        }
        keeping.left_out.retain(|left_out| left_out.entries > 0);
        let taken = |writer: &WriterKey| keeping.stretches.get(writer).copied().unwrap_or_default();
        let texts_of = |stretches: &[Surveyed]| -> HashSet<[u8; 32]> {
            stretches.iter().flat_map(|stretch| stretch.texts.iter().copied()).collect()
        };
        let mut needed = self.texts_of_casts;
        let mut needless = HashSet::new();
        for (writer, stretches) in &self.logs {
            let (first, rest) = stretches.split_at(taken(writer).min(stretches.len()));
            needed.extend(texts_of(first));
            needless.extend(texts_of(rest));
        }
        keeping.texts = needless.difference(&needed).copied().collect();
        Ok(keeping)
    }

    /// Finds out who is a member: by what the archive has, and by what is here.
    fn decide(&self, parts: Vec<LogPart>, keeping: &mut Keeping) -> Result<(), StoreError> {
        let store = self.store;
        let mut own = store.formerly()?;
        own.push(store.writer());
        // What this node has written itself is here: nobody else says what it is.
        let parts = parts.into_iter().filter(|part| !own.contains(&part.writer));
        let archived = Batch::of_parts(self.loom, self.vouched.clone(), parts.collect());
        let archived = archived.with_proved(self.proofs.iter().cloned()).with_proofs(self.divided.iter().cloned());
        let batch = store.batch(self.loom)?.joined_with(archived);
        let check = |record: &_| store.checked(&[Attestation::Member(Clone::clone(record))]).ok()?.records.pop();
        let batch = batch.with_founder(check);
        let reader = Reader::of(&batch);
        let members = reader.loom_members();
        let named = self.logs.iter().map(|(writer, _)| *writer).chain(self.cast_writers.iter().copied());
        let kept = named.filter(|writer| own.contains(writer) || reader.acts_as(*writer, &members));
        keeping.writers = kept.collect();
        // Whoever hosts a cast was admitted for it by its key.
        let hosts = reader.members().into_iter().filter_map(|member| member.scope).map(|scope| scope.opener);
        keeping.hosts = hosts.filter(|host| !keeping.writers.contains(host)).collect();
        keeping.founder = reader.founder();
        Ok(())
    }
}
