//! Hosts, routers and their ports.

use std::{collections::BTreeMap, net::IpAddr, net::SocketAddr, time::Duration};

use rand::rngs::StdRng;
use tokio::sync::watch;
use towline_link::Direction;
use towline_net::{Gateway, InterfaceAddress};

use crate::{ills::Ills, middlebox::Middlebox, tcp, udp};

/// A host or a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortId(pub(crate) usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId(pub(crate) usize);

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// In the order of attachment.
    pub(crate) ports: Vec<PortId>,
    pub(crate) role: Role,
}

#[derive(Debug)]
pub(crate) enum Role {
    Host(Box<Sockets>),
    Router {
        inside: PortId,
        outside: PortId,
        middlebox: Box<dyn Middlebox>,
        /// When the box is asked what it has to say.
        timer: Option<Duration>,
    },
}

/// Where a node is attached to a network.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) node: NodeId,
    pub(crate) segment: SegmentId,
    /// From the node into the network.
    pub(crate) up: Direction,
    /// From the network to the node.
    pub(crate) down: Direction,
    pub(crate) addresses: Vec<InterfaceAddress>,
    pub(crate) enabled: bool,
    /// The side of a partition it is on.
    pub(crate) side: u32,
}

impl Port {
    /// Its address in this family.
    pub(crate) fn address(&self, ipv6: bool) -> Option<IpAddr> {
        self.addresses.iter().map(|own| own.addr).find(|addr| addr.is_ipv6() == ipv6)
    }
}

/// The sockets of a host.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) running: bool,
    pub(crate) udp: BTreeMap<u64, udp::Bound>,
    /// UDP sockets by port, in the order they were bound.
    pub(crate) udp_ports: BTreeMap<u16, Vec<u64>>,
    pub(crate) listeners: BTreeMap<SocketAddr, tcp::Backlog>,
    pub(crate) connections: BTreeMap<u64, tcp::Connection>,
    /// Connections by local and remote address.
    pub(crate) pairs: BTreeMap<(SocketAddr, SocketAddr), u64>,
    pub(crate) next_port: u16,
    pub(crate) entropy: StdRng,
    pub(crate) generation: watch::Sender<u64>,
    /// Routers that the host knows of.
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) ills: Ills,
}

/// Time a packet takes from a host to itself.
pub(crate) const LOOPBACK: Duration = Duration::from_micros(20);
/// The index of the loopback interface.
pub(crate) const LOOPBACK_INDEX: u32 = 1;
/// The index of the interface at the first port.
pub(crate) const FIRST_INDEX: u32 = 2;

impl Sockets {
    pub(crate) fn new(entropy: StdRng) -> Self {
        Self {
            running: true,
            udp: BTreeMap::new(),
            udp_ports: BTreeMap::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            pairs: BTreeMap::new(),
            next_port: 0,
            entropy,
            generation: watch::Sender::new(0),
            gateways: Vec::new(),
            ills: Ills::default(),
        }
    }
}
