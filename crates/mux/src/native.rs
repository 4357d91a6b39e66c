//! The native dialect on the wire. The README has the byte tables.

mod frame;
mod message;

pub(crate) use frame::{Decoder, FRAME_HEADER, Piece, header};
pub(crate) use message::{MAX_MESSAGE, Message, Settings, VERSION};

/// Longest body of a frame, in bytes: with its header one full TLS record.
pub(crate) const MAX_FRAME_BODY: u16 = 16_380;
