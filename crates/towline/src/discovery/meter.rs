//! How often something may happen, for all and for each address.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::config::PerSecond;

const SECOND: Duration = Duration::from_secs(1);

/// A sliding window of one second. Unlike the DHT's, it counts each IPv6 address for itself: a local network is one
/// prefix. Memory is bounded by the limit for all.
#[derive(Debug)]
pub(super) struct Meter {
    limit: PerSecond,
    admitted: VecDeque<(Instant, IpAddr)>,
    counts: BTreeMap<IpAddr, usize>,
}

impl Meter {
    pub(super) fn new(limit: PerSecond) -> Self {
        Self { limit, admitted: VecDeque::new(), counts: BTreeMap::new() }
    }

    /// Whether it may happen once more because of `ip`; if so, it is counted.
    pub(super) fn admit(&mut self, now: Instant, ip: IpAddr) -> bool {
        while let Some(&(then, old)) = self.admitted.front() {
            if now.saturating_duration_since(then) < SECOND {
                break;
            }
            self.admitted.pop_front();
            if let Some(count) = self.counts.get_mut(&old) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&old);
                }
            }
        }
        let count = self.counts.get(&ip).copied().unwrap_or(0);
        if self.admitted.len() >= self.limit.all || count >= self.limit.one {
            return false;
        }
        self.counts.insert(ip, count + 1);
        self.admitted.push_back((now, ip));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_use_up_what_is_for_all() {
        let start = Instant::now();
        let mut meter = Meter::new(PerSecond { all: 5, one: 2 });
        let [a, b, c, d]: [IpAddr; 4] =
            ["fe80::1", "fe80::2", "10.0.0.3", "10.0.0.4"].map(|ip| ip.parse().unwrap());
        let admitted = |meter: &mut Meter, now, ip| (0..3).filter(|_| meter.admit(now, ip)).count();
        assert_eq!(admitted(&mut meter, start, a), 2);
        assert_eq!(admitted(&mut meter, start, b), 2);
        assert_eq!(admitted(&mut meter, start, c), 1, "all together had five");
        assert_eq!(admitted(&mut meter, start, d), 0);
        assert_eq!(admitted(&mut meter, start + SECOND, d), 2);
        assert_eq!(meter.counts.len(), 1);
    }
}
