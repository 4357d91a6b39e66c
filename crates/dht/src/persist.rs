//! The state file: node id, known nodes and stored values (`dht.md` 2.13).

use std::net::SocketAddr;
use std::sync::Arc;

use crate::wire::reader::{Reader, Token};
use crate::wire::writer::Writer;
use crate::{InfoHash, NodeEntry, Value, WireError, sockaddr};

/// Version of the format.
const VERSION: u64 = 1;
/// msgpack extension type of timestamps.
const TIMESTAMP: i8 = -1;

/// What a node keeps between runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Id of the node; [`InfoHash::ZERO`] if none is to be restored.
    pub id: InfoHash,
    /// Good nodes, nearest first.
    pub nodes: Vec<NodeEntry>,
    /// Stored values.
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
    pub storer: Option<SocketAddr>,
}

impl State {
    /// Reads either form of the file. Nodes and values that make no sense are left out; a file that is no
    /// state file at all is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let mut state = Self::default();
        let mut version = None;
        for _ in 0..reader.map("state")? {
            match reader.key()? {
                Some(b"v") => version = Some(reader.uint("v")?),
                Some(b"id") => state.id = reader.id("id")?,
                Some(b"nodes") => {
                    for _ in 0..reader.array("nodes")? {
                        state.nodes.extend(read_node(reader.object()?));
                    }
                }
                Some(b"values") => {
                    for _ in 0..reader.array("values")? {
                        read_key(reader.object()?, &mut state.values);
                    }
                }
                _ => {
                    reader.object()?;
                }
            }
        }
        match version {
            Some(VERSION) => Ok(state),
            Some(_) => Err(WireError::Range("v")),
            None => Err(WireError::Missing("v")),
        }
    }

    /// Writes the form of OpenDHT 4.3 and later.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(4);
        writer.str("v");
        writer.uint(VERSION);
        writer.str("id");
        writer.bin(self.id.as_ref());
        writer.str("nodes");
        writer.array(self.nodes.len());
        for node in &self.nodes {
            writer.map(2);
            writer.str("id");
            writer.bin(node.id.as_ref());
            writer.str("addr");
            writer.bin(&sockaddr::write(node.address));
        }
        writer.str("values");
        let mut keys: Vec<&[StoredValue]> = self.values.chunk_by(|a, b| a.key == b.key).collect();
        keys.sort_by_key(|values| values.first().map(|value| value.key));
        writer.array(keys.len());
        for values in keys {
            writer.array(2);
            writer.bin(values.first().map_or(&InfoHash::ZERO, |value| &value.key).as_ref());
            writer.bin(&pack_values(values));
        }
        writer.finish()
    }
}

/// The blob of the values at one key.
fn pack_values(values: &[StoredValue]) -> Vec<u8> {
    let mut blob = Writer::default();
    blob.array(values.len());
    for stored in values {
        let life =
            i64::try_from(crate::types::expiry(stored.value.value_type()).as_secs()).unwrap_or(i64::MAX);
        let created = stored.created.unwrap_or(0);
        blob.array(4);
        write_timestamp(&mut blob, created);
        stored.value.write(&mut blob);
        blob.bin(&stored.storer.map(sockaddr::write).unwrap_or_default());
        write_timestamp(&mut blob, stored.expires.unwrap_or(created.saturating_add(life)));
    }
    blob.finish()
}

fn read_node(object: &[u8]) -> Option<NodeEntry> {
    let mut reader = Reader::new(object);
    let (mut id, mut address) = (None, None);
    for _ in 0..reader.map("node").ok()? {
        match reader.key().ok()? {
            Some(b"id") => id = reader.id("id").ok(),
            Some(b"addr") => address = reader.blob("addr").ok().and_then(|bytes| sockaddr::read(&bytes)),
            _ => {
                reader.object().ok()?;
            }
        }
    }
    Some(NodeEntry { id: id?, address: address? })
}

/// `[key, blob]`; adds what can be read.
fn read_key(object: &[u8], values: &mut Vec<StoredValue>) {
    let mut reader = Reader::new(object);
    let mut read = || -> Result<(), WireError> {
        if reader.array("values")? < 2 {
            return Err(WireError::Range("values"));
        }
        let key = reader.id("key")?;
        let blob = reader.blob("blob")?;
        let mut reader = Reader::new(&blob);
        for _ in 0..reader.array("blob")? {
            values.extend(read_value(key, reader.object()?).ok());
        }
        Ok(())
    };
    if let Err(error) = read() {
        tracing::debug!(%error, "left out values of the state file");
    }
}

/// `[created, value]`, or since 4.3 `[created, value, storer, expiration]`.
fn read_value(key: InfoHash, object: &[u8]) -> Result<StoredValue, WireError> {
    let mut reader = Reader::new(object);
    let len = reader.array("value")?;
    if len < 2 {
        return Err(WireError::Range("value"));
    }
    let created = read_timestamp(&mut reader)?;
    let value = Arc::new(Value::unpack(reader.object()?)?);
    let mut stored = StoredValue { key, value, created, expires: None, storer: None };
    if len >= 4 {
        stored.storer = sockaddr::read(&reader.blob("storer")?);
        stored.expires = read_timestamp(&mut reader)?;
    }
    Ok(stored)
}

/// Unix seconds of a msgpack timestamp; `None` for a bare number, which is another clock.
fn read_timestamp(reader: &mut Reader<'_>) -> Result<Option<i64>, WireError> {
    match reader.token()? {
        Token::Ext(TIMESTAMP, bytes) => {
            if let Ok(seconds) = <[u8; 4]>::try_from(bytes) {
                return Ok(Some(u32::from_be_bytes(seconds).into()));
            }
            if let Ok(packed) = <[u8; 8]>::try_from(bytes) {
                // 30 bits of nanoseconds, 34 of seconds.
                return Ok(Some((u64::from_be_bytes(packed) & ((1 << 34) - 1)) as i64));
            }
            let seconds = bytes.get(4..12).and_then(|bytes| bytes.try_into().ok());
            seconds.map(|bytes| Some(i64::from_be_bytes(bytes))).ok_or(WireError::Range("timestamp"))
        }
        Token::Uint(_) | Token::Negative(_) => Ok(None),
        _ => Err(WireError::Type("timestamp")),
    }
}

fn write_timestamp(writer: &mut Writer, seconds: i64) {
    if let Ok(seconds) = u32::try_from(seconds) {
        writer.ext(TIMESTAMP, &seconds.to_be_bytes());
    } else {
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&seconds.to_be_bytes());
        writer.ext(TIMESTAMP, &bytes);
    }
}
