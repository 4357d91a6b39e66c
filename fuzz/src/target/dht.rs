//! What reaches the DHT port, the discovery group and the state file.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use towline_dht::discovery::Packet;
use towline_dht::fragment::{Assembler, AssemblerLimits};
use towline_dht::node::{Config, Node};
use towline_dht::persist::State;
use towline_dht::types::{
    DhtMessage, IceCandidates, ImMessage, IpServiceAnnouncement, Payload, TrustRequest,
};
use towline_dht::{Body, Message, Query, Value};

use super::{datagrams, epoch};

/// Keys of every map in the protocol.
pub(super) const KEYS: &[&[u8]] = &[
    b"\xa1a",
    b"\xa1c",
    b"\xa1d",
    b"\xa1e",
    b"\xa1f",
    b"\xa1h",
    b"\xa1i",
    b"\xa1k",
    b"\xa1l",
    b"\xa1n",
    b"\xa1o",
    b"\xa1p",
    b"\xa1q",
    b"\xa1r",
    b"\xa1s",
    b"\xa1t",
    b"\xa1u",
    b"\xa1v",
    b"\xa1w",
    b"\xa1y",
    b"\xa2id",
    b"\xa2n4",
    b"\xa2n6",
    b"\xa2sa",
    b"\xa3seq",
    b"\xa3sig",
    b"\xa3dat",
    b"\xa3vid",
    b"\xa3utv",
    b"\xa3tid",
    b"\xa3exp",
    b"\xa3ree",
    b"\xa4type",
    b"\xa4body",
    b"\xa4data",
    b"\xa2to",
    b"\xa5utype",
    b"\xa5token",
    b"\xa5owner",
    b"\xa5nodes",
    b"\xa6fileds",
    b"\xa6values",
    b"\xa4ping",
    b"\xa4find",
    b"\xa3get",
    b"\xa3put",
    b"\xa6listen",
    b"\xa7refresh",
    b"\xc0",
    b"\xc2",
    b"\xc3",
    b"\xc4\x14",
    b"\xa7service",
    b"\xaeconversationId",
    b"\xa7payload",
    b"\xa7confirm",
    b"\xa9invitedMs",
    b"\xa3msg",
    b"\xa4date",
    b"\xa6status",
    b"\xa8datatype",
    b"\xa9metadatas",
];

/// The text form of queries.
pub(super) const CLAUSES: &[&[u8]] = &[
    b"SELECT ",
    b" WHERE ",
    b"id",
    b"value_type",
    b"owner_pk",
    b"user_type",
    b"seq",
    b"=",
    b",",
    b"\"",
    b"18446744073709551616",
];

/// What we make of a message encodes to one that we make the same of. (The message itself may differ: items
/// that were no values are not written.)
pub(super) fn message(input: &[u8]) {
    if let Ok(message) = Message::decode(input) {
        assert_stable(&message);
    }
}

fn assert_stable(message: &Message) {
    let bytes = message.encode();
    let again = Message::decode(&bytes).expect("our own encoding decodes");
    assert_eq!(again.encode(), bytes);
}

/// Values keep their bytes, since signatures are over them.
pub(super) fn value(input: &[u8]) {
    let Ok(value) = Value::unpack(input) else { return };
    let packed = value.pack();
    assert_eq!(packed.len(), value.packed_size());
    let again = Value::unpack(&packed).expect("our own encoding decodes");
    assert_eq!(again, value);
    let _ = value.check_signature();
    let _ = value.size();
}

/// The data of a value, as whatever a stranger may send: what is read is written, and read to the same again.
pub(super) fn payload(input: &[u8]) {
    fn same<P: Payload + PartialEq + std::fmt::Debug>(input: &[u8]) {
        if let Ok(payload) = P::decode(input) {
            assert_eq!(P::decode(&payload.encode()).as_ref(), Ok(&payload));
        }
    }
    same::<TrustRequest>(input);
    same::<ImMessage>(input);
    same::<DhtMessage>(input);
    same::<IpServiceAnnouncement>(input);
    same::<IceCandidates>(input);
}

/// A decoded query encodes to one that decodes to the same, and can be asked of a value.
pub(super) fn query(input: &[u8]) {
    let Ok(query) = Query::decode(input) else { return };
    let again = Query::decode(&query.encode()).expect("our own encoding decodes");
    assert_eq!(again, query);
    assert!(query.is_satisfied_by(&query));
    let value = Value::new(7, 3, b"data");
    let _ = query.rows([&value]);
}

/// The text that a person writes.
pub(super) fn query_text(input: &[u8]) {
    if let Ok(query) = String::from_utf8_lossy(input).parse::<Query>() {
        let again = Query::decode(&query.encode()).expect("our own encoding decodes");
        assert_eq!(again, query);
    }
}

/// The state file, as a disk or another program leaves it.
pub(super) fn state(input: &[u8]) {
    if let Ok(state) = State::decode(input) {
        let again = State::decode(&state.encode()).expect("our own encoding decodes");
        assert_eq!(again.encode(), state.encode());
    }
}

/// A datagram of the multicast group.
pub(super) fn discovery(input: &[u8]) {
    if let Ok(packet) = Packet::decode(input) {
        let again = Packet::decode(&packet.encode()).expect("our own encoding decodes");
        assert_eq!(again, packet);
    }
}

/// Headers and parts in any order from two sources, then the end of all sessions.
pub(super) fn fragments(input: &[u8]) {
    let mut now = epoch();
    let mut assembler = Assembler::new(AssemblerLimits::default());
    for (index, datagram) in datagrams(input).enumerate() {
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + (index % 2) as u16));
        let Ok(message) = Message::decode(datagram) else { continue };
        let transaction = message.transaction;
        let whole = match message.body {
            Body::Parts(parts) => assembler.handle_parts(now, source, transaction, parts),
            _ => assembler.handle_message(now, source, message),
        };
        if let Ok(Some(message)) = whole {
            assert_stable(&message);
        }
        if let Some(timeout) = assembler.poll_timeout().filter(|_| index % 8 == 7) {
            now = now.max(timeout);
            assembler.handle_timeout(now);
        }
    }
    while let Some(timeout) = assembler.poll_timeout() {
        now = now.max(timeout);
        assembler.handle_timeout(now);
    }
}

/// Datagrams from two sources at the port of a node that has searches and a value of its own under way.
pub(super) fn node(input: &[u8]) {
    let mut now = epoch();
    let mut node = Node::new(Config::default(), now, Duration::from_hours(500_000), [7; 32]);
    for (index, datagram) in datagrams(input).enumerate() {
        let source = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 1000 + (index % 2) as u16));
        node.handle_datagram(now, source, datagram);
        drain(&mut node);
        now += Duration::from_millis(10);
        if let Some(timeout) = node.poll_timeout().filter(|_| index % 4 == 3) {
            now = now.max(timeout);
        }
        if node.poll_timeout().is_some_and(|timeout| timeout <= now) {
            node.handle_timeout(now);
            drain(&mut node);
        }
    }
}

/// One datagram must not make a node send many: nobody shall be flooded through it.
fn drain(node: &mut Node) {
    let mut sent = 0;
    while node.poll_transmit().is_some() {
        sent += 1;
        assert!(sent <= 128, "one datagram made the node send {sent}");
    }
    while node.poll_event().is_some() {}
}
