//! The codec of datagrams: msgpack maps, written as the reference writes them, read liberally (`dht.md` 1.2 to 1.10).

/// User agent we write (`v`). Peers keep it for their logs only.
pub const AGENT: &str = "tl";

/// Why bytes are not a message, value or query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside an object.
    #[error("truncated")]
    Truncated,
    /// A known key holds an object of the wrong type.
    #[error("`{0}` has the wrong type")]
    Type(&'static str),
    /// A number or length is outside of what its key allows.
    #[error("`{0}` is out of range")]
    Range(&'static str),
    /// A key that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// `q` names no request we know.
    #[error("unknown request")]
    UnknownRequest,
    /// A query names a field that does not exist.
    #[error("unknown field {0}")]
    UnknownField(u64),
    /// More items than a datagram may hold.
    #[error("too many items in `{0}`")]
    TooMany(&'static str),
    /// An owner's key is not a public key.
    #[error("the owner's key cannot be read")]
    OwnerKey,
}

impl crate::Message {
    /// Reads a datagram. Trailing bytes and unknown keys are ignored, order is free.
    pub fn decode(_datagram: &[u8]) -> Result<Self, WireError> {
        todo!()
    }

    /// Writes the datagram; values go inline, whatever their size (see [`crate::fragment::datagrams`]).
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
}
