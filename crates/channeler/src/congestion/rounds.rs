//! Counts round trips by packets.

use super::AckSample;

/// A round ends when a packet is acknowledged that left after the round began.
#[derive(Clone, Debug)]
pub(super) struct Rounds {
    count: u64,
    /// Bytes that must have been delivered when a packet left for it to be of the next round.
    next: u64,
}

impl Rounds {
    pub(super) fn new() -> Self {
        Self { count: 0, next: 0 }
    }

    /// Whether this acknowledgement begins a round.
    pub(super) fn on_ack(&mut self, ack: &AckSample<'_>) -> bool {
        let begins = ack.rate.is_some_and(|rate| rate.prior_delivered >= self.next);
        if begins {
            self.count += 1;
            self.restart(ack.delivered);
        }
        begins
    }

    /// The current round lasts from now until a packet is acknowledged that leaves from now on.
    pub(super) fn restart(&mut self, delivered: u64) {
        self.next = delivered;
    }

    /// Rounds begun.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}
