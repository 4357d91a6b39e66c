//! Which generations of peers a node can be found by and speaks to.

use std::fmt;

use towline_identity::{DeviceId, PublicKey, ShortId};

use crate::dht::CertificateKey;

/// At which kinds of DHT keys a node publishes, listens, looks and asks (`connection.md` 3.3).
///
/// A device has two ids and therefore two keys for its certificate and two for requests to it. Programs up to Jami's
/// of 2023 know the keys made of the short id only, today's programs may know those of the long id only.
///
/// | | `Both` | `LongOnly` | `ShortOnly` |
/// |---|---|---|---|
/// | publishes its certificate at | both | long | short |
/// | listens for requests at | both | long | short |
/// | looks for certificates at | each key whose id is known | long | short |
/// | sends requests to | the kind the device uses; both, if that is not known | long | short |
/// | answers at | the kind the request came by | the same | the same |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Eras {
    /// Everybody is a peer.
    #[default]
    Both,
    /// What today's dhtnet calls "Disabled", meaning the short ids.
    #[doc(alias = "LegacyMode::Disabled")]
    LongOnly,
    /// What programs of 2023 do, such as the daemon of Debian 12.
    ShortOnly,
}

impl Eras {
    /// The kinds of keys in use, the newer first.
    pub fn keys(self) -> &'static [CertificateKey] {
        match self {
            Self::Both => &[CertificateKey::Long, CertificateKey::Short],
            Self::LongOnly => &[CertificateKey::Long],
            Self::ShortOnly => &[CertificateKey::Short],
        }
    }

    /// Whether this kind of key is in use.
    pub fn uses(self, key: CertificateKey) -> bool {
        self.keys().contains(&key)
    }

    /// What is left of it for a device that is known to use one kind of key. Never nothing: a node asks where it can.
    pub(crate) fn narrowed_to(self, key: Option<CertificateKey>) -> Self {
        match (self, key) {
            (Self::Both, Some(CertificateKey::Long)) => Self::LongOnly,
            (Self::Both, Some(CertificateKey::Short)) => Self::ShortOnly,
            _ => self,
        }
    }
}

impl fmt::Display for Eras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "both of its keys",
            Self::LongOnly => "the key of its long id",
            Self::ShortOnly => "the key of its short id",
        })
    }
}

/// What is known of a device's ids: one of them or both. Whoever has its public key has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceIds {
    long: Option<DeviceId>,
    short: Option<ShortId>,
}

impl DeviceIds {
    /// Both ids. Who says that they belong together answers for it: a device that has only one of them is not found.
    pub fn both(long: DeviceId, short: ShortId) -> Self {
        Self { long: Some(long), short: Some(short) }
    }

    /// The long id, if it is known.
    pub fn long(self) -> Option<DeviceId> {
        self.long
    }

    /// The short id, if it is known.
    pub fn short(self) -> Option<ShortId> {
        self.short
    }
}

impl From<DeviceId> for DeviceIds {
    fn from(long: DeviceId) -> Self {
        Self { long: Some(long), short: None }
    }
}

impl From<ShortId> for DeviceIds {
    fn from(short: ShortId) -> Self {
        Self { long: None, short: Some(short) }
    }
}

impl From<&PublicKey> for DeviceIds {
    fn from(key: &PublicKey) -> Self {
        Self::both(key.device_id(), key.short_id())
    }
}
