//! Loss, death, liars and floods.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use towline_dht::node::{Config, GetOptions, PutOptions};
use towline_dht::{Body, InfoHash, Message, NodeEntry, Reply, Request, Token, Value, Want};

use crate::sim::{Packet, Sim, key, secs, v4_only, value};

/// A peer that a test plays itself, at an address where no node is.
pub(crate) struct Puppet {
    pub(crate) id: InfoHash,
    pub(crate) address: SocketAddr,
    seen: usize,
}

impl Puppet {
    pub(crate) fn new(name: &str, address: &str) -> Self {
        Self { id: key(name), address: address.parse().expect("an address"), seen: 0 }
    }

    fn send(&self, sim: &mut Sim, to: usize, transaction: u32, body: Body) {
        let message = Message { transaction, network: 0, client: false, body };
        sim.send(Packet { from: self.address, to: sim.hosts[to].v4, data: message.encode() });
    }

    pub(crate) fn ask(&self, sim: &mut Sim, to: usize, transaction: u32, request: Request) {
        self.send(sim, to, transaction, Body::Request { sender: self.id, request });
    }

    /// The datagrams that came since the last look, with the node that sent them.
    pub(crate) fn inbox(&mut self, sim: &Sim) -> Vec<(usize, Message, usize)> {
        let new = &sim.stray[self.seen..];
        self.seen = sim.stray.len();
        let mine = new.iter().filter(|(_, packet)| packet.to == self.address);
        let host =
            |from: SocketAddr| sim.hosts.iter().position(|host| host.v4 == from).expect("a host sent it");
        mine.map(|(_, it)| (host(it.from), Message::decode(&it.data).expect("ours decode"), it.data.len()))
            .collect()
    }

    /// Lives for a while, answering every request as `answer` says.
    pub(crate) fn live(
        &mut self,
        sim: &mut Sim,
        time: Duration,
        mut answer: impl FnMut(&Request) -> Body,
    ) -> usize {
        let end = sim.elapsed() + time;
        let mut requests = 0;
        while sim.elapsed() < end {
            let count = sim.stray.len();
            sim.run_until(end, |sim| sim.stray.len() > count);
            for (from, message, _) in self.inbox(sim) {
                if let Body::Request { request, .. } = message.body {
                    requests += 1;
                    let body = answer(&request);
                    self.send(sim, from, message.transaction, body);
                }
            }
        }
        requests
    }

    fn reply(&self, reply: Reply) -> Body {
        Body::Reply { sender: self.id, reply }
    }

    /// What an honest node with nothing to tell says.
    pub(crate) fn plain_answer(&self, request: &Request) -> Body {
        let token = match request {
            Request::Find { .. } | Request::Get { .. } => Token::new([1; 32]),
            _ => None,
        };
        let value_id = match request {
            Request::Put { values, .. } => values[0].inline().map(|value| value.id),
            Request::Refresh { value, .. } => Some(*value),
            _ => None,
        };
        self.reply(Reply { token, value_id, ..Reply::default() })
    }

    fn refusal(&self) -> Body {
        Body::Error { sender: Some(self.id), code: 401, text: "no".into() }
    }
}

#[test]
fn works_through_ten_percent_loss() {
    let mut sim = Sim::network(41, 30);
    sim.loss = 0.1;
    let op = sim.listen(20, key("lossy"));
    sim.run(secs(10));
    for round in 1..=5 {
        let put = sim.put(round, key("lossy"), value(round as u64, "v"));
        assert!(put.ok && put.nodes >= 6, "{put:?}");
        let got = sim.get(round + 10, key("lossy"));
        assert_eq!(got.values.len(), round, "{got:?}");
    }
    sim.run(secs(10));
    assert_eq!(sim.heard(20, op), [1, 2, 3, 4, 5]);
    let large = Value::new(9, 0, vec![9; 8_000]);
    assert!(sim.put(3, key("lossy and large"), large).ok);
    assert_eq!(sim.get(22, key("lossy and large")).values.len(), 1);
}

#[test]
fn a_value_outlives_most_of_its_nodes() {
    let mut sim = Sim::network(42, 40);
    sim.put(1, key("tough"), value(1, "v"));
    let mut holders: Vec<usize> = sim.holders(key("tough"), 1).into_iter().filter(|&it| it != 1).collect();
    holders.truncate(7);
    for &index in &holders {
        sim.hosts[index].alive = false;
    }
    sim.hosts[1].alive = false;
    let getter = (2..40).find(|index| sim.hosts[*index].alive).expect("the test made it so");
    let start = sim.elapsed();
    let got = sim.get(getter, key("tough"));
    assert_eq!(got.values.len(), 1);
    assert!(got.at < start + secs(6), "{:?}", got.at.saturating_sub(start));
}

