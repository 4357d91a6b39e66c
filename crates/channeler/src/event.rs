//! What the application hears, and what it says when it opens a channel.

use std::time::Duration;

use crate::{Capabilities, ChannelId, ConnectionError, LinkId, Reason, Route};

/// Something the application may want to know. From `Connection::poll_event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is complete and the peer is who it says.
    Connected,
    /// The connection ended; nothing follows.
    Closed(ConnectionError),
    /// The peer opened a channel. It may be read and written at once, accepted or refused.
    Opened {
        /// Its id.
        channel: ChannelId,
        /// What the opener chose.
        capabilities: Capabilities,
        /// What it is for, as the peer says.
        label: Vec<u8>,
        /// Its place in the order of sending, as the peer set it for its own direction.
        priority: Priority,
    },
    /// The peer's program accepted a channel that this side opened.
    Accepted(ChannelId),
    /// There is something to read where there was nothing.
    Readable(ChannelId),
    /// There is room to write where there was none, or the peer wants no more: writes then fail with its code.
    Writable(ChannelId),
    /// What may be sent on a channel changed: the peer's window, less what is on its way.
    WindowChanged {
        /// The channel.
        channel: ChannelId,
        /// Packets of the size of its link; messages, if fewer, on a message channel.
        packets: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Messages were given up on this direction of a channel, by this side (`sent`) or the peer.
    Lost {
        /// The channel.
        channel: ChannelId,
        /// Messages since the last such event.
        messages: u64,
        /// Whether they were ours.
        sent: bool,
    },
    /// The peer finished its direction, and all of it was read.
    Finished(ChannelId),
    /// The channel ended; nothing follows for it.
    Ended(ChannelId, Reason),
    /// A link changed its status, or its figures changed much.
    Link(LinkReport),
}

/// What is known about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkReport {
    /// The link.
    pub link: LinkId,
    /// The way it takes.
    pub route: Route,
    /// Whether it can be used.
    pub status: LinkStatus,
    /// Bytes that may be on their way at once.
    pub window: u64,
    /// Estimated bytes per second.
    pub rate: u64,
    /// Smoothed round trip.
    pub rtt: Duration,
    /// How much of that is queues: smoothed less smallest.
    pub queue_delay: Duration,
    /// Lost packets of the last 1000, in thousandths.
    pub loss: u16,
    /// Largest packet, UDP payload or stream packet.
    pub mtu: u16,
    /// Bytes of all packets sent on it so far.
    pub bytes_sent: u64,
    /// Bytes of all packets received on it so far that authenticated.
    pub bytes_received: u64,
}

/// Whether a link can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkStatus {
    /// The peer has not yet answered a challenge on it.
    Validating,
    /// Works.
    Active,
    /// Silent for longer than a probe timeout: what matters is repeated elsewhere.
    Suspect,
    /// Silent for three: carries nothing but probes.
    Dead,
    /// Dropped by either side. The last report of it.
    Closed,
}

/// Place in the order of sending: higher first; equal ones take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

impl Priority {
    /// Gives way to everything, the traffic of others included: LEDBAT++ on datagram links.
    pub const BACKGROUND: Self = Self(0);
    /// The default.
    pub const NORMAL: Self = Self(128);
    /// Before everything normal.
    pub const URGENT: Self = Self(192);
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

/// Which links the packets of a channel take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Placement {
    /// All of them, each packet where it arrives first.
    #[default]
    Aggregate,
    /// This one while it works, otherwise the best.
    Prefer(LinkId),
    /// This one only, for as long as it is not closed.
    Pin(LinkId),
    /// The two best at once, each packet on both.
    Duplicate,
}

/// How a channel is opened.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Order, repair, close on loss. Default: a stream.
    pub capabilities: Capabilities,
    /// What it is for; the other program sees it. Default: empty.
    pub label: Vec<u8>,
    /// Place in the order of sending, of this side; the other side starts with the same.
    pub priority: Priority,
    /// Links to take, this side's direction. The other side starts with the default.
    pub placement: Placement,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// This many bytes were copied: on a message channel exactly one message, which may be empty.
    Data(usize),
    /// The peer finished its direction and everything was read.
    Finished,
}
