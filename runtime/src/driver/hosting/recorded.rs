//! What the record says of an order: that is what keeps an episode from running twice across restarts.

use cantrip_gates::GateError;

use crate::domain::caller::Caller;
use crate::domain::ids::CastId;
use crate::domain::loom::{Body, Ended};
use crate::domain::members::Reader;
use crate::domain::remote::{Order, Refusal};
use crate::driver::ending::end_of;
use crate::ports::{RemoteEnd, StoreError};

use super::{Casts, ours, refuse};

/// What is known of an order's episode.
pub(super) enum Known {
    Not,
    Entity { unfinished: bool },
    Over(Box<RemoteEnd>),
}

impl Casts {
    /// What the record says of an order: whether its entity is known, and whether the episode has run.
    pub(super) fn recorded(&self, caller: &Caller, order: &Order) -> Result<Known, Box<Refusal>> {
        let failed = |error: StoreError| Box::new(ours(&error));
        let store = &self.0.runtime.host.store;
        let Some(loom) = store.loom_of(order.entity).map_err(failed)? else {
            if order.again {
                let what = format!("the entity {} is not known here", order.entity);
                return Err(Box::new(refuse("entity", GateError::NotFound(what))));
            }
            return self.may_write(caller, order).map(|()| Known::Not);
        };
        let theirs =
            || Box::new(refuse("entity", GateError::Denied(format!("the entity {} is another's", order.entity))));
        // Whoever may not write the entity has not opened it, and has not ended its episodes.
        let batch = store.batch(loom).map_err(failed)?;
        let reader = Reader::of(&batch);
        let mut entries = store.entries_of(order.entity).map_err(failed)?;
        entries.retain(|sealed| reader.counts(sealed.id).is_ok());
        let mut episodes: Vec<(Option<CastId>, Option<&Ended>)> = Vec::new();
        for sealed in &entries {
            match &sealed.entry.body {
                Body::Opened(opened) => {
                    let cast_by = opened.caller.as_deref().and_then(Caller::of_record);
                    if loom != order.loom {
                        return Err(theirs());
                    }
                    self.is_callers(caller, cast_by.as_ref(), (loom, order.entity, opened.spawned_by))
                        .map_err(Box::new)?;
                    episodes.push((Some(opened.cast), None));
                }
                Body::Intent(intent) if !intent.steer => episodes.push((intent.cast, None)),
                Body::Ended(ended) => {
                    if let Some(last) = episodes.last_mut() {
                        last.1 = Some(ended);
                    }
                }
                Body::Intent(_)
                | Body::Utterance(_)
                | Body::GateCalled { .. }
                | Body::GateReturned { .. }
                | Body::Delegated { .. }
                | Body::Observation(_)
                | Body::Snapshot { .. }
                | Body::Folded { .. }
                | Body::Decided(_)
                | Body::Rewarded { .. }
                | Body::Replayed { .. }
                | Body::Adopted { .. }
                | Body::Founded { .. }
                | Body::Admitted(_)
                | Body::Expelled(_)
                | Body::Settled(_)
                | Body::Keeping { .. }
                | Body::Unknown(_) => {}
            }
        }
        let Some((last, ended)) = episodes.last() else { return Err(theirs()) };
        if *last == Some(order.cast) {
            if ended.is_none() {
                return Ok(Known::Entity { unfinished: true });
            }
            let tree = self.0.runtime.tree(order.loom).map_err(|fault| Box::new(ours(&fault)))?;
            let end = end_of(&**store, &tree, order.entity).map_err(|fault| Box::new(ours(&fault)))?;
            return Ok(end.map_or(Known::Entity { unfinished: true }, |end| Known::Over(Box::new(end))));
        }
        if episodes.iter().any(|(cast, _)| *cast == Some(order.cast)) {
            let what = format!("the episode {} has ended, and others have followed it", order.cast);
            return Err(Box::new(refuse("cast", GateError::Invalid(what))));
        }
        if !order.again {
            let what = format!("the entity {} exists already", order.entity);
            return Err(Box::new(refuse("entity", GateError::Invalid(what))));
        }
        Ok(Known::Entity { unfinished: false })
    }

    /// A loom is written into by those who take part in it. A trace id is no such right: it is in logs, and on its way to others.
    fn may_write(&self, caller: &Caller, order: &Order) -> Result<(), Box<Refusal>> {
        let failed = |error: StoreError| Box::new(ours(&error));
        // Whoever may open the node's own socket may read and write its record too.
        let Some(peer) = caller.peer() else { return Ok(()) };
        if self.is_admitted(order.loom, peer) || self.takes_part(order.loom, peer).map_err(failed)?.is_none() {
            return Ok(());
        }
        let what = format!(
            "the loom {} is another's: neither its record here nor whoever takes part in it names {peer}",
            order.loom
        );
        Err(Box::new(refuse("loom", GateError::Denied(what))))
    }
}
