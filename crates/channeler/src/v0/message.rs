//! Messages in a packet (`spec/channeler.md` section 2.3).

use thiserror::Error;

use super::Cookie;
use crate::varint;

const NEW: u8 = 10;
const ACKNOWLEDGE: u8 = 11;
const FINALIZE: u8 = 12;
const COOKIE: u8 = 13;
const DATA: u8 = 20;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Asks for a channel.
    New {
        /// The initiator's half of its id.
        half: u16,
        /// For the initiator to know its own question by.
        cookie: Cookie,
    },
    /// Grants a channel, for which nothing is stored yet.
    Acknowledge {
        /// Both halves.
        id: u32,
        /// The initiator's, as it came.
        cookie1: Cookie,
        /// For the responder to know its own grant by.
        cookie2: Cookie,
    },
    /// Proves that the grant arrived: the channel exists.
    Finalize {
        /// Both halves.
        id: u32,
        /// The responder's, as it came.
        cookie2: Cookie,
        /// Bit 0 resend, 1 ordered, 2 close on loss.
        capabilities: u16,
    },
    /// In place of `Acknowledge` or `Finalize`, on the channel itself and in one packet with its first data.
    Cookie {
        /// The receiver's own.
        cookie: Cookie,
        /// As in `Finalize`.
        capabilities: u16,
    },
    /// What a program wrote.
    Data(
        /// May be empty.
        &'a [u8],
    ),
}

impl Message<'_> {
    /// Bytes that it takes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::New { .. } | Self::Cookie { .. } => 7,
            Self::Acknowledge { .. } => 13,
            Self::Finalize { .. } => 11,
            Self::Data(bytes) => 1 + varint::len(bytes.len() as u64) + bytes.len(),
        }
    }

    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Self::New { half, cookie } => {
                out.push(NEW);
                out.extend_from_slice(&half.to_be_bytes());
                out.extend_from_slice(&cookie.0.to_be_bytes());
            }
            Self::Acknowledge { id, cookie1, cookie2 } => {
                out.push(ACKNOWLEDGE);
                for word in [id, cookie1.0, cookie2.0] {
                    out.extend_from_slice(&word.to_be_bytes());
                }
            }
            Self::Finalize { id, cookie2, capabilities } => {
                out.push(FINALIZE);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&cookie2.0.to_be_bytes());
                out.extend_from_slice(&capabilities.to_be_bytes());
            }
            Self::Cookie { cookie, capabilities } => {
                out.push(COOKIE);
                out.extend_from_slice(&cookie.0.to_be_bytes());
                out.extend_from_slice(&capabilities.to_be_bytes());
            }
            Self::Data(bytes) => {
                out.push(DATA);
                varint::put(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// A message of a known type ends behind its payload. The packet is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("message of type {0} is longer than its packet")]
pub struct Truncated(
    /// The type.
    pub u8,
);

/// The messages of a payload, up to the first of an unknown type: what follows has no known length.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Of the payload of a packet.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// What has not been read; at the end, what could not be.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Truncated>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, mut body) = self.rest.split_first()?;
        let message = match kind {
            NEW => new(&mut body),
            ACKNOWLEDGE => acknowledge(&mut body),
            FINALIZE => finalize(&mut body),
            COOKIE => cookie(&mut body),
            DATA => data(&mut body),
            _ => return None,
        };
        self.rest = if message.is_some() { body } else { &[] };
        Some(message.ok_or(Truncated(kind)))
    }
}

fn new(input: &mut &[u8]) -> Option<Message<'static>> {
    Some(Message::New { half: half(input)?, cookie: Cookie(word(input)?) })
}

fn acknowledge(input: &mut &[u8]) -> Option<Message<'static>> {
    let id = word(input)?;
    Some(Message::Acknowledge { id, cookie1: Cookie(word(input)?), cookie2: Cookie(word(input)?) })
}

fn finalize(input: &mut &[u8]) -> Option<Message<'static>> {
    let id = word(input)?;
    Some(Message::Finalize { id, cookie2: Cookie(word(input)?), capabilities: half(input)? })
}

fn cookie(input: &mut &[u8]) -> Option<Message<'static>> {
    Some(Message::Cookie { cookie: Cookie(word(input)?), capabilities: half(input)? })
}

#[inline]
fn data<'a>(input: &mut &'a [u8]) -> Option<Message<'a>> {
    let len = usize::try_from(varint::get(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(Message::Data(bytes))
}

fn half(input: &mut &[u8]) -> Option<u16> {
    let (bytes, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(u16::from_be_bytes(*bytes))
}

fn word(input: &mut &[u8]) -> Option<u32> {
    let (bytes, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(u32::from_be_bytes(*bytes))
}
