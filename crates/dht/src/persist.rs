//! The state file: node id, known nodes and stored values (`dht.md` 2.13).

use std::sync::Arc;

use crate::{InfoHash, NodeEntry, Value, WireError};

/// What a node keeps between runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Id of the node; [`InfoHash::ZERO`] if none is to be restored.
    pub id: InfoHash,
    /// Good nodes, nearest first.
    pub nodes: Vec<NodeEntry>,
    /// Values held for others.
    pub values: Vec<StoredValue>,
}

/// A value in the state file.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredValue {
    /// Its key.
    pub key: InfoHash,
    /// The value.
    pub value: Arc<Value>,
    /// When it was created, Unix seconds; `None` if the file does not tell (2.4.12 writes a clock that
    /// means nothing after a restart).
    pub created: Option<i64>,
    /// When it expires, Unix seconds, if the file tells.
    pub expires: Option<i64>,
    /// Who stored it; `None` for ourselves or unknown.
    pub storer: Option<std::net::SocketAddr>,
}

impl State {
    /// Reads either form of the file. Nodes and values that make no sense are left out; a file that is no
    /// state file at all is an error.
    pub fn decode(_bytes: &[u8]) -> Result<Self, WireError> {
        todo!()
    }

    /// Writes the form of OpenDHT 4.3 and later.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
}
