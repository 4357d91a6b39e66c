//! What became of a text.

use thiserror::Error;
use towline_identity::{AccountId, DeviceId};
use towline_sip::Status;

use crate::error::ConnectError;

/// Who has a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The text's id, which its receivers see too.
    pub message_id: u64,
    /// Devices that took it. At least one.
    pub delivered: Vec<DeviceId>,
    /// Devices of the account that it did not reach.
    pub failed: Vec<(DeviceId, DeviceError)>,
}

/// Why a text did not reach a device.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No channel to it could be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It answered that it does not take the text.
    #[error("the device answered {0}")]
    Refused(Status),
    /// The channel was lost, twice in a row. The device may have the text.
    #[error("the channel was lost before the device answered")]
    Lost,
    /// It did not answer in time. It may have the text.
    #[error("the device did not answer in time")]
    TimedOut,
    /// As many texts as [`TextOptions::waiting_per_device`](super::TextOptions::waiting_per_device) wait for it.
    #[error("too many texts wait for the device")]
    Busy,
}

/// Why a text reached nobody.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// The media type is not one.
    #[error("the media type is not `type/subtype`")]
    ContentType,
    /// It is longer than a message may be.
    #[error("with its headers the text has {length} bytes, more than {max}")]
    TooLong {
        /// In bytes, headers included.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// The account has no device that is announced or connected.
    #[error("account {0} has no device online")]
    Nobody(AccountId),
    /// It reached none of the account's devices.
    #[error("the text reached no device of the account ({} tried)", .0.len())]
    Unreachable(Vec<(DeviceId, DeviceError)>),
    /// The node was shut down.
    #[error("the node was shut down")]
    Closed,
}
