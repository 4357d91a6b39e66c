//! How many requests are answered: a sliding window of one second, for all and per source (`dht.md` 1.11).

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::store::Source;

/// Width of the window.
const WINDOW: Duration = Duration::from_secs(1);

/// What [`RateLimiter`] allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests per second from everybody together.
    pub global: usize,
    /// Requests per second from one IPv4 address or IPv6 /64.
    pub per_source: usize,
}

impl Default for RateLimits {
    /// 8192 for all, and an eighth of it for each.
    fn default() -> Self {
        Self { global: 8192, per_source: 8192 / 8 }
    }
}

/// Counts requests. Memory is bounded by the global limit: only admitted requests are remembered, and only
/// for a second.
#[derive(Debug)]
pub struct RateLimiter {
    limits: RateLimits,
    admitted: VecDeque<(Instant, Source)>,
    counts: BTreeMap<Source, usize>,
}

impl RateLimiter {
    /// A limiter that has seen nothing.
    pub const fn new(limits: RateLimits) -> Self {
        Self { limits, admitted: VecDeque::new(), counts: BTreeMap::new() }
    }

    /// Whether a request from `ip` at `now` may be answered; if so it is counted.
    pub fn admit(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.forget(now);
        let source = Source::of(ip);
        let count = self.counts.get(&source).copied().unwrap_or(0);
        if self.admitted.len() >= self.limits.global || count >= self.limits.per_source {
            return false;
        }
        self.counts.insert(source, count + 1);
        self.admitted.push_back((now, source));
        true
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&(then, source)) = self.admitted.front() {
            if now.saturating_duration_since(then) < WINDOW {
                break;
            }
            self.admitted.pop_front();
            if let Some(count) = self.counts.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&source);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_slides() {
        let mut limiter = RateLimiter::new(RateLimits { global: 5, per_source: 3 });
        let start = Instant::now();
        let [a, b]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let admitted =
            |limiter: &mut RateLimiter, now, ip| (0..10).filter(|_| limiter.admit(now, ip)).count();
        assert_eq!(admitted(&mut limiter, start, a), 3);
        assert_eq!(admitted(&mut limiter, start + WINDOW / 2, b), 2, "the global limit");
        assert_eq!(admitted(&mut limiter, start + WINDOW, a), 3);
        assert_eq!(admitted(&mut limiter, start + WINDOW, b), 0);
        assert_eq!(limiter.counts.len(), 2);
        assert_eq!(admitted(&mut limiter, start + WINDOW * 3, b), 3);
        assert_eq!(limiter.counts.len(), 1);
    }

    #[test]
    fn ipv6_counts_by_prefix() {
        let mut limiter = RateLimiter::new(RateLimits { global: 9, per_source: 1 });
        let now = Instant::now();
        assert!(limiter.admit(now, "2001:db8::1".parse().unwrap()));
        assert!(!limiter.admit(now, "2001:db8::2".parse().unwrap()));
        assert!(limiter.admit(now, "2001:db8:0:1::1".parse().unwrap()));
    }
}
