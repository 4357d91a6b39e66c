//! Connections between Towlines over more than one path: what carries data, and what happens when it stops doing so.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use common::{Lab, accepted, bytes, connected, identity, pass, ping_pong, story, transfer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::ice::Preference;
use towline::net::{Net as _, TcpConnect, now};
use towline::{Carrier, Channel, Connection, LinkInfo, Node, PathKind, Use};
use towline_lab::{Kind, Link, Middlebox, Packet, Verdict, Way, World};

const NO_UDP: u8 = 1;
const NO_TCP: u8 = 2;

/// A router that drops what it is told to drop.
#[derive(Debug, Clone, Default)]
struct Valve(Arc<AtomicU8>);

impl Valve {
    fn set(&self, closed: u8) {
        self.0.store(closed, Ordering::Relaxed);
    }
}

impl Middlebox for Valve {
    fn pass(&mut self, _: Duration, _: Way, packet: &mut Packet) -> Verdict {
        let closed = self.0.load(Ordering::Relaxed);
        let udp = packet.kind() == Kind::Udp;
        let drop = (udp && closed & NO_UDP != 0) || (packet.kind().is_tcp() && closed & NO_TCP != 0);
        if drop { Verdict::Refuse } else { Verdict::Forward }
    }
}

/// Alice behind a valve, Bob on the internet, and the valve as it is to be while they connect.
async fn pair(world: World, closed: u8) -> (Lab, Node, Node, Valve) {
    pair_by(world, closed, Preference::default()).await
}

/// The same, with what Alice prefers.
async fn pair_by(world: World, closed: u8, preference: Preference) -> (Lab, Node, Node, Valve) {
    let valve = Valve::default();
    let lab = Lab::new(world).await;
    let inside = lab.world.lan();
    lab.world.router("valve", inside, lab.internet, Link::delay(Duration::from_millis(10)), valve.clone());
    let host = lab.world.host("alice");
    host.attach(inside, Link::ethernet());
    let mut config = lab.config();
    config.ice.preference = preference;
    let alice = lab.node_on(&host, identity(0), config).await;
    let bob = lab.node(1).await;
    alice.registered().await;
    bob.registered().await;
    valve.set(closed);
    (lab, alice, bob, valve)
}

/// The links, once there are as many as this.
async fn links(connection: &Connection, count: usize) -> Vec<LinkInfo> {
    loop {
        let links = connection.links().await;
        if links.len() >= count && links.iter().all(|link| link.purpose != Use::Nothing) {
            return links;
        }
        pass(Duration::from_millis(100)).await;
    }
}

fn of(links: &[LinkInfo], kind: PathKind) -> &LinkInfo {
    links.iter().find(|link| link.kind == kind).unwrap_or_else(|| panic!("no {kind:?}: {links:#?}"))
}

#[test]
fn both_kinds_of_path_become_links_and_tcp_carries_bulk() {
    story(1, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "bulk", &mut channels).await;
        for connection in [alice.connection(bob.device()).unwrap(), bob.connection(alice.device()).unwrap()] {
            assert_eq!(connection.info().established.unwrap().carrier, Carrier::Channeler);
            let links = links(&connection, 2).await;
            assert_eq!(links.len(), 2, "one of each kind: {links:#?}");
            assert_eq!(of(&links, PathKind::DirectTcp).purpose, Use::Data);
            let reserve = of(&links, PathKind::DirectUdp).purpose;
            assert_eq!(reserve, Use::Reserve(PathKind::DirectTcp));
            assert!(reserve.to_string().contains("costs less"), "{reserve}");
        }
        let connection = alice.connection(bob.device()).unwrap();
        let before = of(&links(&connection, 2).await, PathKind::DirectUdp).sent;
        transfer(&mut near, &mut far, 3_000_000).await;
        let after = links(&connection, 2).await;
        assert!(of(&after, PathKind::DirectTcp).sent > 3_000_000);
        assert!(of(&after, PathKind::DirectUdp).sent - before < 50_000, "{after:#?}");
    });
}

