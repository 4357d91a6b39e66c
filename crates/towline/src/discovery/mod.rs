//! Finding nodes and devices on the local network by multicast.
//!
//! Two services share OpenDHT's packets, group and port: `dht`, by which DHT nodes find each other without a
//! bootstrap host, and `towline`, by which devices announce that they are there. What is learnt of the first goes to
//! the [`Dht`], what is learnt of the second is a table that can be [listed](Discovery::peers),
//! [watched](Discovery::events) and [waited for](Discovery::wait_for).
//!
//! Nothing in it is authenticated, so nothing is believed: a DHT node found this way is one among others, and a device
//! is only a hint where to look for it. Announcing tells everybody on the local network which device this is; by
//! default that is off. Spec: `dht.md` 6.

mod config;
mod driver;
mod links;
mod meter;
mod table;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use towline_identity::DeviceId;
use towline_net::Net;

pub use config::{
    DiscoveryConfig, DiscoveryError, DiscoveryLimits, DiscoveryMode, DiscoveryReach, PerSecond,
};
pub use table::PeerOnLan;

use crate::dht::Dht;
use driver::Driver;
use links::Links;
use meter::Meter;
use table::Table;

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiscoveryStats {
    /// Interfaces in use, each family for itself.
    pub links: usize,
    /// Queries received from others.
    pub queries: u64,
    /// Queries answered.
    pub answers: u64,
    /// Announcements received from others.
    pub announcements: u64,
    /// Datagrams that were no discovery packet.
    pub malformed: u64,
    /// Datagrams not read and queries not answered because there were too many.
    pub limited: u64,
}

/// What the handles see.
#[derive(Debug, Clone, Default)]
struct View {
    peers: Arc<[PeerOnLan]>,
    stats: DiscoveryStats,
}

/// Discovery at work. Cloning is cheap; it ends when the last clone and the last [`Sightings`] are gone, or when the
/// DHT is shut down.
#[derive(Debug, Clone)]
pub struct Discovery {
    view: watch::Receiver<View>,
    wanted: Arc<Notify>,
}

impl Discovery {
    /// Starts discovery beside `dht`. DHT nodes that are found are given to it; in [`DiscoveryMode::Full`] it is
    /// announced, and so is `device`.
    ///
    /// Must be called from within a tokio runtime.
    pub fn start(
        net: Arc<dyn Net>,
        config: DiscoveryConfig,
        dht: &Dht,
        device: Option<DeviceId>,
    ) -> Result<Self, DiscoveryError> {
        let (sender, view) = watch::channel(View::default());
        let wanted = Arc::new(Notify::new());
        let discovery = Self { view, wanted: Arc::clone(&wanted) };
        if config.mode == DiscoveryMode::Off {
            return Ok(discovery);
        }
        if let Some(group) = config.groups().find(|group| !group.ip().is_multicast() || group.port() == 0) {
            return Err(DiscoveryError::NotAGroup(group));
        }
        // Before the interfaces are looked at, so that no change is missed.
        let changes = net.changes();
        let links = Links::open(&*net, &config)?;
        sender.send_modify(|view| view.stats.links = links.iter().count());
        let driver = Driver {
            links,
            dht: dht.clone(),
            device,
            table: Table::new(config.limits.clone()),
            view: sender,
            wanted,
            changes,
            datagrams: Meter::new(config.limits.datagrams),
            answers: Meter::new(config.limits.answers),
            net,
            config,
        };
        tokio::spawn(driver.run());
        Ok(discovery)
    }

    /// The devices heard of lately, by device and address. Never more than [`DiscoveryLimits::peers`].
    pub fn peers(&self) -> Arc<[PeerOnLan]> {
        Arc::clone(&self.view.borrow().peers)
    }

    /// Where a device was heard of lately.
    pub fn addresses_of(&self, device: &DeviceId) -> Vec<SocketAddr> {
        self.peers().iter().filter(|peer| peer.device == *device).map(|peer| peer.address).collect()
    }

    /// Devices as they come, beginning with those that are known now.
    pub fn events(&self) -> Sightings {
        let mut view = self.view.clone();
        view.mark_changed();
        Sightings { view, known: BTreeSet::new(), arrived: VecDeque::new() }
    }

    /// Asks who is there, and waits until `device` is heard of; `None` if discovery is off or has ended. There is no
    /// limit of time. Cancel safe.
    pub async fn wait_for(&self, device: DeviceId) -> Option<PeerOnLan> {
        self.ask();
        let mut events = self.events();
        while let Some(peer) = events.next().await {
            if peer.device == device {
                return Some(peer);
            }
        }
        None
    }

    /// Asks everybody on the local network to announce themselves, at most once a second. Answers come as
    /// [`events`](Self::events).
    pub fn ask(&self) {
        self.wanted.notify_one();
    }

    /// Counters since the start.
    pub fn stats(&self) -> DiscoveryStats {
        self.view.borrow().stats
    }
}

/// Devices as they are heard of. A device is reported when it appears, and again when it has been silent for so long
/// that it was forgotten, or announces another address.
#[derive(Debug)]
pub struct Sightings {
    view: watch::Receiver<View>,
    known: BTreeSet<(DeviceId, SocketAddr)>,
    arrived: VecDeque<PeerOnLan>,
}

impl Sightings {
    /// The next device; `None` if discovery is off or has ended. Cancel safe.
    ///
    /// One that came and was forgotten between two calls is not reported.
    pub async fn next(&mut self) -> Option<PeerOnLan> {
        loop {
            if let Some(peer) = self.arrived.pop_front() {
                return Some(peer);
            }
            self.view.changed().await.ok()?;
            let peers = Arc::clone(&self.view.borrow_and_update().peers);
            let key = |peer: &PeerOnLan| (peer.device, peer.address);
            self.arrived.extend(peers.iter().filter(|peer| !self.known.contains(&key(peer))));
            self.known = peers.iter().map(key).collect();
        }
    }
}
