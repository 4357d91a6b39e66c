//! Who is remembered: whoever can be reached, and nobody else.

use std::net::SocketAddr;

use towline_dht::node::{Mode, Reachability};
use towline_dht::{Body, Message, Reply, Request};

use crate::sim::{Sim, key, secs, v4_only, value};

/// Nodes in networks of their own on the internet, the first of which all start from.
fn world(seed: u64, count: u8) -> Sim {
    let mut sim = Sim::new(seed);
    for number in 0..count {
        let index = add(&mut sim, number);
        if number > 0 {
            sim.bootstrap(index, 0);
        }
    }
    sim
}

fn add(sim: &mut Sim, number: u8) -> usize {
    let v4 = SocketAddr::from(([45, number, 0, 1], 4222));
    let v6 = SocketAddr::from(([0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 1], 4222));
    sim.add_at(v4_only(), v4, v6)
}

fn reachability(sim: &Sim, index: usize) -> Reachability {
    sim.hosts[index].node.reachability().v4
}

fn known(sim: &Sim, index: usize) -> usize {
    sim.hosts[index].node.stats(sim.now).nodes.v4.known
}

#[test]
fn nodes_with_their_own_addresses_serve_at_once() {
    let mut sim = world(1, 8);
    sim.run(secs(60));
    for index in 0..8 {
        assert!(reachability(&sim, index).is_reachable(), "{:?}", reachability(&sim, index));
        assert_eq!(known(&sim, index), 7);
    }
    assert_eq!(reachability(&sim, 0), Reachability::Proved, "all came to it by themselves");
}

#[test]
fn a_node_behind_a_nat_is_not_remembered_until_strangers_come() {
    let mut sim = world(2, 8);
    let inside = add(&mut sim, 8);
    sim.with(inside, |node, now| node.set_local_addresses(now, ["192.168.0.2".parse().unwrap()]));
    sim.bootstrap(inside, 0);
    sim.run(secs(60));
    assert_eq!(reachability(&sim, inside), Reachability::Translated);
    assert!(sim.is_connected(inside));
    assert!((0..8).all(|index| known(&sim, index) == 7));
    assert!(sim.put(inside, key("from inside"), value(1, "x")).ok);
    assert_eq!(sim.get(3, key("from inside")).values.len(), 1);

    // Its owner opens the port, and tells somebody.
    let newcomer = add(&mut sim, 9);
    let (id, address) = (sim.hosts[inside].node.id(), sim.hosts[inside].v4);
    sim.with(newcomer, |node, now| node.insert_node(now, id, address));
    sim.run(secs(5));
    assert_eq!(reachability(&sim, inside), Reachability::Proved);
    assert!(sim.is_connected(newcomer), "it serves from now on");
    sim.run(secs(600));
    assert!(known(&sim, 3) > 8);
}

#[test]
fn a_node_that_turns_out_to_be_behind_a_nat_is_forgotten() {
    let mut sim = world(3, 12);
    sim.run(secs(60));
    sim.with(5, |node, now| {
        node.set_local_addresses(now, ["192.168.0.2".parse().unwrap()]);
        node.connectivity_changed(now);
    });
    // It proved that strangers reach it, before: that counts no more.
    sim.run(secs(1200));
    assert_eq!(reachability(&sim, 5), Reachability::Translated);
    for (writer, nodes) in [(1, 8), (5, 9), (9, 9)] {
        let name = key(&format!("of {writer}"));
        let stored = sim.put(writer, name, value(1, "x"));
        assert_eq!(stored.nodes, nodes, "the eight nearest, and one beside them that everybody reaches");
        assert!(writer == 5 || !sim.holders(name, 1).contains(&5), "{:?}", sim.holders(name, 1));
    }
}

