//! The sockets of discovery: two for each interface and family.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use towline_net::{Group, Interface, Net, Received, UdpBind, UdpSocket};

use super::config::{DiscoveryConfig, DiscoveryError, DiscoveryMode, DiscoveryReach};

/// Bytes asked of the system for a socket: announcements are small and may be lost.
const BUFFER: usize = 128 << 10;

/// One family on one interface.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) group: SocketAddr,
    /// Has joined the group, on the port that is shared with all programs of the host.
    listener: Box<dyn UdpSocket>,
    /// Sends. It has a port of its own so that answers come to us: which of the programs that share the port gets
    /// what is sent to it alone is up to the system.
    sender: Box<dyn UdpSocket>,
    /// Addresses of the interface.
    own: Vec<IpAddr>,
}

impl Link {
    fn open(net: &dyn Net, interface: &Interface, group: SocketAddr) -> io::Result<Self> {
        let any: IpAddr =
            if group.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let listener = net.bind_udp(&UdpBind {
            shared: true,
            groups: vec![Group { addr: group.ip(), interface: interface.index }],
            buffer: BUFFER,
            ..UdpBind::new(SocketAddr::new(any, group.port()))
        })?;
        let sender = net.bind_udp(&UdpBind {
            multicast_interface: Some(interface.index),
            buffer: BUFFER,
            ..UdpBind::new(SocketAddr::new(any, 0))
        })?;
        let own = interface.addresses.iter().map(|own| own.addr).collect();
        Ok(Self { group, listener, sender, own })
    }

    /// Sends if there is room; a lost announcement is repeated some time.
    pub(super) fn send(&self, payload: &[u8], to: SocketAddr) {
        if let Err(error) = self.sender.try_send(payload, to) {
            tracing::debug!(%to, %error, "discovery packet not sent");
        }
    }

    fn is_own(&self, from: SocketAddr) -> bool {
        from.port() == self.sender.local_addr().port() && self.own.contains(&from.ip())
    }
}

/// All links.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: Vec<Link>,
    /// Which socket is asked first.
    turn: usize,
}

/// What came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// The link it came by.
    pub(super) link: usize,
    pub(super) received: Received,
}

impl Links {
    /// Opens what can be opened.
    pub(super) fn open(net: &dyn Net, config: &DiscoveryConfig) -> Result<Self, DiscoveryError> {
        let interfaces = net.interfaces().map_err(|error| DiscoveryError::Interfaces(error.kind()))?;
        let usable = interfaces.iter().filter(|interface| match config.reach {
            DiscoveryReach::LocalNetwork => interface.up && interface.multicast && !interface.loopback,
            DiscoveryReach::ThisHost => interface.up && interface.loopback,
        });
        let mut links = Vec::new();
        let mut failure = None;
        for interface in usable.take(config.limits.interfaces) {
            for group in config.groups() {
                if !interface.addresses.iter().any(|own| own.addr.is_ipv4() == group.is_ipv4()) {
                    continue;
                }
                match Link::open(net, interface, group) {
                    Ok(link) => links.push(link),
                    Err(error) => {
                        tracing::debug!(interface = interface.name, %group, %error, "no discovery here");
                        failure.get_or_insert(DiscoveryError::Bind { group, kind: error.kind() });
                    }
                }
            }
        }
        match failure {
            Some(failure) if links.is_empty() && config.mode == DiscoveryMode::Full => Err(failure),
            _ => Ok(Self { links, turn: 0 }),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.iter()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Link> {
        self.links.get(index)
    }

    /// Whether a datagram was sent by one of these links.
    pub(super) fn are_source_of(&self, from: SocketAddr) -> bool {
        self.links.iter().any(|link| link.is_own(from))
    }

    /// Receives from whichever socket has something. A link whose socket broke is dropped, and the error returned.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Arrival>> {
        let sockets = self.links.len() * 2;
        for offset in 0..sockets {
            let at = (self.turn + offset) % sockets;
            let link = &self.links[at / 2];
            let socket = if at.is_multiple_of(2) { &link.listener } else { &link.sender };
            match socket.poll_recv(cx, buf) {
                Poll::Pending => {}
                Poll::Ready(Ok(received)) => {
                    self.turn = (at + 1) % sockets;
                    return Poll::Ready(Ok(Arrival { link: at / 2, received }));
                }
                Poll::Ready(Err(error)) => {
                    self.links.remove(at / 2);
                    self.turn = 0;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Pending
    }
}
