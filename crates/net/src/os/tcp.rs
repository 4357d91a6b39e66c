//! TCP by tokio.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpSocket,
};

use crate::{TcpConnect, TcpListener, TcpStream};

/// Connections the system completes before we accept them. A flood beyond it is refused by the system.
const BACKLOG: i32 = 1024;

/// Sent data may stay unacknowledged for this long; the system's own limit is about a quarter of an hour.
#[cfg(any(target_os = "linux", target_os = "android"))]
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// An idle connection is probed after 20 s, then every 5 s: a dead peer is noticed within the user timeout.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(20)).with_interval(Duration::from_secs(5));

fn new_socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A port in TIME_WAIT can be taken again. On Windows the option means theft of ports that are in use.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn configure(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

#[derive(Debug)]
pub(super) struct Listener {
    listener: tokio::net::TcpListener,
    local: SocketAddr,
}

impl Listener {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = new_socket(addr)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let listener = tokio::net::TcpListener::from_std(socket.into())?;
        Ok(Self { local: listener.local_addr()?, listener })
    }
}

impl TcpListener for Listener {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn TcpStream>>> {
        let (stream, peer) = ready!(self.listener.poll_accept(cx))?;
        Poll::Ready(Stream::new(stream, peer).map(|stream| Box::new(stream) as Box<dyn TcpStream>))
    }
}

pub(super) async fn connect(to: SocketAddr, options: TcpConnect) -> io::Result<Box<dyn TcpStream>> {
    let socket = new_socket(to)?;
    if let Some(local) = options.local {
        socket.bind(&local.into())?;
    }
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(to);
    let stream = tokio::time::timeout(options.timeout, connecting).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, "the other side did not answer the attempt to connect")
    })??;
    Ok(Box::new(Stream::new(stream, to)?))
}

#[derive(Debug)]
struct Stream {
    inner: tokio::net::TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Stream {
    fn new(stream: tokio::net::TcpStream, peer: SocketAddr) -> io::Result<Self> {
        configure(&SockRef::from(&stream))?;
        Ok(Self { local: stream.local_addr()?, inner: stream, peer })
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
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
