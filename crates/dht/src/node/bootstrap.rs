//! Finding the first node: addresses are pinged, then again after 10, 20, 40 s … (`dht.md` 2.6).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Node;
use super::address::{canonical, is_martian};
use super::event::Status;
use super::family::Family;
use super::request::Purpose;
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
    addresses: Vec<SocketAddr>,
    rounds: u32,
}

impl Node {
    /// Starts from these addresses. They are kept, and asked again for as long as we are not connected.
    pub fn bootstrap(&mut self, now: Instant, addresses: &[SocketAddr]) {
        for address in addresses.iter().copied().map(canonical).filter(|address| !is_martian(address)) {
            let kept = &mut self.nets[Family::of(&address)].bootstrap.addresses;
            if !kept.contains(&address) && kept.len() < self.config.limits.bootstrap_addresses {
                kept.push(address);
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

    /// A round: everybody is pinged, unless we are connected by now.
    pub(super) fn bootstrap_due(&mut self, now: Instant, family: Family) {
        if self.nets[family].addresses().is_empty() || self.family_status(now, family) == Status::Connected {
            return;
        }
        for to in self.nets[family].addresses().to_vec() {
            if !self.requests.any(|open| open.purpose == Purpose::Bootstrap && open.to == to) {
                self.request(now, (to, None), Purpose::Bootstrap, Request::Ping);
            }
        }
        let net = &mut self.nets[family];
        let wait = PERIOD
            .saturating_mul(1_u32.checked_shl(net.bootstrap.rounds).unwrap_or(u32::MAX))
            .min(MAX_PERIOD);
        net.bootstrap.rounds = net.bootstrap.rounds.saturating_add(1).min(31);
        self.timers.set(Timer::Bootstrap(family), now + wait);
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

impl super::Net {
    fn addresses(&self) -> &[SocketAddr] {
        &self.bootstrap.addresses
    }
}
