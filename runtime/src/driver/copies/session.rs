//! One conversation with another keeper: what is sent, what is taken, and what is refused.
//!
//! Both sides speak alike. Each says what it has of every loom that they keep together; each sends what the other lacks; whoever
//! takes something says so once it is kept as it should be. Every answer follows from what is in the stores, so a conversation
//! that breaks is begun again from nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::Copies;
use crate::domain::copies::{CopyKind, CopyMessage, Keeper, Keepers, LoomCopies};
use crate::domain::ids::{BlobId, EntityId, LoomId, WriterKey};
use crate::domain::loom::{
    Body, ENTRY_BYTES_MAX, ForkProof, Head, Owners, SEGMENT_BYTES, Segment, SignedHead, text_ids,
};
use crate::driver::fault::chain;
use crate::ports::{LogState, StoreError, Taken};

/// 8 MiB. So much is on its way and not acknowledged: what the other side holds in memory is bounded.
const UNANSWERED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// 65 536. So many texts are known to be there already, so that none is sent twice.
const TEXTS_SENT_MAX: usize = 65_536;
/// 10 000 looms. More are not kept with one node.
const LOOMS_MAX: usize = 10_000;
/// 10 000 answers. A peer that does not listen to them is not listened to either.
const ANSWERS_MAX: usize = 10_000;
/// 10 000 logs. A loom with more writers is refused.
const WRITERS_MAX: usize = 10_000;

/// How far one log is on the other side.
#[derive(Debug, Clone, Copy, Default)]
struct There {
    /// What was sent, or is known to be there.
    sent: u64,
    /// It was refused: nothing more of it is sent.
    refused: bool,
}

/// One conversation.
#[derive(Debug)]
pub struct Session {
    copies: Arc<Copies>,
    peer: Keeper,
    /// The looms that this side has named, and the logs there as far as they are known.
    looms: HashMap<LoomId, HashMap<WriterKey, There>>,
    /// The looms that the other side has named: before that nothing is sent of them.
    heard: HashSet<LoomId>,
    /// The looms of which there may be something to send.
    dirty: HashSet<LoomId>,
    /// How far the news of this node were followed.
    seen: u64,
    /// What this side has said of who keeps them.
    told: HashMap<LoomId, Keepers>,
    /// What was taken and is not acknowledged yet.
    taken: Vec<(LoomId, WriterKey)>,
    unanswered: VecDeque<(LoomId, WriterKey, u64, usize)>,
    unanswered_bytes: usize,
    texts_sent: HashSet<BlobId>,
    /// What is to be sent before anything else.
    out: VecDeque<CopyMessage>,
}

