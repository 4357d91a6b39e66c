//! BBR after draft-ietf-ccwg-bbr (version 3): sends at the rate that the path was seen to deliver, keeps in flight what
//! that rate needs, and probes for more now and then. Integers only.
//!
//! It differs from the draft in what losses say. There, more than 2 % of a round trip's packets lost while probing
//! mean a full queue, and any loss otherwise lowers the model for a while: at 5 % of random loss little is left of the
//! rate. Here the loss that the path has *whatever is sent* is learned ([`loss::Tolerance`]), and only what goes
//! beyond it by 2 % counts as congestion. After such a loss the next probe does not wait for its time if nothing more is
//! lost, unless it was a probe that lost so much. A path that became much slower is believed after two round trips
//! instead of after two cycles of probing ([`Bbr::check_slower`]), and a queue that stands while cruising is given way
//! to ([`Bbr::yield_to_queue`]).

mod aggregation;
mod bandwidth;
mod cycle;
mod loss;
mod minimum;

use std::time::{Duration, Instant};

use self::{aggregation::Aggregation, bandwidth::Bandwidth, loss::LossRound, minimum::MinRtt};
use super::{
    AckSample, Control, INITIAL_PACKETS, LossSample, MOST_BYTES, RateSample, rate_of, rounds::Rounds, scale,
    volume,
};

/// Window below which a pipe of delayed acknowledgements stalls.
const LEAST_PACKETS: u64 = 4;

/// Share of the window that remains after congestion, in percent.
const BETA: u64 = 70;

/// Share of the longest safe queue that is left to others while cruising, in percent.
const HEADROOM: u64 = 15;

/// Sent below the estimate, so that no queue stands, in percent.
const MARGIN: u64 = 1;

/// Rounds without growth after which the pipe is full.
const FULL_ROUNDS: u32 = 3;

/// Rounds at less than half of the estimate after which the path is slower.
const SLOWER_ROUNDS: u32 = 2;

/// What remains after a round with a standing queue, and at least, in percent.
const YIELD: u64 = 95;
const YIELD_MOST: u64 = 85;

/// A queue shorter than that is not worth giving anything up for.
const STANDING: Duration = Duration::from_millis(3);

/// Time whose bytes leave in one burst.
const QUANTUM_TIME: Duration = Duration::from_millis(1);
const QUANTUM_MOST: u64 = 512 << 10;

/// What BBR is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Doubles its rate each round.
    Startup,
    /// Takes out the queue that this made; since a round.
    Drain(u64),
    /// Sends a little less than the path takes.
    Down,
    /// Sends what the path takes.
    Cruise,
    /// Fills the pipe for a round before it probes.
    Refill,
    /// Sends a quarter more than the path took so far.
    Up,
    /// Empties the queue to see the round trip without it; `until` is set when it is nearly empty.
    ProbeRtt { until: Option<Instant>, round_done: bool },
}

impl Phase {
    /// Percent of the bandwidth.
    fn pacing_gain(self) -> u64 {
        match self {
            Self::Startup => 277,
            Self::Drain(_) => 50,
            Self::Down => 90,
            Self::Cruise | Self::Refill | Self::ProbeRtt { .. } => 100,
            Self::Up => 125,
        }
    }

    /// Percent of bandwidth times round trip.
    fn window_gain(self) -> u64 {
        match self {
            Self::Up => 225,
            Self::ProbeRtt { .. } => 50,
            _ => 200,
        }
    }

    fn is_probe_bandwidth(self) -> bool {
        matches!(self, Self::Down | Self::Cruise | Self::Refill | Self::Up)
    }

    /// Whether losses are expected to be of its own making, so that they set no lower bounds.
    fn is_probing(self) -> bool {
        matches!(self, Self::Startup | Self::Refill | Self::Up)
    }
}

/// Whether acknowledgements tell of a probe yet, or still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feedback {
    None,
    Starting,
    Probing,
    Stopping,
}

/// What the last probe for bandwidth came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastProbe {
    /// It found what the path takes, or there was none.
    Fine,
    /// It lost too much.
    TooHigh,
    /// For the one before had lost too much, it ended before it could.
    Careful,
}

