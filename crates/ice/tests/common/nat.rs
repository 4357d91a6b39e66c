//! A network of UDP hosts behind NATs, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use towline_ice::stun::{BINDING, Class, Encoder, Message};
use towline_ice::{Action, Agent, Candidate, Disposition, Event, SelectedPath};

/// What a mapping or a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Nothing,
    Address,
    Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    Preserving,
    Sequential(i32),
    Random,
}

#[derive(Debug)]
pub struct Nat {
    outside: IpAddr,
    mapping: By,
    filter: By,
    ports: Ports,
    mapped: BTreeMap<(SocketAddr, Option<IpAddr>, Option<u16>), u16>,
    inside: BTreeMap<u16, SocketAddr>,
    sent: BTreeSet<(u16, SocketAddr)>,
    forwarded: BTreeSet<u16>,
    next: u16,
    rng: StdRng,
}

impl Nat {
    pub fn new(outside: &str, mapping: By, filter: By, ports: Ports, seed: u8) -> Self {
        let mut rng = StdRng::from_seed([seed; 32]);
        let next = rng.random_range(20_000..40_000);
        let (mapped, inside, sent, forwarded) = Default::default();
        let outside = outside.parse().unwrap();
        Self { outside, mapping, filter, ports, mapped, inside, sent, forwarded, next, rng }
    }

    fn key(by: By, to: SocketAddr) -> (Option<IpAddr>, Option<u16>) {
        match by {
            By::Nothing => (None, None),
            By::Address => (Some(to.ip()), None),
            By::Port => (Some(to.ip()), Some(to.port())),
        }
    }

    /// Where a packet from `from` to `to` appears to come from.
    pub fn outbound(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let (ip, port) = Self::key(self.mapping, to);
        let key = (from, ip, port);
        let port = self.mapped.get(&key).copied().unwrap_or_else(|| {
            let mut port = match self.ports {
                Ports::Preserving => from.port(),
                Ports::Sequential(step) => {
                    self.next = u16::try_from(i32::from(self.next) + step).unwrap();
                    self.next
                }
                Ports::Random => self.rng.random_range(1024..=u16::MAX),
            };
            while self.inside.contains_key(&port) {
                port = port.wrapping_add(1).max(1024);
            }
            self.mapped.insert(key, port);
            self.inside.insert(port, from);
            port
        });
        self.sent.insert((port, to));
        SocketAddr::new(self.outside, port)
    }

    /// Who inside gets a packet from `from` to `port`.
    pub fn inbound(&mut self, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        let inside = *self.inside.get(&port)?;
        if self.forwarded.contains(&port) {
            // Replies go back the way they came.
            let (ip, to) = Self::key(self.mapping, from);
            self.mapped.insert((inside, ip, to), port);
            return Some(inside);
        }
        let known = |(p, to): &(u16, SocketAddr)| {
            *p == port && Self::key(self.filter, *to) == Self::key(self.filter, from)
        };
        self.sent.iter().any(known).then_some(inside)
    }

    /// A port mapping, as a router makes one when asked.
    pub fn forward(&mut self, port: u16, to: SocketAddr) {
        self.inside.insert(port, to);
        self.forwarded.insert(port);
    }

    /// Somebody else behind it uses so many ports.
    pub fn skip(&mut self, ports: i32) {
        if let Ports::Sequential(step) = self.ports {
            self.next = u16::try_from(i32::from(self.next) + step * ports).unwrap();
        }
    }
}

pub struct Datagram {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub payload: Vec<u8>,
}

/// A program on a host.
pub trait Node {
    fn datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: &[u8]);
    fn due(&self) -> Option<Instant>;
    fn timeout(&mut self, now: Instant);
    fn drain(&mut self, now: Instant, out: &mut Vec<Datagram>);
}

