//! The codecs of v1 for those who fuzz and measure them.

use crate::{
    ChannelId, ConnectionId, LinkId, Violation, varint,
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
