//! What goes wrong, one enum per operation.

use thiserror::Error;

use crate::Chunk;

/// The peer broke a rule of the dialect. The connection is of no further use: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerFault {
    /// A native frame body is longer than 16 380 bytes.
    #[error("frame body of {0} bytes; at most 16380 are allowed")]
    FrameTooLong(u16),
    /// A native frame is for a channel that does not exist (0xFFFF never does).
    #[error("frame for channel {0:#06x}, which is not open")]
    UnknownChannel(u16),
    /// More bytes than the window granted for the channel allowed.
    #[error("window of channel {channel:#06x} exceeded by {by} bytes")]
    WindowExceeded {
        /// The channel's number.
        channel: u16,
        /// How far.
        by: u64,
    },
    /// Bytes, an end or a reset after the peer had ended its direction of the channel.
    #[error("channel {0:#06x} used after its end")]
    UsedAfterEnd(u16),
    /// A request used a number of our half, 0, 0xFFFF or one in use (native dialect).
    #[error("request with channel number {0:#06x}, which is not the peer's to give")]
    BadNumber(u16),
    /// An answer to a request that was not made.
    #[error("answer for channel {0:#06x}, which was not requested")]
    UnexpectedAnswer(u16),
    /// Credit that lifts a window above [`MAX_WINDOW`](crate::MAX_WINDOW), or returns more than was granted.
    #[error("credit for channel {0:#06x} out of range")]
    BadCredit(u16),
    /// A native control message does not parse, lacks a field, or has one out of range.
    #[error("malformed control message")]
    MalformedControl,
    /// The first native control message is not the settings, or they come twice.
    #[error("settings missing or repeated")]
    Settings,
    /// The native protocol version is none we speak.
    #[error("native dialect version {0} is not supported")]
    Version(u64),
    /// Bytes that are not msgpack where a Jami frame was due.
    #[error("broken msgpack (byte {0:#04x})")]
    BrokenMsgpack(u8),
}

/// Why no channel could be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name is empty. Jami programs mistake such a channel for an incoming one.
    #[error("a channel name may not be empty")]
    EmptyName,
    /// The name is longer than [`MAX_NAME`](crate::MAX_NAME).
    #[error("channel name of {0} bytes; at most 1024 are allowed")]
    NameTooLong(usize),
    /// All channel numbers of our half are in use.
    #[error("no channel number is free")]
    NoFreeNumber,
    /// This side or the peer has said go-away.
    #[error("the connection takes no new channels")]
    GoingAway,
    /// The mux was closed or has failed.
    #[error("the connection is closed")]
    Closed,
}

/// Why a chunk was not queued. It comes back where it may be tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The send buffer is full; wait for [`Event::Writable`](crate::Event::Writable).
    #[error("the send buffer is full")]
    Full(Chunk),
    /// The request of the peer is not accepted yet.
    #[error("the channel is not accepted yet")]
    NotAccepted,
    /// This side has finished, or the peer wants no more.
    #[error("the channel takes no more data")]
    Ended,
    /// There is no such channel (any more).
    #[error("no such channel")]
    UnknownChannel,
}

/// An operation on a channel that does not exist any more, or is not in a state for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// There is no such channel (any more).
    #[error("no such channel")]
    Unknown,
    /// The request was decided before, or is our own.
    #[error("the channel is not waiting for a decision")]
    NotPending,
    /// The request of the peer has to be accepted or refused first.
    #[error("the channel is waiting for a decision")]
    Pending,
}

/// Why no probe was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The Jami peer has not said (yet) that it understands beacons.
    #[error("the peer has not announced that it answers beacons")]
    Unsupported,
    /// Too many pings wait for an answer.
    #[error("too many pings are unanswered")]
    TooMany,
    /// The mux was closed or has failed.
    #[error("the connection is closed")]
    Closed,
}
