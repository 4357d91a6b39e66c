//! Signing, checking, encrypting and decrypting values (`dht.md` 3.2, 3.3).
use towline_identity::{PrivateKey, PublicKey};

use super::Value;

/// Why a value cannot be signed or encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is encrypted already.
    #[error("the value is encrypted already")]
    Encrypted,
    /// The recipient's key cannot encrypt.
    #[error("the recipient's key cannot encrypt this")]
    Encryption,
}

/// Why the signature of a value is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no owner.
    #[error("the value has no owner")]
    NoOwner,
    /// There is an owner, but the signature is empty.
    #[error("the value has an owner and no signature")]
    Empty,
    /// The signature is not the owner's over this body.
    #[error("the signature is false")]
    False,
    /// Nothing can be checked while encrypted.
    #[error("the value is encrypted")]
    Encrypted,
}

/// Why an encrypted value cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is not encrypted.
    #[error("the value is not encrypted")]
    NotEncrypted,
    /// Not for this key, or damaged: the two are not told apart.
    #[error("the value is not for this key")]
    Decryption,
    /// What was inside is not a value body.
    #[error("malformed content: {0}")]
    Content(super::ValueError),
    /// The signed recipient is another key: somebody passes on a value that was sent to him.
    #[error("the value was signed for another recipient")]
    Recipient,
    /// The signature inside is not accepted.
    #[error(transparent)]
    Signature(SignatureError),
}

impl Value {
    /// Signs the body as `key`, with this sequence number.
    pub fn sign(&mut self, _key: &PrivateKey, _seq: u16) -> Result<(), SealError> {
        todo!()
    }

    /// Checks that the owner signed the body.
    pub fn check_signature(&self) -> Result<(), SignatureError> {
        todo!()
    }

    /// Signs the body as `signer` for `recipient` and encrypts it to it.
    pub fn encrypt_for(&self, _recipient: &PublicKey, _signer: &PrivateKey, _seq: u16) -> Result<Self, SealError> {
        todo!()
    }

    /// Opens an encrypted value: decrypts, and checks recipient and signature.
    pub fn decrypt(&self, _key: &PrivateKey) -> Result<Self, OpenError> {
        todo!()
    }
}
