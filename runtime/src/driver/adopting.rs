//! Going on with an entity that another node has written: from where, behind whose promise to acknowledge nothing more to that one, and
//! as what it is recorded.

use std::collections::BTreeSet;

use crate::domain::copies::Keeper;
use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{Body, CastUnit, Sealed, ViewError};
use crate::domain::members::{Deed, LogEnd, Principal, Reader};
use crate::ports::{LoomStore, StoreError};

use super::copies::{Copies, Due, Fencing, NotFenced};
use super::fault::Fault;
use super::host::Host;
use super::members::permission;
use super::recorder::{Loom, read_tree};
use super::runtime::Runtime;

/// 8 times. So often an adopter begins again that has met a fence above its own, or another count of acknowledgements.
const ROUNDS: usize = 8;

/// Whether an entry is part of a thread, so that the next one follows it, and not beside it.
pub(super) const fn is_followed(body: &Body) -> bool {
    !matches!(body, Body::Rewarded { .. } | Body::Replayed { .. } | Body::Admitted(_) | Body::Settled(_))
}

/// From where whoever adopts an entity goes on: the newest entry of it that a signed head of its owner's log covers, and that head.
fn last_covered(
    store: &dyn LoomStore,
    reader: &Reader<'_>,
    (loom, entity): (LoomId, EntityId),
) -> Result<(EntryId, LogEnd), Fault> {
    let owner = reader.owner(entity).ok_or(ViewError::NoEntity(entity))?.writer;
    let is_of_thread = |sealed: &&Sealed| {
        sealed.entry.writer == owner && reader.counts(sealed.id).is_ok() && is_followed(&sealed.entry.body)
    };
    let entries = store.entries_of(entity)?;
    let signed = store.logs(loom)?.into_iter().find(|log| log.writer == owner).and_then(|log| log.signed);
    if let Some(signed) = signed {
        let covered = |sealed: &&Sealed| sealed.entry.sequence <= signed.head.sequence;
        let last = entries.iter().filter(is_of_thread).filter(covered).max_by_key(|sealed| sealed.entry.sequence);
        if let Some(last) = last {
            let (sequence, chain) = (signed.head.sequence, signed.head.chain);
            // Whoever called it has its entries of the cast and no log.
            let end = match reader.cast_of(last.id) {
                Some(cast) => end_of_cast(&of_owner(store, loom, owner, sequence)?, cast).end(owner, cast),
                None => LogEnd { writer: owner, sequence, chain, cast: None },
            };
            return Ok((last.id, end));
        }
    }
    // Of a cast elsewhere there is no log here, and its host's word for the cast.
    let heads = store.cast_heads(loom)?.into_iter().filter(|head| head.writer == owner);
    let of_owner = of_owner(store, loom, owner, u64::MAX)?;
    for head in heads {
        let (mut unit, mut last) = (CastUnit::of(head.cast), None);
        for sealed in of_owner.iter().filter(|sealed| sealed.entry.sequence <= head.at.place) {
            if unit.takes(sealed) {
                last = Some(sealed).filter(|it| it.entry.entity == Some(entity) && is_of_thread(it)).or(last);
            }
        }
        if let Some(last) = last.filter(|_| unit.at() == head.at) {
            return Ok((last.id, unit.end(owner, head.cast)));
        }
    }
    Err(Fault::Unsigned { entity, owner })
}

/// What is here of a writer up to a place, in the order of its log.
pub(super) fn of_owner(
    store: &dyn LoomStore,
    loom: LoomId,
    writer: WriterKey,
    up_to: u64,
) -> Result<Vec<Sealed>, StoreError> {
    let mut all = store.entries(loom)?;
    all.retain(|sealed| sealed.entry.writer == writer && sealed.entry.sequence <= up_to);
    all.sort_by_key(|sealed| sealed.entry.sequence);
    Ok(all)
}

/// Follows a writer's entries of a cast to their end.
pub(super) fn end_of_cast(of_writer: &[Sealed], cast: EntityId) -> CastUnit {
    let mut unit = CastUnit::of(cast);
    for sealed in of_writer {
        unit.takes(sealed);
    }
    unit
}

/// That this node goes on with an entity, as it is to be written.
pub(super) struct Adoption {
    pub(super) relies: Option<EntryId>,
    pub(super) follows: EntryId,
    pub(super) epoch: u64,
    pub(super) body: Body,
    /// How many of whom, but for this node, have to acknowledge that, each by what the former owner's log says.
    pub(super) former: Vec<(u32, BTreeSet<Keeper>)>,
}

