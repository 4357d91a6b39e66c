//! Stories of the native dialect.

mod support;

use std::time::Duration;

use support::Pair;
use towline_mux::{
    ChannelError, ChannelState, Chunk, Class, Code, Config, Dialect, Event, KeepAlive, MAX_BODY, OpenError,
    OpenOptions, PeerFault, Priority, Reason, WriteError,
};

fn reason(text: &str) -> Reason {
    Reason::new(Code::Application(1000), text)
}

#[test]
fn a_channel_lives() {
    let mut pair = Pair::new(Dialect::Native);
    let ours = pair.client.mux.open(pair.now, "file://a", OpenOptions::default()).unwrap();
    pair.client.write(ours, b"hello");
    pair.settle();
    let Some(Event::Requested { id: theirs, name, priority }) = pair.server.event() else { panic!() };
    assert_eq!((&*name, priority, theirs.number()), ("file://a", Priority::default(), 1));
    assert_eq!(pair.server.event(), None, "without `early` nothing leaves before the answer");
    assert_eq!(pair.server.mux.info(theirs).unwrap().state, ChannelState::Pending);
    pair.server.mux.accept(pair.now, theirs).unwrap();
    pair.server.write(theirs, b"welcome");
    pair.settle();
    assert_eq!(pair.client.event(), Some(Event::Accepted { id: ours }));
    assert_eq!(pair.client.event(), Some(Event::Readable { id: ours }));
    assert_eq!(pair.client.read(pair.now, ours), b"welcome");
    assert_eq!(pair.server.event(), Some(Event::Readable { id: theirs }));
    assert_eq!(pair.server.read(pair.now, theirs), b"hello");

    pair.client.write(ours, b"last words");
    pair.client.mux.finish(ours).unwrap();
    assert!(matches!(pair.client.mux.write(ours, Chunk::copy_from(b"x")), Err(WriteError::Ended)));
    pair.settle();
    assert_eq!(pair.server.event(), Some(Event::Readable { id: theirs }));
    assert_eq!(pair.server.event(), Some(Event::Finished { id: theirs }));
    assert_eq!(pair.server.read(pair.now, theirs), b"last words");
    assert_eq!(pair.server.mux.info(theirs).unwrap().state, ChannelState::HalfClosedRemote);

    pair.server.write(theirs, b"still here");
    pair.server.mux.finish(theirs).unwrap();
    pair.settle();
    assert_eq!(pair.server.event(), Some(Event::Closed { id: theirs }));
    assert_eq!(pair.client.event(), Some(Event::Readable { id: ours }));
    assert_eq!(pair.client.event(), Some(Event::Finished { id: ours }));
    assert_eq!(pair.client.event(), Some(Event::Closed { id: ours }));
    assert_eq!(pair.client.read(pair.now, ours), b"still here", "data outlives the channel");
    assert_eq!(pair.client.mux.channels().count() + pair.server.mux.channels().count(), 0);
    assert_eq!(pair.client.mux.finish(ours), Err(ChannelError::Unknown));
}

#[test]
fn large_data_is_split_into_records_and_arrives_whole() {
    let mut pair = Pair::new(Dialect::Native);
    let (ours, theirs) = pair.channel("bulk");
    let data: Vec<u8> = (0..1_000_000_u32).map(|at| (at.wrapping_mul(7919) >> 8) as u8).collect();
    let mut rest = &data[..];
    let mut got = Vec::new();
    while got.len() < data.len() {
        while pair.client.mux.writable(ours) >= MAX_BODY && !rest.is_empty() {
            let chunk = Chunk::copy_from(rest);
            rest = &rest[chunk.len()..];
            pair.client.mux.write(ours, chunk).unwrap();
        }
        pair.settle();
        got.extend(pair.server.read(pair.now, theirs));
    }
    assert!(got == data);
    assert_eq!(pair.server.mux.held(), 0);
}

#[test]
fn early_data_comes_with_the_request() {
    let mut pair = Pair::new(Dialect::Native);
    let ours = pair
        .client
        .mux
        .open(pair.now, "quick", OpenOptions { early: true, ..OpenOptions::default() })
        .unwrap();
    for _ in 0..3 {
        pair.client.write(ours, &[1; 10_000]);
    }
    pair.client.mux.finish(ours).unwrap();
    pair.send();
    pair.now += pair.delay;
    pair.deliver();
    let theirs = pair.server.requested();
    assert_eq!(pair.server.event(), Some(Event::Readable { id: theirs }));
    assert_eq!(pair.server.mux.held(), 16 << 10, "no more than the early window");
    pair.server.mux.accept(pair.now, theirs).unwrap();
    pair.settle();
    assert_eq!(pair.server.read(pair.now, theirs).len(), 30_000);
}

#[test]
fn refused_early_data_is_dropped_and_the_number_comes_free() {
    let mut pair = Pair::new(Dialect::Native);
    let ours = pair
        .client
        .mux
        .open(pair.now, "quick", OpenOptions { early: true, ..OpenOptions::default() })
        .unwrap();
    pair.client.write(ours, &[1; 10_000]);
    pair.settle();
    let theirs = pair.server.requested();
    pair.server.mux.refuse(theirs, reason("not today")).unwrap();
    assert_eq!(pair.server.mux.held(), 0);
    pair.client.write(ours, b"in flight while the refusal is");
    pair.settle();
    assert_eq!(pair.client.event(), Some(Event::Refused { id: ours, reason: reason("not today") }));
    assert_eq!(pair.client.event(), None);
    assert_eq!(pair.client.mux.channels().count() + pair.server.mux.channels().count(), 0);
    assert!(matches!(pair.client.mux.write(ours, Chunk::copy_from(b"x")), Err(WriteError::UnknownChannel)));
}
