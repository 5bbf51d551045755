//! Proofs that a writer signed two histories: whose are kept, and that they are told.

use std::sync::Arc;

use super::blocking;
use super::cost::cost;
use super::session::Session;
use crate::domain::copies::CopyMessage;
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::limits::{PROOF_BYTES_MAX, PROOF_IDS_MAX};
use crate::domain::loom::ForkProof;
use crate::ports::StoreError;

impl Session {
    /// A peer says that a writer has signed two histories. That is kept of a writer whose log is here, in a loom that is kept together
    /// with this peer, once, and counts as something that it brings; of any other writer it would only fill the disk.
    pub(super) async fn accused(
        &mut self,
        loom: LoomId,
        writer: Option<WriterKey>,
        proof: ForkProof,
    ) -> Result<(), StoreError> {
        let is_ours = self.heard.contains(&loom)
            && proof.early.loom == loom
            && writer.is_none_or(|writer| writer == proof.writer())
            && proof.ids.len() <= PROOF_IDS_MAX
            && self.copies.logs(loom)?.iter().any(|log| log.writer == proof.writer());
        let bytes = proof.to_bytes().len();
        if !is_ours || bytes > PROOF_BYTES_MAX {
            let what =
                format!("loom {loom}: it is of a writer of no loom that is kept here with this peer, or too long");
            self.copies.refusals.note(&self.peer, "a proof of two histories was not kept", &what);
            return Ok(());
        }
        if self.copies.disk.is_accused(proof.writer())? {
            return Ok(());
        }
        if !self.copies.brings(&self.peer, cost(bytes, 1)) {
            self.copies.refusals.note(
                &self.peer,
                "a proof of two histories was not kept",
                &"keep_max_bytes is used up",
            );
            return Ok(());
        }
        let cheater = proof.writer();
        if self.accuse(proof).await? {
            tracing::error!(writer = %cheater, %loom, told_by = %self.peer, "a writer has signed two histories");
        }
        Ok(())
    }

    /// Keeps a proof. The write is synced: not on a thread that serves.
    async fn accuse(&self, proof: ForkProof) -> Result<bool, StoreError> {
        let copies = Arc::clone(&self.copies);
        blocking(move || Ok(copies.disk.accuse(&proof)? && copies.memory.accuse(&proof)?)).await
    }

    pub(super) async fn report(&mut self, loom: LoomId, proof: Box<ForkProof>) -> Result<(), StoreError> {
        let writer = proof.writer();
        self.accuse((*proof).clone()).await?;
        let what = format!("writer {writer} has signed two histories: nothing more is taken of it");
        tracing::error!(%loom, %writer, peer = %self.peer, "a writer has signed two histories: nothing more is taken of it");
        self.copies.note(loom, &self.peer, |state| state.last_error = Some(what.clone()));
        self.push(CopyMessage::Refused { loom, writer: Some(writer), what, proof: Some(proof) });
        Ok(())
    }
}
