//! HyStart++ (RFC 9406): leaves slow start when round trips become longer, before packets are lost.

use std::time::Duration;

use super::{AckSample, rounds::Rounds};

/// Measurements that a round needs before it is judged.
const SAMPLES: u32 = 8;

/// Growth is this much slower while it is tried out whether the path is full.
const CAREFUL_DIVISOR: u64 = 4;

/// Rounds for which that is tried.
const CAREFUL_ROUNDS: u32 = 5;

const LEAST_RISE: Duration = Duration::from_millis(4);
const MOST_RISE: Duration = Duration::from_millis(16);

/// One slow start.
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    rounds: Rounds,
    phase: Phase,
    /// Shortest round trip of the round before this one.
    last: Option<Duration>,
    /// Shortest round trip of this round.
    current: Duration,
    samples: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Fast,
    /// Conservative slow start: since round trips exceeded `baseline`, for `rounds` rounds.
    Careful {
        baseline: Duration,
        rounds: u32,
    },
    Done,
}

impl HyStart {
    pub(super) fn new() -> Self {
        Self { rounds: Rounds::new(), phase: Phase::Fast, last: None, current: Duration::MAX, samples: 0 }
    }

    /// Whether congestion avoidance takes over.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// Bytes by which an acknowledgement lets the window grow.
    pub(super) fn on_ack(&mut self, ack: &AckSample<'_>) -> u64 {
        if self.rounds.on_ack(ack) {
            self.last = (self.samples > 0).then_some(self.current);
            self.current = Duration::MAX;
            self.samples = 0;
            if let Phase::Careful { rounds, .. } = &mut self.phase {
                *rounds += 1;
                if *rounds >= CAREFUL_ROUNDS {
                    self.phase = Phase::Done;
                }
            }
        }
        self.current = self.current.min(ack.rtt.latest());
        self.samples = self.samples.saturating_add(1);
        match (self.phase, self.last) {
            (Phase::Fast, Some(last)) if self.samples >= SAMPLES => {
                let rise = (last / 8).clamp(LEAST_RISE, MOST_RISE);
                if self.current >= last.saturating_add(rise) {
                    self.phase = Phase::Careful { baseline: self.current, rounds: 0 };
                }
            }
            (Phase::Careful { baseline, .. }, _) if self.samples >= SAMPLES && self.current < baseline => {
                self.phase = Phase::Fast;
            }
            _ => {}
        }
        if matches!(self.phase, Phase::Fast) { ack.acked } else { ack.acked / CAREFUL_DIVISOR }
    }
}