/// Growth of the delivery rate since the last round in which it grew.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    base: u64,
    rounds_without: u32,
    /// The pipe is full now.
    full: bool,
}

/// Bounds learned from congestion: `high` holds until a probe finds more, the others until the next probe.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    in_flight_high: Option<u64>,
    in_flight_low: Option<u64>,
    bandwidth_low: Option<u64>,
}

/// Model of a path, and where in its cycle of probing a flow is.
#[derive(Clone, Debug)]
pub(crate) struct Bbr {
    mtu: u64,
    random: u64,
    phase: Phase,
    rounds: Rounds,
    round_start: bool,
    /// Bytes acknowledged up to now.
    delivered: u64,
    /// The pipe was full once: startup is over.
    filled: bool,
    growth: Growth,
    bandwidth: Bandwidth,
    min_rtt: MinRtt,
    aggregation: Aggregation,
    bounds: Bounds,
    losses: LossRound,
    /// Bounds before the present losses, and the bytes of these.
    undo: Option<(Bounds, u64)>,
    /// Highest delivery rate and most bytes delivered in one round trip, in the current loss round.
    latest_rate: u64,
    latest_delivered: u64,
    slower_rounds: u32,
    feedback: Feedback,
    /// Whether losses of packets sent while probing may still set `in_flight_high`.
    judging: bool,
    last_probe: LastProbe,
    /// Rounds since one with congestion.
    rounds_since_loss: u32,
    /// The probing that the present losses ended.
    left_by_loss: Option<Phase>,
    cycle_began: Instant,
    probe_wait: Duration,
    rounds_since_probe: u64,
    rounds_in_phase: u64,
    /// Shortest round trip of the round before this probe.
    probe_base: Option<Duration>,
    /// Rounds of raising `in_flight_high` in this probe.
    raise_rounds: u32,
    raise_credit: u128,
    /// Whether the window was full in this round, and in the one before.
    window_full: [bool; 2],
    idle_restart: bool,
    window: u64,
    prior_window: u64,
    pacing_rate: Option<u64>,
}

impl Bbr {
    /// `seed` decides when it probes, so that flows do not all probe at once.
    pub(crate) fn new(now: Instant, mtu: u16, seed: u64) -> Self {
        let mtu = u64::from(mtu.max(1));
        Self {
            mtu,
            random: seed,
            phase: Phase::Startup,
            rounds: Rounds::new(),
            round_start: false,
            delivered: 0,
            filled: false,
            growth: Growth::default(),
            bandwidth: Bandwidth::default(),
            min_rtt: MinRtt::new(now),
            aggregation: Aggregation::new(now),
            bounds: Bounds::default(),
            losses: LossRound::new(),
            undo: None,
            latest_rate: 0,
            latest_delivered: 0,
            slower_rounds: 0,
            feedback: Feedback::None,
            judging: false,
            last_probe: LastProbe::Fine,
            rounds_since_loss: 0,
            left_by_loss: None,
            cycle_began: now,
            probe_wait: Duration::ZERO,
            rounds_since_probe: 0,
            rounds_in_phase: 0,
            probe_base: None,
            raise_rounds: 0,
            raise_credit: 0,
            window_full: [false; 2],
            idle_restart: false,
            window: INITIAL_PACKETS * mtu,
            prior_window: 0,
            pacing_rate: None,
        }
    }

    // --- quantities of the model ---

    fn least(&self) -> u64 {
        LEAST_PACKETS * self.mtu
    }

    /// Bytes per second that it sends by: the estimate within its bound.
    fn rate(&self) -> u64 {
        self.bandwidth.max().min(self.bounds.bandwidth_low.unwrap_or(u64::MAX))
    }

    /// Bytes in flight that a rate needs, times `gain` percent.
    fn product(&self, rate: u64, gain: u64) -> u64 {
        match self.min_rtt.get() {
            Some(rtt) => scale(volume(rate, rtt), gain, 100),
            None => INITIAL_PACKETS * self.mtu,
        }
    }

