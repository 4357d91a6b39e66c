//! What a node stores and what may replace what it stores (`dht.md` 3.6, 3.8, 9.2, 10).
//!
//! Stricter than the reference in three points, which its own clients never notice: a value of *any* type that has an owner
//! must have a good signature; a value without owner never replaces a signed one; the size limit holds for signed
//! values too.

use std::net::SocketAddr;

use super::{
    CERTIFICATE, DHT_MESSAGE, DhtMessage, IP_SERVICE_ANNOUNCEMENT, IpServiceAnnouncement, Payload,
    certificate_keys, decode_certificate, is_secure,
};
use crate::value::{Content, SignatureError};
use crate::{InfoHash, Value};

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
    Signature(#[from] SignatureError),
    /// The payload breaks the rule of its type.
    #[error("the payload is not acceptable")]
    Payload,
    /// A certificate at a key that is not its own.
    #[error("a certificate at a foreign key")]
    ForeignKey,
    /// The stored value with this id may be replaced by nobody, or not by this value.
    #[error("the stored value may not be replaced by this one")]
    NotReplaceable,
}

/// Whether `new` may be stored at `key`, in place of `old` if a value with its id and other content is there.
pub fn admit(key: &InfoHash, old: Option<&Value>, new: &Value) -> Result<(), PolicyError> {
    if new.id == 0 {
        return Err(PolicyError::ZeroId);
    }
    if new.size() > Value::MAX_SIZE {
        return Err(PolicyError::TooLarge);
    }
    if let Some(old) = old {
        check_replacement(old, new)?;
    }
    check_payload(key, new)?;
    // The signature last: it is the only check that costs.
    if new.ownership().is_some() {
        new.check_signature()?;
    }
    Ok(())
}

/// What a storing node changes in a value sent from `from`, or `None` if nothing: nobody announces a service on
/// another's address, so the sender's takes the place of the one announced; the port stays.
pub fn localize(value: &Value, from: SocketAddr) -> Option<Value> {
    // A change would break a signature, so the owner answers for what it announces.
    if value.value_type() != IP_SERVICE_ANNOUNCEMENT || value.ownership().is_some() {
        return None;
    }
    let mut announced = IpServiceAnnouncement::decode(value.data()).ok()?;
    announced.address.set_ip(from.ip().to_canonical());
    let data = announced.encode();
    let mut value = value.clone();
    match &mut value.content {
        Content::Plain(body) if body.data != data => body.data = data,
        _ => return None,
    }
    Some(value)
}

/// The rule is that of the stored value's type, so nobody escapes it by sending another.
fn check_replacement(old: &Value, new: &Value) -> Result<(), PolicyError> {
    let allowed = match old.value_type() {
        CERTIFICATE => {
            let device = |value: &Value| decode_certificate(value.data()).ok().map(|chain| chain.device_id());
            new.value_type() == CERTIFICATE && device(old).is_some() && device(old) == device(new)
        }
        value_type if is_secure(value_type) => {
            // A value without owner has none to compare: first writer wins, and it never replaces a signed one.
            let owners = (old.owner(), new.owner());
            matches!(owners, (Some(old_owner), Some(new_owner)) if old_owner == new_owner)
                && old.is_signed()
                && new.seq() > old.seq()
        }
        _ => false,
    };
    if allowed { Ok(()) } else { Err(PolicyError::NotReplaceable) }
}

fn check_payload(key: &InfoHash, value: &Value) -> Result<(), PolicyError> {
    match value.value_type() {
        DHT_MESSAGE if !value.is_signed() => match DhtMessage::decode(value.data()) {
            Ok(message) if message.service.is_empty() => Err(PolicyError::Payload),
            // What does not parse is stored all the same: so does the network.
            Ok(_) | Err(_) => Ok(()),
        },
        IP_SERVICE_ANNOUNCEMENT => match IpServiceAnnouncement::decode(value.data()) {
            Ok(announced) if announced.address.port() != 0 => Ok(()),
            _ => Err(PolicyError::Payload),
        },
        CERTIFICATE => {
            let chain = decode_certificate(value.data()).map_err(|_| PolicyError::Payload)?;
            if certificate_keys(&chain).contains(key) { Ok(()) } else { Err(PolicyError::ForeignKey) }
        }
        _ => Ok(()),
    }
}
