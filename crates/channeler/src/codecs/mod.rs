//! The codecs of v1, and a peer that lies, for those who fuzz and measure.

mod liar;

pub use liar::check_liar;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    ChannelId, ConnectionId, KeyOnly, LinkId, Peer, StaticKey, Suite, Violation,
    handshake::{Handshake, Progress, Settings},
    varint,
    wire::{
        handshake,
        header::{HEADER_LEN, Header, expand},
        message::{
            Message, Messages, again::put_again, data_overhead, put_ack, put_data, put_part, put_window,
        },
    },
};

/// Reads the messages of a plaintext; what was read is written and read to the same again.
pub fn check_messages(plaintext: &[u8]) {
    let mut again = Vec::new();
    let mut read = Vec::new();
    for message in Messages(plaintext) {
        match message {
            Ok(Message::Ack(ack)) => {
                let mut above = None;
                for range in ack.ranges() {
                    assert!(range.start() <= range.end());
                    assert!(above.is_none_or(|above| range.end() + 1 < above), "ranges touch or overlap");
                    above = Some(*range.start());
                }
                read.push(Message::Ack(ack));
            }
            // Skipped, cut or not text: not written the same again.
            Ok(Message::Skipped(_) | Message::Close { .. }) => {}
            Ok(Message::Abandon(abandon)) if abandon.ranges().next().is_none() => {}
            Ok(message) => read.push(message),
            Err(Violation::Malformed(_)) => break,
            Err(other) => panic!("the codec knows no {other:?}"),
        }
    }
    for message in &read {
        put_again(&mut again, message);
    }
    assert!(again.len() <= plaintext.len(), "there is one encoding");
    let reread: Vec<_> = Messages(&again).map(|message| message.expect("our own is well formed")).collect();
    assert_eq!(reread, read);
}

/// Reads a packet as the handshake and as data; what was read is written to the same again.
pub fn check_packet(datagram: &[u8]) {
    if let Ok(packet) = handshake::parse(datagram) {
        let mut again = Vec::new();
        assert!(handshake::put_packet(&mut again, &packet.sender, &packet.recipient, packet.payload, 0));
        assert_eq!(handshake::parse(&again), Ok(packet));
        assert!(again.len() <= datagram.len());
    }
    if let Some(bytes) = datagram.first_chunk::<HEADER_LEN>()
        && let Some(header) = Header::parse(bytes)
    {
        assert_eq!(header.encode(), *bytes);
        let expected = datagram.len() as u64 * 0x1_0001;
        assert_eq!(expand(header.pn as u32, expected) & 0xFF_FFFF, header.pn);
    }
    let mut rest = datagram;
    while let Some(value) = varint::get(&mut rest) {
        assert_eq!(varint::encode(value, &mut [0; varint::MAX_LEN]).len(), varint::len(value));
    }
}

/// Reads the messages of a plaintext and adds up what they carry.
///
/// # Errors
/// The first message that is malformed.
#[inline]
pub fn sum(plaintext: &[u8]) -> Result<u64, Violation> {
    let mut sum = 0;
    for message in Messages(plaintext) {
        sum += match message? {
            Message::Data { offset, bytes, .. } | Message::Part { offset, bytes, .. } => {
                offset + bytes.len() as u64
            }
            Message::Ack(ack) => ack.ranges().map(|range| range.end() - range.start() + 1).sum(),
            Message::Window { max_offset, .. } => max_offset,
            _ => 1,
        };
    }
    Ok(sum)
}

/// Writes a header and one DATA that fills `room`.
#[inline]
pub fn put_bulk(out: &mut Vec<u8>, pn: u64, offset: u64, room: usize, bytes: &[u8]) {
    let header = Header { phase: false, spin: false, pn, channel: ChannelId(6), cid: ConnectionId([7; 8]) };
    out.extend_from_slice(&header.encode());
    put_data(out, offset, false, &bytes[..room - data_overhead(offset, room)]);
}

/// Writes an ACK of these ranges, three WINDOWs and two small messages.
#[inline]
pub fn put_mixed(out: &mut Vec<u8>, largest: u64, ranges: u64, bytes: &[u8]) {
    let ranges = (0..ranges).map(|index| largest - 10 * index - 5..=largest - 10 * index);
    put_ack(out, LinkId(2), ranges, 25, None, 1000);
    for index in 0..3 {
        put_window(out, ChannelId(index * 2), largest * 1000, 0);
    }
    put_part(out, Some(largest), true, largest * 100, bytes);
    put_part(out, Some(largest + 1), true, largest * 100 + 50, bytes);
}

/// Reads a header and expands its number.
#[inline]
pub fn number(packet: &[u8], expected: u64) -> Option<u64> {
    let header = Header::parse(packet.first_chunk()?)?;
    Some(expand(header.pn as u32, expected))
}

/// Writes a handshake packet of 1200 bytes.
#[inline]
pub fn put_handshake(out: &mut Vec<u8>, payload: &[u8]) -> bool {
    handshake::put_packet(out, &[1; 16], &[2; 16], payload, 1200)
}

/// Reads a handshake packet; gives the length of its payload.
#[inline]
pub fn handshake_payload(datagram: &[u8]) -> Option<usize> {
    Some(handshake::parse(datagram).ok()?.payload.len())
}

/// Gives datagrams, each behind its length in 16 bits, to both sides of a handshake between them, with clocks that go on 100 ms each; what they
/// say to each other is dropped. Neither side comes to believe anything, and a responder answers no more than it was sent.
pub fn check_handshake(now: Instant, input: &[u8]) {
    let settings = |key: u8| Settings {
        key: StaticKey::from_bytes([key; 32]),
        credentials: Arc::new(KeyOnly::anyone()),
        trust: Arc::new(KeyOnly::anyone()),
        shared_secret: None,
        suite: Suite::default(),
        timeout: Duration::from_secs(10),
        unix_time: 0,
        reliable: false,
        parameters: vec![7; 50],
    };
    let id = settings(2).key.id();
    let mut initiator =
        Handshake::initiator(now, settings(1), Peer::Id(id), ConnectionId([0xAA; 8]), [1; 32])
            .expect("an id is no weak key");
    let mut responder: Option<Handshake> = None;
    let (mut heard, mut said, mut proved) = (0, 0, false);
    let mut rest = input;
    for step in 1..=100 {
        let Some((length, more)) = rest.split_first_chunk() else { break };
        let Some((datagram, more)) = more.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            break;
        };
        rest = more;
        let now = now + Duration::from_millis(100 * step);
        let mut out = Vec::new();
        if let Ok(packet) = handshake::parse(datagram) {
            let progress = initiator.handle(now, &packet, datagram.len());
            assert!(matches!(progress, Ok(Progress::More)), "the initiator believed {progress:?}");
            let responder = responder.get_or_insert_with(|| {
                Handshake::responder(now, settings(2), ConnectionId([0xBB; 8]), &packet, false, [2; 32])
            });
            heard += datagram.len();
            proved |= packet.recipient[..8] == [0xBB; 8];
            if matches!(responder.handle(now, &packet, datagram.len()), Ok(Progress::Complete(done)) if done.confirmed)
            {
                panic!("the responder believed a stranger");
            }
            while responder.poll_transmit(now, 1200, &mut out) {}
            said += out.len();
            assert!(proved || said <= heard, "{said} for {heard}");
        }
        if initiator.handle_timeout(now).is_err()
            || responder.as_mut().is_some_and(|responder| responder.handle_timeout(now).is_err())
        {
            break;
        }
        while initiator.poll_transmit(now, 1200, &mut out) {}
    }
}
