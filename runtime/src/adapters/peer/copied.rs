//! Questions about copies: how far a keeper is, by its own disk, and what a verification of its copy finds.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::answers::{passed_back, speaker};
use super::client::{PeerNodes, failed};
use super::server::NodeServer;
use super::sync::{kind, log_from, log_to};
use super::wire as v1;
use crate::domain::copies::{CopyKind, Keeper, LogState};
use crate::domain::ids::{LoomId, NodeAddress};
use crate::domain::limits::WRITERS_MAX;
use crate::driver::Copies;
use crate::ports::{Finding, PeerError, Verified};

/// How a keeper keeps a loom, as it says when it is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyState {
    /// Where; [`CopyKind::None`]: it keeps nothing of it.
    pub kind: CopyKind,
    /// How far each log is there.
    pub logs: Vec<LogState>,
}

impl CopyState {
    fn of(loom: LoomId, it: v1::CopyStateResponse) -> Result<Self, String> {
        if it.logs.len() > WRITERS_MAX {
            return Err(format!("it shows {} logs, and a loom has at most {WRITERS_MAX}", it.logs.len()));
        }
        let logs = it.logs.iter().map(|log| log_from(loom, log)).collect::<Result<_, _>>();
        let logs = logs.map_err(|error| error.to_string())?;
        Ok(Self { kind: kind(it.kind).map_err(|error| error.to_string())?, logs })
    }
}

/// What a verification found, as it travels.
fn verified(verified: &Verified, logs: &[LogState]) -> v1::VerifyResponse {
    let finding = |it: &Finding| match it.sequence {
        Some(sequence) => format!("entry {sequence}: {}", it.what),
        None => it.what.clone(),
    };
    v1::VerifyResponse {
        entries: verified.entries,
        texts: verified.blobs,
        findings: verified.findings.iter().map(finding).collect(),
        logs: logs.iter().map(log_to).collect(),
    }
}

fn unreadable(error: &dyn std::error::Error) -> Status {
    tracing::error!(%error, "a copy cannot be read");
    Status::internal("the host cannot read its record")
}

impl NodeServer {
    /// The copies of a loom, where whoever asks is one of its keepers.
    fn kept_with<T>(&self, request: &Request<T>, loom: &str, is_client: bool) -> Result<(Arc<Copies>, LoomId), Status> {
        let (caller, _) = self.caller(request)?;
        let loom = loom.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let peer = speaker(&caller, is_client);
        let copies = self.hosting.copies().filter(|copies| copies.is_keeper(loom, &peer));
        let copies = copies.ok_or_else(|| {
            let node = self.casts.runtime().node();
            Status::permission_denied(format!("{node} keeps no copies of this loom for {peer}"))
        })?;
        Ok((copies, loom))
    }

    /// Whether another node is asked on behalf of a client of this one: what this node itself keeps together with that one it asks
    /// as itself, since whoever may open its socket may read its record.
    fn asks_for_client(&self, loom: &str, node: &str) -> bool {
        let name = node.parse::<NodeAddress>().map(|node| node.name().clone()).or_else(|_| node.parse());
        let (Ok(name), Ok(loom), Some(copies)) = (name, loom.parse(), self.hosting.copies()) else { return true };
        let keeper = Keeper::Node(name);
        copies.of(loom).is_none_or(|copies| copies.kind(&keeper) == CopyKind::None)
    }

    pub(super) async fn copy_state_of(
        &self,
        request: Request<v1::CopyStateRequest>,
    ) -> Result<v1::CopyStateResponse, Status> {
        if let Some(peers) = self.peer(&request, &request.get_ref().node)? {
            let v1::CopyStateRequest { loom, node, .. } = request.into_inner();
            let is_client = self.asks_for_client(&loom, &node);
            return peers.copy_state_at(&node, &loom, is_client).await.map_err(|error| passed_back(&error));
        }
        let (copies, loom) = self.kept_with(&request, &request.get_ref().loom, request.get_ref().client)?;
        let read = tokio::task::spawn_blocking(move || {
            let kind = copies.of(loom).map_or(CopyKind::None, |of| of.kind(copies.node()));
            let logs = if kind == CopyKind::None { Vec::new() } else { copies.logs(loom)? };
            Ok::<_, crate::ports::StoreError>((kind, logs))
        });
        let read = read.await.map_err(|error| Status::internal(error.to_string()))?;
        let (kind, logs) = read.map_err(|error| unreadable(&error))?;
        Ok(v1::CopyStateResponse { kind: kind.as_str().to_owned(), logs: logs.iter().map(log_to).collect() })
    }

    pub(super) async fn verified(&self, request: Request<v1::VerifyRequest>) -> Result<v1::VerifyResponse, Status> {
        if let Some(peers) = self.peer(&request, &request.get_ref().node)? {
            let v1::VerifyRequest { loom, node, .. } = request.into_inner();
            let is_client = self.asks_for_client(&loom, &node);
            return peers.verify_at(&node, &loom, is_client).await.map_err(|error| passed_back(&error));
        }
        let (caller, terms) = self.caller(&request)?;
        let (copies, loom) = self.kept_with(&request, &request.get_ref().loom, request.get_ref().client)?;
        let found = terms.slots.verifications().run(self.casts.clock(), move || copies.verify(loom)).await;
        let found = found.map_err(|what| Status::resource_exhausted(format!("`{caller}`: {what}")))?;
        let found = found.map_err(|error| Status::internal(error.to_string()))?;
        let (found, logs) = found.map_err(|error| unreadable(&error))?;
        Ok(verified(&found, &logs))
    }
}

impl PeerNodes {
    /// Asks a peer how far its copy of a loom is, and where it is.
    ///
    /// # Errors
    /// A peer that is not known, cannot be reached, does not answer within `rpc_timeout`, or keeps no such copy for whoever asks.
    pub async fn copy_state(&self, node: &str, loom: LoomId) -> Result<CopyState, PeerError> {
        let told = self.copy_state_at(node, &loom.to_string(), false).await?;
        CopyState::of(loom, told).map_err(|what| PeerError::Broken { node: node.to_owned(), what })
    }

    async fn copy_state_at(&self, node: &str, loom: &str, client: bool) -> Result<v1::CopyStateResponse, PeerError> {
        let peer = self.find(node)?.clone();
        let request = v1::CopyStateRequest { loom: loom.to_owned(), node: self.passed_on_to(&peer), client };
        let mut asked = self.client(&peer).await?;
        self.answer(&peer, asked.copy_state(request)).await
    }

    /// Has a peer recompute its copy of a loom.
    ///
    /// # Errors
    /// A peer that is not known, cannot be reached, or keeps no such copy for whoever asks.
    pub async fn verify(&self, node: &str, loom: LoomId) -> Result<v1::VerifyResponse, PeerError> {
        self.verify_at(node, &loom.to_string(), false).await
    }

    async fn verify_at(&self, node: &str, loom: &str, client: bool) -> Result<v1::VerifyResponse, PeerError> {
        // Whether it is there at all turns out within `rpc_timeout`.
        self.copy_state_at(node, loom, client).await?;
        let peer = self.find(node)?.clone();
        let request = v1::VerifyRequest { loom: loom.to_owned(), node: self.passed_on_to(&peer), client };
        let mut asked = self.client(&peer).await?;
        // A long record takes its time: from here on the connection's own heartbeat says whether the peer is there.
        asked.verify(request).await.map(tonic::Response::into_inner).map_err(|status| failed(&peer, &status))
    }
}

/// What the protocol has an answer in.
pub(super) fn answer<T>(it: Result<T, Status>) -> Result<Response<T>, Status> {
    it.map(Response::new)
}
