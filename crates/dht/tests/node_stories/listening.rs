//! Listening: what comes, changes and goes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use towline_dht::node::{Config, Event, Node, OpId, PutOptions};
use towline_dht::{Query, Request, Restriction, Value, ValueItem};

use crate::faults::Puppet;
use crate::sim::{Sim, key, ms, secs, v4_only, value};

/// The four nearest nodes, and one more that everybody reaches: of three such nodes two are among the four.
const NEAR: usize = 5;

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
    assert_eq!(sim.requests(|request| matches!(request, Request::Listen { .. })).len(), NEAR);
    sim.run(secs(3));
    assert_eq!(sim.requests(|request| matches!(request, Request::Listen { .. })).len(), 2 * NEAR);
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
fn a_node_that_has_moved_is_told_though_nobody_answers_where_it_was() {
    let mut sim = Sim::network(29, 3);
    let op = sim.listen(2, key("followed"));
    sim.run(secs(2));
    sim.readdress(2, "10.9.0.9:4222".parse().expect("an address"));
    sim.with(2, Node::connectivity_changed);
    sim.run(secs(1));
    assert!(sim.put(1, key("followed"), value(1, "a")).ok);
    assert_eq!(sim.heard(2, op), [1]);
    // The same was said to its old address, in vain.
    sim.run(secs(10));
    assert!(sim.put(1, key("followed"), value(2, "b")).ok);
    sim.run(secs(1));
    assert_eq!(sim.heard(2, op), [1, 2]);
}

#[test]
fn a_node_that_has_moved_does_not_wait_for_answers_to_where_it_was() {
    let mut sim = Sim::network(30, 3);
    sim.hosts[2].alive = false;
    let put = |sim: &mut Sim, id| {
        let value = value(id, "v");
        sim.with(1, |node, now| node.put(now, key("moving"), value, PutOptions::default()));
    };
    put(&mut sim, 1);
    // The dead one has been asked twice; a third time is two seconds away.
    sim.run(Duration::from_millis(1500));
    assert!(sim.hosts[0].node.stored(&key("moving"), 1).is_some());
    sim.readdress(1, "10.9.0.9:4222".parse().expect("an address"));
    sim.with(1, Node::connectivity_changed);
    put(&mut sim, 2);
    let stored = |sim: &Sim| sim.hosts[0].node.stored(&key("moving"), 2).is_some();
    assert!(sim.run_until(sim.elapsed() + Duration::from_millis(1500), stored));
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

/// A network in which one of the nodes that node 0 listens at says what the test wants.
struct Deceived {
    sim: Sim,
    liar: Puppet,
    socket: u32,
    op: OpId,
}

impl Deceived {
    fn new(seed: u64) -> Self {
        let (mut sim, mut liar) = (Sim::network(seed, 3), Puppet::new("liar", "10.9.0.1:4222"));
        liar.ask(&mut sim, 0, 1, Request::Ping);
        live(&mut liar, &mut sim, secs(1));
        let op = sim.listen(0, key("disputed"));
        let socket = live(&mut liar, &mut sim, secs(1)).expect("it is listened at");
        Self { sim, liar, socket, op }
    }

    fn run(&mut self, time: Duration) {
        live(&mut self.liar, &mut self.sim, time);
    }

    /// The liar tells node 0 what it has, keeps and has no more.
    fn say(&mut self, values: &[&Value], refreshed: &[u64], expired: &[u64]) {
        let update = Request::Update {
            key: Some(key("disputed")),
            socket: self.socket,
            token: None,
            values: values.iter().map(|value| ValueItem::Inline(Arc::new((*value).clone()))).collect(),
            refreshed: refreshed.to_vec(),
            expired: expired.to_vec(),
        };
        self.liar.ask(&mut self.sim, 0, 2, update);
        self.run(secs(1));
    }

    /// Node 1 puts a value, honestly.
    fn put(&mut self, value: Value) {
        self.sim.with(1, |node, now| node.put(now, key("disputed"), value, PutOptions::default()));
        self.run(secs(1));
    }

    /// What node 0 was told: contents, and ids that are gone.
    fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        for (_, event) in &self.sim.hosts[0].events {
            match event {
                Event::Listened { op, new } if *op == self.op => {
                    told.extend(new.iter().map(|it| String::from_utf8_lossy(it.data()).into_owned()));
                }
                Event::Expired { op, ids } if *op == self.op => {
                    told.extend(ids.iter().map(|id| format!("-{id}")));
                }
                _ => {}
            }
        }
        told
    }
}

/// Lives as an honest node would; the socket id if it is listened at.
fn live(liar: &mut Puppet, sim: &mut Sim, time: Duration) -> Option<u32> {
    let (me, mut listened) = (Puppet::new("liar", "10.9.0.1:4222"), None);
    liar.live(sim, time, |request| {
        if let Request::Listen { socket, .. } = request {
            listened = Some(*socket);
        }
        me.plain_answer(request)
    });
    listened
}

