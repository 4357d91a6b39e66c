//! A network of UDP hosts behind NATs, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use towline_ice::stun::{BINDING, Class, Encoder, Message};

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
    next: u16,
    rng: StdRng,
}

impl Nat {
    pub fn new(outside: &str, mapping: By, filter: By, ports: Ports, seed: u8) -> Self {
        let mut rng = StdRng::from_seed([seed; 32]);
        let next = rng.random_range(20_000..40_000);
        let (mapped, inside, sent) = Default::default();
        Self { outside: outside.parse().unwrap(), mapping, filter, ports, mapped, inside, sent, next, rng }
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
    pub fn inbound(&self, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        let known = |(p, to): &(u16, SocketAddr)| {
            *p == port && Self::key(self.filter, *to) == Self::key(self.filter, from)
        };
        let inside = self.inside.get(&port)?;
        self.sent.iter().any(known).then_some(*inside)
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
        if self.rng.random_range(0..100) >= self.loss {
            self.queue.insert((self.now + self.latency, self.sent), (from, remote, payload));
        }
    }

    fn deliver(&mut self, nodes: &mut [&mut dyn Node], from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let (inside, nat) = match self.nats.get(&to.ip()) {
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
