//! The codec of datagrams: msgpack maps, written as the reference writes them and read liberally (`dht.md` 1.2
//! to 1.10).
//!
//! Reading builds no tree. A cursor walks the bytes once to find the members of the
//! envelope and once more through the body; what it does not know it steps over without recursion, so depth costs
//! nothing, and no allocation is larger than the bytes that justify it.

mod decode;
mod encode;
mod nodes;
mod query;
pub(crate) mod reader;
pub(crate) mod writer;

/// User agent we write (`v`). Peers ignore it; it is two letters like theirs.
pub const AGENT: &str = "tl";

/// Why bytes are not a message, value or query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside an object.
    #[error("truncated")]
    Truncated,
    /// A byte that starts no object.
    #[error("not msgpack")]
    NotMsgpack,
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
    /// A query or its answer names a field that does not exist or cannot stand there.
    #[error("field {0} cannot stand here")]
    UnknownField(u64),
    /// More items than make sense.
    #[error("too many items in `{0}`")]
    TooMany(&'static str),
    /// A value names an owner, and its signature is empty: a claim without proof.
    #[error("an owner without a signature")]
    EmptySignature,
    /// An owner's key is not a public key.
    #[error("the owner's key cannot be read")]
    OwnerKey,
}
