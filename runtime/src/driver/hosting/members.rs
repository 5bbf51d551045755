//! Who takes part in a loom, as this node's own record and the nodes that it names say.
//!
//! A peer takes part if this node's record names it: it had something cast here, a child was sent to it, or it runs a child that was
//! sent to any node. Of a peer that it does not name, those that it names are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use crate::domain::caller::Caller;
use crate::domain::ids::{EntityId, LoomId, NodeAddress, NodeName};
use crate::domain::loom::Body;
use crate::domain::members::Reader;
use crate::domain::place::CallPlace;
use crate::ports::StoreError;

use super::{ADMITTED_KEPT, Casts};

/// 8 nodes. So many of those that a record names are asked about one that it does not name.
const NODES_ASKED: usize = 8;

impl Casts {
    pub(super) fn is_admitted(&self, loom: LoomId, peer: &NodeName) -> bool {
        let admitted = self.0.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        admitted.iter().any(|(of, name)| *of == loom && name == peer)
    }

    fn remember(&self, loom: LoomId, peer: &NodeName) {
        let mut admitted = self.0.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if admitted.len() >= ADMITTED_KEPT {
            admitted.pop_front();
        }
        admitted.push_back((loom, peer.clone()));
    }

    /// Looks for a peer in this node's own record of a loom. Returns nothing if it takes part, or if nothing is recorded yet;
    /// otherwise those that the record names.
    pub(super) fn takes_part(&self, loom: LoomId, peer: &NodeName) -> Result<Option<BTreeSet<NodeName>>, StoreError> {
        let store = &self.0.runtime.host.store;
        if store.head(loom)?.sequence == 0 {
            return Ok(None);
        }
        let named = self.named(loom)?;
        if named.contains(peer) {
            self.remember(loom, peer);
            return Ok(None);
        }
        Ok(Some(named))
    }

    /// The nodes that this node's own record of a loom names.
    fn named(&self, loom: LoomId) -> Result<BTreeSet<NodeName>, StoreError> {
        let store = &self.0.runtime.host.store;
        let own = store.writer();
        let (mut named, mut anywhere) = (BTreeSet::new(), BTreeSet::new());
        let mut ran: BTreeMap<EntityId, NodeName> = BTreeMap::new();
        let batch = store.batch(loom)?;
        let reader = Reader::of(&batch);
        for sealed in reader.counting() {
            let is_own = sealed.entry.writer == own;
            if let Body::Opened(opened) = &sealed.entry.body {
                if is_own {
                    let cast_by = opened.caller.as_deref().and_then(Caller::of_record);
                    named.extend(cast_by.and_then(|by| by.peer().cloned()));
                } else if let Some((node, entity)) = opened.node.parse::<NodeAddress>().ok().zip(sealed.entry.entity) {
                    ran.insert(entity, node.name().clone());
                }
            } else if let Body::Delegated { place, child, .. } = &sealed.entry.body
                && is_own
            {
                match place {
                    CallPlace::Nodes(nodes) => named.extend(nodes.iter().map(|node| node.name().clone())),
                    CallPlace::Any => {
                        anywhere.insert(*child);
                    }
                    CallPlace::Here | CallPlace::Caller | CallPlace::Other(_) => {}
                }
            }
        }
        // Which node took a child that any node could take says that node, in what it has sent back.
        named.extend(anywhere.into_iter().filter_map(|child| ran.remove(&child)));
        Ok(named)
    }

    /// Whether this node's own record names both of two peers as taking part in a loom: that is what the first is told.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn vouches(&self, loom: LoomId, to: &NodeName, about: &NodeName) -> Result<bool, StoreError> {
        let named = self.named(loom)?;
        Ok(named.contains(to) && named.contains(about))
    }

    /// Finds out whether a peer takes part in a loom, before it casts into it: asks those whom the record names.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub async fn introduce(&self, loom: LoomId, caller: &Caller) -> Result<(), StoreError> {
        let Some(peer) = caller.peer().filter(|peer| !self.is_admitted(loom, peer)) else { return Ok(()) };
        // It may read much: not on a thread that serves.
        let (casts, name) = (self.clone(), peer.clone());
        let looked = tokio::task::spawn_blocking(move || casts.takes_part(loom, &name)).await;
        let Some(named) = looked.map_err(|error| StoreError::Read(Box::new(error)))?? else { return Ok(()) };
        let Some(peers) = self.0.runtime.host.peers.clone() else { return Ok(()) };
        let asked = named.iter().take(NODES_ASKED).map(|node| peers.vouches(node, loom, peer));
        if futures_util::future::join_all(asked).await.contains(&true) {
            self.remember(loom, peer);
        }
        Ok(())
    }
}
