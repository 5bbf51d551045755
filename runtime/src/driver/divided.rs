//! Whether what a writer signed of casts is in its log as it signed it, as far as both are here. Where it is not, that is proved to
//! everybody.

use std::collections::HashMap;

use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::DIVIDED_READ_ENTRIES;
use crate::domain::loom::{CastHead, CastHistory, CastInLog, CastUnit, EquivocationProof};
use crate::ports::{By, LoomStore, StoreError};

/// Follows logs along the casts of their writers, each entry once.
#[derive(Debug, Default)]
pub(super) struct Followed(HashMap<(LoomId, WriterKey, EntityId), (CastUnit, u64)>);

impl Followed {
    /// Looks whether a log leads to what its writer has signed of a cast. A log that is not so far here says nothing yet.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub(super) fn leads(&mut self, log: &dyn LoomStore, head: &CastHead) -> Result<bool, StoreError> {
        let CastHead { loom, writer, cast, at, .. } = *head;
        let (mut unit, mut to) = if let Some(followed) = self.0.remove(&(loom, writer, cast)) {
            followed
        } else {
            let of_root = log.entries_of(cast)?.into_iter().filter(|sealed| sealed.entry.writer == writer);
            let first = of_root.map(|sealed| sealed.entry.sequence).min().unwrap_or(at.place);
            (CastUnit::of(cast), first.saturating_sub(1))
        };
        while to < at.place {
            let many = usize::try_from(at.place.saturating_sub(to)).unwrap_or(usize::MAX).min(DIVIDED_READ_ENTRIES);
            let read = log.recorded(loom, By::Log(writer), to, many)?;
            let Some((last, _)) = read.last() else { break };
            to = *last;
            for (_, sealed) in &read {
                unit.takes(sealed);
            }
        }
        let leads = to < at.place || unit.at() == at;
        self.0.insert((loom, writer, cast), (unit, to));
        Ok(leads)
    }
}

/// What is kept here of a cast by one writer.
///
/// # Errors
/// A record that cannot be read.
pub(super) fn kept(
    casts: &dyn LoomStore,
    of @ (loom, writer, cast): (LoomId, WriterKey, EntityId),
) -> Result<CastHistory, StoreError> {
    let (mut unit, mut items, mut heads) = (CastUnit::of(cast), Vec::new(), Vec::new());
    casts.steps_received(loom, &mut |entries, covered| {
        for sealed in entries.iter().filter(|sealed| sealed.entry.writer == writer) {
            if unit.takes(sealed) {
                items.push((sealed.entry.sequence, sealed.id));
            }
        }
        heads.extend(covered);
        Ok(())
    })?;
    Ok(CastHistory::new(of, items, heads))
}

/// Finds the first place at which a log and what its writer has signed of a cast are not the same, and proves it.
///
/// # Errors
/// A record that cannot be read.
pub(super) fn against_log(
    log: &dyn LoomStore,
    of: (LoomId, WriterKey),
    history: &CastHistory,
) -> Result<Option<EquivocationProof>, StoreError> {
    let (loom, writer) = of;
    let (mut looking, mut to) = (CastInLog::new(history), 0);
    let prove = |id: EntryId| log.prove(id);
    while !looking.is_over() {
        let read = log.recorded(loom, By::Log(writer), to, DIVIDED_READ_ENTRIES)?;
        let Some((last, _)) = read.last() else { break };
        to = *last;
        for (_, sealed) in &read {
            if let Some(proof) = looking.look(sealed, prove)? {
                return Ok(Some(proof));
            }
        }
    }
    Ok(None)
}
