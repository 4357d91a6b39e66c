//! Ids as users type them.

use std::str::FromStr;

use towline::{AccountId, DeviceId, Peer};

/// A device or an account: who may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerId {
    /// One device.
    Device(DeviceId),
    /// Every device of an account, or the device with this short id.
    Short(AccountId),
}

impl PeerId {
    /// Whether `peer` is meant.
    pub(crate) fn names(&self, peer: &Peer) -> bool {
        match self {
            Self::Device(id) => peer.device == *id,
            Self::Short(id) => peer.account == *id || AccountId::from(peer.chain.short_id()) == *id,
        }
    }
}

impl FromStr for PeerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let error = match text.len() {
            64 => match text.parse() {
                Ok(id) => return Ok(Self::Device(id)),
                Err(error) => error,
            },
            40 => match text.parse() {
                Ok(id) => return Ok(Self::Short(id)),
                Err(error) => error,
            },
            _ => {
                return Err(format!(
                    "an id is 64 hexadecimal digits (a device) or 40 (an account or a short id), this has {} \
                     characters",
                    text.chars().count()
                ));
            }
        };
        Err(error.to_string())
    }
}

/// Reads the id of a device to dial.
pub(crate) fn device(text: &str) -> Result<DeviceId, String> {
    let text = text.trim();
    if text.len() == 40 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(
            "this is the id of an account or a short id (40 digits); a device to dial is named by its \
                    64 digits, which `towline id` prints on that device"
                .to_owned(),
        );
    }
    text.parse().map_err(|error: towline::identity::IdError| match error {
        towline::identity::IdError::Length { found, .. } => format!(
            "a device id has 64 hexadecimal digits, this has {found} characters; `towline id` prints it on that \
             device"
        ),
        error @ towline::identity::IdError::Digit { .. } => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_accounts_are_told_apart_by_length() {
        assert_eq!("ab".repeat(32).parse(), Ok(PeerId::Device(DeviceId([0xab; 32]))));
        assert_eq!(format!(" {}\n", "ab".repeat(20)).parse(), Ok(PeerId::Short(AccountId([0xab; 20]))));
        assert_eq!(device(&"AB".repeat(32)), Ok(DeviceId([0xab; 32])));
    }

    #[test]
    fn errors_name_the_rule() {
        assert!("".parse::<PeerId>().unwrap_err().contains("this has 0 characters"));
        assert!("zz".repeat(32).parse::<PeerId>().unwrap_err().contains("character 0 ('z')"));
        assert!(device(&"ab".repeat(20)).unwrap_err().contains("64 digits"));
        assert!(device("hello").unwrap_err().contains("this has 5 characters"));
        assert!(device(&"é".repeat(20)).unwrap_err().contains("this has 20 characters"));
    }
}
