//! Asking servers how they see us, through every kind of NAT, and servers of every kind.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::nat::{By, Datagram, Manner, Nat, Node, Ports, StunServer, World};
use common::{addr, ms};
use towline_ice::gather::{
    GatherAction, GatherConfig, GatherEvent, Gatherer, QuestionId, Server, ServerError, Via,
};
use towline_ice::nat::Mapping;
use towline_ice::{Candidate, CandidateKind, TcpType, Transport};

const BASE: &str = "10.0.0.1:5000";
const SERVERS: [&str; 4] = ["192.0.2.1:3478", "192.0.2.2:3478", "192.0.2.3:3478", "192.0.2.4:3478"];

struct Host {
    gatherer: Gatherer,
    events: Vec<(Instant, GatherEvent)>,
    sent: Vec<(Instant, SocketAddr)>,
}

impl Host {
    fn new(now: Instant, config: GatherConfig) -> Self {
        Self { gatherer: Gatherer::new(config, now, [1; 32]), events: Vec::new(), sent: Vec::new() }
    }

    fn candidates(&self) -> Vec<&Candidate> {
        self.events
            .iter()
            .filter_map(
                |(_, e)| if let GatherEvent::Candidate(candidate) = e { Some(candidate) } else { None },
            )
            .collect()
    }

    fn failures(&self) -> Vec<ServerError> {
        let error = |(_, e): &_| match e {
            GatherEvent::ServerFailed { error, .. } => Some(*error),
            _ => None,
        };
        self.events.iter().filter_map(error).collect()
    }

    fn done_at(&self) -> Option<Instant> {
        self.events.iter().find(|(_, e)| *e == GatherEvent::Done).map(|(at, _)| *at)
    }
}

impl Node for Host {
    fn datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: &[u8]) {
        assert!(self.gatherer.handle_udp(now, local, remote, payload));
    }

    fn due(&self) -> Option<Instant> {
        self.gatherer.poll_timeout()
    }

    fn timeout(&mut self, now: Instant) {
        self.gatherer.handle_timeout(now);
        assert!(self.gatherer.poll_timeout().is_none_or(|at| at > now), "a timer that stays due");
    }

    fn drain(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        while let Some(action) = self.gatherer.poll_action() {
            let GatherAction::SendUdp { local, remote, payload } = action else { panic!("{action:?}") };
            self.sent.push((now, remote));
            out.push(Datagram { local, remote, payload: payload.to_vec() });
        }
        while let Some(event) = self.gatherer.poll_event() {
            self.events.push((now, event));
        }
    }
}

/// Asks these servers from one socket behind that NAT.
fn gather(nat: Option<Nat>, manners: &[Manner], config: GatherConfig) -> (World, Host, Vec<StunServer>) {
    let mut world = World::new(1);
    world.host(0, "10.0.0.1", nat);
    let mut host = Host::new(world.now, config);
    assert!(host.gatherer.add_base(world.now, Via::Udp, addr(BASE)));
    let mut servers = Vec::new();
    for (n, manner) in manners.iter().enumerate() {
        let address = addr(SERVERS[n]);
        world.host(n + 1, &address.ip().to_string(), None);
        if let Manner::From(other) = manner {
            world.host(n + 1, &other.ip().to_string(), None);
        }
        servers.push(StunServer::new(*manner));
        assert!(host.gatherer.add_server(world.now, Server { address, via: Via::Udp }));
    }
    let mut nodes: Vec<&mut dyn Node> = vec![&mut host];
    nodes.extend(servers.iter_mut().map(|s| s as &mut dyn Node));
    world.run(&mut nodes, Duration::from_secs(20), |_| false);
    (world, host, servers)
}

/// Lets answers from anywhere in.
fn full_cone() -> Nat {
    Nat::new("198.51.100.1", By::Nothing, By::Nothing, Ports::Preserving, 7)
}

fn home(mapping: By, ports: Ports) -> Nat {
    Nat::new("198.51.100.1", mapping, By::Port, ports, 7)
}