#[test]
fn who_only_asks_is_not_remembered_for_having_another_id() {
    let mut sim = world(6, 2);
    sim.run(secs(60));
    // A node that was restarted has the address of before, and is asked under the id of before.
    let address = SocketAddr::from(([45, 9, 0, 1], 4222));
    sim.with(0, |node, now| node.insert_node(now, key("before"), address));
    sim.run(secs(1));
    let (before, unexpected) = (known(&sim, 0), sim.hosts[0].node.stats(sim.now).unexpected);
    let (_, ping) = sim.stray.pop().expect("it is asked");
    let transaction = towline_dht::Message::decode(&ping.data).expect("ours decode").transaction;
    let body = towline_dht::Body::Reply { sender: key("after"), reply: towline_dht::Reply::default() };
    let answer = towline_dht::Message { transaction, network: 0, client: true, body }.encode();
    sim.with(0, |node, now| node.handle_datagram(now, address, &answer));
    assert_eq!(sim.hosts[0].node.stats(sim.now).unexpected, unexpected + 1);
    assert_eq!(known(&sim, 0), before);
}

#[test]
fn a_forged_flag_removes_nobody() {
    let mut sim = world(4, 6);
    sim.run(secs(60));
    let before = sim.hosts[0].node.stats(sim.now).nodes.v4.good;
    let (victim, from) = (sim.hosts[3].node.id(), sim.hosts[3].v4);
    let body = towline_dht::Body::Request { sender: victim, request: towline_dht::Request::Ping };
    let forged = towline_dht::Message { transaction: 7, network: 0, client: true, body };
    let data = forged.encode();
    sim.with(0, |node, now| node.handle_datagram(now, from, &data));
    sim.run(secs(10));
    assert_eq!(sim.hosts[0].node.stats(sim.now).nodes.v4.good, before, "it was asked, and said otherwise");
}

#[test]
fn who_is_listened_at_speaks_for_nobody_else() {
    let mut sim = world(7, 6);
    sim.run(secs(60));
    sim.log = Some(Vec::new());
    sim.listen(0, key("watched"));
    sim.run(secs(2));
    // Whoever is asked for a listen knows its socket id, and can write any source on a datagram.
    let sent = sim.log.take().expect("it was started");
    let asked = sent.iter().find_map(|(_, packet)| match Message::decode(&packet.data).ok()?.body {
        Body::Request { request: Request::Listen { socket, .. }, .. } => Some((packet.to, socket)),
        _ => None,
    });
    let (liar, socket) = asked.expect("somebody is listened at");
    let victim = (1..6).find(|index| sim.hosts[*index].v4 != liar).expect("there are five");
    let (id, from) = (sim.hosts[victim].node.id(), sim.hosts[victim].v4);
    let body = Body::Reply { sender: id, reply: Reply::default() };
    let forged = Message { transaction: socket, network: 0, client: true, body }.encode();
    let before = sim.hosts[0].node.stats(sim.now);
    sim.with(0, |node, now| node.handle_datagram(now, from, &forged));
    assert_eq!(sim.hosts[0].node.stats(sim.now).nodes.v4.good, before.nodes.v4.good, "it was not asked");
    assert_eq!(sim.hosts[0].node.stats(sim.now).unexpected, before.unexpected + 1);
}

#[test]
fn a_mode_that_is_set_holds_whatever_the_evidence() {
    let mut sim = world(5, 4);
    for (number, mode) in [(4, Mode::Full), (5, Mode::Client)] {
        let v4 = SocketAddr::from(([45, number, 0, 1], 4222));
        let v6 = SocketAddr::from(([0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 1], 4222));
        let index = sim.add_at(towline_dht::node::Config { mode, ..v4_only() }, v4, v6);
        sim.with(index, |node, now| node.set_local_addresses(now, ["192.168.0.2".parse().unwrap()]));
        sim.bootstrap(index, 0);
    }
    sim.run(secs(120));
    assert_eq!(known(&sim, 1), 4, "the one that serves, but not the one that only asks");
}
