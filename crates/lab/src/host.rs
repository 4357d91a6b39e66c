//! A host: what a program runs on.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use rand::Rng;
use towline_link::{Direction, Link};
use towline_net::{
    BoxFuture, Changes, Gateway, Interface, InterfaceAddress, Net, TcpConnect, TcpListener, TcpStream,
    UdpBind, UdpSocket,
};

use crate::{
    ills::{Names, PATIENCE},
    network::Network,
    node::{FIRST_INDEX, LOOPBACK_INDEX, NodeId, Port, PortId},
    shared::{State, World},
    sockets::failed,
    tcp, udp,
};

/// A host of a [`World`], and its network as programs see it ([`Net`]).
///
/// A cheap handle; all clones are one host. An interface is named by its index, which [`attach`](Self::attach)
/// returns.
#[derive(Clone)]
pub struct Host {
    pub(crate) world: World,
    pub(crate) node: NodeId,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.name()).finish()
    }
}

impl Host {
    /// Its name.
    pub fn name(&self) -> String {
        self.world.with(|state| state.nodes[self.node.0].name.clone())
    }

    /// What it is called where hosts and routers are listed together.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Adds an interface with fresh addresses, attached to a network by the same link in both directions.
    pub fn attach(&self, network: Network, link: Link) -> u32 {
        self.attach_by(network, link.clone(), link)
    }

    /// Adds an interface with fresh addresses, attached to a network by a link into it and one out of it.
    pub fn attach_by(&self, network: Network, up: Link, down: Link) -> u32 {
        self.world.with(|state| {
            let port = state.attach(self.node, network, up, down, false);
            state.announce(self.node);
            state.interface_index(self.node, port)
        })
    }

    /// Its first IPv4 address that is not loopback.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn ipv4(&self) -> IpAddr {
        self.address(false).expect("the host has an IPv4 address")
    }

    /// Its first IPv6 address that is not loopback.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn ipv6(&self) -> IpAddr {
        self.address(true).expect("the host has an IPv6 address")
    }

    fn address(&self, ipv6: bool) -> Option<IpAddr> {
        self.world.with(|state| {
            let ports = &state.nodes[self.node.0].ports;
            ports.iter().find_map(|port| state.ports[port.0].address(ipv6))
        })
    }

    fn port<T>(&self, interface: u32, act: impl FnOnce(&mut Port) -> T) -> T {
        self.world.with(|state| {
            let port = state.port_of(self.node, interface);
            act(&mut state.ports[port.0])
        })
    }

    /// Replaces the links of an interface; packets on their way are not affected.
    ///
    /// # Panics
    ///
    /// This and the methods that follow: if there is no such interface, or it is the loopback interface.
    pub fn set_link(&self, interface: u32, up: Link, down: Link) {
        self.port(interface, |port| {
            port.up.set_link(up);
            port.down.set_link(down);
        });
    }

    /// Lets the links of an interface swallow everything, or ends that. The host is not told.
    pub fn set_outage(&self, interface: u32, out: bool) {
        self.port(interface, |port| {
            port.up.set_outage(out);
            port.down.set_outage(out);
        });
    }

    /// Takes an interface down or up; the host is told.
    pub fn set_up(&self, interface: u32, up: bool) {
        self.port(interface, |port| port.enabled = up);
        self.world.with(|state| state.announce(self.node));
    }

    /// Replaces the addresses of an interface by fresh ones of its network; the host is told.
    pub fn readdress(&self, interface: u32) {
        let network = self.port(interface, |port| Network(port.segment));
        self.roam(interface, network);
    }

    /// Moves an interface to another network, where it gets fresh addresses; the host is told.
    pub fn roam(&self, interface: u32, network: Network) {
        self.world.with(|state| {
            let port = state.port_of(self.node, interface);
            state.move_port(port, network);
            state.announce(self.node);
        });
    }

    /// Pulls the plug of an interface: it is down and has no addresses any more, and the host is told. Sockets bound to
    /// them stay, and are silent.
    pub fn unplug(&self, interface: u32) {
        self.world.with(|state| {
            let id = state.port_of(self.node, interface);
            let port = &mut state.ports[id.0];
            port.enabled = false;
            let own = std::mem::take(&mut port.addresses);
            let segment = port.segment;
            state.segments[segment.0].release(&own);
            state.announce(self.node);
        });
    }

    /// Plugs an interface into a network, where it gets fresh addresses and is up; the host is told.
    pub fn plug(&self, interface: u32, network: Network) {
        self.port(interface, |port| port.enabled = true);
        self.roam(interface, network);
    }

    /// Says which routers it knows of ([`Net::gateways`]): whom it asks for ports. None, unless this was called. Its packets
    /// take the way that they took before, and it is not told.
    pub fn set_gateways(&self, gateways: Vec<Gateway>) {
        self.world.with(|state| state.sockets(self.node).gateways = gateways);
    }

    /// Cuts the power: every socket of the host fails from now on, and nobody is told. Its tasks are the caller's.
    pub fn crash(&self) {
        self.world.with(|state| state.crash(self.node));
    }

    /// Gives the power back after a [`crash`](Self::crash): new sockets can be bound.
    pub fn boot(&self) {
        self.world.with(|state| state.sockets(self.node).running = true);
    }

    /// Connections the host knows, also those that are opening, closing or waiting to be accepted.
    pub fn connections(&self) -> usize {
        self.world.with(|state| state.sockets(self.node).connections.len())
    }
}

