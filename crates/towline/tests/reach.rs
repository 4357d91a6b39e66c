//! Devices behind NATs: they meet at the addresses that others see, and by a relay where there is no other way.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::home;
use common::relay::Station;
use common::{Lab, accepted, bytes, connected, identity, link, pass, story, transfer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::net::{Net as _, now};
use towline::{LinkInfo, Node, PathKind, Reach, Use};
use towline_lab::towline_nat::{Mapped, Transport};
use towline_lab::{Link, Middlebox, NatBox, Packet, Place, Site, Verdict, Way, World};

/// A network with a server that tells addresses and relays.
async fn network(world: World) -> (Lab, Station) {
    let lab = Lab::new(world).await;
    let station = Station::start(&lab.host("station"));
    (lab, station)
}

/// A device in its surroundings, that others can find.
async fn device(lab: &Lab, number: usize, place: Place, reach: Reach) -> (Node, Site) {
    let name = ["alice", "bob", "carol"][number];
    let site = lab.world.site(name, lab.internet, place);
    let node = lab.node_on(&site.host, identity(number), lab.config().with_reach(reach)).await;
    node.registered().await;
    (node, site)
}

fn by_stun(station: &Station) -> Reach {
    Reach { stun: vec![station.stun()], ..Reach::default() }
}

fn by_relay(station: &Station) -> Reach {
    Reach { relays: vec![station.relay()], ..by_stun(station) }
}

#[test]
fn cones_meet_cones_at_the_addresses_that_a_server_tells() {
    let cones = [Place::FullCone, Place::RestrictedCone, Place::PortRestricted];
    for (seed, (a, b)) in cones.iter().flat_map(|a| cones.iter().map(move |b| (*a, *b))).enumerate() {
        story(seed as u64, async |world| {
            let (lab, station) = network(world).await;
            let (alice, _) = device(&lab, 0, a, by_stun(&station)).await;
            let (bob, _) = device(&lab, 1, b, by_stun(&station)).await;
            let mut channels = accepted(&bob);
            let begun = now();
            let (mut near, mut far) = connected(&alice, &bob, "met", &mut channels).await;
            let took = now() - begun;
            assert!(took < Duration::from_secs(10), "{a} and {b}: {took:?}");
            transfer(&mut near, &mut far, 300_000).await;
            for (own, other) in [(&alice, &bob), (&bob, &alice)] {
                let connection = own.connection(other.device()).unwrap();
                // Through some NATs a way for TCP is opened, too.
                link(&connection, PathKind::DirectUdp).await;
                let links = connection.links().await;
                let carries = |link: &&LinkInfo| link.purpose == Use::Data;
                let carrying: Vec<PathKind> = links.iter().filter(carries).map(|link| link.kind).collect();
                assert!(
                    !carrying.is_empty() && !carrying.iter().any(|kind| kind.is_relayed()),
                    "{a} and {b}: {links:#?}"
                );
            }
            assert_eq!(station.granted(), 0);
        });
    }
}

#[test]
fn an_answer_of_the_server_that_comes_late_follows_the_request() {
    story(20, async |world| {
        let lab = Lab::new(world).await;
        let host = lab.world.host("station on the moon");
        host.attach(lab.internet, Link::delay(Duration::from_millis(400)));
        let station = Station::start(&host);
        let (alice, _) = device(&lab, 0, Place::PortRestricted, by_stun(&station)).await;
        let (bob, _) = device(&lab, 1, Place::PortRestricted, by_stun(&station)).await;
        let mut channels = accepted(&bob);
        let begun = now();
        let (mut near, mut far) = connected(&alice, &bob, "late", &mut channels).await;
        let took = now() - begun;
        // The servers take 0.8 s, and neither side can be met without.
        assert!(took > Duration::from_millis(800) && took < Duration::from_secs(10), "{took:?}");
        transfer(&mut near, &mut far, 100_000).await;
        link(&alice.connection(bob.device()).unwrap(), PathKind::DirectUdp).await;
    });
}

#[test]
fn behind_symmetric_nats_a_relay_carries_the_connection_and_is_told() {
    story(21, async |world| {
        let (lab, station) = network(world).await;
        let (alice, _) = device(&lab, 0, Place::Symmetric, by_relay(&station)).await;
        let (bob, _) = device(&lab, 1, Place::Symmetric, by_relay(&station)).await;
        let mut channels = accepted(&bob);
        let begun = now();
        let (mut near, mut far) = connected(&alice, &bob, "relayed", &mut channels).await;
        let took = now() - begun;
        println!("relayed after {took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        transfer(&mut near, &mut far, 1_000_000).await;
        transfer(&mut far, &mut near, 1_000_000).await;
        for (own, other) in [(&alice, &bob), (&bob, &alice)] {
            let connection = own.connection(other.device()).unwrap();
            let link = link(&connection, PathKind::RelayedUdp).await;
            assert_eq!(link.purpose, Use::Data);
            assert!(link.kind.is_relayed() && link.sent > 1_000_000, "{link:#?}");
        }
        assert_eq!(station.granted(), 2, "one for each");
    });
}

#[test]
fn one_address_on_a_relay_serves_all_connections_and_is_given_back_when_idle() {
    story(22, async |world| {
        let (lab, station) = network(world).await;
        let (alice, _) = device(&lab, 0, Place::Symmetric, by_relay(&station)).await;
        let (bob, _) = device(&lab, 1, Place::Symmetric, by_stun(&station)).await;
        let (carol, _) = device(&lab, 2, Place::Symmetric, by_stun(&station)).await;
        let (mut at_bob, mut at_carol) = (accepted(&bob), accepted(&carol));
        let (to_bob, to_carol) = tokio::join!(
            connected(&alice, &bob, "to bob", &mut at_bob),
            connected(&alice, &carol, "to carol", &mut at_carol)
        );
        for (mut near, mut far) in [to_bob, to_carol] {
            transfer(&mut near, &mut far, 200_000).await;
        }
        assert_eq!((station.granted(), station.allocations()), (1, 1));
        for peer in [&bob, &carol] {
            alice.connection(peer.device()).unwrap().close().await;
        }
        pass(Duration::from_secs(30)).await;
        assert_eq!(station.allocations(), 1, "another connection may come");
        pass(Duration::from_secs(90)).await;
        assert_eq!(station.allocations(), 0);
        let (mut near, mut far) = connected(&alice, &bob, "again", &mut at_bob).await;
        transfer(&mut near, &mut far, 1000).await;
        assert_eq!((station.granted(), station.allocations()), (2, 1));
        alice.shutdown().await;
        drop(alice);
        pass(Duration::from_secs(5)).await;
        assert_eq!(station.allocations(), 0, "given back with the node");
    });
}

/// A router that lets nothing through to and from these addresses while it is closed.
#[derive(Debug, Clone)]
struct Valve {
    closed: Arc<AtomicBool>,
    addresses: Vec<IpAddr>,
}

impl Middlebox for Valve {
    fn pass(&mut self, _: Duration, _: Way, packet: &mut Packet) -> Verdict {
        let meant = [packet.from, packet.to].iter().any(|end| self.addresses.contains(&end.ip()));
        if meant && self.closed.load(Ordering::Relaxed) { Verdict::Refuse } else { Verdict::Forward }
    }
}

#[test]
fn a_connection_moves_from_the_relay_to_a_direct_path_and_back_while_data_flows() {
    story(23, async |world| {
        let (lab, station) = network(world).await;
        let at_bob = lab.host("bob");
        let interfaces = at_bob.interfaces().unwrap().into_iter().flat_map(|interface| interface.addresses);
        let addresses = interfaces.map(|address| address.addr).collect();
        let valve = Valve { closed: Arc::new(AtomicBool::new(true)), addresses };
        let inside = lab.world.lan();
        lab.world.router(
            "valve",
            inside,
            lab.internet,
            Link::delay(Duration::from_millis(10)),
            valve.clone(),
        );
        let at_alice = lab.world.host("alice");
        at_alice.attach(inside, Link::ethernet());
        let alice = lab.node_on(&at_alice, identity(0), lab.config().with_reach(by_relay(&station))).await;
        let bob = lab.node_on(&at_bob, identity(1), lab.config()).await;
        alice.registered().await;
        bob.registered().await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "moving", &mut channels).await;
        let connection = alice.connection(bob.device()).unwrap();
        assert_eq!(link(&connection, PathKind::RelayedUdp).await.purpose, Use::Data);

        // As much as flows until the direct path was found, used and lost again.
        let (done, finished) = tokio::sync::watch::channel(false);
        let send = async {
            let mut sent = 0;
            while !*finished.borrow() {
                near.write_all(&bytes(sent, 10_000)).await.unwrap();
                sent += 1;
                pass(Duration::from_millis(20)).await;
            }
            near.shutdown().await.unwrap();
            sent
        };
        let receive = async {
            let (mut heard, mut block) = (0, vec![0; 10_000]);
            let (mut last, mut stall) = (now(), Duration::ZERO);
            while far.read_exact(&mut block).await.is_ok() {
                assert!(block == bytes(heard, 10_000), "block {heard} is not what was sent");
                (stall, last) = (stall.max(now() - last), now());
                heard += 1;
            }
            (heard, stall)
        };
        let steer = async {
            pass(Duration::from_secs(1)).await;
            valve.closed.store(false, Ordering::Relaxed);
            let begun = now();
            while !connection
                .links()
                .await
                .iter()
                .any(|link| link.kind == PathKind::DirectTcp && link.purpose == Use::Data)
            {
                pass(Duration::from_millis(100)).await;
            }
            println!("direct after {:?}", now() - begun);
            let relayed = link(&connection, PathKind::RelayedUdp).await;
            assert!(matches!(relayed.purpose, Use::Reserve(_)), "{relayed:#?}");
            pass(Duration::from_secs(2)).await;
            let after = link(&connection, PathKind::RelayedUdp).await;
            assert!(after.sent - relayed.sent < 50_000, "the relay rests: {relayed:#?} {after:#?}");
            valve.closed.store(true, Ordering::Relaxed);
            let begun = now();
            while link(&connection, PathKind::RelayedUdp).await.purpose != Use::Data {
                pass(Duration::from_millis(100)).await;
            }
            println!("relayed again after {:?}", now() - begun);
            pass(Duration::from_secs(2)).await;
            done.send_replace(true);
        };
        let (sent, (heard, stall), ()) = tokio::join!(send, receive, steer);
        println!("nothing arrived for {stall:?} at the longest");
        assert_eq!(sent, heard);
        // A stream is suspect after half a second without an acknowledgement, and then there are datagrams to be doubted.
        assert!(stall < Duration::from_secs(1), "{stall:?}");
        assert_eq!(near.connection(), connection.id());
    });
}

/// A router that lets nothing through but what goes to the ports of servers and comes from there, once it is closed.
#[derive(Debug, Clone)]
struct ServersOnly(Arc<AtomicBool>);

impl Middlebox for ServersOnly {
    fn pass(&mut self, _: Duration, _: Way, packet: &mut Packet) -> Verdict {
        let server = packet.from.port() == 3478 || packet.to.port() == 3478;
        if !server && self.0.load(Ordering::Relaxed) { Verdict::Refuse } else { Verdict::Forward }
    }
}

#[test]
fn two_relays_in_a_row_carry_on_when_nothing_else_is_left() {
    story(25, async |world| {
        let (lab, station) = network(world).await;
        let closed = Arc::new(AtomicBool::new(false));
        let mut nodes = Vec::new();
        for (number, name) in ["alice", "bob"].into_iter().enumerate() {
            let inside = lab.world.lan();
            let line = Link::delay(Duration::from_millis(10));
            let (nat, _) = NatBox::new(&lab.world, towline_lab::towline_nat::Config::port_restricted_cone());
            lab.world.router(
                format!("gate of {name}"),
                inside,
                lab.internet,
                line,
                (ServersOnly(closed.clone()), nat),
            );
            let host = lab.world.host(name);
            host.attach(inside, Link::ethernet());
            let config = lab.config().with_reach(by_relay(&station));
            let node = lab.node_on(&host, identity(number), config).await;
            node.registered().await;
            nodes.push(node);
        }
        let [alice, bob] = &nodes[..] else { unreachable!("two were started") };
        let mut channels = accepted(bob);
        let (mut near, mut far) = connected(alice, bob, "two relays", &mut channels).await;
        // Long enough that only the pairs are left that are worth keeping.
        pass(Duration::from_mins(1)).await;
        transfer(&mut near, &mut far, 100_000).await;
        let connection = alice.connection(bob.device()).unwrap();
        let relayed = |links: Vec<LinkInfo>| {
            let by_relays = links.into_iter().filter(|link| link.kind == PathKind::RelayedUdp);
            by_relays.map(|link| link.sent).sum::<u64>()
        };
        let before = relayed(connection.links().await);
        closed.store(true, Ordering::Relaxed);
        let begun = now();
        transfer(&mut near, &mut far, 100_000).await;
        let took = now() - begun;
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert!(relayed(connection.links().await) - before > 100_000);
    });
}

#[test]
fn a_router_that_opens_ports_spares_servers_and_relays() {
    story(24, async |world| {
        let lab = Lab::new(world).await;
        let site = lab.world.site("alice", lab.internet, Place::PortMapping);
        home::open_ports(&lab.world, &site);
        let router = site.border().unwrap().nat.clone().unwrap();
        let leased = || router.mappings().iter().filter(|mapped| mapped.lease.is_some()).count();
        let reach = Reach { port_mapping: true, ..Reach::default() };
        let config = lab.config().with_reach(reach);
        let alice = Node::start(Arc::new(site.host), config, identity(0)).await.unwrap();
        alice.registered().await;
        let (bob, _) = device(&lab, 1, Place::Symmetric, Reach::default()).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "mapped", &mut channels).await;
        transfer(&mut near, &mut far, 300_000).await;
        let connection = alice.connection(bob.device()).unwrap();
        let links = connection.links().await;
        assert!(links.iter().any(|link| !link.kind.is_relayed() && link.purpose == Use::Data), "{links:#?}");
        // The DHT has but one, which is UDP.
        let by_tcp = |mapped: &Mapped| mapped.lease.is_some() && mapped.transport == Transport::Tcp;
        assert!(leased() > 1 && router.mappings().iter().any(by_tcp));
        alice.shutdown().await;
        assert_eq!(leased(), 0, "what was opened is closed by the end of the shutdown");
    });
}