#[test]
fn refused_tokens_cause_no_storm() {
    for (seed, refuses_put) in [(43, true), (44, false)] {
        let mut sim = Sim::network(seed, 3);
        let here = key("stormy");
        let mut liar = Puppet::new("liar", "10.9.0.1:4222");
        liar.ask(&mut sim, 0, 1, Request::Ping);
        liar.ask(&mut sim, 1, 2, Request::Ping);
        let me = Puppet::new("liar", "10.9.0.1:4222");
        liar.live(&mut sim, secs(2), |request| me.plain_answer(request));
        if refuses_put {
            let options = PutOptions { permanent: true, ..PutOptions::default() };
            sim.with(0, |node, now| node.put(now, here, value(1, "v"), options));
        } else {
            sim.listen(0, here);
        }
        let mut refusals = 0;
        let requests = liar.live(&mut sim, Duration::from_mins(5), |request| match request {
            Request::Put { .. } | Request::Listen { .. } => {
                refusals += 1;
                me.refusal()
            }
            other => me.plain_answer(other),
        });
        assert!((2..=4).contains(&refusals), "{refusals} refusals");
        assert!(requests < 60, "{requests} requests in five minutes");
    }
}

#[test]
fn an_address_is_not_hijacked_by_a_packet_with_a_known_id() {
    let mut sim = Sim::network(45, 5);
    let victim = (sim.hosts[3].node.id(), sim.hosts[3].v4);
    let mut thief = Puppet::new("thief", "10.9.0.1:666");
    thief.id = victim.0;
    let me = Puppet { id: victim.0, address: thief.address, seen: 0 };
    let address_of = |sim: &mut Sim| {
        let state = sim.with(0, |node, now| node.export_state(now));
        state.nodes.iter().find(|node| node.id == victim.0).map(|node| node.address)
    };
    for round in 0..3 {
        thief.ask(&mut sim, 0, round, Request::Ping);
        // It even answers pings with the id.
        thief.live(&mut sim, secs(30), |request| me.plain_answer(request));
        assert_eq!(address_of(&mut sim), Some(victim.1));
    }
    // A node that really moved is followed, once its old address is silent.
    sim.hosts[3].alive = false;
    thief.ask(&mut sim, 0, 9, Request::Ping);
    thief.live(&mut sim, secs(30), |request| me.plain_answer(request));
    assert_eq!(address_of(&mut sim), Some(thief.address));
}

#[test]
fn answers_from_elsewhere_are_not_believed() {
    let mut sim = Sim::network(46, 2);
    sim.log = Some(Vec::new());
    let op =
        sim.with(0, |node, now| node.get(now, key("x"), GetOptions { plain: true, ..GetOptions::default() }));
    let sent = sim.log.take().expect("the test made it so");
    let asked = Message::decode(&sent[0].1.data).expect("the test made it so");
    let off_path =
        Puppet { id: sim.hosts[1].node.id(), address: "10.9.0.1:4222".parse().expect("an address"), seen: 0 };
    let fake = std::sync::Arc::new(value(66, "fake"));
    let reply = Reply {
        token: Token::new([1]),
        values: vec![towline_dht::ValueItem::Inline(fake)],
        ..Reply::default()
    };
    let body = off_path.reply(reply);
    let message = Message { transaction: asked.transaction, network: 0, client: false, body };
    let from = off_path.address;
    sim.with(0, |node, now| node.handle_datagram(now, from, &message.encode()));
    assert!(sim.finish(0, op).values.is_empty());
    assert_eq!(sim.hosts[0].node.stats(sim.now).unexpected, 1);
}

#[test]
fn large_answers_wait_for_proof_of_the_address() {
    let mut sim = Sim::network(47, 3);
    let here = key("large");
    assert!(sim.put(1, here, Value::new(1, 0, vec![1; 40_000])).ok);
    let mut asker = Puppet::new("asker", "10.9.0.1:4222");
    let get = || Request::Get { key: here, query: None, want: Want::default() };
    for _ in 0..5 {
        asker.ask(&mut sim, 0, 7, get());
        sim.run(Duration::from_millis(100));
    }
    let drawn = asker.inbox(&sim);
    let bytes: usize = drawn.iter().map(|(_, _, size)| size).sum();
    assert!(bytes < 300, "five requests drew {bytes} bytes");
    let ping = drawn
        .iter()
        .rfind(|(_, message, _)| matches!(message.body, Body::Request { request: Request::Ping, .. }))
        .expect("it is pinged");
    let pong = asker.reply(Reply::default());
    asker.send(&mut sim, 0, ping.1.transaction, pong);
    sim.run(secs(1));
    let drawn = asker.inbox(&sim);
    let parts = drawn.iter().filter(|(_, message, _)| matches!(message.body, Body::Parts(_))).count();
    assert_eq!(
        parts,
        40_000_usize.div_ceil(towline_dht::fragment::PART_BYTES),
        "after the pong it comes at once"
    );
    assert_eq!(drawn.len(), parts + 1, "and once");
}

