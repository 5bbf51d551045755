//! Keeping looms together over the wire: messages of [`Copies`] as the protocol has them, and a stream at each end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::client::{PeerNodes, chain, failed};
use super::convert::shown;
use super::credentials;
use super::server::PART_BYTES;
use super::wire as v1;
use super::wire::copy_message::Message as Wire;
use super::{copied_casts, copied_fences};
use crate::domain::copies::{CopyKind, CopyMessage, KEEPERS_MAX, Keeper, Keepers, Keeping, LogState, NoKeeper};
use crate::domain::ids::{EntityId, IdError, LoomId, NodeName, WriterKey};
use crate::domain::limits::{CASTS_SHOWN_MAX, COPY_TEXT_BYTES_MAX, HEARD_WAITING_BYTES_MAX, PROOF_BYTES_MAX};
use crate::domain::loom::{EquivocationProof, Head, Segment, SignedHead};
use crate::domain::members::{Attestation, MemberRecord, ProofError, ProvedEntry, RecordError, Rights, Succession};
use crate::domain::remote::{Credentials, HostIdentity};
use crate::driver::{CopyWire, Linking, weighed};
use crate::ports::{BoxFuture, PeerError, Peers};

/// 16 messages wait on either side of the wire: a segment is up to 2 MiB.
const WAITING: usize = 16;

