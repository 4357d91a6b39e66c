//! Devices behind NATs: they meet at the addresses that others see, and by a relay where there is no other way.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Duration;

use common::relay::Station;
use common::{Lab, accepted, bytes, connected, identity, pass, story};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::net::now;
use towline::{Channel, Connection, LinkInfo, Node, PathKind, Reach, Use};
use towline_lab::{Place, Site, World};

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

/// The links that work, once there is one of this kind among them.
async fn link(connection: &Connection, kind: PathKind) -> LinkInfo {
    loop {
        let links = connection.links().await;
        if let Some(link) = links.iter().find(|link| link.kind == kind && link.purpose != Use::Nothing) {
            return link.clone();
        }
        pass(Duration::from_millis(100)).await;
    }
}

/// Sends so much, which is to arrive as it was sent.
async fn transfer(near: &mut Channel, far: &mut Channel, len: usize) {
    let words = bytes(len, len);
    let mut heard = vec![0; len];
    let (sent, read) = tokio::join!(near.write_all(&words), far.read_exact(&mut heard));
    sent.unwrap();
    read.unwrap();
    assert!(heard == words, "what was sent is not what arrived");
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
                assert_eq!(link(&connection, PathKind::DirectUdp).await.purpose, Use::Data, "{a} and {b}");
            }
            assert_eq!(station.granted(), 0);
        });
    }
}
