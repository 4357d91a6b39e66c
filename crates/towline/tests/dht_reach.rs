//! Who serves in the DHT: whoever others can reach, and nobody else.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod dht_common;

use std::sync::Arc;
use std::time::Duration;

use dht_common::soon;
use tokio::time::sleep;
use towline::dht::{Dht, DhtConfig, InfoHash, NodeMode, PutOptions, Query, Reachability, Stats, Value};
use towline_lab::{Host, Link, Network, Place, Plan, World, run};

/// Nodes on the internet in the beginning. The first is where all start from.
const SERVING: usize = 6;
/// Time for nodes to find each other.
const SETTLING: Duration = Duration::from_mins(1);

fn key(name: &str) -> InfoHash {
    InfoHash::digest(name)
}

/// The usual internet, without IPv6.
fn internet(world: &World) -> Network {
    let Plan::Internet { v4, .. } = Plan::internet() else { unreachable!("it is one") };
    world.network(Plan::Internet { v4, v6: None })
}

fn config(start: &[Dht], host: Option<&Host>) -> DhtConfig {
    match (start.first(), host) {
        (Some(_), Some(first)) => DhtConfig::default().with_bootstrap(first.ipv4().to_string()),
        _ => DhtConfig::on_port(DhtConfig::DEFAULT_PORT),
    }
}

/// Nodes with public addresses that start from the first.
async fn serving(world: &World, internet: Network) -> (Host, Vec<Dht>) {
    let (mut first, mut nodes) = (None, Vec::new());
    for number in 0..SERVING {
        let host = world.host(format!("node-{number}"));
        host.attach(internet, Link::delay(Duration::from_millis(10)));
        let config = config(&nodes, first.as_ref());
        nodes.push(Dht::start(Arc::new(host.clone()), config, None).await.unwrap());
        first.get_or_insert(host);
    }
    (first.unwrap(), nodes)
}

async fn device(world: &World, internet: Network, place: Place, first: &Host, mode: NodeMode) -> Dht {
    let site = world.site(&format!("{place} {mode:?}"), internet, place);
    let mut config = DhtConfig::default().with_bootstrap(first.ipv4().to_string());
    config.node.mode = mode;
    let dht = Dht::start(Arc::new(site.host.clone()), config, None).await.unwrap();
    soon("being connected", dht.connected()).await.unwrap();
    dht
}

async fn stats(dht: &Dht) -> Stats {
    dht.stats().await.unwrap()
}

#[test]
fn nodes_behind_nats_only_ask() {
    run(1, async |world| {
        let internet = internet(&world);
        let (first, nodes) = serving(&world, internet).await;
        let places = [
            Place::FullCone,
            Place::RestrictedCone,
            Place::PortRestricted,
            Place::Symmetric,
            Place::DoubleNat,
        ];
        let mut devices = Vec::new();
        for place in places {
            devices.push(device(&world, internet, place, &first, NodeMode::Automatic).await);
        }
        sleep(SETTLING).await;
        for (device, place) in devices.iter().zip(places) {
            assert_eq!(device.reachability().v4, Reachability::Translated, "{place}");
        }
        for node in &nodes {
            assert!(node.reachability().v4.is_reachable(), "{:?}", node.reachability().v4);
            let known = stats(node).await.nodes.v4.known;
            assert_eq!(known, SERVING - 1, "the serving nodes know each other and nobody else");
        }
        // Whatever one of them stores, every other finds.
        for (number, device) in devices.iter().enumerate() {
            let value = Value::new(number as u64 + 1, 0, *b"x");
            device.put(key("all"), value, PutOptions::default()).await.unwrap();
        }
        for device in &devices {
            assert_eq!(stats(device).await.stored_values, 1, "its own");
            assert_eq!(device.get(key("all"), Query::all()).collect().await.unwrap().len(), places.len());
        }
    });
}

#[test]
fn neighbours_without_the_internet_serve_each_other() {
    run(2, async |world| {
        let lan = world.lan();
        let mut nodes: Vec<(Host, Dht)> = Vec::new();
        for name in ["alice", "bob", "carol"] {
            let host = world.host(name);
            host.attach(lan, Link::ethernet());
            let config = match nodes.first() {
                Some((first, _)) => DhtConfig::default().with_bootstrap(first.ipv4().to_string()),
                None => DhtConfig::on_port(DhtConfig::DEFAULT_PORT),
            };
            let dht = Dht::start(Arc::new(host.clone()), config, None).await.unwrap();
            nodes.push((host, dht));
        }
        for (_, dht) in &nodes {
            soon("being connected", dht.connected()).await.unwrap();
        }
        sleep(SETTLING).await;
        for (_, dht) in &nodes {
            assert_eq!(stats(dht).await.nodes.v4.good, 2);
        }
        let outcome =
            nodes[1].1.put(key("lan"), Value::new(1, 0, *b"x"), PutOptions::default()).await.unwrap();
        assert_eq!(outcome.stored_on, 2);
    });
}

#[test]
fn a_device_that_leaves_its_nat_serves_and_comes_back_to_asking() {
    run(3, async |world| {
        let internet = internet(&world);
        let (first, nodes) = serving(&world, internet).await;
        let site = world.site("traveller", internet, Place::PortRestricted);
        let config = DhtConfig::default().with_bootstrap(first.ipv4().to_string());
        let dht = Dht::start(Arc::new(site.host.clone()), config, None).await.unwrap();
        sleep(SETTLING).await;
        assert_eq!(dht.reachability().v4, Reachability::Translated);
        assert_eq!(stats(&nodes[0]).await.nodes.v4.known, SERVING - 1);

        let interfaces = towline::net::Net::interfaces(&site.host).unwrap();
        let inside = interfaces.iter().find(|interface| !interface.loopback).unwrap().index;
        site.host.roam(inside, internet);
        sleep(SETTLING).await;
        assert!(dht.reachability().v4.is_reachable());
        assert_eq!(stats(&nodes[0]).await.nodes.v4.known, SERVING);

        site.host.roam(inside, site.network);
        sleep(SETTLING).await;
        assert_eq!(dht.reachability().v4, Reachability::Translated);
    });
}
