//! What travels.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;
use towline_nat::Transport;

/// Bytes of an IP header, without options and extensions.
pub(crate) const fn ip_header(ipv6: bool) -> usize {
    if ipv6 { 40 } else { 20 }
}

/// Bytes of a UDP header.
pub(crate) const UDP_HEADER: usize = 8;
/// Bytes of a TCP header without options.
pub(crate) const TCP_HEADER: usize = 20;

/// One packet on the wire.
///
/// A [`Middlebox`](crate::Middlebox) sees it pass and may rewrite its addresses.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Source address and port.
    pub from: SocketAddr,
    /// Destination address and port.
    pub to: SocketAddr,
    /// Routers it may still pass.
    pub ttl: u8,
    /// The longest IP packet it was cut into by its first link; 0 before that, the largest number if it must not be cut.
    pub(crate) longest: usize,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Datagram(Bytes),
    Segment(Segment),
    /// What ICMP says: a packet of this transport, from the destination of this one to its source, cannot be delivered.
    Unreachable(Transport),
}

/// A segment of the lab's TCP. Loss is found by packet numbers, as QUIC does, which makes recovery short to write.
#[derive(Debug, Clone)]
pub(crate) enum Segment {
    /// Opens a connection; the offset up to which the other side may send.
    Syn { limit: u64 },
    /// Agrees to it.
    SynAck { limit: u64 },
    /// Bytes from offset `seq` on, then the end of the stream when `fin`. Empty: a probe.
    Data { number: u64, seq: u64, data: Bytes, fin: bool },
    /// Everything before `upto` and segment `number` have arrived; the other side may send up to `limit`.
    Ack { number: u64, upto: u64, limit: u64 },
    /// There is no such connection, or no longer.
    Reset,
}

/// The kind of a packet, as a middlebox and the trace see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A UDP datagram.
    Udp,
    /// First segment of a TCP connection.
    Syn,
    /// The answer to it.
    SynAck,
    /// TCP data.
    Data,
    /// TCP data or nothing, and the end of that direction.
    Fin,
    /// A TCP acknowledgement.
    Ack,
    /// A TCP reset.
    Reset,
    /// The news that a destination cannot be reached.
    Unreachable,
}

impl Kind {
    /// Whether it belongs to a TCP connection.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Syn | Self::SynAck | Self::Data | Self::Fin | Self::Ack | Self::Reset)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Udp => "udp",
            Self::Syn => "syn",
            Self::SynAck => "syn-ack",
            Self::Data => "data",
            Self::Fin => "fin",
            Self::Ack => "ack",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
        })
    }
}

impl Packet {
    /// A packet with the usual hop limit.
    pub(crate) fn new(from: SocketAddr, to: SocketAddr, body: Body) -> Self {
        Self { from, to, ttl: 64, longest: 0, body }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match &self.body {
            Body::Datagram(_) => Kind::Udp,
            Body::Segment(Segment::Syn { .. }) => Kind::Syn,
            Body::Segment(Segment::SynAck { .. }) => Kind::SynAck,
            Body::Segment(Segment::Data { fin: false, .. }) => Kind::Data,
            Body::Segment(Segment::Data { fin: true, .. }) => Kind::Fin,
            Body::Segment(Segment::Ack { .. }) => Kind::Ack,
            Body::Segment(Segment::Reset) => Kind::Reset,
            Body::Unreachable(_) => Kind::Unreachable,
        }
    }

    /// The transport of the packet that it is about, if it is [`Kind::Unreachable`]; otherwise its own.
    pub(crate) fn quoted_transport(&self) -> Transport {
        match &self.body {
            Body::Datagram(_) => Transport::Udp,
            Body::Segment(_) => Transport::Tcp,
            Body::Unreachable(transport) => *transport,
        }
    }

    /// What a UDP datagram carries.
    pub fn datagram(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Datagram(data) => Some(data),
            Body::Segment(_) | Body::Unreachable(_) => None,
        }
    }

    /// Bytes of payload.
    pub fn payload_len(&self) -> usize {
        match &self.body {
            Body::Datagram(data) | Body::Segment(Segment::Data { data, .. }) => data.len(),
            _ => 0,
        }
    }

    /// IP packets it takes on links of this MTU, and their bytes with headers.
    ///
    /// Long datagrams are cut into fragments by the sender, and long segments stand for a burst of them.
    pub(crate) fn on_wire(&self, mtu: usize) -> (usize, usize) {
        let ip = ip_header(self.from.is_ipv6());
        match &self.body {
            Body::Datagram(data) => {
                let total = UDP_HEADER + data.len();
                let packets = total.div_ceil(mtu - ip);
                (packets, packets * ip + total)
            }
            _ => {
                let header = ip + TCP_HEADER;
                let packets = self.payload_len().div_ceil(mtu - header).max(1);
                (packets, packets * header + self.payload_len())
            }
        }
    }
}