/// Why a message is none.
#[derive(Debug, Error)]
pub(super) enum Unreadable {
    #[error("`{field}` has {bytes} bytes, and needs {expected}")]
    Length { field: &'static str, bytes: usize, expected: usize },
    #[error("`{0}` is no kind of copy: none, memory or disk")]
    Kind(String),
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Keeper(#[from] NoKeeper),
    #[error("a text has more than {COPY_TEXT_BYTES_MAX} bytes")]
    Text,
    #[error("{count} nodes keep the loom, and {KEEPERS_MAX} may")]
    Keepers { count: usize },
    #[error("{count} heads of casts came at once, and {CASTS_SHOWN_MAX} may")]
    Casts { count: usize },
    #[error("the head of a cast: {0}")]
    Cast(String),
    #[error("a proof has {bytes} bytes, and {PROOF_BYTES_MAX} are read")]
    LongProof { bytes: usize },
    #[error("the proof proves nothing")]
    Proof,
    #[error("what goes along with a proof: {}", chain(.0))]
    Entries(ProofError),
    #[error("what should vouch for a writer: {}", chain(.0))]
    Attestation(RecordError),
    #[error("what should vouch for an adopter: {0}")]
    Vouching(String),
    #[error("a message is of no kind that is known here")]
    Unknown,
}

pub(super) fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], Unreadable> {
    bytes.try_into().map_err(|_| Unreadable::Length { field, bytes: bytes.len(), expected: N })
}

pub(super) fn writer(bytes: &[u8]) -> Result<WriterKey, Unreadable> {
    array("writer", bytes).map(WriterKey::from_bytes)
}

pub(super) fn kind(text: String) -> Result<CopyKind, Unreadable> {
    CopyKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(Unreadable::Kind(text))
}

fn keepers_to(keepers: &Keepers) -> Vec<v1::Keeper> {
    let keeper = |(node, keeping): (&Keeper, &Keeping)| v1::Keeper {
        node: node.to_string(),
        kind: keeping.kind.as_str().to_owned(),
        revision: keeping.revision,
    };
    keepers.iter().map(keeper).collect()
}

fn keepers_from(keepers: Vec<v1::Keeper>) -> Result<Keepers, Unreadable> {
    if keepers.len() > KEEPERS_MAX {
        return Err(Unreadable::Keepers { count: keepers.len() });
    }
    let keeper = |keeper: v1::Keeper| {
        Ok((keeper.node.parse()?, Keeping { revision: keeper.revision, kind: kind(keeper.kind)? }))
    };
    keepers.into_iter().map(keeper).collect()
}

pub(super) fn log_to(log: &LogState) -> v1::LogHead {
    let signed = log.signed.as_ref();
    v1::LogHead {
        writer: Bytes::copy_from_slice(log.writer.as_bytes()),
        sequence: log.head.sequence,
        chain: Bytes::copy_from_slice(&log.head.chain),
        signed_sequence: signed.map(|signed| signed.head.sequence),
        signed_chain: signed.map(|signed| Bytes::copy_from_slice(&signed.head.chain)).unwrap_or_default(),
        signature: signed.map(|signed| Bytes::copy_from_slice(&signed.signature)).unwrap_or_default(),
    }
}

pub(super) fn log_from(loom: LoomId, log: &v1::LogHead) -> Result<LogState, Unreadable> {
    let writer = writer(&log.writer)?;
    let head = Head { sequence: log.sequence, chain: array("chain", &log.chain)? };
    let signed = match log.signed_sequence {
        None => None,
        Some(sequence) => {
            let head = Head { sequence, chain: array("signed_chain", &log.signed_chain)? };
            Some(SignedHead { loom, writer, head, signature: array("signature", &log.signature)? })
        }
    };
    Ok(LogState { writer, head, signed })
}

/// A message as it travels; a large text in parts.
fn to_wire(message: CopyMessage) -> VecDeque<Wire> {
    let one = |message| VecDeque::from([message]);
    match message {
        CopyMessage::Have { loom, origin, keepers, logs, casts } => one(Wire::Have(v1::CopyHave {
            origin: origin.to_string(),
            loom: loom.to_string(),
            keepers: keepers_to(&keepers),
            logs: logs.iter().map(log_to).collect(),
            casts: copied_casts::heads_to(&casts),
        })),
        CopyMessage::Cast(step) => one(Wire::Cast(copied_casts::step_to(*step))),
        CopyMessage::CastAnswered { loom, writer, cast, answer } => {
            one(Wire::CastAnswer(copied_casts::answer_to((loom, writer, cast), answer)))
        }
        CopyMessage::Text { loom, bytes } => {
            let bytes = Bytes::from(bytes);
            let count = bytes.len().div_ceil(PART_BYTES).max(1);
            let part = |number: usize| {
                let from = number.saturating_mul(PART_BYTES).min(bytes.len());
                let to = from.saturating_add(PART_BYTES).min(bytes.len());
                let last = number.saturating_add(1) == count;
                Wire::Text(v1::CopyText { loom: loom.to_string(), bytes: bytes.slice(from..to), last })
            };
            (0..count).map(part).collect()
        }
        CopyMessage::Attestation { loom, attestation } => {
            let bytes = Bytes::from(attestation.to_bytes());
            let attestation = Some(match &*attestation {
                Attestation::Member(_) => v1::copy_attestation::Attestation::Member(bytes),
                Attestation::Succession(_) => v1::copy_attestation::Attestation::Succession(bytes),
            });
            one(Wire::Attestation(v1::CopyAttestation { loom: loom.to_string(), attestation }))
        }
        CopyMessage::Segment(segment) => {
            let Segment { from, entries, signed, .. } = *segment;
            one(Wire::Segment(v1::Segment {
                loom: signed.loom.to_string(),
                writer: Bytes::copy_from_slice(signed.writer.as_bytes()),
                from_sequence: from.sequence,
                from_chain: Bytes::copy_from_slice(&from.chain),
                entries: entries.into_iter().map(Bytes::from).collect(),
                sequence: signed.head.sequence,
                chain: Bytes::copy_from_slice(&signed.head.chain),
                signature: Bytes::copy_from_slice(&signed.signature),
            }))
        }
        CopyMessage::Held { loom, writer, head, kind } => one(Wire::Held(v1::CopyHeld {
            loom: loom.to_string(),
            writer: Bytes::copy_from_slice(writer.as_bytes()),
            sequence: head.sequence,
            kind: kind.as_str().to_owned(),
            chain: Bytes::copy_from_slice(&head.chain),
        })),
        CopyMessage::Fence { loom, entity, credentials } => one(Wire::Fence(v1::CopyFence {
            loom: loom.to_string(),
            entity: entity.to_string(),
            proofs: credentials::proofs(&credentials),
            vouching: Some(credentials::vouching(&credentials.attestations)),
        })),
        CopyMessage::Fencing { fence, credentials } => {
            one(Wire::Fencing(copied_fences::fencing_to(&fence, &credentials)))
        }
        CopyMessage::Fenced { loom, entity, epoch, answer } => {
            one(Wire::Fenced(copied_fences::fenced_to((loom, entity), epoch, answer)))
        }
        CopyMessage::Later { loom, writer } => one(Wire::Later(v1::CopyLater {
            loom: loom.to_string(),
            writer: Bytes::copy_from_slice(writer.as_bytes()),
        })),
        CopyMessage::Refused { loom, writer, what } => one(Wire::Refused(v1::CopyRefused {
            loom: loom.to_string(),
            writer: writer.map(|writer| Bytes::copy_from_slice(writer.as_bytes())).unwrap_or_default(),
            message: what,
        })),
        CopyMessage::Divided { proof, entries } => one(Wire::Divided(v1::CopyDivided {
            proof: proof.to_bytes().into(),
            entries: entries.iter().map(|entry| entry.to_bytes().into()).collect(),
        })),
    }
}

/// Reads messages; a text is whole once its last part has come.
#[derive(Debug, Default)]
struct Reader {
    text: Vec<u8>,
}

impl Reader {
    fn read(&mut self, message: v1::CopyMessage) -> Result<Option<CopyMessage>, Unreadable> {
        Ok(Some(match message.message.ok_or(Unreadable::Unknown)? {
            Wire::Hello(_) => return Ok(None),
            Wire::Have(have) => {
                let loom: LoomId = have.loom.parse()?;
                let origin = have.origin.parse()?;
                let logs = have.logs.iter().map(|log| log_from(loom, log)).collect::<Result<_, _>>()?;
                let casts = copied_casts::heads_from(loom, &have.casts)?;
                CopyMessage::Have { loom, origin, keepers: keepers_from(have.keepers)?, logs, casts }
            }
            Wire::Cast(it) => copied_casts::step_from(it)?,
            Wire::CastAnswer(it) => copied_casts::answer_from(it)?,
            Wire::Text(part) => {
                if self.text.len().saturating_add(part.bytes.len()) > COPY_TEXT_BYTES_MAX {
                    return Err(Unreadable::Text);
                }
                self.text.extend_from_slice(&part.bytes);
                if !part.last {
                    return Ok(None);
                }
                CopyMessage::Text { loom: part.loom.parse()?, bytes: std::mem::take(&mut self.text) }
            }
            Wire::Attestation(it) => {
                let attestation = match it.attestation.ok_or(Unreadable::Unknown)? {
                    v1::copy_attestation::Attestation::Member(bytes) => {
                        MemberRecord::parse(&bytes).map(Attestation::Member)
                    }
                    v1::copy_attestation::Attestation::Succession(bytes) => {
                        Succession::parse(&bytes).map(Attestation::Succession)
                    }
                };
                let attestation = Box::new(attestation.map_err(Unreadable::Attestation)?);
                CopyMessage::Attestation { loom: it.loom.parse()?, attestation }
            }
            Wire::Segment(it) => {
                let (loom, writer) = (it.loom.parse()?, writer(&it.writer)?);
                let head = Head { sequence: it.sequence, chain: array("chain", &it.chain)? };
                CopyMessage::Segment(Box::new(Segment {
                    from: Head { sequence: it.from_sequence, chain: array("from_chain", &it.from_chain)? },
                    entries: it.entries.into_iter().map(Vec::from).collect(),
                    blobs: Vec::new(),
                    signed: SignedHead { loom, writer, head, signature: array("signature", &it.signature)? },
                }))
            }
            Wire::Held(it) => CopyMessage::Held {
                loom: it.loom.parse()?,
                writer: writer(&it.writer)?,
                head: Head { sequence: it.sequence, chain: array("chain", &it.chain)? },
                kind: kind(it.kind)?,
            },
            Wire::Fence(it) => {
                let proofs = ProvedEntry::parse_all(&it.proofs).map_err(Unreadable::Entries)?;
                let vouching = credentials::vouching_from("vouching", it.vouching.as_ref());
                let attestations = vouching.map_err(Unreadable::Vouching)?;
                let credentials = Box::new(Credentials { proofs, attestations });
                CopyMessage::Fence { loom: it.loom.parse()?, entity: it.entity.parse()?, credentials }
            }
            Wire::Fencing(it) => copied_fences::fencing_from(&it)?,
            Wire::Fenced(it) => copied_fences::fenced_from(it)?,
            Wire::Later(it) => CopyMessage::Later { loom: it.loom.parse()?, writer: writer(&it.writer)? },
            Wire::Refused(it) => {
                let writer = if it.writer.is_empty() { None } else { Some(writer(&it.writer)?) };
                CopyMessage::Refused { loom: it.loom.parse()?, writer, what: shown(it.message) }
            }
            Wire::Divided(it) => {
                if it.proof.len() > PROOF_BYTES_MAX {
                    return Err(Unreadable::LongProof { bytes: it.proof.len() });
                }
                let proof = Box::new(EquivocationProof::parse(&it.proof).ok_or(Unreadable::Proof)?);
                let entries = ProvedEntry::parse_all(&it.entries).map_err(Unreadable::Entries)?;
                CopyMessage::Divided { proof, entries }
            }
        }))
    }
}

/// What this side says, as a stream of the wire.
pub(super) fn speaking(out: mpsc::Receiver<CopyMessage>) -> impl Stream<Item = v1::CopyMessage> + Send + 'static {
    let messages = ReceiverStream::new(out).flat_map(|message| futures_util::stream::iter(to_wire(message)));
    messages.map(|message| v1::CopyMessage { message: Some(message) })
}

