use super::message::{FRAGMENT_OVERHEAD, put_fragment};
use crate::ranges::Ranges;

/// A handshake message on its way to the peer, in fragments, repeated until it is known to have arrived.
#[derive(Debug)]
pub(super) struct Flight {
    message: u8,
    bytes: Vec<u8>,
    pending: Ranges,
    /// What the peer said last that it has. Not authentic, so it is not believed for ever.
    received: Ranges,
    /// Packets of nothing but padding to send along, to make room for an answer that is longer.
    padding: u32,
    /// Timeouts since the peer last said something about it.
    unheard: u32,
}

impl Flight {
    pub(super) fn new(message: u8, bytes: Vec<u8>) -> Self {
        let pending = Ranges::of(0, bytes.len() as u64);
        Self { message, bytes, pending, received: Ranges::default(), padding: 0, unheard: 0 }
    }

    pub(super) fn message(&self) -> u8 {
        self.message
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn set_padding(&mut self, packets: u32) {
        self.padding = packets;
    }

    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty() || self.padding > 0
    }

    /// Everything that the peer is not known to have is to be sent (again).
    pub(super) fn repeat(&mut self) {
        self.pending = Ranges::of(0, self.bytes.len() as u64);
        for (start, end) in self.received.iter() {
            self.pending.remove(start, end);
        }
    }

    pub(super) fn on_timeout(&mut self) {
        self.unheard += 1;
        if self.unheard > 2 {
            self.received = Ranges::default();
        }
        self.repeat();
    }

    /// The peer has these parts, and misses the others.
    pub(super) fn on_received(&mut self, ranges: Ranges) {
        self.unheard = 0;
        let unsent = std::mem::take(&mut self.pending);
        self.received = ranges;
        self.repeat();
        // What lies behind all that arrived may still be on its way: the timer takes care of that.
        let horizon = self.received.iter().next_back().map_or(self.bytes.len() as u64, |last| last.1);
        self.pending.remove(horizon, u64::MAX);
        for (start, end) in unsent.iter() {
            self.pending.insert(start, end);
        }
    }

    /// Writes the next fragment of at most `room` bytes. False if there is none, or no room for one.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, room: usize) -> bool {
        let Some(most) = room.checked_sub(FRAGMENT_OVERHEAD).filter(|most| *most > 0) else { return false };
        let total = self.bytes.len() as u32;
        let (start, end) = match self.pending.take_first(most as u64) {
            Some((start, end)) => (start as u32, end as u32),
            None if self.padding > 0 => {
                self.padding -= 1;
                (total, total)
            }
            None => return false,
        };
        put_fragment(out, self.message, total, start, &self.bytes[start as usize..end as usize]);
        true
    }
}
