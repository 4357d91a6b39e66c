//! Why an operation came to nothing, an enum for each.

use towline_dht::value::SealError;

/// Why a get or a query brought no, or not all, values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// No node answered: we are not connected, or have just lost the network.
    #[error("no node of the DHT answered")]
    Unreachable,
    /// Values came in faster than they were taken: the get held
    /// [`DhtLimits::get_backlog`](crate::dht::DhtLimits::get_backlog) bytes and was ended.
    #[error("values came in faster than they were taken")]
    Backlog,
    /// More operations than [`DhtLimits::operations`](crate::dht::DhtLimits::operations) are under way.
    #[error("too many DHT operations at once")]
    Busy,
    /// The DHT was shut down.
    #[error("the DHT was shut down")]
    Closed,
}

/// Why a value was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// No node says that it stored the value.
    #[error("no node of the DHT stored the value")]
    NotStored,
    /// The value has more than [`Value::MAX_SIZE`](towline_dht::Value::MAX_SIZE) bytes, which no node stores.
    #[error("the value has {size} bytes, more than any node stores")]
    TooLarge {
        /// Its size as [`Value::size`](towline_dht::Value::size) counts it.
        size: usize,
    },
    /// The value could not be signed or encrypted.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It was to be signed, and this DHT was started without an identity.
    #[error("there is no identity to sign with")]
    NoIdentity,
    /// The value that is stored has the highest sequence number already: it cannot be replaced.
    #[error("the sequence numbers of this value id are used up")]
    SequenceExhausted,
    /// More operations than [`DhtLimits::operations`](crate::dht::DhtLimits::operations) are under way.
    #[error("too many DHT operations at once")]
    Busy,
    /// The DHT was shut down.
    #[error("the DHT was shut down")]
    Closed,
}

/// The DHT was shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the DHT was shut down")]
pub struct Closed;

/// State could not be saved at the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot write the state file {}: {kind}", .path.display())]
pub struct SaveError {
    /// The file.
    pub path: std::path::PathBuf,
    /// What the system said.
    pub kind: std::io::ErrorKind,
}
