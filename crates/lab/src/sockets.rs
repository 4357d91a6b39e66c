//! Binding, listening, connecting: the rules about addresses and ports.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use towline_net::{TcpConnect, UdpBind};

use crate::{
    node::{FIRST_INDEX, NodeId, PortId, Sockets},
    packet::{Body, Packet, Segment},
    shared::State,
    tcp::{Backlog, Connection, Owner},
    udp::Bound,
};

pub(crate) fn failed(kind: io::ErrorKind, why: &'static str) -> io::Error {
    io::Error::new(kind, why)
}

pub(crate) fn unspecified(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Whether two sockets of one host would receive the same.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv6() == other.is_ipv6() && (any || one.ip() == other.ip())
}

/// A free port, from where the last search ended.
fn free_port(sockets: &mut Sockets, taken: impl Fn(&Sockets, u16) -> bool) -> io::Result<u16> {
    let (first, last) = (*sockets.ills.ports.start(), *sockets.ills.ports.end());
    for _ in first..=last {
        let port = sockets.next_port.max(first);
        let port = if port > last { first } else { port };
        sockets.next_port = port.checked_add(1).unwrap_or(first);
        if !taken(sockets, port) {
            return Ok(port);
        }
    }
    Err(failed(io::ErrorKind::AddrInUse, "no port is free"))
}

impl State {
    /// Checks that a socket may have this address.
    fn check_local(&mut self, node: NodeId, addr: IpAddr) -> io::Result<()> {
        if !self.sockets(node).running {
            return Err(failed(io::ErrorKind::NetworkDown, "the host has crashed"));
        }
        if addr.is_unspecified() || addr.is_loopback() || addr.is_multicast() || self.owns(node, addr) {
            return Ok(());
        }
        Err(failed(io::ErrorKind::AddrNotAvailable, "no interface of the host has this address"))
    }

    /// The source address of packets to this destination.
    pub(crate) fn source(&mut self, node: NodeId, bound: IpAddr, to: IpAddr) -> io::Result<IpAddr> {
        let reachable = to.is_loopback() || self.owns(node, to);
        let bound = Some(bound).filter(|bound| !bound.is_unspecified());
        if let Some(bound) = bound {
            self.check_local(node, bound)?;
        }
        if reachable {
            return Ok(bound.unwrap_or(to));
        }
        let port = self
            .route(node, bound, to)
            .ok_or_else(|| failed(io::ErrorKind::NetworkUnreachable, "no interface leads there"))?;
        let own = self.ports[port.0].address(to.is_ipv6());
        Ok(bound.or(own).expect("a route is by a port that has an address of the family"))
    }

    /// The port that multicast goes out of.
    pub(crate) fn multicast_port(&self, node: NodeId, wanted: Option<u32>, ipv6: bool) -> Option<PortId> {
        let ports = self.nodes[node.0].ports.iter().copied().enumerate();
        let mut wanted_ports =
            ports.filter(|(at, _)| wanted.is_none_or(|index| *at as u32 + FIRST_INDEX == index));
        let carries = |port: PortId| {
            let port = &self.ports[port.0];
            let segment = &self.segments[port.segment.0];
            port.enabled && port.address(ipv6).is_some() && segment.carries_multicast()
        };
        wanted_ports.find(|(_, port)| carries(*port)).map(|(_, port)| port)
    }

    pub(crate) fn bind_udp(&mut self, node: NodeId, options: &UdpBind) -> io::Result<(u64, SocketAddr)> {
        self.check_local(node, options.addr.ip())?;
        let ports = self.nodes[node.0].ports.len() as u32;
        for group in &options.groups {
            if group.addr.is_ipv6() != options.addr.is_ipv6() || !group.addr.is_multicast() {
                return Err(failed(io::ErrorKind::InvalidInput, "not a group of the socket's family"));
            }
            if group.interface == 0 || group.interface >= FIRST_INDEX + ports {
                return Err(failed(io::ErrorKind::NotFound, "no interface has this index"));
            }
        }
        self.sockets(node).check_room()?;
        let id = self.next_id();
        let sockets = self.sockets(node);
        let mut local = options.addr;
        let taken = |sockets: &Sockets, port: u16| {
            let wanted = SocketAddr::new(local.ip(), port);
            let mut there = sockets.udp_ports.get(&port).into_iter().flatten().map(|id| &sockets.udp[id]);
            there.any(|other| collide(other.local, wanted) && !(other.shared && options.shared))
        };
        if local.port() == 0 {
            let port = free_port(sockets, taken)?;
            local.set_port(port);
        } else if taken(sockets, local.port()) {
            return Err(failed(io::ErrorKind::AddrInUse, "another socket has this address"));
        }
        sockets.udp_ports.entry(local.port()).or_default().push(id);
        let bound = Bound {
            local,
            shared: options.shared,
            groups: options.groups.clone(),
            multicast_interface: options.multicast_interface,
            multicast_loop: options.multicast_loop,
            dont_fragment: options.dont_fragment,
            capacity: options.buffer,
            received: std::collections::VecDeque::new(),
            used: 0,
            waker: None,
        };
        sockets.udp.insert(id, bound);
        Ok((id, local))
    }

