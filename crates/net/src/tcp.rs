//! TCP listeners and streams.

use std::{
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite};

/// How a TCP connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpConnect {
    /// Local address to connect from. Port 0, and `None`, take a free port. Default: `None`.
    pub local: Option<SocketAddr>,
    /// How long to wait for the other side before failing with `TimedOut`. Default: 10 s.
    pub timeout: Duration,
}

impl Default for TcpConnect {
    fn default() -> Self {
        Self { local: None, timeout: Duration::from_secs(10) }
    }
}

/// A listening TCP socket. Dropping it resets connections nobody accepted.
pub trait TcpListener: fmt::Debug + Send + 'static {
    /// The address it listens on, with the real port.
    fn local_addr(&self) -> SocketAddr;

    /// Accepts one connection.
    ///
    /// An error concerns one connection or a passing lack of resources; the listener stays of use, but wait
    /// a little before the next call.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn TcpStream>>>;
}

impl dyn TcpListener {
    /// Accepts one connection. Cancel safe.
    pub async fn accept(&mut self) -> io::Result<Box<dyn TcpStream>> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }
}

/// A TCP connection: tokio's byte streams with two addresses.
///
/// `shutdown` ends our direction only. Dropping it closes both: in order when everything received was read,
/// otherwise with a reset. Small writes are sent at once (no Nagle), and on Linux a write waits once 128 KiB lie there
/// that the peer has not let us send, so that the next thing said is not behind megabytes.
///
/// A peer that acknowledges nothing for 30 s while there is something to acknowledge fails the connection with
/// `TimedOut`; while a write waits, at the next attempt to write after that time. A silent one is probed. A peer that is
/// alive but does not read is waited for as long as a write waits; Linux gives up after 30 s where the last write had
/// been accepted whole.
pub trait TcpStream: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin + 'static {
    /// Our address.
    fn local_addr(&self) -> SocketAddr;

    /// The address of the peer.
    fn peer_addr(&self) -> SocketAddr;
}
