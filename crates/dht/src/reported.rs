//! Our own address as other nodes see it, by a vote that one network cannot win alone (`dht.md` 1.12, 9.1).

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Voters remembered; the oldest vote goes first.
const MAX_VOTERS: usize = 64;

/// Collects the `sa` field of answers. Voters are networks (IPv4 /24, IPv6 /48), each with one vote that the
/// latest answer from there decides.
#[derive(Debug, Default)]
pub struct ReportedAddresses {
    votes: BTreeMap<Network, Vote>,
    order: VecDeque<Network>,
}

#[derive(Debug, Clone, Copy)]
struct Vote {
    voter: IpAddr,
    seen: IpAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Network {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl Network {
    fn of(ip: IpAddr) -> Self {
        let prefix = match ip.to_canonical() {
            IpAddr::V4(ip) => ip.octets().first_chunk().copied().map(Self::V4),
            IpAddr::V6(ip) => ip.octets().first_chunk().copied().map(Self::V6),
        };
        prefix.expect("an address is longer than its prefix")
    }
}

impl ReportedAddresses {
    /// No votes yet.
    pub const fn new() -> Self {
        Self { votes: BTreeMap::new(), order: VecDeque::new() }
    }

    /// The node at `voter` says it sees us at `seen`. Unspecified and multicast addresses are no answer. True if the same
    /// voter, as far as it is remembered, saw us elsewhere before.
    pub fn report(&mut self, voter: IpAddr, seen: IpAddr) -> bool {
        let (voter, seen) = (voter.to_canonical(), seen.to_canonical());
        if seen.is_unspecified() || seen.is_multicast() {
            return false;
        }
        let network = Network::of(voter);
        if let Some(before) = self.votes.insert(network, Vote { voter, seen }) {
            return before.voter == voter && before.seen != seen;
        }
        self.order.push_back(network);
        if self.order.len() > MAX_VOTERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.votes.remove(&oldest);
        }
        false
    }

    /// Every reported address of one family with its votes, most votes first.
    pub fn ranking(&self, v6: bool) -> Vec<(IpAddr, usize)> {
        let mut counts = BTreeMap::<IpAddr, usize>::new();
        for Vote { seen, .. } in self.votes.values().filter(|vote| vote.seen.is_ipv6() == v6) {
            *counts.entry(*seen).or_default() += 1;
        }
        let mut ranking: Vec<_> = counts.into_iter().collect();
        ranking.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
        ranking
    }

    /// The address of one family with the most votes.
    pub fn best(&self, v6: bool) -> Option<IpAddr> {
        self.ranking(v6).first().map(|(seen, _)| *seen)
    }

    /// Votes that fit, by the address that gave them and the address it sees.
    pub(crate) fn count(&self, fits: impl Fn(IpAddr, IpAddr) -> bool) -> usize {
        self.votes.values().filter(|vote| fits(vote.voter, vote.seen)).count()
    }

    /// Forgets all votes: after the network has changed.
    pub fn clear(&mut self) {
        self.votes.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_network_has_one_vote() {
        let mut reported = ReportedAddresses::new();
        for host in 1..100 {
            assert!(!reported.report(ip(&format!("192.0.2.{host}")), ip("203.0.113.66")));
        }
        assert!(reported.report(ip("192.0.2.99"), ip("203.0.113.67")), "it has changed its mind");
        assert!(!reported.report(ip("192.0.2.1"), ip("203.0.113.66")), "others may see us elsewhere");
        reported.report(ip("198.51.100.1"), ip("203.0.113.1"));
        reported.report(ip("198.51.101.1"), ip("203.0.113.1"));
        reported.report(ip("198.51.102.1"), ip("2001:db8::1"));
        reported.report(ip("198.51.103.1"), ip("0.0.0.0"));
        assert_eq!(reported.ranking(false), [(ip("203.0.113.1"), 2), (ip("203.0.113.66"), 1)]);
        assert_eq!(reported.best(true), Some(ip("2001:db8::1")));
        reported.clear();
        assert_eq!(reported.best(false), None);
    }

    #[test]
    fn voters_are_bounded() {
        let mut reported = ReportedAddresses::new();
        for network in 0..=255 {
            reported.report(ip(&format!("10.0.{network}.1")), ip("203.0.113.1"));
        }
        assert_eq!(reported.ranking(false), [(ip("203.0.113.1"), MAX_VOTERS)]);
        assert_eq!(reported.order.len(), MAX_VOTERS);
    }
}
