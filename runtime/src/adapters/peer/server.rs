//! The node as a host: takes calls of peers and of this machine's own clients.
//!
//! A caller is known before a call is read: by its certificate, or because it could open the socket. A caller that is not listed
//! is told so by every call and gets nothing else.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use super::answers::{guest_line, passed_back, speaker};
use super::client::PeerNodes;
use super::connection::{Accepted, ConnectionLimits, Connections};
use super::convert;
use super::judge::{JudgeLayer, not_listed};
use super::net::BoxIo;
use super::speaking::Speaking;
use super::sync;
use super::upload::{Uploaded, Uploads};
use super::wire as v1;
use super::wire::caller_message::Message as Said;
use super::wire::host_message::Message as Told;
use super::wire::node_server::{Node, NodeServer as Wire};
use crate::domain::caller::{Caller, KnownCaller};
use crate::domain::ids::{EntityId, IdError, LoomId, NodeAddress, NodeName, NodeNameError};
use crate::domain::limits::{
    MESSAGE_BYTES_MAX, OUT_WAITING_BYTES_MAX, PEER_HEADER_BYTES_MAX, PENDING_RESETS_MAX, REFUSED_CONNECTIONS_MAX,
};
use crate::domain::loom::Origin;
use crate::domain::members::Right;
use crate::domain::remote::{Ceiling, Granted, Order, Refusal};
use crate::driver::weighed;
use crate::driver::{Attached, Build, Casts, Changed, Copies, Cursor, Fault, Named, Refusals, Slots, Where};

/// 256 KiB. A part of a large text or a component.
pub(super) const PART_BYTES: usize = 256 * 1024;
/// 256 KiB. What a call may send before it is listened to.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// 8 MiB. The same of all calls of a connection: twice what those hold that wait for room, so that they never hold up the others.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// What one caller is granted.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What its casts may be and do.
    pub ceiling: Arc<Ceiling>,
    /// How many of them.
    pub slots: Arc<Slots>,
    /// What it may bring; absent: nothing.
    pub uploads: Option<Arc<Uploads>>,
    /// Whether its casts may be passed on to this node's peers.
    pub may_relay: bool,
}

/// One guest of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestLine {
    /// Its name.
    pub name: String,
    /// Its digest, `sha256:…`.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// Its world.
    pub world: String,
    /// The gates that it imports.
    pub gates: Vec<String>,
}

/// What the node's own file decides.
pub trait Hosting: Send + Sync + Debug {
    /// The terms of a caller; nothing for one that is not listed.
    fn terms(&self, caller: &Caller) -> Option<Terms>;

    /// Whether a caller is listed at all.
    fn is_listed(&self, caller: &Caller) -> bool {
        self.terms(caller).is_some()
    }

    /// How a caller is named in the record, for people: `name@host:port`. It decides nothing.
    fn known_as(&self, caller: &Caller) -> String;

    /// Makes the cantrip of an order, of what is granted of it.
    fn build(&self, terms: &Terms, order: &Order, granted: &Granted) -> Result<Build, Refusal>;

    /// The guests that a caller has given a name, and those that everybody has; for the machine's own user all that are kept. It may
    /// read files: not for a thread that serves.
    fn guests(&self, caller: &Caller) -> Vec<GuestLine>;

    /// The peers.
    fn peers(&self) -> Vec<NodeAddress>;

    /// The media that are here.
    fn media(&self) -> Vec<String>;

    /// Goes on with an entity that this node has adopted, where everything that it needs is here; otherwise says what is not.
    fn go_on_with(&self, casts: &Casts, loom: LoomId, entity: EntityId) -> Result<(), String>;

    /// The looms that are kept together with others; absent: none.
    fn copies(&self) -> Option<Arc<Copies>>;

    /// The way to the peers, for what this machine's clients want of them.
    fn way_to_peers(&self) -> Option<Arc<PeerNodes>>;
}

