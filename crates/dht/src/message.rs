//! The messages of the OpenDHT protocol as plain data: what `wire` encodes and decodes and `node` acts on.
//!
//! Spec: `dht.md` sections 1.2 to 1.10. Socket addresses, not raw bytes, everywhere above the codec.

use std::net::{IpAddr, SocketAddr};

use crate::{InfoHash, Query, Value};

/// One datagram: an envelope and what it carries.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Transaction id (`t`). An answer and the parts that follow a header repeat the id of the request.
    pub transaction: u32,
    /// Network id (`n`); 0 is the public network and is not written.
    pub network: u32,
    /// The sender asks not to be put into routing tables (`s`).
    pub client: bool,
    /// What the datagram is about.
    pub body: Body,
}

/// The kinds of datagram.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// `y:"q"`: something is asked of us.
    Request {
        /// Node id of the sender.
        sender: InfoHash,
        /// What is asked.
        request: Request,
    },
    /// `y:"r"`: the answer to a request of ours.
    Reply {
        /// Node id of the sender.
        sender: InfoHash,
        /// The answer.
        reply: Reply,
    },
    /// `y:"e"`: a request of ours was refused.
    Error {
        /// Node id of the sender, where it was sent along.
        sender: Option<InfoHash>,
        /// 203, 401 or 404; other codes do not travel.
        code: u16,
        /// For the log only; texts differ between versions.
        text: String,
    },
    /// `u`: refreshed and expired ids pushed to a version-0 listener. The transaction id is the socket id.
    Notice {
        /// Node id of the sender.
        sender: InfoHash,
        /// Fresh write token, when given.
        token: Option<Token>,
        /// Values whose life was extended.
        refreshed: Vec<u64>,
        /// Values that are gone.
        expired: Vec<u64>,
    },
    /// `p`: pieces of values announced by size in the message with the same source and transaction id.
    Parts(Vec<Part>),
}

/// What one node asks of another.
///
/// A request that arrives without its key has [`InfoHash::ZERO`] there: answer 203.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Are you there?
    Ping,
    /// Which nodes near `target` do you know?
    Find {
        /// The id to look near.
        target: InfoHash,
        /// Families wanted.
        want: Want,
    },
    /// Which values are stored at `key`, and which nodes are near it?
    Get {
        /// The key.
        key: InfoHash,
        /// Selection and restriction; `None` returns whole values, all of them.
        query: Option<Query>,
        /// Families wanted.
        want: Want,
    },
    /// Store these values at `key`.
    Put {
        /// The key.
        key: InfoHash,
        /// The values, or their sizes when they follow in parts.
        values: Vec<ValueItem>,
        /// Creation time in Unix seconds; absent for permanent puts.
        created: Option<i64>,
        /// The token the storing node gave us. `None` on arrival is one that cannot be right: answer 401.
        token: Option<Token>,
    },
    /// Restart the life time of a stored value.
    Refresh {
        /// The key.
        key: InfoHash,
        /// The value id.
        value: u64,
        /// The token the storing node gave us. `None` on arrival is one that cannot be right: answer 401.
        token: Option<Token>,
    },
    /// Tell me when values at `key` come, change or go.
    Listen {
        /// The key.
        key: InfoHash,
        /// The token the storing node gave us. `None` on arrival is one that cannot be right: answer 401.
        token: Option<Token>,
        /// The listener's socket id (`sid`): names the subscription in updates.
        socket: u32,
        /// Restriction; the selection is ignored.
        query: Option<Query>,
        /// Listen protocol version (`ve`); 0 when absent, we send 1.
        version: u32,
    },
    /// A storing node tells a listener what changed.
    Update {
        /// The key; absent in notices of refreshed and expired ids.
        key: Option<InfoHash>,
        /// The listener's socket id.
        socket: u32,
        /// A fresh write token.
        token: Option<Token>,
        /// New or changed values, or their sizes when they follow in parts.
        values: Vec<ValueItem>,
        /// Values whose life was extended (`re`).
        refreshed: Vec<u64>,
        /// Values that are gone (`exp`).
        expired: Vec<u64>,
    },
}

/// The body of an answer. Every field but the sender's id is optional on the wire.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// The asker's address as the answering node saw it (`sa`, no port).
    pub seen_address: Option<IpAddr>,
    /// IPv4 nodes near the key.
    pub nodes4: Vec<NodeEntry>,
    /// IPv6 nodes near the key.
    pub nodes6: Vec<NodeEntry>,
    /// Write token.
    pub token: Option<Token>,
    /// Values, or their sizes when they follow in parts.
    pub values: Vec<ValueItem>,
    /// Answer to a query with a selection (`fileds`).
    pub fields: Option<FieldRows>,
    /// Value id echoed by put and refresh answers.
    pub value_id: Option<u64>,
}

/// A value in a message: whole, or announced by its packed size and sent in parts.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueItem {
    /// The value itself.
    Inline(std::sync::Arc<Value>),
    /// Packed size in bytes of a value that follows in [`Body::Parts`].
    Announced(usize),
    /// Something arrived that is not a value, or announced more than a value may have. It keeps the positions
    /// of the items after it; it is never written, and is gone once the message is complete.
    Malformed,
}

/// A piece of a packed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Position of the value in the header's list.
    pub index: usize,
    /// Offset of `data` in the packed value, in bytes.
    pub offset: usize,
    /// The bytes.
    pub data: Vec<u8>,
}

/// A node in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeEntry {
    /// Its id.
    pub id: InfoHash,
    /// Where it is said to be.
    pub address: SocketAddr,
}

/// Address families wanted in an answer (`w`). Nothing wanted means "the family I asked over".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Want {
    /// IPv4 nodes.
    pub v4: bool,
    /// IPv6 nodes.
    pub v6: bool,
}

/// A write token: opaque to the asker, 1 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl Token {
    /// The longest token that is kept (`dht.md` 1.7).
    pub const MAX_LEN: usize = 64;

    /// A token of these bytes, or `None` if they are too few or too many to be one.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (1..=Self::MAX_LEN).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes as they travel.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", hex::encode(&self.0[..self.0.len().min(4)]))
    }
}

/// Selected fields of the matching values, a row per value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldRows {
    /// Which fields, ascending.
    pub fields: Vec<crate::Field>,
    /// One row per value, as long as `fields`.
    pub rows: Vec<Vec<crate::FieldValue>>,
}
