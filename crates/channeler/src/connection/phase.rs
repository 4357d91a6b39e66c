//! How far a connection is in its life.

use std::time::{Duration, Instant};

use crate::{Code, Route};

/// The life of a connection.
#[derive(Debug)]
pub(super) enum Phase {
    /// Keys are being agreed on.
    Handshake {
        /// Packets that came before the keys.
        early: Early,
    },
    /// Everything works.
    Open,
    /// This side ended it: the peer is told, and told again when packets of it come.
    Closing(Closing),
    /// The peer ended it: nothing is sent, and what still comes is ignored.
    Draining {
        /// When nothing more is to be expected.
        until: Instant,
    },
    /// Over.
    Drained,
}

/// What the peer is told about the end.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) code: Code,
    pub(super) text: String,
    pub(super) until: Instant,
    /// Whether a packet with it is to be sent now.
    pub(super) due: bool,
    /// Packets received since, and how many of them make it due again: doubled each time.
    pub(super) heard: u32,
    pub(super) answer_at: u32,
}

impl Closing {
    pub(super) fn new(code: Code, text: &str, until: Instant) -> Self {
        Self { code, text: text.to_owned(), until, due: true, heard: 0, answer_at: 1 }
    }

    /// A packet of the peer came, which perhaps does not know yet.
    pub(super) fn on_packet(&mut self) {
        self.heard += 1;
        if self.heard >= self.answer_at {
            self.answer_at = self.answer_at.saturating_mul(2);
            self.due = true;
        }
    }
}

/// Data packets that came before the handshake was complete here: they overtook its last message. Dropped when there are too many; the
/// peer repairs them.
#[derive(Debug, Default)]
pub(super) struct Early {
    packets: Vec<(Route, Vec<u8>)>,
    bytes: usize,
}

impl Early {
    /// Bytes kept at most.
    const BYTES: usize = 24 << 10;
    /// Packets kept at most.
    const PACKETS: usize = 16;

    /// Keeps a packet if there is room. Whether it was kept.
    pub(super) fn keep(&mut self, route: Route, packet: &[u8]) -> bool {
        let fits = self.packets.len() < Self::PACKETS && self.bytes + packet.len() <= Self::BYTES;
        if fits {
            self.bytes += packet.len();
            self.packets.push((route, packet.to_vec()));
        }
        fits
    }

    /// What was kept, in order of arrival.
    pub(super) fn into_packets(self) -> impl Iterator<Item = (Route, Vec<u8>)> {
        self.packets.into_iter()
    }
}

/// How long an end is remembered: three probe timeouts, at least this long.
pub(super) fn linger(probe_timeout: Duration) -> Duration {
    (3 * probe_timeout).clamp(Duration::from_millis(100), Duration::from_secs(10))
}
