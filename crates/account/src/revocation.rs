//! Revocation lists as values on the DHT (`spec/files-and-calls.md` 1.5).
//!
//! A list is signed by itself, so its value is not: type 0, and as payload the DER inside a msgpack bin. From a daemon of
//! 2023, with a list of 714 bytes:
//!
//! ```text
//! 82                              map 2
//!  a2 6964  cf 4d1c33ecb6e0abc8   "id": random
//!  a3 646174                      "dat":
//!   82                            map 2
//!    a4 626f6479                  "body":
//!     82                          map 2
//!      a4 74797065 00             "type": 0
//!      a4 64617461 c5 02cd        "data": bin 717:
//!         c5 02ca                    bin 714:
//!           3082 02c6 …                the list
//! ```
//!
//! The daemon puts it when the account comes online, not at the moment of the revocation. A list that is to count at once
//! must be put at once.

use towline_dht::{InfoHash, Value, types};
use towline_identity::{AccountId, RevocationList, RevocationListError};

/// Why a value is not a revocation list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevocationValueError {
    /// It is encrypted, or of another type than user data.
    #[error("not user data for everybody")]
    Type,
    /// It is not one piece of bytes. Announcements, which lie at the same key, are told by this.
    #[error("not a revocation list: no msgpack bin")]
    Malformed,
    /// The bytes are no revocation list.
    #[error(transparent)]
    List(#[from] RevocationListError),
}

/// Where an account publishes its lists: at its id, beside the announcements of its devices.
pub fn key(account: AccountId) -> InfoHash {
    crate::announcement::key(account)
}

/// The list as a value. Its id is 0; give it a random one before it is put, for 0 is none.
pub fn value(list: &RevocationList) -> Value {
    let mut data = Vec::with_capacity(list.der().len() + 5);
    rmp::encode::write_bin(&mut data, list.der()).expect("writing to memory succeeds");
    Value::new(0, types::USER_DATA, data)
}

/// Reads a value. Whose list it is, if it is anybody's, [`RevocationList::verify_issued_by`] tells.
pub fn read(value: &Value) -> Result<RevocationList, RevocationValueError> {
    if value.is_encrypted() || value.value_type() != types::USER_DATA {
        return Err(RevocationValueError::Type);
    }
    let mut data = value.data();
    let len = rmp::decode::read_bin_len(&mut data).map_err(|_| RevocationValueError::Malformed)?;
    let der = data.get(..len as usize).ok_or(RevocationValueError::Malformed)?;
    Ok(RevocationList::from_der(der)?)
}
