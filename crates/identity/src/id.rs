//! Ids: what a public key hashes to (`spec/connection.md` 2.2).

use std::fmt;
use std::str::FromStr;

use crate::hash::{sha1, sha256};

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It has another number of characters than an id of this kind.
    #[error("an id of this kind has {expected} hexadecimal digits, this has {found} characters")]
    Length {
        /// Digits an id of this kind has.
        expected: usize,
        /// Characters (not bytes) that were given.
        found: usize,
    },
    /// There is a character that is no hexadecimal digit.
    #[error("character {position} ({character:?}) is no hexadecimal digit")]
    Digit {
        /// Index of the character, from 0.
        position: usize,
        /// The character.
        character: char,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Number of bytes.
            pub const LEN: usize = $len;

            /// The bytes, most significant first.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; 2 * $len];
                hex::encode_to_slice(self.0, &mut digits).expect("twice the bytes of room");
                f.pad(std::str::from_utf8(&digits).expect("hexadecimal digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Reads hexadecimal digits of either case.
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text).map(Self)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }
    };
}

id! {
    /// SHA-1 over a key's DER SubjectPublicKeyInfo: 40 hexadecimal digits.
    ///
    /// The older id of a device, and what values on the DHT are addressed to.
    #[doc(alias = "InfoHash")]
    ShortId, 20
}

id! {
    /// SHA-256 over a device key's DER SubjectPublicKeyInfo: 64 hexadecimal digits. What one dials.
    #[doc(alias = "PkId")]
    #[doc(alias = "long id")]
    DeviceId, 32
}

id! {
    /// The short id of the key that signed a device's certificate: whose device it is.
    #[doc(alias = "uri")]
    #[doc(alias = "account uri")]
    AccountId, 20
}

impl ShortId {
    /// The id of the key with this DER SubjectPublicKeyInfo.
    pub fn of_spki(spki: &[u8]) -> Self {
        Self(sha1(spki))
    }
}

impl DeviceId {
    /// The id of the key with this DER SubjectPublicKeyInfo.
    pub fn of_spki(spki: &[u8]) -> Self {
        Self(sha256(spki))
    }
}

impl From<ShortId> for AccountId {
    fn from(id: ShortId) -> Self {
        Self(id.0)
    }
}

impl From<AccountId> for ShortId {
    fn from(id: AccountId) -> Self {
        Self(id.0)
    }
}

fn parse<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    if text.len() != 2 * N {
        return Err(IdError::Length { expected: 2 * N, found: text.chars().count() });
    }
    if let Some((position, character)) = text.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(IdError::Digit { position, character });
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).expect("the right number of hexadecimal digits");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = ShortId([0xab; 20]);
        assert_eq!(id.to_string(), "ab".repeat(20));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("AB".repeat(20).parse(), Ok(id), "digits of either case are read");
        assert_eq!(format!("{id:.8}"), "abababab", "a precision shortens");
        assert_eq!(format!("{id:?}"), format!("ShortId({id})"));
    }

    #[test]
    fn bad_text_is_refused_by_name() {
        assert_eq!("ab".parse::<DeviceId>(), Err(IdError::Length { expected: 64, found: 2 }));
        assert_eq!("é".repeat(20).parse::<ShortId>(), Err(IdError::Digit { position: 0, character: 'é' }));
        let bad = format!("{}g", "0".repeat(39));
        assert_eq!(bad.parse::<AccountId>(), Err(IdError::Digit { position: 39, character: 'g' }));
    }

    #[test]
    fn order_is_that_of_the_bytes() {
        assert!(ShortId([1; 20]) < ShortId([2; 20]));
    }
}
