//! LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus, with the structure of RFC 6817): a window for the background, which
//! takes what others leave.
//!
//! The draft's target of 60 ms of queue is what loss-based neighbours on deep buffers are told apart by. BBR keeps far
//! shorter queues, so the target here is a fraction of the path's own round trip, and 60 ms only its ceiling: a flow
//! that is content with any queue below 60 ms takes its share from a neighbour that never makes one.

use std::time::{Duration, Instant};

use super::{
    AckSample, Control, LEAST_PACKETS, LossSample, MOST_BYTES, RttEstimator, nanos, rate_of, rounds::Rounds,
    scale,
};

/// Queueing delay aimed at: an eighth of the round trip without a queue, within bounds.
const TARGET_DIVISOR: u32 = 8;
const LEAST_TARGET: Duration = Duration::from_millis(3);
const MOST_TARGET: Duration = Duration::from_millis(60);

/// Share of the target at which the first slow start ends.
const LEAVE: (u32, u32) = (3, 4);

/// Growth is slower than Reno's by at most this factor.
const SLOWEST: u64 = 16;

/// Growth in a round is at most this part of the window, however long the path was free.
const FASTEST: u64 = 8;
const MOST_DOUBLINGS: u32 = 20;

/// After a loss growth stays slow for so long.
const WARY: Duration = Duration::from_secs(10);

/// How long the shortest round trip is remembered: ten minutes in ten parts (RFC 6817, 3.4.2).
const HISTORY: usize = 10;
const HISTORY_PART: Duration = Duration::from_mins(1);

/// Of the last so many measurements the shortest counts: jitter is no queue.
const FILTER: usize = 4;

/// Rounds from the end of slow start to the first slowdown, and for which a slowdown holds.
const SLOWDOWN_ROUNDS: u64 = 2;

/// From the end of a slowdown to the next one it takes nine times as long as it took: a tenth of the rate at most.
const SLOWDOWN_SPACING: u32 = 9;

/// A window that gives way to everything else.
#[derive(Clone, Debug)]
pub(crate) struct Ledbat {
    mtu: u64,
    window: u64,
    /// Where slow start ends.
    threshold: u64,
    phase: Phase,
    rounds: Rounds,
    base: Base,
    recent: [Duration; FILTER],
    next_recent: usize,
    /// Growth earned that is no whole byte yet, times the window.
    credit: u128,
    /// The most that this round may still take from the window.
    decrease_left: u64,
    /// Rounds since a queue was seen.
    free_rounds: u32,
    smoothed: Option<Duration>,
    recovery: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until the queue shows, for the first time.
    SlowStart,
    /// Follows the target until it is time for a slowdown.
    Steady { slowdown: Slowdown },
    /// Sends almost nothing, so that the queue becomes empty and the round trip without it can be seen.
    Slow { began: Instant, until_round: u64 },
    /// Slow start back to where it was.
    Return { began: Instant },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slowdown {
    AtRound(u64),
    At(Instant),
}

/// The shortest round trip of each of the last ten minutes.
#[derive(Clone, Debug)]
struct Base {
    minutes: [Duration; HISTORY],
    at: usize,
    began: Instant,
}

impl Base {
    fn update(&mut self, now: Instant, rtt: Duration) {
        let parts = nanos(now.saturating_duration_since(self.began)) / nanos(HISTORY_PART);
        for _ in 0..parts.min(HISTORY as u64) {
            self.at = (self.at + 1) % HISTORY;
            self.minutes[self.at] = Duration::MAX;
        }
        if parts > 0 {
            self.began = now;
        }
        self.minutes[self.at] = self.minutes[self.at].min(rtt);
    }

    fn get(&self) -> Duration {
        self.minutes.iter().copied().min().unwrap_or(Duration::MAX)
    }
}

impl Ledbat {
    pub(crate) fn new(now: Instant, mtu: u16) -> Self {
        let mtu = u64::from(mtu.max(1));
        Self {
            mtu,
            window: LEAST_PACKETS * mtu,
            threshold: u64::MAX,
            phase: Phase::SlowStart,
            rounds: Rounds::new(),
            base: Base { minutes: [Duration::MAX; HISTORY], at: 0, began: now },
            recent: [Duration::MAX; FILTER],
            next_recent: 0,
            credit: 0,
            decrease_left: u64::MAX,
            free_rounds: 0,
            smoothed: None,
            recovery: None,
        }
    }

    fn least(&self) -> u64 {
        LEAST_PACKETS * self.mtu
    }

    fn target(&self) -> Duration {
        (self.base.get() / TARGET_DIVISOR).clamp(LEAST_TARGET, MOST_TARGET)
    }

    /// How long packets wait now.
    fn queueing(&self) -> Duration {
        self.recent.iter().copied().min().unwrap_or_default().saturating_sub(self.base.get())
    }

    /// Growth is this much slower than Reno's: the shorter the round trip, the slower.
    fn slowness(&self) -> u64 {
        let base = nanos(self.base.get()).max(1);
        (2 * nanos(MOST_TARGET)).div_ceil(base).clamp(1, SLOWEST)
    }