/// Listens until the other side falls silent for good or says what cannot be read.
async fn listening(mut messages: Streaming<v1::CopyMessage>, heard: weighed::Sender<Result<CopyMessage, String>>) {
    let mut reader = Reader::default();
    loop {
        let mut bytes = 0;
        let said = match messages.message().await {
            Ok(Some(message)) => {
                bytes = prost::Message::encoded_len(&message).saturating_add(reader.text.len());
                reader.read(message).map_err(|error| format!("what came cannot be read: {error}"))
            }
            Ok(None) => return,
            Err(status) => Err(status.message().to_owned()),
        };
        let is_over = said.is_err();
        if let Some(said) = said.transpose()
            && heard.send(said, bytes).await.is_err()
        {
            return;
        }
        if is_over {
            return;
        }
    }
}

/// Ends the listening when the wire is dropped.
#[derive(Debug)]
struct Ears(AbortHandle);

impl Drop for Ears {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Both ends of a stream. Whoever drops the wire ends it.
pub(super) fn wire(messages: Streaming<v1::CopyMessage>) -> (CopyWire, mpsc::Receiver<CopyMessage>) {
    let (out, said) = mpsc::channel(WAITING);
    let (heard, incoming) = weighed::channel(HEARD_WAITING_BYTES_MAX);
    let ears = tokio::spawn(listening(messages, heard));
    (CopyWire { out, incoming, guard: Box::new(Ears(ears.abort_handle())) }, said)
}

impl PeerNodes {
    /// Has this machine's own node adopt an entity.
    ///
    /// # Errors
    /// A node that cannot be reached, or refuses.
    pub async fn adopt(
        &self,
        node: &str,
        (loom, entity): (LoomId, EntityId),
        accept_loss: bool,
    ) -> Result<v1::AdoptResponse, PeerError> {
        let peer = self.find(node)?.clone();
        let request = v1::AdoptRequest { loom: loom.to_string(), entity: entity.to_string(), accept_loss };
        let mut asked = self.client(&peer).await?;
        self.answer(&peer, asked.adopt(request)).await
    }

