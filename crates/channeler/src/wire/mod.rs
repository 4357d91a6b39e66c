//! Bytes of packets and messages. Nothing here allocates, panics or remembers.

pub(crate) mod envelope;
pub(crate) mod handshake;
pub(crate) mod header;
pub(crate) mod message;
