//! How long answers take, and how long a search waits for one before it goes on without it.

use std::time::Duration;

/// A search goes on without a node after so many of its round trips.
const ROUND_TRIPS: u32 = 3;
/// And not before this: a busy program answers late, too.
const LEAST_PATIENCE: Duration = Duration::from_millis(50);
/// Nor after this; then requests are sent again anyway (`dht.md` 2.3).
pub(super) const MOST_PATIENCE: Duration = Duration::from_secs(1);

/// The mean of round trips, the latest an eighth of it (as in RFC 6298 section 2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RoundTrip(Option<Duration>);

impl RoundTrip {
    /// Takes in one more.
    pub(super) fn measured(&mut self, sample: Duration) {
        let sample = sample.min(MOST_PATIENCE);
        self.0 = Some(self.0.map_or(sample, |mean| (mean * 7 + sample) / 8));
    }

    /// How long to wait for an answer of whoever this was measured with, or else with `others`.
    pub(super) fn patience(self, others: Self) -> Duration {
        let mean = self.0.or(others.0);
        mean.map_or(MOST_PATIENCE, |mean| (mean * ROUND_TRIPS).clamp(LEAST_PATIENCE, MOST_PATIENCE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn three_round_trips_within_bounds() {
        let mut own = RoundTrip::default();
        let mut others = RoundTrip::default();
        assert_eq!(own.patience(others), MOST_PATIENCE, "nothing is known");
        others.measured(ms(40));
        assert_eq!(own.patience(others), ms(120), "as of others");
        own.measured(ms(100));
        assert_eq!(own.patience(others), ms(300), "as of itself");
        own.measured(ms(20));
        assert_eq!(own.patience(others), ms(270), "one sample is an eighth");
        for _ in 0..100 {
            own.measured(ms(1));
            others.measured(Duration::from_secs(9));
        }
        assert_eq!(own.patience(others), LEAST_PATIENCE);
        assert_eq!(RoundTrip::default().patience(others), MOST_PATIENCE);
    }
}
