//! 160-bit ids and keys, and the rules by which keys are derived (`dht.md` 3.4, 3.8).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use towline_identity::{DeviceId, ShortId};

/// A 160-bit id: of a node, or the key that values are stored under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[doc(alias = "h160")]
pub struct InfoHash(pub [u8; 20]);

impl InfoHash {
    /// Length in bytes.
    pub const LEN: usize = 20;

    /// All zero: on the wire, the same as none.
    pub const ZERO: Self = Self([0; 20]);

    /// SHA-1 of `bytes`: how names become keys.
    pub fn digest(bytes: impl AsRef<[u8]>) -> Self {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes.as_ref());
        Self(hash.as_ref().try_into().expect("SHA-1 yields 20 bytes"))
    }

    /// The id in these bytes, if there are exactly 20.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Whether every bit is zero.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// XOR distance to `other`; distances order like big-endian numbers.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] ^ other.0[i]))
    }

    /// Which of `a` and `b` is nearer to this id: `Less` if `a` is.
    pub fn compare_distance(&self, a: &Self, b: &Self) -> Ordering {
        self.distance(a).cmp(&self.distance(b))
    }

    /// Number of leading bits shared with `other`: 0 to 160.
    pub fn common_prefix_len(&self, other: &Self) -> u32 {
        let mut bits = 0;
        for byte in self.distance(other).0 {
            bits += byte.leading_zeros();
            if byte != 0 {
                break;
            }
        }
        bits
    }

    /// Bit `index`, counted from the most significant; indexes from 160 up read as zero.
    pub fn bit(&self, index: u32) -> bool {
        self.0.get(index as usize / 8).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
    }

    /// This id with bit `index` (from the most significant) set to `value`.
    #[must_use]
    pub fn with_bit(mut self, index: u32, value: bool) -> Self {
        if let Some(byte) = self.0.get_mut(index as usize / 8) {
            let mask = 0x80 >> (index % 8);
            if value {
                *byte |= mask;
            } else {
                *byte &= !mask;
            }
        }
        self
    }

    /// Key at which a device listens for connection requests: SHA-1 of `"peer:"` and its id in hex.
    ///
    /// `device` is the long id (64 hex digits), or the short one (40) for peers older than that.
    pub fn of_peer_requests(device: &impl fmt::Display) -> Self {
        Self::digest(format!("peer:{device}"))
    }

    /// Key at which a certificate is published since OpenDHT 3.5: SHA-1 of the long id's 32 bytes.
    pub fn of_certificate(device: &DeviceId) -> Self {
        Self::digest(device.as_bytes())
    }

    /// Key at which older nodes publish, store and search a certificate: the short id itself.
    pub fn of_certificate_legacy(device: &ShortId) -> Self {
        Self::from(*device)
    }

    /// Id of an OpenDHT node that derives it from an identity: SHA-1 of `"node:"` and the short id in hex.
    ///
    /// A node of ours uses a random id instead, so that it cannot be linked to its device.
    pub fn of_identified_node(device: &ShortId) -> Self {
        Self::digest(format!("node:{}", Self::from(*device)))
    }
}

impl From<ShortId> for InfoHash {
    fn from(id: ShortId) -> Self {
        Self(*id.as_bytes())
    }
}

impl From<[u8; 20]> for InfoHash {
    fn from(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for InfoHash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not an [`InfoHash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 40 hexadecimal digits")]
pub struct ParseInfoHashError;

impl FromStr for InfoHash {
    type Err = ParseInfoHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = Self::ZERO;
        hex::decode_to_slice(text, &mut id.0).map_err(|_| ParseInfoHashError)?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_and_text_forms() {
        let id = InfoHash::digest("foo");
        assert_eq!(id.to_string(), "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("0bee".parse::<InfoHash>(), Err(ParseInfoHashError));
        assert_eq!(InfoHash::from_slice(&[0; 19]), None);
    }

    #[test]
    fn distances() {
        let zero = InfoHash::ZERO;
        let low = zero.with_bit(159, true);
        let high = zero.with_bit(0, true);
        assert_eq!(zero.compare_distance(&low, &high), Ordering::Less);
        assert_eq!(high.compare_distance(&low, &high), Ordering::Greater);
        assert_eq!(zero.common_prefix_len(&zero), 160);
        assert_eq!(zero.common_prefix_len(&low), 159);
        assert_eq!(zero.common_prefix_len(&high), 0);
        assert!(high.bit(0) && !high.bit(1) && !high.bit(1000));
        assert_eq!(high.with_bit(0, false), zero);
    }

    #[test]
    fn peer_request_key_hashes_the_hex() {
        let long = "cdfd21a72339e223ed4debb1613cfb9c40cc10d893fe4942ace8715d1fe1fc23";
        assert_eq!(InfoHash::of_peer_requests(&long), InfoHash::digest(format!("peer:{long}")));
    }
}
