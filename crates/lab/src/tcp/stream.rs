//! The program's side of a connection.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use towline_net::TcpStream;

use super::{Connection, Phase};
use crate::{node::NodeId, shared::World};

/// A held connection: dropping it lets go.
#[derive(Debug)]
struct Held {
    world: World,
    node: NodeId,
    id: u64,
}

impl Held {
    /// Acts on the connection, then sends what it has to say. Fails when the host has crashed.
    fn with<T>(&self, act: impl FnOnce(&mut Connection) -> T) -> io::Result<T> {
        self.world.with(|state| {
            let connection = state.connection(self.node, self.id);
            let outcome = connection.map(act).ok_or_else(crashed);
            state.drive(self.node, self.id);
            outcome
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.world.with(|state| {
            let now = state.now();
            if let Some(connection) = state.connection(self.node, self.id) {
                connection.abandon(now);
            }
            state.drive(self.node, self.id);
        });
    }
}

pub(crate) fn crashed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the host has crashed")
}

/// An attempt to connect; dropping it gives up.
#[derive(Debug)]
pub(crate) struct Connecting(Option<Held>);

impl Connecting {
    pub(crate) fn new(world: World, node: NodeId, id: u64) -> Self {
        Self(Some(Held { world, node, id }))
    }
}

impl Future for Connecting {
    type Output = io::Result<Stream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let held = self.0.take().expect("not polled after it was ready");
        let outcome = held.with(|connection| match connection.phase {
            Phase::Open => Some(Ok((connection.local, connection.remote))),
            Phase::Dead(why) => Some(Err(why.into())),
            Phase::Asked { .. } | Phase::Answered { .. } => {
                connection.writer = Some(cx.waker().clone());
                None
            }
        });
        match outcome.map(Option::transpose) {
            Ok(Ok(Some((local, peer)))) => Poll::Ready(Ok(Stream { held, local, peer })),
            Ok(Ok(None)) => {
                self.0 = Some(held);
                Poll::Pending
            }
            Ok(Err(error)) | Err(error) => Poll::Ready(Err(error)),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Stream {
    held: Held,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Stream {
    pub(crate) fn new(world: World, node: NodeId, id: u64, local: SocketAddr, peer: SocketAddr) -> Self {
        Self { held: Held { world, node, id }, local, peer }
    }
}

impl TcpStream for Stream {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let outcome = self.held.with(|connection| {
            if connection.receiving.has_data() {
                connection.receiving.read(buf);
                if connection.receiving.is_news() {
                    connection.owe_ack(0);
                }
                return Poll::Ready(Ok(()));
            }
            match connection.error() {
                _ if connection.receiving.is_ended() => Poll::Ready(Ok(())),
                Some(why) => Poll::Ready(Err(why.into())),
                None => {
                    connection.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        outcome.unwrap_or_else(|error| Poll::Ready(Err(error)))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.held.with(|connection| {
            if let Some(why) = connection.error() {
                return Poll::Ready(Err(why.into()));
            }
            if !connection.sending.is_open() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let wanted: usize = parts.iter().map(|part| part.len()).sum();
            let written: usize = parts.iter().map(|part| connection.sending.write(part)).sum();
            if written == 0 && wanted > 0 {
                connection.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(written))
        });
        outcome.unwrap_or_else(|error| Poll::Ready(Err(error)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.held.with(|connection| match connection.error() {
            Some(why) => Err(why.into()),
            None => {
                connection.sending.finish();
                Ok(())
            }
        });
        Poll::Ready(outcome.unwrap_or_else(Err))
    }
}
