//! Who the peer is, and the secrets that only both know.

use thiserror::Error;

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// A handshake message did not parse or did not authenticate.
    #[error("handshake message does not authenticate")]
    Unauthentic,
}

/// The private key by which a peer is known.
#[derive(Clone)]
pub struct StaticKey([u8; 32]);

impl StaticKey {
    /// From 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// What a side shows of itself besides its key.
pub trait Credentials: Send + Sync {
    /// The bytes shown.
    fn payload(&self) -> std::sync::Arc<[u8]>;
}

/// Whom a side talks to.
pub trait Trust: Send + Sync {
    /// Decides about a peer that proved to have the private key of `static_key`.
    fn admit(&self, static_key: &[u8; 32], payload: &[u8], unix_time: i64) -> Result<PeerIdentity, Refused>;
}

/// The peer is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not admitted")]
pub struct Refused;

/// Who a peer proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its static key.
    pub static_key: [u8; 32],
}

/// Who is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Whoever has this static key.
    Key([u8; 32]),
    /// Whoever has a static key of this id.
    Id(crate::PeerId),
    /// Whoever the trust admits.
    Trusted,
}