    /// Room for bursts of the sender's own.
    fn with_quantum(&self, in_flight: u64) -> u64 {
        let quantum = volume(self.rate(), QUANTUM_TIME).clamp(2 * self.mtu, QUANTUM_MOST.max(2 * self.mtu));
        let room = if self.phase == Phase::Up { 2 * self.mtu } else { 0 };
        in_flight.max(3 * quantum).max(self.least()).saturating_add(room)
    }

    /// What fills the path at the estimated bandwidth, times `gain` percent.
    fn in_flight(&self, gain: u64) -> u64 {
        self.with_quantum(self.product(self.bandwidth.max(), gain))
    }

    fn in_flight_with_headroom(&self) -> u64 {
        match self.bounds.in_flight_high {
            Some(high) => high.saturating_sub(scale(high, HEADROOM, 100).max(self.mtu)).max(self.least()),
            None => u64::MAX,
        }
    }

    /// Whether a queue of more than a quarter of the round trip stood for the whole last round.
    fn queue_stands(&self) -> bool {
        match (self.min_rtt.get(), self.losses.last_rtt()) {
            (Some(min), Some(last)) => is_queued(min, last),
            _ => false,
        }
    }

    fn in_flight_too_high(&self, lost: u64, in_flight: u64) -> bool {
        self.losses.tolerance.is_exceeded(lost, in_flight, self.mtu)
    }

    // --- acknowledgements ---

    fn update_model(&mut self, ack: &AckSample<'_>, rate: &RateSample) {
        self.delivered = ack.delivered;
        self.round_start = self.rounds.on_ack(ack);
        if self.round_start {
            self.rounds_since_probe += 1;
            self.rounds_in_phase += 1;
            self.window_full = [false, self.window_full[0]];
        }
        let sample = rate.rate().unwrap_or(0);
        self.latest_rate = self.latest_rate.max(sample);
        self.latest_delivered = self.latest_delivered.max(rate.delivered);
        if sample >= self.bandwidth.max() || !rate.app_limited {
            self.bandwidth.update(sample);
        }
        let calm = matches!(self.phase, Phase::Down | Phase::Cruise);
        let loss_round =
            self.losses.on_ack(ack, rate, calm, self.bounds.bandwidth_low.is_some(), self.min_rtt.get());
        if loss_round {
            if self.losses.was_lossless() {
                self.undo = None;
                self.left_by_loss = None;
            }
            self.check_slower(ack.now, rate);
            let congested = self.losses.was_congested(self.mtu);
            self.rounds_since_loss = if congested { 0 } else { self.rounds_since_loss.saturating_add(1) };
            if congested && !self.phase.is_probing() {
                self.lower_bounds();
            } else if self.phase == Phase::Cruise && self.rounds_in_phase >= 2 {
                self.yield_to_queue();
            }
        }
        self.aggregation.on_ack(ack.now, ack.acked, self.rate(), self.window, self.round_start);
        self.check_filled(rate, sample);
        self.check_startup_done(loss_round, rate.app_limited);
        if matches!(self.phase, Phase::Drain(since)
            if ack.in_flight <= self.in_flight(100) || self.rounds.count() > since + 3)
        {
            self.start_down(ack.now);
        }
        self.update_cycle(ack, rate, sample);
        let probe = self.min_rtt.update(ack.now, rate.rtt);
        self.check_probe_rtt(ack, probe);
        if loss_round {
            self.latest_rate = sample;
            self.latest_delivered = rate.delivered;
        }
    }

    /// Congestion while not probing: down to what is delivered, by three tenths at most per round.
    fn lower_bounds(&mut self) {
        self.remember();
        let rate = self.bounds.bandwidth_low.unwrap_or(self.bandwidth.max());
        let in_flight = self.bounds.in_flight_low.unwrap_or(self.window);
        self.bounds.bandwidth_low = Some(self.latest_rate.max(scale(rate, BETA, 100)));
        self.bounds.in_flight_low = Some(self.latest_delivered.max(scale(in_flight, BETA, 100)));
    }

