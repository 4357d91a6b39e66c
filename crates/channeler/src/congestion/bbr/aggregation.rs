//! Acknowledgements that come in lumps: how much more is acknowledged at once than the rate explains.

use std::time::Instant;

use crate::congestion::volume;

/// Rounds after which half of what is remembered is forgotten.
const HALF_WINDOW: u32 = 5;

/// The most bytes acknowledged beyond expectation, of five to ten rounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aggregation {
    began: Instant,
    acked: u64,
    extra: [u64; 2],
    rounds: u32,
}

impl Aggregation {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, acked: 0, extra: [0; 2], rounds: 0 }
    }

    pub(super) fn restart(&mut self, now: Instant) {
        self.began = now;
        self.acked = 0;
    }

    pub(super) fn on_ack(&mut self, now: Instant, acked: u64, rate: u64, window: u64, round_start: bool) {
        if round_start {
            self.rounds += 1;
            if self.rounds >= HALF_WINDOW {
                self.rounds = 0;
                self.extra = [0, self.extra[0]];
            }
        }
        let mut expected = volume(rate, now.saturating_duration_since(self.began));
        if self.acked <= expected {
            self.restart(now);
            expected = 0;
        }
        self.acked = self.acked.saturating_add(acked);
        self.extra[0] = self.extra[0].max(self.acked.saturating_sub(expected).min(window));
    }

    pub(super) fn extra(&self) -> u64 {
        self.extra[0].max(self.extra[1])
    }
}
