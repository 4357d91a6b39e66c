//! Discovery on the local network: in the lab, and over real multicast on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod dht_common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dht_common::soon;
use towline::dht::{Dht, DhtConfig, InfoHash, PutOptions, Query, Status, Value};
use towline::discovery::{Discovery, DiscoveryConfig, DiscoveryError, DiscoveryMode, PeerOnLan};
use towline::identity::DeviceId;
use towline::net::{Group, Net, Os, UdpBind};
use towline_lab::{Host, Link, Network, Plan, World, run};

const ALICE: DeviceId = DeviceId([0xa; 32]);
const BOB: DeviceId = DeviceId([0xb; 32]);
const OPENDHT_GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 192, 0, 1), 8888);

/// A host on a local network, with a node and discovery.
async fn station(host: &Host, config: DiscoveryConfig, device: DeviceId) -> (Dht, Discovery) {
    let net: Arc<dyn Net> = Arc::new(host.clone());
    let dht = Dht::start(Arc::clone(&net), DhtConfig::default(), None).await.unwrap();
    let discovery = Discovery::start(net, config, &dht, Some(device)).unwrap();
    (dht, discovery)
}

fn lan(world: &World) -> Network {
    world.network(Plan::lan(1))
}

fn host(world: &World, lan: Network, name: &str) -> Host {
    let host = world.host(name);
    host.attach(lan, Link::delay(Duration::from_millis(1)));
    host
}

fn devices(discovery: &Discovery) -> Vec<DeviceId> {
    let mut devices: Vec<_> = discovery.peers().iter().map(|peer| peer.device).collect();
    devices.dedup();
    devices
}

#[test]
fn nodes_on_a_lan_need_no_bootstrap_host() {
    run(1, async |world| {
        let lan = lan(&world);
        let (first, second) = (host(&world, lan, "alice"), host(&world, lan, "bob"));
        let (alice, alices) = station(&first, DiscoveryConfig::full(), ALICE).await;
        let (bob, bobs) = station(&second, DiscoveryConfig::full(), BOB).await;
        soon("alice being connected", alice.connected()).await.unwrap();
        soon("bob being connected", bob.connected()).await.unwrap();
        let key = InfoHash::digest("lan");
        alice.put(key, Value::new(1, 0, *b"hi"), PutOptions::default()).await.unwrap();
        assert_eq!(bob.get(key, Query::all()).collect().await.unwrap().len(), 1);

        let seen = soon("alice", bobs.wait_for(ALICE)).await.expect("discovery is at work");
        let port = alice.local_addrs().v4.unwrap().port();
        assert!([first.ipv4(), first.ipv6()].contains(&seen.address.ip()));
        assert_eq!(seen.address.port(), port);
        soon("bob", alices.wait_for(BOB)).await.unwrap();
        assert_eq!((devices(&alices), devices(&bobs)), (vec![BOB], vec![ALICE]), "nobody sees himself");
        assert!(!bobs.addresses_of(&ALICE).is_empty());
    });
}

#[test]
fn who_only_listens_hears_and_stays_unheard() {
    run(2, async |world| {
        let lan = lan(&world);
        let (_alice, alices) = station(&host(&world, lan, "alice"), DiscoveryConfig::full(), ALICE).await;
        let config = DiscoveryConfig::listen_only();
        let (bob, bobs) = station(&host(&world, lan, "bob"), config, BOB).await;
        soon("alice", bobs.wait_for(ALICE)).await.unwrap();
        soon("being connected through her", bob.connected()).await.unwrap();
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(devices(&alices), []);
        assert!(alices.stats().queries > 0);

        let off =
            Discovery::start(Arc::new(world.host("nobody")), DiscoveryConfig::off(), &bob, None).unwrap();
        assert_eq!(off.wait_for(ALICE).await, None);
    });
}

#[test]
fn devices_are_forgotten_and_found_again() {
    run(3, async |world| {
        let lan = lan(&world);
        let (first, second) = (host(&world, lan, "alice"), host(&world, lan, "bob"));
        let (alice, _alices) = station(&first, DiscoveryConfig::full(), ALICE).await;
        let (_bob, bobs) = station(&second, DiscoveryConfig::full(), BOB).await;
        let mut events = bobs.events();
        let PeerOnLan { device, seen, .. } = soon("alice", events.next()).await.unwrap();
        assert_eq!(device, ALICE);
        // As long as she is there, the table stays fresh.
        tokio::time::sleep(Duration::from_mins(40)).await;
        assert!(bobs.peers().iter().any(|peer| peer.seen > seen + Duration::from_mins(30)));
        first.crash();
        drop(alice);
        tokio::time::sleep(Duration::from_mins(21)).await;
        assert_eq!(devices(&bobs), []);
        first.boot();
        let (_alice, _alices) = station(&first, DiscoveryConfig::full(), ALICE).await;
        let back = async { while events.next().await.unwrap().device != ALICE {} };
        soon("her return", back).await;
    });
}

