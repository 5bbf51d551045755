//! Ways to reach an address.

use std::fmt::Debug;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::ports::BoxFuture;

/// A connection, whatever it runs over.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that can be named.
pub type BoxIo = Box<dyn Io>;

/// Makes connections.
pub trait Net: Send + Sync + Debug {
    /// Connects to `host:port`.
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxIo>>;
}

/// The machine's network. A host's name is looked up at every connection, and each of its addresses is tried.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNet;

impl Net for TcpNet {
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move {
            let mut failure = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
            for candidate in lookup_host(address).await? {
                match TcpStream::connect(candidate).await {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(Box::new(stream) as BoxIo);
                    }
                    Err(error) => failure = io::Error::new(error.kind(), format!("{candidate}: {error}")),
                }
            }
            Err(failure)
        })
    }
}
