//! The vectors of RFC 5769, and packets seen from unmodified peers (spec 4.6, 4.8).

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
    digits.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect()
}

const RFC5769_KEY: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

#[test]
fn rfc5769_request() {
    let packet = hex("000100582112a442b7e7a701bc34d686fa87dfae
        802200105354554e207465737420636c69656e74
        002400046e0001ff 80290008932ff9b151263b36
        000600096576746a3a68367659202020
        000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004e57a3bcf");
    let message = Message::decode(&packet).unwrap();
    assert_eq!((message.class, message.method), (Class::Request, BINDING));
    assert_eq!(message.software, Some("STUN test client"));
    assert_eq!(message.priority, Some(0x6e00_01ff));
    assert_eq!(message.role, Some(RoleClaim::Controlled(0x932f_f9b1_5126_3b36)));
    assert_eq!(message.username, Some(&b"evtj:h6vY"[..]));
    assert!(message.fingerprint);
    assert_eq!(message.verify_integrity(RFC5769_KEY), Ok(()));
    assert_eq!(message.verify_integrity(b"other"), Err(IntegrityError::Mismatch));
}

#[test]
fn rfc5769_responses() {
    let v4 = hex("0101003c2112a442b7e7a701bc34d686fa87dfae
        8022000b7465737420766563746f7220 002000080001a147e112a643
        000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004c07d4c96");
    let v6 = hex("010100482112a442b7e7a701bc34d686fa87dfae
        8022000b7465737420766563746f7220 002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9
        00080014a382954e4be67bf11784c97c8292c275bfe3ed41 80280004c8fb0b4c");
    for (packet, address) in [(v4, "192.0.2.1:32853"), (v6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")] {
        let message = Message::decode(&packet).unwrap();
        assert_eq!(message.class, Class::Success);
        assert_eq!(message.mapped_address, Some(address.parse().unwrap()));
        assert_eq!(message.verify_integrity(RFC5769_KEY), Ok(()));
        // Ours, read back.
        let ours = Encoder::new(Class::Success, BINDING, message.transaction)
            .mapped_address(address.parse().unwrap());
        assert_eq!(Message::decode(&ours.finish(None)).unwrap().mapped_address, message.mapped_address);
    }
}

#[test]
fn rfc5769_long_term_request() {
    let packet = hex("000100602112a44278ad3433c6ad72c029da412e
        00060012e3839ee38388e383aae38383e382af e382b90000
        0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473 41
        0014000b6578616d706c652e6f726700
        00080014f67024656dd64a3e02b8e0712e85c9a28ca89666");
    let message = Message::decode(&packet).unwrap();
    // MD5 of "マトリックス:example.org:TheMatrIX", the key of the long-term mechanism.
    assert_eq!(message.verify_integrity(&hex("e8ca7ad59d5eb0518e312911d2dab2a9")), Ok(()));
    assert_eq!(message.unknown, [0x0015, 0x0014], "nonce and realm are not for checks");
    assert!(!message.fingerprint);
}

/// The request of spec 4.6, without its frame length.
fn observed_request() -> Vec<u8> {
    hex("000100602112a442b164000067b48434fe8eaf2a
        002400046efffeff 802a00081580380204 68ecdf
        80220010706a6e6174682d322e31322e31000000
        000600113133653836333831 3a3561383837323939000000
        00080014f336b02b79e1c7bfeb6c89045895b1a02f385a61 802800047820f7bb")
}

#[test]
fn the_request_of_an_unmodified_peer() {
    let packet = observed_request();
    assert_eq!(packet.len(), 116);
    let message = Message::decode(&packet).unwrap();
    assert_eq!(message.priority, Some(1_862_270_719));
    assert_eq!(message.role, Some(RoleClaim::Controlling(0x1580_3802_0468_ecdf)));
    assert_eq!(message.software, Some("pjnath-2.12.1"));
    assert_eq!(message.username, Some(&b"13e86381:5a887299"[..]));
    assert!(message.fingerprint && !message.use_candidate);

    // Ours with the same values has the same shape, attribute by attribute.
    let build = |nominate: bool| {
        let mut ours = Encoder::new(Class::Request, BINDING, message.transaction).priority(1_862_270_719);
        if nominate {
            ours = ours.use_candidate();
        }
        ours.role(RoleClaim::Controlling(0x1580_3802_0468_ecdf))
            .software("pjnath-2.12.1\0\0\0")
            .username(b"13e86381:5a887299")
            .finish(Some(b"unknown"))
    };
    let ours = build(false);
    assert_eq!(ours[..88], packet[..88]);
    assert_eq!(ours.len(), packet.len());
    assert_eq!(Message::decode(&ours).unwrap().verify_integrity(b"unknown"), Ok(()));
    assert_eq!(build(true).len(), 120);
}

#[test]
fn a_keep_alive_is_a_fingerprint_and_nothing_else() {
    let packet = Encoder::new(Class::Indication, BINDING, TransactionId([9; 12])).finish(None);
    assert_eq!(packet.len(), 0x1c);
    assert_eq!(packet[..8], hex("001100082112a442"));
    assert!(Message::decode(&packet).unwrap().fingerprint);
}

#[test]
fn each_broken_rule_has_its_name() {
    let good = observed_request();
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        Message::decode(&packet).map(|_| ()).unwrap_err()
    };
    assert_eq!(Message::decode(&good[..19]).unwrap_err(), DecodeError::Short);
    assert_eq!(broken(&|p| p[0] = 0x40), DecodeError::TopBits);
    assert_eq!(broken(&|p| p[3] -= 4), DecodeError::Length);
    assert_eq!(broken(&|p| p.push(0)), DecodeError::Length);
    assert_eq!(broken(&|p| p[4] = 0), DecodeError::Cookie);
    assert_eq!(broken(&|p| p[27] ^= 1), DecodeError::Fingerprint);
    assert_eq!(broken(&|p| p[23] = 3), DecodeError::BadValue { attribute: 0x24 });
    assert_eq!(broken(&|p| p[22] = 9), DecodeError::Truncated { attribute: 0x24 });
    let mut after = good.clone();
    after.extend_from_slice(&hex("80220000"));
    after[3] += 4;
    assert_eq!(Message::decode(&after).unwrap_err(), DecodeError::FingerprintNotLast);
}

#[test]
fn nothing_after_the_integrity_code_counts() {
    let transaction = TransactionId([1; 12]);
    let mut packet =
        Encoder::new(Class::Request, BINDING, transaction).username(b"a:b").finish(Some(b"k")).to_vec();
    packet.truncate(packet.len() - FINGERPRINT_LEN);
    packet.extend_from_slice(&hex("00250000 002400046effffff"));
    let length = u16::try_from(packet.len() - HEADER_LEN).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let message = Message::decode(&packet).unwrap();
    assert_eq!(message.verify_integrity(b"k"), Ok(()));
    assert!(!message.use_candidate && message.priority.is_none(), "an attacker could have appended them");
}

#[test]
fn errors_and_unknown_attributes_travel() {
    let packet = Encoder::new(Class::Error, BINDING, TransactionId([2; 12]))
        .error(error_code::UNKNOWN_ATTRIBUTE, "Unknown Attribute")
        .unknown_attributes(&[0x7001, 0x7002, 0x7003])
        .finish(Some(b"k"));
    let message = Message::decode(&packet).unwrap();
    assert_eq!(message.error, Some(ErrorCode { code: 420, reason: "Unknown Attribute" }));
    assert_eq!(message.rejected, [0x7001, 0x7002, 0x7003]);
}

#[test]
fn methods_and_classes_survive_their_interleaved_bits() {
    for method in 0..0x1000 {
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            let kind = type_of(class, method);
            assert!(kind < 0x4000);
            assert_eq!((Class::of(kind), method_of(kind)), (class, method));
        }
    }
}

/// The attributes of RFC 8489 appendix B.1. The length and the code printed there do not fit each other, so both are
/// those that another implementation of HMAC-SHA256 finds; the key is SHA-256 of "マトリックス:example.org:TheMatrIX".
#[test]
fn rfc8489_long_term_request_with_sha256_and_userhash() {
    let packet = hex("000100882112a44278ad3433c6ad72c029da412e
        001e00204a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704
        001500296f624d61744a6f73324141414366 2f2f3439396b39353464364f4c33346f4c3946535476793634734 1000000
        0014000b6578616d706c652e6f726700
        001c0020234112fbd4e27f983eb4032836f998216f5b23f8d927753fbc4f882bfbdf0dec");
    let message = Message::decode(&packet).unwrap();
    let key = hex("dd295a613b9058c3c23d6dc7165bda072304d989c9d0af3a8c7e184b4f9bb4a1");
    assert_eq!(message.verify_integrity_sha256(&key), Ok(()));
    assert_eq!(message.verify_integrity_sha256(b"other"), Err(IntegrityError::Mismatch));
    assert_eq!(message.verify_integrity(&key), Err(IntegrityError::Missing));
    let attributes: Vec<_> = message.attributes().map(|(kind, value)| (kind, value.len())).collect();
    assert_eq!(attributes, [(0x1e, 32), (0x15, 41), (0x14, 11)]);

    // Ours with the same attributes is the same, with a FINGERPRINT behind it.
    let mut ours = Encoder::new(Class::Request, BINDING, message.transaction);
    for (kind, value) in message.attributes() {
        ours = ours.attribute(kind, value);
    }
    let ours = ours.finish_with(Seal::Sha256(&key));
    assert_eq!(ours[4..packet.len()], packet[4..]);
    assert_eq!(Message::decode(&ours).unwrap().verify_integrity_sha256(&key), Ok(()));
}

#[test]
fn attributes_end_where_protection_does() {
    let transaction = TransactionId([3; 12]);
    let address = "192.0.2.9:7".parse().unwrap();
    let plain =
        || Encoder::new(Class::Request, 3, transaction).attribute(0x7abc, b"abcde").address(0x8023, address);
    for packet in [plain().finish(None), plain().finish(Some(b"k"))] {
        let message = Message::decode(&packet).unwrap();
        let kinds: Vec<_> = message.attributes().collect();
        assert_eq!(kinds[0], (0x7abc, &b"abcde"[..]));
        assert_eq!((kinds[1].0, super::address(kinds[1].1)), (0x8023, Some(address)));
        assert_eq!(kinds.len(), 2);
    }
}

#[test]
fn a_stream_is_cut_into_messages_wherever_it_is_split() {
    let request = observed_request();
    let mut stream = request.clone();
    stream.extend_from_slice(&hex("40000005 68656c6c6f 000000"));
    stream.extend_from_slice(&hex("4fff0000"));
    stream.extend_from_slice(&request);
    let expected = [
        Framed::Stun(&request),
        Framed::Channel { number: 0x4000, payload: b"hello" },
        Framed::Channel { number: 0x4fff, payload: b"" },
        Framed::Stun(&request),
    ];
    for size in 1..=stream.len() {
        let mut splitter = Splitter::with_limit(1500);
        let mut seen = 0;
        for mut chunk in stream.chunks(size) {
            while let Some(framed) = splitter.split(&mut chunk).unwrap() {
                assert_eq!(framed, expected[seen], "in chunks of {size}");
                seen += 1;
            }
        }
        assert_eq!((seen, splitter.buffered()), (expected.len(), 0));
    }
    let split = |bytes: &[u8]| Splitter::with_limit(1500).split(&mut &*bytes).map(|_| ());
    assert_eq!(split(&hex("80000000")), Err(SplitError::Kind { first: 0x80 }));
    assert_eq!(split(&hex("4000 05d9")), Err(SplitError::TooLong { len: 1504, limit: 1500 }));
}

proptest::proptest! {
    #[test]
    fn any_bytes_decode_or_name_a_rule(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        drop(Message::decode(&bytes));
    }

    #[test]
    fn a_changed_packet_never_passes(at in 0usize..116, bit in 0u8..8) {
        let mut packet = observed_request();
        packet[at] ^= 1 << bit;
        // A FINGERPRINT that lost its type is no FINGERPRINT; one that is there always tells.
        proptest::prop_assert!(!Message::decode(&packet).is_ok_and(|m| m.fingerprint));
    }
}
