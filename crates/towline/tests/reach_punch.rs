//! NATs that give each destination another port: devices behind them meet all the same, where it can be done at all, and it is said at
//! once where it cannot.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::relay::Station;
use common::sockets::Counted;
use common::{Lab, accepted, connected, identity, link, pass, story, transfer};
use towline::net::{Net, UdpBind, now};
use towline::{ConnectError, LinkInfo, Node, PathKind, Reach, Relay, RelayTransport, Use};
use towline_ice::FailureReason;
use towline_ice::stun::{BINDING, Class, Encoder, Message};
use towline_lab::towline_nat::{Allocation, Config, Refusal, Rules};
use towline_lab::{Gate, Host, Link, Middlebox, NatBox, Packet, Place, Surroundings, Verdict, Way, World};

const NEAR: Duration = Duration::from_millis(5);

/// A network with two servers that tell addresses and relay: one alone cannot tell how a NAT gives out ports.
struct Scene {
    lab: Lab,
    stations: [Station; 2],
}

impl Scene {
    async fn new(world: World) -> Self {
        Self::with_servers(world, NEAR).await
    }

    /// The servers are so far away.
    async fn with_servers(world: World, away: Duration) -> Self {
        let lab = Lab::new(world).await;
        let stations = ["station", "other station"].map(|name| {
            let host = lab.world.host(name);
            host.attach(lab.internet, Link::delay(away));
            Station::start(&host)
        });
        Self { lab, stations }
    }

    fn by_stun(&self) -> Reach {
        Reach { stun: self.stations.iter().map(Station::stun).collect(), ..Reach::default() }
    }

    fn by_relay(&self) -> Reach {
        Reach { relays: vec![self.stations[0].relay()], ..self.by_stun() }
    }

    /// For who has no UDP: the DHT, too, is reached by the relay.
    fn by_tcp(&self) -> Reach {
        let relay = |station: &Station| Relay { transport: RelayTransport::Tcp, ..station.relay() };
        Reach { relays: self.stations.iter().map(relay).collect(), ..self.by_stun() }
    }

    /// A device in its surroundings, that others can find.
    async fn device(&self, number: usize, place: impl Into<Surroundings>, reach: Reach) -> Node {
        let name = ["alice", "bob", "carol", "dave", "eve"][number];
        let site = self.lab.world.site(name, self.lab.internet, place);
        self.device_on(&Arc::new(site.host), number, reach).await
    }

    async fn device_on<N: Net>(&self, net: &Arc<N>, number: usize, reach: Reach) -> Node {
        let (net, config) = (Arc::clone(net) as Arc<dyn Net>, self.lab.config().with_reach(reach));
        let node = Node::start(net, config, identity(number)).await.unwrap();
        node.registered().await;
        node
    }
}

/// A NAT that gives the ports to its destinations in steps.
fn in_steps(step: i16) -> Config {
    Config { allocation: Allocation::Sequential { step }, ..Config::symmetric() }
}

/// Two devices that have no relay, with a different world for each seed: they meet within 10 s of the dial.
fn they_meet(a: impl Into<Surroundings>, b: impl Into<Surroundings>, seeds: std::ops::Range<u64>) {
    let (a, b) = (a.into(), b.into());
    for seed in seeds {
        meet(seed, &a, &b, NEAR);
    }
}

fn meet(seed: u64, a: &Surroundings, b: &Surroundings, servers_away: Duration) {
    story(seed, async |world| {
        let scene = Scene::with_servers(world, servers_away).await;
        let alice = scene.device(0, a.clone(), scene.by_stun()).await;
        let bob = scene.device(1, b.clone(), scene.by_stun()).await;
        let mut channels = accepted(&bob);
        let begun = now();
        let (mut near, mut far) = connected(&alice, &bob, "met", &mut channels).await;
        let took = now() - begun;
        assert!(took < Duration::from_secs(10), "seed {seed}: {took:?}");
        transfer(&mut near, &mut far, 100_000).await;
        for (own, other) in [(&alice, &bob), (&bob, &alice)] {
            // Where ports are known TCP may get through as well, and is preferred.
            let links = own.connection(other.device()).unwrap().links().await;
            let carries = |link: &&LinkInfo| link.purpose == Use::Data;
            assert!(links.iter().find(carries).is_some_and(|link| !link.kind.is_relayed()), "{links:#?}");
        }
    });
}

#[test]
fn random_ports_of_one_side_are_found_by_their_birthday() {
    they_meet(Place::Symmetric, Place::PortRestricted, 0..3);
    they_meet(Place::PortRestricted, Place::Symmetric, 3..6);
    they_meet(Place::FullCone, Place::Symmetric, 6..8);
}

