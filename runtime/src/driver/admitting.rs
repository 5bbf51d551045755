//! The near side of a remote cast as far as it says who may write: the host is admitted for what it opens and for all below it, and is
//! shown by which right this node admits it.
//!
//! A host says its key when it is chosen. The admission is durable before the host hears of it, and is made once for each key.

use std::collections::HashSet;
use std::sync::Arc;

use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::{ADMISSION_DEPTH_MAX, PROVED_ORDER_MAX, RECEIVED_BYTES_MAX};
use crate::domain::loom::{Body, Minted, Sealed};
use crate::domain::members::{Admitted, CheckedProof, LogEnd, Right, Scope, Settled};
use crate::domain::remote::{Credentials, HostIdentity, MEMBERS, Order};
use crate::domain::steps;
use crate::ports::{By, Home, LoomStore, PeerError, Peers, RemoteEnd, StoreError};

use super::fault::Fault;
use super::intake::Intake;
use super::recorder::Loom;
use super::vouching::vouching;

/// 256 ends: with about 150 bytes each they are well within the 64 KiB of an entry. A cast of more writers is settled with several.
const ENDS_SETTLED_AT_ONCE: usize = 256;

/// 1 024 entries, as many as a segment has. So many of a log are looked through at once.
const ENTRIES_READ: usize = 1_024;

/// What a host is admitted for.
#[derive(Debug)]
pub(super) struct Child {
    /// The entity that it opens.
    pub(super) entity: EntityId,
    /// What that one's id commits to.
    pub(super) minted: Minted,
    /// The entity that delegates it, and the entry that says so; nothing for a root.
    pub(super) delegated: Option<(EntityId, EntryId)>,
    /// Whether it may have been cast before, by this node before it was started again.
    pub(super) may_be_known: bool,
    /// The admission that was given for it before, by this node or by whoever had the entity that delegates it.
    pub(super) given: Option<EntryId>,
}

/// The admission of a host under one key.
#[derive(Debug, Clone)]
pub(super) struct HostAdmission {
    opener: WriterKey,
    admission: EntryId,
    credentials: Arc<Credentials>,
}

impl Child {
    /// Has an order run by a host that is admitted for it. A host that has taken another key since it was asked is admitted anew, once.
    pub(super) async fn cast(
        &self,
        loom: &Loom,
        (peers, node): (&dyn Peers, &str),
        mut order: Order,
        known: &mut Option<HostAdmission>,
        home: &dyn Home,
    ) -> Result<Result<RemoteEnd, PeerError>, Fault> {
        let opener = match peers.identify(node, false).await {
            Ok(opener) => opener,
            Err(error) => return Ok(Err(error)),
        };
        order.credentials = Box::pin(self.admit(loom, &opener, known)).await?;
        let ended = peers.cast(node, &order, home).await;
        let Err(PeerError::Refused { refusal, .. }) = &ended else { return Ok(ended) };
        if refusal.rule != MEMBERS {
            return Ok(ended);
        }
        match peers.identify(node, true).await {
            Ok(now) if now.key != opener.key => {
                order.credentials = Box::pin(self.admit(loom, &now, known)).await?;
                Ok(peers.cast(node, &order, home).await)
            }
            Ok(_) | Err(_) => Ok(ended),
        }
    }

    /// Says that the cast is over here: whatever its host writes of it from now on is no part of it. A further intent needs another
    /// admission. Without one that was given there is nothing to end.
    pub(super) fn settle(&self, loom: &Loom, known: &mut Option<HostAdmission>, intake: &Intake) -> Result<(), Fault> {
        let Some(HostAdmission { admission, .. }) = known.take() else { return Ok(()) };
        self.settle_one(loom, admission, intake)
    }

