//! How the sockets of one attempt are seen from outside: asked of STUN servers, of relays, of the router.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use towline_ice::gather::{GatherAction, GatherEvent, Gatherer, NatReport};
use towline_ice::{Candidate, TcpType, Transport};
use towline_net::BoxFuture;
use towline_portmap::{MappingState, PortMapping};

use super::RelayPort;
use super::means::Base;

/// Reflexive candidates of mappings are numbered from here, behind those of STUN servers.
const MAPPED: u16 = 64;

/// Something that was found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// A further address of a socket.
    Candidate(Candidate),
    /// A further socket, which has a candidate of its own.
    Relay(RelayPort),
}

/// A question to a STUN server.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) payload: Bytes,
}

/// A mapping as it settles, with what it is for.
type Settling = BoxFuture<'static, (Base, PortMapping, Option<SocketAddr>)>;

/// See the module.
pub(crate) struct Outside {
    gatherer: Option<Gatherer>,
    relay: Option<BoxFuture<'static, Option<RelayPort>>>,
    settling: Vec<Settling>,
    /// What stands; given back when this is dropped.
    mapped: Vec<PortMapping>,
    findings: VecDeque<Finding>,
}

impl Outside {
    pub(super) fn new(
        gatherer: Option<Gatherer>,
        relay: Option<BoxFuture<'static, Option<RelayPort>>>,
        mappings: Vec<(Base, PortMapping)>,
    ) -> Self {
        let settling = mappings.into_iter().map(|(base, mapping)| settle(base, mapping)).collect();
        Self { gatherer, relay, settling, mapped: Vec::new(), findings: VecDeque::new() }
    }

    /// Nothing more is to be waited for. A mapping may come all the same: routers take their time.
    pub(crate) fn is_done(&self) -> bool {
        self.relay.is_none() && self.gatherer.as_ref().is_none_or(Gatherer::is_done)
    }

    /// Takes in what came. True if there was anything.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.findings.len();
        let mut moved = false;
        if let Some(relay) = &mut self.relay
            && let Poll::Ready(port) = relay.as_mut().poll(cx)
        {
            self.relay = None;
            self.findings.extend(port.map(Finding::Relay));
            moved = true;
        }
        let Self { settling, mapped, findings, .. } = self;
        settling.retain_mut(|mapping| {
            let Poll::Ready((base, mapping, external)) = mapping.as_mut().poll(cx) else { return true };
            if let Some(external) = external {
                let transport = match base.transport {
                    towline_portmap::Transport::Udp => Transport::Udp,
                    towline_portmap::Transport::Tcp => Transport::Tcp(TcpType::Passive),
                };
                let index = MAPPED + mapped.len() as u16;
                let candidate = Candidate::reflexive(transport, external, base.address, index);
                findings.push_back(Finding::Candidate(candidate));
                mapped.push(mapping);
            }
            false
        });
        while let Some(event) = self.gatherer.as_mut().and_then(Gatherer::poll_event) {
            moved = true;
            if let GatherEvent::Candidate(candidate) = event {
                self.findings.push_back(Finding::Candidate(candidate));
            }
        }
        moved || self.findings.len() > before
    }

    /// The next thing that was found.
    pub(crate) fn poll_finding(&mut self) -> Option<Finding> {
        self.findings.pop_front()
    }

    /// The next question to be sent.
    pub(crate) fn poll_ask(&mut self) -> Option<Ask> {
        loop {
            // The servers are asked by datagrams only.
            if let GatherAction::SendUdp { local, remote, payload } = self.gatherer.as_mut()?.poll_action()? {
                return Some(Ask { local, remote, payload });
            }
        }
    }

    /// A datagram came to `local`. True if it was an answer.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        match &mut self.gatherer {
            Some(gatherer) if !gatherer.is_done() => gatherer.handle_udp(now, local, from, datagram),
            _ => false,
        }
    }

    /// What the servers said.
    pub(crate) fn nat(&self) -> Option<NatReport> {
        self.gatherer.as_ref().map(Gatherer::nat_report)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.gatherer.as_ref()?.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(gatherer) = &mut self.gatherer
            && gatherer.poll_timeout().is_some_and(|at| at <= now)
        {
            gatherer.handle_timeout(now);
        }
    }
}

fn settle(base: Base, mut mapping: PortMapping) -> Settling {
    Box::pin(async move {
        let external = match mapping.settled().await {
            // One that is behind another router opens nothing to the internet.
            Some(MappingState::Granted(granted)) if granted.is_global() => Some(granted.external),
            _ => None,
        };
        (base, mapping, external)
    })
}
