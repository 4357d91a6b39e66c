//! What all attempts of a program share: none starves the others, and no address gets more than its rate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::PunchRefused;

/// IP addresses whose probes are counted.
const MAX_TARGETS: usize = 1024;

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
    /// Probes to one IP address within [`BudgetConfig::memory`], whoever asks for them, as long as no attempt meets anybody
    /// there. Default 10,000: four whole attempts, about 1.2 MB.
    pub max_per_target: u32,
    /// How long the probes to an address count. Default 10 min.
    pub memory: Duration,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            rate: 600,
            rate_per_target: 300,
            max_attempts: 16,
            max_sockets: 1024,
            max_per_target: 10_000,
            memory: Duration::from_mins(10),
        }
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
    /// It has sent everything, and only has its sockets yet.
    rests: bool,
}

/// What an address has got.
#[derive(Debug)]
struct Spent {
    probes: u32,
    since: Instant,
}

/// Probes and sockets for all attempts. Each that has something to send gets an equal part of the rate.
#[derive(Debug, Default)]
pub struct Budget {
    config: BudgetConfig,
    shares: BTreeMap<AttemptId, Share>,
    spent: BTreeMap<IpAddr, Spent>,
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

    /// A share for an attempt, with up to `sockets` sockets.
    ///
    /// One attempt gets at most half of the free sockets, so that something is left for the next.
    pub(super) fn join(
        &mut self,
        now: Instant,
        target: IpAddr,
        sockets: usize,
    ) -> Result<(AttemptId, usize), PunchRefused> {
        if self.shares.len() >= self.config.max_attempts {
            return Err(PunchRefused::TooMany);
        }
        let target = target.to_canonical();
        self.spent.retain(|_, spent| now.saturating_duration_since(spent.since) < self.config.memory);
        if !self.has_left(target) {
            return Err(PunchRefused::Spent);
        }
        let free = self.config.max_sockets.saturating_sub(self.sockets());
        let granted = sockets.min(free.div_ceil(2));
        let id = AttemptId(self.joined);
        self.joined += 1;
        self.shares.insert(id, Share { target, sockets: granted, next: now, rests: false });
        Ok((id, granted))
    }

    pub(super) fn leave(&mut self, id: AttemptId) {
        self.shares.remove(&id);
    }

    /// The attempt has met somebody at its address, who therefore wants to be met.
    pub(super) fn vindicate(&mut self, id: AttemptId) {
        if let Some(share) = self.shares.get(&id) {
            self.spent.remove(&share.target);
        }
    }

    /// The attempt has nothing to send any more.
    pub(super) fn rest(&mut self, id: AttemptId) {
        if let Some(share) = self.shares.get_mut(&id) {
            share.rests = true;
        }
    }

    /// Whether that address may get more.
    fn has_left(&self, target: IpAddr) -> bool {
        self.spent.get(&target).is_none_or(|spent| spent.probes < self.config.max_per_target)
    }

    /// The time between two probes of one attempt: an equal share of the rate, and of that to its address.
    fn interval(&self, id: AttemptId) -> Duration {
        let Some(own) = self.shares.get(&id) else { return Duration::ZERO };
        let busy = || self.shares.values().filter(|share| !share.rests && self.has_left(share.target));
        let beside = busy().filter(|share| share.target == own.target).count();
        let every = |count: usize, rate: u32| {
            Duration::from_secs(1) * u32::try_from(count).unwrap_or(u32::MAX) / rate.max(1)
        };
        every(busy().count(), self.config.rate).max(every(beside, self.config.rate_per_target))
    }

    /// Takes the right to send one probe.
    pub(super) fn take(&mut self, now: Instant, id: AttemptId) -> bool {
        let interval = self.interval(id);
        let Some(share) = self.shares.get_mut(&id).filter(|share| share.next <= now) else { return false };
        if self.spent.len() >= MAX_TARGETS && !self.spent.contains_key(&share.target) {
            // The one that got least: who wants the account of a victim forgotten must have as much sent to a thousand others.
            let least = self.spent.iter().min_by_key(|(_, spent)| spent.probes).map(|(ip, _)| *ip);
            least.map(|ip| self.spent.remove(&ip));
        }
        let spent = self.spent.entry(share.target).or_insert(Spent { probes: 0, since: now });
        if spent.probes >= self.config.max_per_target {
            return false;
        }
        spent.probes += 1;
        // A driver that comes late may catch up on a few, not on a second's worth.
        share.next = share.next.max(now.checked_sub(4 * interval).unwrap_or(now)) + interval;
        true
    }

