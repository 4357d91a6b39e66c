//! A simulated network of a few hosts in virtual time: UDP with loss, TCP with refusal, black holes and split bytes.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]
#![allow(clippy::unwrap_used, reason = "only tests are here")]

pub mod driver;
pub mod nat;
pub mod pjnath;
pub mod script;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use towline_ice::ConnectError;

/// A TCP connection in the network.
pub type Conn = u32;

/// What a host wants from the network.
#[derive(Debug, Clone)]
pub enum Out {
    Udp {
        local: SocketAddr,
        remote: SocketAddr,
        payload: Vec<u8>,
    },
    Connect {
        key: u32,
        local: SocketAddr,
        remote: SocketAddr,
    },
    Write {
        conn: Conn,
        bytes: Vec<u8>,
    },
    Close {
        conn: Conn,
    },
    /// Gives up a connect.
    Abort {
        key: u32,
    },
}

/// A program on a host.
pub trait Host {
    fn udp(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: &[u8]);
    /// False closes the connection.
    fn accepted(&mut self, now: Instant, conn: Conn, local: SocketAddr, remote: SocketAddr) -> bool;
    fn connected(&mut self, now: Instant, key: u32, conn: Conn, local: SocketAddr);
    fn connect_failed(&mut self, now: Instant, key: u32, error: ConnectError);
    fn closed(&mut self, now: Instant, conn: Conn);
    fn bytes(&mut self, now: Instant, conn: Conn, bytes: &[u8]);
    fn due(&self) -> Option<Instant>;
    fn timeout(&mut self, now: Instant);
    fn drain(&mut self, now: Instant, out: &mut Vec<Out>);
}

/// What the network does to a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Pass,
    Refuse,
    Swallow,
    Slow(Duration),
}

#[derive(Debug)]
enum Event {
    Udp { to: usize, local: SocketAddr, remote: SocketAddr, payload: Vec<u8> },
    Syn { from: usize, key: u32, local: SocketAddr, remote: SocketAddr },
    Connected { from: usize, key: u32, conn: Conn, local: SocketAddr },
    Failed { from: usize, key: u32, error: ConnectError },
    Bytes { to: usize, conn: Conn, bytes: Vec<u8> },
    Closed { to: usize, conn: Conn },
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    opener: usize,
    acceptor: usize,
    open: [bool; 2],
}

type TcpRule = Box<dyn FnMut(SocketAddr, SocketAddr) -> Rule>;

pub struct Net {
    pub now: Instant,
    pub start: Instant,
    pub latency: Duration,
    /// Of 100 datagrams.
    pub udp_loss: u32,
    /// Bytes written arrive in pieces of one up to this many bytes; 0 leaves them whole.
    pub split: usize,
    pub tcp_rule: TcpRule,
    /// Every connect attempted: from where, to where, when.
    pub connects: Vec<(SocketAddr, SocketAddr, Duration)>,
    pub datagrams: usize,
    rng: StdRng,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    conns: BTreeMap<Conn, Ends>,
    aborted: Vec<(usize, u32)>,
    listeners: BTreeMap<SocketAddr, usize>,
    sockets: BTreeMap<SocketAddr, usize>,
    ports: u16,
}

impl Net {
    pub fn new(seed: u8) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            latency: Duration::from_millis(5),
            udp_loss: 0,
            split: 0,
            tcp_rule: Box::new(|_, _| Rule::Pass),
            connects: Vec::new(),
            datagrams: 0,
            rng: StdRng::from_seed([seed; 32]),
            queue: BTreeMap::new(),
            sequence: 0,
            conns: BTreeMap::new(),
            aborted: Vec::new(),
            listeners: BTreeMap::new(),
            sockets: BTreeMap::new(),
            ports: 40000,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub fn listen(&mut self, host: usize, address: SocketAddr) {
        self.listeners.insert(address, host);
    }

    pub fn bind(&mut self, host: usize, address: SocketAddr) {
        self.sockets.insert(address, host);
    }

    pub fn open_conns(&self) -> usize {
        self.conns.values().filter(|e| e.open[0] && e.open[1]).count()
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.queue.insert((when, self.sequence), event);
        self.sequence += 1;
    }

    /// A connect from somewhere; used by stories for strangers too.
    pub fn connect(&mut self, from: usize, key: u32, mut local: SocketAddr, remote: SocketAddr) {
        if local.port() == 0 {
            self.ports += 1;
            local.set_port(self.ports);
        }
        self.connects.push((local, remote, self.elapsed()));
        let arrives = self.now + self.latency;
        match (self.tcp_rule)(local, remote) {
            Rule::Pass => self.at(arrives, Event::Syn { from, key, local, remote }),
            Rule::Slow(delay) => self.at(arrives + delay, Event::Syn { from, key, local, remote }),
            Rule::Refuse => {
                let error = ConnectError::Refused;
                self.at(arrives + self.latency, Event::Failed { from, key, error });
            }
            Rule::Swallow => {}
        }
    }

