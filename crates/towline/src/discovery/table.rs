//! Who was heard of on the local network.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use towline_identity::DeviceId;

use super::config::DiscoveryLimits;

/// A device that announced itself on the local network. Nothing proves that it is the one it says it is: dialling it
/// does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerOnLan {
    /// The device.
    pub device: DeviceId,
    /// Where the announcement came from, with the port of the device's DHT node.
    pub address: SocketAddr,
    /// When it was last heard of.
    pub seen: Instant,
}

/// The devices heard of, bounded and forgotten after a while.
#[derive(Debug)]
pub(super) struct Table {
    limits: DiscoveryLimits,
    seen: BTreeMap<(DeviceId, SocketAddr), Instant>,
}

impl Table {
    pub(super) fn new(limits: DiscoveryLimits) -> Self {
        Self { limits, seen: BTreeMap::new() }
    }

    /// Notes an announcement. When there is no room, what was heard of longest ago goes: first of the same sender,
    /// then of all.
    pub(super) fn note(&mut self, now: Instant, device: DeviceId, address: SocketAddr) {
        let key = (device, address);
        if self.seen.insert(key, now).is_some() {
            return;
        }
        let from_here = self.seen.keys().filter(|(_, other)| other.ip() == address.ip()).count();
        if from_here > self.limits.peers_per_source {
            self.remove_oldest(key, |other| other.ip() == address.ip());
        }
        if self.seen.len() > self.limits.peers {
            self.remove_oldest(key, |_| true);
        }
    }

    fn remove_oldest(&mut self, except: (DeviceId, SocketAddr), of: impl Fn(&SocketAddr) -> bool) {
        let others = self.seen.iter().filter(|(key, _)| **key != except && of(&key.1));
        if let Some((_, oldest)) = others.map(|(key, seen)| (*seen, *key)).min() {
            self.seen.remove(&oldest);
        }
    }

    /// When the next device is to be forgotten.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.seen.values().min().map(|seen| *seen + self.limits.peer_life)
    }

    /// Forgets who was not heard of for long; true if there was somebody.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let before = self.seen.len();
        self.seen.retain(|_, seen| now.saturating_duration_since(*seen) < self.limits.peer_life);
        self.seen.len() < before
    }

    /// Everybody, by device and address.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerOnLan> {
        self.seen.iter().map(|(&(device, address), &seen)| PeerOnLan { device, address, seen })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 4222))
    }

    #[test]
    fn the_table_is_bounded_and_forgets() {
        let start = Instant::now();
        let limits = DiscoveryLimits { peers: 6, peers_per_source: 2, ..DiscoveryLimits::default() };
        let life = limits.peer_life;
        let mut table = Table::new(limits);
        table.note(start, DeviceId([1; 32]), at(1));
        for liar in 2..100 {
            table.note(start + Duration::from_secs(u64::from(liar)), DeviceId([liar; 32]), at(2));
        }
        let devices: Vec<_> = table.peers().map(|peer| peer.device.0[0]).collect();
        assert_eq!(devices, [1, 98, 99], "one sender cannot push others out");
        for host in 3..9 {
            table.note(start + Duration::from_secs(200), DeviceId([host; 32]), at(host));
        }
        assert_eq!(table.peers().count(), 6);
        assert_eq!(table.poll_timeout(), Some(start + Duration::from_secs(200) + life));
        assert!(!table.handle_timeout(start + life));
        assert!(table.handle_timeout(start + Duration::from_secs(200) + life));
        assert_eq!(table.peers().count(), 0);
        assert_eq!(table.poll_timeout(), None);
    }
}
