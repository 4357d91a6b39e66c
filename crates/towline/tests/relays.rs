//! Servers of all kinds that help to reach others: dead ones, slow ones, some that die under a connection.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::relay::Station;
use common::{Lab, accepted, bytes, connected, identity, link, pass, story};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::Receiver;
use towline::net::now;
use towline::{
    Channel, Connection, LinkInfo, Node, PathKind, Reach, Relay, RelaySecret, RelayTransport, ServerReport,
    Use,
};
use towline_lab::{Host, Kind, Link, Middlebox, Network, Packet, Place, Plan, Prefix, Verdict, Way, World};

/// A server that tells addresses and relays, so far away.
fn station(lab: &Lab, name: &str, delay: Duration) -> Station {
    let host = lab.world.host(name);
    host.attach(lab.internet, Link::delay(delay));
    Station::start(&host)
}

async fn device(lab: &Lab, number: usize, outside: Network, place: Place, reach: Reach) -> Node {
    let site = lab.world.site(["alice", "bob"][number], outside, place);
    let node = lab.node_on(&site.host, identity(number), lab.config().with_reach(reach)).await;
    node.registered().await;
    node
}

/// Two devices that only a relay of the first connects. The second must know how it is seen, as relays want to be told whom they
/// let in.
async fn strangers(lab: &Lab, relays: Vec<Relay>) -> (Node, Node) {
    let own_address = station(lab, "stun", ms(5));
    let by_stun = Reach { stun: vec![own_address.stun()], ..Reach::default() };
    // For as long as the story.
    tokio::spawn(async move {
        let _kept = own_address;
        std::future::pending::<()>().await;
    });
    let reach = Reach { relays, ..by_stun.clone() };
    let alice = device(lab, 0, lab.internet, Place::Symmetric, reach).await;
    let bob = device(lab, 1, lab.internet, Place::Symmetric, by_stun).await;
    (alice, bob)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Sends blocks for as long as `meanwhile` lasts, both ways, and looks whether all arrive as they were sent.
async fn sending_while(near: &mut Channel, far: &mut Channel, meanwhile: impl Future<Output = ()>) {
    const BLOCK: usize = 4000;
    let (done, over) = tokio::sync::watch::channel(false);
    let (mut near_in, mut near_out) = tokio::io::split(near);
    let (mut far_in, mut far_out) = tokio::io::split(far);
    let send = async |out: &mut tokio::io::WriteHalf<&mut Channel>| {
        let mut sent = 0;
        while !*over.borrow() {
            out.write_all(&bytes(sent, BLOCK)).await.unwrap();
            sent += 1;
            pass(ms(20)).await;
        }
        out.shutdown().await.unwrap();
        sent
    };
    let receive = async |from: &mut tokio::io::ReadHalf<&mut Channel>| {
        let (mut heard, mut block) = (0, vec![0; BLOCK]);
        while from.read_exact(&mut block).await.is_ok() {
            assert!(block == bytes(heard, BLOCK), "block {heard} is not what was sent");
            heard += 1;
        }
        heard
    };
    let steer = async {
        meanwhile.await;
        done.send_replace(true);
    };
    let (there, heard_there, back, heard_back, ()) = tokio::join!(
        send(&mut near_out),
        receive(&mut far_in),
        send(&mut far_out),
        receive(&mut near_in),
        steer
    );
    assert_eq!((there, back), (heard_there, heard_back));
}

/// Waits until a link of this kind carries, and so much has come by it.
async fn until_received(connection: &Connection, kind: PathKind, bytes: u64) {
    loop {
        let links = connection.links().await;
        let carries =
            |link: &LinkInfo| link.kind == kind && link.purpose == Use::Data && link.received > bytes;
        if links.iter().any(carries) {
            return;
        }
        pass(ms(50)).await;
    }
}

/// A street on which devices do not reach each other by datagrams; those of the others, and TCP, pass.
#[derive(Debug, Clone)]
struct NoDatagramsBetween(Vec<IpAddr>);

impl Middlebox for NoDatagramsBetween {
    fn pass(&mut self, _: Duration, _: Way, packet: &mut Packet) -> Verdict {
        let others = [packet.from, packet.to].iter().any(|end| self.0.contains(&end.ip()));
        if packet.kind() == Kind::Udp && !others { Verdict::Refuse } else { Verdict::Forward }
    }
}

#[test]
fn where_no_datagrams_pass_nats_are_opened_for_tcp_from_both_sides() {
    for (seed, place) in [(1, Place::FullCone), (2, Place::PortRestricted)] {
        story(seed, async |world: World| {
            let lab = Lab::new(world).await;
            let station = station(&lab, "station", ms(5));
            let reach = Reach { stun: vec![station.stun()], ..Reach::default() };
            let filter = NoDatagramsBetween(vec![lab.bootstrap_host.ipv4(), station.address.ip()]);
            // With addresses that are good everywhere.
            let prefix = Prefix::new(Ipv4Addr::new(46, 0, 0, 0), 24);
            let street = lab.world.network(Plan::Lan { v4: Some(prefix), v6: None });
            lab.world.router("street", street, lab.internet, Link::delay(ms(5)), filter);
            let alice = device(&lab, 0, street, place, reach.clone()).await;
            let bob = device(&lab, 1, lab.internet, place, reach).await;
            let mut channels = accepted(&bob);
            let begun = now();
            let (mut near, mut far) = connected(&alice, &bob, "tcp", &mut channels).await;
            println!("{place}: {:?}", now() - begun);
            assert!(now() - begun < Duration::from_secs(10));
            sending_while(&mut near, &mut far, pass(ms(500))).await;
            let connection = alice.connection(bob.device()).unwrap();
            assert_eq!(link(&connection, PathKind::DirectTcp).await.purpose, Use::Data);
        });
    }
}

#[test]
fn a_server_that_is_dead_or_has_no_address_keeps_nobody_waiting() {
    let took = |stun: fn(&Station, &Host) -> Vec<String>| {
        story(3, async |world: World| {
            let lab = Lab::new(world).await;
            let station = station(&lab, "station", ms(5));
            let dead = lab.host("dead");
            let reach = Reach { stun: stun(&station, &dead), ..Reach::default() };
            let alice = device(&lab, 0, lab.internet, Place::PortRestricted, reach.clone()).await;
            let bob = device(&lab, 1, lab.internet, Place::PortRestricted, reach).await;
            let mut channels = accepted(&bob);
            // Whatever is being looked up has been looked up.
            pass(Duration::from_secs(5)).await;
            let begun = now();
            connected(&alice, &bob, "met", &mut channels).await;
            let first = now() - begun;
            // By then it is known who is silent.
            pass(Duration::from_secs(8)).await;
            alice.connection(bob.device()).unwrap().close().await;
            pass(Duration::from_secs(8)).await;
            let begun = now();
            connected(&alice, &bob, "again", &mut channels).await;
            (first, now() - begun)
        })
    };
    let alone = took(|station, _| vec![station.stun()]);
    let beside = took(|station, dead| {
        vec![
            "nowhere.example".to_owned(),
            dead.ipv4().to_string(),
            station.stun(),
            "also.nowhere:1".to_owned(),
        ]
    });
    println!("alone {alone:?}, beside dead ones {beside:?}");
    // Two answers say more than one: each side holds its first words back for at most 100 ms.
    assert!(beside.0 < alone.0 + ms(200), "alone {alone:?}, beside dead ones {beside:?}");
    assert!(beside.1 < alone.1 + ms(30), "alone {alone:?}, beside dead ones {beside:?}");
}

#[test]
fn of_several_relays_the_fastest_is_used_and_remembered() {
    story(4, async |world: World| {
        let lab = Lab::new(world).await;
        let (near, far) = (station(&lab, "near", ms(10)), station(&lab, "far", ms(120)));
        let dead = Relay { server: lab.host("dead").ipv4().to_string() + ":3478", ..near.relay() };
        let wrong = Relay { secret: RelaySecret::Password("wrong".to_owned()), ..near.relay() };
        let (alice, bob) = strangers(&lab, vec![far.relay(), dead, wrong, near.relay()]).await;
        let mut channels = accepted(&bob);
        connected(&alice, &bob, "first", &mut channels).await;
        let connection = alice.connection(bob.device()).unwrap();
        let used = link(&connection, PathKind::RelayedUdp).await;
        assert_eq!(used.path.local.ip(), near.address.ip(), "{used:#?}");
        // What the slower one gave is given back.
        pass(Duration::from_secs(2)).await;
        assert_eq!((near.allocations(), far.allocations()), (1, 0));
        let asked = far.granted();
        connection.close().await;
        pass(Duration::from_mins(3)).await;
        assert_eq!(near.allocations(), 0);
        connected(&alice, &bob, "second", &mut channels).await;
        let connection = alice.connection(bob.device()).unwrap();
        let used = link(&connection, PathKind::RelayedUdp).await;
        assert_eq!(used.path.local.ip(), near.address.ip(), "{used:#?}");
        assert_eq!((near.granted(), far.granted()), (2, asked), "the slower one is left alone");
    });
}

/// What the report of a connection says of the relay at this address.
async fn told_of(node: &Node, peer: &Node, relay: &Station) -> ServerReport {
    let report = node.report(peer.device()).await.unwrap();
    let address = relay.address.to_string();
    report.servers.into_iter().find(|server| server.server.contains(&format!("@{address}"))).unwrap()
}

/// Dials, and says how long it took, by which relay it goes, and what is known of the one that is `watched`. Nothing is left of it.
async fn dialled(
    (alice, bob): (&Node, &Node),
    channels: &mut Receiver<Channel>,
    watched: &Station,
) -> (Duration, IpAddr, ServerReport) {
    let begun = now();
    connected(alice, bob, "dialled", channels).await;
    let took = now() - begun;
    let connection = alice.connection(bob.device()).unwrap();
    let used = link(&connection, PathKind::RelayedUdp).await.path.local.ip();
    let told = told_of(alice, bob, watched).await;
    connection.close().await;
    // The address is given back.
    pass(Duration::from_mins(2)).await;
    (took, used, told)
}

/// For stories about what happens between connections.
fn for_an_hour<F: Future>(seed: u64, tell: impl FnOnce(World) -> F) -> F::Output {
    let options = towline_lab::Options { limit: Duration::from_hours(1), ..towline_lab::Options::new(seed) };
    options.run(tell).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

#[test]
fn a_relay_that_dies_while_nobody_uses_it_costs_the_next_dial_nothing_and_is_used_again_when_it_is_back() {
    // Less than the ten minutes for which a relay that was used is trusted unless somebody looks.
    const LATER: Duration = Duration::from_mins(7);
    for (seed, transport) in [(30, RelayTransport::Udp), (31, RelayTransport::Tcp)] {
        let (near_delay, far_delay) = (ms(10), ms(40));
        let alone = for_an_hour(seed, async |world: World| {
            let lab = Lab::new(world).await;
            let far = station(&lab, "far", far_delay);
            let (alice, bob) = strangers(&lab, vec![Relay { transport, ..far.relay() }]).await;
            let (between, mut channels) = ((&alice, &bob), accepted(&bob));
            dialled(between, &mut channels, &far).await;
            pass(LATER).await;
            dialled(between, &mut channels, &far).await.0
        });
        let beside_a_dead_one = for_an_hour(seed, async |world: World| {
            let lab = Lab::new(world).await;
            let (mut near, far) = (station(&lab, "near", near_delay), station(&lab, "far", far_delay));
            let relays = [far.relay(), near.relay()].map(|relay| Relay { transport, ..relay });
            let (alice, bob) = strangers(&lab, relays.to_vec()).await;
            let (between, mut channels) = ((&alice, &bob), accepted(&bob));
            // Who is nearer is known before anybody has used one: the other is not asked for an address.
            pass(Duration::from_secs(1)).await;
            let (_, used, told) = dialled(between, &mut channels, &far).await;
            assert_eq!((used, far.granted()), (near.address.ip(), 0));
            assert_eq!(told.works, None);
            assert!(told.text.contains("(is there, answered a check within"), "{told:?}");

            near.stop().await;
            pass(LATER).await;
            let (took, used, told) = dialled(between, &mut channels, &near).await;
            assert_eq!((used, told.works), (far.address.ip(), Some(false)), "{told:?}");
            assert!(told.age.unwrap() < LATER, "{told:?}");

            near.begin();
            pass(Duration::from_mins(9)).await;
            let (_, used, told) = dialled(between, &mut channels, &near).await;
            assert_eq!((used, told.works), (near.address.ip(), Some(true)), "{told:?}");
            took
        });
        println!("{transport:?}: {alone:?} alone, {beside_a_dead_one:?} beside a dead one");
        assert!(beside_a_dead_one < alone + ms(20), "{alone:?}, {beside_a_dead_one:?}");
    }
}

#[test]
fn a_relay_is_spoken_to_on_tcp_and_with_a_name_made_of_a_shared_secret() {
    story(5, async |world: World| {
        let lab = Lab::new(world).await;
        let station = station(&lab, "station", ms(10));
        let secret = RelaySecret::Shared("north".to_owned());
        let relay = Relay { transport: RelayTransport::Tcp, secret, ..station.relay() };
        let (alice, bob) = strangers(&lab, vec![relay]).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "on tcp", &mut channels).await;
        sending_while(&mut near, &mut far, pass(Duration::from_secs(1))).await;
        link(&alice.connection(bob.device()).unwrap(), PathKind::RelayedUdp).await;
        assert_eq!(station.granted(), 1);
    });
}

#[test]
fn the_only_relay_is_restarted_under_a_connection_that_goes_on() {
    for (seed, transport, dialled) in [
        (6, RelayTransport::Udp, false),
        (7, RelayTransport::Tcp, false),
        (8, RelayTransport::Udp, true),
        (9, RelayTransport::Tcp, true),
    ] {
        story(seed, async |world: World| {
            let lab = Lab::new(world).await;
            let mut station = station(&lab, "station", ms(10));
            let relay = Relay { transport, ..station.relay() };
            let (alice, bob) = strangers(&lab, vec![relay]).await;
            // Who dials answers the other's links, and the other way round.
            let (from, to) = if dialled { (&bob, &alice) } else { (&alice, &bob) };
            let mut channels = accepted(to);
            let (mut near, mut far) = connected(from, to, "restarted", &mut channels).await;
            let connection = alice.connection(bob.device()).unwrap();
            link(&connection, PathKind::RelayedUdp).await;
            sending_while(&mut near, &mut far, async {
                pass(Duration::from_secs(1)).await;
                station.stop().await;
                pass(Duration::from_secs(2)).await;
                station.begin();
                let begun = now();
                while station.granted() < 2 {
                    pass(ms(50)).await;
                }
                println!("{transport:?}, {dialled}: an address again after {:?}", now() - begun);
                until_received(&connection, PathKind::RelayedUdp, 20_000).await;
                assert!(now() - begun < Duration::from_secs(8), "{:?}", now() - begun);
            })
            .await;
            assert_eq!(near.connection(), connection.id());
        });
    }
}

#[test]
fn when_a_relay_dies_another_takes_its_place() {
    for (seed, transport) in [(10, RelayTransport::Udp), (11, RelayTransport::Tcp)] {
        story(seed, async |world: World| {
            let lab = Lab::new(world).await;
            let (mut near, far) = (station(&lab, "near", ms(10)), station(&lab, "far", ms(40)));
            let relays = [near.relay(), far.relay()].map(|relay| Relay { transport, ..relay });
            let (alice, bob) = strangers(&lab, relays.to_vec()).await;
            let mut channels = accepted(&bob);
            let (mut here, mut there) = connected(&alice, &bob, "goes on", &mut channels).await;
            let connection = alice.connection(bob.device()).unwrap();
            let used = link(&connection, PathKind::RelayedUdp).await;
            assert_eq!(used.path.local.ip(), near.address.ip());
            sending_while(&mut here, &mut there, async {
                pass(Duration::from_secs(1)).await;
                near.stop().await;
                let begun = now();
                while link(&connection, PathKind::RelayedUdp).await.path.local.ip() != far.address.ip() {
                    pass(ms(50)).await;
                }
                println!("{transport:?}: on the other relay after {:?}", now() - begun);
                assert!(now() - begun < Duration::from_secs(5), "{:?}", now() - begun);
                pass(Duration::from_secs(1)).await;
            })
            .await;
            assert_eq!(here.connection(), connection.id());
        });
    }
}
