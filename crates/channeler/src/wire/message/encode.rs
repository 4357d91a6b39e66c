//! Writing messages, one function per type, and how much room they take.

use std::time::Duration;

use super::{MAX_CLOSE_TEXT, kind};
use crate::{
    Capabilities, ChannelId, Code, ConnectionId, LinkId, Priority, Resend,
    reset::{RESET_LEN, Reset},
    varint::{self, MAX_LEN},
};

/// No message but ACK, ABANDON, OPEN, CLOSE and those with data is longer, in bytes: NEW_ID is the longest.
pub(crate) const CONTROL_MAX: usize = 2 + 5 + 8 + RESET_LEN;

/// The beginning of a body: a few integers, without allocation.
pub(super) struct Body {
    bytes: [u8; 6 * MAX_LEN],
    len: usize,
}

impl Body {
    #[inline]
    pub(super) fn new() -> Self {
        Self { bytes: [0; 6 * MAX_LEN], len: 0 }
    }

    #[inline]
    pub(super) fn int(self, value: u64) -> Self {
        let mut buffer = [0; MAX_LEN];
        self.raw(varint::encode(value, &mut buffer))
    }

    #[inline]
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Writes type, length and body, whose last `tail` bytes the caller appends.
    #[inline]
    fn put(&self, out: &mut Vec<u8>, kind: u8, tail: usize) {
        put_head(out, kind, self.len + tail);
        out.extend_from_slice(&self.bytes[..self.len]);
    }
}

/// Writes the type and the length of a body that the caller appends.
#[inline]
pub(crate) fn put_head(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.push(kind);
    varint::put(out, len as u64);
}

/// Bytes that a body of this length takes with its type.
#[inline]
pub(super) const fn size(body: usize) -> usize {
    1 + varint::len(body as u64) + body
}

/// The longest body that takes no more than `room` with type and length.
#[inline]
const fn body_room(room: usize) -> Option<usize> {
    let mut length = 1;
    while room > length {
        let body = room - 1 - length;
        if varint::len(body as u64) <= length {
            return Some(body);
        }
        length += 1;
    }
    None
}

/// What DATA of `len` bytes at this offset takes beside them.
#[inline]
#[cfg(any(test, feature = "codecs"))]
pub(crate) const fn data_overhead(offset: u64, len: usize) -> usize {
    size(varint::len(offset) + len) - len
}

/// How many bytes at this offset fit into DATA of at most `room` bytes. `None` if not even an empty one does.
#[inline]
pub(crate) fn data_room(offset: u64, room: usize) -> Option<usize> {
    body_room(room)?.checked_sub(varint::len(offset))
}

/// DATA, but for its bytes: the caller appends `len` of them.
#[inline]
pub(crate) fn put_data_head(out: &mut Vec<u8>, offset: u64, fin: bool, len: usize) {
    let kind = if fin { kind::DATA_FIN } else { kind::DATA };
    Body::new().int(offset).put(out, kind, len);
}

/// DATA.
#[inline]
#[cfg(any(test, feature = "codecs"))]
pub(crate) fn put_data(out: &mut Vec<u8>, offset: u64, fin: bool, bytes: &[u8]) {
    put_data_head(out, offset, fin, bytes.len());
    out.extend_from_slice(bytes);
}

#[inline]
const fn part_integers(number: Option<u64>, offset: u64) -> usize {
    varint::len(offset)
        + match number {
            Some(number) => varint::len(number),
            None => 0,
        }
}

/// What MESSAGE with `len` bytes takes beside them. `number` is that of the message if this begins it.
#[inline]
#[cfg(test)]
pub(crate) const fn part_overhead(number: Option<u64>, offset: u64, len: usize) -> usize {
    size(part_integers(number, offset) + len) - len
}

/// How many bytes fit into MESSAGE of at most `room` bytes. `None` if not even an empty one does.
#[inline]
pub(crate) fn part_room(number: Option<u64>, offset: u64, room: usize) -> Option<usize> {
    body_room(room)?.checked_sub(part_integers(number, offset))
}

/// MESSAGE, but for its bytes: the caller appends `len` of them.
#[inline]
pub(crate) fn put_part_head(out: &mut Vec<u8>, number: Option<u64>, end: bool, offset: u64, len: usize) {
    let mut kind = kind::PART;
    let mut body = Body::new();
    if let Some(number) = number {
        kind += kind::BEGIN;
        body = body.int(number);
    }
    if end {
        kind += kind::END;
    }
    body.int(offset).put(out, kind, len);
}

/// MESSAGE: a part, which begins its message if `number`, the message's index, is given.
#[inline]
#[cfg(any(test, feature = "codecs"))]
pub(crate) fn put_part(out: &mut Vec<u8>, number: Option<u64>, end: bool, offset: u64, bytes: &[u8]) {
    put_part_head(out, number, end, offset, bytes.len());
    out.extend_from_slice(bytes);
}

/// PING.
pub(crate) fn put_ping(out: &mut Vec<u8>) {
    put_head(out, kind::PING, 0);
}

