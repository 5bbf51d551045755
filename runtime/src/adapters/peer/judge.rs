//! What stands before every service: the caller is judged before a byte of a body is read, and large messages are counted
//! before they are.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::PollSemaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::connection::{Call, Connection, UNIT_BYTES};
use super::protocol;
use super::server::Hosting;
use crate::domain::caller::Caller;
use crate::domain::limits::{MESSAGE_BYTES_MAX, MESSAGE_BYTES_UNCOUNTED_MAX, MESSAGES_WAITING_MAX};
use crate::driver::Refusals;

/// Five bytes before every message of gRPC: whether it is compressed, and how long it is.
const PREFIX_BYTES: usize = 5;

/// Judges callers for all services behind it.
#[derive(Debug, Clone)]
pub(super) struct JudgeLayer {
    pub(super) hosting: Arc<dyn Hosting>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) node: Arc<str>,
}

impl<S> Layer<S> for JudgeLayer {
    type Service = Judge<S>;

    fn layer(&self, inner: S) -> Judge<S> {
        Judge { inner, layer: self.clone() }
    }
}

/// A service whose callers are judged.
#[derive(Debug, Clone)]
pub(super) struct Judge<S> {
    inner: S,
    layer: JudgeLayer,
}

/// What a caller is told that the node file does not list.
pub(super) fn not_listed(caller: &Caller, node: &str) -> Status {
    Status::permission_denied(format!(
        "`{caller}` is not listed as a peer of {node}: add [peers.{caller}] to its node file"
    ))
}

impl JudgeLayer {
    fn judge(&self, request: &Request<Body>) -> Result<Arc<Connection>, Status> {
        let connection: Option<&Arc<Connection>> = request.extensions().get();
        let connection = connection.ok_or_else(|| Status::unauthenticated("nobody is known to be at the other end"))?;
        let refused = match &connection.refused {
            Some(refused) => Some(refused.clone()),
            None if !self.hosting.is_listed(&connection.caller) => Some(not_listed(&connection.caller, &self.node)),
            None => protocol::check(request.headers(), &self.node).err(),
        };
        match refused {
            None => Ok(Arc::clone(connection)),
            Some(refused) => {
                if !connection.told.swap(true, Ordering::Relaxed) {
                    self.refusals.note(&connection.caller, "a caller was refused", &refused.message());
                }
                Err(refused)
            }
        }
    }
}

impl<S> Service<Request<Body>> for Judge<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, ctx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(ctx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = match self.layer.judge(&request) {
            Ok(connection) => connection,
            Err(refused) => return Box::pin(std::future::ready(Ok(refused.into_http()))),
        };
        let call = Arc::new(connection.call());
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(Arc::clone(&connection.caller));
        let metered = Metered::new(body, connection, Arc::clone(&call));
        let answer = self.inner.call(Request::from_parts(parts, Body::new(metered)));
        Box::pin(async move {
            let (parts, body) = answer.await?.into_parts();
            Ok(Response::from_parts(parts, Body::new(Counted { body, _call: call })))
        })
    }
}

