//! What the mux reports, and the words it uses.

use std::fmt;
use std::time::Duration;

use crate::Reason;

/// Which language is spoken inside the TLS connection; chosen by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Between two Towline devices: windows, priorities, half-close, reasons. See the crate's README.
    Native,
    /// What Jami and dhtnet speak (connection.md section 6).
    #[doc(alias = "MultiplexedSocket")]
    Jami,
}

/// Role in the TLS handshake; decides which half of the channel numbers is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Numbers from 0x0001 up.
    TlsClient,
    /// Numbers from 0x8000 up.
    TlsServer,
}

impl Side {
    /// The other role.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::TlsClient => Self::TlsServer,
            Self::TlsServer => Self::TlsClient,
        }
    }
}

/// What a dialect can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// [`finish`](crate::Mux::finish) ends one direction; otherwise it closes the channel.
    pub half_close: bool,
    /// Each channel has its own window, so a slow reader slows nobody else.
    pub windows: bool,
    /// Refusals, resets and stops carry a [`Reason`] to the peer.
    pub reasons: bool,
    /// Data may be sent before the request is answered.
    pub early: bool,
    /// The peer answers [`ping`](crate::Mux::ping): always in the native dialect, in Jami's once it has said so.
    pub ping: bool,
}

/// A channel of one mux. Unlike its 16-bit number it is never used again, so a stale one is harmless.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    pub(crate) serial: u64,
    pub(crate) slot: u32,
    pub(crate) number: u16,
}

impl ChannelId {
    /// The number on the wire. In the Jami dialect it changes if both sides pick the same one at once, so ask
    /// [`Mux::info`](crate::Mux::info) for the present one.
    pub fn number(self) -> u16 {
        self.number
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}/{}", self.number, self.serial)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.number)
    }
}

/// A ping of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PingId(pub(crate) u64);

/// How urgent a channel's data is, compared to that of the same side's other channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Priority {
    /// Higher classes go first.
    pub class: Class,
    /// Share among the waiting channels of the class: 1–255; 0 counts as 1. Default 16.
    pub weight: u8,
}

/// Class of a [`Priority`], most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A person waits: calls, key strokes.
    Urgent,
    /// Everything else.
    #[default]
    Normal,
    /// Bulk that nobody waits for.
    Background,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Background];
}

impl Default for Priority {
    fn default() -> Self {
        Self { class: Class::Normal, weight: 16 }
    }
}

impl From<Class> for Priority {
    fn from(class: Class) -> Self {
        Self { class, ..Self::default() }
    }
}

/// How to open a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Of both directions; the native dialect tells the peer.
    pub priority: Priority,
    /// Send what is written before the answer comes, as far as the peer allows. If the request is refused it is
    /// lost. Ignored in the Jami dialect, where data waits for the answer.
    pub early: bool,
}

/// Something the application should know. In the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer requests a channel: [`accept`](crate::Mux::accept) or [`refuse`](crate::Mux::refuse) it.
    #[doc(alias = "onChannelRequest")]
    Requested {
        /// The channel.
        id: ChannelId,
        /// Never empty.
        name: Box<str>,
        /// As the peer asked; the default in the Jami dialect.
        priority: Priority,
    },
    /// The peer accepted our request.
    Accepted {
        /// The channel.
        id: ChannelId,
    },
    /// The peer refused our request. The channel is gone.
    Refused {
        /// The channel.
        id: ChannelId,
        /// Why; [`Code::Unspecified`](crate::Code::Unspecified) in the Jami dialect.
        reason: Reason,
    },
    /// There is something to [`read`](crate::Mux::read). Comes again only after a read that returned `None`.
    Readable {
        /// The channel.
        id: ChannelId,
    },
    /// A write was turned down for lack of room, and now there is some.
    Writable {
        /// The channel.
        id: ChannelId,
    },
    /// The peer sends no more on this channel; what it sent can still be read.
    Finished {
        /// The channel.
        id: ChannelId,
    },
    /// The peer wants no more on this channel; what was queued is dropped, writes fail from now on.
    Stopped {
        /// The channel.
        id: ChannelId,
        /// Why.
        reason: Reason,
    },
    /// The peer gave the channel up, both directions at once; what was not read is dropped. A request may be
    /// withdrawn like this before it is decided.
    Reset {
        /// The channel.
        id: ChannelId,
        /// Why.
        reason: Reason,
    },
    /// Both directions have ended and everything queued has left. Last event of a channel, except after
    /// [`Refused`](Self::Refused), which stands alone. What was received can still be read.
    Closed {
        /// The channel.
        id: ChannelId,
    },
    /// A ping was answered.
    Pong {
        /// As returned by [`ping`](crate::Mux::ping) or [`liveness_probe`](crate::Mux::liveness_probe).
        id: PingId,
        /// From sending to receiving.
        rtt: Duration,
    },
    /// The peer takes no more requests.
    GoAway {
        /// Why.
        reason: Reason,
    },
    /// A keep-alive or a probe remained unanswered. Reported once.
    Dead,
}

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelState {
    /// Our request waits for the peer's answer.
    Requested,
    /// The peer's request waits for our decision.
    Pending,
    /// Accepted; data flows.
    Open,
    /// This side has finished; the peer still sends.
    HalfClosedLocal,
    /// The peer has finished; this side still sends.
    HalfClosedRemote,
    /// Ended; the last bytes are on their way or wait to be read.
    Closing,
}

/// A channel as it stands, for lists and diagnostics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo<'a> {
    /// The channel.
    pub id: ChannelId,
    /// Number on the wire at present.
    pub number: u16,
    /// As requested.
    pub name: &'a str,
    /// Whether this side made the request.
    #[doc(alias = "isInitiator")]
    pub opened_by_us: bool,
    /// How its data is scheduled.
    pub priority: Priority,
    /// Where it stands.
    pub state: ChannelState,
    /// Payload bytes handed to the transport.
    #[doc(alias = "txBytes")]
    pub bytes_sent: u64,
    /// Payload bytes received.
    #[doc(alias = "rxBytes")]
    pub bytes_received: u64,
    /// Payload bytes waiting to be sent.
    pub queued: usize,
    /// Payload bytes received and not yet consumed.
    pub unconsumed: u64,
    /// Payload bytes the peer would take at once; `None` where there are no windows.
    pub send_window: Option<u64>,
    /// Size of our receive window; `None` where there are no windows.
    pub receive_window: Option<u64>,
}

/// Plaintext for the transport: at most 16 384 bytes, best encrypted as one TLS record.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Whole frames.
    pub bytes: &'a [u8],
}

impl std::ops::Deref for Transmit<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}
