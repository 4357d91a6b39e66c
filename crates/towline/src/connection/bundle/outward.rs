//! Candidates that come after the first ones, of both sides (RFC 8838).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::mpsc;
use towline_ice::gather::NatReport;
use towline_ice::punch::Party;
use towline_ice::{
    Agent, Candidate, CandidateKind, Description, FailureReason, FailureReport, RemotePolicy, Transport,
    Trickle,
};
use towline_net::UdpSocket;

use super::socket::Socket;
use super::sockets::Sockets;
use super::wires::Wires;
use crate::path::bases;
use crate::reach::{Caller, Finding, Means, Outside, Punching, RelayPort};
use crate::signal::{Further, Plight};

/// The sockets that one connection has on relays, those that are lost included.
const MAX_RELAYS: usize = 8;
/// Words of the peer that are kept for the restart that they belong to.
const MAX_EARLY: usize = 8;
/// What was found out that nobody has told the peer yet; more it learns from our checks.
const MAX_UNTOLD: usize = 8;

/// How the sides tell each other of further candidates.
pub(crate) struct Later {
    /// Ours, to be sent.
    pub(crate) ours: mpsc::Sender<Box<Further>>,
    /// The peer's.
    pub(crate) theirs: mpsc::Receiver<Box<Further>>,
    /// The peer may have some.
    pub(crate) more: bool,
    /// The NAT that we are behind, if the peer was told already.
    pub(crate) told: Option<Party>,
    /// The NAT that the peer is behind, if it has said so already.
    pub(crate) party: Option<Party>,
}

/// What goes on while paths are looked for and used.
pub(super) struct Outward {
    /// Kept for as long as the connection, as it holds mappings of the router.
    outside: Option<Outside>,
    means: Option<Arc<Means>>,
    /// What the peer was told that we meet with.
    plight: Option<Plight>,
    later: Later,
    /// Ours, to be told over the connection; `None` as long as there is none.
    untold: Option<VecDeque<Trickle>>,
    /// The newest restart of the peer that came by the DHT.
    restart: Option<(u32, Description)>,
    /// What came by the DHT, which keeps no order, of a description that is not known: perhaps of that one, or of the next.
    early: VecDeque<Box<Further>>,
    /// We have said that no more will come.
    ended: bool,
    /// How many sockets are on relays, and the addresses that are lost, as long as links stand on them.
    relays: usize,
    lost: Vec<SocketAddr>,
    /// The peer has said so.
    theirs_ended: bool,
    /// The agent knows that no more will come. It may give up from then on.
    complete: bool,
    pub(super) punching: Option<Punching>,
    /// What the peer knows of our NAT.
    told: Option<Party>,
}

impl Outward {
    /// Addresses that `policy` refuses are not punched to.
    pub(super) fn new(
        outside: Option<Outside>,
        means: Option<Arc<Means>>,
        later: Later,
        policy: RemotePolicy,
        now: Instant,
    ) -> Self {
        let ended = outside.as_ref().is_none_or(Outside::is_done);
        let told = later.told;
        let punching = outside.as_ref().map(|outside| {
            let mut punching = outside.punching(policy, later.party, later.more);
            punching.learn(now, outside.seen(), outside.has_seen_all());
            punching
        });
        let complete = ended && punching.as_ref().is_none_or(Punching::is_settled);
        Self {
            outside,
            means,
            theirs_ended: !later.more,
            later,
            untold: None,
            restart: None,
            early: VecDeque::new(),
            ended,
            relays: 0,
            lost: Vec::new(),
            complete,
            punching,
            told,
            plight: None,
        }
    }

    /// Gives the agent what it needs to know before it hears of the peer: whether more candidates may come from either side,
    /// and those that Jami peers do not see. Returns the sockets.
    pub(super) fn prepare(
        &self,
        agent: &mut Agent,
        now: Instant,
        datagrams: Vec<(Box<dyn UdpSocket>, Vec<Candidate>)>,
        mapped: Vec<Candidate>,
    ) -> Sockets {
        agent.set_trickle(self.later.more);
        if !self.complete {
            agent.gathering();
        }
        let (sockets, candidates): (Vec<_>, Vec<_>) = datagrams.into_iter().unzip();
        for candidate in candidates.into_iter().flatten().chain(mapped) {
            agent.add_local(now, candidate);
        }
        let mut places = Sockets::default();
        for socket in sockets {
            places.add(Socket::new(socket));
        }
        places
    }

    /// There is a connection: from now on what is found out is told over it.
    pub(super) fn connected(&mut self) {
        self.untold.get_or_insert_default();
    }

    /// The next of our candidates to be told over the connection.
    pub(super) fn poll_untold(&mut self) -> Option<Trickle> {
        self.untold.as_mut()?.pop_front()
    }

    /// Of several the newest counts, whichever came last.
    fn note_restart(&mut self, further: Further) {
        let newest = self.restart.as_ref().map_or(0, |(round, _)| *round);
        if let Some(restart) = further.into_restart().filter(|(round, _)| *round >= newest) {
            self.restart = Some(restart);
        }
    }