#[test]
fn every_kind_of_mapping_is_recognised() {
    for (nat, expected, candidates) in [
        (None, "open", 0),
        (Some(home(By::Nothing, Ports::Preserving)), "independent-preserving", 1),
        (Some(home(By::Nothing, Ports::Random)), "independent", 1),
        (Some(home(By::Nothing, Ports::Sequential(1))), "independent", 1),
        (Some(home(By::Port, Ports::Sequential(1))), "by-port-sequential:1", 2),
        (Some(home(By::Port, Ports::Sequential(-2))), "by-port-sequential:-2", 2),
        (Some(home(By::Port, Ports::Random)), "by-port-random", 2),
    ] {
        let (world, host, _) = gather(nat, &[Manner::Honest; 3], GatherConfig::default());
        let report = host.gatherer.nat_report();
        assert_eq!(report.udp_v4.to_string(), expected);
        assert_eq!(report.to_string(), format!("udp over IPv4 {expected}"));
        assert_eq!((report.tcp_v4, report.failures.len()), (Mapping::Unknown, 0));
        assert_eq!(host.candidates().len(), candidates, "two outside addresses at most");
        for candidate in host.candidates() {
            assert_eq!((candidate.kind, candidate.base), (CandidateKind::ServerReflexive, addr(BASE)));
            assert_eq!(candidate.address.ip().to_string(), "198.51.100.1");
        }
        assert_eq!(host.done_at().unwrap() - world.start, ms(40), "one round trip");
        assert_eq!(host.gatherer.poll_timeout(), None);
    }
}

#[test]
fn several_sockets_do_not_hide_the_step() {
    let mut world = World::new(1);
    world.host(0, "10.0.0.1", Some(home(By::Port, Ports::Sequential(3))));
    let mut host = Host::new(world.now, GatherConfig::default());
    let mut servers = [StunServer::new(Manner::Honest), StunServer::new(Manner::Honest)];
    for (n, server) in SERVERS[..2].iter().enumerate() {
        world.host(n + 1, &addr(server).ip().to_string(), None);
        host.gatherer.add_server(world.now, Server { address: addr(server), via: Via::Udp });
    }
    for port in 5000..5004 {
        host.gatherer.add_base(world.now, Via::Udp, SocketAddr::new(addr(BASE).ip(), port));
    }
    let [one, two] = &mut servers;
    world.run(&mut [&mut host, one, two], Duration::from_secs(5), |_| false);
    assert_eq!(host.gatherer.nat_report().udp_v4.to_string(), "by-port-sequential:3");
    // Four at once, then one per 50 ms.
    let times: Vec<_> = host.sent.iter().map(|(at, _)| *at - world.start).collect();
    assert_eq!(times, [0, 0, 0, 0, 50, 100, 150, 200].map(ms));
}

#[test]
fn what_is_lost_is_asked_again() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.loss = 40;
        world.host(0, "10.0.0.1", Some(home(By::Nothing, Ports::Preserving)));
        world.host(1, "192.0.2.1", None);
        let mut host =
            Host::new(world.now, GatherConfig { deadline: Duration::from_mins(1), ..Default::default() });
        let mut server = StunServer::new(Manner::Honest);
        host.gatherer.add_base(world.now, Via::Udp, addr(BASE));
        host.gatherer.add_server(world.now, Server { address: addr(SERVERS[0]), via: Via::Udp });
        world.run(&mut [&mut host, &mut server], Duration::from_mins(2), |_| false);
        let times: Vec<_> = host.sent.iter().map(|(at, _)| *at - world.start).collect();
        let rfc = [0, 500, 1500, 3500, 7500, 15_500, 31_500].map(ms);
        assert_eq!(times, rfc[..times.len()], "RFC 8489 section 6.2.1");
        assert_eq!(host.candidates().len(), 1);
        assert_eq!(host.gatherer.nat_report().udp_v4, Mapping::Unclear, "one server tells little");
    }
}

