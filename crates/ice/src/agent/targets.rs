//! How much is sent to addresses that have not answered: a list of candidates, a replayed check or a row of restarts must
//! not make us a burden to a third party.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::TargetLimits;

#[derive(Debug)]
struct Target {
    /// It answered a check of ours: it takes part.
    proven: bool,
    sent: u32,
    tokens: u32,
    /// When the last token was added.
    refilled: Instant,
    last: Instant,
}

/// One account per IP address, whatever the port.
#[derive(Debug)]
pub(super) struct Targets {
    limits: TargetLimits,
    targets: BTreeMap<IpAddr, Target>,
}

impl Targets {
    pub(super) fn new(limits: TargetLimits) -> Self {
        Self { limits, targets: BTreeMap::new() }
    }

    /// Counts one packet or connect to `ip`; false when it must not be sent.
    pub(super) fn allow(&mut self, now: Instant, ip: IpAddr) -> bool {
        let (ip, limits) = (ip.to_canonical(), self.limits);
        if !self.targets.contains_key(&ip) && self.targets.len() >= limits.max_targets {
            // One that has been left alone for long may be forgotten.
            let oldest = self.targets.iter().min_by_key(|(_, t)| t.last).map(|(ip, t)| (*ip, t.last));
            match oldest.filter(|(_, last)| now.saturating_duration_since(*last) >= limits.memory) {
                Some((oldest, _)) => drop(self.targets.remove(&oldest)),
                None => return false,
            }
        }
        let target = self.targets.entry(ip).or_insert(Target {
            proven: false,
            sent: 0,
            tokens: limits.burst,
            refilled: now,
            last: now,
        });
        target.last = now;
        if target.proven {
            return true;
        }
        let interval = Duration::from_secs(1) / limits.rate.max(1);
        let earned = now.saturating_duration_since(target.refilled).as_nanos() / interval.as_nanos().max(1);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        target.refilled += interval * earned.min(limits.burst);
        target.tokens = target.tokens.saturating_add(earned).min(limits.burst);
        if target.tokens == limits.burst {
            target.refilled = now;
        }
        if target.tokens == 0 || target.sent >= limits.max_packets {
            return false;
        }
        target.tokens -= 1;
        target.sent += 1;
        true
    }

    /// It answered a check of ours, with proof.
    pub(super) fn prove(&mut self, ip: IpAddr) {
        if let Some(target) = self.targets.get_mut(&ip.to_canonical()) {
            target.proven = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_then_nothing() {
        let limits = TargetLimits { rate: 10, burst: 5, max_packets: 20, ..TargetLimits::default() };
        let start = Instant::now();
        let ip = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut targets = Targets::new(limits);
        let mut sent = Vec::new();
        for ms in 0..10_000u64 {
            while targets.allow(start + Duration::from_millis(ms), ip(1)) {
                sent.push(ms);
            }
        }
        assert_eq!(sent[..8], [0, 0, 0, 0, 0, 100, 200, 300]);
        assert_eq!(sent.len(), 20);
        assert!(targets.allow(start, ip(2)), "another address has its own account");
        targets.prove(ip(1));
        assert!((0..1000).all(|_| targets.allow(start, ip(1))));
    }

    #[test]
    fn accounts_are_bounded_and_not_forgotten_early() {
        let limits = TargetLimits { max_targets: 3, ..TargetLimits::default() };
        let start = Instant::now();
        let ip = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut targets = Targets::new(limits);
        assert!((1..4).all(|n| targets.allow(start, ip(n))));
        assert!(!targets.allow(start + limits.memory / 2, ip(4)));
        assert!(targets.allow(start + limits.memory, ip(4)));
    }
}
