//! Devices that no datagram leaves: a relay leads them to the DHT, without which they are found by nobody.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use common::{Lab, accepted, bytes, connected, identity, pass, story};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use towline::{Node, Reach, Relay, RelaySecret, RelayTransport};
use towline_dht::node::Status;
use towline_lab::{Place, Site};
use towline_turn_tokio::proto::{PeerPolicy, ServerConfig, Users};
use towline_turn_tokio::{RelayServer, ServerOptions};

/// The only port that every place lets through.
const PORT: u16 = 443;

/// A relay on the internet, and how it is reached.
fn station(lab: &Lab, name: &str) -> (RelayServer, Relay) {
    let host = lab.host(name);
    let IpAddr::V4(ip) = host.ipv4() else { unreachable!("the first address is IPv4") };
    let at = SocketAddr::new(ip.into(), PORT);
    let config = ServerConfig {
        users: Users { fixed: BTreeMap::from([("ann".to_owned(), "secret".to_owned())]), secret: None },
        peers: PeerPolicy::Public,
        ..ServerConfig::default()
    };
    let options = ServerOptions {
        config,
        listen: vec![at],
        tls: None,
        relay_v4: Some(ip),
        relay_v6: None,
        external_v4: None,
    };
    let relay = Relay {
        server: at.to_string(),
        transport: RelayTransport::Tcp,
        user: "ann".to_owned(),
        secret: RelaySecret::Password("secret".to_owned()),
    };
    (RelayServer::start(Arc::new(host), options).unwrap(), relay)
}

/// A device in its surroundings that knows these relays.
async fn device(lab: &Lab, number: usize, place: Place, relays: &[Relay]) -> (Node, Site) {
    let site = lab.world.site(["alice", "bob"][number], lab.internet, place);
    let config = lab.config().with_reach(Reach { relays: relays.to_vec(), ..Reach::default() });
    (lab.node_on(&site.host, identity(number), config).await, site)
}

/// Becomes so within this time, or never.
async fn becomes(node: &Node, wanted: Status, within: Duration) {
    let mut status = node.dht().watch_status();
    let changed = status.wait_for(|status| status.v4 == wanted);
    assert!(timeout(within, changed).await.is_ok(), "not {wanted:?} within {within:?}");
}

#[test]
fn two_devices_without_udp_find_each_other() {
    for (seed, place) in [Place::UdpBlocked, Place::WebOnly].into_iter().enumerate() {
        story(seed as u64, async |world| {
            let lab = Lab::new(world).await;
            let (_server, relay) = station(&lab, "station");
            let (alice, _) = device(&lab, 0, place, std::slice::from_ref(&relay)).await;
            let (bob, _) = device(&lab, 1, place, &[relay]).await;
            for node in [&alice, &bob] {
                timeout(Duration::from_secs(8), node.registered()).await.expect("found by nobody");
            }
            let mut channels = accepted(&bob);
            let (mut near, mut far) = connected(&alice, &bob, "met", &mut channels).await;
            let (words, mut heard) = (bytes(1, 100_000), vec![0; 100_000]);
            let (sent, read) = tokio::join!(near.write_all(&words), far.read_exact(&mut heard));
            sent.unwrap();
            read.unwrap();
            assert!(heard == words, "{place}");
        });
    }
}

#[test]
fn another_relay_takes_over_and_an_open_network_needs_none() {
    story(3, async |world| {
        let lab = Lab::new(world).await;
        let ((first, at_first), (second, at_second)) = (station(&lab, "first"), station(&lab, "second"));
        let (alice, site) = device(&lab, 0, Place::UdpBlocked, &[at_first, at_second]).await;
        becomes(&alice, Status::Connected, Duration::from_secs(8)).await;
        let (mut standing, other) = if first.allocations() > 0 { (first, second) } else { (second, first) };
        assert_eq!((standing.allocations(), other.allocations()), (1, 0));
        // Ended as a program is ended: its streams are closed.
        standing = {
            drop(standing);
            other
        };
        becomes(&alice, Status::Connecting, Duration::from_secs(10)).await;
        becomes(&alice, Status::Connected, Duration::from_mins(1)).await;
        assert_eq!(standing.allocations(), 1);

        let interfaces = towline::net::Net::interfaces(&site.host).unwrap();
        let index = interfaces.iter().find(|interface| !interface.loopback).unwrap().index;
        site.host.roam(index, lab.internet);
        pass(Duration::from_secs(10)).await;
        drop(standing);
        for _ in 0..60 {
            pass(Duration::from_secs(1)).await;
            assert_eq!(alice.dht().status(), Status::Connected, "the relay is not needed any more");
        }
    });
}
