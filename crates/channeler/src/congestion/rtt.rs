//! Round trip time (RFC 9002, section 5).

use std::time::{Duration, Instant};

/// What is assumed before the first measurement (RFC 9002, 6.2.2).
const INITIAL: Duration = Duration::from_millis(333);

/// No clock that drives this is finer than that (RFC 9002, 6.1.2).
pub(crate) const GRANULARITY: Duration = Duration::from_millis(1);

/// The minimum forgets what is older than two of these and remembers what is younger than one.
const HALF_WINDOW: Duration = Duration::from_secs(5);

/// Round trips of one link: latest, smoothed, their variation, and the shortest of the last five to ten seconds.
#[derive(Clone, Debug)]
pub(crate) struct RttEstimator {
    latest: Duration,
    /// The same without the receiver's delay.
    undelayed: Duration,
    /// `None` before the first measurement.
    measured: Option<Measured>,
}

#[derive(Clone, Debug)]
struct Measured {
    smoothed: Duration,
    variation: Duration,
    /// Shortest of the current half window and of the one before.
    minima: [Duration; 2],
    half_began: Instant,
}

impl Measured {
    fn min(&self) -> Duration {
        self.minima[0].min(self.minima[1])
    }
}

impl RttEstimator {
    pub(crate) fn new() -> Self {
        Self { latest: INITIAL, undelayed: INITIAL, measured: None }
    }

    /// Takes a measurement: the time from sending the largest newly acknowledged packet to now, and how long its
    /// receiver says to have held the acknowledgement back (the caller bounds it by what the receiver announced).
    pub(crate) fn update(&mut self, now: Instant, rtt: Duration, ack_delay: Duration) {
        self.latest = rtt;
        // Even if that makes it the shortest: where every acknowledgement is held back, the shortest is no bound.
        self.undelayed = rtt.saturating_sub(ack_delay);
        let Some(known) = &mut self.measured else {
            self.measured =
                Some(Measured { smoothed: rtt, variation: rtt / 2, minima: [rtt; 2], half_began: now });
            return;
        };
        let age = now.saturating_duration_since(known.half_began);
        if age >= HALF_WINDOW {
            // After a longer silence neither half is young enough to keep.
            known.minima = [rtt, if age < 2 * HALF_WINDOW { known.minima[0] } else { rtt }];
            known.half_began = now;
        }
        known.minima[0] = known.minima[0].min(rtt);
        // A delay that would make the trip shorter than the shortest is not believed (RFC 9002, 5.3).
        let adjusted = rtt.checked_sub(ack_delay).filter(|&adjusted| adjusted >= known.min()).unwrap_or(rtt);
        let deviation = known.smoothed.abs_diff(adjusted);
        known.variation = (known.variation.saturating_mul(3) / 4).saturating_add(deviation / 4);
        known.smoothed = (known.smoothed.saturating_mul(7) / 8).saturating_add(adjusted / 8);
    }

    /// Forgets everything: the path is another one.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Whether anything was measured.
    pub(crate) fn is_measured(&self) -> bool {
        self.measured.is_some()
    }

    /// The last measurement, acknowledgement delay included; 333 ms before the first.
    pub(crate) fn latest(&self) -> Duration {
        self.latest
    }

    /// The last measurement without acknowledgement delay; 333 ms before the first.
    pub(crate) fn undelayed(&self) -> Duration {
        self.undelayed
    }

    /// The moving average, without acknowledgement delay; 333 ms before the first measurement.
    pub(crate) fn smoothed(&self) -> Duration {
        self.measured.as_ref().map_or(INITIAL, |known| known.smoothed)
    }

    /// The average distance from the average.
    pub(crate) fn variation(&self) -> Duration {
        self.measured.as_ref().map_or(INITIAL / 2, |known| known.variation)
    }

    /// The shortest of the last five to ten seconds; 333 ms before the first measurement.
    pub(crate) fn min(&self) -> Duration {
        self.measured.as_ref().map_or(INITIAL, Measured::min)
    }

    /// How long an acknowledgement is waited for, without back-off and without the peer's delay (RFC 9002, 6.2.1).
    pub(crate) fn pto_base(&self) -> Duration {
        self.smoothed().saturating_add(self.variation().saturating_mul(4).max(GRANULARITY))
    }

    /// How much later than a packet another one may be acknowledged before the first is lost: 9/8 of a round trip
    /// (RFC 9002, 6.1.2).
    #[cfg(test)]
    pub(crate) fn loss_delay(&self) -> Duration {
        (self.smoothed().max(self.latest).saturating_mul(9) / 8).max(GRANULARITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn follows_rfc_9002() {
        let now = Instant::now();
        let mut rtt = RttEstimator::new();
        assert!(!rtt.is_measured());
        assert_eq!(rtt.pto_base(), INITIAL + 2 * INITIAL);
        rtt.update(now, 100 * MS, 20 * MS);
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.min()), (100 * MS, 50 * MS, 100 * MS));
        rtt.update(now, 140 * MS, 20 * MS);
        assert_eq!(rtt.smoothed(), Duration::from_micros(102_500), "the delay is taken off");
        assert_eq!(rtt.variation(), Duration::from_micros(42_500));
        assert_eq!(rtt.latest(), 140 * MS);
        rtt.update(now, 100 * MS, 20 * MS);
        assert_eq!(rtt.smoothed(), Duration::from_nanos(102_187_500), "a delay that cannot be is not");
        assert_eq!(rtt.loss_delay(), rtt.smoothed() * 9 / 8);
    }

    #[test]
    fn shortest_is_forgotten_after_its_window() {
        let start = Instant::now();
        let mut rtt = RttEstimator::new();
        rtt.update(start, 10 * MS, Duration::ZERO);
        for second in 1..=5 {
            rtt.update(start + Duration::from_secs(second), 50 * MS, Duration::ZERO);
            assert_eq!(rtt.min(), 10 * MS);
        }
        rtt.update(start + Duration::from_secs(10), 50 * MS, Duration::ZERO);
        assert_eq!(rtt.min(), 50 * MS);
        rtt.update(start + Duration::from_mins(1), 70 * MS, Duration::ZERO);
        assert_eq!(rtt.min(), 70 * MS, "after a silence nothing old counts");
    }

    #[test]
    fn absurd_times_do_no_harm() {
        let now = Instant::now();
        let mut rtt = RttEstimator::new();
        for time in [Duration::ZERO, Duration::MAX, Duration::ZERO, Duration::MAX] {
            rtt.update(now, time, Duration::MAX);
            let _ = (rtt.pto_base(), rtt.loss_delay());
        }
    }
}
