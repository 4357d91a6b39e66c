//! Which losses mean congestion.

use std::time::Duration;

use crate::congestion::{AckSample, RateSample, rounds::Rounds};

/// Round trips this much longer than the shortest are no sign of a queue.
pub(super) const JITTER: Duration = Duration::from_micros(500);

/// One, in the unit of loss rates.
const ONE: u64 = 1 << 16;

/// Loss beyond what the path has without a queue that counts as congestion: 2 %.
const MARGIN: u64 = ONE / 50;

/// Loss without a queue is believed up to here: 16 %. More is congestion whatever it looks like.
const MOST: u64 = ONE * 4 / 25;

/// Packets whose loss at once proves nothing.
const FEW: u64 = 3;

/// Packets whose loss at once is no chance if they are more than [`MOST`].
const MANY: u64 = 10;

/// Calm rounds before one teaches: what was sent while probing is acknowledged by then.
const CALM_ROUNDS: u32 = 2;

/// The loss of a path that is not congested: what is lost in rounds whose packets found no queue while BBR sent no
/// more than the path takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tolerance {
    /// A moving average.
    rate: u64,
    rounds: u64,
}

impl Tolerance {
    /// A policer loses what exceeds its rate, and never makes a queue. So much more than what is known is believed only
    /// of rounds that were `throttled`: sent at the rate at which the ones before arrived.
    fn learn(&mut self, lost: u64, acked: u64, throttled: bool) {
        let Some(rate) = share(lost, lost.saturating_add(acked)) else { return };
        if rate > 2 * self.rate && !throttled {
            return;
        }
        self.rounds = (self.rounds + 1).min(8);
        let rate = rate.min(MOST);
        self.rate = (self.rate * (self.rounds - 1) + rate) / self.rounds;
    }

    /// Whether `lost` of `in_flight` bytes are more than chance explains.
    pub(super) fn is_exceeded(self, lost: u64, in_flight: u64, mtu: u64) -> bool {
        let most = MARGIN + self.rate * 3 / 2;
        // Twice the deviation of a count: in a short flight chance alone is often that far off.
        let expected = u128::from(in_flight) * u128::from(most) / u128::from(ONE * mtu.max(1));
        let chance = if self.rate > MARGIN { 2 * expected.isqrt() as u64 * mtu } else { 0 };
        lost > FEW * mtu && share(lost.saturating_sub(chance), in_flight).is_none_or(|rate| rate > most)
    }
}

fn share(lost: u64, of: u64) -> Option<u64> {
    u64::try_from(u128::from(lost) * u128::from(ONE) / u128::from(of.max(1))).ok().filter(|_| of > 0)
}

/// What one round trip showed.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    lost: u64,
    acked: u64,
    marked: bool,
    rtt: Option<Duration>,
    /// All of them, and how many.
    sum: Duration,
    count: u32,
}

impl Round {
    /// Where round trips differ much within a round, none of them may be without the delay that makes the difference.
    fn floor(&self) -> Option<Duration> {
        let (rtt, mean) = self.rtt.zip(self.mean())?;
        Some(rtt.saturating_sub(2 * mean.saturating_sub(rtt)))
    }

    fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count)
    }
}

/// Losses, marks and round trips per round, and what was learned from them.
#[derive(Clone, Debug)]
pub(super) struct LossRound {
    rounds: Rounds,
    now: Round,
    last: Round,
    calm_rounds: u32,
    /// Rounds for which the rate was bounded.
    throttled_rounds: u32,
    /// Whether the packets of the last round found no queue.
    no_queue: bool,
    pub(super) tolerance: Tolerance,
}

impl LossRound {
    pub(super) fn new() -> Self {
        Self {
            rounds: Rounds::new(),
            now: Round::default(),
            last: Round::default(),
            calm_rounds: 0,
            throttled_rounds: 0,
            no_queue: false,
            tolerance: Tolerance::default(),
        }
    }

    pub(super) fn on_loss(&mut self, lost: u64) {
        self.now.lost = self.now.lost.saturating_add(lost);
    }

    pub(super) fn on_spurious_loss(&mut self, bytes: u64) {
        self.now.lost = self.now.lost.saturating_sub(bytes);
    }