    /// A queue that stands for a whole round while cruising belongs to flows that together took the path for wider
    /// than it is. All give up a share; the next probes give it back, and more of it to the smaller ones, since these
    /// make the queue grow more slowly. This is what lets flows of unequal rates converge.
    fn yield_to_queue(&mut self) {
        let Some((min, last)) = self.min_rtt.get().zip(self.losses.last_floor()) else { return };
        if last > min.saturating_add(STANDING.max(min / 10)) {
            let present = self.rate();
            let floor = scale(self.bandwidth.max(), YIELD_MOST, 100);
            self.bounds.bandwidth_low = Some(scale(present, YIELD, 100).max(floor).min(present));
        }
    }

    fn reset_lower_bounds(&mut self) {
        self.bounds.bandwidth_low = None;
        self.bounds.in_flight_low = None;
    }

    fn remember(&mut self) {
        self.undo.get_or_insert((self.bounds, self.losses.lost_now()));
    }

    /// The losses were none: back to the probing that they ended.
    fn resume(&mut self) {
        match (self.left_by_loss.take(), self.phase) {
            (Some(Phase::Startup), Phase::Drain(_) | Phase::Down | Phase::Cruise) => {
                self.filled = false;
                self.growth = Growth::default();
                self.phase = Phase::Startup;
            }
            (Some(Phase::Up), Phase::Down | Phase::Cruise) => self.start_refill(),
            _ => {}
        }
    }

    /// A path that delivers less than half of the estimate while a queue stands is slower than it was; waiting until
    /// the estimate is forgotten would keep that queue for seconds.
    fn check_slower(&mut self, now: Instant, rate: &RateSample) {
        let slower = self.filled
            && !rate.app_limited
            && self.phase.is_probe_bandwidth()
            && self.latest_rate < self.bandwidth.max() / 2
            && self.queue_stands();
        self.slower_rounds = if slower { self.slower_rounds + 1 } else { 0 };
        if self.slower_rounds >= SLOWER_ROUNDS {
            self.slower_rounds = 0;
            self.bandwidth.reset(self.latest_rate);
            self.reset_lower_bounds();
            self.bounds.in_flight_high = None;
            self.phase = Phase::Drain(self.rounds.count());
            self.judging = false;
            self.cycle_began = now;
        }
    }

    fn check_filled(&mut self, rate: &RateSample, sample: u64) {
        // What a program limits says little, unless a queue stands all the same: then there was more than the path takes.
        if self.growth.full || !self.round_start || (rate.app_limited && !self.queue_stands()) {
            return;
        }
        if sample >= scale(self.growth.base, 5, 4) {
            self.growth = Growth { base: sample, ..Growth::default() };
            return;
        }
        self.growth.rounds_without += 1;
        self.growth.full = self.growth.rounds_without >= FULL_ROUNDS;
        self.filled |= self.growth.full;
    }

    fn check_startup_done(&mut self, loss_round: bool, limited: bool) {
        if self.phase != Phase::Startup {
            return;
        }
        // Losses end it only together with another sign of a full pipe: on a lossy path they mean nothing. Where windows
        // limit, so that growth tells nothing, very many are a sign.
        let pressed = self.growth.rounds_without > 1
            || (limited && self.losses.was_flooded(self.mtu))
            || self.losses.queue_grew(self.min_rtt.get());
        if loss_round && pressed && self.losses.was_congested(self.mtu) {
            self.filled = true;
            self.growth.full = true;
            self.remember();
            self.left_by_loss = Some(Phase::Startup);
            self.bounds.in_flight_high =
                Some(self.product(self.bandwidth.max(), 100).max(self.latest_delivered).max(self.least()));
        }
        if self.filled {
            self.phase = Phase::Drain(self.rounds.count());
        }
    }

    // --- what follows from the model ---

    /// Before a rate was measured: the window in a round trip, at the gain of the phase.
    fn set_first_rate(&mut self, rtt: Duration) {
        if self.pacing_rate.is_none() {
            self.pacing_rate = rate_of(scale(self.window, self.phase.pacing_gain(), 100), rtt);
        }
    }

