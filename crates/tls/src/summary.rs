//! What two peers agreed upon.

use std::fmt;

use rustls::{CipherSuite, HandshakeKind, NamedGroup, ProtocolVersion};

use crate::config::{Dialect, NATIVE_ALPN};
use crate::connection::Connection;

/// Version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Cipher of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-256-GCM with SHA-384.
    Aes256Gcm,
    /// ChaCha20-Poly1305 with SHA-256.
    ChaCha20Poly1305,
}

/// Group of the key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// NIST P-384.
    Secp384r1,
    /// X25519.
    X25519,
}

/// What two peers agreed upon, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandshakeSummary {
    /// Version of TLS.
    pub version: Version,
    /// Cipher of the records.
    pub suite: Suite,
    /// Group of the key exchange.
    pub group: Group,
    /// Whether the client's first key share was not to the server's liking, which costs a round trip.
    pub retried: bool,
    /// What is spoken above.
    pub dialect: Dialect,
    /// Bytes of the peer's handshake.
    pub peer_handshake_len: usize,
}

impl fmt::Display for HandshakeSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.version {
            Version::Tls12 => "TLS 1.2",
            Version::Tls13 => "TLS 1.3",
        };
        let suite = match self.suite {
            Suite::Aes256Gcm => "AES-256-GCM",
            Suite::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        };
        let group = match self.group {
            Group::Secp384r1 => "P-384",
            Group::X25519 => "X25519",
        };
        let retried = if self.retried { ", retried" } else { "" };
        write!(f, "{version}, {suite}, {group}{retried}")
    }
}

/// What the connection agreed upon, if its handshake is done.
pub(crate) fn summary(connection: &Connection, peer_handshake_len: usize) -> Option<HandshakeSummary> {
    let state = connection.state();
    if state.is_handshaking() {
        return None;
    }
    let version = match state.protocol_version()? {
        ProtocolVersion::TLSv1_3 => Version::Tls13,
        _ => Version::Tls12,
    };
    let suite = match state.negotiated_cipher_suite()?.suite() {
        CipherSuite::TLS13_AES_256_GCM_SHA384 | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => {
            Suite::Aes256Gcm
        }
        _ => Suite::ChaCha20Poly1305,
    };
    let group = match state.negotiated_key_exchange_group()?.name() {
        NamedGroup::secp384r1 => Group::Secp384r1,
        _ => Group::X25519,
    };
    let retried = state.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
    let native = state.alpn_protocol() == Some(NATIVE_ALPN);
    let dialect = if native { Dialect::Native } else { Dialect::Jami };
    Some(HandshakeSummary { version, suite, group, retried, dialect, peer_handshake_len })
}
