//! What a node has for reaching out, common to all its attempts.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;
use towline_ice::gather::Via;
use towline_net::{Net, TcpListener};
use towline_portmap::{PortMapper, Transport};
use towline_turn_tokio::RelaySocket;

use super::doors::{Door, Doors, View};
use super::memory::ServerReport;
use super::punching::Punches;
use super::questions::Questions;
use super::relay::Relays;
use super::relaying::Relaying;
use super::stun::StunServers;
use super::{Outside, Reach};

/// See the module.
#[derive(Debug)]
pub(crate) struct Means {
    net: Arc<dyn Net>,
    stun: Arc<StunServers>,
    relays: Option<Arc<Relays>>,
    mapper: Option<PortMapper>,
    doors: Option<Doors>,
    punches: Punches,
}

/// An address of a socket that is to be reached from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
}

impl Means {
    /// With these listeners at [`Reach::tcp_ports`] ([`listen`](super::listen)).
    pub(crate) fn start(
        net: &Arc<dyn Net>,
        reach: &Reach,
        listeners: Vec<Box<dyn TcpListener>>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let stun = Arc::new(StunServers::start(net, &reach.stun, tasks));
        let relays = (!reach.relays.is_empty())
            .then(|| Arc::new(Relays::new(Arc::clone(net), &reach.relays, reach.relay_roots.clone())));
        if let Some(relays) = &relays {
            tasks.spawn(Arc::clone(relays).keep_checked());
        }
        let mapper = reach
            .port_mapping
            .then(|| PortMapper::start(Arc::clone(net), towline_portmap::Options::default()));
        let view = |ports: &[u16]| {
            View::new(Arc::clone(net), ports, Arc::clone(&stun), relays.clone(), mapper.as_ref())
        };
        let asks = !reach.stun.is_empty() || relays.is_some();
        let doors = Doors::open(listeners, view, asks, tasks);
        Self { net: Arc::clone(net), stun, relays, mapper, doors, punches: Punches::default() }
    }

    /// Begins to find out how `bases` are seen from outside, for the agent with this user name fragment.
    pub(crate) fn begin(&self, bases: &[Base], ufrag: &str) -> Outside {
        let relaying = self.relays.as_ref().map(|relays| Relaying::new(Arc::clone(relays), ufrag));
        let (punches, door, own) = (self.punches.clone(), self.enter(bases, ufrag), self.own(bases));
        Outside::new(self.questions(&own), relaying, door, &mappable(&own), self.mapper.as_ref(), punches)
    }

    /// Begins anew, after the agent was restarted.
    pub(crate) fn begin_anew(&self, outside: &mut Outside, bases: &[Base], ufrag: &str) {
        let (door, own) = (self.enter(bases, ufrag), self.own(bases));
        outside.begin_anew(self.questions(&own), door, ufrag, &mappable(&own), self.mapper.as_ref());
    }

    /// The addresses that only this attempt has.
    fn own(&self, bases: &[Base]) -> Vec<Base> {
        let common = |base: &&Base| self.doors.as_ref().is_some_and(|doors| doors.has(base));
        bases.iter().filter(|base| !common(base)).copied().collect()
    }

    /// A share of the ports common to all.
    fn enter(&self, bases: &[Base], ufrag: &str) -> Option<Door> {
        let ips = bases.iter().map(|base| base.address.ip()).collect();
        self.doors.as_ref().map(|doors| doors.enter(ufrag, ips))
    }

    fn questions(&self, bases: &[Base]) -> Option<Questions> {
        let base = |base: &Base| match base.transport {
            Transport::Udp => (Via::Udp, base.address),
            Transport::Tcp => (Via::Tcp, base.address),
        };
        let seen_at: Vec<_> = bases.iter().map(base).collect();
        let spares = self.relays.as_ref().map_or_else(Vec::new, |relays| relays.on_tcp());
        Questions::new(&self.net, self.stun.targets(), &spares, &seen_at)
    }

    /// Who keeps ports of routers, if that is wanted.
    pub(crate) fn mapper(&self) -> Option<&PortMapper> {
        self.mapper.as_ref()
    }

    /// Gives the ports of routers back, within about two seconds.
    pub(crate) async fn close(&self) {
        if let Some(mapper) = &self.mapper {
            mapper.shutdown().await;
        }
    }

    /// What is known of every server that may be asked.
    pub(crate) fn servers(&self) -> Vec<ServerReport> {
        let now = towline_net::now();
        let relays = self.relays.iter().flat_map(|relays| relays.reports(now));
        self.stun.reports(now).chain(relays).collect()
    }

    /// An address on a relay that nothing else uses.
    pub(crate) async fn relayed_socket(&self) -> Option<RelaySocket> {
        self.relays.as_ref()?.socket().await
    }

    /// The network has changed: what stands may not stand any more.
    pub(crate) fn check(&self) {
        if let Some(relays) = &self.relays {
            relays.check();
        }
    }
}

/// Routers map for IPv4 only; one port is mapped once, whatever addresses it has.
fn mappable(bases: &[Base]) -> Vec<Base> {
    let mut mapped: Vec<Base> = bases.iter().copied().filter(|base| base.address.is_ipv4()).collect();
    mapped.dedup_by_key(|base| (base.transport, base.address.port()));
    mapped
}
