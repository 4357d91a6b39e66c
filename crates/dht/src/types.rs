//! Value types: how long values live, what their payloads mean, what may be stored and replaced (`dht.md` 3.5, 3.6).

use std::net::SocketAddr;
use std::time::Duration;

use crate::{InfoHash, Value};

/// Free content; signed and encrypted values of programs travel as this.
pub const USER_DATA: u16 = 0;
/// A [`DhtMessage`].
pub const DHT_MESSAGE: u16 = 1;
/// An [`IpServiceAnnouncement`].
pub const IP_SERVICE_ANNOUNCEMENT: u16 = 2;
/// An [`ImMessage`].
pub const IM_MESSAGE: u16 = 3;
/// A [`TrustRequest`].
pub const TRUST_REQUEST: u16 = 4;
/// [`IceCandidates`].
pub const ICE_CANDIDATES: u16 = 5;
/// A certificate chain.
pub const CERTIFICATE: u16 = 8;

/// How long a value of this type lives after its creation or last refresh.
pub const fn expiry(value_type: u16) -> Duration {
    const MINUTE: u64 = 60;
    const DAY: u64 = 24 * 60 * MINUTE;
    Duration::from_secs(match value_type {
        DHT_MESSAGE | IM_MESSAGE => 5 * MINUTE,
        IP_SERVICE_ANNOUNCEMENT => 15 * MINUTE,
        ICE_CANDIDATES => MINUTE,
        TRUST_REQUEST | CERTIFICATE => 7 * DAY,
        _ => 10 * MINUTE,
    })
}

/// Why the rules of its type do not let a value be stored, or replace another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Value ids start at 1.
    #[error("value id 0")]
    ZeroId,
    /// The value has more than [`Value::MAX_SIZE`] bytes.
    #[error("the value is too large")]
    TooLarge,
    /// It has an owner and a missing or false signature.
    #[error(transparent)]
    Signature(#[from] crate::value::SignatureError),
    /// The payload breaks the rule of its type.
    #[error("the payload is not acceptable")]
    Payload,
    /// A certificate at a key that is not its own.
    #[error("a certificate at a foreign key")]
    ForeignKey,
    /// The stored value with this id may not be replaced, by nobody or not by this value.
    #[error("the stored value may not be replaced by this one")]
    NotReplaceable,
}

/// Whether `value`, sent from `from`, may be stored at `key` where no value has its id. Returns the value to store in
/// its place where the type asks for a change.
pub fn check_store(
    _key: &InfoHash,
    _value: &Value,
    _from: Option<SocketAddr>,
) -> Result<Option<Value>, PolicyError> {
    todo!()
}

/// Whether `new` may replace `old`, which has the same id and other content.
pub fn check_edit(_key: &InfoHash, _old: &Value, _new: &Value) -> Result<(), PolicyError> {
    todo!()
}
