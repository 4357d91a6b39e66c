//! No input makes a decoder panic, and what we write is what we read.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::{bytes, load};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use towline_dht::discovery::Packet;
use towline_dht::fragment::{Assembler, AssemblerLimits, datagrams};
use towline_dht::message::FieldRows;
use towline_dht::persist::State;
use towline_dht::{
    Body, Field, InfoHash, Message, NodeEntry, Part, Query, Reply, Request, Restriction, Token, Value,
    ValueItem, Want,
};

fn decode_all(input: &[u8]) {
    if let Ok(message) = Message::decode(input) {
        let written = message.encode();
        let again = Message::decode(&written);
        if let Ok(again) = again {
            assert_eq!(again.encode(), written, "writing is stable");
        }
    }
    if let Ok(value) = Value::unpack(input) {
        assert_eq!(value.pack().len(), value.packed_size());
    }
    if let Ok(query) = Query::decode(input) {
        assert_eq!(Query::decode(&query.encode()), Ok(query));
    }
    if let Ok(state) = State::decode(input) {
        State::decode(&state.encode()).unwrap();
    }
    if let Ok(packet) = Packet::decode(input) {
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }
}

fn samples() -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    for text in [include_str!("vectors/wire-2.4.12.json"), include_str!("vectors/wire-4.4.2.json")] {
        samples.extend(load(text)["packets"].as_array().unwrap().iter().map(|it| bytes(&it["hex"])));
    }
    for value in load(include_str!("vectors/values.json"))["values"].as_array().unwrap() {
        samples.push(bytes(&value["packed"]));
    }
    samples.push(bytes(&load(include_str!("vectors/persist.json"))["hex"]));
    samples.push(bytes(&load(include_str!("vectors/discovery.json"))["packets"][1]["hex"]));
    samples
}

fn id() -> impl Strategy<Value = InfoHash> {
    any::<[u8; 20]>().prop_map(|bytes| InfoHash(bytes).with_bit(0, true))
}

fn token() -> impl Strategy<Value = Option<Token>> {
    vec(any::<u8>(), 0..=64).prop_map(Token::new)
}

fn value() -> impl Strategy<Value = Value> {
    let plain = (any::<u16>(), vec(any::<u8>(), 0..3000), "[a-z/]{0,12}")
        .prop_map(|(value_type, data, user_type)| Value::new(0, value_type, data).with_user_type(user_type));
    let sealed = vec(any::<u8>(), 0..3000).prop_map(|cypher| {
        let content = towline_dht::value::Content::Encrypted(cypher);
        Value { content, ..Value::new(0, 0, []) }
    });
    (any::<u64>(), prop_oneof![plain, sealed], any::<u32>(), "[a-z]{0,9}")
        .prop_map(|(id, value, priority, push_type)| Value { id, priority, push_type, ..value })
}

fn items() -> impl Strategy<Value = Vec<ValueItem>> {
    vec(value().prop_map(|value| ValueItem::Inline(Arc::new(value))), 1..4)
}

fn query() -> impl Strategy<Value = Query> {
    let restriction = prop_oneof![
        any::<u64>().prop_map(Restriction::Id),
        any::<u64>().prop_map(Restriction::ValueType),
        id().prop_map(Restriction::Owner),
        vec(any::<u8>(), 0..9).prop_map(Restriction::UserType),
    ];
    (vec(proptest::sample::select(Field::ALL.to_vec()), 0..6), vec(restriction, 0..4))
        .prop_map(|(select, restrictions)| Query { select, restrictions })
}

fn want() -> impl Strategy<Value = Want> {
    any::<(bool, bool)>().prop_map(|(v4, v6)| Want { v4, v6 })
}

fn request() -> impl Strategy<Value = Request> {
    let ids = || vec(any::<u64>(), 0..5);
    prop_oneof![
        Just(Request::Ping),
        (id(), want()).prop_map(|(target, want)| Request::Find { target, want }),
        (id(), option::of(query()), want()).prop_map(|(key, query, want)| Request::Get { key, query, want }),
        (id(), items(), option::of(any::<i64>()), token())
            .prop_map(|(key, values, created, token)| Request::Put { key, values, created, token }),
        (id(), any::<u64>(), token()).prop_map(|(key, value, token)| Request::Refresh { key, value, token }),
        (id(), token(), any::<u32>(), option::of(query()), 0..2_u32).prop_map(
            |(key, token, socket, query, version)| Request::Listen { key, token, socket, query, version }
        ),
        (option::of(id()), any::<u32>(), token(), items(), ids(), ids()).prop_map(
            |(key, socket, token, values, refreshed, expired)| Request::Update {
                key,
                socket,
                token,
                values,
                refreshed,
                expired
            }
        ),
    ]
}

