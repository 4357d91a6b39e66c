//! Checks outside any pair, and sockets beside those of the session: what punching needs ([`crate::punch`]).

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use rand::Rng;

use super::{Agent, Disposition, DropReason, Phase, Role};
use crate::candidate::{COMPONENT, Candidate, CandidateKind, Transport, priority};
use crate::stun::{BINDING, Class, Encoder, Message, RoleClaim, TransactionId};

impl Agent {
    /// A Binding request that belongs to no pair: whoever gets it checks back, and that makes the pair. `None` until the
    /// peer's description is known, and when the agent has failed.
    pub fn probe(&mut self) -> Option<Bytes> {
        let remote = self.current.remote.as_ref().filter(|_| !matches!(self.phase, Phase::Over))?;
        let username = format!("{}:{}", remote.ufrag(), self.current.local.ufrag());
        let mut transaction = TransactionId([0; 12]);
        self.rng.fill_bytes(&mut transaction.0);
        let claim = match self.role {
            Role::Controlling => RoleClaim::Controlling(self.tie_breaker),
            Role::Controlled => RoleClaim::Controlled(self.tie_breaker),
        };
        let encoder = Encoder::new(Class::Request, BINDING, transaction)
            .priority(priority(CandidateKind::PeerReflexive, 0, COMPONENT))
            .role(claim)
            .username(username.as_bytes());
        Some(encoder.finish(Some(remote.password().as_bytes())))
    }

    /// A datagram came to a socket that was opened for punching, bound to `local`.
    ///
    /// If it is a check of the peer, the socket becomes a local candidate (that is announced to nobody), and the check is
    /// handled like any other: keep the socket, and give its datagrams to [`Agent::handle_udp`] from now on. Any other
    /// answer than [`Disposition::Consumed`] leaves everything as it was. At most [`crate::Config::max_adopted`] sockets
    /// are taken: the peer may hit several.
    pub fn adopt(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        packet: &[u8],
    ) -> Disposition {
        if self.udp_candidate(local).is_some() {
            return self.handle_udp(now, local, remote, packet);
        }
        let outcome = self.is_check_of_peer(remote, packet).and_then(|()| {
            let adopted = self.locals.iter().filter(|c| c.kind == CandidateKind::PeerReflexive).count();
            if adopted >= self.config.max_adopted {
                return Err(DropReason::Policy);
            }
            // Its outside address is for the peer to see; ours to know is the socket.
            let mut candidate = Candidate::new(CandidateKind::PeerReflexive, Transport::Udp, local, u16::MAX);
            candidate.base = local;
            self.locals.push(candidate);
            Ok(())
        });
        match outcome {
            Ok(()) => {
                let disposition = self.handle_udp(now, local, remote, packet);
                if disposition != Disposition::Consumed {
                    // No pair was made of it, so nothing refers to it.
                    self.locals.pop();
                }
                disposition
            }
            Err(reason) => self.dispose(Err(reason)),
        }
    }

    fn is_check_of_peer(&self, remote: SocketAddr, packet: &[u8]) -> Result<(), DropReason> {
        if !self.is_looking() && !matches!(self.phase, Phase::Gathering) {
            return Err(DropReason::Over);
        }
        self.config.policy.permits(remote).map_err(|_| DropReason::Policy)?;
        let message = Message::decode(packet)?;
        if message.class != Class::Request {
            return Err(DropReason::UnknownTransaction);
        }
        let name = message.username.ok_or(DropReason::WrongUser)?;
        let ufrag = name.split(|&b| b == b':').next().unwrap_or_default();
        let generation = self.generation_of(ufrag).ok_or(DropReason::WrongUser)?;
        Ok(message.verify_integrity(generation.local.password().as_bytes())?)
    }
}