/// What is answered: its call is open until it has been sent.
struct Counted {
    body: Body,
    _call: Arc<Call>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(ctx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where in a stream of messages it is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Framing {
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    /// Bytes of the present message that have not come yet.
    missing: usize,
}

impl Framing {
    /// Follows a piece of the stream; returns the lengths of the messages that begin in it.
    fn follow(&mut self, mut piece: &[u8]) -> Vec<usize> {
        let mut begun = Vec::new();
        while !piece.is_empty() {
            if self.missing > 0 {
                let here = self.missing.min(piece.len());
                piece.advance(here);
                self.missing = self.missing.saturating_sub(here);
                continue;
            }
            let (Some(slot), Some(byte)) = (self.prefix.get_mut(self.prefix_len), piece.first()) else { break };
            *slot = *byte;
            piece.advance(1);
            self.prefix_len = self.prefix_len.saturating_add(1);
            if self.prefix_len == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.missing = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.prefix_len = 0;
                begun.push(self.missing);
            }
        }
        begun
    }
}

/// How much of the budget a message takes: nothing where it is small, and nothing where it is refused by its length anyway.
fn units(length: usize) -> u32 {
    if length <= MESSAGE_BYTES_UNCOUNTED_MAX || length > MESSAGE_BYTES_MAX {
        return 0;
    }
    u32::try_from(length.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// What is asked: a large message is passed on once there is room for all of it, and gives the room back when the next is
/// wanted.
struct Metered {
    body: Body,
    framing: Framing,
    budget: PollSemaphore,
    held: Option<OwnedSemaphorePermit>,
    /// A piece that waits for room, and for how much.
    waits: Option<(Bytes, u32)>,
    connection: Arc<Connection>,
    _call: Arc<Call>,
}

impl Metered {
    fn new(body: Body, connection: Arc<Connection>, call: Arc<Call>) -> Self {
        let budget = PollSemaphore::new(Arc::clone(&connection.budget));
        Self { body, framing: Framing::default(), budget, held: None, waits: None, connection, _call: call }
    }

    fn stop_waiting(&mut self) {
        if self.waits.take().is_some() {
            self.connection.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A piece has come: it is passed on, or waits.
    fn take(&mut self, piece: Bytes) -> Result<Option<Bytes>, Status> {
        let wanted = self.framing.follow(&piece).into_iter().map(units).fold(0_u32, u32::saturating_add);
        if wanted == 0 {
            return Ok(Some(piece));
        }
        if self.connection.waiting.fetch_add(1, Ordering::Relaxed) >= MESSAGES_WAITING_MAX {
            self.connection.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Status::resource_exhausted(format!(
                "{MESSAGES_WAITING_MAX} large messages of this connection wait to be received, and no more may \
                 (limits.message_bytes_per_peer)"
            )));
        }
        self.waits = Some((piece, wanted));
        Ok(None)
    }

    fn poll_waiting(&mut self, ctx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some((_, wanted)) = &self.waits else { return Poll::Ready(None) };
        let permit = std::task::ready!(self.budget.poll_acquire_many(ctx, *wanted));
        if let Some(permit) = permit {
            match &mut self.held {
                Some(held) => held.merge(permit),
                None => self.held = Some(permit),
            }
        }
        let piece = self.waits.as_ref().map(|(piece, _)| piece.clone());
        self.stop_waiting();
        Poll::Ready(piece)
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.framing.missing == 0 && self.waits.is_none() {
            // Whoever asks for more has the message that came before.
            self.held = None;
        }
        loop {
            if let Some(piece) = std::task::ready!(self.poll_waiting(ctx)) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let frame = match std::task::ready!(Pin::new(&mut self.body).poll_frame(ctx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(piece) => match self.take(piece) {
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                    Ok(None) => {}
                    Err(refused) => return Poll::Ready(Some(Err(refused))),
                },
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waits.is_none() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_message_is_known_wherever_its_prefix_is_cut() {
        let mut stream = Vec::new();
        for length in [3_usize, 0, 70_000, 1] {
            stream.push(0);
            stream.extend(u32::try_from(length).unwrap().to_be_bytes());
            stream.extend(vec![7; length]);
        }
        for size in [1, 2, 5, 6, 4096, stream.len()] {
            let mut framing = Framing::default();
            let begun: Vec<usize> = stream.chunks(size).flat_map(|piece| framing.follow(piece)).collect();
            assert_eq!(begun, [3, 0, 70_000, 1], "in pieces of {size}");
            assert_eq!(framing, Framing { prefix: framing.prefix, ..Framing::default() });
        }
    }

    #[test]
    fn small_messages_are_not_counted_and_those_that_are_too_large_are_not_waited_for() {
        assert_eq!([units(0), units(MESSAGE_BYTES_UNCOUNTED_MAX), units(MESSAGE_BYTES_MAX + 1)], [0; 3]);
        assert_eq!(units(MESSAGE_BYTES_MAX), u32::try_from(MESSAGE_BYTES_MAX / UNIT_BYTES).unwrap());
    }
}