#[test]
fn who_gives_no_tokens_is_left_alone() {
    let mut sim = Sim::network(48, 3);
    let mut useless = Puppet::new("useless", "10.9.0.1:4222");
    let me = Puppet::new("useless", "10.9.0.1:4222");
    useless.ask(&mut sim, 0, 1, Request::Ping);
    useless.live(&mut sim, secs(1), |_| me.reply(Reply::default()));
    let put = sim.put(0, key("x"), value(1, "v"));
    assert!(put.ok);
    let asked = useless.live(&mut sim, secs(30), |_| me.reply(Reply::default()));
    assert!(asked <= 6, "{asked} requests of three nodes");
}

#[test]
fn garbage_and_floods_leave_the_node_working_and_bounded() {
    let mut sim = Sim::network(49, 8);
    let mut rng = StdRng::seed_from_u64(49);
    let samples: Vec<Vec<u8>> = {
        sim.log = Some(Vec::new());
        sim.put(1, key("a"), value(1, "v"));
        sim.get(2, key("a"));
        sim.log.take().unwrap().into_iter().map(|(_, packet)| packet.data).collect()
    };
    for n in 0..20_000_u32 {
        let from = SocketAddr::from(([1, rng.random(), rng.random(), rng.random()], rng.random()));
        let mut data = match n % 3 {
            0 => (0..rng.random_range(0..200)).map(|_| rng.random()).collect(),
            _ => samples[rng.random_range(0..samples.len())].clone(),
        };
        if n % 3 == 1 && !data.is_empty() {
            let at = rng.random_range(0..data.len());
            data[at] = rng.random();
        }
        if n % 3 == 2 {
            // Well-formed, from ever new nodes that name ever new nodes.
            let id = InfoHash(rng.random());
            let listed = (0..8).map(|_| NodeEntry { id: InfoHash(rng.random()), address: from }).collect();
            let body = if n % 2 == 0 {
                Body::Request { sender: id, request: Request::Find { target: id, want: Want::default() } }
            } else {
                Body::Reply { sender: id, reply: Reply { nodes4: listed, ..Reply::default() } }
            };
            data = Message { transaction: n, network: 0, client: false, body }.encode();
        }
        sim.with(0, |node, now| node.handle_datagram(now, from, &data));
        if n % 100 == 0 {
            sim.run(Duration::from_millis(1));
        }
    }
    let stats = sim.hosts[0].node.stats(sim.now);
    assert!(stats.malformed > 0 && stats.unexpected > 0, "{stats:?}");
    assert!(stats.nodes.v4.known <= 4096 && stats.open_requests <= 8192, "{stats:?}");
    let from = "9.9.9.9:9".parse().expect("an address");
    let id = InfoHash([9; 20]);
    let ping = Message {
        transaction: 1,
        network: 0,
        client: true,
        body: Body::Request { sender: id, request: Request::Ping },
    };
    for _ in 0..3000 {
        sim.with(0, |node, now| node.handle_datagram(now, from, &ping.encode()));
    }
    assert_eq!(sim.hosts[0].node.stats(sim.now).limited, 3000 - 1024);
    sim.run(secs(30));
    assert!(sim.put(0, key("after"), value(1, "v")).ok);
    assert_eq!(sim.get(5, key("after")).values.len(), 1);
    assert_eq!(sim.get(0, key("after")).values.len(), 1);
}

#[test]
fn one_network_cannot_surround_a_node() {
    let mut sim = Sim::new(50);
    for n in 0..20_u8 {
        let v4 = SocketAddr::from(([20, n, 0, 1], 4222));
        let v6 = SocketAddr::from(([0x2001, 0xdb8, u16::from(n), 0, 0, 0, 0, 1], 4222));
        let index = sim.add_at(v4_only(), v4, v6);
        if index > 0 {
            sim.bootstrap(index, 0);
        }
    }
    sim.run(Duration::from_mins(1));
    let target = key("besieged");
    // 40 nodes of one /24, all nearer to the key than any honest node.
    let honest = sim.hosts.len();
    for n in 0..40_u8 {
        let id = (0..16).fold(target, |id, bit| id.with_bit(100 + bit, n & (1 << (bit % 8)) == 0));
        let v4 = SocketAddr::from(([66, 66, 66, n + 1], 4222));
        let v6 = SocketAddr::from(([0x2001, 0xdb8, 0x66, 0, 0, 0, 0, u16::from(n) + 1], 4222));
        let index = sim.add_at(Config { node_id: Some(id), ..v4_only() }, v4, v6);
        sim.bootstrap(index, 0);
    }
    sim.run(Duration::from_mins(2));
    assert!(sim.put(3, target, value(1, "v")).ok);
    let holders = sim.holders(target, 1);
    assert!(holders.iter().filter(|&&index| index < honest).count() >= 6, "{holders:?}");
}

