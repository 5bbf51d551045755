//! One cast as its host speaks of it: what comes of it goes to the caller, and what the caller answers goes to the episode.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::convert;
use super::server::PART_BYTES;
use super::wire as v1;
use super::wire::caller_message::Message as Said;
use super::wire::host_message::Message as Told;
use crate::driver::weighed;
use crate::driver::{Answer, Ask, Attached, HostItem};

/// Every five seconds a host that has nothing to say says so.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// One cast stream at work.
pub(super) struct Speaking {
    pub(super) attached: Attached,
    pub(super) messages: Streaming<v1::CallerMessage>,
    pub(super) out: weighed::Sender<Result<v1::HostMessage, Status>>,
    pub(super) node: String,
    pub(super) writer: String,
}

impl Speaking {
    pub(super) async fn run(mut self, closing: CancellationToken) {
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_listening = true;
        loop {
            tokio::select! {
                biased;
                () = self.out.closed() => return,
                said = self.messages.message(), if is_listening => match said {
                    Ok(Some(said)) => self.hear(said).await,
                    // Whoever has said everything may still listen: as long as the connection stands, it is there.
                    Ok(None) => is_listening = false,
                    Err(_) => return,
                },
                item = self.attached.next() => match item {
                    Ok(Some(item)) => {
                        if !self.tell(item).await {
                            return;
                        }
                    }
                    Ok(None) => return,
                    Err(error) => {
                        tracing::error!(%error, "the record cannot be read for a caller");
                        drop(self.out.send(Err(Status::internal("the host cannot read its record")), 0).await);
                        return;
                    }
                },
                _ = beat.tick() => {
                    if !is_listening {
                        self.attached.heard();
                    }
                    if !self.send(Told::Heartbeat(v1::Heartbeat {})).await {
                        return;
                    }
                }
                () = closing.cancelled() => {
                    drop(self.out.send(Err(Status::unavailable("the node is shutting down")), 0).await);
                    return;
                }
            }
        }
    }

    async fn hear(&self, said: v1::CallerMessage) {
        self.attached.heard();
        let line = self.attached.line();
        match said.message {
            None | Some(Said::Heartbeat(_) | Said::Open(_)) => {}
            Some(Said::GateResult(it)) => line.answer(it.call, Answer::Gate(convert::gate_result_from(it))).await,
            Some(Said::ModelPiece(it)) => match it.piece {
                Some(v1::model_piece::Piece::Text(text)) => line.answer(it.call, Answer::Text(text)).await,
                Some(v1::model_piece::Piece::Thinking(text)) => line.answer(it.call, Answer::Thinking(text)).await,
                None => {}
            },
            Some(Said::ModelResult(it)) => line.answer(it.call, Answer::Model(convert::model_result_from(it))).await,
            Some(Said::GuestPart(it)) => {
                let answer = if it.refused.is_empty() {
                    Answer::GuestPart { bytes: it.bytes.to_vec(), last: it.last }
                } else {
                    Answer::GuestRefused(it.refused)
                };
                line.answer(it.call, answer).await;
            }
            Some(Said::Steer(text)) => {
                self.attached.control().steer(&text);
            }
            Some(Said::Interrupt(_)) => self.attached.control().interrupt(),
            Some(Said::Cancel(it)) if it.parent_terminated => self.attached.orphan(),
            Some(Said::Cancel(_)) => self.attached.control().cancel(),
        }
    }

    async fn send(&self, message: Told) -> bool {
        let message = v1::HostMessage { message: Some(message) };
        let bytes = prost::Message::encoded_len(&message);
        self.out.send(Ok(message), bytes).await.is_ok()
    }

    async fn tell(&self, item: HostItem) -> bool {
        match item {
            HostItem::Accepted { wards, waiting, joined, loom, entity } => {
                let accepted = v1::Accepted {
                    node: self.node.clone(),
                    writer: self.writer.clone(),
                    wards: convert::wards(&wards),
                    waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
                    joined,
                    loom: loom.to_string(),
                    entity: entity.to_string(),
                };
                self.send(Told::Accepted(accepted)).await
            }
            HostItem::Refused(refusal) => self.send(Told::Refused(convert::refused(&refusal))).await,
            // The room is given back when all of it is on its way.
            HostItem::Entry { sealed, room: _room } => {
                for blob in &sealed.blobs {
                    if !self.send_text(&blob.id.to_string(), &blob.bytes).await {
                        return false;
                    }
                }
                self.send(Told::Entry(v1::Entry { id: sealed.id.to_string(), bytes: sealed.bytes.into() })).await
            }
            HostItem::Heads { heads, cursor } => {
                let heads = heads.iter().map(convert::cast_head).collect();
                self.send(Told::Heads(v1::CastHeads { heads, cursor: cursor.to_bytes().to_vec().into() })).await
            }
            HostItem::Event(event) => {
                // A record type of ours: it always is JSON.
                self.send(Told::Event(serde_json::to_string(&*event).unwrap_or_default())).await
            }
            HostItem::Ask(call, Ask::Gate { gate, arguments }) => {
                let arguments = arguments.to_string();
                self.send(Told::GateCall(v1::GateCall { call, gate, arguments })).await
            }
            HostItem::Ask(call, Ask::Model(question)) => {
                self.send(Told::ModelCall(convert::model_call(call, &question))).await
            }
            HostItem::Ask(call, Ask::Guest { digest }) => {
                self.send(Told::GuestWanted(v1::GuestWanted { call, digest })).await
            }
            HostItem::Ended(end) => self.send(Told::Ended(convert::ended(*end))).await,
        }
    }

    async fn send_text(&self, id: &str, bytes: &[u8]) -> bool {
        let mut parts = bytes.chunks(PART_BYTES).peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            let part = v1::TextPart { id: id.to_owned(), bytes: part.to_vec().into(), last };
            if !self.send(Told::TextPart(part)).await {
                return false;
            }
        }
        true
    }
}