pub struct World {
    pub now: Instant,
    pub start: Instant,
    pub latency: Duration,
    /// Of 100 datagrams.
    pub loss: u32,
    /// What was sent to addresses that nobody has.
    pub astray: BTreeMap<SocketAddr, usize>,
    pub sent: usize,
    cut: Option<[IpAddr; 2]>,
    rng: StdRng,
    nats: BTreeMap<IpAddr, Nat>,
    // Who has an address, and behind which NAT.
    hosts: BTreeMap<IpAddr, (usize, Option<IpAddr>)>,
    queue: BTreeMap<(Instant, usize), (SocketAddr, SocketAddr, Vec<u8>)>,
}

impl World {
    pub fn new(seed: u8) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            latency: Duration::from_millis(20),
            loss: 0,
            astray: BTreeMap::new(),
            sent: 0,
            cut: None,
            rng: StdRng::from_seed([seed; 32]),
            nats: BTreeMap::new(),
            hosts: BTreeMap::new(),
            queue: BTreeMap::new(),
        }
    }

    pub fn host(&mut self, node: usize, ip: &str, nat: Option<Nat>) {
        let outside = nat.as_ref().map(|nat| nat.outside);
        self.hosts.insert(ip.parse().unwrap(), (node, outside));
        self.nats.extend(nat.map(|nat| (nat.outside, nat)));
    }

    pub fn nat(&mut self, outside: &str) -> &mut Nat {
        self.nats.get_mut(&outside.parse::<IpAddr>().unwrap()).unwrap()
    }

    /// Nothing passes between these two any more.
    pub fn cut(&mut self, one: &str, other: &str) {
        self.cut = Some([one, other].map(|ip| ip.parse().unwrap()));
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn send(&mut self, datagram: Datagram) {
        let Datagram { local, remote, payload } = datagram;
        self.sent += 1;
        let (_, outside) = self.hosts[&local.ip()];
        let from = match outside {
            Some(outside) => self.nats.get_mut(&outside).unwrap().outbound(local, remote),
            None => local,
        };
        if !self.hosts.contains_key(&remote.ip()) && !self.nats.contains_key(&remote.ip()) {
            *self.astray.entry(remote).or_default() += 1;
        }
        let cut = self.cut.is_some_and(|ends| ends.contains(&from.ip()) && ends.contains(&remote.ip()));
        if self.rng.random_range(0..100) >= self.loss && !cut {
            self.queue.insert((self.now + self.latency, self.sent), (from, remote, payload));
        }
    }

    fn deliver(&mut self, nodes: &mut [&mut dyn Node], from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let (inside, nat) = match self.nats.get_mut(&to.ip()) {
            Some(nat) => (nat.inbound(from, to.port()), true),
            None => (Some(to), false),
        };
        let Some(inside) = inside else { return };
        match self.hosts.get(&inside.ip()) {
            // Addresses behind a NAT mean nothing outside.
            Some(&(node, behind)) if nat == behind.is_some() => {
                nodes[node].datagram(self.now, inside, from, payload);
            }
            _ => {}
        }
    }

    fn flush(&mut self, nodes: &mut [&mut dyn Node]) {
        let mut out = Vec::new();
        for node in nodes.iter_mut() {
            node.drain(self.now, &mut out);
        }
        for datagram in out {
            self.send(datagram);
        }
    }

    /// Until `done`, or so much time has passed; true if done.
    pub fn run(
        &mut self,
        nodes: &mut [&mut dyn Node],
        limit: Duration,
        mut done: impl FnMut(&mut [&mut dyn Node]) -> bool,
    ) -> bool {
        let end = self.now + limit;
        loop {
            self.flush(nodes);
            if done(nodes) {
                return true;
            }
            let queued = self.queue.keys().next().map(|(at, _)| (*at, None));
            let timer = nodes.iter().enumerate().filter_map(|(n, node)| Some((node.due()?, Some(n)))).min();
            let Some((at, what)) = queued.into_iter().chain(timer).min().filter(|(at, _)| *at <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(at);
            match what {
                Some(node) => nodes[node].timeout(self.now),
                None => {
                    let (_, (from, to, payload)) = self.queue.pop_first().unwrap();
                    self.deliver(nodes, from, to, &payload);
                }
            }
        }
    }
}

/// What a STUN server does.
#[derive(Debug, Clone, Copy)]
pub enum Manner {
    Honest,
    Silent,
    /// Tells this address to everybody.
    Liar(SocketAddr),
    /// Answers from there.
    From(SocketAddr),
    Refuses(u16),
    Mumbles,
}

pub struct StunServer {
    pub manner: Manner,
    pub asked: usize,
    out: Vec<Datagram>,
}

impl StunServer {
    pub fn new(manner: Manner) -> Self {
        Self { manner, asked: 0, out: Vec::new() }
    }

    pub fn answer(&self, remote: SocketAddr, packet: &[u8]) -> Option<Vec<u8>> {
        let message = Message::decode(packet).ok()?;
        if message.class != Class::Request {
            return None;
        }
        let success = Encoder::new(Class::Success, BINDING, message.transaction);
        let error = Encoder::new(Class::Error, BINDING, message.transaction);
        let answer = match self.manner {
            Manner::Silent => return None,
            Manner::Liar(address) => success.mapped_address(address),
            Manner::Refuses(code) => error.error(code, "no"),
            Manner::Mumbles => success,
            Manner::Honest | Manner::From(_) => success.mapped_address(remote),
        };
        Some(answer.finish(None).to_vec())
    }
}

impl Node for StunServer {
    fn datagram(&mut self, _: Instant, local: SocketAddr, remote: SocketAddr, packet: &[u8]) {
        self.asked += 1;
        let local = if let Manner::From(other) = self.manner { other } else { local };
        if let Some(payload) = self.answer(remote, packet) {
            self.out.push(Datagram { local, remote, payload });
        }
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn timeout(&mut self, _: Instant) {}

    fn drain(&mut self, _: Instant, out: &mut Vec<Datagram>) {
        out.append(&mut self.out);
    }
}

/// An agent on UDP sockets.
pub struct Peer {
    pub agent: Agent,
    pub events: Vec<(Instant, Event)>,
    pub data: Vec<u8>,
    out: Vec<Datagram>,
}

impl Peer {
    pub fn new(now: Instant, agent: Agent, candidates: impl IntoIterator<Item = Candidate>) -> Self {
        let mut peer = Self { agent, events: Vec::new(), data: Vec::new(), out: Vec::new() };
        for candidate in candidates {
            assert!(peer.agent.add_local(now, candidate));
        }
        peer
    }

    pub fn selected(&self) -> Option<SelectedPath> {
        self.agent.selected()
    }

    pub fn has(&self, fits: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(|(_, event)| fits(event))
    }

    /// Application bytes on the selected path.
    pub fn send(&mut self, bytes: &[u8]) {
        let path = self.selected().unwrap();
        self.out.push(Datagram { local: path.local(), remote: path.remote(), payload: bytes.to_vec() });
    }
}

impl Node for Peer {
    fn datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: &[u8]) {
        if self.agent.handle_udp(now, local, remote, payload) == Disposition::Data {
            self.data.extend_from_slice(payload);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    fn timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
        assert!(self.agent.poll_timeout().is_none_or(|at| at > now), "a timer that stays due");
    }

    fn drain(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        out.append(&mut self.out);
        while let Some(action) = self.agent.poll_action() {
            let Action::SendUdp { local, remote, payload } = action else { panic!("{action:?}") };
            out.push(Datagram { local, remote, payload: payload.to_vec() });
        }
        while let Some(event) = self.agent.poll_event() {
            self.events.push((now, event));
        }
    }
}

/// Each learns the other's description at once.
pub fn introduce(world: &World, a: &mut Peer, b: &mut Peer) {
    let (ours, theirs) = (a.agent.local_description(), b.agent.local_description());
    a.agent.set_remote(world.now, theirs);
    b.agent.set_remote(world.now, ours);
}
