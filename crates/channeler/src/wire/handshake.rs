//! Handshake packets of v1: the clear envelope under the id of this version (`spec/channeler.md` section 9.1).

use super::envelope::{DEFAULT_CHANNEL, Packet};
pub(crate) use super::envelope::{Malformed, OVERHEAD};
use crate::PeerId;

/// The first four bytes of SHA-512 of `channeler/1.17`.
pub(crate) const PROTOCOL: [u8; 4] = [0x0E, 0xD8, 0x67, 0x16];

/// A handshake packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandshakePacket<'a> {
    /// What the sender calls itself in this handshake.
    pub sender: [u8; 16],
    /// What the sender calls the receiver.
    pub recipient: [u8; 16],
    /// Messages, without the padding.
    pub payload: &'a [u8],
}

/// Whether a packet that begins with these bytes claims to be a handshake packet.
#[inline]
pub(crate) fn is_handshake(packet: &[u8]) -> bool {
    packet.starts_with(&PROTOCOL)
}

/// Reads a handshake packet; the checksum is right.
#[inline]
pub(crate) fn parse(datagram: &[u8]) -> Result<HandshakePacket<'_>, Malformed> {
    let packet = Packet::parse(PROTOCOL, datagram)?;
    if packet.channel != DEFAULT_CHANNEL {
        return Err(Malformed::Channel);
    }
    Ok(HandshakePacket { sender: packet.sender.0, recipient: packet.recipient.0, payload: packet.payload })
}

/// Appends a handshake packet, padded to `pad_to` bytes if it is shorter.
///
/// False, and nothing is written, if it would be longer than 65 535 bytes.
#[inline]
#[must_use]
pub(crate) fn put_packet(
    out: &mut Vec<u8>,
    sender: &[u8; 16],
    recipient: &[u8; 16],
    payload: &[u8],
    pad_to: usize,
) -> bool {
    let packet = Packet {
        sender: PeerId(*sender),
        recipient: PeerId(*recipient),
        channel: DEFAULT_CHANNEL,
        flags: 0,
        sequence: 0,
        payload,
    };
    packet.put(PROTOCOL, pad_to, out)
}

#[cfg(test)]
mod tests {
    use super::{Malformed, OVERHEAD, PROTOCOL, is_handshake, parse, put_packet};

    #[test]
    fn what_is_put_is_parsed_and_nothing_else() {
        let mut packet = vec![0x55; 3];
        assert!(put_packet(&mut packet, b"sixteen bytes 01", b"sixteen bytes 02", b"payload", 100));
        let packet = packet.split_off(3);
        assert_eq!(packet.len(), 100);
        assert!(is_handshake(&packet));
        let parsed = parse(&packet).unwrap();
        assert_eq!(parsed.sender, *b"sixteen bytes 01");
        assert_eq!(parsed.recipient, *b"sixteen bytes 02");
        assert_eq!(parsed.payload, b"payload");
        for at in 0..packet.len() {
            for bit in 0..8 {
                let mut wrong = packet.clone();
                wrong[at] ^= 1 << bit;
                assert!(parse(&wrong).is_err(), "bit {bit} of byte {at}");
            }
        }
        for cut in 0..packet.len() {
            assert!(parse(&packet[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn sizes() {
        let mut packet = Vec::new();
        let largest = vec![0; 65_535 - OVERHEAD];
        assert!(put_packet(&mut packet, &[1; 16], &[2; 16], &largest, 0));
        assert_eq!(parse(&packet).unwrap().payload, largest);
        packet.clear();
        assert!(!put_packet(&mut packet, &[1; 16], &[2; 16], &vec![0; 65_536 - OVERHEAD], 0));
        assert!(!put_packet(&mut packet, &[1; 16], &[2; 16], &[], 65_536));
        assert!(packet.is_empty());
        assert_eq!(parse(&PROTOCOL), Err(Malformed::Short));
    }
}