impl State {
    pub(crate) fn attach(
        &mut self,
        node: NodeId,
        network: Network,
        up: Link,
        down: Link,
        router: bool,
    ) -> PortId {
        let id = PortId(self.ports.len());
        let segment = &mut self.segments[network.0.0];
        let addresses = segment.allocate(id, router);
        segment.ports.push(id);
        self.ports.push(Port {
            node,
            segment: network.0,
            up: Direction::new(up),
            down: Direction::new(down),
            addresses,
            enabled: true,
            side: 0,
        });
        self.nodes[node.0].ports.push(id);
        id
    }

    pub(crate) fn move_port(&mut self, id: PortId, network: Network) {
        let port = &mut self.ports[id.0];
        let left = &mut self.segments[port.segment.0];
        left.ports.retain(|other| *other != id);
        left.release(&port.addresses);
        let entered = &mut self.segments[network.0.0];
        entered.ports.push(id);
        port.segment = network.0;
        port.side = 0;
        port.addresses = entered.allocate(id, false);
    }

    fn port_of(&self, node: NodeId, interface: u32) -> PortId {
        let at = interface.checked_sub(FIRST_INDEX).map(|at| at as usize);
        let port = at.and_then(|at| self.nodes[node.0].ports.get(at));
        *port.unwrap_or_else(|| panic!("the host has no interface {interface}"))
    }

    /// Tells a host that its interfaces have changed.
    fn announce(&mut self, node: NodeId) {
        self.sockets(node).generation.send_modify(|number| *number += 1);
    }
}

impl Net for Host {
    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let own = |addr: IpAddr, prefix| InterfaceAddress { addr, prefix };
        let loopback = Interface {
            name: "lo".to_owned(),
            index: LOOPBACK_INDEX,
            addresses: vec![own(Ipv4Addr::LOCALHOST.into(), 8), own(Ipv6Addr::LOCALHOST.into(), 128)],
            loopback: true,
            up: true,
            multicast: false,
        };
        Ok(self.world.with(|state| {
            let ports = state.nodes[self.node.0].ports.iter().enumerate();
            let others = ports.map(|(at, id)| {
                let port = &state.ports[id.0];
                let mut addresses = port.addresses.clone();
                addresses.sort_unstable();
                Interface {
                    name: format!("eth{at}"),
                    index: FIRST_INDEX + at as u32,
                    addresses,
                    loopback: false,
                    up: port.enabled,
                    multicast: state.segments[port.segment.0].carries_multicast(),
                }
            });
            std::iter::once(loopback).chain(others).collect()
        }))
    }

    fn gateways(&self) -> io::Result<Vec<Gateway>> {
        Ok(self.world.with(|state| state.sockets(self.node).gateways.clone()))
    }

    fn changes(&self) -> Changes {
        Changes::new(self.world.with(|state| state.sockets(self.node).generation.subscribe()))
    }

    fn bind_udp(&self, options: &UdpBind) -> io::Result<Box<dyn UdpSocket>> {
        let (id, local) = self.world.with(|state| state.bind_udp(self.node, options))?;
        Ok(Box::new(udp::Socket { world: self.world.clone(), node: self.node, id, local }))
    }

    fn listen_tcp(&self, addr: SocketAddr) -> io::Result<Box<dyn TcpListener>> {
        let (id, local) = self.world.with(|state| state.listen(self.node, addr))?;
        Ok(Box::new(tcp::Listener { world: self.world.clone(), node: self.node, id, local }))
    }

    fn connect_tcp(
        &self,
        to: SocketAddr,
        options: TcpConnect,
    ) -> BoxFuture<'static, io::Result<Box<dyn TcpStream>>> {
        let (world, node) = (self.world.clone(), self.node);
        Box::pin(async move {
            let id = world.with(|state| state.connect(node, to, options))?;
            let connecting = tcp::Connecting::new(world, node, id);
            match tokio::time::timeout(options.timeout, connecting).await {
                Ok(outcome) => Ok(Box::new(outcome?) as Box<dyn TcpStream>),
                Err(_) => Err(failed(io::ErrorKind::TimedOut, "the other side did not answer")),
            }
        })
    }

    /// Addresses, and names of hosts of the world.
    fn resolve(&self, host_port: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let names = self.world.with(|state| state.sockets(self.node).ills.names);
        let found = match names {
            _ if host_port.parse::<SocketAddr>().is_ok() => resolve(&self.world, host_port),
            Names::Answered => resolve(&self.world, host_port),
            Names::Unknown => Err(failed(io::ErrorKind::NotFound, "the name has no address")),
            Names::Silent => {
                return Box::pin(async {
                    tokio::time::sleep(PATIENCE).await;
                    Err(failed(io::ErrorKind::TimedOut, "no name server answered"))
                });
            }
        };
        Box::pin(std::future::ready(found))
    }

    fn unix_time(&self) -> Duration {
        self.world.with(|state| {
            let clock = state.sockets(self.node).ills.clock;
            clock.unwrap_or(state.options.unix_start) + state.now()
        })
    }

    fn fill_random(&self, out: &mut [u8]) {
        self.world.with(|state| state.sockets(self.node).entropy.fill_bytes(out));
    }

    fn offload_job(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

fn resolve(world: &World, host_port: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(addr) = host_port.parse() {
        return Ok(vec![addr]);
    }
    let parts = host_port.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?)));
    let (name, port): (_, u16) =
        parts.ok_or_else(|| failed(io::ErrorKind::InvalidInput, "not of the form host:port"))?;
    let found: Vec<_> = world.with(|state| {
        let node = state.nodes.iter().find(|node| node.name == name);
        let ports = node.into_iter().flat_map(|node| &node.ports);
        let addresses = ports.flat_map(|port| &state.ports[port.0].addresses);
        addresses.map(|own| SocketAddr::new(own.addr, port)).collect()
    });
    if found.is_empty() {
        return Err(failed(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}
