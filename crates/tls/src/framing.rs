//! Where records begin and end, in any version (RFC 5246 6.2, RFC 8446 5.1).

use crate::TlsError;

/// Header of a record: type, version, length.
pub(crate) const RECORD_HEADER_LEN: usize = 5;

/// Most bytes that follow a record's header (RFC 5246 6.2.3; TLS 1.3 allows fewer).
const MAX_RECORD_BODY_LEN: usize = (1 << 14) + 2048;

/// Length of the record that begins here, header included; None if the header is not all here.
pub(crate) fn record_len(bytes: &[u8]) -> Result<Option<usize>, TlsError> {
    // change_cipher_spec, alert, handshake, application data; version 3.x.
    if bytes.first().is_some_and(|kind| !(20..=23).contains(kind)) || bytes.get(1).is_some_and(|v| *v != 3) {
        return Err(TlsError::Garbage);
    }
    let Some(header) = bytes.first_chunk::<RECORD_HEADER_LEN>() else { return Ok(None) };
    let body = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if body > MAX_RECORD_BODY_LEN { Err(TlsError::Garbage) } else { Ok(Some(RECORD_HEADER_LEN + body)) }
}

/// How many bytes at the front are whole records.
pub(crate) fn whole_records(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Ok(Some(len)) = record_len(&bytes[end..])
        && end + len <= bytes.len()
    {
        end += len;
    }
    end
}
