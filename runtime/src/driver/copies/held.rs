//! Acknowledgements: what the other side says that it has, counted as far as this side can know it.
//!
//! A place of a log counts where it was sent on this connection, or shown to be there, and where its chain is the one here; for
//! acknowledgements only if it is on a disk there. Every other answer is counted as a wrong one and changes nothing else.

use std::collections::{BTreeMap, HashMap};

use super::session::{Session, There};
use crate::domain::copies::{CopyKind, CopyMessage};
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::loom::{Head, SignedHead};
use crate::ports::{LogState, StoreError};

/// What one other keeper is known to have, and how it is going.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeeperState {
    /// Whether there is a connection.
    pub connected: bool,
    /// How far each log is there.
    pub has: BTreeMap<WriterKey, u64>,
    /// How far each log is on disk there.
    pub durable: BTreeMap<WriterKey, u64>,
    /// When it last said how far it is, in microseconds since 1970.
    pub said_at_us: Option<u64>,
    /// How often it said that it has what it cannot have.
    pub wrong_answers: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// When that was, in microseconds since 1970.
    pub last_error_at_us: Option<u64>,
}

impl KeeperState {
    pub(super) fn fail(&mut self, now_us: u64, what: String) {
        (self.last_error, self.last_error_at_us) = (Some(what), Some(now_us));
    }

    /// Counts what a keeper says that it has, where it keeps it so.
    fn count(&mut self, now_us: u64, kind: CopyKind, logs: impl IntoIterator<Item = (WriterKey, u64)>) {
        self.said_at_us = Some(now_us);
        for (writer, sequence) in logs {
            let has = self.has.entry(writer).or_default();
            *has = sequence.max(*has);
            if kind == CopyKind::Disk {
                let on_disk = self.durable.entry(writer).or_default();
                *on_disk = sequence.max(*on_disk);
            }
        }
    }
}

/// How far each log was sent on a connection, or shown to be on the other side: it says that it has that much, and no more.
#[derive(Debug, Default)]
pub(super) struct Shown(HashMap<(LoomId, WriterKey), u64>);

impl Shown {
    pub(super) fn up_to(&mut self, loom: LoomId, writer: WriterKey, sequence: u64) {
        let known = self.0.entry((loom, writer)).or_default();
        *known = sequence.max(*known);
    }

    fn of(&self, loom: LoomId, writer: WriterKey) -> Option<u64> {
        self.0.get(&(loom, writer)).copied()
    }
}

impl Session {
    /// Somebody sends what this node itself has written, since it has not heard that it is here: it waits for an answer to that.
    pub(super) fn has_itself(&mut self, signed: &SignedHead) -> Result<(), StoreError> {
        let SignedHead { loom, writer, head, .. } = *signed;
        self.known(loom, writer, head);
        if self.copies.disk.chain_at(loom, writer, head.sequence)? == Some(head.chain) {
            self.push(CopyMessage::Held { loom, writer, head, kind: CopyKind::Disk });
        }
        Ok(())
    }

    /// The other side acknowledges a log up to a place.
    pub(super) fn held(
        &mut self,
        loom: LoomId,
        writer: WriterKey,
        head: Head,
        kind: CopyKind,
    ) -> Result<(), StoreError> {
        // Nothing is remembered of looms that are not kept together with it.
        if !self.looms.contains_key(&loom) {
            return Ok(());
        }
        let Head { sequence, chain } = head;
        let here = || self.copies.store_of(loom, writer).chain_at(loom, writer, sequence);
        let wrong = match self.shown.of(loom, writer) {
            None => format!("it acknowledges {sequence} entries of writer {writer}, of which nothing was sent"),
            Some(sent) if sequence > sent => {
                format!("it acknowledges {sequence} entries of writer {writer}, and {sent} were sent")
            }
            Some(_) if here()? != Some(chain) => {
                format!("it acknowledges another entry {sequence} of writer {writer} than the one that was sent")
            }
            Some(_) => {
                self.answered(loom, Some(writer), sequence);
                let there = self.looms.entry(loom).or_default().entry(writer).or_default();
                there.sent = there.sent.max(sequence);
                let now_us = self.copies.clock.now_us();
                self.copies.note(loom, &self.peer, |state| state.count(now_us, kind, [(writer, sequence)]));
                return Ok(());
            }
        };
        self.answers_wrong(loom, wrong);
        Ok(())
    }

    /// Counts a wrong answer, of a loom that is kept together with the other side.
    pub(super) fn answers_wrong(&self, loom: LoomId, what: String) {
        let detail = format!("loom {loom}: {what}");
        self.copies.refusals.note(&self.peer, "what a keeper says that it has does not count", &detail);
        let now_us = self.copies.clock.now_us();
        self.copies.note(loom, &self.peer, |state| {
            state.wrong_answers = state.wrong_answers.saturating_add(1);
            state.fail(now_us, what);
        });
    }

    /// Takes down what the other side shows of the logs that are here too: the rest nobody could send it. Returns how far each log
    /// is there.
    pub(super) fn shows(
        &mut self,
        loom: LoomId,
        kind: CopyKind,
        logs: &[LogState],
    ) -> Result<HashMap<WriterKey, There>, StoreError> {
        let own = self.copies.disk.writer();
        let here: HashMap<WriterKey, Head> =
            self.copies.logs(loom)?.into_iter().map(|log| (log.writer, log.head)).collect();
        let (mut there, mut counted, mut wrong) = (HashMap::new(), Vec::new(), None);
        for log in logs {
            let Some(head) = here.get(&log.writer) else { continue };
            there.insert(log.writer, There { sent: log.head.sequence, refused: false });
            match self.copies.agrees(loom, *head, log)? {
                Some(sequence) => {
                    self.shown.up_to(loom, log.writer, sequence);
                    counted.push((log.writer, sequence));
                }
                // Of what this node itself has written another may have more only under this node's own signature.
                None if log.writer == own && log.signed.is_none_or(|signed| !is_word_for(loom, log, &signed)) => {
                    let sequence = log.head.sequence;
                    wrong = Some(format!("it shows {sequence} entries of this node's own that this node never signed"));
                }
                None => {}
            }
        }
        let now_us = self.copies.clock.now_us();
        self.copies.note(loom, &self.peer, |state| {
            state.connected = true;
            (state.has, state.durable) = Default::default();
            state.count(now_us, kind, counted);
        });
        if let Some(what) = wrong {
            self.answers_wrong(loom, what);
        }
        Ok(there)
    }
}

/// Whether a head is the writer's word for a log as it is shown.
fn is_word_for(loom: LoomId, log: &LogState, signed: &SignedHead) -> bool {
    (signed.loom, signed.writer) == (loom, log.writer) && signed.head == log.head && signed.is_signed()
}

impl super::Copies {
    /// How far a log that is shown is the one that is here: by its chain, or, where it is longer than the one here and another
    /// writer's, by its writer's signature. This node's own log counts no further than it is here.
    fn agrees(&self, loom: LoomId, here: Head, log: &LogState) -> Result<Option<u64>, StoreError> {
        let store = self.store_of(loom, log.writer);
        for head in std::iter::once(log.head).chain(log.signed.map(|signed| signed.head)) {
            if head.sequence <= here.sequence && store.chain_at(loom, log.writer, head.sequence)? == Some(head.chain) {
                return Ok(Some(head.sequence));
            }
        }
        let is_longer = |head: Head| head.sequence > here.sequence && log.writer != self.disk.writer();
        let signed = log.signed.filter(|signed| is_longer(signed.head) && is_word_for(loom, log, signed));
        Ok(signed.map(|signed| signed.head.sequence))
    }
}
