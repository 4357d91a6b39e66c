//! Messages on a byte stream to a server: STUN messages tell their own length, as do the ChannelData messages of TURN.

use super::HEADER_LEN;

/// The bytes of the header of a ChannelData message (RFC 8656 section 12.4).
const CHANNEL_HEADER_LEN: usize = 4;

/// One message cut from a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A whole STUN message, to be decoded.
    Stun(&'a [u8]),
    /// The content of a ChannelData message; its padding has been removed.
    Channel {
        /// Its channel number, 0x4000 to 0x7fff.
        number: u16,
        /// What was sent on it.
        payload: &'a [u8],
    },
}

/// The stream holds something that is no message; it cannot be resynchronised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The first bits are neither those of a STUN message nor those of ChannelData.
    #[error("a message on a stream begins with byte {first:#04x}")]
    Kind {
        /// The first byte.
        first: u8,
    },
    /// Longer than the limit.
    #[error("a message of {len} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Its length on the wire, in bytes.
        len: usize,
        /// The longest one allowed, in bytes.
        limit: usize,
    },
}

/// Cuts a byte stream (TCP or TLS) into messages, however it was split (RFC 8489 section 6.2.2, RFC 8656 section 12.5).
///
/// A message that lies whole in the caller's buffer is lent from there; only one that straddles two buffers is copied.
/// Memory: at most one message, so at most the limit.
#[derive(Debug, Clone)]
pub struct Splitter {
    limit: usize,
    // The beginning of a message that has not ended.
    partial: Vec<u8>,
    // The message in `partial` was handed out and its bytes are no longer needed.
    lent: bool,
}

impl Splitter {
    /// A splitter that refuses messages longer than `limit` bytes on the wire.
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, partial: Vec::new(), lent: false }
    }

    /// Bytes held for an unfinished message.
    pub fn buffered(&self) -> usize {
        if self.lent { 0 } else { self.partial.len() }
    }

    /// The next message; `input` is moved past what was used, and is empty when the answer is `Ok(None)`.
    pub fn split<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Framed<'s>>, SplitError> {
        if self.lent {
            self.partial.clear();
            self.lent = false;
        }
        if self.partial.is_empty()
            && let Some(head) = input.first_chunk::<4>()
        {
            let len = self.wire_len(*head)?;
            if let Some((message, rest)) = input.split_at_checked(len) {
                *input = rest;
                return Ok(Some(framed(message)));
            }
        }
        self.take(input, CHANNEL_HEADER_LEN);
        let Some(head) = self.partial.first_chunk::<4>() else { return Ok(None) };
        let len = self.wire_len(*head)?;
        self.take(input, len);
        if self.partial.len() < len {
            return Ok(None);
        }
        self.lent = true;
        Ok(Some(framed(&self.partial)))
    }

    // The bytes that the message takes on the stream: both kinds are padded to a multiple of 4.
    fn wire_len(&self, head: [u8; 4]) -> Result<usize, SplitError> {
        let body = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let len = match head[0] >> 6 {
            0 => HEADER_LEN + body,
            1 => CHANNEL_HEADER_LEN + body.next_multiple_of(4),
            _ => return Err(SplitError::Kind { first: head[0] }),
        };
        if len > self.limit { Err(SplitError::TooLong { len, limit: self.limit }) } else { Ok(len) }
    }

    // Moves bytes from `input` until `partial` holds `target` of them.
    fn take(&mut self, input: &mut &[u8], target: usize) {
        let wanted = target.saturating_sub(self.partial.len()).min(input.len());
        let (now, later) = input.split_at(wanted);
        self.partial.extend_from_slice(now);
        *input = later;
    }
}

fn framed(message: &[u8]) -> Framed<'_> {
    if message[0] >> 6 == 0 {
        return Framed::Stun(message);
    }
    let len = usize::from(u16::from_be_bytes([message[2], message[3]]));
    Framed::Channel {
        number: u16::from_be_bytes([message[0], message[1]]),
        payload: &message[CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + len],
    }
}
