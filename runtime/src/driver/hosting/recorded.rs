//! What the record says of an order: that is what keeps an episode from running twice across restarts.

use std::sync::PoisonError;

use cantrip_gates::GateError;
use serde_json::Value;

use crate::domain::copies::LOCAL;
use crate::domain::ids::CastId;
use crate::domain::loom::{Body, Ended, Sealed};
use crate::domain::remote::{Order, Refusal};
use crate::driver::fault::Fault;
use crate::ports::{RemoteEnd, StoreError};

use super::{ADMITTED_MAX, Casts, ours, refuse};

/// What is known of an order's episode.
pub(super) enum Known {
    Not,
    Entity { unfinished: bool },
    Over(Box<RemoteEnd>),
}

impl Casts {
    /// What the record says of an order: whether its entity is known, and whether the episode has run.
    pub(super) fn recorded(&self, caller: &str, order: &Order) -> Result<Known, Box<Refusal>> {
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
        let entries = store.entries_of(order.entity).map_err(failed)?;
        let mut episodes: Vec<(Option<CastId>, Option<&Ended>)> = Vec::new();
        for sealed in &entries {
            match &sealed.entry.body {
                Body::Opened(opened) => {
                    // Whoever may open the node's own socket has what is adopted here, too.
                    if (opened.caller.as_deref() != Some(caller) && caller != LOCAL) || loom != order.loom {
                        return Err(theirs());
                    }
                    episodes.push((Some(opened.cast), None));
                }
                Body::Intent { steer: false, cast, .. } => episodes.push((*cast, None)),
                Body::Ended(ended) => {
                    if let Some(last) = episodes.last_mut() {
                        last.1 = Some(ended);
                    }
                }
                Body::Intent { steer: true, .. }
                | Body::Utterance(_)
                | Body::GateCalled { .. }
                | Body::GateReturned { .. }
                | Body::Delegated { .. }
                | Body::Observation(_)
                | Body::Snapshot { .. }
                | Body::Folded { .. }
                | Body::Approved { .. }
                | Body::Denied { .. }
                | Body::Rewarded { .. }
                | Body::Replayed { .. }
                | Body::Adopted { .. } => {}
            }
        }
        let Some((last, ended)) = episodes.last() else { return Err(theirs()) };
        if *last == Some(order.cast) {
            return match ended {
                None => Ok(Known::Entity { unfinished: true }),
                Some(ended) => {
                    let end = self.end_of(order, ended).map_err(|fault| Box::new(ours(&fault)))?;
                    Ok(Known::Over(Box::new(end)))
                }
            };
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

    fn end_of(&self, order: &Order, ended: &Ended) -> Result<RemoteEnd, Fault> {
        let host = &self.0.runtime.host;
        let result = match &ended.result {
            None => None,
            Some(payload) => {
                let text = host.store.text(payload)?;
                text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)))
            }
        };
        let is_failure = ended.reason.ends_with("_failed")
            || ended.reason.ends_with("_trapped")
            || ended.reason == "contract_broken";
        let seen = self.0.runtime.tree(order.loom)?.restore(order.entity, None)?.seen;
        Ok(RemoteEnd {
            how: ended.how,
            reason: ended.reason.clone(),
            result,
            summary: ended.summary.clone(),
            spent: ended.spent,
            seen,
            failure: ended.summary.clone().filter(|_| is_failure),
        })
    }

    /// A loom is written into by those who work in it: whoever began it here, whoever was asked to, and whoever is part of
    /// the same trace.
    fn may_write(&self, caller: &str, order: &Order) -> Result<(), Box<Refusal>> {
        let failed = |error: StoreError| Box::new(ours(&error));
        let key = (order.loom, caller.to_owned());
        // Whoever may open the node's own socket may read and write its record too.
        if caller == LOCAL {
            return Ok(());
        }
        let is_known = self.0.admitted.lock().unwrap_or_else(PoisonError::into_inner).contains(&key);
        let store = &self.0.runtime.host.store;
        if is_known || store.head(order.loom).map_err(failed)?.sequence == 0 {
            return Ok(());
        }
        let name = caller.split('@').next().unwrap_or(caller);
        let trace = |text: &str| text.split('-').nth(1).map(str::to_owned);
        let ordered = order.trace.as_deref().and_then(trace);
        let admits = |sealed: &Sealed| match &sealed.entry.body {
            Body::Opened(opened) => {
                opened.caller.as_deref() == Some(caller)
                    || (ordered.is_some() && opened.trace.as_deref().and_then(trace) == ordered)
            }
            Body::Delegated { place, .. } => place.split(" or ").any(|node| node.split('@').next() == Some(name)),
            Body::Intent { .. }
            | Body::Utterance(_)
            | Body::GateCalled { .. }
            | Body::GateReturned { .. }
            | Body::Observation(_)
            | Body::Snapshot { .. }
            | Body::Folded { .. }
            | Body::Approved { .. }
            | Body::Denied { .. }
            | Body::Ended(_)
            | Body::Rewarded { .. }
            | Body::Replayed { .. }
            | Body::Adopted { .. } => false,
        };
        if !store.entries(order.loom).map_err(failed)?.iter().any(admits) {
            let what = format!("the loom {} is another's", order.loom);
            return Err(Box::new(refuse("loom", GateError::Denied(what))));
        }
        let mut admitted = self.0.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if admitted.len() >= ADMITTED_MAX {
            admitted.pop_front();
        }
        admitted.push_back(key);
        Ok(())
    }
}
