//! The cycle of probing: for more bandwidth, and for the round trip without a queue.

use std::time::{Duration, Instant};

use super::{BETA, Bbr, Feedback, Growth, LastProbe, Phase, loss};
use crate::congestion::{AckSample, MOST_BYTES, RateSample, scale};

/// Rounds after which a flow of Reno would have probed: BBR waits no longer.
const RENO_ROUNDS: u64 = 63;

/// Rounds without congestion after which what lowered the bounds is over.
const OVER_ROUNDS: u32 = 3;

const PROBE_WAIT: Duration = Duration::from_secs(2);
const PROBE_WAIT_MORE: Duration = Duration::from_secs(1);
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);

impl Bbr {
    pub(super) fn update_cycle(&mut self, ack: &AckSample<'_>, rate: &RateSample, sample: u64) {
        if !self.filled {
            return;
        }
        self.adapt_high(ack, rate);
        let phase = self.phase;
        match phase {
            Phase::Down | Phase::Cruise if self.is_time_to_probe(ack.now) => self.start_refill(),
            Phase::Down
                if ack.in_flight <= self.in_flight_with_headroom()
                    && ack.in_flight <= self.in_flight(100) =>
            {
                self.phase = Phase::Cruise;
                self.rounds_in_phase = 0;
            }
            Phase::Refill if self.round_start => {
                self.judging = true;
                self.start_up(ack.now, sample);
            }
            Phase::Up if self.is_time_to_go_down(ack, sample) => {
                if self.last_probe == LastProbe::TooHigh {
                    self.last_probe = LastProbe::Fine;
                }
                self.start_down(ack.now);
            }
            _ => {}
        }
    }

    /// Raises the bound on what is in flight while nothing speaks against it.
    fn adapt_high(&mut self, ack: &AckSample<'_>, rate: &RateSample) {
        if self.round_start {
            match self.feedback {
                Feedback::Starting => self.feedback = Feedback::Probing,
                Feedback::Stopping => {
                    self.feedback = Feedback::None;
                    self.judging = false;
                    if self.phase.is_probe_bandwidth() && !rate.app_limited {
                        self.bandwidth.advance();
                    }
                    if self.phase.is_probe_bandwidth() && self.last_probe == LastProbe::Careful {
                        // As much as was too much in the last probe is none now: it may stay there for a round.
                        self.start_refill();
                        return;
                    }
                }
                Feedback::None | Feedback::Probing => {}
            }
        }
        if self.in_flight_too_high(rate.lost, rate.in_flight_at_send) || (self.judging && ack.ecn_ce > 0) {
            if self.judging {
                self.too_high(ack.now, rate.in_flight_at_send, rate.app_limited);
            }
            return;
        }
        let Some(high) = self.bounds.in_flight_high else { return };
        let mut high = high.max(rate.in_flight_at_send);
        if self.phase == Phase::Up && self.is_window_full() && self.window >= high {
            // One packet per window acknowledged, then two, four, ..: careful first, then fast.
            self.raise_credit += u128::from(ack.acked) * u128::from(self.mtu << self.raise_rounds);
            high = high
                .saturating_add(
                    u64::try_from(self.raise_credit / u128::from(self.window.max(1))).unwrap_or(MOST_BYTES),
                )
                .min(MOST_BYTES);
            self.raise_credit %= u128::from(self.window.max(1));
            if self.round_start {
                self.raise_rounds = (self.raise_rounds + 1).min(20);
            }
        }
        self.bounds.in_flight_high = Some(high);
    }

    fn is_window_full(&self) -> bool {
        self.window_full[0] || self.window_full[1]
    }

    pub(super) fn too_high(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        self.judging = false;
        self.last_probe = LastProbe::TooHigh;
        if !app_limited {
            self.remember();
            let target = self.product(self.rate(), 100).min(self.window);
            self.bounds.in_flight_high = Some(
                in_flight.max(scale(target, BETA, 100)).clamp(self.least(), MOST_BYTES.max(self.least())),
            );
        }
        if self.phase == Phase::Up {
            self.left_by_loss = Some(Phase::Up);
            self.start_down(now);
        }
    }

    fn is_time_to_probe(&self, now: Instant) -> bool {
        let packets = self.product(self.rate(), 100).min(self.window) / self.mtu;
        // What lowered the bounds was no probe, and is over.
        let over = self.bounds.bandwidth_low.is_some()
            && self.last_probe != LastProbe::TooHigh
            && self.rounds_since_loss >= OVER_ROUNDS
            && self.losses.found_no_queue();
        over || now.saturating_duration_since(self.cycle_began) >= self.probe_wait
            || self.rounds_since_probe >= packets.clamp(1, RENO_ROUNDS)
    }

