//! What arrives, and how the peer hears of it.

use std::time::{Duration, Instant};

use super::{Arrival, Link};
use crate::{
    Ecn, LinkId,
    wire::message::{EcnCounts, put_ack},
};

/// An acknowledgement of so many ranges is worth that the peer acknowledges it, so that the old ones can be forgotten.
const MANY_RANGES: usize = 8;

impl Link {
    /// What the shortened packet number of the next packet is expanded against.
    #[inline]
    pub(crate) fn expected_pn(&self) -> u64 {
        self.received.expected()
    }

    /// Whether a packet with this number is later than all that arrived: only those tell where the peer is now.
    #[inline]
    pub(crate) fn is_newest(&self, pn: u64) -> bool {
        pn >= self.received.expected()
    }

    /// Whether a packet with this number would be the first. To be asked before costly work; changes nothing.
    #[inline]
    pub(crate) fn is_fresh(&self, pn: u64) -> bool {
        self.received.is_fresh(pn)
    }

    /// A packet that authenticated. `eliciting`: it wants an acknowledgement.
    #[inline]
    pub(crate) fn on_packet(
        &mut self,
        now: Instant,
        pn: u64,
        eliciting: bool,
        ecn: Option<Ecn>,
        bytes: usize,
    ) -> Arrival {
        self.bytes_received += bytes as u64;
        self.validation.on_received(bytes as u64);
        if self.dead_since.is_some() {
            self.on_sign_of_life(now);
        }
        let delay = self.ack_delay();
        self.received.on_packet(now, pn, eliciting, ecn, bytes as u64, delay)
    }

    /// How long an acknowledgement may wait: a quarter of a round trip, as far as the peer was promised less than that.
    #[inline]
    fn ack_delay(&self) -> Duration {
        if self.rtt.is_measured() {
            self.max_ack_delay.min(self.rtt.smoothed() / 4)
        } else {
            self.max_ack_delay
        }
    }

    /// Whether anything is not acknowledged: then an acknowledgement may ride in whatever packet leaves.
    #[inline]
    pub(crate) fn ack_pending(&self) -> bool {
        self.received.pending()
    }

    /// Whether an acknowledgement should leave now, alone if need be.
    #[inline]
    pub(crate) fn ack_wanted(&self, now: Instant) -> bool {
        self.received.wanted(now)
    }

    /// Appends an acknowledgement of what arrived on this link, at most `room` bytes, to a packet that leaves by `carrier`.
    /// Whether there was one, and room.
    pub(crate) fn write_ack(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        room: usize,
        carrier: LinkId,
    ) -> bool {
        if self.received.largest().is_none() {
            return false;
        }
        let marks = self.received.marks();
        let ecn = (marks.ce > 0 || marks.ect0 > 0).then_some(EcnCounts { ce: marks.ce, ect0: marks.ect0 });
        let held = self.received.held(now).as_micros() as u64;
        let mut seen = 0;
        let ranges = self.received.ranges().inspect(|_| seen += 1);
        let written = put_ack(out, self.id, ranges, held, ecn, room);
        if written == 0 {
            return false;
        }
        self.received.on_told();
        // Once per round trip: an acknowledgement of acknowledgements answers the next one's question, too.
        self.ack_wants_ack = written >= MANY_RANGES && self.heard_at.is_none_or(|at| now >= at);
        if self.ack_wants_ack {
            self.heard_at = Some(now + self.rtt.smoothed());
        }
        // Cut short, it says nothing about the oldest, of which one was seen and left out.
        if seen == written && carrier == self.id {
            self.ack_written = self.received.largest().map(|largest| (self.sent.next(), largest));
        }
        true
    }

    /// Whether the packet with the acknowledgement just written should elicit one itself (a ping): it tells of many ranges
    /// that can be forgotten once the peer knows them.
    pub(crate) fn ack_wants_ack(&self) -> bool {
        self.ack_wants_ack
    }
}
