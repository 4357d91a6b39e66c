//! Value types: how long values live, what their payloads mean, what may be stored and replaced (`dht.md` 3.5, 3.6).

mod certificate;
mod payload;
mod policy;

use std::time::Duration;

pub use certificate::{
    CERTIFICATE_VALUE_ID, certificate_keys, certificate_of, certificate_payload, certificate_query,
    certificate_value, decode_certificate,
};
pub use payload::{DhtMessage, IceCandidates, ImMessage, IpServiceAnnouncement, Payload, TrustRequest};
pub use policy::{PolicyError, admit, localize};

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
/// A certificate chain ([`certificate_payload`]).
pub const CERTIFICATE: u16 = 8;

/// How long a value of this type lives after its creation or last refresh. Unknown types live like user data.
pub const fn expiry(value_type: u16) -> Duration {
    match value_type {
        DHT_MESSAGE | IM_MESSAGE => Duration::from_mins(5),
        IP_SERVICE_ANNOUNCEMENT => Duration::from_mins(15),
        ICE_CANDIDATES => Duration::from_mins(1),
        TRUST_REQUEST | CERTIFICATE => Duration::from_hours(7 * 24),
        _ => Duration::from_mins(10),
    }
}

/// Whether values of this type can be replaced by their owner.
const fn is_secure(value_type: u16) -> bool {
    matches!(value_type, USER_DATA | DHT_MESSAGE | IM_MESSAGE | TRUST_REQUEST | ICE_CANDIDATES)
}
