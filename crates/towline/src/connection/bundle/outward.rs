//! Candidates that come after the first ones, of both sides (RFC 8838).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::mpsc;
use towline_ice::gather::NatReport;
use towline_ice::{Agent, Candidate, CandidateKind, Description, Transport, Trickle};
use towline_net::UdpSocket;

use super::socket::Socket;
use super::sockets::Sockets;
use super::wires::Wires;
use crate::path::bases;
use crate::reach::{Finding, Means, Outside, RelayPort};
use crate::signal::Further;

/// The sockets that one connection has on relays, those that are lost included.
const MAX_RELAYS: usize = 8;
/// What was found out that nobody has told the peer yet; more it learns from our checks.
const MAX_UNTOLD: usize = 8;

/// How the sides tell each other of further candidates.
pub(crate) struct Later {
    /// Ours, to be sent.
    pub(crate) ours: mpsc::Sender<Further>,
    /// The peer's.
    pub(crate) theirs: mpsc::Receiver<Further>,
    /// The peer may have some.
    pub(crate) more: bool,
}

/// What goes on while paths are looked for and used.
pub(super) struct Outward {
    /// Kept for as long as the connection, as it holds mappings of the router.
    outside: Option<Outside>,
    means: Option<Arc<Means>>,
    later: Later,
    /// Ours, to be told over the connection; `None` as long as there is none.
    untold: Option<VecDeque<Trickle>>,
    /// The newest restart of the peer that came by the DHT.
    restart: Option<(u32, Description)>,
    /// We have said that no more will come.
    ended: bool,
    /// How many sockets are on relays, and the addresses that are lost, as long as links stand on them.
    relays: usize,
    lost: Vec<SocketAddr>,
}

impl Outward {
    pub(super) fn new(outside: Option<Outside>, means: Option<Arc<Means>>, later: Later) -> Self {
        let ended = outside.as_ref().is_none_or(Outside::is_done);
        let (untold, restart) = (None, None);
        Self { outside, means, later, untold, restart, ended, relays: 0, lost: Vec::new() }
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
        if !self.ended {
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

    /// A restart of the peer that came by the DHT.
    pub(super) fn poll_restart(&mut self) -> Option<(u32, Description)> {
        self.restart.take()
    }

    /// Tells the peer by the DHT. What the queue has no room for it learns from our checks.
    pub(super) fn tell_by_dht(&self, further: Further) {
        let _ = self.later.ours.try_send(further);
    }

    /// Begins anew to find out how we are seen, after a restart.
    pub(super) fn begin_anew(&mut self, agent: &mut Agent) {
        let (Some(means), Some(outside)) = (&self.means, &mut self.outside) else { return };
        let description = agent.local_description();
        let bases = bases(description.candidates.iter());
        means.begin_anew(outside, &bases, description.credentials.ufrag());
        self.ended = outside.is_done();
        if !self.ended {
            agent.gathering();
        }
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

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.outside.as_ref()?.poll_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(outside) = &mut self.outside {
            outside.handle_timeout(now);
        }
    }
}

impl Wires {
    /// Goes on asking how we are seen, takes what either side has found out, and tells the peer. True if there was anything.
    pub(super) fn look_outward(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some(further)) = self.outward.later.theirs.poll_recv(cx) {
            moved = true;
            if further.restart.is_some() {
                self.outward.restart = further.into_restart();
            } else {
                self.take_trickle(now, further.trickle);
            }
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
        found.retain(|candidate| {
            tracing::debug!(%candidate, "found");
            self.agent.add_local(now, candidate.clone())
        });
        if end {
            self.agent.end_of_local_candidates(now);
        }
        if end || !found.is_empty() {
            let ufrag = self.agent.local_description().credentials.ufrag().to_owned();
            let trickle = Trickle { ufrag, candidates: found, end };
            match &mut self.outward.untold {
                Some(untold) => {
                    untold.truncate(MAX_UNTOLD - 1);
                    untold.push_back(trickle);
                }
                None => self.outward.tell_by_dht(trickle.into()),
            }
            moved = true;
        }
        moved
    }

    /// Further candidates of the peer.
    pub(super) fn take_trickle(&mut self, now: Instant, trickle: Trickle) {
        let relays = trickle.candidates.iter().any(|candidate| candidate.kind == CandidateKind::Relayed);
        match self.agent.add_trickle(now, trickle) {
            Ok(refused) => {
                if relays {
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
