//! CUBIC (RFC 9438) with HyStart++ (RFC 9406). Integers only: every host computes the same windows.

use std::time::{Duration, Instant};

use super::{
    AckSample, Control, INITIAL_PACKETS, LEAST_PACKETS, LossSample, MOST_BYTES, hystart::HyStart, rate_of,
    scale,
};

/// Share of the window that a loss leaves: 0.7.
const BETA: (u64, u64) = (7, 10);

/// Window that grows like Reno's with this beta, in segments per round trip: 3 (1 - beta) / (1 + beta).
const ALPHA: (u64, u64) = (9, 17);

/// Longest distance from the plateau that the cubic function is evaluated at, in microseconds: nearly three hours.
const FAR: i128 = 10_000_000_000;

/// The window: doubled per round trip until the path is full, then a cubic function of the time since the last loss.
#[derive(Clone, Debug)]
pub(crate) struct Cubic {
    mtu: u64,
    shape: Shape,
    slow_start: HyStart,
    smoothed: Option<Duration>,
    /// Packets sent up to here belong to the last congestion event.
    recovery: Option<Instant>,
    /// What to return to if all losses of the last event turn out to be none, and their bytes.
    undo: Option<(Shape, u64)>,
    /// Since when the application wrote less than the window.
    limited: Option<Instant>,
}

/// All that a congestion event changes.
#[derive(Clone, Copy, Debug)]
struct Shape {
    window: u64,
    threshold: u64,
    /// Window at the last event, lowered if the one before was higher (fast convergence).
    plateau: u64,
    /// Window right before the last event.
    prior: u64,
    epoch: Option<Epoch>,
}

/// Congestion avoidance since a loss, or since slow start ended without one.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    began: Instant,
    /// Time from its beginning to the plateau, in microseconds.
    to_plateau: u64,
    /// What Reno would have.
    reno: u64,
    /// Bytes acknowledged towards Reno's next segment, times the denominator of [`ALPHA`].
    reno_credit: u64,
    /// Growth earned that is no whole byte yet, times the window.
    credit: u128,
}

impl Cubic {
    pub(crate) fn new(mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        Self {
            mtu,
            shape: Shape {
                window: INITIAL_PACKETS * mtu,
                threshold: u64::MAX,
                plateau: 0,
                prior: 0,
                epoch: None,
            },
            slow_start: HyStart::new(),
            smoothed: None,
            recovery: None,
            undo: None,
            limited: None,
        }
    }

    fn in_slow_start(&self) -> bool {
        self.shape.window < self.shape.threshold
    }

    fn least(&self) -> u64 {
        LEAST_PACKETS * self.mtu
    }

    fn congested(&mut self, now: Instant, sent: Instant, lost: u64) {
        if self.recovery.is_some_and(|since| sent <= since) {
            if let Some((_, bytes)) = &mut self.undo {
                *bytes = bytes.saturating_add(lost);
            }
            return;
        }
        // A mark is no mistake; a loss may be one.
        self.undo = (lost > 0).then_some((self.shape, lost));
        self.recovery = Some(now);
        let shape = &mut self.shape;
        shape.prior = shape.window;
        shape.plateau = if shape.window < shape.plateau {
            scale(shape.window, BETA.1 + BETA.0, 2 * BETA.1)
        } else {
            shape.window
        };
        shape.window = scale(shape.window, BETA.0, BETA.1).max(LEAST_PACKETS * self.mtu);
        shape.threshold = shape.window;
        shape.epoch = None;
    }

    fn avoid(&mut self, now: Instant, acked: u64, rtt: Duration) {
        let mtu = self.mtu;
        let shape = &mut self.shape;
        let window = shape.window;
        let epoch = shape.epoch.get_or_insert_with(|| {
            shape.plateau = shape.plateau.max(window);
            let below = u128::from(shape.plateau - window);
            Epoch {
                began: now,
                // K = cbrt((plateau - window) / 0.4), segments and seconds.
                to_plateau: cube_root(below * 10 / 4 * 1_000_000_000_000_000_000 / u128::from(mtu)),
                reno: window,
                reno_credit: 0,
                credit: 0,
            }
        });
        let time = now.saturating_duration_since(epoch.began).saturating_add(rtt).as_micros();
        let distance = i128::try_from(time).unwrap_or(FAR).min(FAR) - i128::from(epoch.to_plateau);
        // 0.4 segments per second cubed.
        let above = 4 * i128::from(mtu) * distance.clamp(-FAR, FAR).pow(3) / 10_000_000_000_000_000_000;
        let cubic = u64::try_from((i128::from(shape.plateau) + above).max(0)).unwrap_or(u64::MAX);
        let target = cubic.clamp(window, window + window / 2);
        epoch.credit += u128::from(target - window) * u128::from(acked);
        let grown =
            window.saturating_add(u64::try_from(epoch.credit / u128::from(window)).unwrap_or(u64::MAX));
        epoch.credit %= u128::from(window);

        let (num, den) = if epoch.reno < shape.prior { ALPHA } else { (1, 1) };
        epoch.reno_credit = epoch.reno_credit.saturating_add(acked.saturating_mul(num * mtu) / den);
        epoch.reno = epoch.reno.saturating_add(epoch.reno_credit / window).min(MOST_BYTES);
        epoch.reno_credit %= window;
        shape.window = grown.max(epoch.reno);
    }

