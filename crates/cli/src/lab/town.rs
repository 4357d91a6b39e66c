//! A simulated internet with what devices need to meet: nodes of the DHT, servers that tell addresses and relay.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use towline::dht::{Dht, DhtConfig, NodeMode};
use towline::identity::Identity;
use towline::{Config, ConnectionPolicy, Node, Reach, Relay, RelaySecret, RelayTransport};
use towline_lab::{Host, Link, Network, Plan, Site, Surroundings, World};
use towline_net::Net as _;
use towline_turn_tokio::proto::{PeerPolicy, ServerConfig, Users};
use towline_turn_tokio::{RelayServer, ServerOptions};

use crate::failure::Failure;

/// Nodes of the DHT that do nothing else.
const NODES: usize = 3;
/// Servers for STUN and TURN. Two tell more about a NAT than one.
const STATIONS: usize = 2;
/// Where a station listens to UDP and TCP: its usual port, and one that nearly all firewalls let through.
const PORTS: [u16; 2] = [3478, 443];
/// From the machines of the town to the middle of the internet.
const LINE: Duration = Duration::from_millis(8);
/// Every device uses the relays under this name.
const USER: [&str; 2] = ["lab", "lab"];

/// See the module. What it is made of ends with it.
pub(super) struct Town {
    world: World,
    internet: Network,
    bootstrap: Vec<SocketAddr>,
    /// Of the stations, of each family.
    addresses: Vec<IpAddr>,
    names: BTreeMap<IpAddr, String>,
    _nodes: Vec<Dht>,
    _stations: Vec<RelayServer>,
}

/// A device of the town, running.
pub(super) struct Device {
    pub(super) node: Node,
    pub(super) site: Site,
}

impl Town {
    /// The internet has IPv6 only if it is asked for: who has public addresses of it needs nothing of this.
    pub(super) async fn build(world: &World, ipv6: bool) -> Result<Self, Failure> {
        let Plan::Internet { v4, v6 } = Plan::internet() else {
            return Err(broken("the internet", &"it is not one"));
        };
        let internet = world.network(Plan::Internet { v4, v6: v6.filter(|_| ipv6) });
        let host = |name: String| {
            let host = world.host(name);
            host.attach(internet, Link::delay(LINE));
            host
        };
        let mut names = BTreeMap::new();
        let mut called = |host: &Host| {
            let own = [Some(host.ipv4()), ipv6.then(|| host.ipv6())];
            let own: Vec<IpAddr> = own.into_iter().flatten().collect();
            names.extend(own.iter().map(|ip| (*ip, host.name())));
            own
        };
        let (mut bootstrap, mut nodes) = (Vec::<SocketAddr>::new(), Vec::new());
        for number in 1..=NODES {
            let host = host(format!("dht-{number}"));
            let mut config = DhtConfig::on_port(DhtConfig::DEFAULT_PORT);
            // The addresses of the first.
            for known in bootstrap.iter().take(if ipv6 { 2 } else { 1 }) {
                config = config.with_bootstrap(known.to_string());
            }
            let own = called(&host);
            bootstrap.extend(own.into_iter().map(|ip| SocketAddr::new(ip, DhtConfig::DEFAULT_PORT)));
            let node = Dht::start(Arc::new(host), config, None).await;
            nodes.push(node.map_err(|error| broken("a node of the DHT", &error))?);
        }
        let (mut addresses, mut stations) = (Vec::new(), Vec::new());
        for number in 1..=STATIONS {
            let host = host(format!("station-{number}"));
            let own = called(&host);
            stations.push(station(&host, &own)?);
            addresses.extend(own);
        }
        let world = world.clone();
        Ok(Self { world, internet, bootstrap, addresses, names, _nodes: nodes, _stations: stations })
    }

    /// A device in its surroundings, at such a line to the internet, that listens on these TCP ports, too.
    pub(super) async fn device(
        &self,
        name: &str,
        surroundings: impl Into<Surroundings>,
        line: Link,
        identity: Identity,
        mode: NodeMode,
        tcp_ports: &[u16],
    ) -> Result<Device, Failure> {
        let mut surroundings = surroundings.into();
        let open = surroundings.gates.is_empty();
        if let Some(border) = surroundings.gates.last_mut() {
            border.link = line.clone();
        }
        let site = self.world.site(name, self.internet, surroundings);
        if open {
            let interfaces = site.host.interfaces().map_err(|error| broken("interfaces", &error))?;
            for interface in interfaces.iter().filter(|interface| !interface.loopback) {
                site.host.set_link(interface.index, line.clone(), line.clone());
            }
        }
        let node = Node::start(Arc::new(site.host.clone()), self.config(mode, tcp_ports), identity).await;
        Ok(Device { node: node.map_err(|error| broken("a device", &error))?, site })
    }

    /// The machines of the town by their addresses.
    pub(super) fn names(&self) -> BTreeMap<IpAddr, String> {
        self.names.clone()
    }

    fn config(&self, mode: NodeMode, tcp_ports: &[u16]) -> Config {
        let mut config = Config::lan().with_policy(ConnectionPolicy::DangerouslyAnyone);
        config.dht.node.mode = mode;
        config.discovery = towline::discovery::DiscoveryConfig::off();
        for node in &self.bootstrap {
            config = config.with_bootstrap(node.to_string());
        }
        let relay = |ip: &IpAddr, port, transport| Relay {
            server: SocketAddr::new(*ip, port).to_string(),
            transport,
            user: USER[0].to_owned(),
            secret: RelaySecret::Password(USER[1].to_owned()),
        };
        let ways = [(PORTS[0], RelayTransport::Udp), (PORTS[1], RelayTransport::Tcp)];
        let relays = self.addresses.iter().flat_map(|ip| ways.map(|(port, way)| relay(ip, port, way)));
        let stun = self.addresses.iter().map(|ip| SocketAddr::new(*ip, PORTS[0]).to_string());
        config.with_reach(Reach {
            stun: stun.collect(),
            relays: relays.collect(),
            tcp_ports: tcp_ports.to_vec(),
            ..Reach::default()
        })
    }
}

fn station(host: &Host, addresses: &[IpAddr]) -> Result<RelayServer, Failure> {
    let [user, secret] = USER.map(str::to_owned);
    let (mut relay_v4, mut relay_v6) = (None, None);
    for address in addresses {
        match *address {
            IpAddr::V4(ip) => relay_v4 = Some(ip),
            IpAddr::V6(ip) => relay_v6 = Some(ip),
        }
    }
    let config = ServerConfig {
        users: Users { fixed: BTreeMap::from([(user, secret)]), secret: None },
        peers: PeerPolicy::Public,
        // All devices are one user.
        allocations_per_user: 10_000,
        allocations: 10_000,
        streams: 10_000,
        bytes_per_second: u64::from(u32::MAX),
        ..ServerConfig::default()
    };
    let listen = addresses.iter().flat_map(|ip| PORTS.map(|port| SocketAddr::new(*ip, port))).collect();
    let options = ServerOptions { config, listen, tls: None, relay_v4, relay_v6, external_v4: None };
    RelayServer::start(Arc::new(host.clone()), options).map_err(|error| broken("a station", &error))
}

pub(super) fn broken(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::Internal(format!("{what}: {why}"))
}
