//! The server, with our own clients and with requests made by hand; its driver is a table of sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use common::*;
use towline_ice::stun::{BINDING, Class, Encoder, Message, Seal, TransactionId};
use towline_turn::{
    Client, Config, Credentials, Event, Failure, Family, Input, PeerPolicy, Refusal, Relay, RelayId, Server,
    ServerAction, ServerConfig, ServerEvent, ServerTransport, StreamId, Users, Via,
};

/// The server, its relay sockets, and what left them.
struct World {
    now: Instant,
    server: Server,
    sockets: BTreeMap<RelayId, SocketAddr>,
    closed: Vec<StreamId>,
    /// From a relayed address, to a peer.
    sent: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    log: Vec<ServerEvent>,
    next_port: u16,
    no_ports: bool,
}

struct User {
    client: Client,
    via: Via,
    received: Vec<(SocketAddr, Vec<u8>)>,
    events: Vec<Event>,
}

const UNIX: u64 = 1_800_000_000;

impl World {
    fn new(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let now = Instant::now();
        let mut config = ServerConfig {
            realm: "example.org".into(),
            users: Users {
                fixed: BTreeMap::from([("ann".into(), "secret".into()), ("ben".into(), "other".into())]),
                secret: Some(b"north".to_vec()),
            },
            ..ServerConfig::default()
        };
        change(&mut config);
        Self {
            now,
            server: Server::new(config, now, UNIX, [3; 32]),
            sockets: BTreeMap::new(),
            closed: Vec::new(),
            sent: Vec::new(),
            log: Vec::new(),
            next_port: 50_000,
            no_ports: false,
        }
    }

    fn user(&mut self, from: &str, change: impl FnOnce(&mut Config)) -> User {
        let mut config = Config::new(server(), ServerTransport::Udp);
        config.credentials = Some(Credentials::new("ann", "secret"));
        change(&mut config);
        let via = if config.transport.is_stream() {
            Via::Stream(self.server.handle_accepted(self.now, addr(from)).unwrap())
        } else {
            Via::Datagram { listener: 0, from: addr(from) }
        };
        self.client(via, config)
    }

    /// A client on a stream that stands.
    fn user_on(&mut self, via: Via, change: impl FnOnce(&mut Config)) -> User {
        let mut config = Config::new(server(), ServerTransport::Udp);
        config.credentials = Some(Credentials::new("ann", "secret"));
        change(&mut config);
        self.client(via, config)
    }

    fn client(&self, via: Via, config: Config) -> User {
        let seed = [self.next_port as u8 ^ 0x5a; 32];
        let client = Client::new(config, self.now, seed).unwrap();
        User { client, via, received: Vec::new(), events: Vec::new() }
    }

    /// What one way brings to the server.
    fn arrives(&mut self, via: Via, bytes: &[u8]) {
        match via {
            Via::Datagram { listener, from } => {
                if let Some(out) = self.server.handle_datagram(self.now, listener, from, bytes) {
                    self.sent.push((self.sockets[&out.relay], out.peer, out.payload.to_vec()));
                }
            }
            Via::Stream(stream) => {
                for mut chunk in bytes.chunks(7) {
                    while !chunk.is_empty() {
                        if let Some(out) = self.server.handle_stream(self.now, stream, &mut chunk) {
                            self.sent.push((self.sockets[&out.relay], out.peer, out.payload.to_vec()));
                        }
                    }
                }
            }
        }
    }

