use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::{again::put_again, *};

/// The only message of a plaintext.
fn one(bytes: &[u8]) -> Message<'_> {
    let mut messages = Messages(bytes);
    let message = messages.next().expect("there is one").expect("it is well formed");
    assert!(messages.next().is_none(), "and no other");
    message
}

fn malformed(bytes: &[u8]) -> Option<u8> {
    Messages(bytes).find_map(|message| match message {
        Err(Violation::Malformed(kind)) => Some(kind),
        _ => None,
    })
}

const CHANNEL: ChannelId = ChannelId(7);
const FAR: u64 = varint::MAX;

#[test]
fn bytes_of_each_type() {
    fn check(hex: &str, expected: &Message<'_>) {
        let bytes = hex::decode(hex).unwrap();
        assert_eq!(one(&bytes), *expected);
        let mut again = Vec::new();
        put_again(&mut again, expected);
        assert_eq!(hex::encode(again), hex);
        for cut in 1..bytes.len() {
            assert_eq!(malformed(&bytes[..cut]), Some(bytes[0]), "cut at {cut}");
        }
    }
    let capabilities = |resend| Capabilities { ordered: true, resend, close_on_loss: false };
    check("4800", &Message::Ping);
    check("5003800061", &Message::Data { offset: 128, fin: false, bytes: b"a" });
    check("510105", &Message::Data { offset: 5, fin: true, bytes: b"" });
    check("52020161", &Message::Part { number: None, end: false, offset: 1, bytes: b"a" });
    check("5303020161", &Message::Part { number: Some(2), end: false, offset: 1, bytes: b"a" });
    check("540101", &Message::Part { number: None, end: true, offset: 1, bytes: b"" });
    check("5503020161", &Message::Part { number: Some(2), end: true, offset: 1, bytes: b"a" });
    check("56020903", &Message::Fin { final_offset: 9, messages: 3 });
    check("5f03070903", &Message::Finish { channel: CHANNEL, final_offset: 9, messages: 3 });
    check(
        "580807030a018000786f",
        &Message::Open {
            channel: CHANNEL,
            capabilities: capabilities(Resend::Tries(10)),
            priority: Priority::NORMAL,
            label: b"xo",
        },
    );
    check(
        "580707038668020078",
        &Message::Open {
            channel: CHANNEL,
            capabilities: capabilities(Resend::Until(Duration::from_secs(1))),
            priority: Priority::BACKGROUND,
            label: b"x",
        },
    );
    check("590107", &Message::Accept { channel: CHANNEL });
    check("5a03070910", &Message::Window { channel: CHANNEL, max_offset: 9, max_messages: 16 });
    check("5b03070209", &Message::Reset { channel: CHANNEL, code: Code::LOSS, final_offset: 9 });
    check("5c020701", &Message::Stop { channel: CHANNEL, code: Code::REFUSED });
    check("5d028000", &Message::ConnectionWindow { max_bytes: 128 });
    check("5e0103", &Message::Channels { bound: 3 });
    let reset = Reset(*b"the nameand then a proof");
    check(
        &format!("6021026569676874206279{}", hex::encode(reset.0)),
        &Message::NewId { link: LinkId(2), cid: ConnectionId(*b"eight by"), reset },
    );
    check("61020206", &Message::RetireLink { link: LinkId(2), code: Code::GOING_AWAY });
    check("62086569676874206279", &Message::Challenge(*b"eight by"));
    check("63086569676874206279", &Message::Response(*b"eight by"));
    check("64020201", &Message::LinkPreference { link: LinkId(2), available: true });
    check("6503006869", &Message::Close { code: Code::DONE, text: b"hi" });
}

fn ranges(list: &[(u64, u64)]) -> impl Iterator<Item = RangeInclusive<u64>> + Clone {
    list.iter().map(|(first, last)| *first..=*last).collect::<Vec<_>>().into_iter()
}