    fn is_time_to_go_down(&mut self, ack: &AckSample<'_>, sample: u64) -> bool {
        // After a probe that lost too much the next one ends when it has as much in flight, before it may lose.
        let risky = |high: u64| ack.in_flight.saturating_add(2 * self.mtu) >= high;
        if self.last_probe == LastProbe::TooHigh && self.bounds.in_flight_high.is_some_and(risky) {
            self.last_probe = LastProbe::Careful;
            return true;
        }
        if self.is_window_full() && self.bounds.in_flight_high.is_some_and(|high| self.window >= high) {
            // The bound holds it back, not the path: whether the path is full is not known yet.
            self.growth = Growth { base: sample.max(self.growth.base), ..Growth::default() };
            return false;
        }
        self.growth.full
            || (self.rounds_in_phase >= 1
                && self.made_queue(ack)
                && ack.prior_in_flight >= self.product(self.bandwidth.max(), 125))
    }

    /// Whether this probe made the queue longer by a quarter of the round trip.
    fn made_queue(&self, ack: &AckSample<'_>) -> bool {
        match (self.min_rtt.get(), ack.rate, self.probe_base) {
            (Some(min), Some(rate), Some(base)) => {
                rate.rtt > base.saturating_add(min / 4).saturating_add(loss::JITTER)
            }
            _ => false,
        }
    }

    pub(super) fn start_down(&mut self, now: Instant) {
        self.phase = Phase::Down;
        self.rounds_in_phase = 0;
        self.latest_rate = 0;
        self.latest_delivered = 0;
        self.rounds_since_probe = self.random() & 1;
        let share = self.random() >> 44;
        self.probe_wait = PROBE_WAIT + PROBE_WAIT_MORE * (share as u32) / (1 << 20);
        self.cycle_began = now;
        self.feedback = Feedback::Stopping;
        self.rounds.restart(self.delivered);
    }

    pub(super) fn start_refill(&mut self) {
        self.reset_lower_bounds();
        self.phase = Phase::Refill;
        self.rounds_in_phase = 0;
        self.raise_rounds = 0;
        self.raise_credit = 0;
        if self.last_probe == LastProbe::Careful {
            self.last_probe = LastProbe::Fine;
        }
        self.feedback = Feedback::None;
        self.rounds.restart(self.delivered);
    }

    fn start_up(&mut self, now: Instant, sample: u64) {
        self.phase = Phase::Up;
        self.probe_base = self.losses.last_floor();
        self.rounds_in_phase = 0;
        self.feedback = Feedback::Starting;
        self.cycle_began = now;
        self.growth = Growth { base: sample, ..Growth::default() };
        self.rounds.restart(self.delivered);
    }

    /// SplitMix64: enough to keep flows apart.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    // --- the round trip without a queue ---

    pub(super) fn check_probe_rtt(&mut self, ack: &AckSample<'_>, expired: bool) {
        match self.phase {
            Phase::ProbeRtt { until, round_done } => self.on_probe_rtt(ack, until, round_done),
            _ if expired && !self.idle_restart => {
                self.phase = Phase::ProbeRtt { until: None, round_done: false };
                self.rounds_in_phase = 0;
                self.prior_window = self.window;
                self.feedback = Feedback::Stopping;
                self.judging = false;
                self.rounds.restart(self.delivered);
            }
            _ => {}
        }
        self.idle_restart = false;
    }

    fn on_probe_rtt(&mut self, ack: &AckSample<'_>, until: Option<Instant>, round_done: bool) {
        let Some(end) = until else {
            if ack.in_flight <= self.probe_rtt_window() {
                self.phase = Phase::ProbeRtt { until: Some(ack.now + PROBE_RTT_TIME), round_done: false };
                self.rounds.restart(self.delivered);
            }
            return;
        };
        let round_done = round_done || self.round_start;
        self.phase = Phase::ProbeRtt { until, round_done };
        if round_done && ack.now >= end {
            self.end_probe_rtt(ack.now);
        }
    }

    pub(super) fn end_probe_rtt(&mut self, now: Instant) {
        self.min_rtt.probed(now);
        self.window = self.window.max(self.prior_window);
        self.reset_lower_bounds();
        if self.filled {
            self.start_down(now);
            self.phase = Phase::Cruise;
        } else {
            self.phase = Phase::Startup;
        }
    }

    pub(super) fn probe_rtt_window(&self) -> u64 {
        self.product(self.rate(), Phase::ProbeRtt { until: None, round_done: false }.window_gain())
            .max(self.least())
    }
}
