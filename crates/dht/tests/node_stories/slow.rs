//! Nodes that are dead or slow, and searches that go on without them (`dht.md` 2.7).

use std::net::SocketAddr;
use std::time::Duration;

use towline_dht::node::{Config, PutOptions};
use towline_dht::{InfoHash, Request};

use crate::sim::{Sim, key, ms, secs, v4_only, value};

/// A network whose nodes nearest to `target`, `near` of them, are dead, and nobody has noticed; the others are alive.
fn with_dead(seed: u64, alive: usize, near: u32, target: InfoHash) -> Sim {
    let mut sim = Sim::new(seed);
    sim.grow(alive);
    let first = sim.hosts.len();
    for n in 0..near {
        let id = target.with_bit(159 - n, !target.bit(159 - n));
        let index = sim.add(Config { node_id: Some(id), ..v4_only() });
        sim.bootstrap(index, 0);
    }
    sim.run(Duration::from_mins(1));
    for index in first..sim.hosts.len() {
        sim.hosts[index].alive = false;
    }
    sim
}

/// When, from where, to where.
type Sent = (Duration, SocketAddr, SocketAddr);

/// Three round trips of 40 ms at most, and the way there and back a few times.
const SOON: Duration = ms(400);

#[test]
fn dead_nodes_at_the_key_hold_up_nothing() {
    for near in [1, 2, 4] {
        let target = key("beside the dead");
        let mut sim = with_dead(71, 40, near, target);
        let start = sim.elapsed();
        let listen = sim.listen(7, target);
        let op = sim.with(3, |node, now| node.put(now, target, value(1, "v"), PutOptions::default()));
        let heard = sim.run_until(start + secs(9), |sim| !sim.heard(7, listen).is_empty());
        assert!(heard && sim.elapsed() < start + SOON, "{near}: heard at {:?}, {start:?}", sim.elapsed());
        let put = sim.finish(3, op);
        assert!(put.at < start + SOON && put.nodes == 8, "{near}: {put:?} since {start:?}");
        let start = sim.elapsed();
        let got = sim.get(20, target);
        assert!(got.ok && got.values.len() == 1 && got.nodes >= 8, "{near}: {got:?}");
        assert!(got.at < start + SOON, "{near}: {got:?} since {start:?}");
    }
}

#[test]
fn requests_are_repeated_as_before() {
    let target = key("beside the dead");
    let mut sim = with_dead(72, 40, 1, target);
    let dead = sim.hosts.last().expect("there are forty").v4;
    sim.log = Some(Vec::new());
    let asker = sim.hosts[5].v4;
    sim.get(5, target);
    sim.run(secs(9));
    let find = |request: &Request| matches!(request, Request::Get { .. });
    let sent: Vec<_> =
        sim.requests(find).into_iter().filter(|(_, from, to)| (*from, *to) == (asker, dead)).collect();
    let [first, second, third] = sent.as_slice() else { panic!("{} sends", sent.len()) };
    let wait = |one: &Sent, next: &Sent| next.0.saturating_sub(one.0).as_millis();
    assert!((1000..=1250).contains(&wait(first, second)));
    assert!((2000..=2750).contains(&wait(second, third)));
}

#[test]
fn where_there_are_no_others_a_search_waits_before_it_ends() {
    // Four nodes: the one at the key alone has the value, and takes its time.
    let target = key("at the slow one");
    let mut sim = with_dead(73, 3, 1, target);
    let holder = sim.hosts.len() - 1;
    for index in 0..=holder {
        sim.hosts[index].alive = index == holder;
    }
    sim.with(holder, |node, now| node.put(now, target, value(1, "v"), PutOptions::default()));
    sim.run(secs(20));
    for index in 0..holder {
        sim.hosts[index].alive = true;
    }
    assert_eq!(sim.holders(target, 1), [holder].into());
    sim.slow = Some((sim.hosts[holder].v4, ms(600)));
    let start = sim.elapsed();
    let got = sim.get(1, target);
    assert!(got.ok && got.values.len() == 1, "{got:?}");
    assert!(got.at >= start + ms(600), "{got:?} since {start:?}");
}

#[test]
fn who_was_only_slow_is_stored_at_when_it_answers() {
    // All answers of one node take 300 ms from now on; the others are as quick as ever.
    let target = key("near a slow one");
    let mut sim = with_dead(74, 5, 1, target);
    let slow = sim.hosts.len() - 1;
    sim.hosts[slow].alive = true;
    sim.slow = Some((sim.hosts[slow].v4, ms(300)));
    let start = sim.elapsed();
    let op = sim.with(2, |node, now| node.put(now, target, value(1, "v"), PutOptions::default()));
    let others = sim.run_until(start + SOON, |sim| sim.holders(target, 1).len() >= 5);
    assert!(others && sim.elapsed() < start + ms(300), "the others have it before the slow one answers");
    let put = sim.finish(2, op);
    assert_eq!(put.nodes, 5, "all but ourselves: {put:?}");
    assert!(sim.holders(target, 1).contains(&slow));
}
