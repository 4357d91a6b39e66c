//! Lists of certificates that count no longer (X.509 v2 CRL, RFC 5280 5; `spec/files-and-calls.md` 1.5).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use pkcs8::LineEnding;
use pkcs8::der::pem::encode_string;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::oid_registry::OID_X509_EXT_CRL_NUMBER;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificate::Certificate;
use crate::der::{node, tag};
use crate::signature::{SignatureAlgorithm, Verdict};
use crate::{LinkError, PublicKey};

mod issue;
mod known;

pub use issue::RevokeError;
pub use known::{
    MAX_REVOCATION_BYTES, MAX_REVOCATION_BYTES_PER_ISSUER, RevocationError, Revocations, Revoked,
};

/// Longest revocation list that is read or made, in bytes of DER: what fits a value on the DHT. It has room for about
/// 2,300 devices.
pub const MAX_REVOCATION_LIST_LEN: usize = 62 * 1024;

/// Longest number of a list, in bytes (RFC 5280 5.2.3).
const MAX_NUMBER_LEN: usize = 20;

/// Longest PEM text that a list of the allowed length can have, with some room for text around it.
const MAX_PEM_LEN: usize = MAX_REVOCATION_LIST_LEN / 3 * 4 + MAX_REVOCATION_LIST_LEN / 32 + 4096;

const LABEL: &str = "X509 CRL";

/// Why bytes are not a revocation list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevocationListError {
    /// Longer than any list that travels.
    #[error("a revocation list of {0} bytes is longer than the {MAX_REVOCATION_LIST_LEN} allowed")]
    TooLong(usize),
    /// No `X509 CRL` block, or a damaged one.
    #[error("damaged PEM, or none of a revocation list")]
    Pem,
    /// Not the DER of an X.509 revocation list.
    #[error("not the DER of an X.509 revocation list")]
    Malformed,
    /// Bytes follow the list.
    #[error("bytes follow the revocation list")]
    Trailing,
    /// Its number is no integer of 1 to 20 bytes.
    #[error("the number of the revocation list is no integer of 1 to {MAX_NUMBER_LEN} bytes")]
    Number,
    /// What it says of its signature differs within and without (RFC 5280 5.1.1.2).
    #[error("the revocation list names two signature algorithms")]
    Algorithms,
}

/// An authority's list of certificates that it takes back. Cloning costs a reference count; equality is that of the
/// encodings.
///
/// Reading is liberal, as for certificates: serial numbers and list numbers of either sign. A list says nothing until
/// [`RevocationList::verify_issued_by`] said whose it is.
#[derive(Clone)]
pub struct RevocationList(Arc<Inner>);

struct Inner {
    der: Box<[u8]>,
    signed: Range<usize>,
    signature: Range<usize>,
    algorithm: SignatureAlgorithm,
    issuer_der: Range<usize>,
    number: Option<Range<usize>>,
    this_update: i64,
    next_update: Option<i64>,
    entries: Box<[Entry]>,
}

/// A certificate that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    serial: Range<usize>,
    /// When, in seconds since the Unix epoch.
    at: i64,
}

impl RevocationList {
    /// Reads DER.
    pub fn from_der(der: &[u8]) -> Result<Self, RevocationListError> {
        if der.len() > MAX_REVOCATION_LIST_LEN {
            return Err(RevocationListError::TooLong(der.len()));
        }
        let (rest, parsed) =
            CertificateRevocationList::from_der(der).map_err(|_| RevocationListError::Malformed)?;
        if !rest.is_empty() {
            return Err(RevocationListError::Trailing);
        }
        let list = &parsed.tbs_cert_list;
        if list.signature != parsed.signature_algorithm {
            return Err(RevocationListError::Algorithms);
        }
        let within = |part: &[u8]| {
            let start = part.as_ptr().addr() - der.as_ptr().addr();
            start..start + part.len()
        };
        let number = match list.find_extension(&OID_X509_EXT_CRL_NUMBER) {
            Some(extension) => Some(within(integer(extension.value).ok_or(RevocationListError::Number)?)),
            None => None,
        };
        let entries = parsed.iter_revoked_certificates().map(|revoked| Entry {
            serial: within(revoked.raw_serial()),
            at: revoked.revocation_date.timestamp(),
        });
        Ok(Self(Arc::new(Inner {
            signed: within(list.as_ref()),
            signature: within(&parsed.signature_value.data),
            algorithm: SignatureAlgorithm::from_oid(&parsed.signature_algorithm.algorithm),
            issuer_der: within(list.issuer.as_raw()),
            number,
            this_update: list.this_update.timestamp(),
            next_update: list.next_update.map(|time| time.timestamp()),
            entries: entries.collect(),
            der: der.into(),
        })))
    }