/// Finds out whether this node may go on with an entity, and from where.
pub(super) fn adoption(
    store: &dyn LoomStore,
    reader: &Reader<'_>,
    (loom, entity): (LoomId, EntityId),
    (node, fenced, accept_loss): (String, Option<u64>, bool),
) -> Result<Adoption, Fault> {
    let relies = permission(reader, store.writer(), loom, Deed::Adopt(entity))?;
    let (follows, end) = last_covered(store, reader, (loom, entity))?;
    let next = reader.next_epoch(entity, &[]).ok_or(ViewError::NoEntity(entity))?;
    // As the keepers have stored it, where they have.
    let epoch = fenced.unwrap_or_default().max(next);
    let body = Body::Adopted { epoch, node, last: Some(end), accept_loss, by: None, note: None };
    let own = store.writer();
    let owner = reader.owner(entity).filter(|owner| owner.writer != own);
    let kept = owner.map(|owner| Kept::of(reader, owner.writer)).unwrap_or_default();
    let former = kept.into_iter().map(|kept| {
        let (others, _, is_own) = kept.others(reader, own);
        (kept.acks.saturating_sub(u32::from(is_own)), others)
    });
    let former = former.filter(|(acks, _)| *acks > 0).collect();
    Ok(Adoption { relies, follows, epoch, body, former })
}

/// Goes on with an entity of this node itself, under an earlier key.
pub(super) fn take_over(open: &Loom, entity: EntityId, node: &str) -> Result<(), Fault> {
    let store = open.store();
    let batch = store.batch(open.id())?;
    let around = (node.to_owned(), None, false);
    let taken = adoption(store, &Reader::of(&batch), (open.id(), entity), around)?;
    let Adoption { relies, follows, body, former, .. } = taken;
    open.append_adoption((entity, follows), relies, body, former).map(drop)
}

/// An own entity that is gone on with behind a fence goes on from what is signed.
fn sign_own(open: &Loom, entity: EntityId) -> Result<(), Fault> {
    let store = open.store();
    let own = store.writer();
    let newest = store.entries_of(entity)?.into_iter().filter(|sealed| sealed.entry.writer == own);
    if let Some(newest) = newest.max_by_key(|sealed| sealed.entry.sequence) {
        drop(store.prove(newest.id)?);
    }
    Ok(())
}

/// How many keepers acknowledge what an owner writes, and which of them count, as the owner's log says it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    acks: u32,
    keepers: Vec<Principal>,
}

impl Kept {
    /// What a writer's log says of it: what it said last, and what held before, as long as it has not said twice what holds now. An
    /// adopter who knows only of the former is met there.
    fn of(reader: &Reader<'_>, writer: WriterKey) -> Vec<Self> {
        let own = reader.counting().filter(|sealed| sealed.entry.writer == writer);
        let keeping = own.filter_map(|sealed| {
            let Body::Keeping { acks, keepers, accept_loss } = &sealed.entry.body else { return None };
            Some((sealed.entry.sequence, *accept_loss, Self { acks: *acks, keepers: keepers.clone() }))
        });
        let mut all: Vec<_> = keeping.collect();
        all.sort_by_key(|(place, ..)| *place);
        // What was given up by accepting a loss is asked for no more.
        let given_up = all.iter().rposition(|(_, accept_loss, _)| *accept_loss).unwrap_or_default();
        let last = all.len().saturating_sub(2).max(given_up);
        let mut kept: Vec<Self> = all.into_iter().skip(last).map(|(.., kept)| kept).collect();
        kept.dedup();
        kept
    }

    /// Whether no acknowledgement is asked for by any of what holds.
    fn asks_nothing(kept: &[Self]) -> bool {
        kept.iter().all(|kept| kept.acks == 0)
    }

    /// So many have to store a fence that one of them has whatever was acknowledged.
    fn wanted(&self) -> usize {
        self.keepers.len().saturating_sub(usize::try_from(self.acks).unwrap_or(usize::MAX)).saturating_add(1)
    }

    /// The keepers but for this node, by the names of their certificates, and whether this node is one of them.
    fn others(&self, reader: &Reader<'_>, own: WriterKey) -> (BTreeSet<Keeper>, Vec<Principal>, bool) {
        let (mut others, mut named, mut is_own) = (BTreeSet::new(), Vec::new(), false);
        for keeper in &self.keepers {
            if reader.is_of(own, keeper) {
                is_own = true;
                continue;
            }
            if let Principal::Node(node) = keeper {
                others.insert(Keeper::Node(node.name.clone()));
            }
            named.push(keeper.clone());
        }
        (others, named, is_own)
    }
}

/// What is known before an adoption is written.
#[derive(Debug, Default)]
struct Promised {
    /// The epoch of the fence that enough keepers have stored.
    epoch: Option<u64>,
    /// How many of whom acknowledge what the former owner writes.
    former: Option<Kept>,
    /// Too few have promised anything.
    loses: bool,
}

