//! The task of discovery.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use towline_dht::discovery::{Announcement, DeviceService, DhtService, Packet};
use towline_identity::DeviceId;
use towline_net::{Changes, Net};

use super::View;
use super::config::{DiscoveryConfig, DiscoveryMode};
use super::links::{Arrival, Link, Links};
use super::meter::Meter;
use super::table::Table;
use crate::dht::{Dht, NodeMode, Status};

/// Longest datagram that is read. Other services share the map, but it stays a datagram.
const MAX_DATAGRAM: usize = 4096;
/// Pauses between announcements while the DHT is not connected; the last one repeats (`dht.md` 6).
const PAUSES: [Duration; 4] =
    [Duration::from_secs(10), Duration::from_secs(20), Duration::from_secs(40), Duration::from_mins(1)];
/// How often those who are there are asked anyhow, so that the table stays fresh.
const REFRESH: Duration = Duration::from_mins(5);
/// Least time between two queries that programs ask for.
const QUERY_PAUSE: Duration = Duration::from_secs(1);
/// After a socket broke, all are opened anew after this time.
const REPAIR: Duration = Duration::from_secs(5);

/// Everything the task owns.
pub(super) struct Driver {
    pub(super) net: Arc<dyn Net>,
    pub(super) config: DiscoveryConfig,
    pub(super) links: Links,
    pub(super) dht: Dht,
    pub(super) device: Option<DeviceId>,
    pub(super) table: Table,
    pub(super) view: watch::Sender<View>,
    pub(super) wanted: Arc<Notify>,
    pub(super) changes: Changes,
    pub(super) datagrams: Meter,
    pub(super) answers: Meter,
}

/// When what is to be done.
struct Agenda {
    /// Announcements of this spell without a connection.
    round: usize,
    /// The next query and announcement.
    speak: Instant,
    /// The last query.
    asked: Option<Instant>,
    /// Somebody wants a query as soon as one may be sent.
    wanted: bool,
    repair: Option<Instant>,
}

impl Driver {
    pub(super) async fn run(mut self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut status = self.dht.watch_status();
        let now = towline_net::now();
        let mut agenda = Agenda { round: 0, speak: now, asked: None, wanted: false, repair: None };
        loop {
            let now = towline_net::now();
            self.handle_timeouts(now, &mut agenda);
            let wake = self.wake_at(&agenda);
            tokio::select! {
                biased;
                // The last handle is gone.
                () = self.view.closed() => return,
                () = self.changes.changed() => {
                    agenda.repair = Some(now);
                    agenda.restart(now);
                }
                changed = status.changed() => {
                    if changed.is_err() {
                        // The DHT has ended, and the device with it.
                        return;
                    }
                    if self.dht.status() == Status::Disconnected {
                        agenda.restart(now);
                    }
                }
                () = self.wanted.notified() => agenda.wanted = true,
                arrival = poll_fn(|cx| self.links.poll_recv(cx, &mut buffer)) => match arrival {
                    Ok(arrival) => {
                        let data = &buffer[..arrival.received.len];
                        self.receive(towline_net::now(), arrival, data).await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a socket of discovery broke");
                        agenda.repair = Some(now + REPAIR);
                    }
                },
                () = towline_net::sleep_until(wake) => {}
            }
        }
    }

    fn wake_at(&self, agenda: &Agenda) -> Instant {
        let asked = agenda.asked.filter(|_| agenda.wanted).map(|asked| asked + QUERY_PAUSE);
        let others = [self.table.poll_timeout(), agenda.repair, asked];
        others.into_iter().flatten().fold(agenda.speak, Instant::min)
    }

