//! Streams cut anywhere, and streams of anything.

use std::time::Instant;

use proptest::prelude::*;
use towline_sip::{Limits, StreamParser, fuzz};

/// Captured messages, and pieces of messages.
const WORDS: &[&[u8]] = &[
    include_bytes!("vectors/message-text.sip"),
    include_bytes!("vectors/invite.sip"),
    include_bytes!("vectors/ack.sip"),
    include_bytes!("vectors/cancel.sip"),
    include_bytes!("vectors/message-ok.sip"),
    include_bytes!("vectors/bye.sip"),
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\r\n ",
    b"SIP/2.0 ",
    b"SIP/2.0 200 OK\r\n",
    b"MESSAGE sip:a@b SIP/2.0\r\n",
    b"INVITE sip:a@b SIP/2.0\r\n",
    b"Via: SIP/2.0/TLS a;branch=z9hG4bK1\r\n",
    b"f: <sip:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb@ring.dht>;tag=1\r\n",
    b"t: \"q\\\"\" <sip:a@b>\r\n",
    b"i: 1\r\n",
    b"CSeq: 1 MESSAGE\r\n",
    b"l: 0\r\n\r\n",
    b"Content-Length: 3\r\n\r\n",
];

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => prop::sample::select(WORDS).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(word, 0..20).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn whatever_comes(stream in stream()) {
        fuzz(Instant::now(), &stream);
    }

    #[test]
    fn whatever_changes(
        stream in stream(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut stream = stream;
        for (at, byte) in changes {
            if !stream.is_empty() {
                let at = at.index(stream.len());
                stream[at] = byte;
            }
        }
        fuzz(Instant::now(), &stream);
    }

    #[test]
    fn messages_survive_any_cut(cuts in prop::collection::vec(1_usize..400, 1..60)) {
        let whole: Vec<_> = WORDS[..6].concat();
        let mut parser = StreamParser::new(Limits::default());
        let mut rest = &whole[..];
        let mut count = 0;
        for cut in cuts.into_iter().cycle() {
            let (piece, later) = rest.split_at(cut.min(rest.len()));
            parser.push(piece);
            rest = later;
            while parser.next_message().map_err(|fault| TestCaseError::fail(fault.to_string()))?.is_some() {
                count += 1;
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(count, 6);
        prop_assert_eq!((parser.held(), parser.end()), (0, Ok(())));
    }
}