#[test]
fn servers_of_no_use_are_named_and_bounded() {
    let elsewhere = addr("192.0.2.77:3478");
    for (manner, error, at) in [
        (Manner::Silent, ServerError::Silent, 5000),
        (Manner::From(elsewhere), ServerError::Elsewhere(elsewhere), 5000),
        (Manner::Refuses(400), ServerError::Rejected(400), 40),
        (Manner::Mumbles, ServerError::NoAddress, 40),
    ] {
        let (world, host, servers) =
            gather(Some(full_cone()), &[Manner::Honest, manner], GatherConfig::default());
        assert_eq!(host.failures(), [error]);
        assert_eq!(host.candidates().len(), 1, "the other one serves");
        assert_eq!(host.done_at().unwrap() - world.start, ms(at));
        // At 0, 0.5, 1.5 and 3.5 s.
        assert!(servers[1].asked <= 4);
        assert_eq!(host.gatherer.nat_report().failures.len(), 1);
    }
}

#[test]
fn addresses_that_cannot_be_ours_are_not_offered() {
    for lie in [
        "0.0.0.0:5000",
        "198.51.100.1:0",
        "224.0.0.1:5000",
        "255.255.255.255:5000",
        "127.0.0.1:5000",
        "169.254.1.1:5000",
        "10.0.0.7:5000",
        "192.168.1.1:5000",
        "100.64.0.1:5000",
        "[2001:db8::1]:5000",
    ] {
        let (_, host, _) = gather(None, &[Manner::Liar(addr(lie))], GatherConfig::default());
        assert_eq!(host.failures(), [ServerError::ImpossibleAddress(addr(lie))]);
        assert!(host.candidates().is_empty());
        assert_eq!(host.gatherer.nat_report().udp_v4, Mapping::Unknown);
    }
}

#[test]
fn one_server_against_all_others_is_not_believed() {
    let lie = addr("203.0.113.9:443");
    let manners = [Manner::Honest, Manner::Honest, Manner::Honest, Manner::Liar(lie)];
    let (_, host, _) = gather(Some(home(By::Nothing, Ports::Preserving)), &manners, GatherConfig::default());
    assert_eq!(host.failures(), [ServerError::Contradicted(lie)]);
    assert_eq!(host.candidates().len(), 1);
}

/// Asks a server and a spare one. Returns when the spare one was asked, if it was, and how many candidates there are.
fn with_spare(manner: Manner) -> (Option<Duration>, usize) {
    let mut world = World::new(1);
    world.host(0, "10.0.0.1", Some(home(By::Nothing, Ports::Preserving)));
    let mut host = Host::new(world.now, GatherConfig::default());
    let mut servers = [StunServer::new(manner), StunServer::new(Manner::Honest)];
    for (n, server) in SERVERS[..2].iter().enumerate() {
        world.host(n + 1, &addr(server).ip().to_string(), None);
    }
    host.gatherer.add_base(world.now, Via::Udp, addr(BASE));
    host.gatherer.add_server(world.now, Server { address: addr(SERVERS[0]), via: Via::Udp });
    let spare = Server { address: addr(SERVERS[1]), via: Via::Udp };
    assert!(host.gatherer.add_spare(world.now, spare));
    assert!(!host.gatherer.add_server(world.now, spare), "it is known");
    let [one, two] = &mut servers;
    world.run(&mut [&mut host, one, two], Duration::from_secs(10), |_| false);
    assert!(host.done_at().is_some());
    let asked = host.sent.iter().find(|(_, to)| *to == addr(SERVERS[1])).map(|(at, _)| *at - world.start);
    (asked, host.candidates().len())
}