    fn settle_one(&self, loom: &Loom, admission: EntryId, intake: &Intake) -> Result<(), Fault> {
        let ends = intake.ends()?;
        // Whatever one of them names is part of the cast.
        let mut parts: Vec<Vec<LogEnd>> = ends.chunks(ENDS_SETTLED_AT_ONCE).map(<[LogEnd]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        for ends in parts {
            let settled = Settled { child: self.entity, admission, ends, by: None, note: None };
            loom.settle(self.delegated, settled)?;
        }
        Ok(())
    }

    /// The same for admissions that this node gave before it was started again, or that whoever had the entity gave which delegates it.
    pub(super) fn settle_given(&self, loom: &Loom, intake: &Intake) -> Result<(), Fault> {
        let mut open = loom.given()?.open_for(self.entity);
        open.extend(self.given.filter(|given| !open.contains(given)));
        for admission in open {
            self.settle_one(loom, admission, intake)?;
        }
        Ok(())
    }

    /// Admits a host, unless it was under this key.
    async fn admit(
        &self,
        loom: &Loom,
        opener: &Arc<HostIdentity>,
        known: &mut Option<HostAdmission>,
    ) -> Result<Arc<Credentials>, Fault> {
        if let Some(known) = known.as_ref().filter(|known| known.opener == opener.key) {
            return Ok(Arc::clone(&known.credentials));
        }
        let Self { entity, minted, delegated, may_be_known, given } = *self;
        let scope = Scope { entity, minted, opener: opener.key, bytes_max: RECEIVED_BYTES_MAX };
        let admitted = Admitted {
            principal: opener.principal.clone(),
            rights: std::iter::once(Right::Write).collect(),
            scope: Some(scope),
            again: Vec::new(),
            by: None,
            note: None,
        };
        let is_same = |id: &EntryId| {
            let given = loom.store().entry(*id)?.map(|sealed| sealed.entry.body);
            Ok::<_, StoreError>(matches!(given, Some(Body::Admitted(given)) if given.scope == Some(scope)))
        };
        let given = match given {
            Some(id) => is_same(&id)?.then_some(id),
            None => None,
        };
        let known_before = if given.is_some() {
            given
        } else if may_be_known {
            // What was given and ended before is read from what is durable.
            loom.sync().await?;
            loom.given()?.of(&scope)
        } else {
            None
        };
        let admission = known_before.map_or_else(|| loom.admit(delegated, admitted), Ok)?;
        // What the host is shown has to be there whatever becomes of this node, and so has what the child follows.
        loom.sync().await?;
        let (open, host) = (loom.clone(), Arc::clone(opener));
        let adopted = match delegated {
            Some((parent, _)) if may_be_known => adoption_of(loom, parent)?,
            Some(_) | None => None,
        };
        let shown: Vec<EntryId> = delegated.map(|(_, entry)| entry).into_iter().chain(adopted).collect();
        // It reads and may write: not on a thread that serves.
        let gathered = tokio::task::spawn_blocking(move || credentials(&open, admission, &shown, &host)).await;
        let credentials = Arc::new(gathered.map_err(|error| Fault::Stopped(error.to_string()))??);
        *known = Some(HostAdmission { opener: opener.key, admission, credentials: Arc::clone(&credentials) });
        Ok(credentials)
    }
}

/// The admissions for casts that this node has written into a loom, and which of them it has ended.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Up to where this node's log was read, and under which key.
    to: u64,
    writer: Option<WriterKey>,
    all: Vec<(Scope, EntryId)>,
    ended: HashSet<EntryId>,
}

impl Given {
    /// Reads what this node has written since the last time.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub(super) fn go_on(&mut self, store: &dyn LoomStore, loom: LoomId) -> Result<(), StoreError> {
        let own = store.writer();
        if self.writer != Some(own) {
            *self = Self { writer: Some(own), ..Self::default() };
        }
        loop {
            let read = store.recorded(loom, By::ThisNode, self.to, ENTRIES_READ)?;
            let Some((last, _)) = read.last() else { return Ok(()) };
            self.to = *last;
            steps::count(read.len() as u64);
            for (_, sealed) in read {
                if let Body::Admitted(admitted) = &sealed.entry.body {
                    self.all.extend(admitted.scope.map(|scope| (scope, sealed.id)));
                } else if let Body::Settled(settled) = &sealed.entry.body {
                    self.ended.insert(settled.admission);
                }
            }
        }
    }

    /// The admissions for an entity that this node has not ended.
    pub(super) fn open_for(&self, entity: EntityId) -> Vec<EntryId> {
        let given = self.all.iter().filter(|(scope, id)| scope.entity == entity && !self.ended.contains(id));
        given.map(|(_, id)| *id).collect()
    }

    /// The admission for the same that this node has not ended since.
    pub(super) fn of(&self, scope: &Scope) -> Option<EntryId> {
        let same = self.all.iter().rev().filter(|(given, _)| given == scope);
        same.map(|(_, id)| *id).find(|id| !self.ended.contains(id))
    }
}

