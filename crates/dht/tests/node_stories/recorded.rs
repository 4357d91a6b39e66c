//! Requests that real nodes sent to each other, asked of ours: its answers say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use towline_dht::node::{Config, Node};
use towline_dht::{Body, InfoHash, Message, Reply, Request, Token, ValueItem};

use crate::sim::UNIX;

/// Stands in for one recorded node.
struct StandIn {
    node: Node,
    now: Instant,
    /// The last token we gave to each asker.
    tokens: BTreeMap<SocketAddr, Token>,
    /// Requests of ours that wait for an answer of the asker.
    pushed: Vec<(SocketAddr, Message)>,
}

impl StandIn {
    fn new(now: Instant) -> Self {
        let node = Node::new(Config::default(), now, UNIX, [7; 32]);
        Self { node, now, tokens: BTreeMap::new(), pushed: Vec::new() }
    }

    /// Gives an asker a token: recorded nodes had met before the record begins.
    fn introduce(&mut self, from: SocketAddr, sender: InfoHash) {
        let find = Request::Find { target: sender, want: towline_dht::Want::default() };
        let body = Body::Request { sender, request: find };
        self.ask(from, &Message { transaction: 1, network: 0, client: false, body }.encode());
    }

    /// Hands a recorded datagram in, with the token we would have given, and returns what we answer.
    fn ask(&mut self, from: SocketAddr, data: &[u8]) -> Vec<Message> {
        let mut message = Message::decode(data).expect("a real node sent it");
        let given = self.tokens.get(&from).cloned();
        if let Body::Request {
            request:
                Request::Put { token, .. } | Request::Refresh { token, .. } | Request::Listen { token, .. },
            ..
        } = &mut message.body
        {
            *token = given;
        }
        self.node.handle_datagram(self.now, from, &message.encode());
        self.drain()
    }

    fn drain(&mut self) -> Vec<Message> {
        let mut answers = Vec::new();
        while let Some(transmit) = self.node.poll_transmit() {
            let message = Message::decode(&transmit.payload).expect("ours decode");
            match &message.body {
                Body::Reply { reply, .. } => {
                    if let Some(token) = &reply.token {
                        self.tokens.insert(transmit.to, token.clone());
                    }
                    answers.push(message);
                }
                Body::Error { .. } => answers.push(message),
                Body::Request { .. } => self.pushed.push((transmit.to, message)),
                _ => {}
            }
        }
        answers
    }

    /// The askers answer what we pushed and asked, so that their addresses are proved.
    fn let_them_answer(&mut self, ids: &BTreeMap<SocketAddr, InfoHash>) -> Vec<Message> {
        let mut late = Vec::new();
        for (to, message) in std::mem::take(&mut self.pushed) {
            let Some(&sender) = ids.get(&to) else { continue };
            let body = Body::Reply { sender, reply: Reply { token: Token::new([1]), ..Reply::default() } };
            let answer = Message { transaction: message.transaction, network: 0, client: false, body };
            self.node.handle_datagram(self.now, to, &answer.encode());
            late.extend(self.drain());
        }
        late
    }
}

fn address(port: &Json) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port.as_u64().expect("a port") as u16))
}

fn sender(message: &Message) -> Option<InfoHash> {
    match &message.body {
        Body::Request { sender, .. } | Body::Reply { sender, .. } => Some(*sender),
        _ => None,
    }
}

/// What an answer says that does not depend on who gives it: kind, value id, whether a token and values are there.
#[derive(Debug, PartialEq)]
struct Gist {
    error: Option<u16>,
    value_id: Option<u64>,
    seen: bool,
    fields: Option<Vec<Vec<towline_dht::FieldValue>>>,
    values: usize,
}

fn gist(message: &Message) -> Gist {
    let reply = match &message.body {
        Body::Reply { reply, .. } => reply.clone(),
        Body::Error { code, .. } => {
            return Gist { error: Some(*code), value_id: None, seen: false, fields: None, values: 0 };
        }
        other => panic!("no answer: {other:?}"),
    };
    let announced = |item: &ValueItem| !matches!(item, ValueItem::Malformed);
    Gist {
        error: None,
        value_id: reply.value_id,
        seen: reply.seen_address.is_some(),
        fields: reply.fields.map(|rows| rows.rows),
        values: reply.values.iter().filter(|item| announced(item)).count(),
    }
}

