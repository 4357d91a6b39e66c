//! What addresses have shown of themselves: proved, denied, or with an answer held back (`dht.md` 10, Should 4).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::peers::EXPIRE_TIME;
use crate::{InfoHash, Request};

/// An address that proved itself is believed for this long.
const PROOF_TIME: Duration = EXPIRE_TIME;
/// A node that answers without giving tokens is left alone for this long.
const DENIAL_TIME: Duration = Duration::from_mins(10);
/// A held answer that nobody proved himself for is dropped.
const HOLD_TIME: Duration = Duration::from_secs(10);

/// A request whose answer is larger than an unproved address may draw.
#[derive(Debug, Clone)]
pub(super) struct Held {
    since: Instant,
    pub(super) sender: InfoHash,
    pub(super) request: Request,
}

/// What became of a request that was to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is held; the asker should be pinged.
    New,
    /// It, or another of the same asker, is held already, and the ping is on its way.
    Again,
    /// No room: it is dropped, and the asker will repeat it.
    Full,
}

#[derive(Debug)]
pub(super) struct Trust {
    proved: BTreeMap<SocketAddr, Instant>,
    denied: BTreeMap<SocketAddr, Instant>,
    held: BTreeMap<(SocketAddr, u32), Held>,
    addresses: usize,
    holds: usize,
}

impl Trust {
    pub(super) fn new(addresses: usize, holds: usize) -> Self {
        Self { proved: BTreeMap::new(), denied: BTreeMap::new(), held: BTreeMap::new(), addresses, holds }
    }

    /// Whoever is at `address` received what we sent there.
    pub(super) fn prove(&mut self, address: SocketAddr, now: Instant) {
        if enter(&mut self.proved, address, now, self.addresses, PROOF_TIME) {
            self.proved.insert(address, now);
        }
    }

    pub(super) fn is_proved(&self, address: &SocketAddr, now: Instant) -> bool {
        is_recent(self.proved.get(address), now, PROOF_TIME)
    }

    /// Has nothing more to do with `address` for a while.
    pub(super) fn deny(&mut self, address: SocketAddr, now: Instant) {
        if enter(&mut self.denied, address, now, self.addresses, DENIAL_TIME) {
            self.denied.insert(address, now);
        }
    }

    pub(super) fn is_denied(&self, address: &SocketAddr, now: Instant) -> bool {
        is_recent(self.denied.get(address), now, DENIAL_TIME)
    }

    /// Keeps a request until its sender has proved that it receives at its address.
    pub(super) fn hold(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: u32,
        sender: InfoHash,
        request: Request,
    ) -> Hold {
        self.held.retain(|_, held| now.saturating_duration_since(held.since) < HOLD_TIME);
        if self.held.contains_key(&(from, transaction)) {
            return Hold::Again;
        }
        let of_sender = self.held.range((from, 0)..=(from, u32::MAX)).count();
        if self.held.len() >= self.holds || of_sender >= self.holds / 8 {
            return Hold::Full;
        }
        self.held.insert((from, transaction), Held { since: now, sender, request });
        if of_sender == 0 { Hold::New } else { Hold::Again }
    }

    /// The requests that were held for `address`.
    pub(super) fn release(&mut self, address: &SocketAddr) -> Vec<(u32, Held)> {
        let keys: Vec<_> =
            self.held.range((*address, 0)..=(*address, u32::MAX)).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| Some((key.1, self.held.remove(&key)?))).collect()
    }

    /// Forgets what is old.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.proved.retain(|_, at| now.saturating_duration_since(*at) < PROOF_TIME);
        self.denied.retain(|_, at| now.saturating_duration_since(*at) < DENIAL_TIME);
        self.held.retain(|_, held| now.saturating_duration_since(held.since) < HOLD_TIME);
    }
}

fn is_recent(at: Option<&Instant>, now: Instant, time: Duration) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(*at) < time)
}

/// Whether `address` may enter a bounded map; the old leave it first.
fn enter(
    map: &mut BTreeMap<SocketAddr, Instant>,
    address: SocketAddr,
    now: Instant,
    limit: usize,
    time: Duration,
) -> bool {
    if map.len() >= limit && !map.contains_key(&address) {
        map.retain(|_, at| now.saturating_duration_since(*at) < time);
    }
    map.len() < limit || map.contains_key(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_bounded_overall_and_for_each_asker() {
        let now = Instant::now();
        let mut trust = Trust::new(10, 16);
        let from = SocketAddr::from(([10, 0, 0, 1], 1));
        let other = SocketAddr::from(([10, 0, 0, 2], 1));
        let mut hold = |from, t| trust.hold(now, from, t, InfoHash([1; 20]), Request::Ping);
        assert_eq!(hold(from, 1), Hold::New);
        assert_eq!(hold(from, 1), Hold::Again);
        assert_eq!(hold(from, 2), Hold::Again);
        assert_eq!(hold(from, 3), Hold::Full);
        assert_eq!(hold(other, 3), Hold::New);
        assert_eq!(trust.release(&from).len(), 2);
        assert_eq!(trust.release(&from).len(), 0);
        assert_eq!(trust.release(&other).len(), 1);
    }

    #[test]
    fn denial_ends_and_the_list_is_bounded() {
        let now = Instant::now();
        let mut trust = Trust::new(2, 16);
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        for port in 1..=3 {
            trust.deny(at(port), now);
        }
        assert!(trust.is_denied(&at(1), now) && !trust.is_denied(&at(3), now));
        assert!(!trust.is_denied(&at(1), now + DENIAL_TIME));
    }
}
