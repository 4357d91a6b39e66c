//! The protocol of 2021, byte for byte: clear text, nothing acknowledged, nobody authenticated
//! (`spec/channeler.md` sections 1, 2 and 8).
//!
//! For talking to peers that know nothing else, and for tests. Nothing in this crate uses it unless the program makes an
//! [`Endpoint`]. What it says on the wire a correct peer of 2021 understands; what such a peer got wrong it does not:
//! it answers a datagram with at most one that is not longer, believes no size field, keeps nothing for openings that
//! were not proven, and says openings again that were lost.

mod channel;
mod config;
mod cookie;
mod egress;
mod endpoint;
mod event;
mod ingress;
mod message;

pub use crate::wire::envelope::{DEFAULT_CHANNEL, MAX_PACKET, Malformed, OVERHEAD, Packet};
pub use config::{Config, HalfOrder, MIN_PACKET};
pub use cookie::{Cookie, Cookies};
pub use endpoint::{Endpoint, OpenOptions};
pub use event::{Counters, Event, Handle, OpenError, ReadError, WriteError};
pub use message::{Message, Messages, Truncated};

/// First bytes of every packet: those of SHA-512 of `Testing v0.1`.
pub const PROTOCOL: [u8; 4] = [0x0C, 0x22, 0x9D, 0x94];

/// A half of a channel id that was not chosen yet.
pub const UNSET_HALF: u16 = 0xF0F0;
