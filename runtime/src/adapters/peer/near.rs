//! The near side of one episode that runs on a peer: what is said and heard, across all its connections.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cantrip_gates::GateError;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::client::{PeerNodes, chain, failed};
use super::convert;
use super::server::PART_BYTES;
use super::wire as v1;
use super::wire::caller_message::Message as Said;
use super::wire::host_message::Message as Told;
use crate::domain::ids::{BlobId, EntryId, LoomId, NodeAddress};
use crate::domain::limits::{
    NEAR_ANSWER_BYTES_MAX, NEAR_QUESTION_BYTES_MAX, NEAR_QUESTIONS_MAX, NEAR_TEXTS_MAX, NEAR_UNCOVERED_ENTRIES_MAX,
    NEAR_UNSYNCED_BYTES_MAX, SHOWN_HEADS_MAX, UNREFERRED_TEXTS_BYTES_MAX,
};
use crate::domain::loom::{Blob, Sealed};
use crate::domain::remote::{ByHost, Order};
use crate::ports::{BoxFuture, Home, HomeError, PeerError, Pieces, RemoteEnd, Signal};

/// 256 messages wait to be sent.
const OUT_WAITING: usize = 256;
/// Ten seconds. A caller that has nothing to say says so at least this often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Two seconds. A connection that stands so long is made again, or has brought an entry: one that is accepted and broken off at once
/// is still the one that was lost.
const STEADY: Duration = Duration::from_secs(2);

type Sender = mpsc::Sender<v1::CallerMessage>;
/// Where messages go at the moment: the connection changes under those who answer.
type Out = Arc<Mutex<Option<Sender>>>;

/// Why an attempt gave no end.
pub(super) enum Broken {
    /// The connection: worth another try.
    Connection(String),
    /// The host's silence: worth another try, once it had accepted.
    Silence,
    /// For good.
    Final(PeerError),
}

/// What is known of a question of the host.
enum Asked {
    /// And how many bytes it has.
    Running(usize),
    /// What was said, and how many bytes that is.
    Answered(Vec<Said>, usize),
}

/// One episode.
pub(super) struct Near<'a> {
    nodes: &'a PeerNodes,
    peer: &'a NodeAddress,
    order: &'a Order,
    home: &'a dyn Home,
    /// The loom, as soon as it has a name.
    loom: LoomId,
    /// The cursor of the last heads that were taken.
    after: Vec<u8>,
    /// Whether the host has it: from then on it may run, whatever becomes of the connection.
    pub(super) is_accepted: bool,
    /// When it was stopped, and whether because its parent has ended.
    pub(super) stopping: Option<(bool, Instant)>,
    /// When the connection broke that was not made again yet.
    pub(super) lost_since: Option<Instant>,
    texts: HashMap<String, (Vec<u8>, bool)>,
    texts_bytes: usize,
    answers: FuturesUnordered<BoxFuture<'a, (u64, Vec<Said>)>>,
    asked: BTreeMap<u64, Asked>,
    answered_bytes: usize,
    /// Bytes of entries that were taken since the disk was waited for.
    unsynced_bytes: usize,
    out: Out,
}

/// Sends the pieces of a model's answer as far as the way is free: the whole answer follows.
struct Sent<'a> {
    call: u64,
    out: &'a Out,
}

impl Sent<'_> {
    fn send(&self, piece: v1::model_piece::Piece) {
        let sender = self.out.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sender) = sender {
            drop(sender.try_send(message(Said::ModelPiece(v1::ModelPiece { call: self.call, piece: Some(piece) }))));
        }
    }
}

impl Pieces for Sent<'_> {
    fn text(&self, piece: &str) {
        self.send(v1::model_piece::Piece::Text(piece.to_owned()));
    }

    fn thinking(&self, piece: &str) {
        self.send(v1::model_piece::Piece::Thinking(piece.to_owned()));
    }
}

const fn message(said: Said) -> v1::CallerMessage {
    v1::CallerMessage { message: Some(said) }
}

