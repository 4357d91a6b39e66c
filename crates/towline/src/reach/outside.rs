//! How the sockets of one attempt are seen from outside: asked of STUN servers, of relays, of the router.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use towline_ice::gather::{NatReport, Via};
use towline_ice::nat::Mapping;
use towline_ice::punch::Party;
use towline_ice::{Candidate, RemotePolicy, TcpType, Transport};
use towline_net::BoxFuture;
use towline_portmap::{MappingState, PortMapper, PortMapping};

use super::RelayPort;
use super::doors::{Caller, Door};
use super::means::Base;
use super::punching::{Punches, Punching, Seen};
use super::questions::Questions;
use super::relaying::Relaying;

/// Reflexive candidates of mappings are numbered from here, behind those of STUN servers.
const MAPPED: u16 = 64;
/// Ports that are foretold where a NAT gives them in sequence, for datagrams and for connections each.
const FORETOLD: u16 = 8;

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

/// Mappings of the router, and what they are for.
#[derive(Default)]
struct Mappings {
    settling: Vec<(Base, BoxFuture<'static, PortMapping>)>,
    /// What stands; given back when this is dropped.
    settled: Vec<(Base, PortMapping)>,
}

impl Mappings {
    fn has(&self, base: Base) -> bool {
        let settling = self.settling.iter().map(|(of, _)| *of);
        settling.chain(self.settled.iter().map(|(of, _)| *of)).any(|of| of == base)
    }
}

/// How others reach this address through that mapping. One that is behind another router opens nothing to the internet.
pub(super) fn mapped_candidate(base: Base, mapping: &PortMapping, number: usize) -> Option<Candidate> {
    let MappingState::Granted(granted) = mapping.state() else { return None };
    let transport = match base.transport {
        towline_portmap::Transport::Udp => Transport::Udp,
        towline_portmap::Transport::Tcp => Transport::Tcp(TcpType::Passive),
    };
    let index = MAPPED + number as u16;
    granted.is_global().then(|| Candidate::reflexive(transport, granted.external, base.address, index))
}

/// See the module.
pub(crate) struct Outside {
    questions: Option<Questions>,
    relaying: Option<Relaying>,
    door: Option<Door>,
    mappings: Mappings,
    findings: VecDeque<Finding>,
    /// By these the ports that come next are among the findings, or cannot be foretold.
    foretold: BTreeSet<Via>,
    punches: Punches,
}

impl Outside {
    pub(super) fn new(
        questions: Option<Questions>,
        relaying: Option<Relaying>,
        door: Option<Door>,
        bases: &[Base],
        mapper: Option<&PortMapper>,
        punches: Punches,
    ) -> Self {
        let (mappings, findings) = (Mappings::default(), VecDeque::new());
        let mut outside =
            Self { questions, relaying, door, mappings, findings, foretold: BTreeSet::new(), punches };
        outside.map(bases, mapper);
        outside
    }

    /// Punching for the attempt whose sockets these are.
    pub(crate) fn punching(&self, policy: RemotePolicy, theirs: Option<Party>, more: bool) -> Punching {
        Punching::new(self.punches.clone(), policy, theirs, more)
    }

    /// The NAT that we are behind, as soon as that can be told.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let gatherer = &self.questions.as_ref()?.gatherer;
        let party = gatherer.party()?;
        let vague = matches!(party.mapping, Mapping::Unknown | Mapping::Unclear | Mapping::Blocked);
        if vague && !gatherer.is_done_by(Via::Udp) {
            return None;
        }
        let last = gatherer.observations(Via::Udp).into_iter().rfind(|it| it.mapped == party.outside)?;
        Some(Seen { party, base: last.base })
    }

    /// No server is left that could tell.
    pub(crate) fn has_seen_all(&self) -> bool {
        self.questions.as_ref().is_none_or(|questions| questions.gatherer.is_done_by(Via::Udp))
    }

    /// Begins anew after a restart, which gave our agent another user name fragment. Mappings for addresses that there still are
    /// are kept.
    pub(super) fn begin_anew(
        &mut self,
        questions: Option<Questions>,
        door: Option<Door>,
        ufrag: &str,
        bases: &[Base],
        mapper: Option<&PortMapper>,
    ) {
        (self.questions, self.door) = (questions, door);
        self.foretold.clear();
        if let Some(relaying) = &mut self.relaying {
            relaying.rename(ufrag);
        }
        let Mappings { settling, settled } = &mut self.mappings;
        settling.retain(|(base, _)| bases.contains(base));
        settled.retain(|(base, _)| bases.contains(base));
        let standing = settled.iter().enumerate();
        let standing =
            standing.filter_map(|(number, (base, mapping))| mapped_candidate(*base, mapping, number));
        self.findings.extend(standing.map(Finding::Candidate));
        self.map(bases, mapper);
    }

    fn map(&mut self, bases: &[Base], mapper: Option<&PortMapper>) {
        let Some(mapper) = mapper else { return };
        for base in bases {
            if !self.mappings.has(*base) {
                let mut mapping = mapper.map(base.transport, base.address.port());
                let settled = async move {
                    mapping.settled().await;
                    mapping
                };
                self.mappings.settling.push((*base, Box::pin(settled)));
            }
        }
    }

    /// Nothing more is to be waited for. A mapping may come all the same: routers take their time.
    pub(crate) fn is_done(&self) -> bool {
        self.relaying.as_ref().is_none_or(Relaying::is_settled)
            && self.questions.as_ref().is_none_or(Questions::is_done)
            && self.door.as_ref().is_none_or(Door::is_settled)
    }

    /// The next connection at a port common to all attempts that is for this one.
    pub(crate) fn poll_caller(&mut self, cx: &mut Context<'_>) -> Poll<Caller> {
        self.door.as_mut().map_or(Poll::Pending, |door| door.poll_caller(cx))
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
        if let Some(door) = &mut self.door {
            moved |= door.poll(cx, &mut self.findings);
        }
        let Self { mappings: Mappings { settling, settled }, findings, .. } = self;
        settling.retain_mut(|(base, mapping)| {
            let Poll::Ready(mapping) = mapping.as_mut().poll(cx) else { return true };
            if let Some(candidate) = mapped_candidate(*base, &mapping, settled.len()) {
                findings.push_back(Finding::Candidate(candidate));
                settled.push((*base, mapping));
            }
            false
        });
        if let Some(questions) = &mut self.questions {
            let now = towline_net::now();
            moved |= questions.poll(cx, now);
            let found = std::iter::from_fn(|| questions.poll_candidate(now));
            self.findings.extend(found.map(Finding::Candidate));
        }
        self.foretell();
        moved || self.findings.len() > before
    }

    /// Adds the ports that come next, where the NAT gives them in sequence, as soon as that is known.
    fn foretell(&mut self) {
        let Self { questions: Some(questions), foretold, findings, .. } = self else { return };
        let gatherer = &questions.gatherer;
        for via in [Via::Udp, Via::Tcp] {
            if foretold.contains(&via) {
                continue;
            }
            let next = gatherer.predicted(via, FORETOLD);
            if !next.is_empty() || gatherer.is_done_by(via) {
                foretold.insert(via);
                findings.extend(next.into_iter().map(Finding::Candidate));
            }
        }
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
