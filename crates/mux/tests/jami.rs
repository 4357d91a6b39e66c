//! The Jami dialect: bytes of connection.md sections 6.1 to 6.4, and a story for each rule.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

mod support;

use std::time::Duration;

use support::Pair;
use support::jami::Jami;
use towline_mux::{
    Capabilities, Chunk, Code, Config, Dialect, Event, OpenError, OpenOptions, PeerFault, ProbeError, Reason,
    Side,
};

fn unspecified() -> Reason {
    Code::Unspecified.into()
}

/// The session of section 6.1, both ends.
#[test]
fn the_recorded_session() {
    let name = "6e633a2f2f31302e38382e302e323a37303030";
    let mut server = Jami::new(Side::TlsServer);
    let mut client = Jami::new(Side::TlsClient);
    let ours = server.mux.open(server.now, "nc://10.88.0.2:7000", OpenOptions::default()).unwrap();
    let request = server.sent();
    assert_eq!(request, format!("9200c41993b3{name}cd800000"));
    client.feed(&request);
    let theirs = client.requested();
    client.mux.accept(client.now, theirs).unwrap();
    let accept = client.sent();
    assert_eq!(accept, format!("9200c41993b3{name}cd800001"));
    server.feed(&accept);
    assert_eq!(server.event(), Some(Event::Accepted { id: ours }));
    server.feed("92cdffffc40481a17601");
    server.mux.write(ours, Chunk::copy_from(b"hello\n")).unwrap();
    let data = server.sent();
    assert_eq!(data, "92cd8000c40668656c6c6f0a");
    client.feed(&data);
    assert_eq!(client.event(), Some(Event::Readable { id: theirs }));
    assert_eq!(client.mux.read(theirs).unwrap(), &b"hello\n"[..]);
    client.mux.write(theirs, Chunk::copy_from(b"echo:hello\n")).unwrap();
    assert_eq!(client.sent(), "92cd8000c40b6563686f3a68656c6c6f0a");
    server.mux.finish(ours).unwrap();
    let end = server.sent();
    assert_eq!(end, "92cd8000c400");
    assert_eq!(server.event(), Some(Event::Closed { id: ours }));
    client.feed(&end);
    assert_eq!(client.event(), Some(Event::Finished { id: theirs }));
    assert_eq!(client.event(), Some(Event::Stopped { id: theirs, reason: unspecified() }));
    assert_eq!(client.event(), Some(Event::Closed { id: theirs }));
    assert_eq!(client.sent(), "", "an end is not echoed");
}

/// The table of section 6.3.
#[test]
fn requests_and_answers_as_in_the_table() {
    let mut client = Jami::new(Side::TlsClient);
    client.mux.open(client.now, "nc://127.0.0.1:22", OpenOptions::default()).unwrap();
    assert_eq!(client.sent(), "9200c41593b16e633a2f2f3132372e302e302e313a32320100");
    let mut server = Jami::new(Side::TlsServer);
    server.feed("9200c41593b16e633a2f2f3132372e302e302e313a32320100");
    let id = server.requested();
    server.mux.accept(server.now, id).unwrap();
    assert_eq!(server.sent(), "9200c41593b16e633a2f2f3132372e302e302e313a32320101");
    let mut server = Jami::new(Side::TlsServer);
    server.feed("9200c41593b16e633a2f2f3132372e302e302e313a32320100");
    let id = server.requested();
    server.mux.refuse(id, Code::Declined.into()).unwrap();
    assert_eq!(server.sent(), "9200c41593b16e633a2f2f3132372e302e302e313a32320102");
    server.mux.open(server.now, "sip", OpenOptions::default()).unwrap();
    assert_eq!(server.sent(), "9200c40993a3736970cd800000");
}

#[test]
fn any_split_gives_the_same() {
    let stream = hex::decode(concat!(
        "92cdffffc40481a17601",                       // version
        "9200c40793a378797a0100",                     // request 1 "xyz"
        "9200c41293a378797a020093a378797a03ff93a161", // request 2, decline 3 by an unknown state, broken
        "83a16101c0c2dc0003010203c1"
    ));
    // The last byte is never valid msgpack; all before it must have been understood.
    let stream = stream.unwrap();
    for step in 1..=stream.len() {
        let mut server = Jami::new(Side::TlsServer);
        let mut outcome = Ok(());
        for part in stream.chunks(step) {
            outcome = outcome.and_then(|()| server.mux.handle_data(server.now, part));
        }
        assert_eq!(outcome, Err(PeerFault::BrokenMsgpack(0xc1)), "step {step}");
        assert!(matches!(server.event(), Some(Event::Requested { .. })));
        assert!(matches!(server.event(), Some(Event::Requested { .. })));
        assert_eq!(server.event(), None);
    }
}

