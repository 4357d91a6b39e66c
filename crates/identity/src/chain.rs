//! A certificate with those that vouch for it (`spec/connection.md` 2.3, 2.4 and 2.6).

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::certificate::{Certificate, CertificateError, LinkError, Validity};
use crate::{AccountId, DeviceId, PublicKey, ShortId};

/// Most certificates in a chain. Jami's have three.
pub const MAX_CHAIN_CERTIFICATES: usize = 8;

/// Longest packed chain that is read, in bytes: what fits a value on the DHT.
pub const MAX_CHAIN_LEN: usize = 64 * 1024;

/// Why something is not a chain, or not one that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There is no certificate in it.
    #[error("there is no certificate")]
    Empty,
    /// Longer than any chain in use.
    #[error("a chain of {0} bytes is longer than the {MAX_CHAIN_LEN} allowed")]
    TooLong(usize),
    /// More certificates than any chain in use.
    #[error("there are more than {MAX_CHAIN_CERTIFICATES} certificates")]
    TooMany,
    /// The PEM armour is damaged.
    #[error("damaged PEM")]
    Pem,
    /// One of the certificates cannot be read.
    #[error("certificate {index}: {error}")]
    Certificate {
        /// Which, from 0 (the leaf).
        index: usize,
        /// What is wrong.
        error: CertificateError,
    },
    /// One of the certificates was not made by the next.
    #[error("certificate {index}: {error}")]
    Link {
        /// Which, from 0 (the leaf).
        index: usize,
        /// What is wrong.
        error: LinkError,
    },
    /// One of the certificates counts no longer.
    #[error("certificate {index} has expired")]
    Expired {
        /// Which, from 0 (the leaf).
        index: usize,
    },
    /// One of the certificates does not count yet.
    #[error("certificate {index} is not yet valid")]
    NotYetValid {
        /// Which, from 0 (the leaf).
        index: usize,
    },
}

/// A certificate, its issuer, the issuer of that, and so on: at least the leaf. Cloning is cheap.
///
/// A chain is only an order until [`Chain::verify_links`] said that it holds; and even then it was made by whoever
/// holds the keys. What makes a peer known is its key, or its account's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chain(Arc<[Certificate]>);

impl Chain {
    /// Puts certificates in order, leaf first.
    pub fn new(certificates: impl Into<Arc<[Certificate]>>) -> Result<Self, ChainError> {
        let certificates = certificates.into();
        match certificates.len() {
            0 => Err(ChainError::Empty),
            1..=MAX_CHAIN_CERTIFICATES => Ok(Self(certificates)),
            _ => Err(ChainError::TooMany),
        }
    }

    /// Reads a list of DER certificates, as TLS presents them, leaf first.
    pub fn from_ders<'a>(ders: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ChainError> {
        let mut certificates = Vec::new();
        for (index, der) in ders.into_iter().enumerate() {
            if index == MAX_CHAIN_CERTIFICATES {
                return Err(ChainError::TooMany);
            }
            let certificate =
                Certificate::from_der(der).map_err(|error| ChainError::Certificate { index, error })?;
            certificates.push(certificate);
        }
        Self::new(certificates)
    }

    /// Reads a packed chain: PEM blocks, or DER certificates one after the other, leaf first. What precedes the first
    /// PEM block is skipped, as the peers do; other PEM blocks are too.
    pub fn unpack(packed: &[u8]) -> Result<Self, ChainError> {
        if packed.len() > MAX_CHAIN_LEN {
            return Err(ChainError::TooLong(packed.len()));
        }
        const ARMOUR: &[u8] = b"-----BEGIN ";
        if let Some(start) = packed.windows(ARMOUR.len()).position(|window| window == ARMOUR) {
            let ders: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(&packed[start..]).take(MAX_CHAIN_CERTIFICATES + 1).collect();
            return Self::from_ders(ders.map_err(|_| ChainError::Pem)?.iter().map(AsRef::as_ref));
        }
        let mut certificates = Vec::new();
        let mut rest = packed;
        while !rest.is_empty() {
            let index = certificates.len();
            if index == MAX_CHAIN_CERTIFICATES {
                return Err(ChainError::TooMany);
            }
            let certificate;
            (rest, certificate) =
                Certificate::read(rest).map_err(|error| ChainError::Certificate { index, error })?;
            certificates.push(certificate);
        }
        Self::new(certificates)
    }

    /// The packed form: PEM, leaf to root.
    pub fn pack(&self) -> String {
        self.0.iter().map(Certificate::to_pem).collect()
    }

    /// The certificates, leaf first.
    pub fn certificates(&self) -> &[Certificate] {
        &self.0
    }

    /// The certificate that the others vouch for.
    pub fn leaf(&self) -> &Certificate {
        self.0.first().expect("a chain has a leaf")
    }

    /// The certificate that stands alone at the end.
    pub fn top(&self) -> &Certificate {
        self.0.last().expect("a chain has a leaf")
    }

    /// The certificate of the account: the leaf's issuer. None if the leaf stands alone.
    pub fn account(&self) -> Option<&Certificate> {
        self.0.get(1)
    }

    /// The account's id: short id of the key that signed the leaf.
    pub fn account_id(&self) -> Option<AccountId> {
        self.account().map(|account| account.short_id().into())
    }

    /// The leaf's key.
    pub fn public_key(&self) -> &PublicKey {
        self.leaf().public_key()
    }

    /// Long id of the leaf.
    pub fn device_id(&self) -> DeviceId {
        self.leaf().device_id()
    }

    /// Short id of the leaf.
    pub fn short_id(&self) -> ShortId {
        self.leaf().short_id()
    }

    /// The chain of the leaf's issuer.
    pub fn issuer(&self) -> Option<Self> {
        self.0.get(1..).filter(|rest| !rest.is_empty()).map(|rest| Self(rest.into()))
    }

    /// The DER encodings, leaf first, as TLS wants them.
    pub fn ders(&self) -> Vec<CertificateDer<'static>> {
        self.0.iter().map(|certificate| certificate.der().to_vec().into()).collect()
    }

    /// Checks that each certificate was made by the next, up to the chain's own top.
    ///
    /// Anybody can make a chain that passes. Dates are another question: [`Chain::verify_validity`].
    pub fn verify_links(&self) -> Result<(), ChainError> {
        for (index, pair) in self.0.windows(2).enumerate() {
            pair[0].verify_issued_by(&pair[1]).map_err(|error| ChainError::Link { index, error })?;
        }
        Ok(())
    }

    /// Checks that all certificates count at `now` (seconds since the Unix epoch). Jami enforces no dates.
    pub fn verify_validity(&self, now: i64) -> Result<(), ChainError> {
        for (index, certificate) in self.0.iter().enumerate() {
            let Validity { not_before, not_after } = certificate.validity();
            if now > not_after {
                return Err(ChainError::Expired { index });
            }
            if now < not_before {
                return Err(ChainError::NotYetValid { index });
            }
        }
        Ok(())
    }
}
