//! A connection explains itself, and so does an attempt, long before it gives up.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::relay::Station;
use common::{Lab, accepted, connected, identity, pass, story};
use towline::net::now;
use towline::{Cause, ConnectError, ConnectionState, Node, Reach, Relay, RelayTransport, Side, Step};
use towline_ice::FailureReason;
use towline_lab::{Link, Place, Surroundings, World};

#[test]
fn a_connection_tells_how_it_came_to_be() {
    story(1, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let _ends = connected(&alice, &bob, "hello", &mut channels).await;
        let report = alice.report(bob.device()).await.unwrap();
        assert_eq!((report.state, report.causes.as_slice()), (ConnectionState::Established, &[][..]));
        let steps: Vec<Step> = report.steps.iter().map(|step| step.step).collect();
        assert_eq!(steps, [Step::Certificate, Step::Signalling, Step::Path, Step::Tls]);
        assert!(!report.here.is_empty() && !report.there.is_empty() && !report.links.is_empty());
        assert!(report.pairs.iter().any(|pair| pair.nominated && pair.rtt.is_some()));
        // The same again: nothing is used up.
        assert_eq!(alice.report(bob.device()).await.unwrap().pairs.len(), report.pairs.len());
        let text = report.to_string();
        for part in
            ["connected", "Steps", "Candidates here", "Candidates there", "Pairs", "Paths", "carries data"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(alice.report(identity(2).device_id()).await.is_none(), "nobody dialled");
    });
}

#[test]
fn a_device_that_is_gone_is_known_to_be_within_seconds() {
    story(2, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let device = bob.device();
        bob.shutdown().await;
        let dialled = tokio::spawn({
            let alice = alice.clone();
            async move { alice.dial(device).await.map(drop) }
        });
        pass(Duration::from_secs(3)).await;
        let report = alice.report(device).await.unwrap();
        assert_eq!((report.cause(), &report.error), (Some(&Cause::OfflineThere), &None));
        assert!(report.to_string().contains("So far (there): the device does not answer"), "{report}");
        let error = dialled.await.unwrap().unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { .. }));
        let report = alice.report(device).await.unwrap();
        assert_eq!((report.cause(), &report.error), (Some(&Cause::OfflineThere), &Some(error)));
    });
}

#[test]
fn two_homes_with_nobody_to_tell_them_their_addresses_find_no_path() {
    story(3, async |world| {
        let lab = Lab::new(world).await;
        let mut nodes = Vec::new();
        for (number, name) in ["alice", "bob"].into_iter().enumerate() {
            let site = lab.world.site(name, lab.internet, Place::PortRestricted);
            nodes.push(lab.node_on(&site.host, identity(number), lab.config()).await);
            nodes[number].registered().await;
        }
        let (alice, device) = (nodes[0].clone(), nodes[1].device());
        let dialled = tokio::spawn(async move { alice.dial(device).await.map(drop) });
        pass(Duration::from_secs(3)).await;
        let report = nodes[0].report(device).await.unwrap();
        assert_eq!(report.state, ConnectionState::Path, "{report}");
        assert_eq!(report.cause(), Some(&Cause::NoStunHere), "{report}");
        assert_eq!(report.causes[0].side(), Side::Here);
        assert!(dialled.await.unwrap().is_err());
    });
}

#[test]
fn nobody_in_a_network_that_is_down_blames_others() {
    for (seed, unplugged) in [(4, true), (5, false)] {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let host = lab.world.host("alice");
            let interface = host.attach(lab.internet, Link::delay(Duration::from_millis(5)));
            let alice = lab.node_on(&host, identity(0), lab.config()).await;
            let bob = lab.node(1).await;
            bob.registered().await;
            assert!(alice.find(bob.device()).await.is_ok());
            if unplugged {
                host.unplug(interface);
            } else {
                host.set_outage(interface, true);
            }
            let device = bob.device();
            let dialled = tokio::spawn({
                let alice = alice.clone();
                async move { alice.dial(device).await.map(drop) }
            });
            let cause = if unplugged { Cause::NoNetworkHere } else { Cause::OfflineHere };
            pass(Duration::from_secs(3)).await;
            let report = alice.report(device).await.unwrap();
            assert_eq!(report.cause(), Some(&cause), "{report}");
            let error = dialled.await.unwrap().unwrap_err();
            let report = alice.report(device).await.unwrap();
            assert_eq!((report.cause(), &report.error), (Some(&cause), &Some(error)), "{report}");
        });
    }
}

