//! Files over channels: the small protocol of `towline send`, described in the crate's `README.md`.

pub(crate) mod name;
pub(crate) mod receive;
pub(crate) mod send;
mod source;
mod target;
mod wire;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use towline::{ChannelError, Code};

pub(crate) use source::Source;
pub(crate) use target::Folder;

/// What the names of channels for files begin with.
pub(crate) const SCHEME: &str = "file://";

/// No byte moves for so long: the transfer is given up. A dead peer is noticed before that, by the connection.
const STALL: Duration = Duration::from_mins(1);
/// How long the receiving user may think about an offer.
const DECISION: Duration = Duration::from_mins(10);
/// How long the receiver may take to bring the last bytes to its disk and check them.
const VERDICT: Duration = Duration::from_mins(5);
/// How long to wait for the reason when the other side has stopped reading.
const REASON: Duration = Duration::from_secs(5);

/// Codes with which a channel for a file is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abort {
    /// The file cannot be read any more, or has become shorter.
    SourceFailed,
    /// No byte has moved for too long.
    Stalled,
}

impl Abort {
    fn code(self) -> u32 {
        match self {
            Self::SourceFailed => 256,
            Self::Stalled => 257,
        }
    }
}

/// Why a file was not moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// The user, or the other side's, does not want it.
    #[error("the other side declined: {0}")]
    Declined(String),
    /// The other side could not go on.
    #[error("the other side failed: {0}")]
    Remote(String),
    /// The file here cannot be read or written.
    #[error("{0}")]
    Local(String),
    /// What comes cannot be kept here.
    #[error("cannot write to {}: {why}", .folder.display())]
    Disk {
        /// The directory, which is nobody else's business.
        folder: PathBuf,
        /// What happened, in words that name nothing of this system.
        kind: io::ErrorKind,
        /// What the system said.
        why: String,
    },
    /// The channel broke.
    #[error("{0}")]
    Channel(String),
    /// No byte moved for too long.
    #[error("no data for {} s", STALL.as_secs())]
    Stalled,
    /// What came breaks a rule of the protocol.
    #[error("the other side broke a rule: {0}")]
    Protocol(#[from] wire::WireError),
    /// The bytes that came are not those that were sent.
    #[error("the received data is damaged: its BLAKE3 hash is another than the sender's")]
    Damaged,
    /// The connection could not be made.
    #[error("{0}")]
    Connect(towline::ConnectError),
}

impl TransferError {
    /// What the other side is told of it: nothing about where files lie here.
    fn told(&self) -> String {
        match self {
            Self::Disk { kind, .. } => format!("it cannot write the file: {kind}"),
            error => error.to_string(),
        }
    }
}

impl From<io::Error> for TransferError {
    /// What the error of a channel means.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Channel("the other side ended before everything was transferred".to_owned());
        }
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ChannelError>());
        if let Some(ChannelError::Reset(reason) | ChannelError::Stopped(reason)) = inner {
            let code = u32::from(reason.code);
            if code == Abort::SourceFailed.code() {
                return Self::Remote(
                    "it cannot read the file any more, or the file has become shorter".to_owned(),
                );
            }
            if code == Abort::Stalled.code() {
                return Self::Remote("it waited too long for data to move".to_owned());
            }
            if reason.code == Code::Cancelled || reason.code == Code::Unspecified {
                return Self::Channel("the other side gave up".to_owned());
            }
        }
        Self::Channel(error.to_string())
    }
}

/// Runs a step that must move a byte within [`STALL`].
async fn moving<T>(work: impl Future<Output = io::Result<T>>) -> Result<T, TransferError> {
    within(STALL, work).await
}

async fn within<T>(longest: Duration, work: impl Future<Output = io::Result<T>>) -> Result<T, TransferError> {
    match tokio::time::timeout(longest, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(TransferError::Stalled),
    }
}
