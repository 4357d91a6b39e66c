//! What reaches a peer before and behind its encryption, and the whole endpoint of the profile of 2021.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use towline_channeler::PeerId;
use towline_channeler::codecs;
use towline_channeler::v0::{
    Config, Cookies, Endpoint, Event, Messages, OVERHEAD, OpenOptions, PROTOCOL, Packet,
};

use super::{datagrams, epoch};

/// Protocol ids, the default channel, and heads of packets of the profile of 2021.
pub(super) const WORDS: &[&[u8]] = &[
    &[0x0C, 0x22, 0x9D, 0x94],
    &[0x0E, 0xD8, 0x67, 0x16],
    &[0xF0, 0xF0, 0xF0, 0xF0],
    &[0xF0, 0xF0],
    &[0x00, 0x78, 0x00, 0x00, 0x00, 0x07],
    &[0x0A, 0xBE, 0xEF],
    &[0x0B, 0xBE, 0xEF],
    &[0x0C, 0xBE, 0xEF],
    &[0x0D, 0xBE, 0xEF],
    &[0x14, 0x06],
    &[0x14, 0x80, 0x00],
];

/// Heads of messages of v1.
pub(super) const MESSAGES: &[&[u8]] = &[
    &[72, 0],
    &[73, 8, 2, 100, 25, 10, 0, 38, 48, 0],
    &[74, 11, 2, 100, 25, 3, 0x80, 0x48, 10, 0, 38, 48, 0],
    &[80, 2, 0],
    &[81, 1, 9],
    &[82, 2, 9],
    &[85, 3, 1, 2],
    &[86, 2, 9, 9],
    &[87, 5, 6, 1, 0, 9, 1],
    &[88, 6, 6, 3, 0, 3, 0x80, 0],
    &[88, 7, 6, 3, 10, 1, 1, 97, 98],
    &[90, 3, 6, 9, 9],
    &[91, 3, 6, 2, 9],
    &[96, 9, 2, 1, 2, 3, 4, 5, 6, 7, 8],
    &[98, 8, 1, 2, 3, 4, 5, 6, 7, 8],
    &[101, 3, 0, 104, 105],
    &[0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0x7F],
];

const A: PeerId = PeerId([0xA; 16]);
const B: PeerId = PeerId([0xB; 16]);

/// A packet of the profile of 2021 and its messages are written to the same again.
pub(super) fn envelope(input: &[u8]) {
    let Ok(packet) = Packet::parse(PROTOCOL, input) else { return };
    let mut again = Vec::new();
    assert!(packet.put(PROTOCOL, 0, &mut again));
    assert_eq!(Packet::parse(PROTOCOL, &again), Ok(packet));
    assert!(again.len() <= input.len() && again.len() == OVERHEAD + packet.payload.len());
    old_messages(packet.payload);
}

/// Messages of the profile of 2021 are written to the same again.
pub(super) fn old_messages(input: &[u8]) {
    let mut messages = Messages::new(input);
    let mut again = Vec::new();
    let mut truncated = false;
    for message in &mut messages {
        match message {
            Ok(message) => {
                let before = again.len();
                message.put(&mut again);
                assert_eq!(again.len() - before, message.encoded_len());
            }
            Err(_) => truncated = true,
        }
    }
    assert!(input.starts_with(&again));
    assert!(truncated || input[again.len()..] == *messages.rest());
}

/// The messages of an encrypted packet.
pub(super) fn messages(input: &[u8]) {
    codecs::check_messages(input);
}

/// The clear parts of packets of v1.
pub(super) fn packet(input: &[u8]) {
    codecs::check_packet(input);
}

/// A peer that says what it likes to a program that opens, writes and reads.
///
/// Each datagram of the input begins with what happens before it: a byte of time, and one of what becomes of the envelope
/// (as it is, or right but for the messages, on the default channel or the last that was spoken of).
pub(super) fn old_endpoint(input: &[u8]) {
    const LIMIT: usize = 2000;
    let config = Config {
        packet_size: 120,
        max_channels: 8,
        receive_buffer: LIMIT,
        send_buffer: LIMIT,
        cookies: Cookies::Checksum { secret: Vec::new() },
        ..Config::default()
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let mut now = epoch();
    let mut endpoint = Endpoint::new(config, A, B, now, [7; 32]);
    let _ = endpoint.open(now, address, OpenOptions { capabilities: 7, early_data: true });
    let mut spoken = 0;
    let mut out = Vec::new();
    let mut buffer = [0; LIMIT];
    for piece in datagrams(input) {
        let [time, kind, datagram @ ..] = piece else { continue };
        now += Duration::from_millis(u64::from(*time) * u64::from(*time));
        if endpoint.poll_timeout().is_some_and(|timeout| timeout <= now) {
            endpoint.handle_timeout(now);
            assert!(endpoint.poll_timeout().is_none_or(|timeout| timeout > now), "a timer that stays due");
        }
        let mut wrapped = Vec::new();
        let received = if kind & 1 == 0 {
            datagram
        } else {
            let channel = if kind & 2 == 0 { 0xF0F0_F0F0 } else { spoken };
            let packet = Packet {
                sender: B,
                recipient: A,
                channel,
                flags: 0,
                sequence: 0,
                payload: datagram.get(..1000).unwrap_or(datagram),
            };
            assert!(packet.put(PROTOCOL, usize::from(*kind), &mut wrapped));
            &wrapped
        };
        endpoint.handle(now, address, received);
        while let Some(event) = endpoint.poll_event() {
            match event {
                Event::Readable(channel) | Event::Opened { channel, .. } => {
                    while endpoint.read(channel, &mut buffer).is_ok() {}
                    let _ = endpoint.write(now, channel, &buffer[..usize::from(*kind).min(50)]);
                }
                Event::Established(channel) if kind & 4 != 0 => endpoint.close(channel),
                _ => {}
            }
        }
        out.clear();
        let mut sent = 0;
        while endpoint.poll_transmit(now, &mut out).is_some() {
            sent += 1;
            assert!(sent < 100, "it never stops talking");
        }
        let mut rest = &out[..];
        while let Ok(packet) = Packet::parse(PROTOCOL, rest) {
            assert!((packet.sender, packet.recipient, packet.flags) == (A, B, 0));
            if packet.channel != 0xF0F0_F0F0 {
                spoken = packet.channel;
            }
            rest = &rest[usize::from(u16::from_be_bytes([rest[42], rest[43]]))..];
        }
        assert!(rest.is_empty(), "our own packets are well-formed");
    }
}

/// A first packet of a handshake, and its parts.
pub(super) const HANDSHAKE: &[&[u8]] = &[
    &[0x0E, 0xD8, 0x67, 0x16],
    &[0xF0, 0xF0, 0xF0, 0xF0, 0, 0],
    &[0xAA; 8],
    &[0xBB; 8],
    &[64, 20, 0, 0x80, 0],
    &[64, 20, 1, 0xFE, 0x7F, 0],
    &[65, 17],
    &[66, 17],
    &[67, 3, 0, 0, 9],
];

/// Datagrams to both sides of a handshake.
pub(super) fn handshake(input: &[u8]) {
    codecs::check_handshake(epoch(), input);
}

/// A peer that has the keys and keeps to no rule, against a whole endpoint.
pub(super) fn liar(input: &[u8]) {
    codecs::check_liar(epoch(), input);
}
