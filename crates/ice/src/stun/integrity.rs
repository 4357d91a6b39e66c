//! MESSAGE-INTEGRITY: HMAC-SHA1 over the message up to the attribute (RFC 8489 section 14.5).

use aws_lc_rs::{constant_time, hmac};

use super::{HEADER_LEN, INTEGRITY_LEN};

/// Why a message is not proven to come from the holder of the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntegrityError {
    /// No MESSAGE-INTEGRITY attribute.
    #[error("the message carries no MESSAGE-INTEGRITY")]
    Missing,
    /// The code does not match.
    #[error("MESSAGE-INTEGRITY does not match")]
    Mismatch,
}

/// The code of the message whose bytes before the attribute are `head`.
pub(super) fn code(head: &[u8], key: &[u8]) -> [u8; 20] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut context = hmac::Context::with_key(&key);
    // The length field counts up to and with MESSAGE-INTEGRITY, whatever follows it in the packet.
    let length = (head.len() - HEADER_LEN + INTEGRITY_LEN) as u16;
    context.update(&head[..2]);
    context.update(&length.to_be_bytes());
    context.update(&head[4..]);
    context.sign().as_ref().try_into().expect("an HMAC-SHA1 has 20 bytes")
}

pub(super) fn verify(head: &[u8], key: &[u8], code_received: &[u8]) -> Result<(), IntegrityError> {
    constant_time::verify_slices_are_equal(&code(head, key), code_received)
        .map_err(|_| IntegrityError::Mismatch)
}
