//! Listening: what comes, changes and goes.

use std::time::Duration;

use towline_dht::node::{Config, Node, PutOptions};
use towline_dht::{Query, Request, Restriction, Value};

use crate::sim::{Sim, key, secs, v4_only, value};

#[test]
fn hears_what_is_there_what_comes_and_what_goes() {
    let mut sim = Sim::network(21, 20);
    let here = key("news");
    sim.put(1, here, value(1, "old"));
    let op = sim.listen(9, here);
    sim.run(secs(2));
    assert_eq!(sim.heard(9, op), [1], "what is there");
    sim.put(2, here, value(2, "new"));
    sim.run(secs(2));
    assert_eq!(sim.heard(9, op), [1, 2], "what comes, once");
    sim.run(Duration::from_mins(5));
    // Putting the same again extends its life.
    sim.put(1, here, value(1, "old"));
    sim.run(Duration::from_mins(5) + secs(20));
    assert_eq!(sim.heard(9, op), [1, 2, -2], "what goes, and not what was refreshed");
    sim.run(Duration::from_mins(6));
    assert_eq!(sim.heard(9, op), [1, 2, -2, -1]);
}

#[test]
fn is_renewed_every_twenty_seconds_at_four_nodes() {
    let mut sim = Sim::network(22, 20);
    sim.log = Some(Vec::new());
    let op = sim.listen(9, key("quiet"));
    sim.run(secs(205));
    let listens = sim.requests(|request| matches!(request, Request::Listen { .. }));
    let mut nodes: Vec<_> = listens.iter().map(|(_, _, to)| *to).collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), 4);
    let first: Vec<Duration> =
        listens.iter().filter(|(_, _, to)| *to == nodes[0]).map(|(at, ..)| *at).collect();
    for pair in first.windows(2) {
        let period = pair[1].saturating_sub(pair[0]);
        assert!(period >= secs(20) && period < secs(21), "{period:?}");
    }
    sim.with(9, |node, now| node.cancel(now, op));
    sim.log = Some(Vec::new());
    sim.run(secs(100));
    assert!(sim.requests(|request| matches!(request, Request::Listen { .. })).is_empty(), "cancelled");
}

#[test]
fn a_stable_node_renews_less_often() {
    let mut sim = Sim::network(23, 10);
    let stable = sim.add(Config { public_stable: true, ..v4_only() });
    sim.bootstrap(stable, 0);
    sim.log = Some(Vec::new());
    sim.listen(stable, key("quiet"));
    sim.run(secs(289));
    assert_eq!(sim.requests(|request| matches!(request, Request::Listen { .. })).len(), 4);
    sim.run(secs(3));
    assert_eq!(sim.requests(|request| matches!(request, Request::Listen { .. })).len(), 8);
}

#[test]
fn hears_only_what_it_asked_for() {
    let mut sim = Sim::network(24, 10);
    let only = Query::only(Restriction::UserType(b"wanted".to_vec()));
    let op = sim.with(4, |node, now| node.listen(now, key("mixed"), only));
    sim.run(secs(1));
    sim.put(5, key("mixed"), value(1, "a").with_user_type("other"));
    sim.put(5, key("mixed"), value(2, "b").with_user_type("wanted"));
    sim.run(secs(1));
    assert_eq!(sim.heard(4, op), [2]);
}

#[test]
fn listens_that_want_the_same_share_the_wire() {
    let mut sim = Sim::network(25, 10);
    sim.put(5, key("shared"), value(1, "a"));
    let first = sim.listen(4, key("shared"));
    sim.run(secs(1));
    sim.log = Some(Vec::new());
    let second = sim.listen(4, key("shared"));
    sim.run(secs(1));
    assert!(sim.requests(|request| matches!(request, Request::Listen { .. })).is_empty());
    assert_eq!(sim.heard(4, second), [1], "it starts with what the first knows");
    sim.put(6, key("shared"), value(2, "b"));
    sim.run(secs(1));
    sim.with(4, |node, now| node.cancel(now, first));
    sim.put(6, key("shared"), value(3, "c"));
    sim.run(secs(1));
    assert_eq!((sim.heard(4, first), sim.heard(4, second)), (vec![1, 2], vec![1, 2, 3]));
}

#[test]
fn hears_a_large_value_and_many_at_once() {
    let mut sim = Sim::network(26, 10);
    let here = key("much");
    for id in 1..=8 {
        assert!(sim.put(5, here, Value::new(id, 0, vec![id as u8; 65_000])).ok);
    }
    let op = sim.listen(4, here);
    sim.run(secs(5));
    let mut heard = sim.heard(4, op);
    heard.sort_unstable();
    assert_eq!(heard, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn survives_the_death_of_its_nodes_and_a_change_of_network() {
    let mut sim = Sim::network(27, 30);
    sim.log = Some(Vec::new());
    let op = sim.listen(9, key("tough"));
    sim.run(secs(2));
    let listens = sim.requests(|request| matches!(request, Request::Listen { .. }));
    let at: Vec<_> = listens.iter().map(|(_, _, to)| *to).collect();
    for host in &mut sim.hosts {
        host.alive &= !at.contains(&host.v4);
    }
    sim.run(secs(60));
    let putter = (0..30).find(|&index| sim.hosts[index].alive && index != 9).expect("26 are alive");
    assert!(sim.put(putter, key("tough"), value(1, "a")).ok);
    sim.run(secs(2));
    assert_eq!(sim.heard(9, op), [1]);

    sim.with(9, Node::connectivity_changed);
    sim.run(secs(10));
    assert!(sim.is_connected(9));
    sim.put(putter, key("tough"), value(2, "b"));
    sim.run(secs(2));
    assert_eq!(sim.heard(9, op), [1, 2]);
}

#[test]
fn hears_what_its_own_node_stores() {
    let mut sim = Sim::new(28);
    let alone = sim.add(v4_only());
    let op = sim.listen(alone, key("local"));
    let put = PutOptions { permanent: true, ..PutOptions::default() };
    let put = sim.with(alone, |node, now| node.put(now, key("local"), value(1, "a"), put));
    assert_eq!(sim.heard(alone, op), [1]);
    sim.with(alone, |node, now| node.cancel_put(now, put));
    assert_eq!(sim.heard(alone, op), [1, -1]);
}
