//! Protection of v1 data packets: each channel has keys of its own, in each direction, and renews them on its own.
//!
//! # Derivation
//!
//! `Expand` is HKDF-Expand and `Extract` HKDF-Extract of RFC 5869, both with SHA-256; integers are big-endian; labels are
//! the ASCII bytes shown, without a terminator. The handshake gives two secrets of 32 bytes, `k_i` and `k_r` (the two that
//! Noise's `Split()` gives, the initiator's direction first), and the handshake hash `h`. For each direction `d`:
//!
//! | what | how | bytes |
//! | --- | --- | --- |
//! | secret of the direction | `Extract(salt = h, ikm = k_d)` | 32 |
//! | header protection key | `Expand(secret, "channeler v1 header", 32)` | 32 |
//! | key ‖ IV of a channel | `Expand(secret, "channeler v1 channel" ‖ channel id u32 ‖ generation u32, 44)` | 32 ‖ 12 |
//!
//! A channel that lies idle drops its keys and derives them again from its id and generation.
//!
//! # A packet
//!
//! ```text
//! 0       0000 10KS       K: lowest bit of the generation of the sender's keys for this channel; S: spin bit
//! 1..4    packet number of the link, lowest 24 bits
//! 4..8    channel id
//! 8..16   connection id
//! 16..    ciphertext, and 16 bytes of tag
//! ```
//!
//! The AEAD is AES-256-GCM or ChaCha20-Poly1305, chosen by the initiator. Its nonce is the channel's IV xor
//! (link id u32 ‖ packet number u64); the additional data are the 16 bytes of the header. Packet numbers are those of the link and
//! never used twice, so no nonce repeats under a key, whatever the channels do.
//!
//! Then the header is masked. Sample = first 16 bytes behind the header (there are always 16: the tag). Mask = with AES, the first 8 bytes of
//! AES-256-ECB(header key, sample); with ChaCha20, the first 8 bytes of its key stream for counter = sample[0..4] little-endian,
//! nonce = sample[4..16] (RFC 9001 section 5.4.4). `byte[0] ^= mask[0] & 3`; `byte[1..8] ^= mask[1..8]`. The connection id stays readable.
//!
//! # Update
//!
//! Each sender updates the keys of each channel alone, generation + 1, at the latest when a key has sealed 2^22 packets
//! ([`UPDATE_AT`]); no key ever seals more than 2^23. It updates only when the peer has acknowledged a packet of the current generation, and only
//! 2 s ([`UPDATE_INTERVAL`]) or more after the first such acknowledgement. A receiver that opens a packet of the next generation keeps the
//! key before it for 1 s ([`KEEP_OLD`]), takes packets of the other phase as old ones while it does, and as the next generation otherwise.
//! So a phase bit is never ambiguous. A connection in which 2^36 packets failed to open must end.

mod header;
mod key;
mod open;
mod seal;
mod secrets;

use std::time::Duration;

pub(crate) use open::{ChannelOpen, Opener, Undecryptable};
pub(crate) use seal::{ChannelSeal, Exhausted, Sealer};
pub(crate) use secrets::{ConnectionSecrets, expand};

/// Bytes of an AEAD tag.
const TAG_LEN: usize = 16;
/// Bytes of the header of a data packet.
const HEADER_LEN: usize = 16;
/// The key phase in the first byte of a header.
const PHASE: u8 = 0b10;

/// Packets sealed by one key after which the sender updates it as soon as it may.
const UPDATE_AT: u32 = 1 << 22;
/// Packets that one key seals at most: the limit of AES-GCM for packets of up to 2^16 bytes (RFC 9001 section B.1.1).
const SEAL_LIMIT: u32 = 1 << 23;
/// Packets of a connection that fail to open at most (RFC 9001 section 6.6).
const OPEN_LIMIT: u64 = 1 << 36;
/// How long a receiver keeps the key before the current one.
const KEEP_OLD: Duration = Duration::from_secs(1);
/// How long a sender stays with a key that the peer is known to have.
const UPDATE_INTERVAL: Duration = Duration::from_secs(2);

/// The cipher of a connection, chosen by its initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Suite {
    /// AES-256-GCM: the faster one on every processor with AES instructions.
    #[default]
    Aes256Gcm,
    /// ChaCha20-Poly1305: for processors without them.
    ChaCha20Poly1305,
}

#[cfg(test)]
mod tests;
