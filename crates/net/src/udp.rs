//! UDP sockets.

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll, ready},
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
    /// For a transport that looks for the longest datagram itself: none is cut into fragments, neither here nor on the
    /// way, and one that is too long is lost. Where the system can, several datagrams move with one call
    /// ([`UdpSocket::poll_recv_batch`], [`UdpSocket::poll_send_batch`]). Default: false.
    pub dont_fragment: bool,
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
            dont_fragment: false,
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

/// Congestion marks of an IP packet (RFC 3168).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// ECT(0): the sender understands marks.
    Ect0,
    /// ECT(1): the sender understands marks of L4S (RFC 9331).
    Ect1,
    /// CE: a router on the way was congested.
    Ce,
}

/// What came into one buffer of [`UdpSocket::poll_recv_batch`]: a datagram, or several of one sender in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Bytes written to the buffer.
    pub len: usize,
    /// Length of each datagram but the last, which may be shorter. At least 1.
    pub segment: usize,
    /// Who sent them.
    pub from: SocketAddr,
    /// The address of this host that they were sent to, where the system tells.
    pub to: Option<IpAddr>,
    /// The mark that they carried, where the system tells.
    pub ecn: Option<Ecn>,
}

impl Arrival {
    /// A single datagram about which no more is known.
    pub fn single(received: Received) -> Self {
        let Received { len, from } = received;
        Self { len, segment: len.max(1), from, to: None, ecn: None }
    }

    /// Nothing yet: what the places for arrivals hold before they are filled.
    pub fn none() -> Self {
        Self::single(Received { len: 0, from: (Ipv4Addr::UNSPECIFIED, 0).into() })
    }

    /// The datagrams in the buffer that belongs to this. A buffer that is too short gives those that it holds.
    pub fn datagrams<'a>(&self, buf: &'a mut [u8]) -> impl Iterator<Item = &'a mut [u8]> + use<'a> {
        let len = self.len.min(buf.len());
        buf[..len].chunks_mut(self.segment.max(1))
    }
}

/// What [`UdpSocket::poll_send_batch`] sends: a datagram, or several of one length to one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst<'a> {
    /// The datagrams, one behind the other.
    pub payload: &'a [u8],
    /// If there are several: the length of each but the last, which may be shorter. Then at most
    /// [`UdpSocket::max_segments`] of them, and at most 65,000 bytes together.
    pub segment: Option<usize>,
    /// Where they go.
    pub to: SocketAddr,
    /// The address of this host that they come from. `None`: the system's choice.
    pub from: Option<IpAddr>,
    /// The mark that each of them carries.
    pub ecn: Option<Ecn>,
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

    /// Receives into as many buffers as there is something for, and says at the same place in `arrivals` what came into
    /// each. Returns how many were filled: at least 1, at most the length of the shorter slice, neither of which may be empty.
    ///
    /// A socket bound with [`UdpBind::dont_fragment`] may join datagrams of one sender: buffers of 65,535 bytes are long
    /// enough for whatever comes. Unless a socket says otherwise, one datagram is received.
    fn poll_recv_batch(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        arrivals: &mut [Arrival],
    ) -> Poll<io::Result<usize>> {
        let buf = bufs.first_mut().expect("there is a buffer to receive into");
        self.poll_recv(cx, buf).map_ok(|received| {
            arrivals[0] = Arrival::single(received);
            1
        })
    }

    /// Sends one datagram or several, or arranges to be woken when there is room: then none was sent.
    ///
    /// What the system does not take for another reason is lost, as the network might have lost it. Unless a socket says
    /// otherwise, each datagram is sent by itself, without mark and from the address of the system's choice, and what there
    /// is no room for behind the first is lost.
    fn poll_send_batch(&self, cx: &mut Context<'_>, burst: &Burst<'_>) -> Poll<io::Result<()>> {
        let segment = burst.segment.unwrap_or(burst.payload.len()).clamp(1, burst.payload.len().max(1));
        let (first, rest) = burst.payload.split_at(segment.min(burst.payload.len()));
        let sent = ready!(self.poll_send(cx, first, burst.to));
        for datagram in rest.chunks(segment) {
            // Lost, when it fails.
            let _ = self.try_send(datagram, burst.to);
        }
        Poll::Ready(sent)
    }

    /// How many datagrams [`poll_send_batch`](Self::poll_send_batch) does well to be given at once. It can become 1 when
    /// the system turns out not to have the means.
    fn max_segments(&self) -> usize {
        1
    }
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

    /// Receives into as many buffers as there is something for ([`UdpSocket::poll_recv_batch`]). Cancel safe.
    pub async fn recv_batch(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        arrivals: &mut [Arrival],
    ) -> io::Result<usize> {
        poll_fn(|cx| self.poll_recv_batch(cx, bufs, arrivals)).await
    }

    /// Sends one datagram or several ([`UdpSocket::poll_send_batch`]), waiting for room. Cancel safe.
    pub async fn send_batch(&self, burst: &Burst<'_>) -> io::Result<()> {
        poll_fn(|cx| self.poll_send_batch(cx, burst)).await
    }
}
