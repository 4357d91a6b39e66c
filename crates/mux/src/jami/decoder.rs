//! The stream of msgpack objects, cut into frames without ever holding more than one control frame.

use std::mem;

use rmp::Marker;

use super::{CONTROL, PROTOCOL};
use crate::PeerFault;

/// Longest control frame that is looked at; longer ones are passed over.
const MAX_CONTROL: u64 = 65_535;

/// A part of the stream that can be acted upon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Bytes of a data channel.
    Data { number: u16, bytes: &'a [u8] },
    /// An empty frame of a data channel: its end.
    End { number: u16 },
    /// A whole frame of channel 0 or 0xFFFF.
    Control { number: u16, bytes: &'a [u8] },
}

/// Splits the received stream into pieces. Data is never gathered; objects of other shapes are passed over
/// whatever their size and depth, for which counters are enough.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// A marker and its argument, of which only a part has arrived.
    token: [u8; 9],
    have: usize,
    /// The control frame that is being gathered.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between frames.
    Frame,
    /// Inside an array of two.
    Channel,
    /// After its channel number.
    Payload {
        number: u16,
    },
    Body {
        number: u16,
        left: u64,
    },
    Control {
        number: u16,
        left: usize,
    },
    /// Passing over the bytes of one object, then further objects.
    Skip {
        bytes: u64,
        objects: u64,
    },
}

/// A marker with its argument.
#[derive(Clone, Copy)]
enum Token {
    Uint(u64),
    Array(u64),
    Map(u64),
    /// bin or str of that many bytes.
    Bytes(u64),
    /// Anything else, followed by that many bytes.
    Other(u64),
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::Frame, token: [0; 9], have: 0, partial: Vec::new() }
    }
}

impl Decoder {
    /// The next piece at the front of `data`, which is moved on; `None` when all of it is taken.
    pub(crate) fn next<'a, 'd: 'a>(
        &'a mut self,
        data: &mut &'d [u8],
    ) -> Result<Option<Piece<'a>>, PeerFault> {
        loop {
            self.state = match self.state {
                State::Body { number, left } => {
                    if data.is_empty() {
                        return Ok(None);
                    }
                    let bytes = take(data, left);
                    let left = left - bytes.len() as u64;
                    self.state = if left == 0 { State::Frame } else { State::Body { number, left } };
                    return Ok(Some(Piece::Data { number, bytes }));
                }
                State::Control { number, left } => {
                    let bytes = take(data, left as u64);
                    let left = left - bytes.len();
                    if left > 0 {
                        self.partial.extend_from_slice(bytes);
                        self.state = State::Control { number, left };
                        return Ok(None);
                    }
                    self.state = State::Frame;
                    if self.partial.is_empty() {
                        return Ok(Some(Piece::Control { number, bytes }));
                    }
                    self.partial.extend_from_slice(bytes);
                    return Ok(Some(Piece::Control { number, bytes: &self.partial }));
                }
                State::Skip { bytes: 0, objects: 0 } => State::Frame,
                State::Skip { bytes: 0, objects } => {
                    let Some(token) = self.token(data)? else { return Ok(None) };
                    skip(token, objects - 1)
                }
                State::Skip { bytes, objects } => {
                    if data.is_empty() {
                        return Ok(None);
                    }
                    State::Skip { bytes: bytes - take(data, bytes).len() as u64, objects }
                }
                State::Frame => {
                    let Some(token) = self.token(data)? else { return Ok(None) };
                    match token {
                        Token::Array(2) => State::Channel,
                        _ => skip(token, 0),
                    }
                }
                State::Channel => {
                    let Some(token) = self.token(data)? else { return Ok(None) };
                    match token {
                        Token::Uint(number @ 0..=0xffff) => State::Payload { number: number as u16 },
                        _ => skip(token, 1),
                    }
                }
                State::Payload { number } => {
                    let Some(token) = self.token(data)? else { return Ok(None) };
                    match (token, number) {
                        (Token::Bytes(left @ 1..=MAX_CONTROL), CONTROL | PROTOCOL) => {
                            self.partial = Vec::new();
                            State::Control { number, left: left as usize }
                        }
                        (_, CONTROL | PROTOCOL) => skip(token, 0),
                        (Token::Bytes(0), _) => {
                            self.state = State::Frame;
                            return Ok(Some(Piece::End { number }));
                        }
                        (Token::Bytes(left), _) => State::Body { number, left },
                        _ => skip(token, 0),
                    }
                }
            };
        }
    }

    /// The next marker with its argument, if all of it has arrived.
    fn token(&mut self, data: &mut &[u8]) -> Result<Option<Token>, PeerFault> {
        if self.have == 0 {
            let Some((first, rest)) = data.split_first() else { return Ok(None) };
            self.token[0] = *first;
            self.have = 1;
            *data = rest;
        }
        let marker = Marker::from_u8(self.token[0]);
        let argument = argument(marker).ok_or(PeerFault::BrokenMsgpack(self.token[0]))?;
        let bytes = take(data, (1 + argument - self.have) as u64);
        self.token[self.have..self.have + bytes.len()].copy_from_slice(bytes);
        self.have += bytes.len();
        if self.have <= argument {
            return Ok(None);
        }
        self.have = 0;
        let value = self.token[1..=argument].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        Ok(Some(Token::new(marker, value)))
    }
}

