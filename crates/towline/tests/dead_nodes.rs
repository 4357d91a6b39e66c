//! Dials in a network where nodes near the keys have died and nobody knows it yet.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Lab, echo, identity, pass, story};
use towline::dht::{Dht, DhtConfig};
use towline_lab::{Host, Link};

/// Nodes of the DHT, and how many of them die at once.
const NODES: usize = 30;
const DEAD: usize = 12;
/// Devices that dial afterwards, one after the other, each from a fresh node.
const DIALS: usize = 12;

/// Hosts of the DHT, each 5 to 20 ms away from the middle.
async fn network(lab: &Lab) -> Vec<(Host, Dht)> {
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let host = lab.world.host(format!("node-{number}"));
        host.attach(lab.internet, Link::delay(Duration::from_millis(5 + number as u64 % 16)));
        let config = DhtConfig::on_port(4222).with_bootstrap(lab.bootstrap.to_string());
        let dht = Dht::start(Arc::new(host.clone()), config, None).await.unwrap();
        dht.connected().await.unwrap();
        nodes.push((host, dht));
    }
    pass(Duration::from_mins(1)).await;
    nodes
}

#[test]
fn dead_nodes_do_not_hold_up_a_dial() {
    for number in 0..=DIALS {
        identity(number);
    }
    let mut times = Vec::new();
    for seed in 1..=3 {
        times.extend(story(seed, async |world| {
            let lab = Lab::new(world).await;
            let nodes = network(&lab).await;
            let bob = lab.node(0).await;
            bob.registered().await;
            tokio::spawn(echo(bob.clone()));
            let mut dialling = Vec::new();
            for number in 1..=DIALS {
                let node = lab.node(number).await;
                node.registered().await;
                dialling.push(node);
            }
            pass(Duration::from_secs(10)).await;
            for (host, _) in nodes.iter().take(DEAD) {
                host.crash();
            }
            let mut times = Vec::new();
            for node in &dialling {
                let start = lab.world.elapsed();
                node.connect(bob.device(), "after a catastrophe").await.unwrap();
                times.push(lab.world.elapsed().saturating_sub(start));
            }
            times
        }));
    }
    times.sort();
    let (median, most) = (times[times.len() / 2], times[times.len() * 95 / 100]);
    println!("{} dials: p50 {median:?}, p95 {most:?}, longest {:?}", times.len(), times.last());
    assert!(median < Duration::from_millis(400) && most < Duration::from_millis(600), "{times:?}");
}