/// Why a node cannot serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listener failed.
    #[error("the connections cannot be served")]
    Transport(#[from] tonic::transport::Error),
    /// The protocol's description is unusable: a defect of ours.
    #[error("reflection cannot be offered")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A node that serves.
#[derive(Debug, Clone)]
pub struct NodeServer {
    pub(super) casts: Casts,
    pub(super) hosting: Arc<dyn Hosting>,
    first_message_max: Duration,
    streams: TaskTracker,
    closing: CancellationToken,
    limits: ConnectionLimits,
    refusals: Arc<Refusals>,
}

impl NodeServer {
    /// Serves these casts by these rules. `first_message_max` bounds the wait for a stream's first message.
    pub fn new(casts: Casts, hosting: Arc<dyn Hosting>, first_message_max: Duration) -> Self {
        Self {
            casts,
            hosting,
            first_message_max,
            streams: TaskTracker::new(),
            closing: CancellationToken::new(),
            limits: ConnectionLimits::default(),
            refusals: Arc::new(Refusals::new()),
        }
    }

    /// The same, with other bounds of its connections.
    #[must_use]
    pub fn within(self, limits: ConnectionLimits) -> Self {
        Self { limits, ..self }
    }

    /// Serves until `stop` is cancelled, then lets what runs end within `drain`.
    ///
    /// # Errors
    /// A transport that fails as a whole; a single connection never does that.
    pub async fn serve(
        &self,
        connections: impl Stream<Item = (BoxIo, Caller)> + Send + 'static,
        stop: CancellationToken,
        drain: Duration,
    ) -> Result<(), ServeError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<Wire<Self>>().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(super::wire::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let node = Wire::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX * 2);
        let accepted = self.accepted(connections);
        let closed = CancellationToken::new();
        let serving = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(self.limits.streams)
            .http2_max_header_list_size(PEER_HEADER_BYTES_MAX)
            .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
            .layer(self.judge())
            .add_service(health_service)
            .add_service(reflection)
            .add_service(node)
            .serve_with_incoming_shutdown(accepted, closed.clone().cancelled_owned());
        let draining = async {
            stop.cancelled().await;
            health.set_not_serving::<Wire<Self>>().await;
            // What runs comes to its end and is told; then nobody is listened to any more.
            self.casts.shut_down(drain).await;
            self.closing.cancel();
            self.streams.close();
            drop(timeout(Duration::from_secs(5), self.streams.wait()).await);
            closed.cancel();
        };
        tokio::pin!(serving);
        tokio::select! {
            served = &mut serving => return served.map_err(ServeError::from),
            () = draining => {}
        }
        // Connections that nobody closes do not hold the node up.
        match timeout(Duration::from_secs(2), serving).await {
            Ok(served) => served.map_err(ServeError::from),
            Err(_) => Ok(()),
        }
    }

    fn judge(&self) -> JudgeLayer {
        JudgeLayer {
            hosting: Arc::clone(&self.hosting),
            refusals: Arc::clone(&self.refusals),
            node: self.casts.runtime().node().into(),
        }
    }

    /// Counts connections, and decides of each whether anything is served on it.
    fn accepted(
        &self,
        connections: impl Stream<Item = (BoxIo, Caller)> + Send + 'static,
    ) -> impl Stream<Item = io::Result<Accepted>> + Send + 'static {
        let (all, judge) = (Connections::new(self.limits), self.judge());
        connections.filter_map(move |(io, caller)| {
            let accepted = if judge.hosting.is_listed(&caller) {
                Some(all.admit(io, caller))
            } else {
                let why = not_listed(&caller, &judge.node);
                let name = caller.to_string();
                let accepted = all.refuse(io, caller, why);
                if accepted.is_none() {
                    let what = format!("{REFUSED_CONNECTIONS_MAX} such connections are open already");
                    judge.refusals.note(&name, "a connection of a caller that is not listed was closed", &what);
                }
                accepted
            };
            std::future::ready(accepted.map(Ok))
        })
    }

    pub(super) fn caller<T>(&self, request: &Request<T>) -> Result<(Caller, Terms), Status> {
        let caller = request.extensions().get::<Arc<Caller>>().cloned();
        let caller = caller.ok_or_else(|| Status::unauthenticated("nobody is known to be at the other end"))?;
        // The judge before every service has asked too; the file may have changed since.
        let terms = self.hosting.terms(&caller);
        let terms = terms.ok_or_else(|| not_listed(&caller, self.casts.runtime().node()))?;
        Ok(((*caller).clone(), terms))
    }

    fn is_own(&self, node: &str) -> bool {
        let own = self.casts.runtime().node();
        node.is_empty() || node == own || own.parse::<NodeAddress>().is_ok_and(|own| own.is_meant_by(node))
    }

    /// The peer that a client of this node means, where it does not mean this node.
    pub(super) fn peer<T>(&self, request: &Request<T>, node: &str) -> Result<Option<Arc<PeerNodes>>, Status> {
        let (_, terms) = self.caller(request)?;
        if self.is_own(node) {
            return Ok(None);
        }
        let peers = self.hosting.way_to_peers().filter(|_| terms.may_relay);
        let refused = || Status::permission_denied(format!("this node passes nothing on to {node}"));
        peers.map(Some).ok_or_else(refused)
    }

    fn unknown(&self, node: &str) -> Refusal {
        let known: Vec<String> = self.hosting.peers().iter().map(NodeAddress::to_string).collect();
        let known = if known.is_empty() { "no other".to_owned() } else { known.join(", ") };
        let what = format!("there is no node `{node}`; this node knows {known}");
        Refusal::new("node", cantrip_gates::GateError::NotFound(what))
    }

    async fn begin(&self, caller: &Caller, terms: &Terms, open: v1::Open) -> Result<Attached, Refusal> {
        let invalid = |what: String| Refusal::new("open", cantrip_gates::GateError::Invalid(what));
        let (node, events) = (open.node.clone(), open.events);
        let after = match &*open.after {
            [] => None,
            bytes => Some(Cursor::parse(bytes).ok_or_else(|| invalid("`after` is no cursor of this node".to_owned()))?),
        };
        let shown = convert::shown_heads(&open).map_err(invalid)?;
        let mut order = self.casts.name(caller, convert::order(open).map_err(invalid)?)?;
        order.origins.extend(caller.peer().map(|peer| Origin { node: peer.clone(), authority: None }));
        let own = self.casts.runtime().node();
        let place = if self.is_own(&node) {
            let granted = terms.ceiling.grant(&order)?;
            order.cantrip.wards = granted.wards.clone();
            if granted.model.is_some() {
                order.cantrip.model = crate::domain::remote::ModelOrder::AtHost(granted.model.clone());
            }
            Where::Here(self.hosting.build(terms, &order, &granted)?, granted.nodes)
        } else if terms.may_relay {
            let known = self.hosting.peers();
            let peer = known.into_iter().find(|peer| peer.is_meant_by(&node));
            Where::At(peer.ok_or_else(|| self.unknown(&node))?)
        } else {
            let what = format!("this node is {own}, and passes nothing of peers on to {node}");
            return Err(Refusal::new("node", cantrip_gates::GateError::Denied(what)));
        };
        let caller = KnownCaller { caller: caller.clone(), recorded: self.hosting.known_as(caller) };
        self.casts.open(&caller, &terms.slots, order, place, (after, shown), events).await
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Node for NodeServer {
    type CastStream = Answers<v1::HostMessage>;
    type SyncStream = Answers<v1::CopyMessage>;

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        let (caller, terms) = self.caller(&request)?;
        let (running, waiting, max) = terms.slots.load();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let runtime = self.casts.runtime();
        let mut gates: Vec<String> = terms.ceiling.gates.iter().cloned().collect();
        gates.push("done".to_owned());
        Ok(Response::new(v1::DescribeResponse {
            node: runtime.node().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            writer: runtime.store().writer().to_string(),
            caller: self.hosting.known_as(&caller),
            casts_running: count(running),
            casts_waiting: count(waiting),
            casts_max: count(max),
            media: self.hosting.media(),
            gates,
            models: terms.ceiling.models.iter().cloned().collect(),
            may_cast: terms.ceiling.cast,
            peers: self.hosting.peers().iter().filter(|_| terms.may_relay).map(NodeAddress::to_string).collect(),
        }))
    }

    async fn identify(&self, request: Request<v1::IdentifyRequest>) -> Result<Response<v1::IdentifyResponse>, Status> {
        let peers = self.peer(&request, &request.get_ref().node)?;
        self.identity(peers.as_deref(), &request.get_ref().node).await.map(Response::new)
    }

    async fn cast(&self, request: Request<Streaming<v1::CallerMessage>>) -> Result<Response<Self::CastStream>, Status> {
        let (caller, terms) = self.caller(&request)?;
        let mut messages = request.into_inner();
        let first = timeout(self.first_message_max, messages.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first message came"))??;
        let Some(Said::Open(open)) = first.and_then(|it| it.message) else {
            return Err(Status::invalid_argument("the first message of a cast has to be `open`"));
        };
        let (out, answers) = weighed::channel(OUT_WAITING_BYTES_MAX);
        // One that is no id is refused with the rest of the order.
        if let Ok(loom) = open.loom.parse()
            && self.is_own(&open.node)
            && let Err(error) = self.casts.introduce(loom, &caller).await
        {
            tracing::error!(%error, "the record of a loom cannot be read");
            return Err(Status::internal("the host cannot read its record"));
        }
        match self.begin(&caller, &terms, open).await {
            Ok(attached) => {
                let runtime = self.casts.runtime();
                let speaking = Speaking {
                    attached,
                    messages,
                    out,
                    node: runtime.node().to_owned(),
                    writer: runtime.store().writer().to_string(),
                };
                self.streams.spawn(speaking.run(self.closing.clone()));
            }
            Err(refusal) => {
                self.refusals.note(&caller, "a cast was refused", &refusal);
                let refused = v1::HostMessage { message: Some(Told::Refused(convert::refused(&refusal))) };
                drop(out.send(Ok(refused), 0).await);
            }
        }
        Ok(Response::new(Box::pin(answers)))
    }

    async fn sync(&self, request: Request<Streaming<v1::CopyMessage>>) -> Result<Response<Self::SyncStream>, Status> {
        let (caller, terms) = self.caller(&request)?;
        let mut messages = request.into_inner();
        let first = timeout(self.first_message_max, messages.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first message came"))??;
        let Some(v1::copy_message::Message::Hello(hello)) = first.and_then(|it| it.message) else {
            return Err(Status::invalid_argument("the first message of a sync has to be `hello`"));
        };
        if !self.is_own(&hello.node) {
            let refused = || Status::permission_denied(format!("this node passes nothing on to {}", hello.node));
            let peers = self.hosting.way_to_peers().filter(|_| terms.may_relay).ok_or_else(refused)?;
            // Whoever breaks off has said everything.
            let said = messages.take_while(|said| std::future::ready(said.is_ok()));
            let said = said.filter_map(|said| std::future::ready(said.ok()));
            let answers = peers.sync(&hello.node, true, said).await.map_err(|error| passed_back(&error))?;
            return Ok(Response::new(Box::pin(answers)));
        }
        let copies = self.hosting.copies();
        let copies = copies.ok_or_else(|| Status::permission_denied("this node keeps no copies of looms"))?;
        let (wire, said) = sync::wire(messages);
        let peer = speaker(&caller, hello.client);
        let closing = self.closing.clone();
        self.streams.spawn(async move {
            tokio::select! {
                ended = copies.converse(&peer, wire) => match ended {
                    Ok(what) => tracing::debug!(%peer, what, "a conversation about copies has ended"),
                    Err(error) => tracing::error!(%peer, %error, "copies cannot be kept up"),
                },
                () = closing.cancelled() => {}
            }
        });
        Ok(Response::new(Box::pin(sync::speaking(said).map(Ok))))
    }

    async fn takes_part(
        &self,
        request: Request<v1::TakesPartRequest>,
    ) -> Result<Response<v1::TakesPartResponse>, Status> {
        let (caller, _) = self.caller(&request)?;
        let invalid = |what: String| Status::invalid_argument(what);
        let loom = request.get_ref().loom.parse().map_err(|error: IdError| invalid(error.to_string()))?;
        let about: NodeName =
            request.get_ref().node.parse().map_err(|error: NodeNameError| invalid(error.to_string()))?;
        let casts = self.casts.clone();
        let answer = tokio::task::spawn_blocking(move || match caller.peer() {
            Some(peer) => casts.vouches(loom, peer, &about),
            None => Ok(false),
        });
        let answer = answer.await.map_err(|error| Status::internal(error.to_string()))?;
        let takes_part = answer.map_err(|error| {
            tracing::error!(%error, "the record of a loom cannot be read");
            Status::internal("the host cannot read its record")
        })?;
        Ok(Response::new(v1::TakesPartResponse { takes_part }))
    }

    async fn adopt(&self, request: Request<v1::AdoptRequest>) -> Result<Response<v1::AdoptResponse>, Status> {
        let (caller, _) = self.caller(&request)?;
        if !caller.is_local() {
            return Err(Status::permission_denied("an entity is adopted by somebody of the node's own machine"));
        }
        let invalid = |error: IdError| Status::invalid_argument(error.to_string());
        let loom = request.get_ref().loom.parse().map_err(invalid)?;
        let entity = request.get_ref().entity.parse().map_err(invalid)?;
        let (entry, epoch) = match self.casts.runtime().adopt(loom, entity, request.get_ref().accept_loss).await {
            Ok(adopted) => adopted,
            Err(fault) => {
                let (refused, too_few) = (super::client::chain(&fault), matches!(fault, Fault::NotFenced(_)));
                return Ok(Response::new(v1::AdoptResponse { refused, too_few, ..v1::AdoptResponse::default() }));
            }
        };
        let waits = self.hosting.go_on_with(&self.casts, loom, entity).err().unwrap_or_default();
        let (entry, refused) = (entry.to_string(), String::new());
        Ok(Response::new(v1::AdoptResponse { entry, epoch, waits, refused, too_few: false }))
    }

    async fn change_members(
        &self,
        request: Request<v1::ChangeMembersRequest>,
    ) -> Result<Response<v1::ChangeMembersResponse>, Status> {
        let (caller, _) = self.caller(&request)?;
        if !caller.is_local() {
            return Err(Status::permission_denied(
                "members are admitted and expelled by somebody of the node's own machine",
            ));
        }
        let v1::ChangeMembersRequest { loom, who, rights, by } = request.into_inner();
        let loom = loom.parse().map_err(|error: IdError| Status::invalid_argument(error.to_string()))?;
        let rights = rights.iter().map(|right| right.parse()).collect::<Result<Vec<Right>, String>>();
        let rights = rights.map_err(Status::invalid_argument)?;
        let who: Named = who.parse().map_err(|why: String| Status::invalid_argument(why))?;
        let changed = self.casts.runtime().change_members(loom, &who, &rights, (!by.is_empty()).then_some(by)).await;
        let (entry, refused) = match changed {
            Ok(Changed::By(entry)) => (entry.to_string(), String::new()),
            Ok(Changed::Nothing) => (String::new(), String::new()),
            Err(fault) => (String::new(), super::client::chain(&fault)),
        };
        Ok(Response::new(v1::ChangeMembersResponse { entry, refused }))
    }

    async fn reward(&self, request: Request<v1::RewardRequest>) -> Result<Response<v1::RewardResponse>, Status> {
        let (caller, _) = self.caller(&request)?;
        if !caller.is_local() {
            return Err(Status::permission_denied("entries are judged by somebody of the node's own machine"));
        }
        super::rewarded::reward(self.casts.runtime(), request.into_inner()).await.map(Response::new)
    }

    async fn copy_state(
        &self,
        request: Request<v1::CopyStateRequest>,
    ) -> Result<Response<v1::CopyStateResponse>, Status> {
        super::copied::answer(self.copy_state_of(request).await)
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyResponse>, Status> {
        super::copied::answer(self.verified(request).await)
    }

    async fn list_guests(
        &self,
        request: Request<v1::ListGuestsRequest>,
    ) -> Result<Response<v1::ListGuestsResponse>, Status> {
        let (caller, terms) = self.caller(&request)?;
        if let Some(peers) = self.peer(&request, &request.get_ref().node)? {
            let listed = peers.guests(&request.get_ref().node).await.map_err(|error| passed_back(&error))?;
            return Ok(Response::new(v1::ListGuestsResponse { guests: listed.into_iter().map(guest_line).collect() }));
        }
        let may_run =
            |line: &GuestLine| terms.ceiling.guests.as_ref().is_none_or(|allowed| allowed.contains(&line.digest));
        let hosting = Arc::clone(&self.hosting);
        let guests = tokio::task::spawn_blocking(move || hosting.guests(&caller)).await;
        let guests = guests.map_err(|error| Status::internal(error.to_string()))?;
        let guests = guests.into_iter().filter(may_run).map(guest_line);
        Ok(Response::new(v1::ListGuestsResponse { guests: guests.collect() }))
    }

    async fn upload_status(
        &self,
        request: Request<v1::UploadStatusRequest>,
    ) -> Result<Response<v1::UploadStatusResponse>, Status> {
        if let Some(peers) = self.peer(&request, &request.get_ref().node)? {
            let v1::UploadStatusRequest { digest, node } = request.into_inner();
            let status = peers.upload_status(&node, &digest).await.map_err(|error| passed_back(&error))?;
            return Ok(Response::new(status));
        }
        let uploads = self.uploads(&request)?;
        let digest = request.into_inner().digest;
        let status = tokio::task::spawn_blocking(move || uploads.status(&digest)).await;
        let status = status.map_err(|error| Status::internal(error.to_string()))?;
        let (bytes, kept) = status.map_err(|refusal| Status::invalid_argument(refusal.to_string()))?;
        Ok(Response::new(v1::UploadStatusResponse { bytes, kept }))
    }

    async fn deploy(
        &self,
        request: Request<Streaming<v1::DeployRequest>>,
    ) -> Result<Response<v1::DeployResponse>, Status> {
        let known = self.caller(&request)?;
        let mut messages = request.into_inner();
        let silent = |_| Status::deadline_exceeded("the upload fell silent");
        let first = timeout(self.first_message_max, messages.message()).await.map_err(silent)??;
        let Some(v1::deploy_request::Message::Header(mut header)) = first.and_then(|it| it.message) else {
            return Err(Status::invalid_argument("the first message of a deploy has to be `header`"));
        };
        let node = std::mem::take(&mut header.node);
        if !self.is_own(&node) {
            let peers = self.hosting.way_to_peers().filter(|_| known.1.may_relay);
            let peers =
                peers.ok_or_else(|| Status::permission_denied(format!("this node passes nothing on to {node}")))?;
            let answer = peers.pass_on(&node, header, messages).await.map_err(|error| passed_back(&error))?;
            return Ok(Response::new(answer));
        }
        let uploads = may_deploy(&known)?;
        let response = match self.take(&uploads, header, &mut messages).await? {
            Ok(Uploaded { guest, known }) => v1::DeployResponse { guest, known, refused: None },
            Err(refusal) => {
                v1::DeployResponse { refused: Some(convert::refused(&refusal)), ..v1::DeployResponse::default() }
            }
        };
        Ok(Response::new(response))
    }
}

fn may_deploy((caller, terms): &(Caller, Terms)) -> Result<Arc<Uploads>, Status> {
    terms.uploads.clone().filter(|_| terms.ceiling.deploy).ok_or_else(|| {
        Status::permission_denied(format!("{}.may: `{caller}` may not bring guests", terms.ceiling.rule))
    })
}

impl NodeServer {
    fn uploads<T>(&self, request: &Request<T>) -> Result<Arc<Uploads>, Status> {
        may_deploy(&self.caller(request)?)
    }

    /// Takes a component, chunk by chunk. Silence ends it; what came is kept for the next try.
    async fn take(
        &self,
        uploads: &Arc<Uploads>,
        header: v1::DeployHeader,
        messages: &mut Streaming<v1::DeployRequest>,
    ) -> Result<Result<Uploaded, Refusal>, Status> {
        let silent = |_| Status::deadline_exceeded("the upload fell silent");
        let mut upload = match uploads.begin(header.into()) {
            Ok(upload) => upload,
            Err(refusal) => return Ok(Err(refusal)),
        };
        loop {
            let next = timeout(self.first_message_max, messages.message()).await.map_err(silent)??;
            match next.map(|it| it.message) {
                None => break,
                Some(Some(v1::deploy_request::Message::Chunk(chunk))) => {
                    if let Err(refusal) = upload.add(&chunk) {
                        return Ok(Err(refusal));
                    }
                }
                Some(_) => return Err(Status::new(Code::InvalidArgument, "after the header come chunks")),
            }
        }
        Ok(upload.finish().await)
    }
}