fn take<'a>(data: &mut &'a [u8], most: u64) -> &'a [u8] {
    let count = data.len().min(usize::try_from(most).unwrap_or(usize::MAX));
    let (taken, rest) = mem::take(data).split_at(count);
    *data = rest;
    taken
}

/// Passes over what belongs to `token`, then over `objects` more.
fn skip(token: Token, objects: u64) -> State {
    match token {
        Token::Uint(_) => State::Skip { bytes: 0, objects },
        Token::Bytes(bytes) | Token::Other(bytes) => State::Skip { bytes, objects },
        Token::Array(count) => State::Skip { bytes: 0, objects: objects.saturating_add(count) },
        Token::Map(count) => State::Skip { bytes: 0, objects: objects.saturating_add(2 * count) },
    }
}

/// Bytes of the argument behind a marker; `None` for the one byte that is no marker.
fn argument(marker: Marker) -> Option<usize> {
    Some(match marker {
        Marker::Reserved => return None,
        Marker::U8 | Marker::I8 | Marker::Bin8 | Marker::Str8 | Marker::Ext8 => 1,
        Marker::U16
        | Marker::I16
        | Marker::Bin16
        | Marker::Str16
        | Marker::Ext16
        | Marker::Array16
        | Marker::Map16 => 2,
        Marker::U32
        | Marker::I32
        | Marker::Bin32
        | Marker::Str32
        | Marker::Ext32
        | Marker::Array32
        | Marker::Map32 => 4,
        Marker::U64 | Marker::I64 => 8,
        _ => 0,
    })
}

impl Token {
    fn new(marker: Marker, value: u64) -> Self {
        let positive = |bits: u32| {
            if value >> (bits - 1) & 1 == 0 { Self::Uint(value) } else { Self::Other(0) }
        };
        match marker {
            Marker::FixPos(value) => Self::Uint(value.into()),
            Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => Self::Uint(value),
            Marker::I8 => positive(8),
            Marker::I16 => positive(16),
            Marker::I32 => positive(32),
            Marker::I64 => positive(64),
            Marker::FixArray(count) => Self::Array(count.into()),
            Marker::Array16 | Marker::Array32 => Self::Array(value),
            Marker::FixMap(count) => Self::Map(count.into()),
            Marker::Map16 | Marker::Map32 => Self::Map(value),
            Marker::FixStr(count) => Self::Bytes(count.into()),
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                Self::Bytes(value)
            }
            Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => Self::Other(value + 1),
            Marker::FixExt1 => Self::Other(2),
            Marker::FixExt2 => Self::Other(3),
            Marker::FixExt4 => Self::Other(5),
            Marker::FixExt8 => Self::Other(9),
            Marker::FixExt16 => Self::Other(17),
            Marker::F32 => Self::Other(4),
            Marker::F64 => Self::Other(8),
            Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False | Marker::Reserved => {
                Self::Other(0)
            }
        }
    }
}