#[test]
fn bytes_of_an_ack() {
    let list = [(90, 100), (50, 88), (0, 0)];
    let mut out = Vec::new();
    assert_eq!(put_ack(&mut out, LinkId(2), ranges(&list), 25, None, 100), 3);
    // 89 is missing; 1 to 49 are.
    assert_eq!(hex::encode(&out), "490802 6419 0a 00 26 30 00".replace(' ', ""));
    let Message::Ack(ack) = one(&out) else { panic!("an ack") };
    assert_eq!((ack.link, ack.largest, ack.delay_us, ack.ecn), (LinkId(2), 100, 25, None));
    assert!(ack.ranges().eq(ranges(&list)));

    out.clear();
    let ecn = Some(EcnCounts { ce: 3, ect0: 200 });
    assert_eq!(put_ack(&mut out, LinkId(2), ranges(&list), 25, ecn, 100), 3);
    assert_eq!(hex::encode(&out), "4a0b02 6419 03 8048 0a 00 26 30 00".replace(' ', ""));
    let Message::Ack(ack) = one(&out) else { panic!("an ack") };
    assert_eq!(ack.ecn, ecn);

    for wrong in [
        "4904 02 05 00 06",           // first run below zero
        "4906 02 05 00 02 02 00",     // gap below zero
        "4906 02 05 00 02 00 02",     // run below zero
        "4905 02 05 00 02 00",        // gap without run
        "4903 02 05 00",              // no run
        "4a05 02 05 00 00 00",        // counts and no run
        "490480fefefe7f 05 00 00 00", // body longer than the packet
    ] {
        let bytes = hex::decode(wrong.replace(' ', "")).unwrap();
        assert_eq!(malformed(&bytes), Some(bytes[0]), "{wrong}");
    }
}

#[test]
fn an_ack_takes_as_many_ranges_as_fit() {
    let many: Vec<_> = (0..200_u64).rev().map(|index| (index * 1000, index * 1000 + index)).collect();
    for room in 0..1000 {
        let mut out = vec![1, 2, 3];
        let written = put_ack(&mut out, LinkId(0), ranges(&many), 0, None, room);
        let ack = out.split_off(3);
        assert!(ack.len() <= room);
        if written == 0 {
            assert!(ack.is_empty() && room < 9);
            continue;
        }
        assert!(written == 200 || ack.len() + 6 > room, "{written} ranges in {} of {room}", ack.len());
        let Message::Ack(ack) = one(&ack) else { panic!("an ack") };
        assert!(ack.ranges().eq(ranges(&many[..written])));
    }
    assert_eq!(put_ack(&mut Vec::new(), LinkId(0), std::iter::empty(), 0, None, 100), 0);
}

#[test]
fn abandoned_ranges() {
    let ranges: Vec<_> = (0..60)
        .map(|index| AbandonedRange { start: index * 500, length: 100 + index, messages: index })
        .collect();
    for room in 0..500 {
        let mut out = Vec::new();
        let written = put_abandon(&mut out, CHANNEL, ranges.iter().copied(), room);
        assert!(out.len() <= room);
        if written == 0 {
            assert!(out.is_empty() && room < 7);
            continue;
        }
        assert!(written == 60 || out.len() + 7 > room, "{written} ranges in {} of {room}", out.len());
        let Message::Abandon(abandon) = one(&out) else { panic!("an abandon") };
        assert_eq!(abandon.channel, CHANNEL);
        assert!(abandon.ranges().eq(ranges[..written].iter().copied()));
    }
    // Fewer and more ranges than the count says; a range beyond the space of offsets.
    for wrong in ["57050702010101", "5705070001010100", "570e0701", "570807010000"] {
        let bytes = hex::decode(wrong).unwrap();
        assert_eq!(malformed(&bytes), Some(0x57), "{wrong}");
    }
    let beyond = AbandonedRange { start: FAR, length: 1, messages: 1 };
    let mut out = Vec::new();
    put_abandon(&mut out, CHANNEL, std::iter::once(beyond), 100);
    assert_eq!(malformed(&out), Some(0x57));
}

#[test]
fn rules_of_values() {
    for (wrong, why) in [
        ("480100", "ping with a body"),
        ("58050703020180", "cut inside the priority"),
        ("58050700010100", "resend bit and kind disagree"),
        ("58050703000100", "no tries"),
        ("58050702010000", "a parameter where none is"),
        ("58050709010100", "unknown capability"),
        ("58050703010400", "unknown kind of resend"),
        ("5806070302018100", "priority above 255"),
        ("64020202", "neither backup nor available"),
        ("62076569676874206279", "seven bytes of challenge"),
        ("5d020101", "something behind the window"),
        ("0a3e8ca62f6fdc", "a message of the other profile"),
        ("ff", "type of two bytes"),
        ("4880", "cut length"),
    ] {
        let bytes = hex::decode(wrong.replace(' ', "")).unwrap();
        assert_eq!(malformed(&bytes), Some(bytes[0]), "{why}");
    }
    let mut out = Vec::new();
    put_accept(&mut out, ChannelId::CONTROL);
    assert_eq!(malformed(&out), Some(kind::ACCEPT));
    out.clear();
    put_data(&mut out, FAR, false, b"a");
    assert_eq!(malformed(&out), Some(kind::DATA));
    out.clear();
    put_part(&mut out, Some(0), true, FAR, b"a");
    assert_eq!(malformed(&out), Some(kind::PART_LAST));
    out.clear();
    put_data(&mut out, FAR - 1, true, b"a");
    assert_eq!(one(&out), Message::Data { offset: FAR - 1, fin: true, bytes: b"a" });
}