    /// Lets everything happen that happens without waiting.
    fn settle(&mut self, users: &mut [&mut User]) {
        loop {
            let mut quiet = true;
            for user in users.iter_mut() {
                while let Some(transmit) = user.client.poll_transmit() {
                    quiet = false;
                    self.arrives(user.via, &transmit.bytes);
                }
                user.events.extend(std::iter::from_fn(|| user.client.poll_event()));
            }
            while let Some(action) = self.server.poll_action() {
                quiet = false;
                match action {
                    ServerAction::Send { via, bytes } => {
                        if let Some(user) = users.iter_mut().find(|user| user.via == via) {
                            user.give(self.now, &bytes);
                        }
                    }
                    ServerAction::Bind { relay, family, .. } => {
                        let ip: IpAddr = match family {
                            Family::V4 => "192.0.2.1".parse().unwrap(),
                            Family::V6 => "2001:db8::1".parse().unwrap(),
                        };
                        self.next_port += 1;
                        let address = (!self.no_ports).then(|| SocketAddr::new(ip, self.next_port));
                        self.sockets.extend(address.map(|address| (relay, address)));
                        self.server.relay_bound(self.now, relay, address);
                    }
                    ServerAction::Unbind(relay) => drop(self.sockets.remove(&relay)),
                    ServerAction::CloseStream(stream) => {
                        self.server.handle_stream_end(stream);
                        self.closed.push(stream);
                    }
                }
            }
            self.log.extend(std::iter::from_fn(|| self.server.poll_event()));
            if quiet {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration, users: &mut [&mut User]) {
        let until = self.now + time;
        loop {
            self.settle(users);
            let timeouts = users.iter().filter_map(|user| user.client.poll_timeout());
            let Some(next) = timeouts.chain(self.server.poll_timeout()).min().filter(|at| *at <= until)
            else {
                self.now = until;
                return;
            };
            self.now = next;
            self.server.handle_timeout(next);
            for user in users.iter_mut() {
                user.client.handle_timeout(next);
            }
        }
    }

    /// A peer sends to a relayed address.
    fn peer_sends(&mut self, user: &mut User, peer: SocketAddr, to: SocketAddr, payload: &[u8]) -> bool {
        let Some(relay) = self.sockets.iter().find(|(_, address)| **address == to).map(|(relay, _)| *relay)
        else {
            return false;
        };
        let mut out = Vec::new();
        match self.server.handle_peer(self.now, relay, peer, payload, &mut out) {
            Some(via) => {
                assert_eq!(via, user.via);
                user.give(self.now, &out);
                true
            }
            None => false,
        }
    }
}

impl User {
    fn give(&mut self, now: Instant, bytes: &[u8]) {
        if let Via::Datagram { .. } = self.via {
            if let Input::Data { from, payload } = self.client.handle_datagram(now, server(), bytes) {
                self.received.push((from, payload.to_vec()));
            }
            return;
        }
        for mut chunk in bytes.chunks(5) {
            while let Some(input) = self.client.handle_stream(now, &mut chunk) {
                if let Input::Data { from, payload } = input {
                    self.received.push((from, payload.to_vec()));
                }
            }
        }
    }

    fn relayed(&self) -> SocketAddr {
        self.client.allocation().expect("allocated").relayed[0]
    }

    fn failure(&self) -> Failure {
        match self.events.last() {
            Some(Event::Failed(reason) | Event::Lost(reason)) => *reason,
            other => panic!("{other:?}"),
        }
    }
}

fn public_peer() -> SocketAddr {
    addr("8.8.4.4:7000")
}

#[test]
fn a_whole_life_by_every_way() {
    for transport in [ServerTransport::Udp, ServerTransport::Tcp] {
        let mut world = World::new(|_| {});
        let mut ann = world.user("203.0.113.7:1000", |config| config.transport = transport);
        world.settle(&mut [&mut ann]);
        let relayed = ann.relayed();
        assert_eq!(ann.client.allocation().unwrap().mapped, addr("203.0.113.7:1000"));
        let peer = public_peer();
        assert!(!world.peer_sends(&mut ann, peer, relayed, b"too early"));
        ann.client.permit(world.now, peer.ip()).unwrap();
        world.settle(&mut [&mut ann]);
        for len in 0..6 {
            ann.client.send(world.now, peer, &b"indication"[..len]).unwrap();
            assert!(world.peer_sends(&mut ann, peer, relayed, &b"indication"[..len]));
        }
        ann.client.bind(world.now, peer).unwrap();
        world.settle(&mut [&mut ann]);
        assert_eq!(ann.client.passes(world.now, peer), Ok(true));
        for len in 0..6 {
            ann.client.send(world.now, peer, &b"channel"[..len]).unwrap();
            assert!(world.peer_sends(&mut ann, peer, relayed, &b"channel"[..len]));
        }
        // Hours later all is as it was.
        world.pass(Duration::from_hours(5), &mut [&mut ann]);
        assert!(world.peer_sends(&mut ann, peer, relayed, b"still"));
        ann.client.send(world.now, peer, b"here").unwrap();
        world.settle(&mut [&mut ann]);
        let words = |word: &'static [u8]| (0..6).map(move |len| word[..len].to_vec());
        let expected = |last: &[u8]| {
            words(b"indication").chain(words(b"channel")).chain([last.to_vec()]).collect::<Vec<_>>()
        };
        assert_eq!(ann.received, expected(b"still").into_iter().map(|p| (peer, p)).collect::<Vec<_>>());
        assert_eq!(world.sent, expected(b"here").into_iter().map(|p| (relayed, peer, p)).collect::<Vec<_>>());

        ann.client.close(world.now);
        world.settle(&mut [&mut ann]);
        assert!(matches!(ann.events.last(), Some(Event::Closed)));
        assert!(world.sockets.is_empty() && world.server.allocations() == 0);
        let client = addr("203.0.113.7:1000");
        assert_eq!(
            world.log,
            [
                ServerEvent::Allocated { user: "ann".into(), client, relayed: vec![relayed] },
                ServerEvent::Released { user: "ann".into(), client }
            ]
        );
    }
}

#[test]
fn private_networks_are_not_looked_at_unless_that_is_wanted() {
    let private = ["127.0.0.1:22", "10.0.0.1:80", "169.254.169.254:80", "192.0.2.1:3478", "[::1]:1"];
    for (policy, admits) in [(PeerPolicy::Public, false), (PeerPolicy::DangerouslyAll, true)] {
        let mut world = World::new(|config| {
            config.peers = policy;
            config.ipv6 = true;
        });
        let mut ann = world.user("203.0.113.7:1000", |config| config.relay = Relay::UdpBoth);
        world.settle(&mut [&mut ann]);
        for peer in private {
            ann.client.permit(world.now, addr(peer).ip()).unwrap();
            world.settle(&mut [&mut ann]);
            match ann.events.last() {
                Some(Event::Permitted(_)) => assert!(admits, "{peer}"),
                Some(Event::NotPermitted { reason, .. }) => {
                    assert!(!admits && *reason == Failure::Refused(Refusal::Forbidden), "{peer}: {reason}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_relays_own_address_is_reached_only_where_somebody_is_relayed() {
    // A public address for the relay itself.
    let mut world = World::new(|_| {});
    let mut ann = world.user("203.0.113.7:1000", |_| {});
    let mut ben = world.user("203.0.113.8:1000", |_| {});
    let public = |port| SocketAddr::new("9.9.9.9".parse().unwrap(), port);
    let mut port = 100;
    for user in [&mut ann, &mut ben] {
        loop {
            while let Some(transmit) = user.client.poll_transmit() {
                world.arrives(user.via, &transmit.bytes);
            }
            let Some(action) = world.server.poll_action() else { break };
            match action {
                ServerAction::Send { bytes, .. } => user.give(world.now, &bytes),
                ServerAction::Bind { relay, .. } => {
                    port += 1;
                    world.sockets.insert(relay, public(port));
                    world.server.relay_bound(world.now, relay, Some(public(port)));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    ann.client.permit(world.now, public(1).ip()).unwrap();
    world.settle(&mut [&mut ann, &mut ben]);
    for to in [22, 3478, 102, 101] {
        ann.client.send(world.now, public(to), b"x").unwrap();
    }
    world.settle(&mut [&mut ann, &mut ben]);
    let reached: Vec<_> = world.sent.iter().map(|(_, to, _)| to.port()).collect();
    assert_eq!(reached, [102, 101], "relays, and no other service of that host");
}

#[test]
fn who_is_not_a_user_gets_nothing() {
    let mut world = World::new(|_| {});
    let expired = Credentials::time_limited(b"north", "cat", UNIX - 1);
    let forged = Credentials::time_limited(b"south", "cat", UNIX + 3600);
    for credentials in [
        Credentials::new("ann", "wrong"),
        Credentials::new("nobody", "secret"),
        Credentials::new("", ""),
        expired,
        forged,
    ] {
        let mut user = world.user("203.0.113.7:1000", |config| config.credentials = Some(credentials));
        world.settle(&mut [&mut user]);
        assert_eq!(user.failure(), Failure::WrongCredentials);
    }
    let mut user = world.user("203.0.113.7:1000", |config| config.credentials = None);
    world.settle(&mut [&mut user]);
    assert_eq!(user.failure(), Failure::CredentialsRequired);
    assert!(world.server.allocations() == 0 && world.log.is_empty());

    let good = Credentials::time_limited(b"north", "cat", UNIX + 3600);
    let mut user = world.user("203.0.113.7:1000", |config| config.credentials = Some(good.clone()));
    world.settle(&mut [&mut user]);
    assert_eq!(user.relayed().ip(), server().ip());
    // Set forward, the wall clock ends them.
    world.server.set_wall_clock(world.now, UNIX + 3601);
    let mut late = world.user("203.0.113.9:1000", |config| config.credentials = Some(good));
    world.settle(&mut [&mut late]);
    assert_eq!(late.failure(), Failure::WrongCredentials);
}

#[test]
fn quotas_hold_and_come_back() {
    let mut world = World::new(|config| {
        config.allocations_per_user = 2;
        config.allocations = 3;
    });
    let mut users: Vec<_> = (1..=5)
        .map(|port| {
            world.user(&format!("203.0.113.7:{port}"), |config| {
                config.credentials = Some(match port {
                    // Time-limited names differ each time; the user behind them counts.
                    1..=3 => Credentials::time_limited(b"north", "cat", UNIX + 100 + port),
                    _ => Credentials::new("ann", "secret"),
                });
            })
        })
        .collect();
    world.settle(&mut users.iter_mut().collect::<Vec<_>>());
    assert_eq!(users[2].failure(), Failure::Refused(Refusal::QuotaReached));
    assert_eq!(users[4].failure(), Failure::Refused(Refusal::InsufficientCapacity));
    assert_eq!(world.server.allocations(), 3);
    // One that dies without a word goes when it was not refreshed.
    let mut alive = users.split_off(1);
    alive.truncate(1);
    world.pass(Duration::from_mins(11), &mut alive.iter_mut().collect::<Vec<_>>());
    assert_eq!((world.server.allocations(), world.sockets.len()), (1, 1));
    let mut again = world.user("203.0.113.7:9", |config| {
        config.credentials = Some(Credentials::time_limited(b"north", "cat", UNIX + 5000));
    });
    world.settle(&mut [&mut again]);
    assert!(again.client.allocation().is_some());

    world.no_ports = true;
    let mut none = world.user("203.0.113.7:10", |_| {});
    world.settle(&mut [&mut none]);
    assert_eq!(none.failure(), Failure::Refused(Refusal::InsufficientCapacity));
    assert_eq!(world.server.allocations(), 2);
}

#[test]
fn a_user_has_so_many_bytes_a_second() {
    let mut world = World::new(|config| config.bytes_per_second = 10_000);
    let mut ann = world.user("203.0.113.7:1000", |_| {});
    world.settle(&mut [&mut ann]);
    ann.client.permit(world.now, public_peer().ip()).unwrap();
    world.settle(&mut [&mut ann]);
    let start = world.now;
    let (mut there, mut back) = (0, 0);
    for millis in 0..3000 {
        world.now = start + Duration::from_millis(millis);
        ann.client.send(world.now, public_peer(), &[0; 100]).unwrap();
        world.settle(&mut [&mut ann]);
        let relayed = ann.relayed();
        back += u64::from(world.peer_sends(&mut ann, public_peer(), relayed, &[0; 100]));
        there = world.sent.len() as u64;
    }
    // One second's worth at once, and three seconds.
    let passed = (there + back) * 100;
    assert!((39_000..=40_100).contains(&passed), "{passed}");
}

#[test]
fn families_that_are_there_and_that_are_not() {
    let mut world = World::new(|config| config.ipv6 = true);
    let mut both = world.user("203.0.113.7:1", |config| config.relay = Relay::UdpBoth);
    let mut six = world.user("203.0.113.7:2", |config| config.relay = Relay::Udp(Family::V6));
    world.settle(&mut [&mut both, &mut six]);
    assert_eq!(both.client.allocation().unwrap().relayed.len(), 2);
    assert!(six.relayed().is_ipv6());
    let far = addr("[2a00:1450::1]:5");
    both.client.permit(world.now, far.ip()).unwrap();
    world.settle(&mut [&mut both, &mut six]);
    both.client.send(world.now, far, b"to six").unwrap();
    world.settle(&mut [&mut both, &mut six]);
    assert!(world.sent[0].0.is_ipv6() && world.sent[0].1 == far);

    let mut world = World::new(|_| {});
    let mut both = world.user("203.0.113.7:1", |config| config.relay = Relay::UdpBoth);
    let mut six = world.user("203.0.113.7:2", |config| config.relay = Relay::Udp(Family::V6));
    let mut tcp = world.user("203.0.113.7:3", |config| {
        config.transport = ServerTransport::Tcp;
        config.relay = Relay::Tcp(Family::V4);
    });
    world.settle(&mut [&mut both, &mut six, &mut tcp]);
    let allocation = both.client.allocation().unwrap();
    assert_eq!(allocation.missing, Some((Family::V6, Refusal::AddressFamilyNotSupported)));
    assert_eq!(six.failure(), Failure::Refused(Refusal::AddressFamilyNotSupported));
    assert_eq!(tcp.failure(), Failure::Refused(Refusal::UnsupportedTransport));
}

#[test]
fn streams_that_end_idle_or_misbehave_are_closed() {
    let mut world = World::new(|config| config.streams = 3);
    let stream = |config: &mut Config| config.transport = ServerTransport::Tcp;
    let mut ann = world.user("203.0.113.7:1", stream);
    world.settle(&mut [&mut ann]);
    let [first, rude, idle] = ["203.0.113.8:1", "203.0.113.8:2", "203.0.113.8:3"]
        .map(|from| world.server.handle_accepted(world.now, addr(from)).unwrap());
    world.settle(&mut [&mut ann]);
    assert_eq!(world.closed, [first], "it gives way");
    world.arrives(Via::Stream(rude), b"\x80GET / HTTP/1.1");
    world.settle(&mut [&mut ann]);
    assert_eq!(world.closed, [first, rude]);
    world.pass(Duration::from_secs(31), &mut [&mut ann]);
    assert_eq!(world.closed, [first, rude, idle]);
    // One that is no longer refreshed goes with its allocation.
    let Some(silent) = world.server.handle_accepted(world.now, addr("203.0.113.8:4")) else { panic!("room") };
    let mut ben = world.user_on(Via::Stream(silent), stream);
    world.settle(&mut [&mut ann, &mut ben]);
    assert_eq!(world.server.allocations(), 2);
    world.pass(Duration::from_mins(11), &mut [&mut ann]);
    assert_eq!((&world.closed[3..], world.server.allocations()), (&[silent][..], 1));
    let Via::Stream(anns) = ann.via else { panic!("a stream") };
    world.server.handle_stream_end(anns);
    world.settle(&mut [&mut ann]);
    assert!(world.sockets.is_empty() && world.server.allocations() == 0);
    assert!(matches!(world.log.last(), Some(ServerEvent::Released { .. })));
}

#[test]
fn one_stranger_with_many_streams_keeps_nobody_out() {
    let mut world = World::new(|config| config.streams = 4);
    let patient = world.server.handle_accepted(world.now, addr("203.0.113.7:1")).unwrap();
    for port in 1..100 {
        let from = std::net::SocketAddr::new(addr("203.0.113.8:1").ip(), port);
        assert!(world.server.handle_accepted(world.now, from).is_some());
    }
    world.settle(&mut []);
    assert_eq!((world.closed.len(), world.closed.contains(&patient)), (96, false));
    let mut ann = world.user_on(Via::Stream(patient), |config| config.transport = ServerTransport::Tcp);
    world.settle(&mut [&mut ann]);
    assert_eq!(world.server.allocations(), 1);
    // Who has an allocation does not give way.
    let mut world = World::new(|config| config.streams = 1);
    let mut ben = world.user("203.0.113.7:1", |config| config.transport = ServerTransport::Tcp);
    world.settle(&mut [&mut ben]);
    assert_eq!(world.server.handle_accepted(world.now, addr("203.0.113.8:1")), None);
    assert!(world.closed.is_empty());
}

/// Requests made by hand, from a client of RFC 5389 that knows nothing of password algorithms.
struct Hand {
    world: World,
    via: Via,
    nonce: Vec<u8>,
}

impl Hand {
    fn new() -> Self {
        let via = Via::Datagram { listener: 0, from: addr("203.0.113.7:1000") };
        let mut hand = Self { world: World::new(|_| {}), via, nonce: Vec::new() };
        let answer = hand.ask(&Encoder::new(Class::Request, ALLOCATE, TransactionId([1; 12])).finish(None));
        let answer = Message::decode(&answer).unwrap();
        assert_eq!(answer.error.unwrap().code, 401);
        hand.nonce = answer.attributes().find(|(kind, _)| *kind == NONCE).unwrap().1.to_vec();
        hand
    }

    fn ask(&mut self, packet: &[u8]) -> Vec<u8> {
        self.world.arrives(self.via, packet);
        let mut answers = Vec::new();
        while let Some(action) = self.world.server.poll_action() {
            match action {
                ServerAction::Send { via, bytes } if via == self.via => answers.push(bytes.to_vec()),
                ServerAction::Bind { relay, .. } => {
                    self.world.sockets.insert(relay, relayed());
                    self.world.server.relay_bound(self.world.now, relay, Some(relayed()));
                }
                ServerAction::Unbind(relay) => drop(self.world.sockets.remove(&relay)),
                other => panic!("{other:?}"),
            }
        }
        assert!(answers.len() <= 1);
        answers.pop().unwrap_or_default()
    }

    fn request(&self, method: u16, id: u8) -> Encoder {
        Encoder::new(Class::Request, method, TransactionId([id; 12]))
            .username(b"ann")
            .attribute(REALM, b"example.org")
            .attribute(NONCE, &self.nonce)
    }

    /// The code of the answer; 0 for success, whose integrity must be right.
    fn code(&mut self, request: Encoder) -> u16 {
        let answer = self.ask(&request.finish(Some(&KEY)));
        let answer = Message::decode(&answer).unwrap();
        match answer.error {
            Some(error) => error.code,
            None => {
                assert_eq!(answer.verify_integrity(&KEY), Ok(()));
                0
            }
        }
    }

    fn allocate(&self, id: u8) -> Encoder {
        self.request(ALLOCATE, id).attribute(0x19, &[17, 0, 0, 0])
    }
}

#[test]
fn requests_of_older_clients_and_broken_ones() {
    let mut hand = Hand::new();
    assert_eq!(hand.code(hand.request(ALLOCATE, 2)), 400, "no transport");
    assert_eq!(hand.code(hand.request(ALLOCATE, 3).attribute(0x19, &[6, 0, 0, 0])), 442);
    assert_eq!(hand.code(hand.allocate(4).attribute(0x1a, &[])), 420, "fragments are made");
    assert_eq!(
        hand.code(hand.allocate(5).attribute(0x17, &[1, 0, 0, 0]).attribute(0x8000, &[2, 0, 0, 0])),
        400
    );
    assert_eq!(hand.code(hand.allocate(23).attribute(0x18, &[0x80])), 508, "nobody gets two ports");
    assert_eq!(hand.code(hand.request(REFRESH, 6)), 437);
    assert_eq!(hand.code(hand.request(PERMISSION, 7).xor_address(PEER, public_peer())), 437);
    assert_eq!(hand.code(hand.request(CONNECT, 8)), 400);
    assert_eq!(hand.world.server.allocations(), 0);

    // Repeated, as its answer was lost.
    let request = hand.allocate(9).finish(Some(&KEY));
    let first = hand.ask(&request);
    assert_eq!(hand.ask(&request), first);
    assert_eq!(hand.world.server.allocations(), 1);
    assert_eq!(hand.code(hand.allocate(10)), 437, "another one needs another port");

    assert_eq!(hand.code(hand.request(PERMISSION, 11)), 400, "nobody is permitted");
    assert_eq!(hand.code(hand.request(PERMISSION, 12).xor_address(PEER, addr("[2a00:1450::1]:1"))), 443);
    let mixed =
        hand.request(PERMISSION, 13).xor_address(PEER, public_peer()).xor_address(PEER, addr("10.0.0.1:1"));
    assert_eq!(hand.code(mixed), 403);
    let send = Encoder::new(Class::Indication, 6, TransactionId([1; 12]))
        .xor_address(PEER, public_peer())
        .attribute(PAYLOAD, b"x")
        .finish(None);
    assert!(hand.ask(&send).is_empty() && hand.world.sent.is_empty(), "all addresses or none");
    let channel = |hand: &Hand, id: u8, number: u16, peer| {
        let [high, low] = number.to_be_bytes();
        hand.request(CHANNEL_BIND, id).attribute(CHANNEL_NUMBER, &[high, low, 0, 0]).xor_address(PEER, peer)
    };
    assert_eq!(hand.code(channel(&hand, 14, 0x3fff, public_peer())), 400);
    assert_eq!(hand.code(channel(&hand, 15, 0x7fff, public_peer())), 400);
    assert_eq!(hand.code(channel(&hand, 16, 0x4000, public_peer())), 0);
    assert_eq!(hand.code(channel(&hand, 17, 0x4000, public_peer())), 0, "renewed");
    assert_eq!(hand.code(channel(&hand, 18, 0x4001, public_peer())), 400, "the peer has another");
    assert_eq!(hand.code(channel(&hand, 19, 0x4000, addr("8.8.4.4:1"))), 400, "the number is taken");
    assert!(hand.ask(&send).is_empty());
    assert_eq!(hand.world.sent.len(), 1, "the channel permits");

    // Another user has no say here.
    let ben = Encoder::new(Class::Request, REFRESH, TransactionId([20; 12]))
        .username(b"ben")
        .attribute(REALM, b"example.org")
        .attribute(NONCE, &hand.nonce)
        .attribute(LIFETIME, &[0; 4]);
    let key = &hex_key(b"ben:example.org:other");
    let answer = hand.ask(&ben.finish_with(Seal::Sha1(key)));
    assert_eq!(Message::decode(&answer).unwrap().error.unwrap().code, 441);
    assert_eq!(hand.world.server.allocations(), 1);
    // Given back twice, as the first answer was lost.
    assert_eq!(hand.code(hand.request(REFRESH, 21).attribute(LIFETIME, &[0; 4])), 0);
    assert_eq!(hand.code(hand.request(REFRESH, 22).attribute(LIFETIME, &[0; 4])), 0);
    assert_eq!(hand.world.server.allocations(), 0);
}

fn hex_key(text: &[u8]) -> Vec<u8> {
    use md5::Digest as _;
    md5::Md5::digest(text).to_vec()
}

#[test]
fn nonces_are_for_one_address_and_some_minutes() {
    let mut hand = Hand::new();
    let nonce = hand.nonce.clone();
    for changed in [&nonce[..nonce.len() - 1], b"obMatJos2AAAB", b"x", b"obMatJos2AAABAAAAAAAAAAAA"] {
        hand.nonce = changed.to_vec();
        assert_eq!(hand.code(hand.allocate(2)), 438);
    }
    hand.nonce = nonce.clone();
    hand.via = Via::Datagram { listener: 0, from: addr("203.0.113.7:1001") };
    assert_eq!(hand.code(hand.allocate(3)), 438);
    hand.via = Via::Datagram { listener: 0, from: addr("203.0.113.7:1000") };
    hand.world.now += Duration::from_secs(602);
    assert_eq!(hand.code(hand.allocate(4)), 438);
    // Whoever takes the algorithms out of the list, or puts others in, is not served.
    let fresh = hand.ask(&hand.allocate(5).finish(Some(&KEY)));
    let fresh = Message::decode(&fresh).unwrap();
    hand.nonce = fresh.attributes().find(|(kind, _)| *kind == NONCE).unwrap().1.to_vec();
    let less = hand.allocate(6).attribute(0x8002, &[0, 1, 0, 0]).attribute(0x1d, &[0, 1, 0, 0]);
    assert_eq!(hand.code(less), 400);
    assert_eq!(hand.code(hand.allocate(7).attribute(0x1d, &[0, 2, 0, 0])), 400);
    assert_eq!(hand.code(hand.allocate(8)), 0);
}

#[test]
fn it_is_a_stun_server_too() {
    let mut hand = Hand::new();
    let answer = hand.ask(&Encoder::new(Class::Request, BINDING, TransactionId([7; 12])).finish(None));
    let answer = Message::decode(&answer).unwrap();
    assert_eq!((answer.class, answer.mapped_address), (Class::Success, Some(addr("203.0.113.7:1000"))));
    let odd = Encoder::new(Class::Request, BINDING, TransactionId([8; 12])).attribute(0x7ff0, b"?");
    let answer = hand.ask(&odd.finish(None));
    let answer = Message::decode(&answer).unwrap();
    assert_eq!((answer.error.unwrap().code, &*answer.rejected), (420, &[0x7ff0][..]));
    // Nothing is said to what is no request.
    for silent in [
        &b""[..],
        b"\x80",
        b"\x40\x00\x00",
        &Encoder::new(Class::Indication, BINDING, TransactionId([9; 12])).finish(None),
    ] {
        assert!(hand.ask(silent).is_empty());
    }
}

proptest::proptest! {
    #[test]
    fn any_packet_is_survived(packets in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..80), 0..20)) {
        let mut world = World::new(|_| {});
        let mut ann = world.user("203.0.113.7:1000", |_| {});
        world.settle(&mut [&mut ann]);
        for packet in &packets {
            world.arrives(ann.via, packet);
            ann.give(world.now, packet);
            world.settle(&mut [&mut ann]);
        }
        proptest::prop_assert!(ann.client.allocation().is_some());
        proptest::prop_assert!(world.sent.is_empty());
    }
}