    /// A restart of the peer that came by the DHT.
    pub(super) fn poll_restart(&mut self) -> Option<(u32, Description)> {
        self.restart.take()
    }

    /// Tells the peer by the DHT. What the queue has no room for it learns from our checks.
    pub(super) fn tell_by_dht(&self, further: Further) {
        let _ = self.later.ours.try_send(Box::new(further));
    }

    /// Begins anew to find out how we are seen, after a restart.
    pub(super) fn begin_anew(&mut self, agent: &mut Agent) {
        let (Some(means), Some(outside)) = (&self.means, &mut self.outside) else { return };
        let description = agent.local_description();
        let bases = bases(description.candidates.iter());
        means.begin_anew(outside, &bases, description.credentials.ufrag());
        // Either side may be behind another NAT now, and says so anew.
        self.punching = Some(outside.punching(agent.policy(), None, true));
        (self.told, self.theirs_ended) = (None, false);
        (self.ended, self.complete) = (outside.is_done(), false);
        agent.gathering();
    }

    /// Takes in what is known of our NAT by now. Returns it if the peer does not know.
    fn learn(&mut self, now: Instant) -> Option<Party> {
        let (outside, punching) = (self.outside.as_ref()?, self.punching.as_mut()?);
        let seen = outside.seen();
        punching.learn(now, seen, outside.has_seen_all());
        let party = seen?.party;
        let news = self.told.is_none_or(|told| told.mapping != party.mapping);
        self.told = Some(party);
        news.then_some(party)
    }

    /// Takes in what the peer says of its NAT; `last` when it will not say more.
    fn hear(&mut self, now: Instant, party: Option<Party>, last: bool) {
        self.theirs_ended |= last;
        if let Some(punching) = &mut self.punching {
            punching.hear(now, party, last);
        }
    }

    /// Whether nothing more will be found on this side, for the first time.
    fn completes(&mut self) -> bool {
        let settled = self.punching.as_ref().is_none_or(Punching::is_settled);
        self.ended && settled && !std::mem::replace(&mut self.complete, self.ended && settled)
    }

    /// Why there is no use in looking any longer, as long as nothing works.
    fn objection(&self, now: Instant) -> Option<FailureReason> {
        let (at, reason) = self.punching.as_ref()?.hopeless()?;
        (self.ended && self.theirs_ended && at <= now).then_some(reason)
    }

    /// Whether a datagram is an answer to one of our questions.
    pub(super) fn takes(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        !self.ended && self.outside.as_mut().is_some_and(|outside| outside.handle(now, local, from, datagram))
    }

    /// The next connection at a port common to all attempts that is for this one.
    pub(super) fn poll_caller(&mut self, cx: &mut Context<'_>) -> Poll<Caller> {
        self.outside.as_mut().map_or(Poll::Pending, |outside| outside.poll_caller(cx))
    }

    /// What servers say of us.
    pub(super) fn nat(&self) -> Option<NatReport> {
        self.outside.as_ref()?.nat()
    }

    /// There is a path.
    pub(super) fn works(&mut self) {
        if let Some(outside) = &mut self.outside {
            outside.works();
        }
    }

    /// A path by a relay seems to be dead. Ours is asked, and another one.
    pub(super) fn doubt(&mut self, now: Instant) {
        if let Some(outside) = &mut self.outside {
            outside.doubt(now);
        }
    }

    /// Whether this was an address on a relay, and is not any more.
    pub(super) fn is_lost(&self, local: SocketAddr) -> bool {
        self.lost.contains(&local)
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let outside = self.outside.as_ref().and_then(Outside::poll_timeout);
        let punching = self.punching.as_ref().and_then(|punching| punching.poll_timeout(now));
        outside.into_iter().chain(punching).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(outside) = &mut self.outside {
            outside.handle_timeout(now);
        }
    }
}

impl Wires {
    /// There is no path and there will be none: the NATs leave none, and no side has a relay.
    pub(super) fn cut_off(&self, now: Instant) -> Option<FailureReport> {
        let reason = self.outward.objection(now)?;
        let report = self.agent.report();
        let relayed = |candidate: &Candidate| candidate.kind == CandidateKind::Relayed;
        let hope = self.paths().next().is_some() || report.local.iter().chain(&report.remote).any(relayed);
        (!hope).then_some(FailureReport { reason, pairs: report.pairs })
    }

