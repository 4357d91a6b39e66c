//! One X.509 certificate, read (`spec/connection.md` 2.1, `spec/dht.md` 5).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use pkcs8::LineEnding;
use pkcs8::der::pem::encode_string;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_X509_COMMON_NAME;
use x509_parser::oid_registry::asn1_rs::oid;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::signature::{SignatureAlgorithm, Verdict};
use crate::{DeviceId, PublicKey, PublicKeyError, ShortId};

/// Longest certificate that is read, in bytes of DER. One of OpenDHT with RSA-4096 has about 1,400.
pub const MAX_CERTIFICATE_LEN: usize = 16 * 1024;

pub(crate) const CERTIFICATE_LABEL: &str = "CERTIFICATE";

/// Why bytes are not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than any certificate in use.
    #[error("a certificate of {0} bytes is longer than the {MAX_CERTIFICATE_LEN} allowed")]
    TooLong(usize),
    /// Not the DER of an X.509 certificate.
    #[error("not the DER of an X.509 certificate")]
    Malformed,
    /// Bytes follow the certificate.
    #[error("bytes follow the certificate")]
    Trailing,
    /// The public key inside is malformed.
    #[error("public key: {0}")]
    Key(#[from] PublicKeyError),
}

/// Why a certificate is not the next one's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The issuer it names is not the subject of the next certificate.
    #[error("it names another issuer")]
    Issuer,
    /// The next certificate may not sign certificates.
    #[error("its issuer is not an authority")]
    NotAuthority,
    /// It is signed with an algorithm that is unknown, too weak or not of the issuer's key.
    #[error("it is signed with an unsupported algorithm")]
    Algorithm,
    /// The signature is not the issuer's.
    #[error("its signature is false")]
    Signature,
}

/// Who a certificate speaks of or was made by: the parts of a distinguished name that we use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Name {
    /// Common name (CN).
    pub common: Option<String>,
    /// User id (UID, 0.9.2342.19200300.100.1.1): by custom the short id of the key, 40 hexadecimal digits.
    pub uid: Option<String>,
}

impl Name {
    /// The short id that the user id spells, if it spells one.
    pub fn short_id(&self) -> Option<ShortId> {
        self.uid.as_deref()?.parse().ok()
    }

    fn read(name: &X509Name<'_>) -> Self {
        let first = |oid| name.iter_by_oid(oid).next().and_then(|a| a.as_str().ok()).map(str::to_owned);
        Self { common: first(&OID_X509_COMMON_NAME), uid: first(&oid!(0.9.2342.19200300.100.1.1)) }
    }
}

/// When a certificate says it counts, in seconds since the Unix epoch; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Validity {
    /// First second.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

impl Validity {
    /// Whether `now` (seconds since the Unix epoch) lies inside.
    pub fn contains(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// A certificate. Cloning costs a reference count; equality is that of the encodings.
///
/// Reading is liberal, as the certificates in use demand: serial numbers of either sign, no extensions at all, any version.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Box<[u8]>,
    signed: Range<usize>,
    signature: Range<usize>,
    algorithm: SignatureAlgorithm,
    subject: Name,
    subject_der: Range<usize>,
    issuer: Name,
    issuer_der: Range<usize>,
    serial: Range<usize>,
    validity: Validity,
    is_ca: bool,
    key: PublicKey,
}

impl Certificate {
    /// Reads DER.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, certificate) = Self::read(der)?;
        if rest.is_empty() { Ok(certificate) } else { Err(CertificateError::Trailing) }
    }