    /// Has this machine's own node admit somebody to a loom with these rights, or, without any, expel that one.
    ///
    /// # Errors
    /// A node that cannot be reached, or refuses to be asked.
    pub async fn change_members(
        &self,
        node: &str,
        loom: LoomId,
        who: &str,
        rights: Option<&Rights>,
        by: Option<&str>,
    ) -> Result<v1::ChangeMembersResponse, PeerError> {
        let peer = self.find(node)?.clone();
        let rights = rights.map(Rights::words).unwrap_or_default().into_iter().map(str::to_owned).collect();
        let (who, by) = (who.to_owned(), by.unwrap_or_default().to_owned());
        let request = v1::ChangeMembersRequest { loom: loom.to_string(), who, rights, by };
        let mut asked = self.client(&peer).await?;
        self.answer(&peer, asked.change_members(request)).await
    }

    /// Begins a conversation with a peer; `said` is everything that is said to it, by a client of this node or by itself.
    pub(super) async fn sync(
        &self,
        node: &str,
        client: bool,
        said: impl Stream<Item = v1::CopyMessage> + Send + 'static,
    ) -> Result<Streaming<v1::CopyMessage>, PeerError> {
        let peer = self.find(node)?.clone();
        let hello = Wire::Hello(v1::CopyHello { node: self.passed_on_to(&peer), client });
        let hello = v1::CopyMessage { message: Some(hello) };
        let said = futures_util::stream::once(std::future::ready(hello)).chain(said);
        let mut client = self.client(&peer).await?;
        let limit: Duration = self.limits().rpc;
        match timeout(limit, client.sync(said)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                self.forget(&peer);
                Err(failed(&peer, &status))
            }
            Err(_) => {
                self.forget(&peer);
                Err(self.no_answer(&peer))
            }
        }
    }
}

