//! Server-reflexive candidates: asking STUN servers how they see us (RFC 8445 section 5.1.1.2, RFC 6544 section 5.2).
//!
//! Sans-IO, and beside the [`crate::Agent`]: the sockets are the very ones the agent will use, so a driver offers each
//! datagram to [`Gatherer::handle_udp`] first and gives the agent what was not for it. Answers are matched by
//! transaction id, local address and source, and believed only as far as an address goes: a wrong one costs a few checks
//! to it, which the limits of both sides bound.

mod config;
mod io;
mod question;
mod report;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use rand::{Rng, SeedableRng, rngs::StdRng};

pub use config::GatherConfig;
pub use io::{GatherAction, GatherEvent, QuestionId, Server, ServerError, Via};
pub use report::NatReport;

use crate::addr::{canonical, is_broadcast, is_link_local, is_private, is_socket_of, reachable};
use crate::candidate::{Candidate, TcpType, Transport};
use crate::nat::{Allocation, Mapping, Observation};
use crate::pacer::Pacer;
use crate::punch::Party;
use crate::stun::{BINDING, Class, Encoder, Message, TransactionId};
use question::{Question, State};

/// Asks servers for the outside addresses of sockets.
///
/// Drive it as the agent: call a method, drain [`Gatherer::poll_action`] and [`Gatherer::poll_event`], arm a timer for
/// [`Gatherer::poll_timeout`]. TCP connections stay open until [`Gatherer::finish`], so that the NAT keeps the mapping.
#[derive(Debug)]
pub struct Gatherer {
    config: GatherConfig,
    rng: StdRng,
    started: Instant,
    // With whether it is a spare one.
    servers: Vec<(Server, bool)>,
    // The time of the spare ones has come.
    patient: bool,
    bases: Vec<(Via, SocketAddr)>,
    // In the order of asking, which is that of the mappings.
    questions: BTreeMap<QuestionId, Question>,
    pacer: Pacer,
    offered: BTreeSet<(Via, SocketAddr, SocketAddr)>,
    done: bool,
    actions: VecDeque<GatherAction>,
    events: VecDeque<GatherEvent>,
}

impl Gatherer {
    /// A gatherer that has nobody to ask yet; its deadline counts from now.
    pub fn new(config: GatherConfig, now: Instant, seed: [u8; 32]) -> Self {
        Self {
            rng: StdRng::from_seed(seed),
            started: now,
            servers: Vec::new(),
            patient: true,
            bases: Vec::new(),
            questions: BTreeMap::new(),
            pacer: Pacer::new(config.pacing, config.burst, now),
            offered: BTreeSet::new(),
            done: false,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            config,
        }
    }

    /// Adds a server. False when there are too many, it is known, or the work is done.
    pub fn add_server(&mut self, now: Instant, server: Server) -> bool {
        self.add(now, server, false)
    }

    /// Adds a server that is asked of an address only if no other has said within [`GatherConfig::spare_after`] how it is seen, or as
    /// soon as all others have failed: one that most networks let through, say, and that has other work. False as above.
    pub fn add_spare(&mut self, now: Instant, server: Server) -> bool {
        self.add(now, server, true)
    }

    fn add(&mut self, now: Instant, server: Server, spare: bool) -> bool {
        let full = self.servers.len() >= self.config.max_servers || self.done;
        let known = self.servers.iter().any(|(known, _)| *known == server);
        if full || known || server.address.port() == 0 {
            return false;
        }
        self.servers.push((server, spare));
        for (via, base) in self.bases.clone() {
            self.ask(server, spare, via, base);
        }
        self.advance(now);
        true
    }

    /// Adds a local address: that of a UDP socket, or of a TCP listener. False as above.
    ///
    /// It must be the address of an interface, also if the socket is bound to all of them.
    pub fn add_base(&mut self, now: Instant, via: Via, base: SocketAddr) -> bool {
        let full = self.bases.len() >= self.config.max_bases || self.done;
        if full || self.bases.contains(&(via, base)) {
            return false;
        }
        self.bases.push((via, base));
        for (server, spare) in self.servers.clone() {
            self.ask(server, spare, via, base);
        }
        self.advance(now);
        true
    }

    fn ask(&mut self, server: Server, spare: bool, via: Via, base: SocketAddr) {
        if server.via != via || !reachable(base.ip(), server.address.ip()) {
            return;
        }
        let mut transaction = TransactionId([0; 12]);
        self.rng.fill_bytes(&mut transaction.0);
        let mut encoder = Encoder::new(Class::Request, BINDING, transaction);
        if !self.config.software.is_empty() {
            encoder = encoder.software(&self.config.software);
        }
        let id = QuestionId(self.questions.len() as u32);
        self.questions.insert(id, Question::new(server, base, spare, transaction, encoder.finish(None)));
    }

