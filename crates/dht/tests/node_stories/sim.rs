//! A network of nodes in virtual time: latency, loss, death and forged packets, all from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use towline_dht::node::{Config, Event, GetOptions, Node, OpId, PutOptions, Status};
use towline_dht::{Body, InfoHash, Message, Query, Request, Value};

/// Time of day at the start: any.
pub(crate) const UNIX: Duration = Duration::from_secs(1_790_000_000);

pub(crate) struct Host {
    pub(crate) node: Node,
    pub v4: SocketAddr,
    pub v6: SocketAddr,
    pub(crate) alive: bool,
    pub(crate) events: Vec<(Duration, Event)>,
}

/// A datagram on the way.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) data: Vec<u8>,
}

pub(crate) struct Sim {
    pub(crate) now: Instant,
    start: Instant,
    pub(crate) hosts: Vec<Host>,
    by_address: BTreeMap<SocketAddr, usize>,
    flying: BTreeMap<(Instant, u64), Packet>,
    sequence: u64,
    rng: StdRng,
    /// One way, at least and at most.
    pub(crate) latency: (Duration, Duration),
    /// What this host sends takes so much longer.
    pub(crate) slow: Option<(SocketAddr, Duration)>,
    /// Probability that a datagram is lost.
    pub(crate) loss: f64,
    /// Datagrams that arrived nowhere we simulate: what a test's own peers receive.
    pub(crate) stray: Vec<(Duration, Packet)>,
    /// Everything sent while it is `Some`.
    pub(crate) log: Option<Vec<(Duration, Packet)>>,
    /// A digest of every datagram and its time.
    pub(crate) trace: u64,
}

