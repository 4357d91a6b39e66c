//! Where a device is asked to become a contact (`spec/files-and-calls.md` 2.1).

use towline_dht::InfoHash;
use towline_identity::ShortId;

/// The key at which a device listens for requests, and for the messages of old programs: SHA-1 of `inbox:` and the 40
/// digits of its short id.
pub fn key(device: ShortId) -> InfoHash {
    InfoHash::digest(format!("inbox:{device}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_in_jami() {
        let device = "3ca5b8fd8886396a5c214a3f97608303e9dccde3".parse().unwrap();
        assert_eq!(key(device).to_string(), "8a5a941c93630dd4a50452efd325ea0c63705340");
    }
}
