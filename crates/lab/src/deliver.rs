//! Packets at their end: sockets of hosts.

use std::{io, net::SocketAddr};

use towline_nat::Transport;

use crate::{
    link::Drop,
    node::{LOOPBACK, LOOPBACK_INDEX, NodeId, PortId, Role, Sockets},
    packet::{Body, Packet, Segment, TCP_HEADER, ip_header},
    queue::Happening,
    shared::State,
    tcp::{BACKLOG, Connection, Owner, Phase},
    trace::Event,
};

/// Segments from a host to itself.
const LOOPBACK_MSS: usize = 16 << 10;

impl State {
    pub(crate) fn sockets(&mut self, node: NodeId) -> &mut Sockets {
        match &mut self.nodes[node.0].role {
            Role::Host(sockets) => sockets,
            Role::Router { .. } => unreachable!("only hosts are asked for sockets"),
        }
    }

    pub(crate) fn connection(&mut self, node: NodeId, id: u64) -> Option<&mut Connection> {
        self.sockets(node).connections.get_mut(&id)
    }

    /// The index by which a host knows a port.
    pub(crate) fn interface_index(&self, node: NodeId, port: PortId) -> u32 {
        let at = self.nodes[node.0].ports.iter().position(|own| *own == port);
        at.map_or(LOOPBACK_INDEX, |at| at as u32 + crate::node::FIRST_INDEX)
    }

    /// Sends a packet of a host on its way.
    pub(crate) fn originate(&mut self, node: NodeId, packet: Packet) {
        let to = packet.to.ip();
        self.record(node, Event::Sent, &packet);
        if to.is_loopback() || self.owns(node, to) {
            let at = self.now() + LOOPBACK;
            self.queue.push(at, Happening::AtHost { node, packet });
        } else if let Some(port) = self.route(node, Some(packet.from.ip()), to)
            && self.owns(node, packet.from.ip())
        {
            // As Linux has it: what has an address that is gone falls silent.
            self.transmit(port, packet);
        } else {
            self.record(node, Event::Dropped(Drop::NoRoute), &packet);
        }
    }

    /// Bytes of a segment on the way to this address.
    pub(crate) fn mss(&self, node: NodeId, from: SocketAddr, to: SocketAddr) -> usize {
        match self.route(node, Some(from.ip()), to.ip()) {
            Some(port) if !self.owns(node, to.ip()) => {
                self.ports[port.0].up.link().mtu - ip_header(to.is_ipv6()) - TCP_HEADER
            }
            _ => LOOPBACK_MSS,
        }
    }

    /// A packet arrives at a host, through a port or from itself.
    pub(crate) fn deliver(&mut self, node: NodeId, port: Option<PortId>, packet: &Packet) {
        let to = packet.to.ip();
        if !self.sockets(node).running {
            return self.record(node, Event::Dropped(Drop::HostDown), packet);
        }
        if !(to.is_multicast() || to.is_loopback() || self.owns(node, to)) {
            return self.record(node, Event::Dropped(Drop::NoRoute), packet);
        }
        match &packet.body {
            Body::Datagram(_) => {
                let interface = port.map(|port| self.interface_index(node, port));
                self.deliver_datagram(node, interface, packet);
            }
            Body::Segment(segment) => {
                let segment = segment.clone();
                self.deliver_segment(node, packet, segment);
            }
            Body::Unreachable(Transport::Udp) => {
                // Sockets are not told: a fault of one destination is none of theirs.
                self.record(node, Event::Arrived, packet);
            }
            Body::Unreachable(Transport::Tcp) => {
                self.record(node, Event::Arrived, packet);
                let pair = (packet.to, packet.from);
                let Some(id) = self.sockets(node).pairs.get(&pair).copied() else { return };
                let mut wake = Vec::new();
                if let Some(connection) = self.connection(node, id)
                    && matches!(connection.phase, Phase::Asked { .. })
                {
                    connection.die(io::ErrorKind::HostUnreachable, &mut wake);
                }
                self.wake.append(&mut wake);
            }
        }
    }

