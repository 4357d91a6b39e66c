//! TCP through two NATs: both sides connect at once, each from the port it announced (RFC 6544).
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::nat::{By, Nat, Ports};
use common::{addr, ms};
use towline_ice::framing::Decoder;
use towline_ice::{
    Action, Agent, Candidate, CandidateKind, Config, ConnectError, Event, PairError, PairState, Role,
    SelectedPath, StreamId, TcpType, Transport,
};

const BASES: [&str; 2] = ["10.0.0.1:5000", "10.0.1.1:6000"];
const OUTSIDE: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
const LATENCY: Duration = Duration::from_millis(20);

/// What a NAT does with a SYN nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unasked {
    Drop,
    Reset,
}

#[derive(Debug)]
enum Packet {
    Syn { from: SocketAddr, to: SocketAddr },
    Reset { to: SocketAddr, by: SocketAddr },
    Bytes { side: usize, bytes: Vec<u8> },
}

struct Net {
    now: Instant,
    start: Instant,
    agents: [Agent; 2],
    events: [Vec<Event>; 2],
    nats: [Nat; 2],
    unasked: Unasked,
    queue: BTreeMap<(Instant, u32), Packet>,
    serial: u32,
    /// Connects that wait: stream, inside and outside source, destination.
    syns: [Vec<(StreamId, SocketAddr, SocketAddr)>; 2],
    /// The one connection that came to be: its streams.
    pipe: Option<[StreamId; 2]>,
    connects: [usize; 2],
}

impl Net {
    fn new(unasked: Unasked, starts: [Role; 2], config: &Config) -> Self {
        let now = Instant::now();
        let nat = |n: usize| Nat::new(OUTSIDE[n], By::Nothing, By::Port, Ports::Preserving, 1);
        let agent = |n: usize| {
            let mut agent = Agent::new(config.clone(), starts[n], now, [n as u8 + 1; 32]);
            let base = addr(BASES[n]);
            let outside = SocketAddr::new(OUTSIDE[n].parse().unwrap(), base.port());
            for (n, kind) in [TcpType::Passive, TcpType::Active].into_iter().enumerate() {
                agent.add_local(now, Candidate::host(Transport::Tcp(kind), base, n as u16));
            }
            let so = Candidate::reflexive(Transport::Tcp(TcpType::SimultaneousOpen), outside, base, 0);
            assert!(agent.add_local(now, so));
            agent
        };
        Self {
            now,
            start: now,
            agents: [0, 1].map(agent),
            events: Default::default(),
            nats: [0, 1].map(nat),
            unasked,
            queue: BTreeMap::new(),
            serial: 0,
            syns: Default::default(),
            pipe: None,
            connects: [0; 2],
        }
    }

    fn introduce(&mut self, n: usize) {
        let theirs = self.agents[1 - n].local_description();
        self.agents[n].set_remote(self.now, theirs);
    }

