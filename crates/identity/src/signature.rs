//! The signatures of certificates: which algorithms count, and checking one.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::oid_registry::{
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519, Oid,
};

use crate::PublicKey;
use crate::public_key::{Curve, KeyKind};

/// Digest under a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SignatureHash {
    Sha256,
    Sha384,
    Sha512,
}

/// How a certificate is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SignatureAlgorithm {
    RsaPkcs1(SignatureHash),
    Ecdsa(SignatureHash),
    Ed25519,
    /// Unknown, or too weak to count (MD5, SHA-1).
    Unsupported,
}

/// What came of checking a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    True,
    False,
    Unsupported,
}

impl SignatureAlgorithm {
    pub(crate) fn from_oid(oid: &Oid<'_>) -> Self {
        use SignatureHash::{Sha256, Sha384, Sha512};
        let known = [
            (OID_PKCS1_SHA256WITHRSA, Self::RsaPkcs1(Sha256)),
            (OID_PKCS1_SHA384WITHRSA, Self::RsaPkcs1(Sha384)),
            (OID_PKCS1_SHA512WITHRSA, Self::RsaPkcs1(Sha512)),
            (OID_SIG_ECDSA_WITH_SHA256, Self::Ecdsa(Sha256)),
            (OID_SIG_ECDSA_WITH_SHA384, Self::Ecdsa(Sha384)),
            (OID_SIG_ECDSA_WITH_SHA512, Self::Ecdsa(Sha512)),
            (OID_SIG_ED25519, Self::Ed25519),
        ];
        known
            .into_iter()
            .find(|(known, _)| known == oid)
            .map_or(Self::Unsupported, |(_, algorithm)| algorithm)
    }

    pub(crate) fn verify(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> Verdict {
        let Some(algorithm) = self.with_key(key.kind()) else { return Verdict::Unsupported };
        match UnparsedPublicKey::new(algorithm, key.key_bits()).verify(message, signature) {
            Ok(()) => Verdict::True,
            Err(_) => Verdict::False,
        }
    }

    fn with_key(self, key: KeyKind) -> Option<&'static dyn VerificationAlgorithm> {
        use SignatureHash::{Sha256, Sha384, Sha512};
        Some(match (self, key) {
            (Self::RsaPkcs1(Sha256), KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Self::RsaPkcs1(Sha384), KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Self::RsaPkcs1(Sha512), KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Self::Ecdsa(Sha256), KeyKind::Ec(Curve::P256)) => &signature::ECDSA_P256_SHA256_ASN1,
            (Self::Ecdsa(Sha384), KeyKind::Ec(Curve::P256)) => &signature::ECDSA_P256_SHA384_ASN1,
            (Self::Ecdsa(Sha512), KeyKind::Ec(Curve::P256)) => &signature::ECDSA_P256_SHA512_ASN1,
            (Self::Ecdsa(Sha256), KeyKind::Ec(Curve::P384)) => &signature::ECDSA_P384_SHA256_ASN1,
            (Self::Ecdsa(Sha384), KeyKind::Ec(Curve::P384)) => &signature::ECDSA_P384_SHA384_ASN1,
            (Self::Ecdsa(Sha512), KeyKind::Ec(Curve::P384)) => &signature::ECDSA_P384_SHA512_ASN1,
            (Self::Ecdsa(Sha256), KeyKind::Ec(Curve::P521)) => &signature::ECDSA_P521_SHA256_ASN1,
            (Self::Ecdsa(Sha384), KeyKind::Ec(Curve::P521)) => &signature::ECDSA_P521_SHA384_ASN1,
            (Self::Ecdsa(Sha512), KeyKind::Ec(Curve::P521)) => &signature::ECDSA_P521_SHA512_ASN1,
            (Self::Ed25519, KeyKind::Ed25519) => &signature::ED25519,
            _ => return None,
        })
    }
}
