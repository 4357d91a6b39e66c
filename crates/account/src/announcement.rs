//! `DeviceAnnouncement`: a device says that it belongs to an account (`spec/files-and-calls.md` 1.1).

use rmpv::ValueRef;
use rmpv::decode::read_value_ref_with_max_depth;
use towline_dht::value::SignatureError;
use towline_dht::{InfoHash, Value, types};
use towline_identity::{AccountId, DeviceId, Identity, PublicKey, PublicKeyError, ShortId};

/// Deepest nesting in a payload that is read, as `rmpv` counts it: a map of bytes has five.
const MAX_DEPTH: usize = 16;

/// What the account's key signed about one of its devices. Made once, when the device is added; refreshed on the DHT for
/// as long as the device is online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAnnouncement {
    /// Short id of the device's key.
    pub device: ShortId,
    /// The device's key. Absent from announcements of the first years; today's Jami ignores those.
    pub key: Option<PublicKey>,
}

/// Why a value is not the announcement of a device of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnouncementError {
    /// It is of another type than user data.
    #[error("a value of type {0}, not user data")]
    Type(u16),
    /// It is not a map with a device in it. Revocation lists, which lie at the same key, are told by this.
    #[error("not an announcement: no map with a device id")]
    Malformed,
    /// It is not signed, or its signature is false.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Somebody else signed it.
    #[error("signed by {0}, not by the account")]
    Owner(AccountId),
    /// The key inside is none.
    #[error("device key: {0}")]
    Key(#[from] PublicKeyError),
    /// The key inside is that of another device.
    #[error("it names device {device}, and has the key of {key}")]
    OtherKey {
        /// The device that it names.
        device: ShortId,
        /// Short id of the key that it has.
        key: ShortId,
    },
}

/// Where the devices of an account announce themselves: the account's id is the key.
pub fn key(account: AccountId) -> InfoHash {
    ShortId::from(account).into()
}

impl DeviceAnnouncement {
    /// Makes the announcement of `device`, signed by `account`. The value's id is 0, as it is kept in the receipt; give it
    /// a random one before it is put, for 0 is none.
    pub fn sign(account: &Identity, device: &PublicKey) -> Value {
        let announcement = Self { device: device.short_id(), key: Some(device.clone()) };
        let mut value = Value::new(0, types::USER_DATA, announcement.encode());
        value.sign(account.key(), 0).expect("a plain value can be signed");
        value
    }

    /// Reads a value found at the key of `account`, and checks all that makes it true: `account` signed it, and the key
    /// inside, if there is one, is the device's.
    pub fn read(value: &Value, account: AccountId) -> Result<Self, AnnouncementError> {
        if value.is_encrypted() {
            return Err(SignatureError::Encrypted.into());
        }
        if value.value_type() != types::USER_DATA {
            return Err(AnnouncementError::Type(value.value_type()));
        }
        let announcement = Self::decode(value.data())?;
        let owner = value.owner().ok_or(SignatureError::NoOwner)?.short_id().into();
        if owner != account {
            return Err(AnnouncementError::Owner(owner));
        }
        if let Some(key) = &announcement.key
            && key.short_id() != announcement.device
        {
            return Err(AnnouncementError::OtherKey { device: announcement.device, key: key.short_id() });
        }
        value.check_signature()?;
        Ok(announcement)
    }

    /// Long id of the device, if the announcement has its key.
    pub fn device_id(&self) -> Option<DeviceId> {
        self.key.as_ref().map(PublicKey::device_id)
    }

    fn encode(&self) -> Vec<u8> {
        const WRITES: &str = "writing to memory succeeds";
        let mut out = Vec::new();
        rmp::encode::write_map_len(&mut out, 1 + u32::from(self.key.is_some())).expect(WRITES);
        rmp::encode::write_str(&mut out, "dev").expect(WRITES);
        rmp::encode::write_bin(&mut out, self.device.as_bytes()).expect(WRITES);
        if let Some(key) = &self.key {
            rmp::encode::write_str(&mut out, "pk").expect(WRITES);
            rmp::encode::write_bin(&mut out, key.spki_der()).expect(WRITES);
        }
        out
    }

    fn decode(mut data: &[u8]) -> Result<Self, AnnouncementError> {
        let Ok(ValueRef::Map(map)) = read_value_ref_with_max_depth(&mut data, MAX_DEPTH) else {
            return Err(AnnouncementError::Malformed);
        };
        let member = |name: &str| {
            let named =
                |key: &ValueRef<'_>| matches!(key, ValueRef::String(key) if key.as_str() == Some(name));
            map.iter().find(|(key, _)| named(key)).map(|(_, member)| member)
        };
        let device = match member("dev") {
            Some(ValueRef::Binary(device)) => {
                <[u8; ShortId::LEN]>::try_from(*device).map_err(|_| AnnouncementError::Malformed)?
            }
            _ => return Err(AnnouncementError::Malformed),
        };
        let key = match member("pk") {
            None | Some(ValueRef::Nil) => None,
            Some(ValueRef::Binary(key)) => Some(PublicKey::from_spki_der(key)?),
            Some(_) => return Err(AnnouncementError::Malformed),
        };
        Ok(Self { device: device.into(), key })
    }
}