impl Runtime {
    /// Whether this node has to say something of acknowledgements in its log of a loom.
    pub fn has_to_say(&self, loom: LoomId) -> bool {
        self.host.copies.as_ref().is_some_and(|copies| copies.is_keeping_due(loom))
    }

    /// Says in this node's log of a loom how many of whom acknowledge what follows, and waits until that is acknowledged.
    ///
    /// # Errors
    /// Too few keepers that answer, or a record that cannot be written.
    pub async fn say_keeping(&self, loom: LoomId) -> Result<(), Fault> {
        let open = self.host.open(loom)?;
        open.ready().await?;
        open.sync().await
    }

    /// Returns once this node may go on with an entity of its own, before [`Runtime::resume`]: what it has written under an earlier key is
    /// taken over by way of its keepers, where turns had to be acknowledged.
    ///
    /// # Errors
    /// Too few keepers that answer, or a record that cannot be read or written.
    pub async fn ready_for(&self, loom: LoomId, entity: EntityId) -> Result<(), Fault> {
        self.ready(loom).await?;
        self.host.regain(loom, entity).await
    }

    /// Makes this node the owner of an entity that another has written: whatever that one writes of it from here on is no part of
    /// its thread. Where turns of it had to be acknowledged, so many keepers promise first to acknowledge nothing more of it that one
    /// of them has whatever was; with `accept_loss` it is done without that too, and recorded so. Returns the entry and the epoch.
    ///
    /// # Errors
    /// No such entity here, one that is this node's already, too few keepers that promise it, a loom in which this node may not, or a
    /// record that cannot be written.
    pub async fn adopt(&self, loom: LoomId, entity: EntityId, accept_loss: bool) -> Result<(EntryId, u64), Fault> {
        self.host.open(loom)?.ready().await?;
        read_tree(&*self.host.store, loom)?.may_go_on(entity)?;
        self.host.adopt(loom, entity, accept_loss).await
    }
}

impl Host {
    /// Goes on with an entity of this node itself, under an earlier key, where turns of it had to be acknowledged: whoever else adopts it
    /// at the same time is met at its keepers.
    pub(super) async fn regain(&self, loom: LoomId, entity: EntityId) -> Result<(), Fault> {
        let former = self.store.formerly()?;
        let is_former = |key: &WriterKey| former.contains(key);
        if former.is_empty() || !self.store.entries_of(entity)?.iter().any(|it| is_former(&it.entry.writer)) {
            return Ok(());
        }
        let is_asked_for = {
            let batch = self.store.batch(loom)?;
            let reader = Reader::of(&batch);
            let owner = reader.owner(entity).map(|owner| owner.writer).filter(is_former);
            owner.is_some_and(|owner| !Kept::asks_nothing(&Kept::of(&reader, owner)))
        };
        if is_asked_for {
            self.adopt(loom, entity, false).await?;
        }
        Ok(())
    }

    async fn adopt(&self, loom: LoomId, entity: EntityId, accept_loss: bool) -> Result<(EntryId, u64), Fault> {
        let open = self.open(loom)?;
        if !open.is_known()? {
            return Err(Fault::NoLoom { loom });
        }
        open.adopt(entity, &self.node, accept_loss).await
    }
}

impl Loom {
    /// Makes this node the owner of an entity, behind the promises of its owner's keepers. Returns the entry and the epoch.
    pub(super) async fn adopt(&self, entity: EntityId, node: &str, accept_loss: bool) -> Result<(EntryId, u64), Fault> {
        let (loom, copies) = (self.id(), self.copies());
        let owner = {
            let batch = self.store().batch(loom)?;
            Reader::of(&batch).owner(entity).ok_or(ViewError::NoEntity(entity))?
        };
        let is_fenced = copies.is_some_and(|copies| copies.fenced_own(entity).is_some());
        if owner.writer == self.store().writer() && !is_fenced {
            return Err(Fault::OwnEntity { entity });
        }
        let promised = match copies {
            Some(copies) => self.promised(copies, entity, accept_loss).await?,
            None => self.promised_alone(entity, accept_loss)?,
        };
        let adopted = self.take_over_behind(entity, node, promised)?;
        // What is written behind it waits for whoever has to acknowledge it.
        self.sync_here().await?;
        if let Some(copies) = copies {
            copies.fence(entity, None);
            copies.fence_passed(entity);
            copies.fences_changed(loom);
        }
        Ok(adopted)
    }

