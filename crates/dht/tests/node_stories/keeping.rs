//! What is kept for others, across restarts, departures and protocol versions.

use std::net::SocketAddr;
use std::time::Duration;

use towline_dht::node::{Config, Event, Node, Status};
use towline_dht::persist::State;
use towline_dht::{Body, Message, Request};

use crate::sim::{Packet, Sim, UNIX, key, secs, v4_only, value};

#[test]
fn a_node_comes_back_from_its_state() {
    let mut sim = Sim::network(61, 10);
    sim.put(1, key("kept"), value(1, "v"));
    let holder = *sim.holders(key("kept"), 1).iter().next_back().expect("somebody has it");
    sim.run(Duration::from_mins(5));
    let state = sim.with(holder, |node, now| node.export_state(now));
    let state = State::decode(&state.encode()).expect("what we write");
    assert!(state.nodes.len() >= 8);

    let config = Config { node_id: Some(state.id), ..v4_only() };
    let unix = UNIX + sim.elapsed();
    sim.hosts[holder].node = Node::new(config, sim.now, unix, [9; 32]);
    sim.with(holder, |node, now| node.import_state(now, &state));
    assert_eq!(sim.hosts[holder].node.id(), state.id);
    sim.run(secs(1));
    assert!(sim.is_connected(holder), "without a bootstrap address");
    assert!(sim.hosts[holder].node.stored(&key("kept"), 1).is_some());
    // The value dies when it would have without the restart.
    sim.run(Duration::from_mins(5));
    assert!(sim.hosts[holder].node.stored(&key("kept"), 1).is_none());
}

#[test]
fn a_node_that_leaves_hands_its_values_over() {
    let mut sim = Sim::new(62);
    sim.grow(2);
    sim.run(secs(5));
    // A type that lives for long: nothing short-lived is worth the way.
    let value = towline_dht::Value::new(1, towline_dht::types::TRUST_REQUEST, b"v".to_vec());
    sim.put(1, key("handed over"), value);
    assert_eq!(sim.holders(key("handed over"), 1), [0, 1].into());
    sim.hosts[1].alive = false;
    sim.grow(3);
    sim.run(secs(30));
    sim.with(0, Node::hand_over);
    assert!(sim.hosts[0].node.is_handing_on());
    sim.run(secs(10));
    assert!(!sim.hosts[0].node.is_handing_on());
    let holders = sim.holders(key("handed over"), 1);
    assert!(!holders.contains(&0) && holders.contains(&3), "{holders:?}");
}

#[test]
fn maintained_storage_moves_to_nearer_nodes() {
    let mut sim = Sim::new(63);
    let keeper = sim.add(Config { maintain_storage: true, ..v4_only() });
    sim.grow(1);
    sim.run(secs(5));
    let value = towline_dht::Value::new(1, towline_dht::types::TRUST_REQUEST, b"v".to_vec());
    sim.put(1, key("moves"), value);
    sim.hosts[1].alive = false;
    sim.grow(40);
    sim.run(Duration::from_mins(31));
    let holders = sim.holders(key("moves"), 1);
    let far = holders.len() >= 8 && !holders.contains(&keeper);
    let near = holders.contains(&keeper) && holders.len() == 2;
    let id = sim.hosts[keeper].node.id();
    let nearer = sim.hosts[2..].iter().filter(|it| key("moves").compare_distance(&it.node.id(), &id).is_lt());
    assert!(if nearer.count() >= 8 { far } else { near }, "{holders:?}");
}

#[test]
fn old_listeners_are_told_in_their_way() {
    let mut sim = Sim::network(64, 2);
    let old: SocketAddr = "10.9.0.1:4222".parse().expect("an address");
    let id = key("old node");
    let send = |sim: &mut Sim, transaction, request| {
        let body = Body::Request { sender: id, request };
        let message = Message { transaction, network: 0, client: true, body };
        sim.send(Packet { from: old, to: sim.hosts[0].v4, data: message.encode() });
        sim.run(secs(1));
        let last = sim.stray.last().expect("it is answered").1.data.clone();
        Message::decode(&last).expect("ours decode")
    };
    let want = towline_dht::Want::default();
    let found = send(&mut sim, 1, Request::Find { target: key("news"), want });
    let Body::Reply { reply, .. } = found.body else { panic!("{found:?}") };
    let listen =
        Request::Listen { key: key("news"), token: reply.token, socket: 77, query: None, version: 0 };
    assert!(matches!(send(&mut sim, 2, listen.clone()).body, Body::Reply { .. }));
    sim.put(1, key("news"), value(5, "v"));
    sim.run(Duration::from_mins(5));
    assert!(matches!(send(&mut sim, 3, listen).body, Body::Reply { .. }));
    sim.run(Duration::from_mins(4));
    let pushed = |sim: &Sim, which: fn(&Body) -> bool| {
        let messages = sim.stray.iter().filter_map(|(_, packet)| Message::decode(&packet.data).ok());
        messages.filter(|message| message.transaction == 77 && which(&message.body)).count()
    };
    let with_values = |body: &Body| matches!(body, Body::Reply { reply, .. } if reply.values.len() == 1);
    assert_eq!(pushed(&sim, with_values), 1);
    sim.run(Duration::from_mins(1));
    assert_eq!(pushed(&sim, |body| matches!(body, Body::Notice { expired, .. } if expired == &[5])), 1);
}

#[test]
fn status_is_told_as_it_changes() {
    let mut sim = Sim::new(65);
    sim.grow(2);
    sim.run(secs(5));
    sim.hosts[0].alive = false;
    sim.run(Duration::from_mins(40));
    let told: Vec<Status> = sim.hosts[1]
        .events
        .iter()
        .filter_map(|(_, event)| if let Event::Status(status) = event { Some(status.v4) } else { None })
        .collect();
    assert_eq!(told[..2], [Status::Connecting, Status::Connected]);
    assert_eq!(told.last(), Some(&Status::Disconnected));
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
    sim.hosts[0].alive = true;
    sim.run(Duration::from_mins(45));
    assert!(sim.is_connected(1), "it kept trying");
}

#[test]
fn operations_and_searches_are_bounded() {
    let mut sim = Sim::network(66, 3);
    let mut config = v4_only();
    config.limits.operations = 10;
    config.limits.searches = 5;
    let index = sim.add(config);
    sim.bootstrap(index, 0);
    sim.run(secs(5));
    let ops: Vec<_> = (0..50).map(|n| sim.listen(index, key(&n.to_string()))).collect();
    let stats = sim.hosts[index].node.stats(sim.now);
    assert_eq!((stats.operations, stats.searches), (10, 5));
    for op in ops {
        sim.with(index, |node, now| node.cancel(now, op));
    }
    // Idle searches make room.
    assert!(sim.put(index, key("later"), value(1, "v")).ok);
    assert_eq!(sim.hosts[index].node.stats(sim.now).searches, 5);
}
