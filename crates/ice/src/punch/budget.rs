//! What all attempts of a program share: none starves the others, and no address gets more than its rate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The limits on all attempts together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Probes per second of all attempts. Default 600: about 80 kB/s on the wire.
    pub rate: u32,
    /// Probes per second to one IP address, whoever asks for them. Default 300.
    pub rate_per_target: u32,
    /// Attempts at once. Default 16.
    pub max_attempts: usize,
    /// Sockets open at once for all attempts. Default 1024.
    pub max_sockets: usize,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { rate: 600, rate_per_target: 300, max_attempts: 16, max_sockets: 1024 }
    }
}

/// Names an attempt within its [`Budget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(u64);

#[derive(Debug)]
struct Share {
    target: IpAddr,
    sockets: usize,
    /// When its next probe may leave.
    next: Instant,
}

/// Probes and sockets for all attempts. Each gets an equal part of the rate, and what others do not use meanwhile.
#[derive(Debug, Default)]
pub struct Budget {
    config: BudgetConfig,
    shares: BTreeMap<AttemptId, Share>,
    joined: u64,
}

impl Budget {
    /// A budget with these limits.
    pub fn new(config: BudgetConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Attempts that have a share.
    pub fn attempts(&self) -> usize {
        self.shares.len()
    }

    /// Sockets granted at present.
    pub fn sockets(&self) -> usize {
        self.shares.values().map(|share| share.sockets).sum()
    }

    /// A share for an attempt, with up to `sockets` sockets; `None` when there are too many attempts.
    ///
    /// One attempt gets at most half of the free sockets, so that something is left for the next.
    pub(super) fn join(
        &mut self,
        now: Instant,
        target: IpAddr,
        sockets: usize,
    ) -> Option<(AttemptId, usize)> {
        if self.shares.len() >= self.config.max_attempts {
            return None;
        }
        let free = self.config.max_sockets.saturating_sub(self.sockets());
        let granted = sockets.min(free.div_ceil(2));
        let id = AttemptId(self.joined);
        self.joined += 1;
        self.shares.insert(id, Share { target: target.to_canonical(), sockets: granted, next: now });
        Some((id, granted))
    }

    pub(super) fn leave(&mut self, id: AttemptId) {
        self.shares.remove(&id);
    }

    /// The time between two probes of one attempt: an equal share of the rate, and of that to its address.
    fn interval(&self, id: AttemptId) -> Duration {
        let Some(own) = self.shares.get(&id) else { return Duration::ZERO };
        let beside = self.shares.values().filter(|share| share.target == own.target).count();
        let every = |count: usize, rate: u32| {
            Duration::from_secs(1) * u32::try_from(count).unwrap_or(u32::MAX) / rate.max(1)
        };
        every(self.shares.len(), self.config.rate).max(every(beside, self.config.rate_per_target))
    }

    /// Takes the right to send one probe.
    pub(super) fn take(&mut self, now: Instant, id: AttemptId) -> bool {
        let interval = self.interval(id);
        let Some(share) = self.shares.get_mut(&id).filter(|share| share.next <= now) else { return false };
        // A driver that comes late may catch up on a few, not on a second's worth.
        share.next = share.next.max(now.checked_sub(4 * interval).unwrap_or(now)) + interval;
        true
    }

    pub(super) fn next(&self, id: AttemptId) -> Option<Instant> {
        self.shares.get(&id).map(|share| share.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probes of each attempt within the time, all of them asking every millisecond.
    fn sent(budget: &mut Budget, ids: &[AttemptId], now: Instant, time: u64) -> Vec<u32> {
        let mut sent = vec![0; ids.len()];
        for ms in 0..time {
            for (n, id) in ids.iter().enumerate() {
                while budget.take(now + Duration::from_millis(ms), *id) {
                    sent[n] += 1;
                }
            }
        }
        sent
    }

    #[test]
    fn all_get_the_same_and_together_no_more_than_the_rate() {
        let now = Instant::now();
        let mut budget = Budget::default();
        let mut join = |n: u8| budget.join(now, IpAddr::from([192, 0, 2, n]), 0).unwrap().0;
        let ids = [1, 2, 3, 4].map(&mut join);
        for count in sent(&mut budget, &ids, now, 1000) {
            assert!((149..=156).contains(&count), "{count}");
        }
        // Alone, an attempt has the rate of its address.
        ids[1..].iter().for_each(|id| budget.leave(*id));
        let later = now + Duration::from_secs(1);
        assert!((299..=306).contains(&sent(&mut budget, &ids[..1], later, 1000)[0]));
    }

    #[test]
    fn many_attempts_do_not_add_up_at_one_address() {
        let now = Instant::now();
        let mut budget = Budget::default();
        let mut join = |ip: [u8; 4]| budget.join(now, ip.into(), 0).unwrap().0;
        let victim: Vec<_> = (0..10).map(|_| join([192, 0, 2, 1])).collect();
        let other = join([192, 0, 2, 2]);
        let mut all = victim.clone();
        all.push(other);
        let sent = sent(&mut budget, &all, now, 2000);
        assert!(sent[..10].iter().sum::<u32>() <= 660);
        assert!(sent[10] >= 600 * 2 / 11);
    }

    #[test]
    fn sockets_are_left_for_those_who_come_later() {
        let now = Instant::now();
        let mut budget = Budget::default();
        let mut granted = Vec::new();
        while let Some((_, sockets)) = budget.join(now, [192, 0, 2, 1].into(), 256) {
            granted.push(sockets);
        }
        assert_eq!(granted.len(), 16);
        assert_eq!(granted[..6], [256, 256, 256, 128, 64, 32]);
        assert!(budget.sockets() <= 1024 && budget.attempts() == 16);
    }
}