    /// Goes on asking how we are seen, takes what either side has found out, and tells the peer. True if there was anything.
    pub(super) fn look_outward(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some(further)) = self.outward.later.theirs.poll_recv(cx) {
            moved = true;
            if let Some(plight) = further.plight {
                self.journal.told(plight);
            }
            if further.restart.is_some() {
                // Its sender puts what it found out meanwhile into the same value.
                let beside = Box::new(further.beside());
                self.outward.note_restart(*further);
                self.take_further(now, beside);
            } else {
                self.take_further(now, further);
            }
        }
        self.tell_plight();
        if self.outward.completes() {
            self.agent.end_of_local_candidates(now);
            moved = true;
        }
        let Some(outside) = &mut self.outward.outside else { return moved };
        moved |= outside.poll(cx);
        let findings: Vec<Finding> = std::iter::from_fn(|| outside.poll_finding()).collect();
        let mut found = Vec::new();
        for finding in findings {
            match finding {
                Finding::Candidate(candidate) => found.push(candidate),
                Finding::Relay(port) => found.extend(self.take_relay(now, port)),
                Finding::RelayLost(local) => self.lose_relay(now, local),
            }
        }
        let Some(outside) = &mut self.outward.outside else { return moved };
        let end = !self.outward.ended && outside.is_done();
        while let Some(ask) = outside.poll_ask() {
            moved = true;
            let number = self.sockets.sending_from(ask.local);
            if let Some(socket) = number.and_then(|number| self.sockets.get(number)) {
                socket.send_check(&ask.payload, ask.remote);
            }
        }
        self.outward.ended |= end;
        if end {
            // The peer sees no more than that nothing comes, also if there is a way by a relay.
            self.plight = self.journal.shut_in().or(self.plight);
        }
        found.retain(|candidate| {
            tracing::debug!(%candidate, "found");
            self.agent.add_local(now, candidate.clone())
        });
        let party = self.outward.learn(now);
        if end || party.is_some() || !found.is_empty() {
            let ufrag = self.agent.local_description().credentials.ufrag().to_owned();
            let trickle = Trickle { ufrag, candidates: found, end };
            match &mut self.outward.untold {
                // Words over the connection have no place for it.
                Some(untold) if party.is_none() => {
                    untold.truncate(MAX_UNTOLD - 1);
                    untold.push_back(trickle);
                }
                _ => self.outward.tell_by_dht(Further { party, ..trickle.into() }),
            }
            moved = true;
        }
        if moved {
            self.note(now);
        }
        moved
    }

    /// Has the peer know what we meet with, once each: the DHT has a way when there is no path.
    fn tell_plight(&mut self) {
        let news = self.plight.filter(|plight| self.outward.plight != Some(*plight));
        if let Some(plight) = news {
            self.outward.plight = news;
            let ufrag = self.agent.local_description().credentials.ufrag().to_owned();
            let trickle = Trickle { ufrag, candidates: Vec::new(), end: false };
            self.outward.tell_by_dht(Further { plight: Some(plight), ..trickle.into() });
        }
    }

    /// What the peer says by the DHT of a description.
    fn take_further(&mut self, now: Instant, further: Box<Further>) {
        if self.agent.remote_ufrag() == Some(&further.trickle.ufrag) {
            self.outward.hear(now, further.party, false);
            self.take_trickle(now, further.trickle);
        } else {
            let early = &mut self.outward.early;
            early.truncate(MAX_EARLY - 1);
            early.push_front(further);
        }
    }

    /// A description of the peer has become known: something of it may have come before.
    pub(super) fn take_early(&mut self, now: Instant) {
        for further in std::mem::take(&mut self.outward.early).into_iter().rev() {
            self.take_further(now, further);
        }
    }

    /// Further candidates of the peer.
    pub(super) fn take_trickle(&mut self, now: Instant, trickle: Trickle) {
        let is_relay = |candidate: &&Candidate| candidate.kind == CandidateKind::Relayed;
        let relays = trickle.candidates.iter().filter(is_relay).count();
        let last = trickle.end;
        match self.agent.add_trickle(now, trickle) {
            Ok(refused) => {
                self.outward.hear(now, None, last);
                // It may be all that was waited for.
                self.more |= last;
                if relays > refused.iter().map(|(candidate, _)| candidate).filter(is_relay).count() {
                    self.on_relay_of_peer();
                }
                for (candidate, reason) in refused {
                    tracing::debug!(%candidate, %reason, "remote candidate not used");
                }
            }
            Err(error) => tracing::debug!(%error, "further candidates not used"),
        }
    }

    /// Puts a socket on a relay where there is room. Returns its candidate.
    fn take_relay(&mut self, now: Instant, port: RelayPort) -> Option<Candidate> {
        let local = port.local_addr();
        if self.outward.is_lost(local) {
            // It is the same address again.
            self.bury_lost_relays(now);
        }
        if self.outward.relays == MAX_RELAYS {
            return None;
        }
        self.outward.relays += 1;
        self.sockets.add(Socket::new(Box::new(port)));
        Some(Candidate::relayed(Transport::Udp, local, 0))
    }

    /// An address on a relay is gone. A path that there is on it stays, until [`Wires::bury_lost_relays`].
    fn lose_relay(&mut self, now: Instant, local: SocketAddr) {
        self.outward.lost.push(local);
        if !self.paths().any(|path| path.local == local) {
            self.bury_lost_relays(now);
        }
    }

    /// Gives up the paths on addresses that are gone.
    pub(super) fn bury_lost_relays(&mut self, now: Instant) {
        for local in std::mem::take(&mut self.outward.lost) {
            tracing::debug!(%local, "an address on a relay is given up");
            self.agent.remove_local(now, local);
            if self.sockets.close(local) {
                self.outward.relays = self.outward.relays.saturating_sub(1);
            }
        }
        self.act();
    }
}
