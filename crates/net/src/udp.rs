//! UDP sockets.

use std::{
    fmt,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
};

/// A multicast group to join, on one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group {
    /// The group address; its family must be that of the socket.
    pub addr: IpAddr,
    /// [`Interface::index`](crate::Interface::index) of the interface to join on.
    pub interface: u32,
}

/// How a UDP socket is bound. `UdpBind::new(addr)` is a plain socket of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpBind {
    /// Address to bind. The unspecified address receives on every interface; port 0 takes a free port.
    pub addr: SocketAddr,
    /// Shares the port with other sockets that also say so. Every one of them gets multicast; which one
    /// gets unicast is up to the system. Default: false.
    pub shared: bool,
    /// Multicast groups whose datagrams are wanted. Default: none.
    pub groups: Vec<Group>,
    /// Interface through which multicast is sent. Default: the system's choice.
    pub multicast_interface: Option<u32>,
    /// Whether own multicast also reaches the members on this host. Default: true.
    pub multicast_loop: bool,
    /// Routers that own multicast may pass, plus one. Default: 1, the link itself.
    pub multicast_ttl: u8,
    /// Bytes the system is asked to keep for us in each direction. It may give less. Default: 2 MiB.
    pub buffer: usize,
}

impl UdpBind {
    /// A socket of its own, without multicast groups.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            shared: false,
            groups: Vec::new(),
            multicast_interface: None,
            multicast_loop: true,
            multicast_ttl: 1,
            buffer: 2 << 20,
        }
    }

    /// Any address, any port, of IPv4.
    pub fn any_v4() -> Self {
        Self::new((Ipv4Addr::UNSPECIFIED, 0).into())
    }

    /// Any address, any port, of IPv6.
    pub fn any_v6() -> Self {
        Self::new((Ipv6Addr::UNSPECIFIED, 0).into())
    }
}

/// What is known about a datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes written to the buffer. A longer datagram was cut off.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
}

/// A bound UDP socket.
///
/// May be shared, but of the tasks that poll for the same thing (receive, send) only the last is woken.
///
/// Faults of one destination are not faults of the socket: a datagram that a remote host refused is lost in
/// silence, and an error of [`poll_recv`](Self::poll_recv) means that the socket is of no more use.
pub trait UdpSocket: fmt::Debug + Send + Sync + 'static {
    /// The address it is bound to, with the real port.
    fn local_addr(&self) -> SocketAddr;

    /// Receives one datagram into `buf`.
    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>>;

    /// Sends one datagram, or arranges to be woken when there is room for it.
    fn poll_send(&self, cx: &mut Context<'_>, payload: &[u8], to: SocketAddr) -> Poll<io::Result<()>>;

    /// Sends one datagram now, or fails with `WouldBlock`: then it may be dropped, as the network might have.
    fn try_send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()>;
}

impl dyn UdpSocket {
    /// Receives one datagram into `buf`. Cancel safe.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        poll_fn(|cx| self.poll_recv(cx, buf)).await
    }

    /// Sends one datagram, waiting for room. Cancel safe: a datagram is sent whole or not.
    pub async fn send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx, payload, to)).await
    }
}
