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