#[test]
fn a_spare_server_is_asked_where_others_do_not_answer() {
    assert_eq!(with_spare(Manner::Honest), (None, 1), "nobody needs it");
    assert_eq!(with_spare(Manner::Silent), (Some(ms(400)), 1));
    assert_eq!(with_spare(Manner::Refuses(400)), (Some(ms(40)), 1), "nobody else is left");
    // Alone, it is asked at once.
    let now = Instant::now();
    let mut gatherer = Gatherer::new(GatherConfig::default(), now, [1; 32]);
    gatherer.add_spare(now, Server { address: addr(SERVERS[0]), via: Via::Tcp });
    gatherer.add_base(now, Via::Tcp, addr(BASE));
    assert_eq!(connects(&mut gatherer).len(), 1);
}

#[test]
fn nobody_answers_where_udp_is_blocked() {
    let (world, host, _) = gather(None, &[Manner::Silent; 4], GatherConfig::default());
    let report = host.gatherer.nat_report();
    assert_eq!(report.udp_v4, Mapping::Blocked);
    assert!(!report.is_udp_blocked(), "the servers may be dead as well");
    assert_eq!(host.done_at().unwrap() - world.start, Duration::from_secs(5));
}

#[test]
fn forged_answers_are_not_for_us() {
    let now = Instant::now();
    let mut gatherer = Gatherer::new(GatherConfig::default(), now, [1; 32]);
    gatherer.add_base(now, Via::Udp, addr(BASE));
    gatherer.add_server(now, Server { address: addr(SERVERS[0]), via: Via::Udp });
    let Some(GatherAction::SendUdp { payload, .. }) = gatherer.poll_action() else { panic!() };
    let lie = StunServer::new(Manner::Liar(addr("203.0.113.9:443")));
    let good = StunServer::new(Manner::Honest).answer(addr("198.51.100.1:7"), &payload).unwrap();
    let forged = lie.answer(addr(BASE), &payload).unwrap();
    let mut other = forged.clone();
    other[10] ^= 1;
    // A CRC that is wrong, an unknown transaction once it is right: the agent's business.
    assert!(!gatherer.handle_udp(now, addr(BASE), addr(SERVERS[0]), &other));
    assert!(!gatherer.handle_udp(now, addr(BASE), addr(SERVERS[0]), b"data"));
    // Right transaction, wrong source or socket: swallowed.
    assert!(gatherer.handle_udp(now, addr(BASE), addr("192.0.2.9:3478"), &forged));
    assert!(gatherer.handle_udp(now, addr("10.0.0.1:5001"), addr(SERVERS[0]), &forged));
    assert!(gatherer.poll_event().is_none());
    // A socket bound to all interfaces knows its port only.
    assert!(gatherer.handle_udp(now, addr("0.0.0.0:5000"), addr(SERVERS[0]), &good));
    let Some(GatherEvent::Candidate(candidate)) = gatherer.poll_event() else { panic!() };
    assert_eq!(candidate.address, addr("198.51.100.1:7"));
    assert_eq!(gatherer.poll_event(), Some(GatherEvent::Done));
    assert!(gatherer.handle_udp(now, addr(BASE), addr(SERVERS[0]), &forged), "once");
    assert!(gatherer.poll_event().is_none());
}

fn connects(gatherer: &mut Gatherer) -> Vec<(QuestionId, SocketAddr, SocketAddr)> {
    let mut connects = Vec::new();
    while let Some(action) = gatherer.poll_action() {
        let GatherAction::Connect { question, local, remote } = action else { panic!("{action:?}") };
        connects.push((question, local, remote));
    }
    connects
}

fn written(gatherer: &mut Gatherer) -> Vec<u8> {
    let Some(GatherAction::Write { payload, .. }) = gatherer.poll_action() else { panic!() };
    payload.to_vec()
}

