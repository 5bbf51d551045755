//! Connections as they come in: each with whom it is of, known before a call is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::identity::Identity;
use super::net::BoxIo;
use crate::domain::caller::Caller;

/// 1 000 connections shake hands or are open at once.
const CONNECTIONS_MAX: usize = 1_000;
/// 64 connections that have shaken hands wait to be served.
const ACCEPTED_WAITING_MAX: usize = 64;
/// Ten seconds for the handshake of a connection.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Accepts connections over TLS; one that fails to shake hands costs the others nothing.
pub fn accepting(
    accept: impl Fn() -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send>> + Send + 'static,
    identity: Arc<Identity>,
) -> impl Stream<Item = (BoxIo, Caller)> + Send + 'static {
    let (sender, receiver) = mpsc::channel(ACCEPTED_WAITING_MAX);
    let permits = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let accepting = async move {
        let mut handshakes = tokio::task::JoinSet::new();
        loop {
            // Permit before work.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let io = tokio::select! {
                io = accept() => io,
                () = sender.closed() => return,
            };
            while handshakes.try_join_next().is_some() {}
            let io = match io {
                Ok(io) => io,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (identity, sender) = (Arc::clone(&identity), sender.clone());
            handshakes.spawn(async move {
                let _permit = permit;
                match timeout(HANDSHAKE_MAX, identity.accept(io)).await {
                    Ok(Ok(known)) => drop(sender.send(known).await),
                    Ok(Err(error)) => tracing::warn!(%error, "a connection was refused"),
                    Err(_) => tracing::warn!("a connection did not shake hands in time"),
                }
            });
        }
    };
    driven(accepting, ReceiverStream::new(receiver))
}

/// Runs a task as long as its stream is read.
fn driven<T: Send + 'static>(
    task: impl Future<Output = ()> + Send + 'static,
    stream: impl Stream<Item = T> + Send + Unpin + 'static,
) -> impl Stream<Item = T> + Send + 'static {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(task);
    // The set aborts its task when the stream is dropped.
    futures_util::stream::unfold((stream, tasks), |(mut stream, tasks)| async move {
        stream.next().await.map(|item| (item, (stream, tasks)))
    })
}

/// The connections of a TCP listener, each with whom it is of.
pub fn over_tls(
    listener: TcpListener,
    identity: Arc<Identity>,
) -> impl Stream<Item = (BoxIo, Caller)> + Send + 'static {
    let listener = Arc::new(listener);
    accepting(
        move || {
            let listener = Arc::clone(&listener);
            Box::pin(async move {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as BoxIo)
            })
        },
        identity,
    )
}

/// The connections of the node's own socket.
pub fn over_socket(listener: UnixListener) -> impl Stream<Item = (BoxIo, Caller)> + Send + 'static {
    futures_util::stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some(((Box::new(stream) as BoxIo, Caller::Socket), listener)),
                Err(error) => {
                    tracing::warn!(%error, "a local connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    })
}