impl<'a> Near<'a> {
    pub(super) fn new(nodes: &'a PeerNodes, peer: &'a NodeAddress, order: &'a Order, home: &'a dyn Home) -> Self {
        Self {
            nodes,
            peer,
            order,
            home,
            loom: order.loom,
            after: Vec::new(),
            is_accepted: false,
            stopping: None,
            lost_since: None,
            texts: HashMap::new(),
            texts_bytes: 0,
            answers: FuturesUnordered::new(),
            asked: BTreeMap::new(),
            answered_bytes: 0,
            unsynced_bytes: 0,
            out: Arc::default(),
        }
    }

    fn broken(&self, what: impl Into<String>) -> Broken {
        Broken::Final(PeerError::Broken { node: self.peer.to_string(), what: what.into() })
    }

    fn home_error(&self, error: HomeError) -> Broken {
        match error {
            HomeError::Refused(what) => self.broken(what),
            HomeError::Store(error) => Broken::Final(PeerError::Store(error)),
        }
    }

    fn status(&self, status: &Status) -> Broken {
        match failed(self.peer, status) {
            PeerError::Unreachable { what, .. } => Broken::Connection(what),
            final_one @ (PeerError::Unknown { .. }
            | PeerError::Refused { .. }
            | PeerError::NoAnswer { .. }
            | PeerError::Lost { .. }
            | PeerError::Broken { .. }
            | PeerError::Store(_)) => Broken::Final(final_one),
        }
    }

    /// What the host is told first on a new connection.
    fn opening(&self) -> (Sender, mpsc::Receiver<v1::CallerMessage>) {
        let limits = self.nodes.limits();
        let node = self.nodes.passed_on_to(self.peer);
        let (sender, receiver) = mpsc::channel(OUT_WAITING);
        let mut order = self.order.clone();
        order.lease.get_or_insert(limits.lease);
        let mut open = convert::open(&order, self.after.clone(), node, self.home.is_watched());
        open.heads = self.home.heads().iter().take(SHOWN_HEADS_MAX).map(convert::cast_head).collect();
        let open = Said::Open(open);
        let cancel = self.stopping.map(|(parent_terminated, _)| Said::Cancel(v1::Cancel { parent_terminated }));
        for said in std::iter::once(open).chain(cancel) {
            // The channel is new and has room for both.
            drop(sender.try_send(message(said)));
        }
        *self.out.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
        (sender, receiver)
    }

    /// Connects, opens or joins the episode, and goes on until its end or that of the connection.
    pub(super) async fn attempt(&mut self) -> Result<RemoteEnd, Broken> {
        let limits = self.nodes.limits();
        let mut client = match self.nodes.client(self.peer).await {
            Ok(client) => client,
            Err(error) if self.is_accepted => return Err(Broken::Connection(error.to_string())),
            Err(error) => return Err(Broken::Final(error)),
        };
        self.home.connected();
        let (sender, receiver) = self.opening();
        let mut stream = match timeout(limits.rpc, client.cast(ReceiverStream::new(receiver))).await {
            Err(_) => return Err(Broken::Silence),
            Ok(Err(status)) => return Err(self.status(&status)),
            Ok(Ok(response)) => response.into_inner(),
        };
        let beat = (limits.lease / 3).min(HEARTBEAT);
        let begun = Instant::now();
        let (mut heard, mut spoken) = (begun, begun);
        loop {
            let silence = sleep(limits.rpc.saturating_sub(heard.elapsed()));
            let due = sleep(beat.saturating_sub(spoken.elapsed()));
            tokio::select! {
                biased;
                told = stream.message() => {
                    heard = Instant::now();
                    if heard.duration_since(begun) >= STEADY {
                        self.lost_since = None;
                    }
                    match told {
                        Ok(Some(told)) => {
                            if let Some(end) = self.hear(told, &sender).await? {
                                return Ok(end);
                            }
                        }
                        Ok(None) => {
                            return Err(Broken::Connection("the host ended the stream without an end".to_owned()));
                        }
                        Err(status) => return Err(self.status(&status)),
                    }
                }
                Some((call, answers)) = self.answers.next(), if !self.answers.is_empty() => {
                    self.answered(call, &answers, &sender).await?;
                }
                signal = self.home.signal(), if self.stopping.is_none() => self.pass_on(signal, &sender).await?,
                () = due => {
                    self.say(&sender, Said::Heartbeat(v1::Heartbeat {})).await?;
                    spoken = Instant::now();
                }
                () = silence => return Err(Broken::Silence),
            }
            if self.is_given_up() {
                return Err(Broken::Final(self.nodes.no_answer(self.peer)));
            }
        }
    }