#[test]
fn a_liar_is_seen_by_reading_back() {
    let mut sim = Sim::network(51, 3);
    let here = key("lied about");
    let mut liar = Puppet::new("liar", "10.9.0.1:4222");
    let me = Puppet::new("liar", "10.9.0.1:4222");
    liar.ask(&mut sim, 0, 1, Request::Ping);
    liar.live(&mut sim, secs(1), |request| me.plain_answer(request));
    for (read_back, expected) in [(false, 3), (true, 2)] {
        let options = PutOptions { read_back, ..PutOptions::default() };
        let op = sim.with(0, |node, now| node.put(now, here, value(1, "v"), options));
        liar.live(&mut sim, secs(2), |request| me.plain_answer(request));
        assert_eq!(sim.finish(0, op).nodes, expected);
    }
}

#[test]
fn an_unreachable_address_fails_at_once() {
    let mut sim = Sim::new(52);
    let index = sim.add(v4_only());
    let dead: SocketAddr = "10.9.0.1:1".parse().expect("an address");
    sim.with(index, |node, now| node.bootstrap(now, &[dead]));
    let op = sim.with(index, |node, now| node.get(now, key("x"), GetOptions::default()));
    let start = sim.elapsed();
    sim.with(index, |node, now| node.handle_send_error(now, dead, std::io::ErrorKind::NetworkUnreachable));
    let outcome = sim.finish(index, op);
    assert!(!outcome.ok && outcome.at == start);
}

#[test]
fn islands_find_together() {
    let mut sim = Sim::network(54, 4);
    sim.hosts[0].alive = false;
    // Two that cannot reach where they should start, but meet another newcomer.
    let first = sim.add(v4_only());
    sim.bootstrap(first, 0);
    let second = sim.add(v4_only());
    sim.bootstrap(second, first);
    sim.run(secs(20));
    assert!(sim.is_connected(first) && sim.hosts[first].node.stats(sim.now).nodes.v4.known == 1);
    sim.hosts[0].alive = true;
    sim.run(secs(60));
    assert_eq!(sim.hosts[second].node.stats(sim.now).nodes.v4.good, 5);
}

#[test]
fn bootstrap_is_repeated_after_ten_twenty_forty_seconds() {
    let mut sim = Sim::new(53);
    let index = sim.add(v4_only());
    sim.log = Some(Vec::new());
    let dead: SocketAddr = "10.9.0.1:1".parse().expect("an address");
    sim.with(index, |node, now| node.bootstrap(now, &[dead]));
    sim.run(secs(100));
    let mut transactions = Vec::new();
    let mut rounds = Vec::new();
    for (at, packet) in sim.log.take().unwrap() {
        let message = Message::decode(&packet.data).expect("the test made it so");
        if !transactions.contains(&message.transaction) {
            transactions.push(message.transaction);
            rounds.push(at.as_secs());
        }
    }
    assert_eq!(rounds, [0, 10, 30, 70]);
}

#[test]
fn who_asks_while_nobody_is_known_does_not_wait_for_the_next_round() {
    let mut sim = Sim::new(54);
    sim.grow(2);
    assert!(sim.run_until(secs(5), |sim| sim.is_connected(1)));
    sim.hosts[0].alive = false;
    sim.run(Duration::from_mins(40));
    assert!(!sim.is_connected(1));
    // What is asked while the network is still down is pinged for, too, and keeps nobody waiting once it is up.
    for late in [0, 1, 2, 3] {
        sim.with(1, |node, now| node.get(now, key("still down"), GetOptions::default()));
        sim.run(secs(late));
        sim.hosts[0].alive = true;
        let begun = sim.elapsed();
        let put = sim.put(1, key("back again"), value(1, "x"));
        assert!(put.ok && put.at < begun + secs(2), "{put:?}, begun at {begun:?}");
        sim.hosts[0].alive = false;
        sim.run(Duration::from_mins(40));
        assert!(!sim.is_connected(1));
    }
}
