//! From the peer's record to what is in it (RFC 8446 5.1, 5.2, 5.4).

use super::alert::{Alert, Fault};
use super::key::Key;
use super::{HEADER_LEN, MAX_BODY_LEN, MAX_CONTENT_LEN, TAG_LEN, content_type};
use crate::TlsError;
use crate::framing;

/// Length of the record that begins here, header included; None if the header is not all here. Refuses what is no
/// protected record.
pub(crate) fn record_len(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let len = framing::record_len(bytes).map_err(|error| Fault::new(error, Alert::DecodeError))?;
    if let Some(len) = len {
        // Also a change_cipher_spec has no place behind the handshake.
        if bytes[0] != content_type::APPLICATION_DATA {
            return Err(Fault::misbehaved(Alert::UnexpectedMessage));
        }
        if len > HEADER_LEN + MAX_BODY_LEN {
            return Err(Fault::misbehaved(Alert::RecordOverflow));
        }
    }
    Ok(len)
}

/// Decrypts a whole record in place. Gives the type of its content, and the content.
pub(super) fn open<'r>(key: &mut Key, record: &'r mut [u8]) -> Result<(u8, &'r [u8]), Fault> {
    let (header, body) = record.split_at_mut(HEADER_LEN);
    let Some(inner_len) = body.len().checked_sub(TAG_LEN) else {
        return Err(Fault::new(TlsError::Tampered, Alert::BadRecordMac));
    };
    let (inner, tag) = body.split_at_mut(inner_len);
    key.open(header, inner, tag).map_err(|error| match error {
        TlsError::Tampered => Fault::new(error, Alert::BadRecordMac),
        _ => error.into(),
    })?;
    // Type and padding included.
    if inner.len() > MAX_CONTENT_LEN + 1 {
        return Err(Fault::misbehaved(Alert::RecordOverflow));
    }
    // The type is the last byte that is not zero; padding is behind it.
    let Some(content_len) = inner.iter().rposition(|byte| *byte != 0) else {
        return Err(Fault::misbehaved(Alert::UnexpectedMessage));
    };
    Ok((inner[content_len], &inner[..content_len]))
}
