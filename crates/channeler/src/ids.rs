//! The names of things: peers, channels, links, routes.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Which end of the connection: who dialled, and who was dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Sent the first packet of the handshake.
    Initiator,
    /// Answered it.
    Responder,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// Sixteen bytes that name a peer: in v1 the beginning of a hash of its static key, in v0 anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PeerId(pub [u8; 16]);

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A channel of one v1 connection. Never used twice in a connection.
///
/// The lowest bit is the side that opened it (0: the initiator of the connection), the other 31 its serial number.
/// [`ChannelId::CONTROL`] is the channel that always exists and belongs to the connection itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub(crate) u32);

impl ChannelId {
    /// The default channel of the protocol, here for the connection's own messages.
    pub const CONTROL: Self = Self(0xF0F0_F0F0);

    /// The first serial number that is never given out, because `CONTROL` has it.
    pub(crate) const SERIALS: u32 = Self::CONTROL.0 >> 1;

    pub(crate) fn new(opener: Side, serial: u32) -> Self {
        debug_assert!(serial < Self::SERIALS, "serial numbers end below that of the control channel");
        Self(serial << 1 | u32::from(opener == Side::Responder))
    }

    /// Who opened it.
    pub fn opener(self) -> Side {
        if self.0 & 1 == 0 { Side::Initiator } else { Side::Responder }
    }

    /// The number among the channels that this side opened, from 0.
    pub fn serial(self) -> u32 {
        self.0 >> 1
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.opener()) {
            (Self::CONTROL, _) => f.write_str("control"),
            (_, Side::Initiator) => write!(f, "i{}", self.serial()),
            (_, Side::Responder) => write!(f, "r{}", self.serial()),
        }
    }
}

/// A link of one connection: the same number on both sides. Even numbers were added by the initiator, odd ones by the
/// responder; 0 is the link of the handshake. Never used twice in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(crate) u32);

impl LinkId {
    /// The number.
    pub fn index(self) -> u32 {
        self.0
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {}", self.0)
    }
}

/// Eight bytes in every v1 packet by which its receiver knows connection and link. Chosen by that receiver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) [u8; 8]);

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The way to a peer as the driver knows it: what it needs to send a packet there, and what it saw one come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// Datagrams between a socket of the driver and a remote address.
    Datagram {
        /// The driver's number for its socket.
        socket: u16,
        /// Own address of that socket that the peer sees, where the system tells.
        local: Option<IpAddr>,
        /// The peer's address.
        remote: SocketAddr,
    },
    /// An ordered and reliable byte stream: each packet behind its length in 16 bits, most significant byte first.
    Stream(
        /// The driver's number for the stream; never reused in an endpoint.
        u32,
    ),
}

impl Route {
    /// Datagrams from socket 0 to this address.
    pub fn datagram(remote: SocketAddr) -> Self {
        Self::Datagram { socket: 0, local: None, remote }
    }

    /// Whether it is a stream, on which nothing is lost or overtaken.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Whether packets by both take the same way: all is equal, but that the own address may be known of only one of them.
    ///
    /// Whoever dialled leaves it to the system, also after answers told it: it may be another one after a change of networks.
    pub(crate) fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (
                Self::Datagram { socket, local, remote },
                Self::Datagram { socket: other_socket, local: other_local, remote: other_remote },
            ) => {
                socket == other_socket
                    && remote == other_remote
                    && (local == other_local || local.is_none() || other_local.is_none())
            }
            _ => self == other,
        }
    }

    /// Where datagrams go, if they do.
    pub fn remote(self) -> Option<SocketAddr> {
        match self {
            Self::Datagram { remote, .. } => Some(remote),
            Self::Stream(_) => None,
        }
    }
}

/// Congestion marks of an IP packet (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ecn {
    /// ECT(0): the sender understands marks.
    Ect0,
    /// ECT(1): the sender understands marks of L4S.
    Ect1,
    /// CE: a router on the way was congested.
    Ce,
}

/// What `poll_transmit` wrote to the buffer: one or more packets for one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where they go.
    pub route: Route,
    /// The mark that each of them is to carry.
    pub ecn: Option<Ecn>,
    /// If there are several datagrams: the length of each but the last, which may be shorter (as UDP GSO has it).
    /// Always `None` for a stream, whose packets stand behind their lengths already.
    pub segment: Option<usize>,
}