impl Linking for PeerNodes {
    fn knows(&self, node: &NodeName) -> bool {
        self.find(node.as_str()).is_ok()
    }

    fn listens(&self) -> bool {
        true
    }

    fn identify<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<Arc<HostIdentity>, PeerError>> {
        Peers::identify(self, node.as_str(), false)
    }

    fn link<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<CopyWire, PeerError>> {
        Box::pin(async move {
            let (out, said) = mpsc::channel(WAITING);
            let messages = self.sync(node.as_str(), false, speaking(said)).await?;
            let (wire, _) = wire(messages);
            let CopyWire { incoming, guard, .. } = wire;
            Ok(CopyWire { out, incoming, guard })
        })
    }
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod fuzz_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::store::NodeKey;
    use crate::domain::limits::MEMBER_RECORD_BYTES_MAX;
    use crate::domain::members::{CertificateSignature, Scheme};

    #[test]
    fn what_vouches_for_a_writer_comes_as_it_was_sent_and_no_longer_than_it_may_be() {
        let [old, new] = [3, 4].map(|secret| NodeKey::from_secret(&[secret; 32]));
        let by_certificate = CertificateSignature { scheme: Scheme::Ed25519, bytes: vec![1; 64] };
        let loom = LoomId::from_parts(1, [1; 16]);
        let member = Attestation::Member(old.vouch(vec![vec![1; 10], vec![2; 10]], by_certificate));
        for attestation in [member, Attestation::Succession(old.succeed(&new))] {
            let sent = CopyMessage::Attestation { loom, attestation: Box::new(attestation) };
            let wire = to_wire(sent.clone()).pop_front();
            let heard = Reader::default().read(v1::CopyMessage { message: wire }).unwrap();
            assert_eq!(heard, Some(sent));
        }
        let attestation = Some(v1::copy_attestation::Attestation::Member(vec![0; MEMBER_RECORD_BYTES_MAX + 1].into()));
        let long = Wire::Attestation(v1::CopyAttestation { loom: loom.to_string(), attestation });
        let refused = Reader::default().read(v1::CopyMessage { message: Some(long) }).unwrap_err().to_string();
        assert!(refused.contains("36865 bytes, and the limit is 36864"), "{refused}");
    }

    #[test]
    fn a_text_of_a_keeper_is_bounded() {
        let part = |bytes: usize| {
            let text = v1::CopyText { loom: String::new(), bytes: vec![0; bytes].into(), last: false };
            v1::CopyMessage { message: Some(Wire::Text(text)) }
        };
        let mut reader = Reader { text: vec![0; COPY_TEXT_BYTES_MAX - 10] };
        assert!(reader.read(part(10)).is_ok());
        let refused = reader.read(part(1)).unwrap_err().to_string();
        assert!(refused.contains("a text has more than 67108864 bytes"), "{refused}");
    }
}

#[cfg(test)]
#[path = "segment_fuzz_tests.rs"]
mod segment_fuzz_tests;