/// As behind a router that has restarted: nothing tells of it but how others answer.
#[test]
fn who_is_seen_elsewhere_listens_anew_at_once() {
    // Answers name another address; at another port, tokens are refused.
    for (seed, moved) in [(34, "10.9.0.9:4222"), (35, "10.0.0.2:5000")] {
        let mut sim = Sim::network(seed, 20);
        let op = sim.listen(2, key("here"));
        sim.put(2, key("there"), value(1, "before"));
        sim.readdress(2, moved.parse().expect("an address"));
        sim.put(1, key("here"), value(2, "told to where it was"));
        assert!(sim.heard(2, op).is_empty());
        sim.put(2, key("there"), value(3, "after"));
        sim.run(secs(2));
        assert_eq!(sim.heard(2, op), [2], "{moved}");
        // What comes next is pushed to where it is.
        sim.put(1, key("here"), value(4, "and more"));
        sim.run(secs(1));
        assert_eq!(sim.heard(2, op), [2, 4], "{moved}");
    }
}

/// Nobody can have it subscribe without end.
#[test]
fn listening_anew_rests_in_between() {
    let mut sim = Sim::network(36, 20);
    sim.listen(2, key("here"));
    sim.run(secs(1));
    sim.log = Some(Vec::new());
    for _ in 0..80 {
        sim.with(2, Node::listen_anew);
        sim.run(ms(100));
    }
    let listens = sim.requests(|request| matches!(request, Request::Listen { .. })).len();
    assert_eq!(listens, 2 * NEAR, "at once and after five seconds");
}

/// A node that lies about our address with each answer goes on for as long as it lives.
#[test]
fn listening_anew_is_rare_in_the_long_run() {
    let mut sim = Sim::network(37, 20);
    sim.listen(2, key("here"));
    sim.run(secs(1));
    sim.log = Some(Vec::new());
    for _ in 0..600 {
        sim.with(2, Node::listen_anew);
        sim.run(secs(1));
    }
    let sockets = RefCell::new(BTreeSet::new());
    sim.requests(
        |request| matches!(request, Request::Listen { socket, .. } if sockets.borrow_mut().insert(*socket)),
    );
    let sockets = sockets.into_inner();
    // Twelve rounds, ten more in ten minutes, and some room for nodes that come to be near meanwhile.
    assert!((48..=110).contains(&sockets.len()), "{} subscriptions", sockets.len());
}

#[test]
fn a_lie_that_comes_first_hides_nothing() {
    let mut here = Deceived::new(29);
    here.say(&[&value(1, "lie")], &[], &[]);
    assert_eq!(here.told(), ["lie"]);
    here.put(value(1, "truth"));
    assert_eq!(here.told(), ["lie", "truth"]);
    // Nor does it matter that the liar then says as everybody does.
    here.say(&[&value(1, "truth")], &[], &[]);
    assert_eq!(here.told(), ["lie", "truth"]);
}

#[test]
fn the_end_of_a_lie_is_not_the_end_of_the_truth() {
    let mut here = Deceived::new(30);
    here.say(&[&value(1, "lie")], &[], &[]);
    here.put(value(1, "truth"));
    here.say(&[], &[], &[1]);
    here.run(Duration::from_mins(9));
    assert_eq!(here.told(), ["lie", "truth"]);
    here.run(Duration::from_mins(2));
    assert_eq!(here.told(), ["lie", "truth", "-1"]);
}

#[test]
fn the_end_of_the_truth_is_not_the_end_of_what_others_say() {
    let mut here = Deceived::new(31);
    here.put(value(1, "truth"));
    here.say(&[&value(1, "lie")], &[], &[]);
    here.run(Duration::from_mins(6));
    here.say(&[], &[1], &[]);
    here.run(Duration::from_mins(6));
    assert_eq!(here.told(), ["truth", "lie"], "the truth is gone, but something is left under the id");
    // What comes again is news.
    here.put(value(1, "truth"));
    assert_eq!(here.told(), ["truth", "lie", "truth"]);
    here.say(&[], &[], &[1]);
    here.run(Duration::from_mins(11));
    assert_eq!(here.told(), ["truth", "lie", "truth", "-1"]);
}

#[test]
fn a_later_version_replaces_only_what_it_is_a_version_of() {
    let version = |by: &str, user_type: &str, seq: u16, text: &str| {
        let mut value = value(1, text).with_user_type(user_type);
        value.sign(&crate::common::key(by), seq).expect("it fits");
        value
    };
    let mut here = Deceived::new(32);
    let [first, second] = [1, 2].map(|seq| version("alice", "list", seq, &format!("list {seq}")));
    here.put(first.clone());
    here.put(second.clone());
    here.say(&[&first], &[], &[]);
    assert_eq!(here.told(), ["list 1", "list 2"], "an old version is not news");
    let mut forged = second.clone();
    if let towline_dht::value::Content::Plain(body) = &mut forged.content {
        body.ownership.as_mut().expect("it was signed").seq = 9;
        body.data = b"forged".to_vec();
    }
    here.say(&[&forged], &[], &[]);
    assert_eq!(here.told(), ["list 1", "list 2"]);
    // What somebody else signed, or she for another purpose, hides no version that comes after it.
    let others = [version("bob", "list", 50, "of bob"), version("alice", "other", 60, "for another purpose")];
    for other in &others {
        here.say(&[other], &[], &[]);
    }
    here.put(version("alice", "list", 3, "list 3"));
    assert_eq!(here.told(), ["list 1", "list 2", "of bob", "for another purpose", "list 3"]);
}
