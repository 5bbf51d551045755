//! Bringing a component to a peer: only what is missing there travels, and a broken upload goes on where it was cut.

use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::client::PeerNodes;
use super::convert;
use super::server::{GuestLine, PART_BYTES};
use super::wire as v1;
use crate::domain::ids::hex;
use crate::domain::remote::Refusal;
use crate::ports::PeerError;

/// A component to be brought.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name there.
    pub name: String,
    /// The component.
    pub bytes: Vec<u8>,
    /// The publisher's public key and its signature over the bytes.
    pub signed: Option<([u8; 32], [u8; 64])>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// `name@sha256:…`, as a cantrip names it.
    pub guest: String,
    /// Whether it was kept there before.
    pub known: bool,
    /// How many bytes travelled.
    pub sent_bytes: u64,
}

/// Why a component is not there.
#[derive(Debug, Error)]
pub enum DeployError {
    /// The node, or the way to it.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The node does not take it.
    #[error("the node refused: {0}")]
    Refused(Refusal),
}

impl PeerNodes {
    /// Brings a component to a peer. `progress` is told how many bytes are there.
    ///
    /// # Errors
    /// A peer that cannot be had, or that does not take it; the same call goes on where a broken one was cut.
    pub async fn deploy(
        &self,
        node: &str,
        package: &Package,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Deployed, DeployError> {
        let peer = self.find(node)?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&package.bytes)));
        let mut client = self.client(peer).await?;
        let status = self.upload_status(node, &digest).await?;
        let offset = usize::try_from(status.bytes).ok().filter(|offset| *offset <= package.bytes.len()).unwrap_or(0);
        let rest = if status.kept { &[] } else { package.bytes.get(offset..).unwrap_or_default() };
        let (publisher, signature) = package.signed.map(|(key, signature)| (key.to_vec(), signature.to_vec())).unzip();
        let header = v1::DeployHeader {
            name: package.name.clone(),
            digest,
            bytes: package.bytes.len() as u64,
            offset: offset as u64,
            signature: signature.unwrap_or_default().into(),
            publisher: publisher.unwrap_or_default().into(),
            node: self.passed_on_to(peer),
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let sending = async {
            let first = v1::deploy_request::Message::Header(header);
            let mut there = offset as u64;
            if sender.send(v1::DeployRequest { message: Some(first) }).await.is_err() {
                return;
            }
            for chunk in rest.chunks(PART_BYTES) {
                let message = v1::deploy_request::Message::Chunk(chunk.to_vec().into());
                if sender.send(v1::DeployRequest { message: Some(message) }).await.is_err() {
                    return;
                }
                there = there.saturating_add(chunk.len() as u64);
                progress(there);
            }
            drop(sender);
        };
        // Compiling takes as long as it takes; the silence of the host while it does is not limited by a single answer.
        let answer = async { client.deploy(ReceiverStream::new(receiver)).await };
        let ((), answer) = tokio::join!(sending, answer);
        let response = match answer {
            Ok(response) => response.into_inner(),
            Err(status) => {
                self.forget(peer);
                return Err(super::client::failed(peer, &status).into());
            }
        };
        if let Some(refused) = response.refused {
            return Err(DeployError::Refused(convert::refusal(refused)));
        }
        Ok(Deployed { guest: response.guest, known: response.known, sent_bytes: rest.len() as u64 })
    }

    pub(super) async fn upload_status(&self, node: &str, digest: &str) -> Result<v1::UploadStatusResponse, PeerError> {
        let peer = self.find(node)?;
        let mut client = self.client(peer).await?;
        let request = v1::UploadStatusRequest { digest: digest.to_owned(), node: self.passed_on_to(peer) };
        self.answer(peer, client.upload_status(request)).await
    }

    /// Passes a component on that a client of this node brings to a peer.
    pub(super) async fn pass_on(
        &self,
        node: &str,
        header: v1::DeployHeader,
        rest: Streaming<v1::DeployRequest>,
    ) -> Result<v1::DeployResponse, PeerError> {
        let peer = self.find(node)?;
        let mut client = self.client(peer).await?;
        let first = v1::DeployRequest { message: Some(v1::deploy_request::Message::Header(header)) };
        // Where the client's stream breaks, so does this one: the rest comes with the next try.
        let rest = rest.take_while(|message| std::future::ready(message.is_ok())).filter_map(|it| async { it.ok() });
        let stream = futures_util::stream::iter([first]).chain(rest);
        match client.deploy(stream).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => {
                self.forget(peer);
                Err(super::client::failed(peer, &status))
            }
        }
    }

    /// The guests that a peer keeps and this node may run there.
    ///
    /// # Errors
    /// A peer that cannot be had.
    pub async fn guests(&self, node: &str) -> Result<Vec<GuestLine>, PeerError> {
        let peer = self.find(node)?;
        let mut client = self.client(peer).await?;
        let listed =
            self.answer(peer, client.list_guests(v1::ListGuestsRequest { node: self.passed_on_to(peer) })).await?;
        let line = |it: v1::Guest| GuestLine {
            name: it.name,
            digest: it.digest,
            bytes: it.bytes,
            world: it.world,
            gates: it.gates,
        };
        Ok(listed.guests.into_iter().map(line).collect())
    }
}
