//! Signing, checking, encrypting and decrypting values (`dht.md` 3.2, 3.3).

use towline_identity::{PrivateKey, PublicKey};

use super::{Body, Content, Ownership, Value};
use crate::InfoHash;
use crate::wire::WireError;

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
    /// Nothing can be checked while encrypted.
    #[error("the value is encrypted")]
    Encrypted,
    /// There is no owner.
    #[error("the value has no owner")]
    NoOwner,
    /// There is an owner, but the signature is empty.
    #[error("the value has an owner and no signature")]
    Empty,
    /// The signature is not the owner's over this body.
    #[error("the signature is false")]
    False,
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
    Content(WireError),
    /// The signed recipient is another key: somebody passes on a value that was sent to him.
    #[error("the value was signed for another recipient")]
    Recipient,
    /// The signature inside is not accepted.
    #[error(transparent)]
    Signature(SignatureError),
}

impl Value {
    /// Makes `key` the owner and signs the body with this sequence number.
    pub fn sign(&mut self, key: &PrivateKey, seq: u16) -> Result<(), SealError> {
        self.sign_to(key, seq, None)
    }

    fn sign_to(&mut self, key: &PrivateKey, seq: u16, recipient: Option<InfoHash>) -> Result<(), SealError> {
        let Content::Plain(body) = &mut self.content else {
            return Err(SealError::Encrypted);
        };
        body.ownership =
            Some(Ownership { seq, owner: key.public().clone(), recipient, signature: Vec::new() });
        let signature = key.sign(&body.to_sign());
        if let Some(ownership) = &mut body.ownership {
            ownership.signature = signature;
        }
        Ok(())
    }

    /// Checks that the owner signed the body.
    pub fn check_signature(&self) -> Result<(), SignatureError> {
        match &self.content {
            Content::Plain(body) => body.check_signature(),
            Content::Encrypted(_) => Err(SignatureError::Encrypted),
        }
    }

    /// The value for `recipient` only: signed by `signer`, with the recipient named under the signature.
    pub fn encrypt_for(
        &self,
        recipient: &PublicKey,
        signer: &PrivateKey,
        seq: u16,
    ) -> Result<Self, SealError> {
        let mut value = self.clone();
        value.sign_to(signer, seq, Some(recipient.short_id().into()))?;
        let plaintext = value.to_encrypt().ok_or(SealError::Encrypted)?;
        let cypher = recipient.encrypt(&plaintext).map_err(|_| SealError::Encryption)?;
        value.content = Content::Encrypted(cypher);
        Ok(value)
    }

    /// Opens an encrypted value: decrypts, and checks the recipient and the signature inside.
    pub fn decrypt(&self, key: &PrivateKey) -> Result<Self, OpenError> {
        let Content::Encrypted(cypher) = &self.content else {
            return Err(OpenError::NotEncrypted);
        };
        let plaintext = key.decrypt(cypher).map_err(|_| OpenError::Decryption)?;
        let body = Body::unpack_signed(&plaintext).map_err(OpenError::Content)?;
        body.check_signature().map_err(OpenError::Signature)?;
        let recipient = body.ownership.as_ref().and_then(|ownership| ownership.recipient);
        if recipient != Some(key.public().short_id().into()) {
            return Err(OpenError::Recipient);
        }
        Ok(Self {
            id: self.id,
            content: Content::Plain(body),
            priority: self.priority,
            push_type: self.push_type.clone(),
        })
    }
}

impl Body {
    fn check_signature(&self) -> Result<(), SignatureError> {
        let ownership = self.ownership.as_ref().ok_or(SignatureError::NoOwner)?;
        if ownership.signature.is_empty() {
            return Err(SignatureError::Empty);
        }
        ownership.owner.verify(&self.to_sign(), &ownership.signature).map_err(|_| SignatureError::False)
    }
}
