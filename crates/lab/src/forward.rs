//! The way of packets through links, networks and routers.

use std::{net::IpAddr, time::Duration};

use towline_nat::{Reply, Transport, Way};

use crate::{
    link::{self, Drop},
    middlebox::{Unanswered, Verdict},
    node::{NodeId, PortId, Role},
    packet::{Body, Kind, Packet, Segment},
    prefix::Prefix,
    queue::Happening,
    shared::State,
    trace::{Event, Record},
};

/// A host that is not there is noticed by its neighbours after this long (three unanswered questions, as ARP).
const NEIGHBOUR_TIMEOUT: Duration = Duration::from_secs(3);

impl State {
    /// Lets everything happen that is due.
    pub(crate) fn happen(&mut self) {
        while let Some((_, what)) = self.queue.pop(self.now()) {
            match what {
                Happening::InNetwork { from, packet } => self.in_network(from, packet),
                Happening::AtPort { port, packet } => self.at_port(port, packet),
                Happening::AtHost { node, packet } => self.deliver(node, None, &packet),
                Happening::AtBox { node } => self.box_timer(node),
                Happening::Timer { node, connection } => self.connection_timer(node, connection),
            }
        }
    }

    /// Notes what becomes of a packet at a node.
    pub(crate) fn record(&mut self, node: NodeId, event: Event, packet: &Packet) {
        let at = self.now();
        let (kind, len) = (packet.kind(), packet.payload_len());
        self.trace.record(Record::Packet { at, node, event, kind, from: packet.from, to: packet.to, len });
    }

    /// Gives a packet to the link that leads from a port into its network.
    pub(crate) fn transmit(&mut self, from: PortId, mut packet: Packet) {
        let now = self.now();
        let port = &mut self.ports[from.0];
        let arrival = if port.enabled {
            link::send(&mut port.up, now, &mut packet, &mut self.chance)
        } else {
            Err(Drop::Outage)
        };
        match arrival {
            Ok(at) => {
                if port.up.repeats(&mut self.chance) {
                    self.queue.push(at, Happening::InNetwork { from, packet: packet.clone() });
                }
                self.queue.push(at, Happening::InNetwork { from, packet });
            }
            Err(why) => self.record(self.ports[from.0].node, Event::Dropped(why), &packet),
        }
    }

    fn in_network(&mut self, from: PortId, packet: Packet) {
        let id = self.ports[from.0].segment;
        let segment = &self.segments[id.0];
        let to = packet.to.ip();
        if to.is_multicast() {
            let others: Vec<_> = segment.ports.iter().copied().filter(|port| *port != from).collect();
            for port in others {
                self.descend(from, port, packet.clone());
            }
            return;
        }
        // A packet for elsewhere that the gateway itself sent would only come back to it.
        let gateway = segment.gateway.filter(|gateway| *gateway != from && !segment.covers(to));
        match segment.lookup(to).or(gateway) {
            Some(port) => self.descend(from, port, packet),
            None => {
                let on_link = segment.covers(to);
                let node = self.ports[from.0].node;
                self.record(node, Event::Dropped(Drop::NoRoute), &packet);
                if on_link && packet.kind() == Kind::Syn {
                    let news =
                        Packet::new(packet.to, packet.from, Body::Unreachable(packet.quoted_transport()));
                    let at = self.now() + NEIGHBOUR_TIMEOUT;
                    // A router tells who sent it, through its own box.
                    self.queue.push(at, Happening::AtPort { port: from, packet: news });
                }
            }
        }
    }

    /// Gives a packet to the link that leads from a network to a port.
    fn descend(&mut self, from: PortId, to: PortId, mut packet: Packet) {
        let now = self.now();
        let side = self.ports[from.0].side;
        let port = &mut self.ports[to.0];
        let arrival = if port.side != side {
            Err(Drop::Partition)
        } else if port.enabled {
            link::send(&mut port.down, now, &mut packet, &mut self.chance)
        } else {
            Err(Drop::Outage)
        };
        match arrival {
            Ok(at) => {
                if port.down.repeats(&mut self.chance) {
                    self.queue.push(at, Happening::AtPort { port: to, packet: packet.clone() });
                }
                self.queue.push(at, Happening::AtPort { port: to, packet });
            }
            Err(why) => self.record(self.ports[to.0].node, Event::Dropped(why), &packet),
        }
    }

