//! Making revocation lists, as OpenDHT makes them.

use aws_lc_rs::rand;
use std::collections::BTreeSet;

use super::{MAX_NUMBER_LEN, MAX_REVOCATION_LIST_LEN, RevocationList, canonical, integer_der};
use crate::der::{node, tag, time};
use crate::signature::SignatureHash;
use crate::{Certificate, DeviceId, Identity, LinkError};

const SHA512_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
const LIST_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];

/// X.509 v2, as it is written.
const VERSION_2: &[u8] = &[1];

/// Why a revocation list is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// Only authorities make such lists, and this identity is none.
    #[error("the issuer is not an authority")]
    NotAuthority,
    /// One of the certificates was not made by this authority.
    #[error("{device} was not issued by this authority: {error}")]
    Certificate {
        /// Which.
        device: DeviceId,
        /// What is wrong.
        error: LinkError,
    },
    /// One of the earlier lists was not made by this authority.
    #[error("the earlier list was not made by this authority: {0}")]
    Earlier(LinkError),
    /// The list would be longer than lists may be.
    #[error("a revocation list of {0} bytes is longer than the {MAX_REVOCATION_LIST_LEN} allowed")]
    TooLong(usize),
    /// The time lies outside of the years 1950 to 9999.
    #[error("the time lies outside of the years 1950 to 9999")]
    Time,
}

impl Identity {
    /// Takes certificates back that this authority (an account, for its devices) issued: everything in its `earlier`
    /// lists (`None`, one or several), and `revoked`. `now` is in seconds since the Unix epoch.
    ///
    /// The number is by one greater than the greatest of `earlier`, or random.
    pub fn revoke<'a>(
        &self,
        earlier: impl IntoIterator<Item = &'a RevocationList>,
        revoked: &[Certificate],
        now: i64,
    ) -> Result<RevocationList, RevokeError> {
        let issuer = self.chain().leaf();
        if !issuer.is_ca() {
            return Err(RevokeError::NotAuthority);
        }
        for certificate in revoked {
            certificate
                .verify_issued_by(issuer)
                .map_err(|error| RevokeError::Certificate { device: certificate.device_id(), error })?;
        }
        let mut contents = Contents {
            issuer: issuer.subject_der(),
            this_update: now,
            next_update: issuer.validity().not_after,
            number: Number::random(),
            entries: Vec::new(),
        };
        let mut listed = BTreeSet::new();
        let mut greatest = None;
        for list in earlier {
            list.verify_issued_by(issuer).map_err(RevokeError::Earlier)?;
            greatest = greatest.max(list.number().map(Number::read));
            let new = list.entries().filter(|(serial, _)| listed.insert(canonical(serial)));
            contents.entries.extend(new);
        }
        if let Some(number) = greatest {
            contents.number = number.next();
        }
        let new = revoked.iter().filter(|certificate| listed.insert(canonical(certificate.serial())));
        contents.entries.extend(new.map(|certificate| (certificate.serial(), now)));
        contents.sign(self)
    }
}

/// Everything in a list that its maker decides.
pub(super) struct Contents<'a> {
    /// DER name of the issuer.
    pub(super) issuer: &'a [u8],
    pub(super) this_update: i64,
    pub(super) next_update: i64,
    pub(super) number: Number,
    /// Serial numbers, and when they were taken back.
    pub(super) entries: Vec<(&'a [u8], i64)>,
}

fn algorithm() -> Vec<u8> {
    node(tag::SEQUENCE, &[&node(tag::OID, &[SHA512_WITH_RSA]), &node(tag::NULL, &[])])
}