#[test]
fn a_new_network_is_searched_at_once() {
    run(4, async |world| {
        let (home, cafe) = (lan(&world), world.network(Plan::lan(2)));
        let (_alice, _alices) = station(&host(&world, cafe, "alice"), DiscoveryConfig::full(), ALICE).await;
        let bobs_host = world.host("bob");
        let interface = bobs_host.attach(home, Link::delay(Duration::from_millis(1)));
        let (bob, bobs) = station(&bobs_host, DiscoveryConfig::full(), BOB).await;
        tokio::time::sleep(Duration::from_mins(3)).await;
        assert_eq!((devices(&bobs), bob.status()), (vec![], Status::Disconnected));
        bobs_host.roam(interface, cafe);
        soon("alice", bobs.wait_for(ALICE)).await.unwrap();
        soon("being connected", bob.connected()).await.unwrap();
    });
}

#[test]
fn opendht_is_understood_and_answered() {
    run(5, async |world| {
        let lan = lan(&world);
        let (first, other) = (host(&world, lan, "alice"), host(&world, lan, "opendht"));
        let (alice, alices) = station(&first, DiscoveryConfig::full(), ALICE).await;
        let group = SocketAddr::from(OPENDHT_GROUP);
        let listener = other
            .bind_udp(&UdpBind {
                shared: true,
                groups: vec![Group { addr: group.ip(), interface: 2 }],
                ..UdpBind::new((Ipv4Addr::UNSPECIFIED, group.port()).into())
            })
            .unwrap();
        // A query as OpenDHT sends it is answered with one datagram, to the asker alone.
        let before = alices.stats();
        listener.send(&[0xa1, 0x71], group).await.unwrap();
        let mut buf = [0; 512];
        let id = alice.node_id();
        let port = alice.local_addrs().v4.unwrap().port();
        let mut expected = b"\x82\xa3dht\x93\xc4\x14".to_vec();
        expected.extend_from_slice(id.as_bytes());
        expected.extend_from_slice(&[0xcd, (port >> 8) as u8, port as u8, 0, 0xa7]);
        let answer = async {
            loop {
                let received = listener.recv(&mut buf).await.unwrap();
                if received.from.ip() == first.ipv4() && buf[..received.len].starts_with(&expected) {
                    return received.len;
                }
            }
        };
        let len = soon("the answer", answer).await;
        assert!(len < 100, "{len} bytes");
        assert_eq!(alices.stats().answers, before.answers + 1);

        // An announcement as OpenDHT sends it leads to the node.
        let dht = Dht::start(Arc::new(other.clone()), DhtConfig::default(), None).await.unwrap();
        let mut announcement = b"\x81\xa3dht\x93\xc4\x14".to_vec();
        announcement.extend_from_slice(dht.node_id().as_bytes());
        let port = dht.local_addrs().v4.unwrap().port();
        announcement.extend_from_slice(&[0xcd, (port >> 8) as u8, port as u8, 0]);
        listener.send(&announcement, group).await.unwrap();
        soon("being connected", alice.connected()).await.unwrap();
    });
}

#[test]
fn junk_and_floods_are_counted_and_ignored() {
    run(6, async |world| {
        let lan = lan(&world);
        let (_alice, alices) = station(&host(&world, lan, "alice"), DiscoveryConfig::full(), ALICE).await;
        let liar = host(&world, lan, "liar").bind_udp(&UdpBind::any_v4()).unwrap();
        let group = SocketAddr::from(OPENDHT_GROUP);
        let junk: [&[u8]; 6] =
            [b"", b"\xc1", b"\xa1x", b"\x81\xa3dht", b"\x81\xa7towline\x92\xc4\x01a\x00", &[0xdd; 4096]];
        for packet in junk {
            liar.send(packet, group).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(alices.stats().malformed, junk.len() as u64);
        let before = alices.stats();
        for _ in 0..300 {
            liar.send(&[0xa1, 0x71], group).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = alices.stats();
        assert_eq!((after.queries - before.queries, after.answers - before.answers), (16, 2));
        assert_eq!(after.limited - before.limited, 284 + 14);
        assert_eq!(devices(&alices), []);
    });
}

#[tokio::test]
async fn programs_of_one_host_find_each_other_over_real_multicast() {
    let net: Arc<dyn Net> = Arc::new(Os);
    // A port that is free now; nobody else uses it with this group.
    let port = net.bind_udp(&UdpBind::any_v4()).unwrap().local_addr().port();
    let config = DiscoveryConfig::on_loopback(port);
    let start = async |device| {
        let dht = Dht::start(Arc::clone(&net), DhtConfig::on_loopback(), None).await.unwrap();
        let discovery = Discovery::start(Arc::clone(&net), config.clone(), &dht, Some(device)).unwrap();
        (dht, discovery)
    };
    let (alice, alices) = start(ALICE).await;
    let (bob, bobs) = start(BOB).await;
    assert!(alices.stats().links > 0);
    let seen = soon("alice", bobs.wait_for(ALICE)).await.unwrap();
    assert_eq!(seen.address, alice.local_addrs().v4.unwrap());
    soon("bob", alices.wait_for(BOB)).await.unwrap();
    soon("alice being connected", alice.connected()).await.unwrap();
    soon("bob being connected", bob.connected()).await.unwrap();

    let group = SocketAddr::from(([10, 0, 0, 1], 9));
    let config = DiscoveryConfig {
        group_v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
        port: 9,
        mode: DiscoveryMode::Full,
        ..DiscoveryConfig::default()
    };
    assert_eq!(Discovery::start(net, config, &bob, None).err(), Some(DiscoveryError::NotAGroup(group)));
    alice.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}
