//! Nobody can make us a burden to others: lists that point at third parties, replayed and forged checks, restarts in a row;
//! and what strangers do to a session with several paths.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::time::{Duration, Instant};

use common::nat::{Datagram, Node, Peer, World};
use common::script::{LOCAL, Script, answer};
use common::{addr, ms};
use towline_ice::stun::{Class, Message};
use towline_ice::{
    Agent, Candidate, CandidateKind, Config, Description, Disposition, DropReason, Event, PairError, Refused,
    Role, TargetLimits, TcpType, Transport,
};

const VICTIM: &str = "203.0.113.7";

fn udp(address: &str) -> Candidate {
    Candidate::host(Transport::Udp, addr(address), 0)
}

/// A list as bad as can be: every line one host that has nothing to do with it.
fn hostile_list(seed: u8) -> Description {
    let mut list =
        Agent::new(Config::default(), Role::Controlled, Instant::now(), [seed; 32]).local_description();
    list.candidates = (0..31).map(|n| udp(&format!("{VICTIM}:{}", 2000 + n))).collect();
    list
}

/// An agent on three interfaces; times at which a packet went to the victim.
struct Attacked {
    agent: Agent,
    sent: Vec<Instant>,
    now: Instant,
}

impl Attacked {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        let mut agent = Agent::new(config, Role::Controlling, now, [1; 32]);
        for n in 1..4 {
            agent.add_local(now, udp(&format!("10.0.{n}.1:5000")));
            agent.add_local(
                now,
                Candidate::host(Transport::Tcp(TcpType::Active), addr(&format!("10.0.{n}.1:9")), 1),
            );
        }
        Self { agent, sent: Vec::new(), now }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some(action) = self.agent.poll_action() {
                if let towline_ice::Action::SendUdp { remote, .. }
                | towline_ice::Action::Connect { remote, .. } = action
                {
                    assert_eq!(remote.ip().to_string(), VICTIM);
                    self.sent.push(self.now);
                }
            }
            while self.agent.poll_event().is_some() {}
            let Some(at) = self.agent.poll_timeout().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.agent.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// The most within any second.
    fn peak(&self) -> usize {
        let within = |start: &Instant| {
            self.sent.iter().filter(|at| **at >= *start && **at < *start + Duration::from_secs(1)).count()
        };
        self.sent.iter().map(within).max().unwrap_or_default()
    }
}

#[test]
fn a_list_that_points_at_one_host_costs_it_little() {
    for config in [Config::default(), Config::parallel()] {
        let mut attacked = Attacked::new(config);
        let mut list = hostile_list(2);
        for candidate in &mut list.candidates[16..] {
            candidate.transport = Transport::Tcp(TcpType::Passive);
        }
        attacked.agent.set_remote(attacked.now, list);
        attacked.pass(Duration::from_hours(1));
        assert!(attacked.sent.len() <= 512, "{}", attacked.sent.len());
        assert!(attacked.peak() <= 32 + 40, "{}", attacked.peak());
    }
}

#[test]
fn restarts_do_not_renew_what_may_be_sent() {
    let mut attacked = Attacked::new(Config::parallel());
    for n in 0..50 {
        if n > 0 {
            attacked.agent.restart(attacked.now);
        }
        attacked.agent.set_remote(attacked.now, hostile_list(n));
        attacked.pass(Duration::from_secs(20));
    }
    // Two spans of ten minutes have begun.
    let first = attacked.sent.iter().filter(|at| **at < attacked.sent[0] + Duration::from_mins(10)).count();
    assert_eq!((first, attacked.sent.len()), (512, 1024));
    let report = attacked.agent.report();
    assert!(report.pairs.len() <= 256 && report.remote.len() <= 2 * 31);
}

