//! Who is told about changes at a key.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::{InfoHash, Value};

/// A remote node that listens, by the socket id it chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The node.
    pub node: InfoHash,
    /// Its socket id (`sid`): one node may listen several times to one key.
    pub socket: u32,
    /// Where to send updates.
    pub address: SocketAddr,
    /// Listen protocol version: 0 is told by replies and notices, 1 by updates.
    pub version: u32,
}

/// What a listener is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Whom to tell.
    pub listener: Listener,
    /// Which key.
    pub key: InfoHash,
    /// What happened.
    pub change: Change,
}

/// What happened to values at a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// They are new, or replaced one with the same id.
    Stored(Vec<Arc<Value>>),
    /// Their life was extended.
    Refreshed(Vec<u64>),
    /// They are gone.
    Expired(Vec<u64>),
}

/// What a listen request led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Subscribed {
    /// First time for this node and socket: push these values before confirming.
    New(Vec<Arc<Value>>),
    /// Time, address and query were renewed; nothing is pushed.
    Renewed,
}