/// Whoever of the two wants datagrams first: both send by them, and TCP is there when they stop.
#[test]
fn either_device_may_want_datagrams_first() {
    for wants in [[true, false], [false, true], [true, true]] {
        story(7, async |world| {
            let lab = Lab::new(world).await;
            let [first, second] = wants.map(|udp| {
                let mut config = lab.config();
                config.ice.preference = if udp { Preference::UdpFirst } else { Preference::default() };
                config
            });
            let (_lab, alice, bob) = lab.pair_with(first, second).await;
            let mut channels = accepted(&bob);
            let (mut near, mut far) = connected(&alice, &bob, "bulk", &mut channels).await;
            let connections =
                [alice.connection(bob.device()).unwrap(), bob.connection(alice.device()).unwrap()];
            for connection in &connections {
                let links = links(connection, 2).await;
                assert_eq!(of(&links, PathKind::DirectUdp).purpose, Use::Data, "{wants:?}: {links:#?}");
                let reserve = of(&links, PathKind::DirectTcp).purpose;
                assert_eq!(reserve, Use::UdpFirst);
                assert!(reserve.to_string().contains("wants it first"), "{reserve}");
            }
            transfer(&mut near, &mut far, 2_000_000).await;
            transfer(&mut far, &mut near, 2_000_000).await;
            // Half a minute later the other TCP connections go; the one in reserve does not.
            pass(Duration::from_secs(40)).await;
            for connection in &connections {
                let links = links(connection, 2).await;
                assert_eq!(links.len(), 2, "{links:#?}");
                assert!(of(&links, PathKind::DirectUdp).sent > 2_000_000, "{wants:?}: {links:#?}");
                assert!(of(&links, PathKind::DirectTcp).sent < 50_000, "{wants:?}: {links:#?}");
            }
        });
    }
}

#[test]
fn who_wants_datagrams_first_still_has_tcp_when_they_stop() {
    story(8, async |world| {
        let (_lab, alice, bob, valve) = pair_by(world, 0, Preference::UdpFirst).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "bulk", &mut channels).await;
        let connection = alice.connection(bob.device()).unwrap();
        links(&connection, 2).await;
        pass(Duration::from_secs(40)).await;
        let stall = transfer_through(&mut near, &mut far, 8_000_000, || valve.set(NO_UDP)).await;
        assert!(stall < Duration::from_secs(1), "{stall:?}");
        assert_eq!(of(&connection.links().await, PathKind::DirectTcp).purpose, Use::Data);
        valve.set(0);
        while of(&links(&connection, 2).await, PathKind::DirectUdp).purpose != Use::Data {
            pass(Duration::from_millis(100)).await;
        }
        ping_pong_between(&mut near, &mut far).await;
    });
}

/// Sends so much while `halfway` happens in the middle; returns the longest time in which nothing arrived.
async fn transfer_through(
    near: &mut Channel,
    far: &mut Channel,
    len: usize,
    halfway: impl FnOnce(),
) -> Duration {
    let words = bytes(3, len);
    let receive = async {
        let (mut heard, mut halfway) = (Vec::with_capacity(len), Some(halfway));
        let (mut last, mut stall) = (now(), Duration::ZERO);
        while heard.len() < len {
            assert!(far.read_buf(&mut heard).await.unwrap() > 0, "the end after {} bytes", heard.len());
            stall = stall.max(now() - last);
            last = now();
            if heard.len() > len / 2
                && let Some(act) = halfway.take()
            {
                act();
            }
        }
        assert!(heard == words, "what was sent is not what arrived");
        stall
    };
    let (sent, stall) = tokio::join!(near.write_all(&words), receive);
    sent.unwrap();
    stall
}

#[test]
fn where_tcp_is_blocked_datagrams_carry_the_connection() {
    story(2, async |world| {
        let (_lab, alice, bob, _valve) = pair(world, NO_TCP).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "by datagrams", &mut channels).await;
        transfer(&mut near, &mut far, 2_000_000).await;
        let connection = alice.connection(bob.device()).unwrap();
        let links = links(&connection, 1).await;
        assert_eq!(of(&links, PathKind::DirectUdp).purpose, Use::Data);
        assert!(of(&links, PathKind::DirectUdp).sent > 2_000_000);
        pass(Duration::from_mins(3)).await;
        transfer(&mut far, &mut near, 100_000).await;
    });
}