impl Sim {
    pub(crate) fn new(seed: u64) -> Self {
        let start = Instant::now();
        Self {
            now: start,
            start,
            hosts: Vec::new(),
            by_address: BTreeMap::new(),
            flying: BTreeMap::new(),
            sequence: 0,
            rng: StdRng::seed_from_u64(seed),
            latency: (Duration::from_millis(5), Duration::from_millis(20)),
            slow: None,
            loss: 0.0,
            stray: Vec::new(),
            log: None,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// A host on a private network, both families.
    pub(crate) fn add(&mut self, config: Config) -> usize {
        let n = self.hosts.len() as u16;
        let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, (n >> 8) as u8, n as u8)), 4222);
        let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n + 1)), 4222);
        self.add_at(config, v4, v6)
    }

    pub(crate) fn add_at(&mut self, config: Config, v4: SocketAddr, v6: SocketAddr) -> usize {
        let index = self.hosts.len();
        let mut node = Node::new(config, self.now, UNIX + self.elapsed(), self.rng.random());
        node.set_local_addresses(self.now, [v4.ip(), v6.ip()]);
        self.by_address.insert(v4, index);
        self.by_address.insert(v6, index);
        self.hosts.push(Host { node, v4, v6, alive: true, events: Vec::new() });
        index
    }

    /// A host has another IPv4 address from now on, and nobody the old one. Its node is not told.
    pub(crate) fn readdress(&mut self, index: usize, v4: SocketAddr) {
        let old = std::mem::replace(&mut self.hosts[index].v4, v4);
        self.by_address.remove(&old);
        self.by_address.insert(v4, index);
    }

    /// IPv4-only nodes that all start from the first.
    pub(crate) fn network(seed: u64, count: usize) -> Self {
        let mut sim = Self::new(seed);
        sim.grow(count);
        sim.run(Duration::from_mins(1));
        sim
    }

    pub(crate) fn grow(&mut self, count: usize) {
        self.grow_from(0, count);
    }

    /// More IPv4-only nodes, which start from this one.
    pub(crate) fn grow_from(&mut self, first: usize, count: usize) {
        for _ in 0..count {
            let index = self.add(v4_only());
            if index != first {
                self.bootstrap(index, first);
            }
        }
    }

    pub(crate) fn bootstrap(&mut self, index: usize, from: usize) {
        let to = self.hosts[from].v4;
        self.with(index, |node, now| node.bootstrap(now, &[to]));
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Calls a node and sends what it has to send.
    pub(crate) fn with<T>(&mut self, index: usize, call: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let result = call(&mut self.hosts[index].node, self.now);
        self.drain(index);
        result
    }

    fn drain(&mut self, index: usize) {
        let elapsed = self.elapsed();
        while let Some(transmit) = self.hosts[index].node.poll_transmit() {
            let host = &self.hosts[index];
            let from = if transmit.to.is_ipv4() { host.v4 } else { host.v6 };
            self.send(Packet { from, to: transmit.to, data: transmit.payload.to_vec() });
        }
        while let Some(event) = self.hosts[index].node.poll_event() {
            self.hosts[index].events.push((elapsed, event));
        }
    }

    pub(crate) fn send(&mut self, packet: Packet) {
        let elapsed = self.elapsed();
        let stamp = elapsed.as_nanos().to_be_bytes();
        let ends = format!("{}{}", packet.from, packet.to);
        for byte in stamp.iter().chain(ends.as_bytes()).chain(&packet.data) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(log) = &mut self.log {
            log.push((elapsed, packet.clone()));
        }
        if self.loss > 0.0 && self.rng.random_bool(self.loss) {
            return;
        }
        let delay = self.rng.random_range(self.latency.0..=self.latency.1);
        let delay = match self.slow {
            Some((slow, more)) if slow == packet.from => delay + more,
            _ => delay,
        };
        self.sequence += 1;
        self.flying.insert((self.now + delay, self.sequence), packet);
    }

    /// Lets time pass until `until`, or until `done` says so. Whether it did.
    pub(crate) fn run_until(&mut self, until: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.start + until;
        loop {
            if done(self) {
                return true;
            }
            let timeout = |host: &Host| if host.alive { host.node.poll_timeout() } else { None };
            let timer = self.hosts.iter().enumerate().filter_map(|(i, host)| Some((timeout(host)?, i))).min();
            let packet = self.flying.first_key_value().map(|(key, _)| *key);
            let next = [timer.map(|it| it.0), packet.map(|it| it.0)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            if let Some(key) = packet.filter(|key| key.0 <= self.now) {
                let packet = self.flying.remove(&key).expect("it was just found");
                self.deliver(packet);
            } else if let Some((_, index)) = timer {
                self.with(index, Node::handle_timeout);
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        match self.by_address.get(&packet.to) {
            Some(&index) if self.hosts[index].alive => {
                self.with(index, |node, now| node.handle_datagram(now, packet.from, &packet.data));
            }
            Some(_) => {}
            None => {
                let elapsed = self.elapsed();
                self.stray.push((elapsed, packet));
            }
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.elapsed() + time;
        self.run_until(end, |_| false);
    }

    /// Runs until an operation of a node has ended, and returns its events.
    pub(crate) fn finish(&mut self, index: usize, op: OpId) -> Outcome {
        let end = self.elapsed() + Duration::from_mins(1);
        let over = |event: &Event| match event {
            Event::GetDone { op: it, .. } | Event::PutDone { op: it, .. } => *it == op,
            _ => false,
        };
        let done = self.run_until(end, |sim| sim.hosts[index].events.iter().any(|(_, event)| over(event)));
        assert!(done, "operation of node {index} did not end");
        let mut outcome = Outcome::default();
        for (at, event) in &self.hosts[index].events {
            match event {
                Event::Values { op: it, values } if *it == op => outcome.values.extend(values.clone()),
                Event::GetDone { op: it, ok, nodes } if *it == op => {
                    (outcome.ok, outcome.nodes, outcome.at) = (*ok, *nodes, *at);
                }
                Event::PutDone { op: it, ok, stored_at } if *it == op => {
                    (outcome.ok, outcome.nodes, outcome.at) = (*ok, *stored_at, *at);
                }
                _ => {}
            }
        }
        outcome
    }

    pub(crate) fn get(&mut self, index: usize, key: InfoHash) -> Outcome {
        let op = self.with(index, |node, now| node.get(now, key, GetOptions::default()));
        self.finish(index, op)
    }

    pub(crate) fn put(&mut self, index: usize, key: InfoHash, value: Value) -> Outcome {
        let op = self.with(index, |node, now| node.put(now, key, value, PutOptions::default()));
        self.finish(index, op)
    }

    pub(crate) fn listen(&mut self, index: usize, key: InfoHash) -> OpId {
        self.with(index, |node, now| node.listen(now, key, Query::all()))
    }

    /// Ids a listen has told of, in order: new ones positive, expired ones negative.
    pub(crate) fn heard(&self, index: usize, op: OpId) -> Vec<i64> {
        let mut heard = Vec::new();
        for (_, event) in &self.hosts[index].events {
            match event {
                Event::Listened { op: it, new } if *it == op => {
                    heard.extend(new.iter().map(|it| it.id as i64));
                }
                Event::Expired { op: it, ids } if *it == op => {
                    heard.extend(ids.iter().map(|id| -(*id as i64)));
                }
                _ => {}
            }
        }
        heard
    }

    pub(crate) fn is_connected(&self, index: usize) -> bool {
        let status = self.hosts[index].node.status();
        status.v4 == Status::Connected || status.v6 == Status::Connected
    }

    /// Which hosts serve a value, by asking each of them as a stranger would.
    pub(crate) fn holders(&self, key: InfoHash, id: u64) -> BTreeSet<usize> {
        let alive: Vec<usize> = (0..self.hosts.len()).filter(|&index| self.hosts[index].alive).collect();
        alive.into_iter().filter(|&index| self.hosts[index].node.stored(&key, id).is_some()).collect()
    }

    /// Requests of a kind that were sent since the log was started: when, from where, to where.
    pub(crate) fn requests(
        &self,
        which: impl Fn(&Request) -> bool,
    ) -> Vec<(Duration, SocketAddr, SocketAddr)> {
        let log = self.log.as_ref().expect("the log was started");
        let sent = log.iter().filter(|(_, packet)| match Message::decode(&packet.data) {
            Ok(Message { body: Body::Request { request, .. }, .. }) => which(&request),
            _ => false,
        });
        sent.map(|(at, packet)| (*at, packet.from, packet.to)).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) nodes: usize,
    pub(crate) values: Vec<Arc<Value>>,
    pub(crate) at: Duration,
}

pub(crate) fn v4_only() -> Config {
    Config { ipv6: false, ..Config::default() }
}

pub(crate) fn key(name: &str) -> InfoHash {
    InfoHash::digest(name)
}

pub(crate) fn value(id: u64, text: &str) -> Value {
    Value::new(id, 0, text.as_bytes())
}

pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}
