//! What each peer may have kept here: which looms, how many of them, whose logs, and how many bytes.

use std::collections::HashMap;

use super::{Copies, CopyError};
use crate::domain::caller::Caller;
use crate::domain::copies::{CopyKind, KEEPERS_MAX, Keeper, Keepers, LoomCopies};
use crate::domain::ids::{LoomId, NodeName, WriterKey};
use crate::domain::limits::{WRITERS_MAX, WRITERS_PER_PEER_MAX};
use crate::domain::loom::Body;
use crate::ports::StoreError;

/// Whether a loom that a peer names is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admitted {
    Yes,
    /// It is none of this peer's business, or does not exist: that is told in the same words.
    No,
    /// This peer has as many as it may.
    TooMany {
        looms: usize,
    },
}

/// What a log is that a peer brings a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brought {
    Known,
    New,
    /// It would be one more than its share.
    TooMany,
}

/// The looms that each peer has brought.
pub(super) fn named<'a>(looms: impl Iterator<Item = &'a LoomCopies>) -> HashMap<NodeName, usize> {
    let mut named: HashMap<NodeName, usize> = HashMap::new();
    for peer in looms.filter_map(|copies| copies.brought_by.clone()) {
        let count = named.entry(peer).or_default();
        *count = count.saturating_add(1);
    }
    named
}

impl Copies {
    /// Whether a peer that says that it keeps a loom may: it is one of its keepers, or brings a new one, or began it here. A peer
    /// that may bring none hears the same of a loom that is known and of one that is not.
    pub(super) fn admit(
        &self,
        peer: &Keeper,
        loom: LoomId,
        origin: &Keeper,
        keepers: &Keepers,
    ) -> Result<Admitted, StoreError> {
        let known = self.of(loom);
        let terms = self.policy.terms(peer);
        if keepers.len() > KEEPERS_MAX {
            return Ok(Admitted::No);
        }
        let mut after = known.clone().unwrap_or_else(|| {
            let origin = if origin.is_same(&self.node) { peer } else { origin };
            let brought_by = peer.answerable().cloned();
            LoomCopies { origin: origin.clone(), brought_by, ..LoomCopies::new(loom, &self.node) }
        });
        let is_keeper = known.as_ref().is_some_and(|copies| copies.kind(peer) != CopyKind::None);
        // What others have written of it on behalf of this node, as hosts of its casts, is in no log, and is nobody else's either.
        let is_unknown = || Ok::<_, StoreError>(self.logs(loom)?.is_empty() && self.disk.entries(loom)?.is_empty());
        let is_new = known.is_none() && (is_unknown()? || self.was_begun_by(loom, peer)?);
        if !is_keeper && !is_new {
            return Ok(Admitted::No);
        }
        after.merge(&self.node, peer, keepers);
        // Whoever brings it keeps it, whatever it calls itself.
        after.keepers.entry(peer.clone()).or_default();
        if after.kind(peer) == CopyKind::None {
            return Ok(Admitted::No);
        }
        let (from, to) = (known.map_or(CopyKind::None, |copies| copies.kind(&self.node)), after.kind(&self.node));
        if from != to && !terms.allow(to) {
            return Ok(Admitted::No);
        }
        let is_first = after.brought_by.is_some() && self.of(loom).is_none();
        if is_first && self.named_by(peer) >= terms.looms_max {
            return Ok(Admitted::TooMany { looms: terms.looms_max });
        }
        self.convert(loom, from, to)?;
        let changed = self.change(loom, |copies| {
            *copies = after;
            Ok(())
        });
        match changed {
            Ok(()) => Ok(Admitted::Yes),
            Err(CopyError::Store(error)) => Err(error),
            Err(CopyError::TooMany { .. } | CopyError::Acks { .. }) => Ok(Admitted::No),
        }
    }

    /// How many looms a peer has brought here.
    fn named_by(&self, peer: &Keeper) -> usize {
        let state = self.lock();
        peer.answerable().and_then(|peer| state.named.get(peer)).copied().unwrap_or_default()
    }

    /// Whether a log that a peer brings is taken: one that is here, or one within the peer's share of the loom's writers.
    pub(super) fn brings_writer(&self, peer: &Keeper, loom: LoomId, writer: WriterKey) -> Result<Brought, StoreError> {
        let logs = self.logs(loom)?;
        if logs.iter().any(|log| log.writer == writer) {
            return Ok(Brought::Known);
        }
        let mut state = self.lock();
        let brought = state.writers.entry((loom, peer.answerable().cloned())).or_default();
        if logs.len() >= WRITERS_MAX || (brought.len() >= WRITERS_PER_PEER_MAX && !brought.contains(&writer)) {
            return Ok(Brought::TooMany);
        }
        brought.insert(writer);
        Ok(Brought::New)
    }

    /// Whether everything of a loom that this node wrote was cast by this peer. Whoever may open the node's own socket may read its
    /// record anyway.
    fn was_begun_by(&self, loom: LoomId, peer: &Keeper) -> Result<bool, StoreError> {
        let Some(peer) = peer.answerable() else { return Ok(true) };
        let mut is_theirs = false;
        for sealed in self.disk.entries(loom)? {
            if let Body::Opened(opened) = &sealed.entry.body
                && sealed.entry.writer == self.disk.writer()
            {
                match &opened.caller {
                    Some(caller) if Caller::of_record(caller).is_some_and(|caller| caller.peer() == Some(peer)) => {
                        is_theirs = true;
                    }
                    // A child of what was cast here follows its parent.
                    None if opened.spawned_by.is_some() => {}
                    _ => return Ok(false),
                }
            }
        }
        Ok(is_theirs)
    }

    /// Counts what a peer brings. Returns whether it may bring more.
    pub(super) fn brings(&self, peer: &Keeper, bytes: u64) -> bool {
        let max = self.policy.terms(peer).bytes_max;
        let mut state = self.lock();
        let brought = state.brought.entry(peer.answerable().cloned()).or_default();
        let after = brought.saturating_add(bytes);
        if after > max {
            return false;
        }
        *brought = after;
        true
    }
}
