//! Who the peer is, and the secrets that only both know.
//!
//! # Packets
//!
//! Handshake packets have the envelope of `spec/channeler.md` section 1 under protocol id `0ed86716`, on the default channel, flags and sequence number 0.
//! The sender field is the sender's connection id for link 0 (8 bytes) ‖ the attempt (8 random bytes of the initiator); the recipient field is the same of the recipient,
//! or, as long as the initiator does not know the responder's connection id, the responder's peer id, or zeros if that is not known either.
//! A packet of another attempt, or for or from somebody else, is ignored. The initiator pads its datagrams to 1200 bytes.
//!
//! The payload is a sequence of messages: type (one byte), length (varint of section 2.3), body. Unknown types are skipped.
//!
//! | type | name | body |
//! | --- | --- | --- |
//! | 64 | FRAGMENT | message (one byte), its whole length (varint, at most 16 384), offset (varint), bytes |
//! | 65 | RETRY | cookie, 17 bytes: begin again, with it |
//! | 66 | COOKIE | the cookie, in every packet of an initiator that was given one |
//! | 67 | RECEIVED | message (one byte), then start and end (varints) of each range of it that is there, at most 32 |
//!
//! # Messages
//!
//! Noise (revision 34), with X25519, SHA-256 and the cipher that the initiator chose: `IKpsk2` if the initiator knows the responder's static key, else `XXpsk2`.
//! The prologue is `channeler/1.17` ‖ sender field of the initiator (16 bytes).
//!
//! | message | from | content |
//! | --- | --- | --- |
//! | 0 | initiator | pattern (1: IK, 2: XX), suite (1: AES-256-GCM, 2: ChaCha20-Poly1305), Noise message 1 with payload `hello` |
//! | 1 | responder | ML-KEM-768 ciphertext (1088 bytes), Noise message 2 with payload `answer` |
//! | 2 | initiator, XX only | Noise message 3 with payload `about` |
//! | 3 | responder, XX only | refusal of the initiator: code (one byte), proof (16 bytes) |
//!
//! * `hello`: ML-KEM-768 encapsulation key (1184 bytes); with IK, `about` follows.
//! * `answer`: 0, connection id of the responder (8 bytes), `about`; or a code other than 0, which refuses the initiator.
//! * `about`: length of the transport parameters (varint), transport parameters, credentials to the end.
//! * codes of refusal: 1 other, 2 not admitted, 3 credentials malformed, 4 credentials false, 5 credentials expired, 6 another device than was dialled.
//! * proof: `Expand(Expand(k_r, "channeler v1 refusal" ‖ h, 32), code, 16)`, with `k_r` and `h` as below.
//!
//! Noise's `psk` is `Expand(Extract(salt = H(encapsulation key) ‖ H(ciphertext), ikm = ML-KEM secret ‖ S), "channeler v1 hybrid", 32)`, where `S` is the shared secret of
//! the two programs (32 bytes) or zeros, `H` is SHA-256, and `Extract` and `Expand` are those of HKDF-SHA-256. So the secrets of a connection are safe unless both X25519 and ML-KEM are broken.
//! Not so the identity of the initiator in message 0 of IK, and of the responder in message 1 of XX: X25519 alone hides those.
//!
//! `Split()` gives `k_i` and `k_r`, and the handshake hash is `h`: the rest is in `crypto`. A peer id is the first 16 bytes of SHA-256(`channeler v1 peer` ‖ static key).
//!
//! # Who knows what, when
//!
//! With IK, the responder is done when it answers, but the first message may be a replay: the initiator is there for certain when the first data packet of its opens.
//! The initiator is done with the answer. With XX, the initiator is done when it has sent message 2, which it repeats until a data packet of the responder opens; the responder is done
//! with that message, or refuses by message 3. Whoever is done sends a data packet soon, so that the other one stops repeating.
//!
//! # Loss and forgery
//!
//! A side repeats its message at probe timeouts: 333 ms at first, or three round trips if known, doubling to 3 s; of a message of which RECEIVED told, only what is missing.
//! Who has part of a message says so 25 ms after the last fragment; an initiator at once if the responder may have sent as much as it may (see below). Who gets a message again that it understood repeats its answer.
//! A message that does not authenticate is dropped whole, and RECEIVED says that nothing of it is there. It never ends a handshake. An initiator that is answered by another peer than the one it
//! dialled, or by one it does not admit (XX: anybody can do that), waits 2 s longer for the right one.
//!
//! # Addresses
//!
//! Until a packet showed the responder's connection id or a cookie, the responder sends to an address no more bytes than came from it. An initiator that dials with XX sends packets of padding along if
//! it expects credentials (it takes the peer's to be as long as its own), so that the answer has room. Under load, a responder answers a first packet with nothing but RETRY, and remembers nothing.

mod assembly;
mod certified;
mod cookie;
mod flight;
mod hybrid;
mod key;
mod machine;
mod message;
mod noise;
mod payload;
#[cfg(test)]
mod tests;
mod trust;

use std::time::Duration;

use thiserror::Error;

pub use self::{
    certified::{Certified, CertifiedPeers},
    key::StaticKey,
    trust::{Credentials, KeyOnly, PeerIdentity, Refused, Trust},
};
pub(crate) use self::{
    cookie::Cookies,
    machine::{Handshake, Settings},
};
use crate::{ConnectionId, PeerId, crypto::ConnectionSecrets};

/// The version of the protocol: its handshakes begin with `channeler/1.17`. Both sides must have the same.
pub const VERSION: u16 = 17;

/// Who is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Whoever has this static key. One round trip; the peer is told who dials in the first packet, encrypted to that key.
    Key([u8; 32]),
    /// Whoever has a static key of this id.
    Id(PeerId),
    /// Whoever the trust admits.
    Trusted,
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// No authentic answer came in time.
    #[error("not answered in time")]
    TimedOut,
    /// A peer answered that is not the one that was dialled.
    #[error("another peer answered")]
    WrongPeer,
    /// The peer proved who it is, but the trust of this side does not admit it.
    #[error("peer not admitted: {0}")]
    NotAdmitted(Refused),
    /// The peer proved who it is, and does not admit this side.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Refused),
    /// An authentic message did not parse.
    #[error("authentic message is malformed")]
    Malformed,
    /// The static key that was dialled is one that shares its secrets with everybody.
    #[error("key of low order dialled")]
    WeakKey,
}

/// What [`Handshake::handle`] brought.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Nothing yet, or nothing more.
    More,
    /// Data packets can be sent and opened. Comes once.
    Complete(Box<Established>),
}

/// The outcome of a handshake.
#[derive(Debug)]
pub(crate) struct Established {
    /// What data packets are protected with.
    pub secrets: ConnectionSecrets,
    /// Who the peer is.
    pub peer: PeerIdentity,
    /// Its transport parameters.
    pub parameters: Vec<u8>,
    /// Its connection id for link 0.
    pub peer_cid: ConnectionId,
    /// If false, the handshake is to be driven on until the first data packet of the peer opens. Until then a responder does not know
    /// that the peer is there and no replay, and an initiator not that it was admitted.
    pub confirmed: bool,
    /// A round trip, if one could be measured.
    pub rtt: Option<Duration>,
}