#[test]
fn they_are_found_behind_two_nats_too() {
    they_meet(Place::DoubleNat, Place::Symmetric, 10..13);
}

#[test]
fn ports_in_sequence_are_foretold() {
    they_meet(Place::SequentialSymmetric, Place::PortRestricted, 20..22);
    they_meet(Place::RestrictedCone, in_steps(2), 22..24);
}

#[test]
fn two_sequences_meet() {
    they_meet(Place::SequentialSymmetric, Place::SequentialSymmetric, 30..32);
    they_meet(in_steps(-1), in_steps(2), 32..34);
}

/// What NAT one is behind turns out before the first words, with them, or at any time after them: the other is told.
#[test]
fn servers_may_be_far() {
    let place = Place::SequentialSymmetric.into();
    for (seed, away) in (36..).zip([30, 60, 100, 150, 200, 300]) {
        meet(seed, &place, &place, Duration::from_millis(away));
    }
}

/// A NAT whose random ports are the same for all ports of an address: whatever the other one does, its guesses hit.
#[test]
fn random_ports_for_each_address_are_found_by_whoever_looks() {
    let scattered = Config {
        mapping: towline_lab::towline_nat::Mapping::AddressDependent,
        filtering: towline_lab::towline_nat::Filtering::AddressDependent,
        ..Config::symmetric()
    };
    for (seed, other) in (15..).zip([Place::Symmetric, Place::SequentialSymmetric]) {
        story(seed, async |world| {
            let scene = Scene::new(world).await;
            let mut reach = scene.by_stun();
            // It takes two ports of one server to be told.
            reach.stun.push(SocketAddr::new(scene.stations[0].address.ip(), 443).to_string());
            let alice = scene.device(0, scattered.clone(), reach).await;
            let bob = scene.device(1, other, scene.by_stun()).await;
            let (begun, mut channels) = (now(), accepted(&bob));
            let (mut near, mut far) = connected(&alice, &bob, "met", &mut channels).await;
            let took = now() - begun;
            assert!(took < Duration::from_secs(10), "{other}: {took:?}");
            transfer(&mut near, &mut far, 100_000).await;
            let connection = alice.connection(bob.device()).unwrap();
            assert_eq!(link(&connection, PathKind::DirectUdp).await.purpose, Use::Data, "{other}");
        });
    }
}

/// The first sits behind this NAT, the other has no UDP: within 10 s of the dial, whoever dials, data goes over TCP from
/// device to device.
fn they_meet_over_tcp(nat: &Config, shut: impl Into<Surroundings>, seeds: std::ops::Range<u64>) {
    let shut = shut.into();
    for seed in seeds {
        story(seed, async |world| {
            let scene = Scene::new(world).await;
            let mut nodes = [
                scene.device(0, nat.clone(), scene.by_stun()).await,
                scene.device(1, shut.clone(), scene.by_tcp()).await,
            ];
            nodes.rotate_left(usize::from(seed % 2 == 1));
            let [near, far] = &nodes;
            let (begun, mut channels) = (now(), accepted(far));
            let (mut out, mut back) = connected(near, far, "met", &mut channels).await;
            for (own, other) in [(near, far), (far, near)] {
                let connection = own.connection(other.device()).unwrap();
                while link(&connection, PathKind::DirectTcp).await.purpose != Use::Data {
                    pass(Duration::from_millis(10)).await;
                }
            }
            let took = now() - begun;
            assert!(took < Duration::from_secs(10), "seed {seed}: {took:?}");
            transfer(&mut out, &mut back, 100_000).await;
        });
    }
}

#[test]
fn ports_in_sequence_are_foretold_to_who_has_tcp_only() {
    they_meet_over_tcp(&in_steps(1), Place::UdpBlocked, 100..104);
    they_meet_over_tcp(&in_steps(3), Place::UdpBlocked, 104..106);
}

/// Whoever knocks too early is sent away, and knocks again.
#[test]
fn they_are_even_if_both_routers_refuse_what_comes_early() {
    let refusing = |config| Config { unsolicited: Refusal::Reset, ..config };
    let rules = Rules { inbound: None, ..Rules::no_udp() };
    let shut = Gate { rules: Some(rules), ..Gate::nat(refusing(Config::port_restricted_cone())) };
    they_meet_over_tcp(&refusing(in_steps(1)), vec![shut], 110..114);
}