    pub(super) fn next(&self, id: AttemptId) -> Option<Instant> {
        self.shares.get(&id).filter(|share| self.has_left(share.target)).map(|share| share.next)
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
        while let Ok((_, sockets)) = budget.join(now, [192, 0, 2, 1].into(), 256) {
            granted.push(sockets);
        }
        assert_eq!(granted.len(), 16);
        assert_eq!(granted[..6], [256, 256, 256, 128, 64, 32]);
        assert!(budget.sockets() <= 1024 && budget.attempts() == 16);
    }

    #[test]
    fn an_address_where_nobody_is_met_gets_no_more_for_a_while() {
        let now = Instant::now();
        let mut budget = Budget::new(BudgetConfig { max_per_target: 100, ..BudgetConfig::default() });
        let target: IpAddr = [192, 0, 2, 1].into();
        let one = budget.join(now, target, 0).unwrap().0;
        assert_eq!(sent(&mut budget, &[one], now, 1000), [100]);
        assert_eq!(budget.next(one), None, "there is nothing to wait for");
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(budget.join(now, mapped, 0), Err(PunchRefused::Spent));
        assert!(budget.join(now, [192, 0, 2, 2].into(), 0).is_ok());
        // Whoever is met there may be punched again,
        budget.vindicate(one);
        assert!(budget.join(now, target, 0).is_ok());
        // and anybody after a time.
        let two = budget.join(now, target, 0).unwrap().0;
        assert_eq!(sent(&mut budget, &[two], now, 1000), [100]);
        let later = now + Duration::from_mins(10);
        assert!(budget.join(later, target, 0).is_ok());
    }

    #[test]
    fn who_has_sent_everything_leaves_the_rate_to_others() {
        let now = Instant::now();
        let mut budget = Budget::default();
        let mut join = |n: u8| budget.join(now, IpAddr::from([192, 0, 2, n]), 0).unwrap().0;
        let ids = [1, 2, 3, 4].map(&mut join);
        ids[2..].iter().for_each(|id| budget.rest(*id));
        for count in sent(&mut budget, &ids[..2], now, 1000) {
            assert!((299..=306).contains(&count), "{count}");
        }
    }

    #[test]
    fn many_addresses_take_the_place_of_those_that_got_least() {
        let now = Instant::now();
        let mut budget = Budget::new(BudgetConfig { max_per_target: 2, ..BudgetConfig::default() });
        let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let victim: IpAddr = [192, 0, 2, 1].into();
        let one = budget.join(now, victim, 0).unwrap().0;
        assert_eq!(sent(&mut budget, &[one], now, 100), [2]);
        budget.leave(one);
        for n in 0..3000 {
            let id = budget.join(now, address(n), 0).expect("asking costs nobody's place").0;
            assert!(budget.take(now, id));
            budget.leave(id);
        }
        assert_eq!(budget.spent.len(), MAX_TARGETS);
        assert_eq!(budget.join(now, victim, 0), Err(PunchRefused::Spent));
    }

    #[test]
    fn whose_address_has_got_all_leaves_the_rate_to_others() {
        let now = Instant::now();
        let mut budget = Budget::new(BudgetConfig { max_per_target: 1000, ..BudgetConfig::default() });
        let mut join = |n: u8| budget.join(now, IpAddr::from([192, 0, 2, n]), 0).unwrap().0;
        let ids = [1, 2, 2, 2].map(&mut join);
        let target = IpAddr::from([192, 0, 2, 2]);
        budget.spent.insert(target, Spent { probes: 1000, since: now });
        let sent = sent(&mut budget, &ids, now, 1000);
        assert!((299..=306).contains(&sent[0]) && sent[1..] == [0; 3], "{sent:?}");
    }
}