/// Two servers that tell addresses and relay.
fn stations(lab: &Lab) -> [Station; 2] {
    ["station", "other station"].map(|name| Station::start(&lab.host(name)))
}

/// With their relays: over UDP, and over TCP at the port of the web.
fn relays(stations: &[Station; 2]) -> Reach {
    let mut reach = stun(stations);
    for station in stations {
        let web = SocketAddr::new(station.address.ip(), 443).to_string();
        reach.relays.push(station.relay());
        reach.relays.push(Relay { server: web, transport: RelayTransport::Tcp, ..station.relay() });
    }
    reach
}

fn stun(stations: &[Station; 2]) -> Reach {
    Reach { stun: stations.iter().map(Station::stun).collect(), ..Reach::default() }
}

async fn devices(lab: &Lab, places: [impl Into<Surroundings>; 2], reach: Reach) -> [Node; 2] {
    let mut nodes = Vec::new();
    for (number, place) in places.into_iter().enumerate() {
        let host = lab.world.site(["alice", "bob"][number], lab.internet, place).host;
        let config = lab.config().with_reach(reach.clone());
        nodes.push(lab.node_on(&host, identity(number), config).await);
        nodes[number].registered().await;
    }
    nodes.try_into().unwrap()
}

/// Two devices behind NATs of random ports at the ends of such lines, and servers for them, which live as long.
async fn randoms(
    world: World,
    delays: [u64; 2],
    reach: impl Fn(&[Station; 2]) -> Reach,
) -> (Lab, [Station; 2], [Node; 2]) {
    let lab = Lab::new(world).await;
    let stations = stations(&lab);
    let nodes = devices(&lab, delays.map(random), reach(&stations)).await;
    (lab, stations, nodes)
}

/// Behind a NAT of random ports, at the end of such a line.
fn random(delay: u64) -> Surroundings {
    let mut surroundings = Surroundings::from(Place::Symmetric);
    surroundings.gates.last_mut().unwrap().link = Link::delay(Duration::from_millis(delay));
    surroundings
}

/// When one side knew both NATs, and when its report named what follows from them, both since `begun`.
async fn learned(near: Node, far: Node, begun: Instant, cause: Cause) -> (Duration, Duration) {
    let mut known = None;
    loop {
        if let Some(report) = near.report(far.device()).await {
            let both = report.punch.is_some_and(|punch| punch.ours.is_some() && punch.theirs.is_some());
            known = known.or(both.then(|| now() - begun));
            if let (Some(known), Some(told)) = (known, report.cause()) {
                assert_eq!(told, &cause, "nothing else is told before\n{report}");
                return (known, now() - begun);
            }
        }
        pass(Duration::from_millis(1)).await;
    }
}

/// Both sides, from a dial on.
async fn both_learn(nodes: &[Node; 2], begun: Instant, relay: bool) {
    let [alice, bob] = nodes.clone();
    let cause = Cause::RandomNats { relay };
    let near = learned(alice.clone(), bob.clone(), begun, cause.clone());
    let sides = tokio::join!(near, learned(bob, alice, begun, cause));
    for (known, named) in [sides.0, sides.1] {
        assert!(named <= known + Duration::from_secs(1), "{sides:?}");
        // Also by the clock on the wall: two lookups and two values of the DHT, and the servers' answers.
        assert!(named < Duration::from_secs(2), "{sides:?}");
    }
}

