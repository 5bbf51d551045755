//! What vouches for writers' keys, on its way: sent before the entries that rely on it, and kept only with such entries.
//!
//! Of each log that the other side is sent or has, what vouches for its writer's key is sent too, and for the keys whose place that one
//! takes. What comes waits until an entry that relies on it has come, within a bound; what nothing relies on is never kept, and each
//! thing that is kept counts as brought by the peer, against the key that it vouches for and against the node that it names.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::cost::cost;
use super::session::Session;
use super::{Copies, blocking};
use crate::domain::copies::CopyMessage;
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::limits::{ATTESTATION_BYTES_PER_WRITER_MAX, ATTESTATIONS_PER_WRITER_MAX, PREDECESSORS_MAX};
use crate::domain::members::{Attestation, relied_on};
use crate::driver::fault::chain;
use crate::ports::StoreError;

/// 65 536. Of so many it is known in each loom that they are there.
const SENT_KEPT: usize = 65_536;

/// What one conversation knows of attestations.
#[derive(Debug, Default)]
pub(super) struct Attesting {
    /// What came and nothing relies on yet, the oldest first, and the bytes of each.
    waiting: VecDeque<(LoomId, Attestation, usize)>,
    waiting_bytes: usize,
    /// The writers for whose keys everything was sent, as of which change in the loom.
    told: HashMap<LoomId, (u64, HashSet<WriterKey>)>,
    /// The hashes of what is there.
    there: HashMap<LoomId, HashSet<[u8; 32]>>,
    /// What is to be sent next.
    pub(super) out: VecDeque<CopyMessage>,
}

fn name(attestation: &Attestation) -> [u8; 32] {
    *blake3::hash(&attestation.to_bytes()).as_bytes()
}

impl Attesting {
    /// Nothing is known any more of what the other side has of a loom.
    pub(super) fn forget(&mut self, loom: LoomId) {
        self.told.remove(&loom);
        self.there.remove(&loom);
    }

    /// Notes that the other side has something; returns whether that is new.
    fn is_there(&mut self, loom: LoomId, attestation: &Attestation) -> bool {
        let there = self.there.entry(loom).or_default();
        if there.len() >= SENT_KEPT {
            there.clear();
        }
        there.insert(name(attestation))
    }

    /// What came in a loom and nothing relies on yet.
    pub(super) fn waiting_in(&self, loom: LoomId) -> Vec<Attestation> {
        self.waiting.iter().filter(|(of, ..)| *of == loom).map(|(_, it, _)| it.clone()).collect()
    }

    fn wait(&mut self, loom: LoomId, attestation: Attestation, bytes: usize) {
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes);
        self.waiting.push_back((loom, attestation, bytes));
        while self.waiting.len() > ATTESTATIONS_PER_WRITER_MAX || self.waiting_bytes > ATTESTATION_BYTES_PER_WRITER_MAX
        {
            let Some((_, _, bytes)) = self.waiting.pop_front() else { return };
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        }
    }
}

impl Copies {
    /// What vouches for one key in a loom, wherever it is kept.
    pub(super) fn attestations_of(&self, loom: LoomId, key: WriterKey) -> Result<Vec<Attestation>, StoreError> {
        let (keeper, _) = self.keeper(loom);
        let mut all = keeper.attestations_of(loom, key)?;
        if !Arc::ptr_eq(keeper, &self.disk) {
            all.extend(self.disk.attestations_of(loom, key)?);
            all.sort_unstable();
            all.dedup();
        }
        Ok(all)
    }

    fn successors(&self, loom: LoomId, key: WriterKey) -> Result<Vec<WriterKey>, StoreError> {
        let (keeper, _) = self.keeper(loom);
        let mut keys = keeper.successors(loom, key)?;
        keys.extend(self.disk.successors(loom, key)?);
        Ok(keys)
    }

    /// Whether an entry here relies on a key: its own, or one of a key that takes its place. `waiting` is what came along.
    fn is_relied_on(
        &self,
        loom: LoomId,
        key: WriterKey,
        writers: &HashSet<WriterKey>,
        waiting: &[(WriterKey, WriterKey)],
    ) -> Result<bool, StoreError> {
        let (mut keys, mut met) = (vec![key], HashSet::from([key]));
        while let Some(key) = keys.pop() {
            if writers.contains(&key) {
                return Ok(true);
            }
            let along = waiting.iter().filter(|(old, _)| *old == key).map(|(_, new)| *new);
            for newer in self.successors(loom, key)?.into_iter().chain(along) {
                if met.len() <= PREDECESSORS_MAX && met.insert(newer) {
                    keys.push(newer);
                }
            }
        }
        Ok(false)
    }

    /// There is more in a loom that vouches for its writers' keys.
    fn attested(&self, loom: LoomId) {
        let mut state = self.lock();
        let count = state.attested.entry(loom).or_default();
        *count = count.saturating_add(1);
        drop(state);
        self.grown(loom);
    }

    /// There is more that vouches for this node's own key: whoever keeps a loom in which it writes is sent it.
    pub fn vouched_anew(&self) {
        let looms: Vec<LoomId> = self.lock().looms.keys().copied().collect();
        for loom in looms {
            self.attested(loom);
        }
    }

