//! Permanent puts: kept alive on whichever nodes are nearest.

use std::time::Duration;

use towline_dht::node::PutOptions;
use towline_dht::{Request, Value};

use crate::sim::{Sim, key, secs, value};

const PERMANENT: PutOptions = PutOptions { permanent: true, created: None, read_back: false };

#[test]
fn is_renewed_ten_seconds_before_it_would_expire() {
    let mut sim = Sim::network(31, 20);
    sim.latency = (Duration::from_millis(1), Duration::from_millis(1));
    let here = key("kept");
    sim.log = Some(Vec::new());
    let put = sim.with(3, |node, now| node.put(now, here, value(1, "a"), PERMANENT));
    let done = sim.finish(3, put);
    assert!(done.ok && done.nodes == 8);
    sim.run(Duration::from_mins(31));

    let puts = sim.requests(|request| matches!(request, Request::Put { .. }));
    assert_eq!(puts.len(), 8, "the value itself travels once");
    let is_probe = |request: &Request| matches!(request, Request::Get { key, query: Some(query), .. } if *key == here && query.select.len() == 2);
    let probes = sim.requests(is_probe);
    let refreshes = sim.requests(|request| matches!(request, Request::Refresh { .. }));
    assert_eq!((probes.len(), refreshes.len()), (24, 24), "three rounds at eight nodes");
    for (at, _, to) in &probes[..8] {
        let put_at = puts.iter().find(|(_, _, other)| other == to).expect("it had the value").0;
        // The life of a value restarts with the acknowledgement: one round trip of 2 ms.
        assert_eq!(at.saturating_sub(put_at), secs(590) + Duration::from_millis(2));
    }
    assert_eq!(sim.holders(here, 1).len(), 9, "eight and ourselves");
    sim.with(3, |node, now| node.cancel_put(now, put));
    assert_eq!(sim.holders(here, 1).len(), 8);
    sim.run(Duration::from_mins(11));
    assert_eq!(sim.holders(here, 1).len(), 0);
}

#[test]
fn follows_the_network_as_nodes_come_and_go() {
    let mut sim = Sim::network(32, 20);
    let here = key("followed");
    sim.with(3, |node, now| node.put(now, here, value(1, "a"), PERMANENT));
    sim.run(secs(10));
    let first = sim.holders(here, 1);
    for &index in first.iter().filter(|&&index| index != 3).take(4) {
        sim.hosts[index].alive = false;
    }
    let before = sim.hosts.len();
    sim.grow_from(3, 30);
    sim.run(Duration::from_mins(25));
    let now = sim.holders(here, 1);
    let ids: Vec<_> = sim.hosts.iter().map(|host| host.node.id()).collect();
    let mut alive: Vec<usize> =
        (0..sim.hosts.len()).filter(|&index| sim.hosts[index].alive && index != 3).collect();
    alive.sort_by(|&a, &b| here.compare_distance(&ids[a], &ids[b]));
    let missing: Vec<_> = alive[..8].iter().filter(|index| !now.contains(index)).collect();
    assert!(missing.is_empty(), "{missing:?} are near and do not have it");
    assert!(alive[..8].iter().any(|&index| index >= before), "newcomers are among them");
    let got = sim.get(before + 5, here);
    assert_eq!(got.values.len(), 1);
}

#[test]
fn a_large_one_is_probed_before_it_travels() {
    let mut sim = Sim::network(33, 12);
    let here = key("large and kept");
    let large = || Value::new(1, 0, vec![7; 30_000]);
    assert!(sim.put(5, here, large()).ok);
    sim.log = Some(Vec::new());
    let put = sim.with(3, |node, now| node.put(now, here, large(), PERMANENT));
    assert!(sim.finish(3, put).ok);
    let puts = sim.requests(|request| matches!(request, Request::Put { .. }));
    assert!(puts.len() <= 1, "they have it: {puts:?}");
}

#[test]
fn waits_for_a_network_and_comes_back_to_it() {
    let mut sim = Sim::new(34);
    sim.grow(1);
    let index = sim.add(crate::sim::v4_only());
    let put = sim.with(index, |node, now| node.put(now, key("patient"), value(1, "a"), PERMANENT));
    assert!(!sim.finish(index, put).ok, "nobody is there");
    sim.bootstrap(index, 0);
    sim.run(secs(2));
    assert_eq!(sim.holders(key("patient"), 1).len(), 2, "it went out by itself");

    // The other node restarts empty: renewal brings the value back.
    sim.hosts[0].alive = false;
    sim.run(secs(900));
    assert!(!sim.is_connected(index));
    sim.hosts[0].alive = true;
    sim.run(secs(1300));
    assert!(sim.is_connected(index));
    assert_eq!(sim.holders(key("patient"), 1).len(), 2);
}

#[test]
fn a_newer_put_takes_the_place_of_an_older() {
    let mut sim = Sim::network(35, 10);
    let first = sim.with(3, |node, now| node.put(now, key("one"), value(1, "a"), PERMANENT));
    let second = sim.with(3, |node, now| node.put(now, key("one"), value(1, "b"), PERMANENT));
    assert!(!sim.finish(3, first).ok, "it was not done yet");
    assert!(sim.finish(3, second).ok);
    assert_eq!(sim.hosts[3].node.stats(sim.now).operations, 1);
}
