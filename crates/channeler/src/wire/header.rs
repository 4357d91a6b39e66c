//! The 16 bytes in front of every encrypted packet (`spec/channeler.md` section 9.1).

use crate::{ChannelId, ConnectionId};

/// Bytes of the header.
pub(crate) const HEADER_LEN: usize = 16;
/// Bytes of the authentication tag at the end of a packet.
pub(crate) const TAG_LEN: usize = 16;
/// What a packet takes beside its messages.
pub(crate) const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// First byte of every data packet, but for key phase and spin bit; in the range that RFC 9443 leaves free.
const FIRST: u8 = 0b0000_1000;
const PHASE: u8 = 0b10;
const SPIN: u8 = 0b01;

/// Bits of the packet number that are sent.
const NUMBER_BITS: u32 = 24;

/// The header of a data packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Key phase of this channel and direction.
    pub phase: bool,
    /// For observers who measure round trips.
    pub spin: bool,
    /// Packet number of the link. Only its low 24 bits are sent; a parsed header has only those.
    pub pn: u64,
    /// Whose messages these are.
    pub channel: ChannelId,
    /// The receiver's name for connection and link.
    pub cid: ConnectionId,
}

impl Header {
    /// The bytes, not yet protected.
    #[inline]
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let first = FIRST | u8::from(self.phase) << 1 | u8::from(self.spin);
        let word = u32::from(first) << NUMBER_BITS | (self.pn as u32 & ((1 << NUMBER_BITS) - 1));
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&word.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.channel.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.cid.0);
        bytes
    }

    /// Reads a header whose protection was removed. `None` if the first byte is not that of a data packet.
    #[inline]
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let [first, n0, n1, n2, c0, c1, c2, c3, cid @ ..] = *bytes;
        is_data(first).then(|| Self {
            phase: first & PHASE != 0,
            spin: first & SPIN != 0,
            pn: u64::from(u32::from_be_bytes([0, n0, n1, n2])),
            channel: ChannelId(u32::from_be_bytes([c0, c1, c2, c3])),
            cid: ConnectionId(cid),
        })
    }
}

/// Whether a packet that begins with this byte, protected or not, is a data packet.
#[inline]
pub(crate) const fn is_data(first: u8) -> bool {
    first & !(PHASE | SPIN) == FIRST
}

/// The first byte of what is to look like a data packet: two bits of chance.
pub(crate) const fn random_first(chance: u8) -> u8 {
    FIRST | chance & (PHASE | SPIN)
}

/// The full packet number: the one nearest to `expected`, the largest received plus one, that ends in these 24 bits
/// (RFC 9000, appendix A.3).
#[inline]
pub(crate) const fn expand(pn24: u32, expected: u64) -> u64 {
    const WINDOW: u64 = 1 << NUMBER_BITS;
    let candidate = expected & !(WINDOW - 1) | pn24 as u64 & (WINDOW - 1);
    if candidate + WINDOW / 2 <= expected {
        candidate + WINDOW
    } else if candidate > expected + WINDOW / 2 && candidate >= WINDOW {
        candidate - WINDOW
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Header, expand};
    use crate::{ChannelId, ConnectionId};

    #[test]
    fn layout() {
        let header = Header {
            phase: true,
            spin: false,
            pn: 0x0123_4567_89AB,
            channel: ChannelId(0xDEAD_D00D),
            cid: ConnectionId(*b"eight by"),
        };
        let bytes = header.encode();
        assert_eq!(hex::encode(bytes), "0a6789abdeadd00d6569676874206279");
        assert_eq!(Header::parse(&bytes), Some(Header { pn: 0x67_89AB, ..header }));
    }

    proptest! {
        #[test]
        fn what_parses_encodes_to_the_same(bytes: [u8; 16]) {
            match Header::parse(&bytes) {
                Some(header) => prop_assert_eq!(header.encode(), bytes),
                None => prop_assert_ne!(bytes[0] >> 2, 2),
            }
        }

        #[test]
        fn numbers_near_the_expected_one_are_found(expected in 0_u64..1 << 61, off in -(1_i64 << 23) + 1..1 << 23) {
            let number = expected.saturating_add_signed(off);
            prop_assert_eq!(expand(number as u32 & 0xFF_FFFF, expected), number);
        }

        #[test]
        fn expansion_never_overflows(pn24: u32, expected in 0_u64..=crate::varint::MAX) {
            prop_assert_eq!(expand(pn24, expected) as u32 & 0xFF_FFFF, pn24 & 0xFF_FFFF);
        }
    }
}
