//! What one conversation says next: answers first, then what the other side lacks.

use super::session::Session;
use crate::domain::copies::{CastStep, CopyKind, CopyMessage};
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::limits::UNANSWERED_BYTES_MAX;
use crate::domain::loom::{CastHead, Segment, text_ids};
use crate::ports::StoreError;

/// 65 536. So many texts are known to be there already, so that none is sent twice.
const TEXTS_SENT_KEPT: usize = 65_536;

/// What is sent next of a loom.
enum Next {
    /// What vouches for a writer, which waits to be sent.
    Attestations,
    Segment(Box<Segment>),
    Cast(CastStep),
}

impl Session {
    /// The next message to send, if there is one now.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn next_message(&mut self) -> Result<Option<CopyMessage>, StoreError> {
        if let Some(message) = self.pop().or_else(|| self.attesting.out.pop_front()) {
            return Ok(Some(message));
        }
        if self.unanswered_bytes >= UNANSWERED_BYTES_MAX {
            return Ok(None);
        }
        let dirty: Vec<LoomId> = self.dirty.iter().copied().collect();
        for loom in dirty {
            let is_kept = self.copies.of(loom).is_some_and(|copies| copies.kind(&self.peer) != CopyKind::None);
            if is_kept && self.heard.contains(&loom) && self.ask_fences(loom) {
                return Ok(self.pop());
            }
            if is_kept
                && self.heard.contains(&loom)
                && let Some(next) = self.next_of(loom)?
            {
                return match next {
                    Next::Attestations => Ok(self.attesting.out.pop_front()),
                    Next::Segment(segment) => self.send(*segment),
                    Next::Cast(step) => self.send_cast(step),
                };
            }
            if is_kept && self.heard.contains(&loom) && self.tell_of(loom)? {
                return Ok(self.pop());
            }
            self.dirty.remove(&loom);
        }
        Ok(None)
    }

    fn next_of(&mut self, loom: LoomId) -> Result<Option<Next>, StoreError> {
        let own = self.copies.disk.writer();
        // What this node wrote goes first: it waits for acknowledgements. The other logs are looked up once all of that is there.
        let head = self.copies.disk.head(loom)?;
        if head.sequence > 0
            && let Some(next) = self.next_of_log(loom, own, head.sequence)?
        {
            return Ok(Some(next));
        }
        for log in self.copies.logs(loom)?.into_iter().filter(|log| log.writer != own) {
            if let Some(next) = self.next_of_log(loom, log.writer, log.head.sequence)? {
                return Ok(Some(next));
            }
        }
        let Some(step) = self.next_cast(loom)? else { return Ok(None) };
        Ok(Some(Next::Cast(step)))
    }

    /// What is sent next of a log that goes up to a place here.
    fn next_of_log(&mut self, loom: LoomId, writer: WriterKey, to: u64) -> Result<Option<Next>, StoreError> {
        let there = self.looms.get(&loom).and_then(|logs| logs.get(&writer)).copied().unwrap_or_default();
        if there.refused {
            return Ok(None);
        }
        if self.attest(loom, writer)? {
            return Ok(Some(Next::Attestations));
        }
        if there.sent >= to {
            return Ok(None);
        }
        let segment = self.copies.segment(loom, writer, there.sent)?;
        Ok(segment.map(|segment| Next::Segment(Box::new(segment))))
    }

    fn send(&mut self, segment: Segment) -> Result<Option<CopyMessage>, StoreError> {
        let signed = segment.signed;
        self.known(signed.loom, signed.writer, signed.head);
        let bytes = self.send_texts(signed.loom, &segment.entries)?;
        self.unanswered.push_back((signed.loom, signed.writer, signed.head.sequence, bytes));
        self.push(CopyMessage::Segment(Box::new(segment)));
        Ok(self.pop())
    }

    fn send_cast(&mut self, step: CastStep) -> Result<Option<CopyMessage>, StoreError> {
        for head in &step.heads {
            self.attest(step.loom, head.writer)?;
        }
        for attestation in std::mem::take(&mut self.attesting.out) {
            self.push(attestation);
        }
        let bytes = self.send_texts(step.loom, &step.entries)?;
        self.sends_cast(&step, bytes);
        self.push(CopyMessage::Cast(Box::new(step)));
        Ok(self.pop())
    }

    /// Puts the texts of entries on their way that were not sent yet. Returns how many bytes they and the entries have.
    fn send_texts(&mut self, loom: LoomId, entries: &[Vec<u8>]) -> Result<usize, StoreError> {
        let mut bytes = entries.iter().fold(0_usize, |sum, entry| sum.saturating_add(entry.len()));
        for id in entries.iter().flat_map(|entry| text_ids(entry)) {
            if self.texts_sent.len() >= TEXTS_SENT_KEPT {
                self.texts_sent.clear();
            }
            if self.texts_sent.insert(id)
                && let Some(text) = self.copies.text(loom, id)?
            {
                bytes = bytes.saturating_add(text.len());
                self.push(CopyMessage::Text { loom, bytes: text });
            }
        }
        self.unanswered_bytes = self.unanswered_bytes.saturating_add(bytes);
        Ok(bytes)
    }

    /// Whether the other side has the log of a cast head's writer as far as the head goes.
    pub(super) fn has_logged(&self, loom: LoomId, head: &CastHead) -> bool {
        let there = self.looms.get(&loom).and_then(|logs| logs.get(&head.writer));
        there.is_some_and(|there| !there.refused && there.sent >= head.at.place)
    }
}