#[test]
fn the_limits_may_be_narrower() {
    let targets = TargetLimits { rate: 5, burst: 5, max_packets: 20, ..TargetLimits::default() };
    let mut attacked = Attacked::new(Config { targets, ..Config::parallel() });
    attacked.agent.set_remote(attacked.now, hostile_list(2));
    attacked.pass(Duration::from_mins(10));
    assert_eq!(attacked.sent.len(), 20);
    assert!(attacked.peak() <= 10);
    let untried = attacked.agent.report().pairs;
    let untried = untried.iter().filter(|p| p.state == towline_ice::PairState::Failed(PairError::NotTried));
    assert!(untried.count() > 0);
}

/// Knows a peer over UDP and has many paths.
fn parallel(role: Role) -> Script {
    let mut script = Script::new(role, Config::parallel());
    script.set_remote(vec![udp("10.0.0.2:7000")]);
    script
}

/// Answers the last check the agent sent over UDP.
fn success(script: &Script) -> Vec<u8> {
    let is_request = |p: &[u8]| Message::decode(p).unwrap().class == Class::Request;
    let (_, request) = script.datagrams.iter().rfind(|(_, p)| is_request(p)).unwrap();
    answer(request, Script::credentials().password())
}

#[test]
fn a_replayed_check_from_a_forged_address_is_mirrored_a_few_times_at_most() {
    let mut script = parallel(Role::Controlled);
    let captured = script.check(true);
    let before = script.datagrams.len();
    // A thousand times within 10 s, in the name of 40 victims.
    for n in 0..1000u32 {
        script.udp(&format!("203.0.113.{}:{}", 1 + n % 40, 4000), &captured);
        script.pass(ms(10));
    }
    script.pass(Duration::from_mins(30));
    let to = |ip: &str| script.datagrams[before..].iter().filter(|(to, _)| to.ip().to_string() == ip).count();
    let learnt =
        script.agent.report().remote.iter().filter(|c| c.kind == CandidateKind::PeerReflexive).count();
    assert_eq!(learnt, 16);
    // Each request is answered (its size is that of the answer), and five checks of ours follow, repeated a little earlier,
    // and five again when they have failed and the next request comes.
    assert!((1..17).all(|n| to(&format!("203.0.113.{n}")) <= 25 + 2 * 5), "{}", to("203.0.113.1"));
    assert!((17..41).all(|n| to(&format!("203.0.113.{n}")) == 0), "the others get nothing");
    assert!(
        script.agent.selected().is_none()
            || script.agent.selected().unwrap().remote() == addr("10.0.0.2:7000")
    );
}

#[test]
fn consent_cannot_be_forged_nor_replayed() {
    let mut script = parallel(Role::Controlled);
    let first = success(&script);
    assert_eq!(script.udp("10.0.0.2:7000", &first), Disposition::Consumed);
    let nominating = script.check(true);
    script.udp("10.0.0.2:7000", &nominating);
    assert!(script.agent.selected().is_some());
    let mut end = None;
    for _ in 0..40 {
        script.pass(Duration::from_secs(1));
        // What can be had: the first answer again, answers without the password, the right answer elsewhere.
        let asked = success(&script);
        let (_, request) = script.datagrams.last().unwrap().clone();
        let forged = answer(&request, "guessed");
        for (from, packet) in [("10.0.0.2:7000", &first), ("10.0.0.2:7000", &forged), ("192.0.2.1:7", &asked)]
        {
            assert!(matches!(script.udp(from, packet), Disposition::Dropped(_)));
        }
        if script.agent.selected().is_none() {
            end = Some(script.now);
            break;
        }
    }
    assert!(end.is_some(), "consent ran out");
    assert!(script.events.iter().any(|e| matches!(e, Event::ConsentLost { .. })));
    assert_eq!(script.events.last(), Some(&Event::Disconnected));
}

