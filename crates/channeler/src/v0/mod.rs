//! The protocol of 2021, byte for byte: clear text, no acknowledgements (`spec/channeler.md` sections 1, 2 and 8).

pub use crate::wire::envelope::{DEFAULT_CHANNEL, MAX_PACKET, Malformed, OVERHEAD, Packet};