    fn set_pacing_rate(&mut self, gain: u64) {
        let rate = scale(self.rate(), gain * (100 - MARGIN), 10_000).max(1);
        if self.filled || self.pacing_rate.is_none_or(|present| rate > present) {
            self.pacing_rate = Some(rate);
        }
    }

    fn set_window(&mut self, acked: u64) {
        let wanted =
            self.product(self.rate(), self.phase.window_gain()).saturating_add(self.aggregation.extra());
        let wanted = self.with_quantum(wanted);
        if self.filled {
            self.window = self.window.saturating_add(acked).min(wanted);
        } else if self.window < wanted || self.delivered < INITIAL_PACKETS * self.mtu {
            self.window = self.window.saturating_add(acked);
        }
        self.bound_window();
    }

    fn bound_window(&mut self) {
        let high = match self.phase {
            Phase::ProbeRtt { .. } => self.in_flight_with_headroom().min(self.probe_rtt_window()),
            Phase::Cruise => self.in_flight_with_headroom(),
            Phase::Down | Phase::Refill | Phase::Up => self.bounds.in_flight_high.unwrap_or(u64::MAX),
            Phase::Startup | Phase::Drain(_) => u64::MAX,
        };
        let low = self.bounds.in_flight_low.unwrap_or(u64::MAX);
        self.window = self.window.min(high).min(low).min(MOST_BYTES).max(self.least());
    }
}

/// Whether a round trip is longer than the shortest by more than a quarter.
fn is_queued(min: Duration, rtt: Duration) -> bool {
    rtt > min.saturating_add(min / 4).saturating_add(loss::JITTER)
}

impl Control for Bbr {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64, app_limited: bool) {
        if in_flight.saturating_add(self.mtu) > self.window {
            self.window_full[0] = true;
        }
        if in_flight <= bytes && app_limited {
            // After a pause: no burst of what was "owed" in it, and no probe of the round trip that the pause was.
            self.idle_restart = true;
            self.aggregation.restart(now);
            match self.phase {
                phase if phase.is_probe_bandwidth() => self.set_pacing_rate(100),
                Phase::ProbeRtt { until: Some(end), .. } if now >= end => {
                    self.end_probe_rtt(now);
                }
                _ => {}
            }
        }
    }

    fn on_ack(&mut self, ack: &AckSample<'_>) {
        let Some(rate) = ack.rate else { return };
        self.set_first_rate(rate.rtt);
        self.update_model(ack, &rate);
        self.set_pacing_rate(self.phase.pacing_gain());
        self.set_window(ack.acked);
    }

    fn on_loss(&mut self, loss: &LossSample) {
        self.losses.on_loss(loss.lost);
        if let Some((_, bytes)) = &mut self.undo {
            *bytes = bytes.saturating_add(loss.lost);
        }
        if self.judging && self.in_flight_too_high(loss.lost_since_sent, loss.in_flight_at_send) {
            self.too_high(loss.now, loss.in_flight_at_send, loss.app_limited);
        }
        if loss.persistent {
            // The model stays; the window opens again as acknowledgements come.
            self.window = loss.in_flight.saturating_add(self.mtu).min(self.window);
        }
        self.bound_window();
    }

    fn on_spurious_loss(&mut self, _now: Instant, bytes: u64, _sent: Instant) {
        self.losses.on_spurious_loss(bytes);
        let Some((before, lost)) = &mut self.undo else { return };
        *lost = lost.saturating_sub(bytes);
        if *lost == 0 {
            let wider = |now: Option<u64>, before: Option<u64>| Some(now?.max(before?));
            self.bounds = Bounds {
                in_flight_high: wider(self.bounds.in_flight_high, before.in_flight_high),
                in_flight_low: wider(self.bounds.in_flight_low, before.in_flight_low),
                bandwidth_low: wider(self.bounds.bandwidth_low, before.bandwidth_low),
            };
            self.undo = None;
            self.resume();
        }
    }

    fn on_first_rtt(&mut self, rtt: Duration) {
        self.set_first_rate(rtt);
    }

    fn on_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu.max(1));
        self.window = self.window.max(self.least());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<u64> {
        self.pacing_rate
    }
}
