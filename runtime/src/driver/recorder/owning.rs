//! What this node's log says of who goes on with what, who has to acknowledge that, and what was written before under another id.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use super::{Log, Loom};
use crate::domain::copies::Keeper;
use crate::domain::ids::{EntityId, EntryId};
use crate::domain::loom::Body;
use crate::domain::members::{Reader, Refused};
use crate::driver::adopting::adoption;
use crate::driver::copies::Due;
use crate::driver::fault::Fault;

impl Loom {
    /// Says in the log how many keepers acknowledge what follows, where that was arranged otherwise than the log has it. Returns whether
    /// anything was said.
    pub(in crate::driver) async fn say_keeping(&self) -> Result<bool, Fault> {
        let Some(copies) = &self.0.copies else { return Ok(false) };
        let loom = self.0.id;
        if !copies.is_keeping_due(loom) || copies.is_keeping_refused(loom) {
            return Ok(false);
        }
        match self.permission() {
            // A host of single casts says nothing about the loom.
            Err(Fault::NotPermitted { .. }) => {
                copies.keeping_refused(loom);
                return Ok(false);
            }
            permission => drop(permission?),
        }
        let Some(due) = copies.keeping_due(loom).await else { return Ok(false) };
        self.keep(due).map(|()| true)
    }

    /// Says how many keepers acknowledge what follows.
    pub(in crate::driver) fn keep(&self, due: Due) -> Result<(), Fault> {
        let Some(copies) = &self.0.copies else { return Ok(()) };
        let mut log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_write()?;
        self.take_key(&mut log)?;
        self.begin(&mut log)?;
        let relies = self.relies(&mut log, None, &due.body)?;
        // It is written down before it is said: who has to acknowledge the change is known whatever happens.
        if copies.keeping_recorded(self.0.id, &due, log.sequence.saturating_add(1))? {
            self.write(&mut log, (relies, None), (None, None), due.body, Vec::new())?;
        }
        Ok(())
    }

    /// Appends that this node goes on with an entity; `former` says how many of whom have to acknowledge that.
    pub(in crate::driver) fn append_adoption(
        &self,
        (entity, follows): (EntityId, EntryId),
        relies: Option<EntryId>,
        body: Body,
        former: Vec<(u32, BTreeSet<Keeper>)>,
    ) -> Result<EntryId, Fault> {
        let mut log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_write()?;
        self.take_key(&mut log)?;
        self.begin(&mut log)?;
        if let Some(copies) = &self.0.copies {
            copies.adoption_recorded(self.0.id, entity, log.sequence.saturating_add(1), former)?;
        }
        self.write(&mut log, (relies, None), (Some(entity), Some(follows)), body, Vec::new())
    }

    /// Appends what was written before, under another id.
    pub(in crate::driver) fn append_anew(
        &self,
        entity: Option<EntityId>,
        parent: Option<EntryId>,
        body: Body,
        was: EntryId,
    ) -> Result<EntryId, Fault> {
        let mut log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_write()?;
        self.take_key(&mut log)?;
        let relies = self.relies(&mut log, entity, &body)?;
        log.anew.insert(was);
        self.write(&mut log, (relies, Some(was)), (entity, parent), body, Vec::new())
    }

    /// Goes on with an entity under a new key.
    pub(super) fn take_over(
        &self,
        log: &mut Log,
        entity: EntityId,
        parent: Option<EntryId>,
    ) -> Result<Option<EntryId>, Fault> {
        let batch = self.0.store.batch(self.0.id)?;
        let reader = Reader::of(&batch);
        let Some(owner) = reader.owner(entity).filter(|owner| owner.writer != log.writer) else { return Ok(parent) };
        if !reader.is_same_member(owner.writer, log.writer) {
            return Err(Fault::Elsewhere { entity, owner: owner.writer });
        }
        // What it went on from is in one of two histories, and is about to be written anew.
        if parent.is_some_and(|parent| matches!(reader.counts(parent), Err(Refused::Equivocated { .. }))) {
            return Err(Fault::SetAside { entity });
        }
        let taken = adoption(self.store(), &reader, (self.0.id, entity), (String::new(), None, false))?;
        // For a cast of somebody else it goes on by the admission that it was shown last.
        let shown = self.0.relied.lock().unwrap_or_else(PoisonError::into_inner).get(&entity).copied();
        let around = (shown.or(taken.relies), None);
        if let Some(copies) = &self.0.copies {
            copies.adoption_recorded(self.0.id, entity, log.sequence.saturating_add(1), taken.former)?;
        }
        self.write(log, around, (Some(entity), Some(taken.follows)), taken.body, Vec::new()).map(Some)
    }
}
