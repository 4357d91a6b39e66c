//! The clear envelope: all packets of v0, and the handshake packets of v1 (`spec/channeler.md` section 1).

use thiserror::Error;

use crate::PeerId;

/// Bytes before the payload.
const HEADER: usize = 48;
/// Bytes of the checksum behind the padding.
const FOOTER: usize = 4;

/// What a packet takes beside its messages and padding, in bytes.
pub const OVERHEAD: usize = HEADER + FOOTER;

/// Largest packet that its size field can name, in bytes.
pub const MAX_PACKET: usize = u16::MAX as usize;

/// A packet of the clear envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Who sent it, as the packet says.
    pub sender: PeerId,
    /// Whom it is for.
    pub recipient: PeerId,
    /// The channel that its messages belong to: two halves, or [`DEFAULT_CHANNEL`].
    pub channel: u32,
    /// Bit 0: encrypted; bit 1: spin; the others are free.
    pub flags: u16,
    /// Number in the channel, for the reader's statistics.
    pub sequence: u16,
    /// The messages, without the padding.
    pub payload: &'a [u8],
}

/// The channel that always exists and carries the negotiation of others.
pub const DEFAULT_CHANNEL: u32 = 0xF0F0_F0F0;

/// The rule of the envelope that a packet broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Fewer bytes than an empty packet.
    #[error("shorter than the envelope")]
    Short,
    /// Another protocol or version.
    #[error("foreign protocol id")]
    Protocol,
    /// The size field names fewer bytes than the envelope or more than came.
    #[error("packet size out of range")]
    Size,
    /// The payload does not fit into the packet.
    #[error("payload larger than its packet")]
    Payload,
    /// The checksum is that of another packet.
    #[error("wrong checksum")]
    Checksum,
    /// A handshake packet on a channel that is not the default one.
    #[error("handshake packet on a channel")]
    Channel,
}

impl<'a> Packet<'a> {
    /// Reads a packet of the protocol with this id from the front of a datagram. What follows it is ignored.
    #[inline]
    pub fn parse(protocol: [u8; 4], datagram: &'a [u8]) -> Result<Self, Malformed> {
        let Some((header, _)) = datagram.split_first_chunk::<HEADER>() else {
            return Err(Malformed::Short);
        };
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if header[..4] != protocol {
            return Err(Malformed::Protocol);
        }
        let size = usize::from(word(42));
        if size < OVERHEAD {
            return Err(Malformed::Size);
        }
        let packet = datagram.get(..size).ok_or(Malformed::Size)?;
        let payload = usize::from(word(46));
        let (covered, checksum) = packet.split_last_chunk::<FOOTER>().ok_or(Malformed::Size)?;
        let payload = covered.get(HEADER..HEADER + payload).ok_or(Malformed::Payload)?;
        if crc32c::crc32c(covered).to_be_bytes() != *checksum {
            return Err(Malformed::Checksum);
        }
        Ok(Self {
            sender: PeerId(sixteen(header, 4)),
            recipient: PeerId(sixteen(header, 20)),
            channel: u32::from_be_bytes([header[36], header[37], header[38], header[39]]),
            flags: word(40),
            sequence: word(44),
            payload,
        })
    }

    /// Appends the packet to `out`, padded to `pad_to` bytes if it is shorter.
    ///
    /// False, and nothing is written, if it would be longer than [`MAX_PACKET`].
    #[inline]
    pub fn put(&self, protocol: [u8; 4], pad_to: usize, out: &mut Vec<u8>) -> bool {
        let least = OVERHEAD + self.payload.len();
        let size = least.max(pad_to);
        let Ok(size_field) = u16::try_from(size) else {
            return false;
        };
        let start = out.len();
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&protocol);
        header[4..20].copy_from_slice(&self.sender.0);
        header[20..36].copy_from_slice(&self.recipient.0);
        header[36..40].copy_from_slice(&self.channel.to_be_bytes());
        header[40..42].copy_from_slice(&self.flags.to_be_bytes());
        header[42..44].copy_from_slice(&size_field.to_be_bytes());
        header[44..46].copy_from_slice(&self.sequence.to_be_bytes());
        header[46..48].copy_from_slice(&(self.payload.len() as u16).to_be_bytes());
        out.reserve(size);
        out.extend_from_slice(&header);
        out.extend_from_slice(self.payload);
        let padding = size - least;
        out.resize(out.len() + padding, (padding % 255) as u8);
        let checksum = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&checksum.to_be_bytes());
        true
    }
}

fn sixteen(header: &[u8; HEADER], at: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&header[at..at + 16]);
    bytes
}