#[test]
fn two_random_nats_are_impossible_within_a_second_and_relayed_within_two() {
    for (seed, delays) in (10..).zip([[3, 3], [20, 40], [30, 30]]) {
        story(seed, async |world| {
            let (_lab, _stations, nodes) = randoms(world, delays, relays).await;
            let mut channels = accepted(&nodes[1]);
            let begun = now();
            let dial = async {
                let ends = connected(&nodes[0], &nodes[1], "relayed", &mut channels).await;
                (now() - begun, ends)
            };
            let ((took, _ends), ()) = tokio::join!(dial, both_learn(&nodes, begun, true));
            assert!(took < Duration::from_secs(2), "{took:?}");
            // And it goes on saying so.
            pass(Duration::from_mins(1)).await;
            for (own, other) in [(0, 1), (1, 0)] {
                let report = nodes[own].report(nodes[other].device()).await.unwrap();
                assert_eq!(report.causes, [Cause::RandomNats { relay: true }], "{report}");
            }
        });
    }
}

#[test]
fn without_a_relay_the_same_ends_the_attempt() {
    for (seed, delays) in (20..).zip([[3, 3], [20, 40], [30, 30]]) {
        story(seed, async |world| {
            let (_lab, _stations, nodes) = randoms(world, delays, stun).await;
            let begun = now();
            let dial = async { nodes[0].connect(nodes[1].device(), "in vain").await.unwrap_err() };
            let (error, ()) = tokio::join!(dial, both_learn(&nodes, begun, false));
            let ConnectError::NoPath(pairs) = &error else { panic!("{error}") };
            assert_eq!(pairs.reason, FailureReason::RandomPorts);
            let report = nodes[0].report(nodes[1].device()).await.unwrap();
            assert_eq!(
                (report.cause(), &report.error),
                (Some(&Cause::RandomNats { relay: false }), &Some(error))
            );
        });
    }
}

#[test]
fn a_relayed_connection_says_why_it_is_not_direct() {
    let (random, here) = (|| Cause::RandomNats { relay: true }, || Cause::OnlyWebHere);
    let hard = |side| Cause::HardNats { random: Some(side), relay: true };
    for (places, causes) in [
        ([Place::Symmetric, Place::Symmetric], [random(), random()]),
        ([Place::SequentialSymmetric, Place::Symmetric], [hard(Side::There), hard(Side::Here)]),
        ([Place::UdpBlocked, Place::Symmetric], [Cause::UdpBlockedHere, Cause::UdpBlockedThere]),
        ([Place::Open, Place::WebOnly], [Cause::OnlyWebThere, here()]),
        ([Place::WebOnly, Place::PortRestricted], [here(), Cause::OnlyWebThere]),
        ([Place::WebOnly, Place::WebOnly], [here(), here()]),
    ] {
        story(30, async |world| {
            let lab = Lab::new(world).await;
            let stations = stations(&lab);
            let nodes = devices(&lab, places, relays(&stations)).await;
            let mut channels = accepted(&nodes[1]);
            let _ends = connected(&nodes[0], &nodes[1], "relayed", &mut channels).await;
            pass(Duration::from_secs(5)).await;
            for (own, other) in [(0, 1), (1, 0)] {
                let report = nodes[own].report(nodes[other].device()).await.unwrap();
                assert_eq!(report.cause(), Some(&causes[own]), "{places:?}, {own}\n{report}");
                let text = report.to_string();
                let first = format!("Not direct ({}): {}", causes[own].side(), causes[own]);
                assert!(text.contains(&first) && text.contains("carries data"), "{text}");
            }
        });
    }
}

#[test]
fn a_connection_that_turns_direct_has_nothing_more_to_say() {
    story(40, async |world| {
        let lab = Lab::new(world).await;
        let stations = stations(&lab);
        let nodes = devices(&lab, [Place::Symmetric, Place::PortRestricted], relays(&stations)).await;
        let mut channels = accepted(&nodes[1]);
        let _ends = connected(&nodes[0], &nodes[1], "relayed first", &mut channels).await;
        let report = async |own: usize| nodes[own].report(nodes[1 - own].device()).await.unwrap();
        let relayed = report(0).await;
        assert!(relayed.links.iter().all(|link| link.kind.is_relayed()), "{relayed}");
        assert_eq!(relayed.causes, [], "it is being punched: nobody knows yet\n{relayed}");
        pass(Duration::from_secs(10)).await;
        for own in [0, 1] {
            let report = report(own).await;
            assert!(report.links.iter().any(|link| !link.kind.is_relayed()), "{report}");
            assert_eq!(report.causes, [], "{report}");
        }
    });
}