    fn handle_timeouts(&mut self, now: Instant, agenda: &mut Agenda) {
        if self.table.handle_timeout(now) {
            self.publish();
        }
        if agenda.repair.is_some_and(|at| at <= now) {
            agenda.repair = None;
            // The old ones hold the port in a way that is shared: they may go first or last.
            match Links::open(&*self.net, &self.config) {
                Ok(links) => self.links = links,
                Err(error) => {
                    tracing::warn!(%error, "discovery is blind");
                    self.links = Links::default();
                    agenda.repair = Some(now + REPAIR);
                }
            }
            self.view.send_modify(|view| view.stats.links = self.links.iter().count());
        }
        if agenda.speak <= now {
            self.ask(now, agenda);
            let connected = self.dht.status() == Status::Connected;
            if !connected || agenda.round == 0 {
                self.announce();
            }
            let pause = PAUSES[agenda.round.min(PAUSES.len() - 1)];
            agenda.speak = now + if connected { REFRESH } else { pause };
            agenda.round += 1;
        }
        if agenda.wanted
            && agenda.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= QUERY_PAUSE)
        {
            self.ask(now, agenda);
        }
    }

    /// Asks everybody who is there.
    fn ask(&self, now: Instant, agenda: &mut Agenda) {
        agenda.asked = Some(now);
        agenda.wanted = false;
        let query = Packet::Query.encode();
        for link in self.links.iter() {
            link.send(&query, link.group);
        }
    }

    /// Tells everybody what we are.
    fn announce(&self) {
        for link in self.links.iter() {
            self.announce_to(link, link.group);
        }
    }

    /// True if there was something to tell.
    fn announce_to(&self, link: &Link, to: SocketAddr) -> bool {
        if self.config.mode != DiscoveryMode::Full {
            return false;
        }
        let addrs = self.dht.local_addrs();
        let Some(addr) = (if link.group.is_ipv4() { addrs.v4 } else { addrs.v6 }) else { return false };
        let port = addr.port();
        let dht = DhtService { id: self.dht.node_id(), port, network: self.dht.network() };
        let announcement = Announcement {
            // A node that only asks is of no use to others.
            dht: (self.dht.mode() != NodeMode::Client).then_some(dht),
            device: self.device.map(|device| DeviceService { device, port }),
        };
        if announcement == Announcement::default() {
            return false;
        }
        link.send(&Packet::Announcement(announcement).encode(), to);
        true
    }

    async fn receive(&mut self, now: Instant, arrival: Arrival, data: &[u8]) {
        let from = arrival.received.from;
        // Multicast of ours comes back to us, as it does to the other programs of this host.
        if self.links.are_source_of(from) {
            return;
        }
        if !self.datagrams.admit(now, from.ip()) {
            self.count(|stats| &mut stats.limited);
            return;
        }
        match Packet::decode(data) {
            Err(error) => {
                tracing::trace!(%from, %error, "not a discovery packet");
                self.count(|stats| &mut stats.malformed);
            }
            Ok(Packet::Query) => {
                self.count(|stats| &mut stats.queries);
                if !self.answers.admit(now, from.ip()) {
                    self.count(|stats| &mut stats.limited);
                } else if self.links.get(arrival.link).is_some_and(|link| self.announce_to(link, from)) {
                    self.count(|stats| &mut stats.answers);
                }
            }
            Ok(Packet::Announcement(announcement)) => {
                self.count(|stats| &mut stats.announcements);
                self.learn(now, from, announcement).await;
            }
        }
    }

    async fn learn(&mut self, now: Instant, from: SocketAddr, announcement: Announcement) {
        let at = |port: u16| {
            let mut addr = from;
            addr.set_port(port);
            addr
        };
        if let Some(dht) = announcement.dht
            && (dht.network, dht.port != 0) == (self.dht.network(), true)
            && dht.id != self.dht.node_id()
        {
            tracing::debug!(id = %dht.id, addr = %at(dht.port), "a DHT node on the local network");
            // A DHT that has ended ends this task too, by its status.
            let _ = self.dht.insert_node(dht.id, at(dht.port)).await;
        }
        if let Some(service) = announcement.device
            && service.port != 0
            && Some(service.device) != self.device
        {
            self.table.note(now, service.device, at(service.port));
            self.publish();
        }
    }

    fn publish(&self) {
        let peers = self.table.peers().collect();
        self.view.send_modify(|view| view.peers = peers);
    }

    /// Counts without waking those who watch the devices.
    fn count(&self, counter: impl FnOnce(&mut super::DiscoveryStats) -> &mut u64) {
        self.view.send_if_modified(|view| {
            *counter(&mut view.stats) += 1;
            false
        });
    }
}

impl Agenda {
    /// Begins again with short pauses.
    fn restart(&mut self, now: Instant) {
        self.round = 0;
        self.speak = now;
    }
}