#[test]
fn who_has_a_path_over_datagrams_listens_for_half_a_minute() {
    story(6, async |world| {
        let (lab, alice, bob, _valve) = pair(world, NO_TCP).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "datagrams", &mut channels).await;
        let connection = alice.connection(bob.device()).unwrap();
        let path = connection.info().established.unwrap().path;
        let stranger = lab.host("stranger");
        let ports = lab.tried_ports(path.remote.ip());
        let open = async || {
            let mut open = 0;
            for &port in &ports {
                open += usize::from(stranger.connect_tcp(port, TcpConnect::default()).await.is_ok());
            }
            open
        };
        // The TCP pairs still have a chance.
        assert_eq!(open().await, 1, "{ports:?}");
        pass(Duration::from_secs(31)).await;
        assert_eq!(open().await, 0, "{ports:?}");
        transfer(&mut near, &mut far, 100_000).await;
        assert!(links(&connection, 1).await.iter().all(|link| link.kind == PathKind::DirectUdp));
    });
}

#[test]
fn when_tcp_falls_silent_in_the_middle_of_a_transfer_it_finishes_over_udp() {
    story(3, async |world| {
        let (_lab, alice, bob, valve) = pair(world, 0).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "moved", &mut channels).await;
        let connection = alice.connection(bob.device()).unwrap();
        let id = connection.id();
        links(&connection, 2).await;
        let stall = transfer_through(&mut near, &mut far, 20_000_000, || valve.set(NO_TCP)).await;
        println!("nothing arrived for {stall:?}");
        // A stream is suspect after half a second without an acknowledgement: its kernel may only be repeating.
        assert!(stall < Duration::from_secs(2), "{stall:?}");
        assert!(of(&connection.links().await, PathKind::DirectUdp).sent > 5_000_000);
        assert_eq!(near.connection(), id);
        ping_pong_between(&mut near, &mut far).await;
    });
}

#[test]
fn when_all_udp_is_dropped_in_the_middle_of_a_transfer_it_finishes_over_tcp() {
    story(4, async |world| {
        // TCP comes later, as a path that ICE tries again.
        let (_lab, alice, bob, valve) = pair(world, NO_TCP).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "moved back", &mut channels).await;
        let connection = alice.connection(bob.device()).unwrap();
        assert_eq!(links(&connection, 1).await.len(), 1);
        let stall = transfer_through(&mut near, &mut far, 4_000_000, || valve.set(0)).await;
        assert!(stall < Duration::from_secs(1), "{stall:?}");
        let both = links(&connection, 2).await;
        assert_eq!(
            of(&both, PathKind::DirectTcp).purpose,
            Use::Data,
            "the better kind is taken when it comes"
        );
        let stall = transfer_through(&mut near, &mut far, 20_000_000, || valve.set(NO_UDP)).await;
        println!("nothing arrived for {stall:?}");
        assert!(stall < Duration::from_secs(1), "{stall:?}");
        ping_pong_between(&mut near, &mut far).await;
    });
}

async fn ping_pong_between(near: &mut Channel, far: &mut Channel) {
    let answer = async {
        let mut word = [0; 5];
        far.read_exact(&mut word).await.unwrap();
        far.write_all(&word).await.unwrap();
    };
    let (asked, ()) = tokio::join!(ping_pong(near, b"there"), answer);
    asked.unwrap();
}

#[test]
fn without_any_path_left_the_connection_ends() {
    story(5, async |world| {
        let (_lab, alice, bob, valve) = pair(world, 0).await;
        let mut channels = accepted(&bob);
        let (mut near, _far) = connected(&alice, &bob, "cut off", &mut channels).await;
        links(&alice.connection(bob.device()).unwrap(), 2).await;
        valve.set(NO_TCP | NO_UDP);
        let begun = now();
        near.read(&mut [0; 1]).await.unwrap_err();
        assert!(now() - begun < Duration::from_secs(61), "{:?}", now() - begun);
    });
}