#[test]
fn punching_takes_the_connection_off_the_relay() {
    story(40, async |world| {
        let scene = Scene::new(world).await;
        let alice = scene.device(0, Place::Symmetric, scene.by_relay()).await;
        let bob = scene.device(1, Place::PortRestricted, scene.by_stun()).await;
        let mut channels = accepted(&bob);
        let begun = now();
        let (mut near, mut far) = connected(&alice, &bob, "relayed first", &mut channels).await;
        let relayed = now() - begun;
        assert!(relayed < Duration::from_secs(2), "{relayed:?}");
        let connection = alice.connection(bob.device()).unwrap();
        assert_eq!(link(&connection, PathKind::RelayedUdp).await.purpose, Use::Data);
        let direct = async {
            link(&connection, PathKind::DirectUdp).await;
            now() - begun
        };
        let ((), direct) = tokio::join!(transfer(&mut near, &mut far, 1_000_000), direct);
        println!("relayed after {relayed:?}, direct after {direct:?}");
        assert!(direct < Duration::from_secs(10), "{direct:?}");
        // Each side tells the other what it is to use.
        pass(Duration::from_secs(1)).await;
        let before = link(&connection, PathKind::RelayedUdp).await;
        transfer(&mut near, &mut far, 1_000_000).await;
        let after = link(&connection, PathKind::RelayedUdp).await;
        assert!(matches!(after.purpose, Use::Reserve(_)), "{after:#?}");
        assert!(after.sent - before.sent < 50_000, "the relay rests: {before:#?} {after:#?}");
    });
}

#[test]
fn where_both_ports_are_random_a_relay_is_used_at_once() {
    for seed in 50..53 {
        story(seed, async |world| {
            let scene = Scene::new(world).await;
            let host = scene.lab.world.site("alice", scene.lab.internet, Place::Symmetric).host;
            let (net, sockets) = Counted::on(&host, usize::MAX);
            let alice = scene.device_on(&net, 0, scene.by_relay()).await;
            let bob = scene.device(1, Place::Symmetric, scene.by_relay()).await;
            let mut channels = accepted(&bob);
            let begun = now();
            let (mut near, mut far) = connected(&alice, &bob, "relayed", &mut channels).await;
            let took = now() - begun;
            println!("seed {seed}: relayed after {took:?}");
            assert!(took < Duration::from_secs(2), "{took:?}");
            transfer(&mut near, &mut far, 100_000).await;
            assert!(sockets.most() < 32, "nothing is tried in vain: {sockets:?}");
        });
    }
}

#[test]
fn without_a_relay_the_attempt_ends_soon_and_says_why() {
    let random: Surroundings = Place::Symmetric.into();
    for (other, reason) in [
        (random.clone(), FailureReason::RandomPorts),
        (Place::SequentialSymmetric.into(), FailureReason::MovingPorts),
    ] {
        story(60, async |world| {
            let scene = Scene::new(world).await;
            let alice = scene.device(0, random.clone(), scene.by_stun()).await;
            let bob = scene.device(1, other.clone(), scene.by_stun()).await;
            let begun = now();
            let error = alice.connect(bob.device(), "in vain").await.unwrap_err();
            let took = now() - begun;
            assert!(took < Duration::from_secs(6), "{took:?}");
            let ConnectError::NoPath(report) = &error else { panic!("{error}") };
            assert_eq!(report.reason, reason);
            assert!(
                !report.pairs.is_empty() && error.to_string().contains("no direct path exists"),
                "{error}"
            );
        });
    }
}

#[test]
fn four_peers_are_punched_at_once() {
    story(70, async |world| {
        let scene = Scene::new(world).await;
        let host = scene.lab.world.site("alice", scene.lab.internet, Place::Symmetric).host;
        let (net, sockets) = Counted::on(&host, usize::MAX);
        let alice = scene.device_on(&net, 0, scene.by_stun()).await;
        let mut peers = Vec::new();
        for number in 1..5 {
            peers.push(scene.device(number, Place::PortRestricted, scene.by_stun()).await);
        }
        let idle = sockets.open();
        let mut channels: Vec<_> = peers.iter().map(accepted).collect();
        let begun = now();
        let dials = peers.iter().zip(&mut channels).map(|(peer, channels)| async {
            let (mut near, mut far) = connected(&alice, peer, "one of four", channels).await;
            let took = now() - begun;
            transfer(&mut near, &mut far, 10_000).await;
            (took, near, far)
        });
        let met = futures_util::future::join_all(dials).await;
        let times: Vec<_> = met.iter().map(|(took, ..)| *took).collect();
        println!("four peers: {times:?}, {sockets:?}");
        assert!(times.iter().all(|took| *took < Duration::from_secs(10)), "{times:?}");
        assert!(sockets.most() <= idle + 4 + 1024, "{sockets:?}");
        pass(Duration::from_secs(1)).await;
        // Of each connection that of the session and the one that was hit.
        assert!(sockets.open() <= idle + 4 * 3, "the others are closed: {sockets:?}");
    });
}

