//! MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256: an HMAC over the message up to the attribute (RFC 8489 sections
//! 14.5 and 14.6).

use aws_lc_rs::{constant_time, hmac};

use super::{HEADER_LEN, INTEGRITY_LEN, INTEGRITY_SHA256_LEN};

/// Why a message is not proven to come from the holder of the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntegrityError {
    /// No MESSAGE-INTEGRITY attribute (or no MESSAGE-INTEGRITY-SHA256, where that was asked about).
    #[error("the message carries no integrity code")]
    Missing,
    /// The code does not match.
    #[error("the integrity code does not match")]
    Mismatch,
}

/// The code of the message whose bytes before the attribute are `head`.
pub(super) fn code(head: &[u8], key: &[u8]) -> [u8; 20] {
    let tag = sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, head, INTEGRITY_LEN, key);
    tag.as_ref().try_into().expect("an HMAC-SHA1 has 20 bytes")
}

pub(super) fn code_sha256(head: &[u8], key: &[u8]) -> [u8; 32] {
    let tag = sign(hmac::HMAC_SHA256, head, INTEGRITY_SHA256_LEN, key);
    tag.as_ref().try_into().expect("an HMAC-SHA256 has 32 bytes")
}

fn sign(algorithm: hmac::Algorithm, head: &[u8], attribute_len: usize, key: &[u8]) -> hmac::Tag {
    let key = hmac::Key::new(algorithm, key);
    let mut context = hmac::Context::with_key(&key);
    // The length field counts up to and with the attribute itself, whatever follows it in the packet.
    let length = (head.len() - HEADER_LEN + attribute_len) as u16;
    context.update(&head[..2]);
    context.update(&length.to_be_bytes());
    context.update(&head[4..]);
    context.sign()
}

pub(super) fn verify(head: &[u8], key: &[u8], received: &[u8]) -> Result<(), IntegrityError> {
    constant_time::verify_slices_are_equal(&code(head, key), received).map_err(|_| IntegrityError::Mismatch)
}

pub(super) fn verify_sha256(head: &[u8], key: &[u8], received: &[u8]) -> Result<(), IntegrityError> {
    constant_time::verify_slices_are_equal(&code_sha256(head, key), received)
        .map_err(|_| IntegrityError::Mismatch)
}