    fn bound(&mut self) {
        self.shape.window = self.shape.window.clamp(self.least(), MOST_BYTES.max(self.least()));
    }
}

impl Control for Cubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64, app_limited: bool) {
        // Time in which the window was not used does not count for its growth (RFC 9438, 5.8).
        let idle = in_flight <= bytes;
        match (self.limited, app_limited || idle) {
            (None, true) => self.limited = Some(now),
            (Some(since), false) => {
                self.limited = None;
                if let Some(epoch) = &mut self.shape.epoch {
                    epoch.began = (epoch.began + now.saturating_duration_since(since)).min(now);
                }
            }
            _ => {}
        }
    }

    fn on_ack(&mut self, ack: &AckSample<'_>) {
        self.smoothed = ack.rtt.is_measured().then(|| ack.rtt.smoothed());
        if ack.ecn_ce > 0 {
            self.congested(ack.now, ack.largest_sent, 0);
        }
        if self.recovery.is_some_and(|since| ack.largest_sent <= since) {
            return;
        }
        let app_limited = ack.rate.is_some_and(|rate| rate.app_limited);
        if self.in_slow_start() {
            let growth = self.slow_start.on_ack(ack);
            if !app_limited && self.shape.window <= ack.prior_in_flight.saturating_mul(2) {
                self.shape.window = self.shape.window.saturating_add(growth);
            }
            if self.slow_start.is_done() {
                self.shape.threshold = self.shape.window;
            }
        } else if !app_limited && self.shape.window <= ack.prior_in_flight.saturating_mul(2) {
            self.avoid(ack.now, ack.acked, ack.rtt.smoothed());
        }
        self.bound();
    }

    fn on_loss(&mut self, loss: &LossSample) {
        self.congested(loss.now, loss.largest_sent, loss.lost);
        if loss.persistent {
            self.undo = None;
            self.recovery = None;
            self.shape.window = self.least();
            self.shape.epoch = None;
            self.slow_start = HyStart::new();
        }
        self.bound();
    }

    fn on_spurious_loss(&mut self, _now: Instant, bytes: u64, sent: Instant) {
        if self.recovery.is_none_or(|since| sent > since) {
            return;
        }
        let Some((before, left)) = &mut self.undo else { return };
        *left = left.saturating_sub(bytes);
        if *left == 0 {
            if before.window > self.shape.window {
                self.shape = *before;
            }
            self.undo = None;
            self.recovery = None;
            self.bound();
        }
    }

    fn on_first_rtt(&mut self, rtt: Duration) {
        self.smoothed.get_or_insert(rtt);
    }

    fn on_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu.max(1));
        self.bound();
    }

    fn window(&self) -> u64 {
        self.shape.window
    }

    fn pacing_rate(&self) -> Option<u64> {
        let rate = rate_of(self.shape.window, self.smoothed?)?;
        let (num, den) = if self.in_slow_start() { (2, 1) } else { (5, 4) };
        Some(scale(rate, num, den).max(1))
    }
}

