//! Simulated packets on links, and all that can happen to them. What links do is in `towline-link`.

use std::time::Duration;

use rand::rngs::StdRng;
use towline_link::{Direction, Load, Lost};
use towline_nat::Reason;

use crate::packet::Packet;

/// Why a packet did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// The loss of a link.
    Loss,
    /// The queue of a link was full.
    Queue,
    /// The link is out, or an interface is down.
    Outage,
    /// Sender and receiver are on different sides of a partition.
    Partition,
    /// Longer than a link on the way can carry.
    TooLong,
    /// No host has the address, and no route leads there.
    NoRoute,
    /// It passed too many routers.
    HopLimit,
    /// A middlebox did not let it pass.
    Refused,
    /// A middlebox did not let it pass, for this reason.
    Box(Reason),
    /// The host has crashed.
    HostDown,
    /// No socket wanted it.
    NoSocket,
    /// The buffer of the socket was full.
    SocketFull,
}

impl Drop {
    /// A number for the hash of the trace.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Loss => 0,
            Self::Queue => 1,
            Self::Outage => 2,
            Self::Partition => 3,
            Self::TooLong => 4,
            Self::NoRoute => 5,
            Self::HopLimit => 6,
            Self::Refused => 7,
            Self::HostDown => 8,
            Self::NoSocket => 9,
            Self::SocketFull => 10,
            Self::Box(reason) => 11 + reason as u8,
        }
    }
}

impl From<Lost> for Drop {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Chance => Self::Loss,
            Lost::Queue => Self::Queue,
            Lost::Outage => Self::Outage,
            Lost::TooLong => Self::TooLong,
        }
    }
}

/// Gives a packet to a link, which says when it arrives.
pub(crate) fn send(
    direction: &mut Direction,
    now: Duration,
    packet: &mut Packet,
    chance: &mut StdRng,
) -> Result<Duration, Drop> {
    if packet.longest == 0 {
        packet.longest = direction.link().mtu;
    }
    let (packets, bytes) = packet.on_wire(packet.longest);
    // Only the first link cuts datagrams. Segments are taken as clamped to the smallest MTU of the path.
    let longest = if packet.kind().is_tcp() { 0 } else { bytes.min(packet.longest) };
    Ok(direction.send(now, &Load { packets, bytes, longest }, chance)?)
}
