//! What passes on channels 0 and 0xFFFF, and ends.

use rmp::encode::{ValueWriteError, write_array_len, write_bool, write_map_len, write_str_len, write_uint};

use super::{CONTROL, PROTOCOL, header};
use crate::msgpack::{Int, Malformed, Reader};

/// A message of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Request { number: u16, name: Box<[u8]> },
    Accept { number: u16, name: Box<[u8]> },
    Decline { number: u16, name: Box<[u8]> },
    Version,
    Beacon { request: bool },
    End { number: u16 },
}

/// An object of the peer on channel 0 or 0xFFFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbound<'a> {
    Request {
        state: RequestState,
        number: u16,
        name: &'a [u8],
    },
    Version(u64),
    Beacon {
        request: bool,
    },
    /// A map that begins with another key.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestState {
    Request,
    Accept,
    Decline,
}

/// Version of the protocol channel we speak: with beacons.
const VERSION: u64 = 1;

impl Message {
    /// Appends the message as a frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (number, state, name) = match self {
            Self::Request { number, name } => (number, 0, name),
            Self::Accept { number, name } => (number, 1, name),
            Self::Decline { number, name } => (number, 2, name),
            Self::Version => {
                return frame(PROTOCOL, out, |body| {
                    write_pair(body, "v", |body| write_uint(body, VERSION).map(drop))
                });
            }
            Self::Beacon { request } => {
                return frame(PROTOCOL, out, |body| {
                    write_pair(body, "p", |body| {
                        write_bool(body, *request).map_err(ValueWriteError::InvalidMarkerWrite)
                    })
                });
            }
            Self::End { number } => return frame(*number, out, |_| Ok(())),
        };
        frame(CONTROL, out, |body| {
            write_array_len(body, 3)?;
            write_str_len(body, name.len() as u32)?;
            body.extend_from_slice(name);
            write_uint(body, (*number).into())?;
            write_uint(body, state).map(drop)
        });
    }
}

fn frame(number: u16, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), ValueWriteError>) {
    let mut body = Vec::new();
    write(&mut body).expect("writing into a Vec does not fail");
    let mut head = [0; 8];
    let len =
        u16::try_from(body.len()).expect("names are bounded so that requests and their echoes fit a frame");
    let head_len = header(number, len, &mut head);
    out.extend_from_slice(&head[..head_len]);
    out.extend_from_slice(&body);
}

fn write_pair(
    body: &mut Vec<u8>,
    key: &str,
    value: impl FnOnce(&mut Vec<u8>) -> Result<(), ValueWriteError>,
) -> Result<(), ValueWriteError> {
    write_map_len(body, 1)?;
    rmp::encode::write_str(body, key)?;
    value(body)
}

impl<'a> Inbound<'a> {
    /// The next object: an array of name, number and state, or a map whose first key says what it is.
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        match reader.peek()? {
            rmp::Marker::FixMap(_) | rmp::Marker::Map16 | rmp::Marker::Map32 => Self::decode_map(reader),
            _ => Self::decode_request(reader),
        }
    }

    fn decode_request(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let further = reader.array()?.checked_sub(3).ok_or(Malformed)?;
        let name = reader.bytes()?;
        let number = reader.u16()?;
        let state = match reader.int()? {
            Int::Unsigned(0) => RequestState::Request,
            Int::Unsigned(1) => RequestState::Accept,
            _ => RequestState::Decline,
        };
        reader.skip(further)?;
        Ok(Self::Request { state, number, name })
    }

    fn decode_map(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let Some(further) = reader.map()?.checked_sub(1) else { return Ok(Self::Unknown) };
        let message = match reader.bytes()? {
            b"v" => Self::Version(reader.uint()?),
            b"p" => Self::Beacon { request: reader.bool()? },
            _ => {
                reader.skip(1)?;
                Self::Unknown
            }
        };
        reader.skip(further.saturating_mul(2))?;
        Ok(message)
    }
}
