//! The record as it was when it was opened, for commands that only read. Another process may go on writing to it.

use std::path::Path;

use super::attested::Checks;
use super::database::Database;
use super::durable::{in_order, order};
use super::examine::{self, Copied};
use super::findings::Findings;
use super::marks::Marks;
use super::open::Folder;
use super::proved::ProofChecks;
use super::rows::{self, LAYOUT, Log, Place, Space};
use super::{durable_copies, verify};
use crate::domain::ids::{BlobId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{CastBatch, CastChain, CastHead, EquivocationProof, Head, Sealed};
use crate::ports::{BoxFuture, By, LogState, LoomStore, LoomSummary, StoreError, Verified};

/// A copy of a record, open for reading. It takes no entries.
#[derive(Debug)]
pub struct ReadingStore {
    folder: std::path::PathBuf,
    writer: WriterKey,
    copied: Copied,
    marks: Option<Marks>,
    pub(super) checks: Checks,
    pub(super) proof_checks: ProofChecks,
}

impl ReadingStore {
    /// The chain of a log at a place; nothing if it is not that long here.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn chain_at(&self, loom: LoomId, writer: WriterKey, sequence: u64) -> Result<Option<[u8; 32]>, StoreError> {
        durable_copies::chain_at(&self.copied.database, Log { loom, writer }, sequence)
    }

    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = Folder(path);
        folder.has_own_files()?;
        if !folder.has_database() {
            return Err(folder.refuse("there is no record here"));
        }
        let mut tries = 3;
        loop {
            tries -= 1;
            let marks = folder.marks()?;
            let mut findings = Findings::default();
            let (copied, _) = examine::copy(&folder, &mut findings)?;
            let whole = findings.is_empty();
            if let Some(copied) = copied
                && (whole || tries == 0)
                && let Some((layout, writer)) = copied.database.made_by()?
            {
                if layout != LAYOUT {
                    return Err(folder.refuse(rows::other_layout(layout)));
                }
                return Ok(Self {
                    folder: path.to_owned(),
                    writer,
                    copied,
                    marks,
                    checks: Checks::default(),
                    proof_checks: ProofChecks::default(),
                });
            }
            if tries == 0 {
                let what = findings.finish().findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>();
                return Err(folder.refuse(format!("{}; `loom verify` lists all of it", what.join("; "))));
            }
        }
    }

    pub(super) const fn database(&self) -> &Database {
        &self.copied.database
    }

    pub(super) fn refused(&self) -> StoreError {
        StoreError::Open {
            folder: self.folder.display().to_string(),
            what: "it was opened for reading only".to_owned(),
            source: None,
        }
    }

    fn indexed(&self, space: Space, prefix: &[u8]) -> Result<Vec<(Place, EntryId)>, StoreError> {
        let mut found = self.database().indexed(space, prefix)?;
        found.sort_by_key(|(place, _)| order(self.writer, place));
        let mut met = std::collections::HashSet::new();
        found.retain(|(_, id)| met.insert(*id));
        Ok(found)
    }
}

impl LoomStore for ReadingStore {
    fn writer(&self) -> WriterKey {
        self.writer
    }

    fn head(&self, loom: LoomId) -> Result<Head, StoreError> {
        Ok(self.database().head(Log { loom, writer: self.writer })?)
    }

    fn append(&self, _: Sealed) -> Result<(), StoreError> {
        Err(self.refused())
    }

    fn receive(&self, _: CastBatch) -> Result<(), StoreError> {
        Err(self.refused())
    }

    fn sign_cast(&self, _: LoomId, _: EntityId, _: CastChain) -> Result<CastHead, StoreError> {
        Err(self.refused())
    }

    fn cast_heads(&self, loom: LoomId) -> Result<Vec<CastHead>, StoreError> {
        Ok(self.database().cast_heads(loom)?)
    }

    fn covered(&self, loom: LoomId, after: u64, max: usize) -> Result<Vec<(u64, Vec<CastHead>)>, StoreError> {
        Ok(self.database().covered(loom, after, max)?)
    }

    fn recorded(&self, loom: LoomId, by: By, after: u64, max: usize) -> Result<Vec<(u64, Sealed)>, StoreError> {
        let log = match by {
            By::ThisNode => Log { loom, writer: self.writer },
            By::Others => Log::received(loom),
            By::Log(writer) => Log { loom, writer },
        };
        self.database().entries_after(log, after, max)
    }

    fn sync(&self, _: LoomId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn entry(&self, id: EntryId) -> Result<Option<Sealed>, StoreError> {
        self.database().entry(id)
    }

    fn entries(&self, loom: LoomId) -> Result<Vec<Sealed>, StoreError> {
        Ok(in_order(self.writer, self.database().entries(loom)?))
    }

    fn entries_of(&self, entity: EntityId) -> Result<Vec<Sealed>, StoreError> {
        let found = self.indexed(Space::Entities, entity.as_bytes())?;
        found.into_iter().map(|(place, id)| self.database().entry_at(place, id)).collect()
    }

    fn children(&self, id: EntryId) -> Result<Vec<EntryId>, StoreError> {
        Ok(self.indexed(Space::Children, &id.digest())?.into_iter().map(|(_, child)| child).collect())
    }

    fn loom_of(&self, entity: EntityId) -> Result<Option<LoomId>, StoreError> {
        Ok(self.database().loom_of(entity)?)
    }

    fn blob(&self, id: BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.database().blob(id)
    }

    fn logs(&self, loom: LoomId) -> Result<Vec<LogState>, StoreError> {
        durable_copies::logs(self.database(), loom)
    }

    fn formerly(&self) -> Result<Vec<WriterKey>, StoreError> {
        durable_copies::formerly(self.database())
    }

    fn aside(&self, loom: LoomId) -> Result<Vec<Sealed>, StoreError> {
        durable_copies::aside(self.database(), loom)
    }

    fn was_written_anew(&self, loom: LoomId, head: (WriterKey, Head)) -> Result<bool, StoreError> {
        durable_copies::was_written_anew(self.database(), loom, head)
    }

    fn proofs(&self) -> Result<Vec<EquivocationProof>, StoreError> {
        durable_copies::proofs(self.database())
    }

    fn accuse(&self, _: &EquivocationProof) -> Result<bool, StoreError> {
        Err(self.refused())
    }

    fn looms(&self) -> Result<Vec<LoomSummary>, StoreError> {
        Ok(rows::summaries(self.database().lines(&[])?))
    }

    fn verify(&self, loom: Option<LoomId>) -> Result<Verified, StoreError> {
        let mut findings = Findings::default();
        let synced = self.database().commit_row()?.marked;
        verify::run(self.database(), self.marks.as_ref(), synced, loom, &mut findings);
        Ok(findings.finish())
    }
}