/// What shows a host that an admission holds: the entries from the loom's founding to it, and what vouches for their writers' keys.
fn credentials(
    loom: &Loom,
    admission: EntryId,
    shown: &[EntryId],
    opener: &HostIdentity,
) -> Result<Credentials, Fault> {
    let store = loom.store();
    // One too many of a key is left out: what is kept says the same.
    drop(store.attest(loom.id(), &opener.attestations)?);
    let mut chain: Vec<CheckedProof> = vec![proof(loom, admission)?];
    while let Some(relies) = chain.last().and_then(|last| last.sealed().entry.relies) {
        if chain.len() > ADMISSION_DEPTH_MAX as usize {
            break;
        }
        chain.push(proof(loom, relies)?);
    }
    chain.push(proof(loom, loom.founding()?)?);
    chain.reverse();
    for entry in shown {
        let proof = proof(loom, *entry)?;
        // By which right an adopter goes on with the entity.
        let mut relies =
            proof.sealed().entry.relies.filter(|_| matches!(proof.sealed().entry.body, Body::Adopted { .. }));
        chain.push(proof);
        while let Some(id) =
            relies.filter(|id| chain.len() <= PROVED_ORDER_MAX && chain.iter().all(|known| known.id() != *id))
        {
            let proof = self::proof(loom, id)?;
            relies = proof.sealed().entry.relies;
            chain.push(proof);
        }
    }
    let keys = chain.iter().map(|proof| proof.sealed().entry.writer).chain([opener.key]);
    let mut attestations = vouching(store, loom.id(), keys)?;
    let said = opener.attestations.iter().filter(|said| !attestations.contains(said)).cloned().collect::<Vec<_>>();
    attestations.extend(said);
    Ok(Credentials { proofs: chain.iter().map(CheckedProof::to_proof).collect(), attestations })
}

/// The entry by which this node goes on with an entity that another has opened; nothing where it is its own.
fn adoption_of(loom: &Loom, entity: EntityId) -> Result<Option<EntryId>, Fault> {
    let store = loom.store();
    let (own, former) = (store.writer(), store.formerly()?);
    let is_own = |key: WriterKey| key == own || former.contains(&key);
    let entries = store.entries_of(entity)?;
    let opened = entries.iter().find(|sealed| matches!(sealed.entry.body, Body::Opened(_)));
    if opened.is_none_or(|opened| is_own(opened.entry.writer)) {
        return Ok(None);
    }
    let adopts = |sealed: &&Sealed| matches!(sealed.entry.body, Body::Adopted { .. }) && is_own(sealed.entry.writer);
    let epoch = |sealed: &Sealed| if let Body::Adopted { epoch, .. } = sealed.entry.body { Some(epoch) } else { None };
    Ok(entries.iter().filter(adopts).max_by_key(|sealed| epoch(sealed)).map(|sealed| sealed.id))
}

/// Proves an entry: from a log that is here, or as it was proved to this node.
fn proof(loom: &Loom, entry: EntryId) -> Result<CheckedProof, Fault> {
    if let Some(proof) = loom.store().prove(entry)? {
        return Ok(proof);
    }
    let proved = loom.store().proved_entry(loom.id(), entry)?;
    proved.ok_or_else(|| Fault::Unproved { loom: loom.id(), what: format!("entry {entry}") })
}
