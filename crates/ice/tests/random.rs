//! Everything that can happen, in any order: nothing panics, nothing grows, the rules hold.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::ms;
use proptest::prelude::*;
use towline_ice::framing::Decoder;
use towline_ice::{
    Action, Agent, Candidate, CandidateKind, Config, ConnectError, Disposition, Event, Role, StreamId,
    TcpType, Transport,
};

#[derive(Debug, Clone)]
enum Step {
    /// Side, and how long.
    Pass(u16),
    Exchange(bool),
    /// Delivers, loses or repeats one of the things under way.
    Deliver {
        which: usize,
        fate: u8,
    },
    /// A stranger connects or sends.
    Stranger {
        side: bool,
        port: u16,
        bytes: Vec<u8>,
    },
    Close {
        which: usize,
    },
    AddLocal {
        side: bool,
        kind: u8,
        port: u16,
    },
    AddRemote {
        side: bool,
        kind: u8,
        port: u16,
    },
    End(bool),
    /// Bytes on any stream.
    Garbage {
        which: usize,
        bytes: Vec<u8>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        2 => (0u16..3000).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Exchange),
        20 => (any::<usize>(), any::<u8>()).prop_map(|(which, fate)| Step::Deliver { which, fate }),
        1 => (any::<bool>(), 1u16..9999, bytes()).prop_map(|(side, port, bytes)| Step::Stranger { side, port, bytes }),
        1 => any::<usize>().prop_map(|which| Step::Close { which }),
        1 => (any::<bool>(), 0u8..5, 5000u16..5006).prop_map(|(side, kind, port)| Step::AddLocal { side, kind, port }),
        1 => (any::<bool>(), 0u8..5, 5000u16..5006).prop_map(|(side, kind, port)| Step::AddRemote { side, kind, port }),
        1 => any::<bool>().prop_map(Step::End),
        1 => (any::<usize>(), bytes()).prop_map(|(which, bytes)| Step::Garbage { which, bytes }),
    ]
}

fn candidate(side: bool, kind: u8, port: u16) -> Candidate {
    let address = ([10, 0, 0, u8::from(side) + 1], port).into();
    match kind {
        0 => Candidate::host(Transport::Udp, address, port),
        1 => Candidate::host(Transport::Tcp(TcpType::Active), address, port),
        2 => Candidate::new(CandidateKind::Relayed, Transport::Tcp(TcpType::Passive), address, port),
        3 => Candidate::host(Transport::Tcp(TcpType::SimultaneousOpen), address, port),
        _ => Candidate::host(Transport::Tcp(TcpType::Passive), address, port),
    }
}

/// A TCP connection between the agents: the stream of each side.
struct Pipe {
    ends: [Option<StreamId>; 2],
}

struct World {
    now: Instant,
    agents: [Agent; 2],
    under_way: Vec<(usize, Action)>,
    pipes: Vec<Pipe>,
    selected: [usize; 2],
    over: [bool; 2],
    ports: u16,
}

impl World {
    fn new(seed: u8, roles: [Role; 2]) -> Self {
        let now = Instant::now();
        let config = Config {
            max_pairs: 24,
            max_unauthenticated: 4,
            max_accepted: 4,
            trickle: seed.is_multiple_of(2),
            ..Config::default()
        };
        let mut agents =
            [0, 1].map(|n| Agent::new(config.clone(), roles[n], now, [seed.wrapping_add(n as u8); 32]));
        for (n, agent) in agents.iter_mut().enumerate() {
            for kind in [0, 1, 4] {
                agent.add_local(now, candidate(n == 1, kind, 5000));
            }
        }
        Self {
            now,
            agents,
            under_way: Vec::new(),
            pipes: Vec::new(),
            selected: [0; 2],
            over: [false; 2],
            ports: 40_000,
        }
    }

    fn drain(&mut self) {
        for n in 0..2 {
            while let Some(action) = self.agents[n].poll_action() {
                // A driver closes at once.
                if let Action::CloseStream { stream, .. } = action {
                    self.close(n, stream);
                } else {
                    self.under_way.push((n, action));
                }
            }
            while let Some(event) = self.agents[n].poll_event() {
                assert!(!self.over[n], "nothing comes after the last event: {event:?}");
                match event {
                    Event::Selected { .. } => self.selected[n] += 1,
                    Event::Failed(report) => {
                        assert_eq!(self.selected[n], 0);
                        assert!(!report.to_string().is_empty());
                        self.over[n] = true;
                    }
                    Event::Lost(_) => self.over[n] = true,
                    _ => {}
                }
            }
            assert!(self.selected[n] <= 1);
            let report = self.agents[n].report();
            assert!(report.pairs.len() <= 24 && report.streams <= 32 + 4 + 4);
            assert!(report.local.len() <= 32 && report.remote.len() <= 31 + 16);
            let ids: BTreeSet<_> = report.pairs.iter().map(|p| p.id).collect();
            assert_eq!(ids.len(), report.pairs.len());
        }
        // Old packets die, as they do in a network.
        let excess = self.under_way.len().saturating_sub(200);
        self.under_way.drain(..excess);
    }

    fn close(&mut self, n: usize, stream: StreamId) {
        for pipe in &mut self.pipes {
            if pipe.ends[n] == Some(stream) {
                pipe.ends[n] = None;
                if let Some(other) = pipe.ends[1 - n].take() {
                    self.agents[1 - n].handle_tcp_closed(self.now, other);
                }
            }
        }
    }

