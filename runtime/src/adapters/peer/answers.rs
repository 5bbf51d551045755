//! Parts of what the node answers as a host.

use tonic::Status;

use super::client::PeerNodes;
use super::credentials::identified;
use super::server::{GuestLine, NodeServer};
use super::wire as v1;
use crate::domain::caller::Caller;
use crate::domain::copies::Keeper;
use crate::domain::ids::LoomId;
use crate::driver::vouching;
use crate::ports::{PeerError, Peers as _};

/// As whom a keeper of looms is known: the node that calls, or a client of it.
pub(super) fn speaker(caller: &Caller, is_client: bool) -> Keeper {
    match caller.peer() {
        None => Keeper::Local,
        Some(name) if is_client => Keeper::ClientOf(name.clone()),
        Some(name) => Keeper::Node(name.clone()),
    }
}

pub(super) fn guest_line(line: GuestLine) -> v1::Guest {
    v1::Guest { name: line.name, digest: line.digest, bytes: line.bytes, world: line.world, gates: line.gates }
}

/// What a peer answered, for the client that asked for it through this node.
pub(super) fn passed_back(error: &PeerError) -> Status {
    let text = error.to_string();
    match error {
        PeerError::Unknown { .. } | PeerError::Refused { .. } => Status::permission_denied(text),
        PeerError::Unreachable { .. }
        | PeerError::NoAnswer { .. }
        | PeerError::Lost { .. }
        | PeerError::Broken { .. }
        | PeerError::Store(_) => Status::unavailable(text),
    }
}

impl NodeServer {
    /// As whom this node writes, or the peer that is meant.
    pub(super) async fn identity(&self, peers: Option<&PeerNodes>, node: &str) -> Result<v1::IdentifyResponse, Status> {
        if let Some(peers) = peers {
            let host = peers.identify(node, true).await.map_err(|error| passed_back(&error))?;
            return Ok(identified(host.key, &host.attestations));
        }
        let store = std::sync::Arc::clone(self.casts.runtime().store());
        let identified = tokio::task::spawn_blocking(move || {
            // What vouches for this node's own keys does so in every loom.
            let own = store.writer();
            vouching(&*store, LoomId::from_bytes([0; 22]), [own]).map(|all| identified(own, &all))
        });
        let identified = identified.await.map_err(|error| Status::internal(error.to_string()))?;
        identified.map_err(|error| {
            tracing::error!(%error, "what vouches for this node's key cannot be read");
            Status::internal("the host cannot read its record")
        })
    }
}