#[test]
fn over_tcp_the_port_of_the_listener_is_asked_for_and_kept() {
    let now = Instant::now();
    let mut gatherer = Gatherer::new(GatherConfig::default(), now, [1; 32]);
    gatherer.add_base(now, Via::Tcp, addr(BASE));
    for server in SERVERS {
        gatherer.add_server(now, Server { address: addr(server), via: Via::Tcp });
    }
    let asked = connects(&mut gatherer);
    assert!(asked.iter().all(|(_, local, _)| *local == addr(BASE)) && asked.len() == 4);
    let mapped = addr("198.51.100.1:700");
    let honest = StunServer::new(Manner::Honest);

    gatherer.handle_tcp_connected(now, asked[0].0);
    let answer = honest.answer(mapped, &written(&mut gatherer)).unwrap();
    for byte in answer {
        gatherer.handle_tcp_bytes(now, asked[0].0, &[byte]);
    }
    let mut kinds = Vec::new();
    while let Some(GatherEvent::Candidate(candidate)) = gatherer.poll_event() {
        assert_eq!((candidate.address, candidate.base), (mapped, addr(BASE)));
        kinds.push(candidate.transport);
    }
    assert_eq!(kinds, [TcpType::SimultaneousOpen, TcpType::Passive].map(Transport::Tcp));

    // One talks something else, one closes, one cannot be reached.
    gatherer.handle_tcp_connected(now, asked[1].0);
    written(&mut gatherer);
    gatherer.handle_tcp_bytes(now, asked[1].0, b"HTTP/1.1 400 Bad Request\r\n");
    assert_eq!(gatherer.poll_action(), Some(GatherAction::Close { question: asked[1].0 }));
    gatherer.handle_tcp_connected(now, asked[2].0);
    written(&mut gatherer);
    gatherer.handle_tcp_closed(now, asked[2].0);
    gatherer.handle_tcp_failed(now, asked[3].0);
    let report = gatherer.nat_report();
    let errors: Vec<_> = report.failures.iter().map(|(_, _, error)| *error).collect();
    assert_eq!(errors, [ServerError::Closed, ServerError::Closed, ServerError::NotConnected]);
    assert_eq!(report.tcp_v4, Mapping::Unclear);
    assert!(gatherer.is_done());
    gatherer.finish();
    assert_eq!(gatherer.poll_action(), Some(GatherAction::Close { question: asked[0].0 }));
    assert_eq!(gatherer.poll_action(), None);
}

#[test]
fn a_firewall_against_udp_is_told_from_dead_servers() {
    let now = Instant::now();
    let mut gatherer = Gatherer::new(GatherConfig::default(), now, [1; 32]);
    for via in [Via::Udp, Via::Tcp] {
        gatherer.add_base(now, via, addr(BASE));
        gatherer.add_server(now, Server { address: addr(SERVERS[0]), via });
    }
    let Some(GatherAction::SendUdp { .. }) = gatherer.poll_action() else { panic!() };
    let asked = connects(&mut gatherer);
    gatherer.handle_tcp_connected(now, asked[0].0);
    let answer = StunServer::new(Manner::Honest).answer(addr(BASE), &written(&mut gatherer)).unwrap();
    gatherer.handle_tcp_bytes(now, asked[0].0, &answer);
    assert!(!gatherer.nat_report().is_udp_blocked(), "not yet");
    gatherer.handle_timeout(now + Duration::from_secs(5));
    let report = gatherer.nat_report();
    assert!(report.is_udp_blocked());
    assert_eq!(report.to_string(), "udp over IPv4 blocked, tcp over IPv4 open");
}

#[test]
fn both_families_are_asked_and_reported_apart() {
    let now = Instant::now();
    let mut gatherer = Gatherer::new(GatherConfig::default(), now, [1; 32]);
    let pairs = [
        ("10.0.0.1:5000", "192.0.2.1:3478", "198.51.100.1:7"),
        ("[fd00::1]:5000", "[2001:db8::5]:3478", "[2001:db8::9]:5000"),
    ];
    for (base, server, _) in pairs {
        gatherer.add_base(now, Via::Udp, addr(base));
        gatherer.add_server(now, Server { address: addr(server), via: Via::Udp });
    }
    let honest = StunServer::new(Manner::Honest);
    for (base, server, mapped) in pairs {
        let Some(GatherAction::SendUdp { local, remote, payload }) = gatherer.poll_action() else { panic!() };
        assert_eq!((local, remote), (addr(base), addr(server)));
        let answer = honest.answer(addr(mapped), &payload).unwrap();
        assert!(gatherer.handle_udp(now, local, remote, &answer));
        let Some(GatherEvent::Candidate(candidate)) = gatherer.poll_event() else { panic!() };
        assert_eq!((candidate.address, candidate.base), (addr(mapped), addr(base)));
    }
    assert_eq!(gatherer.poll_event(), Some(GatherEvent::Done));
    assert_eq!(gatherer.nat_report().to_string(), "udp over IPv4 unclear, udp over IPv6 unclear");
    assert_eq!(gatherer.party().unwrap().to_string(), "unclear 198.51.100.1:7", "IPv4 is where NATs are");
    assert!(gatherer.predicted(Via::Udp, 8).is_empty());
}