    /// Whether it was stopped, and the host has had its time to say so.
    pub(super) fn is_given_up(&self) -> bool {
        self.stopping.is_some_and(|(_, since)| since.elapsed() >= self.nodes.limits().rpc)
    }

    async fn pass_on(&mut self, signal: Signal, sender: &Sender) -> Result<(), Broken> {
        let said = match signal {
            Signal::Steer(text) => Said::Steer(text),
            Signal::Interrupt => Said::Interrupt(v1::Interrupt {}),
            Signal::Stop { parent_terminated } => {
                self.stopping = Some((parent_terminated, Instant::now()));
                Said::Cancel(v1::Cancel { parent_terminated })
            }
        };
        self.say(sender, said).await
    }

    async fn say(&mut self, sender: &Sender, said: Said) -> Result<(), Broken> {
        let gone = |_| Broken::Connection("the connection was closed".to_owned());
        match timeout(self.nodes.limits().rpc, sender.send(message(said))).await {
            Ok(sent) => sent.map_err(gone),
            Err(_) => Err(Broken::Silence),
        }
    }

    async fn answered(&mut self, call: u64, answers: &[Said], sender: &Sender) -> Result<(), Broken> {
        // An entity asks one thing after the other: what was answered before will not be asked again.
        self.asked.retain(|number, asked| *number >= call || matches!(asked, Asked::Running(_)));
        let sizes = answers.iter().map(|said| prost::Message::encoded_len(&message(said.clone())));
        let bytes = sizes.fold(256, usize::saturating_add);
        self.asked.insert(call, Asked::Answered(answers.to_vec(), bytes));
        let remembered = self.asked.values().map(|asked| match asked {
            Asked::Running(_) => 0,
            Asked::Answered(_, bytes) => *bytes,
        });
        self.answered_bytes = remembered.fold(0, usize::saturating_add);
        if self.answered_bytes > NEAR_ANSWER_BYTES_MAX {
            return Err(self.broken(format!(
                "it has asked out of order until {} bytes of answers were remembered for it, and {NEAR_ANSWER_BYTES_MAX} may be",
                self.answered_bytes
            )));
        }
        for said in answers {
            self.say(sender, said.clone()).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, told: v1::HostMessage, sender: &Sender) -> Result<Option<RemoteEnd>, Broken> {
        match told.message {
            None | Some(Told::Heartbeat(_)) => {}
            Some(Told::Accepted(accepted)) => {
                if self.order.by_host != ByHost::Nothing {
                    let (loom, entity) = convert::named(&accepted).map_err(|what| self.broken(what))?;
                    self.home.named(loom, entity).map_err(|error| self.home_error(error))?;
                    self.loom = loom;
                }
                self.is_accepted = true;
            }
            Some(Told::Refused(refused)) => {
                let refusal = convert::refusal(refused);
                return Err(Broken::Final(PeerError::Refused { node: self.peer.to_string(), refusal }));
            }
            Some(Told::TextPart(part)) => self.text(&part)?,
            Some(Told::Entry(entry)) => self.entry(&entry)?,
            Some(Told::Heads(heads)) => self.heads(&heads).await?,
            Some(Told::Event(line)) => {
                // What is no event of this version is not shown.
                if let Some(event) =
                    crate::domain::json::parse(&line).ok().and_then(|it| serde_json::from_value(it).ok())
                {
                    self.home.event(event);
                }
            }
            Some(Told::GateCall(_) | Told::ModelCall(_)) if self.home.is_uncovered() => {
                return Err(self.broken("it asks before a cast head covers what it has told"));
            }
            Some(Told::GateCall(call)) => self.gate(call, sender).await?,
            Some(Told::ModelCall(call)) => self.model(call, sender).await?,
            Some(Told::GuestWanted(wanted)) => self.guest(wanted, sender).await?,
            Some(Told::Ended(ended)) => {
                let end = convert::end(ended).map_err(|what| self.broken(what))?;
                self.home.finish().map_err(|error| self.home_error(error))?;
                self.home.sync().await.map_err(|error| self.home_error(error))?;
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    fn text(&mut self, part: &v1::TextPart) -> Result<(), Broken> {
        if self.texts.len() >= NEAR_TEXTS_MAX && !self.texts.contains_key(&part.id) {
            return Err(self.broken(format!("more than {NEAR_TEXTS_MAX} texts that no entry refers to")));
        }
        // Nothing else is an id of a text.
        let id: BlobId = part.id.parse().map_err(|error| self.broken(format!("a text has no id: {error}")))?;
        let (text, is_whole) = self.texts.entry(id.to_string()).or_default();
        // Sent again on a new connection: from its beginning.
        if *is_whole {
            self.texts_bytes = self.texts_bytes.saturating_sub(text.len());
            text.clear();
        }
        self.texts_bytes = self.texts_bytes.saturating_add(part.bytes.len());
        text.extend_from_slice(&part.bytes);
        *is_whole = part.last;
        if self.texts_bytes > UNREFERRED_TEXTS_BYTES_MAX {
            return Err(
                self.broken(format!("more than {UNREFERRED_TEXTS_BYTES_MAX} bytes of texts that no entry refers to"))
            );
        }
        Ok(())
    }

    fn entry(&mut self, entry: &v1::Entry) -> Result<(), Broken> {
        let id: EntryId = entry.id.parse().map_err(|error| self.broken(format!("`{}` is no id: {error}", entry.id)))?;
        let opened = Sealed::open(id, entry.bytes.to_vec());
        let mut sealed = opened.map_err(|error| self.broken(format!("entry {id}: {}", chain(&error))))?;
        for id in sealed.text_ids() {
            let Some((bytes, true)) = self.texts.remove(&id.to_string()) else { continue };
            self.texts_bytes = self.texts_bytes.saturating_sub(bytes.len());
            if BlobId::of(&bytes) != id {
                return Err(self.broken(format!("the text {id} hashes to something else")));
            }
            sealed.blobs.push(Blob { id, bytes });
        }
        let blobs = sealed.blobs.iter().map(|blob| blob.bytes.len()).fold(0, usize::saturating_add);
        self.unsynced_bytes = self.unsynced_bytes.saturating_add(sealed.bytes.len()).saturating_add(blobs);
        self.home.receive(sealed).map_err(|error| self.home_error(error))
    }

    /// What came before is the cast's once its writers' heads cover it.
    async fn heads(&mut self, it: &v1::CastHeads) -> Result<(), Broken> {
        if it.heads.len() > NEAR_UNCOVERED_ENTRIES_MAX {
            return Err(self.broken(format!("more than {NEAR_UNCOVERED_ENTRIES_MAX} cast heads at once")));
        }
        let loom = self.loom;
        let heads = it.heads.iter().map(|head| convert::cast_head_from(loom, head)).collect::<Result<_, _>>();
        let heads = heads.map_err(|what| self.broken(what))?;
        self.home.cover(heads).map_err(|error| self.home_error(error))?;
        self.lost_since = None;
        self.after = it.cursor.to_vec();
        if self.unsynced_bytes > NEAR_UNSYNCED_BYTES_MAX {
            // A host may send faster than this disk writes: it waits here, and not in the queue of everybody.
            self.unsynced_bytes = 0;
            self.home.sync().await.map_err(|error| self.home_error(error))?;
        }
        Ok(())
    }

    /// Whether a question of so many bytes is new. What was answered is answered again.
    async fn is_new(&mut self, call: u64, bytes: usize, sender: &Sender) -> Result<bool, Broken> {
        let again = match self.asked.get(&call) {
            None => {
                let running = self.asked.values().filter_map(|asked| match asked {
                    Asked::Running(bytes) => Some(*bytes),
                    Asked::Answered(..) => None,
                });
                let (count, open) =
                    running.fold((0, bytes), |(count, sum), bytes| (count + 1, sum.saturating_add(bytes)));
                if count >= NEAR_QUESTIONS_MAX {
                    return Err(self.broken(format!("it asks more than {NEAR_QUESTIONS_MAX} questions at once")));
                }
                if open > NEAR_QUESTION_BYTES_MAX {
                    return Err(self.broken(format!(
                        "it asks questions of {open} bytes at once, and {NEAR_QUESTION_BYTES_MAX} may be open"
                    )));
                }
                self.asked.insert(call, Asked::Running(bytes));
                return Ok(true);
            }
            Some(Asked::Running(_)) => Vec::new(),
            Some(Asked::Answered(answers, _)) => answers.clone(),
        };
        for said in again {
            self.say(sender, said).await?;
        }
        Ok(false)
    }

    async fn gate(&mut self, it: v1::GateCall, sender: &Sender) -> Result<(), Broken> {
        if !self.is_new(it.call, prost::Message::encoded_len(&it), sender).await? {
            return Ok(());
        }
        let home = self.home;
        let answer = async move {
            let result = match convert::json("arguments", &it.arguments) {
                Ok(arguments) => home.gate(&it.gate, arguments).await,
                Err(what) => Err(GateError::Invalid(what)),
            };
            (it.call, vec![Said::GateResult(convert::gate_result(it.call, result))])
        };
        self.answers.push(answer.boxed());
        Ok(())
    }

    async fn model(&mut self, it: v1::ModelCall, sender: &Sender) -> Result<(), Broken> {
        if !self.is_new(it.call, prost::Message::encoded_len(&it), sender).await? {
            return Ok(());
        }
        let (home, out, call) = (self.home, Arc::clone(&self.out), it.call);
        let question = convert::question(it).map_err(|what| self.broken(what))?;
        let answer = async move {
            let result = home.ask(&question, &Sent { call, out: &out }).await;
            (call, vec![Said::ModelResult(convert::model_result(call, result))])
        };
        self.answers.push(answer.boxed());
        Ok(())
    }

    async fn guest(&mut self, wanted: v1::GuestWanted, sender: &Sender) -> Result<(), Broken> {
        if !self.is_new(wanted.call, prost::Message::encoded_len(&wanted), sender).await? {
            return Ok(());
        }
        let (home, v1::GuestWanted { call, digest }) = (self.home, wanted);
        let answer = async move {
            let Some(bytes) = home.guest(&digest).await else {
                let refused = format!("the caller does not have the guest {digest}");
                return (call, vec![Said::GuestPart(v1::GuestPart { call, refused, ..v1::GuestPart::default() })]);
            };
            let bytes = bytes::Bytes::from(bytes);
            let mut parts = Vec::new();
            for from in (0..bytes.len()).step_by(PART_BYTES) {
                let to = from.saturating_add(PART_BYTES).min(bytes.len());
                let (bytes, last) = (bytes.slice(from..to), to == bytes.len());
                parts.push(Said::GuestPart(v1::GuestPart { call, bytes, last, ..v1::GuestPart::default() }));
            }
            (call, parts)
        };
        self.answers.push(answer.boxed());
        Ok(())
    }
}

#[cfg(test)]
#[path = "cast_fuzz_tests.rs"]
mod cast_fuzz_tests;
