//! What goes wrong in a session.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use towline_identity::{ChainError, DeviceId};

use crate::verify::Refusal;

/// Why a session failed. After an error a session has nothing more to say, except for an alert that
/// [`Session::poll_transmit`](crate::Session::poll_transmit) may still hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The peer is another device than the one expected.
    #[error("the peer is {found}, not {expected}")]
    WrongKey {
        /// Whom we wanted.
        expected: DeviceId,
        /// Who answered (by the certificate presented).
        found: DeviceId,
    },
    /// The peer presented no certificate.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// The peer's certificates cannot be read, or the chain does not hold, or (if enforced) counts no longer.
    #[error("the peer's certificates: {0}")]
    Chain(ChainError),
    /// The peer's key is not RSA, so it cannot be a device's.
    #[error("the peer's key is not an RSA key")]
    NotRsa,
    /// The peer did not prove that it holds the key.
    #[error("the peer did not prove that it holds the key")]
    BadSignature,
    /// There is nothing that both sides can do.
    #[error("nothing in common: {0}")]
    Incompatible(Incompatibility),
    /// The peer refused, or gave up.
    #[error("the peer refused: alert {0}")]
    PeerAlert(u8),
    /// The transport ended without a farewell: data may be missing.
    #[error("the connection was cut off")]
    Truncated,
    /// What came is not TLS.
    #[error("what came is not TLS")]
    Garbage,
    /// A record was damaged or forged on its way.
    #[error("a record was damaged or forged")]
    Tampered,
    /// The peer's handshake messages are longer than allowed.
    #[error("the handshake is longer than the {limit} bytes allowed")]
    HandshakeTooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// The peer broke the rules of TLS.
    #[error("the peer broke the rules of TLS")]
    Misbehaved,
    /// There is no sending before the handshake is done.
    #[error("the handshake is not done")]
    NotEstablished,
    /// There is no sending after closing.
    #[error("the session was closed on this side")]
    Closed,
    /// The keys are worn out; this takes more data than can be sent in years.
    #[error("the keys are worn out")]
    Exhausted,
    /// The TLS library failed (no randomness).
    #[error("the TLS library failed")]
    Library,
}

/// What two TLS programs have not in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incompatibility {
    /// A protocol version: we speak 1.3 and 1.2.
    Version,
    /// A cipher suite.
    CipherSuite,
    /// A group to exchange keys in: we have P-384 and X25519.
    Group,
    /// Something else that we need of the peer.
    Other,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "no version of TLS",
            Self::CipherSuite => "no cipher suite",
            Self::Group => "no key exchange group",
            Self::Other => "a feature that is needed is missing",
        })
    }
}

impl From<PeerIncompatible> for Incompatibility {
    fn from(incompatible: PeerIncompatible) -> Self {
        match incompatible {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => Self::Version,
            PeerIncompatible::NoCipherSuitesInCommon => Self::CipherSuite,
            PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoEcPointFormatsInCommon
            | PeerIncompatible::NamedGroupsExtensionRequired
            | PeerIncompatible::KeyShareExtensionRequired => Self::Group,
            _ => Self::Other,
        }
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(CertificateError::BadSignature) => Self::BadSignature,
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                match other.0.downcast_ref::<Refusal>() {
                    Some(refusal) => refusal.into(),
                    None => Self::Misbehaved,
                }
            }
            Error::PeerIncompatible(incompatible) => Self::Incompatible(incompatible.into()),
            Error::AlertReceived(AlertDescription::ProtocolVersion) => {
                Self::Incompatible(Incompatibility::Version)
            }
            Error::AlertReceived(alert) => Self::PeerAlert(alert.into()),
            Error::InvalidMessage(_) => Self::Garbage,
            Error::DecryptError => Self::Tampered,
            Error::EncryptError => Self::Exhausted,
            Error::HandshakeNotComplete => Self::NotEstablished,
            Error::FailedToGetRandomBytes | Error::General(_) | Error::Other(_) => Self::Library,
            _ => Self::Misbehaved,
        }
    }
}

impl From<&Refusal> for TlsError {
    fn from(refusal: &Refusal) -> Self {
        match *refusal {
            Refusal::WrongKey { expected, found } => Self::WrongKey { expected, found },
            Refusal::Chain(error) => Self::Chain(error),
            Refusal::NotRsa => Self::NotRsa,
        }
    }
}