#[test]
fn odd_shapes_are_passed_over() {
    let (mut jami, id) = Jami::with_channel();
    for odd in [
        "c0",
        "c3",
        "05",
        "e0",
        "a3616263",
        "93010203",
        "9101",
        "90",
        "80",
        "8101a161",
        "d40102",
        "c70301aabbcc",
        "ca00000000",
        "cb0000000000000000",
        "92a16101",
        "92ff01",
        "92ce00010000c40161",
        "9201c0",
        "920181c0c0",
        "92019201c40161",
        "9200c0",
        "9200c400",
        "c403aabbcc",
        "dd00000002c0c0",
        "92cf0000000100000000c40161",
    ] {
        jami.feed(odd);
    }
    assert_eq!(jami.event(), None);
    // Every way to write an array of two, a channel number and bytes.
    for (hex, text) in [
        ("9201c40161", "a"),
        ("dc000201c40162", "b"),
        ("dd0000000201c40163", "c"),
        ("92cc01c40164", "d"),
        ("92cd0001c40165", "e"),
        ("92ce00000001c40166", "f"),
        ("92cf0000000000000001c40167", "g"),
        ("92d001c40168", "h"),
        ("9201a169", "i"),
        ("9201d9016a", "j"),
        ("9201da00016b", "k"),
        ("9201db000000016c", "l"),
        ("9201c500016d", "m"),
        ("9201c6000000016e", "n"),
    ] {
        jami.feed(hex);
        let read: Vec<u8> = std::iter::from_fn(|| jami.mux.read(id)).flatten().collect();
        assert_eq!(read, text.as_bytes(), "{hex}");
    }
}

#[test]
fn numbers_nobody_may_request_are_declined() {
    let mut server = Jami::new(Side::TlsServer);
    server.feed("9200c40793a378797a0000");
    assert_eq!(server.sent(), "9200c40793a378797a0002");
    server.feed("9200c40993a378797acdffff00");
    assert_eq!(server.sent(), "9200c40993a378797acdffff02");
    assert_eq!(server.event(), None);
    let (mut server, id) = Jami::with_channel();
    server.feed("9200c40793a37a7a7a0100");
    assert_eq!(server.sent(), "9200c40793a37a7a7a0102", "a number in use");
    assert_eq!(server.mux.info(id).unwrap().name, "xyz");
}

#[test]
fn empty_long_and_broken_names_are_declined() {
    let mut server = Jami::new(Side::TlsServer);
    server.feed("9200c40493a00500");
    assert_eq!(server.sent(), "9200c40493a00502");
    server.feed("9200c40593a1ff0500");
    assert_eq!(server.sent(), "9200c40593a1ff0502");
    let name = "61".repeat(65_000);
    server.feed(&format!("9200c5fdee93dafde8{name}0500"));
    assert!(server.sent() == format!("9200c5fdee93dafde8{name}0502"), "in pieces of a record, and whole");
    assert_eq!(server.event(), None);
}

#[test]
fn answers_to_nothing_are_ignored() {
    let mut client = Jami::new(Side::TlsClient);
    client.feed("9200c40793a378797a0901 9200c40793a378797a0902");
    let id = client.mux.open(client.now, "xyz", OpenOptions::default()).unwrap();
    client.sent();
    client.feed("9200c40793a37a7a7a0101");
    assert_eq!(client.event(), None, "another name");
    client.feed("9200c40793a378797a0101");
    assert_eq!(client.event(), Some(Event::Accepted { id }));
    client.feed("9200c40793a378797a0101 9200c40793a378797a0102");
    assert_eq!(client.event(), None, "answered already");
    assert!(client.mux.info(id).is_some());
}

#[test]
fn a_collision_is_retried_with_another_number() {
    let mut client = Jami::new(Side::TlsClient);
    let id = client.mux.open(client.now, "xyz", OpenOptions::default()).unwrap();
    client.sent();
    client.feed("9200c40793a37a7a7a0100");
    assert_eq!(client.sent(), "9200c40793a37a7a7a0102");
    client.feed("9200c40793a378797a0102");
    assert_eq!(client.event(), None, "not a refusal");
    assert_eq!(client.sent(), "9200c40793a378797a0200");
    client.feed("9200c40793a378797a0201");
    assert_eq!(client.event(), Some(Event::Accepted { id }));
    assert_eq!(client.mux.info(id).unwrap().number, 2);
    client.mux.write(id, Chunk::copy_from(b"x")).unwrap();
    assert_eq!(client.sent(), "9202c40178");
}

