//! Private keys: RSA, as every device has (`spec/connection.md` 2.1).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::{self, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding};
use zeroize::Zeroizing;

use crate::PublicKey;
use crate::aead::{AES_KEY_LEN, gcm_for, open_gcm};
use crate::signature::SignatureHash;

mod pem;

pub use pem::PrivateKeyError;

/// Length of a new RSA key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum KeySize {
    /// 2,048 bits: fastest, about 112 bits of strength.
    Rsa2048,
    /// 3,072 bits, about 128 bits of strength: what is asked of keys today.
    #[default]
    Rsa3072,
    /// 4,096 bits: what Jami makes. Signing costs about twice that of 3,072.
    Rsa4096,
}

impl KeySize {
    /// Length of the modulus in bits.
    pub fn bits(self) -> usize {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }
}

/// The cryptographic library could not make a key: no randomness or no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library could not make a key")]
pub struct GenerateError;

/// It did not decrypt. There is one such error, whatever the reason: whoever learns the reason can
/// decrypt with the key's help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not encrypted to this key, or damaged")]
pub struct DecryptError;

/// An RSA key pair. Cloning costs a reference count; the secret is overwritten when the last clone goes.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

struct Inner {
    signing: rsa::KeyPair,
    decrypting: Pkcs1PrivateDecryptingKey,
    public: PublicKey,
}

impl PrivateKey {
    /// Makes a new key. Takes 0.1 s to 1 s.
    pub fn generate(size: KeySize) -> Result<Self, GenerateError> {
        let size = match size {
            KeySize::Rsa2048 => rsa::KeySize::Rsa2048,
            KeySize::Rsa3072 => rsa::KeySize::Rsa3072,
            KeySize::Rsa4096 => rsa::KeySize::Rsa4096,
        };
        let pair = rsa::KeyPair::generate(size).map_err(|_| GenerateError)?;
        let der = pair.as_der().map_err(|_| GenerateError)?;
        Self::from_pkcs8_der(der.as_ref()).map_err(|_| GenerateError)
    }

    /// Reads an unencrypted DER PKCS#8 key of 2,048 to 8,192 bits.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, PrivateKeyError> {
        let signing = rsa::KeyPair::from_pkcs8(der).map_err(|_| PrivateKeyError::NotRsa)?;
        let decrypting = PrivateDecryptingKey::from_pkcs8(der)
            .and_then(|key| Pkcs1PrivateDecryptingKey::new(key).map_err(Into::into))
            .map_err(|_| PrivateKeyError::NotRsa)?;
        let spki = signing.public_key().as_der().map_err(|_| PrivateKeyError::NotRsa)?;
        let public = PublicKey::from_spki_der(spki.as_ref()).map_err(|_| PrivateKeyError::NotRsa)?;
        Ok(Self(Arc::new(Inner { signing, decrypting, public })))
    }

    /// The unencrypted DER PKCS#8 form.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        let der = self.0.signing.as_der().expect("a key that was read or made can be written");
        Zeroizing::new(der.as_ref().to_vec())
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.0.public
    }

    /// Signs with RSA PKCS#1 v1.5 over SHA-512, as values are signed (`spec/dht.md` 3.2). The same
    /// message always gets the same signature.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.sign_with(SignatureHash::Sha512, message)
    }

    pub(crate) fn sign_with(&self, hash: SignatureHash, message: &[u8]) -> Vec<u8> {
        let encoding: &dyn RsaEncoding = match hash {
            SignatureHash::Sha256 => &RSA_PKCS1_SHA256,
            SignatureHash::Sha384 => &RSA_PKCS1_SHA384,
            SignatureHash::Sha512 => &RSA_PKCS1_SHA512,
        };
        let mut signature = vec![0; self.0.signing.public_modulus_len()];
        self.0
            .signing
            .sign(encoding, &SystemRandom::new(), message, &mut signature)
            .expect("a whole RSA key signs into a buffer of its modulus's length");
        signature
    }

    /// Opens what [`PublicKey::encrypt`] made (`spec/dht.md` 3.3).
    pub fn decrypt(&self, cipher: &[u8]) -> Result<Vec<u8>, DecryptError> {
        let block = self.0.decrypting.key_size_bytes();
        let (head, tail) = cipher.split_at_checked(block).ok_or(DecryptError)?;
        let mut buffer = Zeroizing::new(vec![0; block]);
        let opened = self.0.decrypting.decrypt(head, &mut buffer);
        if tail.is_empty() {
            return opened.map(|plain| plain.to_vec()).map_err(|_| DecryptError);
        }
        // A bad RSA block goes on with a random key, and fails where a wrong key fails: at the tag.
        let mut key = Zeroizing::new([0; AES_KEY_LEN]);
        rand::fill(&mut *key).map_err(|_| DecryptError)?;
        let mut len = AES_KEY_LEN;
        if let Ok(plain) = opened
            && gcm_for(plain.len()).is_some()
        {
            len = plain.len();
            key[..len].copy_from_slice(plain);
        }
        open_gcm(&key[..len], tail)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.0.public).finish_non_exhaustive()
    }
}