    fn observe(&mut self, now: Instant, rtt: &RttEstimator) {
        self.smoothed = rtt.is_measured().then(|| rtt.smoothed());
        self.base.update(now, rtt.undelayed());
        self.recent[self.next_recent] = rtt.undelayed();
        self.next_recent = (self.next_recent + 1) % FILTER;
    }

    fn slow_down(&mut self, now: Instant) {
        self.threshold = self.window.max(self.least());
        self.window = self.least();
        self.phase = Phase::Slow { began: now, until_round: self.rounds.count() + SLOWDOWN_ROUNDS };
    }

    /// Reno's growth divided by [`slowness`](Self::slowness), or a decrease in proportion to the excess. Every two
    /// rounds without a queue double the growth: the path has become free, and a delay will tell when it is no more.
    fn steady(&mut self, acked: u64, limited: bool) {
        let (delay, target) = (nanos(self.queueing()), nanos(self.target()).max(1));
        if delay > target / 2 {
            self.free_rounds = 0;
        }
        if delay <= target {
            if !limited {
                let fastest = (self.window / FASTEST).max(self.mtu);
                let growth = ((self.mtu << (self.free_rounds / 2)) / self.slowness()).min(fastest);
                self.credit += u128::from(acked) * u128::from(growth);
                let growth = self.credit / u128::from(self.window.max(1));
                self.window = self.window.saturating_add(u64::try_from(growth).unwrap_or(MOST_BYTES));
                self.credit %= u128::from(self.window.max(1));
            }
            return;
        }
        let decrease = scale(acked, (delay - target).min(target), target).min(self.decrease_left);
        self.decrease_left -= decrease;
        self.window = self.window.saturating_sub(decrease);
    }

    fn congested(&mut self, now: Instant, sent: Instant) {
        if self.recovery.is_some_and(|since| sent <= since) {
            return;
        }
        self.recovery = Some(now);
        self.free_rounds = 0;
        self.window = (self.window / 2).max(self.least());
        self.threshold = self.window;
        if self.phase == Phase::SlowStart {
            self.leave_slow_start();
        }
    }

    fn leave_slow_start(&mut self) {
        self.phase = Phase::Steady { slowdown: Slowdown::AtRound(self.rounds.count() + SLOWDOWN_ROUNDS) };
    }

    fn bound(&mut self) {
        self.window = self.window.clamp(self.least(), MOST_BYTES.max(self.least()));
    }
}

impl Control for Ledbat {
    fn on_sent(&mut self, _now: Instant, _bytes: u64, _in_flight: u64, _app_limited: bool) {}

    fn on_ack(&mut self, ack: &AckSample<'_>) {
        self.observe(ack.now, ack.rtt);
        if self.rounds.on_ack(ack) {
            self.decrease_left = self.window / 2;
            // A loss without a delay is a neighbour on a buffer too short to see: no haste for a while.
            if self.recovery.is_none_or(|since| ack.now.saturating_duration_since(since) >= WARY) {
                self.free_rounds = (self.free_rounds + 1).min(2 * MOST_DOUBLINGS);
            }
        }
        if ack.ecn_ce > 0 {
            self.congested(ack.now, ack.largest_sent);
        }
        let limited = ack.rate.is_some_and(|rate| rate.app_limited)
            || self.window > ack.prior_in_flight.saturating_mul(2);
        match self.phase {
            Phase::SlowStart => {
                if self.queueing() > self.target() * LEAVE.0 / LEAVE.1 {
                    self.leave_slow_start();
                } else if !limited {
                    self.window = self.window.saturating_add(ack.acked / self.slowness().min(2));
                }
            }
            Phase::Steady { slowdown } => {
                let due = match slowdown {
                    Slowdown::AtRound(round) => self.rounds.count() >= round,
                    Slowdown::At(at) => ack.now >= at,
                };
                if due {
                    self.slow_down(ack.now);
                } else if self.recovery.is_none_or(|since| ack.largest_sent > since) {
                    self.steady(ack.acked, limited);
                }
            }
            Phase::Slow { began, until_round } => {
                if self.rounds.count() >= until_round {
                    // What was measured before tells of the queue that is gone.
                    self.recent = [ack.rtt.undelayed(); FILTER];
                    self.phase = Phase::Return { began };
                }
            }
            Phase::Return { began } => {
                if self.window >= self.threshold || self.queueing() > self.target() {
                    let took = ack.now.saturating_duration_since(began);
                    let next = took.saturating_mul(SLOWDOWN_SPACING).min(HISTORY_PART);
                    self.phase = Phase::Steady { slowdown: Slowdown::At(ack.now + next) };
                } else {
                    self.window = self.window.saturating_add(ack.acked).min(self.threshold);
                }
            }
        }
        self.bound();
    }

    fn on_loss(&mut self, loss: &LossSample) {
        self.congested(loss.now, loss.largest_sent);
        if loss.persistent {
            self.window = self.least();
        }
        self.bound();
    }

    fn on_spurious_loss(&mut self, _now: Instant, _bytes: u64, _sent: Instant) {}

    fn on_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu.max(1));
        self.bound();
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(scale(rate_of(self.window, self.smoothed?)?, 5, 4).max(1))
    }
}
