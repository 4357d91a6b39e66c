//! Checks of ours: sending, repeating, and their answers (RFC 8445 section 7.2, spec 4.5, 4.7).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;

use super::pair::{Link, State};
use super::request::Arrival;
use super::restart::Generation;
use super::{
    Action, Agent, CloseReason, Disposition, DropReason, Event, MAX_ROLE_SWITCHES, PairId, Phase, Role,
};
use crate::candidate::{COMPONENT, CandidateKind, priority};
use crate::config::Paths;
use crate::framing;
use crate::report::PairError;
use crate::stun::{BINDING, Class, Encoder, Message, RoleClaim, TransactionId, error_code};

/// What a check is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Whether the pair works.
    Ordinary,
    /// The same, and the peer learns that we chose it: USE-CANDIDATE.
    Nominate,
    /// Whether the peer still wants packets there: sent once, and its silence alone ends nothing.
    Consent,
}

/// A Binding request on its way.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) pair: PairId,
    purpose: Purpose,
    role: Role,
    sent: Instant,
    /// The next repetition, or the end when none is left.
    pub(super) due: Instant,
    repeats_left: u32,
    interval: Duration,
    /// How long the last transmission waits.
    last_wait: Duration,
    packet: Bytes,
}

impl Check {
    /// It is repeated, or its silence ends the pair.
    pub(super) fn has_timer(&self) -> bool {
        self.purpose != Purpose::Consent
    }
}

impl Agent {
    /// Sends a Binding request on the path of a pair; the pair is being checked unless it is valid already.
    pub(super) fn send_check(&mut self, now: Instant, id: PairId, purpose: Purpose) {
        let number = self.pair(id).generation;
        if !self.may_send(now, id) {
            return self.fail_pair(now, id, PairError::NotTried);
        }
        let Some(Generation { local, remote: Some(remote), .. }) = self.generation(number) else { return };
        let username = format!("{}:{}", remote.ufrag(), local.ufrag());
        let password = remote.password().to_owned();
        let mut transaction = TransactionId([0; 12]);
        self.rng.fill_bytes(&mut transaction.0);
        let claim = match self.role {
            Role::Controlling => RoleClaim::Controlling(self.tie_breaker),
            Role::Controlled => RoleClaim::Controlled(self.tie_breaker),
        };
        // What the peer would give us, did it learn us from this check; told apart by candidate (spec 4.7).
        let preference = u16::MAX - self.pair(id).local as u16;
        let mut encoder = Encoder::new(Class::Request, BINDING, transaction).priority(priority(
            CandidateKind::PeerReflexive,
            preference,
            COMPONENT,
        ));
        if purpose == Purpose::Nominate {
            encoder = encoder.use_candidate();
        }
        encoder = encoder.role(claim);
        if !self.config.software.is_empty() {
            encoder = encoder.software(&self.config.software);
        }
        let packet = encoder.username(username.as_bytes()).finish(Some(password.as_bytes()));
        let udp = self.pair(id).link == Link::Udp;
        let repeats = udp && purpose != Purpose::Consent;
        let repeats_left = if repeats { self.config.udp_transmissions.saturating_sub(1) } else { 0 };
        // Once the round trip is known, a lost nomination need not cost half a second (RFC 8489 section 6.2.1).
        let known = self.pair(id).rtt.map(|rtt| (rtt * 3).max(self.config.pacing));
        let rto = self.first_rto();
        let interval = known.map_or(rto, |known| known.min(rto));
        // Rm of RFC 8489 section 6.2.1: 16 times the first RTO, which is the default of the limit.
        let last_wait = self.config.response_timeout;
        let last_wait = if known.is_some() && repeats { last_wait.min(interval * 16) } else { last_wait };
        let wait = if repeats_left > 0 { interval } else { last_wait };
        let check = Check {
            pair: id,
            purpose,
            role: self.role,
            sent: now,
            due: now + wait,
            repeats_left,
            interval,
            last_wait,
            packet: packet.clone(),
        };
        // Questions that nobody answered in time.
        self.checks.retain(|_, c| c.pair != id || c.has_timer() || c.due > now);
        self.checks.insert(transaction, Box::new(check));
        if !self.pair(id).is_valid() {
            self.set_state(id, State::Checking);
        }
        self.transmit(id, packet);
    }

