//! RFC 4571 framing: a 16-bit big-endian length before every message on a TCP connection (spec 4.6).

use bytes::{BufMut, Bytes, BytesMut};

/// The longest payload of one frame, in bytes.
pub const MAX_PAYLOAD: usize = u16::MAX as usize;

/// The bytes of the length before a payload.
pub const HEADER_LEN: usize = 2;

/// A payload does not fit a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {len} bytes exceeds the limit of {limit}")]
pub struct FrameTooLong {
    /// The length asked for or announced, in bytes.
    pub len: usize,
    /// The longest one allowed, in bytes.
    pub limit: usize,
}

/// The two bytes that go before a payload of `len` bytes; lets a caller write both without copying.
pub fn header(len: usize) -> Result<[u8; HEADER_LEN], FrameTooLong> {
    u16::try_from(len).map(u16::to_be_bytes).map_err(|_| FrameTooLong { len, limit: MAX_PAYLOAD })
}

/// `payload` with its length before it.
pub fn frame(payload: &[u8]) -> Result<Bytes, FrameTooLong> {
    let mut framed = BytesMut::with_capacity(HEADER_LEN + payload.len());
    framed.put_slice(&header(payload.len())?);
    framed.put_slice(payload);
    Ok(framed.freeze())
}

/// Cuts a byte stream back into payloads, however the stream was split.
///
/// A frame that lies whole in the caller's buffer is lent from there; only one that straddles two buffers is copied.
/// Memory: at most one frame.
#[derive(Debug, Clone)]
pub struct Decoder {
    limit: usize,
    // Header and payload of the frame that has begun but not ended.
    partial: Vec<u8>,
    // The frame in `partial` was handed out and its bytes are no longer needed.
    lent: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that takes frames of any length.
    pub fn new() -> Self {
        Self::with_limit(MAX_PAYLOAD)
    }

    /// A decoder that refuses payloads longer than `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, partial: Vec::new(), lent: false }
    }

    /// Changes the limit for the frames whose length has not been read yet.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Bytes held for an unfinished frame.
    pub fn buffered(&self) -> usize {
        if self.lent { 0 } else { self.partial.len() }
    }

    /// The next payload; `input` is moved past what was used, and is empty when the answer is `Ok(None)`.
    ///
    /// Empty frames are skipped. After an error the stream cannot be resynchronised: close it.
    pub fn decode<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<&'s [u8]>, FrameTooLong> {
        if self.lent {
            self.partial.clear();
            self.lent = false;
        }
        while !input.is_empty() {
            if self.partial.is_empty()
                && let Some((head, rest)) = input.split_first_chunk::<HEADER_LEN>()
            {
                let len = self.check(*head)?;
                if let Some((payload, rest)) = rest.split_at_checked(len) {
                    *input = rest;
                    if len == 0 {
                        continue;
                    }
                    return Ok(Some(payload));
                }
            }
            // The frame straddles buffers: first complete the header, then the payload.
            if self.partial.len() < HEADER_LEN {
                self.take(input, HEADER_LEN);
            }
            let Some(head) = self.partial.first_chunk::<HEADER_LEN>() else { break };
            let len = self.check(*head)?;
            self.take(input, HEADER_LEN + len);
            if self.partial.len() == HEADER_LEN + len {
                if len == 0 {
                    self.partial.clear();
                    continue;
                }
                self.lent = true;
                return Ok(Some(&self.partial[HEADER_LEN..]));
            }
        }
        Ok(None)
    }

    fn check(&self, head: [u8; HEADER_LEN]) -> Result<usize, FrameTooLong> {
        let len = usize::from(u16::from_be_bytes(head));
        if len > self.limit { Err(FrameTooLong { len, limit: self.limit }) } else { Ok(len) }
    }

    // Moves bytes from `input` until `partial` holds `target` of them.
    fn take(&mut self, input: &mut &[u8], target: usize) {
        let wanted = target.saturating_sub(self.partial.len()).min(input.len());
        let (now, later) = input.split_at(wanted);
        self.partial.extend_from_slice(now);
        *input = later;
    }
}

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadKind {
    /// A STUN message, or something that must be treated as one and fail.
    Stun,
    /// Bytes of the application.
    Data,
}

/// Tells STUN from application data in one RFC 4571 payload (spec 4.6).
///
/// STUN iff the first byte is 0 or 1, there are at least 20 bytes, and the length field plus 20 equals the payload's
/// length and is a multiple of 4. The magic cookie does not decide: what passes here but has no cookie is dropped.
pub fn classify(payload: &[u8]) -> PayloadKind {
    let stun = payload.len() >= 20
        && payload[0] <= 1
        && payload.len().is_multiple_of(4)
        && usize::from(u16::from_be_bytes([payload[2], payload[3]])) + 20 == payload.len();
    if stun { PayloadKind::Stun } else { PayloadKind::Data }
}

/// Tells STUN from application data in one UDP datagram: as [`classify`], and with the magic cookie.
///
/// Application datagrams may begin with any byte, so the cookie has to decide here (RFC 8489 section 6.3).
pub fn classify_datagram(payload: &[u8]) -> PayloadKind {
    match classify(payload) {
        PayloadKind::Stun if payload[4..8] == crate::stun::MAGIC_COOKIE.to_be_bytes() => PayloadKind::Stun,
        _ => PayloadKind::Data,
    }
}