    /// Has so many keepers promise to acknowledge nothing more of an entity to its owner as its owner's log asks for.
    async fn promised(&self, copies: &Copies, entity: EntityId, accept_loss: bool) -> Result<Promised, Fault> {
        let (loom, own) = (self.id(), self.store().writer());
        let mut above = copies.fence_epochs(loom, entity)?;
        'rounds: for _ in 0..ROUNDS {
            let (kept, others, epoch) = {
                let batch = self.store().batch(loom)?;
                let reader = Reader::of(&batch);
                permission(&reader, own, loom, Deed::Adopt(entity))?;
                let owner = reader.owner(entity).ok_or(ViewError::NoEntity(entity))?;
                let epoch = reader.next_epoch(entity, &above).ok_or(ViewError::NoEntity(entity))?;
                let kept = Kept::of(&reader, owner.writer);
                if Kept::asks_nothing(&kept) {
                    return Ok(Promised { epoch: Some(epoch), ..Promised::default() });
                }
                let others: Vec<_> = kept.iter().map(|kept| kept.others(&reader, own)).collect();
                (kept, others, epoch)
            };
            for (kept, (others, _, is_own)) in kept.iter().zip(&others).filter(|(kept, _)| kept.acks > 0) {
                let fenced = copies.have_fenced((loom, entity, epoch), (others, *is_own, kept.wanted())).await?;
                match fenced {
                    Ok(Fencing::Stored) => {}
                    Ok(Fencing::Above(epoch)) => {
                        above.push(epoch);
                        continue 'rounds;
                    }
                    Err(too_few) if accept_loss => {
                        tracing::warn!(%loom, %entity, %too_few, "an entity is adopted although something may be lost");
                        return Ok(Promised { epoch: Some(epoch), former: None, loses: true });
                    }
                    Err(too_few) => return Err(too_few.into()),
                }
            }
            // What has come may ask for others, or say that the entity is another's.
            let is_same = {
                let batch = self.store().batch(loom)?;
                let reader = Reader::of(&batch);
                let owner = reader.owner(entity).ok_or(ViewError::NoEntity(entity))?;
                Kept::of(&reader, owner.writer) == kept && owner.epoch < epoch
            };
            if is_same {
                return Ok(Promised { epoch: Some(epoch), former: kept.last().cloned(), loses: false });
            }
        }
        Err(Fault::Contended { entity })
    }

    /// The same where nothing is kept together with others: nobody but this node can promise anything.
    fn promised_alone(&self, entity: EntityId, accept_loss: bool) -> Result<Promised, Fault> {
        let batch = self.store().batch(self.id())?;
        let reader = Reader::of(&batch);
        let owner = reader.owner(entity).ok_or(ViewError::NoEntity(entity))?;
        let own = self.store().writer();
        let mut loses = false;
        for kept in Kept::of(&reader, owner.writer).iter().filter(|kept| kept.acks > 0) {
            let (_, named, is_own) = kept.others(&reader, own);
            let (stored, wanted, keepers) = (usize::from(is_own), kept.wanted(), kept.keepers.len());
            loses |= stored < wanted;
            if loses && !accept_loss {
                let missing = named.iter().map(|keeper| format!("{keeper} was not asked")).collect();
                return Err(NotFenced { entity, stored, keepers, wanted, waited_ms: 0, missing }.into());
            }
        }
        Ok(Promised { loses, ..Promised::default() })
    }

    /// Writes that this node goes on with an entity. Returns the entry and the epoch.
    fn take_over_behind(&self, entity: EntityId, node: &str, promised: Promised) -> Result<(EntryId, u64), Fault> {
        let Promised { epoch: fenced, former, loses } = promised;
        if let Some(kept) = &former {
            self.go_on_keeping(kept)?;
        }
        sign_own(self, entity)?;
        let batch = self.store().batch(self.id())?;
        let reader = Reader::of(&batch);
        let taken = adoption(self.store(), &reader, (self.id(), entity), (node.to_owned(), fenced, loses))?;
        let Adoption { relies, follows, epoch, body, former } = taken;
        // Whoever accepts that something is lost waits for nobody.
        let former = if loses { Vec::new() } else { former };
        let id = self.append_adoption((entity, follows), relies, body, former)?;
        Ok((id, epoch))
    }

    /// Where this node asks for no acknowledgements of its own, what it writes is acknowledged as the former owner's was, as far as there
    /// are keepers for it.
    fn go_on_keeping(&self, kept: &Kept) -> Result<(), Fault> {
        let Some(copies) = self.copies() else { return Ok(()) };
        let (others, named, _) = {
            let batch = self.store().batch(self.id())?;
            kept.others(&Reader::of(&batch), self.store().writer())
        };
        let acks = kept.acks.min(u32::try_from(others.len()).unwrap_or(u32::MAX));
        let is_arranged = copies.of(self.id()).is_some_and(|of| of.acks > 0 || !of.recorded.is_empty());
        if acks == 0 || is_arranged {
            return Ok(());
        }
        copies.inherit(self.id(), (acks, &others))?;
        let body = Body::Keeping { acks, keepers: named, accept_loss: false };
        self.keep(Due { body, acks, keepers: others, accept_loss: false })
    }
}
