//! By how much a packet may be overtaken before it is lost.
//!
//! Starts as RFC 9002, section 6.1 has it, three packets or an eighth of a round trip, and learns from packets that
//! arrived after all, in the way of RFC 8985, section 6.2: the bounds widen at once and narrow after losses that were real.

use std::time::Duration;

/// RFC 9002, section 6.1.1.
const PACKETS: u64 = 3;
/// RFC 9002, section 6.1.2: 9/8 of a round trip.
const EIGHTHS: u32 = 9;
/// Never more than two round trips, the bound of RFC 8985 (one round trip beyond the round trip itself).
const MAX_EIGHTHS: u32 = 16;
/// More packets than this are never waited for; time decides then.
const MAX_PACKETS: u64 = 1024;
/// Loss events without a mistake until the bounds narrow again (RFC 8985: 16 recoveries).
const PATIENCE: u8 = 16;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reorder {
    packets: u64,
    eighths: u32,
    clean: u8,
}

impl Reorder {
    pub(super) fn new() -> Self {
        Self { packets: PACKETS, eighths: EIGHTHS, clean: 0 }
    }

    /// A packet is lost when one this much later was acknowledged.
    #[inline]
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// A packet is lost when a later one was acknowledged and it was sent longer ago than this.
    #[inline]
    pub(super) fn time(&self, rtt: Duration) -> Duration {
        (rtt * self.eighths / 8).max(Duration::from_millis(1))
    }

    /// A packet that had been declared lost arrived: `overtaken` by so many packets, acknowledged `age` after it was sent.
    pub(super) fn on_spurious(&mut self, overtaken: u64, age: Duration, rtt: Duration) {
        self.clean = 0;
        self.packets = self.packets.max(overtaken + 1).min(MAX_PACKETS);
        while self.eighths < MAX_EIGHTHS && self.time(rtt) < age {
            self.eighths += 1;
        }
    }

    /// Packets were declared lost.
    pub(super) fn on_loss(&mut self) {
        if self.packets == PACKETS && self.eighths == EIGHTHS {
            return;
        }
        self.clean += 1;
        if self.clean >= PATIENCE {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(80);

    #[test]
    fn widens_at_a_mistake_and_narrows_after_patience() {
        let mut reorder = Reorder::new();
        assert_eq!((reorder.packets(), reorder.time(RTT)), (3, Duration::from_millis(90)));
        reorder.on_spurious(7, Duration::from_millis(100), RTT);
        assert_eq!((reorder.packets(), reorder.time(RTT)), (8, Duration::from_millis(100)));
        (0..15).for_each(|_| reorder.on_loss());
        assert_eq!(reorder.packets(), 8);
        reorder.on_loss();
        assert_eq!(reorder, Reorder::new());
    }

    #[test]
    fn bounded() {
        let mut reorder = Reorder::new();
        reorder.on_spurious(1 << 40, Duration::from_secs(100), RTT);
        assert_eq!((reorder.packets(), reorder.time(RTT)), (1024, 2 * RTT));
    }
}
