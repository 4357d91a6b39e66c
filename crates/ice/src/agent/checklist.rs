//! Which pairs exist, and starting their checks (RFC 8445 section 6.1.2, RFC 6544 section 6.2, spec 4.5).
//!
//! Nothing is frozen: with one component, all pairs begin at once as far as pacing and the limit on connects allow.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use super::check::Purpose;
use super::pair::{Link, Pair, State};
use super::{Action, Agent, PairId, Phase, StreamId};
use crate::addr::{canonical, reachable};
use crate::candidate::{ACTIVE_PORT, Candidate, CandidateKind, TcpType, Transport};
use crate::report::PairError;

use super::stream::{Stream, StreamState};

/// While better pairs wait, relayed ones have each so manyth turn.
const RELAYED_EVERY: u32 = 5;

/// How packets of such a pair would travel; `None` when no check starts from our side.
fn link_between(local: &Candidate, remote: &Candidate) -> Option<Link> {
    let link = match (local.transport, remote.transport) {
        (Transport::Udp, Transport::Udp) => Link::Udp,
        (Transport::Tcp(TcpType::Active), Transport::Tcp(TcpType::Passive)) => Link::Opened(None),
        (Transport::Tcp(TcpType::SimultaneousOpen), Transport::Tcp(TcpType::SimultaneousOpen)) => {
            Link::Opened(None)
        }
        // Passive ones only receive.
        _ => return None,
    };
    let dialable = link == Link::Udp || remote.address.port() != ACTIVE_PORT;
    (dialable && reachable(local.base.ip(), remote.address.ip())).then_some(link)
}

impl Agent {
    /// Pairs all candidates that have not been, best first within the limit.
    pub(super) fn form_pairs(&mut self) {
        if !self.is_looking() && !matches!(self.phase, Phase::Gathering) {
            return;
        }
        let mut fresh = Vec::new();
        for (l, local) in self.locals.iter().enumerate() {
            for (r, remote) in self.remotes.iter().enumerate() {
                if remote.generation != self.current.number {
                    continue;
                }
                let Some(link) = link_between(local, &remote.candidate) else { continue };
                // A reflexive candidate sends from its base, where the host candidate sends already.
                let same = |other: usize| {
                    let other: &Candidate = &self.locals[other];
                    other.transport == local.transport && canonical(other.base) == canonical(local.base)
                };
                let known = self.pairs().any(|p| p.remote == r && same(p.local))
                    || fresh.iter().any(|&(_, ol, or, _)| or == r && same(ol));
                if !known {
                    let priority = super::pair_priority(self.role, local.priority, remote.candidate.priority);
                    fresh.push((priority, l, r, link));
                }
            }
        }
        fresh.sort_by_key(|&(priority, l, r, _)| (Reverse(priority), l, r));
        // A quarter stays free for pairs learnt from checks of the peer.
        let room = (self.config.max_pairs - self.config.max_pairs / 4).saturating_sub(self.pairs.len());
        for (_, l, r, link) in fresh.into_iter().take(room) {
            self.push_pair(l, r, link);
        }
    }

    pub(super) fn push_pair(&mut self, local: usize, remote: usize, link: Link) -> PairId {
        let id = PairId(self.next_pair);
        self.next_pair += 1;
        let simultaneous = self.locals[local].transport == Transport::Tcp(TcpType::SimultaneousOpen);
        let retries = match self.remotes[remote].candidate.kind {
            _ if simultaneous => self.config.so_retries,
            CandidateKind::Relayed => self.config.relay_retries,
            _ => 0,
        };
        let generation = self.remotes[remote].generation;
        self.pairs.insert(id, Box::new(Pair::new(id, generation, local, remote, link, retries)));
        id
    }