impl Session {
    /// Begins a conversation with a peer, known by the name in its certificate.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn new(copies: Arc<Copies>, peer: Keeper) -> Result<Self, StoreError> {
        let mut session = Self {
            copies,
            peer,
            looms: HashMap::new(),
            heard: HashSet::new(),
            dirty: HashSet::new(),
            told: HashMap::new(),
            seen: 0,
            taken: Vec::new(),
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            texts_sent: HashSet::new(),
            out: VecDeque::new(),
        };
        session.greet()?;
        session.copies.note_all(&session.peer, |state| {
            state.connected = true;
            state.last_error = None;
        });
        Ok(session)
    }

    /// Says what is here of everything that is shared and has not been named yet.
    fn greet(&mut self) -> Result<(), StoreError> {
        for copies in self.copies.named_to(&self.peer) {
            if self.told.get(&copies.loom) != Some(&copies.keepers) {
                self.have(copies.loom)?;
            }
        }
        Ok(())
    }

    fn have(&mut self, loom: LoomId) -> Result<(), StoreError> {
        let Some(copies) = self.copies.of(loom) else { return Ok(()) };
        // Who is no keeper any more is told just that.
        let is_keeper = copies.kind(&self.peer) != CopyKind::None;
        let logs = if is_keeper { self.copies.logs(loom)? } else { Vec::new() };
        self.looms.entry(loom).or_default();
        self.told.insert(loom, copies.keepers.clone());
        let LoomCopies { origin, keepers, .. } = copies;
        self.out.push_back(CopyMessage::Have { loom, origin, keepers, logs });
        Ok(())
    }

    /// Whether the other side says more than it hears.
    pub fn is_overrun(&self) -> bool {
        self.out.len() > ANSWERS_MAX
    }

    /// There may be more to send, or other looms.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn refresh(&mut self) -> Result<(), StoreError> {
        let (grown, now) = self.copies.grown_since(self.seen);
        self.seen = now;
        self.dirty.extend(grown);
        self.greet()
    }

    /// Hears a message. What was taken is acknowledged by [`Session::flush`].
    ///
    /// # Errors
    /// Ours: whatever the other side says wrong is answered.
    pub async fn hear(&mut self, message: CopyMessage) -> Result<(), StoreError> {
        match message {
            CopyMessage::Have { loom, origin, keepers, logs } => {
                let heard = |name: Keeper| name.as_heard(&self.peer, self.copies.node());
                let (origin, keepers) = (heard(origin), merged(keepers, heard));
                self.meet(loom, &origin, &keepers, &logs)
            }
            CopyMessage::Text { loom, bytes } => {
                if !self.heard.contains(&loom) || !self.copies.brings(&self.peer, bytes.len()) {
                    return Ok(());
                }
                self.copies.keeper(loom).0.keep_text(&bytes)
            }
            CopyMessage::Segment(segment) => self.take(*segment).await,
            CopyMessage::Held { loom, writer, sequence, durable } => {
                self.answered(loom, Some(writer), sequence);
                // What was never sent is not acknowledged.
                let Some(there) = self.looms.get_mut(&loom).and_then(|logs| logs.get_mut(&writer)) else {
                    return Ok(());
                };
                there.sent = there.sent.max(sequence);
                self.copies.note(loom, &self.peer, |state| {
                    let has = state.has.entry(writer).or_default();
                    *has = sequence.max(*has);
                    if durable {
                        let on_disk = state.durable.entry(writer).or_default();
                        *on_disk = sequence.max(*on_disk);
                    }
                });
                Ok(())
            }
            CopyMessage::Refused { loom, writer, what, proof } => {
                if let Some(proof) = proof
                    && self.copies.disk.accuse(&proof)?
                {
                    self.copies.memory.accuse(&proof)?;
                    tracing::error!(writer = %proof.writer(), loom = %proof.early.loom, told_by = %self.peer, "a writer has signed two histories");
                }
                let Some(logs) = self.looms.get_mut(&loom) else { return Ok(()) };
                match writer {
                    Some(writer) => {
                        if let Some(there) = logs.get_mut(&writer) {
                            there.refused = true;
                        }
                        self.answered(loom, Some(writer), u64::MAX);
                    }
                    None => {
                        self.heard.remove(&loom);
                    }
                }
                tracing::warn!(%loom, peer = %self.peer, what, "a peer did not take what was sent");
                self.copies.note(loom, &self.peer, |state| state.last_error = Some(what));
                Ok(())
            }
        }
    }

    /// The other side has said what it has of a loom.
    fn meet(&mut self, loom: LoomId, origin: &Keeper, keepers: &Keepers, logs: &[LogState]) -> Result<(), StoreError> {
        let is_first = !self.looms.contains_key(&loom);
        let too_many = logs.len() > WRITERS_MAX || (is_first && self.looms.len() >= LOOMS_MAX);
        if too_many || !self.copies.admit(&self.peer, loom, origin, keepers)? {
            self.looms.remove(&loom);
            self.heard.remove(&loom);
            let node = self.copies.node();
            let what = format!("{node} keeps no copies of this loom for {}", self.peer);
            self.refuse(loom, None, what);
            return Ok(());
        }
        if self.copies.of(loom).is_none_or(|copies| copies.kind(self.copies.node()) == CopyKind::None) {
            self.looms.remove(&loom);
            self.heard.remove(&loom);
            return Ok(());
        }
        // What a node says that it has is as durable there as it keeps it.
        let is_on_disk = self.copies.of(loom).is_some_and(|copies| copies.kind(&self.peer) == CopyKind::Disk);
        self.copies.note(loom, &self.peer, |state| {
            state.connected = true;
            state.has = logs.iter().map(|log| (log.writer, log.head.sequence)).collect();
            if is_on_disk {
                state.durable.clone_from(&state.has);
            }
        });
        if is_first {
            self.have(loom)?;
        }
        self.heard.insert(loom);
        self.dirty.insert(loom);
        // What was on its way when this was said is sent again, and known there.
        self.answered(loom, None, u64::MAX);
        let there = |log: &LogState| (log.writer, There { sent: log.head.sequence, refused: false });
        self.looms.insert(loom, logs.iter().map(there).collect());
        self.compare(loom, logs)
    }

    /// Compares what both sides have of the same logs: of this node's own, and of others'.
    fn compare(&mut self, loom: LoomId, logs: &[LogState]) -> Result<(), StoreError> {
        let own = self.copies.disk.writer();
        for signed in logs.iter().filter_map(|log| log.signed) {
            if signed.loom != loom || !signed.is_signed() {
                continue;
            }
            let here = self.copies.store_of(loom, signed.writer);
            let chain = here.chain_at(loom, signed.writer, signed.head.sequence)?;
            if chain == Some(signed.head.chain) {
                continue;
            }
            if signed.writer == own {
                self.renew(loom, &signed)?;
                continue;
            }
            let ours = here.logs(loom)?.into_iter().find(|log| log.writer == signed.writer).and_then(|log| log.signed);
            let proof = ours
                .filter(|ours| ours.head.sequence == signed.head.sequence)
                .map(|early| Box::new(ForkProof { early, late: signed, chain: signed.head.chain, ids: Vec::new() }));
            if let Some(proof) = proof.filter(|proof| proof.holds()) {
                self.report(loom, proof)?;
            }
        }
        Ok(())
    }

    /// The other side has more of this node's own log than this node itself, or another: the record was restored from an old copy,
    /// and would get a second history if this node went on under its key.
    fn renew(&mut self, loom: LoomId, signed: &SignedHead) -> Result<(), StoreError> {
        let here = self.copies.disk.head(loom)?.sequence;
        let new = self.copies.disk.renew()?;
        tracing::warn!(
            %loom, peer = %self.peer, old = %signed.writer, %new,
            "a peer has {} entries that this node has signed, and {here} are here: the record was restored from an old copy; this \
             node goes on under a new writer's key",
            signed.head.sequence
        );
        self.copies.grown(loom);
        self.have(loom)
    }

    fn report(&mut self, loom: LoomId, proof: Box<ForkProof>) -> Result<(), StoreError> {
        let writer = proof.writer();
        self.copies.disk.accuse(&proof)?;
        self.copies.memory.accuse(&proof)?;
        let what = format!("writer {writer} has signed two histories: nothing more is taken of it");
        tracing::error!(%loom, %writer, peer = %self.peer, "a writer has signed two histories: nothing more is taken of it");
        self.copies.note(loom, &self.peer, |state| state.last_error = Some(what.clone()));
        self.out.push_back(CopyMessage::Refused { loom, writer: Some(writer), what, proof: Some(proof) });
        Ok(())
    }

    async fn take(&mut self, segment: Segment) -> Result<(), StoreError> {
        let (loom, writer) = (segment.signed.loom, segment.signed.writer);
        if !self.heard.contains(&loom) {
            let node = self.copies.node();
            self.refuse(loom, None, format!("{node} keeps no copies of this loom for {}", self.peer));
            return Ok(());
        }
        let bytes = size(&segment);
        if bytes > SEGMENT_BYTES + ENTRY_BYTES_MAX {
            self.refuse(loom, Some(writer), format!("a segment of {bytes} bytes is too large"));
            return Ok(());
        }
        if !self.copies.brings(&self.peer, bytes) {
            let what = format!("{} has brought as many bytes as it may (keep_max_bytes)", self.peer);
            self.refuse(loom, Some(writer), what);
            return Ok(());
        }
        let signed = segment.signed;
        let checked = match segment.check() {
            Ok(checked) => checked,
            Err(error) => {
                self.refuse(loom, Some(writer), chain(&error));
                return Ok(());
            }
        };
        let adopted: Vec<EntityId> = checked
            .entries()
            .iter()
            .filter(|sealed| matches!(sealed.entry.body, Body::Adopted { .. }))
            .map(|sealed| sealed.entry.entity)
            .collect();
        match self.copies.take(checked) {
            Ok(Taken::New(_) | Taken::Known) => {
                self.fence(loom, &adopted)?;
                self.known(loom, writer, signed.head);
                // Whoever sends it has it.
                self.copies.note(loom, &self.peer, |state| {
                    let has = state.has.entry(writer).or_default();
                    *has = signed.head.sequence.max(*has);
                });
                if !self.taken.contains(&(loom, writer)) {
                    self.taken.push((loom, writer));
                }
                Ok(())
            }
            // What is here is said again; what is missing comes then.
            Ok(Taken::Gap(_)) => {
                self.flush().await?;
                self.have(loom)
            }
            Err(StoreError::Forked { proof, .. }) => self.report(loom, proof),
            Err(error @ StoreError::Cheater { .. }) => {
                let proof = self.copies.disk.proofs()?.into_iter().find(|proof| proof.writer() == writer).map(Box::new);
                let (writer, what) = (Some(writer), chain(&error));
                self.out.push_back(CopyMessage::Refused { loom, writer, what, proof });
                Ok(())
            }
            // This node's own log comes back: all of it is here, or `compare_own` has found out that it is not.
            Err(StoreError::Foreign { .. }) => {
                self.known(loom, writer, signed.head);
                Ok(())
            }
            Err(error @ (StoreError::Blob { .. } | StoreError::Entry { .. })) => {
                self.refuse(loom, Some(writer), chain(&error));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Who was taken over by another node is not gone on with here.
    fn fence(&self, loom: LoomId, adopted: &[EntityId]) -> Result<(), StoreError> {
        if adopted.is_empty() {
            return Ok(());
        }
        let own = self.copies.disk.writer();
        let owners = Owners::find(&self.copies.disk.entries(loom)?);
        for entity in adopted {
            let owner = owners.owner(*entity).map(|(owner, _)| owner).filter(|owner| *owner != own);
            self.copies.fence(*entity, owner);
        }
        Ok(())
    }

    fn known(&mut self, loom: LoomId, writer: WriterKey, head: Head) {
        let there = self.looms.entry(loom).or_default().entry(writer).or_default();
        there.sent = there.sent.max(head.sequence);
    }

    fn refuse(&mut self, loom: LoomId, writer: Option<WriterKey>, what: String) {
        tracing::warn!(%loom, peer = %self.peer, what, "what a peer sent was refused");
        self.copies.note(loom, &self.peer, |state| state.last_error = Some(what.clone()));
        self.out.push_back(CopyMessage::Refused { loom, writer, what, proof: None });
    }

    fn answered(&mut self, loom: LoomId, writer: Option<WriterKey>, sequence: u64) {
        let freed = &mut self.unanswered_bytes;
        self.unanswered.retain(|(of, by, to, bytes)| {
            let is_answered = *of == loom && writer.is_none_or(|writer| writer == *by) && *to <= sequence;
            if is_answered {
                *freed = freed.saturating_sub(*bytes);
            }
            !is_answered
        });
    }

    /// Makes what was taken durable, where it is kept so, and acknowledges it.
    ///
    /// # Errors
    /// A failed write.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        if self.taken.is_empty() {
            return Ok(());
        }
        let taken = std::mem::take(&mut self.taken);
        let looms: HashSet<LoomId> = taken.iter().map(|(loom, _)| *loom).collect();
        for loom in looms {
            let writers = taken.iter().filter(|(of, _)| *of == loom).map(|(_, writer)| *writer);
            let (store, kind) = self.copies.keeper(loom);
            store.sync_logs(loom, writers.clone().collect()).await?;
            let logs = store.logs(loom)?;
            for writer in writers {
                let head = logs.iter().find(|log| log.writer == writer).map(|log| log.head.sequence);
                let sequence = head.unwrap_or_default();
                let durable = kind == CopyKind::Disk;
                self.out.push_back(CopyMessage::Held { loom, writer, sequence, durable });
            }
            // Whoever keeps it too can be sent it.
            self.copies.grown(loom);
        }
        Ok(())
    }

    /// The next message to send, if there is one now.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn next_message(&mut self) -> Result<Option<CopyMessage>, StoreError> {
        if let Some(message) = self.out.pop_front() {
            return Ok(Some(message));
        }
        if self.unanswered_bytes >= UNANSWERED_BYTES_MAX {
            return Ok(None);
        }
        let dirty: Vec<LoomId> = self.dirty.iter().copied().collect();
        for loom in dirty {
            let is_kept = self.copies.of(loom).is_some_and(|copies| copies.kind(&self.peer) != CopyKind::None);
            if is_kept
                && self.heard.contains(&loom)
                && let Some(segment) = self.next_of(loom)?
            {
                return self.send(segment);
            }
            self.dirty.remove(&loom);
        }
        Ok(None)
    }

    fn next_of(&self, loom: LoomId) -> Result<Option<Segment>, StoreError> {
        for log in self.copies.logs(loom)? {
            let there = self.looms.get(&loom).and_then(|logs| logs.get(&log.writer)).copied().unwrap_or_default();
            if !there.refused
                && there.sent < log.head.sequence
                && let Some(segment) = self.copies.segment(loom, log.writer, there.sent)?
            {
                return Ok(Some(segment));
            }
        }
        Ok(None)
    }

    fn send(&mut self, segment: Segment) -> Result<Option<CopyMessage>, StoreError> {
        let signed = segment.signed;
        let mut bytes = size(&segment);
        self.known(signed.loom, signed.writer, signed.head);
        let mut texts = Vec::new();
        for id in segment.entries.iter().flat_map(|entry| text_ids(entry)) {
            if self.texts_sent.len() >= TEXTS_SENT_MAX {
                self.texts_sent.clear();
            }
            if self.texts_sent.insert(id)
                && let Some(text) = self.copies.text(signed.loom, id)?
            {
                bytes = bytes.saturating_add(text.len());
                texts.push(CopyMessage::Text { loom: signed.loom, bytes: text });
            }
        }
        self.unanswered_bytes = self.unanswered_bytes.saturating_add(bytes);
        self.unanswered.push_back((signed.loom, signed.writer, signed.head.sequence, bytes));
        self.out.extend(texts);
        self.out.push_back(CopyMessage::Segment(Box::new(segment)));
        Ok(self.out.pop_front())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.copies.note_all(&self.peer, |state| state.connected = false);
    }
}

/// What is said of keepers, by the names that they have here; of two that are the same the later revision counts.
fn merged(said: Keepers, heard: impl Fn(Keeper) -> Keeper) -> Keepers {
    let mut keepers = Keepers::new();
    for (keeper, keeping) in said {
        let known = keepers.entry(heard(keeper)).or_insert(keeping);
        *known = (*known).max(keeping);
    }
    keepers
}

fn size(segment: &Segment) -> usize {
    segment.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.len()))
}