fn nodes(v6: bool) -> impl Strategy<Value = Vec<NodeEntry>> {
    let address = any::<([u8; 4], [u8; 16], u16)>().prop_map(move |(v4, long, port)| -> SocketAddr {
        if v6 { (long, port).into() } else { (v4, port).into() }
    });
    vec((id(), address).prop_map(|(id, address)| NodeEntry { id, address }), 0..9)
}

fn reply() -> impl Strategy<Value = Reply> {
    let rows = (query(), vec(value(), 0..3)).prop_map(|(query, values)| query.rows(&values));
    let rows =
        rows.prop_filter("rows of nothing are not told apart", |rows: &FieldRows| !rows.fields.is_empty());
    let address = prop_oneof![any::<[u8; 4]>().prop_map(Into::into), any::<[u8; 16]>().prop_map(Into::into)];
    let content = (option::of(address), nodes(false), nodes(true), token());
    (content, option::of(items()), option::of(rows), option::of(any::<u64>())).prop_map(
        |((seen_address, nodes4, nodes6, token), values, fields, value_id)| Reply {
            seen_address,
            nodes4,
            nodes6,
            token,
            values: values.unwrap_or_default(),
            fields,
            value_id,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let part = (0..9_usize, 0..70_000_usize, vec(any::<u8>(), 0..1400))
        .prop_map(|(index, offset, data)| Part { index, offset, data });
    let body = prop_oneof![
        (id(), request()).prop_map(|(sender, request)| Body::Request { sender, request }),
        (id(), reply()).prop_map(|(sender, reply)| Body::Reply { sender, reply }),
        (option::of(id()), any::<u16>(), "[a-z ]{0,40}").prop_map(|(sender, code, text)| Body::Error {
            sender,
            code,
            text
        }),
        (id(), token(), vec(any::<u64>(), 0..5), vec(any::<u64>(), 0..5)).prop_map(
            |(sender, token, refreshed, expired)| Body::Notice { sender, token, refreshed, expired }
        ),
        vec(part, 0..3).prop_map(Body::Parts),
    ];
    (any::<u32>(), any::<u32>(), any::<bool>(), body)
        .prop_map(|(transaction, network, client, body)| Message { transaction, network, client, body })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn messages_round_trip(message in message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    /// Whatever the order and however often the datagrams come, the message comes out once and whole.
    #[test]
    fn fragments_round_trip(message in message(), order in any::<u64>(), twice in any::<bool>()) {
        let mut sent = datagrams(&message);
        let fragmented = sent.len() > 1;
        sent.sort_by_key(|datagram| InfoHash::digest([&order.to_be_bytes()[..], datagram].concat()));
        if twice {
            sent = sent.iter().flat_map(|datagram| [datagram.clone(), datagram.clone()]).collect();
        }
        let (now, source) = (std::time::Instant::now(), ([192, 0, 2, 1], 4222).into());
        let mut assembler = Assembler::new(AssemblerLimits::default());
        let mut whole = Vec::new();
        for datagram in &sent {
            let decoded = Message::decode(datagram).unwrap();
            let transaction = decoded.transaction;
            whole.extend(match decoded.body {
                Body::Parts(parts) if fragmented => assembler.handle_parts(now, source, transaction, parts).unwrap(),
                _ => assembler.handle_message(now, source, decoded).unwrap(),
            });
        }
        prop_assert!(whole.iter().all(|it| *it == message));
        prop_assert!(!whole.is_empty());
        prop_assert!(!fragmented || whole.len() == 1);
    }

    #[test]
    fn noise(input in vec(any::<u8>(), 0..600)) {
        decode_all(&input);
    }

    /// Real datagrams with bytes changed, cut out and put in.
    #[test]
    fn damaged(which in any::<prop::sample::Index>(), damage in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6)) {
        let samples = samples();
        let mut input = which.get(&samples).clone();
        for (at, byte, kind) in damage {
            if input.is_empty() {
                break;
            }
            let at = at.index(input.len());
            match kind {
                0 => input[at] = byte,
                1 => { input.remove(at); }
                _ => input.insert(at, byte),
            }
        }
        decode_all(&input);
    }
}

#[test]
fn every_truncation_is_an_error() {
    for sample in samples() {
        for len in 0..sample.len() {
            assert!(Message::decode(&sample[..len]).is_err());
            decode_all(&sample[..len]);
        }
    }
}
