//! Messages in handshake packets: a type, a length, a body. Unknown types are skipped.

use crate::{ranges::Ranges, varint};

const FRAGMENT: u8 = 64;
const RETRY: u8 = 65;
const COOKIE: u8 = 66;
const RECEIVED: u8 = 67;

/// Longest handshake message, in bytes.
pub(super) const MAX_MESSAGE: u32 = 16_384;
/// Ranges told and remembered of one message.
pub(super) const MAX_RANGES: usize = 32;
/// Bytes of a cookie.
pub(super) const COOKIE_LEN: usize = 17;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A part of a handshake message of `total` bytes.
    Fragment { message: u8, total: u32, offset: u32, bytes: &'a [u8] },
    /// Begin again with this cookie.
    Retry(&'a [u8; COOKIE_LEN]),
    /// The cookie that was asked for.
    Cookie(&'a [u8; COOKIE_LEN]),
    /// What is there of a handshake message, and nothing else is.
    Received { message: u8, ranges: Ranges },
}

/// The messages of a payload, up to the first that does not parse.
pub(super) fn parse(mut payload: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        loop {
            let kind = varint::get(&mut payload)?;
            let length = usize::try_from(varint::get(&mut payload)?).ok()?;
            let (body, rest) = payload.split_at_checked(length)?;
            payload = rest;
            return match u8::try_from(kind) {
                Ok(FRAGMENT) => fragment(body),
                Ok(RETRY) => body.try_into().ok().map(Message::Retry),
                Ok(COOKIE) => body.try_into().ok().map(Message::Cookie),
                Ok(RECEIVED) => received(body),
                _ => continue,
            };
        }
    })
}

fn number(input: &mut &[u8]) -> Option<u32> {
    varint::get(input).and_then(|value| u32::try_from(value).ok()).filter(|value| *value <= MAX_MESSAGE)
}

fn fragment(mut body: &[u8]) -> Option<Message<'_>> {
    let message = *body.split_off_first()?;
    let total = number(&mut body)?;
    let offset = number(&mut body)?;
    let end = u32::try_from(body.len()).ok()?.checked_add(offset)?;
    (end <= total).then_some(Message::Fragment { message, total, offset, bytes: body })
}

fn received(mut body: &[u8]) -> Option<Message<'_>> {
    let message = *body.split_off_first()?;
    let mut ranges = Ranges::default();
    for _ in 0..MAX_RANGES {
        if body.is_empty() {
            break;
        }
        let start = number(&mut body)?;
        let end = number(&mut body)?;
        if start < end {
            ranges.insert(start.into(), end.into());
        }
    }
    Some(Message::Received { message, ranges })
}

fn put(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    out.push(kind);
    varint::put(out, parts.iter().map(|part| part.len() as u64).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}

pub(super) fn put_retry(out: &mut Vec<u8>, cookie: &[u8; COOKIE_LEN]) {
    put(out, RETRY, &[cookie]);
}

pub(super) fn put_cookie(out: &mut Vec<u8>, cookie: &[u8; COOKIE_LEN]) {
    put(out, COOKIE, &[cookie]);
}

pub(super) fn put_received(out: &mut Vec<u8>, message: u8, ranges: &Ranges) {
    let mut body = vec![message];
    for (start, end) in ranges.iter().take(MAX_RANGES) {
        varint::put(&mut body, start);
        varint::put(&mut body, end);
    }
    put(out, RECEIVED, &[&body]);
}

/// What a fragment takes beside its bytes, at most.
pub(super) const FRAGMENT_OVERHEAD: usize = 1 + 3 + 1 + 3 + 3;

pub(super) fn put_fragment(out: &mut Vec<u8>, message: u8, total: u32, offset: u32, bytes: &[u8]) {
    let mut head = vec![message];
    varint::put(&mut head, u64::from(total));
    varint::put(&mut head, u64::from(offset));
    put(out, FRAGMENT, &[&head, bytes]);
}
