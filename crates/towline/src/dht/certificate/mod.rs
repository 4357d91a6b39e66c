//! Certificates on the DHT: publishing our own, finding those of others (`connection.md` 2.5, `dht.md` 3.8).

mod find;
mod publish;

use std::fmt;

use towline_identity::{Chain, ChainError, DeviceId};

use super::error::GetError;

pub use publish::CertificateAnnouncement;

/// The value id under which every device publishes its certificate.
const CERTIFICATE_ID: u64 = 1;

/// The user type of its copy; see [`Dht::publish_certificate`](super::Dht::publish_certificate).
const COPY_USER_TYPE: &str = "towline_certificate";

/// Which of its two keys a certificate was found at. A peer that publishes at the short id only is old, and listens
/// for connection requests at the short id only (`connection.md` 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateKey {
    /// SHA-1 of the long id: OpenDHT 3.5 and later.
    Long,
    /// The short id itself: before that.
    Short,
}

impl fmt::Display for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Long => "long id",
            Self::Short => "short id",
        })
    }
}

/// A certificate chain that belongs to the device that was looked for. Each certificate was made by the next; who
/// stands at the top is the caller's question: any account can certify the key of any device, unasked, and publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCertificate {
    /// The chain, device first.
    pub chain: Chain,
    /// Where it was found.
    pub at: CertificateKey,
}

/// A value at the key of a certificate that was not it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedCertificate {
    /// Where it lies.
    pub at: CertificateKey,
    /// Why it was passed over.
    pub why: RejectionReason,
}

/// Why a value at the key of a certificate was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectionReason {
    /// It is no chain of certificates, or one that does not hold.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// It is a copy that the device has not signed.
    #[error("it is a copy that the device has not signed")]
    Unsigned,
    /// The chain belongs to another device.
    #[error("it belongs to device {0}")]
    OtherDevice(DeviceId),
}

/// What was seen by a lookup that found no certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateEvidence {
    /// Answers from nodes near the keys, added up over the lookups.
    pub answers: usize,
    /// Values seen there.
    pub values: usize,
    /// Those that were passed over; no more than eight are described.
    pub rejected: Vec<RejectedCertificate>,
}

/// Why a certificate was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindCertificateError {
    /// The nodes near its keys answered, and none has it.
    #[error("no certificate: {} nodes answered with {} values, none of them it", .0.answers, .0.values)]
    NotFound(CertificateEvidence),
    /// There is nowhere to look: this node uses one kind of key ([`Eras`](crate::Eras)), and the id that makes it is
    /// not known.
    #[error("it cannot be looked for: this node looks by the {0} only, and that of the device is not known")]
    IdUnknown(CertificateKey),
    /// It could not be looked for.
    #[error(transparent)]
    Lookup(GetError),
}
