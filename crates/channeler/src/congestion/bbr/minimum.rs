//! The round trip without a queue, and when to look for it.

use std::time::{Duration, Instant};

/// Age at which the shortest round trip is looked for anew.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Round trips hardly longer than the shortest: a 64th, or what the hosts' own scheduling adds.
const NEAR_DIVISOR: u32 = 64;
const NEAR: Duration = Duration::from_micros(250);

/// Age at which it is forgotten.
const WINDOW: Duration = Duration::from_secs(10);

/// The shortest round trip of ten seconds, and of the time since the last probe for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct MinRtt {
    shortest: Option<(Duration, Instant)>,
    recent: (Duration, Instant),
}

impl MinRtt {
    pub(super) fn new(now: Instant) -> Self {
        Self { shortest: None, recent: (Duration::MAX, now) }
    }

    pub(super) fn get(self) -> Option<Duration> {
        self.shortest.map(|(rtt, _)| rtt)
    }

    /// Takes a measurement. Whether it is time to empty the queue for a look at what lies beneath: not if a round
    /// trip hardly longer than the shortest shows that the queue becomes empty by itself.
    pub(super) fn update(&mut self, now: Instant, rtt: Duration) -> bool {
        let expired = now.saturating_duration_since(self.recent.1) > PROBE_INTERVAL;
        if rtt < self.recent.0 || expired {
            self.recent = (rtt, now);
        } else if rtt <= self.recent.0.saturating_add(NEAR.max(self.recent.0 / NEAR_DIVISOR)) {
            self.recent.1 = now;
        }
        if self
            .shortest
            .is_none_or(|(min, at)| self.recent.0 <= min || now.saturating_duration_since(at) > WINDOW)
        {
            self.shortest = Some(self.recent);
        }
        expired
    }

    /// The queue was emptied just now.
    pub(super) fn probed(&mut self, now: Instant) {
        self.recent.1 = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn probes_when_only_longer_trips_are_seen() {
        let start = Instant::now();
        let mut min = MinRtt::new(start);
        assert!(!min.update(start, 50 * MS));
        assert!(!min.update(start + 4000 * MS, 50 * MS + MS / 2), "as good as the same");
        assert!(!min.update(start + 8000 * MS, 60 * MS));
        assert!(min.update(start + 9500 * MS, 60 * MS));
        assert_eq!(min.get(), Some(50 * MS));
        assert!(!min.update(start + 9600 * MS, 61 * MS));
        assert!(!min.update(start + 14_100 * MS, 60 * MS));
        assert_eq!(min.get(), Some(60 * MS));
    }
}
