//! What an endpoint may spend.

use std::time::Duration;

use super::{Cookies, OVERHEAD};

/// Smallest packet size of an endpoint, in bytes: that of the longest message of the negotiation.
pub const MIN_PACKET: u16 = OVERHEAD as u16 + 13;

/// Which half of a channel id comes first. The reference left it to the byte order of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum HalfOrder {
    /// As on little-endian machines.
    #[default]
    ResponderFirst,
    /// As on big-endian machines, and as the reference's documents say.
    InitiatorFirst,
}

impl HalfOrder {
    /// The two orders that exist.
    #[must_use]
    pub const fn both() -> [Self; 2] {
        [Self::ResponderFirst, Self::InitiatorFirst]
    }

    pub(super) fn join(self, initiator: u16, responder: u16) -> u32 {
        match self {
            Self::ResponderFirst => u32::from(responder) << 16 | u32::from(initiator),
            Self::InitiatorFirst => u32::from(initiator) << 16 | u32::from(responder),
        }
    }

    /// The initiator's half and the responder's.
    pub(super) fn split(self, id: u32) -> (u16, u16) {
        let (first, second) = ((id >> 16) as u16, id as u16);
        match self {
            Self::ResponderFirst => (second, first),
            Self::InitiatorFirst => (first, second),
        }
    }
}

/// Bounds and timings of an [`Endpoint`](super::Endpoint).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// All packets are padded to this many bytes. At least [`MIN_PACKET`]; what is smaller counts as that. Default 1200.
    pub packet_size: u16,
    /// The order of halves in ids that this side makes. In those of the peer either is understood. Default: responder first.
    pub half_order: HalfOrder,
    /// How cookies are made. Default: by a keyed hash.
    pub cookies: Cookies,
    /// Time after which an opening is said again, at first; it grows at random up to double each time. Default 200 ms.
    pub retry: Duration,
    /// What it does not grow beyond. Default 1 s.
    pub max_retry: Duration,
    /// Time after which an opening that was not answered has failed. Default 10 s.
    pub open_timeout: Duration,
    /// How often FINALIZE, which nobody answers, is said again as long as nothing comes on the channel. Default 3.
    pub finalize_repeats: u8,
    /// Silence in both directions after which a channel is forgotten. Default 60 s.
    pub idle_timeout: Duration,
    /// Channels at once, of both sides. Default 1024.
    pub max_channels: usize,
    /// Bytes, received and not yet read, that a channel holds. Default 256 KiB. Each message counts 32 more.
    pub receive_buffer: usize,
    /// Bytes, written and not yet sent, that a channel holds. Default 256 KiB. Each message counts 32 more.
    pub send_buffer: usize,
    /// Answers that wait to be sent. Default 256.
    pub max_answers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            packet_size: 1200,
            half_order: HalfOrder::default(),
            cookies: Cookies::default(),
            retry: Duration::from_millis(200),
            max_retry: Duration::from_secs(1),
            open_timeout: Duration::from_secs(10),
            finalize_repeats: 3,
            idle_timeout: Duration::from_mins(1),
            max_channels: 1024,
            receive_buffer: 256 << 10,
            send_buffer: 256 << 10,
            max_answers: 256,
        }
    }
}
