//! Joining, putting and getting.

use std::time::Duration;

use towline_dht::node::{Config, Event, GetOptions, Mode, PutOptions, Status};
use towline_dht::{Field, FieldValue, Query, Restriction};

use crate::sim::{Sim, key, ms, secs, v4_only, value};

#[test]
fn networks_of_any_size_converge() {
    for count in [2, 3, 10, 30, 100] {
        let mut sim = Sim::new(count as u64);
        sim.grow(count);
        let all = |sim: &Sim| (0..count).all(|index| sim.is_connected(index));
        assert!(sim.run_until(secs(5), all), "{count} nodes are connected");
        sim.run(secs(120));
        for (index, host) in sim.hosts.iter().enumerate() {
            let known = host.node.stats(sim.now).nodes.v4;
            let least = (count - 1).min(8);
            assert!(known.good >= least, "node {index} of {count} knows {known:?}");
        }
    }
}

#[test]
fn any_node_finds_what_any_node_put() {
    let mut sim = Sim::network(1, 30);
    for putter in [0, 7, 29] {
        let key = key(&format!("from {putter}"));
        let put = sim.put(putter, key, value(5, "hello"));
        assert!(put.ok && put.nodes == 8, "{put:?}");
        for getter in 0..30 {
            let got = sim.get(getter, key);
            assert!(got.ok, "{got:?}");
            assert_eq!(got.values.len(), 1);
            assert_eq!(got.values[0].data(), b"hello");
        }
    }
    let none = sim.get(3, key("nothing here"));
    assert!(none.ok && none.values.is_empty() && none.nodes >= 8);
}

#[test]
fn work_begins_the_moment_a_node_answers() {
    let mut sim = Sim::network(2, 10);
    sim.latency = (Duration::from_millis(1), Duration::from_millis(1));
    sim.put(3, key("x"), value(1, "x"));
    let newcomer = sim.add(v4_only());
    let start = sim.elapsed();
    let op = sim.with(newcomer, |node, now| node.get(now, key("early"), GetOptions::default()));
    let lost = sim.finish(newcomer, op);
    assert!(!lost.ok && lost.at == start, "without a node to ask it fails at once");
    sim.bootstrap(newcomer, 0);
    let op = sim.with(newcomer, |node, now| node.get(now, key("x"), GetOptions::default()));
    let put = sim.with(newcomer, |node, now| node.put(now, key("y"), value(2, "y"), PutOptions::default()));
    let got = sim.finish(newcomer, op);
    assert_eq!(got.values.len(), 1);
    assert!(got.at <= start + Duration::from_millis(12), "{got:?} since {start:?}");
    let put = sim.finish(newcomer, put);
    assert!(put.ok && put.at <= start + Duration::from_millis(15), "{put:?} since {start:?}");
}

#[test]
fn a_large_value_travels_in_parts() {
    let mut sim = Sim::network(3, 12);
    let data: Vec<u8> = (0..60 * 1024_u32).map(|n| (n * 7 % 251) as u8).collect();
    let large = towline_dht::Value::new(9, 0, data.clone());
    let put = sim.put(2, key("large"), large);
    assert!(put.ok && put.nodes == 8, "{put:?}");
    let got = sim.get(11, key("large"));
    assert_eq!(got.values.len(), 1);
    assert_eq!(got.values[0].data(), data);
}

#[test]
fn queries_restrict_and_select() {
    let mut sim = Sim::network(4, 10);
    let here = key("many");
    for id in 1..=20 {
        let user_type = if id % 2 == 0 { "even" } else { "odd" };
        assert!(sim.put(1, here, value(id, "v").with_user_type(user_type)).ok);
    }
    let even = Query::only(Restriction::UserType(b"even".to_vec()));
    let options = GetOptions { query: even.clone(), plain: false };
    let op = sim.with(5, |node, now| node.get(now, here, options));
    let mut ids: Vec<u64> = sim.finish(5, op).values.iter().map(|value| value.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=10).map(|n| 2 * n).collect::<Vec<_>>());

    let plain = GetOptions { query: Query::all(), plain: true };
    let op = sim.with(6, |node, now| node.get(now, here, plain));
    assert_eq!(sim.finish(6, op).values.len(), 20);

    let select = Query { select: vec![Field::Id, Field::UserType], ..even };
    let op = sim.with(7, |node, now| node.query(now, here, select));
    sim.finish(7, op);
    let rows = sim.hosts[7].events.iter().find_map(|(_, event)| match event {
        Event::Fields { op: it, rows } if *it == op => Some(rows.clone()),
        _ => None,
    });
    let rows = rows.expect("somebody answered");
    assert_eq!(rows.fields, [Field::Id, Field::UserType]);
    assert_eq!(rows.rows.len(), 10);
    assert_eq!(rows.rows[0], [FieldValue::Id(2), FieldValue::UserType("even".into())]);
}

