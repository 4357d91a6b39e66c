//! What a side shows of itself besides its static key, and whom it talks to.

use std::{collections::BTreeSet, sync::Arc};

use thiserror::Error;
use towline_identity::{AccountId, Chain, DeviceId};

use crate::PeerId;

/// What a side shows of itself besides its static key.
pub trait Credentials: Send + Sync {
    /// The bytes that the peer's [`Trust`] gets, at most 8192. They travel encrypted.
    fn payload(&self) -> Arc<[u8]>;
}

/// Whom a side talks to.
pub trait Trust: Send + Sync {
    /// Decides about a peer that has the private half of `static_key` and showed `payload`. `unix_time` is in seconds since 1970.
    ///
    /// Called in the middle of a handshake: it should take no longer than a few signatures take to check.
    fn admit(&self, static_key: &[u8; 32], payload: &[u8], unix_time: i64) -> Result<PeerIdentity, Refused>;
}

/// Who a peer proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its static key.
    pub static_key: [u8; 32],
    /// The certificates of its device, if it showed them and they were checked.
    pub chain: Option<Chain>,
}

impl PeerIdentity {
    /// A peer of which nothing but its key is known.
    pub fn of_key(static_key: [u8; 32]) -> Self {
        Self { static_key, chain: None }
    }

    /// The id that follows from its key.
    pub fn id(&self) -> PeerId {
        PeerId::of_static(&self.static_key)
    }

    /// The device, if it showed its certificate.
    pub fn device(&self) -> Option<DeviceId> {
        self.chain.as_ref().map(Chain::device_id)
    }

    /// The account that signed the device's certificate.
    pub fn account(&self) -> Option<AccountId> {
        self.chain.as_ref().and_then(Chain::account_id)
    }
}

/// Why a peer is not admitted. The peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refused {
    /// It is not among those that may.
    #[error("not admitted")]
    Unknown,
    /// It did not show what is asked for, or that did not parse.
    #[error("credentials missing or malformed")]
    Malformed,
    /// A signature is false.
    #[error("credentials do not verify")]
    False,
    /// What it showed counts no longer, or not yet.
    #[error("credentials expired or not yet valid")]
    Expired,
    /// It is another device than the one that was dialled.
    #[error("another device answered")]
    WrongDevice,
    /// A reason that this version does not know.
    #[error("refused for another reason")]
    Other,
}

impl Refused {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Unknown => 2,
            Self::Malformed => 3,
            Self::False => 4,
            Self::Expired => 5,
            Self::WrongDevice => 6,
        }
    }

    pub(super) fn from_code(code: u8) -> Self {
        [Self::Unknown, Self::Malformed, Self::False, Self::Expired, Self::WrongDevice]
            .into_iter()
            .find(|reason| reason.code() == code)
            .unwrap_or(Self::Other)
    }
}

/// Static keys and nothing else: for peers that know each other's keys, or do not care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOnly {
    admitted: Option<BTreeSet<[u8; 32]>>,
}

impl KeyOnly {
    /// Admits these keys.
    pub fn of(keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self { admitted: Some(keys.into_iter().collect()) }
    }

    /// Admits everybody. Whoever dials by key or id still gets that peer and no other.
    pub fn anyone() -> Self {
        Self { admitted: None }
    }
}

impl Credentials for KeyOnly {
    fn payload(&self) -> Arc<[u8]> {
        Arc::default()
    }
}

impl Trust for KeyOnly {
    fn admit(
        &self,
        static_key: &[u8; 32],
        _payload: &[u8],
        _unix_time: i64,
    ) -> Result<PeerIdentity, Refused> {
        match &self.admitted {
            Some(keys) if !keys.contains(static_key) => Err(Refused::Unknown),
            _ => Ok(PeerIdentity::of_key(*static_key)),
        }
    }
}
