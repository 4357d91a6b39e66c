//! How the common ports are seen from outside: asked of STUN servers and the router, once for all attempts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use towline_ice::gather::Via;
use towline_net::{BoxFuture, Net};
use towline_portmap::{PortMapper, PortMapping, Transport};

use super::{Shared, lock};
use crate::reach::Base;
use crate::reach::outside::mapped_candidate;
use crate::reach::questions::{KEEP, Questions};
use crate::reach::relay::Relays;
use crate::reach::stun::StunServers;

/// What is known is not asked again before this, after the connections to servers were closed: until then the system may not let
/// the same two ports connect again (TIME-WAIT, RFC 9293 section 3.6.1).
const REST: Duration = Duration::from_mins(2);

/// See the module.
pub(in crate::reach) struct View {
    net: Arc<dyn Net>,
    ports: Vec<u16>,
    stun: Arc<StunServers>,
    relays: Option<Arc<Relays>>,
    questions: Option<Questions>,
    /// The host's addresses that are asked about.
    ips: Vec<IpAddr>,
    /// When they are asked about again.
    again: Option<Instant>,
    /// Mappings of the router that are being asked for, and those that stand. They are kept for as long as the node.
    settling: Vec<(u16, BoxFuture<'static, PortMapping>)>,
    settled: Vec<(u16, PortMapping)>,
}

impl View {
    pub(in crate::reach) fn new(
        net: Arc<dyn Net>,
        ports: &[u16],
        stun: Arc<StunServers>,
        relays: Option<Arc<Relays>>,
        mapper: Option<&PortMapper>,
    ) -> Self {
        let ask = |mapper: &PortMapper, port: u16| -> BoxFuture<'static, PortMapping> {
            let mut mapping = mapper.map(Transport::Tcp, port);
            Box::pin(async move {
                mapping.settled().await;
                mapping
            })
        };
        let settling =
            mapper.into_iter().flat_map(|mapper| ports.iter().map(move |port| (*port, ask(mapper, *port))));
        Self {
            net,
            ports: ports.to_vec(),
            stun,
            relays,
            questions: None,
            ips: Vec::new(),
            again: None,
            settling: settling.collect(),
            settled: Vec::new(),
        }
    }

    /// Asks, and takes in what is answered. True if there was anything.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant, shared: &Shared) -> bool {
        let entered = lock(shared).entered.take();
        let mut moved = entered.is_some();
        if let Some(ips) = entered {
            self.enter(now, ips, shared);
        }
        let (mut granted, settled) = (Vec::new(), &mut self.settled);
        self.settling.retain_mut(|(port, mapping)| {
            let Poll::Ready(mapping) = mapping.as_mut().poll(cx) else { return true };
            granted.push(settled.len());
            settled.push((*port, mapping));
            false
        });
        moved |= !granted.is_empty();
        for number in granted {
            self.tell_mapping(number, shared);
        }
        let Some(questions) = &mut self.questions else { return moved };
        // Begins connections, and nothing else: there is no base for datagrams.
        while questions.poll_ask().is_some() {}
        moved |= questions.poll(cx, now);
        while let Some(candidate) = questions.poll_candidate(now) {
            moved = true;
            lock(shared).see(candidate);
        }
        if questions.is_done() {
            lock(shared).settle();
        }
        moved
    }

    /// An attempt begins.
    fn enter(&mut self, now: Instant, ips: Vec<IpAddr>, shared: &Shared) {
        let same = self.ips == ips;
        let standing = self.questions.as_mut().is_some_and(|questions| same && questions.keep(now));
        let recent = self.again.is_some_and(|again| now < again);
        // Also if none of it is worth telling, as behind a NAT that gives other ports.
        let answered = |questions: &Questions| !questions.gatherer.observations(Via::Tcp).is_empty();
        let known = same && recent && self.questions.as_ref().is_some_and(answered);
        if standing || known {
            if standing {
                self.again = Some(now + KEEP + REST);
            }
            return;
        }
        let bases = || ips.iter().flat_map(|ip| self.ports.iter().map(|port| SocketAddr::new(*ip, *port)));
        let bases: Vec<_> = bases().map(|base| (Via::Tcp, base)).collect();
        let spares = self.relays.as_ref().map_or_else(Vec::new, |relays| relays.on_tcp());
        self.questions = Questions::new(&self.net, self.stun.targets(), &spares, &bases);
        (self.ips, self.again) = (ips, Some(now + KEEP + REST));
        lock(shared).begin_round();
        if self.questions.is_none() {
            lock(shared).settle();
        }
        for number in 0..self.settled.len() {
            self.tell_mapping(number, shared);
        }
    }

    /// The router lets peers in there. It maps IPv4 only.
    fn tell_mapping(&self, number: usize, shared: &Shared) {
        let (port, mapping) = &self.settled[number];
        let Some(ip) = self.ips.iter().find(|ip| ip.is_ipv4()) else { return };
        let base = Base { transport: Transport::Tcp, address: SocketAddr::new(*ip, *port) };
        if let Some(candidate) = mapped_candidate(base, mapping, number) {
            lock(shared).see(candidate);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.questions.as_ref().and_then(Questions::poll_timeout)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(questions) = &mut self.questions {
            questions.handle_timeout(now);
        }
    }
}