/// MESSAGE_FIN.
pub(crate) fn put_message_fin(out: &mut Vec<u8>, final_offset: u64, messages: u64) {
    Body::new().int(final_offset).int(messages).put(out, kind::MESSAGE_FIN, 0);
}

/// No OPEN with a label of this length is longer, in bytes.
pub(crate) const fn open_max(label: usize) -> usize {
    size(5 + 1 + 5 + 1 + 2 + label)
}

/// OPEN. A deadline counts in whole milliseconds, at least one.
pub(crate) fn put_open(
    out: &mut Vec<u8>,
    channel: ChannelId,
    capabilities: Capabilities,
    priority: Priority,
    label: &[u8],
) {
    let (kind, parameter) = match capabilities.resend {
        Resend::No => (0, 0),
        Resend::Tries(tries) => (1, u64::from(tries.max(1))),
        Resend::Until(deadline) => (2, milliseconds(deadline)),
        Resend::Forever => (3, 0),
    };
    Body::new()
        .int(u64::from(channel.0))
        .int(u64::from(capabilities.bits()))
        .int(parameter)
        .int(kind)
        .int(u64::from(priority.0))
        .put(out, kind::OPEN, label.len());
    out.extend_from_slice(label);
}

fn milliseconds(deadline: Duration) -> u64 {
    u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 32)
}

/// ACCEPT.
pub(crate) fn put_accept(out: &mut Vec<u8>, channel: ChannelId) {
    Body::new().int(u64::from(channel.0)).put(out, kind::ACCEPT, 0);
}

/// WINDOW.
pub(crate) fn put_window(out: &mut Vec<u8>, channel: ChannelId, max_offset: u64, max_messages: u64) {
    Body::new().int(u64::from(channel.0)).int(max_offset).int(max_messages).put(out, kind::WINDOW, 0);
}

/// RESET.
pub(crate) fn put_reset(out: &mut Vec<u8>, channel: ChannelId, code: Code, final_offset: u64) {
    Body::new().int(u64::from(channel.0)).int(code.0).int(final_offset).put(out, kind::RESET, 0);
}

/// STOP.
pub(crate) fn put_stop(out: &mut Vec<u8>, channel: ChannelId, code: Code) {
    Body::new().int(u64::from(channel.0)).int(code.0).put(out, kind::STOP, 0);
}

/// FINISH.
pub(crate) fn put_finish(out: &mut Vec<u8>, channel: ChannelId, final_offset: u64, messages: u64) {
    Body::new().int(u64::from(channel.0)).int(final_offset).int(messages).put(out, kind::FINISH, 0);
}

/// CONNECTION_WINDOW.
pub(crate) fn put_connection_window(out: &mut Vec<u8>, max_bytes: u64) {
    Body::new().int(max_bytes).put(out, kind::CONNECTION_WINDOW, 0);
}

/// CHANNELS.
pub(crate) fn put_channels(out: &mut Vec<u8>, bound: u64) {
    Body::new().int(bound).put(out, kind::CHANNELS, 0);
}

/// NEW_ID.
pub(crate) fn put_new_id(out: &mut Vec<u8>, link: LinkId, cid: ConnectionId, reset: &Reset) {
    Body::new().int(u64::from(link.0)).raw(&cid.0).raw(&reset.0).put(out, kind::NEW_ID, 0);
}

/// RETIRE_LINK.
pub(crate) fn put_retire_link(out: &mut Vec<u8>, link: LinkId, code: Code) {
    Body::new().int(u64::from(link.0)).int(code.0).put(out, kind::RETIRE_LINK, 0);
}

/// CHALLENGE.
pub(crate) fn put_challenge(out: &mut Vec<u8>, token: [u8; 8]) {
    Body::new().raw(&token).put(out, kind::CHALLENGE, 0);
}

/// RESPONSE.
pub(crate) fn put_response(out: &mut Vec<u8>, token: [u8; 8]) {
    Body::new().raw(&token).put(out, kind::RESPONSE, 0);
}

/// LINK_PREFERENCE.
pub(crate) fn put_link_preference(out: &mut Vec<u8>, link: LinkId, available: bool) {
    Body::new().int(u64::from(link.0)).int(u64::from(available)).put(out, kind::LINK_PREFERENCE, 0);
}

/// CLOSE, with as many whole characters of `text` as [`MAX_CLOSE_TEXT`] bytes and `room` for the message take.
///
/// False, and nothing is written, if there is no room even without text.
pub(crate) fn put_close(out: &mut Vec<u8>, code: Code, text: &str, room: usize) -> bool {
    let Some(room) = body_room(room).and_then(|room| room.checked_sub(varint::len(code.0))) else {
        return false;
    };
    let text = &text[..text.floor_char_boundary(room.min(MAX_CLOSE_TEXT))];
    Body::new().int(code.0).put(out, kind::CLOSE, text.len());
    out.extend_from_slice(text.as_bytes());
    true
}