    fn deliver_segment(&mut self, node: NodeId, packet: &Packet, segment: Segment) {
        let now = self.now();
        let pair = (packet.to, packet.from);
        let known = self.sockets(node).pairs.get(&pair).copied();
        let id = match (known, &segment) {
            (Some(id), _) => id,
            (None, Segment::Syn { limit }) => {
                let Some(listener) = self.listener_for(node, packet.to) else {
                    return self.refuse(node, packet);
                };
                let limit = *limit;
                let (mss, buffer) = (self.mss(node, packet.to, packet.from), self.options.tcp_buffer);
                let Some(backlog) = self.sockets(node).listeners.get_mut(&listener) else { return };
                if backlog.waiting >= BACKLOG {
                    return self.record(node, Event::Dropped(Drop::SocketFull), packet);
                }
                backlog.waiting += 1;
                let connection = Connection::answer(now, pair, mss, buffer, backlog.id, limit);
                self.record(node, Event::Arrived, packet);
                let id = self.add_connection(node, connection);
                return self.drive(node, id);
            }
            (None, Segment::Reset) => return self.record(node, Event::Dropped(Drop::NoSocket), packet),
            (None, _) => return self.refuse(node, packet),
        };
        self.record(node, Event::Arrived, packet);
        let mut wake = std::mem::take(&mut self.wake);
        let mut accepted = None;
        if let Some(connection) = self.connection(node, id) {
            let before = connection.phase;
            connection.handle(now, segment, &mut wake);
            let opened = before != Phase::Open && connection.phase == Phase::Open;
            if let (true, Owner::Listener(listener)) = (opened, connection.owner) {
                accepted = Some(listener);
            }
        }
        if let Some(listener) = accepted {
            let found = self.sockets(node).listeners.values_mut().find(|backlog| backlog.id == listener);
            if let Some(backlog) = found {
                backlog.open.push_back(id);
                wake.extend(backlog.waker.take());
            }
        }
        self.wake = wake;
        self.drive(node, id);
    }

    /// Nobody here knows what this segment is about.
    fn refuse(&mut self, node: NodeId, packet: &Packet) {
        self.record(node, Event::Dropped(Drop::NoSocket), packet);
        self.originate(node, Packet::new(packet.to, packet.from, Body::Segment(Segment::Reset)));
    }

    /// The address under which a listener for this destination is kept.
    fn listener_for(&mut self, node: NodeId, to: SocketAddr) -> Option<SocketAddr> {
        let listeners = &self.sockets(node).listeners;
        let any = SocketAddr::new(crate::sockets::unspecified(to.is_ipv6()), to.port());
        [to, any].into_iter().find(|addr| listeners.contains_key(addr))
    }

    pub(crate) fn add_connection(&mut self, node: NodeId, connection: Connection) -> u64 {
        let id = self.next_id();
        let sockets = self.sockets(node);
        sockets.pairs.insert((connection.local, connection.remote), id);
        sockets.connections.insert(id, connection);
        id
    }

    fn remove_connection(&mut self, node: NodeId, id: u64) {
        let sockets = self.sockets(node);
        let Some(connection) = sockets.connections.remove(&id) else { return };
        sockets.pairs.remove(&(connection.local, connection.remote));
    }

    /// Sends what a connection has to say, sets its timer, and forgets it when it is over. Follows every change.
    pub(crate) fn drive(&mut self, node: NodeId, id: u64) {
        let now = self.now();
        while let Some(connection) = self.connection(node, id) {
            let (from, to) = (connection.local, connection.remote);
            let Some(segment) = connection.next_segment(now) else { break };
            self.originate(node, Packet::new(from, to, Body::Segment(segment)));
        }
        let Some(connection) = self.connection(node, id) else { return };
        if connection.is_finished() {
            return self.remove_connection(node, id);
        }
        if let (Some(_), Owner::Listener(listener)) = (connection.error(), connection.owner) {
            // It ended before it was accepted, and nobody has seen it yet.
            let listeners = &mut self.sockets(node).listeners;
            if let Some(backlog) = listeners.values_mut().find(|backlog| backlog.id == listener) {
                backlog.waiting -= 1;
                backlog.open.retain(|open| *open != id);
            }
            return self.remove_connection(node, id);
        }
        if let Some(at) = connection.deadline()
            && connection.timer.is_none_or(|set| at < set)
        {
            connection.timer = Some(at);
            self.queue.push(at, Happening::Timer { node, connection: id });
        }
    }

    pub(crate) fn connection_timer(&mut self, node: NodeId, id: u64) {
        let now = self.now();
        let Some(connection) = self.connection(node, id) else { return };
        if connection.timer.is_none_or(|set| set > now) {
            // An earlier one took the place of this one, and has set the next. Another beside it would never end.
            return;
        }
        connection.timer = None;
        let mut wake = std::mem::take(&mut self.wake);
        if let Some(connection) = self.connection(node, id) {
            connection.handle_timeout(now, &mut wake);
        }
        self.wake = wake;
        self.drive(node, id);
    }
}