    fn at(&mut self, delay: Duration, packet: Packet) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), packet);
    }

    fn drain(&mut self) {
        for (n, base) in BASES.iter().enumerate() {
            while let Some(action) = self.agents[n].poll_action() {
                match action {
                    Action::Connect { stream, local, remote } => {
                        self.connects[n] += 1;
                        // To the private address of the other side: nobody there.
                        if !OUTSIDE.contains(&remote.ip().to_string().as_str()) {
                            continue;
                        }
                        assert_eq!(local, addr(base), "from the port that was announced");
                        let from = self.nats[n].outbound(local, remote);
                        self.syns[n].push((stream, from, remote));
                        // What gets lost on the way is repeated after 1, 3 and 7 s.
                        for delay in [0, 1, 3, 7] {
                            self.at(LATENCY + Duration::from_secs(delay), Packet::Syn { from, to: remote });
                        }
                    }
                    Action::SendFrame { stream, payload } => {
                        assert_eq!(self.pipe.unwrap()[n], stream);
                        self.at(LATENCY, Packet::Bytes { side: 1 - n, bytes: payload.to_vec() });
                    }
                    Action::CloseStream { stream, .. } => self.syns[n].retain(|(s, ..)| *s != stream),
                    Action::SendUdp { .. } => unreachable!(),
                }
            }
            while let Some(event) = self.agents[n].poll_event() {
                self.events[n].push(event);
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let now = self.now;
        match packet {
            Packet::Syn { from, to } => {
                let n = usize::from(to.ip().to_string() == OUTSIDE[1]);
                let sender =
                    self.syns[1 - n].iter().find(|(_, f, t)| (*f, *t) == (from, to)).map(|(s, ..)| *s);
                let Some(sender) = sender else { return };
                if self.nats[n].inbound(from, to.port()).is_none() {
                    if self.unasked == Unasked::Reset {
                        self.at(LATENCY, Packet::Reset { to: from, by: to });
                    }
                    return;
                }
                // Both SYNs crossed, or the second one met the first: one connection.
                let own = self.syns[n].iter().find(|(_, f, t)| (*f, *t) == (to, from)).map(|(s, ..)| *s);
                let streams = match own {
                    Some(own) => {
                        self.agents[n].handle_tcp_connected(now, own, addr(BASES[n]));
                        own
                    }
                    // Not connecting at this moment: the listener on the port takes it.
                    None => self.agents[n].handle_tcp_accepted(now, addr(BASES[n]), from).unwrap(),
                };
                let mut pipe = [streams; 2];
                pipe[1 - n] = sender;
                self.pipe = Some(pipe);
                self.agents[1 - n].handle_tcp_connected(now, sender, addr(BASES[1 - n]));
                self.syns = Default::default();
            }
            Packet::Reset { to, by } => {
                let n = usize::from(to.ip().to_string() == OUTSIDE[1]);
                let hit = self.syns[n].iter().position(|(_, f, t)| (*f, *t) == (to, by));
                if let Some(index) = hit {
                    let (stream, ..) = self.syns[n].remove(index);
                    self.agents[n].handle_tcp_failed(now, stream, ConnectError::Reset);
                }
            }
            Packet::Bytes { side, bytes } => {
                let mut decoder = Decoder::new();
                let mut input = &bytes[..];
                while let Some(frame) = decoder.decode(&mut input).unwrap() {
                    self.agents[side].handle_tcp_frame(now, self.pipe.unwrap()[side], frame);
                }
            }
        }
    }

    fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        loop {
            self.drain();
            let packet = self.queue.keys().next().map(|(at, _)| (*at, 2));
            let timers = (0..2).filter_map(|n| Some((self.agents[n].poll_timeout()?, n)));
            let Some((at, who)) = timers.chain(packet).min().filter(|(at, _)| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            if who < 2 {
                self.agents[who].handle_timeout(at);
            } else {
                let (_, packet) = self.queue.pop_first().unwrap();
                self.deliver(packet);
            }
        }
    }

    fn connected(&self) {
        for (n, agent) in self.agents.iter().enumerate() {
            let Some(SelectedPath::Tcp { stream, local, .. }) = agent.selected() else {
                panic!("{:#?}", agent.report())
            };
            assert_eq!((stream, local), (self.pipe.unwrap()[n], addr(BASES[n])));
        }
    }
}

const ROLES: [Role; 2] = [Role::Controlling, Role::Controlled];

#[test]
fn both_connect_at_once_and_meet() {
    for unasked in [Unasked::Drop, Unasked::Reset] {
        for config in [Config::default(), Config::parallel()] {
            let mut net = Net::new(unasked, ROLES, &config);
            net.introduce(0);
            net.introduce(1);
            net.run(Duration::from_secs(1));
            net.connected();
        }
    }
}

#[test]
fn one_side_may_begin_later() {
    for (unasked, later) in [(Unasked::Drop, ms(300)), (Unasked::Reset, ms(300)), (Unasked::Reset, ms(3000))]
    {
        for first in 0..2 {
            let mut net = Net::new(unasked, ROLES, &Config::default());
            net.introduce(first);
            net.run(later);
            assert!(net.pipe.is_none());
            net.introduce(1 - first);
            net.run(Duration::from_secs(2));
            net.connected();
        }
    }
}

#[test]
fn a_connection_that_came_first_is_not_made_again() {
    // The NAT of the second side lets everything in, and it learns of the first later.
    let mut net = Net::new(Unasked::Drop, ROLES, &Config::default());
    net.nats[1] = Nat::new(OUTSIDE[1], By::Nothing, By::Nothing, Ports::Preserving, 1);
    net.nats[1].outbound(addr(BASES[1]), addr("192.0.2.1:3478"));
    net.introduce(0);
    net.run(ms(100));
    assert!(net.pipe.is_some(), "the listener took it");
    net.introduce(1);
    net.run(Duration::from_secs(2));
    net.connected();
    assert_eq!(net.connects[1], 1, "to the private address only");
    let report = net.agents[1].report();
    let remote = report.pairs.iter().find(|p| Some(p.id) == report.selected).unwrap().remote;
    let kind = report.remote.iter().find(|c| c.address == remote && c.kind == CandidateKind::PeerReflexive);
    assert!(kind.is_some());
    let met = PairState::Failed(PairError::Superseded);
    assert!(report.pairs.iter().any(|p| p.remote == remote && p.state == met));
}

#[test]
fn a_peer_that_never_connects_is_asked_21_times() {
    let mut net = Net::new(Unasked::Reset, ROLES, &Config::default());
    net.introduce(0);
    net.run(Duration::from_mins(1));
    let failed =
        |e: &Event| matches!(e, Event::Failed(report) if report.count(true, PairError::ConnectFailed) == 1);
    assert!(net.events[0].iter().any(failed));
    assert_eq!(net.connects[0], 1 + 21);
    assert!(net.now - net.start >= Duration::from_secs(5));
}