    /// RFC 8445 section 14.3: repetitions leave the pace to new checks. Over TCP nothing is repeated.
    fn first_rto(&self) -> Duration {
        let open = |state| matches!(state, State::Waiting | State::Checking);
        let count = self.pairs().filter(|p| p.link == Link::Udp && open(p.state)).count();
        self.config.udp_rto.max(self.config.pacing * u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Counts a packet of a pair: an address that has not answered gets a limited number. A connection that stands has
    /// answered.
    fn may_send(&mut self, now: Instant, id: PairId) -> bool {
        let (_, remote) = self.addresses(self.pair(id));
        self.pair(id).link != Link::Udp || self.may_send_to(now, remote.ip())
    }

    /// The same of a packet or a connect to this address.
    pub(super) fn may_send_to(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.targets.allow(now, ip)
            && (self.targets.is_proven(ip) || self.shared.as_ref().is_none_or(|shared| shared.allow(now, ip)))
    }

    fn transmit(&mut self, id: PairId, packet: Bytes) {
        self.pair_mut(id).checks_sent += 1;
        self.send_on(id, packet);
    }

    /// Sends a STUN message on the path of a pair.
    pub(super) fn send_on(&mut self, id: PairId, packet: Bytes) {
        let pair = self.pair(id);
        match (pair.link, pair.link.stream()) {
            (Link::Udp, _) => {
                let (local, remote) = self.addresses(pair);
                self.actions.push_back(Action::SendUdp { local, remote, payload: packet });
            }
            (_, Some(stream)) => self.send_frame(stream, &packet),
            // The connection is gone, and the pair failed with it.
            (_, None) => {}
        }
    }

    pub(super) fn send_frame(&mut self, stream: super::StreamId, packet: &[u8]) {
        let payload = framing::frame(packet).expect("a STUN message of ours is far shorter than 64 KiB");
        self.actions.push_back(Action::SendFrame { stream, payload });
    }

    /// Repeats or ends the checks that are due.
    pub(super) fn checks_due(&mut self, now: Instant) {
        let due = |c: &Check| c.due <= now && c.has_timer();
        let due: Vec<_> = self.checks.iter().filter(|(_, c)| due(c)).map(|(id, _)| *id).collect();
        for transaction in due {
            let Some(check) = self.checks.get_mut(&transaction) else { continue };
            let pair = check.pair;
            if check.repeats_left == 0 {
                self.fail_pair(now, pair, PairError::Silent);
                continue;
            }
            check.repeats_left -= 1;
            check.interval *= 2;
            check.sent = now;
            check.due = now + if check.repeats_left > 0 { check.interval } else { check.last_wait };
            let packet = check.packet.clone();
            if self.may_send(now, pair) {
                self.transmit(pair, packet);
            }
        }
    }

    /// A check of the peer came on a pair: ours goes the other way at once (RFC 8445 section 7.3.1.4).
    pub(super) fn trigger(&mut self, now: Instant, id: PairId) {
        let known = self.generation(self.pair(id).generation).is_some_and(|g| g.remote.is_some());
        if !known || !self.is_looking() {
            return;
        }
        let pair = self.pair(id);
        match pair.state {
            // A datagram sent before the peer opened its NAT is lost: repeat it now rather than in seconds.
            State::Checking if pair.link == Link::Udp => {
                for check in self.checks.values_mut().filter(|c| c.pair == id) {
                    // The first answer may still be on its way, and a flood must not be mirrored.
                    if check.repeats_left > 0 && now >= check.sent + self.config.pacing {
                        check.due = now;
                    }
                }
                self.checks_due(now);
            }
            // Given up by the driver: unless the peer has chosen it, a check of the peer changes nothing.
            State::Failed(PairError::Superseded) if !pair.nomination.is_nominated() => {}
            State::Waiting | State::Failed(_) if pair.link == Link::Udp || pair.link.stream().is_some() => {
                self.pair_mut(id).again = None;
                self.send_check(now, id, Purpose::Ordinary);
            }
            _ => {}
        }
    }

    /// The answer to a check.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        arrival: Arrival,
        message: &Message<'_>,
    ) -> Result<Disposition, DropReason> {
        let check = self.checks.get(&message.transaction).ok_or(DropReason::UnknownTransaction)?;
        let id = check.pair;
        if !self.is_path_of(arrival, id) {
            return Err(DropReason::WrongPath);
        }
        let generation = self.generation(self.pair(id).generation);
        let remote = generation.and_then(|g| g.remote.as_ref()).ok_or(DropReason::UnknownTransaction)?;
        message.verify_integrity(remote.password().as_bytes())?;
        let check = self.checks.remove(&message.transaction).expect("it was found above");
        // Only an answer shows that somebody lives there; a check may come from anywhere.
        let ip = self.source(arrival).ip();
        self.targets.prove(ip);
        if let Some(shared) = &self.shared {
            shared.prove(ip);
        }
        self.prove(arrival, id);
        if message.class == Class::Success {
            let pair = self.pair_mut(id);
            pair.rtt = Some(now - check.sent);
            pair.mapped = message.mapped_address.or(pair.mapped);
            self.works(now, id);
            if check.purpose == Purpose::Nominate && self.role == Role::Controlling && self.is_nominee(id) {
                self.pair_mut(id).nominated = true;
                self.select(now, id);
            } else {
                self.note_valid(now);
            }
        } else if check.purpose != Purpose::Consent {
            self.rejected(now, &check, message.error.map_or(error_code::BAD_REQUEST, |e| e.code));
        }
        self.advance(now);
        Ok(Disposition::Consumed)
    }

    /// A check on the pair was answered.
    fn works(&mut self, now: Instant, id: PairId) {
        let fresh = !self.pair(id).is_valid();
        self.set_state(id, State::Valid);
        let pair = self.pair_mut(id);
        (pair.was_valid, pair.rechecks) = (true, 0);
        let many = self.config.paths == Paths::Many;
        if many || self.pair(id).upkeep.is_some() {
            self.keep_up(now, id);
        }
        if many && fresh {
            // What came early counts from now on; the next time begins anew.
            self.pair_mut(id).early = 0;
            let valid = self.valid_pair(id);
            self.events.push_back(Event::PairValid(valid));
            if let Phase::Selected(selected) = &self.phase
                && self.kind(self.pair(id)) > self.kind(self.pair(selected.pair))
            {
                self.events.push_back(Event::Better(valid));
            }
        }
    }

    fn rejected(&mut self, now: Instant, check: &Check, code: u16) {
        if code != error_code::ROLE_CONFLICT || self.role_switches >= MAX_ROLE_SWITCHES {
            return self.fail_pair(now, check.pair, PairError::Rejected(code));
        }
        // RFC 8445 section 7.2.5.1; a check sent before an earlier switch is only repeated.
        if check.role == self.role {
            self.switch_role();
        }
        self.send_check(now, check.pair, Purpose::Ordinary);
    }

    /// Ends a pair, its checks and its connection.
    pub(super) fn fail_pair(&mut self, now: Instant, id: PairId, error: PairError) {
        let lost = self.pair(id).is_valid();
        self.checks.retain(|_, check| check.pair != id);
        if let Some(stream) = self.pair(id).link.stream() {
            let reason = match error {
                PairError::ConnectTimeout => CloseReason::ConnectTimeout,
                PairError::Superseded => CloseReason::NotSelected,
                _ => CloseReason::CheckFailed,
            };
            self.close(stream, reason);
        }
        if let Link::Opened(stream) = &mut self.pair_mut(id).link {
            *stream = None;
        }
        self.pair_mut(id).upkeep = None;
        self.set_state(id, State::Failed(error));
        self.plan_recheck(now, id, error);
        if lost && self.config.paths == Paths::Many {
            self.events.push_back(Event::PairLost { pair: id, reason: error });
        }
        if self.is_nominee(id) {
            self.forget_nominee();
        }
    }
}
