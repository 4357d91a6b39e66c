//! Finding the first node: addresses are pinged, then again after 10, 20, 40 s … (`dht.md` 2.6).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Node;
use super::address::{canonical, is_martian};
use super::event::Status;
use super::family::Family;
use super::request::{Open, Purpose};
use super::search::SearchKey;
use super::timers::Timer;
use crate::{InfoHash, Request};

/// First wait between two rounds.
const PERIOD: Duration = Duration::from_secs(10);
/// Longest wait between two rounds.
const MAX_PERIOD: Duration = Duration::from_hours(24);

/// Where a family starts from.
#[derive(Debug, Default)]
pub(super) struct Bootstrap {
    /// The addresses, and whether somebody ever answered there.
    addresses: Vec<(SocketAddr, bool)>,
    rounds: u32,
}

impl Node {
    /// Starts from these addresses: each is pinged now. They are kept, and pinged again after 10, 20, 40 s … for as
    /// long as the family is not connected; one that never answered also later, so that two halves of a network that
    /// started apart find together.
    pub fn bootstrap(&mut self, now: Instant, addresses: &[SocketAddr]) {
        for address in addresses.iter().copied().map(canonical).filter(|address| !is_martian(address)) {
            let net = &mut self.nets[Family::of(&address)];
            let kept = &mut net.bootstrap.addresses;
            let known = kept.iter().any(|(other, _)| *other == address);
            if !known && kept.len() < self.config.limits.bootstrap_addresses {
                kept.push((address, false));
            }
            if net.enabled {
                self.bootstrap_ping(now, address);
            }
        }
        self.restart_bootstrap(now);
        self.settle(now);
    }

    /// Begins anew with short waits.
    pub(super) fn restart_bootstrap(&mut self, now: Instant) {
        for family in self.families() {
            self.nets[family].bootstrap.rounds = 0;
            self.bootstrap_due(now, family);
        }
    }

    /// A round: everybody is pinged; once we are connected, only those that never answered.
    pub(super) fn bootstrap_due(&mut self, now: Instant, family: Family) {
        let connected = self.family_status(now, family) == Status::Connected;
        let bootstrap = &mut self.nets[family].bootstrap;
        let silent = bootstrap.addresses.iter().filter(|(_, answered)| !answered || !connected);
        let silent: Vec<SocketAddr> = silent.map(|(address, _)| *address).collect();
        if silent.is_empty() {
            return;
        }
        let wait =
            PERIOD.saturating_mul(1_u32.checked_shl(bootstrap.rounds).unwrap_or(u32::MAX)).min(MAX_PERIOD);
        bootstrap.rounds = bootstrap.rounds.saturating_add(1).min(31);
        self.timers.set(Timer::Bootstrap(family), now + wait);
        for address in silent {
            self.bootstrap_ping(now, address);
        }
    }

    /// Something is to be looked for: while nobody is known, in no family, that does not wait for the next round.
    pub(super) fn bootstrap_wanted(&mut self, now: Instant, family: Family) {
        let known = |family: Family| {
            let net = &self.nets[family];
            net.table.nodes().filter_map(|id| net.peers.get(id)).any(|peer| !peer.is_expired())
        };
        if self.families().into_iter().any(known) {
            return;
        }
        let addresses = &self.nets[family].bootstrap.addresses;
        let addresses: Vec<SocketAddr> = addresses.iter().map(|(address, _)| *address).collect();
        for address in addresses {
            self.bootstrap_ping(now, address);
        }
    }

    fn bootstrap_ping(&mut self, now: Instant, to: SocketAddr) {
        // One that should have been answered by now may have left before the network was there.
        let asked = |open: &Open| open.purpose == Purpose::Bootstrap && open.to == to && !open.is_late();
        if !self.requests.any(asked) {
            self.request(now, (to, None), Purpose::Bootstrap, Request::Ping);
        }
    }

    /// Somebody is at a bootstrap address.
    pub(super) fn bootstrap_answered(&mut self, to: SocketAddr) {
        let addresses = &mut self.nets[Family::of(&to)].bootstrap.addresses;
        if let Some((_, answered)) = addresses.iter_mut().find(|(address, _)| *address == to) {
            *answered = true;
        }
    }

    /// A bootstrap address is silent: searches that waited for it may have nothing left to wait for.
    pub(super) fn bootstrap_failed(&mut self, family: Family) {
        let keys: Vec<SearchKey> = self.searches.keys().filter(|key| key.family == family).copied().collect();
        self.dirty.extend(keys);
    }

    /// Adds a node known from elsewhere, such as a state file or the local network, without asking it first.
    pub fn insert_node(&mut self, now: Instant, id: InfoHash, address: SocketAddr) {
        let address = canonical(address);
        let usable = !is_martian(&address) && self.nets[Family::of(&address)].enabled;
        if usable && id != self.id && !id.is_zero() {
            self.mention(now, id, address);
            self.settle(now);
        }
    }
}
