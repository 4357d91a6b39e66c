//! UDP sockets.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use towline_net::{Group, Received, UdpSocket};

use crate::{
    link::Drop,
    node::{LOOPBACK_INDEX, NodeId},
    packet::{Body, Packet},
    shared::{State, World},
    sockets::failed,
    trace::Event,
};

/// Longest payload of a datagram.
const MAX_PAYLOAD: usize = 65_507;
/// What the system adds to the length of a datagram when it counts how full a buffer is.
const OVERHEAD: usize = 256;

/// A bound socket, as the host keeps it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) local: SocketAddr,
    pub(crate) shared: bool,
    pub(crate) groups: Vec<Group>,
    pub(crate) multicast_interface: Option<u32>,
    pub(crate) multicast_loop: bool,
    pub(crate) dont_fragment: bool,
    pub(crate) capacity: usize,
    pub(crate) received: VecDeque<(SocketAddr, Bytes)>,
    pub(crate) used: usize,
    pub(crate) waker: Option<Waker>,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) world: World,
    pub(crate) node: NodeId,
    pub(crate) id: u64,
    pub(crate) local: SocketAddr,
}

impl UdpSocket for Socket {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>> {
        self.world.with(|state| {
            let Some(bound) = state.sockets(self.node).udp.get_mut(&self.id) else {
                return Poll::Ready(Err(failed(io::ErrorKind::BrokenPipe, "the host has crashed")));
            };
            let Some((from, data)) = bound.received.pop_front() else {
                bound.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            bound.used -= data.len() + OVERHEAD;
            let len = data.len().min(buf.len());
            buf[..len].copy_from_slice(&data[..len]);
            Poll::Ready(Ok(Received { len, from }))
        })
    }

    fn poll_send(&self, _cx: &mut Context<'_>, payload: &[u8], to: SocketAddr) -> Poll<io::Result<()>> {
        Poll::Ready(self.try_send(payload, to))
    }

    fn try_send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        self.world.with(|state| state.send_datagram(self.node, self.id, payload, to))
    }
}

impl std::ops::Drop for Socket {
    fn drop(&mut self) {
        self.world.with(|state| state.close_udp(self.node, self.id));
    }
}

impl State {
    fn send_datagram(&mut self, node: NodeId, id: u64, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        let Some(bound) = self.sockets(node).udp.get(&id) else {
            return Err(failed(io::ErrorKind::BrokenPipe, "the host has crashed"));
        };
        let whole = bound.dont_fragment;
        let (local, interface, looped) = (bound.local, bound.multicast_interface, bound.multicast_loop);
        if local.is_ipv4() != to.is_ipv4() {
            return Err(failed(io::ErrorKind::InvalidInput, "socket and destination differ in family"));
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(failed(io::ErrorKind::InvalidInput, "a datagram has at most 65507 bytes"));
        }
        if to.port() == 0 {
            return Err(failed(io::ErrorKind::InvalidInput, "port 0 is no destination"));
        }
        let data = Body::Datagram(Bytes::copy_from_slice(payload));
        if !to.ip().is_multicast() {
            let from = SocketAddr::new(self.source(node, local.ip(), to.ip())?, local.port());
            let mut packet = Packet::new(from, to, data);
            if whole {
                packet.longest = usize::MAX;
            }
            self.originate(node, packet);
            return Ok(());
        }
        let port = self.multicast_port(node, interface, to.is_ipv6()).ok_or_else(|| {
            failed(io::ErrorKind::NetworkUnreachable, "no interface that carries multicast is up")
        })?;
        let own = self.ports[port.0].address(to.is_ipv6()).expect("the port was chosen by its address");
        let source = if local.ip().is_unspecified() || local.ip().is_multicast() { own } else { local.ip() };
        let mut packet = Packet::new(SocketAddr::new(source, local.port()), to, data);
        packet.ttl = 1;
        self.record(node, Event::Sent, &packet);
        if looped {
            let interface = Some(self.interface_index(node, port));
            self.deliver_datagram(node, interface, &packet);
        }
        self.transmit(port, packet);
        Ok(())
    }

    /// A datagram arrives at a host, by this interface or from itself.
    pub(crate) fn deliver_datagram(&mut self, node: NodeId, interface: Option<u32>, packet: &Packet) {
        let Body::Datagram(data) = &packet.body else { return };
        let interface = interface.unwrap_or(LOOPBACK_INDEX);
        let (to, from) = (packet.to, packet.from);
        let sockets = self.sockets(node);
        let on_port = sockets.udp_ports.get(&to.port()).cloned().unwrap_or_default();
        let mut chosen: Vec<u64> = Vec::new();
        if to.ip().is_multicast() {
            let group = Group { addr: to.ip(), interface };
            chosen.extend(on_port.iter().filter(|id| sockets.udp[*id].groups.contains(&group)));
            if chosen.is_empty() {
                // What nobody here has joined the network card filters: it is not an event.
                return;
            }
        } else {
            let exact = on_port.iter().find(|id| sockets.udp[*id].local == to);
            let any = |id: &&u64| {
                let local = sockets.udp[*id].local;
                local.ip().is_unspecified() && local.is_ipv6() == to.is_ipv6()
            };
            chosen.extend(exact.or_else(|| on_port.iter().find(any)));
        }
        let mut outcome = if chosen.is_empty() { Event::Dropped(Drop::NoSocket) } else { Event::Arrived };
        let mut wake = Vec::new();
        for id in chosen {
            let Some(bound) = sockets.udp.get_mut(&id) else { continue };
            if bound.used + data.len() + OVERHEAD > bound.capacity {
                outcome = Event::Dropped(Drop::SocketFull);
                continue;
            }
            bound.used += data.len() + OVERHEAD;
            bound.received.push_back((from, data.clone()));
            wake.extend(bound.waker.take());
        }
        self.wake.append(&mut wake);
        self.record(node, outcome, packet);
    }
}