    fn attested_at(&self, loom: LoomId) -> u64 {
        self.lock().attested.get(&loom).copied().unwrap_or_default()
    }

    /// Carries what vouches for keys over to where the loom is kept from now on, and proved entries.
    pub(super) fn carry_attestations(
        from: &dyn crate::ports::CopyStore,
        to: &dyn crate::ports::CopyStore,
        loom: LoomId,
    ) -> Result<(), StoreError> {
        // What was kept there holds, and is bounded.
        to.attest(loom, &from.attestations(loom)?)?;
        to.keep_proved(&from.proved(loom)?).map(drop)
    }
}

impl Session {
    /// A peer says what vouches for a key. It is kept once something here relies on it, and waits for that.
    pub(super) fn attested(&mut self, loom: LoomId, attestation: Attestation) -> Result<(), StoreError> {
        if !self.heard.contains(&loom) {
            return Ok(());
        }
        self.attesting.is_there(loom, &attestation);
        if self.copies.attestations_of(loom, attestation.key())?.contains(&attestation) {
            return Ok(());
        }
        let bytes = attestation.to_bytes().len();
        if !self.copies.brings(&self.peer, cost(bytes, 1)) {
            let what = &"keep_max_bytes is used up";
            self.copies.refusals.note(&self.peer, "what should vouch for a writer was not kept", what);
            return Ok(());
        }
        self.attesting.wait(loom, attestation, bytes);
        Ok(())
    }

    /// Keeps what waits and is relied on by now, before anything that relies on it is acknowledged.
    pub(super) async fn keep_attested(&mut self) -> Result<(), StoreError> {
        let looms: HashSet<LoomId> = self.attesting.waiting.iter().map(|(loom, ..)| *loom).collect();
        for loom in looms {
            let mut writers: HashSet<WriterKey> = self.copies.logs(loom)?.iter().map(|log| log.writer).collect();
            writers.extend(self.copies.cast_heads(loom)?.iter().map(|head| head.writer));
            writers.extend(self.casting.taken.iter().filter(|head| head.loom == loom).map(|head| head.writer));
            // What was taken a moment ago is in no log yet that is read from the disk.
            writers.extend(self.taken.keys().filter(|(of, _)| *of == loom).map(|(_, writer)| *writer));
            let all = std::mem::take(&mut self.attesting.waiting);
            self.attesting.waiting_bytes = 0;
            let along: Vec<_> = all
                .iter()
                .filter(|(of, ..)| *of == loom)
                .filter_map(|(_, it, _)| it.predecessor().map(|old| (old, it.key())))
                .collect();
            let mut relied = Vec::new();
            for (of, attestation, bytes) in all {
                if of == loom && self.copies.is_relied_on(loom, attestation.key(), &writers, &along)? {
                    relied.push(attestation);
                } else {
                    self.attesting.wait(of, attestation, bytes);
                }
            }
            if !relied.is_empty() {
                self.keep_relied(loom, relied).await?;
            }
        }
        Ok(())
    }

    async fn keep_relied(&self, loom: LoomId, relied: Vec<Attestation>) -> Result<(), StoreError> {
        let store = Arc::clone(self.copies.keeper(loom).0);
        let keys: Vec<WriterKey> = relied.iter().map(Attestation::key).collect();
        // Checking takes a while, and the write is synced: not on a thread that serves.
        let kept = blocking(move || store.attest(loom, &relied)).await?;
        if kept.iter().any(|kept| matches!(kept, Ok(true))) {
            self.copies.attested(loom);
            self.copies.members_changed(loom);
        }
        for (key, refused) in keys.iter().zip(kept).filter_map(|(key, kept)| Some((key, kept.err()?))) {
            let what = format!("loom {loom}, writer {key}: {}", chain(&refused));
            self.copies.refusals.note(&self.peer, "what should vouch for a writer was not kept", &what);
        }
        Ok(())
    }

    /// Puts what vouches for the writer of a log on its way, once, and again what has come since. Returns whether there is something.
    pub(super) fn attest(&mut self, loom: LoomId, writer: WriterKey) -> Result<bool, StoreError> {
        let now = self.copies.attested_at(loom);
        let told = self.attesting.told.entry(loom).or_default();
        if told.0 != now {
            *told = (now, HashSet::new());
        }
        if !told.1.insert(writer) {
            return Ok(false);
        }
        let copies = Arc::clone(&self.copies);
        let (mut all, mut bytes) = (Vec::new(), 0_usize);
        relied_on(writer, |key| {
            let of_key = copies.attestations_of(loom, key)?;
            let older = of_key.iter().filter_map(Attestation::predecessor).collect();
            for attestation in of_key {
                bytes = bytes.saturating_add(attestation.to_bytes().len());
                // More than the other side would hear is a writer's own doing, and nothing of another's.
                if all.len() < ATTESTATIONS_PER_WRITER_MAX && bytes <= ATTESTATION_BYTES_PER_WRITER_MAX {
                    all.push(attestation);
                }
            }
            Ok::<_, StoreError>(older)
        })?;
        for attestation in all {
            if self.attesting.is_there(loom, &attestation) {
                let attestation = Box::new(attestation);
                self.attesting.out.push_back(CopyMessage::Attestation { loom, attestation });
            }
        }
        Ok(!self.attesting.out.is_empty())
    }
}
