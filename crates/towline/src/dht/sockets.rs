//! The UDP sockets of the node, one for each family; and others in their place where nothing comes through them.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use towline_dht::node::{Family, PerFamily};
use towline_net::{Net, Received, UdpBind, UdpSocket};

use super::config::{DhtConfig, StartError};

/// Ports of an earlier run, to be taken again where any port would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) v4: Option<u16>,
    pub(super) v6: Option<u16>,
}

/// The sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    v4: Option<Slot>,
    v6: Option<Slot>,
    /// Which one is asked first; they take turns.
    turn: Family,
}

/// What is out of use now.
#[derive(Debug)]
pub(super) enum Broken {
    /// The socket, until [`Sockets::repair`].
    Socket(io::Error),
    /// What was used in its place.
    Detour(io::Error),
}

/// The socket of a family.
#[derive(Debug)]
struct Slot {
    addr: SocketAddr,
    /// `None` while it is broken.
    socket: Option<Box<dyn UdpSocket>>,
    /// What everything goes through instead, until it breaks or is given up.
    detour: Option<Box<dyn UdpSocket>>,
}

impl Slot {
    fn new(socket: Box<dyn UdpSocket>) -> Self {
        Self { addr: socket.local_addr(), socket: Some(socket), detour: None }
    }

    /// Takes what is there, from either socket. A broken one is not asked again.
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<Received, Broken>> {
        for detour in [true, false] {
            let slot = if detour { &mut self.detour } else { &mut self.socket };
            let Some(socket) = slot else { continue };
            if let Poll::Ready(received) = socket.poll_recv(cx, buf) {
                let broken = |error| if detour { Broken::Detour(error) } else { Broken::Socket(error) };
                if received.is_err() {
                    *slot = None;
                }
                return Poll::Ready(received.map_err(broken));
            }
        }
        Poll::Pending
    }
}

impl Sockets {
    pub(super) fn bind(net: &dyn Net, config: &DhtConfig, last: Ports) -> Result<Self, StartError> {
        if config.bind_v4.is_none() && config.bind_v6.is_none() {
            return Err(StartError::NothingToBind);
        }
        let v4 = config.bind_v4.map(|addr| bind_one(net, addr.into(), [last.v4, None])).transpose()?;
        let like_v4 = v4.as_ref().map(|socket| socket.local_addr().port());
        let v6 = match config.bind_v6.map(|addr| bind_one(net, addr.into(), [last.v6, like_v4])) {
            Some(Err(StartError::Bind { kind, .. }))
                if v4.is_some() && means_no_such_family(kind, config) =>
            {
                None
            }
            other => other.transpose()?,
        };
        Ok(Self { v4: v4.map(Slot::new), v6: v6.map(Slot::new), turn: Family::V4 })
    }

    fn slot(&mut self, family: Family) -> Option<&mut Slot> {
        match family {
            Family::V4 => self.v4.as_mut(),
            Family::V6 => self.v6.as_mut(),
        }
    }

    /// The address bound for each family that is used.
    pub(super) fn addrs(&self) -> PerFamily<Option<SocketAddr>> {
        let addr = |slot: &Option<Slot>| slot.as_ref().map(|slot| slot.addr);
        PerFamily { v4: addr(&self.v4), v6: addr(&self.v6) }
    }

    pub(super) fn ports(&self) -> Ports {
        let addrs = self.addrs();
        Ports { v4: addrs.v4.map(|addr| addr.port()), v6: addrs.v6.map(|addr| addr.port()) }
    }

    /// Has everything of its family go through this socket, until it breaks or is [given up](Self::straight).
    pub(super) fn detour(&mut self, socket: Box<dyn UdpSocket>) {
        let family = if socket.local_addr().is_ipv4() { Family::V4 } else { Family::V6 };
        if let Some(slot) = self.slot(family) {
            slot.detour = Some(socket);
        }
    }

    /// Whether something goes another way than by the own sockets.
    pub(super) fn is_led(&self) -> bool {
        [&self.v4, &self.v6].into_iter().flatten().any(|slot| slot.detour.is_some())
    }

    /// Goes through the own sockets again.
    pub(super) fn straight(&mut self) {
        for slot in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            slot.detour = None;
        }
    }

    /// Waits for a datagram. Cancel safe. What broke is out of use.
    pub(super) async fn recv(&mut self, buf: &mut [u8]) -> Result<Received, (Family, Broken)> {
        poll_fn(|cx| self.poll_recv(cx, buf)).await
    }

    /// A datagram that is there already.
    pub(super) fn try_recv(&mut self, buf: &mut [u8]) -> Option<Result<Received, (Family, Broken)>> {
        self.recv(buf).now_or_never()
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<Received, (Family, Broken)>> {
        for family in [self.turn, other(self.turn)] {
            let Some(slot) = self.slot(family) else { continue };
            if let Poll::Ready(received) = slot.poll_recv(cx, buf) {
                self.turn = other(family);
                return Poll::Ready(received.map_err(|broken| (family, broken)));
            }
        }
        Poll::Pending
    }

    /// Sends at once or not at all: a full socket loses datagrams as the network does, and requests are repeated.
    pub(super) fn send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        let slot = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        match slot {
            Some(Slot { detour: Some(socket), .. } | Slot { socket: Some(socket), .. }) => {
                socket.try_send(payload, to)
            }
            Some(Slot { socket: None, .. }) => Err(io::ErrorKind::WouldBlock.into()),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Binds broken sockets anew, on the same ports. True if all are whole then.
    pub(super) fn repair(&mut self, net: &dyn Net) -> bool {
        let mut whole = true;
        for slot in [&mut self.v4, &mut self.v6].into_iter().flatten().filter(|slot| slot.socket.is_none()) {
            match net.bind_udp(&UdpBind::new(slot.addr)) {
                Ok(socket) => slot.socket = Some(socket),
                Err(error) => {
                    tracing::debug!(addr = %slot.addr, %error, "the UDP socket stays broken");
                    whole = false;
                }
            }
        }
        whole
    }
}

fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

/// Binds `addr`; where it leaves the port open, the first of `wishes` that is free.
fn bind_one(
    net: &dyn Net,
    addr: SocketAddr,
    wishes: [Option<u16>; 2],
) -> Result<Box<dyn UdpSocket>, StartError> {
    let wishes = wishes.into_iter().flatten().filter(|_| addr.port() == 0);
    for port in wishes {
        let mut wish = addr;
        wish.set_port(port);
        if let Ok(socket) = net.bind_udp(&UdpBind::new(wish)) {
            return Ok(socket);
        }
    }
    net.bind_udp(&UdpBind::new(addr)).map_err(|error| StartError::Bind { addr, kind: error.kind() })
}

/// Whether IPv6 cannot be had here at all, and was not asked for by name.
fn means_no_such_family(kind: io::ErrorKind, config: &DhtConfig) -> bool {
    use io::ErrorKind::{AddrInUse, PermissionDenied};
    let any = |addr: SocketAddrV6| *addr.ip() == Ipv6Addr::UNSPECIFIED;
    config.bind_v6.is_some_and(any) && !matches!(kind, AddrInUse | PermissionDenied)
}