#[test]
fn each_value_is_fetched_twice_at_most() {
    let mut sim = Sim::network(5, 20);
    sim.put(1, key("once"), value(1, "v"));
    sim.log = Some(Vec::new());
    assert_eq!(sim.get(15, key("once")).values.len(), 1);
    let by_id = Query::by_id(1);
    let fetches = sim.requests(
        |request| matches!(request, towline_dht::Request::Get { query: Some(query), .. } if *query == by_id),
    );
    assert!((1..=2).contains(&fetches.len()), "{fetches:?}");
}

#[test]
fn a_family_in_which_nobody_answers_keeps_no_put_waiting() {
    let mut sim = Sim::network(9, 4);
    let (v4, nowhere) = (sim.hosts[0].v4, "[fd00::ffff]:4222".parse().unwrap());
    let late = sim.add(Config::default());
    sim.with(late, |node, now| node.bootstrap(now, &[v4, nowhere]));
    // At first it may be that the answer is only slow.
    for (wait, most) in [(secs(0), ms(1500)), (secs(15), ms(200))] {
        sim.run(wait);
        let begun = sim.elapsed();
        let stored = sim.put(late, key("here"), value(1, "soon"));
        assert!(stored.ok && stored.nodes == 4, "{stored:?}");
        assert!(stored.at < begun + most, "{:?} after {begun:?}", stored.at);
    }
    assert_eq!(sim.get(1, key("here")).values.len(), 1);
}

#[test]
fn ipv6_works_alone_and_beside_ipv4() {
    let mut sim = Sim::new(6);
    let first = sim.add(Config { ipv4: false, ..Config::default() });
    let v6 = sim.hosts[first].v6;
    for index in 1..12 {
        let config = if index < 6 { Config { ipv4: false, ..Config::default() } } else { Config::default() };
        sim.add(config);
        sim.with(index, |node, now| node.bootstrap(now, &[v6]));
    }
    let v4 = sim.hosts[6].v4;
    for index in 7..12 {
        sim.with(index, |node, now| node.bootstrap(now, &[v4]));
    }
    sim.run(secs(60));
    let status = sim.hosts[11].node.status();
    assert_eq!((status.v4, status.v6), (Status::Connected, Status::Connected));
    assert!(sim.put(2, key("six"), value(1, "over six")).ok);
    for getter in 0..12 {
        assert_eq!(sim.get(getter, key("six")).values.len(), 1, "node {getter}");
    }
    assert!(sim.hosts[2].node.public_addresses().contains(&sim.hosts[2].v6.ip()));
}

#[test]
fn networks_do_not_mix() {
    let mut sim = Sim::network(7, 5);
    let stranger = sim.add(Config { network: 9, ..v4_only() });
    sim.bootstrap(stranger, 0);
    sim.run(secs(30));
    assert!(!sim.is_connected(stranger));
    assert!(sim.hosts[0].node.stats(sim.now).foreign > 0);
    assert_eq!(sim.hosts[0].node.stats(sim.now).nodes.v4.known, 4);
}

#[test]
fn a_client_is_served_but_never_named() {
    let mut sim = Sim::network(8, 10);
    let client = sim.add(Config { mode: Mode::Client, ..v4_only() });
    sim.log = Some(Vec::new());
    sim.bootstrap(client, 0);
    sim.run(secs(300));
    assert!(sim.is_connected(client));
    assert!(sim.put(client, key("from client"), value(1, "c")).ok);
    assert_eq!(sim.get(4, key("from client")).values.len(), 1);
    let op = sim.listen(client, key("to client"));
    sim.run(secs(2));
    sim.put(3, key("to client"), value(2, "d"));
    sim.run(secs(2));
    assert_eq!(sim.heard(client, op), [2]);
    let (id, address) = (sim.hosts[client].node.id(), sim.hosts[client].v4);
    let between_others =
        sim.log.as_ref().unwrap().iter().filter(|(_, it)| it.from != address && it.to != address);
    for (_, packet) in between_others {
        assert!(!packet.data.windows(20).any(|bytes| bytes == id.as_bytes()), "it was named");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let story = |seed| {
        let mut sim = Sim::network(seed, 25);
        sim.loss = 0.05;
        let op = sim.listen(3, key("same"));
        sim.put(7, key("same"), value(1, "a"));
        sim.get(9, key("same"));
        sim.hosts[5].alive = false;
        sim.run(secs(900));
        (sim.trace, sim.heard(3, op))
    };
    assert_eq!(story(11), story(11));
    assert_ne!(story(11).0, story(12).0);
}
