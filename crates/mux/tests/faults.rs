//! What a peer that speaks as Jami does can do to us, beyond the stories of `jami.rs` (connection.md 9.1).
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

mod support;

use std::time::Duration;

use support::jami::Jami;
use towline_mux::{
    ChannelId, Chunk, Code, Config, Dialect, Event, KeepAlive, Mux, OpenOptions, ProbeError, Side,
};

/// A frame of the control channel.
fn control(objects: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x92, 0, 0xc5];
    frame.extend_from_slice(&u16::try_from(objects.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(objects);
    frame
}

/// A request, or an answer, as an object of the control channel.
fn message(number: u16, name: &str, state: u8) -> Vec<u8> {
    let mut object = vec![0x93, 0xda];
    object.extend_from_slice(&u16::try_from(name.len()).unwrap().to_be_bytes());
    object.extend_from_slice(name.as_bytes());
    object.push(0xcd);
    object.extend_from_slice(&number.to_be_bytes());
    object.push(state);
    object
}

/// The same as we write it, as a frame.
fn short(number: u8, name: &str, state: u8) -> Vec<u8> {
    let mut object = vec![0x93, 0xa0 | name.len() as u8];
    object.extend_from_slice(name.as_bytes());
    object.extend_from_slice(&[number, state]);
    [&[0x92, 0, 0xc4, object.len() as u8][..], &object].concat()
}

fn request(number: u16, name: &str) -> Vec<u8> {
    control(&message(number, name, 0))
}

/// The open channel still carries bytes both ways.
fn assert_alive(jami: &mut Jami, id: ChannelId) {
    jami.feed("9201c4026869");
    assert_eq!(jami.event(), Some(Event::Readable { id }));
    assert_eq!(jami.mux.read(id).unwrap(), &b"hi"[..]);
    jami.mux.consumed(jami.now, id, 2);
    jami.mux.write(id, Chunk::copy_from(b"ho")).unwrap();
    assert_eq!(jami.sent(), "9201c402686f");
}

#[test]
fn control_objects_of_odd_shape_end_their_frame_and_nothing_else() {
    let (mut jami, id) = Jami::with_channel();
    for odd in [
        "c0",         // nil
        "c2",         // false
        "05",         // a number
        "a3616263",   // a string
        "c403616263", // bytes
        "90",         // arrays of other sizes
        "91a161",
        "92a16102",
        "93c00200",                   // no name
        "93930200",                   // an array for a name
        "93cb4000000000000000 02 00", // a float for a name
        "93a161ca4000000000",         // a float for a number, and no state
        "93a161ca4000000000 00",
        "93a161cb4000000000000000 00",
        "93a161ff00",         // a negative number
        "93a161ce0001000000", // a number beyond sixteen bits
        "93a161cf000100000000000200",
        "93a16102ca00000000", // a float for a state
        "93a16102c0",
        "93a16102c3",
        "93a161", // objects of which a part is missing
        "93a16102",
        "93aa61",
        "93db7fffffff61",
        "dc",
        "dd00000003a161",
        "ddffffffffa161020000", // more elements than there are
        "81",                   // maps of which a part is missing
        "81a176",
        "81a1",
        "dfffffffffa17601",
        "81a176c0", // a version that is none
        "81a176ff",
        "81a176a131",
        "81a176cb3ff0000000000000",
        "81a17001", // a beacon that is none
        "81a170c0",
        "c1", // not msgpack
    ] {
        let mut objects = hex::decode(odd.replace(' ', "")).unwrap();
        // What stands behind it in the frame is not looked at.
        objects.extend_from_slice(&message(7, "behind", 0));
        for number in [vec![0x92, 0], vec![0x92, 0xcd, 0xff, 0xff]] {
            let frame = [number, vec![0xc5, 0, objects.len() as u8], objects.clone()].concat();
            jami.mux.handle_data(jami.now, &frame).unwrap();
        }
        assert_eq!((jami.event(), jami.sent().as_str()), (None, ""), "{odd}");
    }
    assert_eq!(jami.mux.liveness_probe(jami.now), Err(ProbeError::Unsupported), "none was a version");
    assert_alive(&mut jami, id);
}

#[test]
fn what_can_be_understood_is_understood() {
    let mut jami = Jami::new(Side::TlsServer);
    for (number, object) in [
        (2, "93c4016102 00"),        // bytes for a name
        (3, "94a16103 00 c0"),       // more elements than three
        (4, "dc0003a16104 00"),      // a long way to write an array
        (5, "93d90161 cd0005 cc00"), // and strings and integers
        (6, "93a161d00600"),         // signed and positive
    ] {
        let objects = hex::decode(object.replace(' ', "")).unwrap();
        jami.mux.handle_data(jami.now, &control(&objects)).unwrap();
        let id = jami.requested();
        assert_eq!(id.number(), number);
        jami.mux.accept(jami.now, id).unwrap();
        assert_eq!(jami.sent(), format!("9200c40593a161{number:02x}01"));
    }
    // Any other state is a refusal, and there is nothing to refuse.
    for state in ["03", "7f", "ff", "d1ff00", "cfffffffffffffffff"] {
        let objects = hex::decode(format!("93a16109{state}")).unwrap();
        jami.mux.handle_data(jami.now, &control(&objects)).unwrap();
        assert_eq!((jami.event(), jami.sent().as_str()), (None, ""), "{state}");
    }
}

#[test]
fn several_objects_of_a_frame_are_handled_in_order() {
    let mut jami = Jami::new(Side::TlsServer);
    let ours = jami.mux.open(jami.now, "ours", OpenOptions::default()).unwrap();
    jami.sent();
    let objects = [
        message(1, "first", 0),
        message(2, "second", 0),
        message(ours.number(), "ours", 1),
        // A map in between belongs to the protocol channel, wherever it comes.
        hex::decode("81a170c3").unwrap(),
        message(1, "twice", 0),
        message(9, "nobody", 1),
        message(9, "nobody", 2),
        message(3, "third", 0),
    ];
    jami.mux.handle_data(jami.now, &control(&objects.concat())).unwrap();
    assert_eq!(jami.requested().number(), 1);
    assert_eq!(jami.requested().number(), 2);
    assert_eq!(jami.event(), Some(Event::Accepted { id: ours }));
    assert_eq!(jami.requested().number(), 3);
    assert_eq!(jami.event(), None);
    assert_eq!(jami.sent(), "92cdffffc40481a170c2 9200c40993a574776963650102".replace(' ', ""));
}

#[test]
fn answers_nobody_waits_for_leave_no_trace() {
    let (mut jami, id) = Jami::with_channel();
    let names = ["", "xyz", "\u{fffd}", &"n".repeat(65_000)];
    for number in [0, 1, 2, 0x7fff, 0x8000, 0xfffe, 0xffff] {
        for name in names {
            for state in [1, 2, 3] {
                jami.mux.handle_data(jami.now, &control(&message(number, name, state))).unwrap();
            }
        }
    }
    assert_eq!((jami.event(), jami.sent().as_str()), (None, ""));
    assert_eq!((jami.mux.channels().count(), jami.mux.held()), (1, 0));
    assert_alive(&mut jami, id);
}

#[test]
fn control_channels_carry_no_data() {
    let (mut jami, id) = Jami::with_channel();
    // Empty frames, integers, arrays of frames, bytes that are no objects.
    for odd in ["9200c400", "92cdffffc400", "920007", "92cdffff07", "92009201c40161", "9200c403ffffff"] {
        jami.feed(odd);
    }
    jami.mux.handle_data(jami.now, &control(&vec![0xc1; 0xffff])).unwrap();
    // A request has no place on the protocol channel.
    jami.feed("92cdffffc40793a378797a0500");
    assert_eq!((jami.event(), jami.sent().as_str(), jami.mux.held()), (None, "", 0));
    assert_alive(&mut jami, id);
}

#[test]
fn a_version_that_is_absent_zero_repeated_or_huge() {
    let absent = {
        let config = Config {
            keep_alive: Some(KeepAlive {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(5),
            }),
            ..Config::default()
        };
        let mut jami = Jami::with(Side::TlsServer, config);
        jami.feed("9200c40793a378797a0100");
        let id = jami.requested();
        jami.mux.accept(jami.now, id).unwrap();
        jami.sent();
        // It cannot be asked for signs of life, so its silence means nothing.
        for _ in 0..100 {
            jami.now += Duration::from_secs(10);
            jami.mux.handle_timeout(jami.now);
            assert_eq!((jami.event(), jami.sent().as_str()), (None, ""));
        }
        assert_alive(&mut jami, id);
        jami
    };
    assert!(!absent.mux.capabilities().ping);
    let (mut jami, id) = Jami::with_channel();
    for (version, ping) in
        [("00", false), ("01", true), ("01", true), ("00", false), ("cfffffffffffffffff", true), ("07", true)]
    {
        let body = hex::decode(format!("81a176{version}")).unwrap();
        let frame = [&[0x92, 0xcd, 0xff, 0xff, 0xc4, body.len() as u8][..], &body].concat();
        jami.mux.handle_data(jami.now, &frame).unwrap();
        assert_eq!(jami.mux.capabilities().ping, ping, "{version}");
        assert_eq!((jami.event(), jami.sent().as_str()), (None, ""), "{version}");
    }
    assert_alive(&mut jami, id);
}

#[test]
fn beacon_replies_without_end_never_count_for_a_later_beacon() {
    let mut jami = Jami::new(Side::TlsClient);
    jami.feed("92cdffffc40481a17601");
    for _ in 0..1000 {
        jami.feed("92cdffffc40481a170c2");
    }
    // The next beacon is answered by its own reply, and by nothing that came before.
    jami.mux.liveness_probe(jami.now).unwrap();
    assert_eq!(jami.sent(), "92cdffffc40481a170c3");
    jami.now += Duration::from_secs(3);
    jami.mux.handle_timeout(jami.now);
    assert_eq!(jami.event(), Some(Event::Dead), "replies of before would hide a dead peer");
    let mut jami = Jami::new(Side::TlsClient);
    jami.feed("92cdffffc40481a17601 92cdffffc40481a170c2");
    let id = jami.mux.liveness_probe(jami.now).unwrap();
    jami.sent();
    jami.feed("92cdffffc40481a170c2");
    assert!(matches!(jami.event(), Some(Event::Pong { id: it, .. }) if it == id));
    jami.now += Duration::from_secs(3);
    jami.mux.handle_timeout(jami.now);
    assert_eq!(jami.event(), None);
}

#[test]
fn a_peer_that_makes_us_answer_without_reading_is_not_read() {
    let beacon = hex::decode("92cdffffc40481a170c3").unwrap();
    let refused = request(0, &"n".repeat(60_000));
    for flood in [beacon.repeat(100), refused] {
        let mut jami = Jami::new(Side::TlsServer);
        let mut fed = 0;
        while jami.mux.wants_data() {
            jami.mux.handle_data(jami.now, &flood).unwrap();
            fed += flood.len();
        }
        assert!(fed < 512 << 10, "{fed} bytes of questions were taken");
        assert!(jami.sent().len() / 2 <= fed + (64 << 10));
        assert!(jami.mux.wants_data(), "who reads the answers may ask again");
    }
}

#[test]
fn every_number_may_be_requested_and_the_limit_holds() {
    let config = Config { max_channels: 1000, ..Config::default() };
    let mut jami = Jami::with(Side::TlsServer, config);
    let (mut accepted, mut declined) = (Vec::new(), 0);
    for number in 1..=0xfffe_u16 {
        jami.mux.handle_data(jami.now, &request(number, "x")).unwrap();
        match jami.event() {
            Some(Event::Requested { id, .. }) => {
                jami.mux.accept(jami.now, id).unwrap();
                accepted.push(id);
                jami.sent();
            }
            None => {
                declined += 1;
                assert!(jami.sent().ends_with("02"), "{number}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((accepted.len(), declined), (1000, 64_534));
    assert_alive(&mut jami, accepted[0]);
    // As one ends, another may begin.
    jami.feed("9202c400");
    while jami.event().is_some() {}
    jami.mux.handle_data(jami.now, &request(2000, "x")).unwrap();
    jami.requested();
}

#[test]
fn all_65534_numbers_can_be_open_if_the_program_wants_it() {
    let config = Config { max_channels: 65_534, ..Config::default() };
    let mut jami = Jami::with(Side::TlsServer, config);
    for number in 1..=0xfffe_u16 {
        jami.mux.handle_data(jami.now, &request(number, "x")).unwrap();
        let id = jami.requested();
        jami.mux.accept(jami.now, id).unwrap();
        jami.sent();
    }
    assert_eq!(jami.mux.channels().count(), 65_534);
    jami.mux.handle_data(jami.now, &request(77, "x")).unwrap();
    assert!(jami.sent().ends_with("02"), "in use");
}

#[test]
fn requests_that_wait_for_a_decision_are_bounded_in_number_and_names() {
    let mut jami = Jami::new(Side::TlsServer);
    for number in 1..=1024 {
        jami.mux.handle_data(jami.now, &request(number, "x")).unwrap();
        jami.requested();
    }
    jami.mux.handle_data(jami.now, &request(1025, "x")).unwrap();
    assert_eq!((jami.event(), jami.sent().as_str()), (None, "9200c40793a178cd040102"));
    let config = Config { max_pending_names: 1000, ..Config::default() };
    let mut jami = Jami::with(Side::TlsServer, config);
    jami.mux.handle_data(jami.now, &request(1, &"n".repeat(900))).unwrap();
    let first = jami.requested();
    jami.mux.handle_data(jami.now, &request(2, &"n".repeat(900))).unwrap();
    assert_eq!(jami.event(), None);
    assert!(jami.sent().ends_with("6e0202"));
    jami.mux.refuse(first, Code::Declined.into()).unwrap();
    jami.mux.handle_data(jami.now, &request(3, &"n".repeat(900))).unwrap();
    jami.requested();
}

/// Two ends that both count from the same number, which those of 2023 do by chance and others when their half is full.
#[test]
fn numbers_that_collide_in_both_directions_sort_themselves_out() {
    let mut ours = Jami::new(Side::TlsClient);
    let id = ours.mux.open(ours.now, "ours", OpenOptions::default()).unwrap();
    ours.sent();
    ours.mux.handle_data(ours.now, &request(1, "theirs")).unwrap();
    assert_eq!((ours.event(), ours.sent()), (None, hex::encode(short(1, "theirs", 2))), "ours is on its way");
    // The peer refuses ours as we refused theirs, and both take another number, the same again.
    ours.mux.handle_data(ours.now, &short(1, "ours", 2)).unwrap();
    assert_eq!(ours.sent(), hex::encode(short(2, "ours", 0)));
    ours.mux.handle_data(ours.now, &request(2, "theirs")).unwrap();
    ours.sent();
    ours.mux.handle_data(ours.now, &short(2, "ours", 2)).unwrap();
    assert_eq!(ours.sent(), hex::encode(short(3, "ours", 0)));
    // This time the peer took one that is free.
    ours.mux.handle_data(ours.now, &request(9, "theirs")).unwrap();
    let theirs = ours.requested();
    ours.mux.accept(ours.now, theirs).unwrap();
    ours.mux.handle_data(ours.now, &short(3, "ours", 1)).unwrap();
    assert_eq!(ours.event(), Some(Event::Accepted { id }));
    ours.sent();
    ours.feed("9203c40161 9209c40162");
    assert_eq!((ours.mux.read(id).unwrap(), ours.mux.read(theirs).unwrap()), ("a".into(), "b".into()));
}

#[test]
fn a_peer_that_collides_for_ever_ends_the_request() {
    let mut ours = Jami::new(Side::TlsClient);
    let id = ours.mux.open(ours.now, "ours", OpenOptions::default()).unwrap();
    let (other, _) = (ours.mux.open(ours.now, "other", OpenOptions::default()).unwrap(), ours.sent());
    for number in [1].into_iter().chain(3..) {
        ours.mux.handle_data(ours.now, &request(number.into(), "theirs")).unwrap();
        ours.mux.handle_data(ours.now, &short(number, "ours", 2)).unwrap();
        ours.sent();
        match ours.event() {
            None => assert!(number < 20, "it goes on and on"),
            refused => {
                assert_eq!(refused, Some(Event::Refused { id, reason: Code::Unspecified.into() }));
                break;
            }
        }
    }
    ours.mux.handle_data(ours.now, &short(2, "other", 1)).unwrap();
    assert_eq!(ours.event(), Some(Event::Accepted { id: other }));
}

#[test]
fn a_collision_that_is_accepted_all_the_same_is_not_trusted() {
    // A peer of 2023 takes our request for its own channel of that number, which our refusal then ends.
    let mut client = Jami::new(Side::TlsClient);
    let id = client.mux.open(client.now, "xyz", OpenOptions::default()).unwrap();
    client.sent();
    client.feed("9200c40793a37a7a7a0100");
    assert_eq!(client.sent(), "9200c40793a37a7a7a0102");
    client.feed("9200c40793a378797a0101");
    assert_eq!(client.event(), None, "it is as good as refused");
    assert_eq!(client.sent(), "9201c400 9200c40793a378797a0200".replace(' ', ""), "ended, and asked again");
    client.feed("9201c40161 9201c400");
    assert_eq!(client.event(), None, "nothing of the former number counts");
    client.feed("9200c40793a378797a0201");
    assert_eq!(client.event(), Some(Event::Accepted { id }));
}

#[test]
fn a_request_for_a_number_that_waits_for_our_decision_is_refused() {
    let mut jami = Jami::new(Side::TlsServer);
    jami.feed("9200c40793a378797a0100");
    let id = jami.requested();
    jami.feed("9200c40793a378797a0100 9200c40793a37a7a7a0100");
    assert_eq!(jami.event(), None);
    assert_eq!(jami.sent(), "9200c40793a378797a0102 9200c40793a37a7a7a0102".replace(' ', ""));
    jami.mux.accept(jami.now, id).unwrap();
    assert_eq!(jami.sent(), "9200c40793a378797a0101");
    assert_alive(&mut jami, id);
}

#[test]
fn declared_lengths_reserve_nothing() {
    // Four GiB are announced in every place that has a length; what arrives is a few bytes.
    for head in [
        "9201c6ffffffff",
        "9201dbffffffff",
        "9200c6ffffffff",
        "92cdffffdbffffffff",
        "c6ffffffff",
        "c9ffffffff01",
        "92c6ffffffff",
        "ddffffffff",
        "dfffffffff",
        "92ddffffffff",
        "9201dfffffffff",
    ] {
        let (mut jami, _) = Jami::with_channel();
        jami.feed(head);
        for _ in 0..16 {
            jami.mux.handle_data(jami.now, &[0xc0; 1024]).unwrap();
        }
        assert!(jami.mux.held() <= 16 * 1024, "{head}: {}", jami.mux.held());
    }
}

#[test]
fn an_end_of_the_mux_leaves_nothing_to_panic_about() {
    let (mut jami, id) = Jami::with_channel();
    let broken = jami.mux.handle_data(jami.now, &[0xc1]);
    assert!(broken.is_err());
    for hex in ["9201c40161", "9200c40793a378797a0200", "92cdffffc40481a170c3"] {
        let _ = jami.mux.handle_data(jami.now, &hex::decode(hex).unwrap());
    }
    jami.mux.handle_timeout(jami.now + Duration::from_secs(100));
    assert!(jami.mux.is_closed() && jami.mux.write(id, Chunk::copy_from(b"x")).is_err());
    let other = Mux::new(Dialect::Jami, Side::TlsClient, Config::default(), jami.now);
    assert!(!other.is_closed(), "and no other connection notices");
}
