//! How the sockets of one attempt are seen from outside: asked of STUN servers, of relays, of the router.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use towline_ice::gather::NatReport;
use towline_ice::{Candidate, TcpType, Transport};
use towline_net::BoxFuture;
use towline_portmap::{MappingState, PortMapping};

use super::RelayPort;
use super::means::Base;
use super::questions::Questions;
use super::relaying::Relaying;

/// Reflexive candidates of mappings are numbered from here, behind those of STUN servers.
const MAPPED: u16 = 64;

/// Something that was found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// A further address of a socket.
    Candidate(Candidate),
    /// A further socket, which has a candidate of its own.
    Relay(RelayPort),
    /// The address of such a socket is gone.
    RelayLost(SocketAddr),
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
    questions: Option<Questions>,
    relaying: Option<Relaying>,
    settling: Vec<Settling>,
    /// What stands; given back when this is dropped.
    mapped: Vec<PortMapping>,
    findings: VecDeque<Finding>,
}

impl Outside {
    pub(super) fn new(
        questions: Option<Questions>,
        relaying: Option<Relaying>,
        mappings: Vec<(Base, PortMapping)>,
    ) -> Self {
        let settling = mappings.into_iter().map(|(base, mapping)| settle(base, mapping)).collect();
        Self { questions, relaying, settling, mapped: Vec::new(), findings: VecDeque::new() }
    }

    /// Nothing more is to be waited for. A mapping may come all the same: routers take their time.
    pub(crate) fn is_done(&self) -> bool {
        self.relaying.as_ref().is_none_or(Relaying::is_settled)
            && self.questions.as_ref().is_none_or(Questions::is_done)
    }

    /// Something may come so soon that the first words are worth holding back for it.
    pub(crate) fn is_promising(&self, now: Instant) -> bool {
        self.questions.as_ref().is_some_and(Questions::is_promising)
            || self.relaying.as_ref().is_some_and(|relaying| relaying.is_promising(now))
    }

    /// Takes in what came. True if there was anything.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.findings.len();
        let mut moved = false;
        if let Some(relaying) = &mut self.relaying {
            moved |= relaying.poll(cx, &mut self.findings);
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
        if let Some(questions) = &mut self.questions {
            let now = towline_net::now();
            moved |= questions.poll(cx, now);
            let found = std::iter::from_fn(|| questions.poll_candidate(now));
            self.findings.extend(found.map(Finding::Candidate));
        }
        moved || self.findings.len() > before
    }

    /// The next thing that was found.
    pub(crate) fn poll_finding(&mut self) -> Option<Finding> {
        self.findings.pop_front()
    }

    /// The next question to be sent.
    pub(crate) fn poll_ask(&mut self) -> Option<Ask> {
        self.questions.as_mut()?.poll_ask()
    }

    /// A datagram came to `local`. True if it was an answer.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        let questions = self.questions.as_mut();
        questions.is_some_and(|questions| questions.handle(now, local, from, datagram))
    }

    /// A path by a relay seems to be dead: whoever gave it is asked, and another relay.
    pub(crate) fn doubt(&mut self, now: Instant) {
        if let Some(relaying) = &mut self.relaying {
            relaying.doubt(now);
        }
    }

    /// There is a path.
    pub(crate) fn works(&mut self) {
        if let Some(relaying) = &mut self.relaying {
            relaying.works();
        }
    }

    /// What the servers said.
    pub(crate) fn nat(&self) -> Option<NatReport> {
        self.questions.as_ref().map(|questions| questions.gatherer.nat_report())
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let questions = self.questions.as_ref().and_then(Questions::poll_timeout);
        questions.into_iter().chain(self.relaying.as_ref().and_then(Relaying::poll_timeout)).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(questions) = &mut self.questions {
            questions.handle_timeout(now);
        }
        if let Some(relaying) = &mut self.relaying {
            relaying.handle_timeout(now);
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
