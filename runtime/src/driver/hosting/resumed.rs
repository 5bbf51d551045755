//! After a restart: episodes that were running are gone on with from the record alone, before their callers ask again.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::caller::{Caller, KnownCaller};
use crate::domain::ids::{EntityId, LoomId};
use crate::domain::limits::RESUMED_LOOMS_MAX;
use crate::domain::loom::{Body, GateRecord, Opened};
use crate::domain::place::CallPlace;
use crate::domain::remote::{ByHost, CantripOrder, GateOrder, ModelOrder, Order};
use crate::driver::fault::Fault;

use super::{Casts, HostItem, Slots, Where};

/// So often an episode that nobody listens to is told that it is wanted all the same.
const WANTED: Duration = Duration::from_secs(5);

/// An episode that was cut off.
#[derive(Debug)]
pub struct Unfinished {
    /// Who had it cast, as the record says; nothing where it names nobody.
    pub caller: Option<Caller>,
    /// What it is. Its model is named in `opened`, and how it is had is the host's business.
    pub order: Order,
    /// What was decided before its first turn.
    pub opened: Opened,
    /// Whether gates or anything else of it are with its caller: it cannot go on without.
    pub needs_caller: bool,
}

impl Casts {
    /// The episodes that this node was running for others when it stopped.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, Fault> {
        let host = &self.0.runtime.host;
        let mut found = Vec::new();
        for summary in host.store.looms()?.into_iter().take(RESUMED_LOOMS_MAX) {
            for (entity, opened) in self.cut_off(summary.loom)? {
                found.extend(self.unfinished_of(summary.loom, entity, opened)?);
            }
        }
        Ok(found)
    }

    /// The entities of a loom that were cast here for others, and whose last episode has no end. Read without making a tree of the
    /// whole loom: nearly all of them have ended.
    fn cut_off(&self, loom: LoomId) -> Result<Vec<(EntityId, Opened)>, Fault> {
        let store = &self.0.runtime.host.store;
        let own = store.writer();
        let mut open: Vec<(EntityId, Opened)> = Vec::new();
        for sealed in store.entries(loom)?.into_iter().filter(|sealed| sealed.entry.writer == own) {
            let Some(entity) = sealed.entry.entity else { continue };
            if matches!(sealed.entry.body, Body::Ended(_)) {
                open.retain(|(known, _)| *known != entity);
            } else if let Body::Opened(opened) = sealed.entry.body
                && opened.caller.is_some()
                && opened.node == self.0.runtime.node()
            {
                open.push((entity, *opened));
            }
        }
        Ok(open)
    }

    /// An entity that this node has adopted, as an episode to go on with; nothing where its last one has ended.
    ///
    /// # Errors
    /// No such entity, or a record that cannot be read.
    pub fn adopted(&self, loom: LoomId, entity: EntityId) -> Result<Option<Unfinished>, Fault> {
        let tree = self.0.runtime.tree(loom)?;
        let view = tree.entity(entity)?;
        if view.ended.is_some() {
            return Ok(None);
        }
        let unfinished = self.unfinished_of(loom, entity, view.opened.clone())?;
        Ok(unfinished.map(|unfinished| Unfinished { caller: Some(Caller::CommandLine), ..unfinished }))
    }

    fn unfinished_of(&self, loom: LoomId, entity: EntityId, opened: Opened) -> Result<Option<Unfinished>, Fault> {
        let host = &self.0.runtime.host;
        let tree = self.0.runtime.tree(loom)?;
        if tree.owner(entity).is_none_or(|owner| owner.writer != host.store.writer()) {
            return Ok(None);
        }
        let entries = host.store.entries_of(entity)?;
        let needs_caller = entries
            .iter()
            .any(|sealed| matches!(&sealed.entry.body, Body::GateCalled { place, .. } if *place != CallPlace::Here));
        let parent = entries.iter().find(|sealed| matches!(sealed.entry.body, Body::Opened(_)));
        let Ok(view) = tree.entity(entity) else { return Ok(None) };
        let gate = |gate: &GateRecord| GateOrder { name: gate.name.clone(), at_caller: None };
        let order = Order {
            cast: opened.cast,
            loom,
            entity,
            minted: opened.minted,
            by_host: ByHost::Nothing,
            parent: parent.and_then(|sealed| sealed.entry.parent),
            spawned_by: opened.spawned_by,
            depth: opened.depth,
            cantrip: CantripOrder {
                identity: view.identity.clone(),
                medium: opened.guest.is_none().then(|| opened.medium.clone()),
                guest: opened.guest.clone(),
                gates: opened.gates.iter().map(gate).collect(),
                wards: opened.wards.clone(),
                folding: opened.folding.clone(),
                model: ModelOrder::AtHost(None),
            },
            intent: view.intent.clone(),
            trace: opened.trace.clone(),
            deadline: None,
            lease: None,
            again: false,
            keep: false,
            fork: None,
            seen: cantrip_gates::Exposure::default(),
            credentials: Arc::default(),
            origins: opened.origins.clone(),
        };
        let heir = self.heir(loom, opened.spawned_by)?.map(Caller::Peer);
        let caller = heir.or_else(|| opened.caller.as_deref().and_then(Caller::of_record));
        Ok(Some(Unfinished { caller, order, opened, needs_caller }))
    }

    /// Goes on with one, until it ends or its caller takes it over. Its end is kept in the record for whoever asks.
    pub fn go_on(&self, caller: &KnownCaller, order: Order, slots: &Arc<Slots>, place: Where) {
        let (entity, loom) = (order.entity, order.loom);
        let (casts, slots, caller) = (self.clone(), Arc::clone(slots), caller.clone());
        self.0.tasks.spawn(async move {
            let opened = casts.open(&caller, &slots, order, place, (None, Vec::new()), false).await;
            let mut attached = match opened {
                Ok(attached) => attached,
                Err(refusal) => {
                    tracing::warn!(%entity, %loom, %refusal, "an episode that was cut off cannot be gone on with");
                    return;
                }
            };
            tracing::info!(%entity, %loom, caller = %caller.caller, "an episode that was cut off goes on");
            let clock = Arc::clone(&casts.0.runtime.host.clock);
            loop {
                attached.heard();
                tokio::select! {
                    item = attached.next() => match item {
                        Ok(Some(HostItem::Refused(refusal))) => {
                            tracing::warn!(%entity, %loom, %refusal, "an episode that was cut off could not be gone on with");
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => return,
                        Err(error) => {
                            tracing::error!(%error, %entity, "the record of an episode cannot be read");
                            return;
                        }
                    },
                    () = clock.sleep(WANTED) => {}
                }
            }
        });
    }
}