    fn deliver(&mut self, n: usize, action: Action, fate: u8) {
        let (now, to) = (self.now, 1 - n);
        match action {
            Action::SendUdp { local, remote, payload } => {
                self.agents[to].handle_udp(now, remote, local, &payload);
                if fate.is_multiple_of(8) {
                    self.agents[to].handle_udp(now, remote, local, &payload);
                }
            }
            Action::Connect { stream, mut local, remote } => {
                self.ports += 1;
                local.set_port(self.ports);
                let errors = [
                    ConnectError::Refused,
                    ConnectError::TimedOut,
                    ConnectError::Unreachable,
                    ConnectError::Reset,
                ];
                if fate.is_multiple_of(3) {
                    return self.agents[n].handle_tcp_failed(now, stream, errors[usize::from(fate / 3) % 4]);
                }
                match self.agents[to].handle_tcp_accepted(now, remote, local) {
                    Ok(other) => {
                        let mut ends = [Some(stream); 2];
                        ends[to] = Some(other);
                        self.pipes.push(Pipe { ends });
                        self.agents[n].handle_tcp_connected(now, stream, local);
                    }
                    Err(_) => self.agents[n].handle_tcp_failed(now, stream, ConnectError::Refused),
                }
            }
            Action::SendFrame { stream, payload } => {
                let Some(other) =
                    self.pipes.iter().find(|p| p.ends[n] == Some(stream)).and_then(|p| p.ends[to])
                else {
                    return;
                };
                let mut input = &payload[..];
                let mut decoder = Decoder::new();
                while let Some(frame) = decoder.decode(&mut input).unwrap() {
                    self.agents[to].handle_tcp_frame(now, other, frame);
                }
            }
            Action::CloseStream { .. } => unreachable!("closed at once"),
        }
    }

    fn apply(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Pass(time) => self.pass(ms(time.into())),
            Step::Exchange(side) => {
                let from = usize::from(side);
                let description = self.agents[from].local_description();
                self.agents[1 - from].set_remote(now, description);
            }
            Step::Deliver { which, fate } => {
                if self.under_way.is_empty() {
                    return;
                }
                // TCP keeps its order: of one stream only the first frame can arrive.
                let mut index = which % self.under_way.len();
                if let (n, Action::SendFrame { stream, .. }) = self.under_way[index] {
                    let first = |(m, a): &(usize, Action)| {
                        *m == n && matches!(a, Action::SendFrame { stream: s, .. } if *s == stream)
                    };
                    index = self.under_way.iter().position(first).unwrap();
                }
                let (n, action) = self.under_way.remove(index);
                let lost = matches!(action, Action::SendUdp { .. }) && fate < 50;
                if !lost {
                    self.deliver(n, action, fate);
                }
            }
            Step::Stranger { side, port, bytes } => {
                let agent = &mut self.agents[usize::from(side)];
                let local = ([10, 0, 0, u8::from(side) + 1], 5000).into();
                let remote = ([192, 0, 2, 1], port).into();
                let before = agent.selected();
                if let Ok(stream) = agent.handle_tcp_accepted(now, local, remote) {
                    assert!(matches!(agent.handle_tcp_frame(now, stream, &bytes), Disposition::Dropped(_)));
                }
                assert!(!matches!(
                    agent.handle_udp(now, local, remote, &bytes),
                    Disposition::Data | Disposition::Early
                ));
                assert_eq!(agent.selected(), before);
            }
            Step::Close { which } if !self.pipes.is_empty() => {
                let index = which % self.pipes.len();
                for n in 0..2 {
                    if let Some(stream) = self.pipes[index].ends[n].take() {
                        self.agents[n].handle_tcp_closed(now, stream);
                    }
                }
            }
            Step::Garbage { which, bytes } if !self.pipes.is_empty() => {
                let index = which % self.pipes.len();
                if let Some(stream) = self.pipes[index].ends[which % 2] {
                    self.agents[which % 2].handle_tcp_frame(now, stream, &bytes);
                }
            }
            Step::Close { .. } | Step::Garbage { .. } => {}
            Step::AddLocal { side, kind, port } => {
                self.agents[usize::from(side)].add_local(now, candidate(side, kind, port));
            }
            Step::AddRemote { side, kind, port } => {
                let _ =
                    self.agents[usize::from(side)].add_remote_candidate(now, candidate(!side, kind, port));
            }
            Step::End(side) => self.agents[usize::from(side)].end_of_remote_candidates(now),
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..10_000 {
            let due = (0..2).filter_map(|n| Some((self.agents[n].poll_timeout()?, n))).min();
            let Some((at, n)) = due.filter(|&(at, _)| at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.agents[n].handle_timeout(self.now);
            assert!(self.agents[n].poll_timeout().is_none_or(|next| next > self.now), "a timer stays due");
            self.drain();
        }
        panic!("timers fire for ever");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_rules(
        seed in any::<u8>(),
        roles in prop::array::uniform2(prop_oneof![Just(Role::Controlling), Just(Role::Controlled)]),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new(seed, roles);
        for step in steps {
            world.apply(step);
            world.drain();
        }
        // Left alone, each side comes to rest: a path with its keep-alives, an end, or waiting for a peer.
        world.under_way.clear();
        world.pass(Duration::from_mins(5));
        for n in 0..2 {
            let resting = world.selected[n] == 1 || world.over[n] || world.agents[n].poll_timeout().is_none();
            prop_assert!(resting, "{:#?}", world.agents[n].report());
        }
    }
}