    pub(crate) fn close_udp(&mut self, node: NodeId, id: u64) {
        let sockets = self.sockets(node);
        let Some(bound) = sockets.udp.remove(&id) else { return };
        if let Some(on_port) = sockets.udp_ports.get_mut(&bound.local.port()) {
            on_port.retain(|other| *other != id);
            if on_port.is_empty() {
                sockets.udp_ports.remove(&bound.local.port());
            }
        }
        // The waker may own what is not to be dropped under the lock.
        self.wake.extend(bound.waker);
    }

    pub(crate) fn listen(&mut self, node: NodeId, mut addr: SocketAddr) -> io::Result<(u64, SocketAddr)> {
        self.check_local(node, addr.ip())?;
        self.sockets(node).check_room()?;
        let id = self.next_id();
        let sockets = self.sockets(node);
        let taken = |sockets: &Sockets, port: u16| {
            let wanted = SocketAddr::new(addr.ip(), port);
            sockets.listeners.keys().any(|other| collide(*other, wanted))
        };
        if addr.port() == 0 {
            let port = free_port(sockets, taken)?;
            addr.set_port(port);
        } else if taken(sockets, addr.port()) {
            return Err(failed(io::ErrorKind::AddrInUse, "another listener has this address"));
        }
        sockets.listeners.insert(addr, Backlog::new(id));
        Ok((id, addr))
    }

    pub(crate) fn backlog(&mut self, node: NodeId, local: SocketAddr, id: u64) -> Option<&mut Backlog> {
        self.sockets(node).listeners.get_mut(&local).filter(|backlog| backlog.id == id)
    }

    /// A program takes a connection from a backlog.
    pub(crate) fn accept(&mut self, node: NodeId, id: u64) -> (SocketAddr, SocketAddr) {
        let connection = self.connection(node, id).expect("connections in a backlog exist");
        connection.owner = Owner::Program;
        (connection.local, connection.remote)
    }

    /// Closes a listener and resets what nobody accepted.
    pub(crate) fn close_listener(&mut self, node: NodeId, local: SocketAddr, id: u64) {
        if self.backlog(node, local, id).is_none() {
            return;
        }
        let sockets = self.sockets(node);
        let backlog = sockets.listeners.remove(&local);
        let waiting: Vec<_> = sockets
            .connections
            .iter()
            .filter(|(_, connection)| connection.owner == Owner::Listener(id))
            .map(|(id, connection)| (*id, connection.local, connection.remote))
            .collect();
        self.wake.extend(backlog.and_then(|backlog| backlog.waker));
        for (id, local, remote) in waiting {
            let sockets = self.sockets(node);
            sockets.connections.remove(&id);
            sockets.pairs.remove(&(local, remote));
            self.originate(node, Packet::new(local, remote, Body::Segment(Segment::Reset)));
        }
    }

    pub(crate) fn connect(&mut self, node: NodeId, to: SocketAddr, options: TcpConnect) -> io::Result<u64> {
        let now = self.now();
        let bound = options.local.unwrap_or(SocketAddr::new(unspecified(to.is_ipv6()), 0));
        if bound.is_ipv6() != to.is_ipv6() || to.port() == 0 {
            return Err(failed(io::ErrorKind::InvalidInput, "not a destination for this local address"));
        }
        self.check_local(node, bound.ip())?;
        self.sockets(node).check_room()?;
        // As the systems have it: "any" as a destination is this host.
        let mut to = to;
        if to.ip().is_unspecified() {
            let local: IpAddr =
                if to.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
            to.set_ip(local);
        }
        let source = self.source(node, bound.ip(), to.ip())?;
        let sockets = self.sockets(node);
        let mut local = SocketAddr::new(source, bound.port());
        let taken = |sockets: &Sockets, port: u16| {
            let wanted = SocketAddr::new(source, port);
            sockets.pairs.contains_key(&(wanted, to))
                || sockets.listeners.keys().any(|other| collide(*other, wanted))
        };
        if local.port() == 0 {
            let port = free_port(sockets, taken)?;
            local.set_port(port);
        } else if sockets.pairs.contains_key(&(local, to)) {
            return Err(failed(io::ErrorKind::AddrInUse, "this connection exists already"));
        }
        let (mss, buffer) = (self.mss(node, local, to), self.options.tcp_buffer);
        let id = self.add_connection(node, Connection::ask(now, local, to, mss, buffer));
        self.drive(node, id);
        Ok(id)
    }

    /// The host loses its power: every socket is gone, and nobody is told.
    pub(crate) fn crash(&mut self, node: NodeId) {
        let sockets = self.sockets(node);
        sockets.running = false;
        sockets.pairs.clear();
        sockets.udp_ports.clear();
        let udp = std::mem::take(&mut sockets.udp);
        let listeners = std::mem::take(&mut sockets.listeners);
        let connections = std::mem::take(&mut sockets.connections);
        self.wake.extend(udp.into_values().filter_map(|bound| bound.waker));
        self.wake.extend(listeners.into_values().filter_map(|backlog| backlog.waker));
        let wakers = connections.into_values().flat_map(|connection| [connection.reader, connection.writer]);
        self.wake.extend(wakers.flatten());
    }
}
