//! Building a world.

use std::net::IpAddr;

use rand::{SeedableRng, rngs::StdRng};
use towline_link::Link;

use crate::{
    host::Host,
    middlebox::Middlebox,
    network::{Network, Plan, Segment},
    node::{Node, NodeId, PortId, Role, SegmentId, Sockets},
    prefix::Prefix,
    shared::{State, World},
};

/// A router between an inside and an outside network.
#[derive(Debug, Clone)]
pub struct Router {
    world: World,
    node: NodeId,
    outside: PortId,
}

impl Router {
    /// What it is called where hosts and routers are listed together.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Its addresses on the outside network, in the order it got them.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.world.with(|state| state.ports[self.outside.0].addresses.iter().map(|own| own.addr).collect())
    }

    /// Replaces its addresses on the outside network by fresh ones, as many providers do every night.
    pub fn readdress(&self) {
        self.world.with(|state| {
            let network = Network(state.ports[self.outside.0].segment);
            state.move_port(self.outside, network);
            state.reattach(self.node);
        });
    }

    /// Gives it one more IPv4 address on the outside network.
    ///
    /// # Panics
    ///
    /// If the network has no IPv4 addresses.
    pub fn add_address(&self) -> IpAddr {
        self.world.with(|state| {
            let port = &mut state.ports[self.outside.0];
            let segment = &mut state.segments[port.segment.0];
            let (four, six): (Vec<_>, Vec<_>) =
                segment.allocate(self.outside, false).into_iter().partition(|own| own.addr.is_ipv4());
            segment.release(&six);
            let own = *four.first().expect("the network has IPv4 addresses");
            port.addresses.push(own);
            state.reattach(self.node);
            own.addr
        })
    }

    /// Lets the link to the outside swallow everything, or ends that.
    pub fn set_outage(&self, out: bool) {
        self.world.with(|state| {
            let port = &mut state.ports[self.outside.0];
            port.up.set_outage(out);
            port.down.set_outage(out);
        });
    }

    /// Replaces the links to and from the outside; packets on their way are not affected.
    pub fn set_link(&self, up: Link, down: Link) {
        self.world.with(|state| {
            let port = &mut state.ports[self.outside.0];
            port.up.set_link(up);
            port.down.set_link(down);
        });
    }
}

impl World {
    /// Adds a network.
    pub fn network(&self, plan: Plan) -> Network {
        self.with(|state| {
            state.segments.push(Segment::new(plan));
            Network(SegmentId(state.segments.len() - 1))
        })
    }

    /// Adds an internet ([`Plan::internet`]).
    pub fn internet(&self) -> Network {
        self.network(Plan::internet())
    }

    /// Adds a local network with addresses that no other has ([`Plan::lan`]).
    pub fn lan(&self) -> Network {
        let number = self.with(|state| state.segments.len() as u16);
        self.network(Plan::lan(number))
    }

    /// Adds a host, attached to nothing yet. By its name others can resolve its addresses.
    pub fn host(&self, name: impl Into<String>) -> Host {
        let name = name.into();
        let node = self.with(|state| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&state.options.seed.to_le_bytes());
            seed[8..16].copy_from_slice(&(state.nodes.len() as u64 + 1).to_le_bytes());
            let role = Role::Host(Box::new(Sockets::new(StdRng::from_seed(seed))));
            state.nodes.push(Node { name, ports: Vec::new(), role });
            NodeId(state.nodes.len() - 1)
        });
        Host { world: self.clone(), node }
    }

    /// Adds a router between a local network, whose gateway it becomes, and an outside network, to which
    /// `link` leads. What passes is up to the middlebox.
    pub fn router(
        &self,
        name: impl Into<String>,
        inside: Network,
        outside: Network,
        link: Link,
        middlebox: impl Middlebox,
    ) -> Router {
        let name = name.into();
        let (node, outside) = self.with(|state| state.add_router(name, inside, outside, link, middlebox));
        Router { world: self.clone(), node, outside }
    }

    /// Cuts these hosts and routers off from everybody else in a network; among themselves they are connected.
    ///
    /// Each call makes one more side. Packets on their way still arrive.
    pub fn partition(&self, network: Network, apart: &[NodeId]) {
        self.with(|state| {
            let ports = state.segments[network.0.0].ports.clone();
            let side = ports.iter().map(|port| state.ports[port.0].side).max().unwrap_or(0) + 1;
            for port in ports {
                let port = &mut state.ports[port.0];
                if apart.contains(&port.node) {
                    port.side = side;
                }
            }
        });
    }

    /// Ends every partition of a network.
    pub fn heal(&self, network: Network) {
        self.with(|state| {
            for port in state.segments[network.0.0].ports.clone() {
                state.ports[port.0].side = 0;
            }
        });
    }
}

impl State {
    fn add_router(
        &mut self,
        name: String,
        inner: Network,
        outer: Network,
        link: Link,
        mut middlebox: impl Middlebox,
    ) -> (NodeId, PortId) {
        let node = NodeId(self.nodes.len());
        // The role is completed below, when its ports exist.
        let placeholder = Role::Host(Box::new(Sockets::new(StdRng::from_seed([0; 32]))));
        self.nodes.push(Node { name, ports: Vec::new(), role: placeholder });
        let inside = self.attach(node, inner, Link::ethernet(), Link::ethernet(), true);
        let outside = self.attach(node, outer, link.clone(), link, false);
        let own: Vec<_> = self.ports[outside.0].addresses.iter().map(|own| own.addr).collect();
        middlebox.attached(self.now(), &own);
        for prefix in self.segments[inner.0.0].blocks() {
            if middlebox.announces(prefix.is_ipv6()) {
                self.announce_route(outside, prefix);
            }
        }
        self.segments[inner.0.0].gateway = Some(inside);
        self.nodes[node.0].role =
            Role::Router { inside, outside, middlebox: Box::new(middlebox), timer: None };
        (node, outside)
    }

    /// Tells a box which addresses it has outside.
    fn reattach(&mut self, node: NodeId) {
        let now = self.now();
        let Role::Router { outside, middlebox, .. } = &mut self.nodes[node.0].role else { return };
        let own: Vec<_> = self.ports[outside.0].addresses.iter().map(|own| own.addr).collect();
        middlebox.attached(now, &own);
    }

    /// Lets a network know that a block lies behind a port, and the networks further out as far as its routers
    /// announce it.
    fn announce_route(&mut self, port: PortId, prefix: Prefix) {
        let mut port = port;
        loop {
            let segment = &mut self.segments[self.ports[port.0].segment.0];
            segment.add_route(prefix, port);
            let Some(gateway) = segment.gateway else { return };
            let Role::Router { outside, middlebox, .. } = &self.nodes[self.ports[gateway.0].node.0].role
            else {
                return;
            };
            if !middlebox.announces(prefix.is_ipv6()) {
                return;
            }
            port = *outside;
        }
    }
}