    fn at_port(&mut self, at: PortId, mut packet: Packet) {
        let now = self.now();
        let node = self.ports[at.0].node;
        let Role::Router { inside, outside, middlebox, timer } = &mut self.nodes[node.0].role else {
            return self.deliver(node, Some(at), &packet);
        };
        let (inside, outside) = (*inside, *outside);
        let way = if at == inside { Way::Out } else { Way::In };
        if packet.to.ip().is_multicast() {
            // Multicast stays in its network.
            return;
        }
        if packet.ttl <= 1 {
            return self.record(node, Event::Dropped(Drop::HopLimit), &packet);
        }
        packet.ttl -= 1;
        let ends = (packet.from, packet.to);
        let verdict = middlebox.pass(now, way, &mut packet);
        if let Some(next) = middlebox.poll_timeout()
            && timer.is_none_or(|set| next < set)
        {
            *timer = Some(next);
            self.queue.push(next, Happening::AtBox { node });
        }
        let (why, reply) = match verdict {
            Verdict::Forward => return self.forward(node, inside, outside, packet),
            Verdict::Refuse => (Drop::Refused, None),
            Verdict::Drop(reason) => (Drop::Box(reason), None),
            Verdict::Reject(reason, reply) => (Drop::Box(reason), Some(reply)),
        };
        self.record(node, Event::Dropped(why), &packet);
        if let Some(reply) = reply.filter(|_| !matches!(packet.kind(), Kind::Reset | Kind::Unreachable)) {
            let transport = packet.quoted_transport();
            let body = match reply {
                Reply::Reset if transport == Transport::Tcp => Body::Segment(Segment::Reset),
                _ => Body::Unreachable(transport),
            };
            let reply = Packet::new(ends.1, ends.0, body);
            self.record(node, Event::Sent, &reply);
            self.transmit(at, reply);
        }
    }

    /// A box has let a packet pass.
    fn forward(&mut self, node: NodeId, inside: PortId, outside: PortId, packet: Packet) {
        let to = packet.to.ip();
        if self.owns(node, to) {
            // Routers run no programs.
            return self.record(node, Event::Dropped(Drop::NoSocket), &packet);
        }
        let inner = &self.segments[self.ports[inside.0].segment.0];
        let out = if inner.covers(to) { inside } else { outside };
        self.transmit(out, packet);
    }

    /// A box may have something to say that it kept back.
    fn box_timer(&mut self, node: NodeId) {
        let now = self.now();
        let Role::Router { outside, middlebox, timer, .. } = &mut self.nodes[node.0].role else { return };
        if timer.is_none_or(|set| set > now) {
            // An earlier one took the place of this one, and has set the next. Another beside it would never end.
            return;
        }
        let (outside, mut due) = (*outside, Vec::new());
        while let Some(unanswered) = middlebox.poll_unanswered(now) {
            due.push(unanswered);
        }
        *timer = middlebox.poll_timeout();
        if let Some(next) = *timer {
            self.queue.push(next, Happening::AtBox { node });
        }
        for Unanswered { from, to } in due {
            let news = Packet::new(to, from, Body::Unreachable(Transport::Tcp));
            self.record(node, Event::Sent, &news);
            self.transmit(outside, news);
        }
    }

    /// Whether a node has this address on one of its ports.
    pub(crate) fn owns(&self, node: NodeId, addr: IpAddr) -> bool {
        let mut ports = self.nodes[node.0].ports.iter();
        ports.any(|port| self.ports[port.0].addresses.iter().any(|own| own.addr == addr))
    }

    /// The port through which a host sends to this address.
    pub(crate) fn route(&self, node: NodeId, source: Option<IpAddr>, to: IpAddr) -> Option<PortId> {
        let ipv6 = to.is_ipv6();
        let ports = || {
            let own = self.nodes[node.0].ports.iter().map(|id| (*id, &self.ports[id.0]));
            own.filter(|(_, port)| port.enabled && port.address(ipv6).is_some())
        };
        let on_link =
            ports().find(|(_, port)| port.addresses.iter().any(|own| Prefix::of(*own).contains(to)));
        let default = || ports().filter(|(_, port)| self.segments[port.segment.0].leads_out(ipv6));
        let of_source =
            || default().find(|(_, port)| port.addresses.iter().any(|own| Some(own.addr) == source));
        on_link.or_else(of_source).or_else(|| default().next()).map(|(id, _)| id)
    }
}