    /// Reads one certificate from the front of `input`; gives back what follows it.
    pub(crate) fn read(input: &[u8]) -> Result<(&[u8], Self), CertificateError> {
        let bounded = &input[..input.len().min(MAX_CERTIFICATE_LEN)];
        let (rest, parsed) = X509Certificate::from_der(bounded).map_err(|_| {
            if input.len() > MAX_CERTIFICATE_LEN {
                CertificateError::TooLong(input.len())
            } else {
                CertificateError::Malformed
            }
        })?;
        let der = &bounded[..bounded.len() - rest.len()];
        let tbs = &parsed.tbs_certificate;
        let within = |part: &[u8]| {
            let start = part.as_ptr().addr() - der.as_ptr().addr();
            start..start + part.len()
        };
        let authority = tbs.basic_constraints().ok().flatten().is_some_and(|e| e.value.ca);
        let may_sign = tbs.key_usage().ok().flatten().is_none_or(|e| !e.critical || e.value.key_cert_sign());
        let inner = Inner {
            signed: within(tbs.as_ref()),
            signature: within(&parsed.signature_value.data),
            algorithm: SignatureAlgorithm::from_oid(&parsed.signature_algorithm.algorithm),
            subject: Name::read(&tbs.subject),
            subject_der: within(tbs.subject.as_raw()),
            issuer: Name::read(&tbs.issuer),
            issuer_der: within(tbs.issuer.as_raw()),
            serial: within(tbs.raw_serial()),
            validity: Validity {
                not_before: tbs.validity.not_before.timestamp(),
                not_after: tbs.validity.not_after.timestamp(),
            },
            is_ca: authority && may_sign,
            key: PublicKey::from_spki_der(tbs.subject_pki.raw)?,
            der: der.into(),
        };
        Ok((&input[der.len()..], Self(Arc::new(inner))))
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The PEM encoding, with a newline at the end.
    pub fn to_pem(&self) -> String {
        encode_string(CERTIFICATE_LABEL, LineEnding::LF, self.der()).expect("a certificate is bounded")
    }

    /// Whom it speaks of.
    pub fn subject(&self) -> &Name {
        &self.0.subject
    }

    /// Whom it names as its maker.
    pub fn issuer(&self) -> &Name {
        &self.0.issuer
    }

    /// The subject's distinguished name in DER.
    pub fn subject_der(&self) -> &[u8] {
        &self.0.der[self.0.subject_der.clone()]
    }

    /// The issuer's distinguished name in DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.0.der[self.0.issuer_der.clone()]
    }

    /// The serial number as two's complement, most significant byte first: it may be negative.
    pub fn serial(&self) -> &[u8] {
        &self.0.der[self.0.serial.clone()]
    }

    /// When it says it counts. Nothing here enforces that; see [`crate::Chain::verify_validity`].
    pub fn validity(&self) -> Validity {
        self.0.validity
    }

    /// Whether its key may sign certificates: basic constraints say CA, and key usage, if critical, allows it.
    #[doc(alias = "isCA")]
    pub fn is_ca(&self) -> bool {
        self.0.is_ca
    }

    /// The key it speaks for.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.key
    }

    /// Short id of its key.
    pub fn short_id(&self) -> ShortId {
        self.0.key.short_id()
    }

    /// Long id of its key.
    pub fn device_id(&self) -> DeviceId {
        self.0.key.device_id()
    }

    /// The bytes that the signature covers (TBSCertificate).
    pub fn signed_part(&self) -> &[u8] {
        &self.0.der[self.0.signed.clone()]
    }

    /// Checks that `issuer` signed it. Says nothing about names, rights or dates.
    pub fn verify_signed_by(&self, issuer: &PublicKey) -> Result<(), LinkError> {
        let signature = &self.0.der[self.0.signature.clone()];
        match self.0.algorithm.verify(issuer, self.signed_part(), signature) {
            Verdict::True => Ok(()),
            Verdict::False => Err(LinkError::Signature),
            Verdict::Unsupported => Err(LinkError::Algorithm),
        }
    }

    /// Checks that `issuer` is the authority that this certificate names, and signed it.
    pub fn verify_issued_by(&self, issuer: &Self) -> Result<(), LinkError> {
        if self.issuer_der() != issuer.subject_der() {
            return Err(LinkError::Issuer);
        }
        if !issuer.is_ca() {
            return Err(LinkError::NotAuthority);
        }
        self.verify_signed_by(issuer.public_key())
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl Hash for Certificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.der.hash(state);
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.0.subject)
            .field("issuer", &self.0.issuer)
            .field("id", &self.device_id())
            .finish_non_exhaustive()
    }
}
