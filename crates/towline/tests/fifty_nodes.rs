//! Fifty whole nodes bootstrap from one, find and dial each other; the same seed gives the same trace.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::{Duration, Instant};

use common::{Lab, bytes, echo, exchange, sibling};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use towline::{ConnectionPolicy, Node};
use towline_lab::{Link, Options};

const NODES: usize = 50;
/// Devices that each of them dials.
const DIALS: usize = 3;

/// What a run looks like from outside.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    hash: u64,
    packets: u64,
    took: Duration,
    connections: usize,
}

/// Every node joins at a moment and on a line of its own, then dials three others and has bytes sent back.
fn run(seed: u64, count: usize) -> Outcome {
    let options = Options { limit: Duration::from_mins(15), timeline: 0, ..Options::new(seed) };
    let outcome = options.run(async |world| {
        let lab = Lab::new(world).await;
        let mut chance = StdRng::seed_from_u64(seed);
        let starting = (0..count).map(|number| {
            let host = lab.world.host(format!("device-{number}"));
            let latency = Duration::from_millis(chance.random_range(2..40));
            host.attach(lab.internet, Link { jitter: Duration::from_millis(2), ..Link::delay(latency) });
            let pause = Duration::from_millis(chance.random_range(0..5_000));
            let config = lab.config().with_policy(ConnectionPolicy::OwnAccount);
            let lab = &lab;
            async move {
                tokio::time::sleep(pause).await;
                lab.node_on(&host, sibling(number), config).await
            }
        });
        let nodes = join_all(starting).await;
        join_all(nodes.iter().map(Node::registered)).await;
        for node in &nodes {
            tokio::spawn(echo(node.clone()));
        }
        let dialling =
            (0..count).flat_map(|from| (1..=DIALS).map(move |step| (from, (from + step * 7) % count)));
        let dialling = dialling.map(|(from, to)| {
            let (from_node, to_node) = (nodes[from].clone(), nodes[to].device());
            let pause = Duration::from_millis(chance.random_range(0..10_000));
            async move {
                tokio::time::sleep(pause).await;
                let name = format!("{from} to {to}");
                let mut channel =
                    from_node.connect(to_node, &name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
                let sent = bytes(from * count + to, 20_000);
                assert!(exchange(&mut channel, &sent).await.unwrap() == sent, "{name}");
            }
        });
        join_all(dialling).await;
        let connections: usize = nodes.iter().map(|node| node.established().len()).sum();
        join_all(nodes.iter().map(Node::shutdown)).await;
        let trace = lab.world.trace();
        Outcome { hash: trace.hash(), packets: trace.sent(), took: lab.world.elapsed(), connections }
    });
    outcome.unwrap()
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for number in 0..NODES {
        sibling(number);
    }
    let begun = Instant::now();
    let first = run(1, NODES);
    println!("{NODES} nodes: {first:?}, computed in {:?}", begun.elapsed());
    assert_eq!(first.connections, 2 * NODES * DIALS);
    let begun = Instant::now();
    assert_eq!(run(1, NODES), first);
    println!("again: computed in {:?}", begun.elapsed());
}

#[test]
fn another_seed_gives_another_trace() {
    let few = 10;
    let (one, other) = (run(1, few), run(2, few));
    assert_ne!(one.hash, other.hash);
    assert_ne!(one.took, other.took);
    // With step 7 among ten nobody is dialled by whom it dials.
    assert_eq!((one.connections, other.connections), (2 * few * DIALS, 2 * few * DIALS));
}