/// The largest number whose cube is at most `value`, bit by bit.
fn cube_root(value: u128) -> u64 {
    let mut root = 0_u64;
    for bit in (0..42).rev() {
        let candidate = root | 1 << bit;
        if u128::from(candidate).pow(3) <= value {
            root = candidate;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::RttEstimator;

    const MTU: u16 = 1000;
    const RTT: Duration = Duration::from_millis(100);

    fn rtt(now: Instant) -> RttEstimator {
        let mut rtt = RttEstimator::new();
        rtt.update(now, RTT, Duration::ZERO);
        rtt
    }

    fn ack(now: Instant, acked: u64, window: u64, rtt: &RttEstimator, delivered: u64) -> AckSample<'_> {
        AckSample {
            now,
            acked,
            in_flight: window.saturating_sub(acked),
            prior_in_flight: window,
            rtt,
            rate: None,
            delivered,
            largest_sent: now.checked_sub(RTT).unwrap_or(now),
            ecn_ce: 0,
        }
    }

    fn loss(now: Instant, sent: Instant, lost: u64) -> LossSample {
        LossSample {
            now,
            lost,
            largest_sent: sent,
            in_flight: 0,
            persistent: false,
            in_flight_at_send: 0,
            lost_since_sent: lost,
            app_limited: false,
        }
    }

    #[test]
    fn cube_roots() {
        for (value, root) in
            [(0, 0), (1, 1), (7, 1), (8, 2), (26, 2), (27, 3), (999_999, 99), (1_000_000, 100)]
        {
            assert_eq!(cube_root(value), root);
        }
        assert_eq!(cube_root(u128::MAX), (1 << 42) - 1);
    }

    #[test]
    fn doubles_then_takes_three_tenths_off_once_per_round_trip() {
        let start = Instant::now();
        let rtt = rtt(start);
        let mut cubic = Cubic::new(MTU);
        let first = cubic.window();
        cubic.on_ack(&ack(start, first, first, &rtt, first));
        assert_eq!(cubic.window(), 2 * first);
        let now = start + RTT;
        cubic.on_loss(&loss(now, start, 1000));
        assert_eq!(cubic.window(), 2 * first * 7 / 10);
        cubic.on_loss(&loss(now + RTT / 2, now, 1000));
        assert_eq!(cubic.window(), 2 * first * 7 / 10, "the same event");
        cubic.on_loss(&loss(now + RTT, now + RTT / 2, 1000));
        assert_eq!(cubic.window(), 2 * first * 7 / 10 * 7 / 10);
    }

    #[test]
    fn returns_to_the_plateau_after_k_and_goes_on() {
        let start = Instant::now();
        let mut cubic = Cubic::new(MTU);
        cubic.shape.window = 1_000_000;
        cubic.on_loss(&loss(start, start, 1000));
        assert_eq!(cubic.window(), 700_000);
        // 300 segments below: K = cbrt(300 / 0.4) = 9.086 s.
        let rtt = rtt(start);
        let at = |cubic: &mut Cubic, from: u32, to: u32| {
            for round in from..to {
                for part in 0..10 {
                    let now = start + RTT * (round + 2) + RTT / 10 * part;
                    let window = cubic.window();
                    cubic.on_ack(&ack(now, window / 10, window, &rtt, 0));
                }
            }
            cubic.window()
        };
        let early = at(&mut cubic, 0, 45);
        assert!((940_000..990_000).contains(&early), "{early}");
        let plateau = at(&mut cubic, 45, 91);
        assert!((990_000..1_010_000).contains(&plateau), "{plateau}");
        let beyond = at(&mut cubic, 91, 140);
        assert!(beyond > 1_030_000, "{beyond}");
    }

    #[test]
    fn undoes_what_no_loss_was() {
        let start = Instant::now();
        let mut cubic = Cubic::new(MTU);
        let before = cubic.window();
        cubic.on_loss(&loss(start + RTT, start, 2000));
        cubic.on_loss(&loss(start + RTT, start, 1000));
        cubic.on_spurious_loss(start + RTT, 2000, start);
        assert!(cubic.window() < before);
        cubic.on_spurious_loss(start + RTT, 1000, start);
        assert_eq!(cubic.window(), before);
    }

    #[test]
    fn mark_is_like_a_loss_and_persistent_congestion_begins_anew() {
        let start = Instant::now();
        let rtt = rtt(start);
        let mut cubic = Cubic::new(MTU);
        cubic.shape.window = 100_000;
        cubic.on_ack(&AckSample { ecn_ce: 1, ..ack(start + RTT, 1000, 100_000, &rtt, 1000) });
        assert_eq!(cubic.window(), 70_000);
        let now = start + 5 * RTT;
        cubic.on_loss(&LossSample { persistent: true, ..loss(now, now, 5000) });
        assert_eq!(cubic.window(), 2 * u64::from(MTU));
        assert!(cubic.in_slow_start());
    }

    #[test]
    fn unused_window_does_not_grow() {
        let start = Instant::now();
        let rtt = rtt(start);
        let mut cubic = Cubic::new(MTU);
        let before = cubic.window();
        for i in 0..100 {
            cubic.on_ack(&ack(start + RTT * i, 1000, before / 4, &rtt, 1000 * u64::from(i)));
        }
        assert_eq!(cubic.window(), before);
    }
}