#[test]
fn a_refusal_without_a_collision_is_final() {
    let mut client = Jami::new(Side::TlsClient);
    let id = client.mux.open(client.now, "xyz", OpenOptions::default()).unwrap();
    client.sent();
    client.feed("9200c40793a378797a0107");
    assert_eq!(client.event(), Some(Event::Refused { id, reason: unspecified() }));
    assert_eq!((client.event(), client.mux.info(id)), (None, None));
}

#[test]
fn what_belongs_to_a_former_channel_is_dropped() {
    let (mut jami, id) = Jami::with_channel();
    jami.feed("9205c40161 9205c400");
    assert_eq!(jami.event(), None, "unknown channel");
    jami.feed("9201c40161 9201c400 9201c40162 9201c400");
    assert_eq!(jami.event(), Some(Event::Readable { id }));
    assert_eq!(jami.event(), Some(Event::Finished { id }));
    assert_eq!(jami.event(), Some(Event::Stopped { id, reason: unspecified() }));
    assert_eq!(jami.event(), Some(Event::Closed { id }));
    assert_eq!(jami.event(), None);
    assert_eq!(jami.mux.read(id).unwrap(), &b"a"[..], "data before the end stays");
    jami.mux.consumed(jami.now, id, 1);
    assert_eq!(jami.mux.info(id), None);

    let ours = jami.mux.open(jami.now, "abc", OpenOptions::default()).unwrap();
    jami.sent();
    jami.feed("92cd8000c40161 92cd8000c400");
    assert_eq!(jami.event(), None, "before the answer");
    jami.feed("9200c40993a3616263cd800001");
    assert_eq!(jami.event(), Some(Event::Accepted { id: ours }));
}

#[test]
fn a_withdrawn_request_is_closed_when_it_is_accepted() {
    let mut client = Jami::new(Side::TlsClient);
    let id = client.mux.open(client.now, "xyz", OpenOptions::default()).unwrap();
    client.sent();
    client.mux.reset(id, Code::Cancelled.into()).unwrap();
    assert_eq!(client.sent(), "");
    client.feed("9200c40793a378797a0101");
    assert_eq!(client.sent(), "9201c400");
    assert_eq!((client.event(), client.mux.channels().count()), (None, 0));
    let mut server = Jami::new(Side::TlsServer);
    server.feed("9200c40793a378797a0100 9201c400");
    let id = server.requested();
    assert_eq!(server.event(), Some(Event::Reset { id, reason: unspecified() }));
}

#[test]
fn beacons_are_answered_and_never_unasked() {
    let mut jami = Jami::new(Side::TlsClient);
    assert_eq!(jami.mux.liveness_probe(jami.now), Err(ProbeError::Unsupported));
    jami.feed("92cdffffc40481a17600");
    assert_eq!(jami.mux.liveness_probe(jami.now), Err(ProbeError::Unsupported), "version 0");
    jami.feed("92cdffffc40481a17601");
    jami.feed("92cdffffc40481a170c2 92cdffffc40481a170c2");
    assert_eq!(jami.event(), None, "replies nobody asked for");
    jami.feed("92cdffffc40481a170c3");
    assert_eq!(jami.sent(), "92cdffffc40481a170c2");
    let id = jami.mux.liveness_probe(jami.now).unwrap();
    assert_eq!(jami.sent(), "92cdffffc40481a170c3");
    jami.now += Duration::from_millis(20);
    jami.feed("92cdffffc40481a170c2");
    assert_eq!(jami.event(), Some(Event::Pong { id, rtt: Duration::from_millis(20) }));
    assert_eq!(jami.mux.poll_timeout(), None);
    jami.mux.liveness_probe(jami.now).unwrap();
    assert_eq!(jami.mux.poll_timeout(), Some(jami.now + Duration::from_secs(3)));
    jami.now += Duration::from_secs(3);
    jami.mux.handle_timeout(jami.now);
    assert_eq!(jami.event(), Some(Event::Dead));
}