#[test]
fn a_program_that_may_open_few_files_punches_with_those() {
    story(80, async |world| {
        let scene = Scene::new(world).await;
        let host = scene.lab.world.site("alice", scene.lab.internet, Place::Symmetric).host;
        let (net, sockets) = Counted::on(&host, 150);
        let alice = scene.device_on(&net, 0, scene.by_stun()).await;
        let bob = scene.device(1, Place::PortRestricted, scene.by_stun()).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "poor", &mut channels).await;
        transfer(&mut near, &mut far, 10_000).await;
        assert_eq!(sockets.most(), 150);
        pass(Duration::from_secs(1)).await;
        assert!(sockets.open() < 20, "{sockets:?}");
    });
}

/// Counts what leaves for this address, in all and in each second.
#[derive(Debug, Clone)]
struct Meter {
    to: IpAddr,
    all: Arc<AtomicUsize>,
    seconds: Arc<Mutex<Vec<usize>>>,
}

impl Middlebox for Meter {
    fn pass(&mut self, at: Duration, _: Way, packet: &mut Packet) -> Verdict {
        if packet.to.ip() == self.to {
            self.all.fetch_add(1, Ordering::Relaxed);
            let (mut seconds, second) = (self.seconds.lock().unwrap(), at.as_secs() as usize);
            if seconds.len() <= second {
                seconds.resize(second + 1, 0);
            }
            seconds[second] += 1;
        }
        Verdict::Forward
    }
}

/// A server that tells everybody another address: `ip`, each time with another port.
async fn lies(host: Host, ip: IpAddr, mut port: u16) {
    let socket = host.bind_udp(&UdpBind::new(SocketAddr::new(host.ipv4(), 3478))).unwrap();
    let mut buf = [0; 2048];
    loop {
        let received = socket.recv(&mut buf).await.unwrap();
        let Ok(question) = Message::decode(&buf[..received.len]) else { continue };
        port = port.wrapping_mul(31).max(1024);
        let answer = Encoder::new(Class::Success, BINDING, question.transaction);
        let answer = answer.mapped_address(SocketAddr::new(ip, port)).finish(None);
        socket.send(&answer, received.from).await.unwrap();
    }
}

#[test]
fn a_third_party_gets_no_more_than_its_measure() {
    story(90, async |world| {
        let scene = Scene::new(world).await;
        let Scene { lab, .. } = &scene;
        let victim = lab.host("victim").ipv4();
        let liars = ["liar", "other liar"].map(|name| lab.host(name));
        let stun = liars.iter().map(|liar| format!("{}:3478", liar.ipv4())).collect();
        for (liar, port) in liars.into_iter().zip([2000, 7000]) {
            tokio::spawn(lies(liar, victim, port));
        }
        let meter = Meter { to: victim, all: Arc::default(), seconds: Arc::default() };
        let inside = lab.world.lan();
        let (nat, _) = NatBox::new(&lab.world, Config::port_restricted_cone());
        let line = Link::delay(Duration::from_millis(5));
        lab.world.router("router", inside, lab.internet, line, (meter.clone(), nat));
        let host = lab.world.host("alice");
        host.attach(inside, Link::ethernet());
        let alice = scene.device_on(&Arc::new(host), 0, scene.by_stun()).await;
        // Its NAT is the one that cannot be met otherwise, and its words lead elsewhere.
        let mallory = scene.device(1, Place::Symmetric, Reach { stun, ..Reach::default() }).await;
        for dial in 0..5 {
            alice.connect(mallory.device(), "hit somebody").await.unwrap_err();
            println!("{} packets after dial {dial}", meter.all.load(Ordering::Relaxed));
        }
        let (all, seconds) = (meter.all.load(Ordering::Relaxed), meter.seconds.lock().unwrap());
        assert!(all > 2000, "it was punched: {all}");
        // Four attempts of punching, and what each of the five agents may send in its checks.
        assert!(all <= 10_000 + 5 * 512, "{all}");
        let most = seconds.iter().max().unwrap();
        assert!(*most <= 300 + 2 * 40 + 32, "{most} packets in a second");
    });
}