#[test]
fn a_repeated_nomination_of_long_ago_decides_nothing() {
    let mut script = parallel(Role::Controlled);
    let first = success(&script);
    script.udp("10.0.0.2:7000", &first);
    let old = script.check(true);
    script.udp("10.0.0.2:7000", &old);
    let stream = script.accept("10.0.0.2:40000");
    let plain = script.check(false);
    script.frame(stream, &plain);
    let proof = script.success(stream);
    script.frame(stream, &proof);
    let new = script.check(true);
    script.frame(stream, &new);
    assert_eq!(script.selected_stream(), Some(stream));
    assert_eq!(script.udp("10.0.0.2:7000", &old), Disposition::Consumed, "answered as all are");
    assert_eq!(script.selected_stream(), Some(stream));
}

#[test]
fn strangers_find_the_same_walls_while_paths_are_in_use() {
    let mut script = parallel(Role::Controlled);
    let first = success(&script);
    script.udp("10.0.0.2:7000", &first);
    let nominating = script.check(true);
    script.udp("10.0.0.2:7000", &nominating);
    assert!(script.agent.selected().is_some());
    let mut open = 0;
    for n in 0..1000u32 {
        let from = addr(&format!("192.0.2.{}:{}", n % 250, 10_000 + n));
        match script.agent.handle_tcp_accepted(script.now, addr(LOCAL), from) {
            Ok(_) => open += 1,
            Err(error) => assert_eq!(error, Refused::TooManyUnauthenticated),
        }
    }
    assert_eq!(open, 16);
    assert_eq!(
        script.udp("192.0.2.1:7", b"\x40data"),
        Disposition::Dropped(DropReason::Unauthenticated),
        "data of nobody"
    );
    let stream = script.agent.handle_tcp_accepted(script.now, addr(LOCAL), addr("10.0.0.2:40000")).unwrap();
    assert_eq!(script.frame(stream, b"\x40data"), Disposition::Dropped(DropReason::Unauthenticated));
    script.pass(Duration::from_secs(11));
    assert_eq!(script.closed.len(), open + 1, "their time is over");
    assert!(script.agent.selected().is_some());
}

/// Sends each packet of a session to everybody else as well, in both names.
struct Mirror {
    seen: Vec<Vec<u8>>,
    out: Vec<Datagram>,
}

impl Node for Mirror {
    fn datagram(&mut self, _: Instant, local: std::net::SocketAddr, _: std::net::SocketAddr, payload: &[u8]) {
        self.seen.push(payload.to_vec());
        for to in ["203.0.113.1:5000", "203.0.113.2:6000"] {
            self.out.push(Datagram { local, remote: addr(to), payload: payload.to_vec() });
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

#[test]
fn a_third_party_that_mirrors_everything_gets_no_path() {
    let mut world = World::new(1);
    world.host(0, "203.0.113.1", None);
    world.host(1, "203.0.113.2", None);
    world.host(2, "203.0.113.3", None);
    let agent = |role, seed| Agent::new(Config::parallel(), role, world.now, [seed; 32]);
    let mut a = Peer::new(world.now, agent(Role::Controlling, 1), [udp("203.0.113.1:5000")]);
    let mut b = Peer::new(world.now, agent(Role::Controlled, 2), [udp("203.0.113.2:6000")]);
    let mut mirror = Mirror { seen: Vec::new(), out: Vec::new() };
    // Each was told of the mirror instead of the other.
    let (mut ours, mut theirs) = (a.agent.local_description(), b.agent.local_description());
    ours.candidates.push(udp("203.0.113.3:7000"));
    theirs.candidates.push(udp("203.0.113.3:7000"));
    a.agent.set_remote(world.now, theirs);
    b.agent.set_remote(world.now, ours);
    world.run(&mut [&mut a, &mut b, &mut mirror], Duration::from_mins(2), |_| false);
    assert!(!mirror.seen.is_empty());
    for (peer, other) in [(&a, "203.0.113.2"), (&b, "203.0.113.1")] {
        assert_eq!(peer.selected().unwrap().remote().ip().to_string(), other);
    }
    assert!(mirror.seen.len() < 512, "and no storm comes of it: {}", mirror.seen.len());
}