#[test]
fn the_protocol_channel_looks_at_one_message_and_its_first_key() {
    let mut jami = Jami::new(Side::TlsClient);
    jami.feed("92cdffffc40782a17601a16105");
    assert!(jami.mux.capabilities().ping);
    jami.feed("92cdffffc40881a170c381a170c3");
    assert_eq!(jami.sent(), "92cdffffc40481a170c2", "only the first");
    jami.feed("92cdffffc40c81a1780582a17805a170c3c0");
    assert_eq!(jami.sent(), "", "unknown keys");
    jami.feed("9200c40481a170c3");
    assert_eq!(jami.sent(), "92cdffffc40481a170c2", "a map on the control channel");
}

#[test]
fn numbers_walk_through_our_half_first() {
    let mut client = Jami::new(Side::TlsClient);
    let open = |client: &mut Jami| client.mux.open(client.now, "x", OpenOptions::default());
    let first = open(&mut client).unwrap();
    assert_eq!(first.number(), 1);
    client.mux.reset(first, Code::Cancelled.into()).unwrap();
    assert_eq!(open(&mut client).unwrap().number(), 2, "not reused at once");
    for number in 3..0x8000 {
        assert_eq!(open(&mut client).unwrap().number(), number);
    }
    assert_eq!(open(&mut client).unwrap().number(), 1);
    assert_eq!(open(&mut client).unwrap().number(), 0x8000);
    for _ in 0x8001..0xffff {
        open(&mut client).unwrap();
    }
    assert_eq!(open(&mut client), Err(OpenError::NoFreeNumber), "65534 channels");
}

#[test]
fn large_writes_become_frames_of_a_record() {
    let mut pair = Pair::new(Dialect::Jami);
    let (ours, theirs) = pair.channel("bulk");
    pair.client.sent.clear();
    pair.client.write(ours, &[7; 16_376]);
    pair.client.write(ours, &[8; 300]);
    pair.client.mux.write(ours, Chunk::with_capacity(0)).unwrap();
    pair.settle();
    let sent = &pair.client.sent;
    assert_eq!(hex::encode(&sent[..5]), "9201c53ff8");
    assert_eq!(hex::encode(&sent[5 + 16_376..][..5]), "9201c5012c");
    assert_eq!(sent.len(), 5 + 16_376 + 5 + 300, "an empty write sends nothing");
    assert_eq!(pair.server.read(pair.now, theirs).len(), 16_676);
}

#[test]
fn a_reader_that_does_not_read_stops_the_socket_and_nothing_more() {
    let config = Config { receive_budget: 100_000, ..Config::default() };
    let mut pair = Pair::with(Dialect::Jami, Config::default(), config);
    let (ours, theirs) = pair.channel("bulk");
    for _ in 0..12 {
        pair.client.write(ours, &[1; 16_376]);
    }
    pair.settle();
    assert!(!pair.server.mux.wants_data());
    assert!((100_000..100_000 + 16_384).contains(&pair.server.mux.held()));
    let mut got = 0;
    while got < 12 * 16_376 {
        got += pair.server.read(pair.now, theirs).len();
        pair.settle();
    }
    assert!(pair.server.mux.wants_data());
}

#[test]
fn claimed_lengths_cost_nothing() {
    let (mut jami, id) = Jami::with_channel();
    // Four GiB of data for our channel, of which a little comes.
    jami.feed(&format!("9201c6ffffffff{}", "00".repeat(1000)));
    assert_eq!(jami.mux.held(), 1000);
    assert_eq!(jami.event(), Some(Event::Readable { id }));
    // Arrays in maps in arrays, without end.
    let mut jami = Jami::new(Side::TlsServer);
    for _ in 0..1000 {
        jami.mux.handle_data(jami.now, &[0xdf; 4096]).unwrap();
        jami.mux.handle_data(jami.now, &[0xdd; 4096]).unwrap();
    }
    // A control frame that is too long is passed over.
    let mut jami = Jami::new(Side::TlsServer);
    jami.feed("9200c600010000");
    for _ in 0..16 {
        jami.mux.handle_data(jami.now, &[0xc1; 4096]).unwrap();
    }
    jami.feed("9200c40793a378797a0100");
    jami.requested();
}

#[test]
fn capabilities_are_told() {
    let jami = Jami::new(Side::TlsServer);
    let expected =
        Capabilities { half_close: false, windows: false, reasons: false, early: false, ping: false };
    assert_eq!(jami.mux.capabilities(), expected);
}