impl Contents<'_> {
    fn to_be_signed(&self) -> Result<Vec<u8>, RevokeError> {
        let time = |at| time(at).ok_or(RevokeError::Time);
        let mut revoked = Vec::new();
        for (serial, at) in &self.entries {
            revoked.extend(node(tag::SEQUENCE, &[&integer_der(serial), &time(*at)?]));
        }
        // An empty list of certificates is left out (RFC 5280 5.1.2.6).
        let revoked = if revoked.is_empty() { revoked } else { node(tag::SEQUENCE, &[&revoked]) };
        let number = node(tag::OCTET_STRING, &[&integer_der(&self.number.content())]);
        let number = node(tag::SEQUENCE, &[&node(tag::OID, &[LIST_NUMBER]), &number]);
        Ok(node(
            tag::SEQUENCE,
            &[
                &integer_der(VERSION_2),
                &algorithm(),
                self.issuer,
                &time(self.this_update)?,
                &time(self.next_update)?,
                &revoked,
                &node(tag::EXPLICIT_0, &[&node(tag::SEQUENCE, &[&number])]),
            ],
        ))
    }

    pub(super) fn sign(&self, signer: &Identity) -> Result<RevocationList, RevokeError> {
        let signed = self.to_be_signed()?;
        let signature = signer.key().sign_with(SignatureHash::Sha512, &signed);
        let der = node(tag::SEQUENCE, &[&signed, &algorithm(), &node(tag::BIT_STRING, &[&[0], &signature])]);
        if der.len() > MAX_REVOCATION_LIST_LEN {
            return Err(RevokeError::TooLong(der.len()));
        }
        Ok(RevocationList::from_der(&der).expect("what we write we can read"))
    }
}

/// The number of a list: wide enough for what lists may have and one more, with the sign bit flipped, so that the order
/// of the bytes is that of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number([u8; MAX_NUMBER_LEN + 1]);

impl Number {
    /// Eight bytes, as Jami has, but positive.
    pub(super) fn random() -> Self {
        let mut bytes = [0; 8];
        rand::fill(&mut bytes).expect("the operating system has randomness");
        bytes[0] = bytes[0] & 0x3f | 0x40;
        Self::read(&bytes)
    }

    /// From two's complement of at most 20 bytes.
    fn read(content: &[u8]) -> Self {
        let sign = if content.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
        let mut wide = [sign; MAX_NUMBER_LEN + 1];
        wide[MAX_NUMBER_LEN + 1 - content.len()..].copy_from_slice(content);
        wide[0] ^= 0x80;
        Self(wide)
    }

    fn next(mut self) -> Self {
        for byte in self.0.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        self
    }

    fn content(self) -> Vec<u8> {
        let mut wide = self.0;
        wide[0] ^= 0x80;
        canonical(&wide).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chain;

    /// The signed part of each list of a daemon of 2023, made again from its facts, byte for byte.
    #[test]
    fn same_bytes_as_jami() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/revocation.json")).unwrap();
        let kept = Chain::unpack(vectors["kept"].as_str().unwrap().as_bytes()).unwrap();
        let account = kept.account().unwrap();
        for pem in vectors["lists"].as_array().unwrap() {
            let list = RevocationList::from_pem(pem.as_str().unwrap()).unwrap();
            let contents = Contents {
                issuer: account.subject_der(),
                this_update: list.this_update(),
                next_update: account.validity().not_after,
                number: Number::read(list.number().unwrap()),
                entries: list.entries().collect(),
            };
            assert_eq!(contents.to_be_signed().unwrap(), list.signed_part());
        }
    }

    #[test]
    fn numbers_grow_across_zero_and_bytes() {
        let next = |content: &[u8]| Number::read(content).next().content();
        assert_eq!(next(&[0]), [1]);
        assert_eq!(next(&[0x7f]), [0, 0x80]);
        assert_eq!(next(&[0xff]), [0]);
        assert_eq!(next(&[0x80]), [0x81]);
        assert_eq!(next(&[0, 0xff, 0xff]), [1, 0, 0]);
        assert_eq!(next(&[0x7f; 20])[19], 0x80);
        assert_eq!(next(&[0xff; 20]), [0]);
        assert!(Number::read(&[0xff]) < Number::read(&[0]) && Number::read(&[0x80]) < Number::read(&[0xff]));
        assert!(Number::read(&[0x7f]) < Number::read(&[0, 0x80]));
        for _ in 0..100 {
            assert!(matches!(Number::random().content()[..], [0x40..0x80, _, _, _, _, _, _, _]));
        }
    }
}
