//! Candidates that come after the first ones, of both sides (RFC 8838).

use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::mpsc;
use towline_ice::gather::NatReport;
use towline_ice::{Agent, Candidate, Transport, Trickle};
use towline_net::UdpSocket;

use super::socket::Socket;
use super::wires::Wires;
use crate::reach::{Finding, Outside};

/// The sockets that one connection has on relays, one after the other.
const MAX_RELAYS: usize = 4;

/// How the sides tell each other of further candidates.
pub(crate) struct Later {
    /// Ours, to be sent.
    pub(crate) ours: mpsc::Sender<Trickle>,
    /// The peer's.
    pub(crate) theirs: mpsc::Receiver<Trickle>,
    /// The peer may have some.
    pub(crate) more: bool,
}

/// What goes on while paths are looked for and used.
pub(super) struct Outward {
    /// Kept for as long as the connection, as it holds mappings of the router.
    outside: Option<Outside>,
    later: Later,
    /// We have said that no more will come.
    ended: bool,
    relays: usize,
}

impl Outward {
    pub(super) fn new(outside: Option<Outside>, later: Later) -> Self {
        let ended = outside.as_ref().is_none_or(Outside::is_done);
        Self { outside, later, ended, relays: 0 }
    }

    /// Gives the agent what it needs to know before it hears of the peer: whether more candidates may come from either side,
    /// and those that Jami peers do not see. Returns the sockets.
    pub(super) fn prepare(
        &self,
        agent: &mut Agent,
        now: Instant,
        datagrams: Vec<(Box<dyn UdpSocket>, Vec<Candidate>)>,
        mapped: Vec<Candidate>,
    ) -> Vec<Socket> {
        agent.set_trickle(self.later.more);
        if !self.ended {
            agent.gathering();
        }
        let (sockets, candidates): (Vec<_>, Vec<_>) = datagrams.into_iter().unzip();
        for candidate in candidates.into_iter().flatten().chain(mapped) {
            agent.add_local(now, candidate);
        }
        sockets.into_iter().map(Socket::new).collect()
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
        while let Poll::Ready(Some(trickle)) = self.outward.later.theirs.poll_recv(cx) {
            moved = true;
            match self.agent.add_trickle(now, trickle) {
                Ok(refused) => {
                    for (candidate, reason) in refused {
                        tracing::debug!(%candidate, %reason, "remote candidate not used");
                    }
                }
                Err(error) => tracing::debug!(%error, "further candidates not used"),
            }
        }
        let Some(outside) = &mut self.outward.outside else { return moved };
        moved |= outside.poll(cx);
        let mut found = Vec::new();
        while let Some(finding) = outside.poll_finding() {
            match finding {
                Finding::Candidate(candidate) => found.push(candidate),
                Finding::Relay(port) if self.outward.relays < MAX_RELAYS => {
                    self.outward.relays += 1;
                    found.push(Candidate::relayed(Transport::Udp, port.local_addr(), 0));
                    self.sockets.push(Socket::new(Box::new(port)));
                }
                Finding::Relay(_) => {}
            }
        }
        let end = !self.outward.ended && outside.is_done();
        while let Some(ask) = outside.poll_ask() {
            moved = true;
            if let Some(number) = socket_for(&self.sockets, ask.local) {
                self.sockets[number].send_check(&ask.payload, ask.remote);
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
            // What the queue has no room for the peer learns from our checks.
            let _ = self.outward.later.ours.try_send(Trickle { ufrag, candidates: found, end });
            moved = true;
        }
        moved
    }
}

/// The socket that sends from this address. That of a relay may have the port of one of ours.
pub(super) fn socket_for(sockets: &[Socket], local: SocketAddr) -> Option<usize> {
    let exact = sockets.iter().position(|socket| socket.local() == local);
    exact.or_else(|| {
        sockets.iter().position(|socket| {
            let own = socket.local();
            own.ip().is_unspecified() && own.port() == local.port() && own.is_ipv4() == local.is_ipv4()
        })
    })
}