/// What comes next is foretold of datagrams and of connections apart: each has a sequence of its own.
#[test]
fn the_next_ports_of_connections_are_foretold_for_simultaneous_open() {
    let now = Instant::now();
    let mut gatherer = Gatherer::new(GatherConfig::default(), now, [1; 32]);
    let base = addr("10.0.0.1:5000");
    gatherer.add_base(now, Via::Tcp, base);
    let servers = ["192.0.2.1:3478", "192.0.2.2:3478"];
    for server in servers {
        gatherer.add_server(now, Server { address: addr(server), via: Via::Tcp });
    }
    let honest = StunServer::new(Manner::Honest);
    let mut ports = [1026, 1028].into_iter();
    while let Some(action) = gatherer.poll_action() {
        match action {
            GatherAction::Connect { question, .. } => gatherer.handle_tcp_connected(now, question),
            GatherAction::Write { question, payload } => {
                assert!(gatherer.predicted(Via::Tcp, 3).is_empty(), "one answer tells nothing");
                let seen = SocketAddr::new("198.51.100.1".parse().unwrap(), ports.next().unwrap());
                gatherer.handle_tcp_bytes(now, question, &honest.answer(seen, &payload).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
    let foretold = gatherer.predicted(Via::Tcp, 3);
    let ports: Vec<u16> = foretold.iter().map(|candidate| candidate.address.port()).collect();
    assert_eq!(ports, [1030, 1032, 1034]);
    for candidate in &foretold {
        let simultaneous = Transport::Tcp(TcpType::SimultaneousOpen);
        assert_eq!((candidate.transport, candidate.base), (simultaneous, base));
    }
    let priorities: Vec<u32> = foretold.iter().map(|candidate| candidate.priority).collect();
    while let Some(event) = gatherer.poll_event() {
        match event {
            GatherEvent::Candidate(seen) if seen.transport == foretold[0].transport => {
                assert!(seen.priority > priorities[0], "what was seen comes first");
            }
            _ => {}
        }
    }
    assert!(priorities.windows(2).all(|two| two[0] > two[1]), "the next one is the likeliest");
    assert!(gatherer.predicted(Via::Udp, 3).is_empty());
}

#[test]
fn families_do_not_mix_and_everything_is_bounded() {
    let now = Instant::now();
    let mut gatherer = Gatherer::new(GatherConfig::default(), now, [1; 32]);
    for n in 1..100u16 {
        let added = gatherer.add_base(now, Via::Udp, ([10, 0, 0, 1], n).into());
        assert_eq!(added, n <= 16);
        let v6 = SocketAddr::new("2001:db8::1".parse().unwrap(), n);
        assert_eq!(gatherer.add_server(now, Server { address: v6, via: Via::Udp }), n <= 8);
    }
    assert_eq!(gatherer.poll_action(), None, "IPv6 servers cannot be asked from IPv4");
    assert!(!gatherer.add_base(now, Via::Udp, ([10, 0, 0, 1], 1).into()));
    gatherer.handle_timeout(now + Duration::from_secs(5));
    assert_eq!(gatherer.poll_event(), Some(GatherEvent::Done));
    assert_eq!(gatherer.nat_report().to_string(), "nobody was asked");
}
