//! Pacing of new checks: a burst, then one per Ta (RFC 8445 section 6.1.4.2).

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Pacer {
    interval: Duration,
    burst: u32,
    tokens: u32,
    // When the last token was added; meaningful while the bucket is not full.
    refilled: Instant,
}

impl Pacer {
    pub(crate) fn new(interval: Duration, burst: u32, now: Instant) -> Self {
        let burst = burst.max(1);
        Self { interval, burst, tokens: burst, refilled: now }
    }

    /// Takes the right to start one check.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }

    /// When the next check may start; `None` when it may at once.
    pub(crate) fn next(&self) -> Option<Instant> {
        (self.tokens == 0).then(|| self.refilled + self.interval)
    }

    fn refill(&mut self, now: Instant) {
        if self.interval.is_zero() {
            self.tokens = self.burst;
        }
        while self.tokens < self.burst && now >= self.refilled + self.interval {
            self.refilled += self.interval;
            self.tokens += 1;
        }
        if self.tokens == self.burst {
            self.refilled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_per_interval() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut pacer = Pacer::new(Duration::from_millis(50), 2, start);
        assert_eq!((pacer.take(ms(0)), pacer.take(ms(0)), pacer.take(ms(0))), (true, true, false));
        assert_eq!(pacer.next(), Some(ms(50)));
        assert!(!pacer.take(ms(49)));
        assert!(pacer.take(ms(50)) && !pacer.take(ms(50)));
        assert!(pacer.take(ms(1000)) && pacer.take(ms(1000)) && !pacer.take(ms(1000)));
    }
}
