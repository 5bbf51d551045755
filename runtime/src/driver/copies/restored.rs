//! Two signed histories of an earlier key of this node, after its folder was put back: what others have, and is not here, is fetched and
//! kept beside the log, so that nothing of either is lost (see `driver/anew.rs`).

use std::sync::Arc;

use super::session::Session;
use super::{Copies, blocking};
use crate::domain::copies::CopyMessage;
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::loom::{CheckedSegment, Head, Sealed, SignedHead};
use crate::ports::{StoreError, Taken};

impl Copies {
    /// Whether this node has written under a key before it took its present one.
    pub(super) fn is_former(&self, writer: WriterKey) -> Result<bool, StoreError> {
        Ok(self.disk.formerly()?.contains(&writer))
    }

    /// Whether what this node has signed up to a head is here: in its log, beside that, or written anew.
    pub(super) fn has_back(&self, signed: &SignedHead) -> Result<bool, StoreError> {
        let SignedHead { loom, writer, head, .. } = *signed;
        if self.disk.chain_at(loom, writer, head.sequence)? == Some(head.chain) {
            return Ok(true);
        }
        let Some(place) = self.disk.accused(loom, writer)?.filter(|place| *place <= head.sequence) else {
            return Ok(false);
        };
        if self.disk.was_written_anew(loom, (writer, head))? {
            return Ok(true);
        }
        let mut beside = self.heads_aside((loom, writer), place)?.into_iter();
        Ok(beside.any(|at| at == head))
    }

    /// The heads of what is kept beside the log of an earlier key: the one that it has in common with the log first.
    fn heads_aside(&self, (loom, writer): (LoomId, WriterKey), place: u64) -> Result<Vec<Head>, StoreError> {
        let sequence = place.saturating_sub(1);
        let Some(chain) = self.disk.chain_at(loom, writer, sequence)? else { return Ok(Vec::new()) };
        let mut heads = vec![Head { sequence, chain }];
        let mut at = Head { sequence, chain };
        for sealed in self.disk.aside(loom)?.iter().filter(|it| it.entry.writer == writer && it.entry.sequence >= place)
        {
            at = at.after(&sealed.id);
            heads.push(at);
        }
        Ok(heads)
    }
}

impl Session {
    /// Asks for what the other side has signed by an earlier key of this node, is proved to be another history than the one here, and is
    /// not here.
    pub(super) fn ask_back(&mut self, signed: &SignedHead) -> Result<(), StoreError> {
        let is_divided = self.copies.disk.accused(signed.loom, signed.writer)?.is_some();
        if is_divided && self.copies.is_former(signed.writer)? && !self.copies.has_back(signed)? {
            self.ask_from_the_beginning(signed.loom, signed.writer)?;
        }
        Ok(())
    }

    /// What became of a segment of an earlier key of this node: where it is of another history than the one here, it is kept beside that.
    /// Returns whether it was.
    pub(super) async fn has_other_history(
        &mut self,
        segment: &CheckedSegment,
        taken: &Result<Taken, StoreError>,
    ) -> Result<bool, StoreError> {
        match taken {
            Err(StoreError::Forked { proof, .. }) => {
                self.accuse((**proof).clone()).await?;
                self.take_aside(segment).await
            }
            Ok(Taken::Divided) | Err(StoreError::Cheater { .. }) => self.take_aside(segment).await,
            Ok(Taken::New(_) | Taken::Known | Taken::Gap(_)) | Err(_) => Ok(false),
        }
    }

    /// Keeps what is in a segment of the other history beside the log. Returns whether it follows what is there.
    pub(super) async fn take_aside(&mut self, segment: &CheckedSegment) -> Result<bool, StoreError> {
        let SignedHead { loom, writer, head, .. } = *segment.signed();
        let Some(place) = self.copies.disk.accused(loom, writer)? else { return Ok(false) };
        let known = match self.accusing.aside.get(&(loom, writer)) {
            Some(known) => *known,
            None => match self.copies.heads_aside((loom, writer), place)?.last() {
                Some(last) => *last,
                None => return Ok(false),
            },
        };
        let at = segment.heads().position(|head| head == known);
        let Some(skip) = at else {
            // What came before comes again.
            return Ok(head.sequence < known.sequence && head.sequence >= place);
        };
        let new: Vec<Sealed> = segment.entries().iter().skip(skip).cloned().collect();
        if !new.is_empty() {
            let disk = Arc::clone(&self.copies.disk);
            blocking(move || disk.keep_aside(loom, &new)).await?;
        }
        self.accusing.aside.insert((loom, writer), head);
        self.accusing.awaited.remove(&(loom, writer));
        self.known(loom, writer, head);
        // What is on its way is answered, so that the rest of it comes.
        let (_, kind) = self.copies.keeper(loom);
        self.push(CopyMessage::Held { loom, writer, head, kind });
        self.copies.has_come(loom)?;
        Ok(true)
    }
}