    /// Pairs that wait, in the order of their checks: best first of each kind, and the kinds by turns, so that a long
    /// list of one (whose connects hang, say) does not hold up the others.
    fn waiting(&self) -> Vec<PairId> {
        let mut waiting: Vec<_> = self.pairs().filter(|p| p.state == State::Waiting).collect();
        waiting.sort_by_key(|p| (Reverse(self.priority(p)), p.id));
        let mut turns = BTreeMap::<_, u32>::new();
        let turn = |p: &Pair, turns: &mut BTreeMap<_, u32>| {
            let turn = turns.entry((self.is_relayed(p), p.link == Link::Udp)).or_default();
            *turn += 1;
            (*turn, p.id)
        };
        let mut order: Vec<_> = waiting.into_iter().map(|p| turn(p, &mut turns)).collect();
        // Stable: within one turn the best comes first.
        order.sort_by_key(|&(turn, _)| turn);
        order.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn connecting(&self) -> usize {
        self.pairs().filter(|p| matches!(p.state, State::Connecting { .. })).count()
    }

    /// Starts what may start now.
    pub(super) fn start_checks(&mut self, now: Instant) {
        let mut waiting = self.waiting();
        self.give_turn(now, &mut waiting);
        for id in waiting {
            let connects = matches!(self.pair(id).link, Link::Opened(None));
            if connects && self.connecting() >= self.config.max_connecting {
                continue;
            }
            if connects && self.is_met(self.pair(id)) {
                self.fail_pair(now, id, PairError::Superseded);
                continue;
            }
            if !self.pacer.take(now) {
                break;
            }
            if self.is_relayed(self.pair(id)) {
                self.relayed_turn = Some(now + RELAYED_EVERY * self.config.pacing);
            }
            let (span, most) = (self.config.targets.memory, self.config.policy.max_connects);
            if connects && !self.connects.spend(now, span, most) {
                self.fail_pair(now, id, PairError::NotTried);
            } else if connects {
                self.connect(now, id);
            } else {
                self.send_check(now, id, Purpose::Ordinary);
            }
        }
    }

    /// Among those that start one by one, the best is always first. Of relayed pairs the first and some of the rest go before, as they may be
    /// the only ones that work, and as a relay lets the peer's checks through only once it has seen one of ours.
    fn give_turn(&mut self, now: Instant, waiting: &mut Vec<PairId>) {
        let Some(at) = waiting.iter().position(|id| self.is_relayed(self.pair(*id))) else {
            return;
        };
        if self.relayed_turn.is_none_or(|turn| now >= turn) {
            let relayed = waiting.remove(at);
            waiting.insert(0, relayed);
        }
    }

    fn connect(&mut self, now: Instant, id: PairId) {
        if !self.may_send_to(now, self.addresses(self.pair(id)).1.ip()) {
            return self.fail_pair(now, id, PairError::NotTried);
        }
        let stream = self.new_stream();
        let (mut local, remote) = self.addresses(self.pair(id));
        if !self.is_simultaneous(self.pair(id)) {
            local.set_port(0);
        }
        self.pair_mut(id).link = Link::Opened(Some(stream));
        self.set_state(id, State::Connecting { deadline: now + self.config.connect_timeout });
        let state = StreamState::Connecting { pair: id };
        self.streams.insert(stream, Box::new(Stream { local, remote, state }));
        self.actions.push_back(Action::Connect { stream, local, remote });
    }

    /// Both sides connect at once, each from a port of its own.
    pub(super) fn is_simultaneous(&self, pair: &Pair) -> bool {
        matches!(pair.link, Link::Opened(_))
            && self.locals[pair.local].transport == Transport::Tcp(TcpType::SimultaneousOpen)
    }

    /// With simultaneous open: the peer's connection came in before ours went out, so ours cannot be made.
    fn is_met(&self, pair: &Pair) -> bool {
        let (local, remote) = self.addresses(pair);
        let mut ends = self.streams.values().map(|s| (s.local.port(), canonical(s.remote)));
        self.is_simultaneous(pair) && ends.any(|met| met == (local.port(), canonical(remote)))
    }

    pub(super) fn new_stream(&mut self) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        stream
    }
}
