//! What a node answers to strangers that ask it directly.

use std::sync::Arc;

use towline_dht::fragment::datagrams;
use towline_dht::{Body, InfoHash, Message, Reply, Request, Token, Value, ValueItem, Want};

use crate::faults::Puppet;
use crate::sim::{Packet, Sim, key, secs, v4_only, value};

/// A node alone, a stranger, and the token that the node gave it.
fn acquainted(seed: u64) -> (Sim, Puppet, Option<Token>) {
    let mut sim = Sim::new(seed);
    sim.add(v4_only());
    let mut stranger = Puppet::new("stranger", "10.9.0.1:4222");
    stranger.ask(&mut sim, 0, 1, Request::Find { target: key("any"), want: Want::default() });
    let answers = answers(&mut sim, &mut stranger);
    let [(1, Ok(Reply { token: Some(token), .. }))] = &answers[..] else { panic!("{answers:?}") };
    (sim, stranger, Some(token.clone()))
}

/// What was answered since the last look: replies and error codes, by transaction.
fn answers(sim: &mut Sim, stranger: &mut Puppet) -> Vec<(u32, Result<Reply, u16>)> {
    sim.run(secs(1));
    let messages = stranger.inbox(sim).into_iter().map(|(_, message, _)| message);
    messages
        .filter_map(|message| match message.body {
            Body::Reply { reply, .. } => {
                Some((message.transaction, Ok(Reply { seen_address: None, ..reply })))
            }
            Body::Error { code, .. } => Some((message.transaction, Err(code))),
            _ => None,
        })
        .collect()
}

fn echo(value: u64) -> Reply {
    Reply { value_id: Some(value), ..Reply::default() }
}

#[test]
fn a_refresh_finds_the_value_or_is_told_that_there_is_none() {
    let (mut sim, mut stranger, token) = acquainted(61);
    let put = Request::Put {
        key: key("here"),
        values: vec![ValueItem::Inline(Arc::new(value(5, "v")))],
        created: None,
        token: token.clone(),
    };
    stranger.ask(&mut sim, 0, 2, put);
    assert_eq!(answers(&mut sim, &mut stranger), [(2, Ok(echo(5)))]);
    let mut refresh = |key: InfoHash, value: u64, token: &Option<Token>| {
        let token = token.clone();
        stranger.ask(&mut sim, 0, 3, Request::Refresh { key, value, token });
        answers(&mut sim, &mut stranger).remove(0).1
    };
    assert_eq!(refresh(key("here"), 5, &token), Ok(echo(5)));
    assert_eq!(refresh(key("here"), 6, &token), Err(404), "the value is unknown");
    assert_eq!(refresh(key("elsewhere"), 5, &token), Err(404), "the key is unknown");
    assert_eq!(refresh(key("here"), 5, &None), Err(401));
    assert_eq!(refresh(key("here"), 5, &Token::new([7; 32])), Err(401));
}

/// Sends a request whose values travel in parts: its header, and the rest.
fn in_parts(stranger: &Puppet, transaction: u32, request: Request) -> (Packet, Vec<Packet>) {
    let body = Body::Request { sender: stranger.id, request };
    let message = Message { transaction, network: 0, client: false, body };
    let to = "10.0.0.0:4222".parse().expect("the address of the first host");
    let packet = |data| Packet { from: stranger.address, to, data };
    let mut packets: Vec<Packet> = datagrams(&message).into_iter().map(packet).collect();
    let rest = packets.split_off(1);
    assert!(rest.len() > 1);
    (packets.remove(0), rest)
}

#[test]
fn a_header_without_a_valid_token_is_refused_before_its_parts() {
    let (mut sim, mut stranger, token) = acquainted(62);
    let values = vec![ValueItem::Inline(Arc::new(Value::new(5, 0, vec![5; 4000])))];
    let put = |token| Request::Put { key: key("large"), values: values.clone(), created: None, token };
    for wrong in [None, Token::new([7; 32])] {
        let (header, parts) = in_parts(&stranger, 2, put(wrong));
        sim.send(header);
        assert_eq!(answers(&mut sim, &mut stranger), [(2, Err(401))], "at once");
        for part in parts {
            sim.send(part);
        }
        assert_eq!(answers(&mut sim, &mut stranger), []);
    }
    let (header, parts) = in_parts(&stranger, 3, put(token));
    sim.send(header);
    assert_eq!(answers(&mut sim, &mut stranger), [], "it waits for the parts");
    for part in parts {
        sim.send(part);
    }
    assert_eq!(answers(&mut sim, &mut stranger), [(3, Ok(echo(5)))]);
    assert_eq!(sim.hosts[0].node.stats(sim.now).stored_values, 1);
}

#[test]
fn an_update_that_nobody_listens_for_is_acknowledged_and_not_collected() {
    let (mut sim, mut stranger, token) = acquainted(63);
    let update = Request::Update {
        key: Some(key("large")),
        socket: 99,
        token,
        values: vec![ValueItem::Inline(Arc::new(Value::new(5, 0, vec![5; 4000])))],
        refreshed: Vec::new(),
        expired: Vec::new(),
    };
    let (header, _) = in_parts(&stranger, 2, update);
    sim.send(header);
    assert_eq!(answers(&mut sim, &mut stranger), [(2, Ok(Reply::default()))]);
}