    /// Whether a round ended with this acknowledgement. `calm`: BBR sends no more than the path took at most; `throttled`: no
    /// more than it took of late.
    pub(super) fn on_ack(
        &mut self,
        ack: &AckSample<'_>,
        rate: &RateSample,
        calm: bool,
        throttled: bool,
        min_rtt: Option<Duration>,
    ) -> bool {
        if !calm {
            self.calm_rounds = 0;
        }
        if !throttled {
            self.throttled_rounds = 0;
        }
        let ended = self.rounds.on_ack(ack);
        if ended {
            self.last = std::mem::take(&mut self.now);
            self.no_queue = match (min_rtt, self.last_floor()) {
                (Some(min), Some(rtt)) => rtt <= min.saturating_add(min / 32).saturating_add(JITTER),
                _ => false,
            };
            if self.calm_rounds >= CALM_ROUNDS && self.no_queue && !self.last.marked {
                let throttled = self.throttled_rounds >= CALM_ROUNDS;
                self.tolerance.learn(self.last.lost, self.last.acked, throttled);
            }
            self.throttled_rounds = self.throttled_rounds.saturating_add(1);
            self.calm_rounds = self.calm_rounds.saturating_add(1);
        }
        self.now.acked = self.now.acked.saturating_add(ack.acked);
        self.now.marked |= ack.ecn_ce > 0;
        self.now.sum = self.now.sum.saturating_add(rate.rtt);
        self.now.count += 1;
        self.now.rtt = Some(self.now.rtt.map_or(rate.rtt, |rtt| rtt.min(rate.rtt)));
        ended
    }

    /// Bytes lost in the last round and in this one.
    pub(super) fn lost_now(&self) -> u64 {
        self.last.lost.saturating_add(self.now.lost)
    }

    /// The shortest round trip of the last round.
    pub(super) fn last_rtt(&self) -> Option<Duration> {
        self.last.rtt
    }

    /// That, less what jitter may have added to it.
    pub(super) fn last_floor(&self) -> Option<Duration> {
        self.last.floor()
    }

    /// Whether the packets of the last round found no queue.
    pub(super) fn found_no_queue(&self) -> bool {
        self.no_queue
    }

    /// Whether the mean round trip of the last round tells of a queue.
    pub(super) fn queue_grew(&self, min_rtt: Option<Duration>) -> bool {
        min_rtt.zip(self.last.mean()).is_some_and(|(min, mean)| super::is_queued(min, mean))
    }

    pub(super) fn was_lossless(&self) -> bool {
        self.last.lost == 0
    }

    /// Whether more was lost in the last round than any path is believed to lose without congestion. Where hardly anything
    /// arrived the path was broken, not full.
    pub(super) fn was_flooded(&self, mtu: u64) -> bool {
        let sent = self.last.lost.saturating_add(self.last.acked);
        self.last.lost > MANY * mtu
            && self.last.lost / 4 < self.last.acked
            && share(self.last.lost, sent).is_some_and(|rate| rate > MOST + MARGIN)
    }

    /// Whether the last round showed congestion.
    pub(super) fn was_congested(&self, mtu: u64) -> bool {
        let sent = self.last.lost.saturating_add(self.last.acked);
        self.last.marked || self.tolerance.is_exceeded(self.last.lost, sent, mtu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerance_follows_the_path() {
        let mut tolerance = Tolerance::default();
        assert!(!tolerance.is_exceeded(2, 100, 0));
        assert!(tolerance.is_exceeded(3, 100, 0));
        assert!(!tolerance.is_exceeded(3, 100, 1), "three packets are few");
        for _ in 0..20 {
            tolerance.learn(5, 95, true);
        }
        assert!(!tolerance.is_exceeded(9, 100, 0));
        assert!(tolerance.is_exceeded(10, 100, 0));
        tolerance.learn(50, 50, false);
        assert!(tolerance.is_exceeded(10, 100, 0), "not believed at full rate");
        for _ in 0..100 {
            tolerance.learn(50, 50, true);
        }
        assert!(tolerance.is_exceeded(27, 100, 0), "bounded");
        for _ in 0..100 {
            tolerance.learn(0, 100, false);
        }
        assert!(tolerance.is_exceeded(3, 100, 0));
        tolerance.learn(0, 0, false);
    }
}
