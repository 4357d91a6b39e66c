//! STUN messages as ICE needs them (RFC 8489, RFC 8445 section 16).
//!
//! [`Message::decode`] borrows from the packet and allocates nothing but the list of attributes it does not know;
//! [`Encoder`] writes one message. Only the Binding method is used by connectivity checks; other methods decode, so
//! that they can be answered with an error. Other usages (TURN) read what is theirs from [`Message::attributes`] and
//! write it by [`Encoder::attribute`]. [`Splitter`] finds the messages of a byte stream.

mod decode;
mod encode;
mod integrity;
mod stream;

pub use decode::{Attributes, DecodeError, ErrorCode, Message, address, xor_address};
pub use encode::{Encoder, Seal};
pub use integrity::IntegrityError;
pub use stream::{Framed, SplitError, Splitter};

/// The fixed value in every message (RFC 8489 section 5).
pub const MAGIC_COOKIE: u32 = 0x2112_a442;

/// Bytes before the attributes.
pub const HEADER_LEN: usize = 20;

/// The Binding method.
pub const BINDING: u16 = 1;

/// The error codes ICE uses (RFC 8489 section 14.8, RFC 8445 section 16.2).
pub mod error_code {
    /// The request was malformed or its method is not served.
    pub const BAD_REQUEST: u16 = 400;
    /// The message lacks credentials or has wrong ones.
    pub const UNAUTHENTICATED: u16 = 401;
    /// The request holds an attribute that must be understood and is not.
    pub const UNKNOWN_ATTRIBUTE: u16 = 420;
    /// Both sides claim the same role.
    pub const ROLE_CONFLICT: u16 = 487;
}

/// The class of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wants a response.
    Request,
    /// Wants none.
    Indication,
    /// Answers a request that succeeded.
    Success,
    /// Answers a request that failed.
    Error,
}

impl Class {
    const fn bits(self) -> u16 {
        match self {
            Self::Request => 0x000,
            Self::Indication => 0x010,
            Self::Success => 0x100,
            Self::Error => 0x110,
        }
    }

    const fn of(message_type: u16) -> Self {
        match message_type & 0x110 {
            0x000 => Self::Request,
            0x010 => Self::Indication,
            0x100 => Self::Success,
            _ => Self::Error,
        }
    }
}

const fn method_of(message_type: u16) -> u16 {
    (message_type & 0x000f) | ((message_type & 0x00e0) >> 1) | ((message_type & 0x3e00) >> 2)
}

const fn type_of(class: Class, method: u16) -> u16 {
    class.bits() | (method & 0x000f) | ((method & 0x0070) << 1) | ((method & 0x0f80) << 2)
}

/// Pairs a response with its request: 96 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// The role a check claims, with the tie-breaker that settles a conflict (RFC 8445 section 7.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleClaim {
    /// ICE-CONTROLLING.
    Controlling(u64),
    /// ICE-CONTROLLED.
    Controlled(u64),
}

mod attribute {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const SOFTWARE: u16 = 0x8022;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
    pub(super) const ICE_CONTROLLING: u16 = 0x802a;

    /// Attributes from here on may be ignored by a receiver that does not know them.
    pub(super) const COMPREHENSION_OPTIONAL: u16 = 0x8000;
}

/// The value added to the CRC of a FINGERPRINT.
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// Length of a FINGERPRINT attribute with its header.
const FINGERPRINT_LEN: usize = 8;
/// Length of a MESSAGE-INTEGRITY attribute with its header.
const INTEGRITY_LEN: usize = 24;
/// Length of a MESSAGE-INTEGRITY-SHA256 attribute with its header.
const INTEGRITY_SHA256_LEN: usize = 36;

#[cfg(test)]
mod tests;
