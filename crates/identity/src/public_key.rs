//! Public keys (`spec/dht.md` 3.2–3.4).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use aws_lc_rs::rand;
use aws_lc_rs::rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use crate::aead::{AES_KEY_LEN, GCM_OVERHEAD, seal_gcm};
use crate::{DeviceId, ShortId};

/// Longest SubjectPublicKeyInfo that is read, in bytes. An RSA key of 8,192 bits has 1,062.
const MAX_SPKI_LEN: usize = 4096;

/// What PKCS#1 v1.5 adds to a message at least.
const PKCS1_OVERHEAD: usize = 11;

/// Sort of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA with a modulus of this many bits. The only sort that devices have.
    Rsa {
        /// Length of the modulus.
        bits: usize,
    },
    /// An elliptic curve key; some authorities have them.
    Ec(Curve),
    /// An Ed25519 key.
    Ed25519,
    /// Something else. It has ids, and no use.
    Other,
}

/// A NIST curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1, OpenDHT's choice.
    P384,
    /// secp521r1.
    P521,
}

/// Why bytes are not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Longer than any key in use.
    #[error("a SubjectPublicKeyInfo of {0} bytes is longer than the {MAX_SPKI_LEN} allowed")]
    TooLong(usize),
    /// Not the DER of a SubjectPublicKeyInfo.
    #[error("not the DER of a SubjectPublicKeyInfo")]
    Malformed,
    /// Bytes follow the SubjectPublicKeyInfo.
    #[error("bytes follow the SubjectPublicKeyInfo")]
    Trailing,
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Signatures of values are RSA; this key is not.
    #[error("only RSA keys verify signatures of values")]
    NotRsa,
    /// The signature is not this key's over this message.
    #[error("the signature is false")]
    False,
}

/// Why nothing can be encrypted to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// Encryption is RSA; this key is not, or has fewer than 2,048 or more than 8,192 bits.
    #[error("only RSA keys of 2048 to 8192 bits encrypt")]
    NotRsa,
    /// The cryptographic library failed (no memory, no randomness).
    #[error("the cryptographic library failed")]
    Library,
}

/// A public key with its ids. Cloning costs a reference count; equality is that of the encodings.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    spki: Box<[u8]>,
    /// Where in `spki` the key proper is: RSAPublicKey, or a curve point.
    key: Range<usize>,
    kind: KeyKind,
    short_id: ShortId,
    device_id: DeviceId,
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo. Keys that are not RSA are read too: they have ids.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, PublicKeyError> {
        if spki.len() > MAX_SPKI_LEN {
            return Err(PublicKeyError::TooLong(spki.len()));
        }
        let (rest, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| PublicKeyError::Malformed)?;
        if !rest.is_empty() {
            return Err(PublicKeyError::Trailing);
        }
        let algorithm = &info.algorithm.algorithm;
        let kind = if *algorithm == OID_PKCS1_RSAENCRYPTION {
            match info.parsed() {
                Ok(Parsed::RSA(rsa)) => KeyKind::Rsa { bits: bit_length(rsa.modulus) },
                _ => return Err(PublicKeyError::Malformed),
            }
        } else if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            match info.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()) {
                Some(oid) if oid == OID_EC_P256 => KeyKind::Ec(Curve::P256),
                Some(oid) if oid == OID_NIST_EC_P384 => KeyKind::Ec(Curve::P384),
                Some(oid) if oid == OID_NIST_EC_P521 => KeyKind::Ec(Curve::P521),
                _ => KeyKind::Other,
            }
        } else if *algorithm == OID_SIG_ED25519 {
            KeyKind::Ed25519
        } else {
            KeyKind::Other
        };
        // The bit string is the last field, so the key is the tail.
        let key = spki.len().saturating_sub(info.subject_public_key.data.len())..spki.len();
        let (short_id, device_id) = (ShortId::of_spki(spki), DeviceId::of_spki(spki));
        Ok(Self(Arc::new(Inner { spki: spki.into(), key, kind, short_id, device_id })))
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// SHA-1 of the SubjectPublicKeyInfo.
    #[doc(alias = "getId")]
    pub fn short_id(&self) -> ShortId {
        self.0.short_id
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    #[doc(alias = "getLongId")]
    pub fn device_id(&self) -> DeviceId {
        self.0.device_id
    }

    /// Sort and size.
    pub fn kind(&self) -> KeyKind {
        self.0.kind
    }

    /// The key proper, without the algorithm: RSAPublicKey, or a curve point.
    pub(crate) fn key_bits(&self) -> &[u8] {
        &self.0.spki[self.0.key.clone()]
    }

    /// Checks an RSA PKCS#1 v1.5 signature over the SHA-512 of `message` (`spec/dht.md` 3.2).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        let KeyKind::Rsa { .. } = self.0.kind else { return Err(VerifyError::NotRsa) };
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA512, self.key_bits())
            .verify(message, signature)
            .map_err(|_| VerifyError::False)
    }

    /// Encrypts to the holder of the private key (`spec/dht.md` 3.3): one RSA block if `plain` fits,
    /// else an encrypted AES-256 key, nonce, AES-GCM ciphertext and tag.
    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, EncryptError> {
        let KeyKind::Rsa { .. } = self.0.kind else { return Err(EncryptError::NotRsa) };
        let key = PublicEncryptingKey::from_der(&self.0.spki).map_err(|_| EncryptError::NotRsa)?;
        let rsa = Pkcs1PublicEncryptingKey::new(key).map_err(|_| EncryptError::NotRsa)?;
        let block = rsa.ciphertext_size();
        if plain.len() + PKCS1_OVERHEAD <= block {
            let mut out = vec![0; block];
            rsa.encrypt(plain, &mut out).map_err(|_| EncryptError::Library)?;
            return Ok(out);
        }
        let mut aes_key = Zeroizing::new([0; AES_KEY_LEN]);
        rand::fill(&mut *aes_key).map_err(|_| EncryptError::Library)?;
        let mut out = Vec::with_capacity(block + plain.len() + GCM_OVERHEAD);
        out.resize(block, 0);
        rsa.encrypt(&*aes_key, &mut out).map_err(|_| EncryptError::Library)?;
        seal_gcm(&aes_key, plain, &mut out).map_err(|_| EncryptError::Library)?;
        Ok(out)
    }
}

fn bit_length(big_endian: &[u8]) -> usize {
    let significant = big_endian.iter().skip_while(|byte| **byte == 0);
    let bytes: Vec<u8> = significant.copied().collect();
    bytes.first().map_or(0, |first| bytes.len() * 8 - first.leading_zeros() as usize)
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki == other.0.spki
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.device_id.hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kind", &self.0.kind).field("id", &self.0.device_id).finish()
    }
}