#[test]
fn unknown_types_are_skipped_and_padding_ends() {
    let bytes = hex::decode("7f03010203 4800 00 ffff".replace(' ', "")).unwrap();
    let messages: Vec<_> = Messages(&bytes).collect();
    assert_eq!(messages, [Ok(Message::Skipped(127)), Ok(Message::Ping)]);
    assert!(Messages(&[]).next().is_none());
    let mut broken = Messages(&[kind::PING, 1, 0, kind::PING, 0]);
    assert_eq!(broken.next(), Some(Err(Violation::Malformed(kind::PING))));
    assert!(broken.next().is_none(), "nothing behind a malformed one");
}

#[test]
fn control_messages_stay_below_their_bound() {
    let channel = ChannelId(u32::MAX);
    let mut out = Vec::new();
    put_new_id(&mut out, LinkId(u32::MAX), ConnectionId([7; 8]), &Reset([7; 24]));
    assert_eq!(out.len(), CONTROL_MAX);
    out.clear();
    put_window(&mut out, channel, FAR, FAR);
    assert!(out.len() <= CONTROL_MAX);
    out.clear();
    put_reset(&mut out, channel, Code(FAR), FAR);
    assert!(out.len() <= CONTROL_MAX);
    for label in [0, 100, 120, 1024] {
        out.clear();
        let until = Resend::Until(Duration::MAX);
        let capabilities = Capabilities { ordered: true, resend: until, close_on_loss: true };
        put_open(&mut out, channel, capabilities, Priority(255), &vec![b'x'; label]);
        assert_eq!(out.len(), open_max(label));
    }
}

#[test]
fn a_close_cuts_its_text_between_characters() {
    let text = "größer ".repeat(50);
    for room in 0..300 {
        let mut out = Vec::new();
        if !put_close(&mut out, Code(300), &text, room) {
            assert!(out.is_empty() && room < 4);
            continue;
        }
        assert!(out.len() <= room);
        let Message::Close { code, text: cut } = one(&out) else { panic!("a close") };
        assert_eq!(code, Code(300));
        assert!(text.starts_with(std::str::from_utf8(cut).unwrap()));
        assert!(cut.len() >= room.saturating_sub(7).min(MAX_CLOSE_TEXT - 1));
    }
}

fn numbers() -> impl Strategy<Value = u64> {
    (0..=FAR, 0_u32..62).prop_map(|(value, shift)| value >> shift)
}

proptest! {
    #[test]
    fn data_fills_the_room(offset in 0..FAR - (1 << 20), room in 0_usize..70_000, number in proptest::option::of(numbers())) {
        let bytes = vec![1; 70_000];
        if let Some(len) = data_room(offset, room) {
            let mut out = Vec::new();
            put_data(&mut out, offset, true, &bytes[..len]);
            prop_assert_eq!(out.len(), len + data_overhead(offset, len));
            prop_assert!(out.len() <= room && len + 1 + data_overhead(offset, len + 1) > room);
        } else {
            prop_assert!(room < data_overhead(offset, 0));
        }
        if let Some(len) = part_room(number, offset, room) {
            let mut out = Vec::new();
            put_part(&mut out, number, true, offset, &bytes[..len]);
            prop_assert_eq!(out.len(), len + part_overhead(number, offset, len));
            prop_assert!(out.len() <= room && len + 1 + part_overhead(number, offset, len + 1) > room);
            prop_assert_eq!(one(&out), Message::Part { number, end: true, offset, bytes: &bytes[..len] });
        } else {
            prop_assert!(room < part_overhead(number, offset, 0));
        }
    }

    #[test]
    fn what_parses_encodes_to_the_same(kind in 64_u8..=104, body in proptest::collection::vec(
        prop_oneof![3 => 0_u8..8, 1 => any::<u8>()], 0..40,
    )) {
        let mut bytes = vec![kind, body.len() as u8];
        bytes.extend_from_slice(&body);
        match Messages(&bytes).next().unwrap() {
            Ok(Message::Skipped(skipped)) => prop_assert_eq!(skipped, kind),
            Ok(Message::Close { text, .. }) if std::str::from_utf8(text).is_err() => {}
            Ok(message) => {
                let mut again = Vec::new();
                put_again(&mut again, &message);
                // Except for an empty list, which is never written.
                if kind != kind::ABANDON || !again.is_empty() {
                    prop_assert_eq!(again, bytes);
                }
            }
            Err(violation) => prop_assert_eq!(violation, Violation::Malformed(kind)),
        }
    }

    #[test]
    fn anything_at_all_is_parsed_without_panic(bytes: Vec<u8>) {
        Messages(&bytes).for_each(drop);
    }
}
