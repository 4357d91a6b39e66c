//! What a box sees of a packet, and what it decides about it.

use std::{fmt, net::SocketAddr, time::Duration};

/// Which way a packet goes through a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Came from the inside network.
    Out,
    /// Came from the outside network.
    In,
}

/// What the ports of a packet belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// The flags of a TCP segment that a box looks at; none of them for a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Opens a connection, or agrees to it.
    pub syn: bool,
    /// Acknowledges something.
    pub ack: bool,
    /// Ends a direction.
    pub fin: bool,
    /// Ends the connection at once.
    pub rst: bool,
}

impl Flags {
    /// The first segment of a connection.
    pub const SYN: Self = Self { syn: true, ack: false, fin: false, rst: false };
    /// The answer to it.
    pub const SYN_ACK: Self = Self { syn: true, ack: true, fin: false, rst: false };
    /// Data, or an acknowledgement.
    pub const ACK: Self = Self { syn: false, ack: true, fin: false, rst: false };
    /// The end of a direction.
    pub const FIN: Self = Self { syn: false, ack: true, fin: true, rst: false };
    /// A reset.
    pub const RST: Self = Self { syn: false, ack: false, fin: false, rst: true };

    /// Whether it asks for a connection.
    pub fn opens(self) -> bool {
        self.syn && !self.ack && !self.rst
    }
}

/// What a box sees of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it carries.
    pub transport: Transport,
    /// Source.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// Flags, of a TCP segment.
    pub flags: Flags,
}

impl Header {
    /// A datagram.
    pub fn udp(from: SocketAddr, to: SocketAddr) -> Self {
        Self { transport: Transport::Udp, from, to, flags: Flags::default() }
    }

    /// A TCP segment.
    pub fn tcp(from: SocketAddr, to: SocketAddr, flags: Flags) -> Self {
        Self { transport: Transport::Tcp, from, to, flags }
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the other side, with these addresses.
    Forward {
        /// Source.
        from: SocketAddr,
        /// Destination.
        to: SocketAddr,
    },
    /// It came from inside and goes back there, with these addresses: a hairpin.
    Turn {
        /// Source.
        from: SocketAddr,
        /// Destination.
        to: SocketAddr,
    },
    /// It disappears.
    Drop(Reason),
    /// It disappears, and its sender is told.
    Reject(Reason, Reply),
}

/// How a sender is told that its packet went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    /// A TCP reset that seems to come from where the segment was sent to.
    Reset,
    /// ICMP: destination unreachable.
    Unreachable,
}

/// Why a packet did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// From outside: no mapping has this outside address and port.
    NoMapping,
    /// From outside: the mapping exists, but its host has not sent to this source.
    Filtered,
    /// A TCP segment that belongs to no connection the box knows and does not open one.
    NoConnection,
    /// From inside to an outside address of the box, which does not let packets turn round.
    NoHairpin,
    /// A new mapping is needed and no outside port is free.
    NoPort,
    /// A new mapping is needed, and this host has as many as it may have.
    HostQuota,
    /// The box remembers as many sessions as it can.
    TableFull,
    /// The box has no address outside.
    NoAddress,
    /// A rule of a firewall forbids it, whoever asks.
    Forbidden,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoMapping => "no mapping",
            Self::Filtered => "filtered: nobody inside sent there",
            Self::NoConnection => "no such connection",
            Self::NoHairpin => "no hairpinning",
            Self::NoPort => "no port is free",
            Self::HostQuota => "the host has too many mappings",
            Self::TableFull => "the table is full",
            Self::NoAddress => "no address outside",
            Self::Forbidden => "forbidden",
        })
    }
}

/// What happens to who asks for a TCP connection that nobody inside waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing: the segment disappears (RFC 5382 REQ-4a).
    Silent,
    /// A reset at once. Simultaneous open fails when the segment arrives before the host inside has sent its own.
    Reset,
    /// ICMP at once, with the same effect.
    Unreachable,
    /// ICMP after this time, unless the host inside has asked for the same connection by then
    /// (RFC 5382 REQ-4: at least 6 s).
    Late(Duration),
}
