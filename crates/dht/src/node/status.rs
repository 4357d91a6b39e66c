//! How well we are connected, our address as others see it, and counters (`dht.md` 1.12, 2.6).

use std::net::IpAddr;
use std::time::Instant;

use super::Node;
use super::event::{Event, NodeCounts, Stats, Status};
use super::family::{Family, PerFamily};
use super::reach::Reachability;

impl Node {
    /// The state of each family's connection to the network.
    pub fn status(&self) -> PerFamily<Status> {
        PerFamily { v4: self.nets.v4.status, v6: self.nets.v6.status }
    }

    /// Our addresses as other nodes report them, most agreed upon first. Each network of theirs has one vote.
    pub fn public_addresses(&self) -> Vec<IpAddr> {
        let ranked = self.reported.ranking(false).into_iter().chain(self.reported.ranking(true));
        ranked.map(|(address, _)| address).collect()
    }

    /// Tells which addresses this host has, on all its interfaces, and that of a router that says it passes on what
    /// comes to our port; none, if what it sends takes a detour by another host. In
    /// [`Mode::Automatic`](super::Mode::Automatic) they show whether a NAT is on the way to others.
    pub fn set_local_addresses(&mut self, now: Instant, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().map(|ip| ip.to_canonical()).collect();
        self.reach.set_own(addresses, &self.reported, now);
    }

    /// Whether others can reach this node over the public network, as far as is known.
    pub fn reachability(&self) -> PerFamily<Reachability> {
        let of = |family| self.reach.reachability(family);
        PerFamily { v4: of(Family::V4), v6: of(Family::V6) }
    }

    /// Counters and sizes.
    pub fn stats(&self, now: Instant) -> Stats {
        Stats {
            nodes: PerFamily { v4: self.counts(now, Family::V4), v6: self.counts(now, Family::V6) },
            open_requests: self.requests.len(),
            searches: self.searches.len(),
            operations: self.ops.len(),
            stored_values: self.store.len(),
            stored_bytes: self.store.remote_bytes(),
            listeners: self.store.listener_count(),
            ..self.stats.clone()
        }
    }

    fn counts(&self, now: Instant, family: Family) -> NodeCounts {
        let net = &self.nets[family];
        let mut counts =
            NodeCounts { known: net.peers.len(), depth: net.table.depth(), ..NodeCounts::default() };
        for peer in net.table.nodes().filter_map(|id| net.peers.get(id)) {
            if peer.is_good(now) {
                counts.good += 1;
            } else if !peer.is_expired() {
                counts.dubious += 1;
            }
        }
        counts
    }

    pub(super) fn family_status(&self, now: Instant, family: Family) -> Status {
        let counts = self.counts(now, family);
        if counts.good > 0 {
            Status::Connected
        } else if counts.dubious > 0 || self.is_bootstrapping(family) {
            Status::Connecting
        } else {
            Status::Disconnected
        }
    }

    /// Notices a change of state, tells of it, and looks for a way back when the last node is gone.
    pub(super) fn update_status(&mut self, now: Instant) {
        let mut changed = false;
        for family in self.families() {
            let status = self.family_status(now, family);
            let before = std::mem::replace(&mut self.nets[family].status, status);
            if status == before {
                continue;
            }
            changed = true;
            if status == Status::Disconnected && before == Status::Connected {
                self.restart_bootstrap(now);
            }
        }
        if changed {
            self.push_event(Event::Status(self.status()));
        }
    }
}