/// Replays what went to one port; returns how many answers were compared.
fn replay(packets: &[(Duration, SocketAddr, SocketAddr, Vec<u8>)], to: SocketAddr) -> usize {
    let start = Instant::now();
    let mut node = StandIn::new(start);
    let mut ids = BTreeMap::new();
    for (_, from, _, data) in packets {
        if let Some(id) = Message::decode(data).ok().as_ref().and_then(sender) {
            ids.insert(*from, id);
        }
    }
    let mut compared = 0;
    for (at, from, _, data) in packets.iter().filter(|(_, from, dst, _)| *dst == to && *from != to) {
        node.now = start + *at;
        node.node.handle_timeout(node.now);
        let Ok(asked) = Message::decode(data) else { continue };
        if !matches!(asked.body, Body::Request { .. } | Body::Parts(_)) {
            continue;
        }
        if !node.tokens.contains_key(from) {
            node.introduce(*from, ids[from]);
            node.let_them_answer(&ids);
        }
        let mut ours = node.ask(*from, data);
        ours.extend(node.let_them_answer(&ids));
        let theirs = packets.iter().find(|(when, src, dst, data)| {
            let answer = || Message::decode(data).ok().filter(|it| it.transaction == asked.transaction);
            (*src, *dst) == (to, *from)
                && *when >= *at
                && answer().is_some_and(|it| matches!(it.body, Body::Reply { .. } | Body::Error { .. }))
        });
        let Some(theirs) = theirs.map(|(.., data)| Message::decode(data).expect("it decoded before")) else {
            continue;
        };
        let Some(ours) = ours.iter().find(|it| it.transaction == asked.transaction) else {
            assert!(
                matches!(asked.body, Body::Parts(_)) || !asked.values().is_empty(),
                "no answer to {asked:?}"
            );
            continue;
        };
        let (ours, theirs) = (gist(ours), gist(&theirs));
        let fixed = |gist: &Gist| (gist.error, gist.value_id, gist.seen);
        assert_eq!(fixed(&ours), fixed(&theirs), "asked {asked:?}");
        // Nodes outside of the record put values there too.
        assert!(ours.values <= theirs.values, "asked {asked:?}");
        let unknown =
            ours.fields.iter().flatten().find(|row| !theirs.fields.iter().flatten().any(|it| it == *row));
        assert_eq!(unknown, None, "asked {asked:?}");
        compared += 1;
    }
    compared
}

fn flows(text: &str) -> usize {
    let file: Json = serde_json::from_str(text).expect("JSON");
    let mut packets = Vec::new();
    let mut base = Duration::ZERO;
    for flow in file["flows"].as_array().expect("flows") {
        let mut last = base;
        for packet in flow["packets"].as_array().expect("packets") {
            let at = base + Duration::from_secs_f64(packet["t_ms"].as_f64().expect("a time") / 1000.0);
            let data = hex::decode(packet["hex"].as_str().expect("hex")).expect("hex");
            last = last.max(at);
            packets.push((at, address(&packet["src"]), address(&packet["dst"]), data));
        }
        base = last + Duration::from_millis(500);
    }
    let mut ports: Vec<SocketAddr> = packets.iter().map(|(_, _, to, _)| *to).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.into_iter().map(|to| replay(&packets, to)).sum()
}

#[test]
fn flows_of_2_4_12() {
    let compared = flows(include_str!("../vectors/flows-2.4.12.json"));
    assert!(compared > 30, "{compared} answers compared");
}

#[test]
fn flows_of_4_4_2() {
    let compared = flows(include_str!("../vectors/flows-4.4.2.json"));
    assert!(compared > 30, "{compared} answers compared");
}

#[test]
fn a_permanent_put_and_its_renewal() {
    let file: Json =
        serde_json::from_str(include_str!("../vectors/flow-permanent-refresh.json")).expect("JSON");
    let mut nodes: BTreeMap<SocketAddr, StandIn> = BTreeMap::new();
    let base = Instant::now();
    let mut holders = BTreeSet::new();
    let (mut stored, mut probed, mut refreshed) = (0, 0, 0);
    for packet in file["packets"].as_array().expect("packets") {
        let (from, to) = (address(&packet["src"]), address(&packet["dst"]));
        let data = hex::decode(packet["hex"].as_str().expect("hex")).expect("hex");
        let asked = Message::decode(&data).expect("it is a message");
        let Body::Request { sender, ref request } = asked.body else { continue };
        let node = nodes.entry(to).or_insert_with(|| StandIn::new(base));
        node.now = base + Duration::from_secs_f64(packet["t_s"].as_f64().expect("a time"));
        node.node.handle_timeout(node.now);
        if !node.tokens.contains_key(&from) {
            node.introduce(from, sender);
        }
        let answers = node.ask(from, &data);
        let answer = answers.iter().find(|it| it.transaction == asked.transaction).expect("an answer");
        let gist = gist(answer);
        match request {
            Request::Put { values, .. } => {
                assert_eq!(gist.value_id, values[0].inline().map(|value| value.id));
                holders.insert(to);
                stored += 1;
            }
            Request::Refresh { value, .. } => {
                assert_eq!(gist.value_id, Some(*value));
                refreshed += 1;
            }
            Request::Get { .. } => {
                assert_eq!(gist.fields.map(|rows| rows.len()), holders.contains(&to).then_some(1));
                probed += 1;
            }
            _ => {}
        }
    }
    assert_eq!((stored, probed, refreshed), (6, 6, 3));
}
