//! From content to records (RFC 8446 5.1, 5.2). We do not pad.

use super::key::Key;
use super::{HEADER_LEN, MAX_CONTENT_LEN, OVERHEAD, TAG_LEN, content_type};
use crate::TlsError;

fn header(content_len: usize) -> [u8; HEADER_LEN] {
    debug_assert!(content_len <= MAX_CONTENT_LEN);
    let [high, low] = ((content_len + 1 + TAG_LEN) as u16).to_be_bytes();
    [content_type::APPLICATION_DATA, 3, 3, high, low]
}

/// Seals `content`, at most 2^14 bytes, into the front of `out`. Gives the record's length.
pub(super) fn seal(
    key: &mut Key,
    content_type: u8,
    content: &[u8],
    out: &mut [u8],
) -> Result<usize, TlsError> {
    let header = header(content.len());
    let len = content.len() + OVERHEAD;
    let (front, body) = out[..len].split_at_mut(HEADER_LEN);
    front.copy_from_slice(&header);
    key.seal(header, content, content_type, body)?;
    Ok(len)
}

/// Appends a record with `content`, at most 2^14 bytes. Nothing is appended with an error.
pub(super) fn append(
    key: &mut Key,
    content_type: u8,
    content: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), TlsError> {
    let header = header(content.len());
    let start = out.len();
    // Memory that was never written cannot be sealed into, so the content is copied there first.
    out.extend_from_slice(&header);
    out.extend_from_slice(content);
    out.push(content_type);
    match key.seal_in_place(header, &mut out[start + HEADER_LEN..]) {
        Ok(tag) => {
            out.extend_from_slice(tag.as_ref());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}
