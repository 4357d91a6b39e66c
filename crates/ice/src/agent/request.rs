//! Checks of the peer: every authentic one is answered, duplicates too (RFC 8445 section 7.3, spec 4.5, 4.7).

use std::net::SocketAddr;
use std::time::Instant;

use super::pair::{Link, Pair};
use super::restart::Generation;
use super::stream::StreamState;
use super::{Agent, Disposition, DropReason, MAX_ROLE_SWITCHES, PairId, Phase, Role, StreamId};
use crate::addr::canonical;
use crate::candidate::{TcpType, Transport};
use crate::stun::{BINDING, Class, Encoder, Message, RoleClaim, error_code};

/// Where a STUN message came in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arrival {
    Udp {
        /// Index of the local candidate.
        local: usize,
        remote: SocketAddr,
    },
    Tcp(StreamId),
}

impl Agent {
    /// A whole STUN message.
    pub(super) fn handle_stun(
        &mut self,
        now: Instant,
        arrival: Arrival,
        packet: &[u8],
    ) -> Result<Disposition, DropReason> {
        let message = Message::decode(packet)?;
        match message.class {
            Class::Request => self.handle_request(now, arrival, &message),
            Class::Success | Class::Error => self.handle_response(now, arrival, &message),
            // Keep-alives: never answered, and too easily forged to mean anything.
            Class::Indication => Ok(Disposition::Consumed),
        }
    }

    fn handle_request(
        &mut self,
        now: Instant,
        arrival: Arrival,
        message: &Message<'_>,
    ) -> Result<Disposition, DropReason> {
        // Strangers get no answer at all: an error would tell them that a session lives here, and be a reflector.
        let name = message.username.ok_or(DropReason::WrongUser)?;
        // Only the part before the colon is ours to judge: the peer may not be known yet.
        let ufrag = name.split(|&b| b == b':').next().unwrap_or_default();
        let Generation { number: generation, local, .. } =
            self.generation_of(ufrag).ok_or(DropReason::WrongUser)?;
        let (generation, password) = (*generation, local.password().to_owned());
        message.verify_integrity(password.as_bytes())?;
        let answer = |class| Encoder::new(class, message.method, message.transaction);
        if message.method != BINDING {
            let answer = answer(Class::Error).error(error_code::BAD_REQUEST, "Bad Request");
            self.answer(arrival, &password, answer);
            return Ok(Disposition::Consumed);
        }
        if !message.unknown.is_empty() {
            let answer = answer(Class::Error)
                .error(error_code::UNKNOWN_ATTRIBUTE, "Unknown Attribute")
                .unknown_attributes(&message.unknown);
            self.answer(arrival, &password, answer);
            return Ok(Disposition::Consumed);
        }
        let priority = message.priority.ok_or(DropReason::NoPriority)?;
        if self.settle_roles(message.role) {
            self.answer(
                arrival,
                &password,
                answer(Class::Error).error(error_code::ROLE_CONFLICT, "Role Conflict"),
            );
            return Ok(Disposition::Consumed);
        }
        let success = answer(Class::Success).mapped_address(self.source(arrival));
        if matches!(self.phase, Phase::Selected(_)) && !self.is_looking() {
            // A late check. The path is chosen and the roles are in use: it is answered and changes nothing.
            self.answer(arrival, &password, success);
            return Ok(Disposition::Consumed);
        }
        let id = self.pair_of(arrival, generation, priority).ok_or(DropReason::Policy)?;
        self.prove(arrival, id);
        self.answer(arrival, &password, success);
        let follows = self.role == Role::Controlled;
        let count = self.nominations + 1;
        let pair = self.pair_mut(id);
        pair.checks_received = pair.checks_received.saturating_add(1);
        if follows {
            pair.nomination = pair.nomination.after(message.use_candidate);
            // A repetition that was overtaken by the nomination of another pair is no new decision.
            if message.use_candidate && pair.nominated_by != Some(message.transaction) {
                (pair.nominated_by, pair.nominated_as) = (Some(message.transaction), count);
                self.nominations = count;
            }
        }
        self.trigger(now, id);
        self.advance(now);
        Ok(Disposition::Consumed)
    }

    /// RFC 8445 section 7.3.1.1. True when the peer has to give way.
    fn settle_roles(&mut self, claim: Option<RoleClaim>) -> bool {
        if self.connected {
            return false;
        }
        let (conflict, theirs) = match (self.role, claim) {
            (Role::Controlling, Some(RoleClaim::Controlling(tie)))
            | (Role::Controlled, Some(RoleClaim::Controlled(tie))) => (true, tie),
            _ => (false, 0),
        };
        if !conflict {
            return false;
        }
        let we_control = self.tie_breaker >= theirs;
        let they_yield = we_control == (self.role == Role::Controlling);
        if they_yield || self.role_switches >= MAX_ROLE_SWITCHES {
            return true;
        }
        self.switch_role();
        false
    }

    fn answer(&mut self, arrival: Arrival, password: &str, mut message: Encoder) {
        if !self.config.software.is_empty() {
            message = message.software(&self.config.software);
        }
        let packet = message.finish(Some(password.as_bytes()));
        match arrival {
            Arrival::Udp { local, remote } => {
                let local = self.locals[local].base;
                self.actions.push_back(super::Action::SendUdp { local, remote, payload: packet });
            }
            Arrival::Tcp(stream) => self.send_frame(stream, &packet),
        }
    }

    pub(super) fn source(&self, arrival: Arrival) -> SocketAddr {
        match arrival {
            Arrival::Udp { remote, .. } => canonical(remote),
            Arrival::Tcp(stream) => canonical(self.streams[&stream].remote),
        }
    }

    /// The pair a check came on, made now if need be; `None` when the limits forbid another.
    fn pair_of(&mut self, arrival: Arrival, generation: u32, priority: u32) -> Option<PairId> {
        let same = |p: &&Pair| p.generation == generation && self.is_path_of(arrival, p.id);
        if let Some(pair) = self.pairs().find(same) {
            return Some(pair.id);
        }
        if self.pairs.len() >= self.config.max_pairs {
            return None;
        }
        match arrival {
            Arrival::Udp { local, remote } => {
                let remote = self.learn(generation, Transport::Udp, canonical(remote), priority)?;
                Some(self.push_pair(local, remote, Link::Udp))
            }
            Arrival::Tcp(id) => {
                let stream = &self.streams[&id];
                let StreamState::Accepted { local, .. } = stream.state else { return None };
                let (active, remote) = (Transport::Tcp(TcpType::Active), canonical(stream.remote));
                let remote = self.learn(generation, active, remote, priority)?;
                Some(self.push_pair(local, remote, Link::Accepted(id)))
            }
        }
    }

    /// Whether what arrived there came on the path of that pair.
    pub(super) fn is_path_of(&self, arrival: Arrival, id: PairId) -> bool {
        let pair = self.pair(id);
        match arrival {
            Arrival::Udp { local, remote } => {
                pair.link == Link::Udp
                    && canonical(self.locals[pair.local].base) == canonical(self.locals[local].base)
                    && canonical(self.remotes[pair.remote].candidate.address) == canonical(remote)
            }
            Arrival::Tcp(stream) => pair.link.stream() == Some(stream),
        }
    }

    /// The peer has shown on this path that it knows a password of the session.
    pub(super) fn prove(&mut self, arrival: Arrival, pair: PairId) {
        if let Arrival::Tcp(stream) = arrival
            && let Some(stream) = self.streams.get_mut(&stream)
        {
            stream.state = StreamState::Proven { pair };
        }
    }
}
