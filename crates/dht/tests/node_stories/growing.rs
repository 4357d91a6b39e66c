//! What is kept near a key follows a network that grows. Who joins there is not told of it, and who keeps it is not told
//! of newcomers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use towline_dht::InfoHash;
use towline_dht::node::{Config, Mode, PutOptions};

use crate::sim::{Sim, key, ms, secs, v4_only, value};

const PERMANENT: PutOptions = PutOptions { permanent: true, created: None, read_back: false };
/// Nodes that are there from the beginning.
const FIRST: usize = 3;
/// Devices that come next, and only ask.
const KEEPERS: usize = 40;
/// Nodes that come last.
const NEWCOMERS: usize = 60;

/// A node in a network of its own, which starts from the first ones.
fn join(sim: &mut Sim, mode: Mode) -> usize {
    let number = u8::try_from(sim.hosts.len()).expect("few hosts");
    let v4 = SocketAddr::from(([45, number, 0, 1], 4222));
    let v6 = SocketAddr::from(([0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 1], 4222));
    let index = sim.add_at(Config { mode, ..v4_only() }, v4, v6);
    for first in 0..FIRST.min(index) {
        sim.bootstrap(index, first);
    }
    sim.run(ms(100));
    index
}

/// A network that begins with a few nodes, where devices do something, and which is many times as large 40 s later.
fn grown(seed: u64, mut begin: impl FnMut(&mut Sim, usize)) -> Sim {
    let mut sim = Sim::new(seed);
    for _ in 0..FIRST {
        join(&mut sim, Mode::Automatic);
    }
    for _ in 0..KEEPERS {
        let keeper = join(&mut sim, Mode::Client);
        begin(&mut sim, keeper);
    }
    for _ in 0..NEWCOMERS {
        join(&mut sim, Mode::Automatic);
    }
    sim.run(secs(30));
    sim
}

fn keepers() -> std::ops::Range<usize> {
    FIRST..FIRST + KEEPERS
}

fn newcomers() -> std::ops::Range<usize> {
    FIRST + KEEPERS..FIRST + KEEPERS + NEWCOMERS
}

/// Where a value belongs.
fn nearest(sim: &Sim, target: InfoHash) -> BTreeSet<usize> {
    let mut serving: Vec<usize> = (0..FIRST).chain(newcomers()).collect();
    let id = |index: usize| sim.hosts[index].node.id();
    serving.sort_by(|&a, &b| target.compare_distance(&id(a), &id(b)));
    serving.into_iter().take(8).collect()
}

#[test]
fn a_value_comes_to_nodes_that_join_near_it() {
    let name = |keeper: usize| key(&format!("of {keeper}"));
    let sim = grown(4, |sim, keeper| {
        sim.with(keeper, |node, now| node.put(now, name(keeper), value(1, "kept"), PERMANENT));
    });
    for keeper in keepers() {
        let holders = sim.holders(name(keeper), 1);
        let missing: Vec<usize> = nearest(&sim, name(keeper)).difference(&holders).copied().collect();
        assert!(missing.is_empty(), "{missing:?} are near {keeper}'s, but {holders:?} have it");
    }
}

#[test]
fn who_listens_does_so_at_nodes_that_join_near_it() {
    let name = |keeper: usize| key(&format!("to {keeper}"));
    let mut listens = Vec::new();
    let mut sim = grown(1, |sim, keeper| listens.push(sim.listen(keeper, name(keeper))));
    for (keeper, listen) in keepers().zip(listens) {
        let writer = newcomers().start + keeper;
        assert!(sim.put(writer, name(keeper), value(1, "said")).ok);
        sim.run(ms(200));
        assert_eq!(sim.heard(keeper, listen), [1], "{keeper} did not hear it at once");
    }
}
