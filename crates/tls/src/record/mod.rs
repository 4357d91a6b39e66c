//! Protection of the records of an established TLS 1.3 session (RFC 8446 5).
//!
//! The TLS library does the handshake and goes on deriving keys. Its records, though, cost a copy and an allocation
//! each; these are opened where they lie and sealed where they are sent from. TLS 1.2 does not get here.

mod alert;
mod incoming;
mod key;
mod message;
mod outgoing;
mod secrets;
mod traffic;

use crate::framing::RECORD_HEADER_LEN as HEADER_LEN;

pub(crate) use alert::{Alert, Fault};
pub(crate) use incoming::record_len;
pub(crate) use traffic::{Opened, Traffic};

/// Most bytes of content in a record: 2^14 (RFC 8446 5.1).
const MAX_CONTENT_LEN: usize = 1 << 14;

/// Most bytes after a record's header: 256 more (RFC 8446 5.2).
const MAX_BODY_LEN: usize = MAX_CONTENT_LEN + 256;

/// What each of the AEADs in use appends.
const TAG_LEN: usize = 16;

/// What a record without padding has around its content: header, type, tag.
const OVERHEAD: usize = HEADER_LEN + 1 + TAG_LEN;

/// Types of content (RFC 8446 5.1).
mod content_type {
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
    pub(super) const APPLICATION_DATA: u8 = 23;
}