    /// The next thing to do, until `None`.
    pub fn poll_action(&mut self) -> Option<GatherAction> {
        self.actions.pop_front()
    }

    /// The next thing to know, until `None`.
    pub fn poll_event(&mut self) -> Option<GatherEvent> {
        self.events.pop_front()
    }

    /// When to call [`Gatherer::handle_timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.done {
            return None;
        }
        let waiting = |q: &Question| matches!(q.state, State::Waiting);
        let ready = self.questions.values().any(|q| waiting(q) && self.is_ready(q));
        let start = if ready { self.pacer.next() } else { None };
        let held = self.questions.values().any(|q| waiting(q) && !self.is_ready(q));
        let release = held.then(|| self.started + self.config.spare_after);
        let repeats = self.questions.values().filter_map(Question::due);
        repeats.chain(start).chain(release).chain([self.deadline()]).min()
    }

    /// Whether a question may be asked now, as far as others are concerned.
    fn is_ready(&self, question: &Question) -> bool {
        let others = || self.questions.values().filter(|q| !q.spare && q.asks_as(question));
        !question.spare || !self.patient || !others().any(Question::is_open)
    }

    fn deadline(&self) -> Instant {
        self.started + self.config.deadline
    }

    /// Does what is due; too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<_> =
            self.questions.iter().filter(|(_, q)| q.due().is_some_and(|at| at <= now)).collect();
        for id in due.into_iter().map(|(id, _)| *id).collect::<Vec<_>>() {
            let question = self.question(id);
            if question.repeat(now) {
                self.send(id);
            }
        }
        self.advance(now);
    }

    fn question(&mut self, id: QuestionId) -> &mut Question {
        self.questions.get_mut(&id).expect("questions are never removed")
    }

    fn send(&mut self, id: QuestionId) {
        let question = &self.questions[&id];
        let payload = question.packet.clone();
        self.actions.push_back(match question.server.via {
            Via::Udp => {
                GatherAction::SendUdp { local: question.base, remote: question.server.address, payload }
            }
            Via::Tcp => GatherAction::Write { question: id, payload },
        });
    }

    /// Starts what may start, and ends the work when there is nothing left to wait for.
    fn advance(&mut self, now: Instant) {
        if self.done {
            return;
        }
        self.patient &= now < self.started + self.config.spare_after;
        let ready = |q: &Question| matches!(q.state, State::Waiting) && self.is_ready(q);
        let waiting = self.questions.iter().filter(|(_, q)| ready(q));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            if !self.pacer.take(now) {
                break;
            }
            let (rto, transmissions) = (self.config.rto, self.config.transmissions);
            let question = self.question(id);
            let Server { address: remote, via } = question.server;
            let local = question.base;
            match via {
                Via::Udp => {
                    question.state = State::asked(now, rto, transmissions);
                    self.send(id);
                }
                Via::Tcp => {
                    question.state = State::Connecting;
                    self.actions.push_back(GatherAction::Connect { question: id, local, remote });
                }
            }
        }
        let late = now >= self.deadline();
        let open: Vec<_> = self.questions.iter().filter(|(_, q)| q.is_open()).map(|(id, _)| *id).collect();
        if late {
            for id in open {
                let error = self.questions[&id].silence();
                self.fail(id, error);
            }
        } else if !open.is_empty() || self.questions.is_empty() {
            return;
        }
        self.done = true;
        self.events.push_back(GatherEvent::Done);
    }

    fn fail(&mut self, id: QuestionId, error: ServerError) {
        let question = self.question(id);
        let (server, base) = (question.server, question.base);
        let connected = question.is_connected();
        question.state = State::Failed(error);
        if connected {
            self.actions.push_back(GatherAction::Close { question: id });
        }
        tracing::debug!(%server, %base, %error, "STUN server of no use");
        self.events.push_back(GatherEvent::ServerFailed { server, base, error });
    }

    /// A datagram came to the socket bound to `local`. False when it is not for the gatherer: the agent may want it.
    pub fn handle_udp(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, packet: &[u8]) -> bool {
        let Ok(message) = Message::decode(packet) else { return false };
        let asked = |q: &Question| q.transaction == message.transaction && q.server.via == Via::Udp;
        let Some((&id, question)) = self.questions.iter_mut().find(|(_, q)| asked(q)) else { return false };
        if !question.is_open() || !is_socket_of(local, question.base) {
            return true;
        }
        if canonical(remote) != canonical(question.server.address) {
            question.strayed = Some(remote);
            return true;
        }
        self.answer(id, &message);
        self.advance(now);
        true
    }

    /// A connect succeeded.
    pub fn handle_tcp_connected(&mut self, now: Instant, question: QuestionId) {
        if self.questions.get(&question).is_some_and(|q| matches!(q.state, State::Connecting)) {
            // TCP repeats by itself; the deadline bounds the wait.
            self.question(question).state = State::asked(now, self.config.deadline, 1);
            self.send(question);
        }
    }

    /// A connect failed.
    pub fn handle_tcp_failed(&mut self, now: Instant, question: QuestionId) {
        if self.questions.get(&question).is_some_and(|q| matches!(q.state, State::Connecting)) {
            self.question(question).state = State::Waiting;
            self.fail(question, ServerError::NotConnected);
            self.advance(now);
        }
    }

    /// A connection ended. After the answer this is of no consequence but for the mapping.
    pub fn handle_tcp_closed(&mut self, now: Instant, question: QuestionId) {
        let Some(open) = self.questions.get_mut(&question) else { return };
        open.connection = None;
        if matches!(open.state, State::Asked { .. }) {
            self.fail(question, ServerError::Closed);
            self.advance(now);
        }
    }

    /// Bytes came on a connection, however split.
    pub fn handle_tcp_bytes(&mut self, now: Instant, question: QuestionId, bytes: &[u8]) {
        let Some(open) = self.questions.get_mut(&question) else { return };
        if !matches!(open.state, State::Asked { .. }) {
            return;
        }
        let transaction = open.transaction;
        match open.read(bytes) {
            Ok(Some(packet)) => match Message::decode(&packet) {
                Ok(message) if message.transaction == transaction => self.answer(question, &message),
                _ => self.fail(question, ServerError::Closed),
            },
            Ok(None) => return,
            Err(_) => self.fail(question, ServerError::Closed),
        }
        self.advance(now);
    }

    fn answer(&mut self, id: QuestionId, message: &Message<'_>) {
        let question = &self.questions[&id];
        let mapped = match message.class {
            Class::Success => message.mapped_address.ok_or(ServerError::NoAddress),
            Class::Error => Err(ServerError::Rejected(message.error.map_or(0, |e| e.code))),
            // Nobody answers so.
            Class::Request | Class::Indication => return,
        };
        let mapped = mapped.map(canonical).and_then(|mapped| {
            possible(question, mapped).then_some(mapped).ok_or(ServerError::ImpossibleAddress(mapped))
        });
        let mapped = match mapped {
            Ok(mapped) => mapped,
            Err(error) => return self.fail(id, error),
        };
        let (via, base, server) = (question.server.via, question.base, question.server);
        self.question(id).state = State::Answered(mapped);
        let spared = |q: &Question| q.spare && (q.server.via, q.base) == (via, base);
        for other in self.questions.values_mut().filter(|q| spared(q) && matches!(q.state, State::Waiting)) {
            other.state = State::Spared;
        }
        tracing::debug!(%server, %base, %mapped, "seen by a STUN server");
        if self.contradicted(id, mapped) {
            return self.events.push_back(GatherEvent::ServerFailed {
                server,
                base,
                error: ServerError::Contradicted(mapped),
            });
        }
        self.offer(via, base, mapped);
    }

    /// Two or more other servers see this base at one other IP address.
    fn contradicted(&self, id: QuestionId, mapped: SocketAddr) -> bool {
        let question = &self.questions[&id];
        let others: Vec<_> = self
            .questions
            .iter()
            .filter(|(other, q)| {
                **other != id && q.base == question.base && q.server.via == question.server.via
            })
            .filter_map(|(_, q)| Some(q.mapped()?.ip()))
            .collect();
        others.len() >= 2 && others.iter().all(|ip| *ip == others[0] && *ip != mapped.ip())
    }

    fn offer(&mut self, via: Via, base: SocketAddr, mapped: SocketAddr) {
        let simultaneous = Transport::Tcp(TcpType::SimultaneousOpen);
        let transports: &[Transport] = match (via, mapped == canonical(base)) {
            // An address that is the base is a host candidate already,
            (Via::Udp, true) => return,
            // but a firewall may stand before it that both sides must open at once.
            (Via::Tcp, true) => &[simultaneous],
            (Via::Udp, false) => &[Transport::Udp],
            // The mapped port is that of the listener: whoever gets through the filter may connect, or both at once.
            (Via::Tcp, false) => &[simultaneous, Transport::Tcp(TcpType::Passive)],
        };
        let offers = self.offered.iter().filter(|(v, b, _)| (*v, *b) == (via, base)).count();
        if offers >= self.config.max_reflexive || !self.offered.insert((via, base, mapped)) {
            return;
        }
        let index = self.bases.iter().position(|known| *known == (via, base)).unwrap_or_default();
        for (n, transport) in transports.iter().enumerate() {
            let index = u16::try_from(2 * index + n).unwrap_or(u16::MAX);
            let candidate = Candidate::reflexive(*transport, mapped, base, index);
            self.events.push_back(GatherEvent::Candidate(candidate));
        }
    }

    /// Whether every server has answered or failed.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether nobody is left who could answer in this way.
    pub fn is_done_by(&self, via: Via) -> bool {
        self.done || !self.questions.values().any(|q| q.server.via == via && q.is_open())
    }

    /// Closes every connection, and ends the work if it has not ended.
    pub fn finish(&mut self) {
        let open: Vec<_> =
            self.questions.iter().filter(|(_, q)| q.is_connected()).map(|(id, _)| *id).collect();
        for question in open {
            self.question(question).connection = None;
            if matches!(self.questions[&question].state, State::Connecting) {
                self.question(question).state = State::Failed(ServerError::Silent);
            }
            self.actions.push_back(GatherAction::Close { question });
        }
        self.done = true;
    }

    /// What to tell the peer for punching: our mapping of datagrams, over IPv4 if it is known, and the outside address
    /// seen last.
    pub fn party(&self) -> Option<Party> {
        self.party_by(Via::Udp)
    }

    fn party_by(&self, via: Via) -> Option<Party> {
        let report = self.nat_report();
        let (v4, v6) = match via {
            Via::Udp => (report.udp_v4, report.udp_v6),
            Via::Tcp => (report.tcp_v4, report.tcp_v6),
        };
        let seen = self.observations(via);
        let last = |of_v4: bool, mapping: Mapping| {
            let seen = seen.iter().rev().find(|o| canonical(o.mapped).is_ipv4() == of_v4);
            seen.map(|o| Party { mapping, outside: o.mapped })
        };
        last(true, v4).or_else(|| last(false, v6))
    }

    /// The outside addresses that come next, where ports are given in sequence: up to `count` candidates, to be announced
    /// after the others.
    ///
    /// Datagrams leave from the first UDP base. Connections leave from the first TCP base and meet those of the peer in
    /// simultaneous open (RFC 6544 section 5.2): nobody could listen there before the NAT has seen a packet to the peer.
    pub fn predicted(&self, via: Via, count: u16) -> Vec<Candidate> {
        let sequential = |party: &Party| {
            matches!(party.mapping, Mapping::Dependent { ports: Allocation::Sequential { .. }, .. })
        };
        let Some(party) = self.party_by(via).filter(sequential) else { return Vec::new() };
        let fits = |base: &SocketAddr| canonical(*base).is_ipv4() == canonical(party.outside).is_ipv4();
        let mut bases = self.bases.iter().filter(|(of, _)| *of == via).map(|(_, base)| *base);
        let Some(base) = bases.find(fits) else { return Vec::new() };
        let transport = match via {
            Via::Udp => Transport::Udp,
            Via::Tcp => Transport::Tcp(TcpType::SimultaneousOpen),
        };
        let ports = party.predict(count).into_iter().enumerate();
        let candidate = |(n, address)| {
            // After every address that was seen.
            let index = u16::try_from(2 * self.config.max_bases + n).unwrap_or(u16::MAX);
            Candidate::reflexive(transport, address, base, index)
        };
        ports.map(candidate).collect()
    }

    /// What is known so far of the NAT before us.
    pub fn nat_report(&self) -> NatReport {
        NatReport::of(self.questions.values())
    }

    /// What servers saw, in the order of asking.
    pub fn observations(&self, via: Via) -> Vec<Observation> {
        let asked = self.questions.values().filter(|q| q.server.via == via);
        asked.filter_map(Question::observation).collect()
    }
}

/// Whether a server outside could see that base at `mapped`: the same family, one host, and no address of a smaller
/// scope than the server's own, unless it is the base itself.
fn possible(question: &Question, mapped: SocketAddr) -> bool {
    let (ip, server) = (mapped.ip(), question.server.address.ip().to_canonical());
    if mapped == canonical(question.base) {
        return true;
    }
    mapped.port() != 0
        && ip.is_ipv4() == question.base.ip().to_canonical().is_ipv4()
        && !(ip.is_unspecified() || ip.is_multicast() || is_broadcast(ip))
        && (!ip.is_loopback() || server.is_loopback())
        && (!is_link_local(ip) || is_link_local(server))
        && (!is_private(ip) || is_private(server) || server.is_loopback())
}