    /// Reads the first `X509 CRL` block of a PEM text.
    pub fn from_pem(pem: &str) -> Result<Self, RevocationListError> {
        if pem.len() > MAX_PEM_LEN {
            return Err(RevocationListError::TooLong(pem.len()));
        }
        let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| RevocationListError::Pem)?;
        Self::from_der(&der)
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The PEM encoding, with a newline at the end.
    pub fn to_pem(&self) -> String {
        encode_string(LABEL, LineEnding::LF, self.der()).expect("a list is bounded")
    }

    /// The distinguished name of its maker, in DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.0.der[self.0.issuer_der.clone()]
    }

    /// Its number as two's complement, most significant byte first, if it has one. It grows from list to list of one
    /// maker. Jami begins at a random one of 8 bytes, which may be negative.
    pub fn number(&self) -> Option<&[u8]> {
        self.0.number.clone().map(|range| &self.0.der[range])
    }

    /// When it was made, in seconds since the Unix epoch.
    pub fn this_update(&self) -> i64 {
        self.0.this_update
    }

    /// When a newer one is due, in seconds since the Unix epoch. Jami writes when its maker's certificate expires.
    pub fn next_update(&self) -> Option<i64> {
        self.0.next_update
    }

    /// The serial numbers of the certificates taken back, as two's complement, most significant byte first.
    pub fn serials(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.entries().map(|(serial, _)| serial)
    }

    fn entries(&self) -> impl ExactSizeIterator<Item = (&[u8], i64)> {
        self.0.entries.iter().map(|entry| (&self.0.der[entry.serial.clone()], entry.at))
    }

    /// Whether it takes back `certificate`: the two name the same issuer, and the serial number is in the list.
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        self.issuer_der() == certificate.issuer_der()
            && self.serials().any(|serial| canonical(serial) == canonical(certificate.serial()))
    }

    /// Checks that `issuer` is the authority that it names, and signed it.
    pub fn verify_issued_by(&self, issuer: &Certificate) -> Result<(), LinkError> {
        if self.issuer_der() != issuer.subject_der() {
            return Err(LinkError::Issuer);
        }
        if !issuer.is_ca() {
            return Err(LinkError::NotAuthority);
        }
        self.verify_signed_by(issuer.public_key())
    }

    fn verify_signed_by(&self, issuer: &PublicKey) -> Result<(), LinkError> {
        let signature = &self.0.der[self.0.signature.clone()];
        match self.0.algorithm.verify(issuer, self.signed_part(), signature) {
            Verdict::True => Ok(()),
            Verdict::False => Err(LinkError::Signature),
            Verdict::Unsupported => Err(LinkError::Algorithm),
        }
    }

    /// The bytes that the signature covers (TBSCertList).
    pub fn signed_part(&self) -> &[u8] {
        &self.0.der[self.0.signed.clone()]
    }
}

impl PartialEq for RevocationList {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for RevocationList {}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList")
            .field("number", &self.number().map(hex::encode))
            .field("this_update", &self.this_update())
            .field("serials", &self.serials().map(hex::encode).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The content of a DER integer that is all of `der`. x509-parser reads no negative list numbers, so this does.
fn integer(der: &[u8]) -> Option<&[u8]> {
    match der {
        [tag::INTEGER, len, content @ ..]
            if usize::from(*len) == content.len() && (1..=MAX_NUMBER_LEN).contains(&content.len()) =>
        {
            Some(content)
        }
        _ => None,
    }
}

/// An integer without the bytes that only repeat its sign: programs differ in writing those.
fn canonical(mut integer: &[u8]) -> &[u8] {
    while let [sign @ (0x00 | 0xff), next, ..] = integer
        && (*sign >= 0x80) == (*next >= 0x80)
    {
        integer = &integer[1..];
    }
    integer
}

fn integer_der(content: &[u8]) -> Vec<u8> {
    node(tag::INTEGER, &[content])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_canonical_form() {
        for (written, meant) in [
            (&[][..], &[][..]),
            (&[0], &[0]),
            (&[0, 0, 0], &[0]),
            (&[0, 0x7f], &[0x7f]),
            (&[0, 0x80], &[0, 0x80]),
            (&[0xff, 0x80], &[0x80]),
            (&[0xff, 0xff, 0x7f], &[0xff, 0x7f]),
            (&[0xff], &[0xff]),
            (&[1, 0], &[1, 0]),
        ] {
            assert_eq!(canonical(written), meant);
        }
    }

    #[test]
    fn numbers_of_any_sign_are_read() {
        assert_eq!(integer(&[2, 2, 0x80, 1]), Some(&[0x80, 1][..]));
        assert_eq!(integer(&[2, 1, 0]), Some(&[0][..]));
        for bad in [&[][..], &[2], &[2, 0], &[2, 2, 1], &[2, 1, 1, 1], &[3, 1, 1], &[2, 0x81, 1, 1]] {
            assert_eq!(integer(bad), None, "{bad:?}");
        }
        let long = [&[2, 21][..], &[1; 21]].concat();
        assert_eq!(integer(&long), None);
    }
}