    pub fn apply(&mut self, from: usize, out: Out) {
        let arrives = self.now + self.latency;
        match out {
            Out::Udp { local, remote, payload } => {
                self.datagrams += 1;
                let lost = self.rng.random_range(0..100) < self.udp_loss;
                if let (Some(&to), false) = (self.sockets.get(&remote), lost) {
                    self.at(arrives, Event::Udp { to, local: remote, remote: local, payload });
                }
            }
            Out::Connect { key, local, remote } => self.connect(from, key, local, remote),
            Out::Abort { key } => self.aborted.push((from, key)),
            Out::Write { conn, bytes } => {
                let Some(to) = self.other_end(conn, from) else { return };
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let len =
                        if self.split == 0 { rest.len() } else { self.rng.random_range(1..=self.split) };
                    let (now, later) = rest.split_at(len.min(rest.len()));
                    self.at(arrives, Event::Bytes { to, conn, bytes: now.to_vec() });
                    rest = later;
                }
            }
            Out::Close { conn } => {
                let Some(to) = self.other_end(conn, from) else { return };
                let ends = self.conns.get_mut(&conn).unwrap();
                ends.open[usize::from(ends.opener != from)] = false;
                self.at(arrives, Event::Closed { to, conn });
            }
        }
    }

    fn other_end(&self, conn: Conn, from: usize) -> Option<usize> {
        let ends = self.conns.get(&conn)?;
        let (own, other) = if ends.opener == from { (0, ends.acceptor) } else { (1, ends.opener) };
        (ends.open[own]).then_some(other)
    }

    fn is_open_at(&self, conn: Conn, host: usize) -> bool {
        self.conns.get(&conn).is_some_and(|e| e.open[usize::from(e.opener != host)])
    }

    fn flush(&mut self, hosts: &mut [&mut dyn Host]) {
        for (n, host) in hosts.iter_mut().enumerate() {
            let mut out = Vec::new();
            host.drain(self.now, &mut out);
            for out in out {
                self.apply(n, out);
            }
        }
    }

    fn next(&self, hosts: &[&mut dyn Host]) -> Option<Instant> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        queued.into_iter().chain(hosts.iter().filter_map(|h| h.due())).min()
    }

    /// One event or timer; false when nothing will ever happen again.
    pub fn step(&mut self, hosts: &mut [&mut dyn Host]) -> bool {
        self.flush(hosts);
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let timer = hosts.iter().enumerate().filter_map(|(n, h)| Some((h.due()?, n))).min();
        match (queued, timer) {
            (None, None) => return false,
            (Some(at), timer) if timer.is_none_or(|(t, _)| at <= t) => {
                self.now = self.now.max(at);
                let (_, event) = self.queue.pop_first().unwrap();
                self.deliver(hosts, event);
            }
            (_, Some((at, n))) => {
                self.now = self.now.max(at);
                hosts[n].timeout(self.now);
            }
            _ => unreachable!(),
        }
        self.flush(hosts);
        true
    }

    /// Steps until `done`, or nothing happens, or this much virtual time has passed; true if done.
    pub fn run(
        &mut self,
        hosts: &mut [&mut dyn Host],
        limit: Duration,
        mut done: impl FnMut(&mut [&mut dyn Host]) -> bool,
    ) -> bool {
        let end = self.now + limit;
        for steps in 0.. {
            assert!(steps < 200_000, "the simulation spins at {:?}", self.elapsed());
            if done(hosts) {
                return true;
            }
            self.flush(hosts);
            let next = self.next(hosts);
            if next.is_none_or(|at| at > end) {
                self.now = end;
                return false;
            }
            self.step(hosts);
        }
        unreachable!()
    }

    fn deliver(&mut self, hosts: &mut [&mut dyn Host], event: Event) {
        let now = self.now;
        match event {
            Event::Udp { to, local, remote, payload } => hosts[to].udp(now, local, remote, &payload),
            Event::Syn { from, key, local, remote } => {
                if self.aborted.contains(&(from, key)) {
                    return;
                }
                let Some(&to) = self.listeners.get(&remote) else {
                    let known = |ip: IpAddr| self.listeners.keys().any(|a| a.ip() == ip);
                    // A live host refuses, an address nobody has is silent.
                    if known(remote.ip()) {
                        let error = ConnectError::Refused;
                        self.at(now + self.latency, Event::Failed { from, key, error });
                    }
                    return;
                };
                let conn = Conn::try_from(self.conns.len()).unwrap();
                self.conns.insert(conn, Ends { opener: from, acceptor: to, open: [true; 2] });
                self.at(now + self.latency, Event::Connected { from, key, conn, local });
                if !hosts[to].accepted(now, conn, remote, local) {
                    self.apply(to, Out::Close { conn });
                }
            }
            Event::Connected { from, key, conn, local } => {
                if self.aborted.contains(&(from, key)) {
                    self.apply(from, Out::Close { conn });
                } else {
                    hosts[from].connected(now, key, conn, local);
                }
            }
            Event::Failed { from, key, error } => {
                if !self.aborted.contains(&(from, key)) {
                    hosts[from].connect_failed(now, key, error);
                }
            }
            Event::Bytes { to, conn, bytes } => {
                if self.is_open_at(conn, to) {
                    hosts[to].bytes(now, conn, &bytes);
                }
            }
            Event::Closed { to, conn } => {
                if self.is_open_at(conn, to) {
                    let ends = self.conns.get_mut(&conn).unwrap();
                    ends.open[usize::from(ends.opener != to)] = false;
                    hosts[to].closed(now, conn);
                }
            }
        }
    }

    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
