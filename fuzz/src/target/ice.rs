//! What reaches a device before it knows who speaks: STUN, the candidates of a request, frames on TCP.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use towline_ice::framing::{Decoder, classify, classify_datagram};
use towline_ice::punch::Party;
use towline_ice::stun::Message;
use towline_ice::{Agent, Candidate, Config, Description, Role, TcpType, Transport, Trickle, framing};

use super::{chunks, datagrams, epoch};

/// STUN attribute headers, the magic cookie, and the message types of checks.
pub(super) const ATTRIBUTES: &[&[u8]] = &[
    &[0x21, 0x12, 0xa4, 0x42],
    &[0x00, 0x06, 0x00, 0x11],
    &[0x00, 0x08, 0x00, 0x14],
    &[0x00, 0x09, 0x00, 0x04],
    &[0x00, 0x0a, 0x00, 0x02],
    &[0x00, 0x20, 0x00, 0x08],
    &[0x00, 0x20, 0x00, 0x14],
    &[0x00, 0x24, 0x00, 0x04],
    &[0x00, 0x25, 0x00, 0x00],
    &[0x80, 0x22, 0x00, 0x06],
    &[0x80, 0x28, 0x00, 0x04],
    &[0x80, 0x29, 0x00, 0x08],
    &[0x80, 0x2a, 0x00, 0x08],
    &[0x01, 0x01],
    &[0x01, 0x11],
    &[0x00, 0x11],
];

/// Words of candidate lines.
pub(super) const WORDS: &[&[u8]] = &[
    b" typ host",
    b" typ srflx",
    b" typ prflx",
    b" typ relay",
    b" tcptype active",
    b" tcptype passive",
    b" tcptype so",
    b" TCP ",
    b" UDP ",
    b"\nHa4d0003 1 TCP 2130706431 10.77.0.3 55707 typ host tcptype passive\n",
    b" 4294967296 ",
    b" 65536 ",
    b" ::1 ",
    b" fe80::1%eth0 ",
    b"\xff\xfe",
];

/// Checks of both integrity attributes must not depend on the message being well-formed.
pub(super) fn stun(input: &[u8]) {
    let _ = classify(input);
    let _ = classify_datagram(input);
    if let Ok(message) = Message::decode(input) {
        let _ = message.verify_integrity(b"aaaaaaaaaaaaaaaaaaaaaaaa");
    }
}

/// What was read is written and read to the same again.
pub(super) fn blob(input: &[u8]) {
    let Ok(parsed) = Description::from_blob(input) else { return };
    let text = parsed.description.to_blob();
    let again = Description::from_blob(text.as_bytes()).expect("our own text is well-formed");
    assert!(again.skipped.is_empty(), "we wrote lines that we skip: {:?}", again.skipped);
    assert_eq!(again.description, parsed.description);
}

/// Words of a device about its NAT.
pub(super) const MAPPINGS: &[&[u8]] = &[
    b"open ",
    b"independent-preserving ",
    b"by-address-",
    b"by-port-",
    b"preserving ",
    b"random ",
    b"sequential:1 ",
    b"sequential:-32768 ",
    b"198.51.100.1:7000",
    b"[2001:db8::1]:65535",
];

/// Candidates that come later: what was read is written and read to the same again.
pub(super) fn trickle(input: &[u8]) {
    let Ok(trickle) = Trickle::from_text(input) else { return };
    assert_eq!(Trickle::from_text(trickle.to_text().as_bytes()), Ok(trickle));
}

/// What a device says about its NAT: it is written as it was read, and foretells no more than it is asked for.
pub(super) fn party(input: &[u8]) {
    let Some(party) = std::str::from_utf8(input).ok().and_then(|text| text.parse::<Party>().ok()) else {
        return;
    };
    assert_eq!(party.to_string().parse(), Ok(party));
    let foretold = party.predict(8);
    assert!((1..=8).contains(&foretold.len()), "{foretold:?}");
    assert!(foretold.iter().all(|next| next.port() != 0 && next.ip() == party.outside.ip()), "{foretold:?}");
}

/// However the stream is cut, the same frames come out, and no more than one frame is held.
pub(super) fn framing(input: &[u8]) {
    let Some(stream) = input.get(1..) else { return };
    let mut whole = Vec::new();
    let mut decoder = Decoder::with_limit(4096);
    let mut rest = stream;
    let expected = loop {
        match decoder.decode(&mut rest) {
            Ok(Some(frame)) => whole.push(frame.to_vec()),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let mut pieces = Vec::new();
    let mut decoder = Decoder::with_limit(4096);
    let mut outcome = Ok(());
    'stream: for mut chunk in chunks(input) {
        loop {
            match decoder.decode(&mut chunk) {
                Ok(Some(frame)) => pieces.push(frame.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    break 'stream;
                }
            }
        }
        assert!(decoder.buffered() <= 4096 + framing::HEADER_LEN);
    }
    assert_eq!(pieces, whole);
    assert_eq!(outcome, expected);
    for frame in &whole {
        let mut encoded = &*framing::frame(frame).expect("it came from a frame");
        assert_eq!(Decoder::new().decode(&mut encoded), Ok(Some(&**frame)));
    }
}

/// Datagrams and TCP frames from strangers, at an agent that is busy with a peer: the first byte of each says by
/// which way it comes. Nothing of it may select a path, and nothing may pile up.
pub(super) fn agent(input: &[u8]) {
    let mut now = epoch();
    let local = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 4000));
    let mut agent = Agent::new(Config::default(), Role::Controlling, now, [7; 32]);
    agent.add_local(now, Candidate::host(Transport::Udp, local, 0));
    agent.add_local(now, Candidate::host(Transport::Tcp(TcpType::Passive), local, 1));
    let remote = b"13e86381\naaaaaaaaaaaaaaaaaaaaaaaa\n\
        Ha4d0003 1 TCP 2130706431 192.0.2.2 55707 typ host tcptype passive\n\
        Ha4d0003 1 UDP 2130706431 192.0.2.2 4000 typ host\n";
    let remote = Description::from_blob(remote).expect("a valid description").description;
    agent.set_remote(now, remote);
    let mut stream = None;
    for piece in datagrams(input) {
        let Some((way, payload)) = piece.split_first() else { continue };
        let stranger = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 2 + way % 2), 4000));
        match way % 4 {
            0 | 1 => {
                let _ = agent.handle_udp(now, local, stranger, payload);
            }
            2 => stream = agent.handle_tcp_accepted(now, local, stranger).ok().or(stream),
            _ => {
                if let Some(stream) = stream {
                    let _ = agent.handle_tcp_frame(now, stream, payload);
                }
            }
        }
        let mut actions = 0;
        while agent.poll_action().is_some() {
            actions += 1;
            assert!(actions <= 128, "one packet made {actions} actions");
        }
        while agent.poll_event().is_some() {}
        assert!(agent.selected().is_none(), "a stranger chose the path");
        now += Duration::from_millis(u64::from(*way));
        if agent.poll_timeout().is_some_and(|timeout| timeout <= now) {
            agent.handle_timeout(now);
        }
    }
}
