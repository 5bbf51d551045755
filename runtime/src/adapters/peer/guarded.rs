//! A connection that ends when its certificate is denied, however long it has been open.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::certificate::Fingerprint;
use super::net::BoxIo;
use crate::domain::ids::NodeName;
use crate::ports::BoxFuture;

/// The certificates that are refused.
#[derive(Debug)]
pub(super) struct Denied(watch::Sender<Arc<BTreeSet<Fingerprint>>>);

impl Default for Denied {
    fn default() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }
}

impl Denied {
    pub(super) fn replace(&self, fingerprints: BTreeSet<Fingerprint>) {
        self.0.send_if_modified(|denied| {
            let changed = **denied != fingerprints;
            if changed {
                *denied = Arc::new(fingerprints);
            }
            changed
        });
    }
}

/// A connection, and what ends it.
pub(super) struct Guarded {
    io: BoxIo,
    cut: BoxFuture<'static, ()>,
    is_cut: bool,
    what: String,
}

impl Guarded {
    /// Refuses a certificate that is denied now, and watches for the moment when it is.
    pub(super) fn new(io: BoxIo, denied: &Denied, fingerprint: Fingerprint, name: &NodeName) -> io::Result<Self> {
        let mut denied = denied.0.subscribe();
        let what = format!("the certificate {fingerprint} of {name} is denied here (rule: tls.deny)");
        if denied.borrow().contains(&fingerprint) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        let cut = Box::pin(async move {
            if denied.wait_for(|denied| denied.contains(&fingerprint)).await.is_err() {
                // The node has ended, and nobody can deny any more.
                std::future::pending::<()>().await;
            }
        });
        Ok(Self { io, cut, is_cut: false, what })
    }

    fn check(&mut self, ctx: &mut Context<'_>) -> io::Result<()> {
        if !self.is_cut {
            if self.cut.as_mut().poll(ctx).is_pending() {
                return Ok(());
            }
            self.is_cut = true;
            tracing::warn!("a connection was cut: {}", self.what);
        }
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, self.what.clone()))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(ctx)?;
        Pin::new(&mut self.io).poll_read(ctx, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_write(ctx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(ctx)
    }
}
