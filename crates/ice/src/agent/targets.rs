//! How much is sent to addresses that have not answered: a list of candidates, a replayed check or a row of restarts must
//! not make us a burden to a third party.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::TargetLimits;

#[derive(Debug)]
struct Target {
    /// It answered a check of ours: it takes part.
    proven: bool,
    sent: Spent,
    tokens: u32,
    /// When the last token was added.
    refilled: Instant,
    last: Instant,
}

/// What was used up of something that is granted anew for each span of time.
#[derive(Debug, Default)]
pub(super) struct Spent {
    since: Option<Instant>,
    count: u32,
}

impl Spent {
    /// Uses up one of the `most` of this `span`; false when none is left.
    pub(super) fn spend(&mut self, now: Instant, span: Duration, most: u32) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= span {
            (self.since, self.count) = (Some(now), 0);
        }
        let left = self.count < most;
        self.count += u32::from(left);
        left
    }
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
            sent: Spent::default(),
            tokens: limits.burst,
            refilled: now,
            last: now,
        });
        if target.proven {
            target.last = now;
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
        if target.tokens == 0 || !target.sent.spend(now, limits.memory, limits.max_packets) {
            return false;
        }
        target.tokens -= 1;
        target.last = now;
        true
    }

    /// It answered a check of ours, with proof.
    pub(super) fn prove(&mut self, ip: IpAddr) {
        if let Some(target) = self.targets.get_mut(&ip.to_canonical()) {
            target.proven = true;
        }
    }

    /// Whether it did.
    pub(super) fn is_proven(&self, ip: IpAddr) -> bool {
        self.targets.get(&ip.to_canonical()).is_some_and(|target| target.proven)
    }

    /// Makes the account of an address anew that was left alone for long, and room for it in place of the one left alone for the
    /// longest.
    fn renew(&mut self, now: Instant, ip: IpAddr) {
        let ip = ip.to_canonical();
        let idle = |target: &Target| now.saturating_duration_since(target.last) >= self.limits.memory;
        if self.targets.get(&ip).is_some_and(idle) {
            self.targets.remove(&ip);
        }
        if !self.targets.contains_key(&ip) && self.targets.len() >= self.limits.max_targets {
            let oldest = self.targets.iter().min_by_key(|(_, target)| target.last).map(|(ip, _)| *ip);
            self.targets.remove(&oldest.unwrap_or(ip));
        }
    }
}

/// What all agents of a program send together to an IP address that has answered none of them: many small requests must not
/// add up to an attack either.
///
/// A handle: its clones share the accounts. An address that answered an agent with proof, or to which nothing was sent for
/// [`TargetLimits::memory`], is held for innocent again.
#[derive(Debug, Clone)]
pub struct SharedTargets(Arc<Mutex<Targets>>);

impl Default for SharedTargets {
    fn default() -> Self {
        Self::new(TargetLimits::of_program())
    }
}

impl SharedTargets {
    /// Accounts within these limits. Where there would be more addresses than may be told apart, the one that was left
    /// alone for the longest is forgotten.
    pub fn new(limits: TargetLimits) -> Self {
        Self(Arc::new(Mutex::new(Targets::new(limits))))
    }

    fn lock(&self) -> MutexGuard<'_, Targets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn allow(&self, now: Instant, ip: IpAddr) -> bool {
        let mut targets = self.lock();
        targets.renew(now, ip);
        targets.allow(now, ip)
    }

    pub(super) fn prove(&self, ip: IpAddr) {
        self.lock().prove(ip);
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
    fn shared_accounts_are_renewed_by_rest_and_by_proof() {
        let limits = TargetLimits { max_packets: 20, max_targets: 2, ..TargetLimits::default() };
        let (start, ip) = (Instant::now(), |n: u8| IpAddr::from([192, 0, 2, n]));
        let shared = SharedTargets::new(limits);
        let spend = |at, n| (0..100).filter(|_| shared.clone().allow(at, ip(n))).count();
        assert_eq!((spend(start, 1), spend(start, 1)), (20, 0));
        // Asking in vain is no sending.
        assert_eq!(spend(start + limits.memory / 2, 1), 0);
        assert_eq!(spend(start + limits.memory, 1), 20);
        shared.prove(ip(1));
        assert_eq!(spend(start + limits.memory, 1), 100);
        assert_eq!(spend(start + limits.memory, 2), 20);
        assert_eq!(spend(start + limits.memory + Duration::from_secs(1), 3), 20, "in place of the oldest");
        assert_eq!(shared.lock().targets.len(), 2);
    }

    #[test]
    fn what_was_used_up_is_granted_anew_after_the_span() {
        let limits = TargetLimits { max_packets: 3, ..TargetLimits::default() };
        let start = Instant::now();
        let ip = IpAddr::from([192, 0, 2, 1]);
        let mut targets = Targets::new(limits);
        for round in 0..3 {
            let begin = start + limits.memory * round;
            let late = begin + limits.memory.saturating_sub(Duration::from_secs(1));
            assert!((0..3).all(|_| targets.allow(begin, ip)), "round {round}");
            assert!(!targets.allow(begin, ip) && !targets.allow(late, ip), "round {round}");
        }
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
