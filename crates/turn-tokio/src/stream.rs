//! TCP through a relay (RFC 6062): connections to peers, and from them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;
use towline_net::{Net, TcpStream, now, sleep_until};
use towline_turn::{Allocation, DataConnection, Failure, PeerError, Progress};

use crate::server_link::Stream;
use crate::task::Lease;
use crate::{AllocateError, Ended, Options};

/// A relayed address for TCP. Each connection takes one of its own to the server; they end with this.
#[derive(Debug)]
pub struct TcpRelay {
    lease: Lease,
    allocation: Allocation,
    local: SocketAddr,
}

impl TcpRelay {
    /// Asks a server for a relayed address; [`towline_turn::Config::relay`] must say TCP. Dropping the future gives it up.
    pub async fn allocate(net: Arc<dyn Net>, options: &Options) -> Result<Self, AllocateError> {
        let (lease, allocation) = Lease::begin(net, options).await?;
        let local = *allocation.relayed.first().ok_or(Failure::AllocationEnded)?;
        Ok(Self { lease, allocation, local })
    }

    /// What the server gave.
    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// Connects to a peer, from the relayed address.
    pub async fn connect(&self, peer: SocketAddr) -> Result<PeerStream, AllocateError> {
        let outcome = {
            let mut state = self.lease.shared.lock();
            match state.client.connect(now(), peer) {
                Ok(()) => {}
                Err(PeerError::Ended) => {
                    return Err(state.ended.unwrap_or(Ended::Closed).reason().into());
                }
                Err(_) => return Err(AllocateError::Unreachable(io::ErrorKind::AddrNotAvailable)),
            }
            let (told, outcome) = oneshot::channel();
            state.dialling.insert(peer, told);
            outcome
        };
        self.lease.shared.work.notify_one();
        let connection = outcome.await.map_err(|_| Failure::AllocationEnded)??;
        self.carry(connection).await
    }

    /// Lets an address connect to the relayed one. Returns as soon as it was asked for.
    pub fn permit(&self, ip: IpAddr) -> Result<(), PeerError> {
        self.lease.shared.lock().client.permit(now(), ip)?;
        self.lease.shared.work.notify_one();
        Ok(())
    }

    /// Waits for an address that was permitted to be able to connect.
    pub async fn permitted(&self, ip: IpAddr) -> Result<(), Failure> {
        let decided = self.lease.shared.until(|state| match (state.ended, state.refusal(ip)) {
            (Some(ended), _) => Some(Err(ended.reason())),
            (None, Some(reason)) => Some(Err(reason)),
            (None, None) => state.client.is_permitted(ip).then_some(Ok(())),
        });
        decided.await
    }

    /// The next connection of a peer. Cancel safe until one came.
    pub async fn accept(&self) -> Result<PeerStream, AllocateError> {
        let next = self.lease.shared.until(|state| match state.connections.pop_front() {
            Some(connection) => Some(Ok(connection)),
            None => state.ended.map(|ended| Err(ended.reason())),
        });
        let connection = next.await?;
        self.carry(connection).await
    }

    /// Waits until the relayed address is gone, and says why. Cancel safe.
    pub async fn ended(&self) -> Ended {
        self.lease.ended().await
    }

    /// Gives the address back, with every connection, and waits until the server has heard of it; at most about 1.5 s.
    pub async fn close(self) {
        self.lease.close();
        self.lease.ended().await;
    }

    async fn carry(&self, mut connection: Box<DataConnection>) -> Result<PeerStream, AllocateError> {
        let deadline = connection.poll_timeout();
        let carried = async {
            let mut io = self.lease.reach.stream(connection.server(), None).await?;
            let mut buffer = vec![0; 4096];
            loop {
                while let Some(bytes) = connection.poll_transmit() {
                    io.write_all(&bytes).await.map_err(|error| AllocateError::Unreachable(error.kind()))?;
                    io.flush().await.map_err(|error| AllocateError::Unreachable(error.kind()))?;
                }
                let len = match io.read(&mut buffer).await {
                    Ok(0) | Err(_) => return Err(Failure::StreamEnded.into()),
                    Ok(len) => len,
                };
                match connection.handle_stream(&buffer[..len])? {
                    Progress::Pending => {}
                    Progress::Open(rest) => {
                        let first = Bytes::copy_from_slice(rest);
                        let peer = connection.peer();
                        return Ok(PeerStream { io, first, local: self.local, peer });
                    }
                }
            }
        };
        tokio::select! {
            biased;
            outcome = carried => outcome,
            () = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => Err(Failure::NoAnswer.into()),
        }
    }
}

/// A TCP connection with a peer, through a relay.
#[derive(Debug)]
pub struct PeerStream {
    io: Box<dyn Stream>,
    // What came with the server's last word.
    first: Bytes,
    local: SocketAddr,
    peer: SocketAddr,
}

impl TcpStream for PeerStream {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let len = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..len]);
            self.first.advance(len);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
