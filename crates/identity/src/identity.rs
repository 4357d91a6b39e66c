//! A device: its key, and the chain that speaks for it.

use crate::{AccountId, Chain, DeviceId, PrivateKey, ShortId};

/// The leaf of the chain speaks for another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chain is that of device {chain}, the key that of {key}")]
pub struct KeyMismatch {
    /// The device of the key.
    pub key: DeviceId,
    /// The device of the chain.
    pub chain: DeviceId,
}

/// A private key with the chain of certificates that speaks for it. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Identity {
    key: PrivateKey,
    chain: Chain,
}

impl Identity {
    /// Puts the two together.
    pub fn new(key: PrivateKey, chain: Chain) -> Result<Self, KeyMismatch> {
        if key.public() != chain.public_key() {
            return Err(KeyMismatch { key: key.public().device_id(), chain: chain.device_id() });
        }
        Ok(Self { key, chain })
    }

    /// The private key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The certificates, leaf first.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Long id of the key: what others dial.
    pub fn device_id(&self) -> DeviceId {
        self.chain.device_id()
    }

    /// Short id of the key.
    pub fn short_id(&self) -> ShortId {
        self.chain.short_id()
    }

    /// Whose device it is: None if no account signed it.
    pub fn account_id(&self) -> Option<AccountId> {
        self.chain.account_id()
    }
}
