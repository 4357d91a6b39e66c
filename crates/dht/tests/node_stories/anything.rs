//! Anything may happen, in any order: no panic, no stuck operation, no unbounded growth.

use std::time::Duration;

use proptest::prelude::*;
use towline_dht::Query;
use towline_dht::node::{Config, Event, GetOptions, Node, OpId, PutOptions};

use crate::sim::{Packet, Sim, key, v4_only, value};

#[derive(Debug, Clone)]
enum Step {
    Join { from: usize },
    Die(usize),
    Revive(usize),
    Put { node: usize, key: u8, id: u64, size: usize, permanent: bool },
    Get { node: usize, key: u8, plain: bool },
    Listen { node: usize, key: u8 },
    Cancel(usize),
    Lose(u8),
    Garbage { node: usize, data: Vec<u8> },
    Unreachable { node: usize, other: usize },
    Moved(usize),
    Pass(u16),
    Sleep,
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..12_usize;
    prop_oneof![
        3 => node().prop_map(|from| Step::Join { from }),
        1 => node().prop_map(Step::Die),
        1 => node().prop_map(Step::Revive),
        4 => (node(), 0..4_u8, 0..6_u64, prop_oneof![Just(10), Just(700), Just(20_000)], any::<bool>())
            .prop_map(|(node, key, id, size, permanent)| Step::Put { node, key, id, size, permanent }),
        4 => (node(), 0..4_u8, any::<bool>()).prop_map(|(node, key, plain)| Step::Get { node, key, plain }),
        2 => (node(), 0..4_u8).prop_map(|(node, key)| Step::Listen { node, key }),
        1 => (0..8_usize).prop_map(Step::Cancel),
        1 => (0..40_u8).prop_map(Step::Lose),
        1 => (node(), prop::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(node, data)| Step::Garbage { node, data }),
        1 => (node(), node()).prop_map(|(node, other)| Step::Unreachable { node, other }),
        1 => node().prop_map(Step::Moved),
        5 => (0..5000_u16).prop_map(Step::Pass),
        1 => Just(Step::Sleep),
    ]
}

/// Operations that must end by themselves.
fn finite(sim: &Sim, started: &[(usize, OpId)]) -> Vec<(usize, OpId)> {
    let ended = |&(index, op): &(usize, OpId)| {
        sim.hosts[index].events.iter().any(|(_, event)| match event {
            Event::GetDone { op: it, .. } | Event::PutDone { op: it, .. } => *it == op,
            _ => false,
        })
    };
    started.iter().filter(|it| !ended(it)).copied().collect()
}

fn run(seed: u64, steps: &[Step]) -> u64 {
    let mut sim = Sim::new(seed);
    let mut started = Vec::new();
    let mut all: Vec<(usize, OpId)> = Vec::new();
    sim.grow(3);
    for step in steps {
        let count = sim.hosts.len();
        match step.clone() {
            Step::Join { from } if count < 12 => {
                let config = if count.is_multiple_of(3) { Config::default() } else { v4_only() };
                let index = sim.add(config);
                sim.bootstrap(index, from % count);
            }
            Step::Join { .. } => {}
            Step::Die(node) => sim.hosts[node % count].alive = false,
            Step::Revive(node) => sim.hosts[node % count].alive = true,
            Step::Put { node, key: k, id, size, permanent } => {
                let options =
                    PutOptions { permanent, read_back: id.is_multiple_of(2), ..PutOptions::default() };
                let mut value = value(id, "");
                value.content = towline_dht::Value::new(id, 0, vec![id as u8; size]).content;
                let at = key(&k.to_string());
                let op = sim.with(node % count, |node, now| node.put(now, at, value, options));
                started.push((node % count, op));
                all.push((node % count, op));
            }
            Step::Get { node, key: k, plain } => {
                let options = GetOptions { plain, ..GetOptions::default() };
                let op = sim.with(node % count, |node, now| node.get(now, key(&k.to_string()), options));
                started.push((node % count, op));
                all.push((node % count, op));
            }
            Step::Listen { node, key: k } => {
                let op = sim.listen(node % count, key(&k.to_string()));
                all.push((node % count, op));
            }
            Step::Cancel(nth) => {
                if let Some(&(node, op)) = all.get(nth) {
                    sim.with(node, |node, now| node.cancel(now, op));
                    started.retain(|it| *it != (node, op));
                }
            }
            Step::Lose(percent) => sim.loss = f64::from(percent) / 100.0,
            Step::Garbage { node, data } => {
                let to = sim.hosts[node % count].v4;
                let from = sim.hosts[(node + 1) % count].v4;
                sim.send(Packet { from, to, data });
            }
            Step::Unreachable { node, other } => {
                let to = sim.hosts[other % count].v4;
                let kind = std::io::ErrorKind::HostUnreachable;
                sim.with(node % count, |node, now| node.handle_send_error(now, to, kind));
            }
            Step::Moved(node) => sim.with(node % count, Node::connectivity_changed),
            Step::Pass(ms) => sim.run(Duration::from_millis(ms.into())),
            Step::Sleep => sim.run(Duration::from_mins(21)),
        }
    }
    sim.loss = 0.0;
    for host in &mut sim.hosts {
        host.alive = true;
    }
    for index in 1..sim.hosts.len() {
        sim.bootstrap(index, 0);
    }
    sim.run(Duration::from_mins(3));
    assert_eq!(finite(&sim, &started), [], "operations that never ended");
    for host in &mut sim.hosts {
        let stats = host.node.stats(sim.now);
        assert!(stats.open_requests < 1000 && stats.nodes.v4.known <= 12, "{stats:?}");
    }
    let fresh = key("in the end");
    let last = sim.hosts.len() - 1;
    let op = sim.with(last, |node, now| node.listen(now, fresh, Query::all()));
    sim.run(Duration::from_secs(30));
    sim.put(0, fresh, value(77, "x"));
    sim.run(Duration::from_secs(30));
    if sim.is_connected(0) && sim.is_connected(last) {
        assert_eq!(sim.heard(last, op), [77], "the network works");
    }
    sim.trace
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 5, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_may_happen(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..40)) {
        run(seed, &steps);
    }
}

#[test]
fn and_happens_again_the_same_way() {
    let steps = [
        Step::Join { from: 0 },
        Step::Listen { node: 2, key: 1 },
        Step::Put { node: 1, key: 1, id: 3, size: 700, permanent: true },
        Step::Lose(20),
        Step::Die(0),
        Step::Pass(4000),
        Step::Get { node: 3, key: 1, plain: false },
        Step::Sleep,
    ];
    assert_eq!(run(5, &steps), run(5, &steps));
}
